//! `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1) with every key that Kubernetes 1.36 knows.
//!
//! The spelling is the API's (staging/src/k8s.io/kube-proxy/config/v1alpha1/types.go). Every value may be absent
//! or null, as in Go, where both are the zero value and that means "not set": what kubeadm writes is
//! full of them. Flags are written into the same structure (`cli::arguments`), defaults fill it
//! (`defaults`), `/configz` shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::duration::GoDuration;

/// Declares structs of optional values and of further structs, in the API's spelling.
macro_rules! objects {
    ($($(#[$doc:meta])* $name:ident {
        $($key:literal $field:ident: $type:ty,)*
        $(; $($child_key:literal $child:ident: $child_type:ty,)*)?
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(default)]
        pub struct $name {
            $(
                #[doc = concat!("`", $key, "`")]
                #[serde(rename = $key, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
            $($(
                #[doc = concat!("`", $child_key, "`")]
                #[serde(
                    rename = $child_key,
                    deserialize_with = "null_is_default",
                    skip_serializing_if = "is_default"
                )]
                pub $child: $child_type,
            )*)?
        }
    )*};
}

objects! {
    /// The configuration of a kube-proxy.
    KubeProxyConfiguration {
        "apiVersion" api_version: String,
        "kind" kind: String,
        "featureGates" feature_gates: BTreeMap<String, bool>,
        "hostnameOverride" hostname_override: String,
        "bindAddress" bind_address: String,
        "healthzBindAddress" healthz_bind_address: String,
        "metricsBindAddress" metrics_bind_address: String,
        "bindAddressHardFail" bind_address_hard_fail: bool,
        "enableProfiling" enable_profiling: bool,
        "showHiddenMetricsForVersion" show_hidden_metrics_for_version: String,
        "mode" mode: String,
        "detectLocalMode" detect_local_mode: String,
        "clusterCIDR" cluster_cidr: String,
        "nodePortAddresses" node_port_addresses: Vec<String>,
        "oomScoreAdj" oom_score_adj: i32,
        "configSyncPeriod" config_sync_period: GoDuration,
        "portRange" port_range: String,
        "windowsRunAsService" windows_run_as_service: bool,
        ;
        "clientConnection" client_connection: ClientConnection,
        "logging" logging: Logging,
        "iptables" iptables: IpTables,
        "ipvs" ipvs: Ipvs,
        "nftables" nftables: NfTables,
        "winkernel" winkernel: Winkernel,
        "detectLocal" detect_local: DetectLocal,
        "conntrack" conntrack: Conntrack,
    }
    /// How the API server is reached.
    ClientConnection {
        "kubeconfig" kubeconfig: String,
        "acceptContentTypes" accept_content_types: String,
        "contentType" content_type: String,
        "qps" qps: f32,
        "burst" burst: i32,
    }
    /// What is logged (component-base `LoggingConfiguration`).
    Logging {
        "format" format: String,
        // A number, or a duration as text.
        "flushFrequency" flush_frequency: serde_json::Value,
        "verbosity" verbosity: u32,
        "vmodule" vmodule: Vec<VModule>,
        // Formats' own options: text and json, each with splitStream and infoBufferSize.
        "options" options: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
    }
    /// Verbosity of some files.
    VModule {
        "filePattern" file_pattern: String,
        "verbosity" verbosity: u32,
    }
    /// Mode iptables.
    IpTables {
        "masqueradeBit" masquerade_bit: i32,
        "masqueradeAll" masquerade_all: bool,
        "localhostNodePorts" localhost_node_ports: bool,
        "snatNodeInternalIP" snat_node_internal_ip: bool,
        "syncPeriod" sync_period: GoDuration,
        "minSyncPeriod" min_sync_period: GoDuration,
    }
    /// Mode ipvs.
    Ipvs {
        "syncPeriod" sync_period: GoDuration,
        "minSyncPeriod" min_sync_period: GoDuration,
        "scheduler" scheduler: String,
        "excludeCIDRs" exclude_cidrs: Vec<String>,
        "strictARP" strict_arp: bool,
        "tcpTimeout" tcp_timeout: GoDuration,
        "tcpFinTimeout" tcp_fin_timeout: GoDuration,
        "udpTimeout" udp_timeout: GoDuration,
    }
    /// Mode nftables.
    NfTables {
        "masqueradeBit" masquerade_bit: i32,
        "masqueradeAll" masquerade_all: bool,
        "syncPeriod" sync_period: GoDuration,
        "minSyncPeriod" min_sync_period: GoDuration,
    }
    /// Mode kernelspace, on Windows.
    Winkernel {
        "networkName" network_name: String,
        "sourceVip" source_vip: String,
        "enableDSR" enable_dsr: bool,
        "rootHnsEndpointName" root_hns_endpoint_name: String,
        "forwardHealthCheckVip" forward_health_check_vip: bool,
    }
    /// How local traffic is told from other traffic.
    DetectLocal {
        "bridgeInterface" bridge_interface: String,
        "interfaceNamePrefix" interface_name_prefix: String,
    }
    /// Sizes and timeouts of connection tracking.
    Conntrack {
        "maxPerCore" max_per_core: i32,
        "min" min: i32,
        "tcpEstablishedTimeout" tcp_established_timeout: GoDuration,
        "tcpCloseWaitTimeout" tcp_close_wait_timeout: GoDuration,
        "tcpBeLiberal" tcp_be_liberal: bool,
        "udpTimeout" udp_timeout: GoDuration,
        "udpStreamTimeout" udp_stream_timeout: GoDuration,
    }
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
