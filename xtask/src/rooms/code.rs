//! Rust source as words: comments and literals blanked out, imports spelt in full.
//!
//! Not a parser. It knows just enough of the language not to be fooled by what people write.

/// `text` with comments, strings and characters replaced by spaces; lines stay lines.
pub(super) fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(
                chars[at..end]
                    .iter()
                    .map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    spell_imports(&out)
}

/// Where the comment or literal that begins at `at` ends; `at` if none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let starts = |text: &str| {
        text.chars()
            .enumerate()
            .all(|(i, c)| rest.get(i) == Some(&c))
    };
    let until = |found: Option<usize>| found.map_or(chars.len(), |length| at + length);
    if starts("//") {
        return until(rest.iter().position(|c| *c == '\n'));
    }
    if starts("/*") {
        return until(block_comment(rest));
    }
    let word_before = at > 0 && is_word(chars[at - 1]);
    if !word_before && (starts("r\"") || starts("r#")) {
        let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
        if rest.get(1 + hashes) == Some(&'"') {
            let close: Vec<char> = std::iter::once('"')
                .chain(std::iter::repeat_n('#', hashes))
                .collect();
            let body = &rest[hashes + 2..];
            let end = body.windows(close.len()).position(|window| window == close);
            return until(end.map(|end| hashes + 2 + end + close.len()));
        }
    }
    match rest {
        ['"', ..] => until(quoted(rest, '"')),
        // A lifetime has no closing quote after one character.
        ['\'', '\\', ..] => until(quoted(rest, '\'')),
        ['\'', _, '\'', ..] => at + 3,
        _ => at,
    }
}

/// Length of a block comment, which may contain others.
fn block_comment(chars: &[char]) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Length of a literal between `quote`s, escapes honoured.
fn quoted(chars: &[char], quote: char) -> Option<usize> {
    let mut at = 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// Puts `std::fs` after `use std::{fs, ...}` where `fs` stands, so that words can be found by path.
fn spell_imports(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    // One entry per open brace: the path before it, if it is the brace of an import.
    let mut open: Vec<Option<String>> = Vec::new();
    let (mut path, mut in_use, mut fresh) = (String::new(), false, true);
    for word in tokens(code) {
        match word {
            "use" => (in_use, path, fresh) = (true, String::new(), true),
            ";" => (in_use, fresh) = (false, true),
            "{" => {
                open.push(in_use.then(|| path.clone()));
                fresh = true;
            }
            "}" => {
                open.pop();
            }
            "," => {
                (path, fresh) = (
                    open.iter().flatten().last().cloned().unwrap_or_default(),
                    true,
                )
            }
            _ if in_use && !word.trim().is_empty() => {
                if fresh && is_word_text(word) && open.last().is_some_and(Option::is_some) {
                    out.push_str(&path);
                }
                path.push_str(word);
                fresh = false;
            }
            _ => {}
        }
        out.push_str(word);
    }
    out
}

/// Words and single other characters, nothing left out.
fn tokens(code: &str) -> impl Iterator<Item = &str> {
    let mut rest = code;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        Some(token)
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_word_text(text: &str) -> bool {
    text.chars().next().is_some_and(is_word)
}

/// Whether `line` contains `word`, or a path that begins with it, not as a part of another word and not
/// as the end of another path.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let inside_path = line[..at].ends_with("::") && !line[..at].ends_with(" ::");
        !before.is_some_and(is_word) && !after.is_some_and(is_word) && !inside_path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank_and_lines_stay() {
        let code = "a // unsafe\nb /* unsafe /* x */\n unsafe */ c \"un\\\"safe\" r#\"unsafe\"# '\"' '\\'' d<'a>";
        let blank = without_comments_and_strings(code);
        assert_eq!(blank.lines().count(), 3);
        let words: Vec<&str> = blank.split_whitespace().collect();
        assert_eq!(words, ["a", "b", "c", "d<'a>"]);
    }

    #[test]
    fn imports_in_braces_are_found_by_path() {
        let code = without_comments_and_strings(
            "use std::{\n    fs::{self, File},\n    io,\n    time::Duration,\n};\nstruct A { fs: u8 }",
        );
        let found = |word| code.lines().position(|line| has_word(line, word));
        assert_eq!(found("std::fs"), Some(1));
        assert_eq!(found("std::io"), Some(2));
        assert_eq!(found("std::time"), Some(3));
        assert_eq!(found("fs"), Some(5));
    }

    #[test]
    fn words_are_whole_and_paths_are_from_their_beginning() {
        assert!(has_word("use aya::Ebpf;", "aya"));
        assert!(has_word("::aya::Ebpf", "aya") || has_word(" ::aya::Ebpf", "aya"));
        assert!(!has_word("use himalaya::x;", "aya"));
        assert!(!has_word("aya_log::x", "aya"));
        assert!(!has_word("crate::source::kube::watch()", "kube"));
        assert!(has_word("x = unsafe{ y }", "unsafe"));
    }
}
