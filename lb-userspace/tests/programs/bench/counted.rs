//! What a packet calls the kernel for by the way that it goes: the same packets that `paths` times, one at a time.

use std::{collections::BTreeMap, thread, time::Duration};

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use duolb::datapath::{features::Features, object::XDP_PROGRAM};

use super::{
    calls::{Calls, Counters},
    paths::{How, Path, open, paths_of_tc, paths_of_xdp, refuse_anew},
    stay,
};
use crate::{
    kernel::Kernel,
    packet::{Net, both},
    xdp,
};

/// How often each packet goes; the least counts.
const TRIES: u32 = 8;
/// More than a tick of the flow clock: datagrams look for their frontends as long as those have changed in this one.
const TICK: Duration = Duration::from_secs(2);

/// By the path, with its family: the calls of each packet. `None`, saying why, if they cannot be counted here.
pub fn count() -> Option<BTreeMap<String, Calls>> {
    stay();
    let mut all = BTreeMap::new();
    let counters = Counters::start()?;
    for net in both() {
        let mut kernel = Kernel::load()?;
        let paths = paths_of_tc(&mut kernel, &net);
        open(&mut kernel, &net);
        thread::sleep(TICK);
        for path in paths {
            open(&mut kernel, &net);
            all.extend(count_path(&mut kernel, &counters, &net, &path));
        }
    }
    drop(counters);
    if !Features::of_kernel().xdp_frags {
        return Some(all);
    }
    // In a namespace of the thread's own.
    let of_xdp = thread::spawn(|| {
        stay();
        let counters = Counters::start()?;
        let mut kernel = xdp::load()?;
        let mut all = BTreeMap::new();
        for net in both() {
            let paths = paths_of_xdp(&mut kernel, &net);
            thread::sleep(TICK);
            for path in paths {
                all.extend(count_path(&mut kernel, &counters, &net, &path));
            }
        }
        Some(all)
    });
    all.extend(of_xdp.join().unwrap()?);
    Some(all)
}

/// The least that each packet of a path takes; every single one must end as it should.
fn count_path(
    kernel: &mut Kernel,
    counters: &Counters,
    net: &Net,
    path: &Path,
) -> BTreeMap<String, Calls> {
    let mut least = BTreeMap::new();
    let before = kernel.verdicts();
    let mut runs = 0;
    for turn in 0..TRIES {
        if matches!(path.how, How::Alone(_)) {
            refuse_anew(kernel);
        }
        let packets = path.packets(turn);
        for (at, packet) in packets.iter().enumerate() {
            let what = path.what.trim_end_matches(", each");
            let mut name = format!("{} {what}", net.name);
            if packets.len() > 1 {
                name += [", first", ", later"][at.min(1)];
            }
            let calls = counters.of(|| run(kernel, path.program, packet));
            let entry = least.entry(name).or_insert(calls);
            for (least, now) in entry.iter_mut().zip(calls) {
                *least = now.min(*least);
            }
            runs += 1;
        }
    }
    path.check(&before, &kernel.verdicts(), runs);
    least
}

fn run(kernel: &mut Kernel, name: &str, packet: &[u8]) {
    let mut after = vec![0; packet.len() + 128];
    let options = TestRunOptions {
        data_in: Some(packet),
        data_out: Some(&mut after),
        ..TestRunOptions::new()
    };
    let program = kernel.object.program_mut(name).unwrap();
    if name == XDP_PROGRAM {
        let program: &mut Xdp = program.try_into().unwrap();
        program.test_run(options).unwrap();
    } else {
        let program: &mut SchedClassifier = program.try_into().unwrap();
        program.test_run(options).unwrap();
    }
}
