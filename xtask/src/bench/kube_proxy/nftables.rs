//! kube-proxy's nftables mode: two lookups in verdict maps lead to a service's chain, which picks an endpoint's.

use std::fmt::{self, Write as _};

use super::{Service, target};

/// A file for `nft -f` with the rules of one family, which replaces what is there.
///
/// `pods` is the cluster's network: who is not in it is masqueraded towards cluster IPs (rule 56).
pub fn rules(services: &[Service], v6: bool, pods: &str) -> String {
    let mut text = String::new();
    // A String takes everything.
    let _ = write(&mut text, services, v6, pods);
    text
}

fn write(out: &mut String, services: &[Service], v6: bool, pods: &str) -> fmt::Result {
    let (family, address) = if v6 {
        ("ip6", "ipv6_addr")
    } else {
        ("ip", "ipv4_addr")
    };
    let services = || services.iter().filter(|service| service.is_v6() == v6);
    writeln!(
        out,
        "add table {family} kube-proxy\ndelete table {family} kube-proxy"
    )?;
    writeln!(out, "table {family} kube-proxy {{")?;
    writeln!(out, "set cluster-ips {{ type {address};")?;
    let vips: Vec<String> = services()
        .map(|service| service.vip.ip().to_string())
        .collect();
    elements(out, &vips)?;
    writeln!(out, "}}\nset nodeport-ips {{ type {address}; }}")?;
    let key = format!("{address} . inet_proto . inet_service : verdict");
    for map in ["no-endpoint-services", "firewall-ips"] {
        writeln!(out, "map {map} {{ type {key}; }}")?;
    }
    for map in ["no-endpoint-nodeports", "service-nodeports"] {
        writeln!(
            out,
            "map {map} {{ type inet_proto . inet_service : verdict; }}"
        )?;
    }
    writeln!(out, "map service-ips {{ type {key};")?;
    let all: Vec<String> = services()
        .map(|service| {
            let (ip, port) = (service.vip.ip(), service.vip.port());
            format!(
                "{ip} . {} . {port} : goto {}",
                service.protocol,
                chain(service)
            )
        })
        .collect();
    elements(out, &all)?;
    writeln!(out, "}}")?;
    out.write_str(&CHAINS.replace("ADDR", family))?;
    for service in services() {
        write_service(out, service, family, pods)?;
    }
    writeln!(out, "}}")
}

/// `elements = {…}`, which must not be empty.
fn elements(out: &mut String, all: &[String]) -> fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "elements = {{ {} }}", all.join(",\n"))
}

/// What every packet passes: hooks, priorities and order as kube-proxy has them.
const CHAINS: &str = "
chain reject-chain { reject; }
chain firewall-check { ADDR daddr . meta l4proto . th dport vmap @firewall-ips; }
chain nodeport-endpoints-check { ADDR daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }
chain service-endpoints-check { ADDR daddr . meta l4proto . th dport vmap @no-endpoint-services; }
chain cluster-ips-check { ADDR daddr @cluster-ips reject; }
chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
chain masquerading {
    meta mark & 0x4000 == 0 return;
    meta mark set meta mark xor 0x4000;
    masquerade fully-random;
}
chain services {
    ADDR daddr . meta l4proto . th dport vmap @service-ips;
    ADDR daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports;
}
chain filter-prerouting-pre-dnat {
    type filter hook prerouting priority dstnat - 10;
    ct state new jump firewall-check;
}
chain filter-output-pre-dnat {
    type filter hook output priority -110;
    ct state new jump firewall-check;
}
chain filter-input {
    type filter hook input priority filter;
    ct state new jump nodeport-endpoints-check;
    ct state new jump service-endpoints-check;
}
chain filter-forward {
    type filter hook forward priority filter;
    ct state new jump service-endpoints-check;
    ct state new jump cluster-ips-check;
}
chain filter-output {
    type filter hook output priority filter;
    ct state new jump service-endpoints-check;
    ct state new jump cluster-ips-check;
}
chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
chain nat-output { type nat hook output priority -100; jump services; }
chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
";

fn chain(service: &Service) -> String {
    format!("service-{}", service.id(None))
}

fn write_service(out: &mut String, service: &Service, family: &str, pods: &str) -> fmt::Result {
    let Service {
        vip,
        protocol,
        endpoints,
        ..
    } = service;
    let endpoint_chain = |endpoint| format!("endpoint-{}", service.id(Some(endpoint)));
    for endpoint in endpoints {
        writeln!(
            out,
            "chain {} {{\n{family} saddr {} jump mark-for-masquerade;\nmeta l4proto {protocol} dnat to {};\n}}",
            endpoint_chain(endpoint),
            endpoint.ip(),
            target(endpoint)
        )?;
    }
    let choice: Vec<String> = endpoints
        .iter()
        .enumerate()
        .map(|(i, endpoint)| format!("{i} : goto {}", endpoint_chain(endpoint)))
        .collect();
    writeln!(
        out,
        "chain {} {{\n{family} daddr {} {protocol} dport {} {family} saddr != {pods} jump mark-for-masquerade;\n\
         numgen random mod {} vmap {{ {} }};\n}}",
        chain(service),
        vip.ip(),
        vip.port(),
        endpoints.len(),
        choice.join(", ")
    )
}
