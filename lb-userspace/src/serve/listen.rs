//! A socket that listens as Go's do.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Listens on `address`. An address that means "any", of either family, is any address of both, as in Go
/// (net.Listen, `favoriteAddrFamily`): `0.0.0.0:10256` answers IPv6 probes, too. Where there is no IPv6, it is any
/// IPv4 address.
///
/// # Errors
/// What the kernel says; a port in use is `AddrInUse`.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return open(address);
    }
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
    match open(any) {
        Err(error) if address.is_ipv4() && is_without_v6(&error) => open(address),
        result => result,
    }
}

/// Listens on `address`, of its family alone also where it means "any".
///
/// # Errors
/// What the kernel says; a port in use is `AddrInUse`.
pub(super) fn listen_in_family(address: SocketAddr) -> io::Result<TcpListener> {
    open_as(address, true)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    open_as(address, !address.ip().is_unspecified())
}

fn open_as(address: SocketAddr, only_its_family: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(only_its_family)?;
    }
    // A restarted agent need not wait for its predecessor's connections to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Whether the kernel has no IPv6: not compiled in, or switched off on all devices.
fn is_without_v6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = nix::errno::Errno::EAFNOSUPPORT as i32;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn any_address_is_one_of_either_family() {
        let listener = listen("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        if listener.local_addr().unwrap().is_ipv6() {
            TcpStream::connect(("::1", port)).unwrap();
        } else {
            eprintln!("no IPv6 here: only IPv4 was tried");
        }
    }

    #[test]
    fn a_port_in_use_is_an_error() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
