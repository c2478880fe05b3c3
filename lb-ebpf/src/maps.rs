//! The maps: the only file that touches map pointers.
//!
//! Long because: all of that is to be read side by side.
//!
//! Each family has its own tables, so that IPv4 keys stay small; [`Tables`] picks them by the type
//! parameter. The sizes here are minimal; the agent sets the real ones when it loads the object.

pub mod former;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
};
use lb_common::{
    address::{V4, V6},
    filter,
    flow::{
        Flow, FlowKey,
        stats::{Churn, FlowStats, family_index},
    },
    pieces::{PieceKey, Pieces},
    tables::{
        self, Affinity, AffinityKey, AgentState, Device, Endpoint, Frontend, FrontendKey,
        LOCAL_RANGES, ProblemText, ServiceRecord, Socket, SocketKey, Source, Traffic, VIP_RANGES,
        VipRange, change, endpoint_index,
    },
    verdict::{VERDICT_COUNT, Verdict},
};

#[map]
static FRONTENDS_V4: HashMap<FrontendKey<V4>, Frontend> = HashMap::with_max_entries(1024, 0);
#[map]
static FRONTENDS_V6: HashMap<FrontendKey<V6>, Frontend> = HashMap::with_max_entries(1024, 0);
/// See [`filter`].
#[map]
static FILTER_V4: Array<u64> = Array::with_max_entries(filter::FILTER_WORDS, 0);
#[map]
static FILTER_V6: Array<u64> = Array::with_max_entries(filter::FILTER_WORDS, 0);
/// Ids of endpoints, side by side for each service port.
#[map]
static SLOTS_V4: Array<u32> = Array::with_max_entries(1024, 0);
#[map]
static SLOTS_V6: Array<u32> = Array::with_max_entries(1024, 0);
#[map]
static ENDPOINTS_V4: Array<Endpoint<V4>> = Array::with_max_entries(1024, 0);
#[map]
static ENDPOINTS_V6: Array<Endpoint<V6>> = Array::with_max_entries(1024, 0);
#[map]
static RANGES_V4: Array<VipRange<V4>> = Array::with_max_entries(VIP_RANGES, 0);
#[map]
static RANGES_V6: Array<VipRange<V6>> = Array::with_max_entries(VIP_RANGES, 0);
#[map]
static LOCALS_V4: Array<VipRange<V4>> = Array::with_max_entries(LOCAL_RANGES, 0);
#[map]
static LOCALS_V6: Array<VipRange<V6>> = Array::with_max_entries(LOCAL_RANGES, 0);
/// Who may use a load balancer's address; the value says nothing.
#[map]
static SOURCES_V4: LpmTrie<Source<V4>, u32> =
    LpmTrie::with_max_entries(1024, aya_ebpf::bindings::BPF_F_NO_PREALLOC);
#[map]
static SOURCES_V6: LpmTrie<Source<V6>, u32> =
    LpmTrie::with_max_entries(1024, aya_ebpf::bindings::BPF_F_NO_PREALLOC);
#[map]
static SOCKETS_V4: LruHashMap<SocketKey<V4>, Socket<V4>> = LruHashMap::with_max_entries(1024, 0);
#[map]
static SOCKETS_V6: LruHashMap<SocketKey<V6>, Socket<V6>> = LruHashMap::with_max_entries(1024, 0);
#[map]
static AFFINITY_V4: LruHashMap<AffinityKey<V4>, Affinity> = LruHashMap::with_max_entries(1024, 0);
#[map]
static AFFINITY_V6: LruHashMap<AffinityKey<V6>, Affinity> = LruHashMap::with_max_entries(1024, 0);
#[map]
static FLOWS_V4: LruHashMap<FlowKey<V4>, Flow<V4>> = LruHashMap::with_max_entries(1024, 0);
#[map]
static FLOWS_V6: LruHashMap<FlowKey<V6>, Flow<V6>> = LruHashMap::with_max_entries(1024, 0);
/// Packets in pieces, of which the first has passed.
#[map]
static FRAGMENTS_V4: LruHashMap<PieceKey<V4>, Pieces> = LruHashMap::with_max_entries(1024, 0);
#[map]
static FRAGMENTS_V6: LruHashMap<PieceKey<V6>, Pieces> = LruHashMap::with_max_entries(1024, 0);
/// What goes in and out of the flow tables, by [`family_index`].
#[map]
static CHURN: PerCpuArray<Churn> = PerCpuArray::with_max_entries(2, 0);
/// What the agent found in them, and what the command line removed from them; only user space's.
#[map]
static FLOW_STATS: Array<FlowStats> = Array::with_max_entries(2, 0);
#[map]
static FLUSHED: Array<u64> = Array::with_max_entries(2, 0);
#[map]
static DEVICES: HashMap<u32, Device> = HashMap::with_max_entries(4096, 0);
#[map]
static VERDICTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(VERDICT_COUNT, 0);
#[map]
static TRAFFIC: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(1024, 0);
/// When a packet of a flow that was moved to another source port last passed (one entry, ticks, 0:
/// never). As long as there is none, packets without a service skip the search for such a flow.
#[map]
static MOVED: Array<u32> = Array::with_max_entries(1, 0);
/// Whether frontends have changed, see [`change`].
#[map]
static CHANGES: Array<u32> = Array::with_max_entries(change::ENTRIES, 0);
/// How many refusals this CPU has answered in which tick (one entry).
#[map]
static REJECTS: PerCpuArray<Budget> = PerCpuArray::with_max_entries(1, 0);
/// Names for ids. Only user space reads and writes it; here so that one object defines all maps.
#[map]
static SERVICES: HashMap<u32, ServiceRecord> =
    HashMap::with_max_entries(1024, aya_ebpf::bindings::BPF_F_NO_PREALLOC);

