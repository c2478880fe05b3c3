//! The rules between rooms, checked by text: what is deliberately absent where.
//!
//! docs/architecture.md says why; `RULES` is what is enforced. Text is enough: the rules are about
//! words, and a word in a comment or a string does not count.

mod code;
mod files;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

/// A rule: none of these words in these files.
pub(crate) struct Rule {
    /// Words or paths that may not occur, as whole words.
    words: &'static [&'static str],
    /// Files it is about: beginnings of paths; the empty one is all.
    rooms: &'static [&'static str],
    /// Exceptions to them.
    except: &'static [&'static str],
    /// Why, as the person who broke it reads it.
    why: &'static str,
}

/// All rules. Paths are relative to the root of the workspace; add rooms and exceptions here.
const RULES: &[Rule] = &[
    Rule {
        words: &["unsafe"],
        rooms: &[""],
        except: &[
            "lb-common/src/cursor.rs",
            "lb-common/src/headers.rs",
            "lb-common/src/tables.rs",
            "lb-common/src/flow.rs",
            "lb-common/src/pieces.rs",
            "lb-common/src/opaque.rs",
            "lb-common/src/join.rs",
            "lb-common/src/wide.rs",
            // A name of its own, which makes it a global function in the kernel.
            "lb-common/src/crc32c.rs",
            "lb-ebpf/src/",
            "lb-userspace/src/datapath/",
            "lb-userspace/src/datapath.rs",
            "xtask/src/lab/",
        ],
        why: "unsafe stays where packets, maps and processes are touched",
    },
    Rule {
        words: &["aya", "aya_ebpf", "aya_obj", "aya_log"],
        rooms: &[""],
        except: &[
            "lb-ebpf/",
            "lb-userspace/src/datapath/",
            "lb-userspace/src/datapath.rs",
            "lb-userspace/tests/",
            // Pod for the map types, behind a feature.
            "lb-common/src/tables.rs",
            "lb-common/src/flow.rs",
            "lb-common/src/pieces.rs",
        ],
        why: "only the datapath knows aya",
    },
    Rule {
        words: &[
            "std::fs",
            "std::time",
            "std::net::TcpStream",
            "tokio",
            "tracing",
            "aya",
            "k8s_openapi",
            "kube",
        ],
        rooms: &["lb-userspace/src/control/", "lb-userspace/src/model"],
        except: &[
            // Time is their argument; they never ask for it.
            "lb-userspace/src/control/backoff",
            "lb-userspace/src/control/reconcile",
        ],
        why: "the core is pure: no I/O, no clock, no logging, no Kubernetes",
    },
    Rule {
        words: &[
            "attach_with_options",
            "attach_to_link",
            "attach_to_if_index",
            "qdisc_add_clsact",
        ],
        rooms: &["lb-userspace/src/"],
        except: &["lb-userspace/src/datapath/attach"],
        why: "one place attaches programs",
    },
    Rule {
        words: &[
            "k8s_openapi",
            "kube_client",
            "kube_runtime",
            "kube::Api",
            "kube::Client",
            "kube::Config",
            "kube::Error",
            "kube::Resource",
            "kube::api",
            "kube::client",
            "kube::config",
            "kube::core",
            "kube::runtime",
        ],
        rooms: &[""],
        except: &[
            "lb-userspace/src/source/kube",
            "lb-userspace/src/source/mod.rs",
            "lb-userspace/tests/",
        ],
        why: "Kubernetes' own types stay in the kube source",
    },
    Rule {
        words: &["std::fs", "tokio", "serde_json", "comfy_table"],
        rooms: &["lb-common/src/"],
        except: &[],
        why: "lb-common is the contract and runs in the kernel",
    },
];

/// Checks every Rust file of the workspace.
///
/// # Errors
/// Lists all that break a rule, one a line.
pub fn check(root: &Path) -> Result<()> {
    let mut broken = Vec::new();
    for path in files::rust_files(root)? {
        let text = fs::read_to_string(root.join(&path)).with_context(|| path.clone())?;
        broken.extend(files::check(&path, &text));
        broken.extend(check_words(RULES, &path, &text));
    }
    if !broken.is_empty() {
        bail!("{} rules broken\n{}", broken.len(), broken.join("\n"));
    }
    Ok(())
}

/// What of `rules` the file `path` breaks.
fn check_words(rules: &[Rule], path: &str, text: &str) -> Vec<String> {
    let code = code::without_comments_and_strings(text);
    let mut broken = Vec::new();
    let rules = rules
        .iter()
        .filter(|rule| is_in(rule.rooms, path) && !is_in(rule.except, path));
    for rule in rules {
        for (number, line) in code.lines().enumerate() {
            for word in rule.words.iter().filter(|word| code::has_word(line, word)) {
                broken.push(format!("{path}:{}: {word}: {}", number + 1, rule.why));
            }
        }
    }
    broken
}

/// Whether `path` begins with one of `rooms`.
fn is_in(rooms: &[&str], path: &str) -> bool {
    rooms.iter().any(|room| path.starts_with(room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_rules_find_what_they_forbid() {
        let cases = [
            ("lb-userspace/src/cli/explain.rs", "unsafe { go() }", 1),
            ("lb-userspace/src/datapath/batch.rs", "unsafe { go() }", 0),
            ("lb-userspace/src/cli/mod.rs", "use aya::maps::HashMap;", 1),
            (
                "lb-userspace/src/control/plan.rs",
                "let t = std::time::Instant::now();",
                1,
            ),
            (
                "lb-userspace/src/control/plan/diff.rs",
                "tracing::info!();",
                1,
            ),
            (
                "lb-userspace/src/control/reconcile.rs",
                "tracing::info!();",
                0,
            ),
            (
                "lb-userspace/src/control/index.rs",
                "use std::{fs, time::Instant};",
                2,
            ),
            (
                "lb-userspace/src/source/kube.rs",
                "use k8s_openapi::api;",
                0,
            ),
            (
                "lb-userspace/src/source/manifests.rs",
                "use k8s_openapi::api;",
                1,
            ),
            (
                "lb-userspace/src/cli/mod.rs",
                "// unsafe aya kube\nlet s = \"unsafe aya\";",
                0,
            ),
            (
                "lb-userspace/src/cli/mod.rs",
                "#![forbid(unsafe_code)] // one word",
                0,
            ),
        ];
        for (path, text, expected) in cases {
            let broken = check_words(RULES, path, text);
            assert_eq!(broken.len(), expected, "{path}: {text}: {broken:?}");
        }
    }

    #[test]
    fn message_names_file_line_word_and_reason() {
        let broken = check_words(
            RULES,
            "lb-userspace/src/main.rs",
            "fn main() {}\n\nunsafe impl X {}\n",
        );
        assert_eq!(
            broken,
            [
                "lb-userspace/src/main.rs:3: unsafe: unsafe stays where packets, maps and processes are touched"
            ]
        );
    }
}
