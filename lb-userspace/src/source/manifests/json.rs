//! JSON documents as trees.
//!
//! serde_json does not tell lines, but its `RawValue` borrows from the text: where a value starts in the
//! text gives its line. Each level of nesting scans its part of the text once more, which for the five
//! or six levels of a Kubernetes object still takes milliseconds per megabyte.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::source::objects::{
    problem::{Fault, Wrong},
    tree::{Node, Value},
};

/// Deepest nesting; the YAML parser has the same limit.
const DEPTH_LIMIT: usize = 64;

/// Parses the JSON documents that `text` holds, one after another, from line `first_line` of the file on.
pub(super) fn parse(text: &str, first_line: u32) -> Result<Vec<Node>, Wrong> {
    let mut lines = Lines {
        text,
        offset: 0,
        line: first_line,
        depth: 0,
    };
    serde_json::Deserializer::from_str(text)
        .into_iter::<&RawValue>()
        .map(|raw| lines.node(raw.map_err(|error| wrong(&error, first_line))?))
        .collect()
}

/// Where in `text` we are: nodes are visited from front to back, so lines are counted once.
struct Lines<'a> {
    text: &'a str,
    offset: usize,
    line: u32,
    depth: usize,
}

impl<'a> Lines<'a> {
    /// The tree of `raw`, a part of the text.
    fn node(&mut self, raw: &'a RawValue) -> Result<Node, Wrong> {
        let json = raw.get();
        let offset = json.as_ptr().addr() - self.text.as_ptr().addr();
        let passed = &self.text.as_bytes()[self.offset..offset];
        for &byte in passed {
            self.line += u32::from(byte == b'\n');
        }
        self.offset = offset;
        let line = self.line;
        if self.depth == DEPTH_LIMIT {
            let reason = format!("nested more than {DEPTH_LIMIT} levels deep");
            return Err(Wrong::absent(line, "", Fault::Syntax(reason)));
        }
        self.depth += 1;
        let value = match json.as_bytes()[0] {
            b'{' => {
                let Members(members) = self.read(json)?;
                let nodes = members
                    .into_iter()
                    .map(|(key, raw)| Ok((key, self.node(raw)?)));
                Value::Map(nodes.collect::<Result<_, Wrong>>()?)
            }
            b'[' => {
                let entries: Vec<&RawValue> = self.read(json)?;
                Value::List(
                    entries
                        .into_iter()
                        .map(|raw| self.node(raw))
                        .collect::<Result<_, _>>()?,
                )
            }
            b'"' => Value::Text(self.read(json)?),
            b't' | b'f' => Value::Bool(self.read(json)?),
            b'n' => Value::Null,
            _ => match json.parse() {
                Ok(number) => Value::Int(number),
                Err(_) => Value::Float(self.read(json)?),
            },
        };
        self.depth -= 1;
        Ok(Node { line, value })
    }

    /// `json`, which begins at the current line, as a `T`.
    fn read<T: Deserialize<'a>>(&self, json: &'a str) -> Result<T, Wrong> {
        serde_json::from_str(json).map_err(|error| wrong(&error, self.line))
    }
}

/// The parser's message without its own idea of the line.
fn wrong(error: &serde_json::Error, first_line: u32) -> Wrong {
    let line = u32::try_from(error.line()).unwrap_or(u32::MAX).max(1);
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let reason = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    Wrong::absent(line + first_line - 1, "", Fault::Syntax(reason))
}

/// The members of an object, unparsed.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Self::Value = Vec::new();
        let mut seen = std::collections::HashSet::new();
        while let Some((key, raw)) = map.next_entry::<String, &RawValue>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            members.push((key, raw));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line_in_the_file() {
        let text = "{\n  \"a\": [1,\n    {\"b\": \"x\\n\"}],\n  \"c\": null,\n  \"d\": 1.5, \"e\": true\n}";
        let nodes = parse(text, 11).unwrap();
        let a = nodes[0].find("a").unwrap().list().unwrap();
        assert_eq!(
            a[0],
            Node {
                line: 12,
                value: Value::Int(1)
            }
        );
        assert_eq!(
            a[1].find("b"),
            Some(&Node {
                line: 13,
                value: Value::Text("x\n".into())
            })
        );
        assert_eq!(
            nodes[0].find("d"),
            Some(&Node {
                line: 15,
                value: Value::Float(1.5)
            })
        );
        assert_eq!(
            nodes[0].find("e"),
            Some(&Node {
                line: 15,
                value: Value::Bool(true)
            })
        );
    }

    #[test]
    fn several_objects_may_follow_each_other() {
        let nodes = parse("{\"a\": 1}\n{\"a\": 2}\n", 1).unwrap();
        assert_eq!(
            nodes.iter().map(|node| node.line).collect::<Vec<_>>(),
            [1, 2]
        );
    }

    #[test]
    fn syntax_errors_name_the_line() {
        for (text, line) in [
            ("{\n\"a\": 1,\n}", 13),
            ("{\n\"a\": [1\n", 13),
            ("{\n\"a\": 1,\n\"a\": 2}", 13),
        ] {
            let wrong = parse(text, 11).unwrap_err();
            assert!(
                matches!(&wrong.fault, Fault::Syntax(why) if !why.contains("line")),
                "{wrong:?}"
            );
            assert_eq!(wrong.line, line, "{text:?}");
        }
    }

    #[test]
    fn bottomless_nesting_is_an_error() {
        let wrong = parse(
            &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
            1,
        )
        .unwrap_err();
        assert!(matches!(wrong.fault, Fault::Syntax(_)));
    }
}
