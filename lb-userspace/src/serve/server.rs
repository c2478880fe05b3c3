//! One server: listens, tries again when it cannot, and closes when the agent stops.

use std::{io, net::SocketAddr, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, sync::watch, time};

use super::listen::listen;

/// How long to wait before listening is tried again (kube-proxy's `wait.Until`).
const RETRY: Duration = Duration::from_secs(5);
/// How long requests under way may take once the agent stops.
const GRACE: Duration = Duration::from_secs(1);

/// A server that is to run.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it serves, for people: `health`, `metrics`.
    pub name: &'static str,
    /// The flag that its address comes from, without dashes.
    pub flag: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// Whether an address that cannot be listened on is the end (`--bind-address-hard-fail`).
    pub hard_fail: bool,
}

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
#[error("{name} server: cannot listen on {address} (--{flag}): {reason}")]
pub struct ServerError {
    name: &'static str,
    flag: &'static str,
    address: SocketAddr,
    // Not called `source`: the message says it, and is not to be followed by it.
    reason: io::Error,
}

impl Server {
    /// Serves `router` until `stop` says so, or is dropped.
    ///
    /// # Errors
    /// [`ServerError`] if the address cannot be listened on and that is to be the end; else it is tried
    /// again for ever.
    pub async fn run(
        self,
        router: Router,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), ServerError> {
        let mut is_told = false;
        loop {
            match listen(self.address).and_then(TcpListener::from_std) {
                Ok(listener) => {
                    tracing::info!(address = %self.address, "serving {}", self.name);
                    serve(listener, router, stop).await;
                    return Ok(());
                }
                Err(reason) => {
                    let error = ServerError {
                        name: self.name,
                        flag: self.flag,
                        address: self.address,
                        reason,
                    };
                    if self.hard_fail {
                        return Err(error);
                    }
                    if !is_told {
                        tracing::error!("{error}; trying again every {} s", RETRY.as_secs());
                    }
                    is_told = true;
                }
            }
            tokio::select! {
                () = time::sleep(RETRY) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    }
}

/// Serves on `listener` until `stop` says so, or is dropped; what is under way gets a moment.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    let stopped = |mut stop: watch::Receiver<bool>| async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(stopped(stop.clone()));
    tokio::select! {
        result = server => if let Err(error) = result {
            tracing::error!("a server ended: {error}");
        },
        () = async { stopped(stop).await; time::sleep(GRACE).await } => {}
    }
}
