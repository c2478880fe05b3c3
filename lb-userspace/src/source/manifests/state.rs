//! The directory as the agent knows it: files in, events out, no I/O.
//!
//! ```text
//!   file name -> content      (directory)
//!     -> objects              (documents, objects, file: what each file says, or last said)
//!     -> one of each          (here: the first file by name wins)
//!     -> complete Services    (resolve)
//!     -> difference as Events (here)
//! ```

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    cidrs::ServiceCidrs,
    file::{Content, File, defined_twice},
    objects::{NODE, SERVICE, SERVICE_CIDR, SLICE},
    ranges::{self, Ranges},
    resolve::{self, Assigned},
};
use crate::source::objects::{
    problem::{Problem, Subject},
    tree::At,
};
use crate::{
    model::{EndpointSlice, Node, ObjectKey, Service, ServiceCidr},
    source::{Event, Kind},
};

/// Everything the files of a directory say.
#[derive(Debug)]
pub struct Manifests {
    directory: PathBuf,
    /// Name of the agent's node.
    node: String,
    cidrs: ServiceCidrs,
    restored: BTreeMap<ObjectKey, Vec<IpAddr>>,
    files: BTreeMap<String, File>,
    services: BTreeMap<ObjectKey, Service>,
    slices: BTreeMap<ObjectKey, EndpointSlice>,
    nodes: BTreeMap<ObjectKey, Node>,
    service_cidrs: BTreeMap<ObjectKey, ServiceCidr>,
    listed: bool,
}

/// What a change of files comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// The first time a complete listing, later only what changed. Deletions come first, so that an
    /// address that moves from one Service to another is never in use twice.
    pub events: Vec<Event>,
    /// All that is wrong now, old and new, by file and line.
    pub problems: Vec<Problem>,
}

