//! The ways that are compared, each on a node of its own: a client pod, the node, an endpoint pod.
//!
//! ```text
//!   client-1 --veth-- [ node-1: nothing | duolb | kube-proxy's rules ] --veth-- pod-1-10
//!        \___________________________ one veth (direct) ________________________/
//! ```

use std::{
    fmt, fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lb_common::verdict::Verdict;

use super::{
    catalogue::{CALLED, Catalogue, LONG, PODS, RANGES, SHORT, SINK, STREAM, vips},
    kube_proxy::{iptables, nftables},
    load::{datagrams, exchange, iperf},
    machine,
    offloads::{BareServer, Talk},
};
use crate::lab::{AgentOptions, Lab, Netns, Node, Objects};

const CLIENT: &str = "client-1";
const ENDPOINT: &str = "pod-1-10";
const NODE: &str = "node-1";
/// The addresses of the veth between client and endpoint, whose device is called the same at both ends.
const DIRECT: &str = "direct";
const DIRECT_CLIENT: [&str; 2] = ["198.18.0.1/30", "fd00:198:18::1/126"];
const DIRECT_ENDPOINT: [&str; 2] = ["198.18.0.2", "fd00:198:18::2"];

/// How a packet gets from client to endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// By one veth between the two.
    Direct,
    /// Through the node, to the endpoint's own address.
    Routed,
    /// To the cluster IP, the stack routes.
    DuolbKernel,
    /// To the cluster IP, past the stack.
    DuolbBpf,
    /// To the cluster IP, kube-proxy's rules in nftables.
    Nftables,
    /// To the cluster IP, kube-proxy's rules in iptables.
    Iptables,
}

impl Way {
    /// All, in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::Direct,
        Self::Routed,
        Self::DuolbBpf,
        Self::DuolbKernel,
        Self::Nftables,
        Self::Iptables,
    ];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Routed => "routed",
            Self::DuolbKernel => "duolb (kernel)",
            Self::DuolbBpf => "duolb (bpf)",
            Self::Nftables => "kube-proxy nftables",
            Self::Iptables => "kube-proxy iptables",
        })
    }
}

/// One way, ready to be measured.
pub struct Ground {
    /// Which.
    pub way: Way,
    // Before the lab, whose namespaces they are in.
    _servers: (
        iperf::Server,
        [exchange::Server; 2],
        datagrams::Sink,
        BareServer,
    ),
    /// The namespaces.
    pub lab: Lab,
}

impl Ground {
    /// Makes it, with that many services, and sees every called port answer.
    ///
    /// # Errors
    /// If something cannot be made, or an answer does not come.
    pub fn start(way: Way, services: u32, duolb: &Path) -> Result<Self> {
        Self::make(way, services, duolb).with_context(|| way.to_string())
    }

    fn make(way: Way, services: u32, duolb: &Path) -> Result<Self> {
        let mut lab = Lab::builder()
            .node(Node::routed(NODE).endpoints(1))
            .build()?;
        set_congestion(&lab)?;
        let endpoint = lab.pod(ENDPOINT).addresses.both();
        let catalogue = Catalogue {
            services,
            endpoint,
            node: NODE,
        };
        match way {
            Way::Direct => join(&lab)?,
            Way::Routed => {}
            Way::DuolbKernel => {
                serve(&mut lab, &catalogue, duolb, &["--host-routing", "kernel"])?;
            }
            Way::DuolbBpf => serve(&mut lab, &catalogue, duolb, &["--host-routing", "bpf"])?,
            Way::Nftables => {
                let ports = catalogue.ports();
                for (v6, pods) in [false, true].into_iter().zip(PODS) {
                    lab.nft(lab.node(NODE), &nftables::rules(&ports, v6, pods))?;
                }
            }
            Way::Iptables => {
                let ports = catalogue.ports();
                for ((v6, pods), tool) in [false, true].into_iter().zip(PODS).zip(RESTORE) {
                    let file = lab.dir().join(tool);
                    fs::write(&file, iptables::rules(&ports, v6, pods))?;
                    let file = file.to_str().context("not text")?;
                    lab.exec(lab.node(NODE), &[tool, file])?;
                }
            }
        }
        let at = &lab.pod(ENDPOINT).netns;
        let servers = (
            iperf::Server::start(at, STREAM)?,
            [
                exchange::Server::start(at, SHORT)?,
                exchange::Server::start(at, LONG)?,
            ],
            datagrams::Sink::start(at, SINK)?,
            BareServer::start(at)?,
        );
        let ground = Self {
            way,
            _servers: servers,
            lab,
        };
        ground.check()?;
        Ok(ground)
    }

    /// Sees to it that checksums are right, if it is one of duolb's ways.
    ///
    /// # Errors
    /// Where they are not: nothing may be timed then.
    pub fn check_offloads(&self) -> Result<Option<String>> {
        if !matches!(self.way, Way::DuolbKernel | Way::DuolbBpf) {
            return Ok(None);
        }
        let (client, endpoint) = (self.lab.pod(CLIENT), self.lab.pod(ENDPOINT));
        let node = &self.lab.node(NODE).netns;
        let talk = Talk {
            lab: &self.lab,
            client: (&client.netns, "eth0"),
            endpoint,
            egress: vec![(node, &client.device), (node, &endpoint.device)],
            vips: vips(0),
            is_outside: false,
        };
        let said = talk.check().with_context(|| self.way.to_string())?;
        Ok(Some(format!("{}: {said}", self.way)))
    }

    /// The endpoint's own address, which is nobody's service.
    pub fn past_services(&self, v6: bool, port: u16) -> SocketAddr {
        let addresses = &self.lab.pod(ENDPOINT).addresses;
        SocketAddr::new(addresses.both()[usize::from(v6)], port)
    }

