//! Connections on which nobody says anything for longer than the flow tables remember them.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use crate::support::{
    Cluster, need_datapath, pods_of,
    service::Service,
    stream::{Stream, bytes},
};

/// Much longer than the timeout that the agents are told.
const SILENCE: Duration = Duration::from_secs(9);

/// The endpoint follows from the tuple as long as the service is unchanged, so that each finds its own again.
#[test]
fn a_connection_that_was_silent_for_longer_than_it_is_remembered_finds_its_endpoint_again()
-> Result<()> {
    need_datapath!();
    let service = Service::new(1, [pods_of(1, 3), pods_of(2, 3)].concat());
    let args = ["--conntrack-tcp-timeout-established=2s"];
    let cluster = Cluster::start_with(std::slice::from_ref(&service), &args)?;
    let mut streams = Vec::new();
    for client in cluster.clients() {
        for frontend in service.frontends() {
            for _ in 0..10 {
                let mut stream = Stream::open(&client.netns, 0, frontend)?;
                stream.exchange(&bytes(5000))?;
                streams.push((client, stream));
            }
        }
    }
    thread::sleep(SILENCE);
    for (client, stream) in &mut streams {
        let about = || format!("{} to {}", client.name, stream.endpoint);
        let about = about();
        stream.exchange(&bytes(100_000)).context(about)?;
    }
    for (_, stream) in streams {
        stream.close()?;
    }
    cluster.check_no_drops()
}
