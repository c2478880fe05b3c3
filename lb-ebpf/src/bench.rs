//! What `cargo xtask bench` times the datapath with: an object of its own, which duolb never loads.
//!
//! ```text
//!   BPF_PROG_TEST_RUN, repeat = N --> restore --tail call--> the program that is timed
//! ```
//!
//! A test run that repeats hands the packet that the run before has left: translated already. `restore` makes it again
//! what it was, or another one in a row, and calls whatever program stands in `NEXT`. What is timed so costs as much more
//! than `empty` as its own work is; `lookup` and `insert` are what that is held against: one warm lookup, and one insert
//! into an LRU table, with keys as long as a flow's.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    missing_docs,
    reason = "what the program macros generate is not ours to describe"
)]

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::{bpf_get_current_pid_tgid, bpf_redirect},
    macros::{classifier, fentry, map, raw_tracepoint, xdp},
    maps::{Array, LruHashMap, PerCpuArray, ProgramArray},
    programs::{FEntryContext, RawTracePointContext, TcContext, XdpContext},
};

/// Double words at the start of a packet that are restored: every header that any program looks at.
const HEAD: usize = 12;
type Head = [u64; HEAD];

/// How packets follow each other; words, so that user space needs no type of its own.
///
/// 0: how many of [`PACKETS`] take turns, a power of two. 1: offset of a word in each packet that differs, 0 for none.
/// 2: the first value of that word, host byte order. 3: how many values it has. 4: from one value to the next; 0: any of
/// them, at random. 5: ifindex that `redirect_xdp` sends to.
type Plan = [u32; 6];

#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
#[map]
static PACKETS: Array<Head> = Array::with_max_entries(4, 0);
/// How many packets there have been.
#[map]
static TURN: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);
#[map]
static NEXT: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static NEXT_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// Tables like those of flows; user space sets their size.
#[map]
static TABLE_V4: LruHashMap<[u32; 4], [u32; 7]> = LruHashMap::with_max_entries(1024, 0);
#[map]
static TABLE_V6: LruHashMap<[u32; 10], [u32; 10]> = LruHashMap::with_max_entries(1024, 0);

/// Calls that `count` or `count_system_calls` has seen, and the thread whose calls count.
#[map]
static CALLS: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static THREAD: Array<u32> = Array::with_max_entries(1, 0);
/// The system call that `count_system_calls` counts.
#[map]
static SYSTEM_CALL: Array<u64> = Array::with_max_entries(1, 0);

/// Where keys begin in a packet: at the source address.
const KEY_V4: usize = 26;
const KEY_V6: usize = 22;

/// What `restore` returns when nothing stands in `NEXT`: no program returns it.
const NOBODY: i32 = 0x6475;

/// Scatters counts over all words (2^32 divided by the golden ratio).
const SCATTER: u32 = 0x9e37_79b1;

#[classifier]
pub fn restore(ctx: TcContext) -> i32 {
    // SAFETY: the kernel gives a valid context for the run of the program; the word is a program's to write.
    unsafe { (*ctx.skb.skb).cb[0] = 0 };
    if put(ctx.data(), ctx.data_end()).is_none() {
        return TC_ACT_SHOT;
    }
    // SAFETY: nothing of this program lives on behind the call.
    unsafe { NEXT.tail_call(&ctx, 0) };
    NOBODY
}

