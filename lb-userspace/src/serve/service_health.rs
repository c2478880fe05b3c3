//! The health check of one Service on one address: any path, 200 or 503 (rule 83).

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    http::{HeaderName, StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch};

use super::{SharedHealth, listen::listen_in_family, server::serve, with_health};
use crate::{
    health::{Health, Moment},
    model::ObjectKey,
};

/// How many endpoints there are, for load balancers that weigh nodes.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// A health check that is being served; dropped, it is not any more.
#[derive(Debug)]
pub struct ServiceHealth {
    local: Arc<AtomicUsize>,
    _stop: watch::Sender<bool>,
}

/// The body, as kube-proxy writes it (pkg/proxy/healthcheck/service_health.go).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: Name<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl ServiceHealth {
    /// Answers for `service` at `address`, of its family alone. Needs a Tokio runtime.
    ///
    /// # Errors
    /// What the kernel says when the address cannot be listened on.
    pub fn start(
        service: Arc<ObjectKey>,
        address: SocketAddr,
        local: usize,
        health: SharedHealth,
    ) -> io::Result<Self> {
        let listener = listen_in_family(address).and_then(TcpListener::from_std)?;
        let (stop, stopped) = watch::channel(false);
        let local = Arc::new(AtomicUsize::new(local));
        let router = router(service, local.clone(), health);
        tokio::spawn(async move {
            let mut dropped = stopped.clone();
            tokio::select! {
                () = serve(listener, router, stopped) => {}
                // The sender is never used: it is dropped.
                _ = dropped.wait_for(|stop| *stop) => {}
            }
        });
        Ok(Self { local, _stop: stop })
    }

    /// How many ready endpoints this node has from now on.
    pub fn set(&self, local: usize) {
        self.local.store(local, Ordering::Relaxed);
    }
}

fn router(service: Arc<ObjectKey>, local: Arc<AtomicUsize>, health: SharedHealth) -> Router {
    Router::new().fallback(async move || {
        let local = local.load(Ordering::Relaxed);
        // Whether the node is about to leave is no matter: its endpoints say so themselves (KEP-3836).
        let healthy = with_health(&health, |health| Health::livez(health, Moment::now())).ok;
        let status = if local > 0 && healthy {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let body = Body {
            service: Name {
                namespace: &service.namespace,
                name: &service.name,
            },
            local_endpoints: local,
            service_proxy_healthy: healthy,
        };
        let headers = [
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (WEIGHT, local.to_string()),
        ];
        let body = serde_json::to_string(&body).unwrap_or_default();
        (status, headers, body).into_response()
    })
}
