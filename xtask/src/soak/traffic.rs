//! What clients do, each kind of traffic on threads of its own inside its namespace, until it is over.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, atomic::AtomicUsize},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    datagram::{self, Patience},
    echo,
    judge::{Call, Outcome, Sentence},
    ledger::Kind,
    random::Random,
    scene::{STICKY, Scene},
    service::Service,
    stream::Stream,
    worker::{PATIENCE, Worker, to_port},
};
use crate::lab::{
    Lab, Netns, Protocol,
    reference::{self, Client, Fate, Policy},
};

/// Ports that all clients use alike: several clients with one port to one endpoint, and one client with one port to
/// several VIPs. None that agents give away (SNAT), nor that node ports are.
const SHARED_PORTS: Range<usize> = 6_000..6_060;

/// Everyone who calls.
pub(super) fn clients() -> Vec<Client> {
    let pods = [1, 2, 3].map(|node| Client::Pod { node, number: 100 });
    let hosts = [1, 2, 3].map(|node| Client::Host { node });
    // These are endpoints as well, some services' only ones.
    let lone = [1, 2].map(|node| Client::Pod { node, number: 11 });
    [&pods[..], &hosts, &[Client::Outside], &lone].concat()
}

/// A client's namespace.
pub(super) fn netns(lab: &Lab, client: Client) -> &Netns {
    match client {
        Client::Pod { .. } => &lab.pod(&client.to_string()).netns,
        Client::Host { .. } | Client::Outside => &lab.node(&client.to_string()).netns,
    }
}

type Work = fn(&mut Worker);

/// Starts all of them.
///
/// # Errors
/// If a namespace cannot be entered or a thread not be started.
pub(super) fn start(lab: &Lab, scene: &Arc<Scene>) -> Result<Vec<JoinHandle<()>>> {
    let kinds: [(&str, Work); 7] = [
        ("mixed-1", mixed),
        ("mixed-2", mixed),
        ("sticky", sticky),
        ("talk", talk),
        ("transfer", transfer),
        ("one-socket", one_socket),
        ("ping", ping),
    ];
    let mut threads = Vec::new();
    for client in clients() {
        let ports = Arc::new(AtomicUsize::new(0));
        for (name, work) in kinds {
            let name = format!("{client} {name}");
            let mut worker = Worker {
                random: Random::new(scene.seed, &name),
                client,
                scene: Arc::clone(scene),
                ports: Arc::clone(&ports),
                stuck: BTreeMap::new(),
            };
            let body = move || {
                while !worker.scene.is_over() {
                    work(&mut worker);
                }
            };
            // A thread is in the namespace of the one that starts it.
            let spawn = || thread::Builder::new().name(name).spawn(body);
            threads.push(netns(lab, client).run(spawn)??);
        }
    }
    Ok(threads)
}

fn is_answered(fate: &Fate) -> bool {
    matches!(fate, Fate::Answered(_))
}

/// Short flows to anything by anything; what is dropped only now and then, because it takes long.
fn mixed(worker: &mut Worker) {
    let protocol = *worker.random.one(&Protocol::BOTH);
    let patient = worker.random.chance(15);
    let wanted = |fate: &Fate| patient || matches!(fate, Fate::Answered(_) | Fate::Refused);
    let Some((call, fate)) = worker.draw(protocol, None, wanted) else {
        return worker.pause(50, 100);
    };
    let is_large = worker.scene.served.fragments && worker.random.chance(20);
    match protocol {
        Protocol::Tcp => worker.short(Kind::ShortTcp, &call, &fate),
        Protocol::Udp if is_large && is_answered(&fate) => {
            let length = worker.random.between(1500, 8000);
            worker.datagram(Kind::LargeDatagram, &call, &fate, length)
        }
        Protocol::Udp => {
            let length = worker.random.between(1, 1100);
            worker.datagram(Kind::Datagram, &call, &fate, length)
        }
    };
    worker.pause(40, 250);
}

/// Rule 68: whatever the address, a client comes back to the endpoint of a port that it had.
fn sticky(worker: &mut Worker) {
    let protocol = *worker.random.one(&Protocol::BOTH);
    if let Some((call, fate)) = worker.draw(protocol, Some(STICKY), is_answered) {
        let begin = Instant::now();
        let outcome = match protocol {
            Protocol::Tcp => worker.short(Kind::Sticky, &call, &fate),
            Protocol::Udp => worker.datagram(Kind::Sticky, &call, &fate, 100),
        };
        if let (Some(Outcome::Answered { who, .. }), false) =
            (outcome, matches!(call.client, Client::Host { .. }))
        {
            worker.compare(&call, begin, who);
        }
    }
    worker.pause(500, 2500);
}

