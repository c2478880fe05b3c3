//! Devices that not every kernel can make: whether this one can, and tunnels of its own.
//!
//! The development machines' kernel has no VLANs, bonds, WireGuard or IP tunnels; those of distributions, which
//! `cargo xtask vm` runs, have.

use std::{fs, io::Write as _};

use anyhow::{Context as _, Result};

use super::{Host, Lab, ip, spawn};
use crate::workspace::find_program;

/// The port that WireGuard listens on.
const PORT: u16 = 51_820;

impl Lab {
    /// Whether the kernel makes links of `kind`. If not, says on stderr in one line that `test` is skipped and why.
    ///
    /// # Errors
    /// If a namespace to try it in cannot be made.
    pub fn knows_link(kind: &str, test: &str) -> Result<bool> {
        let why = match (kind, find_program("wg")) {
            ("wireguard", None) => Some("there is no wg (wireguard-tools)".to_owned()),
            _ => {
                let lab = Self::builder().build()?;
                let on = [
                    "link add below type veth peer name other".to_owned(),
                    match kind {
                        "vlan" => "link add link below name tried type vlan id 7".to_owned(),
                        // Without ends it would be the one that the module makes itself.
                        "ip6tnl" => {
                            "link add tried type ip6tnl local fd00::1 remote fd00::2".to_owned()
                        }
                        kind => format!("link add tried type {kind}"),
                    },
                ];
                let made = ip::batch(Some(&lab.fabric), &on);
                made.is_err()
                    .then(|| format!("the kernel makes no links of type {kind}"))
            }
        };
        if let Some(why) = &why {
            let _ = writeln!(std::io::stderr(), "{test} skipped: {why}");
        }
        Ok(why.is_none())
    }

    /// The values of `--tc-mode` that this kernel can serve by, the best first: tcx came with 6.6.
    pub fn tc_modes() -> &'static [&'static str] {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release
            .split(['.', '-'])
            .map(|part| part.parse().unwrap_or(0));
        let version: (u32, u32) = (
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        );
        if version >= (6, 6) {
            &["tcx", "clsact"]
        } else {
            &["clsact"]
        }
    }

    /// A WireGuard tunnel between two hosts over IPv4; neither end is up yet, nor has it an address.
    ///
    /// # Errors
    /// If `ip` or `wg` fails.
    pub fn lay_wireguard(&self, name: &str, ends: [&Host; 2]) -> Result<()> {
        let new_key = || -> Result<[String; 2]> {
            let private = spawn::output(&self.fabric, &["wg", "genkey"], "")?;
            let public = spawn::output(&self.fabric, &["wg", "pubkey"], &private)?;
            Ok([private.trim().to_owned(), public.trim().to_owned()])
        };
        let keys = [new_key()?, new_key()?];
        for (at, host) in ends.into_iter().enumerate() {
            let ([own, _], [_, others]) = (&keys[at], &keys[1 - at]);
            let to = ends[1 - at].addresses.v4;
            ip::batch(
                Some(&host.netns),
                &[format!("link add {name} type wireguard")],
            )?;
            let settings = format!(
                "[Interface]\nPrivateKey = {own}\nListenPort = {PORT}\n\
                 [Peer]\nPublicKey = {others}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {to}:{PORT}\n"
            );
            let file = self.dir().join(format!("{}-{name}.conf", host.name));
            fs::write(&file, settings)?;
            let file = file.to_str().context("the lab's directory is not text")?;
            spawn::output(&host.netns, &["wg", "setconf", name, file], "")?;
        }
        Ok(())
    }

    /// A tunnel of IPv4 and IPv6 in IPv6 between two hosts; likewise.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lay_ip6tnl(&self, name: &str, [near, far]: [&Host; 2]) -> Result<()> {
        for [own, other] in [[near, far], [far, near]] {
            let (local, remote) = (own.addresses.v6, other.addresses.v6);
            let line = format!(
                "link add {name} type ip6tnl mode any local {local} remote {remote} encaplimit none"
            );
            ip::batch(Some(&own.netns), &[line])?;
        }
        Ok(())
    }
}
