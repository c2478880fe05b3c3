//! The kernel's sockets over netlink (sock_diag(7)): list those of some states, destroy one. Bytes only: what is
//! sent and what comes back, as of linux/inet_diag.h.
//!
//! A handful of fixed layouts, read and written by offset, since no library in use has the request that destroys.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Message types (linux/sock_diag.h, linux/netlink.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Message flags.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// Lengths: `struct nlmsghdr`, `struct inet_diag_sockid`, and what is before it in a request
/// (`inet_diag_req_v2`) and in an answer (`inet_diag_msg`).
const HEADER: usize = 16;
const ID: usize = 48;
const BEFORE_ID_ASKED: usize = 8;
const BEFORE_ID_TOLD: usize = 4;

/// Length of a whole request.
const ASKED: u32 = 72;
const _: () = assert!(ASKED as usize == HEADER + BEFORE_ID_ASKED + ID);

/// States of sockets (linux/tcp_states.h), as bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct States(u32);

impl States {
    /// TCP_ESTABLISHED: connected, UDP's included.
    pub(super) const CONNECTED: Self = Self(1 << 1);
    /// Whatever talks to somebody, or may: all but TCP_LISTEN, and TCP_TIME_WAIT, which is no socket any more. A UDP
    /// socket that is not connected is in TCP_CLOSE.
    pub(super) const ANY: Self = Self(0xfff & !(1 << 10 | 1 << 6));
}

/// A family of addresses, as sockets have it; an IPv6 socket may talk IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SocketFamily {
    Inet = 2,
    Inet6 = 10,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    family: SocketFamily,
    protocol: u8,
    /// `struct inet_diag_sockid`, as it came: names the socket to the kernel.
    id: [u8; ID],
}

impl Listed {
    /// Whom it is connected to; a mapped address as what it stands for.
    pub(super) fn peer(&self) -> SocketAddr {
        let address = &self.id[20..36];
        let ip: IpAddr = match self.family {
            SocketFamily::Inet => Ipv4Addr::from(array::<4>(&address[..4])).into(),
            SocketFamily::Inet6 => Ipv6Addr::from(array::<16>(address)).to_canonical(),
        };
        SocketAddr::new(ip, u16::from_be_bytes(array(&self.id[2..4])))
    }

    /// Its cookie, in halves, as the programs have it.
    pub(super) fn cookie(&self) -> [u32; 2] {
        [&self.id[40..44], &self.id[44..]].map(|half| u32::from_ne_bytes(array(half)))
    }

    /// The message that has the kernel destroy it: whoever uses it is told so, and connects anew.
    pub(super) fn destroy(&self) -> Vec<u8> {
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        let states = States::CONNECTED;
        request(
            SOCK_DESTROY,
            flags,
            self.family,
            self.protocol,
            states,
            &self.id,
        )
    }
}

/// The message that asks for all sockets of a family and protocol in these states.
pub(super) fn list(family: SocketFamily, protocol: u8, states: States) -> Vec<u8> {
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    request(
        SOCK_DIAG_BY_FAMILY,
        flags,
        family,
        protocol,
        states,
        &[0; ID],
    )
}

