//! Packets from outside for an endpoint on another node, as many a second as one CPU sends on: by the least program that
//! there is, by duolb's, and by kube-proxy's rules in the stack.
//!
//! The kernel itself makes the packets (`BPF_F_TEST_XDP_LIVE_FRAMES`): each goes to `restore_xdp` as if it had come in by
//! the uplink, and what becomes of it really happens. What arrives at the other end of the uplink counts. Each way has a
//! namespace of its own, since rules are one's own as well.

use std::{
    fs::File,
    process::Command,
    time::{Duration, Instant},
};

use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use duolb::datapath::object::Sizes;
use lb_common::tables::Device;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use super::stand::{Own, Row, Stand, Varies};
use crate::{
    kernel::{Kernel, SMALL},
    packet::{Frame, Net, UDP, both},
    xdp,
};

/// Frames that are made by one call.
const FRAMES: u32 = 32_768;
/// Room for the entries of all flows, four each, and as much again: where it is too small, every packet opens its flow.
const TABLE: u32 = 524_288;
const PAYLOAD: [u8; 64] = [0x61; 64];

/// How packets are sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Redirect,
    Duolb,
    Nftables,
    Iptables,
}

impl Way {
    const ALL: [Self; 4] = [Self::Redirect, Self::Duolb, Self::Nftables, Self::Iptables];

    const fn name(self) -> &'static str {
        match self {
            Self::Redirect => "a bare redirect",
            Self::Duolb => "duolb (XDP)",
            Self::Nftables => "kube-proxy nftables",
            Self::Iptables => "kube-proxy iptables",
        }
    }
}

/// A node in a namespace, with what it sends packets on by.
struct Node {
    way: Way,
    netns: File,
    kernel: Kernel,
    stand: Stand,
    uplink: u32,
}

fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.unwrap_or_else(|why| panic!("{}: {why}", command[0]));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

