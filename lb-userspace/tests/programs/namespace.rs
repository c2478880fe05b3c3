//! A network namespace of the test thread's own, for what programs ask the kernel's routing table.

use std::{fs, process::Command};

use nix::sched::{CloneFlags, unshare};

use crate::packet::both;

/// Runs `ip` in the thread's namespace.
pub fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}

/// Moves the thread to a new namespace that routes, with `links`; its `device` has the router's addresses in the
/// network of clients and endpoints. Gives the device's ifindex.
pub fn enter(links: &[&str], device: &str) -> u32 {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    for arguments in links {
        ip(arguments);
    }
    for net in both() {
        let length = if net.is_v6 { "112" } else { "24" };
        let nodad = if net.is_v6 { " nodad" } else { "" };
        ip(&format!(
            "addr add {}/{length} dev {device}{nodad}",
            net.router
        ));
    }
    for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{switch}"), "1").unwrap();
    }
    nix::net::if_::if_nametoindex(device).unwrap()
}
