//! What `duolb service list -o json` says: the frontends that are probed, and what the kernel counted.

use std::{
    iter::Sum,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde::Deserialize;

use crate::lab::Protocol;

/// What tells one frontend from all others, in the order in which they are shown.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    namespace: String,
    name: String,
    #[serde(default)]
    port_name: String,
    /// `TCP`, `UDP` or `SCTP`.
    protocol: String,
    #[serde(default)]
    kind: Kind,
    port: u16,
    address: IpAddr,
}

/// What kind of address clients use.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The Service's own.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// A node's.
    NodePort,
    /// A load balancer's.
    LoadBalancer,
    /// One of `externalIPs`.
    #[serde(rename = "ExternalIP")]
    ExternalIp,
}

/// One frontend of one service on one node; of duolb's fields those that are used here.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Frontend {
    /// Which one it is.
    #[serde(flatten)]
    pub(super) key: Key,
    /// Where its traffic goes.
    #[serde(default)]
    pub(super) endpoints: Vec<Backend>,
    /// Where that of clients inside goes, pods of the node and the node itself, if that may be elsewhere.
    #[serde(default, rename = "insideEndpoints")]
    pub(super) inside: Option<Vec<Backend>>,
    /// Whether it is for the node's own processes only.
    #[serde(default, rename = "hostOnly")]
    pub(super) host_only: bool,
    /// The networks that clients must be in, if they must be in any.
    #[serde(default, rename = "sourceRanges")]
    pub(super) sources: Option<Vec<IpNet>>,
    /// How long clients stay with an endpoint, in seconds; 0: each flow may go to another.
    #[serde(default, rename = "affinitySeconds")]
    pub(super) affinity: u32,
    /// What becomes of clients.
    #[serde(default)]
    pub(super) clients: Clients,
    /// What went through it.
    #[serde(flatten)]
    pub(super) traffic: Traffic,
}

/// What becomes of a frontend's clients.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Clients {
    /// Its endpoints answer.
    #[default]
    Answered,
    /// They are told that there are none.
    Refused,
    /// They hear nothing.
    Dropped,
}

/// One endpoint of a frontend.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Backend {
    /// Its address.
    pub(super) address: IpAddr,
}

/// The datapath's own counters.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Traffic {
    /// Flows made.
    pub(super) flows: u64,
    /// Packets to endpoints.
    pub(super) packets_in: u64,
    /// Packets back to clients.
    pub(super) packets_out: u64,
}

impl Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            flows: a.flows + b.flows,
            packets_in: a.packets_in + b.packets_in,
            packets_out: a.packets_out + b.packets_out,
        })
    }
}

impl Frontend {
    /// Reads the whole list.
    pub(super) fn parse_list(json: &str) -> Result<Vec<Self>> {
        serde_json::from_str(json).context("duolb service list")
    }
}

impl Key {
    /// `namespace/name`, with the port's name if it has one.
    pub(super) fn service(&self) -> String {
        let colon = if self.port_name.is_empty() { "" } else { ":" };
        format!("{}/{}{colon}{}", self.namespace, self.name, self.port_name)
    }

    /// `address:port/protocol`.
    pub(super) fn frontend(&self) -> String {
        format!("{}/{}", self.socket(), self.protocol)
    }

    /// `IPv4` or `IPv6`.
    pub(super) fn family(&self) -> &'static str {
        if self.address.is_ipv4() {
            "IPv4"
        } else {
            "IPv6"
        }
    }

    /// What kind of address it is.
    pub(super) fn kind(&self) -> &'static str {
        match self.kind {
            Kind::ClusterIp => "ClusterIP",
            Kind::NodePort => "NodePort",
            Kind::LoadBalancer => "LoadBalancer",
            Kind::ExternalIp => "externalIP",
        }
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
            "affinitySeconds":600,"clients":"answered","flows":7,"packets_in":1,"bytes_in":2,"packets_out":3,"bytes_out":4}]"#;
        let list = Frontend::parse_list(json).unwrap();
        let Frontend {
            key,
            endpoints,
            affinity,
            clients,
            traffic,
            ..
        } = &list[0];
        assert_eq!(key.service(), "default/web:http");
        assert_eq!(key.frontend(), "[fd00:10:96::10]:80/TCP");
        assert_eq!(endpoints[0].address.to_string(), "fd00:10:244:1::10");
        assert_eq!(key.probed(), Some(Protocol::Tcp));
        assert_eq!((*affinity, *clients), (600, Clients::Answered));
        let counted = (traffic.flows, traffic.packets_in, traffic.packets_out);
        assert_eq!(counted, (7, 1, 3));
        assert_eq!(key.kind(), "ClusterIP");
    }

    #[test]
    fn what_is_called_from_outside_may_lead_elsewhere_from_inside() {
        let json = r#"[{"namespace":"default","name":"web","protocol":"TCP","kind":"LoadBalancer","address":"198.51.100.1",
            "port":80,"endpoints":[],"insideEndpoints":[{"address":"10.244.1.10"}],"clients":"dropped",
            "sourceRanges":["192.0.2.0/24"],"hostOnly":false}]"#;
        let list = Frontend::parse_list(json).unwrap();
        assert_eq!(list[0].key.kind(), "LoadBalancer");
        assert_eq!(list[0].inside.as_ref().map(Vec::len), Some(1));
        assert_eq!(list[0].sources.as_ref().map(Vec::len), Some(1));
    }
}
