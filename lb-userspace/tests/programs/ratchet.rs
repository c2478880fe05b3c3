//! What each program costs may fall, but does not rise unless somebody writes down why: `ratchet.txt`.
//!
//! The programs' figures are here, what a packet calls the kernel for in `paths`.
//!
//! A little more on every change is how a datapath becomes slow and then no longer loads. The limit of the verifier is a
//! million instructions; the stack's is 512 bytes, on which `stack` insists.

mod paths;

use std::{collections::BTreeMap, fs};

use crate::{cost::load_anew, kernel::Kernel, stack::Text};

static TABLE: &str = include_str!("ratchet.txt");

/// By how much a figure may rise before it has to be written down, in percent.
const SLACK: u64 = 5;

/// The figures' names, as the table heads them; the kernel's own first.
const FIGURES: [&str; 6] = [
    "verified", "machine", "stack", "lookups", "updates", "removals",
];
const OF_KERNEL: usize = 2;

type Figures = [u64; FIGURES.len()];

/// What is committed.
#[derive(Debug, PartialEq, Eq)]
struct Table<'a> {
    /// The release that the kernel's own figures are of, e.g. `6.18`.
    kernel: &'a str,
    programs: BTreeMap<&'a str, Figures>,
}

impl<'a> Table<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let mut table = Self {
            kernel: "",
            programs: BTreeMap::new(),
        };
        let lines = text
            .lines()
            .take_while(|line| *line != paths::MARK)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            if name == "kernel" {
                table.kernel = words.next().ok_or("kernel: which?")?;
                continue;
            }
            let mut figures = Figures::default();
            for (figure, what) in figures.iter_mut().zip(FIGURES) {
                let word = words.next().unwrap_or_default();
                let number = word.parse();
                *figure = number.map_err(|why| format!("{name}: {what} {word:?}: {why}"))?;
            }
            if words.next().is_none() {
                return Err(format!("{name}: no reason"));
            }
            table.programs.insert(name, figures);
        }
        Ok(table)
    }

    /// What has risen too far, or is not in the table, a line each.
    fn complaints(&self, now: &BTreeMap<&str, Figures>, kernel: &str) -> Vec<String> {
        let from = if self.is_of(kernel) { 0 } else { OF_KERNEL };
        let mut complaints = Vec::new();
        for (name, figures) in now {
            let Some(before) = self.programs.get(name) else {
                complaints.push(format!("{name} is not in the table"));
                continue;
            };
            for i in from..FIGURES.len() {
                if figures[i] * 100 > before[i] * (100 + SLACK) {
                    let (what, was, is) = (FIGURES[i], before[i], figures[i]);
                    complaints.push(format!("{name}: {what} has risen from {was} to {is}"));
                }
            }
        }
        complaints
    }

    fn is_of(&self, kernel: &str) -> bool {
        let rest = kernel.strip_prefix(self.kernel);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
    }
}

/// The figures of every program here and now.
fn measure(kernel: &mut Kernel) -> BTreeMap<&'static str, Figures> {
    let mut now = BTreeMap::new();
    for (name, text) in Text::all() {
        let (stack, _) = text.stack();
        let calls = text.map_calls();
        // Where one does not load, `cost` says so.
        let info = load_anew(kernel.object.program_mut(name).unwrap()).ok();
        let of_kernel = info.map_or([0, 0], |info| {
            [
                info.verified_instruction_count().unwrap_or(0),
                info.size_jitted(),
            ]
        });
        let of_kernel = of_kernel.map(u64::from);
        let [lookups, updates, removals] =
            [calls.lookups, calls.updates, calls.removals].map(u64::from);
        let [verified, machine] = of_kernel;
        let stack = stack as u64;
        now.insert(name, [verified, machine, stack, lookups, updates, removals]);
    }
    now
}

#[test]
fn no_program_costs_more_than_the_table_says() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let machine = if cfg!(target_arch = "x86_64") {
        release.trim()
    } else {
        std::env::consts::ARCH
    };
    let now = measure(&mut kernel);
    for (name, [verified, machine, stack, lookups, updates, removals]) in &now {
        println!(
            "{name:14} {verified:8} {machine:7} {stack:5} {lookups:7} {updates:7} {removals:8} -"
        );
    }
    let table = Table::parse(TABLE).unwrap();
    if !table.is_of(machine) {
        println!(
            "skipped: instructions and machine code, which the table has for Linux {} on x86-64, this being {machine}",
            table.kernel
        );
    }
    let complaints = table.complaints(&now, machine);
    assert!(
        complaints.is_empty(),
        "{}; if it is worth it, write the new figures and why into ratchet.txt",
        complaints.join(", ")
    );
}

#[test]
fn a_rise_above_the_slack_is_told_and_a_fall_is_not() {
    let table = Table::parse("# a comment\nkernel 6.1\n\na 100 100 100 10 0 0 why\n").unwrap();
    let complaints = |figures, kernel| table.complaints(&[("a", figures)].into(), kernel);
    assert!(complaints([105, 90, 100, 10, 0, 0], "6.1.0-44").is_empty());
    assert_eq!(
        complaints([106, 90, 100, 11, 1, 0], "6.1"),
        [
            "a: verified has risen from 100 to 106",
            "a: lookups has risen from 10 to 11",
            "a: updates has risen from 0 to 1"
        ]
    );
    // Another kernel's verifier and JIT are not held against this one's.
    assert!(complaints([900, 900, 100, 10, 0, 0], "6.18.44").is_empty());
    let unknown = table.complaints(&[("b", Figures::default())].into(), "6.1");
    assert_eq!(unknown, ["b is not in the table"]);
}

#[test]
fn a_line_without_a_reason_or_a_figure_is_refused() {
    let refused = |text| Table::parse(text).unwrap_err();
    assert_eq!(refused("a 1 2 3 4 5 6\n"), "a: no reason");
    assert!(refused("a 1 2 x 4 5 6 why\n").starts_with("a: stack \"x\": "));
}
