//! The live table: clients talk, the nodes are read again and again, the board shows both.
//!
//! Everything that happens comes through one channel. Whoever sends ends when no one listens any more, so
//! leaving the loop, by an error or a panic as well, ends all threads.

use std::{
    any::Any,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::{
    board::Board,
    listing::{self, Listing},
    screen::Screen,
    traffic::{self, Report},
    turns::Targets,
};
use crate::lab::{Lab, interrupt};

/// How often the nodes are asked what they serve.
const READ: Duration = Duration::from_secs(1);
/// Readings in a row that may fail while the agents run.
const PATIENCE: u32 = 3;
/// How long nothing may happen before the table is drawn all the same, and how fast Ctrl-C is seen.
const TICK: Duration = Duration::from_millis(100);

/// Something that happened.
enum Event {
    /// A probe ended.
    Probed(Report),
    /// The nodes were read, or could not be.
    Read(Result<Listing>),
}

/// Shows the board and keeps it up to date until Ctrl-C.
///
/// # Errors
/// If an agent ends, or cannot be asked.
pub(super) fn follow(lab: &Lab, board: &mut Board, footer: String) -> Result<()> {
    let clients = board.around().clients();
    let clients: Vec<_> = clients
        .map(|client| (client.name.clone(), client.netns(lab), Targets::default()))
        .collect();
    let aim = |board: &Board| {
        for (name, _, targets) in &clients {
            targets.set(board.targets(name));
        }
    };
    aim(board);
    let mut screen = Screen::new(footer);
    let ended = thread::scope(|scope| {
        let (sender, events) = mpsc::channel();
        let mut threads = Vec::new();
        let work = clients.iter().flat_map(|client| [client; traffic::ABREAST]);
        for (_, netns, targets) in work {
            let sender = sender.clone();
            let report = move |report| sender.send(Event::Probed(report)).is_ok();
            let talk = || traffic::forever(targets, report);
            threads.push(scope.spawn(move || netns.run(talk)));
        }
        threads.push(scope.spawn(move || {
            read_forever(lab, |read| sender.send(Event::Read(read)).is_ok());
            Ok(())
        }));
        let mut watch = || -> Result<()> {
            // A thread that ends by itself has something to say, which joining tells.
            while !interrupt::is_set() && !threads.iter().any(|thread| thread.is_finished()) {
                match events.recv_timeout(TICK) {
                    Ok(Event::Probed(report)) => board.enter(Instant::now(), report),
                    Ok(Event::Read(listing)) => {
                        board.merge(listing?);
                        aim(board);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                board.forget(Instant::now());
                screen.draw(board);
            }
            Ok(())
        };
        let watched = watch();
        drop(events);
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| Err(told(&*panic))));
        let joined: Vec<Result<()>> = joined.collect();
        watched.and(joined.into_iter().collect())
    });
    screen.finish(board);
    ended
}

/// A panic as an error: what the thread printed itself has been drawn over.
fn told(panic: &(dyn Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    anyhow!("a thread panicked: {}", text.unwrap_or("no reason given"))
}

/// Reads the nodes every second until interrupted, or `tell` says that no one listens.
fn read_forever(lab: &Lab, tell: impl Fn(Result<Listing>) -> bool) {
    let mut failed = 0;
    loop {
        let next = Instant::now() + READ;
        while Instant::now() < next {
            if interrupt::is_set() {
                return;
            }
            thread::sleep(TICK);
        }
        let read = listing::read(lab);
        failed = if read.is_ok() { 0 } else { failed + 1 };
        // A reading may fail for once, even by our own Ctrl-C, as long as the agents run.
        let passing = read.is_err() && failed < PATIENCE && listing::check(lab).is_ok();
        if interrupt::is_set() || (!passing && !tell(read)) {
            return;
        }
    }
}
