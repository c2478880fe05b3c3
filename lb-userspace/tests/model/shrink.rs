//! Leaves out of a run that fails whatever it fails without.

use std::fmt;

use crate::{datapath::Datapath, play::Play, step::Step};

/// Where a run went wrong.
pub struct Failure {
    pub at: usize,
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// A shorter run that fails, and how.
pub fn run(
    datapath: &mut Datapath,
    has_xdp: bool,
    mut script: Vec<Step>,
    mut why: Failure,
) -> (Vec<Step>, Failure) {
    let mut size = script.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < script.len() {
            let mut shorter = script.clone();
            shorter.drain(at..(at + size).min(script.len()));
            match Play::new(datapath, has_xdp).all(&shorter) {
                Err(other) => {
                    shorter.truncate(other.at + 1);
                    (script, why) = (shorter, other);
                }
                Ok(_) => at += size,
            }
        }
        size /= 2;
    }
    (script, why)
}
