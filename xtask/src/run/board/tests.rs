//! Changes and probes in all orders.

mod disputes;

use super::{
    super::clients::{Client, Place},
    *,
};

const NODES: [&str; 2] = ["node-1", "node-2"];

/// A clock that goes forward when asked.
struct Clock(Instant);

impl Clock {
    fn tick(&mut self) -> Instant {
        self.0 += Duration::from_secs(1);
        self.0
    }
}

fn frontend(name: &str, endpoints: &[u8]) -> Frontend {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|n| serde_json::json!({"address": format!("10.0.0.{n}")}))
        .collect();
    let clients = if endpoints.is_empty() {
        "dropped"
    } else {
        "answered"
    };
    let json = serde_json::json!({
        "namespace": "default", "name": name, "protocol": "TCP", "address": "10.96.0.1", "port": 80,
        "endpoints": endpoints, "clients": clients, "flows": 1, "packets_in": 2, "packets_out": 3,
    });
    serde_json::from_value(json).unwrap()
}

/// A reading in which all nodes say the same.
fn listing(began: Instant, frontends: &[Frontend]) -> Listing {
    let nodes = NODES.map(|node| (node.to_owned(), frontends.to_vec()));
    Listing {
        began,
        nodes: nodes.into(),
        problem: None,
    }
}

/// Pods `pod-1` to `pod-8`, and a client in a pod of each node, called like the node.
fn around() -> Surroundings {
    let pods = (1..9).map(|n| {
        let pod_and_node = (format!("pod-{n}"), NODES[0].to_owned());
        (format!("10.0.0.{n}").parse().unwrap(), pod_and_node)
    });
    let clients = NODES.map(|node| Client {
        name: node.to_owned(),
        place: Place::Pod(node.to_owned()),
        addresses: BTreeSet::new(),
    });
    Surroundings {
        clients: clients.into(),
        pods: pods.collect(),
        entrances: Vec::new(),
    }
}

/// A board after a first reading.
fn board(frontends: &[Frontend]) -> (Board, Clock) {
    let mut clock = Clock(Instant::now());
    let mut board = Board::new(around(), Some(Duration::from_secs(10)));
    board.merge(listing(clock.tick(), frontends));
    (board, clock)
}

/// What a client on the first node reports of the frontend that it now sees first.
fn report(board: &Board, outcome: Outcome) -> Report {
    (Arc::clone(&board.targets(NODES[0])[0]), outcome)
}

fn answered(board: &Board, pod: &str) -> Report {
    answered_on(board, NODES[0], pod)
}

fn answered_on(board: &Board, node: &str, pod: &str) -> Report {
    let target = Arc::clone(&board.targets(node)[0]);
    (target, Outcome::Answered(pod.to_owned()))
}

fn silent(board: &Board) -> Report {
    report(board, Outcome::Silent("timed out".to_owned()))
}

fn row(board: &Board) -> &Row {
    board.rows().next().unwrap().1
}

fn counts(board: &Board) -> Vec<(String, u64)> {
    row(board).counts()
}

#[test]
fn answers_of_all_endpoints_to_all_clients_make_a_row_ok() {
    let (mut board, mut clock) = board(&[frontend("web", &[1, 2])]);
    assert_eq!(row(&board).state(), State::Waiting);
    for (node, pod) in NODES.into_iter().flat_map(|n| [(n, "pod-1"), (n, "pod-2")]) {
        assert!(!board.is_well());
        board.enter(clock.tick(), answered_on(&board, node, pod));
        assert_ne!(row(&board).state(), State::Waiting);
    }
    assert_eq!(row(&board).state(), State::Ok);
    assert!(board.is_well());
}

#[test]
fn rule_68_clients_with_affinity_stay_with_one_endpoint_each() {
    let web = Frontend {
        affinity: 60,
        ..frontend("web", &[1, 2])
    };
    let (mut board, mut clock) = board(std::slice::from_ref(&web));
    for (node, pod) in [
        (NODES[0], "pod-1"),
        (NODES[1], "pod-2"),
        (NODES[0], "pod-1"),
    ] {
        assert!(!board.is_well() || node == NODES[0]);
        board.enter(clock.tick(), answered_on(&board, node, pod));
    }
    assert!(board.is_well());
    board.enter(clock.tick(), answered(&board, "pod-2"));
    board.merge(listing(clock.tick(), std::slice::from_ref(&web)));
    assert_eq!(
        board.failures(),
        ["default/web: pod-2 answered a client that had been with another endpoint"]
    );
}