/// What the agent says of itself; likewise only user space's.
#[map]
static AGENT: Array<AgentState> = Array::with_max_entries(1, 0);

/// What the agent cannot serve as it should, in words; likewise.
#[map]
static PROBLEMS: Array<ProblemText> = Array::with_max_entries(tables::PROBLEMS, 0);

/// What was spent of a limit.
#[repr(C)]
pub struct Budget {
    tick: u32,
    spent: u32,
}

/// Why an entry was not inserted.
pub enum Refused {
    /// There is one already.
    Exists,
    /// The table has no room.
    Full,
}

const EEXIST: i32 = -17;
const EBUSY: i32 = -16;

/// The tables of one family.
pub trait Tables: former::FormerTables {
    fn frontends() -> &'static HashMap<FrontendKey<Self>, Frontend>;
    fn filter() -> &'static Array<u64>;
    fn slots() -> &'static Array<u32>;
    fn endpoints() -> &'static Array<Endpoint<Self>>;
    fn ranges() -> &'static Array<VipRange<Self>>;
    fn locals() -> &'static Array<VipRange<Self>>;
    fn sources() -> &'static LpmTrie<Source<Self>, u32>;
    fn sockets() -> &'static LruHashMap<SocketKey<Self>, Socket<Self>>;
    /// The address that clients get on egress by the device.
    fn snat_address(device: &Device) -> Self;
    fn affinity() -> &'static LruHashMap<AffinityKey<Self>, Affinity>;
    fn flows() -> &'static LruHashMap<FlowKey<Self>, Flow<Self>>;
    fn fragments() -> &'static LruHashMap<PieceKey<Self>, Pieces>;
}

impl Tables for V4 {
    #[inline(always)]
    fn frontends() -> &'static HashMap<FrontendKey<Self>, Frontend> {
        &FRONTENDS_V4
    }
    #[inline(always)]
    fn filter() -> &'static Array<u64> {
        &FILTER_V4
    }
    #[inline(always)]
    fn slots() -> &'static Array<u32> {
        &SLOTS_V4
    }
    #[inline(always)]
    fn endpoints() -> &'static Array<Endpoint<Self>> {
        &ENDPOINTS_V4
    }
    #[inline(always)]
    fn ranges() -> &'static Array<VipRange<Self>> {
        &RANGES_V4
    }
    #[inline(always)]
    fn locals() -> &'static Array<VipRange<Self>> {
        &LOCALS_V4
    }
    #[inline(always)]
    fn sources() -> &'static LpmTrie<Source<Self>, u32> {
        &SOURCES_V4
    }
    #[inline(always)]
    fn sockets() -> &'static LruHashMap<SocketKey<Self>, Socket<Self>> {
        &SOCKETS_V4
    }
    #[inline(always)]
    fn snat_address(device: &Device) -> Self {
        device.v4
    }
    #[inline(always)]
    fn affinity() -> &'static LruHashMap<AffinityKey<Self>, Affinity> {
        &AFFINITY_V4
    }
    #[inline(always)]
    fn flows() -> &'static LruHashMap<FlowKey<Self>, Flow<Self>> {
        &FLOWS_V4
    }
    #[inline(always)]
    fn fragments() -> &'static LruHashMap<PieceKey<Self>, Pieces> {
        &FRAGMENTS_V4
    }
}

