//! The real maps of one family. One body for IPv4 and IPv6.

use aya::{
    Pod,
    maps::{Array, MapData},
};
use lb_common::{
    address::Address,
    tables::{Endpoint, Frontend, FrontendKey, VIP_RANGES, VipRange, endpoint_index},
};

use super::{KernelMaps, Select, Tables, absent_is_fine, failed};
use crate::{
    control::maps::{FamilyDump, FamilyMaps, MapsError, Table},
    datapath::batch,
};

impl<A: Address> FamilyMaps<A> for KernelMaps
where
    Self: Select<A>,
    FrontendKey<A>: Pod,
    Endpoint<A>: Pod,
    VipRange<A>: Pod,
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
        let frontends = &mut self.tables_mut().frontends;
        frontends
            .insert(key, value, 0)
            .map_err(failed(Table::Frontends(A::FAMILY)))
    }

    fn put_frontends(&mut self, entries: &[(FrontendKey<A>, Frontend)]) -> Result<(), MapsError> {
        let (keys, values): (Vec<_>, Vec<_>) = entries.iter().copied().unzip();
        batch::update(&mut self.tables_mut().frontends, &keys, &values)
            .map_err(failed(Table::Frontends(A::FAMILY)))
    }

    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), MapsError> {
        let frontends = &mut self.tables_mut().frontends;
        absent_is_fine(frontends.remove(key)).map_err(failed(Table::Frontends(A::FAMILY)))
    }

    fn write_ranges(&mut self, ranges: &[VipRange<A>]) -> Result<(), MapsError> {
        let table = Table::Ranges(A::FAMILY);
        if ranges.len() > VIP_RANGES as usize {
            return Err(MapsError::Full { table });
        }
        rewrite(&mut self.tables_mut().ranges, ranges).map_err(failed(table))
    }

    fn dump(&self) -> Result<FamilyDump<A>, MapsError> {
        let Tables {
            frontends,
            slots,
            endpoints,
            ranges,
        } = self.tables();
        let capacity = slots.len();
        let frontends = batch::read(frontends).map_err(failed(Table::Frontends(A::FAMILY)))?;
        let ends = frontends
            .iter()
            .map(|(_, frontend)| frontend.slot_base.saturating_add(frontend.slot_count));
        let end = ends.max().unwrap_or(0).min(capacity) as usize;
        Ok(FamilyDump {
            frontends,
            slots: batch::read_first(slots, end).map_err(failed(Table::Slots(A::FAMILY)))?,
            endpoints: batch::read_used(endpoints).map_err(failed(Table::Endpoints(A::FAMILY)))?,
            ranges: batch::read_used(ranges).map_err(failed(Table::Ranges(A::FAMILY)))?,
        })
    }
}

/// Writes those entries that differ, in three steps each (see [`FamilyMaps::write_ranges`]); every step is
/// done for all of them before the next one.
pub(super) fn rewrite<A: Address>(
    map: &mut Array<MapData, VipRange<A>>,
    wanted: &[VipRange<A>],
) -> Result<(), aya::maps::MapError>
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
}
