//! Packets that nobody should see, counted where pods and clients see what they see: in their own namespaces.
//!
//! A pod's packets are for its own address, an endpoint's are from no VIP, and nobody gets an endpoint's answer
//! with the endpoint's address, since nobody asked an endpoint by it. Counted before anything in there looks at
//! a packet, with the first few tuples. Fragments but for the first have no ports to tell by; one whose first was lost
//! comes as it was sent, and nobody can make anything of it.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::lab::{Addresses, Lab, Netns, reference::Client};

/// For everyone. `8000-8199` are the endpoints' ports, see `service`; nobody calls from those.
const RULES: &str = "
table inet soak {
    counter stray {}
    counter fragment {}
    set who_v4 {
        type ipv4_addr . ipv4_addr . inet_proto . inet_service . inet_service
        flags dynamic
        size 16
    }
    set who_v6 {
        type ipv6_addr . ipv6_addr . inet_proto . inet_service . inet_service
        flags dynamic
        size 16
    }
    chain note_v4 {
        counter name stray
        meta l4proto { tcp, udp } update @who_v4 { ip saddr . ip daddr . meta l4proto . th sport . th dport }
    }
    chain note_v6 {
        counter name stray
        meta l4proto { tcp, udp } update @who_v6 { ip6 saddr . ip6 daddr . meta l4proto . th sport . th dport }
    }
    chain fragment {
        ip saddr 10.244.0.0/16 ip daddr {own_v4} counter name fragment
        ip6 saddr fd00:10:244::/48 ip6 daddr {own_v6} counter name fragment
        accept
    }
    chain look {
        type filter hook prerouting priority -310
        iif lo accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept
        ip frag-off & 0x1fff != 0 jump fragment
        frag frag-off != 0 jump fragment
        ip daddr != { {own_v4}, 224.0.0.0/4, 255.255.255.255 } jump note_v4
        ip6 daddr != { {own_v6}, fe80::/10, ff00::/8 } jump note_v6
        meta l4proto { tcp, udp } th sport 8000-8199 ip saddr 10.244.0.0/16 jump note_v4
        meta l4proto { tcp, udp } th sport 8000-8199 ip6 saddr fd00:10:244::/48 jump note_v6
        meta l4proto { tcp, udp } th dport 8000-8199 ip saddr { 10.96.0.0/16, 198.51.100.0/24, 203.0.113.0/24 } jump note_v4
        meta l4proto { tcp, udp } th dport 8000-8199 ip6 saddr { fd00:10:96::/112, 2001:db8:51::/64, 2001:db8:113::/64 } jump note_v6
        {clients}
    }
}";

/// For who calls VIPs and nothing else, and is called by nobody. A bridge's own address is its node's.
const CLIENTS: &str = "
        ip saddr 10.244.0.0/16 ip saddr != 10.244.2.1 jump note_v4
        ip6 saddr fd00:10:244::/48 ip6 saddr != fd00:10:244:2::1 jump note_v6
";

/// Has everyone counted.
///
/// # Errors
/// If nft refuses it.
pub(super) fn watch(lab: &Lab) -> Result<()> {
    for pod in lab.pods() {
        watch_one(lab, &pod.netns, pod.addresses, pod.endpoint.is_none())?;
    }
    let outside = lab.outside();
    watch_one(lab, &outside.netns, outside.addresses, true)
}

/// The same for one who has come.
///
/// # Errors
/// As above.
pub(super) fn watch_pod(lab: &Lab, name: &str) -> Result<()> {
    let pod = lab.pod(name);
    watch_one(lab, &pod.netns, pod.addresses, pod.endpoint.is_none())
}

fn watch_one(lab: &Lab, netns: &Netns, own: Addresses, is_client: bool) -> Result<()> {
    let rules = RULES
        .replace("{own_v4}", &own.v4.to_string())
        .replace("{own_v6}", &own.v6.to_string())
        .replace("{clients}", if is_client { CLIENTS } else { "" });
    lab.nft(netns, &rules)
}

/// How many there were and which, by who saw them; who has seen none is left out.
///
/// # Errors
/// If nft cannot list them.
pub(super) fn seen(lab: &Lab) -> Result<Vec<(String, u64, String)>> {
    let pods = lab.pods().map(|pod| (pod.name.clone(), &pod.netns));
    let all = pods.chain([(Client::Outside.to_string(), &lab.outside().netns)]);
    let counted =
        all.map(|(name, netns)| seen_by(lab, netns).map(|(count, who)| (name, count, who)));
    let counted: Vec<_> = counted.collect::<Result<_>>()?;
    Ok(counted
        .into_iter()
        .filter(|(_, count, _)| *count > 0)
        .collect())
}

/// Forgets all that was counted.
///
/// # Errors
/// If nft refuses.
pub(super) fn forget(lab: &Lab) -> Result<()> {
    const FORGET: &str = "reset counters table inet soak
        flush set inet soak who_v4
        flush set inet soak who_v6";
    let pods = lab.pods().map(|pod| &pod.netns);
    let mut all = pods.chain([&lab.outside().netns]);
    all.try_for_each(|netns| lab.nft(netns, FORGET))
}

/// The same for one who is about to go.
///
/// # Errors
/// As above.
pub(super) fn seen_by(lab: &Lab, netns: &Netns) -> Result<(u64, String)> {
    let json = lab.exec(netns, &["nft", "-j", "list", "table", "inet", "soak"])?;
    let json: Value = serde_json::from_str(&json).context("nft's list")?;
    let objects = json["nftables"].as_array().context("nft's list")?;
    let count = objects
        .iter()
        .filter(|object| object["counter"]["name"] == "stray")
        .filter_map(|object| object["counter"]["packets"].as_u64())
        .sum();
    let who: Vec<String> = objects
        .iter()
        .filter_map(|object| object["set"]["elem"].as_array())
        .flatten()
        .map(Value::to_string)
        .collect();
    Ok((count, who.join(" ")))
}
