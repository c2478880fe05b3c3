//! The compiler and the linker of the kernel side.
//!
//! rustup is asked first for the library's sources; where it cannot deliver, the distribution's own Rust
//! is installed beside. bpf-linker is compiled against the LLVM that the chosen rustc itself runs on, so
//! that the two agree whatever LLVM the distribution has, and into a directory of its own, because
//! another project may need another bpf-linker.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{announce, packages::Manager};
use crate::{
    progress,
    toolchain::{self, Missing, Toolchain},
    workspace::{self, find_program},
};

/// The bpf-linker that is installed.
const BPF_LINKER: &str = "0.13.0";
/// The target of a static build.
pub const STATIC_X86_64: &str = "x86_64-unknown-linux-musl";
/// Likewise.
pub const STATIC_AARCH64: &str = "aarch64-unknown-linux-musl";
/// Why the sources are needed.
const WHY_SOURCES: &str = "the BPF target has no prebuilt core";

/// Makes [`toolchain::find`] succeed; returns how many things are missing still.
pub(super) fn ensure(install: bool) -> Result<usize> {
    let mut tried_sources = false;
    loop {
        match toolchain::find() {
            Ok(_) => return Ok(0),
            Err(Missing::Sources) if !install => {
                announce("rust-src", WHY_SOURCES, install);
                announce(
                    "bpf-linker",
                    "it makes the kernel's object file out of LLVM bitcode",
                    install,
                );
                return Ok(2);
            }
            Err(Missing::Sources) if tried_sources => {
                bail!(
                    "{}: none of the ways to install them worked",
                    Missing::Sources
                )
            }
            Err(Missing::Sources) => {
                install_sources()?;
                tried_sources = true;
            }
            Err(Missing::Linker(toolchain)) => {
                let what = format!("bpf-linker {BPF_LINKER} for LLVM {}", toolchain.llvm);
                announce(
                    &what,
                    "it makes the kernel's object file out of LLVM bitcode",
                    install,
                );
                if !install {
                    return Ok(1);
                }
                install_linker(&toolchain, &what)?;
                return match toolchain::Linker::find(&toolchain) {
                    Some(_) => Ok(0),
                    None => bail!(
                        "the bpf-linker just installed does not have LLVM {}",
                        toolchain.llvm
                    ),
                };
            }
        }
    }
}

/// By rustup if there is one that can, else by the package manager.
fn install_sources() -> Result<()> {
    if let Some(rustup) = find_rustup() {
        match by_rustup(&rustup) {
            Ok(()) => return Ok(()),
            Err(error) => {
                let text = format!("{error:#}");
                let last = text
                    .lines()
                    .rfind(|line| line.contains("error:"))
                    .unwrap_or(&text);
                eprintln!(
                    "setup: rustup could not ({}); trying the distribution's Rust",
                    last.trim()
                );
            }
        }
    }
    let Some(manager) = Manager::find() else {
        bail!("neither rustup nor apt-get nor dnf can install rust-src here");
    };
    // Debian and Ubuntu keep the Rust that Firefox is built with up to date under the name of -web.
    let choices: &[&[&str]] = match manager {
        Manager::Apt => &[
            &["rustc-web", "cargo-web", "rust-web-src"],
            &["rustc", "cargo", "rust-src"],
        ],
        Manager::Dnf => &[&["rust", "cargo", "rust-src"]],
    };
    let mut result = Ok(());
    for packages in choices {
        announce(&packages.join(" "), WHY_SOURCES, true);
        result = manager.install(packages);
        if result.is_ok() && !matches!(toolchain::find(), Err(Missing::Sources)) {
            break;
        }
    }
    result
}

/// The sources for a toolchain that is there, or a nightly with them.
fn by_rustup(rustup: &Path) -> Result<()> {
    let toolchains = toolchain::prefixes();
    let mut fit = toolchains
        .iter()
        .filter(|prefix| prefix.parent().is_some_and(|p| p.ends_with("toolchains")));
    let mut command = Command::new(rustup);
    command.env_remove("RUSTUP_TOOLCHAIN");
    let what = if let Some(prefix) = fit.find(|prefix| Toolchain::at(prefix).is_some()) {
        let name = prefix.file_name().unwrap_or_default();
        command
            .args(["component", "add", "rust-src", "--toolchain"])
            .arg(name);
        format!("rust-src for {}", name.display())
    } else {
        let nightly = ["nightly", "--profile", "minimal", "--component", "rust-src"];
        command.args(["toolchain", "install"]).args(nightly);
        "a nightly Rust with rust-src".to_owned()
    };
    announce(&what, WHY_SOURCES, true);
    progress::step(&format!("installing {what}"), &mut command)
}

fn find_rustup() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let default = env::home_dir().map(|home| home.join(".cargo"));
    let beside = home
        .into_iter()
        .chain(default)
        .map(|home| home.join("bin/rustup"));
    find_program("rustup").or_else(|| beside.into_iter().find(|path| path.is_file()))
}

/// `cargo install`, linked to the very library that `toolchain` runs on.
fn install_linker(toolchain: &Toolchain, what: &str) -> Result<()> {
    let root = toolchain
        .linker_root()
        .context("no home directory: set CARGO_HOME")?;
    let lib = toolchain
        .libllvm()
        .with_context(|| format!("{toolchain} has no shared LLVM to link to"))?;
    let dir = root.join("lib");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // The linker looks for the first name, the loader for the second: the library's own.
    for name in ["libLLVM.so".as_ref(), lib.file_name().unwrap_or_default()] {
        let link = dir.join(name);
        let _ = fs::remove_file(&link); // one of an earlier attempt
        symlink(&lib, &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    let mut command = workspace::cargo();
    for name in [
        "CARGO_TARGET_DIR",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
    ] {
        command.env_remove(name);
    }
    command
        .env("LLVM_PREFIX", &root)
        .current_dir(&root) // away from the workspace's own cargo configuration
        .args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER,
            "--locked",
            "--no-default-features",
        ])
        .args(["--features", &format!("llvm-{}", toolchain.llvm), "--root"])
        .arg(&root);
    progress::step(&format!("compiling {what}, about a minute"), &mut command)
}

/// Makes sure that the standard library for a static binary is there; returns how many are missing still.
pub(super) fn ensure_static_target(install: bool) -> Result<usize> {
    let target = match env::consts::ARCH {
        "aarch64" => STATIC_AARCH64,
        _ => STATIC_X86_64,
    };
    let cargo = PathBuf::from(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let sysroot = Command::new(cargo.with_file_name("rustc"))
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .context("cannot start rustc")?;
    let lib = String::from_utf8_lossy(&sysroot.stdout);
    if Path::new(lib.trim()).is_dir() {
        return Ok(0);
    }
    let what = format!("rust-std for {target}");
    announce(&what, "the image has nothing in it but the binary", install);
    if !install {
        return Ok(1);
    }
    let rustup = find_rustup().context("only rustup can install a target, and it is not here")?;
    progress::step(
        &format!("installing {what}"),
        Command::new(rustup).args(["target", "add", target]),
    )?;
    Ok(0)
}
