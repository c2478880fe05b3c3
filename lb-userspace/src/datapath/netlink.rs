//! The kernel's list of devices and addresses, and word of every change to it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection,
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
        route::{RouteAttribute, RouteMessage},
    },
};
use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
    },
    time,
};

use super::{
    DatapathError,
    devices::{AddressKey, AddressState, Host, Link, LinkLayer},
};

/// A listing that takes longer has lost part of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Changes that may wait to be acted on; beyond that a new listing is cheaper.
const WAITING: usize = 1024;

/// Addresses that nobody has (RFC 5737, RFC 3849): the route to them is the one to the rest of the world.
const SOMEWHERE: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
);

/// A change to the list of devices and addresses.
#[derive(Clone, Debug)]
pub enum Change {
    /// The device is there and looks like this.
    Link(Link),
    /// The device is gone, and its addresses with it.
    Gone(u32),
    /// The address is there and looks like this.
    Address(AddressKey, AddressState),
    /// The address is gone.
    AddressGone(AddressKey),
    /// Changes were lost, list anew.
    Lost,
}

/// An open netlink socket of the network namespace it was opened in.
pub struct Netlink {
    handle: Handle,
    /// Every change from now on, but for those that were lost.
    pub changes: mpsc::Receiver<Change>,
    /// That some were lost because they were not taken off in time: the kernel's own word for that is a change.
    pub overflow: Arc<Notify>,
}

impl Netlink {
    /// Opens the socket and subscribes to changes.
    ///
    /// # Errors
    /// [`DatapathError::Netlink`].
    pub fn open() -> Result<Self, DatapathError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, handle, mut messages) = new_multicast_connection(&groups)
            .map_err(|error| DatapathError::Netlink(error.to_string()))?;
        tokio::spawn(connection);
        let (sender, changes) = mpsc::channel(WAITING);
        let overflow = Arc::new(Notify::new());
        let overflowed = Arc::clone(&overflow);
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                use rtnetlink::packet_core::NetlinkPayload::{InnerMessage, Overrun};
                let change = match message.payload {
                    InnerMessage(message) => change(message),
                    Overrun(_) => Some(Change::Lost),
                    _ => None,
                };
                let Some(change) = change else { continue };
                // Waiting for room would leave the kernel's messages, ten times as large, to wait in memory.
                match sender.try_send(change) {
                    Ok(()) => {}
                    Err(TrySendError::Full(_)) => overflowed.notify_one(),
                    Err(TrySendError::Closed(_)) => return,
                }
            }
        });
        Ok(Self {
            handle,
            changes,
            overflow,
        })
    }

    /// All devices and addresses there are.
    ///
    /// # Errors
    /// [`DatapathError::Netlink`].
    pub async fn list(&self) -> Result<Host, DatapathError> {
        let listing = async {
            // One by one: a message is ten times as large as what is kept of it.
            let links = self.handle.link().get().execute().map_ok(parse_link);
            let links: Vec<Link> = links.try_collect().await?;
            let addresses = self.handle.address().get().execute().map_ok(parse_address);
            let addresses: Vec<_> = addresses.try_collect().await?;
            Ok::<_, rtnetlink::Error>((links, addresses))
        };
        let (links, addresses) = time::timeout(PATIENCE, listing)
            .await
            .map_err(|_| lost())?
            .map_err(|error| DatapathError::Netlink(error.to_string()))?;
        Ok(Host {
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            addresses: addresses.into_iter().flatten().collect(),
            ways_out: self.find_ways_out().await?,
        })
    }

    /// The devices that packets to the rest of the world leave by now, one a family. Asked for and not followed:
    /// the routes of a node may be very many, and change all the time.
    ///
    /// # Errors
    /// [`DatapathError::Netlink`] if the kernel could not be asked: that is no answer, and every uplink would be taken
    /// for a pod's device.
    pub async fn find_ways_out(&self) -> Result<BTreeSet<u32>, DatapathError> {
        let (v4, v6) = SOMEWHERE;
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4, 32);
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6, 128);
        let ask = async |message: RouteMessage| {
            let mut answers = Box::pin(self.handle.route().get(message).execute());
            let answer = time::timeout(PATIENCE, answers.try_next()).await;
            let route = match answer.map_err(|_| lost())? {
                Ok(route) => route,
                // That there is no route is an answer, too.
                Err(rtnetlink::Error::NetlinkError(error)) if !is_want(error.raw_code()) => None,
                Err(error) => return Err(DatapathError::Netlink(error.to_string())),
            };
            let found = route.and_then(|route| {
                let mut attributes = route.attributes.iter();
                attributes.find_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                })
            });
            Ok(found)
        };
        let found = [ask(v4.build()).await?, ask(v6.build()).await?];
        Ok(found.into_iter().flatten().collect())
    }

    /// Removes a device's clsact qdisc, and with it all its filters.
    ///
    /// # Errors
    /// [`DatapathError::Netlink`].
    pub async fn remove_clsact(&self, ifindex: u32) -> Result<(), DatapathError> {
        /// Parent of ingress and clsact qdiscs (uapi/linux/pkt_sched.h).
        const TC_H_CLSACT: u32 = 0xffff_fff1;
        let index = i32::try_from(ifindex)
            .map_err(|_| DatapathError::Netlink(format!("ifindex {ifindex} is out of range")))?;
        let mut request = self.handle.qdisc().del(index);
        request.message_mut().header.parent = TC_H_CLSACT.into();
        request
            .execute()
            .await
            .map_err(|error| DatapathError::Netlink(error.to_string()))
    }
}

