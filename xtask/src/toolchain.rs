//! Which Rust and which linker build the kernel side, and the one command that does it.
//!
//! The BPF target has no prebuilt `core`, so a toolchain is needed that brings the library's sources; and
//! bpf-linker reads LLVM bitcode, so it must be built against the LLVM of that very toolchain. Both are
//! looked for where rustup, the distribution and `cargo xtask setup` put them.
//!
//! Only std is used here: `lb-userspace/build.rs` includes this file as a module, so that the command
//! exists exactly once, for `cargo build` as for xtask.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The target the programs are compiled for.
pub const TARGET: &str = "bpfel-unknown-none";
/// LLVM majors that the bpf-linker we install can be built against.
pub const LLVM_MAJORS: std::ops::RangeInclusive<u32> = 21..=23;
/// What a person types when something is missing.
pub const REPAIR: &str = "cargo xtask setup";

/// A Rust toolchain: `<prefix>/bin/{cargo,rustc}` and the library below `<prefix>/lib/rustlib`.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The directory it is installed in: one of rustup's toolchains, or `/usr`.
    pub prefix: PathBuf,
    /// `release` of `rustc -vV`.
    pub release: String,
    /// LLVM's major version.
    pub llvm: u32,
}

/// A bpf-linker.
#[derive(Clone, Debug)]
pub struct Linker {
    /// Its absolute path.
    pub path: PathBuf,
}

/// Everything the kernel side is built with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Compiles.
    pub toolchain: Toolchain,
    /// Links.
    pub linker: Linker,
}

/// What is missing to build the kernel side.
#[derive(Debug)]
pub enum Missing {
    /// No toolchain with the sources of `core`.
    Sources,
    /// No bpf-linker with the LLVM of this toolchain, which is otherwise fit.
    Linker(Toolchain),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sources => write!(
                f,
                "no Rust toolchain (>= {}, LLVM {}-{}) with the sources of `core`, which the BPF target needs",
                env!("CARGO_PKG_RUST_VERSION"),
                LLVM_MAJORS.start(),
                LLVM_MAJORS.end(),
            ),
            Self::Linker(toolchain) => {
                write!(f, "no bpf-linker for LLVM {} ({toolchain})", toolchain.llvm)
            }
        }
    }
}

impl std::error::Error for Missing {}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rustc {} in {}", self.release, self.prefix.display())
    }
}

/// Finds the tools.
///
/// # Errors
/// [`Missing`]; its text does not tell the way out, [`REPAIR`] is that.
pub fn find() -> Result<Tools, Missing> {
    let mut first_fit = None;
    for toolchain in prefixes().iter().filter_map(|prefix| Toolchain::at(prefix)) {
        if !toolchain.has_sources() {
            continue;
        }
        if let Some(linker) = Linker::find(&toolchain) {
            return Ok(Tools { toolchain, linker });
        }
        first_fit.get_or_insert(toolchain);
    }
    Err(first_fit.map_or(Missing::Sources, Missing::Linker))
}

/// Where toolchains may be, the preferred ones first: the one that runs this, nightlies, other ones of
/// rustup, the distribution's.
pub fn prefixes() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    // `$CARGO` is `<prefix>/bin/cargo`, and beside that prefix stand the other toolchains. It also tells
    // the home of the user who called sudo.
    let active = env::var_os("CARGO")
        .and_then(|cargo| Some(Path::new(&cargo).parent()?.parent()?.to_owned()));
    let mut shelves: Vec<PathBuf> = active
        .iter()
        .filter_map(|p| p.parent())
        .map(Path::to_owned)
        .collect();
    shelves.retain(|shelf| shelf.ends_with("toolchains"));
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    shelves.extend(
        home.or_else(|| Some(env::home_dir()?.join(".rustup")))
            .map(|h| h.join("toolchains")),
    );

    found.extend(active);
    for shelf in shelves {
        let entries = fs::read_dir(shelf).into_iter().flatten().flatten();
        let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        entries.sort_by_key(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (
                !name.starts_with("nightly"),
                !name.starts_with("stable"),
                name,
            )
        });
        found.extend(entries);
    }
    found.push("/usr".into());
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|prefix| seen.insert(prefix.clone()));
    found
}

impl Toolchain {
    /// The toolchain in `prefix`, if it is one that lb-ebpf can be compiled with, sources aside.
    pub fn at(prefix: &Path) -> Option<Self> {
        let rustc = prefix.join("bin/rustc");
        if !rustc.exists() || !prefix.join("bin/cargo").exists() {
            return None;
        }
        // A proxy of rustup in /usr/bin would otherwise answer for another toolchain.
        let output = Command::new(rustc)
            .arg("-vV")
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let release = field("release: ")?.to_owned();
        let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
        let fits =
            LLVM_MAJORS.contains(&llvm) && minor(&release) >= minor(env!("CARGO_PKG_RUST_VERSION"));
        fits.then_some(Self {
            prefix: prefix.to_owned(),
            release,
            llvm,
        })
    }

    /// Whether `core` can be compiled.
    pub fn has_sources(&self) -> bool {
        self.prefix
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .exists()
    }

