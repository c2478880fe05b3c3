//! A flood of SYNs from random sources to a VIP, while a thousand connections through it, and through the same node, speak:
//! none of them is lost, every answer is the right one, new ones are served, and the metrics tell of the pressure.
//!
//! The kernel makes room by forgetting who was silent while about as much came as the table holds. A connection whose
//! reply entry alone goes that way, and that speaks twice in the same second, gets an answer that nobody translates, and
//! resets it (decision 11). So the flood waits for the connections every now and then: as a fraction of the table, how
//! much comes between two words of theirs is the same on any machine, however busy.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Protocol, Raw, probe::Probe};

use crate::{
    crowd::{Call, Crowd, gather},
    manifests::frontends,
    needs_root,
    node::Faulty,
};

/// Connections that speak.
const CONNECTIONS: usize = 1_000;
/// Where the flood pretends to be from, and the fabric lets answers vanish.
const SOURCES: [&str; 2] = ["100.64.0.0/10", "2001:db8:f100::/40"];

/// The source of the `number`-th SYN: all over the network, and never the same port twice in a row.
fn stranger(number: u32, is_v6: bool) -> SocketAddr {
    // The finaliser of MurmurHash3: every bit of the number moves half of all bits.
    let mut mixed = number;
    for factor in [0x85eb_ca6b, 0xc2b2_ae35] {
        mixed = (mixed ^ mixed >> 15).wrapping_mul(factor);
    }
    let [high, low] = [mixed >> 16, mixed & 0xffff].map(|half| u16::try_from(half).unwrap_or(0));
    let ip: IpAddr = if is_v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xf100, 0, 0, high, low, 1).into()
    } else {
        Ipv4Addr::from_bits(0x6440_0000 | mixed >> 10).into()
    };
    SocketAddr::new(ip, 1_024 | low)
}

/// What came of it, in one family.
struct Flooded {
    sent: u32,
    seconds: f64,
    /// How often each connection has asked meanwhile, and been answered.
    rounds: u32,
    /// Connections that were opened and served meanwhile.
    opened: u32,
}

/// A flood, and how far it is.
struct Flood {
    to: SocketAddr,
    syns: u32,
    /// SYNs that may leave in a round of the connections: of two entries each, a quarter of the table.
    a_round: u32,
    sent: AtomicU32,
    rounds: AtomicU32,
    is_over: AtomicBool,
}

/// Sends all of it, from the namespace it is called in.
fn send(flood: &Flood) -> Result<()> {
    let Flood { to, syns, sent, .. } = flood;
    let raw = Raw::open(to.ip())?;
    for number in 0.. {
        let so_far = sent.load(Ordering::Relaxed);
        if so_far == *syns || flood.is_over.load(Ordering::Relaxed) {
            break;
        }
        while so_far / flood.a_round > flood.rounds.load(Ordering::Relaxed)
            && !flood.is_over.load(Ordering::Relaxed)
        {
            thread::yield_now();
        }
        let from = stranger(number, to.is_ipv6());
        if raw.syn(from, *to, number)? {
            sent.fetch_add(1, Ordering::Relaxed);
        } else {
            thread::yield_now();
        }
    }
    Ok(())
}

/// Floods from a pod of its own, while `crowd` speaks and others come.
fn live(faulty: &Faulty, flood: &Flood, crowd: &mut Crowd) -> Result<Flooded> {
    let start = Instant::now();
    let newcomer = Probe::new(Protocol::Tcp, flood.to).timeout(Duration::from_secs(10));
    let speak = |crowd: &mut Crowd| -> Result<u32> {
        let mut opened = 0;
        while !flood.is_over.load(Ordering::Relaxed) {
            crowd.talk()?;
            flood.rounds.fetch_add(1, Ordering::Relaxed);
            let came = newcomer.run_in(&faulty.lab.pod("client-1").netns);
            came.context("one who comes while SYNs come")?;
            opened += 1;
        }
        Ok(opened)
    };
    let opened = thread::scope(|scope| -> Result<_> {
        let sending = scope.spawn(|| {
            let sent = faulty.lab.pod("pod-1-101").netns.run(|| send(flood));
            flood.is_over.store(true, Ordering::Relaxed);
            sent.flatten()
        });
        let opened = speak(crowd);
        flood.is_over.store(true, Ordering::Relaxed);
        sending.join().expect("no panic")?;
        opened
    });
    let (sent, rounds) = (&flood.sent, &flood.rounds);
    let [sent, rounds] = [sent, rounds].map(|count| count.load(Ordering::Relaxed));
    let opened = opened.with_context(|| format!("round {rounds}, {sent} SYNs"))?;
    let seconds = start.elapsed().as_secs_f64();
    crowd.talk().context("after the flood")?;
    Ok(Flooded {
        sent,
        seconds,
        rounds,
        opened,
    })
}

