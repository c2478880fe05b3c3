//! A tunnel between two namespaces: a tun device in each, and a task that carries packets from one to the other.
//!
//! It stands for WireGuard, IPIP and whatever else has no link layer: packets begin with their IP header, and nobody
//! has or asks for a MAC.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::libc;
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Runtime,
    sync::oneshot,
};

use super::Netns;

/// The longest packet there is.
const MAX_PACKET: usize = 1 << 16;

/// A running tunnel; its devices go when it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Makes a device of that name in both namespaces; neither is up yet, nor has it an address.
    ///
    /// # Errors
    /// If a device cannot be made.
    pub fn lay(name: &str, ends: [&Netns; 2]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no runtime")?;
        let [near, far] = ends.map(|netns| {
            let made = netns.run(|| make(name))?;
            made.with_context(|| format!("{name} in {}", netns.name()))
        });
        let (near, far) = (near?, far?);
        let (stop, stopped) = oneshot::channel();
        let body = move || {
            if let Err(error) = carry_until(&runtime, near, far, stopped) {
                eprintln!("a tunnel ended: {error}");
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread.context("no thread")?),
        })
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it holds the namespaces until it ends
        }
    }
}

/// A tun device in the calling thread's namespace, as long as its file is open.
fn make(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: a structure of integers and arrays of them, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = flags.try_into().map_err(io::Error::other)?;
    // SAFETY: the descriptor is open while `file` is, and the request is a whole `ifreq`, as this call reads and writes.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

fn register(device: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a file has one descriptor as long as it lives, and it lives within what is made here.
    unsafe { AsyncFd::register_with_interest(device, Interest::READABLE) }.map_err(io::Error::from)
}

fn carry_until(
    runtime: &Runtime,
    near: File,
    far: File,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    runtime.block_on(async {
        let (near, far) = (register(near)?, register(far)?);
        tokio::select! {
            ended = carry(&near, far.get_ref()) => ended,
            ended = carry(&far, near.get_ref()) => ended,
            _ = stopped => Ok(()),
        }
    })
}

/// Carries packets one way. What the other end does not take, because it is down, is lost, as on any wire.
async fn carry(from: &AsyncFd<File>, mut to: &File) -> io::Result<()> {
    let mut packet = vec![0; MAX_PACKET];
    loop {
        let read = |mut file: &File| file.read(&mut packet);
        let read = from.async_io(Interest::READABLE, read).await;
        match read {
            Ok(length) => drop(to.write(&packet[..length])),
            // The device is down, or not up yet.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => tokio::task::yield_now().await,
            Err(error) => return Err(error),
        }
    }
}
