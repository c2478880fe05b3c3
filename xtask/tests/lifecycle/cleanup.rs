//! `duolb cleanup` leaves a node as it was; on request without kube-proxy's rules, and with everybody else's.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xtask::lab::{AgentOptions, KernelIds, Lab, Netns, Node};

use crate::{eventually, manifests::Directory, needs_root};

const NODE: &str = "node-1";

fn lab() -> Result<Lab> {
    Lab::builder()
        .node(Node::bridged(NODE).endpoints(1))
        .build()
}

/// Everything about a node that an agent might change, but for counters.
fn state(lab: &Lab) -> Result<Vec<String>> {
    let node = &lab.node(NODE).netns;
    let mut lines = Vec::new();
    for command in [
        "tc qdisc show",
        "ip -o addr show",
        "ip -o link show",
        "ip rule show",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "nft list ruleset",
        "grep -rs '' /proc/sys/net",
    ] {
        let text = lab.exec(node, &["sh", "-c", &format!("{command} || true")])?;
        let is_kept = |line: &&str| {
            !["_count", "_max_cached", "expires"]
                .iter()
                .any(|word| line.contains(word))
        };
        let kept = text.lines().filter(is_kept);
        lines.extend(kept.map(|line| format!("{command}: {}", line.trim())));
    }
    lines.sort();
    Ok(lines)
}

fn compare(before: &[String], after: &[String]) -> Result<()> {
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    ensure!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nleft: {new:#?}"
    );
    Ok(())
}

/// With agents that were killed on their way to other maps, so that there are those, too.
#[test]
fn a_node_is_as_it_was_after_a_cleanup() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[(1, 10)])?;
    for args in [
        &["--tc-mode", "tcx", "--xdp", "generic"][..],
        &["--tc-mode", "clsact"],
    ] {
        let mut lab = lab()?;
        let before = state(&lab)?;
        let mut options = AgentOptions::from_env(directory.path())?;
        options.args = args.iter().map(|&arg| arg.to_owned()).collect();
        lab.start_agents(&options)?;
        let mut ids = vec![KernelIds::of(lab.agent(NODE).pid().context("it runs")?)?];
        ensure!(ids[0].count() > 20, "{ids:?}");
        let refused = lab.agent(NODE).duolb(&["cleanup"]);
        let said = refused.map_err(|error| format!("{error:#}"));
        ensure!(
            said.as_ref()
                .is_err_and(|said| said.contains("another duolb agent")),
            "cleanup under a running agent: {said:?}"
        );
        let agent = lab.agent_mut(NODE);
        agent.kill();
        for (step, size) in [(0, 70_000), (1, 80_000), (2, 90_000)] {
            agent.args_mut().retain(|arg| !arg.starts_with("--max"));
            agent.args_mut().push(format!("--max-flows={size}"));
            agent.start()?;
            thread::sleep(Duration::from_millis(300 * (step + 1)));
            if let Some(pid) = agent.pid() {
                ids.push(KernelIds::of(pid)?);
            }
            agent.kill();
        }
        let removed: Value = serde_json::from_str(&agent.duolb(&["cleanup", "-o", "json"])?)?;
        ensure!(
            removed["devices"] == 3 && removed["links"].as_u64() > Some(5),
            "{removed}"
        );
        ensure!(!lab.agent(NODE).bpffs().exists(), "pins are left");
        compare(&before, &state(&lab)?).with_context(|| format!("{args:?}"))?;
        let is_gone = || ids.iter().all(|ids| ids.left().count() == 0);
        eventually(&lab, 10, "programs and maps are gone", is_gone)?;
        // And once more, with nothing there.
        let removed: Value =
            serde_json::from_str(&lab.agent(NODE).duolb(&["cleanup", "-o", "json"])?)?;
        ensure!(removed["maps"] == 0 && removed["links"] == 0, "{removed}");
    }
    Ok(())
}

/// Others' rules, and what of Kubernetes is the kubelet's.
const OTHERS: &str = "*nat
:CNI-HOSTPORT - [0:0]
:KUBE-MARK-DROP - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
-A PREROUTING -m comment --comment \"not -j KUBE-SERVICES\" -j CNI-HOSTPORT
-A CNI-HOSTPORT -p tcp -m tcp --dport 81 -j RETURN
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -j ACCEPT
COMMIT
";

