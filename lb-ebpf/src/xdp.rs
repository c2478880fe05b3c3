//! Packets between outside and an endpoint on another node: sent on before the stack has made an skb of them.
//!
//! ```text
//!   client --> VIP of this node        frontend, flow, SNAT    --> endpoint on another node
//!   client <-- VIP of this node        reply, undo             <-- endpoint on another node
//! ```
//!
//! A packet is transmitted or left exactly as it came: then TC translates it, refuses it, counts it, and what is
//! seen from outside is the same. So is what goes to an endpoint on this node: TC sees 44 segments as one packet, XDP
//! would translate each. Whether a flow takes this way is decided with its first packet, for both directions
//! (`Flow::XDP`), or the kernel's conntrack would see half of it; where a neighbour has been forgotten, or
//! a packet is too long, the stack gets that one packet and does what it would have done.

use aya_ebpf::{
    EbpfContext as _, bindings::xdp_action, helpers::generated::bpf_redirect, programs::XdpContext,
};
use lb_common::{
    address::{V4, V6},
    cursor::Cursor,
    flow::{Flow, FlowKey},
    headers::{Eth, Tcp, ethertype, len},
    join::join_ways,
    opaque::opaque_pointer,
    parse::{Packet, Transport, parse, parse_l2},
    tables::{Device, Endpoint, FrontendKey},
    translate::{is_complete, rewrite},
    verdict::Verdict,
};

use crate::{
    config,
    exit::Exit,
    ingress,
    maps::{self, Tables},
    open::{self, Client},
    route::Route,
    snat, switch, twin,
};

/// Where the IP header stands in every packet that is sent on.
const L3: u16 = len::<Eth>();

/// How a step on the way of a packet ends.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum End {
    /// It is the stack's, as it came.
    Pass = 1,
    /// Its flow begins here: [`begin`].
    Open,
    /// Likewise, and its own source port is another connection's.
    OpenElsewhere,
    /// It may be an endpoint's: [`answer`].
    Answer,
    /// Its client needs an address: [`settle`].
    Settle,
    /// It begins anew.
    Again,
    /// It leaves by the device that it came in by.
    Transmit,
    /// It leaves by another one.
    Redirect,
}

/// The context of an XDP program.
struct Buff {
    ctx: XdpContext,
}

/// A packet that comes in by a device.
#[inline(always)]
pub fn run(ctx: XdpContext) -> u32 {
    let mut buff = Buff { ctx };
    let Some(l2) = parse_l2(&buff.cursor()) else {
        return xdp_action::XDP_PASS;
    };
    // What has tags belongs to another device.
    if l2.payload != L3 {
        return xdp_action::XDP_PASS;
    }
    match l2.ethertype {
        ethertype::IPV4 => family::<V4>(&mut buff),
        ethertype::IPV6 => family::<V6>(&mut buff),
        _ => xdp_action::XDP_PASS,
    }
}

/// Each step begins anew with the packet: nested, they would need more stack than there is.
#[inline(always)]
fn family<A: Tables>(buff: &mut Buff) -> u32 {
    let is_noted = switch::is_on::<A>() && note_packet::<A>(buff);
    if is_noted {
        switch::bring::<A>();
    }
    let mut end = join_ways(known::<A>(buff));
    if end == End::Answer {
        end = join_ways(answer::<A>(buff));
    }
    if end == End::Open || end == End::OpenElsewhere {
        end = join_ways(begin::<A>(buff, end == End::OpenElsewhere));
    }
    if end == End::Settle {
        end = join_ways(settle::<A>(buff));
    }
    if end == End::Again {
        end = known::<A>(buff);
    }
    if is_noted {
        switch::give_back::<A>();
    }
    match end {
        End::Transmit => xdp_action::XDP_TX,
        End::Redirect => xdp_action::XDP_REDIRECT,
        _ => xdp_action::XDP_PASS,
    }
}

/// Of a switch between maps: notes which packet is under way.
#[inline(never)]
fn note_packet<A: Tables>(buff: &mut Buff) -> bool {
    switch::before::<A>(&buff.cursor(), L3)
}

/// A packet that may be sent on.
#[inline(always)]
fn read<A: Tables>(buff: &mut Buff) -> Option<Transport<A>> {
    let Some(Packet::Transport(packet)) = parse::<A>(&buff.cursor(), L3) else {
        return None;
    };
    // SCTP's checksum takes more than a packet's way should be long.
    if packet.is_fragment() || packet.is_sctp() {
        return None;
    }
    Some(packet)
}

/// Whether the transport checksum is there to be mended. Asked of the first packet of each side: whoever has completed
/// one completes all, and a complete one may by chance look as if it were not.
#[inline(never)]
fn is_mendable<A: Tables>(buff: &mut Buff, packet: &Transport<A>) -> bool {
    is_complete(&buff.cursor(), packet) == Some(true)
}

