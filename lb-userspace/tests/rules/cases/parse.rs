//! The language of the tables; see the module above. Whatever is not understood is a panic with its line.

use lb_common::address::Family;
use serde_json::{Map, Value, json};

use super::{Ask, Case, Client, Expected, Name, Object, Outcome, Source, Step, Target};

pub(super) fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let understood = match line.strip_prefix("case ") {
            Some(name) => {
                cases.push(Case {
                    name: name.to_owned(),
                    nodes: Vec::new(),
                    steps: Vec::new(),
                });
                Some(())
            }
            None => cases.last_mut().and_then(|case| add(case, line)),
        };
        assert!(
            understood.is_some(),
            "line {number} is not understood: {line}"
        );
    }
    cases
}

fn add(case: &mut Case, line: &str) -> Option<()> {
    if let Some(endpoint) = line.strip_prefix("  ") {
        return add_endpoint(last(case)?, endpoint);
    }
    let (verb, rest) = line.split_once(' ')?;
    if verb == "with" {
        last(case)?.patches.push(serde_json::from_str(rest).ok()?);
        return Some(());
    }
    let words: Vec<&str> = rest.split_whitespace().collect();
    let step = match (verb, &words[..]) {
        ("node", [name, options @ ..]) => {
            if !case.nodes.iter().any(|known| known == name) {
                case.nodes.push((*name).to_owned());
            }
            Step::Apply(node(name, options)?)
        }
        ("service", [name, options @ ..]) => Step::Apply(service(name, options)?),
        ("slice", [name, "of", of, options @ ..]) => Step::Apply(slice(name, of, options)?),
        ("cidr", [name]) => Step::Apply(object(("ServiceCIDR", (*name).to_owned()), json!({}))),
        ("without", [kind, name]) => Step::Delete((find_kind(kind)?, (*name).to_owned())),
        ("ask", [nodes, target, "->", outcome @ ..]) => {
            Step::Ask(ask(line, nodes, target, outcome)?)
        }
        ("lacking", [node, service, "->", policies @ ..]) => Step::Lacking {
            node: (*node).to_owned(),
            service: (*service).to_owned(),
            policies: policies
                .iter()
                .map(|word| policy(word))
                .collect::<Option<_>>()?,
        },
        _ => return None,
    };
    case.steps.push(step);
    Some(())
}

fn last(case: &mut Case) -> Option<&mut Object> {
    match case.steps.last_mut()? {
        Step::Apply(object) => Some(object),
        _ => None,
    }
}

fn find_kind(word: &str) -> Option<&'static str> {
    match word {
        "service" => Some("Service"),
        "slice" => Some("EndpointSlice"),
        "node" => Some("Node"),
        "cidr" => Some("ServiceCIDR"),
        _ => None,
    }
}

fn policy(word: &str) -> Option<&'static str> {
    ["internal", "external"]
        .into_iter()
        .find(|known| *known == word)
}

fn object(name: Name, body: Value) -> Object {
    Object {
        vip: name.1.clone(),
        only: None,
        name,
        body,
        balancers: Vec::new(),
        externals: Vec::new(),
        sources: Vec::new(),
        endpoints: Vec::new(),
        patches: Vec::new(),
    }
}

fn node(name: &str, options: &[&str]) -> Option<Object> {
    let mut labels = Map::new();
    for option in options {
        let zone = option.strip_prefix("zone=")?;
        labels.insert("topology.kubernetes.io/zone".to_owned(), zone.into());
    }
    let body = json!({ "metadata": { "labels": labels } });
    Some(object(("Node", name.to_owned()), body))
}

fn service(name: &str, options: &[&str]) -> Option<Object> {
    let mut spec = json!({ "type": "ClusterIP", "ports": ports(":80/TCP")? });
    let mut service = object(("Service", name.to_owned()), Value::Null);
    for option in options {
        let (key, value) = option.split_once('=')?;
        match key {
            "vip" => value.clone_into(&mut service.vip),
            "only" => service.only = Some(family(value)?),
            "balancer" => {
                let mode = |name: &str| match name.split_once(':') {
                    Some((name, mode)) => (name.to_owned(), Some(mode.to_owned())),
                    None => (name.to_owned(), None),
                };
                service.balancers = value.split(',').map(mode).collect();
            }
            "external" => service.externals = value.split(',').map(str::to_owned).collect(),
            "sources" => service.sources = value.split(',').map(source).collect::<Option<_>>()?,
            "ports" => spec["ports"] = ports(value)?,
            "type" => spec["type"] = value.into(),
            "itp" => spec["internalTrafficPolicy"] = value.into(),
            "etp" => spec["externalTrafficPolicy"] = value.into(),
            "node-port" => spec["ports"][0]["nodePort"] = value.parse::<u16>().ok()?.into(),
            "affinity" => {
                spec["sessionAffinity"] = "ClientIP".into();
                if value != "default" {
                    let seconds: u32 = value.parse().ok()?;
                    let config = json!({ "clientIP": { "timeoutSeconds": seconds } });
                    spec["sessionAffinityConfig"] = config;
                }
            }
            _ => return None,
        }
    }
    service.body = json!({ "spec": spec });
    Some(service)
}

