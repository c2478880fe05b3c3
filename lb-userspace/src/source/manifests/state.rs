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
    objects::{SERVICE, SLICE},
    resolve::{self, Assigned},
};
use crate::source::objects::{
    problem::{Problem, Subject},
    tree::At,
};
use crate::{
    model::{EndpointSlice, ObjectKey, Service},
    source::{Event, Kind},
};

/// Everything the files of a directory say.
#[derive(Debug)]
pub struct Manifests {
    directory: PathBuf,
    cidrs: ServiceCidrs,
    restored: BTreeMap<ObjectKey, Vec<IpAddr>>,
    files: BTreeMap<String, File>,
    services: BTreeMap<ObjectKey, Service>,
    slices: BTreeMap<ObjectKey, EndpointSlice>,
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
    /// Knows nothing yet. `directory` is only used to name files in messages.
    pub fn new(directory: &Path, cidrs: ServiceCidrs, restored: Vec<Assigned>) -> Self {
        Self {
            directory: directory.to_owned(),
            cidrs,
            restored: restored
                .into_iter()
                .map(|held| (held.service, held.cluster_ips))
                .collect(),
            files: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
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

        let services = merge(self.files(|file| &file.services), SERVICE, &mut problems);
        let specs = services
            .iter()
            .map(|(&key, &(_, spec))| (key, spec))
            .collect();
        let (resolved, wrongs) =
            resolve::resolve(&specs, &self.cidrs, &self.services, &self.restored);
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
            |key| {
                events.push(Event::DeleteSlice(key));
            },
        );
        deletions(
            &self.services,
            |key| resolved.contains_key(key),
            |key| {
                events.push(Event::DeleteService(key));
            },
        );
        if !self.listed {
            events.extend(Kind::ALL.map(Event::Init));
        }
        for (key, service) in &resolved {
            if self.services.get(key) != Some(service) {
                events.push(Event::ApplyService(service.clone()));
            }
        }
        for (key, &slice) in &slices {
            if self.slices.get(*key) != Some(slice) {
                events.push(Event::ApplySlice(slice.clone()));
            }
        }
        if !self.listed {
            events.extend(Kind::ALL.map(Event::InitDone));
        }
        self.remember(&events, resolved);
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

    /// Keeps what `events` say as what is in force.
    fn remember(&mut self, events: &[Event], services: BTreeMap<ObjectKey, Service>) {
        self.listed = true;
        self.services = services;
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
