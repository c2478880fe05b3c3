//! The programs for sockets of the node's own processes: what each kind of frontend is to them.
//!
//! The kernel has no test run for these (BPF_PROG_TEST_RUN knows no `cgroup_sock_addr`). So they are attached as the
//! agent does it, to the root of the cgroups, and told of a network namespace that the test has for itself: nobody
//! else's sockets are concerned. In it, endpoints are addresses of the loopback device, and no packet leaves it.

mod endpoints;
mod frontends;
mod handover;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use duolb::datapath::{cgroup, netns, object::Settings, pins::Pins};
use lb_common::verdict::Verdict;
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};

use crate::{
    kernel::Kernel,
    packet::{Net, both},
};

const WEB: u32 = 5;

/// The programs, attached, in a namespace of the test's own.
struct Node {
    kernel: Kernel,
    pins: Pins,
    /// Of all endpoints, IPv4 first.
    listeners: [Vec<UdpSocket>; 2],
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.pins.remove(); // The links go with it.
    }
}

/// Runs `work` on a thread in a namespace of its own, with the addresses of all endpoints.
fn on_node(name: &str, settings: &Settings, work: impl FnOnce(&mut Node) + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("skipped: a network namespace takes root");
                return;
            }
            ip("link set lo up");
            for endpoint in both().iter().flat_map(|net| net.endpoints) {
                let address = endpoint.ip();
                let nodad = if address.is_ipv6() { "nodad" } else { "" };
                ip(&format!("addr add {address} dev lo {nodad}"));
            }
            let settings = Settings {
                netns_cookie: netns::cookie().unwrap(),
                ..*settings
            };
            let Some(mut kernel) = Kernel::load_alone(&settings) else {
                return;
            };
            let pins = Pins::new(format!("/sys/fs/bpf/duolb-{}-{name}", std::process::id()));
            pins.ensure().unwrap();
            let mut node = match cgroup::attach(&mut kernel.object, &pins, None) {
                Ok(_) => Node {
                    kernel,
                    pins,
                    listeners: both().map(|net| net.endpoints.map(listen).into()),
                },
                Err(error) => panic!("{error:?}"),
            };
            work(&mut node);
        });
        inside.join().unwrap();
    });
}

fn ip(line: &str) {
    let words = line.split_whitespace();
    let status = Command::new("ip").args(words).status().unwrap();
    assert!(status.success(), "ip {line}: {status}");
}

fn listen(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A socket that is connected to `to`, or why not.
fn connect(to: SocketAddr) -> Result<UdpSocket, Errno> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = patient((any, 0).into());
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap());
    socket.connect(to).map_err(errno)?;
    Ok(socket)
}

impl Node {
    /// Which of the endpoints, of which each listens, gets what is sent to `to`.
    fn reach(&self, net: &Net, to: SocketAddr) -> Result<usize, Errno> {
        let socket = connect(to)?;
        assert_eq!(socket.peer_addr().unwrap(), to, "the process sees the VIP");
        socket.send(b"duolb").unwrap();
        let listeners = &self.listeners[usize::from(net.is_v6)];
        let got = listeners
            .iter()
            .position(|listener| listener.recv(&mut [0; 16]).is_ok());
        Ok(got.unwrap_or_else(|| panic!("nobody got what was sent to {to}")))
    }

    /// Checks what becomes of a connect to `to`, and that it is counted once.
    #[track_caller]
    fn check(&self, shows: &str, net: &Net, to: SocketAddr, fate: Result<usize, (Errno, Verdict)>) {
        let before = self.kernel.verdicts();
        let reached = self.reach(net, to);
        assert_eq!(
            reached,
            fate.map_err(|(errno, _)| errno),
            "{shows}: {}",
            net.name
        );
        let verdict = fate.map_or_else(|(_, verdict)| verdict, |_| Verdict::Socket);
        let after = self.kernel.verdicts();
        for (at, verdict_at) in Verdict::ALL.iter().enumerate() {
            let counted = after[at] - before[at];
            let expected = u64::from(*verdict_at == verdict);
            assert_eq!(counted, expected, "{shows}: {}: {verdict_at:?}", net.name);
        }
    }
}

/// The addresses by which a host calls itself: the loopback one, and none in particular.
fn this_host(net: &Net) -> [IpAddr; 2] {
    if net.is_v6 {
        [Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()]
    } else {
        [Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into()]
    }
}

impl Node {
    /// The endpoint that gets what is sent to `to` by a socket that is not connected, and whom its answer is from.
    fn exchange(&self, net: &Net, socket: &UdpSocket, to: SocketAddr) -> (usize, SocketAddr) {
        socket.send_to(b"duolb", to).unwrap();
        let listeners = &self.listeners[usize::from(net.is_v6)];
        for (number, listener) in listeners.iter().enumerate() {
            if let Ok((_, client)) = listener.recv_from(&mut [0; 16]) {
                listener.send_to(b"duolb", client).unwrap();
                let (_, from) = socket.recv_from(&mut [0; 16]).unwrap();
                return (number, from);
            }
        }
        panic!("nobody got what was sent to {to}");
    }
}

/// A socket that does not wait for ever for an answer that goes to nobody.
fn patient(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    socket
}

/// A socket that is not connected.
fn unconnected(net: &Net) -> UdpSocket {
    let [_, any] = this_host(net);
    patient((any, 0).into())
}
