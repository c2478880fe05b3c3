//! Clients whose answers would go past this node get an address of it (SNAT).
//!
//! So does a pod that calls itself through a VIP (rule 57). Whether a flow needs it is seen when it begins; the
//! address and port are chosen when its first packet leaves, by the device it leaves by: a CNI that masquerades
//! has done so by then, its packets have another tuple, and nothing is claimed for them.
//!
//! No two flows to one endpoint share an address and a port: the undo entry is inserted only where there is none.
//! A port whose flow is over is another's again; that one's SNAT entry goes with it. A port by which a socket of the
//! node would get the answers is left alone.

use core::ffi::c_void;

use lb_common::{
    flow::{Flow, FlowKey, is_past, no_mac, state::STATE_FLAGS},
    parse::{Packet, Transport, parse},
    tables::{Device, Endpoint, Frontend},
    verdict::Verdict,
};

use crate::{
    bound::is_bound,
    config,
    exit::{Exit, Step},
    maps::{self, Refused, Tables},
    skb::Skb,
    twin,
};

/// Ports tried before the packet is dropped as `NoSnatPort`. With half of them in use, one flow in a billion
/// finds none.
const TRIES: u32 = 32;

/// Tries after which a port is taken whose connection has closed only just.
const PATIENT_TRIES: u32 = 12;

/// Ticks for which a closed connection keeps its port, while there are others: its last segments may still be
/// on their way (RFC 9293 asks for two maximum segment lifetimes, of which Linux makes 60 s).
const CLOSED_TIMEOUT: u32 = 60;

/// Whether the flow of `packet` from a device of this role to `endpoint` needs it.
#[inline(always)]
pub fn is_needed<A: Tables>(
    packet: &Transport<A>,
    frontend: &Frontend,
    endpoint: &Endpoint<A>,
    role: u32,
) -> bool {
    let is_past_us = role & Device::UPLINK != 0 && endpoint.state & Endpoint::<A>::HERE == 0;
    let is_wished = config::masquerades_all() && frontend.flags & Frontend::EXTERNAL == 0;
    is_past_us || is_wished || endpoint.addr == packet.tuple.src
}

/// Makes the SNAT entry that goes with the forward entry `flow`, without an address yet.
#[inline(never)]
pub fn prepare<A: Tables>(packet: &Transport<A>, flow: &Flow<A>) -> Result<(), Verdict> {
    let entry = Flow {
        peer: packet.tuple.src,
        peer_port: 0,
        client_port: flow.peer_port,
        traffic: Flow::<A>::NO_SERVICE,
        endpoint: 0,
        seen: flow.seen,
        mac: no_mac(),
        flags: Flow::<A>::SNAT | flow.flags & STATE_FLAGS,
        #[cfg(feature = "next-schema")]
        grown: [0; 2],
    };
    maps::put_flow(&key(packet, flow), &entry).map_err(|_| Verdict::FlowTableFull)
}

/// Once a tick: makes sure that the SNAT entry still exists.
#[inline(never)]
pub fn ensure<A: Tables>(packet: &Transport<A>, flow: &Flow<A>) -> Result<(), Verdict> {
    if maps::find_flow(&key(packet, flow)).is_some() {
        return Ok(());
    }
    prepare(packet, flow)
}

/// The tuple by which packets of the forward entry `flow` leave: the answers' reversed.
#[inline(always)]
fn key<A: Tables>(packet: &Transport<A>, flow: &Flow<A>) -> FlowKey<A> {
    flow.reply_key(&packet.tuple).reversed()
}

/// A packet with that `tuple` that leaves towards the endpoint: sees to it that its SNAT entry `flow` says what it becomes, or has it
/// take the way of [`run`].
#[inline(never)]
pub fn go_out<A: Tables>(tuple: &FlowKey<A>, segment: u8, flow: &mut Flow<A>) -> Step<()> {
    let now = config::now();
    if flow.peer_port == 0 || flow.seen != now && !is_claimed(tuple, flow, now) {
        flow.seen = now;
        return Err(Exit::Open);
    }
    let undo = flow.undo_key(tuple);
    twin::note(segment, flow, tuple, |_| undo, Flow::<A>::FIN_CLIENT);
    Ok(())
}

/// A packet that leaves and whose SNAT entry has no address yet.
#[inline(never)]
pub fn run<A: Tables>(skb: &mut Skb, l3: u16) -> Exit {
    let Some(Packet::Transport(packet)) = parse::<A>(&skb.cursor(), l3) else {
        return Exit::NotOurs;
    };
    // Another CPU's flow may have pushed it out meanwhile.
    let Some(flow) = maps::find_flow(&packet.tuple) else {
        return Verdict::FlowTableFull.into();
    };
    match claim(skb.as_ptr(), skb.ifindex(), &packet.tuple, flow) {
        Ok(()) => Exit::Opened,
        Err(verdict) => verdict.into(),
    }
}

