//! SYNs from random sources, while connections are open: those that speak keep their entries, those that were
//! pushed out find their endpoint again.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Instant,
};

use duolb::datapath::object::Sizes;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    kernel::{Ingress, Kernel, SMALL, UNSPEC},
    packet::{Frame, Net, TCP, both, flag},
};

const WEB: u32 = 2;

/// How it goes.
struct Flood {
    /// Entries of the flow table.
    table: u32,
    /// SYNs in all.
    syns: u32,
    /// After so many, every busy connection speaks.
    pause: u32,
    /// Connections that speak all the time, and such that speak at the end only.
    busy: u16,
    idle: u16,
}

/// What it did.
#[derive(Debug)]
struct Damage {
    /// Packets of busy connections that found their entry gone.
    busy_lost: u32,
    /// Idle connections that had lost their entry.
    idle_lost: u32,
}

fn send(kernel: &mut Kernel, client: SocketAddr, vip: SocketAddr, flags: u8) -> Vec<u8> {
    let packet = Frame::tcp(client, vip, flags).bytes();
    let mut out = vec![0; packet.len() + 64];
    let (returned, len) = kernel.run_uncounted(Ingress, &packet, &mut out);
    assert_eq!(returned, UNSPEC, "{client} -> {vip}");
    out.truncate(len);
    out
}

fn stranger(random: &mut SmallRng, is_v6: bool) -> SocketAddr {
    let ip: IpAddr = if is_v6 {
        let low: u128 = random.random();
        Ipv6Addr::from(0x2001_0db8 << 96 | low >> 32).into()
    } else {
        let low: u32 = random.random();
        Ipv4Addr::from(100 << 24 | low >> 8).into()
    };
    SocketAddr::new(ip, random.random_range(1_024..=u16::MAX))
}

fn run(net: &Net, flood: &Flood) -> Option<Damage> {
    let mut kernel = Kernel::load_sized(Sizes {
        flows: flood.table,
        ..SMALL
    })?;
    kernel.serve(net.vip, WEB, &net.endpoints);
    let open: Vec<_> = (0..flood.busy + flood.idle)
        .map(|at| {
            let client = SocketAddr::new(net.client.ip(), 20_000 + at);
            send(&mut kernel, client, net.vip, flag::SYN);
            (client, send(&mut kernel, client, net.vip, flag::ACK))
        })
        .collect();
    let (busy, idle) = open.split_at(flood.busy.into());
    let mut random = SmallRng::seed_from_u64(1);
    // Speaks, must go where it went; whether its entry was gone.
    let speak = |kernel: &mut Kernel, (client, before): &(SocketAddr, Vec<u8>)| {
        let is_lost = kernel.flows.get((*client, net.vip, TCP)).is_none();
        let after = send(kernel, *client, net.vip, flag::ACK);
        assert_eq!(after, *before, "{client} goes to the same endpoint");
        u32::from(is_lost)
    };
    let mut damage = Damage {
        busy_lost: 0,
        idle_lost: 0,
    };
    for sent in 1..=flood.syns {
        send(
            &mut kernel,
            stranger(&mut random, net.is_v6),
            net.vip,
            flag::SYN,
        );
        if sent % flood.pause == 0 {
            for open in busy {
                damage.busy_lost += speak(&mut kernel, open);
            }
        }
    }
    for open in idle {
        damage.idle_lost += speak(&mut kernel, open);
    }
    Some(damage)
}

#[test]
fn a_flood_of_syns_takes_no_busy_connection_and_idle_ones_find_their_endpoint_again() {
    for net in both() {
        let flood = Flood {
            table: 8_192,
            syns: 20_000,
            pause: 500,
            busy: 50,
            idle: 200,
        };
        let Some(damage) = run(&net, &flood) else {
            return;
        };
        assert_eq!(damage.busy_lost, 0, "{}: {damage:?}", net.name);
        assert!(damage.idle_lost > 0, "{}: the table is full", net.name);
    }
}

/// A million SYNs on the default table and on a small one; run it by name, with `--ignored --nocapture`.
#[test]
#[ignore = "takes a minute; a measurement"]
fn a_million_syns_while_a_thousand_connections_speak() {
    for table in [262_144, 65_536] {
        for net in both() {
            let flood = Flood {
                table,
                syns: 1_000_000,
                pause: 10_000,
                busy: 500,
                idle: 500,
            };
            let started = Instant::now();
            let damage = run(&net, &flood);
            println!(
                "{}, {table} entries: {damage:?} in {:?}",
                net.name,
                started.elapsed()
            );
        }
    }
}
