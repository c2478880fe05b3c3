//! The API server is there and refuses: one line that says what to do, and everything in force as it was.

use std::fs;

use anyhow::{Result, ensure};

use crate::{
    cluster::{Cluster, lost_nothing, web_of},
    double::{
        WatchFault,
        tls::{Authority, acceptor, authority},
    },
    needs_root,
    objects::Resource,
    server::Server,
};

#[test]
fn a_resource_that_is_forbidden_is_named_with_the_role_and_nothing_changes() -> Result<()> {
    needs_root!();
    let cluster = Cluster::start()?;
    let streams = cluster.streams()?;
    for (resource, name) in [
        (Resource::Services, "services: "),
        (Resource::Slices, "endpointslices.discovery.k8s.io: "),
        (Resource::Nodes, "nodes: "),
        (Resource::Cidrs, "servicecidrs.networking.k8s.io: "),
    ] {
        cluster.api.double().deny(resource, 403);
        // What it watches is forgotten: it has to list again, and may not.
        cluster.api.double().compact();
        let told = [name, "(403)", "ClusterRole duolb"];
        cluster.wait_warning(&told)?;
        cluster.wait_problems(1)?;
        ensure!(
            cluster.health()? == [200, 200],
            "{name} what was known of the node counts"
        );
        streams.wait_rounds(200)?;
        cluster.answers(&[10, 11])?;
        cluster.api.double().faults(|faults| faults.deny.clear());
        cluster.wait_problems(0)?;
        ensure!(
            cluster.warnings(&told) == 1 && cluster.solutions(&told) == 1,
            "one line for each: {}",
            cluster.agent().log()
        );
    }
    ensure!(cluster.warnings(&[]) == 4, "{}", cluster.agent().log());
    lost_nothing(streams)
}

#[test]
fn a_history_that_is_forgotten_is_nobodys_trouble() -> Result<()> {
    needs_root!();
    let cluster = Cluster::start()?;
    let streams = cluster.streams()?;
    for (round, pods) in [&[10, 12][..], &[10, 11, 12], &[10, 11]].iter().enumerate() {
        cluster.api.double().faults(|faults| {
            for resource in Resource::ALL {
                let queue = faults.watch.entry(resource).or_default();
                queue.extend((0..round).map(|_| WatchFault::Gone));
            }
        });
        cluster.api.double().compact();
        cluster.api.put(&web_of(pods));
        cluster.wait("the change is in force", || {
            Ok(cluster.answers(pods).is_ok())
        })?;
    }
    ensure!(cluster.warnings(&[]) == 0, "{}", cluster.agent().log());
    cluster.wait_health([200, 200])?;
    lost_nothing(streams)
}

#[test]
fn a_token_that_expires_is_told_and_the_one_in_its_place_is_taken() -> Result<()> {
    needs_root!();
    let mut cluster = Cluster::prepare()?;
    let token = cluster.lab.dir().join("token");
    fs::write(&token, "first")?;
    cluster
        .api
        .double()
        .faults(|faults| faults.token = Some("first".to_owned()));
    cluster.configure("", &format!("user: {{tokenFile: {}}}", token.display()))?;
    cluster.agent_mut().start()?;
    cluster.agent().wait_ready()?;
    let streams = cluster.streams()?;
    cluster
        .api
        .double()
        .faults(|faults| faults.token = Some("second".to_owned()));
    cluster.api.double().compact();
    let told = ["does not know us (401)", "token", "expired"];
    cluster.wait_warning(&told)?;
    cluster.wait_problems(1)?;
    cluster.wait_health([200, 200])?;
    cluster.answers(&[10, 11])?;
    cluster.api.put(&web_of(&[10, 11, 12]));
    fs::write(&token, "second")?;
    cluster.wait("the new pod answers", || {
        Ok(cluster.answers(&[10, 11, 12]).is_ok())
    })?;
    cluster.wait_problems(0)?;
    ensure!(
        cluster.warnings(&[]) == 1 && cluster.solutions(&told) == 1,
        "one line for each: {}",
        cluster.agent().log()
    );
    lost_nothing(streams)
}

/// The API server of `cluster` behind TLS with a certificate of `authority`, at the same address.
fn change_certificate(
    cluster: &mut Cluster,
    authority: &Authority,
    is_expired: bool,
) -> Result<()> {
    let outside = cluster.lab.outside();
    let name = outside.addresses.v4.to_string();
    let url = cluster.api.double().url();
    let (_, port) = url.rsplit_once(':').expect("a port");
    cluster.api.down();
    let tls = Some(acceptor(authority, &name, is_expired));
    cluster.api = Server::start(outside, port.parse()?, tls)?;
    cluster.populate();
    Ok(())
}

#[test]
fn a_certificate_that_has_expired_or_is_of_others_is_told_while_the_pins_serve() -> Result<()> {
    needs_root!();
    let mut cluster = Cluster::prepare()?;
    let (ours, others) = (authority(), authority());
    let ca = cluster.lab.dir().join("ca.crt");
    fs::write(&ca, ours.pem())?;
    change_certificate(&mut cluster, &ours, false)?;
    cluster.configure(", certificate-authority: ca.crt", "user: {}")?;
    cluster.agent_mut().start()?;
    cluster.agent().wait_ready()?;
    let streams = cluster.streams()?;
    for (authority, is_expired, told) in [
        (
            &ours,
            true,
            ["certificate has expired", "kubeadm certs renew"],
        ),
        (
            &others,
            false,
            [
                "unknown authority",
                "certificate-authority in the kubeconfig",
            ],
        ),
    ] {
        change_certificate(&mut cluster, authority, is_expired)?;
        cluster.wait_warning(&told)?;
        cluster.wait_problems(1)?;
        cluster.wait_health([200, 200])?;
        // The same for an agent that starts only now.
        cluster.agent_mut().kill();
        cluster.agent_mut().start()?;
        cluster.wait(&format!("{told:?} once more"), || {
            Ok(cluster.warnings(&told) == 2)
        })?;
        cluster.wait_health([503, 200])?;
        cluster.answers(&[10, 11])?;
        change_certificate(&mut cluster, &ours, false)?;
        cluster.agent().wait_ready()?;
        cluster.wait_problems(0)?;
        ensure!(cluster.warnings(&told) == 2, "{}", cluster.agent().log());
    }
    cluster.answers(&[10, 11])?;
    lost_nothing(streams)
}
