//! The API server's double as a process of its own: this test binary once more, told what to do line by line.

use std::{
    env,
    io::{BufRead as _, BufReader, Lines, Write as _},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xtask::lab::Host;

use crate::{
    double::Double,
    objects::{NODE, node, service, slice},
};

/// Set in the process that is the API server: its address, services, endpoints of each.
const ROLE: &str = "DUOLB_SCALE_API";

/// The process; killed when dropped.
pub(super) struct Api {
    pub(super) url: String,
    pub(super) services: usize,
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Api {
    /// Starts it on `host`, with so many services and endpoints of each.
    pub(super) fn start(host: &Host, services: usize, endpoints: usize) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["--ignored", "--exact", "--nocapture", "scale::api::role"])
            .env(
                ROLE,
                format!("{} {services} {endpoints}", host.addresses.v4),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = host.netns.run(|| command.spawn())??;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut api = Self {
            url: String::new(),
            services,
            child,
            said: BufReader::new(stdout).lines(),
        };
        api.url = api.hear("listening on ")?;
        Ok(api)
    }

    /// Has it do something; it has when this returns.
    pub(super) fn order(&mut self, order: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("stdin is piped")?;
        writeln!(stdin, "{order}")?;
        self.hear("done").map(drop)
    }

    fn hear(&mut self, wanted: &str) -> Result<String> {
        for line in &mut self.said {
            if let Some((_, rest)) = line?.split_once(wanted) {
                return Ok(rest.to_owned());
            }
        }
        anyhow::bail!("the API server has ended")
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill(); // gone already
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "not a test: the process that is the API server"]
fn role() -> Result<()> {
    let Ok(role) = env::var(ROLE) else {
        return Ok(());
    };
    let [address, services, endpoints] = role.split(' ').collect::<Vec<_>>()[..] else {
        anyhow::bail!("{ROLE}={role}");
    };
    let address = SocketAddr::new(address.parse()?, 0);
    let (services, endpoints) = (services.parse()?, endpoints.parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    // Sockets are made on this thread, which the harness started from one in the namespace.
    let double = runtime.block_on(Double::start_at(address, None));
    double.put(&node(NODE, "a"));
    for number in 0..services {
        let (net, host) = (number / 250, number % 250 + 1);
        double.put(&service(&name(number), &format!("{net}.{host}")));
        double.put(&slice_of(number, 0, services, endpoints));
    }
    double.forget_seen();
    println!("listening on {}", double.url());
    for order in std::io::stdin().lines() {
        let order = order?;
        double.forget_seen();
        match order.split(' ').collect::<Vec<_>>()[..] {
            ["change"] => {
                let mut changed = slice_of(0, 0, services, endpoints);
                changed["endpoints"][0]["addresses"][0] = "9.9.9.9".into();
                double.put(&changed);
            }
            ["rollout", generation, from, to] => {
                for number in from.parse()?..to.parse()? {
                    double.put(&slice_of(number, generation.parse()?, services, endpoints));
                }
            }
            _ => ensure!(order.is_empty(), "what is {order:?}?"),
        }
        println!("done");
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("service-{number}")
}

/// The slice of a service; no address is in two generations.
fn slice_of(number: usize, generation: usize, services: usize, endpoints: usize) -> Value {
    let first = (generation * services + number) * endpoints;
    let address = |at: usize| {
        let at = u32::try_from(first + at).expect("less than 2^24 endpoints");
        Ipv4Addr::from(u32::from(Ipv4Addr::new(16, 0, 0, 0)) + at).to_string()
    };
    let addresses: Vec<_> = (0..endpoints).map(address).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let name = name(number);
    slice(&format!("{name}-x7k2p"), &name, &addresses)
}
