//! The context of a TC program: the only file that calls the kernel's packet helpers.
//!
//! Long because: what they do to a packet, and leave of what was known of it, is to be read side by side.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_REDIRECT,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_check_mtu_flags::BPF_MTU_CHK_SEGS,
    },
    helpers::generated::{
        bpf_check_mtu, bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh,
        bpf_redirect_peer, bpf_skb_change_head, bpf_skb_change_tail,
    },
    programs::TcContext,
};
use lb_common::{
    address::Family,
    checksum::Delta,
    cursor::Cursor,
    headers::{Eth, Icmp, Tcp, ethertype, len},
    ip::{Ip, Side},
    join::join_ways,
    opaque::opaque_pointer,
    parse::{L2, Transport, parse_l2},
    reply::ChecksumState,
    translate::{Change, Target, set_crc, translate},
    verdict::Verdict,
};

/// Bytes that hold every header the parser may look at, in nearly all packets: Ethernet, two tags, IPv6,
/// an extension or two, TCP; or an ICMP error with what it embeds.
const HEADERS: u32 = 128;

/// Bytes that hold a link layer, and an IPv4 header behind.
const L2_HEADERS: u32 = 42;

/// A note in a packet's control block, which nobody else writes there by chance.
const DONE: u32 = 0x6475_6f6c;

/// A packet in a TC program.
pub struct Skb {
    ctx: TcContext,
}

impl Skb {
    #[inline(always)]
    pub fn new(ctx: TcContext) -> Self {
        Self { ctx }
    }

