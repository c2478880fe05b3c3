//! A client: one conversation with whatever answers at an address, checked byte by byte.
//!
//! TCP: connect, read the endpoint's line, send the payload while reading it back, compare. UDP: send,
//! wait, send again; an answer counts only if it comes from the very address that was asked.

use std::{
    fmt, io,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    str::FromStr,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::{netns::Netns, patience::stretched};

/// How a frontend is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Tcp, Self::Udp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Self::Tcp { "TCP" } else { "UDP" })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            other => Err(format!("protocol {other} cannot be probed")),
        }
    }
}

/// Who answered and whom it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The endpoint's name.
    pub endpoint: String,
    /// The client's address as the endpoint saw it.
    pub client: SocketAddr,
    /// The client's address as the client knows it; unspecified for UDP on an unconnected socket.
    pub local: SocketAddr,
    /// From the first packet to the last byte.
    pub elapsed: Duration,
}

/// A conversation that failed.
#[derive(Debug)]
pub struct ProbeError {
    /// With whom.
    pub to: SocketAddr,
    /// How.
    pub protocol: Protocol,
    /// What was being done.
    pub stage: &'static str,
    /// Why it failed.
    pub source: io::Error,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}: {}: {}",
            self.to, self.protocol, self.stage, self.source
        )
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A conversation to have.
#[derive(Clone, Debug)]
pub struct Probe {
    /// With whom.
    pub to: SocketAddr,
    /// How.
    pub protocol: Protocol,
    /// What is sent and must come back.
    pub payload: Vec<u8>,
    /// The client's address; `None` for what the kernel takes.
    pub from: Option<IpAddr>,
    /// The client's port; 0 for any.
    pub port: u16,
    /// TCP: to connect, and for every read and write. UDP: for one answer. Longer on a slow machine.
    pub timeout: Duration,
    /// UDP: how often the datagram is sent at most.
    pub attempts: u32,
    /// UDP: connect the socket, which then gets ICMP errors.
    pub connected: bool,
}

impl Probe {
    /// A short conversation with the usual patience.
    pub fn new(protocol: Protocol, to: SocketAddr) -> Self {
        let timeout = Duration::from_millis(if protocol == Protocol::Tcp { 3000 } else { 700 });
        Self {
            to,
            protocol,
            payload: b"duolb".to_vec(),
            from: None,
            port: 0,
            timeout,
            attempts: 4,
            connected: false,
        }
    }

