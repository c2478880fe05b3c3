//! What there is to know of flows: who talks to which endpoint, by which tuple its answers come, what it ends by.
//!
//! One map of conversations by what the client sends, one of who is answered by which tuple. Obviously right, and not the
//! datapath's: no entries that are kept in step, no order of look-ups, no clock but a number.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
};

use lb_common::verdict::Verdict;

use crate::{
    cast,
    flow::{CONNECTION, Ends, Flow, LONGEST, Life, opens},
    packet::{TCP, UDP, flag},
    rules::{self, Fate},
    state::Tuple,
    step::{Talk, To},
    want::{Port, Want},
    world::World,
};

/// Seconds of silence after which a SYN is no retransmission (rule 79).
const SYN_IDLE: u64 = 128;
/// Who is answered by a tuple.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    /// What its client sends.
    pub(crate) owner: Tuple,
    /// TCP: neither has the endpoint taken up the connection yet, nor the client gone on.
    pub(crate) awaits: bool,
}

/// Which endpoint a client of a service port has, and when it last opened a flow.
type Affinities = HashMap<(SocketAddr, u8, u8), (u8, u32, u32, u64)>;

#[derive(Default)]
pub struct Reference {
    pub world: World,
    pub now: u64,
    pub flows: HashMap<Tuple, Flow>,
    pub(crate) replies: HashMap<Tuple, Reply>,
    /// Who gets the answers that go to an address of the node.
    pub(crate) undos: HashMap<Tuple, Tuple>,
    /// By client, Service and protocol: endpoint, the how manieth, of the how manieth port, since when.
    affinity: Affinities,
    /// When a moved connection was last heard of.
    pub(crate) moved: Option<u64>,
    /// Every tuple that some flow has had.
    pub reasons: HashSet<Tuple>,
}

impl Reference {
    /// What must become of a packet from a client.
    pub fn judge(&self, talk: &Talk, flags: u8) -> Want {
        match self.follows(talk, flags) {
            Life::Alive => return Want::Follows,
            Life::Unsure => return Want::Unsure,
            Life::Over => {}
        }
        match rules::judge(&self.world, talk) {
            Fate::To(service, endpoints) => {
                Want::Opens(service, self.stuck(talk, service, endpoints))
            }
            Fate::Dropped(why) => Want::Dropped(why),
            // A reset is never answered (RFC 9293).
            Fate::Refused(_) if flags & flag::RST != 0 => Want::Dropped(Verdict::Unanswered),
            Fate::Refused(why) => Want::Refused(why),
            Fate::Untouched => self.judge_direct(talk, flags),
        }
    }

    fn follows(&self, talk: &Talk, flags: u8) -> Life {
        let Some(flow) = self.flows.get(&talk.tuple()) else {
            return Life::Over;
        };
        let found = rules::find_service(&self.world, talk).map(|(service, _)| service);
        let Some((service, generation)) = flow.service else {
            return self.follows_directly(flow, flags);
        };
        if talk.proto == UDP {
            // Rules 73 to 75.
            let is_same = found == Some(service)
                && self.world.generations.get(&(service, talk.proto)) == Some(&generation);
            let endpoint = self.world.endpoints.get(&(service, flow.endpoint));
            // Where new flows may go the old ones may stay, too (`publishNotReadyAddresses`).
            let is_served = endpoint.is_some_and(|(it, _)| it.serving || it.ready);
            if !is_same || !is_served {
                return Life::Over;
            }
            let is_new = endpoint.is_some_and(|(_, it)| *it != flow.endpoint_generation);
            return match flow.life(self.now) {
                // It was away meanwhile.
                Life::Alive if is_new => Life::Unsure,
                life => life,
            };
        }
        // Rules 79 and 80.
        let begins = opens(flags)
            && (flow.is_opened
                || flow.is_taken
                || flow.ends.is_closed()
                || self.now - flow.sent > SYN_IDLE);
        // Rules 53, 77 and 78. A SYN to a node port that is gone is for the node.
        let is_node_port = matches!(talk.to, To::NodePort(_));
        if !begins && (found.is_some() || !is_node_port || !opens(flags)) {
            self.has_tuple(talk, flow, flags)
        } else {
            Life::Over
        }
    }

