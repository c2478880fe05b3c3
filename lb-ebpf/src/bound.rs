//! Whether a socket of the node would get a packet.

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::{
    bindings::BPF_F_CURRENT_NETNS,
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release},
};
use lb_common::{flow::FlowKey, headers::proto};

use crate::maps::Tables;

/// Whether some socket, connected or not, would get the packets of this tuple. SCTP's are not looked for: the kernel
/// has no such helper.
#[inline(never)]
pub fn is_bound<A: Tables>(ctx: *mut c_void, tuple: &FlowKey<A>) -> bool {
    // A tuple is laid out as `struct bpf_sock_tuple` is, but for the protocol behind it.
    #[expect(clippy::cast_possible_truncation, reason = "12 or 36")]
    let size = const { offset_of!(FlowKey<A>, proto) as u32 };
    let at = (&raw const *tuple).cast_mut().cast();
    // The helpers take the current namespace as a negative number of 32 bits.
    let netns = i64::from(BPF_F_CURRENT_NETNS).cast_unsigned();
    // SAFETY: the context is the program's; the tuple is read only, and as long as said.
    let socket = unsafe {
        if tuple.proto == u32::from(proto::TCP) {
            bpf_sk_lookup_tcp(ctx, at, size, netns, 0)
        } else if tuple.proto == u32::from(proto::UDP) {
            bpf_sk_lookup_udp(ctx, at, size, netns, 0)
        } else {
            return false;
        }
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the socket was found by the helper, and is given back once.
    unsafe { bpf_sk_release(socket.cast()) };
    true
}
