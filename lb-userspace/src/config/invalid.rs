//! What is wrong with a configuration, as data: where, which value, why.

use std::{fmt, path::PathBuf};

/// Where values came from, so that a message names what its reader has typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Flags.
    Flags,
    /// A file.
    File(PathBuf),
}

/// One value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Its key in the file, with those above it.
    pub key: &'static str,
    /// Its flag.
    pub flag: &'static str,
    /// The value.
    pub value: String,
    /// What it should be.
    pub why: &'static str,
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfiguration {
    /// Where it came from.
    pub origin: Origin,
    /// What is wrong, at least one.
    pub values: Vec<Invalid>,
}

impl std::error::Error for InvalidConfiguration {}

/// One line for each.
impl fmt::Display for InvalidConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, invalid) in self.values.iter().enumerate() {
            let Invalid {
                key,
                flag,
                value,
                why,
            } = invalid;
            if index > 0 {
                f.write_str("\n")?;
            }
            match &self.origin {
                Origin::Flags => write!(f, "--{flag} {value:?}: {why}")?,
                Origin::File(path) => {
                    write!(f, "--config {}: {key} {value:?}: {why}", path.display())?;
                }
            }
        }
        Ok(())
    }
}