    /// Whether a flow still has its reply tuple: lost in a long silence, it begins anew, but for its last word (rule 99).
    fn has_tuple(&self, talk: &Talk, flow: &Flow, flags: u8) -> Life {
        let (mut ends, key) = (flow.ends, flow.reply());
        ends.note(flags, true);
        let is_asked = flow.sent != self.now && !ends.is_closed();
        let other = self.replies.get(&key).filter(|_| is_asked);
        match other.filter(|reply| reply.owner != talk.tuple()) {
            None => Life::Alive,
            Some(reply) if self.is_left(&key, reply) => Life::Unsure,
            Some(reply) => match self.life(reply) {
                Life::Alive => Life::Over,
                Life::Unsure => Life::Unsure,
                Life::Over => Life::Alive,
            },
        }
    }

    /// Whether a packet is one of the direct connection `flow`, which got another port (rule 99).
    fn follows_directly(&self, flow: &Flow, flags: u8) -> Life {
        let silence = self
            .moved
            .map_or(u64::MAX, |at| self.now - at.min(flow.seen));
        if opens(flags) && flow.ends.is_closed() || silence > LONGEST {
            Life::Over
        } else if silence > CONNECTION {
            Life::Unsure
        } else {
            Life::Alive
        }
    }

    /// Rules 68 to 72.
    fn stuck(&self, talk: &Talk, service: u8, endpoints: BTreeSet<u8>) -> BTreeSet<u8> {
        let seconds = self.world.services[&service].affinity;
        let known = self.affinity.get(&affinity_key(talk, service));
        let (Some(seconds), Some((endpoint, generation, port, at))) = (seconds, known) else {
            return endpoints;
        };
        let is_same = self.generation(service, *endpoint) == Some(*generation)
            && self.world.generations.get(&(service, talk.proto)) == Some(port);
        if is_same && endpoints.contains(endpoint) && self.now - at <= u64::from(seconds) {
            return [*endpoint].into();
        }
        endpoints
    }

    fn generation(&self, service: u8, endpoint: u8) -> Option<u32> {
        let known = self.world.endpoints.get(&(service, endpoint));
        known.map(|(_, generation)| *generation)
    }

    /// A packet that is addressed to no service: rule 99, for TCP.
    fn judge_direct(&self, talk: &Talk, flags: u8) -> Want {
        let To::Direct(endpoint) = talk.to else {
            return Want::Untouched;
        };
        if talk.proto != TCP || !opens(flags) {
            return Want::Untouched;
        }
        let (client, dst, proto) = talk.tuple();
        match self.replies.get(&(dst, client, proto)) {
            None => Want::Untouched,
            Some(reply) if self.is_left(&(dst, client, proto), reply) => Want::Unsure,
            Some(reply) => match self.life(reply) {
                Life::Alive => Want::Moves(endpoint),
                Life::Unsure => Want::Unsure,
                Life::Over => Want::Untouched,
            },
        }
    }

    fn life(&self, reply: &Reply) -> Life {
        let flow = self.flows.get(&reply.owner);
        flow.map_or(Life::Over, |flow| flow.life(self.now))
    }

    /// Which port the endpoint may see of a flow that begins with `flags`.
    pub fn port(&self, talk: &Talk, flags: u8, endpoint: u8) -> Port {
        let (client, _, proto) = talk.tuple();
        let key = (cast::target(endpoint, talk.is_v6), client, proto);
        let old = self.flows.get(&talk.tuple());
        if opens(flags) && old.is_some_and(|old| old.is_taken && old.service.is_some()) {
            return Port::Another;
        }
        match self.replies.get(&key) {
            None => Port::Own,
            Some(reply) if reply.owner == talk.tuple() => Port::Own,
            Some(reply) if self.is_left(&key, reply) => Port::Any,
            Some(reply) => match self.life(reply) {
                Life::Alive => Port::Another,
                Life::Unsure => Port::Any,
                Life::Over => Port::Own,
            },
        }
    }

    /// Whether the flow that was answered by that tuple has gone on to another one.
    pub(crate) fn is_left(&self, key: &Tuple, reply: &Reply) -> bool {
        self.flows
            .get(&reply.owner)
            .is_none_or(|flow| flow.reply() != *key)
    }

