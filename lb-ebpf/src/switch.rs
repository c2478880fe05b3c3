//! Before and after a packet, while programs are exchanged for those of other maps: what its flow is in the former maps is
//! brought here, and what became of it there. See `maps::former`.

use lb_common::{
    cursor::Cursor,
    parse::{Packet, parse},
};

use crate::maps::{
    Tables,
    former::{copy_flow, has_flows, is_left, note},
};

/// Whether there are former maps: a load-time constant.
#[inline(always)]
pub fn is_on<A: Tables>() -> bool {
    has_flows::<A>()
}

/// Brings the flow of a packet here; whether there is something to be done after it.
#[inline(always)]
pub fn before<A: Tables>(cursor: &Cursor<'_>, l3: u16) -> bool {
    let Some(Packet::Transport(packet)) = parse::<A>(cursor, l3) else {
        return false;
    };
    note(&packet.tuple)
}

/// The flow of the packet noted, from the former maps.
#[inline(always)]
pub fn bring<A: Tables>() {
    copy_flow::<A, false>();
}

/// What became of it, to the former maps.
#[inline(always)]
pub fn give_back<A: Tables>() {
    if !is_left() {
        copy_flow::<A, true>();
    }
}
