//! The lab itself, without any load balancer: whatever a test of duolb finds broken, it is not this.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use xtask::lab::{
    AgentOptions, Lab, Netns, Node, Objects, PORTS, Pod, ProbeError, Protocol, SERVICE_RANGES,
    probe::Probe,
};

/// Skips the test with a line if namespaces cannot be made.
macro_rules! needs_root {
    () => {
        if !xtask::lab::is_possible(module_path!()) {
            return Ok(());
        }
    };
}

/// One routed and one bridged node with two endpoints each.
fn small() -> Result<Lab> {
    let nodes = [Node::routed("node-1"), Node::bridged("node-2")];
    nodes
        .into_iter()
        .fold(Lab::builder(), |lab, node| lab.node(node.endpoints(2)))
        .build()
}

fn sockets(pod: &Pod, port: u16) -> [SocketAddr; 2] {
    pod.addresses.both().map(|ip| SocketAddr::new(ip, port))
}

/// Names of this lab's namespaces that exist.
fn left(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.starts_with(&format!("{prefix}-")))
        .collect()
}

#[test]
fn every_client_reaches_every_endpoint_directly() -> Result<()> {
    needs_root!();
    let start = Instant::now();
    let lab = Lab::standard()?;
    let took = start.elapsed();
    assert_eq!(
        (
            lab.nodes().count(),
            lab.pods().count(),
            lab.clients().count()
        ),
        (3, 13, 3)
    );
    let from: Vec<(&Netns, [IpAddr; 2])> = lab
        .clients()
        .map(|pod| (&pod.netns, pod.addresses.both()))
        .chain(
            lab.nodes()
                .chain([lab.outside()])
                .map(|host| (&host.netns, host.addresses.both())),
        )
        .collect();
    let mut probes = 0;
    for (netns, own) in from {
        for pod in lab.pods().filter(|pod| pod.endpoint.is_some()) {
            for (port, protocol) in PORTS
                .iter()
                .flat_map(|port| Protocol::BOTH.map(|p| (*port, p)))
            {
                for to in sockets(pod, port) {
                    let answer = lab.probe(netns, protocol, to)?;
                    assert_eq!(answer.endpoint, pod.name);
                    // A bridged node reaches its own pods from the bridge's address.
                    let seen = answer.client.ip();
                    let bridge = ["10.244.2.1", "fd00:10:244:2::1"].map(|ip| ip.parse().unwrap());
                    assert!(
                        own.contains(&seen) || bridge.contains(&seen),
                        "{to} saw {seen}"
                    );
                    probes += 1;
                }
            }
        }
    }
    assert_eq!(probes, 7 * 10 * 6 * 2);
    eprintln!(
        "the lab took {took:?}, the matrix {:?}",
        start.elapsed() - took
    );
    for pod in lab.pods() {
        assert_eq!(
            lab.checksum_errors(pod)?,
            Default::default(),
            "{}",
            pod.name
        );
    }
    Ok(())
}

#[test]
fn nothing_is_left_behind_after_a_drop() -> Result<()> {
    needs_root!();
    let lab = small()?;
    let (prefix, dir) = (lab.prefix().to_owned(), lab.dir().to_owned());
    assert_eq!(
        left(&prefix).len(),
        4 + 6,
        "fabric, outside, two nodes, six pods"
    );
    drop(lab);
    assert_eq!(left(&prefix), Vec::<String>::new());
    assert!(!dir.exists());
    Ok(())
}

#[test]
fn nothing_is_left_behind_after_a_panic() -> Result<()> {
    needs_root!();
    let prefix = std::sync::Mutex::new(String::new());
    let panic = std::panic::catch_unwind(|| {
        let lab = small().unwrap();
        prefix.lock().unwrap().push_str(lab.prefix());
        lab.in_ns(lab.pod("client-1"), || {
            panic!("on purpose, inside a namespace")
        })
        .unwrap();
    });
    assert!(panic.is_err());
    let prefix = prefix.into_inner().unwrap_or_default();
    let prefix = prefix.as_str();
    assert!(prefix.starts_with("duolb-"));
    assert_eq!(left(prefix), Vec::<String>::new());
    Ok(())
}

