//! Files and flags as kube-proxy takes them; what is wrong is named.

use std::path::Path;

use lb_common::flow::state::DEFAULT_TIMEOUTS;

use super::{duration::GoDuration, file::ConfigFile, kube_proxy::KubeProxyConfiguration, *};

/// What kubeadm 1.36 puts into the ConfigMap `kube-system/kube-proxy` as `config.conf`.
const KUBEADM: &str = r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"#;

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn parse(text: &str) -> ConfigFile {
    ConfigFile::parse(Path::new("config.conf"), text).unwrap()
}

fn resolve_file(text: &str) -> Result<Configuration, InvalidConfiguration> {
    resolve(parse(text).proxy, Origin::File("config.conf".into()))
}

fn meaningless(text: &str) -> Vec<&'static str> {
    let found = find_meaningless(&parse(text).proxy);
    found.into_iter().map(|found| found.key).collect()
}

#[test]
fn what_kubeadm_writes_is_understood_without_complaint() {
    let file = parse(KUBEADM);
    assert_eq!(file.unknown, Vec::<String>::new());
    assert!(meaningless(KUBEADM).is_empty());
    let configuration = resolve_file(KUBEADM).unwrap();
    let expected = Configuration {
        proxy: configuration.proxy.clone(),
        node_name: None,
        kubeconfig: Some("/var/lib/kube-proxy/kubeconfig.conf".into()),
        qps: 5.0,
        burst: 10,
        healthz: Some("0.0.0.0:10256".parse().unwrap()),
        metrics: Some("127.0.0.1:10249".parse().unwrap()),
        bind_address_hard_fail: false,
        profiling: false,
        node_ip: None,
        masquerade_all: false,
        detect_local: DetectLocal::ClusterCidr(vec!["10.244.0.0/16".parse().unwrap()]),
        node_port_addresses: vec![NodePortAddress::Primary],
        oom_score_adj: -999,
        timeouts: DEFAULT_TIMEOUTS,
        connections: ConnectionLimit {
            per_core: 32_768,
            min: 131_072,
        },
        read_back_period: Duration::from_secs(900),
    };
    assert_eq!(configuration, expected);
}

#[test]
fn nothing_said_is_kube_proxys_defaults() {
    let configuration = resolve(KubeProxyConfiguration::default(), Origin::Flags).unwrap();
    let kubeadm = resolve_file(KUBEADM).unwrap();
    assert_eq!(configuration.healthz, kubeadm.healthz);
    assert_eq!(configuration.timeouts, kubeadm.timeouts);
    assert_eq!(configuration.kubeconfig, None);
    assert_eq!(configuration.detect_local, DetectLocal::ClusterCidr(vec![]));
}

#[test]
fn an_ipv6_node_listens_on_ipv6() {
    let configuration = resolve_file(&format!("{HEAD}bindAddress: '::'\n")).unwrap();
    assert_eq!(configuration.healthz, "[::]:10256".parse().ok());
    assert_eq!(configuration.metrics, "[::1]:10249".parse().ok());
}

#[test]
fn json_is_read_as_well() {
    let text = r#"{"kind": "KubeProxyConfiguration", "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "metricsBindAddress": "0", "nftables": {"masqueradeAll": true}, "conntrack": {"udpStreamTimeout": "1m30s"},
        "hostnameOverride": " Node-A ", "nodePortAddresses": ["192.168.0.0/16", "localhost"]}"#;
    let configuration = resolve_file(text).unwrap();
    assert_eq!(configuration.metrics, None);
    assert!(configuration.masquerade_all);
    assert_eq!(configuration.timeouts, Timeouts::new(86_400, 3_600, 30, 90));
    assert_eq!(configuration.node_name.as_deref(), Some("node-a"));
    let addresses = [
        NodePortAddress::Network("192.168.0.0/16".parse().unwrap()),
        NodePortAddress::Localhost,
    ];
    assert_eq!(configuration.node_port_addresses, addresses);
}

#[test]
fn what_has_no_meaning_is_named_with_its_key() {
    let text = format!(
        "{HEAD}mode: ipvs\nipvs:\n  scheduler: rr\niptables:\n  syncPeriod: 30s\nfeatureGates:\n  X: true\n\
         conntrack:\n  tcpBeLiberal: true\nportRange: 1-2\nlogging:\n  vmodule:\n  \
         - filePattern: a\n    verbosity: 3\n"
    );
    let expected = [
        "featureGates",
        "mode",
        "iptables.syncPeriod",
        "ipvs",
        "portRange",
        "conntrack.tcpBeLiberal",
        "logging.vmodule",
    ];
    assert_eq!(meaningless(&text), expected);
    resolve_file(&text).unwrap();
}

#[test]
fn a_timeout_of_zero_is_what_linux_has_and_one_that_is_not_said_is_kube_proxys() {
    for (conntrack, seconds) in [
        ("{}", [86_400, 3_600, 30, 120]),
        (
            "{tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s, udpTimeout: 0s, udpStreamTimeout: 0s}",
            [432_000, 60, 30, 120],
        ),
        (
            "{tcpEstablishedTimeout: 2h, tcpCloseWaitTimeout: 1500ms, udpTimeout: 7s, udpStreamTimeout: 5m}",
            [7_200, 2, 7, 300],
        ),
    ] {
        let configuration = resolve_file(&format!("{HEAD}conntrack: {conntrack}\n")).unwrap();
        let [established, close_wait, unreplied, stream] = seconds;
        let expected = Timeouts::new(established, close_wait, unreplied, stream);
        assert_eq!(configuration.timeouts, expected, "{conntrack}");
    }
}

