//! What kube-proxy would have in the kernel for the same services: the rivals of the bench.
//!
//! Written by us in the shape that kube-proxy writes (v1.36; K-nft and K-ipt in the notes on semantics): the same tables,
//! hooks, priorities, maps and chains, a chain per service port and one per endpoint, masquerade marks. What only
//! concerns services of other kinds (node ports, load balancers, source ranges) is there as the empty set, map or chain
//! that every packet passes all the same. Names differ in their hashes, which no packet looks at.

pub mod iptables;
pub mod nftables;

use std::net::{IpAddr, SocketAddr};

/// A service port with one cluster IP, as both rule sets need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace, name and port name, e.g. `bench/s-12:http`: kube-proxy's key for it (rule 9).
    pub name: String,
    /// The cluster IP and its port.
    pub vip: SocketAddr,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Where it leads.
    pub endpoints: Vec<SocketAddr>,
}

impl Service {
    /// Whether it is of the family that a rule set is for.
    fn is_v6(&self) -> bool {
        self.vip.is_ipv6()
    }

    /// Sixteen characters that tell this service port, and with `endpoint` this endpoint of it, from others: what
    /// kube-proxy has the first characters of a SHA-256 for.
    fn id(&self, endpoint: Option<&SocketAddr>) -> String {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let text = format!("{}{}{:?}", self.name, self.protocol, endpoint);
        // FNV-1a, twice with different beginnings, since one of 64 bits gives no 80.
        let fnv = |basis: u64| {
            text.bytes().fold(basis, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        };
        let bits =
            u128::from(fnv(0xcbf2_9ce4_8422_2325)) << 64 | u128::from(fnv(0x9e37_79b9_7f4a_7c15));
        (0..16)
            .map(|place| ALPHABET[(bits >> (place * 5) & 31) as usize] as char)
            .collect()
    }
}

/// An address with its port, as nft and iptables both write it.
fn target(endpoint: &SocketAddr) -> String {
    match endpoint.ip() {
        IpAddr::V4(ip) => format!("{ip}:{}", endpoint.port()),
        IpAddr::V6(ip) => format!("[{ip}]:{}", endpoint.port()),
    }
}

#[cfg(test)]
mod tests;
