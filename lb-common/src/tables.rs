//! The layouts of the maps that the agent fills and the datapath reads.
//!
//! Long because: the layouts, their asserted sizes and the marker traits are to be read side by side.
//!
//! Every type is `repr(C)` without implicit padding; the sizes are asserted below, since a compiler that
//! laid them out differently on the two sides would mis-route packets without a word. Addresses and
//! ports are in network byte order, everything else in native byte order.

use core::fmt::Debug;

use crate::address::{Address, Family, V4, V6};
pub use crate::problem::{PROBLEM_LEN, PROBLEMS, ProblemText};

/// Version of every layout in this module and in [`crate::flow`]: part of the pin directory's name, so
/// that an agent never interprets maps that another version made.
pub const SCHEMA_VERSION: u32 = if cfg!(feature = "next-schema") { 5 } else { 4 };

/// The oldest version whose maps an agent takes over: since then, keys have not changed and values have only grown at
/// their end, where zero means what it meant before. Of a newer version an agent takes over what it knows.
pub const CARRIED_SINCE: u32 = 4;

/// What a client addresses: the key of `FRONTENDS_V4` and `FRONTENDS_V6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FrontendKey<A> {
    /// The VIP.
    pub addr: A,
    /// Destination port, network byte order.
    pub port: u16,
    /// IP protocol number.
    pub proto: u8,
    /// Always zero.
    pub pad: u8,
}

impl<A: Address> FrontendKey<A> {
    /// The key for `addr:port/proto`; `port` in network byte order.
    #[inline(always)]
    pub const fn new(addr: A, port: u16, proto: u8) -> Self {
        Self {
            addr,
            port,
            proto,
            pad: 0,
        }
    }

    /// The key of the mark of a VIP, see [`Frontend::VIP`].
    #[inline(always)]
    pub const fn mark(addr: A) -> Self {
        Self::new(addr, 0, 0)
    }

    /// Whether this is the key of a mark.
    pub const fn is_mark(&self) -> bool {
        self.port == 0 && self.proto == 0
    }
}

/// What happens to packets for a frontend: the value of `FRONTENDS_V4` and `FRONTENDS_V6`.
///
/// `slot_base..slot_base + slot_count` is the range of the slots array that holds the ids of the
/// endpoints that new flows may go to. A range in use is never rewritten: a change fills a new range and
/// then replaces this value, which is one atomic update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Frontend {
    /// First slot of the range.
    pub slot_base: u32,
    /// Number of slots; 0: there is nowhere to go (rules 40 and 41, see [`Frontend::DROP`]).
    pub slot_count: u32,
    /// Id of the service port; its record is in `SERVICES`, its counters at [`traffic_index`].
    pub service: u32,
    /// Bits below.
    pub flags: u32,
    /// Session affinity by client address: seconds that an endpoint stays the client's after its last
    /// new flow (rule 69); 0: none.
    pub affinity: u32,
    /// With [`Frontend::SPLIT`]: first slot for clients inside, see there.
    pub inner_base: u32,
    /// With [`Frontend::SPLIT`]: number of slots for clients inside.
    pub inner_count: u32,
    /// Of the version of the tests: 1.
    #[cfg(feature = "next-schema")]
    pub grown: u32,
}

impl Frontend {
    /// With no slots: new flows are dropped instead of refused, because there are endpoints, only none
    /// that this node may use (rule 41).
    pub const DROP: u32 = 1;
    /// The slots are those of the local list ([`Endpoint::LOCAL`]), not of the cluster list.
    pub const LOCAL: u32 = 2;
    /// No frontend but the mark of a VIP, at port 0 and protocol 0: the address is a ClusterIP, so that
    /// its other ports are refused (rule 49) and are not nobody's (rule 50).
    pub const VIP: u32 = 4;
    /// Clients inside, that is pods of this node and the node itself, get the cluster list at `inner_base`;
    /// the slots proper, the local list, are for everybody else (rules 42 and 45).
    pub const SPLIT: u32 = 8;
    /// For the node's own processes only: packets that come in by a device are none of its business. So
    /// are the node ports of loopback addresses.
    pub const HOST_ONLY: u32 = 16;
    /// Clients must be in one of the service's `SOURCES` (rule 47).
    pub const SOURCE_RANGES: u32 = 32;
    /// With source ranges: the node's own processes are in none of them.
    pub const NODE_DENIED: u32 = 64;
    /// It is a node port.
    pub const NODE_PORT: u32 = 128;
    /// Its address is a load balancer's.
    pub const LOAD_BALANCER: u32 = 256;
    /// Its address is one of `externalIPs`.
    pub const EXTERNAL_IP: u32 = 512;
    /// What clients reach by another address than the cluster IP.
    pub const EXTERNAL: u32 = Self::NODE_PORT | Self::LOAD_BALANCER | Self::EXTERNAL_IP;
}

