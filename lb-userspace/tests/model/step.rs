//! What may happen: plain data that means something at any moment, so that a run can be shortened by leaving out any
//! of it.

use std::{fmt, net::SocketAddr};

use rand::{RngExt as _, rngs::SmallRng};

use crate::{
    cast::{self, CLIENT_PORTS, CLIENTS, ENDPOINTS, PORT, VIPS},
    packet::{SCTP, TCP, UDP, flag},
    world::{Endpoint, Service},
};

/// What a packet is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    ClusterIp(u8),
    /// A port of it that is not served.
    OtherPort(u8),
    LoadBalancer(u8),
    External(u8),
    NodePort(u8),
    Unallocated,
    /// An endpoint, without a service.
    Direct(u8),
}

impl To {
    pub fn socket(self, proto: u8, is_v6: bool) -> SocketAddr {
        let (ip, port) = match self {
            Self::ClusterIp(vip) => (cast::cluster_ip(vip, is_v6), PORT),
            Self::OtherPort(vip) => (cast::cluster_ip(vip, is_v6), 81),
            Self::LoadBalancer(vip) => (cast::load_balancer(vip, is_v6), PORT),
            Self::External(vip) => (cast::external(vip, is_v6), PORT),
            Self::NodePort(vip) => (cast::node(is_v6), cast::node_port(vip, proto)),
            Self::Unallocated => (cast::unallocated(is_v6), PORT),
            Self::Direct(endpoint) => return cast::target(endpoint, is_v6),
        };
        SocketAddr::new(ip, port)
    }
}

/// Who talks with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talk {
    pub client: u8,
    pub port: u16,
    pub to: To,
    pub proto: u8,
    pub is_v6: bool,
}

impl Talk {
    /// What the client sends.
    pub fn tuple(&self) -> (SocketAddr, SocketAddr, u8) {
        let client = SocketAddr::new(cast::client(self.client, self.is_v6), self.port);
        (client, self.to.socket(self.proto, self.is_v6), self.proto)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The Service of that number is made, or looks like this now; nothing happens where another one has its addresses.
    Apply(u8, Service),
    Delete(u8),
    /// An endpoint of a Service comes, changes or goes.
    Endpoint(u8, u8, Option<Endpoint>),
    /// The client sends a packet with these TCP flags.
    Send(Talk, u8),
    /// The endpoint that the client talks to answers.
    Answer(Talk, u8),
    /// The endpoint, or else a router on the way, says that a packet of the client went nowhere.
    Error(Talk, bool),
    /// The client says so of an answer.
    Complaint(Talk),
    /// So many seconds pass.
    Wait(u32),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(talk, flags) => {
                write!(f, "client sends {} {flags:#04x}, {:?}", line(talk), talk.to)
            }
            Self::Answer(talk, flags) => write!(f, "answer to {} {flags:#04x}", line(talk)),
            Self::Error(talk, true) => write!(f, "endpoint's ICMP error about {}", line(talk)),
            Self::Error(talk, false) => write!(f, "router's ICMP error about {}", line(talk)),
            Self::Complaint(talk) => write!(f, "client's ICMP error in {}", line(talk)),
            Self::Wait(seconds) => write!(f, "{seconds} s pass"),
            other => fmt::Debug::fmt(other, f),
        }
    }
}

fn line(talk: &Talk) -> String {
    let (client, to, proto) = talk.tuple();
    format!("{client} -> {to}/{proto}")
}

/// The steps of a run: Services first, then whatever happens.
pub fn script(rng: &mut SmallRng, length: usize) -> Vec<Step> {
    let mut script = Vec::with_capacity(length);
    for number in 0..VIPS {
        let service = Service {
            vip: number,
            ..service(rng)
        };
        script.push(Step::Apply(number, service));
        for endpoint in 0..ENDPOINTS {
            if rng.random() {
                script.push(Step::Endpoint(number, endpoint, Some(READY)));
            }
        }
    }
    let mut recent = Vec::new();
    while script.len() < length {
        script.push(random(rng, &mut recent));
    }
    script
}

const READY: Endpoint = Endpoint {
    ready: true,
    serving: true,
    terminating: false,
};