#[test]
fn unknown_keys_are_named_with_those_above_them_and_are_no_error() {
    let text = format!("{HEAD}udpIdleTimeout: 250ms\nconntrack:\n  max: null\n  min: 5\n");
    let file = parse(&text);
    assert_eq!(file.unknown, ["udpIdleTimeout", "conntrack.max"]);
    assert_eq!(file.proxy.conntrack.min, Some(5));
}

#[test]
fn a_value_of_another_kind_is_named_with_file_line_and_key() {
    for (text, parts) in [
        (
            "conntrack:\n  min: many\n",
            &["line 4", "conntrack.min", "`min: many`"][..],
        ),
        (
            "configSyncPeriod: 15\n",
            &["line 3", "configSyncPeriod", "15"],
        ),
        (
            "configSyncPeriod: soon\n",
            &["line 3", "configSyncPeriod", "\"soon\""],
        ),
        (
            "nodePortAddresses: 10.0.0.0/8\n",
            &["line 3", "nodePortAddresses"],
        ),
        (
            "bindAddressHardFail: 3\n",
            &["line 3", "bindAddressHardFail"],
        ),
        ("mode: [\n", &["line "]),
    ] {
        let text = format!("{HEAD}{text}");
        let error = ConfigFile::parse(Path::new("x.yaml"), &text).unwrap_err();
        let error = error.to_string();
        for part in [&["--config x.yaml"], parts].concat() {
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn another_object_or_version_is_refused_and_named() {
    for (text, part) in [
        ("kind: KubeProxyConfiguration\n", "apiVersion is \"\""),
        ("", "apiVersion is \"\""),
        (
            "apiVersion: kubeproxy.config.k8s.io/v1\nkind: KubeProxyConfiguration\n",
            "apiVersion is \"kubeproxy.config.k8s.io/v1\"",
        ),
        (
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeletConfiguration\n",
            "kind is \"KubeletConfiguration\", not \"KubeProxyConfiguration\"",
        ),
    ] {
        let error = ConfigFile::parse(Path::new("x.yaml"), text).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_key_or_flag() {
    for (text, key, flag) in [
        (
            "oomScoreAdj: -1001",
            "oomScoreAdj \"-1001\"",
            "oom-score-adj",
        ),
        (
            "configSyncPeriod: -1s",
            "configSyncPeriod \"-1s\"",
            "config-sync-period",
        ),
        ("bindAddress: node", "bindAddress \"node\"", "bind-address"),
        (
            "healthzBindAddress: ':1'",
            "healthzBindAddress \":1\"",
            "healthz-bind-address",
        ),
        (
            "metricsBindAddress: a:b",
            "metricsBindAddress \"a:b\"",
            "metrics-bind-address",
        ),
        (
            "clusterCIDR: 10.0.0.0",
            "clusterCIDR \"10.0.0.0\"",
            "cluster-cidr",
        ),
        (
            "clusterCIDR: 10.0.0.0/8,11.0.0.0/8",
            "clusterCIDR \"10.0.0.0/8,11.0.0.0/8\"",
            "cluster-cidr",
        ),
        (
            "nodePortAddresses: [x]",
            "nodePortAddresses \"x\"",
            "nodeport-addresses",
        ),
        (
            "detectLocalMode: Magic",
            "detectLocalMode \"Magic\"",
            "detect-local-mode",
        ),
        (
            "detectLocalMode: BridgeInterface",
            "detectLocal.bridgeInterface \"\"",
            "pod-bridge-interface",
        ),
        (
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal:\n  interfaceNamePrefix: abcdefghijklmnop",
            "detectLocal.interfaceNamePrefix \"abcdefghijklmnop\"",
            "pod-interface-name-prefix",
        ),
        ("mode: userspace", "mode \"userspace\"", "proxy-mode"),
        (
            "clientConnection: {burst: -1}",
            "clientConnection.burst \"-1\"",
            "kube-api-burst",
        ),
        (
            "conntrack: {maxPerCore: -1}",
            "conntrack.maxPerCore \"-1\"",
            "conntrack-max-per-core",
        ),
        (
            "conntrack: {udpTimeout: -1s}",
            "conntrack.udpTimeout \"-1s\"",
            "conntrack-udp-timeout",
        ),
        (
            "hostnameOverride: ' '",
            "hostnameOverride \" \"",
            "hostname-override",
        ),
    ] {
        let proxy = parse(&format!("{HEAD}{text}\n")).proxy;
        let file = resolve(proxy.clone(), Origin::File("c".into())).unwrap_err();
        assert_eq!(file.values.len(), 1, "{file}");
        assert!(
            file.to_string()
                .starts_with(&format!("--config c: {key}: ")),
            "{file}"
        );
        let flags = resolve(proxy, Origin::Flags).unwrap_err().to_string();
        assert!(flags.starts_with(&format!("--{flag} ")), "{flags}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let error = resolve_file(&format!(
        "{HEAD}mode: x\noomScoreAdj: 5000\nclusterCIDR: y\n"
    ));
    assert_eq!(error.unwrap_err().to_string().lines().count(), 3);
}

#[test]
fn configz_shows_what_is_in_force_and_can_be_read_back() {
    let configuration = resolve_file(KUBEADM).unwrap();
    let json: serde_json::Value = serde_json::from_str(&configuration.configz()).unwrap();
    let shown = &json["kubeproxy.config.k8s.io"];
    assert_eq!(shown["healthzBindAddress"], "0.0.0.0:10256");
    assert_eq!(shown["configSyncPeriod"], "15m0s");
    assert_eq!(shown["clientConnection"]["burst"], 10);
    let again = parse(&shown.to_string()).proxy;
    assert_eq!(again, configuration.proxy);
    let period = Some(GoDuration::from_secs(900));
    assert_eq!(again.config_sync_period, period);
}
