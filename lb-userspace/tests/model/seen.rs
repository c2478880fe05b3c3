//! Which verdicts a run has reached.

use std::fmt;

use lb_common::verdict::Verdict;

/// How often each verdict was reached.
#[derive(Clone, Debug)]
pub struct Seen(pub Vec<u64>);

impl Default for Seen {
    fn default() -> Self {
        Self(vec![0; Verdict::ALL.len()])
    }
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum += more;
        }
    }

    /// Whether all was reached that steps can reach.
    pub fn is_broad(&self) -> bool {
        use Verdict as V;
        [
            V::Dnat,
            V::RevNat,
            V::PortMoved,
            V::IcmpToClient,
            V::IcmpToEndpoint,
            V::NoEndpoint,
            V::Unanswered,
            V::NoLocalEndpoint,
            V::UnknownPort,
            V::Unallocated,
            V::Snat,
            V::Unsnat,
            V::SourceDenied,
        ]
        .iter()
        .all(|verdict| self.0[*verdict as usize] >= 10)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reached = Verdict::ALL.iter().zip(&self.0).filter(|(_, n)| **n > 0);
        for (verdict, count) in reached {
            write!(f, "{} {count}, ", verdict.label())?;
        }
        f.write_str("nothing else")
    }
}
