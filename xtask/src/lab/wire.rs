//! The fabric as a wire: what comes in by a node's uplink is what would come off a cable.
//!
//! A veth hands on super-packets of 64 KiB and checksums that nobody has computed. XDP sees neither on a
//! real uplink, and what it transmits leaves as it is. So the fabric's devices and that of `outside`
//! segment and compute checksums before a packet enters a node (`tx`, `tso` and `gso` off).
//!
//! What XDP transmits on a veth is lost unless the peer has a program too, see `dummy_xdp`. GRO is off on a veth
//! unless asked for, and on with any real driver.

use anyhow::Result;

use super::{Lab, Netns, builder::OUTSIDE, dummy_xdp};

/// Off: what a wire does not carry.
const FEATURES: [&str; 8] = ["tx", "off", "tso", "off", "gso", "off", "gro", "on"];

impl Lab {
    /// Makes all devices of the fabric, and that of `outside`, behave like a wire.
    ///
    /// # Errors
    /// If ethtool fails, or the kernel takes no program.
    pub fn be_a_wire(&mut self) -> Result<()> {
        let mut wire = Vec::new();
        let hosts = self.hosts.iter().map(|host| host.name.as_str());
        let ends: Vec<(&Netns, &str)> = hosts
            .map(|host| (&self.fabric, host))
            .chain([(&self.node(OUTSIDE).netns, "eth0")])
            .collect();
        for (netns, device) in ends {
            self.offload(netns, device, &FEATURES)?;
        }
        for node in self.nodes() {
            wire.push(dummy_xdp::attach(&self.fabric, &node.name)?);
        }
        self.wire = wire;
        Ok(())
    }
}
