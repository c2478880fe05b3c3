//! UDP without checksums: a socket option that no library of ours knows.

use std::{net::SocketAddr, os::fd::AsRawFd};

use anyhow::{Context as _, Result};
use nix::libc;

/// Has a UDP socket send without checksums and take what comes without (RFC 768, RFC 6935).
///
/// # Errors
/// If the kernel refuses.
pub fn leave_out_checksums(socket: &impl AsRawFd, address: SocketAddr) -> Result<()> {
    let options = match address {
        SocketAddr::V4(_) => &[(libc::SOL_SOCKET, libc::SO_NO_CHECK)][..],
        SocketAddr::V6(_) => &[
            (libc::SOL_UDP, libc::UDP_NO_CHECK6_TX),
            (libc::SOL_UDP, libc::UDP_NO_CHECK6_RX),
        ],
    };
    let one: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&one))?;
    for (level, option) in options {
        // SAFETY: the descriptor is open while `socket` is borrowed; the value is an int that lives
        // over the call, of the length given.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                *level,
                *option,
                (&raw const one).cast(),
                length,
            )
        };
        nix::errno::Errno::result(result).context("no UDP without checksums")?;
    }
    Ok(())
}
