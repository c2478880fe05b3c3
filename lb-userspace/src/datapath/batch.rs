//! Many elements of a map in one syscall: `bpf(2)` with BPF_MAP_UPDATE_BATCH and BPF_MAP_LOOKUP_BATCH, which
//! aya does not have.
//!
//! A cold start writes millions of elements, and a change of one slice should cost a handful of syscalls
//! however large it is. Arrays and hashes take batches since Linux 5.6 (commits aa2e93b8e58e and
//! 05799638bd34 "bpf: Add batch ops to all htab bpf map"); where a kernel has none, both functions do the
//! same one by one. It stands below `tables` and `view` and decides nothing.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Pod,
    maps::{Array, HashMap, IterableMap, MapData, MapError},
    sys::SyscallError,
};
use nix::libc;

/// `bpf_cmd` of linux/bpf.h.
pub(super) const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
/// What the kernel says where a kind of map has no batches; it is in no user-space header.
pub(super) const ENOTSUPP: i32 = 524;
/// Elements that go out or come in by one syscall.
const CHUNK: usize = 16_384;

/// The part of `union bpf_attr` that the batch commands use.
#[repr(C)]
pub(super) struct BatchAttr {
    pub(super) in_batch: u64,
    pub(super) out_batch: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    pub(super) count: u32,
    pub(super) map_fd: u32,
    pub(super) elem_flags: u64,
    pub(super) flags: u64,
}

const _: () = assert!(size_of::<BatchAttr>() == 56);

/// A map of which batches can be read and written: its values have the size of `V`, which aya has compared
/// when it opened the map.
pub(super) trait Batched<K: Pod, V: Pod>: IterableMap<K, V> {
    /// Writes one element.
    fn set_one(&mut self, key: &K, value: &V) -> Result<(), MapError>;
    /// Reads all elements, one by one.
    fn read_singly(&self) -> Result<Vec<(K, V)>, MapError>;
}

impl<V: Pod> Batched<u32, V> for Array<MapData, V> {
    fn set_one(&mut self, key: &u32, value: &V) -> Result<(), MapError> {
        self.set(*key, value, 0)
    }

    fn read_singly(&self) -> Result<Vec<(u32, V)>, MapError> {
        (0..)
            .zip(self.iter())
            .map(|(index, value)| Ok((index, value?)))
            .collect()
    }
}

impl<K: Pod, V: Pod> Batched<K, V> for HashMap<MapData, K, V> {
    fn set_one(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.insert(key, value, 0)
    }

    fn read_singly(&self) -> Result<Vec<(K, V)>, MapError> {
        self.iter().collect()
    }
}

/// Writes `values` at `keys`, in order; of a key that stands there twice the last value stays.
///
/// # Errors
/// Of the first element that could not be written; those before it were.
pub(super) fn update<K: Pod, V: Pod>(
    map: &mut impl Batched<K, V>,
    keys: &[K],
    values: &[V],
) -> Result<(), MapError> {
    for (keys, values) in keys.chunks(CHUNK).zip(values.chunks(CHUNK)) {
        let count = keys.len().min(values.len());
        let mut attr = BatchAttr {
            in_batch: 0,
            out_batch: 0,
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            map_fd: fd(map.map()),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: `keys` and `values` hold `count` elements each, of the sizes that this map has (see
        // `Batched`), and live through the call, which only reads them.
        match unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut attr) } {
            Err(error) if is_unknown(&error) => {
                let mut elements = keys.iter().zip(values);
                elements.try_for_each(|(key, value)| map.set_one(key, value))?;
            }
            other => other.map_err(failed)?,
        }
    }
    Ok(())
}

/// Reads all elements: of an array in order, of a hash in no order. What changes meanwhile may be seen or
/// not.
///
/// # Errors
/// [`MapError`] of the call that failed.
pub(super) fn read<K: Pod, V: Pod>(map: &impl Batched<K, V>) -> Result<Vec<(K, V)>, MapError> {
    let mut all = Vec::new();
    read_chunks(map, |keys, values| {
        all.extend(keys.iter().copied().zip(values.iter().copied()));
        true
    })?;
    Ok(all)
}

/// Reads the first `count` values of an array, or all if there are fewer.
///
/// # Errors
/// [`MapError`] of the call that failed.
pub(super) fn read_first<V: Pod>(
    map: &impl Batched<u32, V>,
    count: usize,
) -> Result<Vec<V>, MapError> {
    let mut all: Vec<V> = Vec::new();
    if count > 0 {
        read_chunks(map, |_: &[u32], values: &[V]| {
            let missing = count - all.len();
            all.extend_from_slice(&values[..missing.min(values.len())]);
            all.len() < count
        })?;
    }
    Ok(all)
}

