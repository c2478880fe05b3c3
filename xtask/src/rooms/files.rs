//! What files there are, what they may be called, and how long they may be.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Names that say nothing of what is inside.
const NAMELESS: &[&str] = &["utils", "util", "helpers", "helper", "common", "misc"];
/// Above this a file says why in its header.
const LONG: usize = 400;
/// Above this it is a redesign.
const TOO_LONG: usize = 600;
/// How a long file says why.
const REASON: &str = "//! Long because:";

/// All Rust files of the workspace's packages, as paths from `root` with slashes, sorted.
pub(super) fn rust_files(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for package in fs::read_dir(root)
        .with_context(|| root.display().to_string())?
        .flatten()
    {
        if package.path().join("Cargo.toml").is_file() {
            walk(
                &package.path(),
                &package.file_name().to_string_lossy(),
                &mut found,
            )?;
        }
    }
    found.sort();
    Ok(found)
}

fn walk(dir: &Path, name: &str, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry.with_context(|| dir.display().to_string())?;
        let (path, file) = (
            entry.path(),
            entry.file_name().to_string_lossy().into_owned(),
        );
        let name = format!("{name}/{file}");
        if path.is_dir() && file != "target" {
            walk(&path, &name, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(name);
        }
    }
    Ok(())
}

/// What is wrong with a file as a file.
pub(super) fn check(path: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let parts = path.trim_end_matches(".rs").split('/');
    if let Some(part) = parts.into_iter().find(|part| NAMELESS.contains(part)) {
        broken.push(format!("{path}: {part} is no name: say what it is"));
    }
    let lines = text.lines().count();
    if lines > TOO_LONG {
        broken.push(format!(
            "{path}: {lines} lines; more than {TOO_LONG} are a redesign"
        ));
    } else if lines > LONG && !header(text).any(|line| line.starts_with(REASON)) {
        broken.push(format!(
            "{path}: {lines} lines; above {LONG} the header says `{REASON} ...`"
        ));
    }
    if header(text).next().is_none() {
        broken.push(format!(
            "{path}: no `//!` at the top that says what it is and why so"
        ));
    }
    broken
}

/// The `//!` lines that a file opens with.
fn header(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| line.starts_with("//!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_need_a_reason_and_too_long_ones_have_none() {
        let file = |header: &str, lines: usize| format!("{header}\n{}", "x\n".repeat(lines - 1));
        let reason = "//! Long because: one table.";
        assert_eq!(check("a/src/b.rs", &file("//! B.", 400)).len(), 0);
        assert_eq!(check("a/src/b.rs", &file("//! B.", 401)).len(), 1);
        assert_eq!(check("a/src/b.rs", &file(reason, 401)).len(), 0);
        assert_eq!(check("a/src/b.rs", &file(reason, 601)).len(), 1);
    }

    #[test]
    fn files_say_what_they_are_by_name_and_header() {
        assert_eq!(
            check("lb-common/src/lib.rs", "//! The contract.\n").len(),
            0
        );
        assert_eq!(check("a/src/utils.rs", "//! Things.\n").len(), 1);
        assert_eq!(check("a/src/common/mod.rs", "//! Things.\n").len(), 1);
        assert_eq!(check("a/src/b.rs", "fn main() {}\n").len(), 1);
    }
}
