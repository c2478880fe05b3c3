//! What the rules let a packet become, with the freedom that they leave.

use std::collections::BTreeSet;

use lb_common::verdict::Verdict;

use crate::state::Tuple;

/// Which port of a client's an endpoint may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Own,
    Another,
    Any,
}

/// What must become of a packet of a client.
#[derive(Clone, Debug)]
pub enum Want {
    /// It goes on in its flow.
    Follows,
    /// It begins a flow, to one of these endpoints of the Service.
    Opens(u8, BTreeSet<u8>),
    /// Direct, in the way of a flow: it gets another port.
    Moves(u8),
    Dropped(Verdict),
    Refused(Verdict),
    Untouched,
    /// The rules do not say.
    Unsure,
}

/// What must become of an endpoint's packet.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// It is one to what this client has sent.
    To(Tuple),
    Untouched,
    /// Whose it is depends on what the rules do not say.
    Unsure,
}
