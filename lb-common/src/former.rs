//! What both sides must agree on about former tables: those that programs of another version, or with other sizes,
//! still write while programs are being exchanged.
//!
//! Values only ever grow at their end: a former value is copied word by word as far as both have it, and the rest is
//! zero. Keys never change.

/// Words of the buffer that a flow's entry goes through between two versions: no version may have more.
pub const FLOW_WORDS: usize = 16;
/// The same for a client's affinity.
pub const AFFINITY_WORDS: usize = 4;
/// The same for a socket's entry.
pub const SOCKET_WORDS: usize = 12;

const _: () = {
    use crate::{
        address::V6,
        flow::Flow,
        tables::{Affinity, Socket},
    };
    assert!(size_of::<Flow<V6>>() <= 4 * FLOW_WORDS);
    assert!(size_of::<Affinity>() <= 4 * AFFINITY_WORDS);
    assert!(size_of::<Socket<V6>>() <= 4 * SOCKET_WORDS);
};