/// An endpoint of a service port: the entry of `ENDPOINTS_V4` and `ENDPOINTS_V6` at [`endpoint_index`] of
/// its id.
///
/// Every endpoint that some slice names has one, whether or not new flows may go there, so that a flow
/// whose endpoint has left is recognised by its id alone. What an id stands for never changes but for
/// `state`; when the place is given to another endpoint, the id there is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Endpoint<A> {
    /// Its id: [`endpoint_index`] and a generation, see [`endpoint_id`]; 0: never used.
    pub id: u32,
    /// Id of the service port.
    pub service: u32,
    /// The endpoint's address.
    pub addr: A,
    /// Its port, network byte order.
    pub port: u16,
    /// What may be done with it: bits below; 0: it has left every slice.
    pub state: u16,
}

impl<A: Address> Endpoint<A> {
    /// An endpoint that has no id yet; `port` in network byte order.
    pub const fn new(addr: A, port: u16) -> Self {
        Self {
            id: 0,
            service: 0,
            addr,
            port,
            state: 0,
        }
    }
}

/// Bits of [`Endpoint::state`].
impl<A> Endpoint<A> {
    /// Some slice names it.
    pub const KNOWN: u16 = 1;
    /// It answers, whether or not it is about to leave: UDP flows stay with it (rules 73 and 74).
    pub const SERVING: u16 = 2;
    /// New flows under the Cluster policy may go to it (rule 31).
    pub const CLUSTER: u16 = 4;
    /// New flows under the Local policy may go to it (rule 32).
    pub const LOCAL: u16 = 8;
    /// It runs on this node (rule 16), whatever may be done with it: its answers pass here by themselves.
    pub const HERE: u16 = 16;
}

/// Where an endpoint with that id stands.
#[inline(always)]
pub const fn endpoint_index(id: u32) -> u32 {
    id & (MAX_ENDPOINTS - 1)
}

/// The id of the endpoint at `index` (below [`MAX_ENDPOINTS`]) in `generation`. Generations begin with 1 and
/// after 255 begin again.
#[inline(always)]
pub const fn endpoint_id(index: u32, generation: u8) -> u32 {
    (generation as u32) << 24 | index
}

/// The generation of an id; 0: never used.
#[inline(always)]
pub const fn endpoint_generation(id: u32) -> u8 {
    (id >> 24) as u8
}

/// Most endpoints of a family that can have ids.
pub const MAX_ENDPOINTS: u32 = 1 << 24;

/// A range of addresses that VIPs are taken from: an entry of `RANGES_V4` and `RANGES_V6`, which are
/// searched from 0 up to the first with no flags.
///
/// It decides on packets without a frontend: only where a range has them are they looked at further. An
/// entry is never rewritten in one go, see `control::maps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct VipRange<A> {
    /// First address.
    pub addr: A,
    /// Ones where `addr` counts.
    pub mask: A,
    /// Bits below; 0: this and what follows is unused.
    pub flags: u32,
}

impl<A> VipRange<A> {
    /// There are VIPs in it: look for a mark ([`Frontend::VIP`]).
    pub const VIPS: u32 = 1;
    /// It is a ServiceCIDR: what has no mark is nobody's and is dropped (rule 50).
    pub const SERVICE_CIDR: u32 = 2;
}

