//! XDP where the device takes it, else generic, else not at all; and never in another program's place.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{Brief, add_vlan, needs_root, one_node};

fn xdp(device: &Value) -> [Option<&str>; 2] {
    [device["xdp"].as_str(), device["xdp_why"].as_str()]
}

#[test]
fn native_where_the_driver_has_it_and_generic_where_not() -> Result<()> {
    needs_root!();
    let lab = one_node()?;
    add_vlan(&lab, "eth0", "eth0.5")?;
    let brief = Brief::new(&lab, "native");
    let log = brief.serve(&["--xdp", "native"])?;
    let veth = brief.device("eth0")?;
    ensure!(xdp(&veth) == [Some("native"), None], "{veth}\n{log}");
    let vlan = brief.device("eth0.5")?;
    let expected = [Some("generic"), Some("native mode is refused")];
    ensure!(xdp(&vlan) == expected, "{vlan}\n{log}");
    let pod = brief.device(&lab.pod("client-1").device)?;
    ensure!(xdp(&pod) == [Some("off"), None], "{pod}");
    Ok(())
}

#[test]
fn by_default_a_veth_has_no_xdp() -> Result<()> {
    needs_root!();
    let lab = one_node()?;
    let brief = Brief::new(&lab, "auto");
    brief.serve(&[])?;
    let veth = brief.device("eth0")?;
    let expected = [Some("off"), Some("not asked for by --xdp here")];
    ensure!(xdp(&veth) == expected, "{veth}");
    Ok(())
}

#[test]
fn the_mode_changes_with_the_next_agent() -> Result<()> {
    needs_root!();
    let lab = one_node()?;
    let node = lab.node("node-1");
    let brief = Brief::new(&lab, "changes");
    let in_kernel = || lab.exec(node, &["ip", "link", "show", "dev", "eth0"]);
    for (mode, shown) in [
        ("generic", "xdpgeneric"),
        ("native", " xdp "),
        ("native", " xdp "),
        ("off", ""),
        ("generic", "xdpgeneric"),
        ("auto", ""),
    ] {
        let log = brief.serve(&["--xdp", mode])?;
        let link = in_kernel()?;
        ensure!(
            link.contains("xdp") != shown.is_empty() && link.contains(shown),
            "--xdp {mode}: {link}\n{log}"
        );
        let name = if shown.is_empty() { "off" } else { mode };
        let device = brief.device("eth0")?;
        ensure!(device["xdp"] == name, "--xdp {mode}: {device}");
    }
    brief.serve(&["--xdp", "native"])?;
    brief.say(&["cleanup"])?;
    let link = in_kernel()?;
    ensure!(!link.contains("xdp"), "left behind: {link}");
    Ok(())
}

#[test]
fn another_program_is_left_in_peace_and_reported() -> Result<()> {
    needs_root!();
    let lab = one_node()?;
    for theirs in ["native", "generic"] {
        let other = Brief::new(&lab, "other");
        other.serve(&["--xdp", theirs])?;
        for ours in ["native", "generic"] {
            let brief = Brief::new(&lab, "ours");
            let log = brief.serve(&["--xdp", ours])?;
            let device = brief.device("eth0")?;
            let expected = [Some("off"), Some("busy: another XDP program is there")];
            ensure!(
                xdp(&device) == expected,
                "{ours} beside {theirs}: {device}\n{log}"
            );
        }
        let device = other.device("eth0")?;
        ensure!(device["xdp"] == theirs, "{device}");
    }
    Ok(())
}