/// In the shape of kube-proxy's.
const KUBE_PROXY: &str = "*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
:KUBE-SEP-57KPRZ3JQVENLNBR - [0:0]
:KUBE-EXT-NPX46M4PTMTKRN6Y - [0:0]
:KUBE-FW-NPX46M4PTMTKRN6Y - [0:0]
:KUBE-SVL-NPX46M4PTMTKRN6Y - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-SERVICES -p tcp -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-NPX46M4PTMTKRN6Y
-A KUBE-EXT-NPX46M4PTMTKRN6Y -j KUBE-MARK-MASQ
-A KUBE-SVC-NPX46M4PTMTKRN6Y -j KUBE-SEP-57KPRZ3JQVENLNBR
COMMIT
*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
COMMIT
";

const NFT: &str = "
table FAMILY kube-proxy {
    chain services { }
    chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
}";

/// All rules of a namespace, as every tool tells them, but for empty tables and counters.
fn rules(lab: &Lab, netns: &Netns) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for tool in tools() {
        let text = lab.exec(netns, &["sh", "-c", &format!("{tool}-save || true")])?;
        let is_rule =
            |line: &&str| line.starts_with("-A") || line.starts_with(':') && line.contains(" - ");
        let rules = text.lines().filter(is_rule);
        all.extend(
            rules.map(|line| format!("{tool}: {}", line.split(" [").next().unwrap_or(line))),
        );
    }
    all.extend(
        lab.exec(netns, &["nft", "list", "tables"])?
            .lines()
            .filter(|line| line.contains("kube") || line.contains("mine"))
            .map(str::to_owned),
    );
    Ok(all)
}

fn tools() -> [&'static str; 4] {
    [
        "iptables-nft",
        "ip6tables-nft",
        "iptables-legacy",
        "ip6tables-legacy",
    ]
}

fn lay(lab: &Lab, netns: &Netns, rules: &str) -> Result<()> {
    for tool in tools() {
        let command = format!("printf '%s' \"$0\" | {tool}-restore --noflush");
        let done = lab.exec(netns, &["sh", "-c", &command, rules]);
        // Kernels of today may be without the variant of yesterday.
        if tool.contains("nft") {
            done?;
        } else if let Err(error) = done {
            eprintln!("without {tool}: {error:#}");
        }
    }
    Ok(())
}

/// By the command, and by an agent as soon as it serves.
#[test]
fn kube_proxys_rules_go_on_request_and_nobody_elses() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[(1, 10)])?;
    for by_agent in [false, true] {
        let mut lab = lab()?;
        let node = &lab.node(NODE).netns;
        lay(&lab, node, OTHERS)?;
        lab.exec(node, &["nft", "add", "table", "inet", "mine"])?;
        let before = rules(&lab, node)?;
        lay(&lab, node, KUBE_PROXY)?;
        for family in ["ip", "ip6"] {
            lab.exec(node, &["nft", &NFT.replace("FAMILY", family)])?;
        }
        ensure!(
            rules(&lab, node)?.len() > before.len() + 40,
            "kube-proxy's rules are not there"
        );
        let mut options = AgentOptions::from_env(directory.path())?;
        if by_agent {
            options.args = vec!["--cleanup-kube-proxy".into()];
            lab.start_agents(&options)?;
        } else {
            lab.add_agents(&options);
            let text = lab
                .agent(NODE)
                .duolb(&["cleanup", "--cleanup-kube-proxy", "-o", "json"])?;
            let removed: Value = serde_json::from_str(&text)?;
            let removed = &removed["kubeProxy"];
            ensure!(
                removed["tables"]
                    .as_array()
                    .is_some_and(|tables| tables.len() == 2),
                "{removed}"
            );
            ensure!(removed["chains"].as_u64() >= Some(28), "{removed}");
        }
        let is_as_before = || {
            let netns = &lab.node(NODE).netns;
            rules(&lab, netns).is_ok_and(|after| after == before)
        };
        if lab.wait_until(Duration::from_secs(20), || Ok(is_as_before()))? {
            continue;
        }
        let after = rules(&lab, &lab.node(NODE).netns)?;
        compare(&before, &after)?;
        anyhow::bail!("another order: {before:#?}, {after:#?}");
    }
    Ok(())
}
