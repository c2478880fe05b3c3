//! What goes wrong around agents.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Director;
use crate::{
    lab::interrupt,
    soak::{
        history::{FLUSHED, Whose},
        judge::PASSING,
        stage::NODES,
        stray,
    },
};

/// How long a flow may suffer from packets that were lost: TCP waits twice as long each time.
const AFTER: Duration = Duration::from_secs(20);
/// How long agents may take to notice.
const PATIENCE: Duration = Duration::from_secs(300);

/// Text that is no manifest, and a Service that no API server would take: said, and everything else goes on.
pub(super) fn manifests(director: &mut Director) -> Result<()> {
    let service = |spec: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: bad}}\nspec: {spec}\n")
    };
    let texts = [
        "kind: [\n".to_owned(),
        service("{clusterIP: 10.96.1.1, ports: [{port: 70000}]}"),
        service("{clusterIP: 192.0.2.1, ports: [{port: 80}]}"),
        service("{clusterIP: 10.96.1.1, ports: [{port: 80}]}"),
    ];
    let text = director.random.one(&texts).clone();
    director.stage.write_text("bad.yaml", &text)?;
    let noticed = wait(director, &NODES, |status| {
        status["agent"]["problems"].as_u64() > Some(0)
    });
    director.stage.remove("bad.yaml")?;
    noticed.with_context(|| format!("nobody noticed {text:?}"))?;
    wait(director, &NODES, |status| status["agent"]["problems"] == 0)?;
    director.follow()
}

/// More services than one node's maps hold: it says so, the others serve them, and everything else goes on (rule 95).
pub(super) fn burst(director: &mut Director) -> Result<()> {
    let mut objects = Vec::new();
    for number in 1..=120_u8 {
        let (name, vip) = (format!("burst-{number}"), format!("10.96.2.{number}"));
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "burst"},
            "spec": {"clusterIP": vip, "clusterIPs": [vip], "ports": [{"port": 80, "protocol": "TCP"}]},
        }));
        objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": name, "namespace": "burst", "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4", "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.1.10"], "nodeName": "node-1"}],
        }));
    }
    director.stage.write("burst.json", &objects)?;
    let full = wait(director, &NODES[..1], |status| {
        status["agent"]["problems"].as_u64() > Some(0)
    });
    director.pause(200, 3000);
    director.stage.remove("burst.json")?;
    full.context("a map was not full")?;
    director.follow()?;
    wait(director, &NODES, |status| status["agent"]["problems"] == 0)
}

/// Devices that are nobody's business.
pub(super) fn devices(director: &mut Director) -> Result<()> {
    let node = director.node();
    let lines = |make: &dyn Fn(usize) -> String| {
        let lines: Vec<String> = (0..40).map(make).collect();
        lines.join("\n") + "\n"
    };
    let add = lines(&|at| {
        format!("link add noise{at} type veth peer name esion{at}\nlink set noise{at} up")
    });
    let delete = lines(&|at| format!("link del noise{at}"));
    let host = director.stage.lab.node(node);
    director.stage.lab.ip(host, &add)?;
    director.pause(0, 2000);
    let host = director.stage.lab.node(node);
    director.stage.lab.ip(host, &delete)
}

/// Addresses on a node, which node ports are not at.
pub(super) fn addresses(director: &mut Director) -> Result<()> {
    let node = director.node();
    let host = director.stage.lab.node(node);
    let lines = |verb: &str| {
        PASSING
            .map(|ip| format!("addr {verb} {ip} dev lo\n"))
            .concat()
    };
    director.stage.lab.ip(host, &lines("add"))?;
    director.pause(500, 3000);
    let host = director.stage.lab.node(node);
    director.stage.lab.ip(host, &lines("del"))
}

/// A cable is pulled and put in again.
pub(super) fn uplink(director: &mut Director) -> Result<()> {
    let node = director.node();
    let excuse =
        director
            .scene
            .history_mut()
            .excuse(Instant::now(), "an uplink was down", Whose::All);
    let host = director.stage.lab.node(node);
    director.stage.lab.ip(host, "link set eth0 down\n")?;
    std::thread::sleep(Duration::from_millis(300));
    let up = "link set eth0 up\n\
        route replace default via 172.18.0.254 dev eth0 onlink\n\
        route replace default via fe80::fab dev eth0\n";
    let done = director.stage.lab.ip(host, up);
    let until = Instant::now() + AFTER;
    director.scene.history_mut().excuse_until(excuse, until);
    done
}

/// All flows of a node are forgotten at once. Each comes back with its client's next packet, but for those with an
/// address of the node; answers that come before that nobody translates, so that strays are excused for a while.
pub(super) fn flush(director: &mut Director) -> Result<()> {
    if !director.scene.served.conntrack {
        return Ok(());
    }
    let node = director.node();
    director.note_strays()?;
    let excuse = director
        .scene
        .history_mut()
        .excuse(Instant::now(), FLUSHED, Whose::All);
    let flush = ["conntrack", "flush", "--all"];
    let done = director.stage.lab.agent(node).duolb(&flush);
    director.scene.pause(AFTER / 2);
    let until = Instant::now() + AFTER;
    director.scene.history_mut().excuse_until(excuse, until);
    stray::forget(&director.stage.lab)?;
    done.map(drop)
}

/// Waits until the status of all these nodes is that.
fn wait(director: &Director, nodes: &[&str], ready: impl Fn(&Value) -> bool) -> Result<()> {
    for node in nodes {
        let start = Instant::now();
        loop {
            let status = director.stage.status(node)?;
            if ready(&status) {
                break;
            }
            interrupt::check()?;
            let agent = &status["agent"];
            ensure!(
                start.elapsed() < PATIENCE,
                "{node} after {PATIENCE:?}: {agent}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}
