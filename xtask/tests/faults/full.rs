//! Each map full in turn: what is in it is served on, who finds no room is named, and served as soon as there is some,
//! by the same agent (rule 95).

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Result, ensure};
use xtask::lab::{Protocol, probe::Probe};

use crate::{
    manifests::{VIPS, frontends},
    needs_root,
    node::{Faulty, nothing_lost},
};

/// Who fills a map, and who finds no room in it.
struct Case {
    /// The map.
    map: &'static str,
    /// What makes it small, and where the metrics are.
    args: &'static [&'static str],
    /// Manifests that leave no room.
    filler: String,
    /// The Service that finds none.
    late: String,
    /// What the user is told to do.
    remedy: &'static str,
}

/// A Service with these lines in its spec, and so many endpoints.
fn service(name: &str, spec: &str, ports: &[u16], endpoints: u8) -> String {
    let list = |port: &u16, more: &str| format!("{{name: p{port}, port: {port}{more}}}");
    let all = |more: &str| {
        let ports: Vec<String> = ports.iter().map(|port| list(port, more)).collect();
        ports.join(", ")
    };
    let endpoints: Vec<String> = (0..endpoints)
        .map(|number| {
            format!(
                "{{addresses: [10.244.1.{}], nodeName: node-1}}",
                10 + number
            )
        })
        .collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec} ports: [{}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: \
         {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nports: [{}]\nendpoints: [{}]\n",
        all(""),
        all(""),
        endpoints.join(", ")
    )
}

fn cluster_ip(last: u8, more: &str) -> String {
    format!("clusterIP: 10.96.1.{last}, clusterIPs: [10.96.1.{last}], {more}")
}

fn cases() -> Vec<Case> {
    let external: Vec<String> = (1..=11).map(|last| format!("198.51.100.{last}")).collect();
    let external = format!("externalIPs: [{}],", external.join(", "));
    let ranges = |second: u8, count: u8| {
        let ranges: Vec<String> = (0..count)
            .map(|at| format!("10.{second}.{at}.0/24"))
            .collect();
        format!(
            "type: LoadBalancer, allocateLoadBalancerNodePorts: false, loadBalancerSourceRanges: [{}],",
            ranges.join(", ")
        )
    };
    let balanced = |text: String, last: u8| {
        let status =
            format!("\nstatus: {{loadBalancer: {{ingress: [{{ip: 203.0.113.{last}}}]}}}}\n---\n");
        text.replacen(
            "\n---\napiVersion: discovery",
            &format!("{status}apiVersion: discovery"),
            1,
        )
    };
    vec![
        Case {
            map: "SERVICES",
            args: &["--max-services", "4"],
            filler: service("filler", &cluster_ip(1, ""), &[80, 81], 1),
            late: service("late", &cluster_ip(2, ""), &[80], 1),
            remedy: "--max-services",
        },
        Case {
            map: "FRONTENDS_V4",
            args: &["--max-services", "4"],
            filler: service("filler", &cluster_ip(1, &external), &[80], 1),
            late: service("late", &cluster_ip(2, ""), &[80], 1),
            remedy: "--max-services",
        },
        Case {
            map: "ENDPOINTS_V4",
            args: &["--max-slots", "8"],
            filler: service("filler", &cluster_ip(1, ""), &[80], 2),
            late: service("late", &cluster_ip(2, ""), &[80], 6),
            remedy: "--max-slots",
        },
        Case {
            map: "SOURCES_V4",
            args: &["--max-source-ranges", "64"],
            filler: balanced(
                service("filler", &cluster_ip(1, &ranges(50, 60)), &[80], 1),
                1,
            ),
            late: balanced(
                service("late", &cluster_ip(2, &ranges(60, 10)), &[80], 1),
                2,
            ),
            remedy: "--max-source-ranges",
        },
    ]
}

/// What the agent's metrics say of the Service `late`.
fn metric(faulty: &Faulty) -> Result<String> {
    let text = faulty.lab.in_ns(faulty.lab.node("node-1"), || {
        use std::io::{Read as _, Write as _};
        let mut http = std::net::TcpStream::connect("127.0.0.1:10249")?;
        http.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        http.read_to_string(&mut text).map(|_| text)
    })??;
    let about =
        |line: &&str| line.starts_with("duolb_service_problems{") && line.contains("\"late\"");
    Ok(text.lines().find(about).unwrap_or_default().to_owned())
}