impl Node {
    /// In a new namespace, which the thread is in from then on. `rules` is a directory with a file for each tool.
    fn start(way: Way, rules: &str) -> Option<Self> {
        let sizes = Sizes {
            flows: TABLE,
            // Each round writes its endpoints anew.
            slots: 4_096,
            ..SMALL
        };
        let kernel = xdp::load_on(Device::XDP_NATIVE, sizes)?;
        let mut stand = Stand::load(1024);
        // The driver takes frames for its peer only if that has a program too, or merges packets.
        run(&["ethtool", "-K", "far", "gro", "on"]);
        let program: &mut Xdp = stand.program("empty_xdp");
        program.attach("up0", XdpMode::Driver).unwrap();
        for net in both() {
            for endpoint in net.endpoints {
                xdp::learn(endpoint.ip(), xdp::ENDPOINT.0);
            }
        }
        for (key, value) in [
            // Only the first packet's checksum is right: the others differ in their port.
            ("netfilter/nf_conntrack_checksum", "0"),
            ("netfilter/nf_conntrack_max", "262144"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/up0/send_redirects", "0"),
        ] {
            // Where there is no conntrack, nobody minds.
            let _ = std::fs::write(format!("/proc/sys/net/{key}"), value);
        }
        match way {
            Way::Nftables => {
                for family in ["v4", "v6"] {
                    run(&["nft", "-f", &format!("{rules}/nft-{family}")]);
                }
                let _ = std::fs::write("/proc/sys/net/netfilter/nf_conntrack_checksum", "0");
            }
            Way::Iptables => {
                for (tool, family) in [
                    ("iptables-legacy-restore", "v4"),
                    ("ip6tables-legacy-restore", "v6"),
                ] {
                    run(&[tool, &format!("{rules}/iptables-{family}")]);
                }
                let _ = std::fs::write("/proc/sys/net/netfilter/nf_conntrack_checksum", "0");
            }
            Way::Redirect | Way::Duolb => {}
        }
        Some(Self {
            way,
            netns: File::open("/proc/thread-self/ns/net").unwrap(),
            kernel,
            stand,
            uplink: nix::net::if_::if_nametoindex("up0").unwrap(),
        })
    }

    /// Packets a second that arrive, of one flow or of many; and how many of a packet arrive.
    fn rate(&mut self, net: &Net, flows: u32, time: Duration) -> [f64; 2] {
        setns(&self.netns, CloneFlags::CLONE_NEWNET).unwrap();
        self.kernel.serve(net.vip, 2, &net.endpoints);
        let frame = Frame::of(UDP, net.client, net.vip, 0).payload(&PAYLOAD);
        let mut packet = frame.bytes();
        packet[..6].copy_from_slice(&xdp::OWN.1);
        let varies = Varies {
            at: if net.is_v6 { 54 } else { 34 },
            first: (1024 << 16) | u32::from(net.vip.port()),
            count: flows,
            step: 1 << 16,
        };
        let row = Row {
            packets: vec![packet],
            varies,
            out: self.uplink,
        };
        let object = &mut self.kernel.object;
        match self.way {
            Way::Redirect => self.stand.set(Own::RedirectXdp, &row),
            Way::Duolb => self.stand.set_datapath(object, &row),
            Way::Nftables | Way::Iptables => self.stand.set(Own::EmptyXdp, &row),
        }
        // Every flow is known before the clock runs.
        let mut sent = 0;
        while sent < flows {
            self.send(&row);
            sent += FRAMES;
        }
        if self.way == Way::Duolb {
            let entries = self.kernel.flows.tuples(net.vip).len();
            assert!(
                entries >= 4 * flows as usize * 99 / 100,
                "{entries} entries of {flows} flows"
            );
        }
        let (before, start) = (arrived(), Instant::now());
        let mut frames = 0;
        while start.elapsed() < time {
            self.send(&row);
            frames += FRAMES;
        }
        let took = start.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "there are not 2^52 of them")]
        let count = (arrived() - before) as f64;
        [count / took, count / f64::from(frames)]
    }

    fn send(&mut self, row: &Row) {
        // struct xdp_md (uapi/linux/bpf.h): the packet's end, and the device that it comes in by.
        let length = u32::try_from(row.packets[0].len()).unwrap();
        let context: Vec<u8> = [0, length, 0, self.uplink, 0, 0]
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .collect();
        let options = TestRunOptions {
            data_in: Some(&row.packets[0]),
            ctx_in: Some(&context),
            repeat: FRAMES,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::new()
        };
        let program: &mut Xdp = self.stand.program("restore_xdp");
        program.test_run(options).unwrap();
    }
}

/// Packets that have come in at the uplink's other end.
fn arrived() -> u64 {
    let told: Value =
        serde_json::from_str(&run(&["ip", "-j", "-s", "link", "show", "far"])).unwrap();
    told[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}

/// All ways, a round of all after the other; those that cannot be set up say why.
pub fn measure(rounds: u32, milliseconds: u64, flows: u32, rules: &str) -> Value {
    let rules = rules.to_owned();
    let work = move || -> Vec<Value> {
        super::stay();
        let mut nodes: Vec<_> = Way::ALL
            .into_iter()
            .filter_map(|way| Node::start(way, &rules))
            .collect();
        let mut rows = Vec::new();
        for net in both() {
            let mut rates = vec![vec![]; nodes.len()];
            for _ in 0..rounds {
                for (node, rates) in nodes.iter_mut().zip(&mut rates) {
                    rates.push(node.rate(&net, flows, Duration::from_millis(milliseconds)));
                }
            }
            let ways: serde_json::Map<_, _> = (nodes.iter().zip(rates))
                .map(|(node, rates)| (node.way.name().to_owned(), json!(rates)))
                .collect();
            rows.push(json!({"family": net.name, "ways": ways}));
        }
        rows
    };
    // A thread of its own, which is left in a namespace.
    let rows = std::thread::spawn(work).join().unwrap();
    json!({"flows": flows, "rows": rows})
}
