//! What a packet costs among 1 to 100,000 services: always of the same one, or of any.

use std::net::{IpAddr, SocketAddr};

use duolb::datapath::object::Sizes;
use lb_common::{tables::Frontend, verdict::Verdict};
use serde_json::{Value, json};

use super::stand::{Own, RUNS, Row, Stand, TRIES, Varies};
use crate::{
    kernel::{Ingress, Kernel, SMALL},
    packet::{Frame, Net, TCP, both, flag},
};

/// Room for two entries of a flow to each service, and as much again.
const FLOWS: u32 = 524_288;
const PAYLOAD: [u8; 64] = [0x61; 64];

/// An address so many further on.
fn further(from: SocketAddr, number: u32) -> SocketAddr {
    let ip: IpAddr = match from.ip() {
        IpAddr::V4(ip) => (u32::from(ip) + number).to_be_bytes().into(),
        IpAddr::V6(ip) => (u128::from(ip) + u128::from(number)).to_be_bytes().into(),
    };
    SocketAddr::new(ip, from.port())
}

/// The VIP of a service, which differs in its last word alone.
fn vip(net: &Net, number: u32) -> SocketAddr {
    further(net.vip, number)
}

/// Every service in turn, or any.
fn any(net: &Net, services: u32, step: u32) -> Varies {
    let first = match net.vip.ip() {
        IpAddr::V4(ip) => u32::from(ip),
        IpAddr::V6(ip) => u32::from_be_bytes(ip.octets()[12..].try_into().unwrap()),
    };
    Varies {
        at: if net.is_v6 { 50 } else { 30 },
        first,
        count: services,
        step,
    }
}

/// A node with so many services of an endpoint each, and a connection of the client's to each; with a table that a bare
/// lookup finds as many keys in.
struct World {
    kernel: Kernel,
    stand: Stand,
    /// An established packet: to the first service, to any.
    hot: Row,
    random: Row,
}

impl World {
    fn load(net: &Net, services: u32) -> Option<Self> {
        let mut kernel = Kernel::load_sized(Sizes {
            services: services.max(16),
            slots: services.max(16),
            flows: FLOWS,
            ..SMALL
        })?;
        let mut stand = Stand::load(FLOWS);
        for number in 0..services {
            // One client's port to two VIPs of one endpoint would be one reply tuple.
            let endpoint = further(net.endpoint(), number);
            let slot_base = kernel.tables.add_slot(number, endpoint);
            let frontend = Frontend {
                slot_base,
                slot_count: 1,
                service: number,
                ..Frontend::default()
            };
            kernel.tables.put_frontend(vip(net, number), TCP, &frontend);
        }
        let packet = |number, flags| {
            let frame = Frame::tcp(net.client, vip(net, number), flags);
            frame.payload(&PAYLOAD).bytes()
        };
        for flags in [flag::SYN, flag::ACK] {
            let each = Row {
                varies: any(net, services, 1),
                ..Row::of(packet(0, flags))
            };
            stand.run(&mut kernel.object, Ingress.program(), &each, services);
        }
        let hot = Row::of(packet(0, flag::ACK));
        let random = Row {
            varies: any(net, services, 0),
            ..hot.clone()
        };
        for number in 0..services {
            stand.learn(&packet_to(&hot.packets[0], net, number), net.is_v6);
        }
        Some(Self {
            kernel,
            stand,
            hot,
            random,
        })
    }

    /// Connections that are not in the table, of a thousand.
    fn count_missing(&self, net: &Net, services: u32) -> usize {
        let known = |number| {
            let tuple = (net.client, vip(net, number), TCP);
            self.kernel.flows.get(tuple).is_some()
        };
        let step = usize::try_from(services / 1000).unwrap().max(1);
        (0..services).step_by(step).filter(|i| !known(*i)).count()
    }

    /// Nanoseconds: nothing; the program with one service's packets and with any's; a bare lookup likewise.
    fn time(&mut self, net: &Net) -> [f64; 5] {
        let is_v6 = net.is_v6;
        let mut of = |row: &Row| {
            let before = self.kernel.verdicts();
            let time = self
                .stand
                .time(&mut self.kernel.object, Ingress.program(), row);
            let after = self.kernel.verdicts();
            let counted: Vec<_> = (Verdict::ALL.iter().zip(before).zip(after))
                .map(|((verdict, before), after)| (*verdict, after - before))
                .filter(|(_, count)| *count > 0)
                .collect();
            assert!(
                matches!(counted[..], [(Verdict::Dnat, count)] if count >= u64::from(RUNS * TRIES)),
                "{row:?}: {counted:?}"
            );
            time
        };
        let (hot, random) = (of(&self.hot), of(&self.random));
        let stand = &mut self.stand;
        let nothing = stand.time_own(Own::Empty, &self.random);
        let bare = [&self.hot, &self.random].map(|row| stand.time_own(Own::Lookup { is_v6 }, row));
        [nothing, hot, random, bare[0], bare[1]]
    }
}

/// `packet` with another service's address.
fn packet_to(packet: &[u8], net: &Net, number: u32) -> Vec<u8> {
    let mut packet = packet.to_vec();
    match vip(net, number).ip() {
        IpAddr::V4(ip) => packet[30..34].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => packet[38..54].copy_from_slice(&ip.octets()),
    }
    packet
}

/// Each number of services in both families, a round of all after the other.
pub fn measure(rounds: u32, sizes: &[u32]) -> Value {
    let mut rows = Vec::new();
    for net in both() {
        let mut worlds = Vec::new();
        for services in sizes {
            let Some(world) = World::load(&net, *services) else {
                return json!({"rows": []});
            };
            let missing = world.count_missing(&net, *services);
            worlds.push((*services, missing, world, vec![]));
        }
        for _ in 0..rounds {
            for (_, _, world, times) in &mut worlds {
                times.push(world.time(&net));
            }
        }
        rows.extend(worlds.iter().map(|(services, missing, _, times)| {
            json!({"family": net.name, "services": services, "missing": missing, "rounds": times})
        }));
    }
    json!({"rows": rows})
}
