//! From documents to objects: what kind each one is, what it is called, and Lists opened.
//!
//! Kinds that are not ours are passed over, so that the directory may hold whole applications. An
//! object that is wrong is reported and named, a document that cannot be told what it is makes the file
//! incomplete; `file` draws the consequences.

use super::documents;
use crate::model::{EndpointSlice, Node, ObjectKey, ServiceCidr};
use crate::source::objects::{
    names, node,
    problem::{Problem, Subject, Wrong},
    service::{self, ServiceSpec},
    service_cidr, slice,
    tree::{At, Node as Tree},
};

/// What one document, or one item of a List, came to.
#[derive(Debug)]
pub(super) enum Said {
    /// A Service of ours.
    Service(At<ServiceSpec>),
    /// An EndpointSlice of ours.
    Slice(At<EndpointSlice>),
    /// A node, whether or not the agent runs there.
    Node(At<Node>),
    /// A ServiceCIDR.
    ServiceCidr(At<ServiceCidr>),
    /// The object is there, and something is wrong with it.
    Invalid(Subject),
    /// It is not known which object this was meant to be.
    Unknown,
}

/// `kind` of each object we read, for messages.
pub(super) const SERVICE: &str = "Service";
/// Likewise.
pub(super) const SLICE: &str = "EndpointSlice";
/// Likewise.
pub(super) const NODE: &str = "Node";
/// Likewise.
pub(super) const SERVICE_CIDR: &str = "ServiceCIDR";

/// How objects of a kind are called.
struct Naming {
    kind: &'static str,
    is_namespaced: bool,
    read: fn(&Tree) -> Result<String, Wrong>,
}

const SERVICES: Naming = Naming {
    kind: SERVICE,
    is_namespaced: true,
    read: names::label,
};
const SLICES: Naming = Naming {
    kind: SLICE,
    is_namespaced: true,
    read: names::subdomain,
};
const NODES: Naming = Naming {
    kind: NODE,
    is_namespaced: false,
    read: names::subdomain,
};
const SERVICE_CIDRS: Naming = Naming {
    kind: SERVICE_CIDR,
    is_namespaced: false,
    read: names::subdomain,
};

/// Reads the file `name`, called `label` in messages.
pub(super) fn parse(name: &str, label: &str, text: &str) -> (Vec<Said>, Vec<Problem>) {
    let mut reader = Reader {
        label,
        said: Vec::new(),
        problems: Vec::new(),
    };
    for document in documents::parse(name, text) {
        match document {
            Ok(node) => reader.object(&node, None),
            Err(wrong) => reader.unknown(wrong),
        }
    }
    (reader.said, reader.problems)
}

struct Reader<'a> {
    label: &'a str,
    said: Vec<Said>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Reads one object; the items of a typed List do without `apiVersion` and `kind`, which are
    /// `inherited` from the List then.
    fn object(&mut self, node: &Tree, inherited: Option<(&str, &str)>) {
        let own = type_of(node);
        let (version, kind) = match (&own, inherited) {
            (Ok((version, kind)), _) => (version.as_str(), kind.as_str()),
            (Err(_), Some(inherited)) if node.find("kind").is_none() && node.map().is_ok() => {
                inherited
            }
            (Err(wrong), _) => return self.unknown(wrong.clone()),
        };
        match (version, kind) {
            ("v1", SERVICE) => self.named(node, &SERVICES, |node, key, skipped| {
                let spec = service::read(node, key, skipped)?;
                Ok(spec.map(|spec| Said::Service(node.at(spec))))
            }),
            ("discovery.k8s.io/v1", SLICE) => self.named(node, &SLICES, |node, key, skipped| {
                let slice = slice::read(node, key, skipped)?;
                Ok(slice.map(|slice| Said::Slice(node.at(slice))))
            }),
            ("v1", NODE) => self.named(node, &NODES, |node, key, _| {
                Ok(Some(Said::Node(node.at(node::read(node, key)?))))
            }),
            ("networking.k8s.io/v1", SERVICE_CIDR) => {
                self.named(node, &SERVICE_CIDRS, |node, key, _| {
                    let cidr = service_cidr::read(node, key)?;
                    Ok(Some(Said::ServiceCidr(node.at(cidr))))
                });
            }
            ("v1", "List") => self.items(node, None),
            ("v1", "ServiceList" | "NodeList")
            | ("discovery.k8s.io/v1", "EndpointSliceList")
            | ("networking.k8s.io/v1", "ServiceCIDRList") => {
                self.items(node, Some((version, kind.trim_end_matches("List"))));
            }
            _ => tracing::debug!(
                file = self.label,
                line = node.line,
                version,
                kind,
                "skipped"
            ),
        }
    }

    fn items(&mut self, list: &Tree, inherited: Option<(&str, &str)>) {
        let Some(items) = list.find("items") else {
            return;
        };
        match items.list() {
            Ok(items) => items.iter().for_each(|item| self.object(item, inherited)),
            Err(wrong) => self.unknown(wrong.under("items")),
        }
    }

    /// Reads an object of ours with `read`, its name as `naming` says.
    fn named(
        &mut self,
        node: &Tree,
        naming: &Naming,
        read: impl Fn(&Tree, ObjectKey, &mut Vec<Wrong>) -> Result<Option<Said>, Wrong>,
    ) {
        let key = node.required("metadata", |metadata| {
            let name = metadata.required("name", naming.read)?;
            if !naming.is_namespaced {
                return Ok(ObjectKey::new("", name));
            }
            let namespace = metadata.field("namespace", names::label)?;
            Ok(ObjectKey::new(
                namespace.unwrap_or_else(|| "default".to_owned()),
                name,
            ))
        });
        let key = match key {
            Ok(key) => key,
            Err(wrong) => return self.unknown(wrong),
        };
        let mut wrongs = Vec::new();
        let subject = Subject {
            kind: naming.kind,
            key: key.clone(),
        };
        match read(node, key, &mut wrongs) {
            Ok(said) => self.said.extend(said),
            Err(wrong) => {
                self.said.push(Said::Invalid(subject.clone()));
                // The last version stays, and what this one would have left out is not of interest.
                wrongs = vec![wrong];
            }
        }
        let problems = wrongs.into_iter();
        self.problems
            .extend(problems.map(|wrong| wrong.into_problem(self.label, Some(subject.clone()))));
    }

    fn unknown(&mut self, wrong: Wrong) {
        self.said.push(Said::Unknown);
        self.problems.push(wrong.into_problem(self.label, None));
    }
}

/// `apiVersion` and `kind`.
fn type_of(node: &Tree) -> Result<(String, String), Wrong> {
    node.map()?;
    let text = |node: &Tree| node.text().map(str::to_owned);
    Ok((
        node.required("apiVersion", text)?,
        node.required("kind", text)?,
    ))
}
