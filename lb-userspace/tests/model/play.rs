//! Plays steps on the datapath and on the reference, and compares.

use std::{fmt, net::SocketAddr};

use lb_common::{
    tables::Device,
    verdict::{Action, Verdict},
};

use crate::{
    cast,
    datapath::{Datapath, Hook, read},
    packet::{Frame, SCTP, flag, verify},
    reference::{Answer, Life, Port, Reference, Want, flags_of},
    step::{Step, Talk, To},
};

/// What the programs return: TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT, XDP_PASS.
const UNSPEC: u32 = u32::MAX;
const SHOT: u32 = 2;
const REDIRECT: u32 = 7;
const XDP_PASS: u32 = 2;

/// The ports that SNAT gives (`SnatPorts::default`).
const SNAT_PORTS: std::ops::Range<u16> = 11_000..30_000;

/// Steps after which everything is looked at.
const INTERVAL: usize = 100;

/// Where a run went wrong.
pub struct Failure {
    pub at: usize,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// How often each verdict was reached.
#[derive(Clone, Debug)]
pub struct Seen(Vec<u64>);

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

pub struct Play<'a> {
    datapath: &'a mut Datapath,
    reference: Reference,
    has_xdp: bool,
    counts: Vec<u64>,
    seen: Seen,
}

type Outcome<T = ()> = Result<T, String>;

impl<'a> Play<'a> {
    /// Begins with no Service and no flow.
    pub fn new(datapath: &'a mut Datapath, has_xdp: bool) -> Self {
        datapath.forget();
        let counts = datapath.counts();
        Self {
            datapath,
            reference: Reference::default(),
            has_xdp,
            counts,
            seen: Seen::default(),
        }
    }

    /// Plays a whole run, after which no Service is left.
    pub fn all(mut self, script: &[Step]) -> Result<Seen, Failure> {
        let mut result = Ok(());
        for (at, step) in script.iter().enumerate() {
            result = self.step(step).and_then(|()| {
                if at % INTERVAL == INTERVAL - 1 || at == script.len() - 1 {
                    return self.look();
                }
                Ok(())
            });
            if let Err(what) = result {
                self.clear();
                return Err(Failure { at, what });
            }
        }
        self.clear();
        result
            .map(|()| self.seen)
            .map_err(|what| Failure { at: 0, what })
    }

    fn clear(&mut self) {
        for service in 0..cast::VIPS {
            for endpoint in 0..cast::ENDPOINTS {
                self.step(&Step::Endpoint(service, endpoint, None)).ok();
            }
            self.step(&Step::Delete(service)).ok();
        }
    }

    fn step(&mut self, step: &Step) -> Outcome {
        let world = &mut self.reference.world;
        match step {
            Step::Apply(number, service) if !world.is_taken(*number, service) => {
                let event = world.apply(*number, service.clone());
                self.datapath.tell(vec![event]);
            }
            Step::Apply(..) => {}
            Step::Delete(number) => {
                if world.services.contains_key(number) {
                    let event = world.delete(*number);
                    self.datapath.tell(vec![event]);
                }
            }
            Step::Endpoint(service, number, new) => {
                if new.is_some() || world.endpoints.contains_key(&(*service, *number)) {
                    let events = world.set_endpoint(*service, *number, *new);
                    self.datapath.tell(events);
                }
            }
            Step::Send(talk, flags) => return self.send(talk, *flags),
            Step::Answer(talk, flags) => return self.answer(talk, *flags),
            Step::Error(talk, is_endpoint) => return self.error(talk, *is_endpoint),
            Step::Complaint(talk) => return self.complain(talk),
            Step::Wait(seconds) => {
                self.datapath.wait(*seconds);
                self.reference.now += u64::from(*seconds);
            }
        }
        Ok(())
    }

    /// Every flow entry has a reason, and no verdict was counted but those that were looked for.
    fn look(&mut self) -> Outcome {
        self.datapath.refuse_more();
        for tuple in self.datapath.tuples() {
            if !self.reference.reasons.contains(&tuple) {
                let entry = self.datapath.entry(tuple);
                return Err(format!("no flow has {tuple:?}: {entry}"));
            }
        }
        self.check_counts()
    }

    fn check_counts(&self) -> Outcome {
        let counts = self.datapath.counts();
        if counts == self.counts {
            return Ok(());
        }
        let all = Verdict::ALL.iter().zip(counts.iter().zip(&self.counts));
        let off = all.filter(|(_, (counted, due))| counted != due);
        Err(format!("counted and due: {:?}", off.collect::<Vec<_>>()))
    }

    /// A packet passes a hook; what is left of it, if it goes on.
    fn pass(&mut self, hook: Hook, role: u32, packet: &Frame) -> (u32, Vec<u8>) {
        self.datapath.run(hook, role, &packet.bytes())
    }

