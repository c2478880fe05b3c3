//! Who sends and who answers while the bench looks at the clock.
//!
//! Threads of this process inside the lab's namespaces, not programs of others: they do nothing but system calls,
//! alike in every way that is compared, and close with a reset, so that no ports are left waiting.

pub mod datagrams;
pub mod exchange;
pub mod iperf;
