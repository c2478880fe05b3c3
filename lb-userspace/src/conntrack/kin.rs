//! The entries of one flow, found from any of them.
//!
//! A flow has a forward and a reply entry, with SNAT two more (`lb_common::flow` draws them), and the LRU may take any
//! of them at any time. Each names the next by what it translates to; an entry by that tuple which says
//! otherwise belongs to another flow and is passed over.

use lb_common::{
    address::Address,
    flow::{
        Flow, FlowKey, is_past,
        state::{STATE_FLAGS, State, Timeouts},
    },
};

/// An entry of a flow table.
pub type Entry<A> = (FlowKey<A>, Flow<A>);

/// What there is of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kin<A> {
    /// The client's tuple.
    pub forward: Option<Entry<A>>,
    /// The tuple of the endpoint's answers.
    pub reply: Option<Entry<A>>,
    /// The tuple that leaves towards the endpoint, where the client gets another address.
    pub snat: Option<Entry<A>>,
    /// The tuple of the answers to that address.
    pub undo: Option<Entry<A>>,
}

/// All entries of the flow that `entry` is one of; `find` reads the table.
pub fn assemble<A: Address>(
    entry: Entry<A>,
    find: impl Fn(&FlowKey<A>) -> Option<Flow<A>>,
) -> Kin<A> {
    let kind = kind(&entry.1);
    let find = |key: FlowKey<A>, wanted: u16| {
        let flow = find(&key)?;
        (self::kind(&flow) == wanted).then_some((key, flow))
    };
    let own = |wanted: u16| (kind == wanted).then_some(entry);
    let (key, flow) = &entry;
    // The tuple between the device of the client and that of the endpoint: all but the undo entry know it.
    let inner = match kind {
        FORWARD => flow.reply_key(key).reversed(),
        REPLY => key.reversed(),
        SNAT => *key,
        _ => flow.snat_key(key),
    };
    let reply = own(REPLY).or_else(|| find(inner.reversed(), REPLY));
    let forward = own(FORWARD).or_else(|| {
        let (key, reply) = reply.as_ref()?;
        let forward = find(reply.forward_key(key), FORWARD);
        forward.filter(|(key, forward)| forward.reply_key(key) == inner.reversed())
    });
    // Two clients' flows may have had the same reply tuple, one after the other.
    let reply = reply.filter(|(key, reply)| {
        forward
            .as_ref()
            .is_none_or(|(forward, _)| reply.forward_key(key) == *forward)
    });
    let snat = own(SNAT).or_else(|| find(inner, SNAT));
    let snat = snat.filter(|(_, snat)| kind != UNDO || snat.undo_key(&inner) == *key);
    let undo = own(UNDO).or_else(|| {
        let (_, snat) = snat.as_ref().filter(|(_, snat)| snat.peer_port != 0)?;
        let undo = find(snat.undo_key(&inner), UNDO);
        undo.filter(|(key, undo)| undo.snat_key(key) == inner)
    });
    Kin {
        forward,
        reply,
        snat,
        undo,
    }
}

const FORWARD: u16 = 0;
const REPLY: u16 = Flow::<()>::REPLY;
const SNAT: u16 = Flow::<()>::SNAT;
const UNDO: u16 = Flow::<()>::UNDO;

fn kind<A>(flow: &Flow<A>) -> u16 {
    flow.flags & Flow::<A>::NOT_FORWARD
}

/// Whether this is a forward entry.
pub fn is_forward<A>(flow: &Flow<A>) -> bool {
    kind(flow) == FORWARD
}

impl<A: Address> Kin<A> {
    /// The entries, in the order in which they are removed: a packet that comes in between finds the forward entry, and
    /// what is missing is made anew.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<A>> {
        [&self.undo, &self.snat, &self.reply, &self.forward]
            .into_iter()
            .flatten()
    }

    /// Of an entry whose flow has lost its forward entry: whether it is the one that stands for what is left.
    pub fn is_orphaned_by(&self, key: &FlowKey<A>) -> bool {
        let first = [&self.reply, &self.snat, &self.undo].into_iter().flatten();
        self.forward.is_none() && first.map(|(key, _)| key).next() == Some(key)
    }

    /// The state, of what the entries say together.
    pub fn state(&self) -> State {
        let entries = self.entries();
        let (proto, flags) = entries.fold((0, 0), |(_, flags), (key, flow)| {
            (key.proto, flags | flow.flags & STATE_FLAGS)
        });
        State::of(proto, flags)
    }

    /// Ticks since a packet last passed.
    pub fn idle(&self, now: u32) -> u32 {
        let idle = self.entries().map(|(_, flow)| idle(flow, now));
        idle.min().unwrap_or(0)
    }

    /// Ticks until it is over.
    pub fn remaining(&self, now: u32, timeouts: &Timeouts) -> u32 {
        let left = self
            .entries()
            .map(|(key, flow)| timeout(key, flow, timeouts).saturating_sub(idle(flow, now)));
        left.max().unwrap_or(0)
    }

    /// Whether nobody has spoken for longer than the flow's state allows: each entry by itself, since not every packet
    /// touches all of them.
    pub fn is_over(&self, now: u32, timeouts: &Timeouts) -> bool {
        self.entries().all(|entry| is_over(entry, now, timeouts))
    }
}

/// Whether an entry has been silent for longer than it may be; what it belongs to may be alive all the same.
pub fn is_over<A>((key, flow): &Entry<A>, now: u32, timeouts: &Timeouts) -> bool {
    is_past(flow.seen, now, timeout(key, flow, timeouts))
}

fn timeout<A>(key: &FlowKey<A>, flow: &Flow<A>, timeouts: &Timeouts) -> u32 {
    timeouts.of(State::of(key.proto, flow.flags))
}

/// Ticks since an entry was used; 0 if that was a moment ahead of `now`.
fn idle<A>(flow: &Flow<A>, now: u32) -> u32 {
    u32::try_from(now.wrapping_sub(flow.seen).cast_signed()).unwrap_or(0)
}
