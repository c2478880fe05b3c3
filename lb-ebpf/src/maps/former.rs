//! The tables that were in force before these, for as long as programs are being exchanged: those that are not
//! exchanged yet know no others.
//!
//! A program of an exchange works on entries of the former table of flows as if they were its own: before a packet, those
//! that concern it are copied here (`switch.rs`), after it, back. So all programs see the same flows, whichever of them
//! stand on which devices. When no program is left that knows only the former table, nothing is copied back, and only
//! what is missing here is brought over. Of affinity and sockets, what is missing is brought over, and what is new is
//! put there as well.
//!
//! Values may be longer or shorter there (`lb_common::former`): they go through a buffer, word by word. All of it is
//! behind load-time constants, 0 but during an exchange: the verifier removes it.

use core::mem::MaybeUninit;

use aya_ebpf::{
    Global,
    bindings::{BPF_ANY, BPF_NOEXIST},
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};
use lb_common::{
    address::{V4, V6},
    flow::{Flow, FlowKey},
    former::{AFFINITY_WORDS, FLOW_WORDS, SOCKET_WORDS},
    ip::Ip,
    tables::{Affinity, AffinityKey, Socket, SocketKey},
};

use super::Tables;

#[map]
static FORMER_FLOWS_V4: LruHashMap<FlowKey<V4>, Flow<V4>> = LruHashMap::with_max_entries(1, 0);
#[map]
static FORMER_FLOWS_V6: LruHashMap<FlowKey<V6>, Flow<V6>> = LruHashMap::with_max_entries(1, 0);
#[map]
static FORMER_AFFINITY_V4: LruHashMap<AffinityKey<V4>, Affinity> =
    LruHashMap::with_max_entries(1, 0);
#[map]
static FORMER_AFFINITY_V6: LruHashMap<AffinityKey<V6>, Affinity> =
    LruHashMap::with_max_entries(1, 0);
#[map]
static FORMER_SOCKETS_V4: LruHashMap<SocketKey<V4>, Socket<V4>> =
    LruHashMap::with_max_entries(1, 0);
#[map]
static FORMER_SOCKETS_V6: LruHashMap<SocketKey<V6>, Socket<V6>> =
    LruHashMap::with_max_entries(1, 0);

/// Words that a former value and one of ours have in common; 0: there is no former table.
#[unsafe(no_mangle)]
static FORMER_FLOWS_V4_WORDS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static FORMER_FLOWS_V6_WORDS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static FORMER_AFFINITY_V4_WORDS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static FORMER_AFFINITY_V6_WORDS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static FORMER_SOCKETS_V4_WORDS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static FORMER_SOCKETS_V6_WORDS: Global<u32> = Global::new(0);

/// The buffer for flows, which the stack of the programs on devices has no room for. They are not interrupted by
/// each other; those of processes may be, and have room.
#[map]
static FORMER_FLOW: PerCpuArray<[u32; FLOW_WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// The tuple of the packet under way.
#[map]
static FORMER_NOTED_V4: PerCpuArray<FlowKey<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static FORMER_NOTED_V6: PerCpuArray<FlowKey<V6>> = PerCpuArray::with_max_entries(1, 0);

/// 1: no program is left that knows only the former tables. The agent sets it.
#[map]
static FORMER_LEFT: Array<u32> = Array::with_max_entries(1, 0);

type Table<K, V> = &'static LruHashMap<K, V>;

/// The former tables of one family, each with the words in common.
pub trait FormerTables: Ip {
    fn noted() -> &'static PerCpuArray<FlowKey<Self>>;
    fn former_flows() -> (Table<FlowKey<Self>, Flow<Self>>, u32);
    fn former_affinity() -> (Table<AffinityKey<Self>, Affinity>, u32);
    fn former_sockets() -> (Table<SocketKey<Self>, Socket<Self>>, u32);
}

impl FormerTables for V4 {
    #[inline(always)]
    fn noted() -> &'static PerCpuArray<FlowKey<Self>> {
        &FORMER_NOTED_V4
    }
    #[inline(always)]
    fn former_flows() -> (Table<FlowKey<Self>, Flow<Self>>, u32) {
        (&FORMER_FLOWS_V4, FORMER_FLOWS_V4_WORDS.load())
    }
    #[inline(always)]
    fn former_affinity() -> (Table<AffinityKey<Self>, Affinity>, u32) {
        (&FORMER_AFFINITY_V4, FORMER_AFFINITY_V4_WORDS.load())
    }
    #[inline(always)]
    fn former_sockets() -> (Table<SocketKey<Self>, Socket<Self>>, u32) {
        (&FORMER_SOCKETS_V4, FORMER_SOCKETS_V4_WORDS.load())
    }
}

