//! Which verdicts tests have seen, left behind for `cargo xtask test`, which prints them at its end.

use std::{env, fmt::Write as _, fs::OpenOptions, io::Write as _, path::PathBuf};

use lb_common::verdict::Verdict;

/// Adds counts, in the order of [`Verdict::ALL`], to the file that `DUOLB_VERDICTS` names a directory for.
pub fn leave(counts: &[u64]) {
    let Some(directory) = env::var_os("DUOLB_VERDICTS") else {
        return;
    };
    let mut lines = String::new();
    let seen = Verdict::ALL.iter().zip(counts);
    for (verdict, count) in seen.filter(|(_, count)| **count > 0) {
        writeln!(lines, "{} {count}", verdict.label()).expect("room for a line");
    }
    let file = PathBuf::from(directory).join("programs");
    let file = OpenOptions::new().create(true).append(true).open(file);
    // One write, so that the lines of two processes do not mix.
    file.and_then(|mut file| file.write_all(lines.as_bytes()))
        .expect("DUOLB_VERDICTS names a directory");
}
