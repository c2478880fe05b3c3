//! Many connections at once from few addresses, each with a token of its own.
//!
//! One thread drives all of them, and has a table of files of its own: both ends of all connections are this
//! process's, and one table need not be large enough for both.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    runtime::Runtime,
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use xtask::lab::Netns;

/// Connections being opened at a time.
const ABREAST: usize = 256;

/// Connections that are open.
pub(crate) struct Crowd {
    runtime: Runtime,
    members: Vec<Member>,
    /// Why the others are not.
    pub(crate) failures: Vec<io::Error>,
}

/// One of them.
struct Member {
    stream: TcpStream,
    token: u64,
    /// The client as its endpoint sees it.
    seen: SocketAddr,
}

/// Connections to be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// Where to.
    pub(crate) to: SocketAddr,
    /// The addresses they come from, in turn.
    pub(crate) from: &'a [IpAddr],
    /// How many.
    pub(crate) count: usize,
    /// How long each waits at most.
    pub(crate) patience: Duration,
}

/// Opens connections from `netns` and does `work` with them, on a thread of its own in there.
///
/// # Errors
/// If the namespace cannot be entered, and what `work` fails with. A connection that fails is no error.
pub(crate) fn gather<T: Send>(
    netns: &Netns,
    call: Call<'_>,
    work: impl FnOnce(Crowd) -> Result<T> + Send,
) -> Result<T> {
    allow_files()?;
    netns.run(|| {
        unshare(CloneFlags::CLONE_FILES).context("a table of files")?;
        work(Crowd::open(call)?)
    })?
}

impl Crowd {
    fn open(call: Call<'_>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no runtime")?;
        let results = runtime.block_on(open_all(call));
        let (mut members, mut failures) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(member) => members.push(member),
                Err(error) => failures.push(error),
            }
        }
        Ok(Self {
            runtime,
            members,
            failures,
        })
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The clients as their endpoints see them; two that are alike would be one.
    pub(crate) fn seen(&self) -> BTreeSet<SocketAddr> {
        self.members.iter().map(|member| member.seen).collect()
    }

    /// Has each send its token and get it back, while all are open.
    ///
    /// # Errors
    /// If one gets another's, or nothing.
    pub(crate) fn talk(&mut self) -> Result<()> {
        let members = &mut self.members;
        self.runtime.block_on(async {
            for member in &mut *members {
                let token = member.token.to_be_bytes();
                member.stream.write_all(&token).await.context("write")?;
            }
            for member in members {
                let mut back = [0; 8];
                let read = member.stream.read_exact(&mut back);
                let read = timeout(Duration::from_secs(10), read).await;
                let why = || format!("connection {} as {}", member.token, member.seen);
                read.with_context(why)?.with_context(why)?;
                let back = u64::from_be_bytes(back);
                ensure!(back == member.token, "{}: got {back}", why());
            }
            Ok(())
        })
    }

    /// Closes all of them and waits for the endpoints to do the same.
    ///
    /// # Errors
    /// If there is anything left to be read.
    pub(crate) fn close(mut self) -> Result<()> {
        self.runtime.block_on(async {
            for member in &mut self.members {
                member.stream.shutdown().await.context("shutdown")?;
            }
            for member in &mut self.members {
                let rest = timeout(Duration::from_secs(10), member.stream.read(&mut [0])).await;
                let rest = rest
                    .context("the endpoint does not close")?
                    .context("end")?;
                ensure!(
                    rest == 0,
                    "connection {}: more than its token",
                    member.token
                );
            }
            Ok(())
        })
    }
}

async fn open_all(call: Call<'_>) -> Vec<io::Result<Member>> {
    let Call {
        to,
        from,
        count,
        patience,
    } = call;
    let turns = Arc::new(Semaphore::new(ABREAST));
    let mut tasks = JoinSet::new();
    for (token, &from) in (0..count as u64).zip(from.iter().cycle()) {
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            let _turn = turns.acquire().await.expect("never closed");
            let opened = timeout(patience, open_one(to, from, token)).await;
            opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        });
    }
    tasks.join_all().await
}

async fn open_one(to: SocketAddr, from: IpAddr, token: u64) -> io::Result<Member> {
    let socket = match from {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&line);
    let seen = line.split_whitespace().nth(1).map(str::parse);
    let Some(Ok(seen)) = seen else {
        return Err(io::Error::other(format!("not an endpoint's line: {line}")));
    };
    Ok(Member {
        stream,
        token,
        seen,
    })
}

/// As many files as this process may have at all.
fn allow_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("too few files")
}
