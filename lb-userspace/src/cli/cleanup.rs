//! `duolb cleanup`.

use anyhow::bail;
use lb_common::tables::Device;
use serde::Serialize;

use super::{arguments::OutputArguments, output::print};
use crate::{
    datapath::{
        DatapathError, attach::detach_clsact, leftovers::Leftovers, netlink::Netlink, pins::Pins,
    },
    kube_proxy_rules,
};

/// What was removed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    /// The pin directory.
    pins: String,
    /// Devices that had the programs.
    devices: usize,
    /// Maps that were pinned.
    maps: usize,
    /// Links that were pinned.
    links: usize,
    /// What was kube-proxy's, if that was asked for.
    kube_proxy: Option<kube_proxy_rules::Removed>,
}

/// Removes programs, maps and pins of every version, and first, if that is asked for, what kube-proxy has left.
/// Devices and rules are those of the network namespace it runs in.
pub(super) fn run(pins: &Pins, kube_proxy: bool, output: OutputArguments) -> anyhow::Result<()> {
    // Nobody may start meanwhile.
    let lock = match pins.lock() {
        Ok(lock) => Some(lock),
        Err(locked @ DatapathError::Locked { .. }) => bail!("nothing was removed: {locked}"),
        // There is no directory, or what cannot be locked cannot be anybody else's either.
        Err(_) => None,
    };
    let kube_proxy = kube_proxy.then(kube_proxy_rules::remove).transpose()?;
    let Leftovers {
        devices,
        maps,
        links,
    } = {
        let leftovers = Leftovers::find(pins)?;
        leftovers.detach_links();
        leftovers
    };
    if !devices.is_empty() {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(remove_filters(
                devices.iter().map(|(index, attached)| (*index, *attached)),
            ))?;
    }
    pins.remove()?;
    drop(lock);
    let removed = Removed {
        pins: pins.top().display().to_string(),
        devices: devices.len(),
        maps,
        links: links.len(),
        kube_proxy,
    };
    print(output, &removed, describe)
}

fn describe(removed: &Removed) -> String {
    let mut lines = vec![match removed.maps {
        0 => format!("nothing to remove in {}", removed.pins),
        maps => format!(
            "removed the programs of {} devices and {maps} maps from {}",
            removed.devices, removed.pins
        ),
    }];
    if let Some(kube_proxy) = &removed.kube_proxy {
        lines.push(kube_proxy.to_string());
    }
    lines.join("\n")
}

/// Removes what pins do not hold: the filters of clsact, and the qdiscs that are our own.
async fn remove_filters(devices: impl Iterator<Item = (u32, u32)>) -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    for (ifindex, attached) in devices.filter(|(_, attached)| attached & Device::CLSACT != 0) {
        if attached & Device::QDISC != 0 {
            // Fails only for a device that is gone, and its qdisc with it.
            let _ = netlink.remove_clsact(ifindex).await;
        } else if let Ok(name) = nix::net::if_::if_indextoname(ifindex) {
            detach_clsact(&name.to_string_lossy());
        }
    }
    Ok(())
}
