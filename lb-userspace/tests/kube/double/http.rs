//! Requests in, answers out.

use std::{convert::Infallible, io, sync::Arc};

use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{State, select::Selector, watching};
use crate::objects::Resource;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves one connection.
pub(super) async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let service = service_fn(|request| {
        let state = state.clone();
        async { Ok::<_, Infallible>(answer(request, state).await) }
    });
    let server = hyper::server::conn::http1::Builder::new();
    // How a connection ends is the client's business, and often the test's intention.
    let _ = match tls {
        None => server.serve_connection(TokioIo::new(stream), service).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
    };
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let token = parts
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    {
        let mut inner = state.lock();
        inner.requests.push(format!("{path}?{query}"));
        let wanted = inner
            .faults
            .token
            .as_ref()
            .map(|token| format!("Bearer {token}"));
        if wanted.is_some() && wanted.as_deref() != token {
            return status(401, "Unauthorized", "Unauthorized");
        }
    }
    if path.starts_with("/apis/events.k8s.io/v1/namespaces/") {
        let body = body.collect().await.expect("a body").to_bytes();
        let event: Value = serde_json::from_slice(&body).expect("an event");
        let created = parts.method == Method::POST;
        state.lock().events.push(event.clone());
        return json_body(if created { 201 } else { 200 }, event.to_string());
    }
    let found = Resource::ALL
        .into_iter()
        .find(|resource| resource.path(None) == path);
    let Some(resource) = found.filter(|_| parts.method == Method::GET) else {
        return status(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
    };
    let value = |name: &str| {
        let mut parts = url_parts(query);
        parts.find(|(key, _)| key == name).map(|(_, value)| value)
    };
    let selector = Selector {
        labels: value("labelSelector").unwrap_or_default(),
        fields: value("fieldSelector").unwrap_or_default(),
    };
    let is_watch = value("watch").as_deref() == Some("true");
    let mut inner = state.lock();
    if let Some(&code) = inner.faults.deny.get(&resource) {
        return refusal(resource, code, if is_watch { "watch" } else { "list" });
    }
    if is_watch {
        let denied = inner.faults.deny_watch.get_mut(&resource);
        if let Some(code) = denied.and_then(std::collections::VecDeque::pop_front) {
            return refusal(resource, code, "watch");
        }
        drop(inner);
        let version = value("resourceVersion").and_then(|text| text.parse().ok());
        let bookmarks = value("allowWatchBookmarks").as_deref() == Some("true");
        return watching::watch(state, resource, selector, version.unwrap_or(0), bookmarks);
    }
    if inner.faults.nonsense {
        return json_body(200, "<html>It works!</html>".to_owned());
    }
    let limit = value("limit")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let page = value("continue").map(|text| {
        let number = text
            .strip_prefix("page-")
            .and_then(|text| text.parse().ok());
        number.unwrap_or(u64::MAX)
    });
    let list = inner.store.list(resource, &selector, limit, page);
    let Ok(text) = list else {
        return status(410, "Expired", "The provided continue parameter is too old");
    };
    if page.is_none() && limit > 0 && inner.faults.forget_pages > 0 && text.contains("\"continue\"")
    {
        inner.faults.forget_pages -= 1;
        inner.store.forget_pages();
    }
    json_body(200, text)
}

fn refusal(resource: Resource, code: u16, verb: &str) -> Response<Body> {
    let plural = resource.names().2;
    match code {
        403 => {
            let user = "system:serviceaccount:kube-system:duolb";
            let message = format!(
                "{plural} is forbidden: User \"{user}\" cannot {verb} resource \"{plural}\""
            );
            status(403, "Forbidden", &message)
        }
        404 => status(
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        410 => status(410, "Expired", "too old resource version"),
        code => status(code, "InternalError", "injected"),
    }
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    json_body(code, status.to_string())
}

fn json_body(code: u16, text: String) -> Response<Body> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    respond(code, body.boxed_unsync())
}

pub(super) fn respond(code: u16, body: Body) -> Response<Body> {
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .expect("a response")
}

/// The parts of a query, decoded.
fn url_parts(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter_map(|part| {
        let (key, value) = part.split_once('=')?;
        Some((key.to_owned(), decode(value)))
    })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    char::from(rest.next().unwrap_or(b'0'))
                        .to_digit(16)
                        .unwrap_or(0)
                };
                u8::try_from(digit() * 16 + digit()).expect("two digits")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("UTF-8")
}
