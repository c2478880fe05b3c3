//! Keeps the programs on the devices, as they come and go.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;

use crate::datapath::{
    attach::Attacher,
    netlink::{Change, Netlink},
};

/// How often the kernel's list of devices is compared with what was done, in case a change was missed.
const RELIST: Duration = Duration::from_secs(10);

/// Follows netlink for ever; `count` is the number of devices with the programs.
pub(super) async fn follow(
    mut netlink: Netlink,
    mut attacher: Attacher,
    count: Gauge,
) -> anyhow::Result<()> {
    let mut relist = tokio::time::interval(RELIST);
    loop {
        tokio::select! {
            change = netlink.changes.recv() => match change {
                Some(Change::Link(link)) => attacher.put(link),
                Some(Change::Gone(index)) => attacher.remove(index),
                Some(Change::Lost) => attacher.replace(netlink.list().await?),
                None => anyhow::bail!("the netlink socket was closed"),
            },
            _ = relist.tick() => attacher.replace(netlink.list().await?),
        }
        count.set(i64::try_from(attacher.attached()).unwrap_or(i64::MAX));
    }
}
