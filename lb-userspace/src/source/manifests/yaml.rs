//! One YAML document as a tree.
//!
//! serde-saphyr (YAML 1.2, kept, no unsafe, budgets against documents that blow up) tells the line of
//! every value through its `Spanned`; the rest is a serde visitor that takes whatever comes.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Spanned, budget, options};

use crate::source::objects::{
    problem::{Fault, Wrong},
    tree::{Node, Value},
};

/// Most nodes of one document: twenty million are far beyond the largest cluster's `kubectl get`, and
/// still stop a document that multiplies itself by aliases.
const NODE_LIMIT: usize = 20_000_000;

/// Parses the single document `text`, whose first line is line `first_line` of its file. `None` if
/// there is nothing but white space and comments in it.
pub(super) fn parse(text: &str, first_line: u32) -> Result<Option<Node>, Wrong> {
    let options = options! {
        budget: budget! { max_nodes: NODE_LIMIT, max_events: 2 * NODE_LIMIT },
        with_snippet: false,
    };
    let tree = serde_saphyr::from_str_with_options::<Option<Tree>>(text, options);
    let tree = tree.map_err(|error| {
        let line = error
            .location()
            .map_or(1, |location| narrow(location.line()));
        let line = line.max(1) + first_line - 1;
        Wrong::absent(line, "", Fault::Syntax(reason(&error)))
    })?;
    Ok(tree.map(|Tree(mut node)| {
        shift(&mut node, first_line - 1);
        node
    }))
}

/// The parser's message without its own idea of the line, which counts from the document's start, and without
/// its advice to programmers.
fn reason(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    // Options of the library are nothing a user of ours could set.
    let end = [" at line ", " (line ", ", set "]
        .iter()
        .filter_map(|mark| text.rfind(mark))
        .min();
    let text = end.map_or(text, |end| &text[..end]);
    match text.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest.to_owned(),
        _ => text.to_owned(),
    }
}

/// Adds `lines` to the line of every node.
fn shift(node: &mut Node, lines: u32) {
    node.line += lines;
    match &mut node.value {
        Value::List(entries) => entries.iter_mut().for_each(|entry| shift(entry, lines)),
        Value::Map(members) => members
            .iter_mut()
            .for_each(|(_, member)| shift(member, lines)),
        _ => {}
    }
}

/// A line number of serde-saphyr's as one of ours; files have fewer than 2^32 lines.
fn narrow(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

/// [`Node`] as serde-saphyr can make it.
struct Tree(Node);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Any>::deserialize(deserializer)?;
        Ok(Self(Node {
            line: narrow(spanned.referenced.line()),
            value: spanned.value.0,
        }))
    }
}

/// [`Value`] as serde can make it.
struct Any(Value);

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor).map(Self)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Tree(entry)) = seq.next_element()? {
            entries.push(entry);
        }
        Ok(Value::List(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, Tree(member))) = map.next_entry()? {
            members.push((key, member));
        }
        Ok(Value::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line_in_the_file() {
        let node = parse("# one\nspec:\n  ports:\n  - port: 80\n    name: 'on'\n", 11)
            .unwrap()
            .unwrap();
        let ports = node
            .find("spec")
            .and_then(|spec| spec.find("ports"))
            .unwrap();
        let port = &ports.list().unwrap()[0];
        assert_eq!(
            port.find("port"),
            Some(&Node {
                line: 14,
                value: Value::Int(80)
            })
        );
        let name = Node {
            line: 15,
            value: Value::Text("on".into()),
        };
        assert_eq!(port.find("name"), Some(&name));
    }

    #[test]
    fn nothing_but_comments_is_nothing() {
        for text in ["", "\n\n", "# nothing\n", "   \n# still\n"] {
            assert_eq!(parse(text, 1), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn syntax_errors_name_the_line() {
        for (text, line) in [
            ("a: 1\nb: [1, 2\nc: 3\n", 12..=14),
            ("a: 1\n\tb: 2\n", 11..=12),
            ("a: 1\na: 2\n", 12..=12),
            ("a: 'open\n", 11..=12),
        ] {
            let wrong = parse(text, 11).unwrap_err();
            assert!(line.contains(&wrong.line), "{text:?}: {wrong:?}");
            assert!(
                matches!(&wrong.fault, Fault::Syntax(why) if !why.contains("line")),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_document_that_multiplies_itself_is_an_error() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("a{level}: &a{level} [{below}]\n");
        }
        assert!(matches!(
            parse(&text, 1).unwrap_err().fault,
            Fault::Syntax(_)
        ));
    }
}
