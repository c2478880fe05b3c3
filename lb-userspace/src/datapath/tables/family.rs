//! The real maps of one family. One body for IPv4 and IPv6.

use aya::{
    Pod,
    maps::{Array, LpmTrie, MapData, MapError, lpm_trie::Key},
};
use lb_common::{
    address::Address,
    tables::{Endpoint, Frontend, FrontendKey, Source, VIP_RANGES, VipRange, endpoint_index},
};

use super::{KernelMaps, Select, Tables, absent_is_fine, failed};
use crate::{
    control::maps::{FamilyDump, FamilyMaps, MapsError, SourceRange, Table, slots_end},
    datapath::batch,
};

impl<A: Address> FamilyMaps<A> for KernelMaps
where
    Self: Select<A>,
    FrontendKey<A>: Pod,
    Endpoint<A>: Pod,
    VipRange<A>: Pod,
    Source<A>: Pod,
{
    fn slot_capacity(&self) -> u32 {
        self.tables().slots.len()
    }

    fn endpoint_capacity(&self) -> u32 {
        self.tables().endpoints.len()
    }

    fn write_slots(&mut self, base: u32, ids: &[u32]) -> Result<(), MapsError> {
        self.write_slot_runs(&[(base, ids)])
    }

    fn write_slot_runs(&mut self, runs: &[(u32, &[u32])]) -> Result<(), MapsError> {
        let slots: Vec<u32> = runs
            .iter()
            .flat_map(|(base, ids)| (*base..).zip(*ids).map(|(slot, _)| slot))
            .collect();
        let ids: Vec<u32> = runs.iter().flat_map(|(_, ids)| *ids).copied().collect();
        batch::update(&mut self.tables_mut().slots, &slots, &ids)
            .map_err(failed(Table::Slots(A::FAMILY)))
    }

    fn put_endpoints(&mut self, endpoints: &[Endpoint<A>]) -> Result<(), MapsError> {
        let index = |endpoint: &Endpoint<A>| endpoint_index(endpoint.id);
        let indices: Vec<u32> = endpoints.iter().map(index).collect();
        batch::update(&mut self.tables_mut().endpoints, &indices, endpoints)
            .map_err(failed(Table::Endpoints(A::FAMILY)))
    }

    fn put_frontend(&mut self, key: &FrontendKey<A>, value: &Frontend) -> Result<(), MapsError> {
        self.put_frontends(&[(*key, *value)])
    }

    fn put_frontends(&mut self, entries: &[(FrontendKey<A>, Frontend)]) -> Result<(), MapsError> {
        let (keys, values): (Vec<_>, Vec<_>) = entries.iter().copied().unzip();
        let Tables {
            frontends,
            filter,
            owners,
            ..
        } = self.tables_mut();
        let mut written = filter
            .admit(keys.iter().copied())
            .and_then(|()| batch::update(frontends, &keys, &values));
        if written.is_ok() {
            let mut has_moved = false;
            for (key, frontend) in entries {
                let before = owners.insert(*key, frontend.service);
                has_moved |= before.is_some_and(|owner| owner != frontend.service);
            }
            if has_moved {
                written = self.tell_change();
            }
        }
        written.map_err(failed(Table::Frontends(A::FAMILY)))
    }

    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), MapsError> {
        let Tables {
            frontends,
            filter,
            owners,
            ..
        } = self.tables_mut();
        owners.remove(key);
        let mut removed = absent_is_fine(frontends.remove(key));
        if removed.is_ok() && filter.note_removed() {
            let left = batch::read(frontends);
            removed = left.and_then(|left| filter.renew(left.into_iter().map(|(key, _)| key)));
        }
        removed
            .and_then(|()| self.tell_change())
            .map_err(failed(Table::Frontends(A::FAMILY)))
    }

    fn write_ranges(&mut self, ranges: &[VipRange<A>]) -> Result<(), MapsError> {
        let table = Table::Ranges(A::FAMILY);
        if ranges.len() > VIP_RANGES as usize {
            return Err(MapsError::Full { table });
        }
        rewrite(&mut self.tables_mut().ranges, ranges).map_err(failed(table))
    }

    fn source_capacity(&self) -> u32 {
        self.tables().source_capacity
    }

    fn put_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError> {
        let trie = &mut self.tables_mut().sources;
        put(trie, sources).map_err(failed(Table::Sources(A::FAMILY)))
    }

    fn remove_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError> {
        let trie = &mut self.tables_mut().sources;
        remove(trie, sources).map_err(failed(Table::Sources(A::FAMILY)))
    }

    fn dump(&self) -> Result<FamilyDump<A>, MapsError> {
        let Tables {
            frontends,
            slots,
            endpoints,
            ranges,
            sources,
            ..
        } = self.tables();
        let capacity = slots.len();
        let frontends = batch::read(frontends).map_err(failed(Table::Frontends(A::FAMILY)))?;
        let values = frontends.iter().map(|(_, frontend)| *frontend);
        let end = slots_end(values).min(capacity) as usize;
        Ok(FamilyDump {
            frontends,
            slots: batch::read_first(slots, end).map_err(failed(Table::Slots(A::FAMILY)))?,
            endpoints: batch::read_used(endpoints).map_err(failed(Table::Endpoints(A::FAMILY)))?,
            ranges: batch::read_used(ranges).map_err(failed(Table::Ranges(A::FAMILY)))?,
            sources: read_sources(sources).map_err(failed(Table::Sources(A::FAMILY)))?,
        })
    }
}

