//! The virtual machine: qemu, with KVM where a guest starts under it, else with the processor in software.
//!
//! That KVM is there says little: on a machine that is itself virtual, a guest may never get past its first
//! instructions. Whoever has not said hello in time is started again without.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::order::Word;
use crate::{
    lab::{interrupt, spawn::dies_with_parent},
    workspace::find_program,
};

/// How long a guest may take to say hello under KVM, which takes one second, and in software, which takes ten.
const HELLO: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(900)];
/// How much longer tests wait for what a processor in software does.
const SLOWNESS: u32 = 8;
/// How often Ctrl-C is looked for while nothing is said.
const PAUSE: Duration = Duration::from_millis(200);
/// Lines of the console that an error shows.
const TAIL: usize = 25;

/// How the processor is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processor {
    Kvm,
    Software,
}

/// What a machine is made of.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) vmlinuz: &'a Path,
    pub(super) image: &'a Path,
    /// Where the kernel's console is written.
    pub(super) console: PathBuf,
    pub(super) memory_mib: u32,
    pub(super) cpus: u32,
    /// How long the guest may be silent.
    pub(super) silence: Duration,
}

/// A guest that has said hello.
pub(super) struct Machine {
    process: Process,
    lines: Receiver<String>,
    console: PathBuf,
    silence: Duration,
    /// What its kernel calls itself.
    pub(super) release: String,
    /// How long that took.
    pub(super) boot: Duration,
}

/// Whether this machine offers KVM to us.
pub(super) fn offers_kvm() -> bool {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok()
}

/// Starts a guest with the best processor that works; remembers in `processor` which one that is.
///
/// # Errors
/// If it does not start, with the end of its console.
pub(super) fn start(parts: &Parts<'_>, processor: &mut Processor) -> Result<Machine> {
    if *processor == Processor::Kvm {
        match Machine::start(parts, Processor::Kvm) {
            Ok(machine) => return Ok(machine),
            Err(error) => {
                interrupt::check()?;
                let why = format!("{error:#}");
                eprintln!(
                    "vm: KVM is here, but no guest starts under it ({}): \
                     the processor is done in software, which is slow",
                    why.lines().next().unwrap_or_default()
                );
                *processor = Processor::Software;
            }
        }
    }
    Machine::start(parts, Processor::Software)
}

impl Machine {
    fn start(parts: &Parts<'_>, processor: Processor) -> Result<Self> {
        let (accel, cpu, hello, slowness) = match processor {
            Processor::Kvm => ("kvm", "host", HELLO[0], 1),
            // Tables of five levels would only make every miss slower.
            Processor::Software => ("tcg,thread=multi", "max,la57=off", HELLO[1], SLOWNESS),
        };
        let qemu = find_program("qemu-system-x86_64").context("no qemu-system-x86_64")?;
        let mut command = Command::new(qemu);
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-machine", "q35"])
            .args(["-accel", accel, "-cpu", cpu])
            .args(["-smp", &parts.cpus.to_string()])
            .args(["-m", &format!("{}M", parts.memory_mib)])
            .arg("-kernel")
            .arg(parts.vmlinuz)
            .arg("-initrd")
            .arg(parts.image)
            .args(["-append", &format!("{APPEND} -- guest {slowness}")])
            .arg("-serial")
            .arg(format!("file:{}", parts.console.display()))
            .args([
                "-chardev",
                "stdio,id=port,signal=off",
                "-serial",
                "chardev:port",
            ]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let child = dies_with_parent(&mut command).spawn();
        let mut process = Process(child.context("cannot start qemu")?);
        let stdout = process.0.stdout.take().context("stdout is piped")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line);
                if sender.send(line.trim_end().to_owned()).is_err() {
                    break;
                }
            }
        });
        let mut machine = Self {
            process,
            lines,
            console: parts.console.clone(),
            silence: hello,
            release: String::new(),
            boot: Duration::ZERO,
        };
        while let Some(line) = machine.line()? {
            if let Some(Word::Hello { release }) = Word::find(&line) {
                machine.silence = parts.silence;
                machine.boot = start.elapsed();
                machine.release = release;
                return Ok(machine);
            }
        }
        let said = machine.last_words();
        bail!("the guest ended before it said hello{said}")
    }

    /// The next line the guest says; `None` once it is off.
    ///
    /// # Errors
    /// If it is silent for too long, or Ctrl-C came.
    pub(super) fn line(&mut self) -> Result<Option<String>> {
        let start = Instant::now();
        loop {
            interrupt::check()?;
            match self.lines.recv_timeout(PAUSE) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if start.elapsed() < self.silence => {}
                Err(RecvTimeoutError::Timeout) => {
                    let said = self.last_words();
                    bail!(
                        "the guest said nothing for {} s{said}",
                        self.silence.as_secs()
                    );
                }
            }
        }
    }

    /// The end of the console, and what qemu itself complained of.
    pub(super) fn last_words(&mut self) -> String {
        self.process.end();
        let mut text = String::new();
        if let Some(stderr) = self.process.0.stderr.take() {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                text += &format!("\n  qemu: {line}");
            }
        }
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().collect();
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            text += &format!("\n  console: {}", line.trim_end());
        }
        text
    }
}

/// What the kernel is told: quiet but for errors; a panic ends the machine; our own `/init` is the
/// first process.
const APPEND: &str = "console=ttyS0 loglevel=4 panic=-1 8250.nr_uarts=4 net.ifnames=0 \
                      mitigations=off random.trust_cpu=on nokaslr rdinit=/init";

/// A qemu that ends with us.
struct Process(Child);

impl Process {
    fn end(&mut self) {
        let _ = self.0.kill(); // ended already
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
