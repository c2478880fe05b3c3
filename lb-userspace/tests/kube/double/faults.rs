//! What goes wrong, on demand.

use std::collections::{BTreeMap, VecDeque};

use crate::objects::Resource;

/// What goes wrong from now on.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Every request for these is answered so.
    pub(crate) deny: BTreeMap<Resource, u16>,
    /// The next watches of these are refused so.
    pub(crate) deny_watch: BTreeMap<Resource, VecDeque<u16>>,
    /// Whether lists end after their first page, since what follows was compacted meanwhile: so many times.
    pub(crate) forget_pages: usize,
    /// What goes wrong with the next events of these.
    pub(crate) watch: BTreeMap<Resource, VecDeque<WatchFault>>,
    /// The bearer token that is accepted; `None`: no need for any.
    pub(crate) token: Option<String>,
    /// Whether lists of anything are nonsense: the answer of some other server.
    pub(crate) nonsense: bool,
}

/// What goes wrong with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchFault {
    /// Half of it arrives, then the connection is cut.
    Cut,
    /// In its place comes a line that is no event.
    Garbage,
    /// It comes a few bytes at a time.
    Drip,
    /// It comes twice.
    Repeat,
    /// Behind it comes the one before it once more.
    Backwards,
    /// In its place comes the message that the version is gone.
    Gone,
    /// In its place comes the message that something failed, and the watch ends.
    Failed,
    /// The watch ends as it does when its time is over.
    End,
}
