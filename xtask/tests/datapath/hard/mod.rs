//! Flows that are no simple question and answer, with real sockets and real kernels at both ends: what hardly ever
//! happens, and then must not hang, reset or reach somebody else.

mod ends;
mod hairpin;
mod idle;
mod reuse;
mod same_port;
mod segment;
mod simultaneous;
mod windows;

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::Netns;

/// How long for what must come: long, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// The port of endpoints that the lab does not serve, so that a test has it.
const OWN_PORT: u16 = 9090;

/// A socket of the test's own at `at`. A process that another test starts at this moment still has, until it becomes
/// another program, the sockets that this one has closed.
fn bound<T: Send>(
    netns: &Netns,
    at: SocketAddr,
    bind: impl Fn(SocketAddr) -> io::Result<T> + Sync,
) -> Result<T> {
    let start = Instant::now();
    let bind = &bind;
    let bind = || loop {
        match bind(at) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < PATIENCE =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    };
    netns.run(bind)?.with_context(|| format!("bind to {at}"))
}

/// A listener of the test's own in a pod.
fn listen(netns: &Netns, at: SocketAddr) -> Result<TcpListener> {
    let listener = bound(netns, at, TcpListener::bind)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The next connection.
fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, client)) => {
                stream.set_nonblocking(false)?;
                patient(&stream)?;
                return Ok((stream, client));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ensure!(start.elapsed() < PATIENCE, "nobody connected");
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error).context("accept"),
        }
    }
}

/// A connection from a namespace.
fn connect(netns: &Netns, to: SocketAddr) -> Result<TcpStream> {
    let stream = netns.run(|| TcpStream::connect_timeout(&to, PATIENCE))?;
    let stream = stream.with_context(|| format!("connect to {to}"))?;
    patient(&stream)?;
    Ok(stream)
}

fn patient(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true).context("socket")
}