    /// Where the client is.
    pub fn client(&self) -> &Netns {
        &self.lab.pod(CLIENT).netns
    }

    /// Where the endpoint is.
    pub fn endpoint(&self) -> &Netns {
        &self.lab.pod(ENDPOINT).netns
    }

    /// Whom the client calls.
    pub fn target(&self, v6: bool, port: u16) -> SocketAddr {
        let ip: IpAddr = match self.way {
            Way::Direct => DIRECT_ENDPOINT[usize::from(v6)]
                .parse()
                .expect("an address"),
            Way::Routed => self.lab.pod(ENDPOINT).addresses.both()[usize::from(v6)],
            _ => vips(0)[usize::from(v6)],
        };
        SocketAddr::new(ip, port)
    }

    /// A byte, or a datagram, through each called port: what does not arrive is not timed.
    fn check(&self) -> Result<()> {
        let moment = Duration::from_millis(1);
        for v6 in [false, true] {
            for (protocol, port) in CALLED {
                let to = self.target(v6, port);
                match (protocol, port) {
                    ("tcp", SHORT | LONG) => {
                        exchange::connections(self.client(), to, moment)?;
                    }
                    ("udp", SINK) => {
                        // The first ones wait for a neighbour, longer than this moment.
                        let mut tries = (0..TRIES).map(|_| {
                            datagrams::per_second(self.client(), to, self.endpoint(), moment)
                        });
                        let arrived = tries.find(|arrived| !matches!(arrived, Ok(0.0)));
                        let arrived = arrived.transpose()?;
                        ensure!(arrived.is_some(), "no datagram arrived through {to}");
                    }
                    // iperf3 says itself when nobody answers.
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Sees to it that checksums are right through XDP: a client outside, an endpoint on the second node, and between them the
/// first one, whose program sends packets on in the driver.
///
/// # Errors
/// Where they are not, or packets did not go that way.
pub fn check_xdp(duolb: &Path) -> Result<String> {
    let mut lab = Lab::builder()
        .node(Node::routed(NODE).endpoints(0))
        .node(Node::routed("node-2").endpoints(1))
        .build()?;
    set_congestion(&lab)?;
    lab.be_a_wire()?;
    lab.route_to(&["10.96.0.0/16", "fd00:10:96::/112"], NODE)?;
    let endpoint = lab.pod("pod-2-10").addresses.both();
    let catalogue = Catalogue {
        services: 1,
        endpoint,
        node: "node-2",
    };
    serve(&mut lab, &catalogue, duolb, &["--xdp", "native"])?;
    let pod = lab.pod("pod-2-10");
    let _server = BareServer::start(&pod.netns)?;
    let talk = Talk {
        lab: &lab,
        client: (&lab.outside().netns, "eth0"),
        endpoint: pod,
        egress: vec![(&lab.node("node-2").netns, "eth0")],
        vips: vips(0),
        is_outside: true,
    };
    let said = talk.check().context("XDP")?;
    let status = lab.agent(NODE).duolb(&["status", "-o", "json"])?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    let sent_on = status["verdicts"][Verdict::XdpToEndpoint.label()].as_u64();
    ensure!(sent_on > Some(0), "XDP: the stack has sent all of it on");
    Ok(format!("XDP: {said}"))
}

/// Moments in which a datagram may arrive.
const TRIES: usize = 20;

const RESTORE: [&str; 2] = ["iptables-legacy-restore", "ip6tables-legacy-restore"];

/// Has TCP go by the same everywhere, whatever the machine goes by.
fn set_congestion(lab: &Lab) -> Result<()> {
    let name = machine::congestion()?;
    let hosts = lab.nodes().chain([lab.outside()]);
    let hosts = hosts.map(|host| &host.netns);
    let mut all = hosts.chain(lab.pods().map(|pod| &pod.netns));
    all.try_for_each(|netns| netns.sysctl(&[("net/ipv4/tcp_congestion_control", &name)]))
}

/// A veth between client and endpoint.
fn join(lab: &Lab) -> Result<()> {
    let (client, endpoint) = (lab.pod(CLIENT), lab.pod(ENDPOINT));
    let there = endpoint.netns.name();
    let add = [
        "ip", "link", "add", DIRECT, "type", "veth", "peer", "name", DIRECT, "netns", there,
    ];
    lab.exec(client, &add)?;
    let ends = [
        (client, DIRECT_CLIENT),
        (endpoint, ["198.18.0.2/30", "fd00:198:18::2/126"]),
    ];
    for (pod, [v4, v6]) in ends {
        lab.exec(pod, &["ip", "addr", "add", v4, "dev", DIRECT])?;
        lab.exec(pod, &["ip", "addr", "add", v6, "dev", DIRECT, "nodad"])?;
        lab.exec(pod, &["ip", "link", "set", DIRECT, "up"])?;
    }
    Ok(())
}

/// Agents on the manifest, and what they serve.
fn serve(lab: &mut Lab, catalogue: &Catalogue, duolb: &Path, args: &[&str]) -> Result<()> {
    let manifests = lab.dir().join("manifests");
    fs::create_dir(&manifests)?;
    fs::write(manifests.join("services.json"), catalogue.manifest())?;
    let most = (catalogue.services * 2).max(1024).to_string();
    lab.start_agents(&AgentOptions {
        duolb: duolb.to_owned(),
        objects: Objects::Manifests(manifests),
        service_ranges: RANGES,
        args: [&["--max-services", &most], args]
            .concat()
            .iter()
            .map(|&arg| arg.to_owned())
            .collect(),
    })
}