fn fill(case: &Case) -> Result<()> {
    let faulty = Faulty::start(case.args)?;
    let listed = |service: &str| -> Result<bool> {
        let list = faulty.agent().duolb(&["service", "list", "-o", "json"])?;
        Ok(list.contains(&format!("\"{service}\"")))
    };
    let streams = faulty.stream()?;
    faulty.directory.write("filler.yaml", &case.filler)?;
    faulty.wait("the filler is served", || listed("filler"))?;
    faulty.directory.write("late.yaml", &case.late)?;
    let (object, map) = (
        "service default/late: ",
        format!("no room in map {}", case.map),
    );
    let is_told = |text: &str| {
        let all = [object, &map, case.remedy];
        all.iter().all(|words| text.contains(words))
    };
    let in_log = || Ok(faulty.agent().log().lines().any(is_told));
    faulty.wait("the log names the Service", in_log)?;
    faulty.wait("status names it", || {
        let status = faulty.status()?;
        let mut problems = status["problems"].as_array().into_iter().flatten();
        Ok(problems.any(|problem| problem.as_str().is_some_and(is_told)))
    })?;
    ensure!(faulty.agent().duolb(&["status"])?.lines().any(is_told));
    let metric_of = metric(&faulty)?;
    ensure!(metric_of.contains("namespace=\"default\""), "{metric_of:?}");
    streams.wait_rounds(50)?;
    faulty.check_served()?;
    // Others still change, also for those who need no room.
    faulty.directory.serve(&[(1, 11)])?;
    faulty.wait("web is changed", || {
        let dump = faulty.dump()?;
        let mut web = dump
            .iter()
            .filter(|(frontend, _)| frontend.contains("10.96.0.80"));
        Ok(web.all(|(_, endpoints)| !endpoints.contains("\"10.244.1.10\"")))
    })?;
    let pid = faulty.agent().pid();
    std::fs::remove_file(faulty.directory.path().join("filler.yaml"))?;
    faulty.wait("there is room, and it is served", || {
        let is_well = faulty.status()?["agent"]["problems"] == 0;
        Ok(is_well && listed("late")?)
    })?;
    ensure!(metric(&faulty)?.is_empty(), "{}", metric(&faulty)?);
    ensure!(faulty.agent().pid() == pid, "another agent");
    streams.wait_rounds(50)?;
    nothing_lost(streams)
}

#[test]
fn a_service_that_finds_no_room_is_named_till_there_is_some_and_others_are_served() -> Result<()> {
    needs_root!();
    let cases = cases();
    cases.iter().try_for_each(|case| {
        use anyhow::Context as _;
        fill(case).context(case.map)
    })
}

#[test]
fn more_service_cidrs_than_there_are_ranges_for_are_named_and_their_services_served() -> Result<()>
{
    needs_root!();
    let faulty = Faulty::start(&[])?;
    let mut text = String::new();
    for index in 0..9 {
        text += &format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {{name: more-{index}}}\n\
             spec: {{cidrs: [10.{}.0.0/24]}}\n",
            100 + 2 * index
        );
    }
    let spec = "clusterIP: 10.116.0.9, clusterIPs: [10.116.0.9],";
    text += &service("far", spec, &[8080], 2);
    faulty.directory.write("more.yaml", &text)?;
    faulty.wait("it is named", || {
        let problems = faulty.status()?["problems"].to_string();
        Ok(problems.contains("ServiceCIDR 10.1") && problems.contains("no room in map RANGES_V4"))
    })?;
    let far: SocketAddr = "10.116.0.9:8080".parse()?;
    faulty
        .lab
        .probe(faulty.lab.pod("client-1"), Protocol::Tcp, far)?;
    faulty.check_served()
}

/// The map of sockets forgets the oldest: who calls, is connected all the same.
#[test]
fn more_sockets_than_there_is_room_for_all_reach_an_endpoint() -> Result<()> {
    needs_root!();
    let faulty = Faulty::start(&["--max-sockets", "64"])?;
    let node = faulty.lab.node("node-1");
    faulty.lab.in_ns(node, || -> Result<()> {
        let mut open = Vec::new();
        for to in (0..200).map(|turn| frontends()[turn % VIPS.len()]) {
            let any: IpAddr = if to.is_ipv4() {
                [0; 4].into()
            } else {
                [0_u16; 8].into()
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.send(b"hello")?;
            let mut back = [0; 256];
            let length = socket.recv(&mut back)?;
            ensure!(back[..length].ends_with(b"hello"), "another's answer");
            open.push(socket);
            Probe::new(Protocol::Tcp, to).run()?;
        }
        Ok(())
    })??;
    faulty.check_served()
}

/// Entries of devices that are not there, as many as fit: the next device finds no room, till the agent has looked
/// after them.
#[test]
fn a_device_that_finds_no_room_is_named_and_served_once_there_is_some() -> Result<()> {
    needs_root!();
    let faulty = Faulty::start(&["--xdp", "off"])?;
    let streams = faulty.stream()?;
    let node = faulty.lab.node("node-1");
    let fill = || {
        faulty
            .lab
            .fill_map(&faulty.agent().bpffs().join("v4/maps/DEVICES"), 32, 1 << 20)
    };
    let attached = || -> Result<bool> {
        let status = faulty.status()?;
        let mut devices = status["devices"].as_array().into_iter().flatten();
        Ok(devices.any(|device| device["name"] == "late"))
    };
    let is_told = || -> Result<bool> {
        let problems = faulty.status()?["problems"].to_string();
        Ok(problems.contains(
            "device late: cannot attach, traffic by it is not served: no room in map DEVICES",
        ))
    };
    // The agent looks after them every ten seconds: not between these two, but for the odd time.
    let mut was_told = false;
    for _ in 0..3 {
        ensure!(fill()? > 4_000, "the map was not filled");
        let add = [
            "ip", "link", "add", "late", "type", "veth", "peer", "name", "later",
        ];
        faulty.lab.exec(node, &add)?;
        was_told = faulty.lab.wait_until(Duration::from_secs(4), is_told)?;
        if was_told {
            break;
        }
        faulty.lab.exec(node, &["ip", "link", "del", "late"])?;
    }
    ensure!(was_told, "{}", faulty.agent().log());
    streams.wait_rounds(50)?;
    faulty.check_served()?;
    faulty.wait("it is served", || Ok(attached()? && !is_told()?))?;
    streams.wait_rounds(50)?;
    nothing_lost(streams)
}
