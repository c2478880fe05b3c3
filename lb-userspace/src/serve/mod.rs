//! The agent's HTTP servers: health for the kubelet and load balancers, metrics for Prometheus.
//!
//! Addresses, paths and answers are kube-proxy's (cmd/kube-proxy/app/server.go,
//! pkg/proxy/healthcheck/proxy_health.go), so that probes, scrapers and Kubernetes' own tests find what they
//! look for. Nothing here decides: the answers come from `health`, `metrics` and `config`.

mod health;
mod listen;
pub mod log_level;
mod metrics;
mod server;
mod service_health;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

pub use self::{
    health::health_router,
    log_level::LogLevel,
    metrics::{MetricsPages, metrics_router},
    server::{Server, ServerError},
    service_health::ServiceHealth,
};
use crate::health::Health;

/// The health as the agent's loop and the server share it.
pub type SharedHealth = Arc<Mutex<Health>>;

/// Looks at `shared` or changes it. A panic elsewhere is no reason to stop answering.
pub fn with_health<T>(shared: &SharedHealth, body: impl FnOnce(&mut Health) -> T) -> T {
    body(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}
