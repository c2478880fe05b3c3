//! Pinned maps as bytes, whatever is in them: how entries go from one version's maps to another's.
//!
//! aya's maps have types, which is what differs here. Batches since Linux 5.6; one by one where a kernel has none for
//! a kind of map.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use aya::{
    maps::{MapData, MapError, MapType},
    util::nr_cpus,
};
use nix::libc;

use super::batch::{BPF_MAP_LOOKUP_BATCH, BatchAttr, ENOTSUPP, bpf};

/// `bpf_cmd` of linux/bpf.h.
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
/// Elements that come in by one syscall: more than a bucket of a hash ever has.
const CHUNK: usize = 4096;

/// The part of `union bpf_attr` that commands about one element use.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

const _: () = assert!(size_of::<ElementAttr>() == 32);

/// Whether an entry that is there already is left as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// Whatever is there is replaced.
    Replace,
    /// What is there stays.
    IfNew,
}

/// A pinned map, open.
pub(super) struct RawMap {
    map: MapData,
    pub(super) kind: MapType,
    /// Bytes of a key.
    pub(super) key: usize,
    /// Bytes of a value, of one CPU.
    pub(super) value: usize,
    /// Entries there can be.
    pub(super) entries: u32,
    /// How many values an entry has.
    cpus: usize,
}

impl RawMap {
    /// Opens what is pinned at `path`; `None` if nothing is.
    ///
    /// # Errors
    /// [`MapError`].
    pub(super) fn open(path: &Path) -> Result<Option<Self>, MapError> {
        if !path.exists() {
            return Ok(None);
        }
        let map = MapData::from_pin(path)?;
        let info = map.info()?;
        let kind = info.map_type()?;
        let is_per_cpu = matches!(
            kind,
            MapType::PerCpuArray | MapType::PerCpuHash | MapType::LruPerCpuHash
        );
        let cpus = nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
        Ok(Some(Self {
            kind,
            key: info.key_size() as usize,
            value: info.value_size() as usize,
            entries: info.max_entries(),
            cpus: if is_per_cpu { cpus } else { 1 },
            map,
        }))
    }

    /// Whether programs fill it, and the kernel makes room in it.
    pub(super) fn is_lru(&self) -> bool {
        matches!(self.kind, MapType::LruHash | MapType::LruPerCpuHash)
    }

    /// Whether every CPU counts for itself in it.
    pub(super) fn is_counters(&self) -> bool {
        self.kind == MapType::PerCpuArray
    }

    /// Whether its entries are always there.
    pub(super) fn is_array(&self) -> bool {
        matches!(self.kind, MapType::Array | MapType::PerCpuArray)
    }

    /// Bytes from one CPU's value to the next one's; an entry has one for each CPU.
    fn stride(&self) -> usize {
        if self.cpus > 1 || self.is_counters() {
            self.value.next_multiple_of(8)
        } else {
            self.value
        }
    }

    /// Bytes of all values of an entry.
    pub(super) fn width(&self) -> usize {
        self.stride() * self.cpus
    }

    /// Hands over every entry: its key and all its values. What changes meanwhile may be seen or not. Of an array,
    /// entries of zeros are left out.
    ///
    /// # Errors
    /// [`MapError`], and whatever `take` fails with.
    pub(super) fn read(
        &self,
        mut take: impl FnMut(&[u8], &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let width = self.width();
        let mut keys = vec![0; CHUNK * self.key];
        let mut values = vec![0; CHUNK * width];
        // Where the next call goes on: a key, or a bucket of a hash in 4 bytes.
        let mut position = vec![0; self.key.max(4)];
        let mut next = position.clone();
        let mut is_first = true;
        loop {
            let mut attr = BatchAttr {
                in_batch: if is_first {
                    0
                } else {
                    position.as_ptr() as u64
                },
                out_batch: next.as_mut_ptr() as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: u32::try_from(CHUNK).unwrap_or(u32::MAX),
                map_fd: self.fd(),
                elem_flags: 0,
                flags: 0,
            };
            // SAFETY: the buffers have room for CHUNK elements of this map's sizes and for a position, and live
            // through the call.
            let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) };
            let is_last = match result {
                Ok(()) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) if is_first && is_unknown(&error) => return self.read_singly(take),
                Err(error) => return Err(error),
            };
            let count = (attr.count as usize).min(CHUNK);
            let entries = keys.chunks(self.key).zip(values.chunks(width));
            for (key, value) in entries.take(count) {
                if !self.is_array() || value.iter().any(|byte| *byte != 0) {
                    take(key, value)?;
                }
            }
            if is_last || count == 0 {
                return Ok(());
            }
            std::mem::swap(&mut position, &mut next);
            is_first = false;
        }
    }

    fn read_singly(&self, mut take: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut key = vec![0; self.key];
        let mut next = key.clone();
        let mut value = vec![0; self.width()];
        let mut is_first = true;
        // A key that is removed while it is read leads back to the first one: not for ever.
        for _ in 0..self.entries.saturating_mul(2) {
            let from = if is_first { 0 } else { key.as_ptr() as u64 };
            let mut attr = self.element(from, next.as_mut_ptr() as u64);
            // SAFETY: both buffers have a key's size and live through the call.
            match unsafe { bpf(BPF_MAP_GET_NEXT_KEY, &mut attr) } {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                other => other?,
            }
            std::mem::swap(&mut key, &mut next);
            is_first = false;
            if self.get(&key, &mut value)?
                && !(self.is_array() && value.iter().all(|byte| *byte == 0))
            {
                take(&key, &value)?;
            }
        }
        Ok(())
    }

    /// Reads an entry; false if there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn get(&self, key: &[u8], value: &mut Vec<u8>) -> io::Result<bool> {
        assert_eq!(key.len(), self.key, "a key of this map");
        value.resize(self.width(), 0);
        let mut attr = self.element(key.as_ptr() as u64, value.as_mut_ptr() as u64);
        // SAFETY: the buffers have this map's sizes and live through the call.
        match unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) } {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Writes an entry; false if one was there that stays.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn put(&self, key: &[u8], value: &[u8], how: Put) -> io::Result<bool> {
        assert_eq!(key.len(), self.key, "a key of this map");
        assert_eq!(value.len(), self.width(), "values of this map");
        let mut attr = self.element(key.as_ptr() as u64, value.as_ptr() as u64);
        // BPF_NOEXIST.
        attr.flags = u64::from(how == Put::IfNew);
        // SAFETY: as above; the call only reads them.
        match unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) } {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// The values of an entry of `from` as this map has them: longer ones are cut, shorter ones end with zeros.
    pub(super) fn fit(&self, from: &Self, values: &[u8]) -> Vec<u8> {
        let mut fitting = vec![0; self.width()];
        let theirs = values.chunks(from.stride().max(1));
        for (to, from_value) in fitting.chunks_mut(self.stride().max(1)).zip(theirs) {
            let common = self.value.min(from.value);
            to[..common].copy_from_slice(&from_value[..common]);
        }
        fitting
    }

    fn element(&self, key: u64, value: u64) -> ElementAttr {
        ElementAttr {
            map_fd: self.fd(),
            pad: 0,
            key,
            value,
            flags: 0,
        }
    }

    fn fd(&self) -> u32 {
        // A descriptor that is open is not negative.
        self.map.fd().as_fd().as_raw_fd().unsigned_abs()
    }
}

/// Whether this kernel has no batches for this kind of map.
fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)
    )
}
