//! A kernel out of Debian's archive: found, downloaded and unpacked by apt, with a state of its own.
//!
//! The machine's own package lists and sources stay as they are; only the mirror is taken from them. What was
//! fetched once stays below `target/vm` and is not asked for again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::kernels::{self, Kernel};
use crate::{progress, workspace::find_program};

/// Debian's own mirror, for machines that have none of their own.
const MIRROR: &str = "http://deb.debian.org";
/// What Debian's archive is signed with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel on disk.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// As `uname -r` says it.
    pub(super) release: String,
    pub(super) vmlinuz: PathBuf,
    /// `.../lib/modules/<release>`.
    pub(super) modules: PathBuf,
}

/// Debian's name of this machine's architecture.
///
/// # Errors
/// If a virtual machine of it is not known here.
pub(super) fn arch() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        other => bail!("no kernels are known for {other}: only x86_64 was tried"),
    }
}

/// Makes sure that `kernel` is below `dir`.
///
/// # Errors
/// If no suite has it, or apt fails.
pub(super) fn ensure(kernel: &Kernel, dir: &Path, install: bool) -> Result<Unpacked> {
    let root = dir.join("kernels").join(kernel.version);
    if let Some(found) = find(&root)? {
        return Ok(found);
    }
    eprintln!(
        "vm: {} kernel {} from Debian: the tests run on it",
        if install { "fetching" } else { "missing" },
        kernel.version
    );
    ensure!(install, "kernel {} is not here", kernel.version);
    let new = dir.join("kernels").join(format!("{}.new", kernel.version));
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| new.display().to_string())?;
    }
    fs::create_dir_all(&new).with_context(|| new.display().to_string())?;
    let apt = Apt::new(kernel, &dir.join("apt").join(kernel.version))?;
    apt.fetch(kernel, &new)?;
    // Only what is complete is found by the next run.
    fs::rename(&new, &root).with_context(|| root.display().to_string())?;
    find(&root)?.with_context(|| format!("{}: the package has no kernel in it", kernel.version))
}

/// What was unpacked in `root`.
fn find(root: &Path) -> Result<Option<Unpacked>> {
    // Since 7.0 Debian's packages know /usr alone.
    for base in [root.join("usr/lib/modules"), root.join("lib/modules")] {
        let Ok(mut entries) = fs::read_dir(&base) else {
            continue;
        };
        let Some(modules) = entries.next() else {
            continue;
        };
        let modules = modules?.path();
        let release = modules.file_name().unwrap_or_default();
        let release = release.to_string_lossy().into_owned();
        let places = [
            root.join(format!("boot/vmlinuz-{release}")),
            modules.join("vmlinuz"),
        ];
        let Some(vmlinuz) = places.into_iter().find(|path| path.is_file()) else {
            continue;
        };
        return Ok(Some(Unpacked {
            release,
            vmlinuz,
            modules,
        }));
    }
    Ok(None)
}

/// apt with lists, cache and sources of its own.
struct Apt {
    dir: PathBuf,
    arch: &'static str,
}

impl Apt {
    fn new(kernel: &Kernel, dir: &Path) -> Result<Self> {
        ensure!(
            find_program("apt-get").is_some(),
            "kernels come as Debian's packages, which only apt can fetch, and it is not here"
        );
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is not here, so that nothing of Debian's can be trusted: \
             install the package debian-archive-keyring"
        );
        for part in ["lists/partial", "archives/partial", "parts"] {
            fs::create_dir_all(dir.join(part)).with_context(|| dir.display().to_string())?;
        }
        let own = own_repositories();
        let lines = kernel.suites.iter().map(|(archive, suite)| {
            let mirror = own
                .iter()
                .find(|uri| uri.ends_with(&format!("/{archive}")))
                .cloned()
                .unwrap_or_else(|| format!("{MIRROR}/{archive}"));
            format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")
        });
        fs::write(dir.join("sources.list"), lines.collect::<String>())?;
        fs::write(dir.join("status"), "")?;
        let (dir, arch) = (dir.to_owned(), arch()?);
        Ok(Self { dir, arch })
    }

    /// Downloads and unpacks the newest `kernel` into `root`.
    fn fetch(&self, kernel: &Kernel, root: &Path) -> Result<()> {
        let suites: Vec<_> = kernel.suites.iter().map(|(_, suite)| *suite).collect();
        progress::step(
            &format!("reading the package lists of Debian {}", suites.join(", ")),
            self.command("apt-get").arg("update"),
        )?;
        let pattern = format!("^linux-image-.*-cloud-{}$", self.arch);
        let list = output(
            self.command("apt-cache")
                .args(["search", "--names-only", &pattern]),
        )?;
        let names = list.lines().filter_map(|line| line.split(' ').next());
        let newest = kernels::newest(kernel.version, self.arch, names);
        let image = newest.with_context(|| {
            format!(
                "Debian {} has no kernel {}",
                suites.join(", "),
                kernel.version
            )
        })?;
        // Since 7.0 the image is a package without content, which depends on those that have it.
        let release = image.trim_start_matches("linux-image-");
        let parts = ["linux-binary-", "linux-modules-"].map(|part| format!("{part}{release}"));
        let depends = output(self.command("apt-cache").args(["depends", image]))?;
        let parts = parts
            .iter()
            .filter(|part| depends.contains(part.as_str()))
            .map(String::as_str);
        for package in std::iter::once(image).chain(parts) {
            let mut download = self.command("apt-get");
            download.args(["download", package]).current_dir(root);
            progress::step(&format!("downloading {package}"), &mut download)?;
        }
        for entry in fs::read_dir(root)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                let mut unpack = Command::new("dpkg-deb");
                unpack.arg("-x").arg(&path).arg(root);
                progress::step(&format!("unpacking {}", path.display()), &mut unpack)?;
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let dir = self.dir.display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::State={dir}"),
            format!("Dir::State::Lists={dir}/lists"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::Cache={dir}"),
            format!("Dir::Etc::SourceList={dir}/sources.list"),
            format!("Dir::Etc::SourceParts={dir}/parts"),
            format!("APT::Architecture={}", self.arch),
            // It would be refused the directory, which is a user's.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// The repositories that this machine has packages from; none if it is not Debian's.
fn own_repositories() -> Vec<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)"]);
    let list = output(&mut command).unwrap_or_default();
    list.lines()
        .map(|line| line.trim_end_matches('/').to_owned())
        .collect()
}

fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name}: {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
