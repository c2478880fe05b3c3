//! What of a kube-proxy's configuration has no meaning here, and why.
//!
//! Never an error: a file that starts kube-proxy starts this agent. Only what is really set is told; zero
//! values are what kubeadm writes for "not set".

use serde_json::Value;

use super::kube_proxy::KubeProxyConfiguration;

/// Keys (with all below them) and why they are passed over.
const MEANINGLESS: &[(&str, &str)] = &[
    ("featureGates", "there are no feature gates"),
    ("showHiddenMetricsForVersion", "no metric is hidden"),
    ("mode", "packets are translated by eBPF whatever the mode"),
    ("iptables.masqueradeBit", NO_RULES),
    ("iptables.localhostNodePorts", NO_RULES),
    ("iptables.snatNodeInternalIP", NO_RULES),
    ("iptables.syncPeriod", AT_ONCE),
    ("iptables.minSyncPeriod", AT_ONCE),
    ("nftables.masqueradeBit", NO_RULES),
    ("nftables.syncPeriod", AT_ONCE),
    ("nftables.minSyncPeriod", AT_ONCE),
    ("iptables.masqueradeAll", NOT_YET),
    ("nftables.masqueradeAll", NOT_YET),
    ("clusterCIDR", NOT_YET),
    ("detectLocalMode", NOT_YET),
    ("detectLocal", NOT_YET),
    ("nodePortAddresses", NOT_YET),
    ("ipvs", "ipvs is not used"),
    ("winkernel", "it is for Windows"),
    ("windowsRunAsService", "it is for Windows"),
    ("portRange", "it was for the userspace mode"),
    ("clientConnection.acceptContentTypes", JSON),
    ("clientConnection.contentType", JSON),
    ("conntrack.maxPerCore", OWN_FLOWS),
    ("conntrack.min", OWN_FLOWS),
    (
        "conntrack.tcpBeLiberal",
        "flows are tracked without looking at TCP windows",
    ),
    ("conntrack.tcpCloseWaitTimeout", NO_STATES),
    ("conntrack.udpTimeout", NO_STATES),
    ("logging.flushFrequency", UNBUFFERED),
    ("logging.options", UNBUFFERED),
    ("logging.vmodule", "--log-level takes target=level"),
];

/// These are kept and checked, so that a later version can act on them.
const NOT_YET: &str = "no effect yet: neither source NAT nor traffic from outside is served so far";
const NO_RULES: &str = "there are no netfilter rules";
const AT_ONCE: &str = "changes are written at once";
const JSON: &str = "the API server is spoken to in JSON";
const OWN_FLOWS: &str = "flows have a table of their own, see --max-flows";
const NO_STATES: &str = "a flow has one timeout for all its states";
const UNBUFFERED: &str = "the log is not buffered";

/// The keys of `proxy` that are set and mean nothing here, each with the reason.
pub fn find_meaningless(proxy: &KubeProxyConfiguration) -> Vec<(&'static str, &'static str)> {
    let tree = serde_json::to_value(proxy).unwrap_or_default();
    let is_set = |key: &str| {
        let found = key.split('.').try_fold(&tree, |tree, part| tree.get(part));
        found.is_some_and(|value| !is_zero(value))
    };
    MEANINGLESS
        .iter()
        .filter(|(key, _)| is_set(key))
        .copied()
        .collect()
}

/// Whether a value is one that Go takes for "not set".
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => matches!(value.as_str(), "" | "0" | "0s"),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.values().all(is_zero),
    }
}
