//! The endpoint's side of the reference: whose an answer is, and by which address of the node its client is known.

use std::net::SocketAddr;

use crate::{
    flow::{Flow, Life},
    packet::flag,
    reference::{Reference, Reply},
    state::Tuple,
    want::Answer,
};

impl Reference {
    /// Whether the node's address and port are this flow's, where it has them.
    pub fn has_undo(&self, flow: &Flow) -> bool {
        let Some(node) = flow.snat else {
            return !flow.is_masqueraded;
        };
        let key = (flow.target(), node, flow.talk.proto);
        self.undos.get(&key) == Some(&flow.talk.tuple())
    }

    /// The datapath gives the client of a flow this address and port of the node.
    ///
    /// # Errors
    /// They are another flow's, or the flow had others.
    pub fn masquerade(&mut self, tuple: Tuple, node: SocketAddr) -> Result<(), String> {
        let flow = self.flows.get(&tuple).ok_or("an address for no flow")?;
        let key = (flow.target(), node, tuple.2);
        if let Some(owner) = self.undos.get(&key)
            && *owner != tuple
            && let Some(other) = self.flows.get(owner)
            && other.snat == Some(node)
            && other.endpoint == flow.endpoint
            && self.is_answered(other)
            && other.life(self.now) == Life::Alive
        {
            return Err(format!("{node} is another flow's: {other:?}"));
        }
        if flow.snat.is_some_and(|old| old != node) && flow.life(self.now) == Life::Alive {
            return Err(format!("{node} in the midst of {flow:?}"));
        }
        self.undos.insert(key, tuple);
        self.reasons.insert(key);
        let flow = self.flows.get_mut(&tuple).ok_or("it was there")?;
        flow.snat = Some(node);
        Ok(())
    }

    /// What must become of a packet from an endpoint; takes it for passed.
    pub fn answer(&mut self, key: Tuple, flags: u8) -> Answer {
        let Some(reply) = self.replies.get(&key).copied() else {
            return Answer::Untouched;
        };
        if self.is_left(&key, &reply) {
            return Answer::Unsure;
        }
        let (now, owner) = (self.now, reply.owner);
        let Some(flow) = self.flows.get_mut(&owner) else {
            return Answer::Unsure;
        };
        if reply.awaits && flags & (flag::SYN | flag::RST) == 0 && !flow.is_opened {
            // The endpoint has a connection of its own by this tuple.
            flow.is_taken = true;
            self.replies.remove(&key);
            return Answer::Untouched;
        }
        flow.ends.note(flags, false);
        flow.is_answered = true;
        flow.seen = now;
        if flow.service.is_none() {
            self.moved = Some(now);
        }
        let awaits = false;
        self.replies.insert(key, Reply { owner, awaits });
        Answer::To(owner)
    }

    /// Whether answers to a flow reach it.
    pub fn is_answered(&self, flow: &Flow) -> bool {
        let reply = self.replies.get(&flow.reply());
        reply.is_some_and(|reply| reply.owner == flow.talk.tuple())
    }
}