#[xdp(frags)]
pub fn restore_xdp(ctx: XdpContext) -> u32 {
    if put(ctx.data(), ctx.data_end()).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: as above.
    unsafe { NEXT_XDP.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// Makes the packet between `start` and `end` the next one in the row.
#[inline(always)]
fn put(start: usize, end: usize) -> Option<()> {
    let [packets, at, first, count, step, _] = PLAN.get(0)?;
    let turn = TURN.get_ptr_mut(0)?;
    // SAFETY: the entry is this CPU's own.
    let now = unsafe { *turn };
    // SAFETY: likewise.
    unsafe { *turn = now.wrapping_add(1) };
    let head = PACKETS.get(now & packets.wrapping_sub(1) & 3)?;
    if start + size_of::<Head>() > end {
        return None;
    }
    let mut i = 0;
    while i < HEAD {
        // SAFETY: so many bytes of the packet are there, as has just been seen.
        unsafe { store(start + 8 * i, head[i]) };
        i += 1;
    }
    if *at != 0 {
        let place = start + (*at & 63) as usize;
        if place + 4 > end {
            return None;
        }
        let chosen = if *step == 0 {
            (u64::from(now.wrapping_mul(SCATTER)) * u64::from(*count)) >> 32
        } else {
            u64::from(now.checked_rem(*count).unwrap_or(0).wrapping_mul(*step))
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "below `count`, or meant to wrap"
        )]
        let value = first.wrapping_add(chosen as u32).to_be();
        #[expect(clippy::cast_possible_truncation, reason = "a word's halves")]
        let halves = [value as u16, (value >> 16) as u16];
        // SAFETY: four bytes are there, as has just been seen; even as above, fields being so too.
        unsafe { *(place as *mut [u16; 2]) = halves };
    }
    Some(())
}

/// Writes eight bytes at an address that eight need not divide. Few wide stores, from which a program's narrow loads are
/// served at once; the compiler would make eight of each, for which that program then waits.
///
/// # Safety
/// They are the packet's.
#[inline(always)]
unsafe fn store(to: usize, value: u64) {
    // SAFETY: as the caller says; the kernel lets programs access packets so where the processor can.
    unsafe {
        core::arch::asm!("*(u64 *)({0} + 0) = {1}", in(reg) to, in(reg) value, options(nostack));
    }
}

/// Nothing: what a run costs without any work.
#[classifier]
pub fn empty(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

#[xdp(frags)]
pub fn empty_xdp(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The least that a packet can be sent on with.
#[xdp(frags)]
pub fn redirect_xdp(_: XdpContext) -> u32 {
    let out = PLAN.get(0).map_or(0, |plan| plan[5]);
    // SAFETY: takes two numbers.
    let action = unsafe { bpf_redirect(out, 0) };
    u32::try_from(action).unwrap_or(xdp_action::XDP_ABORTED)
}

#[classifier]
pub fn lookup_v4(ctx: TcContext) -> i32 {
    let key: Option<[u32; 4]> = read(&ctx, KEY_V4);
    // SAFETY: nobody looks at the value.
    let found = key.is_some_and(|key| unsafe { TABLE_V4.get(key) }.is_some());
    i32::from(found)
}

#[classifier]
pub fn lookup_v6(ctx: TcContext) -> i32 {
    let key: Option<[u32; 10]> = read(&ctx, KEY_V6);
    // SAFETY: likewise.
    let found = key.is_some_and(|key| unsafe { TABLE_V6.get(key) }.is_some());
    i32::from(found)
}

#[classifier]
pub fn insert_v4(ctx: TcContext) -> i32 {
    let Some(key) = read::<[u32; 4]>(&ctx, KEY_V4) else {
        return 0;
    };
    i32::from(TABLE_V4.insert(key, [1; 7], 0).is_ok())
}

#[classifier]
pub fn insert_v6(ctx: TcContext) -> i32 {
    let Some(key) = read::<[u32; 10]>(&ctx, KEY_V6) else {
        return 0;
    };
    i32::from(TABLE_V6.insert(key, [1; 10], 0).is_ok())
}

/// Counts the calls of a kernel function, whichever user space attaches it to, while one thread runs. Asks for arrays
/// alone, which the kernel does without a call: it never counts itself.
#[fentry]
pub fn count(_: FEntryContext) -> i32 {
    add_call();
    0
}

/// Likewise the system calls of that thread with the number in `SYSTEM_CALL`.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn count_system_calls(ctx: RawTracePointContext) -> i32 {
    let number: u64 = ctx.arg(1);
    if SYSTEM_CALL.get(0) == Some(&number) {
        add_call();
    }
    0
}

#[inline(always)]
fn add_call() {
    // The lower half is what user space calls a thread's id.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    let thread = bpf_get_current_pid_tgid() as u32;
    if THREAD.get(0) == Some(&thread)
        && let Some(calls) = CALLS.get_ptr_mut(0)
    {
        // SAFETY: the entry is there for good, and this alone writes to it. What interrupts the thread in the middle to do
        // the same is then not counted, and need not be.
        unsafe { *calls += 1 };
    }
}

/// A key out of the packet, from `at` on.
#[inline(always)]
fn read<K: Copy>(ctx: &TcContext, at: usize) -> Option<K> {
    let start = ctx.data() + at;
    if start + size_of::<K>() > ctx.data_end() {
        return None;
    }
    // SAFETY: so many bytes are there; keys are arrays of numbers.
    Some(unsafe { (start as *const K).read_unaligned() })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Not reachable: the verifier would refuse a program in which it is.
    loop {}
}

/// The licence the kernel checks before it lets a program call its GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