impl<A: Address> VipRange<A> {
    /// Whether the address is one of the range's.
    #[inline(always)]
    pub fn contains(&self, addr: &A) -> bool {
        let (first, mask) = (self.addr.words(), self.mask.words());
        let words = addr.words();
        // Most addresses differ in the first word, and need no other.
        if words[0] & mask[0] != first[0] {
            return false;
        }
        let mut differ = 0;
        for (i, word) in words.iter().enumerate().skip(1) {
            differ |= (word & mask[i]) ^ first[i];
        }
        differ == 0
    }
}

/// Entries of `CHANGES`, by which a datagram knows that its frontend is what it was for the one before, without a lookup.
///
/// A flow's first packet in a tick looks; those after it need not, unless a frontend has changed in that tick. The agent
/// does not know the flow clock: it counts, and the first packet that sees another count notes the tick.
pub mod change {
    /// How often the agent has removed a frontend, or given one to another service port; added to after it has.
    pub const EPOCH: u32 = 0;
    /// The count that packets have seen last.
    pub const NOTED: u32 = 1;
    /// The tick in which they did.
    pub const TICK: u32 = 2;
    /// How many entries there are.
    pub const ENTRIES: u32 = 3;
}

/// Number of entries of `RANGES_V4` and `RANGES_V6`.
pub const VIP_RANGES: u32 = 8;

/// Number of entries of `LOCALS_V4` and `LOCALS_V6`: the networks that pods of this node have their addresses
/// from, where that is how they are told (rule 59). They are searched like the ranges of VIPs, and any flag will do;
/// if the first has none, [`Device::PODS`] tells.
pub const LOCAL_RANGES: u32 = 2;

/// Addresses that the clients of a service port may have: the key of the tries `SOURCES_V4` and `SOURCES_V6`,
/// whose prefix lengths count from the first bit of `service`, that is 32 more than the network's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Source<A> {
    /// Id of the service port, native byte order: it always counts as a whole.
    pub service: u32,
    /// The client, or the first address of its network.
    pub addr: A,
}

/// What a process of the node calls: the key of `SOCKETS_V4` and `SOCKETS_V6`, which hold two entries for each.
///
/// ```text
///   forward  {socket, vip:vp}       =>  {peer: endpoint:ep}   which endpoint the socket has got
///   reverse  {socket, endpoint:ep}  =>  {peer: vip:vp}        whom the socket believes to talk to
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct SocketKey<A> {
    /// The socket's cookie, its halves in native order: as words, so that the key has no padding.
    pub cookie: [u32; 2],
    /// Whom it talks to.
    pub addr: A,
    /// Port, network byte order.
    pub port: u16,
    /// IP protocol number.
    pub proto: u8,
    /// 0 forward, 1 reverse: an endpoint may be another service's VIP.
    pub way: u8,
}

/// What that stands for: the value of `SOCKETS_V4` and `SOCKETS_V6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Socket<A> {
    /// Forward: the endpoint. Reverse: the VIP.
    pub peer: A,
    /// The peer's port, network byte order.
    pub peer_port: u16,
    /// Always zero.
    pub pad: u16,
    /// Id of the endpoint.
    pub endpoint: u32,
    /// Id of the service port.
    pub service: u32,
    /// When it was last used, on the flow clock.
    pub seen: u32,
}

/// A client of a service port with session affinity: the key of `AFFINITY_V4` and `AFFINITY_V6`. The VIP is no
/// part of it (rule 68).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct AffinityKey<A> {
    /// The client, as it was before any SNAT (rule 72).
    pub client: A,
    /// Id of the service port.
    pub service: u32,
}

/// Where a client's new flows go: the value of `AFFINITY_V4` and `AFFINITY_V6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Affinity {
    /// Id of the endpoint. That it is still usable is seen from its entry (rule 70).
    pub endpoint: u32,
    /// When the client last opened a flow, on the flow clock (rule 69).
    pub seen: u32,
}

/// Per-CPU counters of one service port in one family: an entry of `TRAFFIC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Traffic {
    /// Flows that were given an endpoint.
    pub flows: u64,
    /// Packets translated from client to endpoint. A GSO super-packet counts once.
    pub packets_in: u64,
    /// Bytes of those packets, link-layer header included.
    pub bytes_in: u64,
    /// Packets translated from endpoint to client.
    pub packets_out: u64,
    /// Bytes of those packets, link-layer header included.
    pub bytes_out: u64,
}

