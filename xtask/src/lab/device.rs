//! What tests turn on devices, paths and firewalls while the lab runs.

use std::time::Duration;

use anyhow::Result;

use super::{Host, Lab, Netns, address::Addresses, builder::FABRIC_V4, ip, spawn};

/// The fabric's routes to a host and the pods on it, with a locked MTU if the path shall have one.
pub(super) fn fabric_routes(host: &Host, mtu: Option<u32>) -> Vec<String> {
    let (name, Addresses { v4, v6 }) = (&host.name, host.addresses);
    let mtu = mtu.map(|mtu| format!("mtu lock {mtu}")).unwrap_or_default();
    let mut lines = vec![
        format!("route replace {v4}/32 dev {name} src {FABRIC_V4} {mtu}"),
        format!("route replace {v6}/128 dev {name} {mtu}"),
    ];
    if let Some((number, _)) = host.node {
        lines.extend([
            format!("route replace 10.244.{number}.0/24 via {v4} dev {name} onlink {mtu}"),
            format!("route replace fd00:10:244:{number}::/64 via {v6} dev {name} onlink {mtu}"),
        ]);
    }
    lines
}

impl Lab {
    /// Sets a device's MTU.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_mtu(&self, netns: impl AsRef<Netns>, device: &str, mtu: u32) -> Result<()> {
        ip::batch(
            Some(netns.as_ref()),
            &[format!("link set {device} mtu {mtu}")],
        )
    }

    /// Makes the fabric a hop with a smaller MTU for packets **to** `host` (a node with its pods, or
    /// `outside`): larger ones are fragmented, or answered with "fragmentation needed" / "packet too
    /// big". `None` takes it back, though senders remember what they have learnt.
    ///
    /// # Panics
    /// If there is no such host.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_path_mtu(&self, host: &str, mtu: Option<u32>) -> Result<()> {
        ip::batch(Some(&self.fabric), &fabric_routes(self.node(host), mtu))
    }

    /// `ethtool -K <device> <features>`, as in `&["tx", "off"]`: what the other end then gets is a
    /// packet with all checksums in it, as off a wire.
    ///
    /// # Errors
    /// If ethtool fails.
    pub fn offload(&self, netns: impl AsRef<Netns>, device: &str, features: &[&str]) -> Result<()> {
        let command = [&["ethtool", "-K", device], features].concat();
        self.exec(netns, &command).map(drop)
    }

    /// Loads an nft ruleset.
    ///
    /// # Errors
    /// If nft refuses it.
    pub fn nft(&self, netns: impl AsRef<Netns>, ruleset: &str) -> Result<()> {
        spawn::output(netns.as_ref(), &["nft", "-f", "-"], ruleset).map(drop)
    }

    /// Waits until `ready` holds, looking often; tells whether it did in time, which is longer on a slow machine
    /// (see [`super::patience`]).
    ///
    /// # Errors
    /// `interrupted`, and what `ready` fails with.
    pub fn wait_until(
        &self,
        patience: Duration,
        mut ready: impl FnMut() -> Result<bool>,
    ) -> Result<bool> {
        let patience = super::patience::stretched(patience);
        let start = std::time::Instant::now();
        loop {
            super::interrupt::check()?;
            if ready()? {
                return Ok(true);
            }
            if start.elapsed() > patience {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
