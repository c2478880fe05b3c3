//! What is fixed when the programs are loaded; the agent overrides the values by symbol name.
//!
//! Load-time constants cost nothing: the verifier knows their values and removes what they switch off.

use aya_ebpf::{Global, helpers::generated::bpf_jiffies64};
use lb_common::flow::{
    Flow, is_past_seconds,
    state::{DEFAULT_TIMEOUTS, TIMEOUT_INDEXES, timeout_index},
    ticks,
};

/// Secret that the choice of endpoints depends on; the same over restarts of the agent.
#[unsafe(no_mangle)]
static HASH_SEED: Global<u64> = Global::new(0);

/// [`lb_common::flow::tick_shift`] of this kernel.
#[unsafe(no_mangle)]
static CLOCK_SHIFT: Global<u32> = Global::new(8);

/// Jiffies a second of this kernel.
#[unsafe(no_mangle)]
static HZ: Global<u32> = Global::new(250);

/// 1: TCP connections to an endpoint that has left every slice are reset; 0: they are left alone (rule 78).
#[unsafe(no_mangle)]
static TCP_RESET_DEAD: Global<u32> = Global::new(0);

/// Ticks without a packet after which a flow no longer keeps its tuple from others, by [`timeout_index`].
#[unsafe(no_mangle)]
static TIMEOUTS: Global<[u32; TIMEOUT_INDEXES]> = Global::new(DEFAULT_TIMEOUTS.table());

/// First port that SNAT gives to clients, host byte order, and how many there are: a range that no socket of
/// this node takes one of by itself.
#[unsafe(no_mangle)]
static SNAT_FIRST: Global<u32> = Global::new(11_000);

/// See [`SNAT_FIRST`].
#[unsafe(no_mangle)]
static SNAT_COUNT: Global<u32> = Global::new(19_000);

/// 1: every client of a cluster IP gets an address of this node (rule 56).
#[unsafe(no_mangle)]
static MASQUERADE_ALL: Global<u32> = Global::new(0);

/// 1: packets of services skip the stack where they can (`--host-routing=bpf`).
#[unsafe(no_mangle)]
static HOST_ROUTING: Global<u32> = Global::new(0);

/// Cookie of the network namespace that the agent serves: sockets of others are none of ours.
#[unsafe(no_mangle)]
static NETNS_COOKIE: Global<u64> = Global::new(0);

/// 1: the kernel lets programs say which error a system call ends with (5.18). Before, its verifier does not
/// know the helper, and must not come across it.
#[unsafe(no_mangle)]
static HAS_SET_RETVAL: Global<u32> = Global::new(0);

/// Ticks after which a SYN is no retransmission of the one before: Linux waits 120 s at most between
/// two (TCP_RTO_MAX).
pub const SYN_TIMEOUT: u32 = 128;

/// Refusals a CPU answers in a tick; beyond that, clients are left waiting.
#[unsafe(no_mangle)]
static REJECT_LIMIT: Global<u32> = Global::new(1000);

/// See [`REJECT_LIMIT`].
#[inline(always)]
pub fn reject_limit() -> u32 {
    REJECT_LIMIT.load()
}

/// See [`NETNS_COOKIE`].
#[inline(always)]
pub fn netns_cookie() -> u64 {
    NETNS_COOKIE.load()
}

/// See [`HAS_SET_RETVAL`].
#[inline(always)]
pub fn has_set_retval() -> bool {
    HAS_SET_RETVAL.load() != 0
}

/// See [`HASH_SEED`].
#[inline(always)]
pub fn hash_seed() -> u64 {
    HASH_SEED.load()
}

/// The first port that SNAT gives to clients, host byte order, and how many there are.
#[inline(always)]
pub fn snat_ports() -> (u32, u32) {
    (SNAT_FIRST.load(), SNAT_COUNT.load())
}

/// See [`MASQUERADE_ALL`].
#[inline(always)]
pub fn masquerades_all() -> bool {
    MASQUERADE_ALL.load() != 0
}

/// See [`HOST_ROUTING`].
#[inline(always)]
pub fn skips_stack() -> bool {
    HOST_ROUTING.load() != 0
}

/// See [`TCP_RESET_DEAD`].
#[inline(always)]
pub fn resets_dead() -> bool {
    TCP_RESET_DEAD.load() != 0
}

/// See [`TIMEOUTS`].
#[inline(always)]
pub fn timeout(proto: u32, flags: u16) -> u32 {
    let first = (&raw const TIMEOUTS).cast::<u32>();
    // SAFETY: the index is below the length of the array, which is all there is in a `Global`. Volatile because the
    // agent writes it when the compiler is done.
    unsafe { first.add(timeout_index(proto, flags)).read_volatile() }
}

/// Ticks that what is in use may be silent for.
#[inline(always)]
pub fn longest_timeout(proto: u32) -> u32 {
    timeout(proto, Flow::<()>::OPENED | Flow::<()>::ANSWERED)
}

/// The kernel's tick counter: the cheapest clock there is (the verifier inlines it to one load).
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: takes nothing, changes nothing; since kernel 5.6.
    unsafe { bpf_jiffies64() }
}

/// Whether more than `seconds` have passed since `seen`, on the flow clock.
#[inline(always)]
pub fn is_past(seen: u32, now: u32, seconds: u32) -> bool {
    is_past_seconds(seen, now, seconds, CLOCK_SHIFT.load(), HZ.load())
}

/// Now, on the flow clock.
#[inline(always)]
pub fn now() -> u32 {
    ticks(jiffies(), CLOCK_SHIFT.load())
}
