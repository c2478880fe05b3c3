//! Questions to the kernel's routing table.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_fib_lookup;
use lb_common::{address::Family, ip::Ip};

/// Address families of `bpf_fib_lookup`.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `struct bpf_fib_lookup` (uapi/linux/bpf.h), without its unions.
#[repr(C)]
pub struct Route {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// IP protocol, for routing rules.
    pub proto: u8,
    /// Ports, for routing rules; 0.
    pub ports: [u16; 2],
    /// 0: the packet's own length counts.
    pub tot_len: u16,
    /// In: device the packet came in by. Out: device it leaves by.
    pub ifindex: u32,
    /// Type of service or flow label.
    pub flowinfo: u32,
    /// Source address; IPv4 in the first word.
    pub src: [u32; 4],
    /// Destination address; after the lookup the next hop's.
    pub dst: [u32; 4],
    /// VLAN, if asked for.
    pub vlan: u32,
    /// Out: MAC of the device it leaves by.
    pub smac: [u16; 3],
    /// Out: MAC of the next hop.
    pub dmac: [u16; 3],
}

impl Route {
    /// Size in bytes, as the helper takes it.
    const SIZE: i32 = 64;
    /// Answer: the packet goes that way.
    pub const FOUND: i64 = 0;
    /// Answer: it would, but the next hop's MAC is not known.
    pub const NO_NEIGHBOUR: i64 = 7;

    /// The question: how would a packet from `src`, coming in by device `ifindex`, go to `dst`?
    #[inline(always)]
    pub fn question<A: Ip>(ifindex: u32, src: &A, dst: &A, proto: u8) -> Self {
        let four = |address: &A| {
            let words = address.words();
            match A::FAMILY {
                Family::V4 => [words[0], 0, 0, 0],
                Family::V6 => [words[0], words[1], words[2], words[3]],
            }
        };
        Self {
            family: match A::FAMILY {
                Family::V4 => AF_INET,
                Family::V6 => AF_INET6,
            },
            proto,
            ports: [0; 2],
            tot_len: 0,
            ifindex,
            flowinfo: 0,
            src: four(src),
            dst: four(dst),
            vlan: 0,
            smac: [0; 3],
            dmac: [0; 3],
        }
    }

    /// Asks the routing table (`bpf_fib_lookup` with these flags); the answer is in the fields then.
    #[inline(always)]
    pub fn find(&mut self, ctx: *mut c_void, flags: u32) -> i64 {
        let params = (&raw mut *self).cast();
        // SAFETY: the context is the program's, the parameters are valid for the call; the layout is the
        // kernel's (asserted).
        unsafe { bpf_fib_lookup(ctx, params, Self::SIZE, flags) }
    }
}

const _: () = {
    assert!(size_of::<Route>() == size_of::<aya_ebpf::bindings::bpf_fib_lookup>());
    assert!(size_of::<Route>() == Route::SIZE as usize);
};
