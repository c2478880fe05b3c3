//! kube-proxy's command lines start this agent.

use clap::{CommandFactory as _, Parser as _};

use super::*;
use crate::cli::arguments::{Arguments, Command};

fn parse(flags: &[&str]) -> AgentArguments {
    let line = ["duolb", "agent"].iter().chain(flags);
    match Arguments::try_parse_from(line).unwrap().command {
        Command::Agent(arguments) => *arguments,
        other => panic!("{other:?}"),
    }
}

fn refused(flags: &[&str]) -> String {
    let line = ["duolb", "agent"].iter().chain(flags);
    Arguments::try_parse_from(line).unwrap_err().to_string()
}

fn configuration(flags: &[&str]) -> Configuration {
    let said = listen_to(parse(flags).proxy).unwrap();
    assert_eq!(said.warnings, Vec::<String>::new());
    resolve(said.proxy, said.origin).unwrap()
}

/// Every flag of kube-proxy 1.36 (cmd/kube-proxy/app/options.go, component-base/logs/api/v1/options.go).
const ALL: &[&str] = &[
    "--bind-address=10.0.0.1",
    "--bind-address-hard-fail",
    "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56",
    "--config-sync-period=15m0s",
    "--conntrack-max-per-core=32768",
    "--conntrack-min=131072",
    "--conntrack-tcp-be-liberal",
    "--conntrack-tcp-timeout-close-wait=1h0m0s",
    "--conntrack-tcp-timeout-established=24h0m0s",
    "--conntrack-udp-timeout=0s",
    "--conntrack-udp-timeout-stream=2m",
    "--detect-local-mode=ClusterCIDR",
    "--feature-gates=A=true,B=false",
    "--healthz-bind-address=0.0.0.0:10256",
    "--hostname-override=Node-1",
    "--init-only=false",
    "--iptables-localhost-nodeports=true",
    "--iptables-masquerade-bit=14",
    "--iptables-min-sync-period=1s",
    "--iptables-sync-period=30s",
    "--ipvs-exclude-cidrs=10.0.0.0/8",
    "--ipvs-exclude-cidrs=11.0.0.0/8",
    "--ipvs-min-sync-period=0s",
    "--ipvs-scheduler=rr",
    "--ipvs-strict-arp",
    "--ipvs-sync-period=30s",
    "--ipvs-tcp-timeout=0s",
    "--ipvs-tcpfin-timeout=0s",
    "--ipvs-udp-timeout=0s",
    "--kube-api-burst=20",
    "--kube-api-content-type=application/vnd.kubernetes.protobuf",
    "--kube-api-qps=7.5",
    "--kubeconfig=/etc/kubeconfig",
    "--log-flush-frequency=5s",
    "--log-json-info-buffer-size=0",
    "--log-json-split-stream",
    "--log-text-info-buffer-size=0",
    "--log-text-split-stream",
    "--logging-format=json",
    "--masquerade-all",
    "--master=https://10.0.0.2:6443",
    "--metrics-bind-address=127.0.0.1:10249",
    "--nodeport-addresses=primary",
    "--oom-score-adj=-998",
    "--pod-bridge-interface=",
    "--pod-interface-name-prefix=",
    "--profiling",
    "--proxy-mode=ipvs",
    "--show-hidden-metrics-for-version=1.35",
    "-v=2",
    "--vmodule=a=1",
];

#[test]
fn the_arguments_do_not_contradict_themselves() {
    Arguments::command().debug_assert();
}

#[test]
fn every_flag_of_kube_proxy_is_taken() {
    let arguments = parse(ALL);
    assert_eq!(
        arguments.proxy.master.as_deref(),
        Some("https://10.0.0.2:6443")
    );
    assert_eq!(arguments.log.verbosity, Some(2));
    let ignored: Vec<_> = arguments
        .ignored
        .typed
        .iter()
        .map(|(flag, _)| *flag)
        .collect();
    assert_eq!(ignored.len(), 23, "each once: {ignored:?}");
    assert!(ignored.contains(&"proxy-mode") && ignored.contains(&"vmodule"));

    let configuration = configuration(ALL);
    assert_eq!(configuration.node_name.as_deref(), Some("node-1"));
    assert_eq!(configuration.kubeconfig, Some("/etc/kubeconfig".into()));
    assert_eq!((configuration.qps, configuration.burst), (7.5, 20));
    assert_eq!(configuration.oom_score_adj, -998);
    assert!(configuration.masquerade_all && configuration.bind_address_hard_fail);
    assert_eq!(configuration.node_ip, "10.0.0.1".parse().ok());
}