/// One connection, question after question, for long.
fn talk(worker: &mut Worker) {
    let Some((call, _)) = worker.draw(Protocol::Tcp, None, is_answered) else {
        return worker.pause(100, 200);
    };
    let mut well = Instant::now();
    let opened = Stream::open(&call, PATIENCE);
    let outcome = match &opened {
        Ok(stream) => stream.as_outcome(),
        Err(outcome) => outcome.clone(),
    };
    let is_right = worker.scene.enter(Kind::Talk, &call, well, &outcome);
    let Ok(mut stream) = opened else {
        return worker.pause(200, 1000);
    };
    let pod = stream.pod();
    let until = well + Duration::from_secs(worker.random.between(5, 120) as u64);
    while is_right && Instant::now() < until && !worker.scene.is_over() {
        well = Instant::now();
        let length = worker.random.between(1, 3000);
        if let Err(outcome) = stream.ask(&mut worker.random, length) {
            return worker
                .scene
                .enter_lost(Kind::Talk, &call, &pod, well, &outcome);
        }
        worker.scene.ledger().count(Kind::Talk, length, 0);
        worker.scene.note(Kind::Talk, &call, well, Sentence::Right);
        // Now and then nobody says anything for long.
        let idle = if worker.random.chance(4) { 12_000 } else { 400 };
        worker.pause(50, idle);
    }
    if let Err(outcome) = stream.close() {
        worker
            .scene
            .enter_lost(Kind::Talk, &call, &pod, well, &outcome);
    }
}

/// One connection with as many bytes as fit, both ways at once.
fn transfer(worker: &mut Worker) {
    let Some((call, _)) = worker.draw(Protocol::Tcp, None, is_answered) else {
        return worker.pause(100, 200);
    };
    let begin = Instant::now();
    let opened = Stream::open(&call, PATIENCE);
    let outcome = match &opened {
        Ok(stream) => stream.as_outcome(),
        Err(outcome) => outcome.clone(),
    };
    worker.scene.enter(Kind::Transfer, &call, begin, &outcome);
    if let Ok(stream) = opened {
        let (pod, length) = (stream.pod(), worker.random.between(1, 3 << 20));
        match stream.transfer(worker.random.draw(), length) {
            Ok(()) => {
                worker
                    .scene
                    .note(Kind::Transfer, &call, begin, Sentence::Right);
                worker.scene.ledger().count(Kind::Transfer, length, 0);
            }
            Err((well, outcome)) => {
                worker
                    .scene
                    .enter_lost(Kind::Transfer, &call, &pod, well, &outcome);
            }
        }
    }
    worker.pause(200, 2000);
}

/// An echo request of a pod to a ClusterIP, whether or not there is one.
fn ping(worker: &mut Worker) {
    let is_pod = matches!(worker.client, Client::Pod { number: 100, .. });
    if !worker.scene.served.echo || !is_pod {
        return worker.scene.pause(Duration::from_secs(3600));
    }
    let number = *worker.random.one(&[1, 2, 8, 9, 10, 10]);
    let service = Service::new(number, Policy::Cluster, &[]);
    let to = *worker.random.one(&service.cluster_ips());
    let begin = Instant::now();
    let about = format!("{} to {to}", worker.client);
    let sentence = match echo::patiently(to, &mut worker.random) {
        Ok((is_answered, resent)) => {
            worker.scene.ledger().count(Kind::Echo, 0, resent);
            let span = (begin, Instant::now());
            echo::judge(&worker.scene.history(), number, span, is_answered)
        }
        Err(error) => Sentence::Wrong(error.to_string()),
    };
    worker.scene.note(Kind::Echo, &about, begin, sentence);
    worker.pause(200, 1500);
}

/// The node that translates whatever a port of [`SHARED_PORTS`] is used for.
///
/// Where a client's address is kept, two nodes that translate for one client with one port to one endpoint make flows
/// that the endpoint cannot tell apart, and the answers have one VIP for both. TCP says by a SYN that a connection is
/// new and gets another port; a datagram says nothing.
fn translator_of(port: usize) -> Option<u8> {
    u8::try_from(1 + port % 3).ok()
}

/// One socket, with a port that other clients have as well, asks several VIPs in turn.
fn one_socket(worker: &mut Worker) {
    let v6 = worker.random.chance(50);
    let port = worker.random.between(SHARED_PORTS.start, SHARED_PORTS.end);
    let mut calls = Vec::new();
    for _ in 0..30 {
        let drawn = worker.draw(Protocol::Udp, None, is_answered);
        let drawn = drawn.map(|(call, fate)| {
            let port = to_port(port);
            (Call { port, ..call }, fate)
        });
        calls.extend(drawn.filter(|(call, _)| {
            let around = &worker.scene.around;
            let translator = reference::translator(call.client, call.frontend, around);
            call.v6 == v6 && translator == translator_of(port)
        }));
    }
    calls.truncate(5);
    let Ok(socket) = datagram::bind(v6, to_port(port)) else {
        return worker.pause(100, 200);
    };
    let patience = Patience {
        each: Duration::from_secs(2),
        attempts: 15,
    };
    for _ in 0..worker.random.between(2, 20) {
        for (call, _) in &calls {
            if worker.scene.is_over() {
                return;
            }
            let begin = Instant::now();
            let length = worker.random.between(1, 1100);
            let (outcome, effort) = datagram::exchange(&socket, false, call, length, patience);
            worker.account(Kind::OneSocket, effort);
            if !worker.scene.enter(Kind::OneSocket, call, begin, &outcome) {
                return worker.pause(200, 400);
            }
        }
        worker.pause(100, 600);
    }
}
