//! Nodes as their API server knows them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Host;

impl Host {
    /// A Node as `kubectl get -o json` prints it, with its addresses as InternalIPs, IPv4 first.
    ///
    /// # Errors
    /// If this is no node.
    pub fn as_object(&self) -> Result<Value> {
        ensure!(self.node.is_some(), "{} is not a node", self.name);
        let addresses = self
            .addresses
            .both()
            .map(|ip| json!({"type": "InternalIP", "address": ip}));
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name},
            "status": {"addresses": addresses},
        }))
    }
}
