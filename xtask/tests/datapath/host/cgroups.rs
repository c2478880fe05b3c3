//! Which processes are the node's own: those below the cgroup that the agent is told, or all.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Protocol, probe::Probe};

use crate::support::{Cluster, need_datapath, pods_of, service::Service};

/// A cgroup of the test's own, below the root of all.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let root = mounts
            .lines()
            .find_map(|line| {
                let mut words = line.split(' ').skip(1);
                let (path, kind) = (words.next()?, words.next()?);
                (kind == "cgroup2").then_some(path)
            })
            .context("no cgroup v2")?;
        let dir = PathBuf::from(root).join(format!("duolb-test-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self(dir))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0); // Its processes have ended.
    }
}

#[test]
fn only_processes_below_the_cgroup_that_the_agent_is_told_are_served() -> Result<()> {
    need_datapath!();
    let cgroup = Cgroup::make()?;
    let root = cgroup.0.display().to_string();
    let services = [Service::new(1, []), Service::new(2, pods_of(1, 1))];
    let cluster = Cluster::start_with(&services, &["--cgroup-root", &root])?;
    let [empty, _] = services[0].frontends();
    let node = cluster.lab.node("node-1");
    // The test is outside.
    let outside = Probe::new(Protocol::Udp, empty)
        .connected()
        .attempts(1)
        .run_in(&node.netns);
    let error = outside.expect_err("nobody answers there").source;
    ensure!(
        error.kind() != std::io::ErrorKind::ConnectionRefused,
        "{error}"
    );
    // A shell, which opens UDP sockets by this name, goes inside.
    let script = format!(
        "echo $$ > {root}/cgroup.procs; exec 3<>/dev/udp/{}/{}",
        empty.ip(),
        empty.port()
    );
    let inside = cluster.lab.in_ns(node, || -> Result<_> {
        let shell = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .output()?;
        Ok(String::from_utf8_lossy(&shell.stderr).into_owned())
    })??;
    ensure!(inside.contains("refused"), "{inside}");
    ensure!(cluster.verdict("node-1", "no-endpoint")? == 1);
    ensure!(cluster.status("node-1")?["host_clients"] == true);
    let log = cluster.lab.agent("node-1").log();
    ensure!(log.contains("not the root of all cgroups"), "{log}");
    Ok(())
}

#[test]
fn without_cgroups_everybody_else_is_served_and_the_agent_says_so() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, pods_of(1, 1))];
    let cluster = Cluster::start_with(&services, &["--cgroup-root", "/proc/self"])?;
    for client in cluster.clients() {
        Probe::new(Protocol::Tcp, services[0].frontends()[0]).run_in(&client.netns)?;
    }
    ensure!(cluster.status("node-1")?["host_clients"] == false);
    let log = cluster.lab.agent("node-1").log();
    ensure!(log.contains("own processes are not served"), "{log}");
    Ok(())
}