fn family(word: &str) -> Option<Family> {
    Family::BOTH.into_iter().find(|known| known.name() == word)
}

fn source(word: &str) -> Option<Source> {
    Some(match word {
        "pods" => Source::Of(Client::Pod),
        "nodes" => Source::Of(Client::Host),
        "outside" => Source::Of(Client::Outside),
        "nobody" => Source::Nobody,
        "all" => Source::All,
        _ => return None,
    })
}

/// `NODE[/CLIENT]`.
fn client(text: &str) -> Option<(String, Client)> {
    let (node, client) = text.split_once('/').unwrap_or((text, "pod"));
    let client = match client {
        "pod" => Client::Pod,
        "host" => Client::Host,
        "outside" => Client::Outside,
        _ => return None,
    };
    Some((node.to_owned(), client))
}

fn slice(name: &str, service: &str, options: &[&str]) -> Option<Object> {
    let mut list = ports(":8080/TCP")?;
    for option in options {
        list = ports(option.strip_prefix("ports=")?)?;
    }
    let body = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": service } },
        "ports": list,
        "endpoints": [],
    });
    Some(object(("EndpointSlice", name.to_owned()), body))
}

/// `NAME:PORT/PROTO,..` as a list; `-` for none.
fn ports(text: &str) -> Option<Value> {
    let port = |text: &str| {
        let (name, rest) = text.split_once(':')?;
        let (number, protocol) = rest.split_once('/')?;
        let number: u16 = number.parse().ok()?;
        Some(json!({ "name": name, "port": number, "protocol": protocol }))
    };
    text.split(',')
        .filter(|text| *text != "-")
        .map(port)
        .collect()
}

fn add_endpoint(slice: &mut Object, text: &str) -> Option<()> {
    let mut words = text.split_whitespace();
    let (place, conditions) = match words.next()?.split_once('=') {
        Some((place, conditions)) => (place, Some(conditions)),
        None => (text.split_whitespace().next()?, None),
    };
    let mut endpoint = Map::new();
    let name = match place.split_once('@') {
        Some((name, node)) => {
            endpoint.insert("nodeName".to_owned(), node.into());
            name
        }
        None => place,
    };
    if let Some(stated) = conditions {
        let has = |name| stated.split(',').any(|other| other == name);
        let known = ["ready", "serving", "terminating", "none"];
        if !stated.split(',').all(|name| known.contains(&name)) {
            return None;
        }
        let conditions = json!({
            "ready": has("ready"), "serving": has("serving"), "terminating": has("terminating"),
        });
        endpoint.insert("conditions".to_owned(), conditions);
    }
    let mut hints = Map::new();
    for word in words {
        let (key, names) = word.split_once('=')?;
        let key = match key {
            "zones" => "forZones",
            "nodes" => "forNodes",
            _ => return None,
        };
        let names = names.split(',').map(|name| json!({ "name": name }));
        hints.insert(key.to_owned(), names.collect());
    }
    if !hints.is_empty() {
        endpoint.insert("hints".to_owned(), hints.into());
    }
    slice.endpoints.push(name.to_owned());
    slice.body["endpoints"]
        .as_array_mut()?
        .push(endpoint.into());
    Some(())
}

fn ask(text: &str, nodes: &str, target: &str, outcome: &[&str]) -> Option<Ask> {
    let (target, rest) = target.split_once(':')?;
    let target = match target.split_once('/') {
        None => Target::Vip(target.to_owned()),
        Some(("external", name)) => Target::External(name.to_owned()),
        Some(("node", name)) => Target::Node(name.to_owned()),
        Some(_) => return None,
    };
    let (port, protocol) = rest.split_once('/').unwrap_or((rest, "TCP"));
    let protocol = match protocol {
        "TCP" => 6,
        "UDP" => 17,
        "SCTP" => 132,
        _ => return None,
    };
    let (outcome, only) = match outcome {
        [outcome @ .., "in", only] => (outcome, Some(family(only)?)),
        _ => (outcome, None),
    };
    let outcome = match outcome {
        ["refused"] => Expected::Verdict(Outcome::Refused),
        ["dropped"] => Expected::Verdict(Outcome::Dropped),
        ["passed"] => Expected::Verdict(Outcome::Passed),
        [_, ..] => {
            let (mut endpoints, mut sticky) = (Vec::new(), 0);
            for word in outcome {
                if let Some(seconds) = word.strip_prefix("sticky=") {
                    sticky = seconds.parse().ok()?;
                } else {
                    let (name, port) = word.split_once(':').unwrap_or((word, "8080"));
                    endpoints.push((name.to_owned(), port.parse().ok()?));
                }
            }
            Expected::Endpoints(endpoints, sticky)
        }
        [] => return None,
    };
    Some(Ask {
        clients: nodes.split(',').map(client).collect::<Option<_>>()?,
        target,
        port: port.parse().ok()?,
        protocol,
        family: only,
        outcome,
        text: text.to_owned(),
    })
}
