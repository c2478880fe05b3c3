//! Flows: what the datapath remembers of a connection (own connection tracking).
//!
//! Two entries of one LRU map make a flow. The *forward* entry is keyed by the tuple the client sends,
//! the *reply* entry by the tuple the endpoint answers with; each holds what its packets are translated
//! to. No two flows may share a reply key: that is what tells an answer's VIP (rule 99).
//!
//! ```text
//!   forward  {client:cp -> vip:vp}  =>  {peer: endpoint:ep, client_port: cp'}   cp' == cp unless moved
//!   reply    {endpoint:ep -> client:cp'}  =>  {peer: vip:vp, client_port: cp}
//! ```
//!
//! A client whose answers would go past this node gets an address of the node on egress towards the endpoint:
//! two more entries, which are to the client what the first two are to the VIP.
//!
//! ```text
//!   SNAT     {client:cp' -> endpoint:ep}  =>  {peer: node:np, client_port: ep}
//!   undo     {endpoint:ep -> node:np}     =>  {peer: client:cp', client_port: ep}
//! ```
//!
//! The SNAT entry is made with the first two and has no peer yet; the undo entry, and with it the peer, is made when
//! the packet leaves, so that a CNI that masquerades before is not in its way.

pub mod state;
pub mod stats;

use crate::address::Address;
#[cfg(doc)]
use crate::tables::traffic_index;

/// A tuple as it stands in a packet: the key of `FLOWS_V4` and `FLOWS_V6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FlowKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port, network byte order.
    pub sport: u16,
    /// Destination port, network byte order.
    pub dport: u16,
    /// IP protocol number, native byte order; a word, so that the key has no padding.
    pub proto: u32,
}

impl<A: Address> FlowKey<A> {
    /// The IP protocol number as it stands in a header.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only ever made of one byte"
    )]
    pub const fn protocol(&self) -> u8 {
        self.proto as u8
    }

    /// The tuple of the packets that answer this one's.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            proto: self.proto,
        }
    }

    /// A number that is the same for every packet of the flow and, over flows, uniform in 32 bits for
    /// anyone who does not know `seed`.
    ///
    /// It picks the endpoint: an even spread without a stored state, and a flow whose entry was evicted
    /// finds the same endpoint again as long as the service is unchanged. The mixer multiplies in 64
    /// bits and folds the halves, which is one instruction each in BPF.
    #[inline(always)]
    pub fn hash(&self, seed: u64) -> u32 {
        let ports =
            u64::from(self.sport) << 48 | u64::from(self.dport) << 32 | u64::from(self.proto);
        let mut h = mix(seed ^ ports);
        let (src, dst) = (self.src.words(), self.dst.words());
        let mut i = 0;
        while i < src.len() {
            h = mix(h ^ (u64::from(src[i]) << 32 | u64::from(dst[i])));
            i += 1;
        }
        (h >> 32) as u32
    }
}

/// One round of the mixer: the finaliser of MurmurHash3 with Stafford's constants (variant 13).
#[inline(always)]
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What a flow's packets in one direction are translated to: the value of `FLOWS_V4` and `FLOWS_V6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow<A> {
    /// Forward: the endpoint. Reply: the VIP.
    pub peer: A,
    /// The peer's port, network byte order.
    pub peer_port: u16,
    /// The client's port on the other side of the translation, network byte order.
    pub client_port: u16,
    /// [`traffic_index`] of the service; [`Flow::NO_SERVICE`] for a flow that was only moved to another
    /// source port.
    pub traffic: u32,
    /// Forward: id of the endpoint, see [`crate::tables::endpoint_id`]; 0 for a flow of no service.
    pub endpoint: u32,
    /// When a packet last passed, in ticks of [`crate::flow::ticks`]; written only when it moved.
    pub seen: u32,
    /// Forward, on a bridge: the endpoint's MAC as it stands in a frame, valid when [`Flow::L2`] is set. Forward and
    /// reply with [`Flow::FAST`]: [`Flow::exit`].
    pub mac: [u16; 3],
    /// Bits below.
    pub flags: u16,
    /// Of the version of the tests: 0.
    #[cfg(feature = "next-schema")]
    pub grown: [u32; 2],
}

