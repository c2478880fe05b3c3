//! Starts the HTTP servers and closes them.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time};

use crate::{
    config::Configuration,
    metrics::Metrics,
    serve::{
        LogLevel, MetricsPages, Server, ServerError, SharedHealth, health_router, metrics_router,
    },
};

/// How long the end of the agent waits for its servers at most.
const GRACE: Duration = Duration::from_secs(2);

/// The servers that run.
pub(super) struct Servers(JoinSet<Result<(), ServerError>>);

/// Starts the servers that `configuration` wants.
pub(super) fn start(
    configuration: &Configuration,
    health: &SharedHealth,
    metrics: &Arc<Metrics>,
    log_level: LogLevel,
    stop: watch::Receiver<bool>,
) -> Servers {
    let mut servers = JoinSet::new();
    let hard_fail = configuration.bind_address_hard_fail;
    if let Some(address) = configuration.healthz {
        let server = Server {
            name: "health",
            flag: "healthz-bind-address",
            address,
            hard_fail,
        };
        let router = health_router(health.clone(), metrics.clone());
        servers.spawn(server.run(router, stop.clone()));
    }
    if let Some(address) = configuration.metrics {
        let server = Server {
            name: "metrics",
            flag: "metrics-bind-address",
            address,
            hard_fail,
        };
        let pages = MetricsPages {
            metrics: metrics.clone(),
            configz: configuration.configz(),
            log_level,
            profiling: configuration.profiling,
        };
        servers.spawn(server.run(metrics_router(Arc::new(pages)), stop));
    }
    Servers(servers)
}

impl Servers {
    /// Waits for a server that cannot run; for ever if all can.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        while let Some(ended) = self.0.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.into(),
                Err(error) => return error.into(),
            }
        }
        std::future::pending().await
    }

    /// Waits, not for long, till all have closed.
    pub(super) async fn closed(mut self) {
        let all = async { while self.0.join_next().await.is_some() {} };
        let _ = time::timeout(GRACE, all).await;
    }
}
