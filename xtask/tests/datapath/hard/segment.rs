//! One TCP segment as a test wants it, sent past the kernel's TCP by a raw socket; the kernel adds the IP header.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};
use xtask::lab::Netns;

/// More to come.
pub(super) const ACK: u8 = 0x10;
/// And it is for the application.
pub(super) const PSH: u8 = 0x08;

/// Sends `flags` with some bytes of payload.
pub(super) fn send(
    netns: &Netns,
    from: SocketAddr,
    to: SocketAddr,
    flags: u8,
    (seq, ack): (u32, u32),
) -> Result<()> {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(b"far out of any window");
    let sum = checksum(from.ip(), to.ip(), &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    netns.run(|| -> Result<()> {
        let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::TCP))?;
        let to = SocketAddr::new(to.ip(), 0);
        socket
            .send_to(&segment, &to.into())
            .context("raw segment")?;
        Ok(())
    })?
}

/// RFC 9293, 3.1, with the pseudo-header of the family.
fn checksum(from: IpAddr, to: IpAddr, segment: &[u8]) -> u16 {
    let octets = |ip| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let length = u32::try_from(segment.len()).expect("short");
    let head = [
        octets(from),
        octets(to),
        length.to_be_bytes().into(),
        vec![0, 0, 0, 6],
    ];
    let bytes = [&head.concat()[..], segment].concat();
    let words = bytes.chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded twice")
}
