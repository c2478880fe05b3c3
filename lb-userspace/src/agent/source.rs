//! Where objects come from: one of the sources, behind one door.
//!
//! Configurations are read before the datapath is touched, so that an agent with a bad one ends without having
//! changed anything; the API server itself is asked, and waited for, only once the datapath serves.

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use crate::source::{
    Event,
    kube::{self, About, Connection, Reporter, Severity},
    manifests::{self, Assigned},
    objects::Problem,
};

/// A source that is wanted.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory (`--manifests`).
    Manifests(manifests::Options),
    /// A cluster's API server.
    Kube(kube::Options),
}

/// A source that can run.
#[derive(Debug)]
pub(super) enum Connected {
    Manifests(manifests::Options),
    Kube(Connection),
}

impl Source {
    /// Reads what it takes to run.
    pub(super) async fn connect(self) -> anyhow::Result<Connected> {
        Ok(match self {
            Self::Manifests(options) => Connected::Manifests(options),
            Self::Kube(options) => {
                let connection = kube::connect(&options).await;
                Connected::Kube(connection.context("cannot watch the cluster")?)
            }
        })
    }
}

impl Connected {
    /// Whether there may be no Node: a directory need not have one, a cluster does, and kube-proxy's
    /// health depends on it (rule 86).
    pub(super) fn is_node_optional(&self) -> bool {
        matches!(self, Self::Manifests(_))
    }

    /// Tells the log, and the cluster, that it begins. The event is kube-proxy's `birthCry` to the letter
    /// (cmd/kube-proxy/app/server.go), so that whoever waits for that one sees ours. Returns what further events
    /// are told to: of kube-proxy's there is one more that can come about, `FailedToStartServiceHealthcheck`
    /// (`KubeProxyIncorrectIPVersion` needs objects that the API server does not accept).
    pub(super) fn announce(&self) -> Option<Reporter> {
        match self {
            Self::Manifests(options) => {
                tracing::info!(directory = %options.directory.display(), "reading manifests");
                None
            }
            Self::Kube(connection) => {
                tracing::info!(server = connection.server(), "watching the API server");
                let reporter = connection.reporter();
                let (about, severity) = (About::Node, Severity::Normal);
                reporter.report(&about, severity, "Starting", "StartKubeProxy", "");
                Some(reporter)
            }
        }
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
            Self::Kube(connection) => {
                connection.run(events, problems).await;
                Ok(())
            }
        }
    }
}
