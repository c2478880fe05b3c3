//! What an agent answers over HTTP, asked on its node.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use xtask::lab::Host;

/// Where health is asked for, and metrics.
pub(crate) const HEALTH: u16 = 10256;
pub(crate) const METRICS: u16 = 10249;

/// Status and body of a GET on a node itself.
pub(crate) fn get(host: &Host, port: u16, path: &str) -> Result<(u16, String)> {
    let answer = ask(host, SocketAddr::from(([127, 0, 0, 1], port)), path)?;
    Ok((answer.status, answer.body))
}

/// An answer: status, header lines in lower case, body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// The answer to a GET from a node to `to`.
pub(crate) fn ask(host: &Host, to: SocketAddr, path: &str) -> Result<Answer> {
    let ask = || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let answer = host.netns.run(ask)?.with_context(|| path.to_owned())?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let head = head.to_ascii_lowercase();
    let body = body.to_owned();
    Ok(Answer { status, head, body })
}
