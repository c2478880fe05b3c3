//! Flows as user space sees them: what belongs together, what is over, what is asked for.
//!
//! ```text
//!   datapath::flows (the tables) ──entry──> kin (all entries of its flow) ──┬─> over?  agent::sweep removes it
//!                                                                           └─> view ──filter──> cli: list, flush, top
//! ```
//!
//! Pure: entries and time come in as arguments. How long a flow may be silent is `lb_common::flow::state`'s to say, as for
//! the programs.

pub mod filter;
pub mod kin;
pub mod sizing;
pub mod top;
pub mod view;

#[cfg(test)]
mod tests;
