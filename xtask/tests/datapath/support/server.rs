//! A server for what the lab's endpoints are not: many addresses in one pod, each answering under its
//! own name, and UDP without checksums.
//!
//! It speaks as they do, with `<address>:<port>` for a name, so that the lab's probes understand it.
//! Sockets belong to the namespace they were made in; one thread serves them all.

use std::{
    net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdUdp},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::oneshot,
    task::LocalSet,
};
use xtask::lab::{Netns, leave_out_checksums};

/// Sockets to be served.
#[derive(Default)]
pub struct Sockets {
    tcp: Vec<StdListener>,
    udp: Vec<StdUdp>,
}

impl Sockets {
    /// Binds TCP and UDP sockets of `addresses` in `netns`.
    pub fn bind(&mut self, netns: &Netns, addresses: &[SocketAddr]) -> Result<()> {
        netns.run(|| {
            for address in addresses {
                let tcp = StdListener::bind(address).with_context(|| format!("{address}/TCP"))?;
                tcp.set_nonblocking(true)?;
                self.tcp.push(tcp);
            }
            self.bind_udp(addresses, false)
        })?
    }

    /// Binds UDP sockets that neither send nor ask for checksums.
    pub fn bind_without_checksums(
        &mut self,
        netns: &Netns,
        addresses: &[SocketAddr],
    ) -> Result<()> {
        netns.run(|| self.bind_udp(addresses, true))?
    }

    fn bind_udp(&mut self, addresses: &[SocketAddr], without_checksums: bool) -> Result<()> {
        for address in addresses {
            let udp = StdUdp::bind(address).with_context(|| format!("{address}/UDP"))?;
            udp.set_nonblocking(true)?;
            if without_checksums {
                leave_out_checksums(&udp, *address)?;
            }
            self.udp.push(udp);
        }
        Ok(())
    }

    /// Serves them until the server is dropped.
    pub fn serve(self) -> Result<Server> {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let tasks = LocalSet::new();
            let _ = ready.send(tasks.block_on(&runtime, async { self.spawn() }));
            let _ = tasks.block_on(&runtime, stopped); // dropped is as good
        };
        let server = Server {
            stop: Some(stop),
            thread: Some(thread::spawn(body)),
        };
        started
            .recv()
            .context("the server's thread ended")
            .flatten()?;
        Ok(server)
    }

    fn spawn(self) -> Result<()> {
        for tcp in self.tcp {
            tokio::task::spawn_local(accept(TcpListener::from_std(tcp)?));
        }
        for udp in self.udp {
            tokio::task::spawn_local(answer(UdpSocket::from_std(udp)?));
        }
        Ok(())
    }
}

/// A running server; drop it before the lab, whose namespaces its sockets hold.
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has failed its test already
        }
    }
}

async fn accept(listener: TcpListener) {
    let name = listener.local_addr().expect("a bound socket");
    loop {
        if let Ok((stream, client)) = listener.accept().await {
            tokio::task::spawn_local(echo(stream, format!("{name} {client}\n")));
        }
    }
}

/// Errors end the connection, which the client sees.
async fn echo(mut stream: TcpStream, hello: String) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(hello.as_bytes()).await?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..length]).await?;
    }
}

async fn answer(socket: UdpSocket) {
    let name = socket.local_addr().expect("a bound socket");
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue; // an ICMP error of an earlier answer
        };
        let mut reply = format!("{name} {client}\n").into_bytes();
        reply.extend_from_slice(&buffer[..length]);
        let _ = socket.send_to(&reply, client).await;
    }
}
