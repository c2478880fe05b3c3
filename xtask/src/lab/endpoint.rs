//! The server in an endpoint pod: says who it is and whom it sees, then echoes.
//!
//! On each of [`PORTS`], TCP and UDP, both families. TCP: on accept one line `<name> <client>:<port>\n`,
//! then every byte back until the client's end of file. UDP: each datagram is answered with that line
//! followed by its payload, cut where a datagram ends.
//!
//! One thread per pod with a single-threaded runtime on it: namespaces belong to threads, and thousands
//! of connections must not mean thousands of threads.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::oneshot,
    task::LocalSet,
};

use super::netns::Netns;

/// The ports every endpoint serves, TCP and UDP.
pub const PORTS: [u16; 3] = [8080, 8081, 5353];
/// The largest payload of a UDP datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;

/// A running server; dropping it closes all its sockets.
#[derive(Debug)]
pub struct Endpoint {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Starts serving in `netns` as `name`; returns when all sockets listen.
    ///
    /// # Errors
    /// If the namespace cannot be entered or a port cannot be bound.
    pub fn start(netns: &Netns, name: &str) -> Result<Self> {
        Self::start_as(
            netns,
            name,
            PORTS.map(|port| (port, name.to_owned())).into(),
        )
    }

    /// Starts serving in `netns` on these ports, on each under the name beside it; `thread` is what the
    /// server is called.
    ///
    /// # Errors
    /// If the namespace cannot be entered or a port cannot be bound.
    pub fn start_as(netns: &Netns, thread: &str, names: Vec<(u16, String)>) -> Result<Self> {
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let names = names.into_iter().map(|(port, name)| (any(port), name));
        Self::start_at(netns, thread, names.collect())
    }

    /// The same at certain addresses: a datagram's answer then has the address that was asked, also where the
    /// namespace has several.
    ///
    /// # Errors
    /// As above.
    pub fn start_at(netns: &Netns, thread: &str, names: Vec<(SocketAddr, String)>) -> Result<Self> {
        let (door, name) = (netns.door(), thread.to_owned());
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = door.enter().and_then(|()| runtime.context("no runtime"));
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let tasks = LocalSet::new();
            let _ = ready.send(tasks.block_on(&runtime, async { listen(&names) }));
            let _ = tasks.block_on(&runtime, stopped); // the sender going away is as good
        };
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(body)
            .context("no thread")?;
        let endpoint = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        started
            .recv()
            .context("the thread ended")
            .flatten()
            .with_context(|| format!("endpoint {name}"))?;
        Ok(endpoint)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it holds the namespace until it ends
        }
    }
}

/// Binds everything, and leaves a task with each socket.
fn listen(names: &[(SocketAddr, String)]) -> Result<()> {
    for &(at, ref name) in names {
        let tcp = socket(Type::STREAM, at).with_context(|| format!("{at}/TCP"))?;
        tcp.listen(4096).with_context(|| format!("{at}/TCP"))?;
        let tcp = TcpListener::from_std(tcp.into()).context("no listener")?;
        let udp = socket(Type::DGRAM, at).with_context(|| format!("{at}/UDP"))?;
        let udp = UdpSocket::from_std(udp.into()).context("no socket")?;
        tokio::task::spawn_local(accept(tcp, name.clone()));
        tokio::task::spawn_local(answer(udp, name.clone()));
    }
    Ok(())
}

/// A socket at an address; for both families if it is IPv6's unspecified one.
fn socket(kind: Type, at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), kind, None)?;
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if kind == Type::DGRAM {
        socket.set_recv_buffer_size(1 << 20)?;
    }
    socket.bind(&at.into())?;
    Ok(socket)
}

/// The line an endpoint introduces itself with.
fn hello(name: &str, client: SocketAddr) -> String {
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    format!("{name} {client}\n")
}

async fn accept(listener: TcpListener, name: String) {
    loop {
        // An error here is a connection that did not live to be accepted, or no file descriptors.
        match listener.accept().await {
            Ok((stream, client)) => {
                drop(tokio::task::spawn_local(echo(stream, hello(&name, client))))
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Errors end the connection, which the client sees.
async fn echo(mut stream: TcpStream, hello: String) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(hello.as_bytes()).await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..length]).await?;
    }
}

async fn answer(socket: UdpSocket, name: String) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        // ICMP errors of earlier answers come up here; a client that went away is no concern.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let mut reply = hello(&name, client).into_bytes();
        reply.extend_from_slice(&buffer[..length]);
        reply.truncate(MAX_DATAGRAM);
        let _ = socket.send_to(&reply, client).await;
    }
}
