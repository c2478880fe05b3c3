//! kube-proxy's iptables mode: one long chain that every new connection walks until its service's rule.

use std::fmt::{self, Write as _};

use super::{Service, target};

/// A file for `iptables-restore` or `ip6tables-restore` with the rules of one family.
///
/// `pods` is the cluster's network: who is not in it is masqueraded towards cluster IPs (rule 56).
pub fn rules(services: &[Service], v6: bool, pods: &str) -> String {
    let mut text = String::from(FILTER);
    // A String takes everything.
    let _ = write(&mut text, services, v6, pods);
    text
}

/// For kube-proxy's own chains of this table, where services that have endpoints leave nothing; the rules for
/// connections that are known, and for the marked, are what a packet meets (rule 60).
const FILTER: &str = "*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

/// What is the same whatever the services are.
const NAT: &str = "*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
";

const NAT_RULES: &str = "-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
";

fn write(out: &mut String, services: &[Service], v6: bool, pods: &str) -> fmt::Result {
    let services = || services.iter().filter(|service| service.is_v6() == v6);
    let bits = if v6 { 128 } else { 32 };
    out.write_str(NAT)?;
    for service in services() {
        writeln!(out, ":{} - [0:0]", chain(service))?;
        for endpoint in &service.endpoints {
            writeln!(out, ":{} - [0:0]", endpoint_chain(service, endpoint))?;
        }
    }
    out.write_str(NAT_RULES)?;
    for service in services() {
        let Service {
            name,
            vip,
            protocol,
            ..
        } = service;
        writeln!(
            out,
            "-A KUBE-SERVICES -d {}/{bits} -p {protocol} -m comment --comment \"{name} cluster IP\" -m {protocol} \
             --dport {} -j {}",
            vip.ip(),
            vip.port(),
            chain(service)
        )?;
    }
    out.write_str(
        "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" \
         -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n",
    )?;
    for service in services() {
        write_service(out, service, bits, pods)?;
    }
    out.write_str("COMMIT\n")
}

fn chain(service: &Service) -> String {
    format!("KUBE-SVC-{}", service.id(None))
}

fn endpoint_chain(service: &Service, endpoint: &std::net::SocketAddr) -> String {
    format!("KUBE-SEP-{}", service.id(Some(endpoint)))
}

fn write_service(out: &mut String, service: &Service, bits: u8, pods: &str) -> fmt::Result {
    let Service {
        name,
        vip,
        protocol,
        endpoints,
    } = service;
    let svc = chain(service);
    writeln!(
        out,
        "-A {svc} ! -s {pods} -d {}/{bits} -p {protocol} -m comment --comment \"{name} cluster IP\" -m {protocol} \
         --dport {} -j KUBE-MARK-MASQ",
        vip.ip(),
        vip.port()
    )?;
    for (i, endpoint) in endpoints.iter().enumerate() {
        let sep = endpoint_chain(service, endpoint);
        let to = target(endpoint);
        // Of what the rules before have left, an equal share.
        let left = endpoints.len() - i;
        let share = if left == 1 {
            String::new()
        } else {
            #[expect(clippy::cast_precision_loss, reason = "there are not 2^52 endpoints")]
            let share = 1.0 / left as f64;
            format!(" -m statistic --mode random --probability {share:.10}")
        };
        writeln!(
            out,
            "-A {svc} -m comment --comment \"{name} -> {to}\"{share} -j {sep}"
        )?;
        writeln!(
            out,
            "-A {sep} -s {}/{bits} -m comment --comment \"{name}\" -j KUBE-MARK-MASQ\n\
             -A {sep} -p {protocol} -m comment --comment \"{name}\" -m {protocol} -j DNAT --to-destination {to}",
            endpoint.ip()
        )?;
    }
    Ok(())
}
