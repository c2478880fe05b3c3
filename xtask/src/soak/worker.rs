//! One thread of a client, and the flows that most kinds of traffic are made of.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    datagram::{self, Patience},
    judge::{Call, Outcome, Sentence},
    ledger::Kind,
    random::Random,
    scene::{STICKY, Scene},
    stream::Stream,
};
use crate::lab::{
    Protocol,
    reference::{self, Client, Fate},
};

/// How long a client waits for what is to come: a machine that compiles something else is slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);
/// How long for what is not to come.
const SILENCE: Duration = Duration::from_millis(1200);
/// Ports of datagram sockets with one question each, one after the other, so that none is used again before its flow
/// is forgotten; see `traffic::translator_of`.
const PORTS: Range<usize> = 33_000..60_000;
/// Ports that all clients use alike for TCP.
const SHARED_TCP_PORTS: Range<usize> = 5_000..5_400;

/// One thread of a client.
pub(super) struct Worker {
    pub(super) random: Random,
    pub(super) client: Client,
    pub(super) scene: Arc<Scene>,
    /// The client's next port for datagrams.
    pub(super) ports: Arc<AtomicUsize>,
    /// The endpoint that answered last, by family, protocol and node that translates.
    pub(super) stuck: BTreeMap<(bool, Protocol, Option<u8>), (String, Instant)>,
}

impl Worker {
    pub(super) fn draw(
        &mut self,
        protocol: Protocol,
        service: Option<u8>,
        wanted: impl Fn(&Fate) -> bool,
    ) -> Option<(Call, Fate)> {
        let Self { random, scene, .. } = self;
        scene.draw(random, self.client, protocol, service, wanted)
    }

    pub(super) fn pause(&mut self, from: usize, to: usize) {
        let time = self.random.between(from, to) as u64;
        self.scene.pause(Duration::from_millis(time));
    }

    /// One connection with one question.
    pub(super) fn short(&mut self, kind: Kind, call: &Call, fate: &Fate) -> Option<Outcome> {
        let begin = Instant::now();
        let mut call = *call;
        if self.random.chance(30) {
            let Range { start, end } = SHARED_TCP_PORTS;
            call.port = to_port(self.random.between(start, end));
        }
        let call = &call;
        let patience = match fate {
            Fate::Answered(_) | Fate::Refused => PATIENCE,
            _ => SILENCE,
        };
        let outcome = match Stream::open(call, patience) {
            // The port is in use by an earlier connection of ours.
            Err(Outcome::Failed(_)) if call.port != 0 => return None,
            Err(outcome) => outcome,
            Ok(mut stream) => {
                let length = self.random.between(1, 4000);
                let (pod, opened) = (stream.pod(), stream.as_outcome());
                let said = stream.ask(&mut self.random, length);
                match said.and_then(|()| stream.close()) {
                    Ok(()) => {
                        self.scene.ledger().count(kind, length, 0);
                        opened
                    }
                    Err(outcome) => {
                        self.scene.enter_lost(kind, call, &pod, begin, &outcome);
                        return None;
                    }
                }
            }
        };
        self.scene.enter(kind, call, begin, &outcome);
        Some(outcome)
    }

    /// A datagram from a socket of its own.
    pub(super) fn datagram(
        &mut self,
        kind: Kind,
        call: &Call,
        fate: &Fate,
        length: usize,
    ) -> Option<Outcome> {
        let begin = Instant::now();
        let may_answer = matches!(fate, Fate::Answered(_));
        let patience = match fate {
            Fate::Answered(_) => Patience {
                each: Duration::from_secs(2),
                attempts: 15,
            },
            _ => Patience {
                each: SILENCE,
                attempts: 1,
            },
        };
        // Both kinds of socket: the unconnected one compares the sender of each answer, the other hears of refusals.
        let connected = !may_answer || self.random.chance(50);
        let port = PORTS.start + self.ports.fetch_add(1, Ordering::Relaxed) % PORTS.len();
        let call = &Call {
            port: to_port(port),
            ..*call
        };
        let socket = datagram::bind(call.v6, call.port).ok()?;
        let connecting = match connected {
            true => socket.connect(call.to),
            false => Ok(()),
        };
        let (outcome, effort) = match connecting {
            Ok(()) => datagram::exchange(&socket, connected, call, length, patience),
            Err(error) => (super::stream::outcome(&error), datagram::Effort::default()),
        };
        self.account(kind, effort);
        self.scene.enter(kind, call, begin, &outcome);
        Some(outcome)
    }

    pub(super) fn account(&self, kind: Kind, effort: datagram::Effort) {
        let mut ledger = self.scene.ledger();
        ledger.count(kind, effort.bytes, effort.resent);
        ledger.late += effort.late;
    }
}

pub(super) fn to_port(number: usize) -> u16 {
    u16::try_from(number).expect("a port")
}

impl Worker {
    /// Whether the endpoint is the one that answered before, if it must be.
    pub(super) fn compare(&mut self, call: &Call, begin: Instant, who: String) {
        let translator = reference::translator(call.client, call.frontend, &self.scene.around);
        let key = (call.v6, call.protocol, translator);
        let history = self.scene.history();
        let timeout = history.newest(STICKY).map_or(0, |service| service.affinity);
        let recent = Duration::from_secs(u64::from(timeout / 2));
        let former = self.stuck.get(&key);
        let former = former.filter(|(_, at)| {
            begin - *at < recent && history.is_quiet(STICKY, *at, Instant::now())
        });
        let broken = former.filter(|(former, _)| *former != who);
        let broken = broken.map(|(former, at)| {
            let ago = begin - *at;
            format!("{who} answered; {ago:?} before it was {former}")
        });
        drop(history);
        if let Some(why) = broken {
            self.scene
                .note(Kind::Sticky, call, begin, Sentence::Wrong(why));
        }
        self.stuck.insert(key, (who, Instant::now()));
    }
}