/// Index into `TRAFFIC` of service port `service` in `family`: the two families of a service port
/// share its id and stand side by side.
#[inline(always)]
pub const fn traffic_index(service: u32, family: Family) -> u32 {
    service << 1 | matches!(family, Family::V6) as u32
}

/// What the datapath must know of a device: the value of `DEVICES`, keyed by ifindex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Device {
    /// ifindex of the bridge this device is a port of: frames that enter by it may be switched without
    /// being routed. 0: not a bridge port.
    pub bridge: u32,
    /// How the programs are attached: bits below.
    pub attached: u32,
    /// What is behind it: bits below.
    pub role: u32,
    /// The address that clients get on egress by this device if they need another than their own; 0: none.
    pub v4: V4,
    /// The same for IPv6.
    pub v6: V6,
}

impl Device {
    /// By tcx links (kernel 6.6).
    pub const TCX: u32 = 1;
    /// By filters of a clsact qdisc.
    pub const CLSACT: u32 = 2;
    /// The qdisc is our own: removed by a clean-up.
    pub const QDISC: u32 = 4;
    /// XDP in the driver.
    pub const XDP_NATIVE: u32 = 8;
    /// XDP in the stack's stead.
    pub const XDP_GENERIC: u32 = 16;
    /// XDP was tried and refused: in the driver if another way is used, else every way.
    pub const XDP_REFUSED: u32 = 32;
    /// XDP was tried, and another program was there.
    pub const XDP_BUSY: u32 = 64;

    /// The rest of the world is behind it: who comes in by it is no pod of this node, and answers to him from
    /// another node would go past this one.
    pub const UPLINK: u32 = 1;
    /// Who comes in by it is a pod of this node, where addresses do not say so (`LOCALS_V4` and `LOCALS_V6`).
    pub const PODS: u32 = 2;
    /// A veth whose other end is in another network namespace: packets may skip the way between the two.
    pub const PEER: u32 = 4;
    /// It has no link layer: what comes in by it cannot be sent on without the stack.
    pub const NO_LINK: u32 = 8;
}

/// What the agent says of itself: the only entry of `AGENT`. Never read by the datapath.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AgentState {
    /// When the agent last wrote the maps in full agreement with its sources, in seconds since 1970; 0:
    /// not yet since it started.
    pub synced_at: u64,
    /// When it started, in seconds since 1970.
    pub started_at: u64,
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// Objects that it could not serve as they are; its log names them.
    pub problems: u32,
    /// Jiffies a second, for the age of flows.
    pub hz: u32,
    /// First and last port that SNAT gives to clients.
    pub snat: [u16; 2],
    /// Seconds that flows may be silent for, by [`crate::flow::state::State`].
    pub timeouts: [u32; crate::flow::state::STATE_COUNT],
}

/// Longest namespace, Service or port name, in bytes: a DNS label (RFC 1123) plus one to make it even.
pub const NAME_LEN: usize = 64;

/// What a service id stands for: the value of `SERVICES`, keyed by id. Never read by the datapath.
///
/// The reading commands of the CLI and a restarted agent take names, ids and assigned addresses from
/// here. One record per (namespace, service, port name, protocol) (rule 9); a headless or ExternalName
/// Service has a single record with protocol 0 and no frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ServiceRecord {
    /// Namespace, padded with zero bytes.
    pub namespace: [u8; NAME_LEN],
    /// Name of the Service, padded with zero bytes.
    pub name: [u8; NAME_LEN],
    /// Name of the port, padded with zero bytes; empty for an unnamed one.
    pub port_name: [u8; NAME_LEN],
    /// `clusterIPs` in order; an IPv4 address stands in the first four bytes. Unused ones are zero.
    pub cluster_ips: [[u8; 16]; 2],
    /// `ipFamilies` in order, as [`Family`] numbers; 0 where there is none.
    pub families: [u8; 2],
    /// Service port, native byte order; 0 for a record without port.
    pub port: u16,
    /// IP protocol number; 0 for a record without port.
    pub protocol: u8,
    /// `ipFamilyPolicy`: 0 none, 1 SingleStack, 2 PreferDualStack, 3 RequireDualStack.
    pub policy: u8,
    /// Kind of Service: 0 ClusterIP, 1 NodePort, 2 LoadBalancer, 3 ExternalName, 4 headless.
    pub kind: u8,
    /// Always zero.
    pub pad: u8,
}