/// Sends a packet on if its flow is known.
#[inline(never)]
fn known<A: Tables>(buff: &mut Buff) -> End {
    let Some(packet) = read::<A>(buff) else {
        return End::Pass;
    };
    match ingress::find_known(&packet, config::now()) {
        Ok(flow) => to_endpoint(buff, &packet, flow),
        Err(Exit::NoFrontend) if snat::may_be_answer(&packet) => End::Answer,
        Err(Exit::Open) => End::Open,
        Err(Exit::OpenElsewhere) => End::OpenElsewhere,
        // TC comes to the same.
        _ => End::Pass,
    }
}

/// From a client to an endpoint on another node.
#[inline(always)]
fn to_endpoint<A: Tables>(buff: &mut Buff, packet: &Transport<A>, flow: &Flow<A>) -> End {
    let tuple = &packet.tuple;
    if flow.flags & Flow::<A>::XDP == 0 {
        return End::Pass;
    }
    let mut to = flow.reply_key(tuple).reversed();
    let Some(snat) = maps::find_flow(&to) else {
        return End::Pass;
    };
    if snat::go_out(&to, packet.flags, snat).is_err() {
        return End::Settle;
    }
    let end = buff.take_way(&tuple.src, &flow.peer, tuple.protocol());
    if end == End::Pass {
        return end;
    }
    (to.src, to.sport) = (snat.peer, snat.peer_port);
    let bytes = buff.rewrite(packet, &to);
    maps::count_traffic(flow.traffic, |traffic| {
        traffic.packets_in += 1;
        traffic.bytes_in += bytes;
    });
    maps::count(Verdict::XdpToEndpoint);
    end
}

/// Sends a packet on if it comes from an endpoint on another node.
#[inline(never)]
fn answer<A: Tables>(buff: &mut Buff) -> End {
    let end = read::<A>(buff).and_then(|packet| to_client(buff, &packet));
    end.unwrap_or(End::Pass)
}

/// From an endpoint on another node to a client.
#[inline(always)]
fn to_client<A: Tables>(buff: &mut Buff, packet: &Transport<A>) -> Option<End> {
    let tuple = &packet.tuple;
    let undo = snat::find_undo(packet).filter(|undo| undo.flags & Flow::<A>::XDP != 0)?;
    if undo.flags & Flow::<A>::COMPLETE == 0 {
        if !is_mendable(buff, packet) {
            return None;
        }
        undo.flags |= Flow::<A>::COMPLETE;
    }
    let reply_key = undo.snat_key(tuple).reversed();
    let reply = twin::find_reply(&reply_key)?;
    if reply.flags & Flow::<A>::AWAITS_SYN_ACK != 0 {
        // Else the endpoint has a connection of its own by this tuple: TC gives it back.
        if packet.is_tcp() && packet.flags & (Tcp::SYN | Tcp::RST) == 0 {
            return None;
        }
        reply.flags &= !Flow::<A>::AWAITS_SYN_ACK;
    }
    let end = buff.take_way(&tuple.src, &undo.peer, tuple.protocol());
    if end == End::Pass {
        return None;
    }
    snat::go_back(packet, undo).ok()?;
    reply.seen = undo.seen;
    let forward_key = reply.forward_key(&reply_key);
    twin::note(
        packet.flags,
        reply,
        &reply_key,
        |_| forward_key,
        Flow::<A>::FIN_ENDPOINT,
    );
    let bytes = buff.rewrite(packet, &forward_key.reversed());
    maps::count_traffic(reply.traffic, |traffic| {
        traffic.packets_out += 1;
        traffic.bytes_out += bytes;
    });
    maps::count(Verdict::XdpToClient);
    Some(end)
}

/// Opens the flow of a packet; which is to take this way if its endpoint is on another node.
#[inline(never)]
fn begin<A: Tables>(buff: &mut Buff, is_taken: bool) -> End {
    let Some(packet) = read::<A>(buff) else {
        return End::Pass;
    };
    // Before anything is remembered: such a flow is the stack's.
    if !is_mendable(buff, &packet) {
        return End::Pass;
    }
    let tuple = &packet.tuple;
    let key = FrontendKey::new(tuple.dst, tuple.dport, tuple.protocol());
    let Some(frontend) = maps::find_frontend(&key) else {
        return End::Pass;
    };
    let client = Client {
        ifindex: buff.ifindex(),
        now: config::now(),
        is_taken,
    };
    if open::run(&packet, frontend, &client).is_err() {
        return End::Pass;
    }
    let Some(flow) = maps::find_flow(&packet.tuple) else {
        return End::Pass;
    };
    if flow.flags & Flow::<A>::MASQUERADED == 0
        || maps::has_state::<A>(flow.endpoint, Endpoint::<A>::HERE)
    {
        return End::Pass;
    }
    flow.flags |= Flow::<A>::XDP;
    End::Settle
}