    /// The shared LLVM that this rustc itself runs on.
    pub fn libllvm(&self) -> Option<PathBuf> {
        let own = vec![self.prefix.join("lib")];
        let system = ["/usr/lib64", "/usr/lib", "/lib64"].map(PathBuf::from);
        let multiarch = fs::read_dir("/usr/lib")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        let multiarch = multiarch.filter(|path| path.to_string_lossy().contains("-linux-gnu"));
        let versioned = PathBuf::from(format!("/usr/lib/llvm-{}/lib", self.llvm));
        let start = format!("libLLVM.so.{}", self.llvm);
        own.into_iter()
            .chain(multiarch)
            .chain(system)
            .chain([versioned])
            .find_map(|dir| {
                let names = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
                names.into_iter().find(|path| {
                    path.file_name()
                        .is_some_and(|name| name.to_string_lossy().starts_with(&start))
                })
            })
    }

    /// Where `cargo xtask setup` installs the bpf-linker of this toolchain: beside the user's own tools,
    /// which may need another one.
    pub fn linker_root(&self) -> Option<PathBuf> {
        Some(
            cargo_home()?
                .join("duolb")
                .join(format!("llvm-{}-rustc-{}", self.llvm, self.release)),
        )
    }
}

/// 96 of `1.96.0-nightly`.
fn minor(release: &str) -> u32 {
    release
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok())
        .unwrap_or(0)
}

/// `$CARGO_HOME`, or its default.
fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".cargo")))
}

impl Linker {
    /// The bpf-linker that reads what `toolchain` writes: the same LLVM major.
    pub fn find(toolchain: &Toolchain) -> Option<Self> {
        let mut dirs: Vec<PathBuf> = toolchain
            .linker_root()
            .map(|root| root.join("bin"))
            .into_iter()
            .collect();
        dirs.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
        dirs.extend(cargo_home().map(|home| home.join("bin")));
        let candidates = dirs
            .into_iter()
            .map(|dir| dir.join("bpf-linker"))
            .filter(|path| path.is_file());
        candidates
            .map(|path| Self { path })
            .find(|linker| linker.llvm() == Some(toolchain.llvm))
    }

    /// The major version of its LLVM. It has no option that tells, but LLVM's own options have.
    fn llvm(&self) -> Option<u32> {
        let ask = [
            "--llvm-args=--version",
            "--target",
            TARGET,
            "-o",
            "/dev/null",
            "/dev/null",
        ];
        let output = Command::new(&self.path)
            .args(ask)
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split("LLVM version ")
            .nth(1)?
            .split('.')
            .next()?
            .parse()
            .ok()
    }
}

impl Tools {
    /// The cargo command that builds package lb-ebpf of the workspace in `root` into `target_dir`, for a
    /// kernel of `arch` (as in `std::env::consts::ARCH`); [`object()`] tells where the result is.
    pub fn build_command(&self, root: &Path, target_dir: &Path, arch: &str) -> Command {
        let mut command = self.cargo(root, arch, "build", &[]);
        command.arg("--target-dir").arg(target_dir);
        command
    }

    /// The same with another subcommand (`clippy`, ...) and further compiler flags.
    pub fn cargo(&self, root: &Path, arch: &str, subcommand: &str, flags: &[&str]) -> Command {
        let bin = self.toolchain.prefix.join("bin");
        let mut command = Command::new(bin.join("cargo"));
        for (name, _) in env::vars_os() {
            if is_callers(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        let linker = self.linker.path.display();
        let own = [
            format!("--cfg=bpf_target_arch=\"{arch}\""),
            "-Cdebuginfo=2".into(),
            // v3 has 32-bit operations and their jumps: a third fewer instructions, Linux 5.1 and later.
            "-Ctarget-cpu=v3".into(),
            format!("-Clinker={linker}"),
            "-Clink-arg=--btf".into(),
        ];
        let flags: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .chain(flags.iter().copied())
            .collect();
        command
            .current_dir(root)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("RUSTC", bin.join("rustc"))
            .env("RUSTC_BOOTSTRAP", "1") // -Z build-std on a stable compiler
            .args([subcommand, "--package", "lb-ebpf", "--release", "--locked"])
            .args(["--target", TARGET, "-Z", "build-std=core"]);
        command
    }
}

/// The object files that [`Tools::build_command`] leaves in `target_dir`: the datapath, and what times it.
pub const OBJECTS: [&str; 2] = ["lb-ebpf", "lb-bench"];

/// Where one of [`OBJECTS`] is.
pub fn object(target_dir: &Path, name: &str) -> PathBuf {
    target_dir.join(TARGET).join("release").join(name)
}

/// Whether a variable tells about the cargo run that called us, and would mislead another toolchain's.
fn is_callers(name: &str) -> bool {
    let settings = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    let callers = [
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CLIPPY_",
    ];
    let exact = [
        "LD_LIBRARY_PATH",
        "TARGET",
        "HOST",
        "OUT_DIR",
        "PROFILE",
        "DEBUG",
        "OPT_LEVEL",
        "NUM_JOBS",
    ];
    (callers.iter().any(|start| name.starts_with(start))
        && !settings.iter().any(|s| name.starts_with(s)))
        || exact.contains(&name)
}
