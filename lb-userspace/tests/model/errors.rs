//! ICMP errors about the packets of a flow, both ways (rule 97).

use std::net::SocketAddr;

use lb_common::verdict::Verdict;

use crate::{
    cast::{self, role_of_client, role_of_endpoint},
    datapath::Hook,
    flow::Flow,
    packet::{Frame, SCTP, flag},
    play::{Outcome, Play},
    step::Talk,
};

impl Play<'_> {
    /// An ICMP error about what the client sent (rule 97).
    pub fn error(&mut self, talk: &Talk, is_endpoint: bool) -> Outcome {
        let (client, dst, proto) = talk.tuple();
        let Some((flow, known_as)) = self.answered(talk) else {
            return Ok(());
        };
        let from = match is_endpoint {
            true => flow.target().ip(),
            false => cast::router(talk.is_v6),
        };
        let error = |from, to: SocketAddr, src, dst| {
            let about = Frame::of(proto, src, dst, flag::ACK);
            Frame::icmp(from, to.ip(), unreachable(talk.is_v6), &about, kept(proto))
        };
        let packet = error(from, known_as, known_as, flow.target());
        let entered = error(from, client, flow.client(), flow.target());
        let role = role_of_endpoint(flow.endpoint);
        if flow.is_masqueraded {
            self.becomes(
                Hook::Ingress,
                role,
                &packet,
                &entered,
                Verdict::IcmpToClient,
            )?;
        } else {
            self.untouched(Hook::Ingress, role, &packet)?;
        }
        let from = match is_endpoint || flow.is_masqueraded {
            true => dst.ip(),
            false => from,
        };
        let told = error(from, client, client, dst);
        let role = role_of_client(talk.client);
        self.becomes(Hook::Egress, role, &entered, &told, Verdict::IcmpToClient)
    }

    /// An ICMP error of the client's about an answer.
    pub fn complain(&mut self, talk: &Talk) -> Outcome {
        let (client, dst, proto) = talk.tuple();
        let Some((flow, known_as)) = self.answered(talk) else {
            return Ok(());
        };
        let error = |from: SocketAddr, to: SocketAddr, src, dst| {
            let about = Frame::of(proto, src, dst, flag::ACK);
            Frame::icmp(
                from.ip(),
                to.ip(),
                unreachable(talk.is_v6),
                &about,
                kept(proto),
            )
        };
        let packet = error(client, dst, dst, client);
        let entered = error(client, flow.target(), flow.target(), flow.client());
        let role = role_of_client(talk.client);
        self.becomes(
            Hook::Ingress,
            role,
            &packet,
            &entered,
            Verdict::IcmpToEndpoint,
        )?;
        let role = role_of_endpoint(flow.endpoint);
        if !flow.is_masqueraded {
            return self.untouched(Hook::Egress, role, &entered);
        }
        let told = error(known_as, flow.target(), flow.target(), known_as);
        self.becomes(Hook::Egress, role, &entered, &told, Verdict::IcmpToEndpoint)
    }

    /// The flow of a talk, if its tuples are all its own, and whom its endpoint believes to talk to.
    fn answered(&self, talk: &Talk) -> Option<(Flow, SocketAddr)> {
        let flow = self.reference.flows.get(&talk.tuple())?;
        let is_whole = self.reference.is_answered(flow) && self.reference.has_undo(flow);
        let known_as = flow.known_as().filter(|_| is_whole)?;
        Some((flow.clone(), known_as))
    }
}

/// Host or address unreachable.
fn unreachable(is_v6: bool) -> (u8, u8) {
    if is_v6 { (1, 3) } else { (3, 1) }
}

/// How much of a packet an error embeds: SCTP's checksum is over more than that, and cannot be mended.
fn kept(proto: u8) -> usize {
    if proto == SCTP { 8 } else { 100 }
}
