//! What the kernel has counted, read from the maps when somebody asks.
//!
//! Traffic is told for every service port with an id below a limit (`--metrics-max-services`), the others
//! are summed up: series cost memory in Prometheus for as long as it keeps them. The limit is about ids and not
//! about how busy a service is, because a service keeps its id, so that no counter ever goes backwards
//! because services have changed places.

use std::fmt;

use lb_common::{
    address::Family,
    flow::{
        state::State,
        stats::{Churn, FlowStats},
    },
    tables::Traffic,
    verdict::Verdict,
};
use prometheus_client::{
    collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use crate::datapath::view::MapView;

/// Something that knows what the kernel has counted.
pub trait Reading: fmt::Debug + Send + Sync + 'static {
    /// Reads it all.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn read(&self) -> anyhow::Result<Snapshot>;
}

/// What the kernel has counted.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Packets by verdict.
    pub verdicts: Vec<(Verdict, u64)>,
    /// Traffic of service ports, each with other names and family.
    pub traffic: Vec<ServiceTraffic>,
    /// Fill of the maps.
    pub maps: Vec<MapView>,
    /// What is in the flow tables, and what went in and out.
    pub flows: Vec<(Family, FlowStats, Churn)>,
}

/// Traffic of one service port in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTraffic {
    /// Namespace; empty for the sum of those over the limit.
    pub namespace: String,
    /// Name of the Service; `(others)` for the sum of those over the limit.
    pub service: String,
    /// Port, protocol: `80`, `TCP`; both empty for the sum.
    pub port: (String, String),
    /// Family.
    pub family: Family,
    /// What went through it.
    pub traffic: Traffic,
}

/// Tells it to Prometheus.
#[derive(Debug)]
pub(super) struct Collector {
    reading: Box<dyn Reading>,
}

impl Collector {
    pub(super) fn new(reading: Box<dyn Reading>) -> Self {
        Self { reading }
    }
}

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        match self.reading.read() {
            Ok(snapshot) => {
                encode_verdicts(&mut encoder, &snapshot.verdicts)?;
                encode_maps(&mut encoder, &snapshot.maps)?;
                encode_flows(&mut encoder, &snapshot.flows)?;
                encode_traffic(&mut encoder, &snapshot.traffic)
            }
            // The rest of the metrics is told all the same.
            Err(error) => {
                tracing::warn!("metrics: {error:#}");
                Ok(())
            }
        }
    }
}

fn encode_verdicts(encoder: &mut DescriptorEncoder, verdicts: &[(Verdict, u64)]) -> fmt::Result {
    let help = "Packets that concern a service, by what became of them.";
    let kind = ConstCounter::new(0u64).metric_type();
    let mut metric = encoder.encode_descriptor("verdicts", help, None, kind)?;
    for (verdict, count) in verdicts {
        let action = format!("{:?}", verdict.action()).to_lowercase();
        let labels = [("verdict", verdict.label()), ("action", &action)];
        ConstCounter::new(*count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_maps(encoder: &mut DescriptorEncoder, maps: &[MapView]) -> fmt::Result {
    let kind = ConstGauge::new(0i64).metric_type();
    let help = "Entries in use, of maps that have such a notion.";
    let mut metric = encoder.encode_descriptor("map_entries", help, None, kind)?;
    for (map, used) in maps.iter().filter_map(|map| Some((map, map.used?))) {
        let used = i64::try_from(used).unwrap_or(i64::MAX);
        ConstGauge::new(used).encode(metric.encode_family(&[("map", map.name)])?)?;
    }
    let help = "Entries there can be.";
    let mut metric = encoder.encode_descriptor("map_size", help, None, kind)?;
    for map in maps {
        let size = i64::from(map.size);
        ConstGauge::new(size).encode(metric.encode_family(&[("map", map.name)])?)?;
    }
    Ok(())
}

/// A counter of a flow table: its name, what it says, how it is read.
type FlowCounter = (&'static str, &'static str, fn(&FlowStats, &Churn) -> u64);

const FLOW_COUNTERS: [FlowCounter; 3] = [
    (
        "flow_insertions",
        "Entries of flows that were made; a flow has two, with another client address four.",
        |_, churn| churn.inserted,
    ),
    (
        "flow_expirations",
        "Entries of flows that were over and have been removed.",
        |stats, _| stats.expired,
    ),
    (
        "flow_evictions",
        "Entries of flows that had to make room, as of the last sweep.",
        |stats, _| stats.evicted,
    ),
];

fn encode_flows(
    encoder: &mut DescriptorEncoder,
    flows: &[(Family, FlowStats, Churn)],
) -> fmt::Result {
    let kind = ConstGauge::new(0i64).metric_type();
    let help = "Flows by state, as of the last sweep.";
    let mut metric = encoder.encode_descriptor("flows", help, None, kind)?;
    for (family, stats, _) in flows {
        for (state, count) in State::ALL.into_iter().zip(stats.flows) {
            let labels = [("ip_family", family.name()), ("state", state.label())];
            ConstGauge::new(i64::from(count)).encode(metric.encode_family(&labels)?)?;
        }
    }
    let kind = ConstCounter::new(0u64).metric_type();
    for (name, help, read) in FLOW_COUNTERS {
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for (family, stats, churn) in flows {
            let labels = [("ip_family", family.name())];
            ConstCounter::new(read(stats, churn)).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// A direction and a counter of [`Traffic`] for it.
type Field = (&'static str, fn(&Traffic) -> u64);

fn encode_traffic(encoder: &mut DescriptorEncoder, traffic: &[ServiceTraffic]) -> fmt::Result {
    let metrics: [(&str, &str, &[Field]); 3] = [
        (
            "service_flows",
            "New flows that were given an endpoint.",
            &[("", |traffic| traffic.flows)],
        ),
        (
            "service_packets",
            "Packets translated; `in` is from client to endpoint. A GSO super-packet counts once.",
            &[
                ("in", |traffic| traffic.packets_in),
                ("out", |traffic| traffic.packets_out),
            ],
        ),
        (
            "service_bytes",
            "Bytes of the packets translated, link-layer headers included; `in` is from client to endpoint.",
            &[
                ("in", |traffic| traffic.bytes_in),
                ("out", |traffic| traffic.bytes_out),
            ],
        ),
    ];
    let kind = ConstCounter::new(0u64).metric_type();
    for (name, help, fields) in metrics {
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for service in traffic {
            for (direction, field) in fields {
                let mut labels = vec![
                    ("namespace", service.namespace.as_str()),
                    ("service", &service.service),
                    ("port", &service.port.0),
                    ("protocol", &service.port.1),
                    ("ip_family", service.family.name()),
                ];
                if !direction.is_empty() {
                    labels.push(("direction", direction));
                }
                let count = ConstCounter::new(field(&service.traffic));
                count.encode(metric.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}
