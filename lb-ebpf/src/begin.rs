//! The first packet of a flow, on ingress: the flow is opened, and the packet begins anew as one of a known flow.

use lb_common::{
    parse::{Packet, Transport, parse},
    tables::FrontendKey,
};

use crate::{
    config,
    exit::{Exit, Step},
    fast,
    maps::{self, Tables},
    open,
    skb::Skb,
    vips,
};

/// A packet that begins a flow with a frontend; `is_taken`: its own source port is another connection's.
#[inline(never)]
pub fn run<A: Tables>(skb: &mut Skb, l3: u16, is_taken: bool) -> Exit {
    match parse::<A>(&skb.cursor(), l3) {
        Some(Packet::Transport(packet)) => match begin(skb, &packet, is_taken) {
            Ok(()) => Exit::Opened,
            Err(exit) => exit,
        },
        _ => Exit::NotOurs,
    }
}

#[inline(always)]
fn begin<A: Tables>(skb: &Skb, packet: &Transport<A>, is_taken: bool) -> Step<()> {
    let tuple = &packet.tuple;
    let key = FrontendKey::new(tuple.dst, tuple.dport, tuple.protocol());
    let Some(frontend) = maps::find_frontend(&key) else {
        // A connection that outlived it has lost its tuple: where nothing is served, it cannot begin anew.
        vips::refuse_address(&tuple.dst)?;
        return Err(Exit::NotOurs);
    };
    let client = open::Client {
        ifindex: skb.ifindex(),
        now: config::now(),
        is_taken,
    };
    open::run(packet, frontend, &client)?;
    if config::skips_stack() {
        fast::decide(skb, packet);
    }
    open::log(skb.ctx(), frontend.service);
    Ok(())
}
