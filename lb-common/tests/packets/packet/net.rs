//! The addresses that the tests' packets go between: the same cast in both families.

use std::net::{IpAddr, SocketAddr};

/// Who is who, in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    pub name: &'static str,
    pub is_v6: bool,
    /// Clients, with the port that they use.
    pub client: SocketAddr,
    pub neighbour: SocketAddr,
    /// Frontends.
    pub vip: SocketAddr,
    pub other_vip: SocketAddr,
    /// Neither client nor service.
    pub stranger: SocketAddr,
    /// A router on the way.
    pub router: IpAddr,
    /// Endpoints 1 to 8 of the VIP's service.
    pub endpoints: [SocketAddr; 8],
}

/// The cast in IPv4 and in IPv6.
pub fn both() -> [Net; 2] {
    [
        Net::new("IPv4", "10.244.1.", "10.96.0."),
        Net::new("IPv6", "fd00:10:244::", "fd00:10:96::"),
    ]
}

impl Net {
    fn new(name: &'static str, pods: &str, services: &str) -> Self {
        let at = |prefix: &str, last: &str, port| {
            let ip: IpAddr = format!("{prefix}{last}").parse().unwrap();
            SocketAddr::new(ip, port)
        };
        Self {
            name,
            is_v6: name == "IPv6",
            client: at(pods, "11", 40_000),
            neighbour: at(pods, "12", 40_000),
            vip: at(services, "1", 80),
            other_vip: at(services, "2", 8_000),
            stranger: at(pods, "99", 53),
            router: at(pods, "254", 0).ip(),
            endpoints: ["21", "22", "23", "24", "25", "26", "27", "28"]
                .map(|last| at(pods, last, 8_080)),
        }
    }

    /// The first endpoint.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoints[0]
    }

    /// ICMP errors whose packet is to be translated (rule 97): type and code, and their name.
    pub fn icmp_errors(&self) -> &'static [(&'static str, (u8, u8))] {
        if self.is_v6 {
            &[
                ("packet too big", (2, 0)),
                ("no route", (1, 0)),
                ("port unreachable", (1, 4)),
                ("hop limit exceeded", (3, 0)),
                ("parameter problem", (4, 0)),
            ]
        } else {
            &[
                ("fragmentation needed", (3, 4)),
                ("host unreachable", (3, 1)),
                ("port unreachable", (3, 3)),
                ("time exceeded", (11, 0)),
                ("parameter problem", (12, 0)),
            ]
        }
    }

    /// ICMP messages that no one may touch: redirect, echo request, echo reply.
    pub fn icmp_others(&self) -> &'static [(&'static str, (u8, u8))] {
        if self.is_v6 {
            &[
                ("redirect", (137, 0)),
                ("echo", (128, 0)),
                ("echo reply", (129, 0)),
            ]
        } else {
            &[
                ("redirect", (5, 1)),
                ("echo", (8, 0)),
                ("echo reply", (0, 0)),
            ]
        }
    }
}
