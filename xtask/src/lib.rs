//! What it takes to build, run and test duolb; `main.rs` is a table of contents over it.
//!
//! ```text
//!   setup -> toolchain            what a machine needs, and how the kernel side is built
//!   build  test  check  run  soak  fuzz  dist   one file per task
//!   vm                            the tests under other kernels
//!   lab                           nodes and pods as network namespaces: run, tests and bench use it
//! ```
//!
//! It is a library so that namespace tests of other crates can use [`lab`].

pub mod bench;
pub mod build;
pub mod check;
pub mod dist;
pub mod fuzz;
pub mod lab;
pub mod progress;
pub mod rooms;
pub mod run;
pub mod setup;
pub mod soak;
pub mod test;
pub mod toolchain;
pub mod vm;
pub mod workspace;