#[test]
fn what_a_killed_process_left_is_swept() -> Result<()> {
    needs_root!();
    // A process id above the kernel's limit: no one's.
    let stale = "duolb-99999999-0-node-1";
    assert!(
        std::process::Command::new("/usr/bin/env")
            .args(["ip", "netns", "add", stale])
            .status()?
            .success()
    );
    let _lab = Lab::builder()
        .node(Node::routed("node-1").endpoints(0))
        .build()?;
    assert!(!Path::new("/run/netns").join(stale).exists());
    Ok(())
}

#[test]
fn ten_megabytes_come_back_unchanged() -> Result<()> {
    needs_root!();
    let lab = small()?;
    for pod in ["pod-1-10", "pod-2-11"] {
        for to in sockets(lab.pod(pod), 8080) {
            Probe::new(Protocol::Tcp, to)
                .length(10 << 20)
                .run_in(&lab.pod("client-1").netns)?;
        }
    }
    Ok(())
}

#[test]
fn datagrams_larger_than_the_mtu_come_back_unchanged() -> Result<()> {
    needs_root!();
    let lab = small()?;
    for to in sockets(lab.pod("pod-2-10"), 5353) {
        Probe::new(Protocol::Udp, to)
            .length(9000)
            .run_in(&lab.pod("client-1").netns)?;
    }
    Ok(())
}

#[test]
fn a_thousand_connections_at_once_are_served() -> Result<()> {
    needs_root!();
    let lab = small()?;
    let [to, _] = sockets(lab.pod("pod-2-10"), 8080);
    let answered = lab.in_ns(lab.pod("client-1"), || -> std::io::Result<usize> {
        let open: std::io::Result<Vec<_>> = (0..1000)
            .map(|_| std::net::TcpStream::connect(to))
            .collect();
        let mut answered = 0;
        for mut stream in open? {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            std::io::Read::read_exact(&mut stream, &mut [0; 8])?;
            answered += 1;
        }
        Ok(answered)
    })??;
    assert_eq!(answered, 1000);
    Ok(())
}

#[test]
fn a_smaller_hop_in_the_middle_is_reported_to_the_sender() -> Result<()> {
    needs_root!();
    let lab = small()?;
    lab.set_path_mtu("node-2", Some(1300))?;
    let client = lab.pod("client-1");
    for to in sockets(lab.pod("pod-2-10"), 8080) {
        Probe::new(Protocol::Tcp, to)
            .length(1 << 20)
            .run_in(&client.netns)?;
        let route = lab.exec(client, &["ip", "route", "get", &to.ip().to_string()])?;
        assert!(
            route.contains("mtu 1300"),
            "the client learnt nothing: {route}"
        );
    }
    Ok(())
}

#[test]
fn checksums_are_filled_in_and_checked_where_offloads_are_off() -> Result<()> {
    needs_root!();
    let lab = small()?;
    let client = lab.pod("client-1");
    lab.offload(client, "eth0", &["tx", "off"])?;
    lab.offload(lab.node("node-1"), "eth0", &["tx", "off", "gro", "off"])?;
    let pod = lab.pod("pod-2-10");
    for (to, protocol) in sockets(pod, 8081)
        .into_iter()
        .flat_map(|to| Protocol::BOTH.map(|p| (to, p)))
    {
        lab.probe(client, protocol, to)?;
    }
    assert_eq!(lab.checksum_errors(pod)?, Default::default());
    // And an error is seen: a datagram whose checksum the network spoils.
    let spoil = "table netdev spoil {
        chain in {
            type filter hook ingress device eth0 priority 0;
            udp dport 8081 udp checksum set 0x1234
        }
    }";
    lab.nft(pod, spoil)?;
    let mut probe = Probe::new(Protocol::Udp, sockets(pod, 8081)[0]).attempts(1);
    probe.timeout = Duration::from_millis(200);
    let error: ProbeError = probe.run_in(&client.netns).unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(lab.checksum_errors(pod)?.udp, 1);
    Ok(())
}

