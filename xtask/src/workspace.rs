//! Where the workspace is and how its cargo is called.
//!
//! A cargo started from `cargo xtask` inherits what the outer one told xtask about itself. What would
//! mislead the inner one is taken away here, in one place.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is in a workspace")
}

/// The cargo that runs us, in the root of the workspace.
pub fn cargo() -> Command {
    let cargo = PathBuf::from(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut command = Command::new(&cargo);
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|start| text.starts_with(start))
        {
            command.env_remove(name);
        }
    }
    // Where PATH knows no rustc, or the distribution's, cargo's own stands beside it.
    if let Some(bin) = cargo.parent().filter(|bin| bin.is_absolute()) {
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(bin.to_owned()).chain(env::split_paths(&path));
        if let Ok(path) = env::join_paths(dirs) {
            command.env("PATH", path);
        }
    }
    command
}

/// Runs `command` with our terminal.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        let args: Vec<_> = command
            .get_args()
            .map(|arg| arg.to_string_lossy())
            .collect();
        bail!("{name} {}: {status}", args.join(" "));
    }
    Ok(())
}

/// A program on PATH or where administration programs are: a user's PATH often leaves those out.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let admin = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(PathBuf::from);
    env::split_paths(&path)
        .chain(admin)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// Where cargo puts what it builds.
///
/// # Errors
/// If cargo does not say.
pub fn target_dir() -> Result<PathBuf> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output();
    let output = output.context("cannot start cargo metadata")?;
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    json["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .context("cargo metadata names no target")
}

/// The triple of this machine, which cargo builds for when no target is given.
///
/// # Errors
/// If cargo does not say.
pub fn host() -> Result<String> {
    let mut command = cargo();
    let output = command
        .args(["-vV"])
        .output()
        .context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("cargo -vV names no host")
}
