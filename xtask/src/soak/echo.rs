//! Echo requests to ClusterIPs: a service that exists answers, one that does not, does not.

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{history::History, judge::Sentence, random::Random};

/// Types of requests and replies, IPv4's first (RFC 792, RFC 4443).
const REQUEST: [u8; 2] = [8, 128];
const REPLY: [u8; 2] = [0, 129];
/// How often one is sent.
const ATTEMPTS: u64 = 8;

/// Whether it was answered, and how often it had to be sent again.
///
/// # Errors
/// If there is no such socket, or what came is not what was sent.
pub(super) fn ask(
    to: IpAddr,
    random: &mut Random,
    patience: Duration,
    attempts: u64,
) -> io::Result<(bool, u64)> {
    let v6 = usize::from(to.is_ipv6());
    let (domain, protocol) = [
        (Domain::IPV4, Protocol::ICMPV4),
        (Domain::IPV6, Protocol::ICMPV6),
    ][v6];
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    let mut request = vec![0; random.between(8 + 4, 900)];
    random.fill(&mut request);
    (request[0], request[1]) = (REQUEST[v6], 0);
    (request[2], request[3]) = (0, 0);
    let sum = checksum(&request);
    // Of ICMPv6, whose pseudo-header it does not know, the kernel computes it itself.
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut buffer = vec![0; 2000];
    for attempt in 0..attempts {
        socket.send_to(&request, &SocketAddr::new(to, 0).into())?;
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let length = match socket.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            // IPv4's raw sockets show the IP header.
            let skip = match to {
                IpAddr::V4(_) => usize::from(buffer[0] & 15) * 4,
                IpAddr::V6(_) => 0,
            };
            let said = buffer.get(skip..length).unwrap_or_default();
            // The identifier and the sequence number are as good as unique: everything after the checksum is.
            if said.first() == Some(&REPLY[v6]) && said.get(4..8) == Some(&request[4..8]) {
                if said[8..] != request[8..] {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                return Ok((true, attempt));
            }
        }
    }
    Ok((false, attempts))
}

/// As often as it takes.
pub(super) fn patiently(to: IpAddr, random: &mut Random) -> io::Result<(bool, u64)> {
    ask(to, random, Duration::from_secs(2), ATTEMPTS)
}

/// Whether that is right of a service at that time.
pub(super) fn judge(
    history: &History,
    service: u8,
    (begin, end): (Instant, Instant),
    is_answered: bool,
) -> Sentence {
    let mut versions = history.versions(service, begin, end);
    if versions.any(|version| version.is_some() == is_answered) {
        return Sentence::Right;
    }
    match history.excuse_for(service, None, begin, end) {
        _ if is_answered => Sentence::Wrong("an echo of a service that is not".to_owned()),
        Some(reason) => Sentence::Excused(reason),
        None => Sentence::Lost("no echo".to_owned()),
    }
}

/// RFC 1071, of bytes as they stand in a packet.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).expect("folded twice")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_over_what_has_it_is_zero() {
        let mut packet = vec![8, 0, 0, 0, 1, 2, 3, 4, 5];
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&packet), 0);
    }
}
