//! When the agent has to look for sockets that nothing else finds out about.

use std::time::Instant;

use duolb::{
    control::{maps::fake::FakeMaps, reconcile::Reconciler},
    model::ObjectKey,
    source::Event,
};

use crate::{
    cost::{service, slice},
    world::list,
};

#[test]
fn a_report_says_once_that_an_endpoint_or_a_frontend_is_gone() {
    let now = Instant::now();
    let mut agent = Reconciler::new(FakeMaps::new(8, 64, 64), crate::NODE);
    list(&mut agent, vec![Event::ApplyService(service(1))]);
    let gone = ObjectKey::clone(&service(1).key);
    let cases = [
        ("nothing", None, false),
        (
            "endpoints come",
            Some(Event::ApplySlice(slice(1, 3))),
            false,
        ),
        ("one leaves", Some(Event::ApplySlice(slice(1, 2))), true),
        ("nothing", None, false),
        ("the service leaves", Some(Event::DeleteService(gone)), true),
        ("nothing", None, false),
    ];
    for (what, event, expected) in cases {
        if let Some(event) = event {
            agent.handle(event);
        }
        assert_eq!(agent.sync(now).is_somebody_gone, expected, "{what}");
    }
}