#[test]
fn pods_come_and_go_while_the_lab_runs() -> Result<()> {
    needs_root!();
    let mut lab = small()?;
    for node in ["node-1", "node-2"] {
        let name = lab.add_pod(node, 20, true)?.name.clone();
        for to in sockets(lab.pod(&name), 8080) {
            assert_eq!(lab.probe(lab.outside(), Protocol::Tcp, to)?.endpoint, name);
        }
        let [to, _] = sockets(lab.pod(&name), 8080);
        lab.remove_pod(&name)?;
        let mut probe = Probe::new(Protocol::Tcp, to);
        probe.timeout = Duration::from_millis(300);
        assert!(probe.run_in(&lab.outside().netns).is_err());
        let again = lab.add_pod(node, 20, true)?.name.clone();
        lab.probe(
            lab.pod("client-1"),
            Protocol::Udp,
            sockets(lab.pod(&again), 5353)[1],
        )?;
    }
    Ok(())
}

/// Speaks as duolb does to the lab, and logs where it runs.
const STAND_IN: &str = r#"#!/bin/sh
case "$1" in
    agent) trap 'exit 0' TERM; ip -o -4 address show eth0; while :; do sleep 0.05; done ;;
    status) echo '{"agent":{"synced":true}}' ;;
    *) exit 3 ;;
esac
"#;

#[test]
fn agents_run_in_their_nodes_and_end_with_the_lab() -> Result<()> {
    needs_root!();
    let mut lab = small()?;
    let duolb = lab.dir().join("duolb");
    fs::write(&duolb, STAND_IN)?;
    fs::set_permissions(&duolb, fs::Permissions::from_mode(0o755))?;
    let objects = Objects::Manifests(lab.dir().to_owned());
    lab.start_agents(&AgentOptions {
        duolb,
        objects,
        service_ranges: SERVICE_RANGES,
        args: Vec::new(),
    })?;
    assert!(lab.wait_until(Duration::from_secs(5), || {
        Ok(lab.agent("node-1").log().contains("172.18.0.1/32")
            && lab.agent("node-2").log().contains("172.18.0.2/32"))
    })?);
    let alive =
        |pid: Option<u32>| pid.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists());
    let agent = lab.agent_mut("node-1");
    let first = agent.pid();
    agent.kill();
    assert!(!agent.is_running() && !alive(first));
    agent.start()?;
    agent.wait_ready()?;
    // The shell says where it is once it knows what to do about a signal.
    assert!(lab.wait_until(Duration::from_secs(5), || {
        Ok(lab.agent("node-1").log().matches("172.18.0.1/32").count() == 2)
    })?);
    let agent = lab.agent_mut("node-1");
    agent.stop()?;
    assert!(agent.duolb(&["unknown"]).is_err());
    agent.start()?;
    let pids = ["node-1", "node-2"].map(|node| lab.agent(node).pid());
    assert!(pids.iter().all(|pid| alive(*pid)));
    drop(lab);
    assert!(!pids.iter().any(|pid| alive(*pid)));
    Ok(())
}

#[test]
fn labs_live_side_by_side() -> Result<()> {
    needs_root!();
    let labs = [small()?, small()?];
    let prefixes: BTreeSet<_> = labs.iter().map(|lab| lab.prefix().to_owned()).collect();
    assert_eq!(prefixes.len(), 2);
    for lab in &labs {
        lab.probe(
            lab.pod("client-2"),
            Protocol::Tcp,
            sockets(lab.pod("pod-1-10"), 8080)[0],
        )?;
    }
    Ok(())
}

#[test]
fn a_refused_connection_is_told_from_a_lost_one() -> Result<()> {
    needs_root!();
    let lab = small()?;
    let to = SocketAddr::new(lab.pod("pod-1-10").addresses.v6.into(), 9);
    let error = lab
        .probe(lab.pod("client-2"), Protocol::Tcp, to)
        .unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::ConnectionRefused);
    let udp = Probe::new(Protocol::Udp, to)
        .connected()
        .run_in(&lab.pod("client-2").netns)
        .unwrap_err();
    assert_eq!(udp.source.kind(), std::io::ErrorKind::ConnectionRefused);
    Ok(())
}
