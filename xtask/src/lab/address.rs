//! Who has which address. Pure: numbers in, addresses out.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// How pods hang on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A veth per pod and host routes to it, as Calico does.
    Routed,
    /// Ports of a bridge `cni0` that has the gateway's addresses, as the bridge plugin does.
    Bridged,
}

/// One address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4.
    pub v4: Ipv4Addr,
    /// IPv6.
    pub v6: Ipv6Addr,
}

impl Addresses {
    /// Both, IPv4 first.
    pub fn both(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    /// The one of the family that `other` has.
    pub fn like(&self, other: &IpAddr) -> IpAddr {
        if other.is_ipv4() {
            self.v4.into()
        } else {
            self.v6.into()
        }
    }

    /// 172.18.0.N and fd00:172:18::N.
    pub fn of_node(node: u8) -> Self {
        Self {
            v4: Ipv4Addr::new(172, 18, 0, node),
            v6: parse(format_args!("fd00:172:18::{node}")),
        }
    }

    /// 192.0.2.10 and 2001:db8::10: no address of the cluster.
    pub fn of_outside() -> Self {
        Self {
            v4: Ipv4Addr::new(192, 0, 2, 10),
            v6: parse(format_args!("2001:db8::10")),
        }
    }

    /// 10.244.N.P and fd00:10:244:N::P, where P is written alike in both.
    pub fn of_pod(node: u8, pod: u8) -> Self {
        Self {
            v4: Ipv4Addr::new(10, 244, node, pod),
            v6: parse(format_args!("fd00:10:244:{node}::{pod}")),
        }
    }

    /// 198.51.100.N and 2001:db8:51::N: addresses of a load balancer, see `LOAD_BALANCERS`.
    pub fn of_load_balancer(number: u8) -> Self {
        Self {
            v4: Ipv4Addr::new(198, 51, 100, number),
            v6: parse(format_args!("2001:db8:51::{number}")),
        }
    }

    /// 203.0.113.N and 2001:db8:113::N: one of `externalIPs`, see `EXTERNAL_IPS`.
    pub fn of_external_ip(number: u8) -> Self {
        Self {
            v4: Ipv4Addr::new(203, 0, 113, number),
            v6: parse(format_args!("2001:db8:113::{number}")),
        }
    }

    /// The addresses of `cni0` on a bridged node.
    pub fn of_gateway(node: u8) -> Self {
        Self::of_pod(node, 1)
    }
}

pub(super) fn parse(text: fmt::Arguments<'_>) -> Ipv6Addr {
    text.to_string()
        .parse()
        .expect("decimal digits are hexadecimal ones")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_part_is_written_alike_in_both_families() {
        let pod = Addresses::of_pod(2, 100);
        assert_eq!(pod.v4.to_string(), "10.244.2.100");
        assert_eq!(pod.v6.to_string(), "fd00:10:244:2::100");
    }
}
