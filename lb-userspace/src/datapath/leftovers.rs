//! What any agent has left in the kernel, of whatever version, and its end.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use aya::maps::MapError;

use super::{DatapathError, generations::versions, link::OpenLink, pins::Pins, raw::RawMap};

/// Where [`lb_common::tables::Device::attached`] stands in a value of `DEVICES`, in any version.
const ATTACHED: std::ops::Range<usize> = 4..8;

/// What there is.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Devices that have programs, by ifindex, and how they are attached.
    pub devices: BTreeMap<u32, u32>,
    /// Number of pinned maps.
    pub maps: usize,
    /// Pinned links.
    pub links: Vec<PathBuf>,
}

impl Leftovers {
    /// Looks for it.
    ///
    /// # Errors
    /// [`DatapathError`]: the pins cannot be read.
    pub fn find(pins: &Pins) -> Result<Self, DatapathError> {
        let mut found = Self::default();
        found.links.extend(list(&pins.links()));
        for (_, version) in versions(pins.top())? {
            for dir in list(&version) {
                if dir.ends_with("links") {
                    found.links.extend(list(&dir));
                    continue;
                }
                found.maps += list(&dir).len();
                found
                    .add_devices(&dir.join("DEVICES"))
                    .map_err(|source| DatapathError::Map {
                        name: "DEVICES",
                        source: Box::new(source),
                    })?;
            }
        }
        Ok(found)
    }

    fn add_devices(&mut self, pin: &std::path::Path) -> Result<(), MapError> {
        let Some(map) = RawMap::open(pin)? else {
            return Ok(());
        };
        map.read(|key, value| {
            let word = |bytes: Option<&[u8]>| {
                let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
                bytes
                    .map(u32::from_ne_bytes)
                    .ok_or_else(|| io::Error::other("not a map of devices"))
            };
            *self.devices.entry(word(Some(key))?).or_default() |= word(value.get(ATTACHED))?;
            Ok(())
        })
        .map_err(MapError::IoError)
    }

    /// Takes programs off what links attach them to, at once: without its pin alone a link stays until the kernel
    /// gets round to it.
    pub fn detach_links(&self) {
        for pin in &self.links {
            if let Ok(Some(link)) = OpenLink::open(pin) {
                // What is detached already, with its device, is as good.
                let _ = link.detach();
            }
        }
    }
}

/// What is in a directory; nothing if there is none.
fn list(dir: &std::path::Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
