//! Packets in pieces (rule 98).
//!
//! The first piece has the ports. It goes the way of every packet, opens a flow if need be, and notes its ports on the
//! way ([`note`]). A later one finds them here, and by them the flow; of it only an address is written, since the one
//! checksum of the whole is in the first. Whether that flow may go on is not asked again: the first piece was.
//!
//! Without a note, a piece for a ClusterIP is dropped: it would be nobody's. What is addressed to the node, a load
//! balancer or a client may as well be another's (rule 51), and is left alone; of a packet of ours the receiver
//! then waits in vain for the rest. Never is a piece sent where its first was not.

use lb_common::{
    flow::{Flow, FlowKey},
    ip::Side,
    parse::Transport,
    pieces::{Piece, Pieces},
    verdict::Verdict,
};

use crate::{
    config, egress,
    exit::{Exit, Step, end},
    ingress,
    maps::{self, Tables},
    skb::Skb,
    vips,
};

/// Notes the first piece of a packet, before it is translated.
#[inline(never)]
pub fn note<A: Tables>(
    skb: &mut Skb,
    packet: &Transport<A>,
    is_leaving: bool,
) -> Result<(), Verdict> {
    let piece = A::parse_piece(&skb.cursor(), packet.l3).ok_or(Verdict::Fragment)?;
    let pieces = Pieces::begin(&piece, &packet.tuple, config::now());
    if maps::put_pieces(&piece.key(is_leaving), &pieces) {
        Ok(())
    } else {
        Err(Verdict::Fragment)
    }
}

/// A piece without ports that comes in.
#[inline(never)]
pub fn entering<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    end(go_in::<A>(skb, l3))
}

#[inline(always)]
fn go_in<A: Tables>(skb: &mut Skb, l3: u16) -> Step<Verdict> {
    let piece = &A::parse_piece(&skb.cursor(), l3).ok_or(Exit::NotOurs)?;
    if piece.proto == A::ICMP {
        return Err(Exit::Echo);
    }
    let Some(flow) = find_flow(piece, false) else {
        return Err(if vips::is_cluster_ip(&piece.dst) {
            Verdict::Fragment.into()
        } else {
            Exit::NotOurs
        });
    };
    if flow.flags & Flow::<A>::REPLY != 0 {
        return if config::skips_stack() {
            skip_stack(skb, l3, piece, flow)
        } else {
            Err(Exit::NotOurs)
        };
    }
    if flow.flags & Flow::<A>::SNAT != 0 {
        return Err(Exit::NotOurs);
    }
    skb.set_piece_address::<A>(l3, Side::Dst, piece.dst, flow.peer)?;
    if flow.flags & Flow::<A>::L2 != 0 && l3 != 0 {
        skb.set_mac(flow.mac);
    }
    let verdict = ingress::count(skb, flow);
    ingress::leave(skb, l3, flow, verdict)
}

/// From an endpoint to its client, past the stack, as the first one.
#[inline(always)]
fn skip_stack<A: Tables>(
    skb: &mut Skb,
    l3: u16,
    piece: &Piece<A>,
    flow: &Flow<A>,
) -> Step<Verdict> {
    if flow.flags & Flow::<A>::FAST == 0 || l3 == 0 || !skb.fits(flow.exit().0) {
        return Err(Exit::NotOurs);
    }
    skb.set_piece_address::<A>(l3, Side::Src, piece.src, flow.peer)?;
    egress::count(skb, flow);
    skb.redirect(flow.exit());
    Err(Exit::SentToClient)
}

/// A piece without ports that leaves.
#[inline(never)]
pub fn leaving<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    end(go_out::<A>(skb, l3))
}

#[inline(always)]
fn go_out<A: Tables>(skb: &mut Skb, l3: u16) -> Step<Verdict> {
    let piece = &A::parse_piece(&skb.cursor(), l3).ok_or(Exit::NotOurs)?;
    if piece.proto == A::ICMP {
        return Err(Exit::Echo);
    }
    let flow = find_flow(piece, true).ok_or(Exit::NotOurs)?;
    // An SNAT entry without a port has been made anew since the first piece.
    let kind = flow.flags & (Flow::<A>::REPLY | Flow::<A>::SNAT);
    if kind == 0 || flow.peer_port == 0 {
        return Err(Exit::NotOurs);
    }
    skb.set_piece_address::<A>(l3, Side::Src, piece.src, flow.peer)?;
    Ok(egress::count(skb, flow))
}

/// The flow of a later piece.
#[inline(always)]
fn find_flow<A: Tables>(piece: &Piece<A>, is_leaving: bool) -> Option<&'static mut Flow<A>> {
    // The first one, if it is too short for its header, has nothing to be found.
    if piece.offset == 0 {
        return None;
    }
    let tuple = find_tuple(piece, is_leaving)?;
    maps::find_flow(&tuple)
}

/// The tuple of a later piece, which is noted as passed.
#[inline(always)]
fn find_tuple<A: Tables>(piece: &Piece<A>, is_leaving: bool) -> Option<FlowKey<A>> {
    let key = piece.key(is_leaving);
    let pieces = maps::find_pieces(&key)?;
    if config::is_past(pieces.seen, config::now(), A::REASSEMBLY_SECONDS) {
        return None;
    }
    let tuple = pieces.tuple(piece);
    if pieces.add(piece) {
        maps::remove_pieces(&key);
    }
    Some(tuple)
}
