//! The parts of the bench, and what they share: rounds in which every way has its turn.

pub mod network;

use anyhow::Result;

use super::{
    ground::{Ground, Way},
    report::Row,
};
use crate::lab::interrupt;

/// Measures the same of every ground, round by round, and begins each round with another one.
///
/// A way that fails is named in the row with what it failed with, and not measured any more.
///
/// # Errors
/// `interrupted`.
pub fn interleave(
    row: &mut Row,
    grounds: &[Ground],
    rounds: usize,
    mut tick: impl FnMut(Way),
    mut measure: impl FnMut(&Ground) -> Result<f64>,
) -> Result<()> {
    for round in 0..rounds {
        for turn in 0..grounds.len() {
            interrupt::check()?;
            let ground = &grounds[(round + turn) % grounds.len()];
            let way = ground.way.to_string();
            tick(ground.way);
            if row.missing.contains_key(&way) {
                continue;
            }
            match measure(ground) {
                Ok(value) => row.rounds.entry(way).or_default().push(value),
                Err(error) => {
                    interrupt::check()?;
                    row.rounds.remove(&way);
                    row.missing.insert(way, format!("{error:#}"));
                }
            }
        }
    }
    Ok(())
}
