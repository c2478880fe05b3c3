//! A document as a tree whose every node knows its line.
//!
//! Objects are read from this tree and not by serde straight into structs, so that one bad object of a
//! List does not lose the others, and every message can name line, field path and value, for YAML and
//! JSON alike. The readers are closures that get a node: the path is only put together when one fails.

use super::problem::{Fault, Wrong};

/// A value with its line.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::source) struct Node {
    /// Line on which the value begins, counted from 1 in its file.
    pub(in crate::source) line: u32,
    /// The value.
    pub(in crate::source) value: Value,
}

/// What YAML and JSON have in common.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::source) enum Value {
    /// `null`, or nothing after a key.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the document; keys are unique.
    Map(Vec<(String, Node)>),
}

/// A parsed value and the line it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) struct At<T> {
    /// Line, counted from 1.
    pub(in crate::source) line: u32,
    /// The value.
    pub(in crate::source) value: T,
}

impl Node {
    /// The member `name` of a map; null counts as absent, as it does for Kubernetes.
    pub(in crate::source) fn find(&self, name: &str) -> Option<&Self> {
        let Value::Map(members) = &self.value else {
            return None;
        };
        let (_, node) = members.iter().find(|(key, _)| key == name)?;
        (node.value != Value::Null).then_some(node)
    }

    /// Reads the member `name`, if it is there.
    pub(in crate::source) fn field<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Self) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        self.find(name)
            .map(read)
            .transpose()
            .map_err(|wrong| wrong.under(name))
    }

    /// Reads the member `name`, which must be there.
    pub(in crate::source) fn required<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Self) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        self.field(name, read)?
            .ok_or_else(|| Wrong::absent(self.line, name, Fault::Missing))
    }

    /// Reads the member `name` as a list, each entry by `read`; absent is empty.
    pub(in crate::source) fn entries<T>(
        &self,
        name: &str,
        mut read: impl FnMut(&Self) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        let list = self.field(name, |node| {
            let entries = node.list()?;
            let read = entries.iter().enumerate().map(|(index, entry)| {
                read(entry).map_err(|wrong| wrong.under(&format!("[{index}]")))
            });
            read.collect::<Result<Vec<T>, Wrong>>()
        })?;
        Ok(list.unwrap_or_default())
    }

    /// Reads the member `name` as a list whose entries stand for themselves: what is wrong with one goes
    /// to `skipped`, and the others count. Only a member that is no list at all is an error.
    pub(in crate::source) fn sound_entries<T>(
        &self,
        name: &str,
        skipped: &mut Vec<Wrong>,
        mut read: impl FnMut(&Self) -> Result<Option<T>, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        let list = self.field(name, |node| {
            let mut sound = Vec::new();
            for (index, entry) in node.list()?.iter().enumerate() {
                match read(entry) {
                    Ok(value) => sound.extend(value),
                    Err(wrong) => skipped.push(wrong.under(&format!("[{index}]")).under(name)),
                }
            }
            Ok(sound)
        })?;
        Ok(list.unwrap_or_default())
    }

    /// Reads a label, or an annotation with `kind` "annotations", of an object.
    pub(in crate::source) fn meta<T>(
        &self,
        kind: &str,
        name: &str,
        read: impl FnOnce(&Self) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        let found = self.field("metadata", |metadata| {
            metadata.field(kind, |members| members.field(name, read))
        })?;
        Ok(found.flatten().flatten())
    }

    /// The entries of a list.
    pub(in crate::source) fn list(&self) -> Result<&[Self], Wrong> {
        match &self.value {
            Value::List(entries) => Ok(entries),
            _ => Err(Wrong::new(self, Fault::Not("a list"))),
        }
    }

    /// The members of a map.
    pub(in crate::source) fn map(&self) -> Result<&[(String, Self)], Wrong> {
        match &self.value {
            Value::Map(members) => Ok(members),
            _ => Err(Wrong::new(self, Fault::Not("a map"))),
        }
    }

    /// The text of a string.
    pub(in crate::source) fn text(&self) -> Result<&str, Wrong> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => Err(Wrong::new(self, Fault::Not("text"))),
        }
    }

    /// A boolean.
    pub(in crate::source) fn bool(&self) -> Result<bool, Wrong> {
        match self.value {
            Value::Bool(value) => Ok(value),
            _ => Err(Wrong::new(self, Fault::Not("true or false"))),
        }
    }

    /// `value` with this node's line.
    pub(in crate::source) const fn at<T>(&self, value: T) -> At<T> {
        At {
            line: self.line,
            value,
        }
    }

    /// The value as a message shows it; `None` for null and for what is too long to show.
    pub(in crate::source) fn shown(&self) -> Option<String> {
        match &self.value {
            Value::Null | Value::List(_) => None,
            Value::Map(_) => Some("a map".to_owned()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(value.to_string()),
            Value::Text(value) => Some(format!("{value:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(line: u32, value: Value) -> Node {
        Node { line, value }
    }

    #[test]
    fn errors_name_the_path_line_and_value() {
        let port = leaf(
            4,
            Value::Map(vec![("port".into(), leaf(5, Value::Int(70_000)))]),
        );
        let ports = leaf(4, Value::List(vec![port]));
        let spec = leaf(3, Value::Map(vec![("ports".into(), ports)]));
        let object = leaf(1, Value::Map(vec![("spec".into(), spec)]));
        let wrong = object
            .field("spec", |spec| {
                spec.entries("ports", |port| {
                    port.required("port", |n| n.text().map(str::to_owned))
                })
            })
            .unwrap_err();
        assert_eq!(
            (wrong.line, wrong.field.as_str()),
            (5, "spec.ports[0].port")
        );
        assert_eq!(wrong.value.as_deref(), Some("70000"));
    }

    #[test]
    fn null_is_absent() {
        let object = leaf(1, Value::Map(vec![("spec".into(), leaf(2, Value::Null))]));
        assert_eq!(object.find("spec"), None);
        let wrong = object.required("spec", Node::bool).unwrap_err();
        assert_eq!((wrong.line, wrong.fault), (1, Fault::Missing));
    }
}
