//! What a large cluster weighs in the index.
//!
//! It is measured in a process of its own, since tests that run beside it would be weighed as well.

use std::{env, fs, process::Command};

use duolb::{
    control::index::Index,
    model::{Conditions, EndpointSlice, Hints, ObjectKey, Protocol, SliceEndpoint, SlicePort},
    source::Event,
};
use lb_common::address::Family;

const SLICES: u16 = 10_000;
const ENDPOINTS: u8 = 100;

/// KiB of this process that are in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
    size.expect("a size in kB")
        .trim()
        .parse()
        .expect("a number")
}

fn slice(i: u16) -> EndpointSlice {
    let [high, low] = i.to_be_bytes();
    let endpoint = |host| SliceEndpoint {
        address: [10, high, low, host].into(),
        conditions: Conditions::default(),
        node: Some(format!("worker-{}", host % 50)),
        hints: Hints {
            nodes: Vec::new(),
            zones: vec![format!(
                "region-1{}",
                ['a', 'b', 'c'][usize::from(host % 3)]
            )],
        },
    };
    EndpointSlice {
        key: ObjectKey::new(format!("team-{}", i % 100), format!("service-{i}-x7k2p")),
        service: format!("service-{i}"),
        family: Family::V4,
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: (0..ENDPOINTS).map(endpoint).collect(),
        triggered: None,
    }
}

#[test]
fn a_million_endpoints_in_ten_thousand_services_weigh_less_than_14_mb() {
    let this = env::current_exe().expect("the path of this program");
    let weigh = ["--exact", "memory::weigh", "--ignored", "--nocapture"];
    let output = Command::new(this).args(weigh).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let weight = text.lines().find_map(|line| line.split_once("KiB: "));
    let weight: u64 = weight
        .expect("a weight")
        .1
        .trim()
        .parse()
        .expect("a number");
    eprintln!("{weight} KiB");
    assert!((7_800..14_000).contains(&weight), "{weight} KiB");
}

#[test]
#[ignore = "is run by the test above, in a process of its own"]
fn weigh() {
    // What comes and goes leaves its room behind; it is there before the index is.
    drop(std::hint::black_box(slice(0)));
    let before = resident();
    let mut index = Index::new("worker-1");
    for i in 0..SLICES {
        index.apply(Event::ApplySlice(slice(i)));
    }
    println!("KiB: {}", resident() - before);
    drop(index);
}
