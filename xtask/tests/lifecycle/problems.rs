//! Bad manifests: a clear message with file and line, and everything else goes on being served.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use xtask::lab::{AgentOptions, Lab};

use crate::{
    eventually,
    manifests::{self, Directory, frontends, web},
    needs_root,
    stream::who_answers,
};

/// A file, and what the agent's log says of it; every word must be there.
const BAD: &[(&str, &str, &[&str])] = &[
    ("not-yaml.yaml", "a: [1, 2\nb: }", &["not-yaml.yaml:"]),
    (
        "type.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: type}\nspec:\n  ports: 80\n",
        &["type.yaml:5", "default/type", "ports"],
    ),
    (
        "zero.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: zero}\nspec:\n  ports:\n  - port: 0\n",
        &["zero.yaml:6", "default/zero", "port", "0"],
    ),
    (
        "large.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: large}\nspec:\n  ports:\n  - port: 70000\n",
        &["large.yaml:6", "default/large", "70000"],
    ),
    (
        "family.yaml",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: family\n  labels: {kubernetes.io/service-name: x}\naddressType: IPv4\nports: []\nendpoints:\n- addresses: [\"fd00::1\"]\n",
        &["family.yaml:9", "default/family", "fd00::1"],
    ),
    (
        "loopback.yaml",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: loopback\n  labels: {kubernetes.io/service-name: x}\naddressType: IPv4\nports: []\nendpoints:\n- addresses: [127.0.0.1]\n",
        &["loopback.yaml:9", "default/loopback", "127.0.0.1"],
    ),
    (
        "taken.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: taken}\nspec:\n  clusterIP: 10.96.0.80\n  ports:\n  - port: 80\n",
        &["taken.yaml:5", "default/taken", "10.96.0.80", "default/web"],
    ),
];

/// Files that are no reason to say anything.
const QUIET: &[(&str, &str)] = &[
    ("empty.yaml", ""),
    (
        "kind.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\n",
    ),
    (
        "no-label.yaml",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: lost}\naddressType: IPv4\nports: []\nendpoints: []\n",
    ),
];

#[test]
fn bad_manifests_are_named_and_the_rest_is_served() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[(1, 10)])?;
    let lab = manifests::lab(&directory)?;
    for (name, text, _) in BAD {
        directory.write(name, text)?;
    }
    for (name, text) in QUIET {
        directory.write(name, text)?;
    }
    let log = || lab.agent("node-1").log();
    for (name, _, words) in BAD {
        let said = || {
            log()
                .lines()
                .any(|line| words.iter().all(|word| line.contains(word)))
        };
        let waited = eventually(&lab, 2, name, said);
        ensure!(
            waited.is_ok(),
            "{name}: no line with {words:?} in\n{}",
            log()
        );
    }
    for (name, _) in QUIET {
        ensure!(
            !log()
                .lines()
                .any(|line| line.contains("WARN") && line.contains(name)),
            "{name}\n{}",
            log()
        );
    }
    // Zero-padded addresses are read as numbers (rule 20), in a file of 5 MB as in a small one.
    let padded = web(&[(2, 11)]).replace("10.244.2.11", "010.244.002.011");
    directory.write("web.yaml", &(padded + &"# padding\n".repeat(500_000)))?;
    let client = &lab.pod("client-2").netns;
    eventually(&lab, 10, "the large file is served", || {
        who_answers(client, &frontends(), 4)
            .is_ok_and(|names| names.len() == 1 && names.contains("pod-2-11"))
    })?;
    // What a file last said stays in force when it becomes unreadable.
    directory.write("web.yaml", "kind: [Service")?;
    let said = || log().lines().any(|line| line.contains("web.yaml:"));
    eventually(&lab, 2, "the broken file is named", said)?;
    who_answers(client, &frontends(), 4)?;
    Ok(())
}

#[test]
fn wrong_command_lines_exit_with_two_and_wrong_surroundings_with_one() -> Result<()> {
    needs_root!();
    let options = AgentOptions::from_env("/nonexistent/manifests")?;
    let run = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = Command::new(&options.duolb).args(arguments).output()?;
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    };
    for arguments in [
        &[
            "agent",
            "--manifests",
            "/tmp",
            "--service-cluster-ip-range",
            "10.96.0.0/99",
        ][..],
        &[
            "agent",
            "--manifests",
            "/tmp",
            "--service-cluster-ip-range",
            "10.96.0.0/16,10.97.0.0/16",
        ],
        &["agent", "--manifests", "/tmp", "--max-slots", "0"],
        &["frobnicate"],
        &["status", "-o", "xml"],
    ] {
        let (code, said) = run(arguments)?;
        ensure!(
            code == Some(2) && !said.is_empty(),
            "{arguments:?}: {code:?} {said}"
        );
    }
    let lab = Lab::builder().build()?;
    let pins = format!("/sys/fs/bpf/{}-none", lab.prefix());
    let (code, said) = run(&["status", "--bpffs", &pins])?;
    ensure!(code == Some(1) && said.contains(&pins), "{code:?} {said}");
    Ok(())
}

#[test]
fn a_directory_that_does_not_exist_is_named() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    let path = directory.path().join("missing");
    let mut lab = Lab::builder()
        .node(xtask::lab::Node::routed("node-1").endpoints(0))
        .build()?;
    let started = lab.start_agents(&AgentOptions::from_env(&path)?);
    let said = started.map_err(|error| format!("{error:#}"));
    let named = said
        .as_ref()
        .is_err_and(|said| said.contains(&path.display().to_string()));
    ensure!(named, "{said:?}");
    ensure!(!path.exists() && fs::read_dir(directory.path())?.next().is_none());
    Ok(())
}
