//! The tables that the agent fills, filled by tests: through handles of their own, so that what is tested
//! is the programs alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use duolb::datapath::Object;
use lb_common::{
    address::{Address, Family, V4, V6},
    filter,
    tables::{
        Affinity, AffinityKey, Endpoint, Frontend, FrontendKey, Source, VipRange, change,
        endpoint_generation, endpoint_id, endpoint_index,
    },
};

/// In some slice, answering, and open to all new flows.
pub const READY: u16 = Endpoint::<V4>::KNOWN | Endpoint::<V4>::SERVING | Endpoint::<V4>::CLUSTER;
/// In some slice and answering, but not for new flows: about to leave.
pub const LEAVING: u16 = Endpoint::<V4>::KNOWN | Endpoint::<V4>::SERVING;
/// In some slice, but not answering.
pub const SILENT: u16 = Endpoint::<V4>::KNOWN;
/// In no slice any more.
pub const GONE: u16 = 0;

/// The tables of one family.
struct OneFamily<A: Address>
where
    FrontendKey<A>: Pod,
    Endpoint<A>: Pod,
    VipRange<A>: Pod,
    Source<A>: Pod,
    AffinityKey<A>: Pod,
{
    frontends: HashMap<MapData, FrontendKey<A>, Frontend>,
    filter: Array<MapData, u64>,
    slots: Array<MapData, u32>,
    endpoints: Array<MapData, Endpoint<A>>,
    ranges: Array<MapData, VipRange<A>>,
    locals: Array<MapData, VipRange<A>>,
    sources: LpmTrie<MapData, Source<A>, u32>,
    affinity: HashMap<MapData, AffinityKey<A>, Affinity>,
    /// How many slots and endpoints have been given away.
    slot_count: u32,
    endpoint_count: u32,
}

pub struct Tables {
    v4: OneFamily<V4>,
    v6: OneFamily<V6>,
    changes: Array<MapData, u32>,
}

/// One family's part of a method.
macro_rules! by_family {
    ($self:ident, $ip:expr, $tables:ident => $body:expr) => {
        match Family::of(&$ip) {
            Family::V4 => {
                let $tables = &mut $self.v4;
                $body
            }
            Family::V6 => {
                let $tables = &mut $self.v6;
                $body
            }
        }
    };
}

impl Tables {
    pub fn take(object: &mut Object) -> Self {
        Self {
            v4: OneFamily::take(object, "V4"),
            v6: OneFamily::take(object, "V6"),
            changes: typed(object, "CHANGES"),
        }
    }

    /// Knows of nothing in them any more: they have been emptied.
    pub fn forget(&mut self) {
        (self.v4.slot_count, self.v4.endpoint_count) = (0, 0);
        (self.v6.slot_count, self.v6.endpoint_count) = (0, 0);
    }

    /// Writes a new range of slots with these endpoints of a service, which become [`READY`] if they were
    /// not known; returns its start.
    pub fn write_slots(&mut self, of: IpAddr, service: u32, endpoints: &[SocketAddr]) -> u32 {
        by_family!(self, of, tables => tables.write_slots(service, endpoints))
    }

    /// Writes one more slot, with an endpoint that has never been one before; returns its index. For many: nobody looks
    /// whether there is such an endpoint.
    pub fn add_slot(&mut self, service: u32, at: SocketAddr) -> u32 {
        by_family!(self, at.ip(), tables => tables.add_slot(service, at))
    }

    /// Writes the frontend at `vip` for a protocol.
    pub fn put_frontend(&mut self, vip: SocketAddr, proto: u8, frontend: &Frontend) {
        by_family!(self, vip.ip(), tables => {
            let key = frontend_key(vip, proto);
            tables.admit(&key);
            tables.frontends.insert(key, frontend, 0).unwrap();
        });
        self.tell_change();
    }

    pub fn remove_frontend(&mut self, vip: SocketAddr, proto: u8) {
        by_family!(self, vip.ip(), tables => {
            tables.frontends.remove(&frontend_key(vip, proto)).unwrap();
        });
        self.tell_change();
    }

