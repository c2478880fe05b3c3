//! `/metrics` and what kube-proxy serves beside it (rule 89).

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::LogLevel;
use crate::metrics::{CONTENT_TYPE, Metrics};

/// What `/proxyMode` says. kube-proxy says `iptables`, `ipvs` or `nftables`, and whoever asks does so to know
/// which of those rules to look for (or, as Kubernetes' e2e tests, whether it is `ipvs`). There are none here,
/// so it must be none of these.
const PROXY_MODE: &str = "ebpf";

/// What the pages show.
#[derive(Debug)]
pub struct MetricsPages {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/configz`: the effective configuration, as JSON.
    pub configz: String,
    /// For `/debug/flags/v`.
    pub log_level: LogLevel,
    /// Whether other machines may change the log level.
    pub profiling: bool,
}

/// The pages of the metrics server.
pub fn metrics_router(pages: Arc<MetricsPages>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || text("ok")))
        .route("/proxyMode", get(async || text(PROXY_MODE)))
        .route("/configz", get(configz))
        .route("/debug/flags/v", get(log_level).put(set_log_level))
        .with_state(pages)
}

async fn metrics(State(pages): State<Arc<MetricsPages>>) -> Response {
    // Maps and files are read for it.
    match tokio::task::spawn_blocking(move || pages.metrics.encode()).await {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn configz(State(pages): State<Arc<MetricsPages>>) -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (headers, pages.configz.clone())
}

async fn log_level(State(pages): State<Arc<MetricsPages>>) -> impl IntoResponse {
    text(pages.log_level.get())
}

/// kube-proxy's `PUT /debug/flags/v`, which takes a number; here it may be a filter, too. A log at trace level is a
/// burden, so only this machine may ask for it, unless `--profiling` (without which kube-proxy lets nobody).
async fn set_log_level(
    State(pages): State<Arc<MetricsPages>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    body: String,
) -> Response {
    if !may_set(peer, pages.profiling) {
        let why = "only from this machine, unless --profiling\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    match pages.log_level.set(body.trim()) {
        Ok(filter) => {
            tracing::info!(filter, %peer, "the log level was changed");
            text(format!("successfully set the log level to {filter}\n")).into_response()
        }
        Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    }
}

/// Whether `peer` may change the log level. An IPv4 peer of a socket for both families has a mapped address.
fn may_set(peer: SocketAddr, profiling: bool) -> bool {
    profiling || peer.ip().to_canonical().is_loopback()
}

fn text(body: impl Into<String>) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body.into())
}

#[cfg(test)]
mod tests {
    use super::may_set;

    #[test]
    fn only_this_machine_may_change_the_log_level_unless_profiling() {
        for (peer, may) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("[fd00::1]:1", false),
        ] {
            let peer = peer.parse().unwrap();
            assert_eq!(may_set(peer, false), may, "{peer}");
            assert!(may_set(peer, true));
        }
    }
}
