//! The client that all requests go through: paced, and renewed when the server does not accept it any more.
//!
//! kube re-reads a token file once a minute and a kubeconfig never. A kubelet's certificates and tokens are
//! replaced in place, so on a refusal (401) or a failed connection everything is read again before the next
//! attempt; watches do not notice and go on where they were.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use ::kube::client::{Body, Client, ClientBuilder};
use http::{Request, Response, StatusCode};
use tokio::sync::Notify;

use super::{Options, config, pace::Pace};

/// What all watches have in common.
pub(super) struct Shared {
    /// As it was given.
    pub(super) options: Options,
    /// The server's address.
    pub(super) server: String,
    inner: Mutex<Client>,
    /// Whether to read the configuration again before the next request.
    stale: AtomicBool,
}

impl Shared {
    /// Reads the configuration.
    pub(super) async fn new(options: Options) -> Result<Self, config::Error> {
        let (server, client) = load(&options).await?;
        Ok(Self {
            options,
            server,
            inner: Mutex::new(client),
            stale: AtomicBool::new(false),
        })
    }

    /// A client within `pace`. `answered` is notified whenever a watch has begun.
    pub(super) fn client(self: &Arc<Self>, pace: &Arc<Pace>, answered: &Arc<Notify>) -> Client {
        let door = Door {
            shared: self.clone(),
            pace: pace.clone(),
            answered: answered.clone(),
        };
        Client::new(door, "default")
    }

    async fn current(&self) -> Client {
        if self.stale.swap(false, Ordering::Relaxed) {
            match load(&self.options).await {
                Ok((_, client)) => *self.lock() = client,
                // The old one may serve yet; that it does not is told by whoever asks.
                Err(error) => tracing::debug!("the configuration cannot be read again: {error}"),
            }
        }
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Client> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    /// Not the client: credentials are in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            options, server, ..
        } = self;
        f.debug_struct("Shared")
            .field("server", server)
            .field("options", options)
            .finish_non_exhaustive()
    }
}

async fn load(options: &Options) -> Result<(String, Client), config::Error> {
    let config = config::load(options).await?;
    let url = config.cluster_url.to_string();
    let server = url.trim_end_matches('/').to_owned();
    let wrong = |cause| config::Error::Credentials {
        server: server.clone(),
        cause: Box::new(cause),
    };
    let client = ClientBuilder::try_from(config).map_err(wrong)?.build();
    Ok((server, client))
}

/// What stands between a watch and the client.
#[derive(Clone)]
struct Door {
    shared: Arc<Shared>,
    pace: Arc<Pace>,
    answered: Arc<Notify>,
}

impl Door {
    async fn pass(self, request: Request<Body>) -> Result<Response<Body>, ::kube::Error> {
        let query = request.uri().query().unwrap_or_default();
        let has = |prefix| query.split('&').any(|part| part.starts_with(prefix));
        let (is_watch, is_next_page) = (has("watch=true"), has("continue="));
        // A list counts as one request however many pages it comes in: without pages it would be one.
        if !is_next_page {
            self.pace.take().await;
        }
        let client = self.shared.current().await;
        let response = client.send(request).await;
        match &response {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => self.renew(),
            Ok(response) if is_watch && response.status().is_success() => {
                self.answered.notify_one();
            }
            Ok(_) => {}
            Err(_) => self.renew(),
        }
        response
    }

    fn renew(&self) {
        self.shared.stale.store(true, Ordering::Relaxed);
    }
}

impl tower::Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = ::kube::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().pass(request))
    }
}
