//! Maps that are never full because the kernel makes room in them (LRU): who is busy stays, who comes finds room, who was
//! forgotten comes again, and nobody ever gets what is another's (rule 95).

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Halves, Protocol, Raw, patience::stretched, probe::Probe};

use crate::{
    manifests::frontends,
    needs_root,
    node::{Faulty, nothing_lost},
};

/// The pods that serve `web`.
const PODS: [&str; 2] = ["pod-1-10", "pod-1-11"];

/// A connection that speaks now and then; by which endpoint it is served never changes.
fn open(to: SocketAddr) -> Result<(TcpStream, String)> {
    let patience = stretched(Duration::from_secs(10));
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    let line = String::from_utf8(line)?;
    let name = line.split_whitespace().next().unwrap_or_default();
    Ok((stream, name.to_owned()))
}

/// A thousand entries, and three times as many of flows. (With much less, an answer that takes its time finds its own entry
/// gone: decision 11.)
#[test]
fn flows_that_make_room_are_the_silent_ones_and_find_their_endpoint_again() -> Result<()> {
    needs_root!();
    let mut faulty = Faulty::start(&["--max-flows", "1024"])?;
    let streams = faulty.stream()?;
    let client = &faulty.lab.pod("client-1").netns;
    let idle = client.run(|| {
        let idle = (0..20).map(|turn| open(frontends()[turn % 2]));
        idle.collect::<Result<Vec<_>>>()
    })??;
    let asked = client.run(|| -> Result<usize> {
        let mut asked = 0;
        for turn in 0..2_400 {
            let to = frontends()[turn % 2];
            let protocol = Protocol::BOTH[turn / 2 % 2];
            let answer = Probe::new(protocol, to).run();
            let answer = answer.with_context(|| format!("flow {turn}"))?;
            ensure!(PODS.contains(&&*answer.endpoint), "{answer:?}");
            asked += 1;
        }
        Ok(asked)
    })??;
    streams.wait_rounds(50)?;
    for (turn, (mut stream, name)) in (0_u8..).zip(idle) {
        let token = [turn; 8];
        stream.write_all(&token)?;
        let mut back = [0; 8];
        let read = stream.read_exact(&mut back);
        read.with_context(|| format!("connection {turn} with {name} speaks again"))?;
        ensure!(back == token, "connection {turn} got {back:?}");
    }
    nothing_lost(streams)?;
    // It counts what is missing about once a minute, and when it starts.
    faulty.agent_mut().stop()?;
    faulty.agent_mut().start()?;
    faulty.agent().wait_ready()?;
    let mut evicted = [0; 2];
    faulty.wait("who made room is counted", || {
        for (count, family) in evicted.iter_mut().zip(["IPv4", "IPv6"]) {
            let label = format!("ip_family=\"{family}\"");
            *count = faulty.metric("duolb_flow_evictions_total", &label)?;
        }
        Ok(evicted.iter().all(|count| *count > 200))
    })?;
    let used = faulty.metric("duolb_map_entries", "FLOWS_V4")?;
    ensure!(used <= 1_024, "{used} entries");
    eprintln!("{asked} flows, entries that made room: {evicted:?}");
    faulty.check_served()
}

/// The pods' network knows these addresses, too, as the client's.
const CROWD: [(&str, &str); 2] = [("10.250.0.0/16", "-4"), ("fd00:250::/64", "-6")];

fn crowd_member(number: u16, is_v6: bool) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    if is_v6 {
        Ipv6Addr::new(0xfd00, 0x250, 0, 0, 0, 0, 0, number).into()
    } else {
        Ipv4Addr::new(10, 250, high, low).into()
    }
}

#[test]
fn a_client_that_keeps_coming_keeps_its_endpoint_while_others_affinity_makes_room() -> Result<()> {
    needs_root!();
    let faulty = Faulty::start(&["--max-affinity", "64"])?;
    let pods = [(1, 10), (1, 11)];
    let sticky =
        crate::manifests::web(&pods).replace("spec:\n", "spec:\n  sessionAffinity: ClientIP\n");
    faulty.directory.write("web.yaml", &sticky)?;
    faulty.wait("it has affinity", || {
        let list = faulty.agent().duolb(&["service", "list", "-o", "json"])?;
        Ok(list.contains("\"affinitySeconds\": 10800"))
    })?;
    let (client, node) = (faulty.lab.pod("client-1"), faulty.lab.node("node-1"));
    for ((network, family), gateway) in CROWD.iter().zip(client.addresses.both()) {
        let gateway = gateway.to_string();
        let to = ["route", "add", network, "via", &gateway, "dev"];
        let way = [&["ip", family][..], &to, &[&client.device, "onlink"]].concat();
        faulty.lab.exec(node, &way)?;
        let here = ["ip", family, "route", "add", "local", network, "dev", "lo"];
        faulty.lab.exec(client, &here)?;
    }
    // Whoever sends from such an address need not have it.
    client.netns.sysctl(&[("net/ipv6/ip_nonlocal_bind", "1")])?;
    for to in frontends() {
        let ask = |from: Option<IpAddr>| -> Result<String> {
            let mut probe = Probe::new(Protocol::Udp, to);
            probe.from = from;
            let answer = probe.run()?;
            ensure!(PODS.contains(&&*answer.endpoint), "{answer:?}");
            if let Some(from) = from {
                ensure!(answer.client.ip() == from, "{from}: {answer:?}");
            }
            Ok(answer.endpoint)
        };
        client.netns.run(|| -> Result<()> {
            let own = ask(None)?;
            for number in 1..=600 {
                let other = crowd_member(number, to.is_ipv6());
                ask(Some(other)).with_context(|| format!("{other} to {to}"))?;
                if number % 4 == 0 {
                    let now = ask(None)?;
                    ensure!(now == own, "{own} served, after {number} others {now}");
                }
            }
            Ok(())
        })??;
    }
    faulty.check_served()
}

