//! The distribution's packages: which programs come in which, and how they are installed.

use std::{iter, path::Path, process::Command};

use anyhow::{Result, bail};

use super::announce;
use crate::{progress, workspace::find_program};

/// A program, the package it comes in, and why it is needed.
pub(super) struct Program {
    name: &'static str,
    debian: &'static str,
    fedora: &'static str,
    why: &'static str,
}

/// What the lab calls.
pub(super) const LAB: &[Program] = &[
    Program {
        name: "ip",
        debian: "iproute2",
        fedora: "iproute",
        why: "the lab makes its namespaces, links and routes with ip",
    },
    Program {
        name: "ethtool",
        debian: "ethtool",
        fedora: "ethtool",
        why: "the lab turns offloads off, as on a wire",
    },
    Program {
        name: "nft",
        debian: "nftables",
        fedora: "nftables",
        why: "tests run duolb beside firewalls",
    },
    Program {
        name: "iptables-legacy",
        debian: "iptables",
        fedora: "iptables-legacy",
        why: "tests run duolb beside CNIs that use iptables",
    },
    Program {
        name: "strace",
        debian: "strace",
        fedora: "strace",
        why: "tests have the kernel refuse one call of the agent after the other",
    },
];

/// What a virtual machine with another kernel takes.
pub(super) const MACHINE: &[Program] = &[
    Program {
        name: "qemu-system-x86_64",
        debian: "qemu-system-x86",
        fedora: "qemu-system-x86-core",
        why: "it is the virtual machine",
    },
    Program {
        name: "depmod",
        debian: "kmod",
        fedora: "kmod",
        why: "the other kernel's modules are listed here and loaded by modprobe in the machine",
    },
    Program {
        name: "strip",
        debian: "binutils",
        fedora: "binutils",
        why: "test binaries must fit the machine's memory",
    },
    Program {
        name: "wg",
        debian: "wireguard-tools",
        fedora: "wireguard-tools",
        why: "tests lay tunnels of WireGuard, which kernels of distributions have",
    },
];

/// What the bench calls besides.
pub(super) const BENCH: &[Program] = &[Program {
    name: "iperf3",
    debian: "iperf3",
    fedora: "iperf3",
    why: "the bench measures streams with iperf3",
}];

/// What a static build calls.
pub(super) const STATIC: &[Program] = &[Program {
    name: "musl-gcc",
    debian: "musl-tools",
    fedora: "musl-gcc",
    why: "a static binary has the cryptography of TLS in it, which is partly C",
}];

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    Apt,
    Dnf,
}

impl Manager {
    /// The one of this machine.
    pub(super) fn find() -> Option<Self> {
        match () {
            () if find_program("apt-get").is_some() => Some(Self::Apt),
            () if find_program("dnf").is_some() => Some(Self::Dnf),
            () => None,
        }
    }

    /// Installs packages; asks sudo where we are not root.
    pub(super) fn install(self, packages: &[&str]) -> Result<()> {
        let what = format!("installing {}", packages.join(" "));
        match self {
            Self::Apt => {
                let args = ["install", "-y", "--no-install-recommends"];
                let command = || {
                    let mut command = as_root("apt-get");
                    command.args(args).args(packages);
                    command
                };
                // A fresh image has no package lists, an old one stale ones.
                if progress::step(&what, &mut command()).is_ok() {
                    return Ok(());
                }
                progress::step(
                    "refreshing apt's package lists",
                    as_root("apt-get").arg("update"),
                )?;
                progress::step(&what, &mut command())
            }
            Self::Dnf => {
                progress::step(&what, as_root("dnf").args(["install", "-y"]).args(packages))
            }
        }
    }
}

/// Installs the packages of those `programs` that are not there; returns how many are missing still.
pub(super) fn ensure(programs: &[Program], install: bool) -> Result<usize> {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| find_program(program.name).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(0);
    }
    let manager = Manager::find();
    let package = |program: &Program| match manager {
        Some(Manager::Dnf) => program.fedora,
        _ => program.debian,
    };
    for program in &missing {
        announce(package(program), program.why, install && manager.is_some());
    }
    if !install {
        return Ok(missing.len());
    }
    let Some(manager) = manager else {
        bail!("neither apt-get nor dnf is here: please install what is missing by other means");
    };
    let packages: Vec<_> = missing.iter().map(|program| package(program)).collect();
    manager.install(&packages)?;
    match missing
        .iter()
        .find(|program| find_program(program.name).is_none())
    {
        Some(program) => bail!(
            "{} was installed, but brought no {}",
            package(program),
            program.name
        ),
        None => Ok(0),
    }
}

/// A command that runs as root: through sudo, unless we are root.
pub(super) fn as_root(program: &str) -> Command {
    let program = find_program(program).unwrap_or_else(|| Path::new(program).to_owned());
    let noninteractive = "DEBIAN_FRONTEND=noninteractive";
    let words = iter::once("env").chain([noninteractive]);
    let mut words = words.chain(iter::once(program.to_str().unwrap_or_default()));
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new(words.next().unwrap_or("env"))
    } else {
        Command::new("sudo")
    };
    command.args(words);
    command
}
