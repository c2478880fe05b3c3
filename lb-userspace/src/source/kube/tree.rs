//! What the API server sends, as the same tree of fields that manifests become.
//!
//! It is read straight from the stream of tokens, without a `serde_json::Value` between, and what no reader
//! ever asks for is skipped on the way: `managedFields` alone is half of an object, a node's images are ten
//! kilobytes. There are no lines to name; 0 stands in their place.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::source::objects::tree::{Node, Value};

/// Members that are skipped, each below the member or list it stands in.
const UNUSED: [(&str, &str); 9] = [
    ("metadata", "managedFields"),
    ("metadata", "ownerReferences"),
    ("metadata", "finalizers"),
    ("endpoints", "targetRef"),
    ("endpoints", "zone"),
    ("status", "conditions"),
    ("status", "images"),
    ("status", "nodeInfo"),
    ("status", "volumesAttached"),
];
/// An annotation that says everything once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The tree of the next value.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
    Below("").deserialize(deserializer)
}

/// Reads a value that stands below the member of that name.
struct Below<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Below<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what a visitor's methods have to return"
)]
fn leaf<E>(value: Value) -> Result<Node, E> {
    Ok(Node { line: 0, value })
}

impl<'de> Visitor<'de> for Below<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        leaf(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        leaf(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        leaf(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        leaf(Value::Int(value))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "no field holds such a number; messages show it nearly"
    )]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        leaf(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        leaf(Value::Float(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        leaf(Value::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Node, E> {
        leaf(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut entries = Vec::with_capacity(list.size_hint().unwrap_or(0));
        while let Some(entry) = list.next_element_seed(Below(self.0))? {
            entries.push(entry);
        }
        leaf(Value::List(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members: Vec<(String, Node)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == LAST_APPLIED || UNUSED.contains(&(self.0, &name)) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value_seed(Below(&name))?;
            members.push((name, value));
        }
        leaf(Value::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_unused_is_read() {
        let text = r#"{"kind": "Service", "metadata": {"name": "a", "managedFields": [{"x": {}}]},
            "spec": {"ports": [{"port": 80}], "a": true, "b": null, "c": 1.5, "d": -1, "e": 18446744073709551615,
            "managedFields": 1}}"#;
        let tree = read(&mut serde_json::Deserializer::from_str(text)).unwrap();
        let metadata = tree.find("metadata").unwrap();
        assert_eq!(metadata.map().unwrap().len(), 1, "{metadata:?}");
        let spec = tree.find("spec").unwrap();
        let shown = |name: &str| spec.find(name).and_then(Node::shown);
        assert_eq!(shown("a").as_deref(), Some("true"));
        assert_eq!(shown("b"), None);
        assert_eq!(shown("c").as_deref(), Some("1.5"));
        assert_eq!(shown("d").as_deref(), Some("-1"));
        assert!(matches!(spec.find("e").unwrap().value, Value::Float(_)));
        assert_eq!(
            shown("managedFields").as_deref(),
            Some("1"),
            "only below metadata is it unused"
        );
        let ports = spec.find("ports").unwrap().list().unwrap();
        assert_eq!(ports[0].find("port").unwrap().value, Value::Int(80));
    }
}
