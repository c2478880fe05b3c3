//! Sockets of the node's own processes that are connected to endpoints which have left: destroyed, so that the
//! process connects anew and gets another one.
//!
//! Packets find out by themselves that their endpoint no longer serves, and so do sockets that are told with each
//! datagram where to send it. A connected one never asks again: a resolver would wait for ever for a server that
//! is gone (rules 73 and 75). The kernel can abort such a socket (CONFIG_INET_DIAG_DESTROY): its process gets
//! ECONNABORTED. Which sockets are ours to abort is known from the programs' own notes, so that one that was
//! connected to the endpoint itself is left alone.
//!
//! The kernel also tells which sockets there are at all ([`cookies`]), so that the notes of others can go.

mod diag;

use std::{collections::HashSet, io, net::SocketAddr};

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use lb_common::{
    address::{Address, V4, V6},
    headers::proto,
    tables::{Endpoint, Frontend, FrontendKey, Socket, SocketKey, endpoint_index},
};
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

use self::diag::{Answer, Listed, SocketFamily, States};
use super::{DatapathError, pins::Pins};

/// `SocketKey::way` of the entry that says whom a socket believes to talk to.
const REVERSE: u8 = 1;

/// What is noted of sockets, and what it is compared with, in one family.
struct Notes<A: Address>
where
    SocketKey<A>: Pod,
    Socket<A>: Pod,
    Endpoint<A>: Pod,
    FrontendKey<A>: Pod,
{
    sockets: HashMap<MapData, SocketKey<A>, Socket<A>>,
    endpoints: Array<MapData, Endpoint<A>>,
    frontends: HashMap<MapData, FrontendKey<A>, Frontend>,
}

/// The sockets of the node's own processes.
pub struct Sockets {
    v4: Notes<V4>,
    v6: Notes<V6>,
    resets_tcp: bool,
}

impl Sockets {
    /// Those that are noted in the maps that are pinned. `resets_tcp`: TCP's, too, once an endpoint has left every
    /// slice (rule 78).
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn open(pins: &Pins, resets_tcp: bool) -> Result<Self, DatapathError> {
        Ok(Self {
            v4: Notes::open(pins, "SOCKETS_V4", "ENDPOINTS_V4", "FRONTENDS_V4")?,
            v6: Notes::open(pins, "SOCKETS_V6", "ENDPOINTS_V6", "FRONTENDS_V6")?,
            resets_tcp,
        })
    }