fn lost() -> DatapathError {
    DatapathError::Netlink("the kernel's answer was lost".to_owned())
}

/// Whether the kernel lacked something that it may have the next time.
const fn is_want(code: i32) -> bool {
    use nix::libc::{EAGAIN, EBUSY, EINTR, ENOBUFS, ENOMEM};
    matches!(-code, EAGAIN | EBUSY | EINTR | ENOBUFS | ENOMEM)
}

fn change(message: RouteNetlinkMessage) -> Option<Change> {
    Some(match message {
        // What a bridge says of its ports leaves out what they are; the port itself says it all.
        RouteNetlinkMessage::NewLink(link) if is_bridge_notice(&link) => return None,
        RouteNetlinkMessage::NewLink(link) => Change::Link(parse_link(link)),
        // A bridge says so, too, when a device ceases to be its port.
        RouteNetlinkMessage::DelLink(link) if is_bridge_notice(&link) => Change::Lost,
        RouteNetlinkMessage::DelLink(link) => Change::Gone(link.header.index),
        RouteNetlinkMessage::NewAddress(address) => {
            let (key, state) = parse_address(address)?;
            Change::Address(key, state)
        }
        RouteNetlinkMessage::DelAddress(address) => Change::AddressGone(parse_address(address)?.0),
        _ => return None,
    })
}

fn is_bridge_notice(message: &LinkMessage) -> bool {
    message.header.interface_family == rtnetlink::packet_route::AddressFamily::Bridge
}

fn parse_link(message: LinkMessage) -> Link {
    let header = &message.header;
    let mut link = Link {
        index: header.index,
        layer: layer(header.link_layer_type),
        is_loopback: header.flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => {
                link.master = Some(index).filter(|index| *index != 0)
            }
            LinkAttribute::LinkNetNsId(_) => link.is_peer_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    link
}

/// What frames of such a device begin with, as TC sees them.
const fn layer(kind: LinkLayerType) -> LinkLayer {
    use LinkLayerType::{Ether, Ip6gre, Ipgre, None, Ppp, Rawip, Sit, Tunnel, Tunnel6};
    match kind {
        Ether => LinkLayer::Ethernet,
        // wireguard and tun say "none".
        None | Rawip | Tunnel | Tunnel6 | Sit | Ipgre | Ip6gre | Ppp => LinkLayer::Ip,
        _ => LinkLayer::Other,
    }
}

fn parse_address(message: AddressMessage) -> Option<(AddressKey, AddressState)> {
    use rtnetlink::packet_route::address::AddressScope::{Host, Link, Nowhere};
    let header = message.header;
    let (mut address, mut local): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(ip),
            // With a point-to-point device the former is the other end's.
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Flags(all) => flags = all,
            _ => {}
        }
    }
    let key = AddressKey {
        device: header.index,
        ip: local.or(address)?,
        prefix: header.prefix_len,
    };
    let is_tentative = flags.contains(AddressFlags::Dadfailed)
        || flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    let state = AddressState {
        is_scoped: matches!(header.scope, Link | Host | Nowhere),
        is_secondary: flags.contains(AddressFlags::Secondary),
        is_deprecated: flags.contains(AddressFlags::Deprecated),
        is_tentative,
    };
    Some((key, state))
}