/// Who talked lately, most of whom go on.
const RECENT: usize = 12;

fn random(rng: &mut SmallRng, recent: &mut Vec<Talk>) -> Step {
    match rng.random_range(0..1_000) {
        0..=14 => Step::Apply(rng.random_range(0..VIPS), service(rng)),
        15..=19 => Step::Delete(rng.random_range(0..VIPS)),
        20..=69 => {
            let endpoint = rng.random_ratio(4, 5).then(|| Endpoint {
                ready: rng.random_ratio(3, 4),
                serving: rng.random_ratio(3, 4),
                terminating: rng.random_ratio(1, 3),
            });
            let (service, number) = (rng.random_range(0..VIPS), rng.random_range(0..ENDPOINTS));
            Step::Endpoint(service, number, endpoint)
        }
        70..=549 => {
            let talk = talk(rng, recent);
            Step::Send(talk, flags(rng))
        }
        550..=839 => {
            let flags = [
                flag::SYN | flag::ACK,
                flag::SYN | flag::ACK,
                flag::ACK,
                flag::ACK,
                flag::ACK | flag::FIN,
                flag::RST,
            ];
            let flags = flags[rng.random_range(0..flags.len())];
            Step::Answer(talk(rng, recent), flags)
        }
        840..=909 => Step::Error(talk(rng, recent), rng.random()),
        910..=949 => Step::Complaint(talk(rng, recent)),
        _ => {
            let spans = [1, 1, 1, 5, 5, 20, 50, 70, 130, 200, 4_000, 90_000];
            Step::Wait(spans[rng.random_range(0..spans.len())])
        }
    }
}

fn flags(rng: &mut SmallRng) -> u8 {
    match rng.random_range(0..12) {
        0..=4 => flag::SYN,
        5..=8 => flag::ACK | flag::PSH,
        9 | 10 => flag::ACK | flag::FIN,
        _ => flag::RST,
    }
}

/// One of the recent talks, or a new one; sometimes by the same port to the very endpoint, or to another address.
fn talk(rng: &mut SmallRng, recent: &mut Vec<Talk>) -> Talk {
    if recent.len() == RECENT && rng.random_ratio(4, 5) {
        return recent[rng.random_range(0..RECENT)];
    }
    let mut talk = Talk {
        client: rng.random_range(0..CLIENTS),
        port: CLIENT_PORTS[rng.random_range(0..CLIENT_PORTS.len())],
        to: to(rng),
        proto: match rng.random_range(0..10) {
            0..=5 => TCP,
            6..=8 => UDP,
            _ => SCTP,
        },
        is_v6: rng.random_ratio(1, 3),
    };
    if let Some(last) = recent.last().filter(|_| rng.random_ratio(1, 2)) {
        talk = Talk {
            to: talk.to,
            ..*last
        };
    }
    if recent.len() == RECENT {
        recent.remove(rng.random_range(0..RECENT));
    }
    recent.push(talk);
    talk
}

fn to(rng: &mut SmallRng) -> To {
    match rng.random_range(0..40) {
        0..=15 => To::ClusterIp(rng.random_range(0..VIPS)),
        16 => To::OtherPort(rng.random_range(0..VIPS)),
        17..=22 => To::LoadBalancer(rng.random_range(0..VIPS)),
        23..=26 => To::External(rng.random_range(0..VIPS)),
        27..=32 => To::NodePort(rng.random_range(0..VIPS)),
        33 => To::Unallocated,
        _ => To::Direct(rng.random_range(0..ENDPOINTS)),
    }
}

fn service(rng: &mut SmallRng) -> Service {
    Service {
        vip: rng.random_range(0..VIPS),
        kind: rng.random_range(0..4).min(2),
        protocols: [true, rng.random_ratio(3, 4), rng.random_ratio(3, 4)],
        is_internal_local: rng.random_ratio(1, 4),
        is_external_local: rng.random_ratio(1, 2),
        affinity: rng.random_ratio(1, 3).then_some(60),
        has_external: rng.random(),
        source_ranges: rng.random_range(0..4),
    }
}
