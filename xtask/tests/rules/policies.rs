//! Which endpoints answer whom: internal traffic policy, topology, terminating endpoints.

use std::slice;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    cluster::{Cluster, Fate, answered},
    needs_root,
    objects::{Pod, web},
};

#[test]
fn rules_32_and_41_local_policy_means_this_node_or_silence() -> Result<()> {
    needs_root!();
    let local = json!({"internalTrafficPolicy": "Local"});
    let pods = [Pod::new(1, 10), Pod::new(1, 11), Pod::new(2, 10)];
    let cluster = Cluster::start(&web(&local, &pods), &[])?;
    cluster.wait_for(1, &answered(&pods[..2]))?;
    cluster.wait_for(2, &answered(&pods[2..]))?;
    // Node 3 has none, though there are some: silence, so that it does not look as if there were none.
    cluster.wait_for(3, &Fate::Dropped)?;
    ensure!(cluster.verdict(3, "no-local-endpoint")? > 0);
    // The policy changes under a running Service.
    cluster.apply(&web(&json!({}), &pods))?;
    for node in 1..=3 {
        cluster.wait_for(node, &answered(&pods))?;
    }
    cluster.apply(&web(&local, &pods))?;
    cluster.wait_for(3, &Fate::Dropped)?;
    // Rule 40: with no endpoint anywhere it is refused.
    cluster.apply(&web(&local, &[]))?;
    cluster.wait_for(3, &Fate::Refused)
}

#[test]
fn rules_35_to_39_clients_stay_in_their_zone_if_every_ready_endpoint_has_a_hint() -> Result<()> {
    needs_root!();
    let pods = [
        Pod::new(1, 10).for_zone("a"),
        Pod::new(2, 10).for_zone("b"),
        Pod::new(2, 11).for_zone("b"),
        // Rule 35: one that leaves without a hint takes nothing from the others.
        Pod::new(1, 11).terminating(true),
    ];
    let cluster = Cluster::start(&web(&json!({}), &pods), &[])?;
    cluster.wait_for(1, &answered(&pods[..1]))?;
    cluster.wait_for(2, &answered(&pods[1..3]))?;
    cluster.wait_for(3, &answered(&pods[1..3]))?;
    // One ready endpoint without a hint: no zones at all.
    let pods = [Pod::new(1, 10).for_zone("a"), Pod::new(2, 10)];
    cluster.apply(&web(&json!({}), &pods))?;
    for node in 1..=3 {
        cluster.wait_for(node, &answered(&pods))?;
    }
    Ok(())
}

#[test]
fn rules_31_and_33_leaving_endpoints_serve_while_there_is_no_other() -> Result<()> {
    needs_root!();
    let leaving = Pod::new(1, 10).terminating(true);
    let others = [
        Pod::new(1, 11).terminating(false),
        Pod::new(2, 11).unready(),
    ];
    let pods = [slice::from_ref(&leaving), &others[..]].concat();
    let cluster = Cluster::start(&web(&json!({}), &pods), &[])?;
    for node in 1..=3 {
        cluster.wait_for(node, &answered(slice::from_ref(&leaving)))?;
    }
    let ready = Pod::new(2, 12);
    cluster.apply(&web(
        &json!({}),
        &[&pods[..], slice::from_ref(&ready)].concat(),
    ))?;
    cluster.wait_for(1, &answered(&[ready]))?;
    cluster.apply(&web(&json!({}), &others))?;
    cluster.wait_for(1, &Fate::Refused)
}
