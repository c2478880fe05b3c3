//! What fits and what does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{
    super::{
        clients::{Client, Place, Surroundings},
        listing::Listing,
    },
    *,
};

/// A board of `count` frontends with four endpoints each.
fn board(count: u8) -> Board {
    let frontends: Vec<_> = (1..=count)
        .map(|n| {
            let endpoints: Vec<_> = (1..=4)
                .map(|n| serde_json::json!({"address": format!("10.244.1.{n}")}))
                .collect();
            let json = serde_json::json!({
                "namespace": "default", "name": format!("service-{n}"), "protocol": "UDP",
                "address": format!("10.96.0.{n}"), "port": 53, "endpoints": endpoints, "flows": 1234,
            });
            serde_json::from_value(json).unwrap()
        })
        .collect();
    let client = Client {
        name: "client-1".to_owned(),
        place: Place::Pod("node-1".to_owned()),
        addresses: BTreeSet::new(),
    };
    let around = Surroundings {
        clients: vec![client],
        ..Surroundings::default()
    };
    let mut board = Board::new(around, None);
    board.merge(Listing {
        began: Instant::now(),
        nodes: BTreeMap::from([("node-1".to_owned(), frontends)]),
        problem: Some("manifests".to_owned()),
    });
    board
}

#[test]
fn full_table_names_every_endpoint_and_the_counters() {
    let text = full(&board(2), None);
    for part in ["service-2", "10.96.0.2:53/UDP", "10.244.1.4 -", "1234"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn fitted_table_never_exceeds_the_terminal() {
    for count in [0, 1, 12, 40] {
        for size in [(5, 40), (10, 60), (24, 80), (50, 200), (200, 300)] {
            let lines = fitted(&board(count), size, "footer");
            let width = |line: &String| console::measure_text_width(line);
            let widest = lines.iter().map(width).max().unwrap();
            assert!(lines.len() <= size.0.into(), "{count} in {size:?}");
            assert!(widest <= size.1.into(), "{count} in {size:?}: {widest}");
        }
    }
}

#[test]
fn table_that_is_too_high_loses_the_endpoints_names_first() {
    let lines = |rows, columns| fitted(&board(20), (rows, columns), "footer").join("\n");
    assert!(lines(26, 185).contains("10.244.1.4\u{a0}-"));
    let short = lines(23, 110);
    assert!(short.contains("0 of 4") && short.contains("service-9"));
    assert!(!short.contains("more frontends"));
    let cut = lines(22, 110);
    assert!(cut.contains("2 more frontends, 0 of them FAILED"));
    assert!(cut.ends_with("\nmanifests\nfooter"));
}

#[test]
fn wide_enough_short_table_cuts_no_name() {
    let lines = whole(&board(20), (10, 90));
    assert_eq!(lines.len(), 22);
    assert!(!lines.join("\n").contains('…'));
}
