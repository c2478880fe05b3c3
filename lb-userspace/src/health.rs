//! Whether this node's services are kept up to date, and whether load balancers should send traffic here.
//!
//! Pure: what happens and when comes in, an answer for `/healthz` and `/livez` comes out (rules 85 and 86, and
//! kube-proxy's pkg/proxy/healthcheck/proxy_health.go, whose JSON this is). The agent's loop feeds it, the
//! health server asks it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use lb_common::address::Family;
use serde::Serialize;

use crate::source::{Event, Kind};

/// How long a change may wait to be written: twice kube-proxy's sync period of 30 s (rule 86).
pub const PATIENCE: Duration = Duration::from_secs(60);

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The families whose maps `event` may change.
pub fn families_of(event: &Event) -> &'static [Family] {
    match event {
        Event::Init(_) | Event::InitDone(_) => &[],
        Event::ApplySlice(slice) => match slice.family {
            Family::V4 => &[Family::V4],
            Family::V6 => &[Family::V6],
        },
        _ => &FAMILIES,
    }
}

/// A point in time, for comparing and for showing.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Never goes back.
    pub at: Instant,
    /// What clocks show.
    pub wall: SystemTime,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self {
            at: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// What is known of the health.
#[derive(Debug)]
pub struct Health {
    v4: FamilyHealth,
    v6: FamilyHealth,
    node: NodeHealth,
}

/// One family's part.
#[derive(Debug, Default)]
struct FamilyHealth {
    /// When the maps last were in step with what was known.
    updated: Option<SystemTime>,
    /// Since when the oldest change has been waiting.
    queued: Option<Instant>,
}

/// What is known of the node.
#[derive(Debug)]
struct NodeHealth {
    /// Whether it is about to be deleted; `None`: there is no such Node.
    leaving: Option<bool>,
    /// Whether the listing that is open has named it.
    is_named: bool,
    /// Whether Nodes have been listed.
    is_listed: bool,
    /// Whether a source without a Node is one that has nothing to say about it.
    is_optional: bool,
}

/// An answer, as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// When the maps were last updated; now, if all is well (so kube-proxy answers since old times).
    last_updated: Stamp,
    /// Now.
    current_time: Stamp,
    /// Whether the node is there and stays; only in the answer of `/healthz`.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    /// Whether both families are.
    pub healthy: bool,
    /// The families that have been updated at all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<&'static str, FamilyAnswer>,
    /// What the answer comes to, for the HTTP status.
    #[serde(skip)]
    pub ok: bool,
}

/// An answer for one family.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyAnswer {
    last_updated: Stamp,
    healthy: bool,
}

/// RFC 3339 with nanoseconds, as Go writes it; its zero time for "never".
#[derive(Clone, Copy, Debug)]
struct Stamp(Option<SystemTime>);

impl Serialize for Stamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.map(Timestamp::try_from) {
            Some(Ok(stamp)) => serializer.collect_str(&stamp),
            _ => serializer.serialize_str("0001-01-01T00:00:00Z"),
        }
    }
}

impl Health {
    /// Nothing is known yet. `node_is_optional`: there may be no Node at all (manifests), and then
    /// nothing speaks against this one.
    pub fn new(node_is_optional: bool) -> Self {
        Self {
            v4: FamilyHealth::default(),
            v6: FamilyHealth::default(),
            node: NodeHealth {
                leaving: None,
                is_named: false,
                is_listed: false,
                is_optional: node_is_optional,
            },
        }
    }

    /// Something was said that is not in the maps yet.
    pub fn queue(&mut self, event: &Event, now: Moment) {
        match event {
            Event::Init(Kind::Nodes) => self.node.is_named = false,
            Event::ApplyNode(node) => {
                self.node.leaving = Some(node.is_leaving);
                self.node.is_named = true;
            }
            Event::DeleteNode(_) => self.node.leaving = None,
            Event::InitDone(Kind::Nodes) => {
                self.node.is_listed = true;
                if !self.node.is_named {
                    self.node.leaving = None;
                }
            }
            _ => {}
        }
        for family in families_of(event) {
            // The oldest one counts.
            self.family_mut(*family).queued.get_or_insert(now.at);
        }
    }

    /// All that was said is in the maps.
    pub fn update(&mut self, now: Moment) {
        for family in FAMILIES {
            *self.family_mut(family) = FamilyHealth {
                updated: Some(now.wall),
                queued: None,
            };
        }
    }

    /// The answer of `/healthz`, for load balancers: healthy, and the node stays (rule 85).
    pub fn healthz(&self, now: Moment) -> Answer {
        let is_eligible = self.node.is_eligible();
        let mut answer = self.answer(now, is_eligible);
        answer.node_eligible = Some(is_eligible);
        answer
    }

    /// The answer of `/livez`, for the kubelet: healthy, whatever becomes of the node (rule 85).
    pub fn livez(&self, now: Moment) -> Answer {
        self.answer(now, true)
    }

    fn answer(&self, now: Moment, is_eligible: bool) -> Answer {
        let status: BTreeMap<_, _> = FAMILIES
            .into_iter()
            .filter_map(|family| Some((family.name(), self.family(family).answer(now)?)))
            .collect();
        let healthy = status.values().all(|family| family.healthy);
        let ok = healthy && is_eligible;
        let updated = [self.v4.updated, self.v6.updated].into_iter().flatten();
        Answer {
            last_updated: Stamp(if ok { Some(now.wall) } else { updated.max() }),
            current_time: Stamp(Some(now.wall)),
            node_eligible: None,
            healthy,
            status,
            ok,
        }
    }

    fn family(&self, family: Family) -> &FamilyHealth {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn family_mut(&mut self, family: Family) -> &mut FamilyHealth {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl FamilyHealth {
    /// `None` before the first update: a family that is starting is not judged.
    fn answer(&self, now: Moment) -> Option<FamilyAnswer> {
        let updated = self.updated?;
        let waits = |since| now.at.saturating_duration_since(since);
        Some(FamilyAnswer {
            last_updated: Stamp(Some(updated)),
            healthy: self.queued.is_none_or(|since| waits(since) < PATIENCE),
        })
    }
}

impl NodeHealth {
    fn is_eligible(&self) -> bool {
        match self.leaving {
            Some(leaving) => !leaving,
            None => self.is_optional && self.is_listed,
        }
    }
}

#[cfg(test)]
mod tests;
