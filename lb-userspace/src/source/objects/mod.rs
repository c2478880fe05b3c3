//! Reading Kubernetes objects: from a tree of fields to the model, the same way wherever they come from.
//!
//! The manifests source makes such trees of YAML and JSON files, the kube source of what the API server
//! sends, so that one object means the same to both. What is wrong is said as data: field, value, why.
//!
//! Two kinds of wrong are told apart. What an object cannot do without makes it wrong as a whole. An entry
//! that stands for itself (an endpoint, a source range, an external IP) is left out and told of, and the rest of
//! the object counts, as with kube-proxy: whatever wrote the one bad endpoint of a thousand, the others
//! must be served (rule 20).

pub(in crate::source) mod loose_ip;
pub(in crate::source) mod names;
pub(in crate::source) mod networks;
pub(in crate::source) mod node;
pub(in crate::source) mod ports;
pub(in crate::source) mod problem;
pub(in crate::source) mod service;
pub(in crate::source) mod service_cidr;
pub(in crate::source) mod slice;
pub(in crate::source) mod traffic;
pub(in crate::source) mod tree;

pub use self::problem::{Fault, Problem, Subject};
