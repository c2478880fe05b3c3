//! Packets for tests, of both families alike: described by a [`Frame`], turned into bytes by it.
//!
//! Headers are written byte by byte after the RFCs and checksums come from etherparse, so that nothing
//! of what is tested takes part: a translated packet must equal, in every byte, the one that is built
//! anew with the other addresses. Shared by lb-common's tests and the program tests of lb-userspace.
//!
//! Long because: every kind of packet there is, is one type, which its builders and its bytes are to be read beside.

mod net;
mod sums;

use std::net::{IpAddr, SocketAddr};

pub use net::{Net, both};
pub use sums::verify;

/// TCP flags.
pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
}

/// Protocol numbers.
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
pub const ICMPV6: u8 = 58;

/// SCTP chunk types.
pub mod chunk {
    pub const DATA: u8 = 0;
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const ABORT: u8 = 6;
    pub const COOKIE_ECHO: u8 = 10;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// IPv6 extension headers by number.
pub mod ext {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTH: u8 = 51;
    pub const DEST_OPTS: u8 = 60;
}

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L4 {
    Tcp {
        flags: u8,
        seq: u32,
    },
    Udp {
        has_checksum: bool,
    },
    /// By its first chunk, whose value the payload is.
    Sctp {
        chunk: u8,
    },
    /// A piece of another packet: its bytes are the payload.
    Piece {
        proto: u8,
    },
    /// ICMP of either family: type, code, the word behind the checksum; the rest is the payload.
    Icmp {
        kind: u8,
        code: u8,
        rest: u32,
    },
}

/// A packet described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// TPIDs of VLAN tags, outermost first.
    pub tags: Vec<u16>,
    pub src: SocketAddr,
    pub dst: SocketAddr,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: number, and what follows next-header and length.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// What pieces of a packet share.
    pub id: u16,
    /// Fragment offset in 8-byte units, and whether more follow.
    pub fragment: Option<(u16, bool)>,
    pub l4: L4,
    pub payload: Vec<u8>,
}

