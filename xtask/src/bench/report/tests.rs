//! A report survives its file, and says what is true of its rows.

use super::*;

pub fn row() -> Row {
    Row {
        what: "TCP IPv4, 1 stream".to_owned(),
        at: None,
        unit: "Gbit/s".to_owned(),
        more_is_better: true,
        rounds: [
            ("direct".to_owned(), vec![10.0, 20.0, 30.0]),
            ("duolb (bpf)".to_owned(), vec![9.0, 19.0, 27.0]),
        ]
        .into(),
        missing: [(
            "kube-proxy iptables".to_owned(),
            "iptables-legacy is missing".to_owned(),
        )]
        .into(),
    }
}

pub fn report() -> Report {
    Report {
        machine: Machine {
            processor: "a processor".to_owned(),
            processors: 2,
            kernel: "6.18".to_owned(),
            memory: 24 << 30,
            load: "0.10".to_owned(),
            congestion: "bbr".to_owned(),
        },
        began: 1_795_000_000,
        full: false,
        sections: vec![Section {
            name: "throughput".to_owned(),
            title: "How fast streams are".to_owned(),
            rows: vec![row()],
            gates: vec![
                row().gate("G3", "duolb (bpf)", "direct", 0.90),
                row().gate("G3", "duolb (bpf)", "kube-proxy iptables", 1.10),
            ],
            notes: vec!["checksums are right".to_owned()],
        }],
    }
}

#[test]
fn a_gate_compares_the_medians_of_the_rounds_ratios() {
    let gate = row().gate("G3", "duolb (bpf)", "direct", 0.90);
    assert_eq!(gate.value.unwrap().median, 0.9);
    assert_eq!(gate.is_met(), Some(true));
    let mut slower = row();
    slower.more_is_better = false;
    assert_eq!(
        slower.gate("G4", "direct", "duolb (bpf)", 1.0).is_met(),
        Some(false)
    );
}

#[test]
fn what_was_not_measured_meets_no_gate_and_fails_none() {
    let gate = row().gate("G3", "duolb (bpf)", "kube-proxy iptables", 1.1);
    assert_eq!(gate.is_met(), None);
}

#[test]
fn a_report_is_the_same_after_a_way_through_its_file() {
    let text = serde_json::to_string(&report()).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
}
