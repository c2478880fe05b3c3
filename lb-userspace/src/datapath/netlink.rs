//! The kernel's list of devices, and word of every change to it.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_route::{
        RouteNetlinkMessage,
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage},
    },
};
use tokio::sync::mpsc;

use super::{
    DatapathError,
    devices::{Link, Links},
};

/// A change to the list of devices.
#[derive(Clone, Debug)]
pub enum Change {
    /// The device is there and looks like this.
    Link(Link),
    /// The device is gone.
    Gone(u32),
    /// Changes were lost, list anew.
    Lost,
}

/// An open netlink socket of the network namespace it was opened in.
pub struct Netlink {
    handle: Handle,
    /// Every change from now on.
    pub changes: mpsc::Receiver<Change>,
}

impl Netlink {
    /// Opens the socket and subscribes to changes.
    ///
    /// # Errors
    /// [`DatapathError::Netlink`].
    pub fn open() -> Result<Self, DatapathError> {
        let (connection, handle, mut messages) = new_multicast_connection(&[MulticastGroup::Link])
            .map_err(|error| DatapathError::Netlink(error.to_string()))?;
        tokio::spawn(connection);
        let (sender, changes) = mpsc::channel(1024);
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                use rtnetlink::packet_core::NetlinkPayload::{InnerMessage, Overrun};
                let change = match message.payload {
                    InnerMessage(RouteNetlinkMessage::NewLink(link)) => Change::Link(parse(link)),
                    InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                        // A bridge says so, too, when a device ceases to be its port.
                        if is_bridge_notice(&link) {
                            Change::Lost
                        } else {
                            Change::Gone(link.header.index)
                        }
                    }
                    Overrun(_) => Change::Lost,
                    _ => continue,
                };
                if sender.send(change).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { handle, changes })
    }

    /// All devices there are.
    ///
    /// # Errors
    /// [`DatapathError::Netlink`].
    pub async fn list(&self) -> Result<Links, DatapathError> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| DatapathError::Netlink(error.to_string()))?;
        Ok(links
            .into_iter()
            .map(parse)
            .map(|link| (link.index, link))
            .collect::<BTreeMap<_, _>>())
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

fn is_bridge_notice(message: &LinkMessage) -> bool {
    message.header.interface_family == rtnetlink::packet_route::AddressFamily::Bridge
}

fn parse(message: LinkMessage) -> Link {
    let header = &message.header;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        kind: String::new(),
        is_ethernet: header.link_layer_type == LinkLayerType::Ether,
        is_loopback: header.flags.contains(LinkFlags::Loopback),
        master: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => {
                link.master = Some(index).filter(|index| *index != 0)
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind_name(&kind);
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}
