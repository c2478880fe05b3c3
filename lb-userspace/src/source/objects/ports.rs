//! Ports of Services and EndpointSlices: numbers, protocols, names, and what may not stand twice.

use std::collections::HashSet;

use super::{
    names,
    problem::{Fault, Wrong},
    tree::{Node, Value},
};
use crate::model::{Protocol, ServiceKind, ServicePort, SlicePort};

/// Reads `spec.ports` of a Service of kind `kind`.
pub(in crate::source) fn read_service_ports(
    spec: &Node,
    kind: ServiceKind,
) -> Result<Vec<ServicePort>, Wrong> {
    let ports = spec.entries("ports", |entry| {
        Ok((
            entry.at(()),
            ServicePort {
                name: entry.field("name", name)?.unwrap_or_default(),
                protocol: entry.field("protocol", protocol)?.unwrap_or(Protocol::Tcp),
                port: entry.required("port", number)?,
                node_port: entry.field("nodePort", node_port)?.unwrap_or(0),
            },
        ))
    })?;
    if ports.is_empty() && kind.is_served() {
        return Err(Wrong::absent(spec.line, "ports", Fault::Missing));
    }
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, (place, port)) in ports.iter().enumerate() {
        let field = |name| format!("ports[{index}].{name}");
        if ports.len() > 1 && port.name.is_empty() {
            return Err(Wrong::absent(place.line, field("name"), Fault::Missing));
        }
        if !names.insert(&port.name) {
            let name = format!("{:?}", port.name);
            return Err(Wrong::of(place.line, field("name"), name, Fault::Duplicate));
        }
        if !numbers.insert((port.port, port.protocol)) {
            let value = format!("{}/{}", port.port, port.protocol);
            return Err(Wrong::of(
                place.line,
                field("port"),
                value,
                Fault::Duplicate,
            ));
        }
    }
    Ok(ports.into_iter().map(|(_, port)| port).collect())
}

/// Reads `ports` of an EndpointSlice. A port without number stands for all ports and is left out
/// (rule 11); one without name belongs to the unnamed port, as the API server defaults it.
pub(in crate::source) fn read_slice_ports(slice: &Node) -> Result<Vec<SlicePort>, Wrong> {
    let ports = slice.entries("ports", |entry| {
        let name = entry.field("name", name)?.unwrap_or_default();
        let protocol = entry.field("protocol", protocol)?.unwrap_or(Protocol::Tcp);
        Ok((entry.line, name, protocol, entry.field("port", number)?))
    })?;
    let mut names = HashSet::new();
    for (index, (line, name, ..)) in ports.iter().enumerate() {
        if !names.insert(name) {
            let field = format!("ports[{index}].name");
            return Err(Wrong::of(
                *line,
                field,
                format!("{name:?}"),
                Fault::Duplicate,
            ));
        }
    }
    let numbered = ports.into_iter().filter_map(|(_, name, protocol, port)| {
        port.map(|port| SlicePort {
            name,
            protocol,
            port,
        })
    });
    Ok(numbered.collect())
}

/// A port number, never 0.
fn number(node: &Node) -> Result<u16, Wrong> {
    let number = match node.value {
        Value::Int(value) => u16::try_from(value).ok().filter(|&port| port != 0),
        _ => None,
    };
    number.ok_or_else(|| Wrong::new(node, Fault::Not("a port (1..65535)")))
}

/// A node port, where 0 stands for none.
pub(super) fn node_port(node: &Node) -> Result<u16, Wrong> {
    match node.value {
        Value::Int(0) => Ok(0),
        _ => number(node),
    }
}

/// A port's name; empty for an unnamed one.
fn name(node: &Node) -> Result<String, Wrong> {
    match &node.value {
        Value::Text(text) if text.is_empty() => Ok(String::new()),
        _ => names::label(node),
    }
}

fn protocol(node: &Node) -> Result<Protocol, Wrong> {
    match node.text()? {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        _ => Err(Wrong::new(node, Fault::Not("a protocol (TCP, UDP, SCTP)"))),
    }
}
