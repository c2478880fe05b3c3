//! `/healthz` and `/livez` (rule 85).

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};

use super::{SharedHealth, with_health};
use crate::{
    health::{Answer, Health, Moment},
    metrics::Metrics,
};

/// The pages of the health server. Every answer is counted.
pub fn health_router(health: SharedHealth, metrics: Arc<Metrics>) -> Router {
    let page = |ask: fn(&Health, Moment) -> Answer, is_livez: bool| {
        let (health, metrics) = (health.clone(), metrics.clone());
        get(async move || {
            let answer = with_health(&health, |health| ask(health, Moment::now()));
            let status = if answer.ok {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            let counters = &metrics.kube_proxy;
            let counter = if is_livez {
                &counters.livez
            } else {
                &counters.healthz
            };
            counter.get_or_create(&status.as_u16().into()).inc();
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            let body = serde_json::to_string(&answer).unwrap_or_default();
            (status, headers, body).into_response()
        })
    };
    Router::new()
        .route("/healthz", page(Health::healthz, false))
        .route("/livez", page(Health::livez, true))
}
