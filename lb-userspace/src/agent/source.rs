//! Where objects come from: one of the sources, behind one door.

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use crate::source::{
    self, Event,
    manifests::{self, Assigned},
    objects::Problem,
};

/// A source that is to run.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory (`--manifests`).
    Manifests(manifests::Options),
    /// A cluster's API server.
    Kube(source::kube::Options),
}

impl Source {
    /// Whether there may be no Node: a directory need not have one, a cluster does, and kube-proxy's
    /// health depends on it (rule 86).
    pub(super) fn is_node_optional(&self) -> bool {
        matches!(self, Self::Manifests(_))
    }

    /// Sends what it knows to `events` till nobody listens; `restored` are the addresses that were assigned
    /// before (clusters remember them themselves).
    pub(super) async fn run(
        self,
        restored: Vec<Assigned>,
        events: mpsc::Sender<Event>,
        problems: watch::Sender<Vec<Problem>>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Manifests(options) => manifests::run(options, restored, events, problems)
                .await
                .context("cannot read the manifests"),
            Self::Kube(options) => source::kube::run(options, events, problems)
                .await
                .context("cannot watch the cluster"),
        }
    }
}
