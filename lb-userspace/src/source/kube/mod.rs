//! The kube source: a cluster's API server.
//!
//! It lists and watches four kinds of objects and speaks [`Event`] like any other source. Whatever the server
//! does, what is in force stays in force: only a complete listing says that something is gone, so an API
//! server that is away for an hour, refuses us or talks nonsense changes nothing in the datapath.
//!
//! ```text
//!   watch ── kinds            one task for each kind: list, watch, begin anew; trouble says when and how
//!     ├─ object ── tree       what comes over the wire, read by source::objects as manifests are
//!     │     └─ service        a Service that the API server has completed
//!     ├─ board                what is wrong now, told once and once more when it is solved
//!     └─ client ── config     who we are; pace bounds how much we ask
//!          └─ report          events for users, the other way
//! ```

mod board;
mod client;
mod config;
mod kinds;
mod object;
mod pace;
mod report;
mod service;
mod tree;
mod trouble;
mod watch;

use std::{path::PathBuf, sync::Arc};

use tokio::{
    sync::{mpsc, watch as watched},
    task::JoinSet,
};

use self::{
    board::Board,
    client::Shared,
    kinds::{OwnNode, ServiceCidrs, Services, Slices},
    pace::Pace,
    watch::Watch,
};
pub use self::{
    config::Error,
    report::{About, Reporter, Severity},
};
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
    /// Requests a second on average (`--kube-api-qps`). 0 or less: no bound.
    pub qps: f32,
    /// Requests at once (`--kube-api-burst`).
    pub burst: u32,
}

/// A usable configuration. Nothing has been asked of the server yet.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// Reads the configuration.
///
/// # Errors
/// When it cannot be used. Whether the server answers is not asked: it is waited for later.
pub async fn connect(options: &Options) -> Result<Connection, Error> {
    let shared = Shared::new(options.clone()).await?.into();
    Ok(Connection { shared })
}

impl Connection {
    /// The address of the API server.
    pub fn server(&self) -> &str {
        &self.shared.server
    }

    /// Lists and watches until nobody listens any more; what is wrong now is in `problems`.
    pub async fn run(&self, events: mpsc::Sender<Event>, problems: watched::Sender<Vec<Problem>>) {
        let options = &self.shared.options;
        let watch = Watch {
            shared: self.shared.clone(),
            pace: Pace::new(options.qps, options.burst).into(),
            board: Board::new(self.server(), problems).into(),
            events,
        };
        // As tasks of their own, so that reading one kind does not wait for another; dropped, they end.
        let mut tasks = JoinSet::new();
        tasks.spawn(watch.clone().follow::<Services>());
        tasks.spawn(watch.clone().follow::<Slices>());
        tasks.spawn(watch.clone().follow::<OwnNode>());
        tasks.spawn(watch.follow::<ServiceCidrs>());
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    /// Writes events about what the agent does, in the background. Needs a Tokio runtime.
    pub fn reporter(&self) -> Reporter {
        Reporter::start(&self.shared)
    }
}

/// [`connect`] and [`Connection::run`] in one.
///
/// # Errors
/// Only when the configuration cannot be used. An API server that is away is waited for.
pub async fn run(
    options: Options,
    events: mpsc::Sender<Event>,
    problems: watched::Sender<Vec<Problem>>,
) -> Result<(), Error> {
    connect(&options).await?.run(events, problems).await;
    Ok(())
}
