//! A flow's first packet: choose an endpoint, claim a reply tuple, remember both directions.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::info;
use lb_common::{
    flow::{Flow, FlowKey, no_mac},
    parse::Transport,
    tables::{Device, Endpoint, Frontend, LOCAL_RANGES, traffic_index},
    verdict::Verdict,
};

use crate::{
    affinity, config,
    maps::{self, Refused, Tables},
    snat,
    twin::is_idle,
};

/// Source ports tried when the client's own one is taken, before the packet is dropped as `NoPort`.
const PORT_TRIES: u32 = 8;

/// Where and when a flow begins.
pub struct Client {
    /// The device that its packet came in by.
    pub ifindex: u32,
    /// On the flow clock.
    pub now: u32,
    /// Whether its own port is another connection's.
    pub is_taken: bool,
}

/// Opens a flow for `packet`, which is addressed to `frontend`: all its entries.
#[inline(never)]
pub fn run<A: Tables>(
    packet: &Transport<A>,
    frontend: &Frontend,
    client: &Client,
) -> Result<(), Verdict> {
    let device = maps::find_device(client.ifindex);
    let role = device.map_or(0, |device| device.role);
    let id = choose(packet, frontend, role, client.now)?;
    let endpoint = maps::find_endpoint::<A>(id).ok_or(Verdict::BadSlot)?;
    let mut flow = Flow {
        peer: endpoint.addr,
        peer_port: endpoint.port,
        client_port: packet.tuple.sport,
        traffic: traffic_index(frontend.service, A::FAMILY),
        endpoint: endpoint.id,
        seen: client.now,
        mac: no_mac(),
        flags: if packet.is_open() {
            0
        } else {
            Flow::<A>::OPENED
        },
        #[cfg(feature = "next-schema")]
        grown: [0; 2],
    };
    claim_reply(
        &packet.tuple,
        &mut flow,
        packet.tuple.hash(config::hash_seed()),
        client.is_taken,
    )
    .count::<A>()?;
    if snat::is_needed(packet, frontend, endpoint, role) {
        flow.flags |= Flow::<A>::MASQUERADED;
        snat::prepare(packet, &flow)?;
    } else if device.is_some_and(|device| device.bridge != 0) {
        flow.flags |= Flow::<A>::L2_PENDING;
    }
    maps::put_flow(&packet.tuple, &flow).map_err(|_| Verdict::FlowTableFull)?;
    maps::count_traffic(flow.traffic, |traffic| traffic.flows += 1);
    Ok(())
}

/// The id of the endpoint that the flow is to go to.
#[inline(always)]
fn choose<A: Tables>(
    packet: &Transport<A>,
    frontend: &Frontend,
    role: u32,
    now: u32,
) -> Result<u32, Verdict> {
    // Rule 48: whoever may not is not told whether there are endpoints.
    if frontend.flags & Frontend::SOURCE_RANGES != 0
        && !maps::is_source(frontend.service, packet.tuple.src)
    {
        return Err(Verdict::SourceDenied);
    }
    let is_inner = frontend.flags & Frontend::SPLIT != 0 && is_inside(role, &packet.tuple.src);
    let (base, count) = if is_inner {
        (frontend.inner_base, frontend.inner_count)
    } else {
        (frontend.slot_base, frontend.slot_count)
    };
    if count == 0 {
        return Err(if is_inner || frontend.flags & Frontend::DROP == 0 {
            Verdict::NoEndpoint
        } else {
            Verdict::NoLocalEndpoint
        });
    }
    let hash = packet.tuple.hash(config::hash_seed());
    // Multiply and shift instead of a division: uniform over the range as the hash is over 2^32.
    let slot = ((u64::from(hash) * u64::from(count)) >> 32) as u32;
    let id = maps::find_slot::<A>(base.wrapping_add(slot)).ok_or(Verdict::BadSlot)?;
    if frontend.affinity == 0 {
        return Ok(id);
    }
    let is_local = !is_inner && frontend.flags & (Frontend::LOCAL | Frontend::SPLIT) != 0;
    let list = if is_local {
        Endpoint::<A>::LOCAL
    } else {
        Endpoint::<A>::CLUSTER
    };
    Ok(affinity::ensure(&packet.tuple.src, frontend, list, id, now))
}

/// Whether a client that comes in by a device of this role is a pod of this node (rules 45 and 59).
#[inline(always)]
fn is_inside<A: Tables>(role: u32, client: &A) -> bool {
    let mut is_told = false;
    for index in 0..LOCAL_RANGES {
        let Some(range) = maps::find_local::<A>(index) else {
            break;
        };
        if range.contains(client) {
            return true;
        }
        is_told = true;
    }
    !is_told && role & Device::PODS != 0
}

/// Says that there is a new flow.
#[inline(never)]
pub fn log(ctx: &TcContext, service: u32) {
    info!(ctx, "service {}: new flow", service);
}

/// What came of claiming a reply tuple.
pub enum Claim {
    /// It has an entry that was not there.
    Inserted,
    /// It has one in the place of another.
    Overwritten,
    /// It has none.
    Failed(Verdict),
}

impl Claim {
    /// Counts an entry that was not there: who claims has no stack left for it.
    #[inline(always)]
    pub fn count<A: Tables>(self) -> Result<(), Verdict> {
        match self {
            Self::Inserted => maps::count_inserted::<A>(),
            Self::Overwritten => {}
            Self::Failed(verdict) => return Err(verdict),
        }
        Ok(())
    }
}

/// Makes the reply tuple of `flow` this flow's own, with another client port in it if the client's own
/// `is_taken` or a live flow answers by that tuple already (rule 99).
#[inline(never)]
pub fn claim_reply<A: Tables>(
    tuple: &FlowKey<A>,
    flow: &mut Flow<A>,
    hash: u32,
    is_taken: bool,
) -> Claim {
    let mut key = flow.reply_key(tuple);
    let mut entry = flow.reply_entry(tuple);
    let mut candidate = hash;
    for attempt in 0..PORT_TRIES {
        if attempt > 0 || is_taken {
            // Another port of the upper half, where clients take theirs from; a step that is odd visits
            // them all.
            candidate = candidate.wrapping_mul(0x9e37_79b1).wrapping_add(1);
            flow.client_port = ((candidate >> 16) as u16 | 0x8000).to_be();
            key.dport = flow.client_port;
        }
        if maps::is_taken_formerly(&key) {
            continue;
        }
        match maps::insert_uncounted(&key, &entry) {
            Ok(()) => return Claim::Inserted,
            Err(Refused::Full) => return Claim::Failed(Verdict::FlowTableFull),
            Err(Refused::Exists) => {}
        }
        let is_free = match maps::find_flow(&key) {
            // The same flow's, left from before its forward entry was evicted or its port reused. Once the endpoint has
            // taken up a connection by it, all that it says by it is for this client.
            Some(old) if old.is_same_reply(&entry) => {
                entry.flags &= old.flags | !Flow::<A>::AWAITS_SYN_ACK;
                true
            }
            Some(old) => is_idle(old, &key, flow.seen),
            None => true,
        };
        if is_free {
            return match maps::overwrite_flow(&key, &entry) {
                Ok(()) => Claim::Overwritten,
                Err(_) => Claim::Failed(Verdict::FlowTableFull),
            };
        }
    }
    Claim::Failed(Verdict::NoPort)
}
