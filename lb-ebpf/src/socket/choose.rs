//! Which endpoint a socket talks to, and why none.
//!
//! What the node's own processes call comes from inside: external policies do not bind them (rules 42 and 45).
//! There is no tuple yet to choose by, so chance chooses; a socket that is not connected keeps what it has got
//! while that serves, and moves on to another when it does not (rules 73 and 75).

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use lb_common::{
    flow::is_past,
    headers::proto,
    tables::{Endpoint, Frontend, FrontendKey, Socket, SocketKey, traffic_index},
    verdict::Verdict,
};

use super::REVERSE;
use crate::{
    affinity, config,
    maps::{self, Tables},
    vips,
};

/// A step towards an endpoint: `?` ends it, with no verdict if the call is no business of ours.
type Step<T> = Result<T, Option<Verdict>>;

/// Which call it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The socket is to have one peer from now on.
    Connect,
    /// One datagram of many.
    Send,
}

/// The endpoint for a socket that calls `asked`: address and port.
#[inline(always)]
pub fn run<A: Tables>(asked: &SocketKey<A>, occasion: Occasion) -> Step<(A, u16)> {
    let key = FrontendKey::new(asked.addr, asked.port, asked.proto);
    let frontend = if maps::may_be_frontend(&key) {
        maps::find_frontend(&key)
    } else {
        None
    };
    let Some(frontend) = frontend else {
        if vips::may_be(&asked.addr) {
            vips::refuse_address(&asked.addr)?;
        }
        // It may be an endpoint that the socket had by a VIP before, and now talks to by itself.
        forget_reverse(asked);
        return Err(None);
    };
    let now = config::now();
    let kept = match occasion {
        Occasion::Connect => None,
        Occasion::Send => find_kept(asked, frontend, now),
    };
    let socket = match kept {
        Some(kept) => kept,
        None => {
            let chosen = choose(frontend, now)?;
            // A connected socket that is told to send where it is connected to must keep its endpoint: it hears
            // nobody else.
            if asked.proto == proto::UDP {
                maps::put_socket(asked, &chosen);
            }
            let index = traffic_index(frontend.service, A::FAMILY);
            maps::count_traffic(index, |traffic| traffic.flows += 1);
            chosen
        }
    };
    note_reverse(asked, &socket);
    Ok((socket.peer, socket.peer_port))
}

/// What a socket has got for what it calls, if that still serves.
#[inline(always)]
fn find_kept<A: Tables>(asked: &SocketKey<A>, frontend: &Frontend, now: u32) -> Option<Socket<A>> {
    let kept = maps::find_socket(asked)?;
    if kept.service != frontend.service
        || is_past(
            kept.seen,
            now,
            config::longest_timeout(u32::from(asked.proto)),
        )
        || !maps::has_state::<A>(kept.endpoint, Endpoint::<A>::SERVING)
    {
        return None;
    }
    if kept.seen != now {
        kept.seen = now;
    }
    Some(*kept)
}

/// A new endpoint of `frontend`.
#[inline(always)]
fn choose<A: Tables>(frontend: &Frontend, now: u32) -> Result<Socket<A>, Verdict> {
    let flags = frontend.flags;
    if flags & Frontend::SOURCE_RANGES != 0 && flags & Frontend::NODE_DENIED != 0 {
        return Err(Verdict::SourceDenied);
    }
    let (base, count, list, empty) = if flags & Frontend::SPLIT != 0 {
        let list = Endpoint::<A>::CLUSTER;
        // The cluster list is empty only if there is no endpoint at all (rule 40).
        (
            frontend.inner_base,
            frontend.inner_count,
            list,
            Verdict::NoEndpoint,
        )
    } else {
        let list = if flags & Frontend::LOCAL == 0 {
            Endpoint::<A>::CLUSTER
        } else {
            Endpoint::<A>::LOCAL
        };
        let empty = if flags & Frontend::DROP == 0 {
            Verdict::NoEndpoint
        } else {
            Verdict::NoLocalEndpoint
        };
        (frontend.slot_base, frontend.slot_count, list, empty)
    };
    if count == 0 {
        return Err(empty);
    }
    // SAFETY: takes nothing, and changes nothing that anyone sees.
    let random = unsafe { bpf_get_prandom_u32() };
    // As for packets: multiply and shift instead of a division.
    let slot = ((u64::from(random) * u64::from(count)) >> 32) as u32;
    let mut id = maps::find_slot::<A>(base.wrapping_add(slot)).ok_or(Verdict::BadSlot)?;
    if frontend.affinity != 0 {
        // Whatever address it will have, the node is one client.
        id = affinity::ensure(&A::default(), frontend, list, id, now);
    }
    let endpoint = maps::find_endpoint::<A>(id).ok_or(Verdict::BadSlot)?;
    Ok(Socket {
        peer: endpoint.addr,
        peer_port: endpoint.port,
        pad: 0,
        endpoint: id,
        service: frontend.service,
        seen: now,
    })
}

/// Has the process see `asked` instead of the endpoint. Where it calls two VIPs by one socket and both lead to the
/// same endpoint, nothing tells their answers apart: they are the last one's that it sent to.
#[inline(always)]
fn note_reverse<A: Tables>(asked: &SocketKey<A>, socket: &Socket<A>) {
    let key = SocketKey {
        addr: socket.peer,
        port: socket.peer_port,
        way: REVERSE,
        ..*asked
    };
    if let Some(known) = maps::find_socket(&key)
        && known.peer == asked.addr
        && known.peer_port == asked.port
        && known.endpoint == socket.endpoint
    {
        return;
    }
    let reverse = Socket {
        peer: asked.addr,
        peer_port: asked.port,
        ..*socket
    };
    maps::put_socket(&key, &reverse);
}

/// Has the process see whom it calls.
#[inline(always)]
fn forget_reverse<A: Tables>(asked: &SocketKey<A>) {
    let key = SocketKey {
        way: REVERSE,
        ..*asked
    };
    // Most often there is nothing, and looking costs less than removing.
    if maps::find_socket(&key).is_some() {
        maps::remove_socket(&key);
    }
}
