//! What the guest is to do, and how it tells what came of it: host and guest are the same program.
//!
//! The order goes in as a file of the guest's root; out come the tests' own lines over a serial port, and between
//! them lines of ours, which begin with [`MARK`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the order is in the guest.
pub(super) const ORDER: &str = "/order.json";

/// What a line of ours begins with.
pub(super) const MARK: &str = "##guest ";

/// Everything the guest is to run, one after the other.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Order {
    pub(super) jobs: Vec<Job>,
    /// Environment of all of them.
    pub(super) env: Vec<(String, String)>,
}

/// A test binary to run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    /// Where it runs.
    pub(super) dir: PathBuf,
    /// How long it may take.
    pub(super) seconds: u64,
}

/// What the guest says of itself.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Word {
    /// It has started.
    Hello { release: String },
    /// A job begins.
    Begin { name: String },
    /// A job has ended.
    End {
        name: String,
        /// What the process ended with, in words; `None`: success.
        failure: Option<String>,
        seconds: u64,
    },
    /// It could not do what it was told.
    Trouble { what: String },
    /// There is nothing left to do.
    Done,
}

impl Word {
    /// As it goes over the line.
    pub(super) fn line(&self) -> String {
        let json = serde_json::to_string(self).expect("plain data");
        format!("{MARK}{json}")
    }

    /// The word in a line, if it is one; a test may have left half a line before it.
    pub(super) fn find(line: &str) -> Option<Self> {
        let (_, json) = line.split_once(MARK)?;
        serde_json::from_str(json.trim()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_behind_what_a_test_has_left_unfinished() {
        let word = Word::End {
            name: "programs".into(),
            failure: Some("exit status: 101".into()),
            seconds: 3,
        };
        assert_eq!(
            Word::find(&format!("test a ... {}\r", word.line())),
            Some(word)
        );
        assert_eq!(Word::find("test result: ok."), None);
    }
}
