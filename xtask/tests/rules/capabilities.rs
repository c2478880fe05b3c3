//! The three capabilities of deploy/: with them the agent does everything, without any of them it says
//! which one is missing, and which call was refused.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use xtask::{lab::Lab, lab::Node, workspace::find_program};

use crate::needs_root;

const NEEDED: [&str; 3] = ["bpf", "net_admin", "perfmon"];

/// Runs a command till it ends or says that its work is done, and gives what it said.
const TILL_IN_PLACE: &str = r#"
log=$1
shift
: > "$log"
"$@" 2>> "$log" &
agent=$! tries=0
while kill -0 $agent 2> /dev/null && ! grep -q "in place" "$log" && [ $tries -lt 300 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
kill -TERM $agent 2> /dev/null
wait $agent
cat "$log" >&2
"#;

/// What an agent with these capabilities, and no others, says till its datapath is in place.
fn agent_with(lab: &Lab, capabilities: &[&str], mode: &str) -> Result<String> {
    let keep: Vec<String> = capabilities.iter().map(|name| format!("+{name}")).collect();
    let keep = format!("-all,{}", keep.join(","));
    let duolb = std::env::var("DUOLB_BIN").context("DUOLB_BIN is not set: use cargo xtask test")?;
    let setpriv = find_program("setpriv").context("no setpriv (util-linux)")?;
    let bpffs = format!("/sys/fs/bpf/{}-capabilities", lab.prefix());
    let manifests = lab.dir().join("manifests");
    std::fs::create_dir_all(&manifests)?;
    let run = || -> Result<String> {
        let output = Command::new("sh")
            .args(["-c", TILL_IN_PLACE, "sh"])
            .arg(lab.dir().join("capabilities.log"))
            .arg(setpriv)
            .args(["--bounding-set", &keep, "--inh-caps", &keep])
            .args([
                &duolb,
                "--bpffs",
                &bpffs,
                "agent",
                "--tc-mode",
                mode,
                "--manifests",
            ])
            .arg(&manifests)
            .args(["--healthz-bind-address", "127.0.0.1:10256"])
            .output()?;
        let cleanup = Command::new(&duolb)
            .args(["--bpffs", &bpffs, "cleanup"])
            .output()?;
        ensure!(
            cleanup.status.success(),
            "{}",
            String::from_utf8_lossy(&cleanup.stderr)
        );
        let _ = std::fs::remove_dir(&bpffs);
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    lab.in_ns(lab.node("node-1"), run)?
}

#[test]
fn three_capabilities_are_enough_and_each_is_needed() -> Result<()> {
    needs_root!();
    let lab = Lab::builder()
        .node(Node::routed("node-1").endpoints(1))
        .build()?;
    for mode in Lab::tc_modes() {
        let log = agent_with(&lab, &NEEDED, mode)?;
        ensure!(
            log.contains("the datapath is in place")
                && log.contains("the node's own processes are served")
                && !log.contains("not permitted"),
            "{mode}: {log}"
        );
    }
    for left_out in NEEDED {
        let others: Vec<&str> = NEEDED
            .into_iter()
            .filter(|name| *name != left_out)
            .collect();
        let log = agent_with(&lab, &others, Lab::tc_modes()[0])?;
        let name = format!("CAP_{} is missing", left_out.to_uppercase());
        ensure!(
            log.contains(&name)
                && (log.contains("not permitted") || log.contains("ermission denied")),
            "without {left_out}: {log}"
        );
    }
    Ok(())
}
