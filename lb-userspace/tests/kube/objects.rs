//! Objects as an API server stores them, in JSON.

use serde_json::{Value, json};

/// The node the agent is on.
pub(crate) const NODE: &str = "node-1";

/// A kind of objects, as URLs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    Services,
    Slices,
    Nodes,
    Cidrs,
}

impl Resource {
    pub(crate) const ALL: [Self; 4] = [Self::Services, Self::Slices, Self::Nodes, Self::Cidrs];

    /// `apiVersion`, `kind`, and the plural that URLs have.
    pub(crate) fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Services => ("v1", "Service", "services"),
            Self::Slices => ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
            Self::Nodes => ("v1", "Node", "nodes"),
            Self::Cidrs => ("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs"),
        }
    }

    /// Where its objects are.
    pub(crate) fn path(self, namespace: Option<&str>) -> String {
        let (version, _, plural) = self.names();
        let root = if version.contains('/') { "apis" } else { "api" };
        let namespace = namespace.map(|name| format!("namespaces/{name}/"));
        format!(
            "/{root}/{version}/{}{plural}",
            namespace.unwrap_or_default()
        )
    }
}

/// A ClusterIP Service with a TCP port 80 named `http`, at 10.96.`host`.
pub(crate) fn service(name: &str, host: &str) -> Value {
    let ip = format!("10.96.{host}");
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": name},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "selector": {"app": name},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    })
}

/// A slice of `service` whose endpoints listen on TCP port 8080.
pub(crate) fn slice(name: &str, service: &str, addresses: &[&str]) -> Value {
    let endpoint = |address: &&str| {
        json!({
            "addresses": [address],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": NODE,
            "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("pod-{address}")},
            "zone": "a",
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": name,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// A node in the zone `zone`.
pub(crate) fn node(name: &str, zone: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDRs": ["10.0.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]},
    })
}

/// A ServiceCIDR with one range.
pub(crate) fn service_cidr(name: &str, cidr: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": name},
        "spec": {"cidrs": [cidr]},
    })
}

/// Which kind of objects `object` is of.
pub(crate) fn resource(object: &Value) -> Resource {
    let mut all = Resource::ALL.into_iter();
    all.find(|resource| resource.names().1 == object["kind"])
        .unwrap_or_else(|| panic!("a kind that is not served: {object}"))
}

/// Its namespace, if it has one, and its name.
pub(crate) fn place(object: &Value) -> (Option<&str>, &str) {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().expect("a name");
    (metadata["namespace"].as_str(), name)
}