#[test]
fn truth_values_are_gos() {
    for (flags, expected) in [
        (&["--masquerade-all"][..], true),
        (&["--masquerade-all=true"], true),
        (&["--masquerade-all=T"], true),
        (&["--masquerade-all=0"], false),
        (&["--masquerade-all=False"], false),
        (&[], false),
    ] {
        assert_eq!(configuration(flags).masquerade_all, expected, "{flags:?}");
    }
    let error = refused(&["--masquerade-all=yes"]);
    assert!(
        error.contains("--masquerade-all") && error.contains("'yes'"),
        "{error}"
    );
}

#[test]
fn a_flag_that_is_no_duration_is_refused_and_named() {
    let error = refused(&["--config-sync-period", "15"]);
    assert!(
        error.contains("--config-sync-period") && error.contains("\"15\""),
        "{error}"
    );
}

#[test]
fn ports_for_snat_that_make_no_range_are_refused_with_the_reason() {
    let error = refused(&["--snat-ports=80-2000"]);
    assert!(
        error.contains("--snat-ports") && error.contains("must not begin below 1024"),
        "{error}"
    );
}

#[test]
fn an_empty_address_and_port_zero_switch_servers_off() {
    let off = configuration(&["--metrics-bind-address=", "--healthz-bind-address", "0"]);
    assert_eq!((off.metrics, off.healthz), (None, None));
    let off = configuration(&["--metrics-port=0", "--healthz-port=0"]);
    assert_eq!((off.metrics, off.healthz), (None, None));
    let on = configuration(&[
        "--metrics-bind-address=10.0.0.1",
        "--healthz-bind-address=::1",
    ]);
    assert_eq!(on.metrics, "10.0.0.1:10249".parse().ok());
    assert_eq!(on.healthz, "[::1]:10256".parse().ok());
}

#[test]
fn with_a_file_flags_are_told_and_passed_over_but_for_the_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.conf");
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
                hostnameOverride: from-file\nclusterCIDR: 10.1.0.0/16\nodd: 1\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let flags = [
        "--config",
        path,
        "--hostname-override=Typed",
        "--cluster-cidr=10.2.0.0/16",
    ];
    let said = listen_to(parse(&flags).proxy).unwrap();
    let expected = [
        "--cluster-cidr has no effect: --config counts instead".to_owned(),
        format!("--config {path}: odd is not a key that is known"),
    ];
    assert_eq!(said.warnings, expected);
    let configuration = resolve(said.proxy, said.origin).unwrap();
    assert_eq!(configuration.node_name.as_deref(), Some("typed"));
    assert_eq!(
        configuration.proxy.cluster_cidr.as_deref(),
        Some("10.1.0.0/16")
    );

    let said = listen_to(parse(&["--config", path]).proxy).unwrap();
    assert_eq!(said.proxy.hostname_override.as_deref(), Some("from-file"));
}

#[test]
fn the_effective_configuration_can_be_written_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.yaml");
    let configuration = configuration(&["--cluster-cidr=10.2.0.0/16", "--masquerade-all"]);
    write_config(&configuration, path.clone()).unwrap();
    let file = ConfigFile::read(&path).unwrap();
    assert_eq!(file.proxy, configuration.proxy);
}

#[test]
fn help_has_headings_and_keeps_what_means_nothing_out_of_the_short_one() {
    let mut command = Arguments::command();
    let agent = command.find_subcommand_mut("agent").unwrap();
    let short = agent.render_help().to_string();
    let long = agent.render_long_help().to_string();
    for heading in [
        "Where objects come from:",
        "Health and metrics:",
        "Traffic from outside and source NAT:",
        "Datapath:",
        "Log:",
    ] {
        assert!(short.contains(heading), "{short}");
    }
    assert!(!short.contains("--ipvs-scheduler") && long.contains("--ipvs-scheduler"));
}
