//! Keeps the programs on the devices, as they come and go, and what the programs must know of them up to date:
//! addresses, what is behind them, which networks are this node's pods'.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{mpsc, watch};

use crate::{
    config::DetectLocal,
    datapath::{
        attach::Attacher,
        devices::{Host, Locals, locals},
        netlink::{Change, Netlink},
        tables::LocalsMap,
    },
    model::{Node, NodeAddress},
    source::Event,
};

/// How often the kernel's list of devices is compared with what was done, in case a change was missed.
const RELIST: Duration = Duration::from_secs(10);

/// How often a first listing is tried.
const LIST_TRIES: u32 = 6;
/// How long to wait before another netlink socket is tried to be opened.
const REOPEN: Duration = Duration::from_secs(1);

/// What it takes to follow the devices.
pub(super) struct Devices {
    pub netlink: Netlink,
    pub attacher: Attacher,
    pub locals: LocalsMap,
    /// What `locals` holds; `None`: what an agent before this one wrote.
    pub written: Option<Vec<IpNet>>,
    pub detect_local: DetectLocal,
    /// What `--bind-address` says is the node's address; it goes before those of its Node object.
    pub node_ip: Option<IpAddr>,
    /// Number of the devices with the programs.
    pub count: Gauge,
    /// Where it is told what cannot be done.
    pub problems: watch::Sender<Vec<String>>,
}

impl Devices {
    /// Puts the programs on what there is now; the addresses there are.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub async fn start(&mut self) -> anyhow::Result<Vec<NodeAddress>> {
        self.set_node(None);
        let host = self.list().await?;
        self.attacher.replace(host);
        while !self.attacher.settle() {
            // There may be thousands of them: whoever waits for this has to see signals.
            tokio::task::yield_now().await;
        }
        self.tell_problems();
        Ok(self.attacher.addresses())
    }

    /// Follows netlink and the Node object for ever, whatever fails; says which addresses there are.
    pub async fn follow(
        mut self,
        mut node: watch::Receiver<Option<Node>>,
        addresses: watch::Sender<Vec<NodeAddress>>,
    ) -> std::convert::Infallible {
        let mut relist = tokio::time::interval(RELIST);
        let mut is_settled = true;
        loop {
            let mut is_lost = false;
            let overflow = Arc::clone(&self.netlink.overflow);
            tokio::select! {
                change = self.netlink.changes.recv() => match change {
                    Some(change) => is_lost = self.take_in(change).await,
                    None => {
                        let what = "the socket was closed; opening another and listing all devices anew";
                        tracing::warn!("netlink: {what}");
                        self.reopen().await;
                        is_lost = true;
                    }
                },
                () = overflow.notified() => is_lost = true,
                Ok(()) = node.changed() => {
                    let node = node.borrow_and_update().clone();
                    self.set_node(node.as_ref());
                }
                _ = relist.tick() => is_lost = true,
                () = tokio::task::yield_now(), if !is_settled => {}
            }
            if is_lost {
                match self.netlink.list().await {
                    Ok(host) => self.attacher.replace(host),
                    Err(error) => {
                        tracing::warn!("cannot list the devices, trying again: {error}");
                        relist.reset_after(Duration::from_secs(1));
                    }
                }
            }
            is_settled = self.attacher.settle();
            self.tell_problems();
            let now = self.attacher.addresses();
            addresses.send_if_modified(|known| {
                let is_changed = *known != now;
                *known = now;
                is_changed
            });
            let count = self.attacher.attached();
            self.count.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A first listing. The kernel may be busy for long: while thousands of devices come or go, it answers nobody.
    async fn list(&mut self) -> anyhow::Result<Host> {
        for _ in 1..LIST_TRIES {
            match self.netlink.list().await {
                Ok(host) => return Ok(host),
                Err(error) => tracing::warn!("cannot list the devices, trying again: {error}"),
            }
            self.reopen().await;
        }
        Ok(self.netlink.list().await?)
    }

    /// Another socket, till there is one.
    async fn reopen(&mut self) {
        loop {
            match Netlink::open() {
                Ok(netlink) => {
                    self.netlink = netlink;
                    return;
                }
                Err(error) => {
                    tracing::warn!("{error}; devices are not followed, trying again");
                    tokio::time::sleep(REOPEN).await;
                }
            }
        }
    }

    /// What cannot be done with devices, to whoever publishes it.
    fn tell_problems(&self) {
        self.problems.send_if_modified(|known| {
            let now = self.attacher.problems();
            let is_changed = *known != now;
            *known = now;
            is_changed
        });
    }

    /// Acts on a change and on those that wait behind it; whether some were lost.
    async fn take_in(&mut self, first: Change) -> bool {
        let mut is_lost = false;
        let mut next = Some(first);
        while let Some(change) = next {
            is_lost |= matches!(change, Change::Lost);
            self.attacher.note(change);
            next = self.netlink.changes.try_recv().ok();
        }
        match self.netlink.find_ways_out().await {
            Ok(ways_out) => self.attacher.set_ways_out(ways_out),
            // Those that are known stay; a new listing asks again.
            Err(error) => {
                tracing::debug!("cannot ask for the ways out: {error}");
                is_lost = true;
            }
        }
        is_lost
    }

    fn set_node(&mut self, node: Option<&Node>) {
        let named = node.map_or(&[][..], |node| &node.addresses);
        let addresses = self.node_ip.iter().chain(named).copied().collect();
        self.attacher.set_node(addresses);
        let pod_cidrs = node.map(|node| node.pod_cidrs.as_slice());
        self.write_locals(pod_cidrs);
    }

    /// Tells the programs which networks are local, if that is how it is told.
    fn write_locals(&mut self, pod_cidrs: Option<&[IpNet]>) {
        let Some(Locals { networks, missing }) = locals(&self.detect_local, pod_cidrs) else {
            return;
        };
        if self.written.as_ref() == Some(&networks) {
            return;
        }
        if self.detect_local == DetectLocal::NodeCidr {
            if let Some(before) = &self.written {
                tracing::warn!(?before, now = ?networks, "the Node's podCIDRs have changed");
            }
            for family in missing {
                let what = "the Node has no podCIDR, local pods are told by their devices";
                tracing::warn!(%family, "{what}");
            }
        }
        match self.locals.write(&networks) {
            Ok(()) => self.written = Some(networks),
            Err(error) => tracing::error!("cannot say which networks are local: {error}"),
        }
    }
}

/// Tells the control plane which addresses the node has.
pub(super) async fn tell(events: &mpsc::Sender<Event>, addresses: Vec<NodeAddress>) {
    // Without anybody to hear it, the agent is about to end.
    let _ = events.send(Event::NodeAddresses(addresses)).await;
}

/// The same with every change: apart from [`Devices::follow`], so that devices do not wait for the control plane.
pub(super) async fn keep_telling(
    events: mpsc::Sender<Event>,
    mut addresses: watch::Receiver<Vec<NodeAddress>>,
) {
    while addresses.changed().await.is_ok() {
        let now = addresses.borrow_and_update().clone();
        tell(&events, now).await;
    }
}
