//! Who has filters in a hook of a clsact qdisc, so that ours takes no place that is another's.
//!
//! A filter's place is its priority and a number. Many programs ask for the first one, as we do, and the kernel
//! replaces what it finds there without asking whose it is. So it is looked first: ours stays where it is; a new one
//! takes the first priority that nobody has. What is asked is one request of rtnetlink, written out here because
//! nothing else of it is needed.

use std::{collections::BTreeSet, io};

use aya::programs::TcAttachType;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::net::if_::if_nametoindex;

/// linux/netlink.h, linux/rtnetlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
/// Attributes of filters, and of those that are programs (linux/pkt_cls.h).
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
/// What of an attribute's type is the type.
const NLA_TYPE: u16 = 0x3fff;
/// Bytes of `nlmsghdr` and of `tcmsg`.
const HEADER: usize = 16;
const TCMSG: usize = 20;
/// Where `tcmsg` has the priority, in its upper half.
const INFO: usize = 16;

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    priority: u16,
    /// Of one that is a program.
    name: Option<String>,
}

/// The priority at which a filter with one of these names stands or may stand.
///
/// # Errors
/// The kernel's; that of a device that is gone is `ENODEV`.
pub(super) fn priority(device: &str, place: TcAttachType, ours: &[&str]) -> io::Result<u16> {
    let ifindex = if_nametoindex(device).map_err(io::Error::from)?;
    choose(&list(ifindex, place)?, ours)
        .ok_or_else(|| io::Error::other("no priority is left for another filter"))
}

fn choose(filters: &[Filter], ours: &[&str]) -> Option<u16> {
    let is_ours = |filter: &&Filter| {
        let name = filter.name.as_deref();
        name.is_some_and(|name| ours.contains(&name))
    };
    if let Some(ours) = filters.iter().find(is_ours) {
        return Some(ours.priority);
    }
    let taken: BTreeSet<u16> = filters.iter().map(|filter| filter.priority).collect();
    (1..=u16::MAX).find(|priority| !taken.contains(priority))
}

fn list(ifindex: u32, place: TcAttachType) -> io::Result<Vec<Filter>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(ifindex, parent(place)), 0)?;
    let mut filters = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        if parse(&bytes, &mut filters)? {
            return Ok(filters);
        }
    }
}

/// The hook, as `tcmsg` has it (linux/pkt_sched.h).
const fn parent(place: TcAttachType) -> u32 {
    match place {
        TcAttachType::Egress => 0xffff_fff3,
        _ => 0xffff_fff2,
    }
}

fn request(ifindex: u32, parent: u32) -> Vec<u8> {
    let length = u32::try_from(HEADER + TCMSG).unwrap_or_default();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(RTM_GETTFILTER.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    // Sequence number and port: one request, on a socket of its own. Then family and padding.
    bytes.extend([0; 8 + 4]);
    // Device, any handle, hook, any priority.
    for word in [ifindex, 0, parent, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// Adds the filters that were received; whether that was all.
fn parse(mut bytes: &[u8], filters: &mut Vec<Filter>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (word(bytes, 0), half(bytes, 4)) {
        let Some(body) = bytes.get(HEADER..length as usize) else {
            break;
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = word(body, 0).map_or(0, u32::cast_signed);
                return match code {
                    0 => Ok(true),
                    code => Err(io::Error::from_raw_os_error(-code)),
                };
            }
            RTM_NEWTFILTER => filters.extend(filter(body)),
            _ => {}
        }
        let next = (length as usize).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(false)
}

fn filter(body: &[u8]) -> Option<Filter> {
    let options = find(body.get(TCMSG..)?, TCA_OPTIONS);
    let name = options.and_then(|options| find(options, TCA_BPF_NAME));
    let name = name.map(|name| name.strip_suffix(&[0]).unwrap_or(name));
    Some(Filter {
        priority: u16::try_from(word(body, INFO)? >> 16).ok()?,
        name: name.map(|name| String::from_utf8_lossy(name).into_owned()),
    })
}

/// The value of an attribute.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(half(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if half(attributes, 2)? & NLA_TYPE == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [&str; 2] = ["tc_ingress", "tc_ingress_l3"];

    fn of(priority: u16, name: Option<&str>) -> Filter {
        Filter {
            priority,
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn ours_stays_where_it_is_and_a_new_one_takes_no_place_of_another() {
        for (filters, priority) in [
            (&[][..], 1),
            (&[of(1, None)], 2),
            // A program as well, under the very number that ours would have.
            (&[of(1, Some("cil_from_netdev"))], 2),
            (&[of(1, None), of(2, Some("x")), of(4, None)], 3),
            (&[of(7, None)], 1),
            (&[of(1, Some("x")), of(5, Some("tc_ingress"))], 5),
            (&[of(1, Some("tc_ingress_l3"))], 1),
        ] {
            assert_eq!(choose(filters, &OURS), Some(priority), "{filters:?}");
        }
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        [
            &length.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &[0; 10],
            body,
        ]
        .concat()
    }

    #[test]
    fn filters_are_read_with_priority_and_name_up_to_the_end_of_the_list() {
        let told = |priority: u32, attributes: &[u8]| {
            let info = (priority << 16 | 0x0300).to_ne_bytes();
            message(
                RTM_NEWTFILTER,
                &[&[0; INFO][..], &info, attributes].concat(),
            )
        };
        let kind = attribute(1, b"bpf\0");
        let options = [
            attribute(6, &[0; 4]),
            attribute(TCA_BPF_NAME, b"tc_ingress\0"),
        ]
        .concat();
        let bytes = [
            told(1, &attribute(1, b"u32\0")),
            told(2, &[kind, attribute(TCA_OPTIONS, &options)].concat()),
            message(NLMSG_DONE, &[0; 4]),
        ];
        let mut filters = Vec::new();
        assert!(parse(&bytes.concat(), &mut filters).unwrap());
        assert_eq!(filters, [of(1, None), of(2, Some("tc_ingress"))]);
        let refused = message(NLMSG_ERROR, &(-19_i32).to_ne_bytes());
        let error = parse(&refused, &mut filters).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENODEV));
        // What is cut off says nothing and harms nothing.
        for length in 0..bytes[1].len() {
            let mut none = Vec::new();
            let _ = parse(&bytes[1][..length], &mut none);
            assert!(none.is_empty());
        }
    }
}