impl<A> Flow<A> {
    /// `traffic` of a flow that belongs to no service.
    pub const NO_SERVICE: u32 = u32::MAX;
    /// This entry is the reply one.
    pub const REPLY: u16 = 1;
    /// TCP: a packet other than the opening SYN came from the client, so a further SYN opens anew. In all entries, for
    /// their [`state`].
    pub const OPENED: u16 = 1 << 1;
    /// TCP: FIN from the client.
    pub const FIN_CLIENT: u16 = 1 << 2;
    /// TCP: FIN from the endpoint.
    pub const FIN_ENDPOINT: u16 = 1 << 3;
    /// TCP: RST from either side.
    pub const RST: u16 = 1 << 4;
    /// `mac` is the endpoint's: the bridge switches the frame there.
    pub const L2: u16 = 1 << 5;
    /// The endpoint is on the client's bridge, but its MAC was not known yet; or, of a flow that skips the stack, it is
    /// time to see whether the route is still the same: ask (again).
    pub const L2_PENDING: u16 = 1 << 6;
    /// Reply, TCP: the client has only sent SYNs, and the endpoint has not taken one up yet.
    pub const AWAITS_SYN_ACK: u16 = 1 << 7;
    /// Forward: the endpoint has a connection of its own by this tuple; the next SYN takes another port.
    pub const TAKEN: u16 = 1 << 8;
    /// This entry is the SNAT one. Its peer's port is 0 until the first packet leaves.
    pub const SNAT: u16 = 1 << 9;
    /// This entry is the undo one.
    pub const UNDO: u16 = 1 << 10;
    /// Forward: there is a SNAT entry that goes with it.
    pub const MASQUERADED: u16 = 1 << 11;
    /// Forward and undo: packets are sent on by XDP, in both directions; decided with the first one.
    pub const XDP: u16 = 1 << 12;
    /// Forward and reply: packets skip the stack, in both directions; decided with the first one.
    pub const FAST: u16 = 1 << 13;
    /// Undo, with [`Flow::XDP`]: the endpoint's side completes checksums, so that they can be mended.
    pub const COMPLETE: u16 = 1 << 14;
    /// The endpoint has answered. In all entries.
    pub const ANSWERED: u16 = 1 << 15;
    /// What tells the other kinds of entry from a forward one.
    pub const NOT_FORWARD: u16 = Self::REPLY | Self::SNAT | Self::UNDO;

    /// With [`Flow::FAST`]: ifindex of the device that packets leave by, and whether they go right to the other end of
    /// that veth.
    #[inline(always)]
    pub const fn exit(&self) -> (u32, bool) {
        let [low, high, is_peer] = self.mac;
        (low as u32 | (high as u32) << 16, is_peer != 0)
    }

    /// Sets what [`Flow::exit`] gives.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    pub const fn set_exit(&mut self, ifindex: u32, is_peer: bool) {
        self.mac = [ifindex as u16, (ifindex >> 16) as u16, is_peer as u16];
    }

    /// Whether both ends have closed, or one has reset: the tuple may serve another flow.
    #[inline(always)]
    pub const fn is_closed(&self) -> bool {
        let fins = Self::FIN_CLIENT | Self::FIN_ENDPOINT;
        self.flags & Self::RST != 0 || self.flags & fins == fins
    }
}

impl<A: Address> Flow<A> {
    /// The tuple of the answers to packets with the tuple `forward`, this being its forward entry.
    #[inline(always)]
    pub const fn reply_key(&self, forward: &FlowKey<A>) -> FlowKey<A> {
        FlowKey {
            src: self.peer,
            dst: forward.src,
            sport: self.peer_port,
            dport: self.client_port,
            proto: forward.proto,
        }
    }

    /// The reply entry that goes with this, the forward entry of `forward`.
    #[inline(always)]
    #[must_use]
    pub fn reply_entry(&self, forward: &FlowKey<A>) -> Self {
        Self {
            peer: forward.dst,
            peer_port: forward.dport,
            client_port: forward.sport,
            traffic: self.traffic,
            endpoint: 0,
            seen: self.seen,
            mac: no_mac(),
            flags: self.flags & (Self::FAST | state::STATE_FLAGS)
                | if self.flags & Self::OPENED == 0 {
                    Self::REPLY | Self::AWAITS_SYN_ACK
                } else {
                    Self::REPLY
                },
            #[cfg(feature = "next-schema")]
            grown: [0; 2],
        }
    }

    /// The tuple that the client sends, this being the reply entry of the tuple `reply`.
    #[inline(always)]
    pub const fn forward_key(&self, reply: &FlowKey<A>) -> FlowKey<A> {
        FlowKey {
            src: reply.dst,
            dst: self.peer,
            sport: self.client_port,
            dport: self.peer_port,
            proto: reply.proto,
        }
    }

    /// The tuple of the answers to packets with the tuple `snat`, this being its SNAT entry.
    #[inline(always)]
    pub const fn undo_key(&self, snat: &FlowKey<A>) -> FlowKey<A> {
        FlowKey {
            src: snat.dst,
            dst: self.peer,
            sport: snat.dport,
            dport: self.peer_port,
            proto: snat.proto,
        }
    }

    /// The undo entry that goes with this, the SNAT entry of `snat`.
    #[inline(always)]
    #[must_use]
    pub fn undo_entry(&self, snat: &FlowKey<A>) -> Self {
        Self {
            peer: snat.src,
            peer_port: snat.sport,
            client_port: snat.dport,
            traffic: self.traffic,
            endpoint: 0,
            seen: self.seen,
            mac: no_mac(),
            flags: Self::UNDO | self.flags & (Self::XDP | state::STATE_FLAGS),
            #[cfg(feature = "next-schema")]
            grown: [0; 2],
        }
    }