fn request(
    kind: u16,
    flags: u16,
    family: SocketFamily,
    protocol: u8,
    states: States,
    id: &[u8; ID],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ASKED as usize);
    bytes.extend(ASKED.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and port: one request at a time, on a socket of its own.
    bytes.extend([0; 8]);
    // No further attributes, please; a byte of padding.
    bytes.extend([family as u8, protocol, 0, 0]);
    bytes.extend(states.0.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// What the kernel answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Socket(Listed),
    /// That was all of a list, or done; else the number of the error.
    End(Result<(), i32>),
}

/// The answers in what was received; what is cut off or of another kind is left out.
pub(super) fn parse(mut bytes: &[u8], protocol: u8) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(header) = bytes.get(..HEADER) {
        let length = u32::from_ne_bytes(array(&header[..4])) as usize;
        let kind = u16::from_ne_bytes(array(&header[4..6]));
        let Some(body) = bytes.get(HEADER..length) else {
            break;
        };
        answers.extend(parse_one(kind, body, protocol));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    answers
}

fn parse_one(kind: u16, body: &[u8], protocol: u8) -> Option<Answer> {
    match kind {
        NLMSG_ERROR | NLMSG_DONE => {
            let errno = body
                .get(..4)
                .map_or(0, |code| i32::from_ne_bytes(array(code)));
            let result = if errno < 0 { Err(-errno) } else { Ok(()) };
            Some(Answer::End(result))
        }
        SOCK_DIAG_BY_FAMILY => {
            let id = body.get(BEFORE_ID_TOLD..BEFORE_ID_TOLD + ID)?;
            let families = [SocketFamily::Inet, SocketFamily::Inet6];
            let family = families
                .into_iter()
                .find(|family| *family as u8 == body[0])?;
            Some(Answer::Socket(Listed {
                family,
                protocol,
                id: array(id),
            }))
        }
        _ => None,
    }
}

/// The first `N` bytes of a slice that has them.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: u8 = 17;

    /// `inet_diag_msg` of a socket with that peer.
    fn told(family: SocketFamily, peer: &[u8], port: u16) -> Vec<u8> {
        let mut id = [0; ID];
        id[2..4].copy_from_slice(&port.to_be_bytes());
        id[20..20 + peer.len()].copy_from_slice(peer);
        id[40..].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
        let body = [&[family as u8, 1, 0, 0][..], &id, &[0; 20]].concat();
        message(SOCK_DIAG_BY_FAMILY, &body)
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let header = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
        let mut bytes = [&header[..], body].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn peer(answer: &Answer) -> SocketAddr {
        match answer {
            Answer::Socket(socket) => socket.peer(),
            Answer::End(_) => panic!("{answer:?}"),
        }
    }

    #[test]
    fn sockets_of_one_message_after_another_are_told_and_then_the_end() {
        let v6: Ipv6Addr = "fd00::1".parse().unwrap();
        let mapped: Ipv6Addr = "::ffff:10.0.0.9".parse().unwrap();
        let bytes = [
            told(SocketFamily::Inet, &[10, 0, 0, 1], 53),
            told(SocketFamily::Inet6, &v6.octets(), 80),
            told(SocketFamily::Inet6, &mapped.octets(), 81),
            message(NLMSG_DONE, &0_i32.to_ne_bytes()),
        ];
        let answers = parse(&bytes.concat(), UDP);
        let peers: Vec<_> = answers[..3]
            .iter()
            .map(|answer| peer(answer).to_string())
            .collect();
        assert_eq!(peers, ["10.0.0.1:53", "[fd00::1]:80", "10.0.0.9:81"]);
        assert_eq!(answers[3], Answer::End(Ok(())));
    }

    #[test]
    fn a_socket_is_destroyed_by_the_very_id_that_it_was_told_by() {
        let bytes = told(SocketFamily::Inet, &[10, 0, 0, 1], 53);
        let Answer::Socket(socket) = parse(&bytes, UDP).remove(0) else {
            panic!("no socket");
        };
        assert_eq!(socket.cookie(), [1, 2]);
        let request = socket.destroy();
        assert_eq!(request.len(), HEADER + BEFORE_ID_ASKED + ID);
        assert_eq!(request[16..18], [SocketFamily::Inet as u8, UDP]);
        assert_eq!(request[24..], bytes[20..68]);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let bytes = told(SocketFamily::Inet, &[10, 0, 0, 1], 53);
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length], UDP), [], "{length} bytes");
        }
        let refusal = message(NLMSG_ERROR, &(-95_i32).to_ne_bytes());
        assert_eq!(parse(&refusal, UDP), [Answer::End(Err(95))]);
    }
}
