//! A Service that changes its families while it runs, and what `duolb service get` tells of it.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use xtask::lab::{AgentOptions, Lab, Node, Protocol};

use crate::{eventually, manifests::Directory, needs_root};

/// Service `web` with this in its spec, and an endpoint of each family.
fn write(directory: &Directory, spec: &str) -> Result<()> {
    let slice = |family: &str, address: &str| {
        format!(
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-{}, labels: {{kubernetes.io/service-name: web}}}}
addressType: {family}
ports: [{{name: \"\", port: 8080}}]
endpoints: [{{addresses: [\"{address}\"]}}]
",
            family.to_lowercase()
        )
    };
    let text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80}}]
{spec}{}{}",
        slice("IPv4", "10.244.1.10"),
        slice("IPv6", "fd00:10:244:1::10")
    );
    directory.write("web.yaml", &text).map(drop)
}

/// What `duolb service get NAME` says.
fn get(lab: &Lab, name: &str) -> Result<Value> {
    let text = lab
        .agent("node-1")
        .duolb(&["service", "get", name, "-o", "json"])?;
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn a_service_goes_from_single_to_dual_stack_and_back() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    write(&directory, "")?;
    let mut lab = Lab::builder()
        .node(Node::routed("node-1").endpoints(1))
        .build()?;
    lab.start_agents(&AgentOptions::from_env(directory.path())?)?;
    let single = get(&lab, "web")?;
    ensure!(single["ipFamilyPolicy"] == "SingleStack", "{single}");
    ensure!(single["ipFamilies"] == json!(["IPv4"]), "{single}");

    write(&directory, "  ipFamilyPolicy: PreferDualStack\n")?;
    let families = |count: usize| {
        let lab = &lab;
        move || {
            get(lab, "web").is_ok_and(|now| {
                now["clusterIPs"]
                    .as_array()
                    .is_some_and(|ips| ips.len() == count)
            })
        }
    };
    eventually(&lab, 1, "both families are served", families(2))?;
    let dual = get(&lab, "web")?;
    ensure!(dual["ipFamilies"] == json!(["IPv4", "IPv6"]), "{dual}");
    ensure!(
        dual["clusterIPs"][0] == single["clusterIPs"][0],
        "the first address changed: {dual}"
    );
    for ip in dual["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        lab.probe(
            lab.pod("client-1"),
            Protocol::Tcp,
            (ip.parse::<std::net::IpAddr>()?, 80).into(),
        )?;
    }

    // The primary family is immutable: said so, and nothing changes.
    write(
        &directory,
        "  ipFamilyPolicy: PreferDualStack\n  ipFamilies: [IPv6, IPv4]\n",
    )?;
    let refused = || lab.agent("node-1").log().contains("ipFamilies");
    eventually(&lab, 2, "the refusal is logged", refused)?;
    ensure!(
        get(&lab, "web")?["clusterIPs"] == dual["clusterIPs"],
        "the refused change took effect"
    );

    write(&directory, "  ipFamilyPolicy: SingleStack\n")?;
    eventually(&lab, 1, "one family is served", families(1))?;
    let back = get(&lab, "web")?;
    ensure!(back["clusterIPs"] == single["clusterIPs"], "{back}");
    Ok(())
}

#[test]
fn every_example_is_filled_in_as_the_api_server_would() -> Result<()> {
    needs_root!();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut lab = Lab::builder()
        .node(Node::routed("node-1").endpoints(0))
        .build()?;
    lab.start_agents(&AgentOptions::from_env(examples)?)?;
    let (v4, v6) = (json!(["IPv4"]), json!(["IPv6"]));
    let (both, reverse) = (json!(["IPv4", "IPv6"]), json!(["IPv6", "IPv4"]));
    for (name, kind, policy, families) in [
        ("single-stack-ipv4", "ClusterIP", json!("SingleStack"), &v4),
        ("single-stack-ipv6", "ClusterIP", json!("SingleStack"), &v6),
        (
            "prefer-dual-stack",
            "ClusterIP",
            json!("PreferDualStack"),
            &both,
        ),
        (
            "require-dual-stack",
            "ClusterIP",
            json!("RequireDualStack"),
            &both,
        ),
        (
            "ipv6-first",
            "ClusterIP",
            json!("PreferDualStack"),
            &reverse,
        ),
        (
            "headless-without-selector",
            "ClusterIP",
            json!("RequireDualStack"),
            &both,
        ),
        ("external-name", "ExternalName", Value::Null, &json!([])),
    ] {
        let service = get(&lab, name)?;
        let filled = (
            &service["type"],
            &service["ipFamilyPolicy"],
            &service["ipFamilies"],
        );
        ensure!(
            filled == (&json!(kind), &policy, families),
            "{name}: {service}"
        );
    }
    ensure!(get(&lab, "headless-without-selector")?["clusterIPs"] == json!(["None"]));
    // Reading commands know three forms, and need no agent.
    lab.agent_mut("node-1").stop()?;
    for command in [
        &["status"][..],
        &["service", "list"],
        &["service", "get", "ipv6-first"],
    ] {
        for (form, sign) in [("table", "\n"), ("json", "\""), ("yaml", ": ")] {
            let text = lab
                .agent("node-1")
                .duolb(&[command, &["-o", form]].concat())?;
            ensure!(text.contains(sign), "{command:?} -o {form}: {text}");
        }
    }
    Ok(())
}

#[test]
fn a_pod_that_appears_is_served_at_once_and_the_programs_log_when_asked() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    write(&directory, "  clusterIP: 10.96.0.80\n")?;
    for node in [Node::routed("node-1"), Node::bridged("node-1")] {
        let mut lab = Lab::builder().node(node.endpoints(1)).build()?;
        let mut options = AgentOptions::from_env(directory.path())?;
        options.args = vec!["--datapath-log".into()];
        lab.start_agents(&options)?;
        let name = lab.add_pod("node-1", 50, false)?.name.clone();
        let to = "10.96.0.80:80".parse()?;
        let reach = || lab.probe(lab.pod(&name), Protocol::Tcp, to).is_ok();
        eventually(&lab, 1, "the new pod reaches the service", reach)?;
        let logged = || lab.agent("node-1").log().contains("new flow");
        eventually(&lab, 1, "the new flow is logged", logged)?;
        lab.remove_pod(&name)?;
        let devices = |count: usize| {
            let text = lab
                .agent("node-1")
                .duolb(&["status", "-o", "json"])
                .unwrap_or_default();
            let status: Value = serde_json::from_str(&text).unwrap_or_default();
            status["devices"]
                .as_array()
                .is_some_and(|devices| devices.len() == count)
        };
        eventually(&lab, 1, "the device is forgotten", || devices(3))?;
        ensure!(
            lab.agent("node-1").is_running(),
            "the agent ended with the device"
        );
    }
    Ok(())
}
