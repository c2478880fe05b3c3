//! A pod that calls a service whose endpoint it is itself (rule 57), by long connections and many datagrams: it sees an
//! address of its node as the client's. Short ones of every kind are in `tests/external`.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};

use super::PATIENCE;
use crate::support::{
    Cluster, need_datapath, pods_of,
    service::Service,
    stream::{Stream, bytes},
};

#[test]
fn rule_57_a_pod_talks_to_itself_by_a_vip_in_streams_and_datagrams_routed_and_on_a_bridge()
-> Result<()> {
    need_datapath!();
    let services = [1, 2].map(|node| Service::new(node, pods_of(node, 1)));
    let cluster = Cluster::start(&services)?;
    for (service, pod) in services.iter().zip(["pod-1-10", "pod-2-10"]) {
        let pod = cluster.lab.pod(pod);
        for frontend in service.frontends() {
            let about = || format!("{} to {frontend}", pod.name);
            let own = pod.addresses.like(&frontend.ip());
            // Several at once, by one socket each.
            let mut streams = (0..3)
                .map(|_| Stream::open(&pod.netns, 0, frontend))
                .collect::<Result<Vec<_>>>()
                .with_context(about)?;
            for stream in &mut streams {
                ensure!(stream.client.ip() != own, "it sees its own address");
                stream.exchange(&bytes(2 << 20)).with_context(about)?;
            }
            for stream in streams {
                stream.close().with_context(about)?;
            }
            let socket = pod
                .netns
                .run(|| UdpSocket::bind(SocketAddr::new(own, 0)))??;
            socket.set_read_timeout(Some(PATIENCE))?;
            for round in 0..200 {
                let asked = format!("{frontend} {round}");
                socket.send_to(asked.as_bytes(), frontend)?;
                let mut buffer = [0; 256];
                let (length, from) = socket.recv_from(&mut buffer).with_context(about)?;
                ensure!(from == frontend, "{frontend} answered as {from}");
                let answer = String::from_utf8_lossy(&buffer[..length]);
                ensure!(answer.ends_with(&asked) && !answer.contains(&own.to_string()));
            }
        }
    }
    cluster.check_checksums()
}
