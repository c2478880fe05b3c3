//! What all threads of a soak share: what was true when, what was counted, whether it is over.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    evidence::Witness,
    history::History,
    judge::{self, Call, Outcome, Sentence},
    ledger::{Kind, Ledger},
    random::Random,
    service::NUMBERS,
};
use crate::lab::{
    Protocol, interrupt,
    reference::{Client, Fate, Frontend, Surroundings},
};

/// The service with session affinity, which has calls of its own.
pub(super) const STICKY: u8 = 4;

/// So many phases are remembered.
const PHASES: usize = 60;

const FRONTENDS: [Frontend; 8] = [
    Frontend::ClusterIp,
    Frontend::NodePort { node: 1 },
    Frontend::NodePort { node: 2 },
    Frontend::NodePort { node: 3 },
    Frontend::Loopback,
    Frontend::SecondaryAddress { node: 2 },
    Frontend::LoadBalancer,
    Frontend::ExternalIp,
];

/// What is there for some of the traffic, and so is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Served {
    /// Datagrams in fragments.
    pub(super) fragments: bool,
    /// Echo requests to ClusterIPs.
    pub(super) echo: bool,
    /// Flow tables that empty by themselves, and commands for them.
    pub(super) conntrack: bool,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Scene {
    /// From which all randomness follows.
    pub(super) seed: u64,
    /// What is around the cluster.
    pub(super) around: Surroundings,
    /// See [`Served`].
    pub(super) served: Served,
    history: RwLock<History>,
    ledger: Mutex<Ledger>,
    /// What was done since when.
    phases: Mutex<VecDeque<(Instant, String)>>,
    pids: Mutex<BTreeMap<&'static str, u32>>,
    is_over: AtomicBool,
    witness: Witness,
}

impl Scene {
    /// Before anything has happened.
    pub(super) fn new(
        seed: u64,
        around: Surroundings,
        served: Served,
        history: History,
        witness: Witness,
    ) -> Self {
        Self {
            seed,
            around,
            served,
            history: RwLock::new(history),
            ledger: Mutex::default(),
            phases: Mutex::default(),
            pids: Mutex::default(),
            is_over: AtomicBool::new(false),
            witness,
        }
    }

    pub(super) fn history(&self) -> RwLockReadGuard<'_, History> {
        self.history.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn history_mut(&self) -> RwLockWriteGuard<'_, History> {
        self.history.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is being done.
    pub(super) fn phase(&self) -> String {
        let phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        phases
            .back()
            .map_or_else(String::new, |(_, now)| now.clone())
    }

    /// Something else is being done from now on.
    pub(super) fn set_phase(&self, phase: &str) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        phases.push_back((Instant::now(), phase.to_owned()));
        while phases.len() > PHASES {
            phases.pop_front();
        }
    }

    /// What was done between two moments, with seconds since the first of them.
    fn phases(&self, begin: Instant) -> String {
        let phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        let before = phases.iter().rposition(|(since, _)| *since <= begin);
        let shown = phases.iter().skip(before.unwrap_or_default());
        let shown = shown.map(|(since, phase)| {
            let after = since.saturating_duration_since(begin).as_secs_f32();
            format!("{after:.1} s {phase}")
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    /// The agents' processes, by node.
    pub(super) fn pids(&self) -> BTreeMap<&'static str, u32> {
        let pids = self.pids.lock();
        pids.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_pids(&self, pids: BTreeMap<&'static str, u32>) {
        *self.pids.lock().unwrap_or_else(PoisonError::into_inner) = pids;
    }

    /// Clients end what they have begun.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether clients begin nothing more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || interrupt::is_set()
    }

    /// Waits so long, or until it is over.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// A call that a client has a way for and whose fate is one that is `wanted`.
    pub(super) fn draw(
        &self,
        random: &mut Random,
        client: Client,
        protocol: Protocol,
        service: Option<u8>,
        wanted: impl Fn(&Fate) -> bool,
    ) -> Option<(Call, Fate)> {
        let history = self.history();
        for _ in 0..50 {
            let number = service.unwrap_or_else(|| *random.one(&NUMBERS));
            if service.is_none() && number == STICKY {
                continue;
            }
            let (frontend, v6) = (*random.one(&FRONTENDS), random.chance(50));
            let Some(newest) = history.newest(number) else {
                continue;
            };
            let call = Call {
                client,
                service: number,
                frontend,
                v6,
                protocol,
                to: newest.socket(frontend, v6),
                port: 0,
            };
            let fate = judge::fate_now(&history, &call, &self.around);
            if let Some(fate) = fate.filter(|fate| *fate != Fate::Absent && wanted(fate)) {
                return Some((call, fate));
            }
        }
        None
    }

    /// Judges a new flow and enters it; tells whether all was right.
    pub(super) fn enter(&self, kind: Kind, call: &Call, begin: Instant, outcome: &Outcome) -> bool {
        let span = (begin, Instant::now());
        let sentence = judge::judge(&self.history(), &self.around, call, span, outcome);
        self.note(kind, call, begin, sentence)
    }

    /// Judges the end of an established flow to `pod` that last was well at `begin`.
    pub(super) fn enter_lost(
        &self,
        kind: Kind,
        call: &Call,
        pod: &str,
        begin: Instant,
        outcome: &Outcome,
    ) {
        let sentence = match outcome {
            Outcome::Wrong(why) => Sentence::Wrong(why.clone()),
            _ => {
                let span = (begin, Instant::now());
                judge::lost(&self.history(), call, Some(pod), span, outcome)
            }
        };
        self.note(kind, call, begin, sentence);
    }

    /// Enters a sentence about what was begun at that time; tells whether all was right.
    pub(super) fn note(
        &self,
        kind: Kind,
        about: &dyn Display,
        begin: Instant,
        sentence: Sentence,
    ) -> bool {
        let is_right = sentence == Sentence::Right;
        let mut about = match is_right {
            true => String::new(),
            false => format!("{about} [{}]", self.phases(begin)),
        };
        if matches!(sentence, Sentence::Wrong(_) | Sentence::Lost(_))
            && let Some(file) = self.witness.take(&format!("{about}: {sentence:?}"))
        {
            about += &format!(" ({file})");
        }
        self.ledger().enter(kind, &about, sentence);
        is_right
    }

    /// Something is not as it should be.
    pub(super) fn complain(&self, complaint: String) {
        self.ledger().complain(complaint);
    }
}
