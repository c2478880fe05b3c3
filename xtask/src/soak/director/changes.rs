//! Services and pods that change as a cluster's do.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Director;
use crate::{
    lab::reference::Endpoint,
    soak::{history::Whose, stray},
};

/// How long after a pod is back flows to its former self may still fail.
const AFTER: Duration = Duration::from_secs(25);

/// Other endpoints, of services of either policy.
pub(super) fn endpoints(director: &mut Director) -> Result<()> {
    let number = *director.random.one(&[1, 2, 5, 8, 8, 8]);
    for _ in 0..director.random.between(1, 4) {
        let Some(mut service) = director.newest(number) else {
            return Ok(());
        };
        service.endpoints = director.some_pods(usize::from(number != 8));
        director.change(number, Some(service))?;
    }
    Ok(())
}

/// No endpoints for a while, then the same or others.
pub(super) fn zero(director: &mut Director) -> Result<()> {
    let Some(mut service) = director.newest(9) else {
        return Ok(());
    };
    let former = std::mem::take(&mut service.endpoints);
    director.change(9, Some(service.clone()))?;
    director.pause(500, 6000);
    service.endpoints = match director.random.chance(50) {
        true => former,
        false => director.some_pods(1),
    };
    director.change(9, Some(service))
}

/// A service is deleted, and another one gets its addresses; in two steps, or in one (rule 90).
pub(super) fn reborn(director: &mut Director) -> Result<()> {
    let Some(mut service) = director.newest(10) else {
        return Ok(());
    };
    let excuse = excuse_established(director);
    service.reborn = !service.reborn;
    service.endpoints = director.some_pods(1);
    if director.random.chance(70) {
        director.change(10, None)?;
        director.pause(300, 4000);
    }
    let done = director.change(10, Some(service));
    let until = Instant::now() + AFTER;
    director.scene.history_mut().excuse_until(excuse, until);
    done
}

/// A service is at another port.
pub(super) fn port(director: &mut Director) -> Result<()> {
    let Some(mut service) = director.newest(10) else {
        return Ok(());
    };
    let excuse = excuse_established(director);
    service.port = if service.port == 80 { 81 } else { 80 };
    let done = director.change(10, Some(service));
    let until = Instant::now() + AFTER;
    director.scene.history_mut().excuse_until(excuse, until);
    done
}

/// Connections to an address that is not the service's any more.
fn excuse_established(director: &Director) -> crate::soak::history::ExcuseId {
    let mut history = director.scene.history_mut();
    history.excuse(
        Instant::now(),
        "the service was deleted",
        Whose::Service(10),
    )
}

/// A pod leaves, its namespace goes, and another one gets its addresses.
pub(super) fn pod(director: &mut Director) -> Result<()> {
    let node = director.random.between(1, 4);
    let node = u8::try_from(node)?;
    let endpoint = Endpoint::Pod { node, number: 12 };
    let name = endpoint.to_string();
    let Some(mut service) = director.newest(11) else {
        return Ok(());
    };
    service.endpoints.remove(&endpoint);
    director.change(11, Some(service.clone()))?;
    director.pause(200, 1500);
    let excuse = director.scene.history_mut().excuse(
        Instant::now(),
        "the endpoint's pod was removed",
        Whose::Pod(name.clone(), 11),
    );
    let (strays, who) = stray::seen_by(&director.stage.lab, &director.stage.lab.pod(&name).netns)?;
    if strays > 0 {
        director.strays.push((name.clone(), strays, who));
    }
    director.stage.remove_pod(&name)?;
    director.pause(100, 3000);
    director.stage.add_pod(node, 12)?;
    service.endpoints.insert(endpoint);
    let done = director.change(11, Some(service));
    let until = Instant::now() + AFTER;
    director.scene.history_mut().excuse_until(excuse, until);
    done
}
