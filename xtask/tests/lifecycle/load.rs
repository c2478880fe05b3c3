//! Traffic that notices what repairs itself: counted packet by packet in the client's namespace.
//!
//! A transfer whose every byte is compared, new connections at a rate, datagrams with numbers. What TCP repairs is
//! read from the kernel's counters; what should never have come, or was a reset, from those of a firewall that counts
//! and drops nothing.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::lab::{Lab, Netns};

/// Threads that open connections, and how long each pauses: 1,000 a second together, on a machine with nothing else
/// to do.
const OPENERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(4);
/// Between two datagrams of a stream.
const BEAT: Duration = Duration::from_millis(2);
/// How long what is under way may take when all is over.
const PATIENCE: Duration = Duration::from_secs(3);

/// What counts what it sees: resets, either way, and what came from or for a pod's address instead of a VIP's.
const COUNTERS: &str = "
table inet watch {
    chain in {
        type filter hook prerouting priority -400;
        tcp flags & rst == rst counter comment \"resets\"
        meta l4proto { tcp, udp } ip saddr 10.244.0.0/16 ip daddr 10.244.0.0/16 counter comment \"strays\"
        meta l4proto { tcp, udp } ip6 saddr fd00:10:244::/48 ip6 daddr fd00:10:244::/48 counter comment \"strays\"
    }
    chain out {
        type filter hook postrouting priority 400;
        tcp flags & rst == rst counter comment \"resets\"
    }
}";

/// What went by.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Bytes that came back as they were sent.
    pub(crate) transferred: u64,
    /// Connections that were opened, used and closed.
    pub(crate) connections: u64,
    /// Datagrams that were answered.
    pub(crate) datagrams: u64,
}

/// Traffic of one client that runs until it is told to stop.
pub(crate) struct Load {
    client: String,
    stop: Arc<AtomicBool>,
    counts: [Arc<AtomicU64>; 3],
    threads: Vec<(String, JoinHandle<Result<()>>)>,
}

impl Load {
    /// Starts all kinds of traffic from the pod `client` to each of `frontends`.
    pub(crate) fn start(lab: &Lab, client: &str, frontends: &[SocketAddr]) -> Result<Self> {
        let netns = &lab.pod(client).netns;
        lab.exec(netns, &["nft", COUNTERS])?;
        let mut load = Self {
            client: client.to_owned(),
            stop: Arc::default(),
            counts: Default::default(),
            threads: Vec::new(),
        };
        for &to in frontends {
            load.spawn(netns, format!("transfer to {to}"), 0, move |stop, done| {
                transfer(to, stop, done)
            })?;
            load.spawn(netns, format!("datagrams to {to}"), 2, move |stop, done| {
                number(to, stop, done)
            })?;
        }
        for opener in 0..OPENERS {
            let to = frontends[opener % frontends.len()];
            load.spawn(
                netns,
                format!("connections to {to}"),
                1,
                move |stop, done| open(to, stop, done),
            )?;
        }
        Ok(load)
    }

    fn spawn(
        &mut self,
        client: &Netns,
        name: String,
        kind: usize,
        body: impl FnOnce(&AtomicBool, &AtomicU64) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (stop, done) = (Arc::clone(&self.stop), Arc::clone(&self.counts[kind]));
        // A thread is in the namespace of the one that started it.
        let thread = client.run(move || thread::spawn(move || body(&stop, &done)))?;
        self.threads.push((name, thread));
        Ok(())
    }

    /// Waits until some more of each kind has gone by.
    pub(crate) fn go_on(&self) -> Result<()> {
        let now = || {
            self.counts
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed))
        };
        let (before, start) = (now(), Instant::now());
        let more = [1 << 16, 50, 50];
        while (0..3).any(|kind| now()[kind] < before[kind] + more[kind]) {
            for (name, thread) in &self.threads {
                ensure!(!thread.is_finished(), "{name} has ended");
            }
            ensure!(
                start.elapsed() < Duration::from_secs(30),
                "traffic stands still"
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Stops, and fails if anything was lost, reset, sent again without need, or came from where nothing should.
    pub(crate) fn finish(self, lab: &Lab) -> Result<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for (name, thread) in self.threads {
            if let Err(error) = thread.join().expect("no panic") {
                failures.push(format!("{name}: {error:#}"));
            }
        }
        let client = &lab.pod(&self.client).netns;
        let listing = lab.exec(client, &["nft", "list", "table", "inet", "watch"])?;
        let strays = listing.lines().filter(|line| line.contains("strays"));
        if strays
            .clone()
            .any(|line| !line.contains("counter packets 0 "))
        {
            failures.push(format!("strays: {:?}", strays.collect::<Vec<_>>()));
        }
        // A packet that comes late, after both ends have closed, is answered by a reset that hurts nobody: it is told,
        // and resets of connections count.
        for line in listing.lines().filter(|line| line.contains("resets")) {
            eprintln!("{}: {}", self.client, line.trim());
        }
        for name in ["TcpExtTCPSynRetrans", "TcpEstabResets", "TcpAttemptFails"] {
            let text = lab.exec(client, &["nstat", "-asz", name])?;
            let count = counter(&text, name)?;
            if count != 0 {
                failures.push(format!("{name}: {count}"));
            }
        }
        if !failures.is_empty() {
            bail!("{}", failures.join("\n"));
        }
        let [transferred, connections, datagrams] =
            self.counts.map(|count| count.load(Ordering::Relaxed));
        Ok(Counts {
            transferred,
            connections,
            datagrams,
        })
    }
}

