//! Tests of the whole way from files to events, without a file system save in `watching`.
//!
//! Each module asks one question; single steps are tested beside their code.

mod addresses;
mod bad_input;
mod cluster;
mod defaulting;
mod edits;
mod examples;
mod reading;
mod watching;

use std::{collections::BTreeMap, path::Path};

use super::{Assigned, Content, Manifests, Update};
use crate::{
    model::Service,
    source::{Event, Kind},
};

/// Ranges of the lab, IPv4 first.
const DUAL: &str = "10.96.0.0/16,fd00:10:96::/112";

/// A directory called `dir` that nothing has been read from; no ranges if `cidrs` is empty.
fn directory(cidrs: &str, restored: Vec<Assigned>) -> Manifests {
    let cidrs = if cidrs.is_empty() {
        Default::default()
    } else {
        cidrs.parse().unwrap()
    };
    Manifests::new(Path::new("dir"), "node-1", cidrs, restored)
}

/// Replaces the content of files.
fn write(manifests: &mut Manifests, files: &[(&str, &str)]) -> Update {
    let content = |text: &str| Content::Bytes(text.as_bytes().to_vec());
    manifests.update(
        files
            .iter()
            .map(|(name, text)| (name.to_string(), content(text)))
            .collect(),
    )
}

/// Everything that a new agent makes of one file.
fn read(cidrs: &str, text: &str) -> Update {
    write(&mut directory(cidrs, Vec::new()), &[("x.yaml", text)])
}

/// The Services applied, by name.
fn services(update: &Update) -> BTreeMap<String, Service> {
    let applied = update.events.iter().filter_map(|event| match event {
        Event::ApplyService(service) => Some((service.key.name.clone(), service.clone())),
        _ => None,
    });
    applied.collect()
}

/// The problems as users read them.
fn messages(update: &Update) -> Vec<String> {
    update.problems.iter().map(ToString::to_string).collect()
}

/// A Service manifest: `spec` as flow YAML members, with one port.
fn service(name: &str, spec: &str) -> String {
    let ports = "ports: [{port: 80}]";
    let comma = if spec.is_empty() { "" } else { ", " };
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}{comma}{ports}}}\n"
    )
}

/// The events, in short: `+` applied, `-` deleted. The four listings come as one, and the range of the flag
/// is not mentioned.
fn short(update: &Update) -> Vec<String> {
    let events = update.events.iter().filter_map(|event| {
        Some(match event {
            Event::Init(Kind::Services) => "init".to_owned(),
            Event::InitDone(Kind::ServiceCidrs) => "done".to_owned(),
            Event::Init(_) | Event::InitDone(_) | Event::NodeAddresses(_) => return None,
            Event::ApplyServiceCidr(cidr) if cidr.name == "kubernetes" => return None,
            Event::ApplyNode(node) => format!("+node {}", node.name),
            Event::DeleteNode(name) => format!("-node {name}"),
            Event::ApplyServiceCidr(cidr) => format!("+cidr {}", cidr.name),
            Event::DeleteServiceCidr(name) => format!("-cidr {name}"),
            Event::Keep(kind, key) => format!("={kind:?} {key}"),
            Event::ApplyService(service) => format!("+{}", service.key.name),
            Event::DeleteService(key) => format!("-{}", key.name),
            Event::ApplySlice(slice) => format!("+slice {}", slice.key.name),
            Event::DeleteSlice(key) => format!("-slice {}", key.name),
        })
    });
    events.collect()
}
