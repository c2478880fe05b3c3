//! From a description to namespaces, links, addresses and routes.
//!
//! Everything is written as lines of `ip -batch`, one batch for all links and one per namespace, because
//! starting a process is what takes the time.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail, ensure};

use super::{
    Host, Lab, Pod,
    address::{Addresses, Shape},
    device::fabric_routes,
    endpoint::Endpoint,
    interrupt, ip,
    netns::Netns,
    sweep::{self, PinDir},
};

/// The name of the client outside of the cluster.
pub(super) const OUTSIDE: &str = "outside";
/// The number of the client pod on each node; endpoints count from [`FIRST_ENDPOINT`].
const CLIENT: u8 = 100;
/// The number of the first endpoint pod on each node.
const FIRST_ENDPOINT: u8 = 10;
/// What the fabric is to its hosts: their gateway.
pub(super) const FABRIC_V4: &str = "172.18.0.254";
const FABRIC_V6: &str = "fd00:172:18::fe";
const FABRIC_LINK_LOCAL: &str = "fe80::fab";
/// Calico's gateway: an address that no one has, answered by proxy ARP.
const PROXY_GATEWAY: &str = "169.254.1.1";
/// Calico's MAC on the host's side of every veth, and its link-local address.
const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";
const HOST_LINK_LOCAL: &str = "fe80::ecee:eeff:feee:eeee";

/// Labs made by this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A node to be made.
#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    shape: Shape,
    endpoints: u8,
}

impl Node {
    /// A node whose pods hang on veths with host routes; four endpoints.
    pub fn routed(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            shape: Shape::Routed,
            endpoints: 4,
        }
    }

    /// A node whose pods are ports of a bridge; four endpoints.
    pub fn bridged(name: &str) -> Self {
        Self {
            shape: Shape::Bridged,
            ..Self::routed(name)
        }
    }

    /// Another number of endpoint pods.
    #[must_use]
    pub fn endpoints(self, endpoints: u8) -> Self {
        Self { endpoints, ..self }
    }
}

/// A lab to be made.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    nodes: Vec<Node>,
    rp_filter: u8,
}

impl Builder {
    /// One more node; the first is number 1.
    #[must_use]
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// `rp_filter` on all nodes and devices: 0 (the default here), 1 strict, 2 loose.
    #[must_use]
    pub fn rp_filter(self, rp_filter: u8) -> Self {
        Self { rp_filter, ..self }
    }

    /// Makes it.
    ///
    /// # Errors
    /// If we are not root, or a namespace, link or route cannot be made; nothing is left behind then.
    pub fn build(&self) -> Result<Lab> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the lab needs root: namespaces and links are made"
        );
        ensure!(
            self.nodes.len() <= 200,
            "{} nodes: at most 200",
            self.nodes.len()
        );
        interrupt::install();
        sweep::stale();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("duolb-{}-{number}", std::process::id());
        let bpffs = PinDir::of(std::process::id(), number);
        let dir = tempfile::Builder::new()
            .prefix(&format!("{prefix}-"))
            .tempdir()?;

        let mut names = vec!["fabric".to_owned(), OUTSIDE.to_owned()];
        names.extend(self.nodes.iter().map(|node| node.name.clone()));
        let full: Vec<String> = names
            .iter()
            .map(|name| format!("{prefix}-{name}"))
            .collect();
        let mut namespaces = Netns::create(&full)?.into_iter();
        let fabric = namespaces.next().expect("one for each name");
        let mut hosts = Vec::new();
        let kinds =
            std::iter::once(None).chain((1..).zip(&self.nodes).map(|(i, n)| Some((i, n.shape))));
        for ((name, node), netns) in names.into_iter().skip(1).zip(kinds).zip(namespaces) {
            let addresses = node.map_or_else(Addresses::of_outside, |(n, _)| Addresses::of_node(n));
            hosts.push(Host {
                name,
                addresses,
                netns,
                node,
            });
        }

        fabric.sysctl(ROUTER)?;
        fabric.sysctl(&[
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
        ])?;
        let rp_filter = self.rp_filter.to_string();
        for host in &hosts {
            host.netns.sysctl(ROUTER)?;
            for which in ["all", "default"] {
                host.netns
                    .sysctl(&[(&format!("net/ipv4/conf/{which}/rp_filter"), &rp_filter)])?;
            }
        }
        join_hosts(&fabric, &hosts)?;

        let mut lab = Lab {
            agents: vec![],
            pods: vec![],
            hosts,
            wire: vec![],
            fabric,
            prefix,
            bpffs,
            dir,
        };
        for (host, node) in lab.hosts[1..].iter().zip(&self.nodes) {
            interrupt::check()?;
            let numbers = (FIRST_ENDPOINT..CLIENT).take(node.endpoints.into());
            let mut plan: Vec<(u8, bool)> = numbers.map(|number| (number, true)).collect();
            plan.push((CLIENT, false));
            lab.pods.extend(add_pods(&lab.prefix, host, &plan)?);
        }
        lab.route_external()?;
        Ok(lab)
    }
}

/// Forwards both families and uses IPv6 addresses at once. For devices to come as well.
const ROUTER: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/forwarding", "1"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];

/// The same for a pod, which does not forward.
const POD: &[(&str, &str)] = &[
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];