/// Once a tick: whether the undo entry is still this flow's, which the LRU might have taken away.
#[inline(always)]
fn is_claimed<A: Tables>(tuple: &FlowKey<A>, flow: &mut Flow<A>, now: u32) -> bool {
    flow.seen = now;
    let entry = flow.undo_entry(tuple);
    match maps::find_flow(&flow.undo_key(tuple)) {
        Some(undo) if undo.is_same_undo(&entry) => {
            undo.seen = now;
            true
        }
        _ => false,
    }
}

/// Finds an address and a port for the SNAT entry `flow` and makes the undo entry.
#[inline(never)]
pub fn claim<A: Tables>(
    ctx: *mut c_void,
    ifindex: u32,
    tuple: &FlowKey<A>,
    flow: &mut Flow<A>,
) -> Result<(), Verdict> {
    let address = maps::find_device(ifindex).map_or(A::default(), A::snat_address);
    if address == A::default() {
        return Err(Verdict::NoSnatAddress);
    }
    flow.peer = address;
    let entry = flow.undo_entry(tuple);
    let mut key = flow.undo_key(tuple);
    // The same for all packets of the flow, so that two CPUs come to the same port, and one that has lost its
    // entries most often, too.
    let mut candidate = tuple.hash(config::hash_seed());
    let (first, count) = config::snat_ports();
    for attempt in 0..TRIES {
        candidate = candidate.wrapping_mul(0x9e37_79b1).wrapping_add(1);
        let port = first + (((candidate >> 16) * count) >> 16);
        #[expect(clippy::cast_possible_truncation, reason = "the range is one of ports")]
        let port = port as u16;
        key.dport = port.to_be();
        if maps::is_taken_formerly(&key) {
            continue;
        }
        match maps::insert_flow(&key, &entry) {
            Ok(()) => {}
            Err(Refused::Full) => return Err(Verdict::FlowTableFull),
            Err(Refused::Exists) => {
                if !replace(&key, &entry, attempt >= PATIENT_TRIES)? {
                    continue;
                }
            }
        }
        if is_bound(ctx, &key) {
            // A socket of the node's: the answers to it and to the client would be the same.
            maps::remove_flow(&key);
            continue;
        }
        // Last: as long as there is no port, other packets of the flow come here, too.
        flow.peer_port = key.dport;
        return Ok(());
    }
    Err(Verdict::NoSnatPort)
}

/// Puts `entry` in the place of one that is the same flow's or is over.
#[inline(never)]
fn replace<A: Tables>(key: &FlowKey<A>, entry: &Flow<A>, is_urgent: bool) -> Result<bool, Verdict> {
    if let Some(old) = maps::find_flow(key)
        && !old.is_same_undo(entry)
    {
        let is_closed =
            old.is_closed() && (is_urgent || is_past(old.seen, entry.seen, CLOSED_TIMEOUT));
        if !is_closed && !is_past(old.seen, entry.seen, config::timeout(key.proto, old.flags)) {
            return Ok(false);
        }
        // Else its flow, should it wake up, would go on with what is another's now.
        maps::remove_flow(&old.snat_key(key));
    }
    match maps::overwrite_flow(key, entry) {
        Ok(()) => Ok(true),
        Err(_) => Err(Verdict::FlowTableFull),
    }
}

/// Whether a packet may be an answer to a flow with SNAT, by its port alone.
#[inline(always)]
pub fn may_be_answer<A: Tables>(packet: &Transport<A>) -> bool {
    let (first, count) = config::snat_ports();
    // What opens a connection answers nothing: a socket of the node may listen there.
    u32::from(u16::from_be(packet.tuple.dport)).wrapping_sub(first) < count && !packet.is_open()
}

/// The undo entry for an answer.
#[inline(always)]
pub fn find_undo<A: Tables>(packet: &Transport<A>) -> Option<&'static mut Flow<A>> {
    maps::find_flow(&packet.tuple).filter(|flow| flow.flags & Flow::<A>::UNDO != 0)
}

/// An answer that comes in, of the undo entry `flow`.
#[inline(always)]
pub fn go_back<A: Tables>(packet: &Transport<A>, flow: &mut Flow<A>) -> Result<(), Verdict> {
    let now = config::now();
    if flow.seen != now {
        flow.seen = now;
    }
    twin::note(
        packet.flags,
        flow,
        &packet.tuple,
        |flow| flow.snat_key(&packet.tuple),
        Flow::<A>::FIN_ENDPOINT,
    );
    Ok(())
}
