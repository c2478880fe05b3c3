//! `duolb cleanup`.

use anyhow::bail;
use lb_common::tables::Device;
use serde::Serialize;

use super::{arguments::OutputArguments, output::print};
use crate::datapath::{
    DatapathError, attach::detach_clsact, netlink::Netlink, object, pins::Pins, view::View,
};

/// What was removed.
#[derive(Debug, Serialize)]
struct Removed {
    /// The pin directory.
    pins: String,
    /// Devices that had the programs.
    devices: usize,
    /// Maps that were pinned.
    maps: usize,
}

/// Removes programs, maps and pins. Devices are those of the network namespace it runs in.
pub(super) fn run(pins: &Pins, output: OutputArguments) -> anyhow::Result<()> {
    // Held till all is gone, so that no agent starts on what is being removed.
    let _lock = match pins.lock() {
        Ok(lock) => Some(lock),
        Err(locked @ DatapathError::Locked { .. }) => bail!("nothing was removed: {locked}"),
        // There is no directory, or what cannot be locked cannot be anybody else's either.
        Err(_) => None,
    };
    let mut removed = Removed {
        pins: pins.dir().display().to_string(),
        devices: 0,
        maps: object::MAPS
            .iter()
            .filter(|name| pins.map(name).exists())
            .count(),
    };
    if pins.exist() {
        let devices = View::open(pins.clone())?.devices()?;
        removed.devices = devices.len();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(remove_filters(&devices))?;
    }
    // The links are held by nothing but their pins: with them go the programs.
    pins.remove()?;
    print(output, &removed, |removed| match removed.maps {
        0 => format!("nothing to remove in {}", removed.pins),
        maps => format!(
            "removed the programs of {} devices and {maps} maps from {}",
            removed.devices, removed.pins
        ),
    })
}

/// Removes what pins do not hold: the filters of clsact, and the qdiscs that are our own.
async fn remove_filters(devices: &[(u32, Device)]) -> anyhow::Result<()> {
    let netlink = Netlink::open()?;
    for (ifindex, device) in devices
        .iter()
        .filter(|(_, device)| device.attached & Device::CLSACT != 0)
    {
        if device.attached & Device::QDISC != 0 {
            // Fails only for a device that is gone, and its qdisc with it.
            let _ = netlink.remove_clsact(*ifindex).await;
        } else if let Ok(name) = nix::net::if_::if_indextoname(*ifindex) {
            detach_clsact(&name.to_string_lossy());
        }
    }
    Ok(())
}
