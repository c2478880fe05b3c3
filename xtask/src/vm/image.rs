//! The guest's root: what tests need of this machine, packed into an archive that lives in the guest's memory.
//!
//! A kernel for clouds has no file system that would share this machine's own root without further daemons or images,
//! and tests need little: a dozen programs with their libraries, the kernel's modules for networks, the test
//! binaries, and the files of the workspace that they read. All stand where they stand here.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::{BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    cpio::Archive,
    order::{ORDER, Order},
    packages::Unpacked,
};
use crate::{progress, workspace, workspace::find_program};

/// Programs that tests and the kernel call.
const PROGRAMS: &[&str] = &[
    "ip",
    "bridge",
    "tc",
    "ss",
    "nstat",
    "ethtool",
    "nft",
    "iptables-legacy",
    "ip6tables-legacy",
    "iptables",
    "ip6tables",
    "modprobe",
    "setpriv",
    "bash",
    "sh",
    "env",
    "timeout",
    "sleep",
    "cat",
    "true",
    "tcpdump",
    "bpftool",
    "wg",
];

/// Files that those programs read.
const FILES: &[&str] = &[
    "/etc/passwd",
    "/etc/group",
    "/etc/protocols",
    "/etc/services",
    "/etc/nsswitch.conf",
    "/etc/ethertypes",
];

/// Where iptables keeps what it knows of matches and targets, below a folder of libraries.
const XTABLES: &str = "xtables";

/// Folders of modules that a node's network can need.
const MODULES: &[&str] = &[
    "kernel/net",
    "kernel/lib",
    "kernel/crypto",
    "kernel/arch",
    "kernel/drivers/net/bonding",
    "kernel/drivers/net/ipvlan",
    "kernel/drivers/net/vxlan",
    "kernel/drivers/net/wireguard",
];
/// And one of which only the files directly in it are.
const LOOSE_MODULES: &str = "kernel/drivers/net";

/// A file of the workspace that is larger is nothing that tests read.
const MOST: u64 = 1 << 20;

/// Writes the archive for `order` on `kernel` to `path`.
///
/// # Errors
/// If a file cannot be read or written.
pub(super) fn write(path: &Path, kernel: &Unpacked, order: &Order) -> Result<()> {
    let out = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    let mut image = Image {
        archive: Archive::new(out),
        done: BTreeSet::new(),
    };
    image.system()?;
    image.modules(kernel)?;
    image.workspace()?;
    // By this name also when it has been built anew meanwhile.
    let own = format!("/proc/{}/exe", std::process::id());
    image.stripped(Path::new(&own), Path::new("/init"), path)?;
    let mut programs: BTreeSet<&Path> = order.jobs.iter().map(|job| &*job.program).collect();
    let duolb = order.env.iter().find(|(name, _)| name == "DUOLB_BIN");
    programs.extend(duolb.map(|(_, value)| Path::new(value)));
    for program in programs {
        image.stripped(program, program, path)?;
    }
    let json = serde_json::to_vec(order)?;
    image.archive.file(Path::new(ORDER), 0o644, &json)?;
    image.archive.finish()?.flush()?;
    Ok(())
}

struct Image<W> {
    archive: Archive<W>,
    done: BTreeSet<PathBuf>,
}