/// An object, the label of its file, and its place in it.
type Found<'a, T> = BTreeMap<&'a ObjectKey, (Rc<str>, &'a At<T>)>;

impl Manifests {
    /// Knows nothing yet. `directory` is only used to name files in messages; `node` is the agent's.
    pub fn new(directory: &Path, node: &str, cidrs: ServiceCidrs, restored: Vec<Assigned>) -> Self {
        Self {
            directory: directory.to_owned(),
            node: node.to_owned(),
            cidrs,
            restored: restored
                .into_iter()
                .map(|held| (held.service, held.cluster_ips))
                .collect(),
            files: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            nodes: BTreeMap::new(),
            service_cidrs: BTreeMap::new(),
            listed: false,
        }
    }

    /// The Services in force.
    pub fn services(&self) -> &BTreeMap<ObjectKey, Service> {
        &self.services
    }

    /// Takes over the new contents of the files in `changes`; the other files are as they were.
    pub fn update(&mut self, changes: BTreeMap<String, Content>) -> Update {
        for (name, content) in changes {
            let label = label(&self.directory, &name);
            match content {
                Content::Gone => drop(self.files.remove(&name)),
                Content::Bytes(bytes) => {
                    self.files
                        .entry(name.clone())
                        .or_default()
                        .read(&name, &label, &bytes);
                }
                Content::Unreadable(reason) => {
                    self.files
                        .entry(name)
                        .or_default()
                        .unreadable(&label, reason);
                }
            }
        }
        let mut problems: Vec<Problem> = self
            .files
            .values()
            .flat_map(|file| file.problems.iter().cloned())
            .collect();

        let cidrs = merge(
            self.files(|file| &file.service_cidrs),
            SERVICE_CIDR,
            &mut problems,
        );
        let cidrs = cidrs.into_values().map(|(_, cidr)| &cidr.value);
        let service_cidrs = ranges::service_cidrs(&self.cidrs, cidrs);
        let nodes = merge(self.files(|file| &file.nodes), NODE, &mut problems);
        let nodes = nodes.into_iter().filter(|(key, _)| key.name == self.node);
        let nodes = nodes.map(|(key, (_, node))| (key.clone(), node.value.clone()));
        let nodes: BTreeMap<ObjectKey, Node> = nodes.collect();

        let services = merge(self.files(|file| &file.services), SERVICE, &mut problems);
        let specs = services
            .iter()
            .map(|(&key, &(_, spec))| (key, spec))
            .collect();
        let ranges = Ranges::new(&self.cidrs, &service_cidrs);
        let (resolved, wrongs) = resolve::resolve(&specs, &ranges, &self.services, &self.restored);
        problems.extend(wrongs.into_iter().map(|(key, wrong)| {
            let label = &services[&key].0;
            wrong.into_problem(label, Some(Subject { kind: SERVICE, key }))
        }));
        let slices = merge(self.files(|file| &file.slices), SLICE, &mut problems);
        let slices: BTreeMap<&ObjectKey, &EndpointSlice> = slices
            .into_iter()
            .map(|(key, (_, slice))| (key, &slice.value))
            .collect();

        let mut events = Vec::new();
        deletions(
            &self.slices,
            |key| slices.contains_key(key),
            |key| events.push(Event::DeleteSlice(key)),
        );
        deletions(
            &self.services,
            |key| resolved.contains_key(key),
            |key| events.push(Event::DeleteService(key)),
        );
        deletions(
            &self.nodes,
            |key| nodes.contains_key(key),
            |key| events.push(Event::DeleteNode(key.name)),
        );
        deletions(
            &self.service_cidrs,
            |key| service_cidrs.contains_key(key),
            |key| events.push(Event::DeleteServiceCidr(key.name)),
        );
        if !self.listed {
            events.extend(Kind::ALL.map(Event::Init));
        }
        let cidrs = changed(&self.service_cidrs, &service_cidrs);
        events.extend(cidrs.cloned().map(Event::ApplyServiceCidr));
        let own = changed(&self.nodes, &nodes);
        events.extend(own.cloned().map(Event::ApplyNode));
        let changed_services = changed(&self.services, &resolved);
        events.extend(changed_services.cloned().map(Event::ApplyService));
        for (key, &slice) in &slices {
            if self.slices.get(*key) != Some(slice) {
                events.push(Event::ApplySlice(slice.clone()));
            }
        }
        if !self.listed {
            events.extend(Kind::ALL.map(Event::InitDone));
        }
        self.remember_slices(&events);
        self.listed = true;
        self.services = resolved;
        self.nodes = nodes;
        self.service_cidrs = service_cidrs;
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Update { events, problems }
    }

    /// The objects of one kind, file by file in the order of their names, with the label of each file.
    fn files<'a, T: 'a>(
        &'a self,
        objects: impl Fn(&'a File) -> &'a BTreeMap<ObjectKey, At<T>>,
    ) -> impl Iterator<Item = (Rc<str>, &'a BTreeMap<ObjectKey, At<T>>)> {
        self.files
            .iter()
            .map(move |(name, file)| (label(&self.directory, name).into(), objects(file)))
    }

    /// Keeps what `events` say of slices as what is in force; the others are few and are kept as a whole.
    fn remember_slices(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::DeleteSlice(key) => drop(self.slices.remove(key)),
                Event::ApplySlice(slice) => {
                    self.slices.insert(slice.key.clone(), slice.clone());
                }
                _ => {}
            }
        }
    }
}

/// One of each object; where several files define one, the first file's counts.
fn merge<'a, T>(
    files: impl Iterator<Item = (Rc<str>, &'a BTreeMap<ObjectKey, At<T>>)>,
    kind: &'static str,
    problems: &mut Vec<Problem>,
) -> Found<'a, T> {
    let mut found: Found<'a, T> = BTreeMap::new();
    for (label, objects) in files {
        for (key, object) in objects {
            match found.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert((label.clone(), object))),
                Entry::Occupied(entry) => {
                    let (first, place) = entry.get();
                    let wrong = defined_twice(object.line, format!("{first}:{}", place.line));
                    let subject = Subject {
                        kind,
                        key: key.clone(),
                    };
                    problems.push(wrong.into_problem(&label, Some(subject)));
                }
            }
        }
    }
    found
}

/// The objects of `new` that are not the same in `old`.
fn changed<'a, T: PartialEq>(
    old: &BTreeMap<ObjectKey, T>,
    new: &'a BTreeMap<ObjectKey, T>,
) -> impl Iterator<Item = &'a T> {
    let changed = new
        .iter()
        .filter(move |&(key, object)| old.get(key) != Some(object));
    changed.map(|(_, object)| object)
}

/// Calls `delete` for every key of `old` that is not there any more.
fn deletions<T>(
    old: &BTreeMap<ObjectKey, T>,
    stays: impl Fn(&ObjectKey) -> bool,
    delete: impl FnMut(ObjectKey),
) {
    old.keys()
        .filter(|key| !stays(key))
        .cloned()
        .for_each(delete);
}

/// How messages call the file `name`.
fn label(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}
