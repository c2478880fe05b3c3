//! The kube source against an API server: a double that speaks HTTP and fails on demand, and, where
//! `KUBEBUILDER_ASSETS` says where kube-apiserver and etcd are, real ones.
//!
//! `double` is the server, `agent` the source and a control plane over maps in memory, `suite` what must hold with any
//! server, the rest what must hold with a bad one. What is compared in the end is what the maps mean.

mod agent;
mod both;
mod config;
mod double;
mod faults;
#[expect(
    dead_code,
    reason = "shared with the tests of the control plane, which use all of it"
)]
#[path = "../control/meaning.rs"]
mod meaning;
mod objects;
mod real;
mod refusals;
mod replay;
mod report;
mod scale;
mod storm;
mod suite;
mod tls;