/// Finds an address for the client of a flow, if there is a way to its endpoint; a flow whose first packet has none is
/// the stack's.
#[inline(never)]
fn settle<A: Tables>(buff: &mut Buff) -> End {
    let Some(packet) = read::<A>(buff) else {
        return End::Pass;
    };
    let Some(flow) = maps::find_flow(&packet.tuple) else {
        return End::Pass;
    };
    let key = flow.reply_key(&packet.tuple).reversed();
    let Some(snat) = maps::find_flow(&key) else {
        return End::Pass;
    };
    let device = buff.find_device(&packet.tuple.src, &flow.peer, packet.tuple.protocol());
    if device == 0 {
        if snat.peer_port == 0 {
            flow.flags &= !Flow::<A>::XDP;
        }
        return End::Pass;
    }
    snat.flags |= Flow::<A>::XDP;
    match snat::claim(buff.ctx.as_ptr(), device, &key, snat) {
        Ok(()) => End::Again,
        Err(_) => End::Pass,
    }
}

impl Buff {
    #[inline(always)]
    fn cursor(&mut self) -> Cursor<'_> {
        // Else the compiler would hand its two fields to functions, as the 32 bits that they are for it.
        let ctx = XdpContext::new(opaque_pointer(self.ctx.ctx));
        // SAFETY: as of an skb: `data..data_end` is readable and writable while no helper moves the packet.
        unsafe { Cursor::from_raw(ctx.data() as *mut u8, ctx.data_end() as *mut u8) }
    }

    /// ifindex of the device that the packet comes in by.
    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the kernel gives a valid context for the run of the program.
        unsafe { (*self.ctx.ctx).ingress_ifindex }
    }

    /// ifindex of the device that a packet from `src` to `dst` leaves by; 0 where the stack has to see to it.
    #[inline(never)]
    fn find_device<A: Tables>(&mut self, src: &A, dst: &A, proto: u8) -> u32 {
        let mut route = Route::question(self.ifindex(), src, dst, proto);
        self.find_way::<A>(&mut route).map_or(0, |()| route.ifindex)
    }

    /// Puts a packet from `src` to `dst` on its way: its MACs and hops are the next hop's then.
    #[inline(never)]
    fn take_way<A: Tables>(&mut self, src: &A, dst: &A, proto: u8) -> End {
        let mut route = Route::question(self.ifindex(), src, dst, proto);
        let found = self.find_way::<A>(&mut route);
        found
            .and_then(|()| self.go_along::<A>(&route))
            .unwrap_or(End::Pass)
    }

    #[inline(always)]
    fn go_along<A: Tables>(&mut self, route: &Route) -> Option<End> {
        let is_same = route.ifindex == self.ifindex();
        let cursor = &mut self.cursor();
        let eth = cursor.get_mut::<Eth>(0)?;
        (eth.dst, eth.src) = (route.dmac, route.smac);
        A::take_hop(cursor, L3)?;
        if is_same {
            return Some(End::Transmit);
        }
        // SAFETY: only notes the device for after the program.
        unsafe { bpf_redirect(route.ifindex, 0) };
        Some(End::Redirect)
    }

    /// The answer to `route`. `None` where the stack has to see to it: the packet is too long, has made its last hop,
    /// has an unknown neighbour, or leaves by a device that takes nothing from XDP.
    #[inline(always)]
    fn find_way<A: Tables>(&mut self, route: &mut Route) -> Option<()> {
        let cursor = self.cursor();
        if A::hops(&cursor, L3)? < 2 {
            return None;
        }
        route.tot_len = A::payload_len(&cursor, L3)?.wrapping_add(A::HEADER_LEN);
        if route.find(self.ctx.as_ptr(), 0) != Route::FOUND {
            return None;
        }
        if route.ifindex == self.ifindex() {
            return Some(());
        }
        let from = maps::find_device(self.ifindex())?;
        let to = maps::find_device(route.ifindex)?;
        let is_taken =
            from.attached & Device::XDP_GENERIC != 0 || to.attached & Device::XDP_NATIVE != 0;
        is_taken.then_some(())
    }

    /// Gives `packet` the tuple `to`; its length in bytes. All that is written has been read before.
    #[inline(never)]
    fn rewrite<A: Tables>(&mut self, packet: &Transport<A>, to: &FlowKey<A>) -> u64 {
        let cursor = &mut self.cursor();
        let _ = rewrite(cursor, packet, to);
        let payload = A::payload_len(cursor, L3).unwrap_or(0);
        u64::from(L3 + A::HEADER_LEN) + u64::from(payload)
    }
}
