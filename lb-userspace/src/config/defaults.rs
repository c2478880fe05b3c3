//! Fills in what was not set, as kube-proxy does (pkg/proxy/apis/config/v1alpha1/defaults.go).
//!
//! Only keys that mean something here get a default; where kube-proxy's modes differ, nftables counts (rule
//! 64: node ports on the primary addresses only).

use super::{duration::GoDuration, kube_proxy::KubeProxyConfiguration};

/// Port of the health server.
pub(super) const HEALTHZ_PORT: u16 = 10256;
/// Port of the metrics server.
pub(super) const METRICS_PORT: u16 = 10249;

const HOUR: u32 = 60 * 60;
const DAY: u32 = 24 * HOUR;

/// Fills in `proxy`. Empty texts and zero durations count as not set.
pub(super) fn fill_in(proxy: &mut KubeProxyConfiguration) {
    text(&mut proxy.api_version, "kubeproxy.config.k8s.io/v1alpha1");
    text(&mut proxy.kind, "KubeProxyConfiguration");
    text(&mut proxy.bind_address, "0.0.0.0");
    // Both servers speak the family of the node's address unless told otherwise.
    let is_v6 = proxy
        .bind_address
        .as_ref()
        .is_some_and(|address| address.contains(':'));
    let (any, loopback) = if is_v6 {
        ("[::]", "[::1]")
    } else {
        ("0.0.0.0", "127.0.0.1")
    };
    text(
        &mut proxy.healthz_bind_address,
        &format!("{any}:{HEALTHZ_PORT}"),
    );
    text(
        &mut proxy.metrics_bind_address,
        &format!("{loopback}:{METRICS_PORT}"),
    );
    text(&mut proxy.detect_local_mode, "ClusterCIDR");
    proxy.oom_score_adj.get_or_insert(-999);
    duration(
        &mut proxy.config_sync_period,
        GoDuration::from_secs(15 * 60),
    );

    let client = &mut proxy.client_connection;
    let qps = client.qps.filter(|qps| *qps != 0.0);
    client.qps = qps.or(Some(5.0));
    let burst = client.burst.filter(|burst| *burst != 0);
    client.burst = burst.or(Some(10));

    // An explicit zero means "as it is", so only what is absent is filled in.
    let conntrack = &mut proxy.conntrack;
    let established = &mut conntrack.tcp_established_timeout;
    established.get_or_insert(GoDuration::from_secs(DAY));
    let close_wait = &mut conntrack.tcp_close_wait_timeout;
    close_wait.get_or_insert(GoDuration::from_secs(HOUR));
    conntrack.max_per_core.get_or_insert(32 * 1024);
    conntrack.min.get_or_insert(128 * 1024);

    let addresses = &mut proxy.node_port_addresses;
    if addresses.as_ref().is_none_or(Vec::is_empty) {
        *addresses = Some(vec!["primary".to_owned()]);
    }
}

fn text(value: &mut Option<String>, default: &str) {
    if value.as_ref().is_none_or(String::is_empty) {
        *value = Some(default.to_owned());
    }
}

fn duration(value: &mut Option<GoDuration>, default: GoDuration) {
    if value.is_none_or(GoDuration::is_zero) {
        *value = Some(default);
    }
}
