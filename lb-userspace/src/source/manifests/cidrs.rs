//! The Service ranges of the cluster: `--service-cluster-ip-range`.
//!
//! One range, or two of different families in either order; the first one's family is the default of
//! every Service. Clusters tell the API server; without one, the agent is told.

use std::{fmt, str::FromStr};

use ipnet::IpNet;
use lb_common::address::Family;

/// Shortest and longest prefix of an IPv4 range: Kubernetes' limit and what still leaves an address.
const V4_PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;
/// Shortest and longest prefix of an IPv6 range, likewise.
const V6_PREFIXES: std::ops::RangeInclusive<u8> = 64..=126;

/// The Service ranges, none, one, or two of different families; the first one's family is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceCidrs(Vec<IpNet>);

/// Why a text is no list of Service ranges.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// An entry does not parse.
    #[error("service range {0:?} is not a network such as 10.96.0.0/16")]
    NotANetwork(String),
    /// Too many entries.
    #[error("{0} service ranges are too many: one, or one of each family")]
    TooMany(usize),
    /// Two entries are of one family.
    #[error("service ranges {0} and {1} are both {family}", family = family_of(.0))]
    SameFamily(IpNet, IpNet),
    /// An entry is too large or too small.
    #[error("service range {net}: prefix length must be between {shortest} and {longest}")]
    Size {
        /// The entry.
        net: IpNet,
        /// Shortest prefix length allowed.
        shortest: u8,
        /// Longest prefix length allowed.
        longest: u8,
    },
}

impl ServiceCidrs {
    /// The range of `family`.
    pub fn of(&self, family: Family) -> Option<IpNet> {
        self.0.iter().copied().find(|net| family_of(net) == family)
    }

    /// All of them, the default family's first.
    pub(super) fn nets(&self) -> &[IpNet] {
        &self.0
    }

    /// The family of a Service that asks for none.
    pub fn default_family(&self) -> Option<Family> {
        self.0.first().map(family_of)
    }

    /// Whether no range is known: then only addresses given explicitly can be used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a range of each family.
    pub fn is_dual_stack(&self) -> bool {
        self.0.len() == 2
    }
}

impl FromStr for ServiceCidrs {
    type Err = CidrError;

    /// Parses what the flag says: networks with commas between them.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let nets = text.split(',').map(|entry| {
            let net: IpNet = entry
                .trim()
                .parse()
                .map_err(|_| CidrError::NotANetwork(entry.trim().to_owned()))?;
            if !is_assignable(net) {
                let (shortest, longest) = prefixes(net).into_inner();
                return Err(CidrError::Size {
                    net,
                    shortest,
                    longest,
                });
            }
            Ok(net.trunc())
        });
        let nets: Vec<IpNet> = nets.collect::<Result<_, _>>()?;
        match nets[..] {
            [a, b] if family_of(&a) == family_of(&b) => Err(CidrError::SameFamily(a, b)),
            [_] | [_, _] => Ok(Self(nets)),
            _ => Err(CidrError::TooMany(nets.len())),
        }
    }
}

impl fmt::Display for ServiceCidrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nets: Vec<String> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&nets.join(","))
    }
}

/// Whether addresses can be assigned from `net`: it is neither too large nor too small.
pub(super) fn is_assignable(net: IpNet) -> bool {
    prefixes(net).contains(&net.prefix_len())
}

fn prefixes(net: IpNet) -> std::ops::RangeInclusive<u8> {
    match net {
        IpNet::V4(_) => V4_PREFIXES,
        IpNet::V6(_) => V6_PREFIXES,
    }
}

/// The family of a network.
pub(super) fn family_of(net: &IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_or_one_of_each_family_in_either_order() {
        for (text, default, dual) in [
            ("10.96.0.0/16", Family::V4, false),
            ("fd00:10:96::/112", Family::V6, false),
            ("10.96.0.0/16,fd00:10:96::/112", Family::V4, true),
            (" fd00:10:96::/112, 10.96.0.0/16", Family::V6, true),
        ] {
            let cidrs: ServiceCidrs = text.parse().unwrap();
            assert_eq!(cidrs.default_family(), Some(default), "{text}");
            assert_eq!(cidrs.is_dual_stack(), dual, "{text}");
        }
        assert_eq!(
            "10.96.3.4/16".parse::<ServiceCidrs>().unwrap().to_string(),
            "10.96.0.0/16"
        );
    }

    #[test]
    fn other_ranges_are_refused_and_named() {
        for (text, part) in [
            ("", "\"\""),
            ("10.96.0.0", "\"10.96.0.0\""),
            ("10.96.0.0/16,10.97.0.0/16", "both IPv4"),
            ("fd00::/112,fd01::/112", "both IPv6"),
            ("10.96.0.0/16,fd00::/112,10.97.0.0/16", "3 service ranges"),
            ("10.0.0.0/7", "between 8 and 30"),
            ("10.96.0.0/31", "between 8 and 30"),
            ("fd00::/63", "between 64 and 126"),
            ("fd00::/127", "between 64 and 126"),
        ] {
            let error = text.parse::<ServiceCidrs>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
