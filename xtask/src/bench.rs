//! `cargo xtask bench`: where duolb stands against a bare veth, plain routing and kube-proxy's rule sets, in one run.

pub mod kube_proxy;
pub mod report;
pub mod stats;