/// Sizes in bytes. A change here is a change of [`SCHEMA_VERSION`].
const _: () = {
    assert!(size_of::<FrontendKey<V4>>() == 8);
    assert!(size_of::<FrontendKey<V6>>() == 20);
    assert!(
        size_of::<Frontend>()
            == if cfg!(feature = "next-schema") {
                32
            } else {
                28
            }
    );
    assert!(size_of::<Source<V4>>() == 8);
    assert!(size_of::<Source<V6>>() == 20);
    assert!(size_of::<SocketKey<V4>>() == 16);
    assert!(size_of::<SocketKey<V6>>() == 28);
    assert!(size_of::<Socket<V4>>() == 20);
    assert!(size_of::<Socket<V6>>() == 32);
    assert!(size_of::<Endpoint<V4>>() == 16);
    assert!(size_of::<Endpoint<V6>>() == 28);
    assert!(size_of::<VipRange<V4>>() == 12);
    assert!(size_of::<VipRange<V6>>() == 36);
    assert!(size_of::<AffinityKey<V4>>() == 8);
    assert!(size_of::<AffinityKey<V6>>() == 20);
    assert!(size_of::<Affinity>() == 8);
    assert!(size_of::<Traffic>() == 40);
    assert!(size_of::<Device>() == 32);
    assert!(size_of::<ProblemText>() == PROBLEM_LEN);
    assert!(size_of::<AgentState>() == 56);
    assert!(size_of::<ServiceRecord>() == 3 * NAME_LEN + 32 + 8);
};

#[cfg(feature = "aya")]
mod pod {
    use super::{
        Affinity, AffinityKey, AgentState, Device, Endpoint, Frontend, FrontendKey, ProblemText,
        ServiceRecord, Socket, SocketKey, Source, Traffic, V4, V6, VipRange,
    };

    // SAFETY: repr(C), Copy, 'static, made of integers only, no padding (asserted above), so every
    // byte is initialised and every bit pattern is valid.
    unsafe impl aya::Pod for FrontendKey<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FrontendKey<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Frontend {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Endpoint<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Endpoint<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for VipRange<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for VipRange<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for AffinityKey<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for AffinityKey<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Source<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Source<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SocketKey<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SocketKey<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Socket<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Socket<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Affinity {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Traffic {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Device {}
    // SAFETY: as above.
    unsafe impl aya::Pod for AgentState {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProblemText {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ServiceRecord {}
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    fn range<A: Address>(first: &str, mask: &str) -> VipRange<A> {
        VipRange {
            addr: address(first),
            mask: address(mask),
            flags: VipRange::<A>::VIPS,
        }
    }

    fn address<A: Address>(text: &str) -> A {
        A::from_ip(text.parse::<IpAddr>().unwrap()).unwrap()
    }

    #[test]
    fn a_range_contains_what_agrees_with_it_in_every_word_of_the_mask() {
        let v4 = range::<V4>("10.96.0.0", "255.240.0.0");
        for (text, is_inside) in [
            ("10.96.0.0", true),
            ("10.111.255.255", true),
            ("10.112.0.0", false),
            ("11.96.0.1", false),
        ] {
            assert_eq!(v4.contains(&address(text)), is_inside, "{text}");
        }
        let v6 = range::<V6>("fd00:10:96::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:0");
        for (text, is_inside) in [
            ("fd00:10:96::", true),
            ("fd00:10:96::ffff", true),
            ("fd00:10:96::1:0", false),
            ("fd00:10:96:0:8000::", false),
            ("fd01:10:96::", false),
        ] {
            assert_eq!(v6.contains(&address(text)), is_inside, "{text}");
        }
        assert!(range::<V6>("::", "::").contains(&address("2001:db8::1")));
    }
}