impl Tables for V6 {
    #[inline(always)]
    fn frontends() -> &'static HashMap<FrontendKey<Self>, Frontend> {
        &FRONTENDS_V6
    }
    #[inline(always)]
    fn filter() -> &'static Array<u64> {
        &FILTER_V6
    }
    #[inline(always)]
    fn slots() -> &'static Array<u32> {
        &SLOTS_V6
    }
    #[inline(always)]
    fn endpoints() -> &'static Array<Endpoint<Self>> {
        &ENDPOINTS_V6
    }
    #[inline(always)]
    fn ranges() -> &'static Array<VipRange<Self>> {
        &RANGES_V6
    }
    #[inline(always)]
    fn locals() -> &'static Array<VipRange<Self>> {
        &LOCALS_V6
    }
    #[inline(always)]
    fn sources() -> &'static LpmTrie<Source<Self>, u32> {
        &SOURCES_V6
    }
    #[inline(always)]
    fn sockets() -> &'static LruHashMap<SocketKey<Self>, Socket<Self>> {
        &SOCKETS_V6
    }
    #[inline(always)]
    fn snat_address(device: &Device) -> Self {
        device.v6
    }
    #[inline(always)]
    fn affinity() -> &'static LruHashMap<AffinityKey<Self>, Affinity> {
        &AFFINITY_V6
    }
    #[inline(always)]
    fn flows() -> &'static LruHashMap<FlowKey<Self>, Flow<Self>> {
        &FLOWS_V6
    }
    #[inline(always)]
    fn fragments() -> &'static LruHashMap<PieceKey<Self>, Pieces> {
        &FRAGMENTS_V6
    }
}

/// Whether there may be such a frontend: nearly always right, and no lookup.
#[inline(always)]
pub fn may_be_frontend<A: Tables>(key: &FrontendKey<A>) -> bool {
    let (word, bit) = filter::place(key);
    A::filter().get(word).is_some_and(|word| word & bit != 0)
}

/// The frontend that a packet is addressed to. The filter is to be asked first.
#[inline(always)]
pub fn find_frontend<A: Tables>(key: &FrontendKey<A>) -> Option<&'static Frontend> {
    // SAFETY: the agent never writes a value in place, it replaces the element; the old one stays
    // readable until the program returns.
    unsafe { A::frontends().get(key) }
}

/// The id of the endpoint in a slot.
#[inline(always)]
pub fn find_slot<A: Tables>(slot: u32) -> Option<u32> {
    A::slots().get(slot).copied()
}

/// The endpoint with that id; none if its place was never used or is another's by now.
#[inline(always)]
pub fn find_endpoint<A: Tables>(id: u32) -> Option<&'static Endpoint<A>> {
    let endpoint = A::endpoints().get(endpoint_index(id))?;
    if id == 0 || endpoint.id != id {
        None
    } else {
        Some(endpoint)
    }
}

/// Whether the endpoint with that id has one of these bits of [`Endpoint::state`].
#[inline(always)]
pub fn has_state<A: Tables>(id: u32, state: u16) -> bool {
    find_endpoint::<A>(id).is_some_and(|endpoint| endpoint.state & state != 0)
}

/// A range of VIPs; none behind the last one.
#[inline(always)]
pub fn find_range<A: Tables>(index: u32) -> Option<&'static VipRange<A>> {
    let range = A::ranges().get(index)?;
    if range.flags == 0 { None } else { Some(range) }
}

/// A network that pods of this node have their addresses from; none behind the last one.
#[inline(always)]
pub fn find_local<A: Tables>(index: u32) -> Option<&'static VipRange<A>> {
    let range = A::locals().get(index)?;
    if range.flags == 0 { None } else { Some(range) }
}

/// Whether `client` is in one of the source ranges of a service port.
#[inline(always)]
pub fn is_source<A: Tables>(service: u32, client: A) -> bool {
    let source = Source {
        service,
        addr: client,
    };
    #[expect(clippy::cast_possible_truncation, reason = "8 or 20 bytes")]
    let bits = const { 8 * size_of::<Source<A>>() as u32 };
    A::sources().get(Key::new(bits, source)).is_some()
}

/// Where a client's new flows go, in place.
#[inline(always)]
pub fn find_affinity<A: Tables>(key: &AffinityKey<A>) -> Option<&'static mut Affinity> {
    let affinity = match A::affinity().get_ptr_mut(key) {
        None if former::has_affinity::<A>() => {
            former::bring_affinity(key);
            A::affinity().get_ptr_mut(key)?
        }
        found => found?,
    };
    // SAFETY: as in `find_flow`.
    Some(unsafe { &mut *affinity })
}

