//! How many calls of the kernel's own functions a piece of work takes: a program on the entry of each counts those of one
//! thread (`count` of `lb-bench.o`). An exact count, where a clock would have an opinion.
//!
//! What interrupts the thread meanwhile may ask for maps as well, so whoever wants to know what something takes does it
//! some times: the least counts.

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, MapData},
    programs::{FEntry, RawTracePoint},
};
use nix::unistd::gettid;

use super::stand::OBJECT;

/// What programs call the kernel for, and by which functions it does that: once it has compiled a program, the call of a
/// helper for a map is one of these. Lookups in arrays are no calls. Functions of tries cannot be attached to.
pub const KINDS: [(&str, &[&str]); 4] = [
    ("lookups", &["__htab_map_lookup_elem"]),
    (
        "updates",
        &["htab_map_update_elem", "htab_lru_map_update_elem"],
    ),
    (
        "removals",
        &["htab_map_delete_elem", "htab_lru_map_delete_elem"],
    ),
    (
        "helpers",
        &[
            "bpf_l4_csum_replace",
            "bpf_csum_update",
            "bpf_skb_pull_data",
            "bpf_skb_load_bytes",
            "bpf_skb_store_bytes",
            "bpf_skb_change_head",
            "bpf_skb_change_tail",
            "bpf_skb_adjust_room",
            "bpf_skb_check_mtu",
            "bpf_skb_fib_lookup",
            "bpf_redirect",
            "bpf_redirect_neigh",
            "bpf_redirect_peer",
            "bpf_tc_sk_lookup_tcp",
            "bpf_tc_sk_lookup_udp",
            "bpf_sk_release",
            "bpf_xdp_adjust_tail",
            "bpf_xdp_check_mtu",
            "bpf_xdp_fib_lookup",
            "bpf_xdp_redirect",
            "bpf_xdp_sk_lookup_tcp",
            "bpf_xdp_sk_lookup_udp",
        ],
    ),
];

/// Calls of each of [`KINDS`].
pub type Calls = [u64; KINDS.len()];

/// The calls of one function, or system call.
pub struct Counter {
    /// Attached as long as it is there.
    _object: Ebpf,
    calls: Array<MapData, u64>,
}

impl Counter {
    /// Of a function of the kernel's, by this thread.
    ///
    /// # Errors
    /// What the kernel lacks: its own types, the function, or the right to attach to it (locked down, it gives none).
    pub fn on(function: &str) -> Result<Self, String> {
        let failed = |why: &dyn std::fmt::Display| format!("{function}: {why}");
        let btf = Btf::from_sys_fs().map_err(|why| failed(&why))?;
        let mut object = load()?;
        let program: &mut FEntry = object.program_mut("count").unwrap().try_into().unwrap();
        program.load(function, &btf).map_err(|why| failed(&why))?;
        program.attach().map_err(|why| failed(&why))?;
        Ok(Self::of(object))
    }

    /// Of `bpf(2)`, by this thread.
    ///
    /// # Errors
    /// If the kernel does not let it be counted.
    pub fn on_bpf() -> Result<Self, String> {
        let failed = |why: &dyn std::fmt::Display| format!("sys_enter: {why}");
        let mut object = load()?;
        let mut number: Array<_, u64> = object.map_mut("SYSTEM_CALL").unwrap().try_into().unwrap();
        let bpf = nix::libc::SYS_bpf.cast_unsigned();
        number.set(0, bpf, 0).map_err(|why| failed(&why))?;
        let program = object.program_mut("count_system_calls").unwrap();
        let program: &mut RawTracePoint = program.try_into().unwrap();
        program.load().map_err(|why| failed(&why))?;
        program.attach("sys_enter").map_err(|why| failed(&why))?;
        Ok(Self::of(object))
    }

    fn of(mut object: Ebpf) -> Self {
        Self {
            calls: object.take_map("CALLS").unwrap().try_into().unwrap(),
            _object: object,
        }
    }

    /// Calls so far.
    pub fn sum(&self) -> u64 {
        self.calls.get(&0, 0).unwrap()
    }
}

/// The object, for calls of this thread.
fn load() -> Result<Ebpf, String> {
    let mut object = EbpfLoader::new()
        .load(OBJECT)
        .map_err(|why| why.to_string())?;
    let mut thread: Array<_, u32> = object.map_mut("THREAD").unwrap().try_into().unwrap();
    let own = gettid().as_raw().cast_unsigned();
    thread.set(0, own, 0).map_err(|why| why.to_string())?;
    Ok(object)
}

/// The calls of all functions.
pub struct Counters([Vec<Counter>; KINDS.len()]);

impl Counters {
    /// Of this thread's calls; `None`, saying why, where the kernel does not let them be counted.
    pub fn start() -> Option<Self> {
        let all = KINDS.map(|(_, functions)| {
            let counters = functions.iter().map(|name| Counter::on(name));
            counters.collect::<Result<Vec<_>, _>>()
        });
        let mut counters = Vec::new();
        for of_kind in all {
            match of_kind {
                Ok(of_kind) => counters.push(of_kind),
                Err(why) => {
                    eprintln!("skipped: calls cannot be counted: {why}");
                    return None;
                }
            }
        }
        counters.try_into().ok().map(Self)
    }

    /// What `work` takes.
    pub fn of(&self, work: impl FnOnce()) -> Calls {
        let before = self.sums();
        work();
        let after = self.sums();
        std::array::from_fn(|kind| after[kind] - before[kind])
    }

    fn sums(&self) -> Calls {
        std::array::from_fn(|kind| self.0[kind].iter().map(Counter::sum).sum())
    }
}
