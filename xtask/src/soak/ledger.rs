//! What all clients saw, counted; what was wrong, in words.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::judge::Sentence;

/// Of each kind of complaint so many are kept in words.
const KEPT: usize = 40;

/// What traffic is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// A connection with one payload, then closed.
    ShortTcp,
    /// A datagram and its answer, a socket each.
    Datagram,
    /// One in fragments.
    LargeDatagram,
    /// A connection with question after question.
    Talk,
    /// A connection with as many bytes as fit, both ways.
    Transfer,
    /// One socket with one port that asks several VIPs in turn.
    OneSocket,
    /// Connections and datagrams of a client that stays with an endpoint.
    Sticky,
    /// An echo request to a ClusterIP.
    Echo,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ShortTcp => "short TCP connections",
            Self::Datagram => "datagrams",
            Self::LargeDatagram => "large datagrams",
            Self::Talk => "long TCP conversations",
            Self::Transfer => "TCP transfers",
            Self::OneSocket => "datagrams of one socket to several VIPs",
            Self::Sticky => "flows with session affinity",
            Self::Echo => "echoes of ClusterIPs",
        })
    }
}

/// One kind's numbers.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Tally {
    /// Flows, or of long ones questions.
    pub(super) asked: u64,
    /// Those that were as they had to be.
    pub(super) right: u64,
    /// Those that failed for a reason.
    pub(super) excused: u64,
    /// Those that failed without.
    pub(super) lost: u64,
    /// Answers that may never be.
    pub(super) wrong: u64,
    /// Datagrams that were sent again.
    pub(super) resent: u64,
    /// Bytes that came back as they were sent.
    pub(super) bytes: u64,
}

/// Everything that is counted.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Ledger {
    /// By kind of traffic.
    pub(super) kinds: BTreeMap<Kind, Tally>,
    /// How often which excuse was needed.
    pub(super) excuses: BTreeMap<&'static str, u64>,
    /// What was wrong or lost, or not as it should be at the end.
    pub(super) complaints: Vec<String>,
    /// Those that are not in words any more.
    pub(super) unsaid: u64,
    /// What was done, and how often.
    pub(super) actions: BTreeMap<&'static str, u64>,
    /// Answers to a datagram that had been given up, or was sent again.
    pub(super) late: u64,
}

impl Ledger {
    /// One more flow, or question of one.
    pub(super) fn enter(&mut self, kind: Kind, about: &dyn fmt::Display, sentence: Sentence) {
        let tally = self.kinds.entry(kind).or_default();
        tally.asked += 1;
        match sentence {
            Sentence::Right => tally.right += 1,
            Sentence::Excused(reason) => {
                tally.excused += 1;
                *self.excuses.entry(reason).or_default() += 1;
            }
            Sentence::Wrong(why) => {
                tally.wrong += 1;
                self.complain(format!("wrong: {kind}: {about}: {why}"));
            }
            Sentence::Lost(why) => {
                tally.lost += 1;
                self.complain(format!("lost: {kind}: {about}: {why}"));
            }
        }
    }

    /// Bytes that came back, and datagrams that had to be sent again.
    pub(super) fn count(&mut self, kind: Kind, bytes: usize, resent: u64) {
        let tally = self.kinds.entry(kind).or_default();
        tally.bytes += bytes as u64;
        tally.resent += resent;
    }

    /// Something is not as it should be.
    pub(super) fn complain(&mut self, complaint: String) {
        if self.complaints.len() < KEPT {
            self.complaints.push(complaint);
        } else {
            self.unsaid += 1;
        }
    }

    /// All kinds together.
    pub(super) fn total(&self) -> Tally {
        self.kinds.values().fold(Tally::default(), |a, b| Tally {
            asked: a.asked + b.asked,
            right: a.right + b.right,
            excused: a.excused + b.excused,
            lost: a.lost + b.lost,
            wrong: a.wrong + b.wrong,
            resent: a.resent + b.resent,
            bytes: a.bytes + b.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_and_only_so_much_is_said() {
        let mut ledger = Ledger::default();
        for _ in 0..KEPT + 3 {
            ledger.enter(Kind::Talk, &"x", Sentence::Lost("y".into()));
        }
        ledger.enter(Kind::Echo, &"x", Sentence::Excused("z"));
        ledger.enter(Kind::Echo, &"x", Sentence::Right);
        let total = ledger.total();
        let counted = (total.asked, total.right, total.excused, total.lost);
        assert_eq!(counted, (KEPT as u64 + 5, 1, 1, KEPT as u64 + 3));
        assert_eq!((ledger.complaints.len(), ledger.unsaid), (KEPT, 3));
        assert_eq!(ledger.excuses["z"], 1);
    }
}
