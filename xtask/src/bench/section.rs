//! The parts of the bench, and what they share: rounds in which every way has its turn.

pub mod control;
pub mod live;
pub mod network;
pub mod program;
pub mod scale;

use anyhow::Result;

use super::{
    ground::{Ground, Way},
    report::{Row, Section},
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
    grounds: &[&Ground],
    rounds: usize,
    mut tick: impl FnMut(Way),
    mut measure: impl FnMut(&Ground) -> Result<f64>,
) -> Result<()> {
    for round in 0..rounds {
        for turn in 0..grounds.len() {
            interrupt::check()?;
            let ground = grounds[(round + turn) % grounds.len()];
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

/// A section with real sockets, after its ways have shown that what they pass on is right; without, there are no figures.
///
/// # Errors
/// `interrupted`.
pub fn checked(
    name: &str,
    grounds: &[&Ground],
    measure: impl FnOnce() -> Result<Section>,
) -> Result<Section> {
    let seen: Result<Vec<_>> = grounds
        .iter()
        .map(|ground| ground.check_offloads())
        .collect();
    match seen {
        Ok(seen) => {
            let mut section = measure()?;
            section.notes.extend(seen.into_iter().flatten());
            Ok(section)
        }
        Err(error) => {
            interrupt::check()?;
            Ok(refused(name, format!("{error:#}")))
        }
    }
}

/// A section without figures, and why.
pub fn refused(name: &str, why: impl Into<String>) -> Section {
    Section {
        name: name.to_owned(),
        title: "Nothing was measured".to_owned(),
        notes: vec![format!("REFUSED: {}", why.into())],
        ..Section::default()
    }
}
