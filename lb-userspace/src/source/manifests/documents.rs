//! A file cut into documents, so that one that does not parse leaves its neighbours alone.
//!
//! In YAML a line that begins with `---` ends a document wherever it stands, and in JSON no such line
//! can occur, so the cut needs no parser.

use std::path::Path;

use super::{json, yaml};
use crate::source::objects::{problem::Wrong, tree::Node};

/// The documents of the file `name` with content `text`, each parsed or not.
pub(super) fn parse(name: &str, text: &str) -> Vec<Result<Node, Wrong>> {
    let only_json = Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "json");
    let mut documents = Vec::new();
    for (first_line, text) in split(text) {
        if only_json || text.trim_start().starts_with('{') {
            match json::parse(text, first_line) {
                Ok(nodes) => documents.extend(nodes.into_iter().map(Ok)),
                // `{kind: Service}` is YAML as well; if it is neither, the message is about JSON.
                Err(wrong) => match yaml::parse(text, first_line) {
                    Ok(node) if !only_json => documents.extend(node.map(Ok)),
                    _ => documents.push(Err(wrong)),
                },
            }
        } else {
            documents.extend(yaml::parse(text, first_line).transpose());
        }
    }
    documents
}

/// The documents with the line each begins on.
fn split(text: &str) -> Vec<(u32, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let (mut offset, mut number) = (0, 1);
    for line in text.split_inclusive('\n') {
        let marker = is_marker(line);
        if marker || is_directive(line) && is_blank(&text[start..offset]) {
            documents.push((first_line, &text[start..offset]));
            // What follows `---` on its line belongs to the document; a directive is dropped.
            start = offset + if marker { 3 } else { line.len() };
            first_line = if marker { number } else { number + 1 };
        }
        offset += line.len();
        number += 1;
    }
    documents.push((first_line, &text[start..]));
    documents.retain(|(_, text)| !is_blank(text));
    documents
}

/// Whether `line` begins or ends a document: `---` or `...`, then white space or nothing.
fn is_marker(line: &str) -> bool {
    let rest = line
        .strip_prefix("---")
        .or_else(|| line.strip_prefix("..."));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether `line` is a YAML directive, provided nothing of a document stands before it.
fn is_directive(line: &str) -> bool {
    line.starts_with('%')
}

/// Whether there is nothing but white space and comments in `text`.
fn is_blank(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_at_markers() {
        for (text, documents) in [
            ("", vec![]),
            ("---\n---\n# only a comment\n", vec![]),
            ("a: 1\n", vec![(1, "a: 1\n")]),
            ("---\na: 1\n---\nb: 2", vec![(1, "\na: 1\n"), (3, "\nb: 2")]),
            (
                "--- {a: 1}\n--- # two\nb: 2\n",
                vec![(1, " {a: 1}\n"), (2, " # two\nb: 2\n")],
            ),
            (
                "%YAML 1.2\n---\na: 1\n...\n---\nb: 2\n",
                vec![(2, "\na: 1\n"), (5, "\nb: 2\n")],
            ),
            (
                "a: |\n  ---\n---x: 1\n",
                vec![(1, "a: |\n  ---\n---x: 1\n")],
            ),
            (
                "\u{feff}a: 1\r\n---\r\nb: 2\r\n",
                vec![(1, "a: 1\r\n"), (2, "\r\nb: 2\r\n")],
            ),
        ] {
            assert_eq!(split(text), documents, "{text:?}");
        }
    }

    #[test]
    fn a_bad_document_leaves_its_neighbours_alone() {
        let parsed = parse("x.yaml", "a: 1\n---\nb: [\n---\nc: 3\n");
        assert_eq!(
            parsed.iter().map(Result::is_ok).collect::<Vec<_>>(),
            [true, false, true]
        );
        assert_eq!(parsed[2].as_ref().unwrap().line, 5);
    }

    #[test]
    fn a_document_in_braces_may_be_json_or_yaml() {
        for text in [
            "{\"kind\": \"Service\"}",
            "{kind: Service}",
            "# c\n{kind: Service}\n",
        ] {
            let parsed = parse("x.yaml", text);
            assert_eq!(
                parsed[0].as_ref().unwrap().find("kind").unwrap().text(),
                Ok("Service")
            );
        }
        assert!(parse("x.json", "{kind: Service}")[0].is_err());
    }
}
