//! `run --once`: every client reaches every endpoint that its node has for it, of every frontend, then the verdict.

use std::{panic::resume_unwind, thread, time::Instant};

use anyhow::Result;

use super::{board::Board, listing, traffic};
use crate::lab::Lab;

/// Has every client probe every frontend, and enters what they report.
///
/// # Errors
/// If interrupted, or an agent ends.
pub(super) fn probe(lab: &Lab, board: &mut Board) -> Result<()> {
    let reports = thread::scope(|scope| {
        let clients: Vec<_> = board
            .around()
            .clients()
            .map(|client| {
                let targets = board.targets(&client.name);
                let talk = move || traffic::once(&targets);
                let netns = client.netns(lab);
                scope.spawn(move || netns.run(talk).flatten())
            })
            .collect();
        let join = |client: thread::ScopedJoinHandle<'_, _>| {
            client.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        clients.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    for report in reports.into_iter().flatten() {
        board.enter(Instant::now(), report);
    }
    // What it does not explain has failed; and the counters are in.
    board.merge(listing::read(lab)?);
    Ok(())
}
