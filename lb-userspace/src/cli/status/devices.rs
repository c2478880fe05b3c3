//! The devices in `duolb status`: those with the programs as the maps have them, and why the others have none.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};

use anyhow::Context as _;
use lb_common::{
    address::{Address, V4, V6},
    tables::Device,
};
use serde::Serialize;

use crate::{
    cli::output::table,
    datapath::{
        devices::{Host, LinkLayer, Place, place, role_name, xdp_name, xdp_why},
        netlink::Netlink,
    },
};

/// A device with the programs.
#[derive(Debug, Serialize)]
pub(super) struct DeviceRow {
    name: String,
    ifindex: u32,
    /// How the TC programs are attached.
    mode: &'static str,
    bridge: Option<String>,
    /// What is behind it.
    role: &'static str,
    xdp: &'static str,
    /// Why XDP does not run, or not as it might.
    xdp_why: Option<&'static str>,
    /// What clients get on their way out by it, if they need another address.
    snat: Vec<String>,
}

/// A device without.
#[derive(Debug, Serialize)]
pub(super) struct Skipped {
    name: String,
    ifindex: u32,
    why: String,
}

/// Both, given what the maps say.
pub(super) fn rows(
    mut attached: Vec<(u32, Device)>,
) -> anyhow::Result<(Vec<DeviceRow>, Vec<Skipped>)> {
    attached.sort_unstable_by_key(|(ifindex, _)| *ifindex);
    let list = async { Netlink::open()?.list().await };
    let listed = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(list);
    let host = listed.unwrap_or_else(|error| {
        let _ = writeln!(
            io::stderr(),
            "duolb: devices are told by their numbers: {error}"
        );
        Host::default()
    });
    let skipped = skipped(&host, &attached);
    let row = |(ifindex, device): (u32, Device)| {
        Some(device_row(ifindex, &device, &host)).filter(|_| device.attached != 0)
    };
    Ok((attached.into_iter().filter_map(row).collect(), skipped))
}

fn device_row(ifindex: u32, device: &Device, host: &Host) -> DeviceRow {
    DeviceRow {
        name: name(ifindex, host),
        ifindex,
        mode: if device.attached & Device::TCX != 0 {
            "tcx"
        } else {
            "clsact"
        },
        bridge: (device.bridge != 0).then(|| name(device.bridge, host)),
        role: role_name(device.role),
        xdp: xdp_name(device.attached),
        xdp_why: match host.links.get(&ifindex) {
            Some(link) if link.layer == LinkLayer::Ip => Some("no Ethernet header"),
            _ => Some(xdp_why(device)).filter(|why| !why.is_empty()),
        },
        snat: [address::<V4>(device.v4), address::<V6>(device.v6)]
            .into_iter()
            .flatten()
            .collect(),
    }
}

fn address<A: Address>(address: A) -> Option<String> {
    (address != A::default()).then(|| address.to_ip().to_string())
}

/// The reasons are found anew: the agent's own are in its log.
fn skipped(host: &Host, attached: &[(u32, Device)]) -> Vec<Skipped> {
    let attached: BTreeMap<_, _> = attached.iter().copied().collect();
    let others = host
        .links
        .values()
        .filter(|link| !attached.contains_key(&link.index));
    let why = |link| match place(link, host, &[]) {
        Place::Skip(reason) => reason.to_string(),
        Place::Attach { .. } => "not selected by --devices, or refused: see the agent's log".into(),
    };
    others
        .map(|link| Skipped {
            name: link.name.clone(),
            ifindex: link.index,
            why: why(link),
        })
        .collect()
}

/// The device's name in the network namespace that asks.
fn name(ifindex: u32, host: &Host) -> String {
    host.links
        .get(&ifindex)
        .map_or_else(|| format!("#{ifindex}"), |link| link.name.clone())
}

/// Both as tables.
pub(super) fn tables(devices: &[DeviceRow], skipped: &[Skipped]) -> String {
    let rows = devices.iter().map(|device| {
        let xdp = match device.xdp_why {
            Some(why) => format!("{} ({why})", device.xdp),
            None if device.role == "uplink" => device.xdp.to_owned(),
            None => "-".to_owned(),
        };
        [
            device.name.clone(),
            device.role.to_owned(),
            device.mode.to_owned(),
            xdp,
            device.bridge.clone().unwrap_or_default(),
            device.snat.join(" "),
        ]
    });
    let heads = ["DEVICE", "ROLE", "ATTACHED BY", "XDP", "PORT OF", "SNAT TO"];
    let mut text = table(heads, rows);
    if !skipped.is_empty() {
        let rows = skipped
            .iter()
            .map(|device| [device.name.clone(), device.why.clone()]);
        text += "\n";
        text += &table(["NOT ATTACHED", "WHY"], rows);
    }
    text
}
