//! What the double stores: objects, and every change since the last compaction.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::select::Selector;
use crate::objects::{Resource, place, resource};

/// Objects with one running version for all of them, as etcd has it.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) version: u64,
    /// Changes up to this one are forgotten.
    pub(crate) compacted: u64,
    objects: BTreeMap<(Resource, String), Arc<Value>>,
    log: Vec<Change>,
    /// The rests of lists that are being read in pages, by number.
    pages: BTreeMap<u64, Page>,
}

#[derive(Debug)]
struct Change {
    version: u64,
    resource: Resource,
    before: Option<Arc<Value>>,
    after: Option<Arc<Value>>,
}

#[derive(Debug)]
struct Page {
    version: u64,
    rest: Vec<Arc<Value>>,
}

/// The version or the page has been forgotten.
#[derive(Debug)]
pub(crate) struct Gone;

impl Store {
    /// Creates or replaces an object.
    pub(crate) fn put(&mut self, object: &Value) {
        let mut object = object.clone();
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object["metadata"]["uid"] = format!("uid-{}", place(&object).1).into();
        object["metadata"]["managedFields"] =
            json!([{"manager": "test", "fieldsV1": {"f:spec": {}}}]);
        let key = (resource(&object), key(&object));
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), object.clone());
        self.change(key.0, before, Some(object));
    }

    /// Deletes an object like `object`, which must be there.
    pub(crate) fn delete(&mut self, object: &Value) {
        let key = (resource(object), key(object));
        let before = self.objects.remove(&key).expect("it is there");
        self.version += 1;
        self.change(key.0, Some(before), None);
    }

    fn change(
        &mut self,
        resource: Resource,
        before: Option<Arc<Value>>,
        after: Option<Arc<Value>>,
    ) {
        self.log.push(Change {
            version: self.version,
            resource,
            before,
            after,
        });
    }

    /// Forgets all changes and all lists that are being read.
    pub(crate) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.log.clear();
        self.pages.clear();
    }

    /// Forgets all changes, which every watch has seen.
    pub(crate) fn forget_seen(&mut self) {
        self.log = Vec::new();
    }

    /// Forgets only the lists.
    pub(crate) fn forget_pages(&mut self) {
        self.pages.clear();
    }

    /// A page of at most `limit` of the selected objects (0: all of them), as a List.
    pub(crate) fn list(
        &mut self,
        resource: Resource,
        selector: &Selector,
        limit: usize,
        page: Option<u64>,
    ) -> Result<String, Gone> {
        let Page { version, mut rest } = match page {
            Some(number) => self.pages.remove(&number).ok_or(Gone)?,
            None => Page {
                version: self.version,
                rest: self
                    .objects
                    .iter()
                    .filter(|((of, _), object)| *of == resource && selector.selects(object))
                    .map(|(_, object)| object.clone())
                    .collect(),
            },
        };
        let (api_version, kind, _) = resource.names();
        let mut metadata = json!({"resourceVersion": version.to_string()});
        let items = if limit > 0 && rest.len() > limit {
            let items = rest.drain(..limit).collect();
            let number = self.pages.last_key_value().map_or(1, |(last, _)| last + 1);
            metadata["continue"] = format!("page-{number}").into();
            metadata["remainingItemCount"] = rest.len().into();
            self.pages.insert(number, Page { version, rest });
            items
        } else {
            rest
        };
        // As with a real server, the items of a list do not say their kind.
        let mut text = format!(
            "{{\"kind\":\"{kind}List\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":["
        );
        for (index, item) in items.iter().enumerate() {
            let mut item = Value::clone(item);
            let members = item.as_object_mut().expect("an object");
            members.remove("kind");
            members.remove("apiVersion");
            if index > 0 {
                text.push(',');
            }
            text.push_str(&item.to_string());
        }
        text.push_str("]}");
        Ok(text)
    }

    /// What happened to the selected objects after `version`: version, type, object.
    pub(crate) fn events(
        &self,
        resource: Resource,
        selector: &Selector,
        version: u64,
    ) -> Result<Vec<(u64, &'static str, Value)>, Gone> {
        if version < self.compacted {
            return Err(Gone);
        }
        let seen = self.log.partition_point(|change| change.version <= version);
        let news = self.log[seen..].iter();
        let news = news.filter(|change| change.resource == resource);
        let events = news.filter_map(|change| {
            let selected = |side: &Option<Arc<Value>>| {
                side.as_ref()
                    .filter(|object| selector.selects(object))
                    .cloned()
            };
            let (kind, object) = match (selected(&change.before), selected(&change.after)) {
                (None, None) => return None,
                (None, Some(object)) => ("ADDED", object),
                (Some(_), Some(object)) => ("MODIFIED", object),
                (Some(object), None) => ("DELETED", object),
            };
            let mut object = Value::clone(&object);
            object["metadata"]["resourceVersion"] = change.version.to_string().into();
            Some((change.version, kind, object))
        });
        Ok(events.collect())
    }
}

fn key(object: &Value) -> String {
    let (namespace, name) = place(object);
    format!("{}/{name}", namespace.unwrap_or_default())
}
