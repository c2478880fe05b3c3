//! A datagram and its answer.
//!
//! A datagram says who asked whom, and by a number which one it is. An answer that says the same, but for the number,
//! is one to a datagram that was given up or sent by an earlier socket with this port: late, not wrong. Whatever else
//! comes is wrong.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::libc;

use super::{
    judge::{Call, Outcome},
    random::Random,
    stream::outcome,
};
use crate::lab::reference::Client;

/// The largest datagram we send, and room for who answers.
const ROOM: usize = 10_000;

/// Every datagram has its own number.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// How long to wait for an answer, and how often to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) each: Duration,
    pub(super) attempts: u64,
}

/// What an exchange was like besides its outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effort {
    pub(super) resent: u64,
    pub(super) late: u64,
    pub(super) bytes: usize,
}

/// The unspecified address of a family.
pub(super) fn any(v6: bool) -> IpAddr {
    match v6 {
        false => Ipv4Addr::UNSPECIFIED.into(),
        true => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A socket of a family with this port, or any if 0.
pub(super) fn bind(v6: bool, port: u16) -> io::Result<UdpSocket> {
    UdpSocket::bind((any(v6), port))
}

/// Asks and waits; `connected` says that the socket is, and then hears of refusals.
pub(super) fn exchange(
    socket: &UdpSocket,
    connected: bool,
    call: &Call,
    length: usize,
    patience: Patience,
) -> (Outcome, Effort) {
    let mut effort = Effort::default();
    let said = ask(socket, connected, call, length, patience, &mut effort);
    (said.unwrap_or_else(|error| outcome(&error)), effort)
}

fn ask(
    socket: &UdpSocket,
    connected: bool,
    call: &Call,
    length: usize,
    patience: Patience,
    effort: &mut Effort,
) -> io::Result<Outcome> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let payload = payload(call, number, length);
    let mut buffer = vec![0; ROOM];
    for attempt in 0..patience.attempts {
        effort.resent = attempt;
        let sent = match connected {
            true => socket.send(&payload),
            false => socket.send_to(&payload, call.to),
        };
        match sent {
            // Packet too big: now the kernel knows the path's MTU.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => continue,
            sent => drop(sent?),
        }
        let until = Instant::now() + patience.each;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let (length, from) = match socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => break,
                Err(error) => return Err(error),
            };
            match read(call, number, &payload, &buffer[..length], from) {
                Some(outcome) => {
                    effort.bytes = payload.len();
                    return Ok(outcome);
                }
                None => effort.late += 1,
            }
        }
    }
    Ok(Outcome::Silent)
}

/// The number of another datagram of this client that an answer belongs to.
fn other(call: &Call, from: SocketAddr, back: &[u8]) -> Option<u64> {
    let end = back.iter().position(|byte| *byte == b'\n')?;
    let mut words = std::str::from_utf8(&back[..end]).ok()?.split(' ');
    let (soak, client) = (words.next()?, words.next()?);
    let to: SocketAddr = words.next()?.parse().ok()?;
    // A node's socket names the VIP it asked last as the sender of whatever comes from the same endpoint.
    let is_host = matches!(call.client, Client::Host { .. });
    let is_ours = soak == "soak" && client == call.client.to_string() && (to == from || is_host);
    words.next()?.parse().ok().filter(|_| is_ours)
}

fn payload(call: &Call, number: u64, length: usize) -> Vec<u8> {
    let mut payload = format!("soak {} {} {number}\n", call.client, call.to).into_bytes();
    let head = payload.len();
    payload.resize(head.max(length), 0);
    Random::new(number, "payload").fill(&mut payload[head..]);
    payload
}

/// What an answer says; nothing if it is late.
fn read(
    call: &Call,
    number: u64,
    payload: &[u8],
    answer: &[u8],
    from: SocketAddr,
) -> Option<Outcome> {
    let Some(end) = answer.iter().position(|byte| *byte == b'\n') else {
        let length = answer.len();
        return Some(Outcome::Wrong(format!(
            "{from} answered {length} bytes without a name"
        )));
    };
    let (hello, back) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 1..]);
    if back == payload && from == call.to {
        return Some(answered(&hello));
    }
    match other(call, from, back) {
        Some(other) if other != number => None,
        _ => {
            let said = String::from_utf8_lossy(&back[..back.len().min(80)]).into_owned();
            let why = format!("{from} answered {hello:?}, {} bytes: {said:?}", back.len());
            Some(if back == payload {
                Outcome::Untranslated(why)
            } else {
                Outcome::Wrong(why)
            })
        }
    }
}

/// What an endpoint's first line says.
pub(super) fn answered(hello: &str) -> Outcome {
    let parsed = hello
        .split_once(' ')
        .and_then(|(who, seen)| Some((who, seen.parse::<SocketAddr>().ok()?)));
    match parsed {
        Some((who, seen)) => Outcome::Answered {
            who: who.to_owned(),
            seen: seen.ip(),
        },
        None => Outcome::Wrong(format!("not an endpoint's line: {hello:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Protocol, reference::Frontend};

    #[test]
    fn an_answer_is_the_one_asked_for_or_late_or_wrong() {
        let call = Call {
            client: Client::Outside,
            service: 1,
            frontend: Frontend::ClusterIp,
            v6: false,
            protocol: Protocol::Udp,
            to: "10.96.1.1:80".parse().unwrap(),
            port: 0,
        };
        let (mine, earlier) = (payload(&call, 7, 300), payload(&call, 6, 300));
        let said = |back: &[u8], from: &str| {
            let answer = [b"pod-1-10/8001 192.0.2.10:5\n", back].concat();
            read(&call, 7, &mine, &answer, from.parse().unwrap())
        };
        let is_wrong = |said| matches!(said, Some(Outcome::Wrong(_) | Outcome::Untranslated(_)));
        assert!(matches!(
            said(&mine, "10.96.1.1:80"),
            Some(Outcome::Answered { .. })
        ));
        assert_eq!(said(&earlier, "10.96.1.1:80"), None);
        assert!(is_wrong(said(&mine, "10.96.1.2:80")), "from another VIP");
        assert!(
            is_wrong(said(&earlier, "10.96.1.2:80")),
            "late from another VIP"
        );
        assert!(is_wrong(said(&mine[..299], "10.96.1.1:80")), "cut");
        assert!(is_wrong(said(
            b"soak node-1 10.96.1.1:80 6\n",
            "10.96.1.1:80"
        )));
    }
}
