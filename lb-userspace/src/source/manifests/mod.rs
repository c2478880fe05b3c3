//! The manifests source: a directory of YAML and JSON files instead of a cluster.
//!
//! It reads what `kubectl get -o yaml` prints and what users write, does what the API server would do
//! (defaults, validation, addresses), and speaks [`Event`](super::Event) like any other source. No
//! cluster is needed to run, test, show or measure the agent.
//!
//! ```text
//!   watch ── directory, bell          when and what to read: the only part with I/O
//!     └─ state                        files in, events out
//!          ├─ file ── objects         what each file says, or last said
//!          │            ├─ documents ── yaml, json ──> tree
//!          │            └─ source::objects  what each object says, as any source reads it
//!          └─ resolve ── families, ranges, allocate   what the API server would fill in
//! ```
//!
//! Bad input never takes down what is served: see `file` for what stays in force, and [`Problem`] for
//! what is said about it.

mod allocate;
mod bell;
mod cidrs;
mod directory;
mod documents;
mod families;
mod file;
mod json;
mod objects;
mod ranges;
mod resolve;
mod state;
mod watch;
mod yaml;

#[cfg(test)]
mod tests;

pub use self::{
    cidrs::{CidrError, ServiceCidrs},
    file::Content,
    resolve::Assigned,
    state::{Manifests, Update},
    watch::{Error, Options, run},
};
pub use super::objects::{Fault, Problem, Subject};
