//! Plays steps on the datapath and on the reference, and compares.

use lb_common::{
    tables::Device,
    verdict::{Action, Verdict},
};

use crate::{
    cast::{self, role_of_client, role_of_endpoint},
    datapath::{Datapath, Hook, read},
    flow::{Life, flags_of},
    packet::{Frame, verify},
    reference::Reference,
    seen::Seen,
    shrink::Failure,
    step::{Step, Talk, To},
    want::{Answer, Port, Want},
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

pub struct Play<'a> {
    datapath: &'a mut Datapath,
    pub reference: Reference,
    has_xdp: bool,
    counts: Vec<u64>,
    seen: Seen,
}

/// What is wrong, if anything is.
pub type Outcome<T = ()> = Result<T, String>;

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
    pub fn untouched(&mut self, hook: Hook, role: u32, packet: &Frame) -> Outcome {
        let outcome = self.pass(hook, role, packet);
        self.check((hook, packet), &outcome, &packet.bytes(), None)
    }

    /// The packet passes a hook and becomes another one.
    pub fn becomes(
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
