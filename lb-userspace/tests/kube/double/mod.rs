//! An API server's double: real HTTP on loopback, real lists, watches, versions and selectors, and faults on
//! demand.
//!
//! It is written from the API conventions (kubernetes.io, "API concepts"), not from what the agent happens to do;
//! the suite that runs against a real server as well keeps it honest.

mod faults;
mod http;
mod select;
mod store;
pub(crate) mod tls;
mod watching;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_rustls::TlsAcceptor;

pub(crate) use self::faults::WatchFault;
use self::{faults::Faults, store::Store};
use crate::objects::Resource;

/// The double; dropped, it is gone.
pub(crate) struct Double {
    address: SocketAddr,
    state: Arc<State>,
    tls: Option<TlsAcceptor>,
    /// Accepting and serving; `None` while it is down.
    serving: Option<JoinSet<()>>,
}

/// What requests see of it.
struct State {
    inner: Mutex<Inner>,
    /// The store's version, for watches to wait for.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    store: Store,
    faults: Faults,
    /// Path and query of every request so far.
    requests: Vec<String>,
    /// Bodies of the events that were written.
    events: Vec<Value>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("no test panics while it holds this")
    }
}

impl Double {
    /// With no objects.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With no objects, behind TLS if there is something to accept it with.
    pub(crate) async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), tls).await
    }

    /// The same at an address of the caller's network namespace; port 0: any.
    pub(crate) async fn start_at(address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let mut double = Self {
            address,
            state: Arc::new(State {
                inner: Mutex::default(),
                version: watch::Sender::new(0),
            }),
            tls,
            serving: None,
        };
        double.up().await;
        double
    }

    /// Its address, with scheme.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Creates or replaces an object.
    pub(crate) fn put(&self, object: &Value) {
        self.change(|store| store.put(object));
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, object: &Value) {
        self.change(|store| store.delete(object));
    }

    /// Forgets all versions but the current one.
    pub(crate) fn compact(&self) {
        self.change(Store::compact);
    }

    /// Forgets all versions that every watch has seen, which the caller knows. Unlike after [`Self::compact`]
    /// watches go on, so that much can be changed in little memory.
    pub(crate) fn forget_seen(&self) {
        self.state.lock().store.forget_seen();
    }

    fn change(&self, change: impl FnOnce(&mut Store)) {
        let mut inner = self.state.lock();
        change(&mut inner.store);
        let version = inner.store.version;
        drop(inner);
        self.state.version.send_replace(version);
    }

    /// Sets what goes wrong from now on.
    pub(crate) fn faults(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.state.lock().faults);
        self.state.version.send_modify(|_| {});
    }

    /// Refuses every request for `resource` with that status, from now on.
    pub(crate) fn deny(&self, resource: Resource, status: u16) {
        self.faults(|faults| {
            faults.deny.insert(resource, status);
        });
    }

    /// Refuses connections and cuts those that there are.
    pub(crate) async fn down(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            serving.shutdown().await;
        }
    }

    /// Serves again, at the same address.
    pub(crate) async fn up(&mut self) {
        // A process that a test beside this one is just starting holds the old socket until its exec.
        let mut tries = 0..50;
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Err(error) if error.kind() == ErrorKind::AddrInUse && tries.next().is_some() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                bound => break bound.expect("a port"),
            }
        };
        self.address = listener.local_addr().expect("an address");
        let (state, tls) = (self.state.clone(), self.tls.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                connections.spawn(http::serve(stream, tls.clone(), state.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        self.serving = Some(serving);
    }

    /// Path and query of the requests so far that `wanted` is true for.
    pub(crate) fn requests(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let inner = self.state.lock();
        let requests = inner.requests.iter().filter(|request| wanted(request));
        requests.cloned().collect()
    }

    /// Number of lists of `resource` that were begun.
    pub(crate) fn lists(&self, resource: Resource) -> usize {
        let path = format!("{}?", resource.path(None));
        let is_list = |request: &str| {
            request.starts_with(&path)
                && !request.contains("watch=true")
                && !request.contains("continue=")
        };
        self.requests(is_list).len()
    }

    /// The events that were written to it.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.state.lock().events.clone()
    }
}
