//! Keys, entries and the flow clock.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::address::{V4, V6};

fn key(client: u8, sport: u16) -> FlowKey<V4> {
    FlowKey {
        src: Ipv4Addr::new(10, 244, 0, client).into(),
        dst: Ipv4Addr::new(10, 96, 0, 1).into(),
        sport: sport.to_be(),
        dport: 80u16.to_be(),
        proto: 6,
    }
}

#[test]
fn reversing_twice_is_the_same_tuple() {
    assert_eq!(key(1, 40000).reversed().reversed(), key(1, 40000));
    assert_ne!(key(1, 40000).reversed(), key(1, 40000));
}

#[test]
fn each_entry_leads_to_the_other() {
    let forward = key(1, 40_000);
    let flow = Flow {
        peer: V4::from(Ipv4Addr::new(10, 244, 2, 9)),
        peer_port: 8080u16.to_be(),
        client_port: 50_000u16.to_be(),
        ..Flow::default()
    };
    let (reply_key, reply) = (flow.reply_key(&forward), flow.reply_entry(&forward));
    assert_eq!(reply.forward_key(&reply_key), forward);
    assert_eq!(
        (reply_key.src, reply_key.dport),
        (flow.peer, flow.client_port)
    );
    assert!(reply.is_same_reply(&reply) && !flow.is_same_reply(&reply));
}

#[test]
fn so_do_the_entries_of_a_client_with_another_address() {
    let snat = key(1, 40_000);
    let flow = Flow {
        peer: V4::from(Ipv4Addr::new(172, 18, 0, 1)),
        peer_port: 20_000u16.to_be(),
        client_port: snat.dport,
        flags: Flow::<V4>::SNAT | Flow::<V4>::XDP,
        ..Flow::default()
    };
    let (undo_key, undo) = (flow.undo_key(&snat), flow.undo_entry(&snat));
    assert_eq!((undo_key.dst, undo_key.dport), (flow.peer, flow.peer_port));
    assert_eq!(undo.snat_key(&undo_key), snat);
    assert_eq!(undo.flags, Flow::<V4>::UNDO | Flow::<V4>::XDP);
    assert!(undo.is_same_undo(&undo) && !flow.is_same_undo(&undo));
}

#[test]
fn the_device_to_leave_by_stands_where_a_mac_would() {
    let mut flow = Flow::<V4>::default();
    assert_eq!(flow.exit(), (0, false));
    for exit in [(1, true), (0x1234_5678, false), (u32::MAX, true)] {
        flow.set_exit(exit.0, exit.1);
        assert_eq!(flow.exit(), exit);
    }
}

#[test]
fn hash_spreads_consecutive_ports_evenly() {
    for slots in [2u32, 3, 7, 100] {
        let mut hits = std::vec![0u32; slots as usize];
        for sport in 20000..60000 {
            hits[(key(1, sport).hash(42) % slots) as usize] += 1;
        }
        let mean = 40000.0 / f64::from(slots);
        for hit in hits {
            let off = (f64::from(hit) - mean).abs() / mean.sqrt();
            assert!(off < 5.0, "{slots} slots: {hit} of a mean of {mean}");
        }
    }
}

#[test]
fn hash_depends_on_every_part_of_the_tuple_and_on_the_seed() {
    let ip = |last: u16| V6::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
    let base = FlowKey {
        src: ip(1),
        dst: ip(2),
        sport: 3,
        dport: 4,
        proto: 6,
    };
    let others = [
        FlowKey { src: ip(9), ..base },
        FlowKey { dst: ip(9), ..base },
        FlowKey { sport: 9, ..base },
        FlowKey { dport: 9, ..base },
        FlowKey { proto: 17, ..base },
        base.reversed(),
    ];
    for other in others {
        assert_ne!(other.hash(1), base.hash(1));
    }
    assert_ne!(base.hash(1), base.hash(2));
}

#[test]
fn a_tick_is_between_one_and_two_seconds() {
    for hz in [100u32, 250, 300, 1000] {
        let per_tick = 1u32 << tick_shift(hz);
        assert!(per_tick >= hz && per_tick < 2 * hz, "HZ {hz}");
    }
}

#[test]
fn past_is_more_than_the_timeout_ago_also_where_the_clock_wraps() {
    for now in [1_000u32, 10, 0, u32::MAX] {
        let seen = |ago: u32| now.wrapping_sub(ago);
        assert!(!is_past(seen(0), now, 180));
        assert!(!is_past(seen(180), now, 180));
        assert!(is_past(seen(181), now, 180));
        assert!(is_past(seen(1 << 30), now, 180));
        assert!(!is_past(now.wrapping_add(1), now, 180), "ahead of now");
    }
}

#[test]
fn seconds_are_told_to_the_tick_at_every_rate_of_the_clock() {
    for hz in [100u32, 250, 300, 1000] {
        let shift = tick_shift(hz);
        for seconds in [1u32, 10, 10_800, 86_400] {
            let (now, ticks) = (3u32, ticks_of(seconds, hz));
            let is_past =
                |ago: u32| is_past_seconds(now.wrapping_sub(ago), now, seconds, shift, hz);
            assert!(!is_past(ticks - 1), "{seconds} s at HZ {hz}");
            assert!(is_past(ticks + 1), "{seconds} s at HZ {hz}");
            assert!(!is_past(1u32.wrapping_neg()), "ahead of now");
            // In jiffies: not less than the seconds, and less than a tick more.
            let (jiffies, wanted) = (u64::from(ticks) << shift, u64::from(seconds * hz));
            assert!((wanted..wanted + (1 << shift)).contains(&jiffies));
        }
    }
    assert_eq!(ticks_of(u32::MAX, 1000), i32::MAX.cast_unsigned());
    assert_eq!(ticks_of(0, 250), 0);
}

#[test]
fn closed_is_both_fins_or_one_reset() {
    let closed = |flags| {
        Flow::<V4> {
            flags,
            ..Flow::default()
        }
        .is_closed()
    };
    assert!(!closed(Flow::<V4>::FIN_CLIENT));
    assert!(!closed(Flow::<V4>::FIN_ENDPOINT | Flow::<V4>::OPENED));
    assert!(closed(Flow::<V4>::FIN_ENDPOINT | Flow::<V4>::FIN_CLIENT));
    assert!(closed(Flow::<V4>::RST));
}
