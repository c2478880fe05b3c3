//! What became of a packet: error type, drop reason, metric slot and label in one.
//!
//! Every packet that concerns a service ends in exactly one verdict, counted once in the per-CPU array
//! `VERDICTS` at the verdict's number. Packets that are none of ours are not counted: they must cost
//! next to nothing.

macro_rules! verdicts {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $label:literal, $action:ident;)*) => {
        /// What became of a packet that concerns a service.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Verdict {
            $($(#[$doc])* $name = $number,)*
        }

        impl Verdict {
            /// All verdicts, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The label in metrics and tables.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What the hook does with the packet.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Self::$name => Action::$action,)* }
            }
        }
    };
}

/// What a hook does with a packet after its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand it on: to the next program on the device, then to the stack.
    Pass,
    /// Drop it.
    Drop,
    /// Send it back by the device it came from: it has been turned into the answer.
    Reply,
}

verdicts! {
    /// Client to endpoint: destination translated.
    Dnat = 0, "dnat", Pass;
    /// Endpoint to client: source translated back.
    RevNat = 1, "rev-nat", Pass;
    /// Client to endpoint without a service, moved to another source port because the client already
    /// uses its own one for the same endpoint through a VIP (rule 99).
    PortMoved = 2, "port-moved", Pass;
    /// ICMP error for a client, about a packet it sent to a VIP (rule 97).
    IcmpToClient = 3, "icmp-to-client", Pass;
    /// ICMP error from a client, about a packet it got from a VIP (rule 97).
    IcmpToEndpoint = 4, "icmp-to-endpoint", Pass;
    /// The service has no endpoint: refused with a TCP reset or ICMP port unreachable (rule 40).
    NoEndpoint = 5, "no-endpoint", Reply;
    /// A piece of a packet for a ClusterIP that cannot be translated: the piece with the ports did not pass before it,
    /// or is too short for them; or SCTP to another port, whose checksum is over all pieces (rule 98).
    Fragment = 6, "fragment", Drop;
    /// The flow table did not take the entry, retries included.
    FlowTableFull = 7, "flow-table-full", Drop;
    /// No source port is left that would tell this flow from another one (rule 99).
    NoPort = 8, "no-port", Drop;
    /// The packet could not be written to (no memory for a private copy, or shorter than its headers).
    NotWritable = 9, "not-writable", Drop;
    /// The agent wrote a frontend whose slots do not exist: an error of ours.
    BadSlot = 10, "bad-slot", Drop;
    /// To be refused, but so many were in this second that the client is left waiting.
    RejectLimited = 11, "reject-limited", Drop;
    /// To be refused, but there is no answer: a reset itself, or a frame with tags, options or extension
    /// headers.
    Unanswered = 12, "unanswered", Drop;
    /// The service has endpoints, but none on this node, and its policy is Local (rule 41).
    NoLocalEndpoint = 13, "no-local-endpoint", Drop;
    /// A ClusterIP, but none of its ports: refused (rule 49).
    UnknownPort = 14, "unknown-port", Reply;
    /// An address of a ServiceCIDR that no Service has (rule 50).
    Unallocated = 15, "unallocated", Drop;
    /// TCP: the endpoint has left every slice, and its clients are to know (`--tcp-reset-dead-endpoints`).
    EndpointGone = 16, "endpoint-gone", Reply;
    /// Client to endpoint, on its way out: the client got an address of this node, so that the answer comes
    /// back here.
    Snat = 17, "snat", Pass;
    /// Endpoint to client, on its way in: the client has its own address again.
    Unsnat = 18, "un-snat", Pass;
    /// The client needs an address of the device that its packet leaves by, and there is none of the family.
    NoSnatAddress = 19, "no-snat-address", Drop;
    /// The client needs an address of this node, and no port of it is left for this endpoint.
    NoSnatPort = 20, "no-snat-port", Drop;
    /// The client is in none of the load balancer's source ranges (rules 47 and 48).
    SourceDenied = 21, "source-denied", Drop;
    /// Client to endpoint on another node, sent on by XDP: destination and source translated.
    XdpToEndpoint = 22, "xdp-to-endpoint", Pass;
    /// Endpoint on another node to client, sent on by XDP: both translated back.
    XdpToClient = 23, "xdp-to-client", Pass;
    /// A process of the node connects or sends to a VIP: its socket talks to an endpoint.
    Socket = 24, "socket", Pass;
    /// An ICMP echo request to a ClusterIP, or a piece of one: answered here.
    Echo = 25, "echo", Reply;
}

/// Number of entries of `VERDICTS`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are two dozen verdicts"
)]
pub const VERDICT_COUNT: u32 = Verdict::ALL.len() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_labels_distinct() {
        let mut labels = std::collections::BTreeSet::new();
        for (i, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, i);
            assert!(labels.insert(verdict.label()));
        }
    }
}