    /// Another payload.
    #[must_use]
    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            payload: payload.into(),
            ..self
        }
    }

    /// A payload of `length` bytes that repeats at no short distance.
    #[must_use]
    pub fn length(self, length: usize) -> Self {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        self.payload((0..length).map(|_| next()).collect::<Vec<u8>>())
    }

    /// A certain client address.
    #[must_use]
    pub fn from(self, from: IpAddr) -> Self {
        Self {
            from: Some(from),
            ..self
        }
    }

    /// A certain client port.
    #[must_use]
    pub fn from_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// Another timeout.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Another number of attempts.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    /// With a connected UDP socket.
    #[must_use]
    pub fn connected(self) -> Self {
        Self {
            connected: true,
            ..self
        }
    }

    /// Has the conversation from inside `netns`.
    ///
    /// # Errors
    /// At which stage it failed and why.
    pub fn run_in(&self, netns: &Netns) -> Result<Answer, ProbeError> {
        let entered = netns.run(|| self.run());
        entered.unwrap_or_else(|error| Err(self.failed("enter namespace")(io::Error::other(error))))
    }

    /// Has the conversation from the calling thread's namespace.
    ///
    /// # Errors
    /// At which stage it failed and why.
    pub fn run(&self) -> Result<Answer, ProbeError> {
        let start = Instant::now();
        let (hello, local) = match self.protocol {
            Protocol::Tcp => self.tcp()?,
            Protocol::Udp => self.udp()?,
        };
        let parsed = hello
            .split_once(' ')
            .and_then(|(name, client)| Some((name, client.parse().ok()?)));
        let Some((endpoint, client)) = parsed else {
            return Err(self.wrong("hello", format!("not an endpoint's line: {hello:?}")));
        };
        Ok(Answer {
            endpoint: endpoint.to_owned(),
            client,
            local,
            elapsed: start.elapsed(),
        })
    }

    /// A bound socket.
    fn socket(&self, kind: Type) -> Result<Socket, ProbeError> {
        let any = if self.to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket =
            Socket::new(Domain::for_address(self.to), kind, None).map_err(self.failed("socket"))?;
        socket
            .set_reuse_address(true)
            .map_err(self.failed("socket"))?;
        let own = SocketAddr::new(self.from.unwrap_or(any), self.port);
        if kind == Type::DGRAM || self.port != 0 || self.from.is_some() {
            socket.bind(&own.into()).map_err(self.failed("bind"))?;
        }
        Ok(socket)
    }

    fn tcp(&self) -> Result<(String, SocketAddr), ProbeError> {
        let socket = self.socket(Type::STREAM)?;
        socket
            .connect_timeout(&self.to.into(), stretched(self.timeout))
            .map_err(self.failed("connect"))?;
        let mut stream: TcpStream = socket.into();
        stream
            .set_read_timeout(Some(stretched(self.timeout)))
            .map_err(self.failed("socket"))?;
        stream
            .set_write_timeout(Some(stretched(self.timeout)))
            .map_err(self.failed("socket"))?;
        let peer = stream.peer_addr().map_err(self.failed("peer address"))?;
        if peer != self.to {
            return Err(self.wrong("peer address", format!("the socket says {peer}")));
        }
        let local = stream.local_addr().map_err(self.failed("local address"))?;
        let hello = read_line(&mut stream).map_err(self.failed("read hello"))?;
        let mut back = Vec::with_capacity(self.payload.len());
        // Both ways at once: an echo of more than the buffers hold would block both ends else.
        let mut writer = stream.try_clone().map_err(self.failed("socket"))?;
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || {
                writer.write_all(&self.payload)?;
                writer.shutdown(std::net::Shutdown::Write)
            });
            stream
                .read_to_end(&mut back)
                .map_err(self.failed("read echo"))?;
            sent.join()
                .expect("writing does not panic")
                .map_err(self.failed("write"))
        })?;
        self.compare(&back)?;
        Ok((hello, local))
    }

    fn udp(&self) -> Result<(String, SocketAddr), ProbeError> {
        let socket = self.socket(Type::DGRAM)?;
        if self.connected {
            socket
                .connect(&self.to.into())
                .map_err(self.failed("connect"))?;
        }
        let socket: UdpSocket = socket.into();
        socket
            .set_read_timeout(Some(stretched(self.timeout)))
            .map_err(self.failed("socket"))?;
        let mut buffer = vec![0; 64 << 10];
        let mut attempt = 0;
        let (length, from) = loop {
            attempt += 1;
            let sent = match self.connected {
                true => socket.send(&self.payload),
                false => socket.send_to(&self.payload, self.to),
            };
            sent.map_err(self.failed("send"))?;
            match socket.recv_from(&mut buffer) {
                Ok(received) => break received,
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && attempt < self.attempts => {}
                Err(error) => return Err(self.failed("receive")(error)),
            }
        };
        if from != self.to {
            return Err(self.wrong("source", format!("the answer came from {from}")));
        }
        let end = buffer[..length]
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(length);
        self.compare(buffer[..length].get(end + 1..).unwrap_or_default())?;
        let local = socket.local_addr().map_err(self.failed("local address"))?;
        Ok((String::from_utf8_lossy(&buffer[..end]).into_owned(), local))
    }

    fn compare(&self, back: &[u8]) -> Result<(), ProbeError> {
        if back == self.payload {
            return Ok(());
        }
        let same = back
            .iter()
            .zip(&self.payload)
            .take_while(|(a, b)| a == b)
            .count();
        let (came, sent) = (back.len(), self.payload.len());
        Err(self.wrong(
            "echo",
            format!("{came} bytes came back of {sent}, alike up to byte {same}"),
        ))
    }

    fn failed(
        &self,
        stage: &'static str,
    ) -> impl Fn(io::Error) -> ProbeError + Send + Sync + use<> {
        let (to, protocol) = (self.to, self.protocol);
        move |source| {
            // What a timeout on a socket is called.
            let timed_out = source.kind() == io::ErrorKind::WouldBlock;
            let source = if timed_out {
                io::ErrorKind::TimedOut.into()
            } else {
                source
            };
            ProbeError {
                to,
                protocol,
                stage,
                source,
            }
        }
    }

    fn wrong(&self, stage: &'static str, text: String) -> ProbeError {
        self.failed(stage)(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

/// The endpoint's line without its end; byte by byte, so that nothing of the echo is swallowed.
fn read_line(stream: &mut TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        match byte[0] {
            b'\n' => return Ok(String::from_utf8_lossy(&line).into_owned()),
            byte => line.push(byte),
        }
    }
}
