//! What `cargo xtask bench` knows of the programs themselves: it runs this test binary, optimised, with an order in
//! `DUOLB_BENCH`, and reads the line of JSON that comes out. xtask itself knows no BPF.
//!
//! ```text
//! DUOLB_BENCH='program 3 established' cargo test -p lb-userspace --test programs -- --ignored --exact --nocapture bench::role
//! ```
//!
//! Times are the kernel's own, of runs by BPF_PROG_TEST_RUN on one CPU, in nanoseconds a run. On a machine that others
//! use as well the fastest of some tries counts; the others were disturbed.

pub mod calls;
mod control;
mod costs;
pub mod counted;
mod live;
mod paths;
mod repeat;
mod scale;
mod stand;

use std::env;

use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};
use serde_json::{Value, json};

/// The order's name.
const ORDER: &str = "DUOLB_BENCH";

/// Stays on the CPU that it is on: what is counted for each CPU is counted once.
fn stay() {
    let mut here = CpuSet::new();
    here.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &here).unwrap();
}

/// What an order is answered by.
fn answer(order: &str) -> Result<Value, String> {
    let words: Vec<&str> = order.split(' ').collect();
    let number = |word: &str| word.parse::<u32>().map_err(|why| format!("{word}: {why}"));
    match words[..] {
        ["program", rounds, ref only @ ..] => Ok(paths::measure(number(rounds)?, &only.join(" "))),
        ["repeat", seconds, ref path @ ..] => Ok(repeat::repeat(number(seconds)?, &path.join(" "))),
        ["scale", rounds, sizes] => {
            let sizes: Result<Vec<_>, _> = sizes.split(',').map(number).collect();
            Ok(scale::measure(number(rounds)?, &sizes?))
        }
        ["control", rounds, services, endpoints] => Ok(control::measure(
            number(rounds)?,
            number(services)?,
            number(endpoints)?,
        )),
        ["live", rounds, milliseconds, flows, rules] => Ok(live::measure(
            number(rounds)?,
            number(milliseconds)?.into(),
            number(flows)?,
            rules,
        )),
        _ => Err(format!("{ORDER}: what is {order:?}?")),
    }
}

#[test]
#[ignore = "not a test: what `cargo xtask bench` runs"]
fn role() {
    let Ok(order) = env::var(ORDER) else {
        return;
    };
    stay();
    println!(
        "{}",
        answer(&order).unwrap_or_else(|why| json!({"error": why}))
    );
}

#[test]
fn each_path_ends_in_its_verdict_every_time_that_it_is_timed() {
    stay();
    // It asserts as much itself.
    let answer = paths::measure(1, "");
    if answer["rows"].as_array().is_some_and(Vec::is_empty) {
        return; // no rights, which has been said
    }
    for row in answer["rows"].as_array().unwrap() {
        let times = row["rounds"][0].as_array().unwrap();
        assert!(times.iter().all(|time| time.as_f64() > Some(0.0)), "{row}");
    }
}
