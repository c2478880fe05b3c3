//! The source ranges of service ports, and how many there is room for.
//!
//! They belong to the service port, as its endpoints do. New ones are written before the frontends that need
//! them, old ones removed after those that needed them, and either all that a service port is to have are in the
//! map or those that were: a frontend with source ranges never admits everybody for want of room (rule 95), it
//! rather admits whom it did, or nobody.

use ipnet::IpNet;
use lb_common::{address::Address, tables::Source};

use super::{FamilyOp, Op, Plan, backing::Backing};
use crate::control::{
    desired::Network,
    maps::{SourceRange, Table},
};

/// How many source ranges there are and can be.
#[derive(Clone, Debug, Default)]
pub struct SourcePool {
    capacity: usize,
    used: usize,
    /// So many of those are removed by the plan that is being made, after it has written its new ones.
    going: usize,
}

impl SourcePool {
    /// Room for `capacity`, of which so many are used.
    pub fn new(capacity: u32, used: usize) -> Self {
        Self {
            capacity: capacity as usize,
            used,
            going: 0,
        }
    }

    /// Takes room for `count`; whether there was any.
    fn take(&mut self, count: usize) -> bool {
        let fits = self.used + count <= self.capacity;
        if fits {
            self.used += count;
        }
        fits
    }

    /// Gives back the room of `count`.
    pub(in super::super) fn release(&mut self, count: usize) {
        self.going += count;
    }

    /// Begins the next plan; whether that brought any room.
    pub fn advance(&mut self) -> bool {
        let going = std::mem::take(&mut self.going);
        self.used = self.used.saturating_sub(going);
        going > 0
    }

    /// Whether the next plan will have more room.
    pub fn is_room_coming(&self) -> bool {
        self.going > 0
    }
}

impl<A: Address> Backing<A> {
    /// Brings the source ranges to those that are wanted.
    ///
    /// # Errors
    /// The map that has no room for them; then those in the map stay.
    pub(super) fn renew_sources(
        &mut self,
        id: u32,
        pool: &mut SourcePool,
        plan: &mut Plan,
    ) -> Result<(), Table>
    where
        Op: From<FamilyOp<A>>,
    {
        let Some(wanted) = &self.wanted_sources else {
            return Ok(());
        };
        let missing = |of: &[Network<A>], than: &[Network<A>]| -> Vec<_> {
            let networks = of.iter().filter(|net| than.binary_search(net).is_err());
            let networks: Vec<_> = networks.copied().collect();
            source_ranges(id, &networks).collect()
        };
        let new = missing(wanted, &self.sources);
        let old = missing(&self.sources, wanted);
        if !pool.take(new.len()) {
            return Err(Table::Sources(A::FAMILY));
        }
        pool.release(old.len());
        for (ranges, op) in [
            (new, FamilyOp::PutSources as fn(_) -> _),
            (old, FamilyOp::RemoveSources),
        ] {
            if !ranges.is_empty() {
                plan.push(id, Some(&self.service), op(ranges).into());
            }
        }
        self.sources = self.wanted_sources.take().unwrap_or_default();
        Ok(())
    }
}

/// `networks` as keys of the map, for the service port `service`.
pub(super) fn source_ranges<A: Address>(
    service: u32,
    networks: &[Network<A>],
) -> impl Iterator<Item = SourceRange<A>> {
    networks.iter().map(move |net| SourceRange {
        source: Source {
            service,
            addr: net.addr,
        },
        prefix: SourceRange::<A>::SERVICE_BITS + u32::from(net.prefix),
    })
}

/// The network, if it is written as an agent would.
pub(in super::super) fn network_of<A: Address>(range: &SourceRange<A>) -> Option<Network<A>> {
    let bits = range.prefix.checked_sub(SourceRange::<A>::SERVICE_BITS)?;
    let prefix = u8::try_from(bits).ok()?;
    let addr = range.source.addr;
    let net = IpNet::new(addr.to_ip(), prefix).ok()?;
    (net.network() == addr.to_ip()).then_some(Network { addr, prefix })
}

/// Takes those out of `strays` that are the service port's from now on: it has got the id of one whose record was
/// lost.
pub(super) fn adopt<A: Address>(strays: &mut Vec<SourceRange<A>>, id: u32) -> Box<[Network<A>]> {
    let is_own =
        |range: &mut SourceRange<A>| range.source.service == id && network_of(range).is_some();
    let own: Vec<_> = strays.extract_if(.., is_own).collect();
    let mut networks: Vec<_> = own.iter().filter_map(network_of).collect();
    networks.sort_unstable();
    networks.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_comes_free_is_there_with_the_next_plan() {
        let mut pool = SourcePool::new(3, 2);
        assert!(!pool.take(2) && pool.take(1) && !pool.take(1));
        pool.release(2);
        assert!(pool.is_room_coming());
        assert!(!pool.take(1), "the plan removes them last");
        assert!(pool.advance() && !pool.advance());
        assert!(pool.take(2) && !pool.take(1));
    }
}
