//! Where objects come from. Every source speaks one contract, [`Event`], over a channel.
//!
//! `Init` opens a complete listing of one kind of object, `InitDone` closes it: what of that kind was known
//! before and is not applied in between is gone. Every source lists every [`Kind`], also one that it has
//! no objects of; nothing is written to the maps before all have been listed once (rule 5).

pub mod kube;
pub mod manifests;
pub mod objects;

use crate::model::{EndpointSlice, Node, NodeAddress, ObjectKey, Service, ServiceCidr};

/// A kind of object that sources list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The Services that are ours to serve (rules 1 and 3).
    Services,
    /// The EndpointSlices that are not of headless Services (rule 2).
    Slices,
    /// The node the agent runs on, and no other (rule 4).
    Nodes,
    /// All ServiceCIDRs.
    ServiceCidrs,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Services,
        Self::Slices,
        Self::Nodes,
        Self::ServiceCidrs,
    ];
}

/// What a source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A complete listing of that kind begins.
    Init(Kind),
    /// The object exists and looks like this.
    ApplyService(Service),
    /// The object exists, and what it says now cannot be: what is known of it stays in force. Said in listings, which
    /// else would be the end of it. The namespace is empty for kinds that have none.
    Keep(Kind, ObjectKey),
    /// The Service is gone.
    DeleteService(ObjectKey),
    /// The slice exists and looks like this.
    ApplySlice(EndpointSlice),
    /// The slice is gone.
    DeleteSlice(ObjectKey),
    /// The agent's own node exists and looks like this.
    ApplyNode(Node),
    /// The node of that name is gone.
    DeleteNode(String),
    /// The ServiceCIDR exists and looks like this.
    ApplyServiceCidr(ServiceCidr),
    /// The ServiceCIDR of that name is gone.
    DeleteServiceCidr(String),
    /// The listing that `Init` opened is complete.
    InitDone(Kind),
    /// These are all the addresses of the node now, as the kernel says: the agent's own word, not a source's.
    ///
    /// It comes before the first `InitDone`, and again with every change. A plan that is made without it knows of
    /// no node ports, and a restarted agent would remove those that are in the maps.
    NodeAddresses(Vec<NodeAddress>),
}
