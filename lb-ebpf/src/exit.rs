//! How a packet's way through the datapath ends.

use lb_common::verdict::{Action, Verdict};

use crate::{maps, skb::Skb};

/// Why the way of a packet ended early.
#[derive(Clone, Copy)]
pub enum Exit {
    /// It is no business of ours: untouched and uncounted.
    NotOurs,
    /// It concerns a service: counted once.
    Counted(Verdict),
    /// It is ICMP and takes the way of [`crate::icmp`].
    Icmp,
    /// It is a piece of a packet, without ports, and takes the way of [`crate::pieces`].
    Piece,
    /// It may be an echo request to a ClusterIP, and takes the way of [`crate::echo`].
    Echo,
    /// It has been turned into the answer to an echo request.
    Echoed,
    /// It is addressed to no frontend, but to what may be a VIP, and takes the way of [`crate::vips`].
    Vip,
    /// It has been translated and counted, and goes on where it was going.
    Passed,
    /// Likewise, and leaves by another device at once.
    Sent,
    /// It is addressed to no frontend.
    NoFrontend,
    /// Its flow begins here: on ingress it takes the way of [`crate::begin`], on egress that of [`crate::snat`].
    Open,
    /// Likewise, and its own source port is another connection's.
    OpenElsewhere,
    /// Its flow has been opened: it begins anew.
    Opened,
    /// It has been translated to its endpoint and leaves by another device at once (`fast`).
    SentToEndpoint,
    /// It has been translated to its client and leaves by another device at once.
    SentToClient,
    /// Its flow is known, and it takes the way of [`crate::apart`].
    Apart,
}

impl From<Verdict> for Exit {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        Self::Counted(verdict)
    }
}

impl Exit {
    /// Whether nothing is left to be done.
    #[inline(always)]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::NotOurs | Self::Passed | Self::Sent)
    }

    /// Counts a packet that is done with here and now, as nearly all are: what is left are rare ways, whose ends are joined
    /// and counted in one place.
    #[inline(always)]
    pub fn settle(self, skb: &mut Skb, is_ingress: bool) -> Self {
        match self {
            Self::SentToEndpoint => maps::count(Verdict::Dnat),
            Self::SentToClient => maps::count(Verdict::RevNat),
            Self::Counted(verdict) if matches!(verdict.action(), Action::Pass) => {
                maps::count(verdict);
                if is_ingress {
                    skb.set_done();
                }
                return Self::Passed;
            }
            other => return other,
        }
        Self::Sent
    }
}

/// A step on the way of a packet: `?` ends it.
///
/// A function that is not inlined returns `Exit`, `Step<()>` or `Result<(), Verdict>`: one register.
/// Anything larger would go through memory of the caller, which the verifier does not let a BPF function
/// return.
pub type Step<T> = Result<T, Exit>;

/// How a packet's way ended, whether at its end or before.
#[inline(always)]
pub fn end(step: Step<Verdict>) -> Exit {
    match step {
        Ok(verdict) => Exit::Counted(verdict),
        Err(exit) => exit,
    }
}