/// `syns` a family, on flow tables with room for `table` entries.
fn live_through(syns: u32, table: u32) -> Result<()> {
    let mut faulty = Faulty::start(&["--max-flows", &table.to_string()])?;
    faulty.lab.add_pod("node-1", 101, false)?;
    for (network, family) in SOURCES.into_iter().zip(["-4", "-6"]) {
        let vanish = ["ip", family, "route", "add", "blackhole", network];
        faulty.lab.exec(faulty.lab.fabric(), &vanish)?;
    }
    let client = faulty.lab.pod("client-1");
    for to in frontends() {
        let own = [client.addresses.like(&to.ip())];
        let call = Call {
            to,
            from: &own,
            count: CONNECTIONS,
            patience: Duration::from_secs(20),
        };
        let flooded = gather(&client.netns, call, |mut crowd| {
            let failures = &crowd.failures;
            ensure!(crowd.len() == CONNECTIONS, "not open: {failures:?}");
            ensure!(crowd.seen().len() == CONNECTIONS, "some are alike");
            let flood = Flood {
                to,
                syns,
                a_round: table / 8,
                sent: AtomicU32::default(),
                rounds: AtomicU32::default(),
                is_over: AtomicBool::default(),
            };
            let flooded = live(&faulty, &flood, &mut crowd)?;
            crowd.close()?;
            Ok(flooded)
        });
        let flooded = flooded
            .with_context(|| format!("{to}: {:?}\n{}", faulty.status(), faulty.agent().log()))?;
        let Flooded {
            sent,
            seconds,
            rounds,
            opened,
        } = flooded;
        eprintln!(
            "{to}, {table} entries: {sent} SYNs in {seconds:.1} s; {CONNECTIONS} connections asked {rounds} times each, \
             {opened} new ones, none lost"
        );
        ensure!(rounds > 1, "nobody spoke meanwhile");
    }
    // It counts what is missing about once a minute, and when it starts.
    faulty.agent_mut().stop()?;
    faulty.agent_mut().start()?;
    faulty.agent().wait_ready()?;
    for family in ["IPv4", "IPv6"] {
        let label = format!("ip_family=\"{family}\"");
        let count = |name: &str| faulty.metric(name, &label);
        let mut evicted = 0;
        faulty.wait("who made room is counted", || {
            evicted = count("duolb_flow_evictions_total")?;
            Ok(evicted > 0)
        })?;
        let inserted = count("duolb_flow_insertions_total")?;
        let map = format!("\"FLOWS_V{}\"", &family[3..]);
        let used = faulty.metric("duolb_map_entries", &map)?;
        let size = faulty.metric("duolb_map_size", &map)?;
        eprintln!(
            "{family}: {inserted} entries made, {evicted} made room, {used} of {size} in use"
        );
        // Two each; what a queue on the way has lost was not seen by anybody.
        ensure!(inserted > u64::from(syns), "{inserted} entries made");
        ensure!(evicted > inserted / 2 && used <= size && used > size / 2);
    }
    faulty.check_served()
}

#[test]
fn connections_live_through_a_flood_of_syns() -> Result<()> {
    needs_root!();
    live_through(100_000, 65_536)
}

#[test]
#[ignore = "takes minutes: a million SYNs a family; a measurement"]
fn connections_live_through_a_million_syns() -> Result<()> {
    needs_root!();
    [262_144, 65_536]
        .into_iter()
        .try_for_each(|table| live_through(1_000_000, table))
}
