//! What is counted of the flow tables: their churn by the programs, their fill by the agent.
//!
//! The kernel does not say how many entries an LRU map holds, nor what it evicts. Both follow from what goes in and
//! what is taken out: what is missing then has been evicted.

use super::state::STATE_COUNT;
use crate::address::Family;

/// What the programs put into a flow table and took out of it: the per-CPU value of `CHURN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Churn {
    /// Entries that were not there before.
    pub inserted: u64,
    /// Entries removed.
    pub removed: u64,
}

/// What the agent found in a flow table when it last went through it: the value of `FLOW_STATS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowStats {
    /// Flows by the number of their [state](super::state::State).
    pub flows: [u32; STATE_COUNT],
    /// Entries, of which a flow has two or four.
    pub entries: u32,
    /// Always zero.
    pub pad: u32,
    /// Entries that were over and that the agent has removed, ever.
    pub expired: u64,
    /// Entries that the table's LRU has evicted, ever, as far as is known.
    pub evicted: u64,
    /// When it was through, in seconds since 1970; 0: never.
    pub swept_at: u64,
}

/// Where a family stands in `CHURN`, `FLOW_STATS` and `FLUSHED`.
#[inline(always)]
pub const fn family_index(family: Family) -> u32 {
    matches!(family, Family::V6) as u32
}
