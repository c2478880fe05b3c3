//! `ping`, as a process without rights sends it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Netns, patience::stretched};

/// One ICMP echo with that payload, from a namespace; whether it comes back as it was.
///
/// # Errors
/// If it does not, in that time (longer on a slow machine).
pub fn ping(netns: &Netns, to: IpAddr, payload: &[u8], patience: Duration) -> Result<()> {
    netns.sysctl(&[("net/ipv4/ping_group_range", "0 0")])?;
    netns.run(|| {
        let (protocol, kind) = match to {
            IpAddr::V4(_) => (Protocol::ICMPV4, 8),
            IpAddr::V6(_) => (Protocol::ICMPV6, 128),
        };
        let to = SocketAddr::new(to, 0);
        let mut socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(protocol))?;
        socket.set_read_timeout(Some(stretched(patience)))?;
        socket.connect(&to.into())?;
        let request = [&[kind, 0, 0, 0, 0, 0, 0, 1][..], payload].concat();
        socket.write_all(&request)?;
        let mut reply = vec![0; 64 << 10];
        let length = socket.read(&mut reply).context("no echo")?;
        ensure!(reply[..length].ends_with(payload), "another echo");
        Ok(())
    })?
}
