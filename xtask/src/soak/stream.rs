//! TCP connections: opened, asked again and again, or filled with as many bytes as fit.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::{
    datagram::answered,
    judge::{Call, Outcome},
    random::Random,
};

/// An open connection, and who is at its other end.
#[derive(Debug)]
pub(super) struct Stream {
    tcp: TcpStream,
    /// The endpoint's name with the port it was asked by.
    pub(super) who: String,
    /// The client as the endpoint sees it.
    pub(super) seen: IpAddr,
}

impl Stream {
    /// Connects and reads who is there.
    ///
    /// # Errors
    /// What came of it instead.
    pub(super) fn open(call: &Call, patience: Duration) -> Result<Self, Outcome> {
        let (mut tcp, hello) = connect(call, patience).map_err(|error| outcome(&error))?;
        match tcp.peer_addr() {
            Ok(peer) if peer != call.to => {
                return Err(Outcome::Wrong(format!("the socket's peer is {peer}")));
            }
            _ => {}
        }
        match answered(&hello) {
            Outcome::Answered { who, seen } => {
                let _ = tcp.flush();
                Ok(Self { tcp, who, seen })
            }
            other => Err(other),
        }
    }

    /// The pod, or node, at the other end.
    pub(super) fn pod(&self) -> String {
        self.who.split('/').next().unwrap_or_default().to_owned()
    }

    /// What opening it came to.
    pub(super) fn as_outcome(&self) -> Outcome {
        Outcome::Answered {
            who: self.who.clone(),
            seen: self.seen,
        }
    }

    /// Sends so many bytes and reads them back.
    ///
    /// # Errors
    /// What came of it instead.
    pub(super) fn ask(&mut self, random: &mut Random, length: usize) -> Result<(), Outcome> {
        let (mut sent, mut back) = (vec![0; length], vec![0; length]);
        random.fill(&mut sent);
        let mut asked = || {
            self.tcp.write_all(&sent)?;
            self.tcp.read_exact(&mut back)
        };
        asked().map_err(|error| outcome(&error))?;
        compare(&sent, &back, 0)
    }

    /// Sends so many bytes while it reads them back, closes its half, and reads to the end.
    ///
    /// # Errors
    /// What came of it instead, and when it last was well.
    pub(super) fn transfer(mut self, seed: u64, length: usize) -> Result<(), (Instant, Outcome)> {
        let mut well = Instant::now();
        let fail = |well, error: &io::Error| (well, outcome(error));
        let mut writer = self.tcp.try_clone().map_err(|error| fail(well, &error))?;
        thread::scope(|scope| {
            let written = scope.spawn(move || write_all(&mut writer, seed, length));
            let mut expected = Random::new(seed, "transfer");
            let (mut at, mut buffer, mut chunk) = (0, vec![0; 64 << 10], vec![0; 64 << 10]);
            let mut pending: Vec<u8> = Vec::new();
            loop {
                let count = match self.tcp.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) => {
                        let _ = self.tcp.shutdown(Shutdown::Both); // the writer shall end, too
                        return Err(fail(well, &error));
                    }
                };
                well = Instant::now();
                while pending.len() < count {
                    expected.fill(&mut chunk);
                    pending.extend_from_slice(&chunk);
                }
                let compared = compare(&pending[..count], &buffer[..count], at);
                if let Err(wrong) = compared {
                    let _ = self.tcp.shutdown(Shutdown::Both); // as above
                    return Err((well, wrong));
                }
                pending.drain(..count);
                at += count;
            }
            let written = written.join().expect("writing does not panic");
            written.map_err(|error| fail(well, &error))?;
            if at != length {
                let why = format!("the end came after {at} of {length} bytes");
                return Err((well, Outcome::Failed(why)));
            }
            Ok(())
        })
    }

    /// Closes its half and waits for the other.
    ///
    /// # Errors
    /// What came of it instead.
    pub(super) fn close(mut self) -> Result<(), Outcome> {
        let mut closed = || {
            self.tcp.shutdown(Shutdown::Write)?;
            self.tcp.read(&mut [0])
        };
        match closed() {
            Ok(0) => Ok(()),
            Ok(_) => Err(Outcome::Wrong("bytes that nobody asked for".to_owned())),
            Err(error) => Err(outcome(&error)),
        }
    }
}

fn write_all(tcp: &mut TcpStream, seed: u64, length: usize) -> io::Result<()> {
    let mut random = Random::new(seed, "transfer");
    let (mut left, mut chunk) = (length, vec![0; 64 << 10]);
    while left > 0 {
        random.fill(&mut chunk);
        let count = left.min(chunk.len());
        tcp.write_all(&chunk[..count])?;
        left -= count;
    }
    tcp.shutdown(Shutdown::Write)
}

fn connect(call: &Call, patience: Duration) -> io::Result<(TcpStream, String)> {
    let socket = Socket::new(Domain::for_address(call.to), Type::STREAM, None)?;
    if call.port != 0 {
        socket.set_reuse_address(true)?;
        let any = super::datagram::any(call.v6);
        socket.bind(&SocketAddr::new(any, call.port).into())?;
    }
    socket.connect_timeout(&call.to.into(), patience)?;
    let mut tcp: TcpStream = socket.into();
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(patience))?;
    tcp.set_write_timeout(Some(patience))?;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        tcp.read_exact(&mut byte)?;
        line.push(byte[0]);
        if line.len() > 200 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    line.pop();
    Ok((tcp, String::from_utf8_lossy(&line).into_owned()))
}

fn compare(sent: &[u8], back: &[u8], at: usize) -> Result<(), Outcome> {
    let pairs = sent.iter().zip(back);
    match pairs.take_while(|(a, b)| a == b).count() {
        same if same == sent.len() => Ok(()),
        same => {
            let why = format!(
                "what came back is not what was sent from byte {} on",
                at + same
            );
            Err(Outcome::Wrong(why))
        }
    }
}

/// What an error of a socket means.
pub(super) fn outcome(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Outcome::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Outcome::Silent,
        io::ErrorKind::PermissionDenied => Outcome::Denied,
        io::ErrorKind::ConnectionAborted => Outcome::Aborted,
        io::ErrorKind::InvalidData => Outcome::Wrong(error.to_string()),
        _ => Outcome::Failed(error.to_string()),
    }
}