    /// Destroys those that are connected to endpoints which have left; how many that were.
    ///
    /// # Errors
    /// The kernel's. Where it destroys no sockets at all, this is [`io::ErrorKind::Unsupported`].
    pub fn release(&self) -> io::Result<usize> {
        let protocols: &[u8] = if self.resets_tcp {
            &[proto::UDP, proto::TCP]
        } else {
            &[proto::UDP]
        };
        let mut netlink = open()?;
        let mut destroyed = 0;
        for protocol in protocols {
            for family in [SocketFamily::Inet, SocketFamily::Inet6] {
                let list = diag::list(family, *protocol, States::CONNECTED);
                let connected = ask(&mut netlink, &list, *protocol)?;
                for socket in connected {
                    if !self.has_lost_endpoint(&socket, *protocol) {
                        continue;
                    }
                    match ask(&mut netlink, &socket.destroy(), *protocol) {
                        Ok(_) => destroyed += 1,
                        // Closed meanwhile.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(destroyed)
    }

    fn has_lost_endpoint(&self, socket: &Listed, protocol: u8) -> bool {
        let (peer, cookie) = (socket.peer(), socket.cookie());
        match peer {
            SocketAddr::V4(v4) => self
                .v4
                .is_lost((*v4.ip()).into(), peer.port(), protocol, cookie),
            SocketAddr::V6(v6) => self
                .v6
                .is_lost((*v6.ip()).into(), peer.port(), protocol, cookie),
        }
    }
}

impl<A: Address> Notes<A>
where
    SocketKey<A>: Pod,
    Socket<A>: Pod,
    Endpoint<A>: Pod,
    FrontendKey<A>: Pod,
{
    fn open(
        pins: &Pins,
        sockets: &'static str,
        endpoints: &'static str,
        frontends: &'static str,
    ) -> Result<Self, DatapathError> {
        Ok(Self {
            sockets: typed(pins, sockets)?,
            endpoints: typed(pins, endpoints)?,
            frontends: typed(pins, frontends)?,
        })
    }

    /// Whether the socket with that cookie got the endpoint `addr:port` from us, and is to have it no longer.
    fn is_lost(&self, addr: A, port: u16, protocol: u8, cookie: [u32; 2]) -> bool {
        let key = SocketKey {
            cookie,
            addr,
            port: port.to_be(),
            proto: protocol,
            way: REVERSE,
        };
        // What cannot be read is not destroyed for.
        let Ok(note) = self.sockets.get(&key, 0) else {
            return false;
        };
        let Ok(endpoint) = self.endpoints.get(&endpoint_index(note.endpoint), 0) else {
            return false;
        };
        let state = if endpoint.id == note.endpoint {
            endpoint.state
        } else {
            0
        };
        if protocol == proto::TCP {
            return state == 0;
        }
        let frontend = FrontendKey::new(note.peer, note.peer_port, protocol);
        let is_served = match self.frontends.get(&frontend, 0) {
            Ok(frontend) => frontend.service == note.service,
            Err(MapError::KeyNotFound) => false,
            Err(_) => true,
        };
        !is_served || state & Endpoint::<A>::SERVING == 0
    }
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    pins: &Pins,
    name: &'static str,
) -> Result<T, DatapathError> {
    MapData::from_pin(pins.map(name))
        .and_then(Map::from_map_data)
        .and_then(T::try_from)
        .map_err(|source| DatapathError::Map {
            name,
            source: Box::new(source),
        })
}

/// The cookies, in halves as the programs have them, of all sockets of TCP and UDP in the network namespace of the
/// calling thread that talk to somebody or may. A socket that has just been made is not told before it has a port.
///
/// # Errors
/// The kernel's, if it does not tell of one of the protocols (CONFIG_INET_TCP_DIAG, CONFIG_INET_UDP_DIAG).
pub fn cookies() -> io::Result<HashSet<[u32; 2]>> {
    let mut netlink = open()?;
    let mut cookies = HashSet::new();
    for protocol in [proto::TCP, proto::UDP] {
        for family in [SocketFamily::Inet, SocketFamily::Inet6] {
            let list = diag::list(family, protocol, States::ANY);
            let listed = ask(&mut netlink, &list, protocol)?;
            cookies.extend(listed.iter().map(Listed::cookie));
        }
    }
    Ok(cookies)
}

fn open() -> io::Result<Netlink> {
    let netlink = Netlink::new(NETLINK_SOCK_DIAG)?;
    netlink.connect(&NetlinkAddr::new(0, 0))?;
    Ok(netlink)
}

/// Sends a request and collects the sockets that it is answered with, to the end.
fn ask(netlink: &mut Netlink, request: &[u8], protocol: u8) -> io::Result<Vec<Listed>> {
    netlink.send(request, 0)?;
    let mut sockets = Vec::new();
    loop {
        let (bytes, _) = netlink.recv_from_full()?;
        for answer in diag::parse(&bytes, protocol) {
            match answer {
                Answer::Socket(socket) => sockets.push(socket),
                Answer::End(Ok(())) => return Ok(sockets),
                Answer::End(Err(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_socket_is_among_the_cookies_as_long_as_it_is_open() {
        let connect = || -> io::Result<(UdpSocket, [u32; 2])> {
            let (other, socket) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("[::1]:0")?);
            let peer = SocketAddr::new("::1".parse().unwrap(), other.local_addr()?.port());
            socket.connect(peer)?;
            let list = diag::list(SocketFamily::Inet6, proto::UDP, States::CONNECTED);
            let listed = ask(&mut open()?, &list, proto::UDP)?;
            let listed = listed.iter().find(|listed| listed.peer() == peer);
            Ok((socket, listed.expect("it is connected").cookie()))
        };
        let (socket, cookie) = match connect() {
            Ok(connected) => connected,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        assert!(cookies().unwrap().contains(&cookie));
        drop(socket);
        assert!(!cookies().unwrap().contains(&cookie));
    }

    #[test]
    fn a_kernel_that_destroys_no_sockets_is_told_from_other_errors() {
        let error = io::Error::from_raw_os_error(nix::libc::EOPNOTSUPP);
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }
}
