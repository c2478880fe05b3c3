//! The networks that pods of this node have their addresses from.

use aya::{
    Ebpf, Pod,
    maps::{Array, MapData},
};
use ipnet::IpNet;
use lb_common::{
    address::{Address, V4, V6},
    tables::VipRange,
};

use super::{family::rewrite, typed};
use crate::datapath::DatapathError;

/// `LOCALS_V4` and `LOCALS_V6`.
pub struct LocalsMap {
    v4: Array<MapData, VipRange<V4>>,
    v6: Array<MapData, VipRange<V6>>,
}

impl LocalsMap {
    /// Takes the maps out of the loaded object.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            v4: typed(ebpf, "LOCALS_V4")?,
            v6: typed(ebpf, "LOCALS_V6")?,
        })
    }

    /// Makes these the networks, those of each family in this order; more than there is room for are left out.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn write(&mut self, networks: &[IpNet]) -> Result<(), DatapathError> {
        write(&mut self.v4, "LOCALS_V4", networks)?;
        write(&mut self.v6, "LOCALS_V6", networks)
    }
}

fn write<A: Address>(
    map: &mut Array<MapData, VipRange<A>>,
    name: &'static str,
    networks: &[IpNet],
) -> Result<(), DatapathError>
where
    VipRange<A>: Pod,
{
    let range = |network: &IpNet| {
        Some(VipRange {
            addr: A::from_ip(network.network())?,
            mask: A::from_ip(network.netmask())?,
            flags: 1,
        })
    };
    let ranges: Vec<_> = networks.iter().filter_map(range).collect();
    rewrite(map, &ranges).map_err(|source| DatapathError::Map {
        name,
        source: Box::new(source),
    })
}
