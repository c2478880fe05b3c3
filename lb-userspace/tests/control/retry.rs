//! When the agent tries again what failed, and when not.

use std::time::{Duration, Instant};

use duolb::{
    control::{
        maps::{fake::FakeMaps, faulty::FaultyMaps},
        problem::Cause,
        reconcile::Reconciler,
    },
    source::Event,
};

use crate::{
    cost::{service, slice},
    world::list,
};

/// An agent whose maps have stopped working after it served one service.
fn stuck_agent(now: Instant) -> Reconciler<FaultyMaps<FakeMaps>> {
    let mut agent = Reconciler::new(FaultyMaps::new(FakeMaps::new(8, 8, 8), 0, 1), crate::NODE);
    list(&mut agent, vec![Event::ApplyService(service(1))]);
    assert!(agent.sync(now).in_sync);
    agent.maps_mut().writes_left = 0;
    agent.handle(Event::ApplySlice(slice(1, 1)));
    agent
}

#[test]
fn a_failure_is_reported_and_tried_again_later_and_not_before() {
    let now = Instant::now();
    let mut agent = stuck_agent(now);
    let report = agent.sync(now);
    assert!(!report.in_sync);
    let problem = &report.problems[0];
    assert!(matches!(problem.cause, Cause::Failed(_)), "{problem}");
    assert_eq!(problem.service.as_ref().unwrap().name, "s1");

    let retry = report.next_retry.unwrap();
    assert!(retry > now);
    agent.maps_mut().writes_left = usize::MAX;
    let report = agent.sync(retry - Duration::from_millis(1));
    assert_eq!(
        (report.ops, report.in_sync, report.problems.len()),
        (0, false, 1)
    );
    let report = agent.sync(retry);
    assert_eq!(
        (report.ops, report.in_sync, report.problems.len()),
        (3, true, 0)
    );
    assert_eq!(report.next_retry, None);
}

#[test]
fn it_waits_longer_while_it_fails_but_news_do_not_wait_long() {
    let mut now = Instant::now();
    let mut agent = stuck_agent(now);
    for _ in 0..20 {
        now = agent.sync(now).next_retry.unwrap();
    }
    let wait = |at: Instant| at.saturating_duration_since(now);
    assert!(wait(agent.sync(now).next_retry.unwrap()) > Duration::from_secs(10));
    agent.handle(Event::ApplyService(service(2)));
    let soon = agent.sync(now).next_retry.unwrap();
    assert!(wait(soon) <= Duration::from_secs(1));
    agent.maps_mut().writes_left = usize::MAX;
    assert!(agent.sync(soon).in_sync);
    // Each with the mark of its VIP.
    assert_eq!(agent.maps().inner.v4.frontends.len(), 4);
}

#[test]
fn a_full_map_is_not_tried_again_at_every_event() {
    let now = Instant::now();
    let mut agent = Reconciler::new(FakeMaps::new(8, 2, 64), crate::NODE);
    list(&mut agent, vec![Event::ApplyService(service(1))]);
    agent.sync(now);
    agent.handle(Event::ApplyService(service(2)));
    agent.sync(now);
    for endpoints in 1..10 {
        agent.maps_mut().take_calls();
        agent.handle(Event::ApplySlice(slice(1, endpoints)));
        let report = agent.sync(now);
        // Endpoint, slots, frontend; the other Service's frontend and mark wait.
        assert_eq!((report.ops, report.problems.len()), (3, 2));
        assert_eq!(agent.maps().calls.total(), 3);
    }
    // In the long run it is, since somebody else may have made room.
    agent.maps_mut().v4.frontend_capacity = 4;
    let retry = agent.sync(now).next_retry.unwrap();
    assert_eq!(agent.sync(retry).problems, []);
    assert_eq!(agent.maps().v4.frontends.len(), 4);
}
