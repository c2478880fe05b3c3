//! What `duolb service list -o json` says: the frontends that are probed.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::lab::Protocol;

/// One frontend of one service; of duolb's fields those that are used here.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Frontend {
    namespace: String,
    name: String,
    #[serde(default)]
    port_name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub(super) protocol: String,
    /// `IPv4` or `IPv6`.
    pub(super) family: String,
    address: IpAddr,
    port: u16,
    /// Where its traffic goes.
    #[serde(default)]
    pub(super) endpoints: Vec<Backend>,
}

/// One endpoint of a frontend.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Backend {
    /// Its address.
    pub(super) address: IpAddr,
}

impl Frontend {
    /// Reads the whole list, sorted as it is shown.
    pub(super) fn parse_list(json: &str) -> Result<Vec<Self>> {
        let mut list: Vec<Self> = serde_json::from_str(json).context("duolb service list")?;
        list.sort_by_key(|f| (f.service(), f.protocol.clone(), f.port, f.address));
        Ok(list)
    }

    /// `namespace/name`, with the port's name if it has one.
    pub(super) fn service(&self) -> String {
        let port = self
            .port_name
            .iter()
            .filter(|port| !port.is_empty())
            .map(|port| format!(":{port}"));
        format!(
            "{}/{}{}",
            self.namespace,
            self.name,
            port.collect::<String>()
        )
    }

    /// Where clients connect to.
    pub(super) fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// How it is probed; SCTP is not.
    pub(super) fn probed(&self) -> Option<Protocol> {
        self.protocol.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read_and_unknown_fields_are_left_alone() {
        let json = r#"[{"namespace":"default","name":"web","port_name":"http","protocol":"TCP","family":"IPv6",
            "address":"fd00:10:96::10","port":80,"endpoints":[{"address":"fd00:10:244:1::10","port":8080}],
            "flows":0,"packets_in":1,"bytes_in":2,"packets_out":3,"bytes_out":4}]"#;
        let list = Frontend::parse_list(json).unwrap();
        assert_eq!(list[0].service(), "default/web:http");
        assert_eq!(list[0].socket().to_string(), "[fd00:10:96::10]:80");
        assert_eq!(
            list[0].endpoints[0].address.to_string(),
            "fd00:10:244:1::10"
        );
        assert_eq!(list[0].probed(), Some(Protocol::Tcp));
    }
}
