//! The corpus: seeds that are made here, and whatever a fuzzer has found since.

use std::{fs, path::PathBuf};

use crate::bodies::{
    packet::{Frame, Net, SCTP, TCP, UDP, both, flag},
    plan::STEP,
};

/// Name of the file, and what is in it.
pub(crate) type Seed = (String, Vec<u8>);

fn directory(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

/// All seeds of a target, sorted by name.
pub(crate) fn read(target: &str) -> Vec<Seed> {
    let directory = directory(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|why| panic!("{directory:?}: {why}"));
    let mut seeds: Vec<Seed> = entries
        .map(|entry| {
            let path = entry.expect("a file").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), fs::read(&path).expect("readable"))
        })
        .collect();
    seeds.sort_unstable();
    seeds
}

pub(crate) fn write(target: &str) {
    fs::create_dir_all(directory(target)).expect("a directory");
    for (name, input) in generate(target) {
        fs::write(directory(target).join(name), input).expect("written");
    }
}

/// The seeds that are made.
pub(crate) fn generate(target: &str) -> Vec<Seed> {
    match target {
        "parse" => frames(&packets, &[]),
        "translate" => frames(&packets, CHOICE),
        "icmp" => frames(&errors, CHOICE),
        "reject" => frames(&refused, &[]),
        "manifests" => texts(b"Y", MANIFESTS),
        "config" => texts(b"", CONFIGS),
        "plan" => plans(),
        other => panic!("no target {other}"),
    }
}

/// An address of either family, two ports, the destination's side.
const CHOICE: &[u8] = &[
    10, 244, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0x1f, 0x90, 0x9c, 0x41, 5,
];

