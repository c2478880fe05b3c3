//! Agents that end and begin again.

use anyhow::Result;

use super::Director;
use crate::soak::stage::PATIENCE;

/// Without warning.
pub(super) fn kill(director: &mut Director) -> Result<()> {
    let node = director.node();
    director.stage.lab.agent_mut(node).kill();
    director.pause(50, 4000);
    start(director, node)
}

/// When asked to.
pub(super) fn stop(director: &mut Director) -> Result<()> {
    let node = director.node();
    director.stage.lab.agent_mut(node).stop()?;
    director.pause(50, 4000);
    start(director, node)
}

/// With other flags: another way for packets from outside, and what has nothing to do with packets.
pub(super) fn flags(director: &mut Director) -> Result<()> {
    let node = director.node();
    let xdp = *director.random.one(&["off", "generic", "native"]);
    director.step(xdp);
    let agent = director.stage.lab.agent_mut(node);
    agent.stop()?;
    let args = agent.args_mut();
    if let Some(at) = args.iter().position(|arg| arg == "--xdp") {
        args[at + 1] = xdp.to_owned();
    }
    match args.iter().position(|arg| arg == "--metrics-max-services") {
        Some(at) => drop(args.drain(at..at + 2)),
        None => args.extend(["--metrics-max-services", "3"].map(str::to_owned)),
    }
    start(director, node)
}

/// What changes while no agent runs is found by the next one (rule 92).
pub(super) fn meanwhile(director: &mut Director) -> Result<()> {
    let node = director.node();
    director.stage.lab.agent_mut(node).kill();
    for number in [1, 8] {
        if let Some(mut service) = director.newest(number) {
            service.endpoints = director.some_pods(1);
            director.write(number, Some(service))?;
        }
    }
    director.pause(500, 3000);
    start(director, node)
}

fn start(director: &mut Director, node: &str) -> Result<()> {
    director.step("it starts");
    let agent = director.stage.lab.agent_mut(node);
    agent.start()?;
    agent.wait_ready_for(PATIENCE)?;
    director.step("it follows");
    director.follow()
}
