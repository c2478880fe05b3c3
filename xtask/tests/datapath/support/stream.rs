//! A TCP connection to an endpoint that a test keeps open and talks by, now and later.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};
use xtask::lab::Netns;
use xtask::lab::patience::stretched;

/// How long a read or write may make no progress.
const PATIENCE: Duration = Duration::from_secs(5);

/// An open connection.
pub struct Stream {
    tcp: TcpStream,
    to: SocketAddr,
    /// The endpoint's name.
    pub endpoint: String,
    /// The client's address as the endpoint sees it.
    pub client: SocketAddr,
}

impl Stream {
    /// Connects from `netns`; from a certain port unless it is 0.
    pub fn open(netns: &Netns, port: u16, to: SocketAddr) -> Result<Self> {
        netns.run(|| Self::open_here(port, to))?
    }

    /// The same from the calling thread's namespace.
    pub fn open_here(port: u16, to: SocketAddr) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if port != 0 {
            socket.set_reuse_address(true)?;
            let any = match to {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let own = SocketAddr::new(any, port);
            socket.bind(&own.into()).context("bind")?;
        }
        let connected = socket.connect_timeout(&to.into(), stretched(PATIENCE));
        connected.with_context(|| format!("connect to {to} from port {port}"))?;
        let mut tcp: TcpStream = socket.into();
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(stretched(PATIENCE)))?;
        tcp.set_write_timeout(Some(stretched(PATIENCE)))?;
        let hello = read_line(&mut tcp).with_context(|| format!("{to}: no hello"))?;
        let parsed = hello.split_once(' ').and_then(|(name, client)| {
            let client = client.parse().ok()?;
            Some((name.to_owned(), client))
        });
        let (endpoint, client) = parsed.with_context(|| format!("hello {hello:?}"))?;
        Ok(Self {
            tcp,
            to,
            endpoint,
            client,
        })
    }

    /// Sends `payload` while it reads it back, and compares.
    pub fn exchange(&mut self, payload: &[u8]) -> Result<()> {
        let mut writer = self.tcp.try_clone()?;
        let mut back = vec![0; payload.len()];
        thread::scope(|scope| {
            let sent = scope.spawn(move || writer.write_all(payload));
            let read = self.tcp.read_exact(&mut back);
            let sent = sent.join().expect("writing does not panic");
            sent.and(read)
        })
        .with_context(|| format!("{}: exchange of {} bytes", self.to, payload.len()))?;
        ensure!(back == payload, "{}: other bytes came back", self.to);
        Ok(())
    }

    /// The same for payloads that fit all buffers, without a thread.
    pub fn exchange_little(&mut self, payload: &[u8]) -> Result<()> {
        let mut back = vec![0; payload.len()];
        self.tcp
            .write_all(payload)
            .and_then(|()| self.tcp.read_exact(&mut back))
            .with_context(|| format!("{}: exchange", self.to))?;
        ensure!(back == payload, "{}: other bytes came back", self.to);
        Ok(())
    }

    /// The client's address as its own socket knows it.
    pub fn local(&self) -> Result<SocketAddr> {
        self.tcp.local_addr().context("local address")
    }

    /// The peer as the client's socket knows it.
    pub fn peer(&self) -> Result<SocketAddr> {
        self.tcp.peer_addr().context("peer address")
    }

    /// Closes both ways and waits until the endpoint has closed as well.
    pub fn close(mut self) -> Result<()> {
        self.tcp.shutdown(std::net::Shutdown::Write)?;
        let rest = self.tcp.read_to_end(&mut Vec::new());
        ensure!(rest.context("close")? == 0, "{}: bytes at the end", self.to);
        Ok(())
    }

    /// Closes with RST, so that no port stays in TIME-WAIT.
    pub fn reset(self) -> Result<()> {
        let socket = Socket::from(self.tcp);
        socket.set_linger(Some(Duration::ZERO)).context("linger")
    }
}

fn read_line(tcp: &mut TcpStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        tcp.read_exact(&mut byte)?;
        line.extend(byte);
    }
    line.pop();
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// `length` bytes that repeat at no short distance.
pub fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}