    /// As the agent does, after frontends have changed.
    fn tell_change(&mut self) {
        let epoch = self.changes.get(&change::EPOCH, 0).unwrap();
        self.changes.set(change::EPOCH, epoch + 1, 0).unwrap();
    }

    /// Marks an address as a VIP.
    pub fn mark(&mut self, vip: IpAddr) {
        let mark = Frontend {
            flags: Frontend::VIP,
            ..Frontend::default()
        };
        self.put_frontend(SocketAddr::new(vip, 0), 0, &mark);
    }

    /// The id of an endpoint of a service, 0 if it never had one.
    pub fn id(&mut self, service: u32, at: SocketAddr) -> u32 {
        by_family!(self, at.ip(), tables => tables.find(service, at).map_or(0, |found| found.id))
    }

    /// Changes what may be done with an endpoint.
    pub fn set_state(&mut self, service: u32, at: SocketAddr, state: u16) {
        by_family!(self, at.ip(), tables => {
            let endpoint = tables.find(service, at).expect("an endpoint");
            tables.put(Endpoint { state, ..endpoint });
        });
    }

    /// Gives an endpoint's place to another one, of the next generation.
    pub fn replace(&mut self, service: u32, old: SocketAddr, new: SocketAddr) {
        by_family!(self, old.ip(), tables => {
            let Endpoint { id, .. } = tables.find(service, old).expect("an endpoint");
            let generation = endpoint_generation(id) + 1;
            let id = endpoint_id(endpoint_index(id), generation);
            tables.put(endpoint(id, service, new));
        });
    }

    /// Writes the ranges that VIPs are in: first address, bits that count, flags.
    pub fn write_ranges(&mut self, ranges: &[(IpAddr, u8, u32)]) {
        for (index, (first, bits, flags)) in (0..).zip(ranges) {
            by_family!(self, first, tables => {
                let range = range(*first, *bits, *flags);
                tables.ranges.set(index, range, 0).unwrap();
            });
        }
    }

    /// Writes the networks that pods of this node are in: first address, bits that count.
    pub fn write_locals(&mut self, networks: &[(IpAddr, u8)]) {
        for (index, (first, bits)) in (0..).zip(networks) {
            by_family!(self, first, tables => {
                let range = range(*first, *bits, 1);
                tables.locals.set(index, range, 0).unwrap();
            });
        }
    }

    /// Lets clients from a network use a service.
    pub fn allow_source(&mut self, service: u32, first: IpAddr, bits: u8) {
        by_family!(self, first, tables => {
            let addr = Address::from_ip(first).unwrap();
            let key = Key::new(32 + u32::from(bits), Source { service, addr });
            tables.sources.insert(&key, 1, 0).unwrap();
        });
    }

    /// The endpoint id that a client's new flows go to.
    pub fn affinity(&mut self, client: IpAddr, service: u32) -> Option<u32> {
        by_family!(self, client, tables => {
            let known = tables.affinity.get(&affinity_key(client, service), 0);
            known.ok().map(|affinity| affinity.endpoint)
        })
    }

    /// Makes a client's affinity `ticks` older.
    pub fn age_affinity(&mut self, client: IpAddr, service: u32, ticks: u32) {
        by_family!(self, client, tables => {
            let key = affinity_key(client, service);
            let mut affinity = tables.affinity.get(&key, 0).expect("affinity to age");
            affinity.seen = affinity.seen.wrapping_sub(ticks);
            tables.affinity.insert(key, affinity, 0).unwrap();
        });
    }
}

fn frontend_key<A: Address>(vip: SocketAddr, proto: u8) -> FrontendKey<A> {
    FrontendKey::new(A::from_ip(vip.ip()).unwrap(), vip.port().to_be(), proto)
}

fn affinity_key<A: Address>(client: IpAddr, service: u32) -> AffinityKey<A> {
    AffinityKey {
        client: A::from_ip(client).unwrap(),
        service,
    }
}