impl FormerTables for V6 {
    #[inline(always)]
    fn noted() -> &'static PerCpuArray<FlowKey<Self>> {
        &FORMER_NOTED_V6
    }
    #[inline(always)]
    fn former_flows() -> (Table<FlowKey<Self>, Flow<Self>>, u32) {
        (&FORMER_FLOWS_V6, FORMER_FLOWS_V6_WORDS.load())
    }
    #[inline(always)]
    fn former_affinity() -> (Table<AffinityKey<Self>, Affinity>, u32) {
        (&FORMER_AFFINITY_V6, FORMER_AFFINITY_V6_WORDS.load())
    }
    #[inline(always)]
    fn former_sockets() -> (Table<SocketKey<Self>, Socket<Self>>, u32) {
        (&FORMER_SOCKETS_V6, FORMER_SOCKETS_V6_WORDS.load())
    }
}

/// Whether there is a former table of flows.
#[inline(always)]
pub fn has_flows<A: FormerTables>() -> bool {
    A::former_flows().1 != 0
}

/// Whether there is a former table of affinity.
#[inline(always)]
pub fn has_affinity<A: FormerTables>() -> bool {
    A::former_affinity().1 != 0
}

/// Whether there is a former table of sockets.
#[inline(always)]
pub fn has_sockets<A: FormerTables>() -> bool {
    A::former_sockets().1 != 0
}

/// Notes which packet is under way, by its tuple; false if there is no room.
#[inline(always)]
pub fn note<A: Tables>(tuple: &FlowKey<A>) -> bool {
    let Some(noted) = A::noted().get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the entry is this CPU's own.
    unsafe { *noted = *tuple };
    true
}

/// Copies the entries that concern the packet noted: from the former table, or with `OUT` into it.
#[inline(never)]
pub fn copy_flow<A: Tables, const OUT: bool>() -> u32 {
    let Some(key) = A::noted().get_ptr(0) else {
        return 0;
    };
    // SAFETY: the entry is this CPU's own, and nobody writes it while this runs.
    let key = unsafe { &*key };
    copy::<A, OUT>(key);
    if !OUT {
        // What begins may find somebody in its way.
        copy::<A, OUT>(&key.reversed());
    }
    let Some(flow) = find(key) else {
        return 0;
    };
    if flow.flags & Flow::<A>::REPLY != 0 {
        copy::<A, OUT>(&flow.forward_key(key));
    } else if flow.flags & Flow::<A>::SNAT != 0 {
        copy::<A, OUT>(&flow.undo_key(key));
    } else if flow.flags & Flow::<A>::UNDO != 0 {
        let snat = flow.snat_key(key);
        copy::<A, OUT>(&snat);
        copy_both::<A, OUT>(&snat.reversed(), Flow::<A>::REPLY);
    } else {
        let reply = flow.reply_key(key);
        copy::<A, OUT>(&reply);
        copy_both::<A, OUT>(&reply.reversed(), Flow::<A>::SNAT);
    }
    1
}

/// Copies an entry, and if it is of that kind, reply or SNAT, the one that goes with it.
#[inline(always)]
fn copy_both<A: Tables, const OUT: bool>(key: &FlowKey<A>, kind: u16) {
    copy::<A, OUT>(key);
    let Some(flow) = find(key) else { return };
    if flow.flags & kind == 0 {
        return;
    }
    let other = if kind == Flow::<A>::REPLY {
        flow.forward_key(key)
    } else {
        flow.undo_key(key)
    };
    copy::<A, OUT>(&other);
}

#[inline(always)]
fn find<A: Tables>(key: &FlowKey<A>) -> Option<&'static Flow<A>> {
    // SAFETY: as in `find_flow` of `maps`; only read.
    A::flows().get_ptr(key).map(|flow| unsafe { &*flow })
}

#[inline(never)]
fn copy<A: Tables, const OUT: bool>(key: &FlowKey<A>) -> u32 {
    let (former, words) = A::former_flows();
    let ours = A::flows().get_ptr(key);
    if !OUT && is_left() && ours.is_some() {
        return 0;
    }
    let Some(buffer) = FORMER_FLOW.get_ptr_mut(0) else {
        return 0;
    };
    let buffer = buffer.cast();
    if OUT {
        let Some(flow) = ours else { return 0 };
        // SAFETY: the verifier has seen to it that both are there; an entry has as many words as its size says, and
        // of the buffer this CPU's is ours until the return.
        let value =
            unsafe { fill::<Flow<A>>(buffer, flow.cast(), words_of::<Flow<A>>(), FLOW_WORDS) };
        let _ = former.insert(key, value, u64::from(BPF_ANY));
    } else {
        let Some(flow) = former.get_ptr(key) else {
            return 0;
        };
        // SAFETY: as above; a former value has `words` words at least.
        let value = unsafe { fill::<Flow<A>>(buffer, flow.cast(), words, FLOW_WORDS) };
        let _ = A::flows().insert(key, value, u64::from(BPF_ANY));
    }
    1
}

