//! Echo requests to ClusterIPs: answered here, so that `ping` tells whether the Service exists.
//!
//! Any address with the mark of a ClusterIP answers, whatever its Service has of endpoints; node, load balancer and
//! external addresses, which are others' as well, are left alone (rule 52). A request in pieces is answered piece by
//! piece: each is sent back, the first one as a reply. What leaves is the node's own, or came past us: its answer comes
//! in by the device that it would have left by, as from beyond.

use lb_common::{parse::parse_echo, verdict::Verdict};

use crate::{
    exit::{Exit, Step},
    maps::Tables,
    skb::Skb,
    vips,
};

/// What may be an echo request, or a later piece of one.
#[inline(never)]
pub fn run<A: Tables, const IS_ETHERNET: bool>(skb: &mut Skb, l3: u16) -> Exit {
    match answer::<A, IS_ETHERNET>(skb, l3) {
        Ok(()) => Exit::Echoed,
        Err(exit) => exit,
    }
}

#[inline(always)]
fn answer<A: Tables, const IS_ETHERNET: bool>(skb: &mut Skb, l3: u16) -> Step<()> {
    let echo = parse_echo::<A>(&skb.cursor(), l3).ok_or(Exit::NotOurs)?;
    if !vips::is_cluster_ip(&echo.dst) {
        return Err(Exit::NotOurs);
    }
    let mut moved = 0;
    if IS_ETHERNET {
        let link = skb.ensure_link(l3).ok_or(Verdict::NotWritable)?;
        moved = link.wrapping_sub(l3);
    }
    let l3 = l3.wrapping_add(moved);
    if echo.icmp != 0 {
        skb.set_echo_reply::<A>(echo.icmp.wrapping_add(moved))?;
    }
    skb.turn_round::<A>(l3)?;
    if l3 != 0 {
        skb.swap_macs();
    }
    Ok(())
}
