//! A flow as the reference knows it: who talks to which endpoint, by which ports, and whether it is over.

use std::net::SocketAddr;

use lb_common::verdict::Verdict;

use crate::{
    cast,
    packet::{SCTP, TCP, UDP, flag},
    state::Tuple,
    step::Talk,
};

/// Seconds of silence that a flow survives: a connection that both sides have spoken on (rule 82), any other one, UDP
/// with answers, UDP without; and after which it is surely over.
const ESTABLISHED: u64 = 86_400;
pub const CONNECTION: u64 = 60;
const STREAM: u64 = 120;
const UNREPLIED: u64 = 30;
pub const LONGEST: u64 = 86_400;
const LONGEST_UDP: u64 = 180;

/// Whether a flow is still there. In between lie the timeouts of its states, which anybody may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Alive,
    Unsure,
    Over,
}

/// A conversation, by what its client sends.
#[derive(Clone, Debug)]
pub struct Flow {
    pub talk: Talk,
    /// Service and the how manieth port of it; `None`: a direct one that got another port (rule 99).
    pub service: Option<(u8, u32)>,
    pub endpoint: u8,
    pub endpoint_generation: u32,
    /// The client's port at the endpoint.
    pub port: u16,
    /// Whether the client gets an address of the node, and which.
    pub is_masqueraded: bool,
    pub snat: Option<SocketAddr>,
    /// TCP: something else than SYNs came from the client.
    pub is_opened: bool,
    /// Something came from the endpoint.
    pub is_answered: bool,
    /// TCP: the endpoint has another connection by this tuple.
    pub is_taken: bool,
    pub ends: Ends,
    /// When the client spoke last.
    pub sent: u64,
    /// When either spoke last.
    pub seen: u64,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    client: bool,
    endpoint: bool,
    reset: bool,
}

impl Ends {
    pub fn note(&mut self, flags: u8, is_client: bool) {
        let fin = flags & flag::FIN != 0;
        self.client |= fin && is_client;
        self.endpoint |= fin && !is_client;
        self.reset |= flags & flag::RST != 0;
    }

    fn has_begun(self) -> bool {
        self.reset || self.client || self.endpoint
    }

    pub fn is_closed(self) -> bool {
        self.reset || self.client && self.endpoint
    }
}

impl Flow {
    pub fn client(&self) -> SocketAddr {
        SocketAddr::new(self.talk.tuple().0.ip(), self.port)
    }

    pub fn target(&self) -> SocketAddr {
        cast::target(self.endpoint, self.talk.is_v6)
    }

    /// The tuple of the answers on the client's side of the node.
    pub fn reply(&self) -> Tuple {
        (self.target(), self.client(), self.talk.proto)
    }

    /// Whom the endpoint believes to talk to.
    pub fn known_as(&self) -> Option<SocketAddr> {
        if self.is_masqueraded {
            self.snat
        } else {
            Some(self.client())
        }
    }

    /// Whether it keeps its tuples from others.
    pub fn life(&self, now: u64) -> Life {
        let (least, most) = match (self.talk.proto, self.is_opened && self.is_answered) {
            (UDP, true) => (STREAM, LONGEST_UDP),
            (UDP, false) => (UNREPLIED, LONGEST_UDP),
            (_, true) if !self.ends.has_begun() => (ESTABLISHED, LONGEST),
            _ => (CONNECTION, LONGEST),
        };
        let silence = now - self.seen;
        if self.ends.is_closed() || silence > most {
            Life::Over
        } else if silence > least {
            Life::Unsure
        } else {
            Life::Alive
        }
    }

    /// What is counted for a packet to the endpoint, and for one from it.
    pub fn verdicts(&self) -> [Verdict; 2] {
        match self.service {
            Some(_) => [Verdict::Dnat, Verdict::RevNat],
            None => [Verdict::PortMoved; 2],
        }
    }
}

/// TCP flags as a flow sees them: SCTP's chunks in the same words.
pub fn flags_of(proto: u8, flags: u8) -> u8 {
    match proto {
        TCP => flags,
        SCTP if flags & flag::RST != 0 => flag::RST,
        SCTP if flags & flag::SYN != 0 => flags & (flag::SYN | flag::ACK),
        SCTP => flag::ACK,
        _ => 0,
    }
}

/// Whether it opens a connection.
pub fn opens(flags: u8) -> bool {
    flags & (flag::SYN | flag::ACK) == flag::SYN
}
