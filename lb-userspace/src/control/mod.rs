//! The control plane's core: model -> desired -> plan -> apply, in one direction.
//!
//! `index`, `desired` and `plan` are pure: no I/O, no clock, no logging, no aya, no Kubernetes types; the
//! same input gives the same operations. `maps` is the door to the kernel: a trait with the real maps
//! (in `datapath`), an in-memory fake and a faulty fake behind it.

pub mod maps;
