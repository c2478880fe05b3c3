//! What the programs ask of the kernel at hand, and how long a packet takes; `ratchet` holds the former against what is
//! committed.

use std::time::{Duration, Instant};

use aya::programs::{Program, ProgramError, ProgramInfo, TestRun as _, TestRunOptions};
use duolb::datapath::{cgroup, features::Features, object};
use lb_common::tables::VipRange;

use crate::{
    kernel::{Ingress, Kernel, slowness},
    packet::{Frame, TCP, UDP, both, flag},
};

/// Prints what `cargo xtask vm` makes its tables of: a line for each thing the kernel lacks, and for each program.
#[test]
fn each_program_loads_and_says_what_it_costs() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for fallback in Features::of_kernel().fallbacks() {
        println!("kernel: {fallback}");
    }
    let tc = object::PROGRAMS.iter().chain(object::IP_PROGRAMS);
    let others = cgroup::PROGRAMS.iter().chain([&object::XDP_PROGRAM]);
    let mut refused = Vec::new();
    for name in tc.chain(others) {
        let start = Instant::now();
        let info = match load_anew(kernel.object.program_mut(name).unwrap()) {
            Ok(info) => info,
            Err(error) if *name == object::XDP_PROGRAM && !Features::of_kernel().xdp_frags => {
                println!("{name} skipped: {error}");
                continue;
            }
            // The others are told of all the same.
            Err(error) => {
                refused.push(format!("{name}: {error}"));
                continue;
            }
        };
        let took = start.elapsed().as_millis();
        // Kernels before 5.16 do not say.
        let verified = info.verified_instruction_count().unwrap_or(0);
        let jited = info.size_jitted();
        println!("cost: {name} verified={verified} jited={jited} load_ms={took}");
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Loads the program, once more if it is loaded already.
pub fn load_anew(program: &mut Program) -> Result<ProgramInfo, ProgramError> {
    match program {
        Program::SchedClassifier(program) => {
            let _ = program.unload(); // fails where another test has not loaded it
            program.load()?;
            program.info()
        }
        Program::CgroupSockAddr(program) => {
            let _ = program.unload();
            program.load()?;
            program.info()
        }
        Program::Xdp(program) => {
            let _ = program.unload();
            program.load()?;
            program.info()
        }
        _ => panic!("no program of ours is of another kind"),
    }
}

/// Runs that are timed together, and how often that is done; the fastest counts, the others were disturbed.
const RUNS: u32 = 20_000;
const ROUNDS: usize = 25;

/// How long a run on `frame` takes, which must come out as it went in.
fn time(kernel: &mut Kernel, program: &'static str, frame: &Frame) -> Duration {
    let bytes = frame.bytes();
    let program = object::program(&mut kernel.object, program).unwrap();
    let round = || {
        let mut after = vec![0; bytes.len() + 64];
        let options = TestRunOptions {
            data_in: Some(&bytes),
            data_out: Some(&mut after),
            repeat: RUNS,
            ..TestRunOptions::new()
        };
        let result = program.test_run(options).unwrap();
        assert_eq!(after[..bytes.len()], bytes, "the same packet over and over");
        result.duration
    };
    std::iter::repeat_with(round).take(ROUNDS).min().unwrap()
}

/// An endpoint that has the VIP's own address is translated to like any other, and the packet is the same
/// for the next run.
#[test]
fn a_packet_that_is_none_of_ours_takes_less_time_than_one_that_is() {
    if slowness() > 1 {
        eprintln!("skipped: a processor done in software takes other times than a real one");
        return;
    }
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, 1, &[net.vip]);
        // As a cluster has them: the ServiceCIDR, and addresses that are others' to give.
        let whole = if net.is_v6 { 128 } else { 32 };
        let vips = VipRange::<()>::VIPS;
        kernel.tables.write_ranges(&[
            (net.vip.ip(), whole, vips | VipRange::<()>::SERVICE_CIDR),
            (net.router, whole, vips),
        ]);
        let empty = time(&mut kernel, "clock", &Frame::udp(net.client, net.vip));
        for proto in [TCP, UDP] {
            let of = |flags, to| Frame::of(proto, net.client, to, flags);
            let opens = of(flag::SYN, net.vip);
            kernel.pass("opens", &opens, net.vip);
            let mut timed = |flags, to| {
                time(&mut kernel, Ingress.program(), &of(flags, to)).saturating_sub(empty)
            };
            let none_of_ours = timed(flag::ACK, net.stranger);
            let none_of_ours_syn = timed(flag::SYN, net.stranger);
            let known = timed(flag::ACK, net.vip);
            println!(
                "{} protocol {proto}, above an empty program's {empty:?}: none of ours {none_of_ours:?} \
                 (SYN {none_of_ours_syn:?}), of a known flow {known:?}",
                net.name
            );
            assert!(none_of_ours < known, "{}", net.name);
        }
    }
}
