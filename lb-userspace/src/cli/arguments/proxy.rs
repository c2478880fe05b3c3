//! kube-proxy's flags that mean something here: same names, same meaning.
//!
//! They have no defaults of their own: what is not typed is what `config` fills in. With `--config` the
//! file counts and these do not (nor do they for kube-proxy), but for the few that are not part of it.

use std::path::PathBuf;

use clap::Args;

use super::values::parse_bool;
use crate::config::{duration::GoDuration, kube_proxy::KubeProxyConfiguration, with_port};

/// Declares the flags and what of the configuration each is.
macro_rules! flags {
    ($(
        $heading:literal {
            $(
                $(#[$attribute:meta])*
                $field:ident: $type:ty => |$value:ident, $proxy:ident| $write:expr;
            )*
        }
    )*) => {
        /// kube-proxy's flags.
        #[derive(Debug, Default, Args)]
        pub struct ProxyArguments {
            /// A KubeProxyConfiguration (v1alpha1, YAML or JSON); it counts instead of the flags, but for
            /// --master, --hostname-override and those of the log
            #[arg(long, value_name = "FILE", help_heading = "Configuration")]
            pub config: Option<PathBuf>,
            /// Write the effective configuration to a file and exit
            #[arg(long, value_name = "FILE", help_heading = "Configuration")]
            pub write_config_to: Option<PathBuf>,
            /// Remove everything duolb left in the kernel and exit, as `duolb cleanup` does
            #[arg(
                long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
                default_missing_value = "true", value_parser = parse_bool,
                action = clap::ArgAction::Set, help_heading = "Configuration"
            )]
            pub cleanup: bool,
            /// Exit at once: there is nothing that would have to be done with more privileges
            #[arg(
                long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
                default_missing_value = "true", value_parser = parse_bool,
                action = clap::ArgAction::Set, hide_short_help = true, help_heading = "Configuration"
            )]
            pub init_only: bool,
            /// Address of the API server instead of the kubeconfig's
            #[arg(long, value_name = "URL", help_heading = "Where objects come from")]
            pub master: Option<String>,
            /// Name of this node; default: NODE_NAME of the environment, else the host's name
            #[arg(long, value_name = "NAME", help_heading = "Where objects come from")]
            pub hostname_override: Option<String>,
            $($(
                $(#[$attribute])*
                #[arg(long, help_heading = $heading)]
                pub $field: Option<$type>,
            )*)*
        }

        impl ProxyArguments {
            /// Writes what was typed into `proxy`; the names of the flags it came from.
            pub fn write_to(self, proxy: &mut KubeProxyConfiguration) -> Vec<String> {
                let mut typed = Vec::new();
                $($(
                    if let Some($value) = self.$field {
                        let $proxy = &mut *proxy;
                        $write;
                        typed.push(stringify!($field).replace('_', "-"));
                    }
                )*)*
                typed
            }
        }
    };
}

