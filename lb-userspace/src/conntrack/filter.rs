//! Which flows are asked for.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;
use lb_common::flow::state::State;

use super::view::FlowView;

/// What flows must have in common; what is `None` may be anything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// [`lb_common::tables::traffic_index`] of the service's ports.
    pub service: Option<BTreeSet<u32>>,
    /// The network that the client is in.
    pub client: Option<IpNet>,
    /// The VIP.
    pub vip: Option<Socket>,
    /// The endpoint.
    pub endpoint: Option<Socket>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// The state.
    pub state: Option<State>,
}

/// An address with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The address.
    pub ip: IpAddr,
    /// The port; `None`: any.
    pub port: Option<u16>,
}

/// Why a text is no [`Socket`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an address, or an address and a port: 10.96.0.1, 10.96.0.1:80, [fd00::1]:80")]
pub struct NotASocket;

impl FromStr for Socket {
    type Err = NotASocket;

    fn from_str(text: &str) -> Result<Self, NotASocket> {
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, port: None });
        }
        let socket: SocketAddr = text.parse().map_err(|_| NotASocket)?;
        let port = Some(socket.port());
        Ok(Self {
            ip: socket.ip(),
            port,
        })
    }
}

impl Socket {
    fn is(&self, socket: SocketAddr) -> bool {
        self.ip == socket.ip() && self.port.is_none_or(|port| port == socket.port())
    }
}

impl Filter {
    /// Whether nothing is said: every flow is meant.
    pub fn is_empty(&self) -> bool {
        let Self {
            service,
            client,
            vip,
            endpoint,
            protocol,
            state,
        } = self;
        service.is_none()
            && client.is_none()
            && vip.is_none()
            && endpoint.is_none()
            && protocol.is_none()
            && state.is_none()
    }

    /// Whether the flow is one of those asked for.
    pub fn admits(&self, flow: &FlowView) -> bool {
        let service = |ids: &BTreeSet<u32>| flow.traffic.is_some_and(|id| ids.contains(&id));
        self.service.as_ref().is_none_or(service)
            && self
                .client
                .is_none_or(|network| network.contains(&flow.client.ip()))
            && self
                .vip
                .is_none_or(|vip| flow.vip.is_some_and(|socket| vip.is(socket)))
            && self
                .endpoint
                .is_none_or(|endpoint| endpoint.is(flow.endpoint))
            && self.protocol.is_none_or(|number| number == flow.protocol)
            && self.state.is_none_or(|state| state == flow.state)
    }
}
