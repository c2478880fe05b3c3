//! `duolb service list` and `duolb service get`.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::bail;
use ipnet::IpNet;
use lb_common::tables::Frontend;
use serde::Serialize;

use super::{
    arguments::OutputArguments,
    output::{print, table},
};
use crate::{
    control::record::{RecordedService, parse_record},
    datapath::{
        pins::Pins,
        view::{FrontendView, View},
    },
    model::{ObjectKey, Protocol, TrafficPolicy},
};

/// The kind of a frontend without any of the flags below.
const CLUSTER_IP: &str = "ClusterIP";
/// Kinds of frontends by flag; of several the first counts.
const KINDS: [(u32, &str); 3] = [
    (Frontend::LOAD_BALANCER, "LoadBalancer"),
    (Frontend::EXTERNAL_IP, "ExternalIP"),
    (Frontend::NODE_PORT, "NodePort"),
];

/// A frontend, as printed.
#[derive(Debug, Serialize)]
struct Row {
    namespace: String,
    name: String,
    port_name: String,
    protocol: String,
    family: &'static str,
    address: IpAddr,
    port: u16,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalIP`.
    kind: &'static str,
    /// Whether only the node's own processes get it.
    #[serde(rename = "hostOnly")]
    host_only: bool,
    /// `Cluster` or `Local`: which of the Service's endpoints these are.
    policy: &'static str,
    /// 0: none.
    #[serde(rename = "affinitySeconds")]
    affinity_seconds: u32,
    endpoints: Vec<EndpointRow>,
    /// Those of clients inside (pods of this node and the node itself), where they may be others.
    #[serde(rename = "insideEndpoints", skip_serializing_if = "Option::is_none")]
    inside: Option<Vec<EndpointRow>>,
    /// The networks that clients must be in, where they must be in any.
    #[serde(rename = "sourceRanges", skip_serializing_if = "Option::is_none")]
    sources: Option<Vec<IpNet>>,
    /// What becomes of clients: `answered`, `refused`, `dropped`.
    clients: &'static str,
    flows: u64,
    packets_in: u64,
    bytes_in: u64,
    packets_out: u64,
    bytes_out: u64,
}

/// An endpoint, as printed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct EndpointRow {
    address: IpAddr,
    port: u16,
}

/// A Service, as printed: in the spelling of its manifest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    namespace: String,
    name: String,
    r#type: String,
    ip_family_policy: Option<String>,
    ip_families: Vec<&'static str>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    frontends: Vec<Row>,
}

/// Lists every frontend.
pub(super) fn list(pins: Pins, output: OutputArguments) -> anyhow::Result<()> {
    print(output, &rows(&View::open(pins)?)?, |rows| {
        frontend_table(rows)
    })
}

/// Shows one Service.
pub(super) fn get(pins: Pins, name: &str, output: OutputArguments) -> anyhow::Result<()> {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let key = ObjectKey::new(namespace, name);
    let view = View::open(pins)?;
    let Some(service) = records(&view)?
        .into_values()
        .map(|record| record.service)
        .find(|service| service.key == key)
    else {
        bail!("service {key}: not known here");
    };
    let headless = service.cluster_ips.is_empty() && !service.ip_families.is_empty();
    let details = Details {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        // Kubernetes has no such type: a headless Service is a ClusterIP one without address.
        r#type: if headless {
            "ClusterIP".to_owned()
        } else {
            service.kind.to_string()
        },
        ip_family_policy: service.ip_family_policy.map(|policy| policy.to_string()),
        ip_families: service
            .ip_families
            .iter()
            .map(|family| family.name())
            .collect(),
        cluster_ips: if headless {
            vec!["None".to_owned()]
        } else {
            service.cluster_ips.iter().map(IpAddr::to_string).collect()
        },
        frontends: rows(&view)?
            .into_iter()
            .filter(|row| row.namespace == key.namespace && row.name == key.name)
            .collect(),
    };
    print(output, &details, details_table)
}

/// All frontends with their names, in a stable order.
fn rows(view: &View) -> anyhow::Result<Vec<Row>> {
    let records = records(view)?;
    let mut rows: Vec<Row> = view
        .frontends()?
        .into_iter()
        .map(|frontend| row(frontend, &records))
        .collect();
    rows.sort_by(|a, b| {
        let key = |row: &Row| {
            (
                row.namespace.clone(),
                row.name.clone(),
                row.family,
                KINDS.iter().position(|(_, kind)| *kind == row.kind),
                row.port,
                row.protocol.clone(),
                row.host_only,
                row.address,
            )
        };
        key(a).cmp(&key(b))
    });
    Ok(rows)
}

/// What the ids stand for. Records that no agent wrote are left out.
fn records(view: &View) -> anyhow::Result<BTreeMap<u32, RecordedService>> {
    let records = view.services()?;
    Ok(records
        .iter()
        .filter_map(|(id, record)| Some((*id, parse_record(record).ok()?)))
        .collect())
}

fn row(frontend: FrontendView, records: &BTreeMap<u32, RecordedService>) -> Row {
    let record = records.get(&frontend.service);
    let unknown = || format!("(id {})", frontend.service);
    let key = record.map(|record| &record.service.key);
    let protocol = Protocol::from_number(frontend.protocol);
    let has = |flag| frontend.flags & flag != 0;
    let kind = KINDS.iter().find(|(flag, _)| has(*flag));
    Row {
        namespace: key.map_or_else(String::new, |key| key.namespace.clone()),
        name: key.map_or_else(unknown, |key| key.name.clone()),
        port_name: record
            .and_then(|record| record.port.as_ref())
            .map_or_else(String::new, |port| port.name.clone()),
        protocol: protocol.map_or_else(
            || frontend.protocol.to_string(),
            |protocol| protocol.to_string(),
        ),
        family: lb_common::address::Family::of(&frontend.address).name(),
        address: frontend.address,
        port: frontend.port,
        kind: kind.map_or(CLUSTER_IP, |(_, kind)| *kind),
        host_only: has(Frontend::HOST_ONLY),
        policy: match frontend.policy {
            TrafficPolicy::Cluster => "Cluster",
            TrafficPolicy::Local => "Local",
        },
        affinity_seconds: frontend.affinity,
        clients: match (frontend.endpoints.is_empty(), frontend.drop) {
            (false, _) => "answered",
            (true, false) => "refused",
            (true, true) => "dropped",
        },
        endpoints: endpoint_rows(&frontend.endpoints),
        inside: frontend.inside.as_deref().map(endpoint_rows),
        sources: frontend.sources,
        flows: frontend.traffic.flows,
        packets_in: frontend.traffic.packets_in,
        bytes_in: frontend.traffic.bytes_in,
        packets_out: frontend.traffic.packets_out,
        bytes_out: frontend.traffic.bytes_out,
    }
}

fn endpoint_rows(endpoints: &[(IpAddr, u16)]) -> Vec<EndpointRow> {
    let rows = endpoints.iter().map(|(address, port)| EndpointRow {
        address: *address,
        port: *port,
    });
    rows.collect()
}

fn frontend_table(rows: &[Row]) -> String {
    let header = [
        "NAMESPACE",
        "NAME",
        "FRONTEND",
        "KIND",
        "PORT NAME",
        "ENDPOINTS",
        "FLOWS",
        "PACKETS IN/OUT",
        "BYTES IN/OUT",
    ];
    let cells = |row: &Row| {
        [
            row.namespace.clone(),
            row.name.clone(),
            format!("{}/{}", socket(row.address, row.port), row.protocol),
            if row.host_only {
                format!("{} (node only)", row.kind)
            } else {
                row.kind.to_owned()
            },
            row.port_name.clone(),
            match &row.inside {
                Some(inside) if *inside != row.endpoints => {
                    format!("{}; inside {}", short(&row.endpoints), short(inside))
                }
                _ => short(&row.endpoints),
            },
            row.flows.to_string(),
            format!("{}/{}", row.packets_in, row.packets_out),
            format!("{}/{}", row.bytes_in, row.bytes_out),
        ]
    };
    table(header, rows.iter().map(cells))
}

fn details_table(details: &Details) -> String {
    let mut text = table(
        [
            "NAMESPACE",
            "NAME",
            "TYPE",
            "IP FAMILY POLICY",
            "IP FAMILIES",
            "CLUSTER IPS",
        ],
        [[
            details.namespace.clone(),
            details.name.clone(),
            details.r#type.clone(),
            details
                .ip_family_policy
                .clone()
                .unwrap_or_else(|| "none".to_owned()),
            details.ip_families.join(","),
            details.cluster_ips.join(","),
        ]],
    );
    for row in &details.frontends {
        let frontend = socket(row.address, row.port);
        let kind = row.kind;
        text += &format!("\n{frontend}/{} {} ({kind})\n", row.protocol, row.port_name);
        text += &format!(
            "  {} flows, {} packets in, {} out\n",
            row.flows, row.packets_in, row.packets_out
        );
        if row.host_only {
            text += "  for processes of the node only\n";
        }
        if let Some(sources) = &row.sources {
            let sources: Vec<_> = sources.iter().map(IpNet::to_string).collect();
            text += &format!("  only clients in {}\n", sources.join(", "));
        }
        text += match (row.policy, &row.inside) {
            ("Local", None) => "  only endpoints on this node\n",
            ("Local", Some(_)) => "  only endpoints on this node, for clients outside\n",
            _ => "",
        };
        if row.affinity_seconds > 0 {
            text += &format!("  clients stay for {} s\n", row.affinity_seconds);
        }
        for endpoint in endpoints(&row.endpoints) {
            text += &format!("  -> {endpoint}\n");
        }
        text += match row.clients {
            "dropped" => "  no endpoints on this node: clients get no answer\n",
            "refused" => "  no endpoints: clients are refused\n",
            _ => "",
        };
        for endpoint in endpoints(row.inside.as_deref().unwrap_or_default()) {
            text += &format!("  inside -> {endpoint}\n");
        }
    }
    text
}

/// Few endpoints, or the first of many.
fn short(rows: &[EndpointRow]) -> String {
    match rows.len() {
        0 => "none".to_owned(),
        1..=3 => endpoints(rows).join(","),
        count => format!("{},… ({count})", endpoints(&rows[..2]).join(",")),
    }
}

fn endpoints(rows: &[EndpointRow]) -> Vec<String> {
    rows.iter()
        .map(|endpoint| socket(endpoint.address, endpoint.port))
        .collect()
}

fn socket(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}
