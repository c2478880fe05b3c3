//! Which address a Service gets when it asks for none.
//!
//! There is no API server to remember what it assigned, and every node's agent must come to the same
//! answer: the Service's name, hashed, picks the place in the range, and the next free one is taken
//! where two names meet. So an address depends on nothing but the Service itself, save for such a
//! meeting; the one that has its address already keeps it then.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::model::ObjectKey;

/// Addresses and which Service has each.
#[derive(Debug, Default)]
pub(super) struct Pool(BTreeMap<IpAddr, ObjectKey>);

impl Pool {
    /// The Service that has `ip`, unless it is `key` itself.
    pub(super) fn find_other(&self, ip: IpAddr, key: &ObjectKey) -> Option<&ObjectKey> {
        self.0.get(&ip).filter(|holder| *holder != key)
    }

    /// Gives `ip` to `key`; whose it was must have been asked before.
    pub(super) fn reserve(&mut self, ip: IpAddr, key: &ObjectKey) {
        self.0.insert(ip, key.clone());
    }

    /// A free address of `net` for `key`; the caller reserves it. `None` if there is none left.
    pub(super) fn find_free(&self, net: IpNet, key: &ObjectKey) -> Option<IpAddr> {
        let free = |ip: &IpAddr| !self.0.contains_key(ip);
        let first = nth(net, 0);
        if *key == ObjectKey::new("default", "kubernetes") && free(&first) {
            return Some(first);
        }
        // The first one is for default/kubernetes, as in every cluster.
        let count = usable(net) - 1;
        let start = u128::from(hash(key)) % count;
        let tries = count.min(self.0.len() as u128 + 1);
        (0..tries)
            .map(|step| nth(net, 1 + (start + step) % count))
            .find(free)
    }
}

/// Whether `ip`, an address of `net`, can be a Service's: not the network's own address, and not the
/// broadcast address of an IPv4 network.
pub(super) fn is_usable(net: IpNet, ip: IpAddr) -> bool {
    ip != net.network() && (ip.is_ipv6() || ip != net.broadcast())
}

/// Number of addresses of `net` that a Service can have; [`nth`] counts through them.
fn usable(net: IpNet) -> u128 {
    match net {
        IpNet::V4(net) => (1 << (32 - u32::from(net.prefix_len()))) - 2,
        IpNet::V6(net) => (1 << (128 - u32::from(net.prefix_len()))) - 1,
    }
}

/// The usable address of `net` at `index`.
fn nth(net: IpNet, index: u128) -> IpAddr {
    let offset = index + 1;
    match net {
        IpNet::V4(net) => {
            let offset =
                u32::try_from(offset).expect("an IPv4 range has fewer than 2^32 addresses");
            IpAddr::V4((u32::from(net.network()) + offset).into())
        }
        IpNet::V6(net) => IpAddr::V6((u128::from(net.network()) + offset).into()),
    }
}

/// A hash of the key that is the same in every build of the agent: FNV-1a, with the bits of the result
/// mixed (the finaliser of SplitMix64), since FNV alone spreads similar names badly over a small range.
/// A change here gives every Service of every user another address.
fn hash(key: &ObjectKey) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = key.namespace.bytes().chain([b'/']).chain(key.name.bytes());
    let mut hash = bytes.fold(OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("default", name)
    }

    #[test]
    fn addresses_are_those_of_every_build() {
        let pool = Pool::default();
        for (name, v4, v6) in [
            ("kubernetes", "10.96.0.1", "fd00:10:96::1"),
            ("web", "10.96.241.179", "fd00:10:96::aea6"),
        ] {
            let free = |net: &str| {
                pool.find_free(net.parse().unwrap(), &key(name))
                    .unwrap()
                    .to_string()
            };
            assert_eq!(
                (
                    free("10.96.0.0/16").as_str(),
                    free("fd00:10:96::/112").as_str()
                ),
                (v4, v6)
            );
        }
    }

    #[test]
    fn every_usable_address_is_assigned_before_the_range_is_full() {
        for (text, count) in [
            ("10.96.0.0/28", 14),
            ("fd00::/124", 15),
            ("10.96.0.0/30", 2),
        ] {
            let net: IpNet = text.parse().unwrap();
            let mut pool = Pool::default();
            let mut assigned = 0;
            for index in 0..count - 1 {
                let key = key(&format!("s{index}"));
                let ip = pool.find_free(net, &key).unwrap();
                assert!(
                    net.contains(&ip) && is_usable(net, ip) && ip != nth(net, 0),
                    "{ip}"
                );
                pool.reserve(ip, &key);
                assigned += 1;
            }
            assert_eq!(pool.0.len(), assigned, "no address twice in {net}");
            assert_eq!(pool.find_free(net, &key("last")), None, "{net}");
            assert_eq!(
                pool.find_free(net, &key("kubernetes")),
                Some(nth(net, 0)),
                "{net}"
            );
        }
    }

    #[test]
    fn large_ranges_do_not_overflow() {
        let net: IpNet = "fd00::/64".parse().unwrap();
        assert_eq!(
            nth(net, usable(net) - 1).to_string(),
            "fd00::ffff:ffff:ffff:ffff"
        );
        let net: IpNet = "10.0.0.0/8".parse().unwrap();
        assert_eq!(nth(net, usable(net) - 1).to_string(), "10.255.255.254");
    }
}
