//! Traffic in the background that notices every loss: TCP and UDP streams and new connections.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::patience::stretched;
use xtask::lab::{Netns, Protocol, probe::Probe};

/// What a stream did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Exchanges, each answered.
    pub(crate) rounds: u64,
    /// Exchanges that were not answered in time. TCP repairs a loss, which then shows in `slowest`.
    pub(crate) lost: u64,
    /// Datagrams that were answered after all, when nobody waited for it any more: a busy machine's.
    pub(crate) late: u64,
    /// The slowest exchange.
    pub(crate) slowest: Duration,
}

impl Done {
    /// Whether all was answered, in the end, and more than `rounds` times.
    pub(crate) fn is_whole(&self, rounds: u64) -> bool {
        self.lost == self.late && self.rounds > rounds
    }
}

/// Streams that run until they are told to stop.
pub(crate) struct Streams {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    threads: Vec<(String, JoinHandle<Result<Done>>)>,
}

impl Streams {
    /// One connection's requests, one UDP socket's requests, and connection after connection, to each
    /// of `frontends`, from `client`.
    pub(crate) fn start(client: &Netns, frontends: &[SocketAddr]) -> Result<Self> {
        let mut streams = Self {
            stop: Arc::default(),
            rounds: Arc::default(),
            threads: Vec::new(),
        };
        for &to in frontends {
            // Sockets are opened inside the namespace and stay there; the threads need not.
            let tcp = client
                .run(|| TcpStream::connect_timeout(&to, stretched(Duration::from_secs(3))))??;
            let udp = client.run(|| UdpSocket::bind((any(&to), 0)))??;
            streams.spawn(format!("TCP {to}"), move |stop, rounds| {
                tcp_requests(tcp, stop, rounds)
            });
            let (stop, rounds) = (Arc::clone(&streams.stop), Arc::clone(&streams.rounds));
            // A thread is in the namespace of the one that started it.
            let connections =
                client.run(move || thread::spawn(move || new_connections(to, &stop, &rounds)))?;
            streams
                .threads
                .push((format!("connections to {to}"), connections));
            streams.spawn(format!("UDP {to}"), move |stop, rounds| {
                udp_requests(&udp, to, stop, rounds)
            });
        }
        Ok(streams)
    }

    fn spawn(
        &mut self,
        name: String,
        body: impl FnOnce(&AtomicBool, &AtomicU64) -> Result<Done> + Send + 'static,
    ) {
        let (stop, rounds) = (Arc::clone(&self.stop), Arc::clone(&self.rounds));
        self.threads
            .push((name, thread::spawn(move || body(&stop, &rounds))));
    }

    /// Waits until every stream has had some more exchanges.
    pub(crate) fn wait_rounds(&self, more: u64) -> Result<()> {
        let (until, start) = (self.rounds.load(Ordering::Relaxed) + more, Instant::now());
        while self.rounds.load(Ordering::Relaxed) < until {
            ensure!(
                start.elapsed() < stretched(Duration::from_secs(20)),
                "the streams stand still"
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Stops and gives what each did.
    pub(crate) fn finish(self) -> Result<Vec<(String, Done)>> {
        self.stop.store(true, Ordering::Relaxed);
        let join = |(name, thread): (String, JoinHandle<Result<Done>>)| {
            let done = thread
                .join()
                .expect("no panic")
                .with_context(|| name.clone())?;
            Ok((name, done))
        };
        self.threads.into_iter().map(join).collect()
    }
}

fn any(to: &SocketAddr) -> std::net::IpAddr {
    if to.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

fn tcp_requests(mut tcp: TcpStream, stop: &AtomicBool, rounds: &AtomicU64) -> Result<Done> {
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(stretched(Duration::from_secs(5))))?;
    let mut line = [0; 1];
    while line != *b"\n" {
        tcp.read_exact(&mut line)?;
    }
    repeat(stop, rounds, |round| {
        let (sent, mut back) = (round.to_be_bytes(), [0; 8]);
        tcp.write_all(&sent)?;
        tcp.read_exact(&mut back)?;
        ensure!(sent == back, "wrong bytes came back");
        Ok(true)
    })
}

fn new_connections(to: SocketAddr, stop: &AtomicBool, rounds: &AtomicU64) -> Result<Done> {
    let probe = Probe::new(Protocol::Tcp, to);
    repeat(stop, rounds, |_| Ok(probe.run().map(|_| true)?))
}

fn udp_requests(
    udp: &UdpSocket,
    to: SocketAddr,
    stop: &AtomicBool,
    rounds: &AtomicU64,
) -> Result<Done> {
    udp.set_read_timeout(Some(stretched(Duration::from_millis(500))))?;
    let (mut seen_as, mut late) = (None, 0);
    let done = repeat(stop, rounds, |round| {
        udp.send_to(&round.to_be_bytes(), to)?;
        let mut back = [0; 256];
        let (length, from) = loop {
            let Ok((length, from)) = udp.recv_from(&mut back) else {
                return Ok(false);
            };
            let sent = back[..length]
                .last_chunk()
                .map(|sent| u64::from_be_bytes(*sent));
            if sent.is_none_or(|sent| sent >= round) {
                break (length, from);
            }
            late += 1;
        };
        ensure!(from == to, "{from} answered for {to}");
        let hello = back[..length].strip_suffix(&round.to_be_bytes());
        let hello = String::from_utf8_lossy(hello.context("wrong bytes came back")?);
        let client = hello.split_whitespace().nth(1);
        let client = client.context("an endpoint's line")?;
        let first = seen_as.get_or_insert_with(|| client.to_owned());
        ensure!(client == first, "seen as {first}, then as {client}");
        Ok(true)
    })?;
    Ok(Done { late, ..done })
}

fn repeat(
    stop: &AtomicBool,
    rounds: &AtomicU64,
    mut exchange: impl FnMut(u64) -> Result<bool>,
) -> Result<Done> {
    let mut done = Done::default();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        if exchange(done.rounds)? {
            done.rounds += 1;
            rounds.fetch_add(1, Ordering::Relaxed);
        } else {
            done.lost += 1;
        }
        done.slowest = done.slowest.max(start.elapsed());
        // Often enough to notice a gap, seldom enough to leave the machine to others.
        thread::sleep(Duration::from_millis(1));
    }
    Ok(done)
}

/// Connections and datagrams, one after another, over every frontend; the names of those who answered.
pub(crate) fn who_answers(
    client: &Netns,
    frontends: &[SocketAddr],
    probes: usize,
) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for &to in frontends {
        for protocol in Protocol::BOTH {
            for _ in 0..probes {
                names.insert(Probe::new(protocol, to).run_in(client)?.endpoint);
            }
        }
    }
    Ok(names)
}
