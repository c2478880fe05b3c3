//! Streams, by iperf3: what everybody measures with.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    lab::{Lab, Netns},
    workspace,
};

/// Loops for the server's socket: how long it may take to listen.
const TRIES: u32 = 100;

/// `iperf3 -s` in a namespace; ends when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

impl Server {
    /// Listens on `port`, both families.
    ///
    /// # Errors
    /// If iperf3 is missing or does not listen.
    pub fn start(netns: &Netns, port: u16) -> Result<Self> {
        let path = workspace::find_program("iperf3").context("no program iperf3")?;
        let mut command = Command::new(path);
        command
            .args(["-s", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = netns.run(|| command.spawn())?.context("iperf3")?;
        let server = Self { child };
        netns.run(|| wait_for(port))??;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(port: u16) -> Result<()> {
    for _ in 0..TRIES {
        let hex = format!(":{port:04X} ");
        let listening = std::fs::read_to_string("/proc/thread-self/net/tcp6")?
            .lines()
            .any(|line| line.contains(&hex) && line.contains(" 0A "));
        if listening {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("iperf3 does not listen on port {port}")
}

/// What flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// So many TCP connections at once.
    Tcp(u8),
    /// UDP as fast as it goes, in datagrams that fit a packet.
    Udp,
}

/// Gbit/s that arrive from a client in `from` at the server behind `to`.
///
/// # Errors
/// If iperf3 fails; with what it said.
pub fn gigabits(
    lab: &Lab,
    from: &Netns,
    to: SocketAddr,
    stream: Stream,
    time: Duration,
) -> Result<f64> {
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    let seconds = time.as_secs().max(1).to_string();
    let mut command = vec!["iperf3", "-J", "-c", &host, "-p", &port, "-t", &seconds];
    let streams;
    match stream {
        Stream::Tcp(count) => {
            streams = count.to_string();
            command.extend(["-P", &streams]);
        }
        Stream::Udp => command.extend(["-u", "-b", "0", "-l", "1400"]),
    }
    let json: Value =
        serde_json::from_str(&lab.exec(from, &command)?).context("iperf3's report")?;
    read(&json).with_context(|| format!("iperf3 to {to}: {}", json["error"]))
}

/// What the receiver got, in Gbit/s.
fn read(json: &Value) -> Result<f64> {
    let end = &json["end"];
    let udp = &end["sum"];
    let bits = end["sum_received"]["bits_per_second"].as_f64();
    let bits = match (bits, udp["lost_percent"].as_f64()) {
        // Before 3.8 UDP has one sum, of the sender.
        (None, Some(lost)) => udp["bits_per_second"]
            .as_f64()
            .map(|sent| sent * (100.0 - lost) / 100.0),
        (bits, _) => bits,
    };
    let bits = bits.context("no rate")?;
    ensure!(bits > 0.0, "nothing arrived");
    Ok(bits / 1e9)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_arrived_counts_and_not_what_was_sent() {
        let tcp = json!({"end": {"sum_sent": {"bits_per_second": 9e9}, "sum_received": {"bits_per_second": 8e9}}});
        assert_eq!(read(&tcp).unwrap(), 8.0);
        let udp = json!({"end": {"sum": {"bits_per_second": 4e9, "lost_percent": 25.0}}});
        assert_eq!(read(&udp).unwrap(), 3.0);
        assert!(read(&json!({"error": "unable to connect"})).is_err());
    }
}
