//! What others do to packets on a node: a CNI that masquerades, a firewall that drops what conntrack does not
//! understand.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Host, Lab, Netns};

/// Pods get their node's address towards whatever is no pod, and whoever is no pod gets it towards pods on
/// other nodes: flannel's rules. `{node}` is the node's number.
const MASQUERADE: &str = "
    table inet cni {
        chain postrouting {
            type nat hook postrouting priority srcnat;
            ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 counter masquerade fully-random
            ip6 saddr fd00:10:244::/48 ip6 daddr != fd00:10:244::/48 counter masquerade fully-random
            ip daddr 10.244.{node}.0/24 return
            ip6 daddr fd00:10:244:{node}::/64 return
            ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 counter masquerade fully-random
            ip6 saddr != fd00:10:244::/48 ip6 daddr fd00:10:244::/48 counter masquerade fully-random
        }
    }";

/// Anyone may begin, answers may follow, what is neither is dropped and counted. Redirects are neither, and a router
/// sends them for whatever leaves by the device it came in by, as what a pod says to itself does.
const DROP_INVALID: &str = "
    table inet firewall {
        counter invalid {}
        chain input {
            type filter hook input priority filter;
            ct state invalid counter name invalid drop
        }
        chain forward {
            type filter hook forward priority filter;
            ct state invalid counter name invalid drop
        }
        chain output {
            type filter hook output priority filter;
            icmpv6 type nd-redirect accept
            ct state invalid counter name invalid drop
        }
    }";

impl Lab {
    /// Has every node masquerade as flannel does.
    ///
    /// # Errors
    /// If nft refuses it.
    pub fn masquerade_pods(&self) -> Result<()> {
        self.nodes().try_for_each(|host| {
            let (number, _) = host.node.context("a node has a number")?;
            self.nft(host, &MASQUERADE.replace("{node}", &number.to_string()))
        })
    }

    /// Has every node drop what its conntrack finds invalid.
    ///
    /// # Errors
    /// If nft refuses it.
    pub fn drop_invalid(&self) -> Result<()> {
        self.nodes()
            .try_for_each(|host| self.nft(host, DROP_INVALID))
    }

    /// How many packets [`Lab::drop_invalid`] has dropped on a node.
    ///
    /// # Errors
    /// If nft fails, or the firewall is not there.
    pub fn invalid(&self, node: &Host) -> Result<u64> {
        self.counted(node, "firewall", "invalid")
    }

    /// How many packets a counter of nft's `inet` table `table` has seen in a namespace.
    ///
    /// # Errors
    /// If nft fails, or there is none.
    pub fn counted(&self, node: impl AsRef<Netns>, table: &str, counter: &str) -> Result<u64> {
        let list = ["nft", "-j", "list", "counter", "inet", table, counter];
        let json: Value = serde_json::from_str(&self.exec(node, &list)?)?;
        let objects = json["nftables"].as_array().context("nft's list")?;
        let mut packets = objects
            .iter()
            .filter_map(|object| object["counter"]["packets"].as_u64());
        packets
            .next()
            .with_context(|| format!("no counter {counter}"))
    }
}
