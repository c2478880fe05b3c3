//! Two agents at once on one node: the second says who holds the lock, and the first is not disturbed.

use anyhow::{Result, ensure};

use crate::{
    needs_root,
    node::{Faulty, nothing_lost},
};

#[test]
fn a_second_agent_and_a_clean_up_say_who_holds_the_lock_and_disturb_nobody() -> Result<()> {
    needs_root!();
    let mut faulty = Faulty::start(&[])?;
    let streams = faulty.stream()?;
    let pid = faulty.agent().pid();
    let pid = format!("pid {}, since 20", pid.unwrap_or_default());
    let (before, pins) = (faulty.dump()?, faulty.pins());
    let path = faulty.directory.path().display().to_string();
    for command in [&["agent", "--manifests", &path][..], &["cleanup"]] {
        for _ in 0..2 {
            let error = faulty.agent().duolb(command).expect_err("the lock is held");
            let said = format!("{error:#}");
            ensure!(
                said.contains(&pid) && said.contains("stop it first"),
                "{command:?}: {said}"
            );
            streams.wait_rounds(50)?;
        }
    }
    ensure!(faulty.dump()? == before && faulty.pins() == pins);
    let status = faulty.status()?;
    ensure!(status["agent"]["synced"] == true, "{status}");
    // The one that is gone holds nothing, however it went.
    faulty.agent_mut().kill();
    faulty.agent_mut().start()?;
    faulty.agent().wait_ready()?;
    streams.wait_rounds(50)?;
    nothing_lost(streams)
}

#[test]
fn an_agent_and_a_clean_up_at_the_same_moment_leave_all_or_nothing() -> Result<()> {
    needs_root!();
    let mut faulty = Faulty::start(&[])?;
    for _ in 0..3 {
        faulty.agent_mut().stop()?;
        faulty.agent_mut().start()?;
        // Whoever comes first has the lock; the other one says so.
        let removed = faulty.agent().duolb(&["cleanup"]);
        match faulty.agent().wait_ready() {
            Ok(()) => faulty.check_served()?,
            Err(error) => {
                ensure!(removed.is_ok(), "neither: {removed:?}, {error:#}");
                faulty.agent_mut().start()?;
                faulty.agent().wait_ready()?;
                faulty.check_served()?;
            }
        }
    }
    Ok(())
}
