//! How large the flow tables are, if nobody says.
//!
//! kube-proxy has Linux track `max(conntrack-max-per-core x cores, conntrack-min)` connections, a million at most by
//! default (rule 82). Here a connection takes two entries, and the tables are made when the agent starts, one for each
//! family, whether or not they are ever full: so they must not take more than a small part of the memory there is.

use crate::config::ConnectionLimit;

/// Bytes of an entry of each family together: key, value and what the kernel adds (struct htab_elem with its LRU
/// node, 64 bytes; two pointers of buckets), rounded up.
const ENTRY_BYTES: u64 = 288;
/// The part of the machine's memory that both tables may take.
const MEMORY_PART: u64 = 32;
/// The part of the agent's own limit, where a cgroup sets one: the kernel charges maps to whoever makes them.
const LIMIT_PART: u64 = 4;
/// Most connections by number of cores.
const MAX_CONNECTIONS: u64 = 1_048_576;
/// Never less than this many entries, nor more.
const BOUNDS: (u64, u64) = (16_384, 4_194_304);

/// What the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPU cores.
    pub cores: u32,
    /// Bytes of memory; `None`: unknown.
    pub memory: Option<u64>,
    /// Bytes that the agent's cgroup may use; `None`: no limit.
    pub limit: Option<u64>,
}

/// Entries of each flow table for that many connections on that machine.
pub fn flow_entries(connections: ConnectionLimit, machine: Machine) -> u32 {
    let by_cores = u64::from(connections.per_core) * u64::from(machine.cores);
    let connections = by_cores.min(MAX_CONNECTIONS).max(connections.min.into());
    let memory = machine.memory.map(|bytes| bytes / MEMORY_PART);
    let limit = machine.limit.map(|bytes| bytes / LIMIT_PART);
    let room = memory.into_iter().chain(limit).min().unwrap_or(u64::MAX);
    let entries = (2 * connections).min(room / ENTRY_BYTES);
    u32::try_from(entries.clamp(BOUNDS.0, BOUNDS.1)).unwrap_or(u32::MAX)
}
