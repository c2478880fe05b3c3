//! `--config`: a `KubeProxyConfiguration` from a file, YAML or JSON (which is YAML, too).
//!
//! What is wrong in the file is an error with line, key and value; a key that nobody knows is only told, as
//! kube-proxy does (it falls back to lenient decoding), so that a newer or older kube-proxy's file
//! starts this agent.

use std::path::{Path, PathBuf};

use super::kube_proxy::KubeProxyConfiguration;

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("--config {path}: {reason}", path = .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        reason: std::io::Error,
    },
    /// A value is not what its key wants, or the text is no YAML.
    #[error("--config {path}: line {line}: {key}{reason} in `{text}`", path = .path.display(), key = prefix(.key))]
    Value {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The key with those above it; empty for the text as such.
        key: String,
        /// What was wanted.
        reason: String,
        /// The line, as it is.
        text: String,
    },
    /// It says that it is something else.
    #[error("--config {path}: {key} is {value:?}, not {wanted:?}", path = .path.display())]
    OtherObject {
        /// Which file.
        path: PathBuf,
        /// `apiVersion` or `kind`.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it would have to say.
        wanted: &'static str,
    },
}

fn prefix(key: &str) -> String {
    match key {
        "" | "." => String::new(),
        key => format!("{key}: "),
    }
}

/// What a file says.
#[derive(Debug)]
pub struct ConfigFile {
    /// The configuration, nothing filled in.
    pub proxy: KubeProxyConfiguration,
    /// Keys that are not part of it, in the order of the file.
    pub unknown: Vec<String>,
}

impl ConfigFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|reason| FileError::Unreadable {
            path: path.to_owned(),
            reason,
        })?;
        Self::parse(path, &text)
    }

    /// Takes `text` as the contents of the file at `path`.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let options = serde_saphyr::options! { with_snippet: false };
        let parsed = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
            let tracked = serde_path_to_error::Deserializer::new(yaml, &mut track);
            serde_ignored::deserialize(tracked, |key| {
                // `?` is where a value stands that might be absent.
                unknown.push(key.to_string().replace(".?", ""));
            })
        });
        let proxy: KubeProxyConfiguration = parsed.map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let index = usize::try_from(line).unwrap_or(1).saturating_sub(1);
            FileError::Value {
                path: path.to_owned(),
                line: line.max(1),
                key: track.path().to_string(),
                reason: reason(&error),
                text: text
                    .lines()
                    .nth(index)
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            }
        })?;
        for (key, value, wanted) in [
            ("apiVersion", &proxy.api_version, API_VERSION),
            ("kind", &proxy.kind, KIND),
        ] {
            if value.as_deref() != Some(wanted) {
                return Err(FileError::OtherObject {
                    path: path.to_owned(),
                    key,
                    value: value.clone().unwrap_or_default(),
                    wanted,
                });
            }
        }
        Ok(Self { proxy, unknown })
    }
}

/// The parser's message without its own words about the place, which we say ourselves.
fn reason(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let end = [" at line ", " (line "]
        .iter()
        .filter_map(|mark| text.rfind(mark))
        .min();
    let text = end.map_or(text, |end| &text[..end]);
    match text.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest.to_owned(),
        _ => text.to_owned(),
    }
}