/// Reads the values of an array that is filled from its beginning, from the first up to the last one that is not
/// the default. The array may be far larger than what is used of it: what comes behind a whole piece of
/// nothing is not looked at.
///
/// # Errors
/// [`MapError`] of the call that failed.
pub(super) fn read_used<V: Pod + Default + PartialEq>(
    map: &impl Batched<u32, V>,
) -> Result<Vec<V>, MapError> {
    let mut all: Vec<V> = Vec::new();
    let mut unused = 0;
    read_chunks(map, |_: &[u32], values: &[V]| {
        let last = values.iter().rposition(|value| *value != V::default());
        let end = last.map_or(0, |last| last + 1);
        if end > 0 {
            all.resize(all.len() + unused, V::default());
            all.extend_from_slice(&values[..end]);
            unused = 0;
        }
        unused += values.len() - end;
        end > 0
    })?;
    Ok(all)
}

/// Reads elements in pieces, as long as `take` wants more.
fn read_chunks<K: Pod, V: Pod>(
    map: &impl Batched<K, V>,
    mut take: impl FnMut(&[K], &[V]) -> bool,
) -> Result<(), MapError> {
    let mut walk = Walk::new(CHUNK);
    while let Some((keys, values)) = walk.next(map)? {
        if !take(keys, values) {
            break;
        }
    }
    Ok(())
}

/// Keys and their values, side by side.
pub type Chunk<'a, K, V> = (&'a [K], &'a [V]);

/// A way through a map, piece by piece. Elements may be removed on the way. What others change meanwhile may be seen
/// or not.
pub(super) struct Walk<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
    chunk: usize,
    /// Where the next call goes on: a key of an array or a bucket of a hash, 4 bytes either way.
    position: Option<u32>,
    is_done: bool,
}

impl<K: Pod, V: Pod> Walk<K, V> {
    /// From the beginning, `chunk` elements at a time; of a hash, more than it has in any of its buckets.
    pub(super) fn new(chunk: usize) -> Self {
        Self {
            keys: Vec::with_capacity(chunk),
            values: Vec::with_capacity(chunk),
            chunk,
            position: None,
            is_done: false,
        }
    }

    /// The next piece; `None` behind the last one.
    pub(super) fn next(
        &mut self,
        map: &impl Batched<K, V>,
    ) -> Result<Option<Chunk<'_, K, V>>, MapError> {
        if self.is_done {
            return Ok(None);
        }
        let mut next = 0u32;
        let mut attr = BatchAttr {
            in_batch: self.position.as_ref().map_or(0, |at| &raw const *at as u64),
            out_batch: &raw mut next as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: u32::try_from(self.chunk).unwrap_or(u32::MAX),
            map_fd: fd(map.map()),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: `keys` and `values` have room for `chunk` elements of the sizes that this map has (see
        // `Batched`); `position` and `next` are as long as the kernel's own for arrays with keys of 4
        // bytes and for hashes. All live through the call.
        let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) };
        match result {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.is_done = true,
            Err(error) if is_unknown(&error) && self.position.is_none() => {
                (self.keys, self.values) = map.read_singly()?.into_iter().unzip();
                self.is_done = true;
                return Ok(Some((&self.keys, &self.values)));
            }
            Err(error) => return Err(failed(error)),
        }
        let count = (attr.count as usize).min(self.chunk);
        // SAFETY: the kernel has written that many elements, and any bytes are a `K` and a `V` (Pod).
        unsafe {
            self.keys.set_len(count);
            self.values.set_len(count);
        }
        self.is_done |= count == 0;
        self.position = Some(next);
        Ok(Some((&self.keys, &self.values)))
    }
}

/// One command of bpf(2).
///
/// # Safety
/// `T` is laid out as the part of `union bpf_attr` that the command reads, and what it points to is valid for the
/// call: as many elements as it says, of the sizes of the map.
pub(super) unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<()> {
    // SAFETY: the attribute is as long as it is said to be and lives through the call; the caller vouches
    // for what it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether this kernel has no batches for this map. It says the same of some mistakes; one by one these
/// are found again.
fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP)
    )
}

fn fd(map: &MapData) -> u32 {
    // A descriptor that is open is not negative.
    map.fd().as_fd().as_raw_fd().unsigned_abs()
}

fn failed(io_error: io::Error) -> MapError {
    let call = "bpf_map_batch";
    SyscallError { call, io_error }.into()
}

#[cfg(test)]
mod tests;
