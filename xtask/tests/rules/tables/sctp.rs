//! The first packet of an SCTP association, by hand: few kernels have SCTP, all have raw sockets.
//!
//! Nobody in the lab answers an INIT, so that all it can come to is a refusal or silence.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use super::client::{SILENCE, Seen, end};

/// IP protocol number.
const SCTP: i32 = 132;
/// Where a raw socket is bound, and connected to: an address without port.
const NO_PORT: u16 = 0;

/// Sends an INIT from the calling thread's namespace and waits for what comes back.
pub(super) fn open(own: IpAddr, to: SocketAddr) -> Result<Seen> {
    let socket = Socket::new(
        Domain::for_address(to),
        Type::RAW,
        Some(Protocol::from(SCTP)),
    )?;
    socket.bind(&SocketAddr::new(own, NO_PORT).into())?;
    // A connected socket hears of ICMP errors.
    socket.connect(&SocketAddr::new(to.ip(), NO_PORT).into())?;
    socket.set_read_timeout(Some(SILENCE))?;
    let start = Instant::now();
    let come = socket
        .send(&init(40_000, to.port()))
        .and_then(|_| socket.recv(&mut [std::mem::MaybeUninit::uninit(); 256]));
    Ok(match come {
        Ok(length) => Seen::Odd(format!("{length} bytes of SCTP")),
        Err(error) => end(error.kind(), start, &error),
    })
}

/// An INIT (RFC 9260, 3.3.2). Its checksum is left zero: nobody gets as far as to look at it.
fn init(from: u16, to: u16) -> [u8; 32] {
    let mut packet = [0; 32];
    packet[..2].copy_from_slice(&from.to_be_bytes());
    packet[2..4].copy_from_slice(&to.to_be_bytes());
    packet[12] = 1; // type INIT
    packet[15] = 20; // its length
    packet[16..20].copy_from_slice(&0x1234_5678u32.to_be_bytes()); // initiate tag
    packet[22] = 0x80; // receiver window
    packet[25] = 1; // streams out
    packet[27] = 1; // streams in
    packet
}