/// Whether no program is left that knows only the former tables.
#[inline(always)]
pub fn is_left() -> bool {
    FORMER_LEFT.get(0).is_some_and(|left| *left != 0)
}

/// Whether there is such an entry in the former table. For who looks for a tuple that nobody has: it is taken, though
/// the entry was not brought here.
#[inline(always)]
pub fn has_flow<A: Tables>(key: &FlowKey<A>) -> bool {
    A::former_flows().0.get_ptr(key).is_some()
}

/// Removes a flow's entry there.
#[inline(always)]
pub fn remove_flow<A: Tables>(key: &FlowKey<A>) {
    let _ = A::former_flows().0.remove(key);
}

/// The same as of flows, of a client's affinity.
#[inline(never)]
pub fn bring_affinity<A: Tables>(key: &AffinityKey<A>) -> u32 {
    let (table, words) = A::former_affinity();
    let Some(from) = table.get_ptr(key) else {
        return 0;
    };
    let mut buffer = MaybeUninit::<[u32; AFFINITY_WORDS]>::uninit();
    // SAFETY: the verifier has seen to it that the entry is there; it has `words` words at least.
    let value = unsafe {
        fill(
            buffer.as_mut_ptr().cast(),
            from.cast(),
            words,
            AFFINITY_WORDS,
        )
    };
    let _ = A::affinity().insert(key, value, u64::from(BPF_NOEXIST));
    1
}

/// The same as of flows, of a client's affinity.
#[inline(never)]
pub fn mirror_affinity<A: Tables>(key: &AffinityKey<A>, affinity: &Affinity) -> u32 {
    let mut buffer = MaybeUninit::<[u32; AFFINITY_WORDS]>::uninit();
    let from = (&raw const *affinity).cast();
    // SAFETY: the value has as many words as its size says.
    let value = unsafe {
        fill(
            buffer.as_mut_ptr().cast(),
            from,
            words_of::<Affinity>(),
            AFFINITY_WORDS,
        )
    };
    let _ = A::former_affinity()
        .0
        .insert(key, value, u64::from(BPF_ANY));
    1
}

/// The same as of flows, of a socket.
#[inline(never)]
pub fn bring_socket<A: Tables>(key: &SocketKey<A>) -> u32 {
    let (table, words) = A::former_sockets();
    let Some(from) = table.get_ptr(key) else {
        return 0;
    };
    let mut buffer = MaybeUninit::<[u32; SOCKET_WORDS]>::uninit();
    // SAFETY: the verifier has seen to it that the entry is there; it has `words` words at least.
    let value = unsafe { fill(buffer.as_mut_ptr().cast(), from.cast(), words, SOCKET_WORDS) };
    let _ = A::sockets().insert(key, value, u64::from(BPF_NOEXIST));
    1
}

/// The same as of flows, of a socket.
#[inline(never)]
pub fn mirror_socket<A: Tables>(key: &SocketKey<A>, socket: &Socket<A>) -> u32 {
    let mut buffer = MaybeUninit::<[u32; SOCKET_WORDS]>::uninit();
    let from = (&raw const *socket).cast();
    // SAFETY: the value has as many words as its size says.
    let value = unsafe {
        fill(
            buffer.as_mut_ptr().cast(),
            from,
            words_of::<Socket<A>>(),
            SOCKET_WORDS,
        )
    };
    let _ = A::former_sockets().0.insert(key, value, u64::from(BPF_ANY));
    1
}

/// Removes a socket's entry there.
#[inline(always)]
pub fn remove_socket<A: Tables>(key: &SocketKey<A>) {
    let _ = A::former_sockets().0.remove(key);
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a value of a few words")]
const fn words_of<V>() -> u32 {
    (size_of::<V>() / 4) as u32
}

/// Copies the first `words` of `size` words and makes the rest zero; the buffer as a value of either table.
///
/// # Safety
/// `buffer` has room for `size` words, `from` holds `words`, and a `V` has no more than `size`.
#[inline(always)]
unsafe fn fill<'a, V>(buffer: *mut u32, from: *const u32, words: u32, size: usize) -> &'a V {
    let mut at = 0;
    while at < size {
        #[expect(clippy::cast_possible_truncation, reason = "a few words")]
        let is_common = (at as u32) < words;
        // SAFETY: within both, as the caller vouches for. Volatile, so that the compiler makes no call of memset.
        unsafe {
            let word = if is_common { from.add(at).read() } else { 0 };
            buffer.add(at).write_volatile(word);
        }
        at += 1;
    }
    // SAFETY: all of it is written, and any words are a `V`.
    unsafe { &*buffer.cast() }
}
