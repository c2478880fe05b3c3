//! The API server is away, and comes back with another world: nothing changes before it has said all of it.

use anyhow::{Result, ensure};
use xtask::lab::{Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, lost_nothing, web_of},
    needs_root,
    objects::{Resource, service},
    workload::frontends,
};

const REFUSED: &[&str] = &["API server", "connection refused", "is it running"];

#[test]
fn an_api_server_that_is_away_changes_nothing_until_it_is_back_with_other_objects() -> Result<()> {
    needs_root!();
    let mut cluster = Cluster::start()?;
    let streams = cluster.streams()?;
    cluster.api.down();
    cluster.wait_warning(REFUSED)?;
    cluster.wait_problems(1)?;
    ensure!(
        cluster.health()? == [200, 200],
        "rule 86: nothing waits to be written"
    );
    streams.wait_rounds(500)?;
    cluster.answers(&[10, 11])?;
    // The watches' versions are forgotten, and the world has changed.
    cluster.api.double().compact();
    cluster.api.put(&web_of(&[10, 11, 12]));
    cluster.api_up()?;
    cluster.wait("the new pod answers", || {
        Ok(cluster.answers(&[10, 11, 12]).is_ok())
    })?;
    cluster.wait_problems(0)?;
    ensure!(
        cluster.warnings(REFUSED) == 1 && cluster.solutions(REFUSED) == 1,
        "one line for each: {}",
        cluster.agent().log()
    );
    ensure!(cluster.health()? == [200, 200]);
    lost_nothing(streams)
}

#[test]
fn an_agent_that_starts_without_its_api_server_serves_from_the_pins_and_prunes_after_the_listing_rules_5_and_92()
-> Result<()> {
    needs_root!();
    let mut cluster = Cluster::start()?;
    let (gone, new) = (service("gone", "0.99"), service("new", "0.98"));
    cluster.api.put(std::slice::from_ref(&gone));
    let lists = |cluster: &Cluster, name: &str| -> Result<bool> {
        let list = cluster.agent().duolb(&["service", "list", "-o", "json"])?;
        Ok(list.contains(&format!("\"{name}\"")))
    };
    cluster.wait("the Service is there", || lists(&cluster, "gone"))?;
    let streams = cluster.streams()?;
    cluster.api.down();
    cluster.agent_mut().kill();
    cluster.api.double().delete(&gone);
    cluster.api.put(&[new]);
    cluster.agent_mut().start()?;
    cluster.wait_warning(REFUSED)?;
    cluster.wait_problems(1)?;
    // Rule 86: a starting proxy is healthy, and not eligible without a Node.
    cluster.wait_health([503, 200])?;
    // Everything but the slices: that is not all.
    cluster.api.double().deny(Resource::Slices, 403);
    cluster.api_up()?;
    cluster.wait_warning(&["endpointslices.discovery.k8s.io", "may not list (403)"])?;
    cluster.wait("the Node is known", || Ok(cluster.health()? == [200, 200]))?;
    ensure!(
        lists(&cluster, "gone")? && !lists(&cluster, "new")?,
        "rules 5 and 92: written before all was listed"
    );
    ensure!(cluster.status()?["agent"]["synced"] == false);
    for to in frontends() {
        Probe::new(Protocol::Tcp, to).run_in(cluster.client())?;
    }
    cluster.api.double().faults(|faults| faults.deny.clear());
    cluster.wait("all is listed", || {
        Ok(!lists(&cluster, "gone")? && lists(&cluster, "new")?)
    })?;
    cluster.wait_problems(0)?;
    cluster.answers(&[10, 11])?;
    lost_nothing(streams)
}
