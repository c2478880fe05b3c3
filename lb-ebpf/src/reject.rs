//! Packets that are refused: the client is to know at once.
//!
//! The packet itself becomes the answer and goes back by the device it came in by: for TCP a reset, which
//! ends a connect() in a tenth of a millisecond (an ICMP error takes a second), else ICMP port
//! unreachable. Right for super-packets and for checksums that are left to the device (finding 7).

use lb_common::{
    headers::{Tcp, len},
    parse::{Packet, Transport, parse},
    reply::{Segment, embedded_len, icmp_room, is_plain, write_reset, write_unreachable},
    verdict::Verdict,
};

use crate::{
    config,
    exit::Exit,
    maps::{self, Tables},
    skb::Skb,
};

/// Turns the packet whose IP header stands at `l3` into its refusal; `why` says why it is refused.
#[inline(never)]
pub fn run<A: Tables, const IS_ETHERNET: bool>(skb: &mut Skb, l3: u16, why: Verdict) -> Exit {
    Exit::Counted(match answer::<A, IS_ETHERNET>(skb, l3) {
        Ok(()) => why,
        Err(verdict) => verdict,
    })
}

#[inline(always)]
fn answer<A: Tables, const IS_ETHERNET: bool>(skb: &mut Skb, l3: u16) -> Result<(), Verdict> {
    skb.reach_all();
    let l3 = if IS_ETHERNET {
        skb.ensure_link(l3).ok_or(Verdict::NotWritable)?
    } else {
        l3
    };
    let Some(Packet::Transport(packet)) = parse::<A>(&skb.cursor(), l3) else {
        return Err(Verdict::Unanswered);
    };
    // A reset is never answered (RFC 9293, section 3.10.7.1), nor what is shorter than an answer embeds.
    if packet.flags & Tcp::RST != 0 || !is_plain(&packet) || !is_whole(skb, &packet) {
        return Err(Verdict::Unanswered);
    }
    if !maps::take_reject(config::now(), config::reject_limit()) {
        return Err(Verdict::RejectLimited);
    }
    let written = if packet.is_tcp() {
        reset(skb, &packet)
    } else {
        unreachable(skb, &packet)
    };
    written.ok_or(Verdict::NotWritable)?;
    if packet.l3 != 0 {
        skb.swap_macs();
    }
    Ok(())
}

/// Whether there is all that an ICMP error embeds: more than the parser has seen, of SCTP.
#[inline(always)]
fn is_whole<A: Tables>(skb: &mut Skb, packet: &Transport<A>) -> bool {
    !packet.is_sctp() || skb.cursor().get::<[u16; 10]>(packet.l4).is_some()
}

#[inline(always)]
fn reset<A: Tables>(skb: &mut Skb, packet: &Transport<A>) -> Option<()> {
    let segment = Segment::read(&skb.cursor(), packet)?;
    let state = skb.checksum_state(packet.checksum_offset())?;
    if !skb.cut(packet.l4 + len::<Tcp>()) {
        return None;
    }
    write_reset(&mut skb.cursor(), packet, &segment, state)
}

#[inline(always)]
fn unreachable<A: Tables>(skb: &mut Skb, packet: &Transport<A>) -> Option<()> {
    let state = skb.checksum_state(packet.checksum_offset())?;
    if !skb.cut(packet.l4 + embedded_len(packet)) || !skb.make_room(icmp_room::<A>()) {
        return None;
    }
    write_unreachable(&mut skb.cursor(), packet, state)
}
