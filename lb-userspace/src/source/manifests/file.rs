//! What one file says, and what it last said about objects that it no longer says anything sound about.
//!
//! A typo must not take down what is being served: an object that is wrong keeps its last sound
//! version, and while any document of a file cannot be recognised at all, nothing that the file ever
//! said is taken as withdrawn, since the lost document may have said it again.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::objects::{self, NODE, SERVICE, SERVICE_CIDR, SLICE, Said};
use crate::model::{EndpointSlice, Node, ObjectKey, ServiceCidr};
use crate::source::objects::{
    problem::{Fault, Problem, Subject, Wrong},
    service::ServiceSpec,
    tree::At,
};

/// What a file holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// It is there and cannot be read, for this reason.
    Unreadable(String),
    /// It is not there any more.
    Gone,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) services: BTreeMap<ObjectKey, At<ServiceSpec>>,
    pub(super) slices: BTreeMap<ObjectKey, At<EndpointSlice>>,
    pub(super) nodes: BTreeMap<ObjectKey, At<Node>>,
    pub(super) service_cidrs: BTreeMap<ObjectKey, At<ServiceCidr>>,
    pub(super) problems: Vec<Problem>,
}

impl File {
    /// Takes over `bytes` as the new content of the file `name`, called `label` in messages.
    pub(super) fn read(&mut self, name: &str, label: &str, bytes: &[u8]) {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let newlines = bytes[..error.valid_up_to()]
                    .iter()
                    .filter(|&&byte| byte == b'\n');
                let line = u32::try_from(newlines.count() + 1).unwrap_or(u32::MAX);
                let fault = Fault::Syntax("it is not UTF-8".to_owned());
                self.problems = vec![Wrong::absent(line, "", fault).into_problem(label, None)];
                return;
            }
        };
        let (said, problems) = objects::parse(name, label, text);
        let mut now = Self {
            problems,
            ..Self::default()
        };
        let mut invalid = BTreeSet::new();
        let mut complete = true;
        for said in said {
            let problem = match said {
                Said::Service(service) => {
                    let key = service.value.key.clone();
                    insert(&mut now.services, key, service, SERVICE, label)
                }
                Said::Slice(slice) => {
                    let key = slice.value.key.clone();
                    insert(&mut now.slices, key, slice, SLICE, label)
                }
                Said::Node(node) => {
                    let key = ObjectKey::new("", &*node.value.name);
                    insert(&mut now.nodes, key, node, NODE, label)
                }
                Said::ServiceCidr(cidr) => {
                    let key = ObjectKey::new("", &*cidr.value.name);
                    insert(&mut now.service_cidrs, key, cidr, SERVICE_CIDR, label)
                }
                Said::Invalid(subject) => {
                    invalid.insert(subject);
                    None
                }
                Said::Unknown => {
                    complete = false;
                    None
                }
            };
            now.problems.extend(problem);
        }
        let keeps = |kind, key: &ObjectKey| {
            !complete
                || invalid.contains(&Subject {
                    kind,
                    key: key.clone(),
                })
        };
        let last = std::mem::take(self);
        keep(&mut now.services, last.services, |key| keeps(SERVICE, key));
        keep(&mut now.slices, last.slices, |key| keeps(SLICE, key));
        keep(&mut now.nodes, last.nodes, |key| keeps(NODE, key));
        keep(&mut now.service_cidrs, last.service_cidrs, |key| {
            keeps(SERVICE_CIDR, key)
        });
        *self = now;
    }

    /// The file could not be read: what it said last stays.
    pub(super) fn unreadable(&mut self, label: &str, reason: String) {
        self.problems = vec![Problem::of_file(
            label.to_owned(),
            Fault::Unreadable(reason),
        )];
    }
}

/// Adds an object, unless the file has defined it further up.
fn insert<T>(
    objects: &mut BTreeMap<ObjectKey, At<T>>,
    key: ObjectKey,
    object: At<T>,
    kind: &'static str,
    label: &str,
) -> Option<Problem> {
    match objects.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(object);
            None
        }
        Entry::Occupied(entry) => {
            let first = format!("{label}:{}", entry.get().line);
            let subject = Subject {
                kind,
                key: entry.key().clone(),
            };
            Some(defined_twice(object.line, first).into_problem(label, Some(subject)))
        }
    }
}

/// The object on line `line` of its file is defined at `first` already.
pub(super) fn defined_twice(line: u32, first: String) -> Wrong {
    Wrong::absent(line, "", Fault::DefinedTwice { first })
}

/// Adds those of the `last` objects that are not there now and are to stay.
fn keep<T>(
    now: &mut BTreeMap<ObjectKey, T>,
    last: BTreeMap<ObjectKey, T>,
    stays: impl Fn(&ObjectKey) -> bool,
) {
    for (key, object) in last {
        if stays(&key) {
            now.entry(key).or_insert(object);
        }
    }
}
