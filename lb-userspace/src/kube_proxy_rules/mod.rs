//! Removes what kube-proxy has left in netfilter: its nftables tables and its iptables chains, and nothing else.
//!
//! Through the tools, which know every variant that kernels have; each table in one transaction. A tool that is not
//! there is named and skipped: whoever has no `iptables-legacy` most likely has no rules in it either.

mod iptables;

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use self::iptables::find_removal;

/// kube-proxy's tables (pkg/proxy/nftables/proxier.go).
const TABLES: [(&str, &str); 2] = [("ip", "kube-proxy"), ("ip6", "kube-proxy")];

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// nftables tables.
    pub tables: Vec<String>,
    /// Number of chains of iptables, of all families and variants.
    pub chains: usize,
    /// Tools that are not installed.
    pub missing_tools: Vec<String>,
    /// What is left for somebody else to do.
    pub hints: Vec<String>,
}

/// In lines for people.
impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables.len();
        write!(
            f,
            "of kube-proxy: removed {tables} nftables tables and {} iptables chains",
            self.chains
        )?;
        if !self.missing_tools.is_empty() {
            write!(
                f,
                "; not installed, so not looked into: {}",
                self.missing_tools.join(", ")
            )?;
        }
        self.hints.iter().try_for_each(|hint| write!(f, "\n{hint}"))
    }
}

/// Removes it from the network namespace this runs in.
///
/// # Errors
/// If a tool fails; what was removed before stays removed.
pub fn remove() -> anyhow::Result<Removed> {
    let mut removed = Removed::default();
    remove_tables(&mut removed)?;
    for family in ["iptables", "ip6tables"] {
        let mut is_any = false;
        for variant in ["nft", "legacy"] {
            is_any |= remove_chains(&format!("{family}-{variant}"), &mut removed)?;
        }
        // Where the variants have no names of their own.
        if !is_any {
            remove_chains(family, &mut removed)?;
        }
    }
    if Path::new("/sys/class/net/kube-ipvs0").exists() {
        removed.hints.push(
            "kube-ipvs0 is there: kube-proxy ran in ipvs mode; `ip link delete kube-ipvs0` and `ipvsadm --clear` \
             remove its device and its virtual servers"
                .into(),
        );
    }
    Ok(removed)
}

fn remove_tables(removed: &mut Removed) -> anyhow::Result<()> {
    let Some(listing) = run("nft", &["list", "tables"], "")? else {
        removed.missing_tools.push("nft".into());
        return Ok(());
    };
    for (family, name) in TABLES {
        let table = format!("table {family} {name}");
        if listing.lines().any(|line| line.trim() == table) {
            run("nft", &["-f", "-"], &format!("delete {table}\n"))?;
            removed.tables.push(format!("{family} {name}"));
        }
    }
    Ok(())
}

/// Whether the tool is there.
fn remove_chains(tool: &str, removed: &mut Removed) -> anyhow::Result<bool> {
    let (save, restore) = (format!("{tool}-save"), format!("{tool}-restore"));
    let Some(saved) = run(&save, &[], "")? else {
        removed.missing_tools.push(save);
        return Ok(false);
    };
    let removal = find_removal(&saved);
    if removal.chains > 0 {
        let done = run(&restore, &["--noflush"], &removal.input)?;
        done.with_context(|| format!("{restore} is not installed, but {save} is"))?;
        removed.chains += removal.chains;
    }
    Ok(true)
}

/// What a tool prints; `None` if it is not installed.
fn run(tool: &str, arguments: &[&str], input: &str) -> anyhow::Result<Option<String>> {
    let mut command = Command::new(tool);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot start {tool}"))?,
    };
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().with_context(|| tool.to_owned())?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        bail!("{tool} {}: {status}: {}", arguments.join(" "), said.trim());
    }
    Ok(Some(String::from_utf8_lossy(&stdout).into_owned()))
}
