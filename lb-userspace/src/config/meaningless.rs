//! What of a kube-proxy's configuration has no meaning here, and why.
//!
//! Never an error: a file that starts kube-proxy starts this agent. Only what is really set is told; zero
//! values are what kubeadm writes for "not set".

use serde_json::Value;

use super::kube_proxy::KubeProxyConfiguration;

/// Something that is set and means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaningless {
    /// Its key in the file, with those above it.
    pub key: &'static str,
    /// Its flag, without dashes; empty where flags that mean nothing are told by themselves.
    pub flag: &'static str,
    /// Why it means nothing.
    pub why: &'static str,
}

/// Keys (with all below them), their flags, and why they are passed over.
const MEANINGLESS: &[(&str, &str, &str)] = &[
    ("featureGates", "", "there are no feature gates"),
    ("showHiddenMetricsForVersion", "", "no metric is hidden"),
    (
        "mode",
        "",
        "packets are translated by eBPF whatever the mode",
    ),
    ("iptables.masqueradeBit", "", NO_RULES),
    ("iptables.localhostNodePorts", "", NO_RULES),
    ("iptables.snatNodeInternalIP", "", NO_RULES),
    ("iptables.syncPeriod", "", AT_ONCE),
    ("iptables.minSyncPeriod", "", AT_ONCE),
    ("nftables.masqueradeBit", "", NO_RULES),
    ("nftables.syncPeriod", "", AT_ONCE),
    ("nftables.minSyncPeriod", "", AT_ONCE),
    ("ipvs", "", "ipvs is not used"),
    ("winkernel", "", "it is for Windows"),
    ("windowsRunAsService", "", "it is for Windows"),
    ("portRange", "", "it was for the userspace mode"),
    ("clientConnection.acceptContentTypes", "", JSON),
    ("clientConnection.contentType", "", JSON),
    (
        "conntrack.tcpBeLiberal",
        "",
        "flows are tracked without looking at TCP windows",
    ),
    ("logging.flushFrequency", "", UNBUFFERED),
    ("logging.options", "", UNBUFFERED),
    ("logging.vmodule", "", "--log-level takes target=level"),
];

const NO_RULES: &str = "there are no netfilter rules";
const AT_ONCE: &str = "changes are written at once";
const JSON: &str = "the API server is spoken to in JSON";
const UNBUFFERED: &str = "the log is not buffered";

/// What of `proxy` is set and means nothing here.
pub fn find_meaningless(proxy: &KubeProxyConfiguration) -> Vec<Meaningless> {
    let tree = serde_json::to_value(proxy).unwrap_or_default();
    let is_set = |key: &str| {
        let found = key.split('.').try_fold(&tree, |tree, part| tree.get(part));
        found.is_some_and(|value| !is_zero(value))
    };
    MEANINGLESS
        .iter()
        .filter(|(key, ..)| is_set(key))
        .map(|&(key, flag, why)| Meaningless { key, flag, why })
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
