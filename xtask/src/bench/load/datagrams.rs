//! Small datagrams, as many as one processor can send.
//!
//! On a veth the sender does all the work of the way as well, up to the receiver's socket: what arrives in a second is
//! what the way costs. Nobody reads that socket; what it refuses for want of room has arrived all the same, and the
//! kernel counts it.

use std::{
    fs,
    io::IoSlice,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

use crate::lab::Netns;

/// Bytes of each, and how many are handed to the kernel at once.
const PAYLOAD: [u8; 18] = [0x5a; 18];
const BATCH: usize = 64;

/// A socket that takes datagrams and is never read.
#[derive(Debug)]
pub struct Sink {
    _socket: UdpSocket,
}

impl Sink {
    /// On `port` in `netns`, both families.
    ///
    /// # Errors
    /// If the port is taken or the namespace cannot be entered.
    pub fn start(netns: &Netns, port: u16) -> Result<Self> {
        let bind = || UdpSocket::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        let socket = netns.run(bind)?.with_context(|| format!("port {port}"))?;
        Ok(Self { _socket: socket })
    }
}

/// Sends to `to`, connected or not, for a time; how many a second arrived in the namespace `at`.
///
/// # Errors
/// If a datagram cannot be sent, or the counters of `at` cannot be read.
#[expect(clippy::cast_precision_loss, reason = "there are not 2^52 of them")]
pub fn per_second(from: &Netns, to: SocketAddr, at: &Netns, time: Duration) -> Result<f64> {
    let before = arrived(at)?;
    let elapsed = from
        .run(|| send(to, time))?
        .with_context(|| format!("datagrams to {to}"))?;
    Ok((arrived(at)? - before) as f64 / elapsed)
}

fn send(to: SocketAddr, time: Duration) -> Result<f64> {
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    let slices = [[IoSlice::new(&PAYLOAD)]; BATCH];
    let nobody = [None::<SockaddrStorage>; BATCH];
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    let start = Instant::now();
    while start.elapsed() < time {
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices,
            nobody,
            [],
            MsgFlags::empty(),
        );
        sent.map(drop).context("sendmmsg")?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Datagrams that have come to a socket in a namespace, taken or refused.
fn arrived(netns: &Netns) -> Result<u64> {
    // Of the thread: /proc/net is that of the process.
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    let (snmp, snmp6) = netns.run(|| (read("snmp"), read("snmp6")))?;
    Ok(sum_v4(&snmp?) + sum_v6(&snmp6?))
}

/// `Udp: InDatagrams` and `RcvbufErrors`: a line of names, below it one of numbers.
fn sum_v4(snmp: &str) -> u64 {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp: "));
    let (Some(names), Some(numbers)) = (lines.next(), lines.next()) else {
        return 0;
    };
    names
        .split(' ')
        .zip(numbers.split(' '))
        .filter(|(name, _)| matches!(*name, "InDatagrams" | "RcvbufErrors"))
        .filter_map(|(_, number)| number.parse::<u64>().ok())
        .sum()
}

/// `Udp6InDatagrams` and `Udp6RcvbufErrors`: a line each.
fn sum_v6(snmp6: &str) -> u64 {
    snmp6
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .filter(|(name, _)| matches!(*name, "Udp6InDatagrams" | "Udp6RcvbufErrors"))
        .filter_map(|(_, number)| number.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_and_what_was_refused_has_arrived() {
        let snmp =
            "Tcp: InSegs\nTcp: 4\nUdp: InDatagrams NoPorts InErrors RcvbufErrors\nUdp: 5 1 7 6\n";
        assert_eq!(sum_v4(snmp), 11);
        let snmp6 = "Udp6InDatagrams   \t3\nUdp6NoPorts \t9\nUdp6RcvbufErrors\t4\n";
        assert_eq!(sum_v6(snmp6), 7);
    }
}
