//! While everything runs: a line that says how it goes, and looks at what agents hold.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{resources::Resources, scene::Scene};

/// How often agents are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often the line is told where it cannot be drawn over.
const TELL: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(250);

/// What has been looked at, and whether it is enough.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    resources: Mutex<Resources>,
    is_enough: AtomicBool,
}

impl Monitor {
    /// No more.
    pub(super) fn end(&self) {
        self.is_enough.store(true, Ordering::Relaxed);
    }

    /// What has been seen.
    pub(super) fn resources(&self) -> Resources {
        let resources = self.resources.lock();
        resources.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at all agents now.
    pub(super) fn look(&self, scene: &Scene, began: Instant) {
        let pids = scene.pids();
        let mut resources = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (node, pid) in pids {
            resources.look(began.elapsed(), node, pid);
        }
    }

    /// Looks and tells until it is enough.
    pub(super) fn run(&self, scene: &Scene, began: Instant, until: Instant) {
        let is_terminal = std::io::stderr().is_terminal();
        let (mut looked, mut told, mut said) = (None::<Instant>, None::<Instant>, 0);
        while !self.is_enough.load(Ordering::Relaxed) {
            if looked.is_none_or(|at| at.elapsed() >= LOOK) {
                looked = Some(Instant::now());
                self.look(scene, began);
            }
            let complaints = scene.ledger().complaints.clone();
            for complaint in complaints.get(said..).unwrap_or_default() {
                let clear = if is_terminal { "\r\x1b[K" } else { "" };
                eprintln!("{clear}{complaint}");
            }
            said = complaints.len();
            if is_terminal {
                eprint!("\r\x1b[K{}", line(scene, until));
                let _ = std::io::stderr().flush();
            } else if told.is_none_or(|at| at.elapsed() >= TELL) {
                told = Some(Instant::now());
                eprintln!("{}", line(scene, until));
            }
            thread::sleep(TICK);
        }
        if is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(scene: &Scene, until: Instant) -> String {
    let left = until.saturating_duration_since(Instant::now()).as_secs();
    let (ledger, phase) = (scene.ledger(), scene.phase());
    let total = ledger.total();
    let complaints = ledger.complaints.len() as u64 + ledger.unsaid;
    format!(
        "{:02}:{:02} left · {} asked, {} right, {} excused, {} lost, {} wrong · {} MiB · {complaints} complaints · {phase}",
        left / 60,
        left % 60,
        total.asked,
        total.right,
        total.excused,
        total.lost,
        total.wrong,
        total.bytes >> 20,
    )
}
