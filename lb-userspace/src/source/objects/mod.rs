//! Reading Kubernetes objects: from a tree of fields to the model, the same way wherever they come from.
//!
//! The manifests source makes such trees of YAML and JSON files, the kube source of what the API server
//! sends, so that one object means the same to both. What is wrong is said as data: field, value, why.

pub(in crate::source) mod loose_ip;
pub(in crate::source) mod names;
pub(in crate::source) mod ports;
pub(in crate::source) mod problem;
pub(in crate::source) mod service;
pub(in crate::source) mod slice;
pub(in crate::source) mod tree;

pub use self::problem::{Fault, Problem, Subject};
