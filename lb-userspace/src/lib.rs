//! The agent's library; `main.rs` is a table of contents over it.
//!
//! ```text
//!   source --Event--> control (index -> desired -> plan -> apply) --Maps--> datapath --> kernel
//!     |                  ^ pure: no I/O, no clock, no aya                      |
//!   model: the nouns they share                             cli: reads the pins, agent or no agent
//! ```

pub mod agent;
pub mod cli;
pub mod config;
pub mod conntrack;
pub mod control;
pub mod datapath;
pub mod health;
pub mod kube_proxy_rules;
pub mod metrics;
pub mod model;
pub mod serve;
pub mod source;
