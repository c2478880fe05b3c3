//! What is wrong with a manifest, as data.
//!
//! A [`Problem`] is what the user reads: where, which object, which field, which value, and a [`Fault`]
//! that says why in a form code can match on. Parsers deeper down know neither file nor object; they
//! return a [`Wrong`], which collects the field path on its way up and becomes a problem at the top.

use std::fmt;

use ipnet::IpNet;
use lb_common::address::Family;

use super::tree::Node;
use crate::model::ObjectKey;

/// Longest value that is repeated in a message, in characters.
const VALUE_LIMIT: usize = 60;

/// Something in a manifest that keeps an object, or a whole document, from being taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, with the directory as it was given.
    pub file: String,
    /// The line, counted from 1; `None` when the file as a whole is concerned.
    pub line: Option<u32>,
    /// The object, as far as it is known.
    pub object: Option<Subject>,
    /// Path of the field, such as `spec.ports[0].port`; empty when no single field is to blame.
    pub field: String,
    /// The value found there; `None` if there is none.
    pub value: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

impl Problem {
    /// A problem of a whole file.
    pub(in crate::source) fn of_file(file: String, fault: Fault) -> Self {
        Self {
            file,
            line: None,
            object: None,
            field: String::new(),
            value: None,
            fault,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        if let Some(value) = &self.value {
            write!(f, "{value} ")?;
        }
        write!(f, "{}", self.fault)
    }
}

impl std::error::Error for Problem {}

/// Kind and name of the object a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// `kind` as it is written in the manifest.
    pub kind: &'static str,
    /// Namespace and name.
    pub key: ObjectKey,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// Why something is a problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// The document is neither YAML nor JSON.
    #[error("does not parse: {0}")]
    Syntax(String),
    /// A field that must be there is not.
    #[error("missing")]
    Missing,
    /// The value is not of the right kind; the text says of which.
    #[error("is not {0}")]
    Not(&'static str),
    /// The value stands twice where it must be unique.
    #[error("is there twice")]
    Duplicate,
    /// The field may not be set together with what else the object says.
    #[error("does not go with {0}")]
    Contradiction(String),
    /// The address is not of the family that stands at its place.
    #[error("is not an {0} address")]
    WrongFamily(Family),
    /// No address can carry this kind of traffic to an endpoint or Service.
    #[error("is {0}, which cannot be served")]
    Special(&'static str),
    /// The same object is defined elsewhere already, and that one counts.
    #[error("is defined in {first} already; that one stays in force")]
    DefinedTwice {
        /// `file:line` of the definition that counts.
        first: String,
    },
    /// The address lies outside the Service range of its family.
    #[error("is outside the service range {0}")]
    OutOfRange(IpNet),
    /// The address is the range's network or broadcast address.
    #[error("is the network or broadcast address of the service range {0}")]
    Unusable(IpNet),
    /// Another Service has the address.
    #[error("is taken by Service {0}")]
    Taken(ObjectKey),
    /// The family has no Service range.
    #[error("is not possible: --service-cluster-ip-range has no {0} range")]
    NoRangeOf(Family),
    /// Two families are needed, and there is one range.
    #[error("is not possible: --service-cluster-ip-range has no second range")]
    NotDualStack,
    /// An address must be assigned, and there is no range at all.
    #[error("missing, and no address can be assigned without --service-cluster-ip-range")]
    NoRange,
    /// Every address of the range is taken.
    #[error("missing, and the service range {0} has no free address left")]
    Exhausted(IpNet),
    /// What the API server says, or what is wrong on the way to it.
    #[error("{0}")]
    Server(String),
    /// The field may not change during the object's life.
    #[error("cannot be changed from {was}; delete the Service and create it anew")]
    Immutable {
        /// The value in force.
        was: String,
    },
}

/// A fault and where in its document it is; file and object are added further up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) struct Wrong {
    /// Line, counted from 1.
    pub(in crate::source) line: u32,
    /// Field path so far, outermost first.
    pub(in crate::source) field: String,
    /// The value found.
    pub(in crate::source) value: Option<String>,
    /// What is wrong.
    pub(in crate::source) fault: Fault,
}

impl Wrong {
    /// `fault` with the value of `node`.
    pub(in crate::source) fn new(node: &Node, fault: Fault) -> Self {
        Self {
            line: node.line,
            field: String::new(),
            value: node.shown().map(shorten),
            fault,
        }
    }

    /// `fault` with a value that has been parsed already.
    pub(in crate::source) fn of(
        line: u32,
        field: impl Into<String>,
        value: impl ToString,
        fault: Fault,
    ) -> Self {
        Self {
            line,
            field: field.into(),
            value: Some(shorten(value.to_string())),
            fault,
        }
    }

    /// `fault` about something that is not there.
    pub(in crate::source) fn absent(line: u32, field: impl Into<String>, fault: Fault) -> Self {
        Self {
            line,
            field: field.into(),
            value: None,
            fault,
        }
    }

    /// The same, seen from the map or list that holds the field: `segment` is `name` or `[index]`.
    pub(in crate::source) fn under(mut self, segment: &str) -> Self {
        let dot = if self.field.is_empty() || self.field.starts_with('[') {
            ""
        } else {
            "."
        };
        self.field = format!("{segment}{dot}{}", self.field);
        self
    }

    /// The problem that this is for `object` in `file`.
    pub(in crate::source) fn into_problem(self, file: &str, object: Option<Subject>) -> Problem {
        let Self {
            line,
            field,
            value,
            fault,
        } = self;
        Problem {
            file: file.to_owned(),
            line: Some(line),
            object,
            field,
            value,
            fault,
        }
    }
}

/// `value`, cut where it gets too long for a message.
fn shorten(value: String) -> String {
    match value.char_indices().nth(VALUE_LIMIT) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value,
    }
}
