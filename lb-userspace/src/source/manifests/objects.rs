//! From documents to objects: what kind each one is, what it is called, and Lists opened.
//!
//! Kinds that are not ours are passed over, so that the directory may hold whole applications. An
//! object that is wrong is reported and named, a document that cannot be told what it is makes the file
//! incomplete; `file` draws the consequences.

use super::documents;
use crate::model::{EndpointSlice, ObjectKey};
use crate::source::objects::{
    names,
    problem::{Problem, Subject, Wrong},
    service::{self, ServiceSpec},
    slice,
    tree::{At, Node},
};

/// What one document, or one item of a List, came to.
#[derive(Debug)]
pub(super) enum Said {
    /// A Service of ours.
    Service(At<ServiceSpec>),
    /// An EndpointSlice of ours.
    Slice(At<EndpointSlice>),
    /// The object is there, and something is wrong with it.
    Invalid(Subject),
    /// It is not known which object this was meant to be.
    Unknown,
}

/// `kind` of each object we read, for messages.
pub(super) const SERVICE: &str = "Service";
/// Likewise.
pub(super) const SLICE: &str = "EndpointSlice";

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
    fn object(&mut self, node: &Node, inherited: Option<(&str, &str)>) {
        let own = type_of(node);
        let (version, kind) = match (&own, inherited) {
            (Ok((version, kind)), _) => (version.as_str(), kind.as_str()),
            (Err(_), Some(inherited)) if node.find("kind").is_none() && node.map().is_ok() => {
                inherited
            }
            (Err(wrong), _) => return self.unknown(wrong.clone()),
        };
        match (version, kind) {
            ("v1", SERVICE) => self.named(node, SERVICE, names::label, |node, key| {
                let spec = service::read(node, key)?;
                Ok(spec.map(|spec| Said::Service(node.at(spec))))
            }),
            ("discovery.k8s.io/v1", SLICE) => {
                self.named(node, SLICE, names::subdomain, |node, key| {
                    let slice = slice::read(node, key)?;
                    Ok(slice.map(|slice| Said::Slice(node.at(slice))))
                })
            }
            // Accepted, and not used yet.
            ("v1", "Node") => self.named(node, "Node", names::subdomain, |_, _| Ok(None)),
            ("networking.k8s.io/v1", "ServiceCIDR") => {
                self.named(node, "ServiceCIDR", names::subdomain, |_, _| Ok(None));
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

    fn items(&mut self, list: &Node, inherited: Option<(&str, &str)>) {
        let Some(items) = list.find("items") else {
            return;
        };
        match items.list() {
            Ok(items) => items.iter().for_each(|item| self.object(item, inherited)),
            Err(wrong) => self.unknown(wrong.under("items")),
        }
    }

    /// Reads an object of ours with `read`, its name with `read_name`.
    fn named(
        &mut self,
        node: &Node,
        kind: &'static str,
        read_name: impl Fn(&Node) -> Result<String, Wrong>,
        read: impl Fn(&Node, ObjectKey) -> Result<Option<Said>, Wrong>,
    ) {
        let key = node.required("metadata", |metadata| {
            let name = metadata.required("name", read_name)?;
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
        match read(node, key.clone()) {
            Ok(said) => self.said.extend(said),
            Err(wrong) => {
                let subject = Subject { kind, key };
                self.said.push(Said::Invalid(subject.clone()));
                self.problems
                    .push(wrong.into_problem(self.label, Some(subject)));
            }
        }
    }

    fn unknown(&mut self, wrong: Wrong) {
        self.said.push(Said::Unknown);
        self.problems.push(wrong.into_problem(self.label, None));
    }
}

/// `apiVersion` and `kind`.
fn type_of(node: &Node) -> Result<(String, String), Wrong> {
    node.map()?;
    let text = |node: &Node| node.text().map(str::to_owned);
    Ok((
        node.required("apiVersion", text)?,
        node.required("kind", text)?,
    ))
}