    /// The packet's linear bytes.
    #[inline(always)]
    pub fn cursor(&mut self) -> Cursor<'_> {
        // Else the compiler would hand its two fields to functions, as the 32 bits that they are for it.
        let ctx = TcContext::new(opaque_pointer(self.ctx.skb.skb));
        // SAFETY: `data..data_end` is readable and writable while no helper moves the packet; helpers
        // that do need `&mut self`, which ends this borrow.
        unsafe { Cursor::from_raw(ctx.data() as *mut u8, ctx.data_end() as *mut u8) }
    }

    /// Bytes within reach; the rest is in pages.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a packet's linear part is below 64 KiB"
    )]
    fn linear(&self) -> u32 {
        (self.ctx.data_end() - self.ctx.data()) as u32
    }

    /// Brings all headers within reach, should the first `needed` bytes not be. More only where it has to be: of a segment
    /// that a socket sends nothing but the headers is within reach, and bringing more makes the kernel copy them. Fails
    /// only without memory; then what is there is parsed, and the rest is "truncated".
    #[inline(always)]
    pub fn reach(&mut self, needed: u32) {
        let linear = self.linear();
        if linear < needed && linear < self.ctx.len() {
            let _ = self.ctx.pull_data(core::cmp::min(self.ctx.len(), HEADERS));
        }
    }

    /// Brings what a packet's own way looks at within reach: nearly always it is.
    #[inline(always)]
    pub fn reach_transport<A: Ip>(&mut self, l3: u16) {
        let usual = u32::from(l3 + A::HEADER_LEN + len::<Tcp>());
        let needed = if A::has_options(&self.cursor(), l3) {
            HEADERS
        } else {
            usual
        };
        self.reach(needed);
    }

    /// Likewise all that any way looks at.
    #[inline(always)]
    pub fn reach_all(&mut self) {
        self.reach(HEADERS);
    }

    /// Reads the link layer.
    #[inline(always)]
    pub fn parse_l2<const IS_ETHERNET: bool>(&mut self) -> Option<L2> {
        self.reach(L2_HEADERS);
        if IS_ETHERNET {
            let l2 = parse_l2(&self.cursor())?;
            if matches!(l2.ethertype, ethertype::IPV4 | ethertype::IPV6) || !self.is_ip() {
                return Some(l2);
            }
        }
        Some(L2 {
            ethertype: self.protocol(),
            // 0, of which the verifier does not know that it is: it would follow such packets apart.
            payload: join_ways(1_u16) - 1,
        })
    }

    /// What the kernel takes the packet for: its EtherType, network byte order.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "an EtherType in a word")]
    fn protocol(&self) -> u16 {
        // SAFETY: the kernel gives a valid context for the run of the program.
        unsafe { (*self.ctx.skb.skb).protocol as u16 }
    }

    /// Whether what should be an Ethernet header is an IP header. Where generic XDP had the packet copied (nearly
    /// always, `skb_pp_cow_data` since kernel 6.9), the copy does not know how long its link layer is.
    #[inline(always)]
    fn is_ip(&mut self) -> bool {
        let version = match self.protocol() {
            ethertype::IPV4 => 4,
            ethertype::IPV6 => 6,
            _ => return false,
        };
        let first: Option<[u8; 1]> = self.cursor().read(0);
        first.is_some_and(|[first]| first >> 4 == version)
    }

    /// Whether the packet has been translated by the device below this one. Its new tuple would look like that of
    /// a connection that went past us.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        // SAFETY: the kernel gives a valid context for the run of the program.
        let [note, device, ..] = unsafe { (*self.ctx.skb.skb).cb };
        // A test run repeats with the packet that the run before has left: that is no device above.
        note == DONE && device != self.ifindex()
    }

    /// Says so to the device above. The note lasts no longer: it stands where IP has its own as soon as it
    /// gets the packet.
    #[inline(always)]
    pub fn set_done(&mut self) {
        let device = self.ifindex();
        // SAFETY: as above; both words are a program's to write.
        unsafe {
            (*self.ctx.skb.skb).cb[0] = DONE;
            (*self.ctx.skb.skb).cb[1] = device;
        }
    }

    /// Bytes of the packet, link layer included; of a super-packet, all of it.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.ctx.len()
    }

    /// ifindex of the device the program runs for.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the kernel gives a valid context for the run of the program.
        unsafe { (*self.ctx.skb.skb).ifindex }
    }

    /// The context, for the log macros.
    #[inline(always)]
    pub fn ctx(&self) -> &TcContext {
        &self.ctx
    }

    /// Rewrites the tuple and the checksums, whatever state the checksum is in.
    ///
    /// Addresses and ports are written directly. The transport checksum goes through the kernel, since
    /// only it knows whether the field holds a checksum or, to be completed by the device
    /// (`CHECKSUM_PARTIAL`), the pseudo-header's sum, in which ports do not count.
    #[inline(always)]
    pub fn translate<A: Ip>(
        &mut self,
        packet: &Transport<A>,
        to: &Target<A>,
    ) -> Result<(), Verdict> {
        let change = translate(&mut self.cursor(), packet, to).ok_or(Verdict::NotWritable)?;
        if packet.is_sctp() {
            return match change.ports {
                None => Ok(()),
                Some(_) => self.fix_crc(packet, to).ok_or(Verdict::NotWritable),
            };
        }
        self.fix_checksum(packet, &change)
    }

    /// SCTP: mends the checksum for other ports, if it is not left to the device.
    #[inline(always)]
    fn fix_crc<A: Ip>(&mut self, packet: &Transport<A>, to: &Target<A>) -> Option<()> {
        match self.checksum_state(packet.checksum_offset())? {
            ChecksumState::Partial => Some(()),
            ChecksumState::Complete => set_crc(&mut self.cursor(), packet, to),
        }
    }

    #[inline(always)]
    fn fix_checksum<A: Ip>(
        &mut self,
        packet: &Transport<A>,
        change: &Change,
    ) -> Result<(), Verdict> {
        let offset = u32::from(packet.checksum_offset());
        // UDP without a checksum stays without (RFC 768, RFC 6935).
        let udp = if packet.is_udp() {
            u64::from(BPF_F_MARK_MANGLED_0)
        } else {
            0
        };
        let addresses = change.addresses.to_wsum();
        let field = |skb: &mut Self| skb.cursor().read(packet.checksum_offset());
        let [before]: [u16; 1] = field(self).ok_or(Verdict::NotWritable)?;
        let skb = self.ctx.skb.skb;
        // SAFETY: `skb` is the program's context; the helper checks the offset itself. No reference
        // into the packet is alive: `self` is borrowed mutably.
        let mut failed = unsafe {
            bpf_l4_csum_replace(
                skb,
                offset,
                0,
                u64::from(addresses),
                u64::from(BPF_F_PSEUDO_HDR) | udp,
            )
        };
        if let Some(ports) = change.ports {
            // What it has made of the addresses tells whose the checksum is: a call less.
            let [after]: [u16; 1] = field(self).ok_or(Verdict::NotWritable)?;
            match ChecksumState::told_by(packet.is_udp(), before, after, change.addresses) {
                Some(ChecksumState::Partial) => {}
                Some(ChecksumState::Complete) => {
                    let whole = if packet.is_udp() {
                        ports.apply_udp(after)
                    } else {
                        ports.apply(after)
                    };
                    *self
                        .cursor()
                        .get_mut(packet.checksum_offset())
                        .ok_or(Verdict::NotWritable)? = [whole];
                }
                None => {
                    // SAFETY: as above.
                    failed |= unsafe {
                        bpf_l4_csum_replace(skb, offset, 0, u64::from(ports.to_wsum()), udp)
                    };
                }
            }
        }
        if matches!(A::FAMILY, Family::V6) {
            // On CHECKSUM_COMPLETE the helper takes the addresses' change off the packet's sum, which
            // is right for IPv4, where the header checksum moved by as much. IPv6 has none: give it
            // back. In any other state this does nothing and says so.
            self.add_to_sum(change.addresses);
        }
        if failed == 0 {
            Ok(())
        } else {
            Err(Verdict::NotWritable)
        }
    }

    /// Says what was changed in a packet that has no checksum for it, for the sum of the packet where the device
    /// made one (CHECKSUM_COMPLETE).
    #[inline(always)]
    fn add_to_sum(&mut self, change: Delta) {
        // SAFETY: `skb` is the program's context; the helper changes nothing but that sum.
        unsafe { bpf_csum_update(self.ctx.skb.skb, change.to_wsum()) };
    }

    /// Writes an address of a piece without ports: the checksum of the whole is in the first one.
    #[inline(always)]
    pub fn set_piece_address<A: Ip>(
        &mut self,
        l3: u16,
        side: Side,
        from: A,
        to: A,
    ) -> Result<(), Verdict> {
        let change = Delta::new().replace_words(from.words(), to.words());
        A::set_address(&mut self.cursor(), l3, side, to, change).ok_or(Verdict::NotWritable)?;
        if matches!(A::FAMILY, Family::V6) {
            self.add_to_sum(change);
        }
        Ok(())
    }

    /// Makes the echo request whose header stands at `icmp` the reply, whatever state its checksum is in.
    #[inline(always)]
    pub fn set_echo_reply<A: Ip>(&mut self, icmp: u16) -> Result<(), Verdict> {
        let (request, reply) = A::ECHO;
        let mut cursor = self.cursor();
        let header = cursor.get_mut::<Icmp>(icmp).ok_or(Verdict::NotWritable)?;
        header.kind = reply;
        let word = |kind| u16::from_ne_bytes([kind, 0]);
        let change = Delta::new().replace_u16(word(request), word(reply));
        let offset = u32::from(icmp + Icmp::CHECKSUM_OFFSET);
        // SAFETY: `skb` is the program's context; the helper checks the offset itself. No reference into the packet is
        // alive.
        let failed =
            unsafe { bpf_l4_csum_replace(self.ctx.skb.skb, offset, 0, change.to_wsum().into(), 0) };
        if failed == 0 {
            Ok(())
        } else {
            Err(Verdict::NotWritable)
        }
    }

    /// Exchanges the addresses of the header at `l3`, for an answer.
    #[inline(always)]
    pub fn turn_round<A: Ip>(&mut self, l3: u16) -> Result<(), Verdict> {
        let change = A::turn_round(&mut self.cursor(), l3).ok_or(Verdict::NotWritable)?;
        if matches!(A::FAMILY, Family::V6) {
            self.add_to_sum(change);
        }
        Ok(())
    }

    /// Who completes the transport checksum at byte `offset`: only the kernel knows. Its helper leaves
    /// the field alone for a change outside the pseudo-header if the device will; else the change is
    /// undone. (Finding 7.)
    #[inline(always)]
    pub fn checksum_state(&mut self, offset: u16) -> Option<ChecksumState> {
        let before: [u16; 1] = self.cursor().read(offset)?;
        let (skb, at) = (self.ctx.skb.skb, u32::from(offset));
        let size = size_of::<u16>() as u64;
        // SAFETY: `skb` is the program's context; the helper checks the offset itself, and no reference
        // into the packet is alive.
        unsafe { bpf_l4_csum_replace(skb, at, 1, 2, size) };
        let after: [u16; 1] = self.cursor().read(offset)?;
        if before == after {
            return Some(ChecksumState::Partial);
        }
        *self.cursor().get_mut(offset)? = before;
        Some(ChecksumState::Complete)
    }

    /// Cuts the packet to `len` bytes; a super-packet becomes an ordinary one.
    #[inline(always)]
    pub fn cut(&mut self, len: u16) -> bool {
        // SAFETY: as above.
        unsafe { bpf_skb_change_tail(self.ctx.skb.skb, u32::from(len), 0) == 0 }
    }

    /// Makes room for `len` bytes between the link layer and the IP header.
    #[inline(always)]
    pub fn make_room(&mut self, len: u16) -> bool {
        self.ctx
            .adjust_room(i32::from(len), BPF_ADJ_ROOM_MAC, 0)
            .is_ok()
    }

    /// Exchanges source and destination MAC.
    #[inline(always)]
    pub fn swap_macs(&mut self) {
        if let Some(eth) = self.cursor().get_mut::<Eth>(0) {
            (eth.src, eth.dst) = (eth.dst, eth.src);
        }
    }

    /// Gives a packet whose link layer is out of reach an empty one, for an answer: its bytes are lost, which matters to
    /// nobody but a bridge. Where the IP header that stood at `l3` stands then.
    #[inline(always)]
    pub fn ensure_link(&mut self, l3: u16) -> Option<u16> {
        if l3 != 0 {
            return Some(l3);
        }
        let length = len::<Eth>();
        // SAFETY: as above.
        let failed = unsafe { bpf_skb_change_head(self.ctx.skb.skb, u32::from(length), 0) };
        let ethertype = self.protocol();
        self.cursor().get_mut::<Eth>(0)?.ethertype = ethertype;
        (failed == 0).then_some(length)
    }

    /// Likewise with an empty link layer: to whom it goes, the neighbour table knows.
    #[inline(always)]
    pub fn send_back_to_neighbour(&self) -> i32 {
        self.redirect((self.ifindex(), false));
        TC_ACT_REDIRECT
    }

    /// What a hook returns to send the packet out by the device it came in by.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the helper returns an action, a small number"
    )]
    pub fn send_back(&self) -> i32 {
        // SAFETY: only notes the device for after the program.
        unsafe { bpf_redirect(self.ifindex(), 0) as i32 }
    }

    /// What a hook returns to have the packet come in by the device that it was to leave by.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the helper returns an action, a small number"
    )]
    pub fn take_in(&self) -> i32 {
        // SAFETY: as above.
        unsafe { bpf_redirect(self.ifindex(), u64::from(BPF_F_INGRESS)) as i32 }
    }

    /// Whether the packet, or each segment of it, is short enough for a device.
    #[inline(always)]
    pub fn fits(&self, ifindex: u32) -> bool {
        let mut mtu = 0;
        // SAFETY: the context is the program's, `mtu` is written during the call; since kernel 5.12.
        unsafe {
            bpf_check_mtu(
                self.ctx.as_ptr(),
                ifindex,
                &raw mut mtu,
                0,
                u64::from(BPF_MTU_CHK_SEGS),
            ) == 0
        }
    }

    /// Has the packet leave by another device when the program returns `TC_ACT_REDIRECT`: right to the other end of
    /// a veth, past what that one's hook would do, or as the neighbour table says.
    #[inline(always)]
    pub fn redirect(&self, (ifindex, is_peer): (u32, bool)) {
        // SAFETY: both only note the device for after the program; no parameters, so that the kernel looks up the
        // next hop itself.
        unsafe {
            if is_peer {
                bpf_redirect_peer(ifindex, 0);
            } else {
                bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0);
            }
        }
    }

    /// Replaces the destination MAC.
    #[inline(always)]
    pub fn set_mac(&mut self, mac: [u16; 3]) {
        if let Some(eth) = self.cursor().get_mut::<Eth>(0) {
            eth.dst = mac;
        }
    }

    /// The context, for the helpers that take any.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut c_void {
        self.ctx.as_ptr()
    }
}