flags! {
    "Where objects come from" {
        /// Kubeconfig to reach the API server by; default: in-cluster
        #[arg(value_name = "FILE")]
        kubeconfig: String => |value, proxy| proxy.client_connection.kubeconfig = Some(value);
        /// Requests to the API server a second, on average [default: 5]
        #[arg(value_name = "N")]
        kube_api_qps: f32 => |value, proxy| proxy.client_connection.qps = Some(value);
        /// Requests to the API server at once [default: 10]
        #[arg(value_name = "N")]
        kube_api_burst: i32 => |value, proxy| proxy.client_connection.burst = Some(value);
        /// How often the maps are read back and compared with what they should hold [default: 15m]
        #[arg(value_name = "DURATION")]
        config_sync_period: GoDuration => |value, proxy| proxy.config_sync_period = Some(value);
    }
    "Health and metrics" {
        /// Where /healthz and /livez are served; empty or 0: nowhere [default: 0.0.0.0:10256]
        #[arg(value_name = "IP:PORT")]
        healthz_bind_address: String => |value, proxy| proxy.healthz_bind_address = Some(off(value));
        /// Where /metrics, /proxyMode and /configz are served; empty or 0: nowhere [default: 127.0.0.1:10249]
        #[arg(value_name = "IP:PORT")]
        metrics_bind_address: String => |value, proxy| proxy.metrics_bind_address = Some(off(value));
        /// Port of the health server, 0: none (old; --healthz-bind-address)
        #[arg(value_name = "PORT", hide_short_help = true)]
        healthz_port: u16 => |value, proxy| proxy.healthz_bind_address =
            Some(with_port(proxy.healthz_bind_address.as_deref(), "0.0.0.0:10256", value));
        /// Port of the metrics server, 0: none (old; --metrics-bind-address)
        #[arg(value_name = "PORT", hide_short_help = true)]
        metrics_port: u16 => |value, proxy| proxy.metrics_bind_address =
            Some(with_port(proxy.metrics_bind_address.as_deref(), "127.0.0.1:10249", value));
        /// End if an address cannot be listened on, instead of trying again
        #[arg(value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
        bind_address_hard_fail: bool => |value, proxy| proxy.bind_address_hard_fail = Some(value);
        /// Let other machines, too, change the log level (PUT /debug/flags/v)
        #[arg(value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
        profiling: bool => |value, proxy| proxy.enable_profiling = Some(value);
    }
    "Flows" {
        /// Silence after which an open TCP connection is forgotten; 0: as Linux has it, 5 days [default: 24h]
        #[arg(value_name = "DURATION")]
        conntrack_tcp_timeout_established: GoDuration => |value, proxy|
            proxy.conntrack.tcp_established_timeout = Some(value);
        /// Silence after which a TCP connection is forgotten that one side has closed; 0: as Linux has it, 1m
        /// [default: 1h]
        #[arg(value_name = "DURATION")]
        conntrack_tcp_timeout_close_wait: GoDuration => |value, proxy|
            proxy.conntrack.tcp_close_wait_timeout = Some(value);
        /// Silence after which a UDP flow is forgotten that was never answered; 0: as Linux has it, 30s [default: 0]
        #[arg(value_name = "DURATION")]
        conntrack_udp_timeout: GoDuration => |value, proxy|
            proxy.conntrack.udp_timeout = Some(value);
        /// Silence after which a UDP flow is forgotten that was answered; 0: as Linux has it, 2m [default: 0]
        #[arg(value_name = "DURATION")]
        conntrack_udp_timeout_stream: GoDuration => |value, proxy|
            proxy.conntrack.udp_stream_timeout = Some(value);
        /// Connections there is room for, for each CPU core; 0: as --conntrack-min says [default: 32768]
        #[arg(value_name = "N")]
        conntrack_max_per_core: i32 => |value, proxy| proxy.conntrack.max_per_core = Some(value);
        /// Connections there is room for, whatever the number of cores [default: 131072]
        #[arg(value_name = "N")]
        conntrack_min: i32 => |value, proxy| proxy.conntrack.min = Some(value);
    }
    "Traffic from outside and source NAT" {
        /// The node's primary address, instead of the Node object's
        #[arg(value_name = "IP")]
        bind_address: String => |value, proxy| proxy.bind_address = Some(value);
        /// Give all clients of cluster IPs an address of this node
        #[arg(value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_bool)]
        masquerade_all: bool => |value, proxy| proxy.nftables.masquerade_all = Some(value);
        /// How local traffic is recognised: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix
        #[arg(value_name = "MODE")]
        detect_local_mode: String => |value, proxy| proxy.detect_local_mode = Some(value);
        /// With BridgeInterface: the bridge of this node's pods
        #[arg(value_name = "DEVICE")]
        pod_bridge_interface: String => |value, proxy|
            proxy.detect_local.bridge_interface = Some(value);
        /// With InterfaceNamePrefix: how the names of this node's pods' devices begin
        #[arg(value_name = "PREFIX")]
        pod_interface_name_prefix: String => |value, proxy|
            proxy.detect_local.interface_name_prefix = Some(value);
        /// With ClusterCIDR: addresses of the cluster's pods, one range or one of each family
        #[arg(value_name = "CIDR[,CIDR]")]
        cluster_cidr: String => |value, proxy| proxy.cluster_cidr = Some(value);
        /// Addresses of node ports and of their health checks: ranges, or primary, localhost, all [default: primary]
        #[arg(value_name = "CIDR,...")]
        nodeport_addresses: String => |value, proxy| proxy.node_port_addresses =
            Some(value.split(',').filter(|entry| !entry.is_empty()).map(str::to_owned).collect());
    }
    "Process" {
        /// Score for the kernel's out-of-memory killer, -1000 to 1000 [default: -999]
        #[arg(value_name = "N", allow_negative_numbers = true)]
        oom_score_adj: i32 => |value, proxy| proxy.oom_score_adj = Some(value);
    }
}

/// An address as a flag: empty means none, which in the file is spelled `0`, empty being "not set" there.
fn off(address: String) -> String {
    if address.trim().is_empty() {
        "0".to_owned()
    } else {
        address
    }
}
