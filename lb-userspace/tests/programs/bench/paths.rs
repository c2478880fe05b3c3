//! What a packet costs by the way that it goes, beside what an empty program, a lookup and an insert cost in the same
//! minute.

use std::{net::SocketAddr, thread};

use aya::{
    maps::{PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use duolb::datapath::{
    features::Features,
    object::{Sizes, XDP_PROGRAM},
};
use lb_common::{
    address::{V4, V6},
    flow::{Flow, FlowKey},
    tables::VipRange,
    verdict::Verdict,
};
use serde_json::{Value, json};

use super::{
    costs,
    stand::{KeyV4, KeyV6, Own, RUNS, Row, Stand, TRIES, Varies, time_alone},
    stay,
};
use crate::{
    kernel::{Egress, Ingress, Kernel, SMALL},
    packet::{Frame, Net, TCP, UDP, both, flag},
    xdp,
};

// Calibrators look for keys and insert values as long as those of flows.
const _: () = assert!(size_of::<KeyV4>() == size_of::<FlowKey<V4>>());
const _: () = assert!(size_of::<KeyV6>() == size_of::<FlowKey<V6>>());
const _: () = assert!(size_of::<[u32; 7]>() <= size_of::<Flow<V4>>());

const NEW: &str = "new connection";
const WEB: u32 = 2;
const STICKY: u32 = 3;
const EMPTY: u32 = 4;
/// Entries of the flow tables, as the agent makes them by default.
pub const FLOWS: u32 = 262_144;
/// Bytes that make every packet long enough to be restored.
const PAYLOAD: [u8; 64] = [0x61; 64];
/// Runs of what is timed alone: fewer than are refused in a tick.
const ALONE: u32 = 200;
/// How much of that limit is spent.
const SPENT: &str = "REJECTS";
/// New clients come from addresses that nobody else has.
const NEW_CLIENTS: u32 = 0x0b00_0000;

/// How a path is timed.
pub enum How {
    /// In a row of runs that begin with the same packets.
    Row(Row),
    /// A run at a time.
    Alone(Vec<u8>),
}

/// What is timed.
pub struct Path {
    pub what: &'static str,
    pub program: &'static str,
    pub how: How,
    /// What becomes of every packet; `None`: it is none of ours.
    verdict: Option<Verdict>,
    /// Nanoseconds, round by round: the path itself, nothing, a lookup, an insert.
    rounds: Vec<[f64; 4]>,
}

impl Path {
    fn new(
        what: &'static str,
        program: &'static str,
        packets: Vec<Frame>,
        verdict: impl Into<Option<Verdict>>,
    ) -> Self {
        let row = Row {
            packets: packets.iter().map(Frame::bytes).collect(),
            ..Row::default()
        };
        Self {
            what,
            program,
            how: How::Row(row),
            verdict: verdict.into(),
            rounds: vec![],
        }
    }

    fn varies(mut self, varies: Varies) -> Self {
        if let How::Row(row) = &mut self.how {
            row.varies = varies;
        }
        self
    }

    fn alone(mut self) -> Self {
        if let How::Row(row) = self.how {
            self.how = How::Alone(row.packets[0].clone());
        }
        self
    }

    /// Times it once more; every single packet must have ended as it should.
    pub fn time(&mut self, kernel: &mut Kernel, stand: &mut Stand) -> f64 {
        if matches!(self.how, How::Alone(_)) {
            refuse_anew(kernel);
        }
        let before = kernel.verdicts();
        let (time, runs) = match &self.how {
            How::Row(row) => (
                stand.time(&mut kernel.object, self.program, row),
                u64::from(RUNS * TRIES),
            ),
            How::Alone(packet) => (
                time_alone(&mut kernel.object, self.program, packet, ALONE),
                u64::from(ALONE),
            ),
        };
        self.check(&before, &kernel.verdicts(), runs);
        time
    }

    /// Sees to it that every run since verdicts were counted has ended as it should.
    pub fn check(&self, before: &[u64], after: &[u64], runs: u64) {
        for ((verdict, before), after) in Verdict::ALL.iter().zip(before).zip(after) {
            let (what, count) = (self.what, after - before);
            if self.verdict == Some(*verdict) {
                assert!(count >= runs, "{what}: {count} of {runs}");
            } else {
                assert_eq!(count, 0, "{what}: {verdict:?}");
            }
        }
    }

    /// The packets of a turn, as the stand would make them.
    pub fn packets(&self, turn: u32) -> Vec<Vec<u8>> {
        let row = match &self.how {
            How::Alone(packet) => return vec![packet.clone()],
            How::Row(row) => row,
        };
        let mut packets = row.packets.clone();
        let Varies {
            at, first, step, ..
        } = row.varies;
        if at != 0 {
            let (at, word) = (at as usize, first.wrapping_add(turn.wrapping_mul(step)));
            for packet in &mut packets {
                packet[at..at + 4].copy_from_slice(&word.to_be_bytes());
            }
        }
        packets
    }
}

/// As if nothing had been refused in this tick.
pub fn refuse_anew(kernel: &mut Kernel) {
    let spent = kernel.object.map_mut(SPENT).unwrap();
    let mut spent: PerCpuArray<_, u64> = spent.try_into().unwrap();
    let zeros = PerCpuValues::try_from(vec![0; nr_cpus().unwrap()]).unwrap();
    spent.set(0, zeros, 0).unwrap();
}

fn frame(proto: u8, from: SocketAddr, to: SocketAddr, flags: u8) -> Frame {
    Frame::of(proto, from, to, flags).payload(&PAYLOAD)
}

/// Offset of the word in the source address that tells new clients apart, and of both ports.
fn offsets(net: &Net) -> (u32, u32) {
    if net.is_v6 { (34, 54) } else { (26, 34) }
}

/// Clients that nobody has seen, one after the other.
fn new_clients(net: &Net) -> Varies {
    Varies {
        at: offsets(net).0,
        first: NEW_CLIENTS,
        count: u32::MAX,
        step: 1,
    }
}

/// Has the client's flows open, and answered, after which nothing is left to be noted. New ones push them out.
pub fn open(kernel: &mut Kernel, net: &Net) {
    let endpoint = net.endpoint();
    for (proto, flags) in [(TCP, flag::SYN), (TCP, flag::ACK), (UDP, 0)] {
        kernel.pass("opens", &frame(proto, net.client, net.vip, flags), endpoint);
        let answer = frame(proto, endpoint, net.client, flags | flag::ACK);
        kernel.run(Egress, &answer.bytes());
    }
}

/// The paths through TC, with what they need in the tables.
pub fn paths_of_tc(kernel: &mut Kernel, net: &Net) -> Vec<Path> {
    let whole = if net.is_v6 { 128 } else { 32 };
    let vips = VipRange::<()>::VIPS;
    kernel.tables.write_ranges(&[
        (net.vip.ip(), whole, vips | VipRange::<()>::SERVICE_CIDR),
        (net.router, whole, vips),
    ]);
    let endpoint = net.endpoint();
    let sticky = SocketAddr::new(net.vip.ip(), 81);
    let empty = SocketAddr::new(net.vip.ip(), 82);
    kernel.serve(net.vip, WEB, &[endpoint]);
    kernel.stick(sticky, STICKY, &[endpoint], 10_800);
    kernel.serve(empty, EMPTY, &[]);
    let (ingress, egress) = (Ingress.program(), Egress.program());
    let to_vip = |proto, flags| vec![frame(proto, net.client, net.vip, flags)];
    let back = |proto| vec![frame(proto, endpoint, net.client, flag::ACK)];
    // The client stays, its port goes up.
    let new_ports = Varies {
        at: offsets(net).1,
        first: u32::from(sticky.port()),
        count: u32::MAX,
        step: 1 << 16,
    };
    let long = Frame::udp(net.client, net.vip).payload(&[0x62; 120]);
    vec![
        Path::new(
            "miss",
            ingress,
            vec![frame(TCP, net.client, net.stranger, flag::ACK)],
            None,
        ),
        Path::new(
            "miss, leaving",
            egress,
            vec![frame(TCP, net.client, net.stranger, flag::ACK)],
            None,
        ),
        Path::new(
            "established",
            ingress,
            to_vip(TCP, flag::ACK),
            Verdict::Dnat,
        ),
        Path::new("established, back", egress, back(TCP), Verdict::RevNat),
        Path::new("UDP", ingress, to_vip(UDP, 0), Verdict::Dnat),
        Path::new("UDP, back", egress, back(UDP), Verdict::RevNat),
        Path::new(NEW, ingress, to_vip(TCP, flag::SYN), Verdict::Dnat).varies(new_clients(net)),
        Path::new("new UDP flow", ingress, to_vip(UDP, 0), Verdict::Dnat).varies(new_clients(net)),
        Path::new(
            "new connection, affinity",
            ingress,
            vec![frame(TCP, net.neighbour, sticky, flag::SYN)],
            Verdict::Dnat,
        )
        .varies(new_ports),
        Path::new(
            "fragments, each",
            ingress,
            long.pieces(7, 64),
            Verdict::Dnat,
        ),
        Path::new(
            "reject, TCP",
            ingress,
            vec![frame(TCP, net.client, empty, flag::SYN)],
            Verdict::NoEndpoint,
        )
        .alone(),
        Path::new(
            "reject, UDP",
            ingress,
            vec![frame(UDP, net.client, empty, 0)],
            Verdict::NoEndpoint,
        )
        .alone(),
    ]
}

/// The paths through XDP: a known flow to another node.
pub fn paths_of_xdp(kernel: &mut Kernel, net: &Net) -> Vec<Path> {
    let node = xdp::talk(kernel, "opens", net, UDP, 0);
    let sent = frame(UDP, net.client, net.vip, 0);
    let answer = frame(UDP, net.endpoint(), node, 0);
    vec![
        Path::new(
            "XDP, to another node",
            XDP_PROGRAM,
            vec![sent],
            Verdict::XdpToEndpoint,
        ),
        Path::new("XDP, back", XDP_PROGRAM, vec![answer], Verdict::XdpToClient),
    ]
}

/// Times all paths of a family, a round after the other, and between them what they are held against.
fn time(kernel: &mut Kernel, net: &Net, paths: &mut [Path], rounds: u32) {
    let is_v6 = net.is_v6;
    let mut stand = Stand::load(FLOWS);
    let known = Row::of(frame(TCP, net.client, net.vip, flag::ACK).bytes());
    stand.learn(&known.packets[0], is_v6);
    let fresh = Row {
        varies: new_clients(net),
        ..known.clone()
    };
    let opening = Row {
        varies: new_clients(net),
        ..Row::of(frame(TCP, net.client, net.vip, flag::SYN).bytes())
    };
    // Both tables are full, as they are on a node that has run for a while: every insert pushes something out.
    stand.go_on_own(Own::Insert { is_v6 }, &fresh, 2 * FLOWS);
    let has_new = paths.iter().any(|path| path.what == NEW);
    let has_xdp = paths.iter().any(|path| path.program == XDP_PROGRAM);
    if has_new {
        stand.go_on(&mut kernel.object, Ingress.program(), &opening, FLOWS);
    }
    for _ in 0..rounds {
        if has_new {
            open(kernel, net);
        }
        let nothing = stand.time_own(Own::Empty, &known);
        let nothing_xdp = if has_xdp {
            stand.time_own(Own::EmptyXdp, &known)
        } else {
            0.0
        };
        let alone = time_alone(&mut kernel.object, "clock", &known.packets[0], ALONE);
        let lookup = stand.time_own(Own::Lookup { is_v6 }, &known) - nothing;
        let insert = stand.time_own(Own::Insert { is_v6 }, &fresh) - nothing;
        for path in &mut *paths {
            let time = path.time(kernel, &mut stand);
            let floor = match path.how {
                How::Alone(_) => alone,
                How::Row(_) if path.program == XDP_PROGRAM => nothing_xdp,
                How::Row(_) => nothing,
            };
            path.rounds.push([time, floor, lookup, insert]);
        }
    }
}

fn rows(net: &Net, paths: Vec<Path>) -> impl Iterator<Item = Value> {
    paths.into_iter().map(move |path| {
        let is_alone = matches!(path.how, How::Alone(_));
        json!({
            "what": format!("{} {}", net.name, path.what),
            "alone": is_alone,
            "rounds": path.rounds,
        })
    })
}

/// All paths of both families; with `only`, those whose name that is.
pub fn measure(rounds: u32, only: &str) -> Value {
    let sizes = Sizes {
        flows: FLOWS,
        ..SMALL
    };
    let only = only.to_owned();
    let is_asked = move |path: &Path| only.is_empty() || path.what == only;
    let mut all = Vec::new();
    for net in both() {
        let Some(mut kernel) = Kernel::load_sized(sizes) else {
            return json!({"rows": []});
        };
        let mut paths = paths_of_tc(&mut kernel, &net);
        paths.retain(&is_asked);
        time(&mut kernel, &net, &mut paths, rounds);
        all.extend(rows(&net, paths));
    }
    if !Features::of_kernel().xdp_frags {
        return json!({"rows": all, "costs": costs::costs()});
    }
    // In a namespace of the thread's own.
    let of_xdp = thread::spawn(move || {
        stay();
        let mut all = Vec::new();
        let mut kernel = xdp::load()?;
        for net in both() {
            let mut paths = paths_of_xdp(&mut kernel, &net);
            paths.retain(&is_asked);
            time(&mut kernel, &net, &mut paths, rounds);
            all.extend(rows(&net, paths));
        }
        Some(all)
    });
    all.extend(of_xdp.join().unwrap().unwrap_or_default());
    json!({"rows": all, "costs": costs::costs()})
}
