//! Values of flags, in Go's spelling.

use crate::source::manifests::{CidrError, ServiceCidrs};

/// A truth value as Go's `strconv.ParseBool` takes it.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Service ranges; the empty text is none.
#[derive(Clone, Debug, Default)]
pub struct OptionalCidrs(pub ServiceCidrs);

impl std::str::FromStr for OptionalCidrs {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            Ok(Self::default())
        } else {
            text.parse().map(Self)
        }
    }
}
