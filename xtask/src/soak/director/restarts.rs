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

/// How often an agent is started that ends while it begins.
const STARTS: u32 = 5;

/// An agent that gives up because the kernel answers too slowly is started again, as a kubelet would; that is counted.
fn start(director: &mut Director, node: &str) -> Result<()> {
    director.step("it starts");
    for again in 1.. {
        let agent = director.stage.lab.agent_mut(node);
        agent.start()?;
        match agent.wait_ready_for(PATIENCE) {
            Ok(()) => break,
            Err(_) if again < STARTS && !agent.is_running() => {
                let mut ledger = director.scene.ledger();
                *ledger
                    .actions
                    .entry("an agent had to be started again")
                    .or_default() += 1;
            }
            Err(error) => return Err(error),
        }
    }
    director.step("it follows");
    director.follow()
}
