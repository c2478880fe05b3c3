//! What came of a flow against what the rules allow. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use super::{
    history::{FLUSHED, History},
    service::address,
};
use crate::lab::{
    Addresses, Protocol,
    reference::{Client, Fate, Frontend, Seen, Surroundings},
};

/// Who calls what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Who.
    pub(super) client: Client,
    /// The number of the service.
    pub(super) service: u8,
    /// By which of its addresses.
    pub(super) frontend: Frontend,
    /// By IPv6.
    pub(super) v6: bool,
    /// How.
    pub(super) protocol: Protocol,
    /// Where that was when it was drawn.
    pub(super) to: SocketAddr,
    /// From which port; 0 if the kernel takes one.
    pub(super) port: u16,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            client,
            service,
            frontend,
            protocol,
            to,
            port,
            ..
        } = self;
        let from = match port {
            0 => String::new(),
            port => format!(" from {port}"),
        };
        write!(
            f,
            "{client}{from} to {to}/{protocol} ({frontend} of {service})"
        )
    }
}

/// Addresses that any node has now and then; its kernel may choose one for what its own processes send.
pub(super) const PASSING: [&str; 3] = ["172.19.0.1", "172.19.0.2", "fd00:172:19::1"];

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This one answered, and saw the client as that.
    Answered { who: String, seen: IpAddr },
    /// No one is there, somebody said.
    Refused,
    /// Nothing came back.
    Silent,
    /// The client's own kernel said that it may not.
    Denied,
    /// The kernel ended the socket: so the agent has it do with one of the node's own processes whose endpoint has left.
    Aborted,
    /// It ended otherwise.
    Failed(String),
    /// What was sent came back, but not from where it was sent to.
    Untranslated(String),
    /// What came back is not what was sent, or not from where it was sent to.
    Wrong(String),
}

/// What the rules say of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sentence {
    /// It had to be one of those that it was.
    Right,
    /// It was to be something else, and a fault explains it.
    Excused(&'static str),
    /// An answer that it may never be.
    Wrong(String),
    /// No answer where there was to be one.
    Lost(String),
}

/// What becomes of a new flow by the newest version.
pub(super) fn fate_now(history: &History, call: &Call, around: &Surroundings) -> Option<Fate> {
    let service = history.newest(call.service)?;
    Some(service.fate(call.client, call.frontend, call.v6, around))
}

/// Judges a flow that was begun and over between two moments.
pub(super) fn judge(
    history: &History,
    around: &Surroundings,
    call: &Call,
    (begin, end): (Instant, Instant),
    outcome: &Outcome,
) -> Sentence {
    let mut fates = Vec::new();
    let mut is_deleted = false;
    for version in history.versions(call.service, begin, end) {
        match version {
            Some(service) => {
                // A port that the service no longer has, or has not yet, is refused or goes on untouched.
                is_deleted |= service.socket(call.frontend, call.v6) != call.to;
                let fate = service.fate(call.client, call.frontend, call.v6, around);
                fates.push((service, fate));
            }
            None => is_deleted = true,
        }
    }
    let is_right = match outcome {
        Outcome::Wrong(why) => return Sentence::Wrong(why.clone()),
        // An answer that was on its way when its flow was forgotten.
        Outcome::Untranslated(why) => match history.excuse_for(call.service, None, begin, end) {
            Some(reason) if reason == FLUSHED => return Sentence::Excused(reason),
            _ => return Sentence::Wrong(why.clone()),
        },
        Outcome::Aborted => {
            let is_host = matches!(call.client, Client::Host { .. });
            is_host && call.protocol == Protocol::Udp && fates.len() > 1
        }
        Outcome::Answered { who, seen } => {
            let mut complaints = BTreeSet::new();
            for (service, fate) in &fates {
                let Fate::Answered(all) = fate else { continue };
                let mut all = all.iter();
                if let Some((_, as_whom)) =
                    all.find(|(endpoint, _)| service.who(**endpoint) == *who)
                {
                    let allowed = addresses_seen(call, *as_whom);
                    if allowed.contains(seen) {
                        return Sentence::Right;
                    }
                    complaints.insert(format!("{who} saw {seen}, not one of {allowed:?}"));
                }
            }
            complaints.insert(format!("{who} answered"));
            let names: Vec<String> = complaints.into_iter().collect();
            let fates: Vec<&Fate> = fates.iter().map(|(_, fate)| fate).collect();
            return Sentence::Wrong(format!("{}; expected {fates:?}", names.join(", ")));
        }
        Outcome::Refused => fates.iter().any(|(_, fate)| *fate == Fate::Refused),
        Outcome::Silent => fates.iter().any(|(_, fate)| match fate {
            // Only so many are refused in a second, and who has not connected a datagram socket hears nothing.
            Fate::Refused => call.protocol == Protocol::Udp,
            fate => *fate == Fate::Dropped,
        }),
        Outcome::Denied => fates.iter().any(|(_, fate)| *fate == Fate::Denied),
        Outcome::Failed(_) => false,
    };
    if is_right || is_deleted {
        return Sentence::Right;
    }
    lost(history, call, None, (begin, end), outcome)
}

/// A flow that was to be answered and was not; `pod` is its endpoint's, once it had one.
pub(super) fn lost(
    history: &History,
    call: &Call,
    pod: Option<&str>,
    (begin, end): (Instant, Instant),
    outcome: &Outcome,
) -> Sentence {
    match history.excuse_for(call.service, pod, begin, end) {
        Some(reason) => Sentence::Excused(reason),
        None => Sentence::Lost(format!("{outcome:?} after {:?}", end - begin)),
    }
}

