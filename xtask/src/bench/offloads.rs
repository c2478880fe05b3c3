//! Whether what is timed is right: every combination of who fills in checksums and who checks them.
//!
//! A veth with default offloads hides every mistake, so that even a datapath which updates no checksum passes traffic, and
//! fast. No figure of a section with real sockets counts before these have passed: as pods send and veths carry; off a
//! wire (the sender computes); to a NIC that computes nothing (the node has to, after our programs).

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::catalogue::{BARE, BARE_TARGET, ECHO};
use crate::lab::{
    ChecksumErrors, Lab, Netns, Pod, Protocol, interrupt, leave_out_checksums, patience::stretched,
    probe::Probe,
};

/// Whether senders compute checksums themselves, and whether the node has to for what leaves by a device.
const OFFLOADS: [(&str, bool, bool); 4] = [
    ("default", false, false),
    ("sender tx off", true, false),
    ("egress tx off", false, true),
    ("both tx off", true, true),
];

/// Lengths of payloads: odd and even, one segment and many.
const LENGTHS: [usize; 3] = [1, 1400, 60_001];
/// Of datagrams, which are not to be cut to pieces.
const DATAGRAMS: [usize; 2] = [1, 1400];

/// How often a server that waits for a client looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Answers datagrams by the same, without checksums in either direction; ends when dropped.
#[derive(Debug)]
pub struct BareServer {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl BareServer {
    /// On port [`BARE_TARGET`] in `netns`, a socket for each family.
    ///
    /// # Errors
    /// If the port is taken, or the kernel insists on checksums.
    pub fn start(netns: &Netns) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for any in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
            let at = SocketAddr::new(any, BARE_TARGET);
            let socket = netns.run(|| bare_socket(at))??;
            let is_over = Arc::clone(&stop);
            threads.push(thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while !is_over.load(Ordering::Relaxed) {
                    if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(&buffer[..length], client); // then the client complains
                    }
                }
            }));
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // it does not panic
        }
    }
}

fn bare_socket(at: SocketAddr) -> Result<UdpSocket> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::DGRAM, None)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    socket.set_read_timeout(Some(LOOK))?;
    let socket = UdpSocket::from(socket);
    leave_out_checksums(&socket, at)?;
    Ok(socket)
}

/// Who talks to whom, and by which devices.
pub struct Talk<'a> {
    /// The namespaces.
    pub lab: &'a Lab,
    /// The client, and its device.
    pub client: (&'a Netns, &'a str),
    /// The endpoint's pod.
    pub endpoint: &'a Pod,
    /// The devices that packets leave the nodes by.
    pub egress: Vec<(&'a Netns, &'a str)>,
    /// The service's addresses.
    pub vips: [std::net::IpAddr; 2],
    /// Whether the client is on a wire: it always computes.
    pub is_outside: bool,
}

impl Talk<'_> {
    /// All combinations; what was seen to, in a sentence.
    ///
    /// # Errors
    /// Which one fails, and how.
    pub fn check(&self) -> Result<String> {
        let before = self.errors()?;
        let all: Vec<_> = OFFLOADS
            .into_iter()
            .filter(|(_, senders, _)| *senders || !self.is_outside)
            .collect();
        for (name, senders, egress) in &all {
            interrupt::check()?;
            self.set(*senders, *egress)?;
            self.talk().with_context(|| format!("offloads: {name}"))?;
            let after = self.errors()?;
            ensure!(
                after == before,
                "offloads: {name}: wrong checksums: {before:?}, then {after:?}"
            );
        }
        self.set(self.is_outside, false)?;
        let names: Vec<&str> = all.iter().map(|(name, ..)| *name).collect();
        Ok(format!(
            "checksums are right with offloads {}: TCP, UDP and UDP without, IPv4 and IPv6",
            names.join(", ")
        ))
    }

    /// Who computes: the senders themselves, the node for what leaves it.
    fn set(&self, senders: bool, egress: bool) -> Result<()> {
        let word = |off| ["tx", if off { "off" } else { "on" }];
        let (netns, device) = self.client;
        self.lab.offload(netns, device, &word(senders))?;
        self.lab.offload(self.endpoint, "eth0", &word(senders))?;
        let mut devices = self.egress.iter();
        devices.try_for_each(|(netns, device)| self.lab.offload(netns, device, &word(egress)))
    }

    fn talk(&self) -> Result<()> {
        let (netns, _) = self.client;
        for ip in self.vips {
            let to = SocketAddr::new(ip, ECHO);
            for length in LENGTHS {
                Probe::new(Protocol::Tcp, to).length(length).run_in(netns)?;
            }
            for length in DATAGRAMS {
                Probe::new(Protocol::Udp, to).length(length).run_in(netns)?;
                let bare = Probe::new(Protocol::Udp, SocketAddr::new(ip, BARE)).length(length);
                netns
                    .run(|| talk_bare(bare.to, &bare.payload))?
                    .with_context(|| format!("{}/UDP without checksums", bare.to))?;
            }
        }
        Ok(())
    }

    /// What every namespace has dropped for its checksum.
    fn errors(&self) -> Result<Vec<ChecksumErrors>> {
        let hosts = self.lab.nodes().chain([self.lab.outside()]);
        let hosts = hosts.map(|host| &host.netns);
        let pods = self.lab.pods().map(|pod| &pod.netns);
        hosts
            .chain(pods)
            .map(|netns| self.lab.checksum_errors(netns))
            .collect()
    }
}

/// One answer over UDP without checksums in either direction.
fn talk_bare(to: SocketAddr, payload: &[u8]) -> Result<()> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    leave_out_checksums(&socket, to)?;
    socket.set_read_timeout(Some(stretched(Duration::from_secs(1))))?;
    socket.send_to(payload, to)?;
    let mut buffer = vec![0; 64 << 10];
    let (length, from) = socket.recv_from(&mut buffer).context("no answer")?;
    ensure!(from == to, "the answer came from {from}");
    ensure!(&buffer[..length] == payload, "another payload");
    Ok(())
}
