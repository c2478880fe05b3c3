//! An object as it comes over the wire: the model's noun and what the watch itself needs, nothing else.
//!
//! The tree of fields lives for one object at a time, so that a page of a list is held as the model from the
//! start. A reader that finds something wrong is no error of the stream: one bad object must not keep a
//! thousand good ones from arriving, so what is wrong is carried in the object's place.

use std::{borrow::Cow, fmt};

use ::kube::{Resource, core::ObjectMeta};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{kinds::Watched, tree};
use crate::{model::ObjectKey, source::objects::problem::Wrong};

/// An object of the kind `W`.
#[derive(Clone, Debug)]
pub(super) struct Object<W: Watched> {
    meta: ObjectMeta,
    /// Its name; without namespace for kinds that have none.
    pub(super) key: ObjectKey,
    /// What it says.
    pub(super) said: Said<W::Model>,
    /// Parts of it that cannot be and were left out.
    pub(super) skipped: Vec<Wrong>,
}

/// What an object says.
#[derive(Clone, Debug)]
pub(super) enum Said<M> {
    /// This.
    Model(M),
    /// Nothing that concerns us (rules 3, 13, 14).
    Nothing,
    /// Something that cannot be.
    Wrong(Box<Wrong>),
}

impl<W: Watched> Object<W> {
    /// `metadata.resourceVersion` as a number, which it is wherever Kubernetes stores objects in etcd
    /// (KEP-5504); `None` elsewhere.
    pub(super) fn version(&self) -> Option<u64> {
        self.meta.resource_version.as_deref()?.parse().ok()
    }
}

impl<'de, W: Watched> Deserialize<'de> for Object<W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tree = tree::read(deserializer)?;
        let metadata = tree.find("metadata");
        let text = |name| Some(metadata?.find(name)?.text().ok()?.to_owned());
        let Some(name) = text("name") else {
            // A List or a Status in an object's place: not what was asked for.
            return Err(D::Error::custom("an object without metadata.name"));
        };
        let meta = ObjectMeta {
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        let key = ObjectKey::new(text("namespace").unwrap_or_default(), name);
        let mut skipped = Vec::new();
        let said = match W::read(&tree, &key, &mut skipped) {
            Ok(Some(model)) => Said::Model(model),
            Ok(None) => Said::Nothing,
            Err(wrong) => Said::Wrong(Box::new(wrong)),
        };
        Ok(Self {
            meta,
            key,
            said,
            skipped,
        })
    }
}

impl<W: Watched + fmt::Debug> Resource for Object<W> {
    type DynamicType = ();
    type Scope = W::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        W::NAME.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        W::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        W::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::{super::kinds::Services, *};

    fn parse(text: &str) -> Result<Object<Services>, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_bad_object_is_an_object_all_the_same() {
        let object = parse(
            r#"{"metadata": {"namespace": "default", "name": "web", "resourceVersion": "7"},
                "spec": {"clusterIP": "10.96.0.300", "ports": [{"port": 80}]}}"#,
        )
        .unwrap();
        assert_eq!(object.key, ObjectKey::new("default", "web"));
        assert_eq!(object.version(), Some(7));
        let Said::Wrong(wrong) = object.said else {
            panic!("{object:?}");
        };
        assert_eq!(wrong.field, "spec.clusterIP");
    }

    #[test]
    fn what_has_no_name_is_no_object() {
        assert!(parse(r#"{"kind": "Status", "metadata": {}, "code": 410}"#).is_err());
        assert!(parse("[]").is_err());
    }
}
