//! A byte there and a byte back: over a connection for each, or over one that stays open.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use socket2::{Domain, SockRef, Socket, Type};

use crate::lab::Netns;

/// Longer than any exchange takes that is not lost; a SYN that is sent again comes after a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a server that waits for a client looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Answers each byte by the same byte, both families, one connection at a time; ends when dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `port` in `netns`.
    ///
    /// # Errors
    /// If the port is taken or the namespace cannot be entered.
    pub fn start(netns: &Netns, port: u16) -> Result<Self> {
        let listener = netns.run(|| listen(port))??;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name(format!("exchange-{port}"))
            .spawn(move || serve(&listener, &is_over))
            .context("no thread")?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it does not panic
        }
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    // A timeout of a listener's is one of accept(2).
    socket.set_read_timeout(Some(LOOK))?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn serve(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut connection, _)) = listener.accept() else {
            continue;
        };
        let _ = connection.set_read_timeout(Some(LOOK)); // the option exists
        let _ = connection.set_nodelay(true); // so does this
        let mut byte = [0];
        loop {
            match connection.read(&mut byte) {
                Ok(1) if connection.write_all(&byte).is_ok() => {}
                Err(error) if is_timeout(&error) && !stop.load(Ordering::Relaxed) => {}
                // The end of it, which a client makes by a reset.
                _ => break,
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// What a client has seen in its time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exchanges {
    /// How long each took, in seconds, in order of length.
    pub sorted: Vec<f64>,
    /// How long all of it took, in seconds.
    pub elapsed: f64,
}

impl Exchanges {
    /// Exchanges a second.
    #[expect(clippy::cast_precision_loss, reason = "there are not 2^52 of them")]
    pub fn per_second(&self) -> f64 {
        self.sorted.len() as f64 / self.elapsed
    }
}

/// Connects, exchanges a byte and resets, over and over, for a time.
///
/// # Errors
/// If a connection fails or an answer is not what was said.
pub fn connections(from: &Netns, to: SocketAddr, time: Duration) -> Result<Exchanges> {
    from.run(|| {
        repeat(time, |byte| {
            let mut connection = connect(to)?;
            exchange(&mut connection, byte)
        })
    })?
    .with_context(|| format!("connections to {to}"))
}

/// Exchanges a byte over one connection, over and over, for a time.
///
/// # Errors
/// If the connection fails or an answer is not what was said.
pub fn requests(from: &Netns, to: SocketAddr, time: Duration) -> Result<Exchanges> {
    from.run(|| {
        let mut connection = connect(to)?;
        repeat(time, |byte| exchange(&mut connection, byte))
    })?
    .with_context(|| format!("requests to {to}"))
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    SockRef::from(&connection).set_linger(Some(Duration::ZERO))?;
    Ok(connection)
}

fn exchange(connection: &mut TcpStream, byte: u8) -> io::Result<()> {
    connection.write_all(&[byte])?;
    let mut answer = [0];
    connection.read_exact(&mut answer)?;
    if answer == [byte] {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "said {byte}, heard {}",
            answer[0]
        )))
    }
}

fn repeat(time: Duration, mut work: impl FnMut(u8) -> io::Result<()>) -> Result<Exchanges> {
    let start = Instant::now();
    let mut exchanges = Exchanges::default();
    let mut byte = 0u8;
    while start.elapsed() < time {
        byte = byte.wrapping_add(1);
        let before = Instant::now();
        work(byte)?;
        exchanges.sorted.push(before.elapsed().as_secs_f64());
    }
    exchanges.elapsed = start.elapsed().as_secs_f64();
    exchanges.sorted.sort_by(f64::total_cmp);
    Ok(exchanges)
}
