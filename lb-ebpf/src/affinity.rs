//! Session affinity: the new flows of a client go where its last one went (rules 68 to 72).
//!
//! Kept by client and service port, not by VIP, and only ever asked for a flow that begins: turned off, it
//! is off with the next flow, and the packets of a flow do not keep it young.

use lb_common::{
    parse::Transport,
    tables::{Affinity, AffinityKey, Endpoint, Frontend},
};

use crate::{
    config,
    maps::{self, Tables},
};

/// The id of the endpoint for a flow that begins: the one that its client has at `frontend`, if that may
/// still be used and the client has come in time, else `picked`, which it then has.
#[inline(never)]
pub fn ensure<A: Tables>(packet: &Transport<A>, frontend: &Frontend, picked: u32, now: u32) -> u32 {
    let key = AffinityKey {
        client: packet.tuple.src,
        service: frontend.service,
    };
    let list = if frontend.flags & Frontend::LOCAL == 0 {
        Endpoint::<A>::CLUSTER
    } else {
        Endpoint::<A>::LOCAL
    };
    ensure_of(&key, frontend.affinity, list, picked, now)
}

/// The same for any client, `list` being the bit of the endpoints that it may use, and `seconds` how long it
/// keeps one.
#[inline(always)]
pub fn ensure_of<A: Tables>(
    key: &AffinityKey<A>,
    seconds: u32,
    list: u16,
    picked: u32,
    now: u32,
) -> u32 {
    let Some(known) = maps::find_affinity(key).or_else(|| insert(key, picked, now)) else {
        return picked;
    };
    let mut id = known.endpoint;
    if config::is_past(known.seen, now, seconds) || !maps::has_state::<A>(id, list) {
        id = picked;
        known.endpoint = id;
    }
    if known.seen != now {
        known.seen = now;
    }
    id
}

/// The entry of a client that has none yet. Of two CPUs that see it for the first time, the second finds
/// what the first has put, so that both send it to the same endpoint.
#[inline(always)]
fn insert<A: Tables>(
    key: &AffinityKey<A>,
    endpoint: u32,
    now: u32,
) -> Option<&'static mut Affinity> {
    maps::insert_affinity(
        key,
        &Affinity {
            endpoint,
            seen: now,
        },
    );
    maps::find_affinity(key)
}