    /// The program must have returned `returned`, left `bytes` and counted `verdict`.
    fn check(
        &mut self,
        (hook, sent): (Hook, &Frame),
        outcome: &(u32, Vec<u8>),
        bytes: &[u8],
        verdict: Option<Verdict>,
    ) -> Outcome {
        let wanted = match verdict.map(Verdict::action) {
            None if hook == Hook::Xdp => XDP_PASS,
            None | Some(Action::Pass) => UNSPEC,
            Some(Action::Drop) => SHOT,
            Some(Action::Reply) => REDIRECT,
        };
        if let Some(verdict) = verdict {
            self.counts[verdict as usize] += 1;
            self.seen.0[verdict as usize] += 1;
        }
        let is_counted =
            verdict.is_none_or(|it| self.datapath.count(it) == self.counts[it as usize]);
        if outcome.0 == wanted && is_counted && outcome.1 == bytes {
            return Ok(());
        }
        let told = |bytes: &[u8]| match bytes.len() {
            54.. => format!("{:?} {bytes:02x?}", read(bytes)),
            _ => format!("{bytes:02x?}"),
        };
        Err(format!(
            "{hook:?} of {} -> {}:\n  returned {} for {wanted}\n  {}\n  is not\n  {}\n  {verdict:?}: {:?}\n  flow {:?}",
            sent.src,
            sent.dst,
            outcome.0,
            told(&outcome.1),
            told(bytes),
            self.check_counts(),
            self.reference
                .flows
                .get(&(sent.src, sent.dst, sent.proto())),
        ))
    }

    /// The packet passes a hook untouched and uncounted.
    fn untouched(&mut self, hook: Hook, role: u32, packet: &Frame) -> Outcome {
        let outcome = self.pass(hook, role, packet);
        self.check((hook, packet), &outcome, &packet.bytes(), None)
    }

    /// The packet passes a hook and becomes another one.
    fn becomes(
        &mut self,
        hook: Hook,
        role: u32,
        packet: &Frame,
        after: &Frame,
        verdict: Verdict,
    ) -> Outcome {
        let outcome = self.pass(hook, role, packet);
        self.check((hook, packet), &outcome, &after.bytes(), Some(verdict))
    }

    fn send(&mut self, talk: &Talk, flags: u8) -> Outcome {
        let (client, dst, proto) = talk.tuple();
        if matches!(talk.to, To::Direct(endpoint) if cast::endpoint(endpoint, talk.is_v6) == client.ip() || !cast::is_inside(talk.client))
        {
            return Ok(());
        }
        let packet = Frame::of(proto, client, dst, flags);
        let flags = flags_of(proto, flags);
        let role = role_of_client(talk.client);
        let want = self.reference.judge(talk, flags);
        if matches!(want, Want::Unsure) {
            return Ok(());
        }
        if self.has_xdp && role == Device::UPLINK {
            // There is no way on from here: what XDP does not send on it leaves alone.
            self.untouched(Hook::Xdp, role, &packet)?;
        }
        let outcome = self.pass(Hook::Ingress, role, &packet);
        let step = (Hook::Ingress, &packet);
        match want {
            Want::Untouched => {
                self.check(step, &outcome, &packet.bytes(), None)?;
                self.reference.pass_directly(talk, flags);
                let role = match talk.to {
                    To::Direct(endpoint) => role_of_endpoint(endpoint),
                    _ => Device::UPLINK,
                };
                return self.untouched(Hook::Egress, role, &packet);
            }
            Want::Dropped(verdict) => {
                return self.check(step, &outcome, &packet.bytes(), Some(verdict));
            }
            Want::Refused(verdict) => {
                verify(&outcome.1).map_err(|why| format!("answer to {packet:?}: {why}"))?;
                let (from, to) = read(&outcome.1);
                if (from.ip(), to.ip()) != (dst.ip(), client.ip()) {
                    return Err(format!("{packet:?} is answered from {from} to {to}"));
                }
                // What is in it is told elsewhere.
                let bytes = outcome.1.clone();
                return self.check(step, &outcome, &bytes, Some(verdict));
            }
            Want::Follows | Want::Unsure => {}
            Want::Opens(service, endpoints) => {
                let (endpoint, port) = chosen(&packet, &outcome.1)?;
                if !endpoints.contains(&endpoint) {
                    return Err(format!(
                        "{packet:?} goes to endpoint {endpoint}, not {endpoints:?}"
                    ));
                }
                self.check_port(talk, endpoint, port)?;
                self.reference
                    .open(talk, flags, (Some(service), endpoint), port)?;
            }
            Want::Moves(endpoint) => {
                let (to, port) = chosen(&packet, &outcome.1)?;
                if to != endpoint || port == talk.port {
                    return Err(format!(
                        "{packet:?} is not moved: endpoint {to}, port {port}"
                    ));
                }
                self.reference.open(talk, flags, (None, endpoint), port)?;
            }
        }
        self.reference.follow(talk, flags);
        let flow = self
            .reference
            .flows
            .get(&talk.tuple())
            .ok_or("no flow")?
            .clone();
        let delivered = packet.clone().from(flow.client()).to(flow.target());
        let [verdict, _] = flow.verdicts();
        self.check(step, &outcome, &delivered.bytes(), Some(verdict))?;
        self.leave(talk, &delivered)
    }

