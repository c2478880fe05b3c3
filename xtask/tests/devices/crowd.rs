//! Many devices that come and go faster than anybody could attach to them.

use std::{fmt::Write as _, fs, time::Duration};

use anyhow::{Result, ensure};

use crate::{device, needs_root, with_agent};

const VETHS: usize = 200;

#[test]
fn two_hundred_veths_that_come_and_go_leave_nothing_and_do_no_harm() -> Result<()> {
    needs_root!();
    let lab = with_agent(&["--xdp", "native"])?;
    let node = lab.node("node-1");
    let pins = || {
        let links = fs::read_dir(lab.agent("node-1").bpffs())
            .into_iter()
            .flatten()
            .flatten()
            .map(|version| version.path().join("links"));
        links
            .flat_map(|links| fs::read_dir(links).into_iter().flatten())
            .count()
    };
    let before = pins();
    let mut batch = String::new();
    for index in 0..VETHS {
        writeln!(batch, "link add crowd{index} type veth peer name c{index}")?;
        writeln!(batch, "address add 10.77.{index}.1/24 dev crowd{index}")?;
        writeln!(batch, "link set crowd{index} group 77 up")?;
    }
    // All at once: one by one takes the kernel its time.
    writeln!(batch, "link del group 77")?;
    let file = lab.dir().join("crowd");
    fs::write(&file, batch)?;
    let file = file.display().to_string();
    for _ in 0..3 {
        lab.exec(node, &["ip", "-batch", &file])?;
    }
    let settled = lab.wait_until(Duration::from_secs(15), || Ok(pins() == before))?;
    ensure!(settled, "{} pins, {before} before", pins());
    let agent = lab.agent("node-1");
    agent.check()?;
    ensure!(!agent.log().contains("panicked"), "{}", agent.log());
    let uplink = device(&lab, "eth0")?;
    ensure!(uplink["role"] == "uplink", "{uplink}");
    Ok(())
}
