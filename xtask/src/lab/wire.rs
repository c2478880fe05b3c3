//! The fabric as a wire: what comes in by a node's uplink is what would come off a cable.
//!
//! A veth hands on super-packets of 64 KiB and checksums that nobody has computed. XDP sees neither on a
//! real uplink, and what it transmits leaves as it is. So the fabric's devices and that of `outside`
//! segment and compute checksums before a packet enters a node (`tx`, `tso` and `gso` off).
//!
//! XDP on a veth transmits into the ring of its peer, which has one only if it takes packets by NAPI: that
//! is so where GRO is on, and needs no program there (kernel 5.13, `veth_set_features`; without it what is
//! transmitted is counted as `xdp_tx_errors` and lost).

use anyhow::Result;

use super::{Lab, Netns, builder::OUTSIDE};

/// Off: what a wire does not carry. On: what XDP's transmissions need at the other end.
const FEATURES: [&str; 8] = ["tx", "off", "tso", "off", "gso", "off", "gro", "on"];

impl Lab {
    /// Makes all devices of the fabric, and that of `outside`, behave like a wire.
    ///
    /// # Errors
    /// If ethtool fails.
    pub fn be_a_wire(&self) -> Result<()> {
        let hosts = self.hosts.iter().map(|host| host.name.as_str());
        let ends: Vec<(&Netns, &str)> = hosts
            .map(|host| (&self.fabric, host))
            .chain([(&self.node(OUTSIDE).netns, "eth0")])
            .collect();
        ends.into_iter()
            .try_for_each(|(netns, device)| self.offload(netns, device, &FEATURES))
    }
}
