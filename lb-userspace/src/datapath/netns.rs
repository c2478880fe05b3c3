//! Which network namespace the agent is in, as the programs see it.

use std::{io, net::UdpSocket, os::fd::AsRawFd as _};

/// The cookie of the calling thread's network namespace (`SO_NETNS_COOKIE`, kernel 5.14): what
/// `bpf_get_netns_cookie` says of its sockets. It is never given away again, and never 0.
///
/// # Errors
/// On older kernels, which have no such option.
pub fn cookie() -> io::Result<u64> {
    /// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h); the same on all architectures that Rust's BPF
    /// programs are loaded on.
    const SO_NETNS_COOKIE: nix::libc::c_int = 71;
    let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    let mut cookie: u64 = 0;
    let mut length = nix::libc::socklen_t::try_from(size_of::<u64>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open while `socket` lives; the kernel writes at most `length` bytes to `cookie`,
    // which has that many, and any bytes are a u64; both pointers are to locals that outlive the call.
    let result = unsafe {
        nix::libc::getsockopt(
            socket.as_raw_fd(),
            nix::libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(cookie),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_always_has_the_same_cookie() {
        match (cookie(), cookie()) {
            (Ok(first), Ok(second)) => {
                assert_ne!(first, 0);
                assert_eq!(first, second);
            }
            (first, _) => eprintln!("skipped: this kernel has no cookies (5.14): {first:?}"),
        }
    }
}
