//! The control plane's core: model -> desired -> plan -> apply, in one direction.
//!
//! ```text
//!   Event --> index --dirty services--> desired --> plan --Plan--> apply --> Maps
//!              (what is known)           (what      (what is in    (the only writer)
//!                                        should be)  the maps)         |
//!                                                       ^-- restore ---+  at start, and when a step failed
//! ```
//!
//! `index`, `desired` and `plan` are pure: no I/O, no clock, no logging, no aya, no Kubernetes types; the
//! same input gives the same operations. `reconcile` calls them in turn and is given the time. `maps` is
//! the door to the kernel: a trait with the real maps (in `datapath`), an in-memory fake and a faulty
//! fake behind it. `node_ports` tells where node ports are served. `record` is what the pins say of a service; `problem` what is not served and why.

pub mod apply;
mod backoff;
pub mod desired;
pub mod health_check;
pub mod index;
pub mod maps;
pub mod node_ports;
pub mod plan;
pub mod problem;
pub mod reconcile;
pub mod record;
pub mod restore;