/// Two notes for each socket that calls; who closes leaves none behind, and who is silent keeps his.
#[test]
fn what_is_noted_of_the_nodes_sockets_goes_with_them() -> Result<()> {
    needs_root!();
    let mut faulty = Faulty::start(&[])?;
    let noted = |faulty: &Faulty| -> Result<u64> {
        let of = |map| faulty.metric("duolb_map_entries", &format!("\"{map}\""));
        Ok(of("SOCKETS_V4")? + of("SOCKETS_V6")?)
    };
    let node = &faulty.lab.node("node-1").netns;
    let patience = Some(stretched(Duration::from_secs(10)));
    let udp = |to: SocketAddr| -> Result<UdpSocket> {
        let any: IpAddr = if to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(patience)?;
        Ok(socket)
    };
    let hear = |socket: &UdpSocket, to: SocketAddr| -> Result<()> {
        let mut bytes = [0; 256];
        let (_, from) = socket.recv_from(&mut bytes)?;
        ensure!(from == to, "{from} answered for {to}");
        Ok(())
    };
    let (open, mut closed) = node.run(|| -> Result<_> {
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for to in frontends() {
            // Connected or not, and one of TCP.
            let (first, second) = (udp(to)?, udp(to)?);
            first.connect(to)?;
            first.send(b"hello")?;
            second.send_to(b"hello", to)?;
            hear(&first, to)?;
            hear(&second, to)?;
            open.push((to, first, second, TcpStream::connect(to)?));
            for _ in 0..20 {
                let socket = udp(to)?;
                socket.send_to(b"hello", to)?;
                hear(&socket, to)?;
                closed.push((socket, TcpStream::connect(to)?));
            }
        }
        Ok((open, closed))
    })??;
    // Of UDP there are two each, of TCP one.
    let (before, own) = (noted(&faulty)?, 2 * (2 + 2 + 1));
    ensure!(before >= own + 40 * 3, "{before}");
    closed.clear();
    let is_swept = |faulty: &Faulty| Ok(noted(faulty)? <= own);
    let patience = Duration::from_secs(150);
    let held = faulty.lab.wait_until(patience, || is_swept(&faulty))?;
    ensure!(held, "{} of {before} are left", noted(&faulty)?);
    // A sweep more, with nothing to be removed.
    faulty.agent_mut().stop()?;
    faulty.agent_mut().start()?;
    faulty.agent().wait_ready()?;
    ensure!(noted(&faulty)? == own, "{}", noted(&faulty)?);
    let node = &faulty.lab.node("node-1").netns;
    node.run(|| -> Result<()> {
        for (to, first, second, tcp) in open {
            ensure!(first.peer_addr()? == to && tcp.peer_addr()? == to);
            first.send(b"again")?;
            hear(&first, to)?;
            second.send_to(b"again", to)?;
            hear(&second, to)?;
        }
        Ok(())
    })??;
    ensure!(noted(&faulty)? == own, "{}", noted(&faulty)?);
    faulty.check_served()
}

/// As many datagrams of which only the first piece came as fit, many times over: whose piece is forgotten is dropped and
/// counted, and what arrives is whole (rule 98).
#[test]
fn datagrams_in_pieces_that_made_room_are_dropped_and_others_arrive_whole() -> Result<()> {
    const DATAGRAMS: u16 = 400;
    needs_root!();
    let faulty = Faulty::start(&["--max-fragments", "64"])?;
    let streams = faulty.stream()?;
    let client = faulty.lab.pod("client-1");
    let dropped = || -> Result<u64> {
        let count = &faulty.status()?["verdicts"]["fragment"];
        count.as_u64().context("verdict fragment")
    };
    for to in frontends() {
        let before = dropped()?;
        let whole = client.netns.run(|| -> Result<BTreeSet<u16>> {
            let own = client.addresses.like(&to.ip());
            let socket = UdpSocket::bind((own, 0))?;
            let raw = Raw::open(own)?;
            let halves = |id: u16| {
                let payload = id.to_be_bytes().repeat(12);
                Halves::new(socket.local_addr()?, to, id, &payload)
            };
            for is_first in [true, false] {
                for id in 1..=DATAGRAMS {
                    raw.half(&halves(id)?, is_first)?;
                }
            }
            let mut whole = BTreeSet::new();
            let mut bytes = [0; 256];
            socket.set_read_timeout(Some(stretched(Duration::from_secs(1))))?;
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                ensure!(from == to, "{from} answered for {to}");
                let end = bytes[..length].iter().position(|byte| *byte == b'\n');
                let payload = &bytes[end.context("an endpoint's line")? + 1..length];
                let id = u16::from_be_bytes([payload[0], payload[1]]);
                ensure!(payload == id.to_be_bytes().repeat(12), "mixed: {payload:?}");
                ensure!(whole.insert(id), "datagram {id} came twice");
            }
            Ok(whole)
        })??;
        let (whole, dropped) = (whole.len() as u64, dropped()? - before);
        eprintln!("{to}: {whole} of {DATAGRAMS} arrived, {dropped} pieces were dropped");
        ensure!(
            whole + dropped == u64::from(DATAGRAMS),
            "{whole} + {dropped}"
        );
        ensure!((1..=64).contains(&whole), "{whole} arrived");
        // There is room for who comes now.
        for length in [8_000, 30_000] {
            let probe = Probe::new(Protocol::Udp, to).length(length);
            probe.run_in(&client.netns).context("after the flood")?;
        }
    }
    streams.wait_rounds(50)?;
    nothing_lost(streams)
}