/// A veth from the fabric to each host, addresses at both ends, routes to the pods behind.
fn join_hosts(fabric: &Netns, hosts: &[Host]) -> Result<()> {
    let links = hosts.iter().map(|host| {
        let (host, inside) = (&host.name, host.netns.name());
        format!(
            "link add dev {host} netns {} type veth peer name eth0 netns {inside}",
            fabric.name()
        )
    });
    ip::batch(None, &links.collect::<Vec<_>>())?;
    let mut lines = vec!["link set lo up".into()];
    lines.push(format!("addr add {FABRIC_V4}/32 dev lo"));
    lines.push(format!("addr add {FABRIC_V6}/128 dev lo nodad"));
    for host in hosts {
        lines.push(format!(
            "addr add {FABRIC_LINK_LOCAL}/64 dev {} nodad",
            host.name
        ));
        lines.push(format!("link set {} up", host.name));
        lines.extend(fabric_routes(host, None));
    }
    ip::batch(Some(fabric), &lines)?;
    for host in hosts {
        let Addresses { v4, v6 } = host.addresses;
        let mut lines = vec![
            "link set lo up".into(),
            format!("addr add {v4}/32 dev eth0"),
            format!("addr add {v6}/128 dev eth0 nodad"),
            "link set eth0 up".into(),
            format!("route add default via {FABRIC_V4} dev eth0 onlink"),
            format!("route add default via {FABRIC_LINK_LOCAL} dev eth0"),
        ];
        if let Some((number, Shape::Bridged)) = host.node {
            let Addresses { v4, v6 } = Addresses::of_gateway(number);
            lines.extend([
                format!(
                    "link add cni0 address 0a:58:0a:f4:{number:02x}:01 type bridge forward_delay 0 mcast_snooping 0"
                ),
                format!("addr add {v4}/24 dev cni0"),
                format!("addr add {v6}/64 dev cni0 nodad"),
                "link set cni0 up".into(),
            ]);
        }
        ip::batch(Some(&host.netns), &lines)?;
    }
    Ok(())
}

/// Adds one pod to `host`.
pub(super) fn add_pod(prefix: &str, host: &Host, number: u8, endpoint: bool) -> Result<Pod> {
    let mut pods = add_pods(prefix, host, &[(number, endpoint)])?;
    Ok(pods.pop().expect("one for each number"))
}

/// Adds pods, given as numbers and whether an endpoint is inside, to `host`.
fn add_pods(prefix: &str, host: &Host, numbers: &[(u8, bool)]) -> Result<Vec<Pod>> {
    let Some((node, shape)) = host.node else {
        bail!("{} is not a node", host.name)
    };
    let name = |number: u8| match number {
        CLIENT => format!("client-{node}"),
        number => format!("pod-{node}-{number}"),
    };
    let full: Vec<String> = numbers
        .iter()
        .map(|(number, _)| format!("{prefix}-{}", name(*number)))
        .collect();
    let namespaces = Netns::create(&full)?;
    let (mut links, mut node_lines, mut pods) = (Vec::new(), Vec::new(), Vec::new());
    for (&(number, has_endpoint), netns) in numbers.iter().zip(namespaces) {
        let device = format!("veth-p{number}");
        let addresses = Addresses::of_pod(node, number);
        links.push(format!(
            "link add dev {device} {} netns {} type veth peer name eth0 netns {}",
            if shape == Shape::Routed {
                format!("address {HOST_MAC}")
            } else {
                String::new()
            },
            host.netns.name(),
            netns.name()
        ));
        node_lines.extend(node_side(shape, &device, addresses));
        netns.sysctl(POD)?;
        let pod = Pod {
            name: name(number),
            node: host.name.clone(),
            addresses,
            device,
            endpoint: None,
            netns,
        };
        pods.push((pod, has_endpoint));
    }
    ip::batch(None, &links)?;
    ip::batch(Some(&host.netns), &node_lines)?;
    for (pod, _) in &pods {
        if shape == Shape::Routed {
            let arp = format!("net/ipv4/conf/{}/proxy_arp", pod.device);
            let delay = format!("net/ipv4/neigh/{}/proxy_delay", pod.device);
            host.netns.sysctl(&[(&arp, "1"), (&delay, "0")])?;
        }
        ip::batch(Some(&pod.netns), &pod_side(shape, node, pod.addresses))?;
    }
    pods.into_iter()
        .map(|(mut pod, has_endpoint)| {
            if has_endpoint {
                pod.endpoint = Some(Endpoint::start(&pod.netns, &pod.name)?);
            }
            Ok(pod)
        })
        .collect()
}

/// What the node does to reach a pod.
fn node_side(shape: Shape, device: &str, Addresses { v4, v6 }: Addresses) -> Vec<String> {
    match shape {
        Shape::Routed => vec![
            format!("link set {device} addrgenmode none"),
            format!("addr add {HOST_LINK_LOCAL}/64 dev {device} nodad"),
            format!("link set {device} up"),
            format!("route add {v4}/32 dev {device} scope link"),
            format!("route add {v6}/128 dev {device}"),
        ],
        Shape::Bridged => vec![
            format!("link set {device} master cni0"),
            format!("link set {device} up"),
        ],
    }
}

/// What the pod does to reach everything.
fn pod_side(shape: Shape, node: u8, Addresses { v4, v6 }: Addresses) -> Vec<String> {
    let (len4, len6) = if shape == Shape::Routed {
        (32, 128)
    } else {
        (24, 64)
    };
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!("addr add {v4}/{len4} dev eth0"),
        format!("addr add {v6}/{len6} dev eth0 nodad"),
        "link set eth0 up".to_owned(),
    ];
    match shape {
        Shape::Routed => lines.extend([
            format!("route add {PROXY_GATEWAY} dev eth0 scope link"),
            format!("route add default via {PROXY_GATEWAY} dev eth0"),
            format!("route add default via {HOST_LINK_LOCAL} dev eth0"),
        ]),
        Shape::Bridged => {
            let gateway = Addresses::of_gateway(node);
            lines.extend(
                gateway
                    .both()
                    .map(|gateway| format!("route add default via {gateway} dev eth0")),
            );
        }
    }
    lines
}
