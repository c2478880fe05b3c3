//! `cargo xtask bench`: where duolb stands against a bare veth, plain routing and kube-proxy's rule sets, in one run.
//!
//! ```text
//!   catalogue -> ground (a way each) -> section (interleaved rounds) -> report -> terminal, JSON, Markdown, charts
//! ```

pub mod catalogue;
pub mod ground;
pub mod kube_proxy;
pub mod load;
pub mod report;
pub mod section;
pub mod stats;
