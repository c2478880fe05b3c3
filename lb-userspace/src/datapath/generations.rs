//! Which maps are in force, in bpffs: those of an agent of any version, and what a switch between two has left.
//!
//! ```text
//!   v4/maps     in force                        one at a time, of any version
//!   v5/next     being filled: nobody uses it    removed by whoever finds it
//!   v4/former   in force before `maps`          programs that are not exchanged yet still use it
//! ```
//!
//! A switch is two renames: `maps` to `former`, `next` to `maps`. An agent that dies in between leaves no `maps`; the
//! next one takes the first back. One that dies later leaves `former`; the next one finishes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lb_common::tables::SCHEMA_VERSION;

use super::{DatapathError, pins::Pins};

/// Maps of one version and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    /// Its schema version.
    pub(super) schema: u32,
    /// Where its maps are.
    pub(super) maps: PathBuf,
}

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Generations {
    /// In force.
    pub(super) current: Option<Generation>,
    /// In force before; some programs may still use it.
    pub(super) former: Option<Generation>,
}

impl Generations {
    /// Looks for what there is, after putting in order what a killed agent has left.
    ///
    /// # Errors
    /// [`DatapathError::Pin`].
    pub(super) fn find(pins: &Pins) -> Result<Self, DatapathError> {
        let top = pins.top();
        for (_, dir) in versions(top)? {
            remove(&dir.join("next"))?;
            adopt_links(&dir.join("links"), &pins.links())?;
        }
        let mut found = Self::look(top)?;
        if found.current.is_none()
            && let Some(former) = found.former.take()
        {
            let back = former.maps.with_file_name("maps");
            rename(&former.maps, &back)?;
            found = Self::look(top)?;
        }
        Ok(found)
    }

    /// Looks for what there is and changes nothing.
    ///
    /// # Errors
    /// [`DatapathError::Pin`].
    pub(super) fn look(top: &Path) -> Result<Self, DatapathError> {
        let mut found = Self::default();
        for (schema, dir) in versions(top)? {
            for (name, place) in [("maps", &mut found.current), ("former", &mut found.former)] {
                let maps = dir.join(name);
                // Ours before others', then the newest.
                let is_better = place.as_ref().is_none_or(|other| {
                    other.schema != SCHEMA_VERSION
                        && (schema == SCHEMA_VERSION || schema > other.schema)
                });
                if is_better && is_filled(&maps) {
                    *place = Some(Generation { schema, maps });
                }
            }
        }
        Ok(found)
    }

    /// Puts what was filled in `next` in force.
    ///
    /// # Errors
    /// [`DatapathError::Pin`].
    pub(super) fn commit(pins: &Pins, current: &Generation) -> Result<Generation, DatapathError> {
        let former = current.maps.with_file_name("former");
        remove(&former)?;
        rename(&current.maps, &former)?;
        // There may be an empty one, which a rename replaces.
        rename(&pins.next(), &pins.maps())?;
        Ok(Generation {
            schema: current.schema,
            maps: former,
        })
    }
}

impl Generation {
    /// Removes its pins, and with them, if no program is left that uses them, its maps.
    ///
    /// # Errors
    /// [`DatapathError::Pin`].
    pub(super) fn remove(&self) -> Result<(), DatapathError> {
        remove(&self.maps)?;
        if self.schema != SCHEMA_VERSION
            && let Some(dir) = self.maps.parent()
        {
            for empty in [dir.join("maps"), dir.join("links"), dir.to_owned()] {
                // What is not empty, or not there, stays as it is.
                let _ = fs::remove_dir(empty);
            }
        }
        Ok(())
    }
}

/// The directories of all schema versions, in no order.
///
/// # Errors
/// [`DatapathError::Pin`].
pub(super) fn versions(top: &Path) -> Result<Vec<(u32, PathBuf)>, DatapathError> {
    let entries = match fs::read_dir(top) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(at(top))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(at(top))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let version = name.and_then(|name| name.strip_prefix('v')?.parse().ok());
        if let Some(version) = version {
            found.push((version, path));
        }
    }
    Ok(found)
}

fn is_filled(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

/// Links belong to no version: whoever comes next exchanges the programs within them.
fn adopt_links(from: &Path, to: &Path) -> Result<(), DatapathError> {
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries {
        let pin = entry.map_err(at(from))?.path();
        if let Some(name) = pin.file_name() {
            rename(&pin, &to.join(name))?;
        }
    }
    fs::remove_dir(from).map_err(at(from))
}

fn rename(from: &Path, to: &Path) -> Result<(), DatapathError> {
    fs::rename(from, to).map_err(at(from))
}

fn remove(dir: &Path) -> Result<(), DatapathError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(dir)(error)),
        _ => Ok(()),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> DatapathError {
    let path = path.to_owned();
    move |source| DatapathError::Pin {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
