//! Who is who: a few addresses of each kind, in both families, so that tuples meet all the time.

use std::net::{IpAddr, SocketAddr};

use lb_common::tables::Device;

/// Clients by number: two pods, two endpoints on this node that are clients as well (so that some call themselves),
/// two outside.
pub const CLIENTS: u8 = 6;
/// Endpoints by number: the first three on this node.
pub const ENDPOINTS: u8 = 5;
/// Sets of addresses that a Service may have, by number.
pub const VIPS: u8 = 4;
/// What clients use as their ports.
pub const CLIENT_PORTS: [u16; 3] = [40_000, 40_001, 50_002];
/// The port of every endpoint.
pub const TARGET: u16 = 8_080;
/// The port of every cluster IP and external address.
pub const PORT: u16 = 80;

fn ip(is_v6: bool, v4: [u8; 4]) -> IpAddr {
    if is_v6 {
        let [a, b, c, d] = v4.map(u16::from);
        [0xfd00, a, b, c, 0, 0, 0, d].into()
    } else {
        v4.into()
    }
}

pub fn client(who: u8, is_v6: bool) -> IpAddr {
    match who {
        0 | 1 => ip(is_v6, [10, 244, 1, 11 + who]),
        2 | 3 => endpoint(who - 2, is_v6),
        _ => ip(is_v6, [192, 0, 2, 7 + who]),
    }
}

/// Whether a client is a pod of this node (rule 45).
pub fn is_inside(who: u8) -> bool {
    who < 4
}

pub fn is_here(endpoint: u8) -> bool {
    endpoint < 3
}

pub fn endpoint(number: u8, is_v6: bool) -> IpAddr {
    let subnet = if is_here(number) { 1 } else { 2 };
    ip(is_v6, [10, 244, subnet, 21 + number])
}

pub fn target(number: u8, is_v6: bool) -> SocketAddr {
    SocketAddr::new(endpoint(number, is_v6), TARGET)
}

pub fn find_endpoint(ip: IpAddr) -> Option<u8> {
    (0..ENDPOINTS).find(|number| endpoint(*number, ip.is_ipv6()) == ip)
}

pub fn cluster_ip(vip: u8, is_v6: bool) -> IpAddr {
    ip(is_v6, [10, 96, 0, 1 + vip])
}

/// The ServiceCIDR of a family.
pub fn cidr(is_v6: bool) -> &'static str {
    if is_v6 {
        "fd00:a:60::/112"
    } else {
        "10.96.0.0/24"
    }
}

/// An address in it that nobody has (rule 50).
pub fn unallocated(is_v6: bool) -> IpAddr {
    ip(is_v6, [10, 96, 0, 99])
}

pub fn load_balancer(vip: u8, is_v6: bool) -> IpAddr {
    ip(is_v6, [203, 0, 113, 1 + vip])
}

pub fn external(vip: u8, is_v6: bool) -> IpAddr {
    ip(is_v6, [203, 0, 113, 101 + vip])
}

pub fn node(is_v6: bool) -> IpAddr {
    ip(is_v6, [192, 168, 0, 1])
}

pub fn router(is_v6: bool) -> IpAddr {
    ip(is_v6, [10, 244, 9, 9])
}

pub fn node_port(vip: u8, proto: u8) -> u16 {
    30_000 + 10 * u16::from(vip) + u16::from(proto % 10)
}

/// The networks that a load balancer's clients are in, by number; none: everybody (rule 25).
pub fn source_ranges(number: u8) -> &'static [&'static str] {
    match number {
        1 => &["10.244.1.0/24", "fd00:a:f4:1::/64"],
        2 => &["192.0.2.11/32", "fd00:c0:0:2::b/128"],
        _ => &[],
    }
}

/// What is behind the device that a client is at.
pub fn role_of_client(who: u8) -> u32 {
    if is_inside(who) {
        Device::PODS
    } else {
        Device::UPLINK
    }
}

/// What is behind the device towards an endpoint.
pub fn role_of_endpoint(number: u8) -> u32 {
    if is_here(number) {
        Device::PODS
    } else {
        Device::UPLINK
    }
}