/// The value of a source range, which says nothing.
const ADMITTED: u32 = 1;

fn put<A: Address>(
    trie: &mut LpmTrie<MapData, Source<A>, u32>,
    sources: &[SourceRange<A>],
) -> Result<(), MapError>
where
    Source<A>: Pod,
{
    sources
        .iter()
        .try_for_each(|range| trie.insert(&Key::new(range.prefix, range.source), ADMITTED, 0))
}

fn remove<A: Address>(
    trie: &mut LpmTrie<MapData, Source<A>, u32>,
    sources: &[SourceRange<A>],
) -> Result<(), MapError>
where
    Source<A>: Pod,
{
    sources
        .iter()
        .try_for_each(|range| absent_is_fine(trie.remove(&Key::new(range.prefix, range.source))))
}

/// All source ranges, one by one: there are few.
pub(in crate::datapath) fn read_sources<A: Address>(
    trie: &LpmTrie<MapData, Source<A>, u32>,
) -> Result<Vec<SourceRange<A>>, MapError>
where
    Source<A>: Pod,
{
    let range = |key: Key<Source<A>>| SourceRange {
        source: key.data(),
        prefix: key.prefix_len(),
    };
    trie.keys().map(|key| key.map(range)).collect()
}

/// Writes those entries that differ, in three steps each (see [`FamilyMaps::write_ranges`]); every step is
/// done for all of them before the next one.
pub(super) fn rewrite<A: Address>(
    map: &mut Array<MapData, VipRange<A>>,
    wanted: &[VipRange<A>],
) -> Result<(), MapError>
where
    VipRange<A>: Pod,
{
    let mut changed = Vec::new();
    for index in 0..map.len() {
        let before = map.get(&index, 0)?;
        let after = wanted.get(index as usize).copied().unwrap_or_default();
        if before != after {
            changed.push((index, before, after));
        }
    }
    let silent = |range: VipRange<A>| VipRange { flags: 0, ..range };
    for (index, before, _) in &changed {
        map.set(*index, silent(*before), 0)?;
    }
    for (index, _, after) in &changed {
        map.set(*index, silent(*after), 0)?;
    }
    // From the last one on: the search ends at the first without flags.
    for (index, _, after) in changed.iter().rev() {
        map.set(*index, *after, 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lb_common::address::V4;

    use super::*;

    #[test]
    fn ranges_become_what_they_should_be_and_nothing_is_left_behind_them() {
        let Ok(mut map) = Array::<_, VipRange<V4>>::create(VIP_RANGES, 0) else {
            eprintln!("skipped: making BPF maps takes root");
            return;
        };
        let range = |addr| VipRange {
            addr: V4(addr),
            mask: V4(u32::MAX),
            flags: VipRange::<V4>::VIPS,
        };
        for addrs in [&[1, 2, 3][..], &[1, 4], &[], &[1, 2, 3, 4, 5, 6, 7, 8]] {
            let wanted: Vec<_> = addrs.iter().map(|addr| range(*addr)).collect();
            rewrite(&mut map, &wanted).unwrap();
            assert_eq!(batch::read_used(&map).unwrap(), wanted);
        }
    }

    #[test]
    fn source_ranges_are_found_by_the_longest_prefix_of_their_own_service_and_read_back() {
        let Ok(mut trie) = LpmTrie::<_, Source<V4>, u32>::create(3, 1) else {
            eprintln!("skipped: making BPF maps takes root");
            return;
        };
        let source = |service, addr: [u8; 4]| Source {
            service,
            addr: V4::from_ip(addr.into()).unwrap(),
        };
        let range = |service, addr, prefix: u32| SourceRange {
            source: source(service, addr),
            prefix: SourceRange::<V4>::SERVICE_BITS + prefix,
        };
        let mut all = vec![
            range(0x0102_0304, [10, 1, 0, 0], 16),
            range(0x0102_0304, [192, 0, 2, 1], 32),
            range(0x0102_0305, [10, 0, 0, 0], 8),
        ];
        put(&mut trie, &all).unwrap();
        put(&mut trie, &all[..1]).expect("it is there already");
        let extra = [range(1, [10, 0, 0, 0], 8)];
        let table = Table::Sources(lb_common::address::Family::V4);
        let full = put(&mut trie, &extra).map_err(failed(table));
        assert!(matches!(full, Err(MapsError::Full { .. })), "{full:?}");
        let is_in = |service, addr| trie.get(&Key::new(64, source(service, addr)), 0).is_ok();
        assert!(is_in(0x0102_0304, [10, 1, 255, 1]) && is_in(0x0102_0304, [192, 0, 2, 1]));
        assert!(!is_in(0x0102_0304, [10, 2, 0, 1]) && !is_in(0x0102_0304, [192, 0, 2, 2]));
        assert!(is_in(0x0102_0305, [10, 2, 0, 1]) && !is_in(0x0102_0306, [10, 1, 0, 1]));
        let sorted = |trie: &_| {
            let mut all = read_sources(trie).unwrap();
            all.sort();
            all
        };
        all.sort();
        assert_eq!(sorted(&trie), all);
        remove(&mut trie, &all[..2]).unwrap();
        remove(&mut trie, &all[..2]).expect("absent is fine");
        assert_eq!(sorted(&trie), all[2..]);
    }
}