fn endpoint<A: Address>(id: u32, service: u32, at: SocketAddr) -> Endpoint<A> {
    Endpoint {
        id,
        service,
        addr: A::from_ip(at.ip()).unwrap(),
        port: at.port().to_be(),
        state: READY,
    }
}

fn typed<T: TryFrom<Map, Error = MapError>>(object: &mut Object, name: &str) -> T {
    object.take_map(name).unwrap().try_into().unwrap()
}

impl<A: Address> OneFamily<A>
where
    FrontendKey<A>: Pod,
    Endpoint<A>: Pod,
    VipRange<A>: Pod,
    Source<A>: Pod,
    AffinityKey<A>: Pod,
{
    fn take(object: &mut Object, family: &str) -> Self {
        Self {
            frontends: typed(object, &format!("FRONTENDS_{family}")),
            filter: typed(object, &format!("FILTER_{family}")),
            slots: typed(object, &format!("SLOTS_{family}")),
            endpoints: typed(object, &format!("ENDPOINTS_{family}")),
            ranges: typed(object, &format!("RANGES_{family}")),
            locals: typed(object, &format!("LOCALS_{family}")),
            sources: typed(object, &format!("SOURCES_{family}")),
            affinity: typed(object, &format!("AFFINITY_{family}")),
            slot_count: 0,
            endpoint_count: 0,
        }
    }

    /// Has packets look for a frontend.
    fn admit(&mut self, key: &FrontendKey<A>) {
        let (index, bit) = filter::place(key);
        let word = self.filter.get(&index, 0).unwrap();
        self.filter.set(index, word | bit, 0).unwrap();
    }

    fn write_slots(&mut self, service: u32, endpoints: &[SocketAddr]) -> u32 {
        let base = self.slot_count;
        for at in endpoints {
            let id = self.ensure(service, *at);
            self.slots.set(self.slot_count, id, 0).unwrap();
            self.slot_count += 1;
        }
        base
    }

    fn add_slot(&mut self, service: u32, at: SocketAddr) -> u32 {
        let id = endpoint_id(self.endpoint_count, 1);
        self.endpoint_count += 1;
        self.put(endpoint(id, service, at));
        self.slots.set(self.slot_count, id, 0).unwrap();
        self.slot_count += 1;
        self.slot_count - 1
    }

    /// The endpoint, unless it has never been one or its place was given to another.
    fn find(&self, service: u32, at: SocketAddr) -> Option<Endpoint<A>> {
        let wanted = endpoint::<A>(0, service, at);
        (0..self.endpoint_count)
            .map(|index| self.endpoints.get(&index, 0).unwrap())
            .find(|known| {
                (known.service, known.addr, known.port)
                    == (wanted.service, wanted.addr, wanted.port)
            })
    }

    fn ensure(&mut self, service: u32, at: SocketAddr) -> u32 {
        let id = match self.find(service, at) {
            Some(known) if known.state != GONE => return known.id,
            // It comes back: another endpoint than the one that left.
            Some(known) => endpoint_id(endpoint_index(known.id), endpoint_generation(known.id) + 1),
            None => {
                self.endpoint_count += 1;
                endpoint_id(self.endpoint_count - 1, 1)
            }
        };
        self.put(endpoint(id, service, at));
        id
    }

    fn put(&mut self, endpoint: Endpoint<A>) {
        let index = endpoint_index(endpoint.id);
        self.endpoints.set(index, endpoint, 0).unwrap();
    }
}

fn range<A: Address>(first: IpAddr, bits: u8, flags: u32) -> VipRange<A> {
    let mask: IpAddr = match first {
        IpAddr::V4(_) => {
            Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into()
        }
        IpAddr::V6(_) => {
            Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into()
        }
    };
    VipRange {
        addr: A::from_ip(first).unwrap(),
        mask: A::from_ip(mask).unwrap(),
        flags,
    }
}
