//! A flow, as printed.

use std::net::SocketAddr;

use serde::Serialize;

use super::walk::Flows;
use crate::{conntrack::view::FlowView, model::Protocol};

/// What stands where there is nobody.
pub(super) const NOBODY: &str = "-";

/// A flow.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    protocol: String,
    state: &'static str,
    client: SocketAddr,
    vip: Option<SocketAddr>,
    endpoint: SocketAddr,
    /// The client as the endpoint sees it, if it is another.
    snat: Option<SocketAddr>,
    /// The client's port as the endpoint sees it, if another connection had its own.
    moved_port: Option<u16>,
    service: String,
    idle_seconds: u64,
    expires_seconds: u64,
    flags: Vec<&'static str>,
    entries: Vec<&'static str>,
    orphan: bool,
}

/// Columns of the table and how wide they are at least: rows are printed one by one, so that none can wait for the widest.
const COLUMNS: [(&str, usize); 10] = [
    ("PROTOCOL", 8),
    ("STATE", 11),
    ("CLIENT", 21),
    ("VIP", 21),
    ("ENDPOINT", 21),
    ("SNAT", 21),
    ("SERVICE", 24),
    ("IDLE", 6),
    ("EXPIRES", 7),
    ("FLAGS", 0),
];

impl Row {
    pub(super) fn new(flow: &FlowView, flows: &Flows) -> Self {
        Self {
            protocol: protocol(flow.protocol),
            state: flow.state.label(),
            client: flow.client,
            vip: flow.vip,
            endpoint: flow.endpoint,
            snat: flow.snat,
            moved_port: flow.moved_port,
            service: flows.name(flow.traffic),
            idle_seconds: flows.seconds(flow.idle),
            expires_seconds: flows.seconds(flow.expires),
            flags: flow.flags.clone(),
            entries: flow.entries.clone(),
            orphan: flow.is_orphan,
        }
    }

    /// It, in columns.
    pub(super) fn line(&self) -> String {
        let socket = |socket: Option<SocketAddr>| {
            socket.map_or_else(|| NOBODY.to_owned(), |socket| socket.to_string())
        };
        let mut flags: Vec<String> = self.flags.iter().map(|flag| (*flag).to_owned()).collect();
        flags.extend(self.moved_port.map(|port| format!("port={port}")));
        if self.orphan {
            flags.push(format!("orphan({})", self.entries.join("+")));
        }
        line([
            self.protocol.clone(),
            self.state.to_owned(),
            self.client.to_string(),
            socket(self.vip),
            self.endpoint.to_string(),
            socket(self.snat),
            self.service.clone(),
            duration(self.idle_seconds),
            duration(self.expires_seconds),
            flags.join(","),
        ])
    }
}

/// What stands above the columns.
pub(super) fn header() -> String {
    line(COLUMNS.map(|(name, _)| name.to_owned()))
}

fn line(cells: [String; COLUMNS.len()]) -> String {
    let cells = cells.iter().zip(COLUMNS);
    let padded: Vec<_> = cells
        .map(|(cell, (_, width))| format!("{cell:width$}"))
        .collect();
    padded.join("  ").trim_end().to_owned()
}

/// The name of a protocol.
pub(super) fn protocol(number: u8) -> String {
    Protocol::from_number(number)
        .map_or_else(|| number.to_string(), |protocol| protocol.to_string())
}

/// So many seconds, as short as can be: `7s`, `3m`, `5h`, `2d`.
fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let short = [0, 119, 120, 7_199, 7_200, 86_400, 172_800].map(duration);
        assert_eq!(short, ["0s", "119s", "2m", "119m", "2h", "24h", "2d"]);
    }
}
