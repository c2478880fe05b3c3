//! `cargo xtask dist`: what goes to a cluster.
//!
//! ```text
//!   target/dist/
//!     duolb-linux-amd64   static (musl), the BPF object inside: runs on any kernel and in an empty image
//!     Containerfile       makes the image; where podman or docker answers, it has been made already
//!     deploy/             kustomize bases and the Helm chart
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build, progress, setup,
    workspace::{self, find_program},
};

/// Arguments of `dist`.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the image
    #[arg(long, value_name = "NAME[:TAG]", default_value = concat!("duolb:", env!("CARGO_PKG_VERSION")))]
    image: String,
    #[command(flatten)]
    setup: setup::Args,
}

/// Builds everything and says where it is.
///
/// # Errors
/// If something is missing or does not compile, or the binary is not static.
pub fn main(args: &Args) -> Result<()> {
    setup::ensure(setup::Scope::Static, &args.setup)?;
    let arch = Arch::of_host()?;
    let built = build::duolb(&["--release", "--target", arch.triple])?;
    let dist = workspace::target_dir()?.join("dist");
    if dist.exists() {
        fs::remove_dir_all(&dist).with_context(|| dist.display().to_string())?;
    }
    fs::create_dir_all(&dist).with_context(|| dist.display().to_string())?;
    let binary = dist.join(format!("duolb-linux-{}", arch.image));
    fs::copy(&built, &binary).with_context(|| built.display().to_string())?;
    if let Some(interpreter) = find_interpreter(&fs::read(&binary)?)? {
        bail!(
            "{} wants {interpreter}: it would not start in an empty image",
            binary.display()
        );
    }
    let deploy = workspace::root().join("deploy");
    fs::copy(deploy.join("Containerfile"), dist.join("Containerfile"))?;
    copy_tree(&deploy, &dist.join("deploy"))?;
    println!("{}", binary.display());
    image(&dist, &args.image, &arch)
}

/// The machine's architecture under its two names.
struct Arch {
    /// As Rust calls the static target.
    triple: &'static str,
    /// As images call it.
    image: &'static str,
}

impl Arch {
    fn of_host() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self {
                triple: setup::STATIC_X86_64,
                image: "amd64",
            }),
            "aarch64" => Ok(Self {
                triple: setup::STATIC_AARCH64,
                image: "arm64",
            }),
            other => bail!("no static build for {other}"),
        }
    }
}

/// Makes the image where something can, else says how.
fn image(dist: &Path, name: &str, arch: &Arch) -> Result<()> {
    let build_arg = format!("TARGETARCH={}", arch.image);
    let Some(engine) = find_engine() else {
        println!(
            "no podman or docker answers here; where one does: podman build -t {name} --build-arg {build_arg} {}",
            dist.display()
        );
        return Ok(());
    };
    let mut command = Command::new(engine);
    command.args(["build", "--tag", name, "--build-arg", &build_arg]);
    command
        .arg("--file")
        .arg(dist.join("Containerfile"))
        .arg(dist);
    progress::step(&format!("building image {name}"), &mut command)?;
    println!("{name}");
    Ok(())
}

/// A program that builds images, and does when asked: docker may be there without its daemon.
fn find_engine() -> Option<PathBuf> {
    ["podman", "docker"]
        .into_iter()
        .filter_map(find_program)
        .find(|engine| {
            let mut command = Command::new(engine);
            command
                .arg("info")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        })
}

/// The dynamic linker that an ELF file asks for.
fn find_interpreter(elf: &[u8]) -> Result<Option<String>> {
    use object::{
        Endianness,
        elf::{FileHeader64, PT_INTERP},
        read::elf::{FileHeader as _, ProgramHeader as _},
    };
    let header = FileHeader64::<Endianness>::parse(elf)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, elf)?;
    let Some(interpreter) = segments
        .iter()
        .find(|segment| segment.p_type(endian) == PT_INTERP)
    else {
        return Ok(None);
    };
    let path = interpreter
        .data(endian, elf)
        .map_err(|()| anyhow::anyhow!("PT_INTERP lies outside the file"))?;
    let path = String::from_utf8_lossy(path);
    Ok(Some(path.trim_end_matches('\0').to_owned()))
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to).with_context(|| to.display().to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_program_is_seen_to_want_a_dynamic_linker() {
        let ourselves = fs::read(std::env::current_exe().unwrap()).unwrap();
        let interpreter = find_interpreter(&ourselves).unwrap();
        assert!(interpreter.is_some_and(|path| path.contains("ld")));
    }

    #[test]
    fn a_tree_is_copied_with_all_its_files() {
        let to = tempfile::tempdir().unwrap();
        let deploy = workspace::root().join("deploy");
        copy_tree(&deploy, to.path()).unwrap();
        let copied = fs::read(to.path().join("base/rbac.yaml")).unwrap();
        assert_eq!(copied, fs::read(deploy.join("base/rbac.yaml")).unwrap());
    }
}