    /// The datapath sends a flow that begins to this endpoint by this port.
    ///
    /// # Errors
    /// Two flows would be answered by one tuple.
    pub fn open(
        &mut self,
        talk: &Talk,
        flags: u8,
        (service, endpoint): (Option<u8>, u8),
        port: u16,
    ) -> Result<(), String> {
        let of = |service| {
            let port = self.world.generations[&(service, talk.proto)];
            (self.generation(service, endpoint).unwrap_or(0), port)
        };
        let generations = service.map(of);
        let (client, _, _) = talk.tuple();
        let flow = Flow {
            talk: *talk,
            service: service.zip(generations.map(|(_, port)| port)),
            endpoint,
            endpoint_generation: generations.map_or(0, |(endpoint, _)| endpoint),
            port,
            // Finding 4, rules 56 and 57.
            is_masqueraded: service.is_some()
                && (!cast::is_inside(talk.client) && !cast::is_here(endpoint)
                    || client.ip() == cast::endpoint(endpoint, talk.is_v6)),
            snat: None,
            is_opened: !opens(flags),
            is_answered: false,
            is_taken: false,
            ends: Ends::default(),
            sent: self.now,
            seen: self.now,
        };
        if let Some(reply) = self.replies.get(&flow.reply())
            && reply.owner != talk.tuple()
            && !self.is_left(&flow.reply(), reply)
            && self.life(reply) == Life::Alive
        {
            let owner = self.flows.get(&reply.owner);
            return Err(format!(
                "two flows share a reply tuple: {flow:?} and {owner:?}"
            ));
        }
        if let (Some(service), Some((generation, port))) = (service, generations)
            && self.world.services[&service].affinity.is_some()
        {
            let known = (endpoint, generation, port, self.now);
            self.affinity.insert(affinity_key(talk, service), known);
        }
        // Once the endpoint has taken up a connection by a tuple, all that it says by it is for the same client.
        let former = self.replies.get(&flow.reply());
        let has_answered = former.is_some_and(|it| it.owner == talk.tuple() && !it.awaits);
        let reply = Reply {
            owner: talk.tuple(),
            awaits: opens(flags) && !has_answered,
        };
        self.reasons.extend([talk.tuple(), flow.reply()]);
        if flow.is_masqueraded {
            self.reasons.insert(turned(flow.reply()));
        }
        self.replies.insert(flow.reply(), reply);
        self.flows.insert(talk.tuple(), flow);
        Ok(())
    }

    /// A packet of a client went on in its flow.
    pub fn follow(&mut self, talk: &Talk, flags: u8) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(&talk.tuple()) else {
            return;
        };
        flow.is_opened |= !opens(flags);
        flow.ends.note(flags, true);
        let is_first = flow.sent != now;
        (flow.sent, flow.seen) = (now, now);
        if flow.service.is_none() {
            self.moved = Some(now);
        }
        // It is answered by that tuple again where another one had it meanwhile.
        if is_first && !flow.ends.is_closed() && flow.service.is_some() {
            let (key, awaits) = (flow.reply(), !flow.is_opened);
            let owner = talk.tuple();
            let other = self.replies.get(&key).filter(|it| it.owner != owner);
            if other.is_some_and(|it| it.owner == key) {
                return; // nobody's that we know of, still
            }
            let life = |it: &Reply| match self.is_left(&key, it) {
                true => Life::Unsure,
                false => self.life(it),
            };
            let owner = match other.map_or(Life::Over, life) {
                Life::Alive => return,
                // Nobody's that we know of.
                Life::Unsure => key,
                Life::Over => owner,
            };
            let awaits = self.replies.get(&key).map_or(awaits, |it| it.awaits);
            self.replies.insert(key, Reply { owner, awaits });
        }
    }

    /// A direct packet went by untouched: what was in its way is over.
    pub fn pass_directly(&mut self, talk: &Talk, flags: u8) {
        let (client, dst, proto) = talk.tuple();
        if proto == TCP && opens(flags) && matches!(talk.to, To::Direct(_)) {
            self.replies.remove(&(dst, client, proto));
            let is_moved = self.flows.get(&talk.tuple());
            if is_moved.is_some_and(|flow| flow.service.is_none()) {
                self.flows.remove(&talk.tuple());
            }
        }
    }
}

fn affinity_key(talk: &Talk, service: u8) -> (SocketAddr, u8, u8) {
    let (mut client, _, proto) = talk.tuple();
    client.set_port(0);
    (client, service, proto)
}

fn turned((src, dst, proto): Tuple) -> Tuple {
    (dst, src, proto)
}
