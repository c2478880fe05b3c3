//! What only the programs themselves can tell: asked of lb-userspace's program tests, which load them.
//!
//! xtask knows no BPF. The tests' binary is given an order in an environment variable and prints a line of JSON
//! (`lb-userspace/tests/programs/bench`).

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The binary of the program tests.
#[derive(Clone, Debug)]
pub struct Programs(pub PathBuf);

impl Programs {
    /// What an order is answered by.
    ///
    /// # Errors
    /// If the binary cannot be run, fails, or says what went wrong.
    pub fn ask(&self, order: &str) -> Result<Value> {
        let output = Command::new(&self.0)
            .args(["--ignored", "--exact", "--nocapture", "bench::role"])
            .env("DUOLB_BENCH", order)
            .stdin(Stdio::null())
            .output()
            .with_context(|| self.0.display().to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer = said.lines().find(|line| line.starts_with('{'));
        let Some(answer) = answer.filter(|_| output.status.success()) else {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("{order}: {}", first_panic(&errors).unwrap_or("no answer"));
        };
        let answer: Value = serde_json::from_str(answer).context("the answer is no JSON")?;
        match answer["error"].as_str() {
            Some(error) => bail!("{order}: {error}"),
            None => Ok(answer),
        }
    }
}

/// What a test that panicked said first, without the place.
fn first_panic(text: &str) -> Option<&str> {
    let mut lines = text.lines();
    lines.find(|line| line.contains(" panicked at "))?;
    lines.next()
}

/// The numbers of a list; none where there is no number.
pub fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_f64).collect()
}

/// Field `at` of every round of a row.
pub fn column(row: &Value, at: usize) -> Vec<f64> {
    let rounds = row["rounds"].as_array().map(Vec::as_slice);
    let rounds = rounds.unwrap_or_default().iter();
    rounds.filter_map(|round| round[at].as_f64()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_panic_is_told_without_its_place() {
        let said = "kernel: x\n\nthread 'a' (1) panicked at b.rs:3:4:\nno flow\nstack backtrace:\n";
        assert_eq!(first_panic(said), Some("no flow"));
        assert_eq!(first_panic("all is well\n"), None);
    }

    #[test]
    fn columns_go_through_all_rounds() {
        let row = json!({"rounds": [[1, 2.5], [3, 4]]});
        assert_eq!(column(&row, 1), [2.5, 4.0]);
        assert!(column(&json!({}), 1).is_empty());
        assert_eq!(numbers(&json!([1, "x", 2])), [1.0, 2.0]);
    }
}
