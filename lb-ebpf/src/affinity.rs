//! Session affinity: the new flows of a client go where its last one went (rules 68 to 72).
//!
//! Kept by client and service port, not by VIP, and only ever asked for a flow that begins: turned off, it
//! is off with the next flow, and the packets of a flow do not keep it young.

use lb_common::tables::{Affinity, AffinityKey, Frontend};

use crate::{
    config,
    maps::{self, Tables},
};

/// The id of the endpoint for a flow that begins: the one that its client has at `frontend`, if that is still
/// on the `list` (a bit of [`Endpoint`](lb_common::tables::Endpoint)'s state) and the client has come in time, else
/// `picked`, which it then has.
#[inline(never)]
pub fn ensure<A: Tables>(client: &A, frontend: &Frontend, list: u16, picked: u32, now: u32) -> u32 {
    let key = AffinityKey {
        client: *client,
        service: frontend.service,
    };
    let Some(known) = maps::find_affinity(&key).or_else(|| insert(&key, picked, now)) else {
        return picked;
    };
    let mut id = known.endpoint;
    if config::is_past(known.seen, now, frontend.affinity) || !maps::has_state::<A>(id, list) {
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