/// The addresses by which an endpoint may know the client.
fn addresses_seen(call: &Call, seen: Seen) -> BTreeSet<IpAddr> {
    match seen {
        Seen::Own => [address(call.client, call.v6)].into(),
        Seen::Node(node) => {
            let passing = PASSING.map(|ip| ip.parse().expect("written here"));
            let passing: Vec<IpAddr> = passing.into();
            let all = [Addresses::of_node(node), Addresses::of_gateway(node)];
            let all = all.map(|both| both.both()[usize::from(call.v6)]);
            all.into_iter().chain(passing).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        lab::reference::{Endpoint, Policy},
        soak::{history::Whose, service::Service},
    };

    const AROUND: Surroundings = Surroundings {
        cluster_ips: 3,
        load_balancers: 1,
        external_ips: 2,
        cni_masquerades: false,
    };
    const POD: Endpoint = Endpoint::Pod {
        node: 1,
        number: 10,
    };

    fn sentence(
        versions: &[Option<&[Endpoint]>],
        seconds: [u64; 2],
        outcome: &Outcome,
    ) -> Sentence {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::default();
        for (version, from) in versions.iter().zip([0, 100, 200]) {
            let service = version.map(|endpoints| Service::new(1, Policy::Cluster, endpoints));
            history.write(at(from), 1, service);
            history.settle(at(from + 10));
        }
        judge(
            &history,
            &AROUND,
            &call(),
            (at(seconds[0]), at(seconds[1])),
            outcome,
        )
    }

    fn call() -> Call {
        Call {
            client: Client::Pod {
                node: 1,
                number: 100,
            },
            service: 1,
            frontend: Frontend::ClusterIp,
            v6: false,
            protocol: Protocol::Tcp,
            to: "10.96.1.1:80".parse().unwrap(),
            port: 0,
        }
    }

    fn answer(who: &str, seen: &str) -> Outcome {
        Outcome::Answered {
            who: who.to_owned(),
            seen: seen.parse().unwrap(),
        }
    }

    #[test]
    fn an_answer_is_right_from_an_endpoint_of_its_time_that_saw_the_client() {
        let is_right = |versions: &[Option<&[Endpoint]>], seconds, who, seen| {
            sentence(versions, seconds, &answer(who, seen)) == Sentence::Right
        };
        let (one, none): (&[Endpoint], &[Endpoint]) = (&[POD], &[]);
        let own = "10.244.1.100";
        assert!(is_right(&[Some(one)], [20, 21], "pod-1-10/8001", own));
        assert!(!is_right(&[Some(one)], [20, 21], "pod-1-10/8002", own));
        assert!(!is_right(&[Some(one)], [20, 21], "pod-1-11/8001", own));
        assert!(!is_right(
            &[Some(one)],
            [20, 21],
            "pod-1-10/8001",
            "172.18.0.1"
        ));
        assert!(is_right(
            &[Some(one), Some(none)],
            [105, 106],
            "pod-1-10/8001",
            own
        ));
        assert!(!is_right(
            &[Some(one), Some(none)],
            [120, 121],
            "pod-1-10/8001",
            own
        ));
        assert!(!is_right(
            &[Some(one), None],
            [120, 121],
            "pod-1-10/8001",
            own
        ));
    }

    #[test]
    fn an_answer_from_the_endpoint_itself_is_wrong_unless_the_flows_were_just_flushed() {
        let (start, call) = (Instant::now(), call());
        let outcome = Outcome::Untranslated("10.244.1.10:8001 answered".to_owned());
        let mut history = History::default();
        let span = (start, start + Duration::from_secs(1));
        let said = |history: &History| judge(history, &AROUND, &call, span, &outcome);
        assert!(matches!(said(&history), Sentence::Wrong(_)));
        history.excuse(start, "an uplink was down", Whose::All);
        assert!(matches!(said(&history), Sentence::Wrong(_)));
        let mut history = History::default();
        history.excuse(start, FLUSHED, Whose::All);
        assert_eq!(said(&history), Sentence::Excused(FLUSHED));
    }

    #[test]
    fn a_socket_is_aborted_only_if_endpoints_changed_and_never_a_pods() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::default();
        for (from, endpoints) in [(0, &[POD][..]), (100, &[])] {
            let service = Service::new(1, Policy::Cluster, endpoints);
            history.write(at(from), 1, Some(service));
            history.settle(at(from + 10));
        }
        let is_right = |client, seconds: u64| {
            let call = Call {
                client,
                protocol: Protocol::Udp,
                ..call()
            };
            let span = (at(seconds), at(seconds + 2));
            judge(&history, &AROUND, &call, span, &Outcome::Aborted) == Sentence::Right
        };
        let host = Client::Host { node: 1 };
        assert!(is_right(host, 99));
        assert!(!is_right(host, 20));
        assert!(!is_right(call().client, 99));
    }

    #[test]
    fn no_answer_is_right_only_while_there_was_to_be_none() {
        let (one, none): (&[Endpoint], &[Endpoint]) = (&[POD], &[]);
        let said = |versions: &[Option<&[Endpoint]>], seconds, outcome| {
            sentence(versions, seconds, &outcome)
        };
        assert!(matches!(
            said(&[Some(one)], [20, 21], Outcome::Refused),
            Sentence::Lost(_)
        ));
        assert_eq!(
            said(&[Some(none)], [20, 21], Outcome::Refused),
            Sentence::Right
        );
        assert!(matches!(
            said(&[Some(none)], [20, 21], Outcome::Silent),
            Sentence::Lost(_)
        ));
        assert_eq!(
            said(&[Some(one), None], [120, 121], Outcome::Silent),
            Sentence::Right
        );
        assert_eq!(
            said(&[Some(one), Some(none)], [99, 101], Outcome::Refused),
            Sentence::Right
        );
    }
}