type Make = dyn Fn(&Net) -> Vec<(&'static str, Frame)>;

fn frames(make: &Make, prefix: &[u8]) -> Vec<Seed> {
    let mut seeds = Vec::new();
    for net in both() {
        for (name, frame) in make(&net) {
            let name = format!("{}-{name}", net.name.to_lowercase());
            seeds.push((name, [prefix, &frame.bytes()].concat()));
        }
    }
    seeds
}

fn packets(net: &Net) -> Vec<(&'static str, Frame)> {
    let of = |proto, flags| Frame::of(proto, net.client, net.vip, flags);
    let mut all = vec![
        ("tcp-syn", of(TCP, flag::SYN)),
        ("tcp-data", of(TCP, flag::ACK | flag::PSH).payload(&[7; 61])),
        ("udp", of(UDP, 0)),
        ("udp-without-checksum", of(UDP, 0).without_checksum()),
        ("sctp", of(SCTP, flag::SYN)),
        ("tcp-extras", of(TCP, flag::ACK).with_extras()),
        ("udp-tagged", of(UDP, 0).tagged(&[0x88a8, 0x8100])),
        ("udp-first-fragment", of(UDP, 0).fragment(0, true)),
        ("udp-later-fragment", of(UDP, 0).fragment(3, false)),
    ];
    all.extend(errors(net).into_iter().take(1));
    all
}

fn errors(net: &Net) -> Vec<(&'static str, Frame)> {
    let (_, kind) = net.icmp_errors()[0];
    let about = |proto| Frame::of(proto, net.client, net.endpoint(), flag::ACK);
    let error = |proto, keep| Frame::icmp(net.router, net.client.ip(), kind, &about(proto), keep);
    let extended = about(TCP).with_extras();
    vec![
        ("tcp-error", error(TCP, 100)),
        ("tcp-error-cut", error(TCP, 8)),
        ("udp-error", error(UDP, 100)),
        ("sctp-error", error(SCTP, 8)),
        ("tcp-error-tagged", error(TCP, 100).tagged(&[0x8100])),
        (
            "extras-error",
            Frame::icmp(net.router, net.client.ip(), kind, &extended, 20).with_extras(),
        ),
    ]
}

fn refused(net: &Net) -> Vec<(&'static str, Frame)> {
    let of = |proto, flags| Frame::of(proto, net.client, net.vip, flags);
    vec![
        ("tcp-syn", of(TCP, flag::SYN)),
        ("tcp-fin", of(TCP, flag::ACK | flag::FIN)),
        ("udp", of(UDP, 0)),
        ("udp-without-checksum", of(UDP, 0).without_checksum()),
        ("udp-first-fragment", of(UDP, 0).fragment(0, true)),
        ("sctp", of(SCTP, flag::SYN)),
    ]
}

fn texts(prefix: &[u8], all: &[(&str, &str)]) -> Vec<Seed> {
    let seed = |(name, text): &(&str, &str)| {
        let prefix = if name.ends_with("json") && !prefix.is_empty() {
            b"J"
        } else {
            prefix
        };
        ((*name).to_owned(), [prefix, text.as_bytes()].concat())
    };
    all.iter().map(seed).collect()
}

const MANIFESTS: &[(&str, &str)] = &[
    (
        "service",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  type: LoadBalancer\n  clusterIP: 10.96.0.9\n  sessionAffinity: ClientIP\n  externalTrafficPolicy: Local\n  loadBalancerSourceRanges: [10.0.0.0/8, ' 192.168.0.0/16 ']\n  ports:\n  - {name: http, port: 80, nodePort: 30080, protocol: TCP, targetPort: 8080}\nstatus:\n  loadBalancer: {ingress: [{ip: 203.0.113.7, ipMode: VIP}]}\n",
    ),
    (
        "slice",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-1\n  labels: {kubernetes.io/service-name: web}\naddressType: IPv6\nports: [{name: http, port: 8080}]\nendpoints:\n- addresses: ['fd00:0010:0244::0b']\n  conditions: {ready: true, serving: null, terminating: false}\n  nodeName: here\n  hints: {forZones: [{name: a}]}\n",
    ),
    (
        "node",
        "apiVersion: v1\nkind: Node\nmetadata: {name: here, labels: {topology.kubernetes.io/zone: a}}\nspec: {podCIDRs: [10.244.1.0/24]}\nstatus: {addresses: [{type: InternalIP, address: 192.168.0.1}]}\n",
    ),
    (
        "service-cidr",
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\nspec: {cidrs: [10.97.0.0/16]}\n",
    ),
    (
        "bad-port",
        "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 70000}]}\n",
    ),
    (
        "unfinished",
        "apiVersion: v1\nkind: \"Service\nmetadata: {name: [\n",
    ),
    (
        "anchors",
        "a: &a [1, 2]\nb: *a\nc: !!str 3\nkind: |\n  text\n",
    ),
    (
        "list.json",
        "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"web\"},\"spec\":{\"ports\":[{\"port\":80}]}},{\"kind\":\"Pod\"}]}",
    ),
];

const CONFIGS: &[(&str, &str)] = &[
    (
        "full",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\nclusterCIDR: 10.244.0.0/16,fd00:10:244::/56\nbindAddress: 0.0.0.0\nhealthzBindAddress: '[::]:10256'\nmetricsBindAddress: 127.0.0.1:10249\nconfigSyncPeriod: 15m0s\noomScoreAdj: -999\nnodePortAddresses: [primary, 192.168.0.0/16]\ndetectLocalMode: NodeCIDR\ndetectLocal: {bridgeInterface: cni0, interfaceNamePrefix: veth}\nconntrack: {maxPerCore: 32768, min: 131072, tcpEstablishedTimeout: 24h, tcpCloseWaitTimeout: 1h, udpTimeout: 30s}\nnftables: {masqueradeAll: true, masqueradeBit: 14, minSyncPeriod: 1s, syncPeriod: 30s}\nclientConnection: {kubeconfig: /etc/kubeconfig, qps: 5.5, burst: 10}\nfeatureGates: {TopologyAwareHints: true}\n",
    ),
    (
        "least",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n",
    ),
    (
        "json",
        "{\"apiVersion\":\"kubeproxy.config.k8s.io/v1alpha1\",\"kind\":\"KubeProxyConfiguration\",\"oomScoreAdj\":1}",
    ),
    ("other", "apiVersion: v1\nkind: Pod\nfoo: 1h\n"),
    (
        "wrong",
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nconfigSyncPeriod: 1 hour\nclusterCIDR: 10.244/16\noomScoreAdj: 2000\n",
    ),
];

/// Services and slices that come, change places and go.
fn plans() -> Vec<Seed> {
    let steps = |steps: &[[u8; STEP]]| steps.concat();
    vec![
        (
            "grows-and-shrinks".to_owned(),
            steps(&[
                [0, 0, 0xc4, 7, 0],
                [3, 0, 7, 0x0f, 0],
                [7, 0, 0, 0, 0],
                [3, 0, 7, 0x03, 0],
                [7, 0, 0, 0, 0],
                [6, 0, 0, 0, 0],
            ]),
        ),
        (
            "moves-and-comes-back".to_owned(),
            steps(&[
                [0, 1, 0xc4, 1, 6],
                [4, 2, 3, 0xf0, 0x10],
                [7, 0, 0, 0, 0],
                [0, 1, 0xc5, 3, 10],
                [7, 0, 0, 0, 0],
                [6, 1, 0, 0, 0],
                [7, 0, 0, 0, 0],
                [0, 1, 0x44, 1, 0],
            ]),
        ),
        (
            "two-families".to_owned(),
            steps(&[
                [1, 2, 0xe4, 5, 13],
                [3, 4, 5, 0xff, 0x0a],
                [3, 5, 5, 0x81, 0x55],
                [1, 3, 0xa4, 5, 3],
                [3, 7, 0x45, 0x81, 0x55],
            ]),
        ),
    ]
}
