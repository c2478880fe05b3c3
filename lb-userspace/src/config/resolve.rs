//! From what was said to what it means: every value checked, all that is wrong told at once.
//!
//! The checks are kube-proxy's (pkg/proxy/apis/config/validation/validation.go) for all that means something
//! here; a value of a key that does not is not looked at.

use std::{net::IpAddr, time::Duration};

use lb_common::flow::state::Timeouts;

use super::{
    Configuration, ConnectionLimit, DetectLocal, Invalid, InvalidConfiguration, NodePortAddress,
    Origin,
    address::{self, parse_address},
    defaults::{self, fill_in},
    duration::GoDuration,
    kube_proxy::KubeProxyConfiguration,
    networks::{self, parse_node_port_address, parse_pair},
};

/// Longest name of a network device (IFNAMSIZ - 1, include/uapi/linux/if.h).
const MAX_DEVICE_NAME: usize = 15;
/// What Linux has where kube-proxy says nothing, in seconds (net.netfilter.nf_conntrack_*_timeout*, kernel 6.18).
const LINUX_ESTABLISHED: u32 = 5 * 24 * 60 * 60;
const LINUX_CLOSE_WAIT: u32 = 60;
const LINUX_UNREPLIED: u32 = 30;
const LINUX_STREAM: u32 = 120;
/// Modes of kube-proxy, and ours.
const MODES: [&str; 5] = ["", "iptables", "ipvs", "nftables", "ebpf"];

/// Fills in and checks `proxy`.
///
/// # Errors
/// [`InvalidConfiguration`] with everything that is wrong.
pub fn resolve(
    mut proxy: KubeProxyConfiguration,
    origin: Origin,
) -> Result<Configuration, InvalidConfiguration> {
    fill_in(&mut proxy);
    let mut checks = Checks::default();
    let configuration = checks.configuration(proxy);
    if checks.wrong.is_empty() {
        Ok(configuration)
    } else {
        Err(InvalidConfiguration {
            origin,
            values: checks.wrong,
        })
    }
}

/// What has been found wrong so far.
#[derive(Default)]
struct Checks {
    wrong: Vec<Invalid>,
}

impl Checks {
    fn invalid(
        &mut self,
        key: &'static str,
        flag: &'static str,
        value: impl ToString,
        why: &'static str,
    ) {
        self.wrong.push(Invalid {
            key,
            flag,
            value: value.to_string(),
            why,
        });
    }

    /// Every value is read, so that all that is wrong is found; with errors the result is of no use.
    fn configuration(&mut self, proxy: KubeProxyConfiguration) -> Configuration {
        let mode = said(&proxy.mode);
        if !MODES.contains(&mode) {
            self.invalid(
                "mode",
                "proxy-mode",
                mode,
                "must be iptables, ipvs or nftables (each is served by eBPF here), or empty",
            );
        }
        let client = &proxy.client_connection;
        let burst = client.burst.unwrap_or_default();
        let burst = u32::try_from(burst).unwrap_or_else(|_| {
            let why = "must not be negative";
            self.invalid("clientConnection.burst", "kube-api-burst", burst, why);
            0
        });
        let oom_score_adj = proxy.oom_score_adj.unwrap_or_default();
        if !(-1000..=1000).contains(&oom_score_adj) {
            let why = "must be between -1000 and 1000";
            self.invalid("oomScoreAdj", "oom-score-adj", oom_score_adj, why);
        }
        Configuration {
            node_name: self.node_name(&proxy),
            kubeconfig: Some(said(&client.kubeconfig))
                .filter(|path| !path.is_empty())
                .map(Into::into),
            qps: client.qps.unwrap_or_default(),
            burst,
            healthz: self.address(
                "healthzBindAddress",
                "healthz-bind-address",
                said(&proxy.healthz_bind_address),
                defaults::HEALTHZ_PORT,
            ),
            metrics: self.address(
                "metricsBindAddress",
                "metrics-bind-address",
                said(&proxy.metrics_bind_address),
                defaults::METRICS_PORT,
            ),
            bind_address_hard_fail: proxy.bind_address_hard_fail.unwrap_or_default(),
            profiling: proxy.enable_profiling.unwrap_or_default(),
            node_ip: self.node_ip(said(&proxy.bind_address)),
            masquerade_all: [proxy.iptables.masquerade_all, proxy.nftables.masquerade_all]
                .contains(&Some(true)),
            detect_local: self.detect_local(&proxy),
            node_port_addresses: self.node_port_addresses(&proxy),
            oom_score_adj,
            timeouts: self.timeouts(&proxy),
            connections: self.connections(&proxy),
            read_back_period: self.read_back_period(&proxy),
            proxy,
        }
    }

    /// Node names are lower case; what people type is not always (kube-proxy's
    /// `processHostnameOverrideFlag`).
    fn node_name(&mut self, proxy: &KubeProxyConfiguration) -> Option<String> {
        let name = proxy
            .hostname_override
            .as_ref()
            .filter(|name| !name.is_empty())?;
        let trimmed = name.trim().to_lowercase();
        if trimmed.is_empty() {
            let why = "must not be only white space";
            self.invalid("hostnameOverride", "hostname-override", name, why);
        }
        Some(trimmed)
    }

