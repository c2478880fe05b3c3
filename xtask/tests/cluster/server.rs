//! The API server's double, running in a namespace of the lab.
//!
//! Only its sockets have to be there; a socket stays in the namespace that it was made in, so whatever makes one
//! is run inside, and the rest anywhere.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use xtask::lab::Host;

use crate::double::Double;

/// The double and what runs it.
pub(crate) struct Server {
    runtime: Runtime,
    double: Double,
}

impl Server {
    /// Serves at a port of its own choice, or at `port`, of `host`.
    pub(crate) fn start(host: &Host, port: u16, tls: Option<TlsAcceptor>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let address = SocketAddr::from((host.addresses.v4, port));
        let double = host
            .netns
            .run(|| runtime.block_on(Double::start_at(address, tls)))?;
        Ok(Self { runtime, double })
    }

    /// The double, to be told what to say.
    pub(crate) fn double(&self) -> &Double {
        &self.double
    }

    /// Creates or replaces objects.
    pub(crate) fn put(&self, objects: &[Value]) {
        for object in objects {
            self.double.put(object);
        }
    }

    /// Refuses connections and cuts those that there are.
    pub(crate) fn down(&mut self) {
        self.runtime.block_on(self.double.down());
    }

    /// Serves again, at the same address of the same `host`.
    pub(crate) fn up(&mut self, host: &Host) -> Result<()> {
        host.netns.run(|| self.runtime.block_on(self.double.up()))
    }
}
