//! On which devices XDP is tried, and how.
//!
//! Only on uplinks, and by default only where a driver runs it: on a veth it turns off segmentation offload at the
//! other end, which cost three quarters of the throughput when measured, and in generic mode every packet
//! that was received as one of many is copied together first, which costs more than TC saves. TC serves whatever
//! XDP does not.

use lb_common::tables::Device;

use super::host::{Link, LinkLayer};

/// `--xdp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver of physical devices.
    #[default]
    Auto,
    /// In the driver of every uplink, else as `Generic`.
    Native,
    /// In the stack's stead on every uplink.
    Generic,
    /// Nowhere.
    Off,
}

/// The modes that are tried on a device, in this order, as bits of [`Device::attached`].
pub fn xdp_modes(link: &Link, role: u32, mode: XdpMode) -> &'static [u32] {
    const NATIVE: u32 = Device::XDP_NATIVE;
    const GENERIC: u32 = Device::XDP_GENERIC;
    if role & Device::UPLINK == 0 || link.layer != LinkLayer::Ethernet {
        return &[];
    }
    match mode {
        XdpMode::Auto if link.kind.is_empty() => &[NATIVE],
        XdpMode::Native => &[NATIVE, GENERIC],
        XdpMode::Generic => &[GENERIC],
        XdpMode::Auto | XdpMode::Off => &[],
    }
}