    fn address(
        &mut self,
        key: &'static str,
        flag: &'static str,
        text: &str,
        default_port: u16,
    ) -> Option<std::net::SocketAddr> {
        parse_address(text, default_port).unwrap_or_else(|| {
            self.invalid(key, flag, text, address::WHY);
            None
        })
    }

    fn node_ip(&mut self, text: &str) -> Option<IpAddr> {
        let parsed = text.parse::<IpAddr>();
        if parsed.is_err() {
            let why = "must be an IP address";
            self.invalid("bindAddress", "bind-address", text, why);
        }
        parsed.ok().filter(|address| !address.is_unspecified())
    }

    fn detect_local(&mut self, proxy: &KubeProxyConfiguration) -> DetectLocal {
        let cidrs = said(&proxy.cluster_cidr);
        // Checked whatever the mode: kube-proxy does, and a wrong one would wait for a change of mode.
        let parsed = parse_pair(cidrs);
        if parsed.is_none() {
            self.invalid("clusterCIDR", "cluster-cidr", cidrs, networks::PAIR);
        }
        let mode = said(&proxy.detect_local_mode);
        match mode {
            "ClusterCIDR" => DetectLocal::ClusterCidr(parsed.unwrap_or_default()),
            "NodeCIDR" => DetectLocal::NodeCidr,
            "BridgeInterface" => DetectLocal::BridgeInterface(self.device(
                "detectLocal.bridgeInterface",
                "pod-bridge-interface",
                said(&proxy.detect_local.bridge_interface),
            )),
            "InterfaceNamePrefix" => DetectLocal::InterfaceNamePrefix(self.device(
                "detectLocal.interfaceNamePrefix",
                "pod-interface-name-prefix",
                said(&proxy.detect_local.interface_name_prefix),
            )),
            _ => {
                let why = "must be ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix";
                self.invalid("detectLocalMode", "detect-local-mode", mode, why);
                DetectLocal::NodeCidr
            }
        }
    }

    fn device(&mut self, key: &'static str, flag: &'static str, name: &str) -> String {
        if name.is_empty() {
            self.invalid(key, flag, name, "is needed for this detect-local-mode");
        }
        if name.len() > MAX_DEVICE_NAME {
            self.invalid(key, flag, name, "must not be longer than 15 characters");
        }
        name.to_owned()
    }

    fn node_port_addresses(&mut self, proxy: &KubeProxyConfiguration) -> Vec<NodePortAddress> {
        let mut addresses = Vec::new();
        for text in proxy.node_port_addresses.iter().flatten() {
            match parse_node_port_address(text) {
                Some(address) => addresses.push(address),
                None => self.invalid(
                    "nodePortAddresses",
                    "nodeport-addresses",
                    text,
                    networks::NODE_PORT_ADDRESS,
                ),
            }
        }
        addresses
    }

    /// A zero means that Linux' own timeout stays as it is; so it is that one.
    fn timeouts(&mut self, proxy: &KubeProxyConfiguration) -> Timeouts {
        let conntrack = &proxy.conntrack;
        let mut timeout = |key, flag, value: Option<GoDuration>, linux: u32| {
            let value = value.unwrap_or_default();
            if value.get().is_none() {
                self.invalid(key, flag, value, "must not be negative");
            }
            value
                .get()
                .filter(|value| !value.is_zero())
                .map_or(linux, seconds)
        };
        let established = timeout(
            "conntrack.tcpEstablishedTimeout",
            "conntrack-tcp-timeout-established",
            conntrack.tcp_established_timeout,
            LINUX_ESTABLISHED,
        );
        let close_wait = timeout(
            "conntrack.tcpCloseWaitTimeout",
            "conntrack-tcp-timeout-close-wait",
            conntrack.tcp_close_wait_timeout,
            LINUX_CLOSE_WAIT,
        );
        let unreplied = timeout(
            "conntrack.udpTimeout",
            "conntrack-udp-timeout",
            conntrack.udp_timeout,
            LINUX_UNREPLIED,
        );
        let stream = timeout(
            "conntrack.udpStreamTimeout",
            "conntrack-udp-timeout-stream",
            conntrack.udp_stream_timeout,
            LINUX_STREAM,
        );
        Timeouts::new(established, close_wait, unreplied, stream)
    }

    fn connections(&mut self, proxy: &KubeProxyConfiguration) -> ConnectionLimit {
        let mut limit = |key, flag, value: Option<i32>| {
            let value = value.unwrap_or_default();
            u32::try_from(value).unwrap_or_else(|_| {
                self.invalid(key, flag, value, "must not be negative");
                0
            })
        };
        ConnectionLimit {
            per_core: limit(
                "conntrack.maxPerCore",
                "conntrack-max-per-core",
                proxy.conntrack.max_per_core,
            ),
            min: limit("conntrack.min", "conntrack-min", proxy.conntrack.min),
        }
    }

    fn read_back_period(&mut self, proxy: &KubeProxyConfiguration) -> Duration {
        let period = proxy.config_sync_period.unwrap_or_default();
        period.get().unwrap_or_else(|| {
            let why = "must be greater than 0";
            self.invalid("configSyncPeriod", "config-sync-period", period, why);
            Duration::MAX
        })
    }
}

fn said(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// `timeout` in seconds, rounded up.
fn seconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}