/// A row of a table: what it shows, and what is done to a packet for it.
pub type Variant = (&'static str, fn(Frame) -> Frame);

impl Frame {
    fn new(src: SocketAddr, dst: SocketAddr, l4: L4) -> Self {
        Self {
            tags: vec![],
            src,
            dst,
            options: vec![],
            extensions: vec![],
            id: 0x1234,
            fragment: None,
            l4,
            payload: b"what the client says".to_vec(),
        }
    }

    pub fn tcp(src: SocketAddr, dst: SocketAddr, flags: u8) -> Self {
        Self::new(src, dst, L4::Tcp { flags, seq: 1_000 })
    }

    pub fn udp(src: SocketAddr, dst: SocketAddr) -> Self {
        Self::new(src, dst, L4::Udp { has_checksum: true })
    }

    pub fn sctp(src: SocketAddr, dst: SocketAddr, chunk: u8) -> Self {
        Self::new(src, dst, L4::Sctp { chunk })
    }

    /// TCP (with `flags`), SCTP (with what says the same) or UDP, for tables over all three.
    pub fn of(proto: u8, src: SocketAddr, dst: SocketAddr, flags: u8) -> Self {
        match proto {
            TCP => Self::tcp(src, dst, flags),
            UDP => Self::udp(src, dst),
            SCTP if flags & flag::RST != 0 => Self::sctp(src, dst, chunk::ABORT),
            SCTP if flags & flag::SYN == 0 => Self::sctp(src, dst, chunk::DATA),
            SCTP if flags & flag::ACK == 0 => Self::sctp(src, dst, chunk::INIT),
            SCTP => Self::sctp(src, dst, chunk::INIT_ACK),
            other => panic!("no packets of protocol {other} here"),
        }
    }

    /// An ICMP message whose payload is the start of `about`: `keep` bytes of its transport part.
    pub fn icmp(
        src: IpAddr,
        dst: IpAddr,
        (kind, code): (u8, u8),
        about: &Self,
        keep: usize,
    ) -> Self {
        let embedded = about.ip_bytes();
        let headers = embedded.len() - about.l4_bytes().len();
        let end = embedded.len().min(headers.saturating_add(keep));
        let mut frame = Self::new(
            SocketAddr::new(src, 0),
            SocketAddr::new(dst, 0),
            L4::Icmp {
                kind,
                code,
                rest: 1_400,
            },
        );
        frame.payload = embedded[..end].to_vec();
        frame
    }

    /// An ICMP echo request.
    pub fn echo(src: IpAddr, dst: IpAddr) -> Self {
        let kind = if src.is_ipv4() { 8 } else { 128 };
        let l4 = L4::Icmp {
            kind,
            code: 0,
            rest: 0x0007_0001,
        };
        Self::new(SocketAddr::new(src, 0), SocketAddr::new(dst, 0), l4)
    }

    /// The answer to an echo request.
    pub fn echoed(&self) -> Self {
        let mut reply = self.clone();
        (reply.src, reply.dst) = (self.dst, self.src);
        if let L4::Icmp { kind, .. } = &mut reply.l4 {
            *kind = if self.src.is_ipv4() { 0 } else { 129 };
        }
        reply
    }

    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    pub fn tagged(mut self, tpids: &[u16]) -> Self {
        self.tags = tpids.to_vec();
        self
    }

    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some((offset, more));
        self
    }

    /// The same packet in pieces of `size` bytes, a multiple of eight, with the checksum of the whole in the first.
    pub fn pieces(&self, id: u16, size: usize) -> Vec<Self> {
        let whole = self.l4_bytes();
        let count = whole.len().div_ceil(size);
        whole
            .chunks(size)
            .enumerate()
            .map(|(i, bytes)| {
                let mut piece = self.clone().payload(bytes);
                piece.l4 = L4::Piece {
                    proto: self.proto(),
                };
                piece.id = id;
                piece.fragment(u16::try_from(i * size / 8).unwrap(), i + 1 < count)
            })
            .collect()
    }

    pub fn extended(mut self, extensions: &[(u8, &[u8])]) -> Self {
        self.extensions = extensions
            .iter()
            .map(|(kind, body)| (*kind, body.to_vec()))
            .collect();
        self
    }

    /// With what the family has between its header and the transport's: options or extensions.
    pub fn with_extras(mut self) -> Self {
        if self.src.is_ipv4() {
            self.options = vec![7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            return self;
        }
        self.extended(&[
            (ext::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0]),
            (ext::DEST_OPTS, &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ])
    }

    pub fn without_checksum(mut self) -> Self {
        self.l4 = L4::Udp {
            has_checksum: false,
        };
        self
    }

    pub fn with_seq(mut self, new: u32) -> Self {
        if let L4::Tcp { seq, .. } = &mut self.l4 {
            *seq = new;
        }
        self
    }

    /// The same packet from elsewhere.
    pub fn from(mut self, src: SocketAddr) -> Self {
        self.src = src;
        self
    }

    /// The same packet to elsewhere.
    pub fn to(mut self, dst: SocketAddr) -> Self {
        self.dst = dst;
        self
    }

    pub fn proto(&self) -> u8 {
        match self.l4 {
            L4::Tcp { .. } => TCP,
            L4::Udp { .. } => UDP,
            L4::Sctp { .. } => SCTP,
            L4::Piece { proto } => proto,
            L4::Icmp { .. } if self.src.is_ipv4() => ICMP,
            L4::Icmp { .. } => ICMPV6,
        }
    }

    /// Offset of the IP header in the frame.
    pub fn l3(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// Offset of the transport header in the frame.
    pub fn l4(&self) -> usize {
        self.bytes().len() - self.l4_bytes().len()
    }

    /// The whole frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tpid in &self.tags {
            bytes.extend(tpid.to_be_bytes());
            bytes.extend(7u16.to_be_bytes());
        }
        let ethertype: u16 = if self.src.is_ipv4() { 0x0800 } else { 0x86dd };
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(self.ip_bytes());
        bytes
    }

    /// From the IP header on.
    pub fn ip_bytes(&self) -> Vec<u8> {
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(src.octets(), dst.octets()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(src.octets(), dst.octets()),
            mixed => panic!("two families in one packet: {mixed:?}"),
        }
    }

    fn ipv4(&self, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
        let l4 = self.l4_bytes();
        let header = 20 + self.options.len();
        let total = u16::try_from(header + l4.len()).unwrap();
        let frag = self
            .fragment
            .map_or(0, |(offset, more)| offset | u16::from(more) << 13);
        let mut bytes = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(frag.to_be_bytes());
        bytes.extend([64, self.proto(), 0, 0]);
        bytes.extend(src);
        bytes.extend(dst);
        bytes.extend(&self.options);
        let sum = sums::ones_complement(&bytes);
        bytes[10..12].copy_from_slice(&sum);
        bytes.extend(l4);
        bytes
    }

    fn ipv6(&self, src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
        let mut extensions = self.extensions.clone();
        if let Some((offset, more)) = self.fragment {
            let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
            let [first, second] = self.id.to_be_bytes();
            extensions.push((ext::FRAGMENT, vec![high, low, 0, 0, first, second]));
        }
        let mut chain = vec![];
        for (i, (kind, body)) in extensions.iter().enumerate() {
            let next = extensions
                .get(i + 1)
                .map_or(self.proto(), |(kind, _)| *kind);
            let len = match *kind {
                ext::AUTH => (2 + body.len()) / 4 - 2,
                _ => (2 + body.len()) / 8 - 1,
            };
            chain.extend([next, u8::try_from(len).unwrap()]);
            chain.extend(body);
        }
        let l4 = self.l4_bytes();
        let first = extensions.first().map_or(self.proto(), |(kind, _)| *kind);
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(u16::try_from(chain.len() + l4.len()).unwrap().to_be_bytes());
        bytes.extend([first, 64]);
        bytes.extend(src);
        bytes.extend(dst);
        bytes.extend(chain);
        bytes.extend(l4);
        bytes
    }

    /// The transport header and the payload.
    pub fn l4_bytes(&self) -> Vec<u8> {
        if let L4::Piece { .. } = self.l4 {
            return self.payload.clone();
        }
        let (sport, dport) = (self.src.port().to_be_bytes(), self.dst.port().to_be_bytes());
        let mut bytes = vec![];
        let (field, has_checksum) = match &self.l4 {
            L4::Tcp { flags, seq } => {
                bytes.extend([sport, dport].concat());
                bytes.extend(seq.to_be_bytes());
                bytes.extend([0, 0, 0, 9, 0x50, *flags, 0xfa, 0xf0, 0, 0, 0, 0]);
                (16, true)
            }
            L4::Udp { has_checksum } => {
                let len = u16::try_from(8 + self.payload.len()).unwrap();
                bytes.extend([sport, dport, len.to_be_bytes(), [0, 0]].concat());
                (6, *has_checksum)
            }
            L4::Sctp { chunk } => {
                bytes.extend([sport, dport].concat());
                bytes.extend([0, 0, 0, 7, 0, 0, 0, 0, *chunk, 0]);
                let len = u16::try_from(4 + self.payload.len()).unwrap();
                bytes.extend(len.to_be_bytes());
                (8, true)
            }
            L4::Piece { .. } => unreachable!("all of it is the payload"),
            L4::Icmp { kind, code, rest } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest.to_be_bytes());
                (2, true)
            }
        };
        bytes.extend(&self.payload);
        if self.proto() == SCTP {
            let crc = sums::crc32c(&bytes);
            bytes[field..field + 4].copy_from_slice(&crc);
        } else if has_checksum {
            let sum = sums::transport(self.src.ip(), self.dst.ip(), self.proto(), &bytes);
            bytes[field..field + 2].copy_from_slice(&sum);
        }
        bytes
    }
}
