//! Signals in the middle of a start or a sync: the datapath goes on, and the next start converges.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    needs_root,
    node::{Faulty, nothing_lost},
};

/// Services besides `web`, so that a sync takes its time.
const CROWD: usize = 2_000;
/// An agent that is told to stop is not waited for longer by anybody (`terminationGracePeriodSeconds`).
const GRACE: Duration = Duration::from_secs(20);

/// Manifests of many Services with an endpoint each, at this port.
fn crowd(port: u16) -> String {
    let mut text = String::new();
    for index in 0..CROWD {
        let (high, low) = (index / 250 + 1, index % 250 + 1);
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{index}}}\nspec: {{clusterIP: 10.96.{high}.{low}, \
             clusterIPs: [10.96.{high}.{low}], ports: [{{port: 80}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: \
             EndpointSlice\nmetadata: {{name: s{index}, labels: {{kubernetes.io/service-name: s{index}}}}}\n\
             addressType: IPv4\nports: [{{name: \"\", port: {port}}}]\nendpoints: [{{addresses: [10.244.1.10]}}]\n"
        );
    }
    text
}

/// Ends the agent so many times at moments all over its start and first sync, while the manifests change.
fn end_in_the_middle(times: u32) -> Result<()> {
    let mut faulty = Faulty::start(&[])?;
    faulty.directory.write("crowd.yaml", &crowd(1000))?;
    faulty.wait("the crowd is served", || Ok(faulty.dump()?.len() > CROWD))?;
    // How long it all takes here and now.
    faulty.agent_mut().stop()?;
    let start = Instant::now();
    faulty.agent_mut().start()?;
    faulty.agent().wait_ready()?;
    let whole = start.elapsed();
    let streams = faulty.stream()?;
    streams.wait_rounds(50)?;
    for time in 1..=times {
        faulty.agent_mut().stop()?;
        let port = 1000 + u16::try_from(time)?;
        faulty.directory.write("crowd.yaml", &crowd(port))?;
        faulty.agent_mut().start()?;
        // Any permutation of moments does: 7 and 20 have no common divisor.
        thread::sleep(whole * (time * 7 % 20) / 16);
        let asked = Instant::now();
        if time % 2 == 0 {
            faulty.agent_mut().kill();
        } else {
            faulty.agent_mut().stop()?;
        }
        ensure!(asked.elapsed() < GRACE, "it took {:?}", asked.elapsed());
        streams.wait_rounds(50)?;
        faulty.agent_mut().start()?;
        faulty.agent().wait_ready()?;
        let dump = faulty.dump()?;
        let wanted = format!("\"10.244.1.10\",\"port\":{port}}}");
        let right = dump
            .values()
            .filter(|endpoints| endpoints.contains(&wanted));
        ensure!(
            right.count() == CROWD,
            "after {time} times not all lead to {wanted}"
        );
        streams.wait_rounds(50)?;
    }
    faulty.check_served()?;
    let log = faulty.agent().log();
    ensure!(!log.contains("panicked"), "{log}");
    nothing_lost(streams)
}

#[test]
fn signals_in_the_middle_of_a_sync_break_nothing() -> Result<()> {
    needs_root!();
    end_in_the_middle(4)
}

#[test]
#[ignore = "takes minutes: the same at twenty moments"]
fn signals_at_twenty_moments_break_nothing() -> Result<()> {
    needs_root!();
    end_in_the_middle(20)
}