/// Notes where a client's new flows go, unless another CPU has just done so. Without room it is not noted.
#[inline(always)]
pub fn insert_affinity<A: Tables>(key: &AffinityKey<A>, affinity: &Affinity) {
    let insert = || A::affinity().insert(key, affinity, u64::from(BPF_NOEXIST));
    // EBUSY: see `store`.
    if insert() == Err(EBUSY) {
        let _ = insert();
    }
    if former::has_affinity::<A>() {
        former::mirror_affinity(key, affinity);
    }
}

/// A flow's entry, in place.
#[inline(always)]
pub fn find_flow<A: Tables>(key: &FlowKey<A>) -> Option<&'static mut Flow<A>> {
    let flow = A::flows().get_ptr_mut(key)?;
    // SAFETY: the element stays readable and writable until the program returns, even when it is
    // evicted meanwhile. Other CPUs may write the same fields: each is written whole by one store, and
    // any order of those stores leaves a state that the flow may be in.
    Some(unsafe { &mut *flow })
}

/// Whether there is an entry by that key in the former table alone: another flow's.
#[inline(always)]
pub fn is_taken_formerly<A: Tables>(key: &FlowKey<A>) -> bool {
    former::has_flows::<A>() && former::has_flow(key) && A::flows().get_ptr(key).is_none()
}

/// Inserts a flow's entry unless there is one.
#[inline(always)]
pub fn insert_flow<A: Tables>(key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), Refused> {
    insert_uncounted(key, flow)?;
    count_inserted::<A>();
    Ok(())
}

/// Likewise, where the stack has no room to count it: the caller does.
#[inline(always)]
pub fn insert_uncounted<A: Tables>(key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), Refused> {
    store(key, flow, u64::from(BPF_NOEXIST))
}

/// Inserts or overwrites a flow's entry.
#[inline(always)]
pub fn put_flow<A: Tables>(key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), Refused> {
    // First as one that is new, so that it is counted only then.
    match insert_flow(key, flow) {
        Err(Refused::Exists) => overwrite_flow(key, flow),
        other => other,
    }
}

/// Overwrites a flow's entry that was there a moment ago.
#[inline(always)]
pub fn overwrite_flow<A: Tables>(key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), Refused> {
    store(key, flow, u64::from(BPF_ANY))
}

#[inline(always)]
fn store<A: Tables>(key: &FlowKey<A>, flow: &Flow<A>, flags: u64) -> Result<(), Refused> {
    let refused = match A::flows().insert(key, flow, flags) {
        // Before kernel 6.15 an LRU insert can fail for the moment while user space walks the map
        // (rule 96).
        Err(EBUSY) => A::flows().insert(key, flow, flags),
        other => other,
    };
    refused.map_err(|errno| {
        if errno == EEXIST {
            Refused::Exists
        } else {
            Refused::Full
        }
    })
}

/// Removes a flow's entry.
#[inline(always)]
pub fn remove_flow<A: Tables>(key: &FlowKey<A>) {
    // It may be gone already: what is wanted either way.
    count_removed::<A>(A::flows().remove(key).err().unwrap_or(0));
    if former::has_flows::<A>() {
        former::remove_flow(key);
    }
}

/// Counts an entry of [`insert_uncounted`]. Not inlined, for the sake of what stands beside every packet's way.
#[inline(never)]
pub fn count_inserted<A: Tables>() {
    count_churn::<A>(|churn| churn.inserted += 1);
}

/// Counts a removal that ended with `errno`, 0 being success. Without a branch: the verifier would follow all that comes
/// after twice.
#[inline(never)]
fn count_removed<A: Tables>(errno: i32) {
    count_churn::<A>(|churn| churn.removed += u64::from(errno.cast_unsigned() >> 31 ^ 1));
}

#[inline(always)]
fn count_churn<A: Tables>(change: impl Fn(&mut Churn)) {
    if let Some(churn) = CHURN.get_ptr_mut(family_index(A::FAMILY)) {
        // SAFETY: the entry is this CPU's own.
        change(unsafe { &mut *churn });
    }
}

/// What is known of a packet in pieces, in place.
#[inline(always)]
pub fn find_pieces<A: Tables>(key: &PieceKey<A>) -> Option<&'static mut Pieces> {
    let pieces = A::fragments().get_ptr_mut(key)?;
    // SAFETY: as in `find_flow`. Two CPUs may add a piece at once and one of them be lost: the entry then stays until
    // it is too old.
    Some(unsafe { &mut *pieces })
}

