//! Builds the kernel side and puts its object where the datapath includes it from: `$OUT_DIR/lb-ebpf.o`, and beside it
//! what tests time it with.
//!
//! A build script rather than a step of xtask, so that plain `cargo build` and editors work as well. It
//! never makes do with a stub: without the tools the build fails and says what to type.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::exit,
};

#[path = "../xtask/src/toolchain.rs"]
#[expect(dead_code, unreachable_pub, reason = "the rest is xtask's")]
mod toolchain;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is in a workspace");
    for input in [
        "lb-ebpf",
        "lb-common",
        "Cargo.toml",
        "Cargo.lock",
        "xtask/src/toolchain.rs",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-env-changed=RUSTUP_HOME");

    let tools = toolchain::find().unwrap_or_else(|missing| {
        fail(&format!(
            "{missing}.\nType `{}`, which installs what is missing.",
            toolchain::REPAIR
        ))
    });
    println!("cargo::rerun-if-changed={}", tools.linker.path.display());

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let target_dir = out.join("bpf");
    let mut command = tools.build_command(root, &target_dir, &arch);
    if env::var_os("CARGO_FEATURE_NEXT_SCHEMA").is_some() {
        command.args(["--features", "next-schema"]);
    }
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "the kernel side did not compile with {}: {status}",
            tools.toolchain
        )),
        Err(error) => fail(&format!("{}: {error}", command.get_program().display())),
    }
    for name in toolchain::OBJECTS {
        let object = toolchain::object(&target_dir, name);
        if let Err(error) = fs::copy(&object, out.join(format!("{name}.o"))) {
            fail(&format!("{}: {error}", object.display()));
        }
    }
}

fn fail(message: &str) -> ! {
    eprintln!("\nduolb: {message}\n");
    exit(1)
}
