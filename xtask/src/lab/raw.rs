//! Packets as a test wants them, IP header and all, whoever they are from: sent by a raw socket, past the kernel's own TCP
//! and UDP.
//!
//! For floods, and for packets in pieces of which a part never comes. The kernel looks up the route, and fills in what
//! IPv4's header says of its own length and checksum.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// IP protocol numbers (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
/// The protocol of sockets whose packets bring their own header (ip(7), ipv6(7)).
const RAW: i32 = 255;

/// Length of UDP's header.
const UDP_HEADER: usize = 8;

/// A socket for packets of one family, in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Raw(Socket);

/// A datagram that goes in two pieces.
#[derive(Clone, Debug)]
pub struct Halves {
    from: SocketAddr,
    to: SocketAddr,
    id: u16,
    bytes: Vec<u8>,
}

impl Raw {
    /// For packets to addresses of this one's family.
    ///
    /// # Errors
    /// If there is no such socket to be had.
    pub fn open(like: IpAddr) -> Result<Self> {
        let domain = Domain::for_address((like, 0).into());
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)));
        Ok(Self(socket.context("a raw socket")?))
    }

    /// Sends the first segment of a connection. Whether a full queue has lost it is not told: `false` is all.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn syn(&self, from: SocketAddr, to: SocketAddr, number: u32) -> Result<bool> {
        let mut segment = [0; 20];
        segment[..2].copy_from_slice(&from.port().to_be_bytes());
        segment[2..4].copy_from_slice(&to.port().to_be_bytes());
        segment[4..8].copy_from_slice(&number.to_be_bytes());
        // Five words, SYN, and a window.
        segment[12..16].copy_from_slice(&[5 << 4, 2, 0xff, 0xff]);
        let sum = checksum(from.ip(), to.ip(), TCP, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let sent = self.send(
            &header(from.ip(), to.ip(), TCP, segment.len()),
            &segment,
            to,
        );
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            // A queue on the way has no room.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(false),
            Err(error) => Err(error).context("a SYN"),
        }
    }

    /// Sends the first half of a datagram, ports included, or the second.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn half(&self, of: &Halves, is_first: bool) -> Result<()> {
        let at = of.bytes.len() / 2;
        let (bytes, offset) = if is_first {
            (&of.bytes[..at], 0)
        } else {
            (&of.bytes[at..], at)
        };
        let units = u16::try_from(offset / 8)?;
        let more = u16::from(is_first);
        let (from, to) = (of.from.ip(), of.to.ip());
        let head = match to {
            IpAddr::V4(_) => {
                let mut head = header(from, to, UDP, bytes.len());
                head[4..6].copy_from_slice(&of.id.to_be_bytes());
                head[6..8].copy_from_slice(&(more << 13 | units).to_be_bytes());
                head
            }
            IpAddr::V6(_) => {
                let mut head = header(from, to, FRAGMENT, 8 + bytes.len());
                head.extend([UDP, 0]);
                head.extend((units << 3 | more).to_be_bytes());
                head.extend(u32::from(of.id).to_be_bytes());
                head
            }
        };
        self.send(&head, bytes, of.to).context("half a datagram")
    }

    fn send(&self, head: &[u8], payload: &[u8], to: SocketAddr) -> io::Result<()> {
        let packet = [head, payload].concat();
        let to = SockAddr::from(SocketAddr::new(to.ip(), 0));
        self.0.send_to(&packet, &to).map(drop)
    }
}

impl Halves {
    /// Of `payload`, which with UDP's header must be a multiple of 16 bytes long.
    ///
    /// # Errors
    /// If it is not.
    pub fn new(from: SocketAddr, to: SocketAddr, id: u16, payload: &[u8]) -> Result<Self> {
        let length = UDP_HEADER + payload.len();
        ensure!(length.is_multiple_of(16), "{length} bytes in two pieces");
        let mut bytes = Vec::with_capacity(length);
        bytes.extend(from.port().to_be_bytes());
        bytes.extend(to.port().to_be_bytes());
        bytes.extend(u16::try_from(length)?.to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(payload);
        let sum = checksum(from.ip(), to.ip(), UDP, &bytes);
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
        Ok(Self {
            from,
            to,
            id,
            bytes,
        })
    }
}

/// The IP header of a packet with `length` bytes behind it.
fn header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
            bytes.extend(from.octets());
            bytes.extend(to.octets());
            bytes
        }
        (from, to) => {
            let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
            let mut bytes = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            bytes.extend(octets(from));
            bytes.extend(octets(to));
            bytes
        }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

/// RFC 1071 over the pseudo-header of the family and what follows it.
fn checksum(from: IpAddr, to: IpAddr, protocol: u8, bytes: &[u8]) -> u16 {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut sum = u32::from(protocol) + (length >> 16) + (length & 0xffff);
    for part in [&octets(from)[..], &octets(to), bytes] {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "folded")]
    match !(sum as u16) {
        // RFC 768: zero means that there is none.
        0 => 0xffff,
        sum => sum,
    }
}