#[test]
fn rule_70_a_client_whose_endpoint_left_may_go_to_another() {
    let web = |endpoints| Frontend {
        affinity: 60,
        ..frontend("web", endpoints)
    };
    let (mut board, mut clock) = board(&[web(&[1, 2])]);
    board.enter(clock.tick(), answered(&board, "pod-1"));
    board.merge(listing(clock.tick(), &[web(&[2])]));
    board.enter(clock.tick(), answered(&board, "pod-2"));
    board.merge(listing(clock.tick(), &[web(&[2])]));
    assert!(board.failures().is_empty());
}

#[test]
fn counters_are_summed_over_nodes() {
    let (board, _) = board(&[frontend("web", &[1])]);
    let traffic = row(&board).traffic;
    let counted = (traffic.flows, traffic.packets_in, traffic.packets_out);
    assert_eq!(counted, (2, 4, 6));
}

#[test]
fn frontends_come_and_go_with_their_targets() {
    let (mut board, mut clock) = board(&[frontend("a", &[1])]);
    board.merge(listing(
        clock.tick(),
        &[frontend("a", &[1]), frontend("b", &[2])],
    ));
    assert_eq!(board.rows().len(), 2);
    assert_eq!(board.targets(NODES[1]).len(), 2);
    board.merge(listing(clock.tick(), &[frontend("b", &[2])]));
    assert_eq!(board.rows().len(), 1);
    assert_eq!(board.targets(NODES[1])[0].key.service(), "default/b");
    board.merge(listing(clock.tick(), &[]));
    assert!(board.targets(NODES[1]).is_empty());
    assert!(!board.is_well());
}

#[test]
fn endpoint_that_left_takes_its_count_along_and_others_keep_theirs() {
    let (mut board, mut clock) = board(&[frontend("web", &[1, 2])]);
    for pod in ["pod-1", "pod-2"] {
        board.enter(clock.tick(), answered(&board, pod));
    }
    board.merge(listing(clock.tick(), &[frontend("web", &[2, 3])]));
    let expected = [("pod-2".to_owned(), 1), ("pod-3".to_owned(), 0)];
    assert_eq!(counts(&board), expected);
    assert_eq!(row(&board).state(), State::Incomplete);
}

#[test]
fn endpoint_that_comes_back_starts_from_nothing() {
    let (mut board, mut clock) = board(&[frontend("web", &[1])]);
    board.enter(clock.tick(), answered(&board, "pod-1"));
    for endpoints in [&[][..], &[1]] {
        board.merge(listing(clock.tick(), &[frontend("web", endpoints)]));
    }
    assert_eq!(counts(&board), [("pod-1".to_owned(), 0)]);
}

#[test]
fn failures_of_a_board_without_memory_limit_stay() {
    let (mut board, mut clock) = board(&[frontend("web", &[1])]);
    board.memory = None;
    board.enter(clock.tick(), report(&board, Outcome::Wrong("odd".into())));
    board.forget(clock.tick() + Duration::from_secs(3600));
    assert_eq!(board.failures(), ["default/web: odd"]);
}

#[test]
fn frontend_without_endpoints_is_well_once_nothing_came_back() {
    let (mut board, mut clock) = board(&[frontend("web", &[])]);
    assert_eq!(row(&board).state(), State::NoEndpoints);
    assert!(!board.is_well());
    board.enter(clock.tick(), silent(&board));
    assert!(board.is_well());
}

#[test]
fn each_node_is_judged_by_its_own_list() {
    let mut clock = Clock(Instant::now());
    let mut board = Board::new(around(), None);
    let reading = |began| Listing {
        began,
        nodes: BTreeMap::from([
            ("node-1".to_owned(), vec![frontend("web", &[1])]),
            ("node-2".to_owned(), vec![frontend("web", &[2])]),
        ]),
        problem: None,
    };
    board.merge(reading(clock.tick()));
    let from = |board: &Board, node| Arc::clone(&board.targets(node)[0]);
    let answer = || Outcome::Answered("pod-2".to_owned());
    board.enter(clock.tick(), (from(&board, "node-2"), answer()));
    board.enter(clock.tick(), (from(&board, "node-1"), answer()));
    board.merge(reading(clock.tick()));
    assert_eq!((row(&board).ok, row(&board).failures.len()), (1, 1));
    assert_eq!(row(&board).expected().len(), 2);
}
