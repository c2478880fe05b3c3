//! The flow tables, read and changed by tests: what time and the LRU do otherwise.

use std::net::SocketAddr;

use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use duolb::datapath::Object;
use lb_common::{
    address::{Address, Family, V4, V6},
    flow::{Flow, FlowKey},
};

/// Source, destination, protocol.
pub type Tuple = (SocketAddr, SocketAddr, u8);

/// A flow entry, whatever its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub peer: SocketAddr,
    pub client_port: u16,
    pub traffic: u32,
    pub endpoint: u32,
    pub seen: u32,
    pub flags: u16,
}

type Table<A> = HashMap<MapData, FlowKey<A>, Flow<A>>;

pub struct Flows {
    v4: Table<V4>,
    v6: Table<V6>,
}

impl Flows {
    pub fn take(object: &mut Object) -> Self {
        Self {
            v4: object.take_map("FLOWS_V4").unwrap().try_into().unwrap(),
            v6: object.take_map("FLOWS_V6").unwrap().try_into().unwrap(),
        }
    }

    pub fn get(&self, tuple: Tuple) -> Option<Entry> {
        match Family::of(&tuple.0.ip()) {
            Family::V4 => get(&self.v4, tuple),
            Family::V6 => get(&self.v6, tuple),
        }
    }

    pub fn put(&mut self, tuple: Tuple, entry: &Entry) {
        match Family::of(&tuple.0.ip()) {
            Family::V4 => put(&mut self.v4, tuple, entry),
            Family::V6 => put(&mut self.v6, tuple, entry),
        }
    }

    /// Takes an entry out, as the LRU may at any time.
    pub fn evict(&mut self, tuple: Tuple) {
        match Family::of(&tuple.0.ip()) {
            Family::V4 => self.v4.remove(&key(tuple)).unwrap(),
            Family::V6 => self.v6.remove(&key(tuple)).unwrap(),
        }
    }

    /// Makes an entry `ticks` older.
    pub fn age(&mut self, tuple: Tuple, ticks: u32) {
        let mut entry = self.get(tuple).expect("a flow to age");
        entry.seen = entry.seen.wrapping_sub(ticks);
        self.put(tuple, &entry);
    }

    /// All tuples that have an entry in the family of `of`.
    pub fn tuples(&self, of: SocketAddr) -> Vec<Tuple> {
        match Family::of(&of.ip()) {
            Family::V4 => tuples(&self.v4),
            Family::V6 => tuples(&self.v6),
        }
    }
}

fn key<A: Address>((src, dst, proto): Tuple) -> FlowKey<A> {
    FlowKey {
        src: A::from_ip(src.ip()).unwrap(),
        dst: A::from_ip(dst.ip()).unwrap(),
        sport: src.port().to_be(),
        dport: dst.port().to_be(),
        proto: proto.into(),
    }
}

fn get<A: Address>(table: &Table<A>, tuple: Tuple) -> Option<Entry>
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    let flow = table.get(&key(tuple), 0).ok()?;
    Some(Entry {
        peer: SocketAddr::new(flow.peer.to_ip(), u16::from_be(flow.peer_port)),
        client_port: u16::from_be(flow.client_port),
        traffic: flow.traffic,
        endpoint: flow.endpoint,
        seen: flow.seen,
        flags: flow.flags,
    })
}

fn put<A: Address>(table: &mut Table<A>, tuple: Tuple, entry: &Entry)
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    let flow = Flow {
        peer: A::from_ip(entry.peer.ip()).unwrap(),
        peer_port: entry.peer.port().to_be(),
        client_port: entry.client_port.to_be(),
        endpoint: entry.endpoint,
        traffic: entry.traffic,
        seen: entry.seen,
        mac: [0; 3],
        flags: entry.flags,
    };
    table.insert(key(tuple), flow, 0).unwrap();
}

fn tuples<A: Address>(table: &Table<A>) -> Vec<Tuple>
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    let at = |address: A, port| SocketAddr::new(address.to_ip(), u16::from_be(port));
    table
        .keys()
        .filter_map(Result::ok)
        .map(|key| {
            let proto = u8::try_from(key.proto).unwrap();
            (at(key.src, key.sport), at(key.dst, key.dport), proto)
        })
        .collect()
}
