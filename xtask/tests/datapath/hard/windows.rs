//! Packets far outside of any window (rule 61): translated like all others, so that nobody sees an endpoint's address
//! and answers it with a reset.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use super::segment::{self, ACK, PSH};
use crate::support::{Cluster, need_datapath, pods_of, service::Service, stream::Stream};

/// The node's conntrack looks at everything, strictly, and says what it finds invalid.
const STRICT: &str = "table inet strict {
    counter invalid {}
    chain forward {
        type filter hook forward priority filter
        ct state invalid counter name invalid
    }
}";

/// What comes to a client from an endpoint's address and from a VIP, and the resets it sends.
const SEEN: &str = "table inet seen {
    counter endpoint {}
    counter vip {}
    counter resets {}
    chain in {
        type filter hook prerouting priority -310
        tcp sport 8080 counter name endpoint
        tcp sport 80 counter name vip
    }
    chain out {
        type filter hook output priority filter
        tcp flags rst counter name resets
    }
}";

#[test]
fn rule_61_a_segment_out_of_the_window_comes_from_the_vip_and_resets_nothing() -> Result<()> {
    need_datapath!();
    // Endpoints on the client's node and on the other one: beside a bridge, too.
    let services = [
        Service::new(1, pods_of(1, 1)),
        Service::new(2, pods_of(2, 1)),
    ];
    let cluster = Cluster::start(&services)?;
    let lab = &cluster.lab;
    for node in lab.nodes() {
        lab.nft(node, STRICT)?;
        node.netns
            .sysctl(&[("net/netfilter/nf_conntrack_tcp_be_liberal", "0")])?;
    }
    for client in cluster.clients() {
        lab.nft(client, SEEN)?;
        for service in &services {
            for frontend in service.frontends() {
                let mut stream = Stream::open(&client.netns, 0, frontend)?;
                stream.exchange_little(b"before")?;
                let endpoint = service.sockets_like(frontend).next().context("endpoint")?;
                let pod = lab.pod(&stream.endpoint);
                let before = lab.counted(client, "seen", "vip")?;
                for round in 0..10_u32 {
                    let numbers = (round.wrapping_mul(0x2545_f491), round << 28);
                    segment::send(&pod.netns, endpoint, stream.client, ACK | PSH, numbers)?;
                    // The client's own, towards the endpoint, the same way.
                    let own: SocketAddr = stream.local()?;
                    segment::send(&client.netns, own, frontend, ACK | PSH, numbers)?;
                }
                for text in ["after", "and again"] {
                    let said = stream.exchange_little(text.as_bytes());
                    said.with_context(|| format!("{} to {frontend}", client.name))?;
                }
                let after = lab.counted(client, "seen", "vip")?;
                ensure!(after >= before + 10, "the VIP's segments did not come");
                stream.close()?;
            }
        }
        for counter in ["endpoint", "resets"] {
            let count = lab.counted(client, "seen", counter)?;
            ensure!(count == 0, "{}: {count} {counter}", client.name);
        }
    }
    let invalid = lab.counted(lab.node("node-1"), "strict", "invalid")?;
    ensure!(invalid > 0, "conntrack found all of them valid");
    cluster.check_no_drops()
}
