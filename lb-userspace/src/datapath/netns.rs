//! Which network namespace this is, as the programs of the cgroup are told.

use std::{io, net::UdpSocket, os::fd::AsRawFd as _};

use nix::libc;

/// The cookie of the network namespace that the calling thread is in: a number that the kernel gives to no other
/// one till the machine is started anew. Since Linux 5.14 (commit e8b9eab99232 "net: retrieve netns cookie via
/// getsocketopt").
///
/// # Errors
/// The kernel's: it is too old, or lets us have no socket.
pub fn cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open while `socket` lives; the value is `length` bytes long, any of which may be
    // anything, and both live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_of_a_namespace_is_the_same_each_time_and_not_zero() {
        let first = cookie().unwrap();
        assert_ne!(first, 0);
        assert_eq!(cookie().unwrap(), first);
    }
}
