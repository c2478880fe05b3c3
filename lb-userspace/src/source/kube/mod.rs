//! The kube source: a cluster's API server.

use std::path::PathBuf;

use tokio::sync::{mpsc, watch};

use super::{Event, objects::Problem};

/// Where the API server is and who we are.
#[derive(Clone, Debug)]
pub struct Options {
    /// A kubeconfig; `None`: in-cluster, else what `KUBECONFIG` or the home directory says.
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API server instead of what the configuration says (`--master`).
    pub master: Option<String>,
    /// Name of the node the agent runs on.
    pub node: String,
    /// Requests a second on average (`--kube-api-qps`).
    pub qps: f32,
    /// Requests at once (`--kube-api-burst`).
    pub burst: u32,
}

/// Why the source ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
}

/// Lists and watches until nobody listens any more; what is wrong now is in `problems`.
///
/// # Errors
/// Only when the configuration cannot be used. An API server that is away is waited for.
pub async fn run(
    options: Options,
    events: mpsc::Sender<Event>,
    problems: watch::Sender<Vec<Problem>>,
) -> Result<(), Error> {
    let _ = (options, events, problems);
    Err(Error::Config("no kube source yet".to_owned()))
}