impl<W: Write> Image<W> {
    fn system(&mut self) -> Result<()> {
        for directory in ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/var/tmp"] {
            self.archive.directory(Path::new(directory))?;
        }
        // By this name `ip netns` knows its names.
        self.archive.link(Path::new("/var/run"), "/run")?;
        for name in PROGRAMS {
            let Some(path) = find_program(name) else {
                continue;
            };
            self.libraries(&path)?;
            let content = read(&path)?;
            for place in ["/bin", "/sbin", "/usr/bin", "/usr/sbin"] {
                // The same whichever path a script or the kernel knows it by.
                let place = Path::new(place).join(name);
                if place.starts_with("/usr/bin") {
                    self.archive.file(&place, 0o755, &content)?;
                } else {
                    let to = format!("/usr/bin/{name}");
                    self.archive.link(&place, &to)?;
                }
            }
        }
        for file in FILES.iter().map(Path::new).filter(|file| file.exists()) {
            self.copy(file)?;
        }
        let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];
        for folder in folders.map(|folder| Path::new(folder).join(XTABLES)) {
            for file in files_below(&folder)? {
                self.copy(&file)?;
            }
        }
        Ok(())
    }

    fn modules(&mut self, kernel: &Unpacked) -> Result<()> {
        let from = &kernel.modules;
        let base = from
            .ancestors()
            .nth(3)
            .context("modules are in lib/modules")?;
        let mut depmod = Command::new(find_program("depmod").context("depmod (kmod) is not here")?);
        depmod.arg("-b").arg(base).arg(&kernel.release);
        progress::step("listing the kernel's modules", &mut depmod)?;
        let to = Path::new("/lib/modules").join(&kernel.release);
        let mut wanted: Vec<PathBuf> = Vec::new();
        for folder in MODULES {
            wanted.extend(files_below(&from.join(folder))?);
        }
        wanted.extend(files_in(&from.join(LOOSE_MODULES))?);
        wanted.extend(files_in(from)?);
        for file in wanted {
            let place = to.join(file.strip_prefix(from)?);
            if file.file_name() != Some(OsStr::new("vmlinuz")) && self.done.insert(place.clone()) {
                self.archive.file(&place, 0o644, &read(&file)?)?;
            }
        }
        Ok(())
    }

    /// What git knows of the workspace.
    fn workspace(&mut self) -> Result<()> {
        let root = workspace::root();
        let list = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root)
            .output()
            .context("cannot start git, which knows the workspace's files")?;
        ensure!(list.status.success(), "git ls-files: {}", list.status);
        let text = String::from_utf8(list.stdout).context("git ls-files: not text")?;
        for name in text.split_terminator('\0') {
            let path = root.join(name);
            // Deleted, but git does not know yet; or too large.
            if fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= MOST) {
                self.copy(&path)?;
            }
        }
        Ok(())
    }

    /// A program of ours without what only debuggers read, which would fill the guest's memory.
    fn stripped(&mut self, program: &Path, place: &Path, beside: &Path) -> Result<()> {
        self.libraries(program)?;
        let small = beside.with_extension("stripped");
        let mut strip = Command::new("strip");
        strip
            .arg("--strip-debug")
            .arg("-o")
            .arg(&small)
            .arg(program);
        let is_small = strip.output().is_ok_and(|output| output.status.success());
        let content = read(if is_small { &small } else { program })?;
        let _ = fs::remove_file(&small);
        self.archive.file(place, 0o755, &content)?;
        Ok(())
    }

    /// The shared libraries of a program, as the loader finds them.
    fn libraries(&mut self, program: &Path) -> Result<()> {
        let output = Command::new("ldd")
            .arg(program)
            .output()
            .context("cannot start ldd")?;
        // A static program has none, which ldd calls a failure.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for path in text.split_whitespace().filter(|word| word.starts_with('/')) {
            let path = Path::new(path.trim_end_matches(':'));
            if path != program && path.is_file() {
                self.copy(path)?;
            }
        }
        Ok(())
    }

    /// A file to where it is here, once.
    fn copy(&mut self, path: &Path) -> Result<()> {
        if self.done.insert(path.to_owned()) {
            let mode = fs::metadata(path)?.permissions().mode();
            self.archive.file(path, mode, &read(path)?)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// Files directly in a folder, none if there is no such folder.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    entries(folder, false)
}

/// Files in a folder and in those below, none if there is no such folder.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    entries(folder, true)
}

fn entries(folder: &Path, below: bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let Ok(entries_here) = fs::read_dir(folder) else {
        return Ok(files);
    };
    for entry in entries_here {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && below {
            files.extend(entries(&entry.path(), below)?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