/// Inserts or overwrites what is known of a packet in pieces; false if there is no room.
#[inline(always)]
pub fn put_pieces<A: Tables>(key: &PieceKey<A>, pieces: &Pieces) -> bool {
    let insert = || A::fragments().insert(key, pieces, u64::from(BPF_ANY));
    // EBUSY: see `store`.
    match insert() {
        Err(EBUSY) => insert().is_ok(),
        result => result.is_ok(),
    }
}

/// Forgets a packet in pieces.
#[inline(always)]
pub fn remove_pieces<A: Tables>(key: &PieceKey<A>) {
    // It may be gone already: what is wanted either way.
    let _ = A::fragments().remove(key);
}

/// What a process of the node calls, in place.
#[inline(always)]
pub fn find_socket<A: Tables>(key: &SocketKey<A>) -> Option<&'static mut Socket<A>> {
    let socket = match A::sockets().get_ptr_mut(key) {
        None if former::has_sockets::<A>() => {
            former::bring_socket(key);
            A::sockets().get_ptr_mut(key)?
        }
        found => found?,
    };
    // SAFETY: as in `find_flow`; only `seen` is ever written in place.
    Some(unsafe { &mut *socket })
}

/// Inserts or overwrites what a process of the node calls. Without room it is not noted.
#[inline(always)]
pub fn put_socket<A: Tables>(key: &SocketKey<A>, socket: &Socket<A>) {
    let insert = || A::sockets().insert(key, socket, u64::from(BPF_ANY));
    // EBUSY: see `store`.
    if insert() == Err(EBUSY) {
        let _ = insert();
    }
    if former::has_sockets::<A>() {
        former::mirror_socket(key, socket);
    }
}

/// Forgets what a process of the node calls.
#[inline(always)]
pub fn remove_socket<A: Tables>(key: &SocketKey<A>) {
    // It may be gone already: what is wanted either way.
    let _ = A::sockets().remove(key);
    if former::has_sockets::<A>() {
        former::remove_socket(key);
    }
}

/// What the agent says of a device.
#[inline(always)]
pub fn find_device(ifindex: u32) -> Option<&'static Device> {
    // SAFETY: as of frontends: the agent replaces the element.
    unsafe { DEVICES.get(ifindex) }
}

/// When a moved packet last passed, in ticks; 0: never. While there are former tables, that is not known here.
#[inline(always)]
pub fn last_moved() -> u32 {
    MOVED.get(0).copied().unwrap_or(0)
}

/// A moved packet passes at `now`.
#[inline(always)]
pub fn set_last_moved(now: u32) {
    if let Some(last) = MOVED.get_ptr_mut(0) {
        // SAFETY: entry 0 of an array always exists; one aligned store.
        unsafe { *last = now | 1 };
    }
}

/// Takes one from this CPU's budget of refusals for the tick `now`; false if it is spent.
#[inline(always)]
pub fn take_reject(now: u32, limit: u32) -> bool {
    let Some(budget) = REJECTS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the entry is this CPU's own.
    let budget = unsafe { &mut *budget };
    if budget.tick != now {
        *budget = Budget {
            tick: now,
            spent: 0,
        };
    }
    budget.spent += 1;
    budget.spent <= limit
}

/// Whether a frontend may have changed in this tick, so that what is known of it from a packet before is not sure.
#[inline(always)]
pub fn has_frontend_changed(now: u32) -> bool {
    let entry = |index| CHANGES.get(index).copied().unwrap_or(0);
    let epoch = entry(change::EPOCH);
    if epoch != entry(change::NOTED) {
        // In this order: who sees the one sees the other.
        set_change(change::TICK, now);
        set_change(change::NOTED, epoch);
        return true;
    }
    entry(change::TICK) == now
}

#[inline(always)]
fn set_change(index: u32, value: u32) {
    if let Some(entry) = CHANGES.get_ptr_mut(index) {
        // SAFETY: the entry is there; whoever else writes it writes whole words, and none is wrong for long.
        unsafe { entry.write_volatile(value) };
    }
}

/// Counts a verdict.
#[inline(always)]
pub fn count(verdict: Verdict) {
    if let Some(counter) = VERDICTS.get_ptr_mut(verdict as u32) {
        // SAFETY: the entry is this CPU's own.
        unsafe { *counter += 1 };
    }
}

/// Counts a packet of a service, by [`lb_common::tables::traffic_index`].
#[inline(always)]
pub fn count_traffic(index: u32, change: impl Fn(&mut Traffic)) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(index) {
        // SAFETY: the entry is this CPU's own.
        change(unsafe { &mut *traffic });
    }
}