/// A counter as nstat prints it.
fn counter(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(value
        .with_context(|| format!("no {name} in {text}"))?
        .parse()?)
}

/// Connects and reads the endpoint's line.
fn connect(to: SocketAddr) -> Result<TcpStream> {
    let mut tcp = TcpStream::connect_timeout(&to, Duration::from_secs(5)).context("connect")?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut byte = [0];
    while byte != *b"\n" {
        tcp.read_exact(&mut byte).context("the endpoint's line")?;
    }
    Ok(tcp)
}

/// One connection, blocks that follow from their number, each compared when it comes back.
fn transfer(to: SocketAddr, stop: &AtomicBool, done: &AtomicU64) -> Result<()> {
    let mut tcp = connect(to)?;
    let mut number = 1_u64;
    let (mut sent, mut back) = (vec![0; 16_384], vec![0; 16_384]);
    while !stop.load(Ordering::Relaxed) {
        for word in sent.chunks_mut(8) {
            // Any sequence without a period does.
            number = number.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            word.copy_from_slice(&number.to_be_bytes());
        }
        tcp.write_all(&sent).context("write")?;
        tcp.read_exact(&mut back).context("read")?;
        ensure!(sent == back, "other bytes came back");
        done.fetch_add(sent.len() as u64, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
    close(tcp)
}

/// Connection after connection, each used and closed in order.
fn open(to: SocketAddr, stop: &AtomicBool, done: &AtomicU64) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let mut tcp = connect(to)?;
        tcp.write_all(b"hello").context("write")?;
        let mut back = [0; 5];
        tcp.read_exact(&mut back).context("read")?;
        close(tcp)?;
        done.fetch_add(1, Ordering::Relaxed);
        thread::sleep(PAUSE.saturating_sub(start.elapsed()));
    }
    Ok(())
}

/// Ends our side and waits for the other's end.
fn close(mut tcp: TcpStream) -> Result<()> {
    tcp.shutdown(Shutdown::Write)?;
    tcp.read_to_end(&mut Vec::new()).context("close")?;
    Ok(())
}

/// Datagrams with numbers, sent whether or not the last one was answered: each answer must come.
fn number(to: SocketAddr, stop: &AtomicBool, done: &AtomicU64) -> Result<()> {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(BEAT))?;
    let (mut next, mut seen, mut buffer) = (0_u64, Vec::new(), [0; 512]);
    let mut take = |seen: &mut Vec<bool>| -> Result<bool> {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            return Ok(false);
        };
        ensure!(from == to, "{from} answered for {to}");
        let tail = buffer[..length].last_chunk().context("a short answer")?;
        let number = usize::try_from(u64::from_be_bytes(*tail))?;
        let place = seen.get_mut(number).context("a number that was not sent")?;
        ensure!(!*place, "{number} was answered twice");
        *place = true;
        done.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    };
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        socket.send_to(&next.to_be_bytes(), to).context("send")?;
        next += 1;
        seen.push(false);
        while start.elapsed() < BEAT {
            take(&mut seen)?;
        }
    }
    let end = Instant::now();
    while seen.contains(&false) && end.elapsed() < PATIENCE {
        take(&mut seen)?;
    }
    let is_lost = |(number, seen): (usize, &bool)| (!seen).then_some(number);
    let lost: Vec<usize> = seen.iter().enumerate().filter_map(is_lost).collect();
    ensure!(
        lost.is_empty(),
        "{} of {next} were lost: {lost:?}",
        lost.len()
    );
    Ok(())
}