    /// The tuple that the client's packets leave with, this being the undo entry of the tuple `undo`.
    #[inline(always)]
    pub const fn snat_key(&self, undo: &FlowKey<A>) -> FlowKey<A> {
        FlowKey {
            src: self.peer,
            dst: undo.src,
            sport: self.peer_port,
            dport: undo.sport,
            proto: undo.proto,
        }
    }

    /// Whether this, found where the other entry of a flow with an entry at `tuple` should stand, is that flow's: each of
    /// two twins has an end of the other's tuple for its peer.
    #[inline(always)]
    pub fn is_twin(&self, tuple: &FlowKey<A>) -> bool {
        (self.peer_port == tuple.dport && self.peer == tuple.dst)
            || (self.peer_port == tuple.sport && self.peer == tuple.src)
    }

    /// Whether this is an undo entry that translates to the same as `other`.
    #[inline(always)]
    pub fn is_same_undo(&self, other: &Self) -> bool {
        self.flags & Self::UNDO != 0 && self.peer == other.peer && self.peer_port == other.peer_port
    }

    /// Whether this is a reply entry that translates to the same as `other`.
    #[inline(always)]
    pub fn is_same_reply(&self, other: &Self) -> bool {
        self.flags & Self::REPLY != 0
            && self.peer == other.peer
            && self.peer_port == other.peer_port
            && self.client_port == other.client_port
    }
}

/// No MAC yet. On BPF a zero that the compiler does not know: of three that it knows it makes a call of
/// memset, which is a loop over bytes with a stack frame of its own.
#[inline(always)]
pub fn no_mac() -> [u16; 3] {
    #[cfg(target_arch = "bpf")]
    {
        let zero: u16;
        // SAFETY: sets the register that it says it sets.
        unsafe { core::arch::asm!("{0} = 0", out(reg) zero, options(pure, nomem, nostack)) };
        [zero; 3]
    }
    #[cfg(not(target_arch = "bpf"))]
    [0; 3]
}

/// The flow clock: jiffies shifted so that one tick is about a second, as 32 bits that wrap.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the clock wraps after 136 years"
)]
pub const fn ticks(jiffies: u64, shift: u32) -> u32 {
    (jiffies >> (shift & 63)) as u32
}

/// Whether more than `timeout` ticks lie between `seen` and `now`. A moment ahead of `now` is not long
/// ago: another CPU, which read the clock just after a tick, may have written `seen` meanwhile.
#[inline(always)]
pub const fn is_past(seen: u32, now: u32, timeout: u32) -> bool {
    now.wrapping_sub(seen).cast_signed() > timeout.cast_signed()
}

/// Whether more than `seconds` lie between the ticks `seen` and `now` of a clock with this shift, the
/// kernel counting `hz` jiffies a second: exact but for the tick that either moment is within.
#[inline(always)]
pub const fn is_past_seconds(seen: u32, now: u32, seconds: u32, shift: u32, hz: u32) -> bool {
    let age = now.wrapping_sub(seen);
    age.cast_signed() > 0 && (age as u64) << (shift & 31) > seconds as u64 * hz as u64
}

/// How many ticks `seconds` are at `hz` jiffies a second, rounded up; no more than [`is_past`] can tell.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the minimum of it and 31 bits"
)]
pub const fn ticks_of(seconds: u32, hz: u32) -> u32 {
    let ticks = (seconds as u64 * hz as u64).div_ceil(1 << tick_shift(hz));
    if ticks > i32::MAX as u64 {
        i32::MAX as u32
    } else {
        ticks as u32
    }
}

/// The shift for [`ticks`] at `hz` jiffies a second: the smallest that makes a tick a second or more.
pub const fn tick_shift(hz: u32) -> u32 {
    hz.next_power_of_two().trailing_zeros()
}

const _: () = {
    use crate::address::{V4, V6};
    assert!(size_of::<FlowKey<V4>>() == 16);
    assert!(size_of::<FlowKey<V6>>() == 40);
    const GROWN: usize = if cfg!(feature = "next-schema") { 8 } else { 0 };
    assert!(size_of::<Flow<V4>>() == 28 + GROWN);
    assert!(size_of::<Flow<V6>>() == 40 + GROWN);
    assert!(size_of::<stats::Churn>() == 16);
    assert!(size_of::<stats::FlowStats>() == 56);
};

#[cfg(feature = "aya")]
mod pod {
    use super::{
        Flow, FlowKey,
        stats::{Churn, FlowStats},
    };
    use crate::address::{V4, V6};

    // SAFETY: repr(C), Copy, 'static, made of integers only, no padding (asserted above).
    unsafe impl aya::Pod for FlowKey<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowKey<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flow<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flow<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Churn {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowStats {}
}

#[cfg(test)]
mod tests;