    /// A packet that has been translated to its endpoint leaves by the device towards it.
    fn leave(&mut self, talk: &Talk, delivered: &Frame) -> Outcome {
        let flow = self
            .reference
            .flows
            .get(&talk.tuple())
            .ok_or("no flow")?
            .clone();
        let role = role_of_endpoint(flow.endpoint);
        if !flow.is_masqueraded {
            return self.untouched(Hook::Egress, role, delivered);
        }
        let outcome = self.pass(Hook::Egress, role, delivered);
        // A flow that is over may have lost its address to another one.
        let has_lost = !self.reference.is_answered(&flow);
        let is_over = has_lost || flow.life(self.reference.now) != Life::Alive;
        if is_over && outcome.1 == delivered.bytes() {
            return self.check(
                (Hook::Egress, delivered),
                &outcome,
                &delivered.bytes(),
                None,
            );
        }
        let (node, _) = read(&outcome.1);
        if node.ip() != cast::node(talk.is_v6) || !SNAT_PORTS.contains(&node.port()) {
            return Err(format!("{delivered:?} leaves from {node}, {flow:?}"));
        }
        if !has_lost {
            self.reference.masquerade(talk.tuple(), node)?;
        }
        let left = delivered.clone().from(node);
        self.check(
            (Hook::Egress, delivered),
            &outcome,
            &left.bytes(),
            Some(Verdict::Snat),
        )
    }

    fn check_port(&self, talk: &Talk, endpoint: u8, port: u16) -> Outcome {
        let rule = self.reference.port(talk, endpoint);
        match rule {
            Port::Own if port != talk.port => {}
            Port::Another if port == talk.port => {}
            _ => return Ok(()),
        }
        Err(format!(
            "{talk:?} gets port {port} at endpoint {endpoint}, not {rule:?}"
        ))
    }

    fn answer(&mut self, talk: &Talk, flags: u8) -> Outcome {
        let (client, dst, proto) = talk.tuple();
        let flow = self.reference.flows.get(&talk.tuple()).cloned();
        let (endpoint, known_as) = match (&flow, talk.to) {
            (Some(flow), _) if !self.reference.has_undo(flow) => return Ok(()),
            (Some(flow), _) => match flow.known_as() {
                Some(known_as) => (flow.endpoint, known_as),
                None => return Ok(()),
            },
            // A direct connection that nobody moved.
            (None, To::Direct(endpoint))
                if proto == crate::packet::TCP
                    && cast::is_inside(talk.client)
                    && dst.ip() != client.ip() =>
            {
                (endpoint, client)
            }
            (None, _) => return Ok(()),
        };
        let target = cast::target(endpoint, talk.is_v6);
        let packet = Frame::of(proto, target, known_as, flags);
        let flags = flags_of(proto, flags);
        let inner = flow.as_ref().map_or(known_as, |flow| flow.client());
        let fate = self.reference.answer((target, inner, proto), flags);
        if matches!(fate, Answer::Unsure) {
            return Ok(());
        }
        let role = role_of_endpoint(endpoint);
        let entered = packet.clone().to(inner);
        if inner == known_as {
            self.untouched(Hook::Ingress, role, &packet)?;
        } else {
            self.becomes(Hook::Ingress, role, &packet, &entered, Verdict::Unsnat)?;
        }
        let role = role_of_client(talk.client);
        match fate {
            Answer::To(owner) => {
                let told = entered.clone().from(owner.1).to(owner.0);
                let [_, verdict] = self.reference.flows[&owner].verdicts();
                self.becomes(Hook::Egress, role, &entered, &told, verdict)
            }
            _ => self.untouched(Hook::Egress, role, &entered),
        }
    }

    /// An ICMP error about what the client sent (rule 97).
    fn error(&mut self, talk: &Talk, is_endpoint: bool) -> Outcome {
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
    fn complain(&mut self, talk: &Talk) -> Outcome {
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
    fn answered(&self, talk: &Talk) -> Option<(crate::reference::Flow, SocketAddr)> {
        let flow = self.reference.flows.get(&talk.tuple())?;
        let is_whole = self.reference.is_answered(flow) && self.reference.has_undo(flow);
        let known_as = flow.known_as().filter(|_| is_whole)?;
        Some((flow.clone(), known_as))
    }
}

/// Which endpoint a packet was translated to, and the client's port there.
fn chosen(packet: &Frame, after: &[u8]) -> Outcome<(u8, u16)> {
    let (from, to) = read(after);
    let endpoint = cast::find_endpoint(to.ip())
        .filter(|_| to.port() == cast::TARGET && from.ip() == packet.src.ip());
    match endpoint {
        Some(endpoint) => Ok((endpoint, from.port())),
        None => Err(format!(
            "{packet:?} becomes {from} -> {to}, which is no endpoint"
        )),
    }
}

fn role_of_client(who: u8) -> u32 {
    if cast::is_inside(who) {
        Device::PODS
    } else {
        Device::UPLINK
    }
}

fn role_of_endpoint(number: u8) -> u32 {
    if cast::is_here(number) {
        Device::PODS
    } else {
        Device::UPLINK
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
