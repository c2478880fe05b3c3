//! What the agent counts, for Prometheus.
//!
//! ```text
//!   agent::observe ──> kube_proxy   kube-proxy's metrics, under its names (dashboards and alerts go on working)
//!                  └─> own          duolb_*: state of the control plane
//!   pins ──> datapath               duolb_*: what the kernel has counted, read when somebody asks
//!   /proc ──> process               process_*
//!                    └─> text ──> /metrics
//! ```
//!
//! Metrics of iptables' and nftables' inner workings have no meaning here and are left out.

pub mod datapath;
pub mod kube_proxy;
mod own;
mod process;
mod text;

#[cfg(test)]
mod tests;

use prometheus_client::{encoding::text::encode, registry::Registry};

pub use self::{
    datapath::{Reading, ServiceTraffic, Snapshot},
    kube_proxy::KubeProxyMetrics,
    own::OwnMetrics,
};

/// `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of an agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// kube-proxy's.
    pub kube_proxy: KubeProxyMetrics,
    /// Ours.
    pub own: OwnMetrics,
}

impl Metrics {
    /// Metrics of an agent that serves what `reading` reads.
    pub fn new(reading: Box<dyn Reading>) -> Self {
        let mut registry = Registry::default();
        let kube_proxy = KubeProxyMetrics::new(registry.sub_registry_with_prefix("kubeproxy"));
        let duolb = registry.sub_registry_with_prefix("duolb");
        let own = OwnMetrics::new(duolb);
        duolb.register_collector(Box::new(datapath::Collector::new(reading)));
        registry.register_collector(Box::new(process::Collector));
        Self {
            registry,
            kube_proxy,
            own,
        }
    }

    /// Everything, as Prometheus' text format has it. Reads maps and files: not for an async thread.
    pub fn encode(&self) -> String {
        let mut open_metrics = String::new();
        // Writing to a string does not fail, and what cannot be read is left out by its collector.
        if let Err(error) = encode(&mut open_metrics, &self.registry) {
            tracing::error!("metrics: {error}");
        }
        text::to_classic(&open_metrics)
    }
}
