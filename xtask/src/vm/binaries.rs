//! The test binaries that can run in a guest, and how they are built here.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// A test binary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suite {
    /// Its name: the folder below `tests`.
    pub(super) name: &'static str,
    /// Its package, which is its folder in the workspace, too.
    pub(super) package: &'static str,
    /// Whether it is run unless others are asked for.
    pub(super) is_default: bool,
}

const fn suite(name: &'static str, package: &'static str, is_default: bool) -> Suite {
    Suite {
        name,
        package,
        is_default,
    }
}

/// All of them, the quickest first. What is not run by default does not depend on the kernel, or measures time.
pub(super) const SUITES: &[Suite] = &[
    suite("programs", "lb-userspace", true),
    suite("devices", "xtask", true),
    suite("datapath", "xtask", true),
    suite("lifecycle", "xtask", true),
    suite("external", "xtask", true),
    suite("lab", "xtask", false),
    suite("rules", "xtask", false),
    suite("cluster", "xtask", false),
];

/// The suite of that name, or what there is.
///
/// # Errors
/// A list of the known ones.
pub(super) fn find(name: &str) -> Result<&'static Suite, String> {
    let found = SUITES.iter().find(|suite| suite.name == name);
    found.ok_or_else(|| {
        let known: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        format!("not one of {}", known.join(", "))
    })
}

/// Builds the suites; their binaries in the same order.
///
/// # Errors
/// If one does not compile.
pub(super) fn build(suites: &[&'static Suite]) -> Result<Vec<PathBuf>> {
    let mut command = workspace::cargo();
    command.args([
        "test",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    command.args(["-p", "lb-userspace", "-p", "xtask"]);
    for suite in suites {
        command.args(["--test", suite.name]);
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo test")?;
    ensure!(output.status.success(), "the tests did not compile");
    let text = String::from_utf8(output.stdout).context("cargo test: not text")?;
    let messages: Vec<serde_json::Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let binary = |suite: &&Suite| {
        let manifest = workspace::root().join(suite.package).join("Cargo.toml");
        messages
            .iter()
            .filter(|message| message["target"]["name"] == suite.name)
            .filter(|message| {
                let path = message["manifest_path"].as_str();
                path.is_some_and(|path| Path::new(path) == manifest)
            })
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .with_context(|| format!("cargo named no test binary {}", suite.name))
    };
    suites.iter().map(binary).collect()
}
