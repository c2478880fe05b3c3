//! The manifests in deploy/: what kustomize and the chart make is the same thing, and little of it.
//!
//! Needs `kubectl` (its kustomize) and `helm` to make them; where one is missing, the test says so and what
//! can be read without it is still checked.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

use serde_json::{Value, json};
use xtask::workspace::{find_program, root};

fn deploy() -> PathBuf {
    root().join("deploy")
}

/// The YAML documents that a command prints; `None`, saying so, if there is no such program.
fn made_by(program: &str, args: &[&str]) -> Option<Vec<Value>> {
    let Some(program) = find_program(program) else {
        eprintln!("skipped: no {program} here to make the manifests with");
        return None;
    };
    let output = Command::new(program)
        .args(args)
        .current_dir(deploy())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    Some(documents(&String::from_utf8(output.stdout).unwrap()))
}

fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|text| text.strip_prefix("---\n").unwrap_or(text))
        .filter(|text| {
            text.lines()
                .any(|line| !line.starts_with('#') && !line.is_empty())
        })
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}")))
        .collect()
}

fn kustomized(directory: &str) -> Option<Vec<Value>> {
    made_by("kubectl", &["kustomize", directory])
}

fn chart(settings: &[&str]) -> Option<Vec<Value>> {
    let args = [
        "template",
        "duolb",
        "helm/duolb",
        "--namespace",
        "kube-system",
    ];
    made_by("helm", &[&args, settings].concat())
}

fn read(file: &str) -> Vec<Value> {
    documents(&std::fs::read_to_string(deploy().join(file)).unwrap())
}

fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut of_kind = objects.iter().filter(|object| object["kind"] == kind);
    let found = of_kind.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(of_kind.next().is_none(), "more than one {kind}");
    found
}

fn pod(objects: &[Value]) -> &Value {
    &find(objects, "DaemonSet")["spec"]["template"]["spec"]
}

#[test]
fn the_container_has_three_capabilities_and_nothing_to_write_to() {
    let objects = read("base/daemon-set.yaml");
    let context = &pod(&objects)["containers"][0]["securityContext"];
    let capabilities = json!({"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON"]});
    assert_eq!(context["capabilities"], capabilities);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["privileged"], false);
    assert_eq!(context["allowPrivilegeEscalation"], false);
}

#[test]
fn the_probes_ask_livez_and_not_whether_the_node_is_about_to_leave() {
    let objects = read("base/daemon-set.yaml");
    let container = &pod(&objects)["containers"][0];
    for probe in ["startupProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["path"], "/livez", "{probe}");
    }
    assert_eq!(container["readinessProbe"], Value::Null);
}

#[test]
fn no_secret_no_pod_and_no_wildcard_can_be_read() {
    let objects = read("base/rbac.yaml");
    let rules = find(&objects, "ClusterRole")["rules"].as_array().unwrap();
    let words = |field| {
        let words = rules
            .iter()
            .flat_map(move |rule| rule[field].as_array().unwrap());
        words
            .map(|word| word.as_str().unwrap())
            .collect::<BTreeSet<_>>()
    };
    let resources = [
        "endpointslices",
        "events",
        "nodes",
        "servicecidrs",
        "services",
    ];
    assert_eq!(words("resources"), BTreeSet::from(resources));
    assert_eq!(
        words("verbs"),
        ["create", "list", "patch", "update", "watch"].into()
    );
}

#[test]
fn the_chart_makes_what_the_base_says() {
    let (Some(base), Some(chart)) = (
        kustomized("base"),
        chart(&["--set", "apiServer.host=192.0.2.1"]),
    ) else {
        return;
    };
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        for part in ["rules", "roleRef", "subjects"] {
            assert_eq!(find(&base, kind)[part], find(&chart, kind)[part], "{kind}");
        }
    }
    let config = |objects: &[Value]| {
        let text = &find(objects, "ConfigMap")["data"]["config.yaml"];
        serde_saphyr::from_str::<Value>(text.as_str().unwrap()).unwrap()
    };
    assert_eq!(config(&base), config(&chart));
    let (base, chart) = (pod(&base), pod(&chart));
    for field in [
        "hostNetwork",
        "serviceAccountName",
        "priorityClassName",
        "tolerations",
        "nodeSelector",
        "volumes",
        "terminationGracePeriodSeconds",
    ] {
        assert_eq!(base[field], chart[field], "{field}");
    }
    let (base, chart) = (&base["containers"][0], &chart["containers"][0]);
    for field in [
        "args",
        "image",
        "ports",
        "startupProbe",
        "livenessProbe",
        "resources",
        "securityContext",
        "volumeMounts",
    ] {
        assert_eq!(base[field], chart[field], "{field}");
    }
    // The one difference: the base has the API server's address from a ConfigMap.
    assert_eq!(base["env"][0], chart["env"][0]);
    assert_eq!(
        base["envFrom"][0]["configMapRef"]["name"],
        "duolb-api-server"
    );
    assert_eq!(chart["env"][1]["value"], "192.0.2.1");
}

#[test]
fn in_a_kubeadm_cluster_the_api_server_is_where_kube_proxy_had_it() {
    let from_chart = chart(&["--set", "apiServer.fromKubeProxy=true"]);
    for objects in [kustomized("kubeadm"), from_chart].into_iter().flatten() {
        let config = &find(&objects, "ConfigMap")["data"]["config.yaml"];
        let config: Value = serde_saphyr::from_str(config.as_str().unwrap()).unwrap();
        let kubeconfig = "/var/lib/kube-proxy/kubeconfig.conf";
        assert_eq!(config["clientConnection"]["kubeconfig"], kubeconfig);
        let pod = pod(&objects);
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(
            volumes.contains(&json!({"name": "kube-proxy", "configMap": {"name": "kube-proxy"}}))
        );
        assert_eq!(pod["containers"][0]["envFrom"], Value::Null);
    }
}

#[test]
fn the_chart_asks_for_the_api_servers_address() {
    let Some(helm) = find_program("helm") else {
        eprintln!("skipped: no helm here to make the manifests with");
        return;
    };
    let output = Command::new(helm)
        .args(["template", "duolb", "helm/duolb"])
        .current_dir(deploy())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("apiServer.host"),
        "{error}"
    );
}

#[test]
fn the_service_monitor_is_off_unless_asked_for() {
    let kinds = |objects: &[Value]| -> BTreeSet<String> {
        let kinds = objects
            .iter()
            .map(|object| object["kind"].as_str().unwrap());
        kinds.map(str::to_owned).collect()
    };
    let host = ["--set", "apiServer.host=192.0.2.1"];
    for objects in [kustomized("base"), chart(&host)].into_iter().flatten() {
        assert!(!kinds(&objects).contains("ServiceMonitor"));
    }
    if let Some(objects) = chart(&[&host[..], &["--set", "serviceMonitor.enabled=true"]].concat()) {
        assert!(kinds(&objects).contains("ServiceMonitor"));
    }
}
