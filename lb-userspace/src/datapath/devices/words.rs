//! What is known of a device in words, for people.

use lb_common::tables::Device;

/// What is behind it, by the bits of [`Device::role`].
pub const fn role_name(role: u32) -> &'static str {
    if role & Device::UPLINK != 0 {
        "uplink"
    } else if role & Device::PODS != 0 {
        "pods"
    } else {
        "other"
    }
}

/// How XDP runs, by the bits of [`Device::attached`].
pub const fn xdp_name(attached: u32) -> &'static str {
    if attached & Device::XDP_NATIVE != 0 {
        "native"
    } else if attached & Device::XDP_GENERIC != 0 {
        "generic"
    } else {
        "off"
    }
}

/// Why it runs so, where that is not what anyone would expect.
pub const fn xdp_why(device: &Device) -> &'static str {
    let Device { attached, role, .. } = *device;
    if attached & Device::XDP_BUSY != 0 {
        "busy: another XDP program is there"
    } else if attached & Device::XDP_GENERIC != 0 && attached & Device::XDP_REFUSED != 0 {
        "native mode is refused"
    } else if attached & Device::XDP_REFUSED != 0 {
        "refused"
    } else if role & Device::UPLINK != 0
        && attached & (Device::XDP_NATIVE | Device::XDP_GENERIC) == 0
    {
        "not asked for by --xdp here"
    } else {
        ""
    }
}
