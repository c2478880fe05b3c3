//! Every flow of the pinned tables, once.

use std::collections::BTreeMap;

use anyhow::bail;
use lb_common::{
    address::{Family, V4, V6},
    flow::{Flow, FlowKey, state::Timeouts},
    tables::traffic_index,
};

use crate::{
    cli::arguments::{FilterArguments, ProtocolArgument},
    conntrack::{
        filter::Filter,
        kin::{Kin, assemble, is_forward},
        view::FlowView,
    },
    control::record::{RecordedService, parse_record},
    datapath::{
        clock::{now_ticks, ticks_to_seconds},
        flows::{Counters, FlowTable, Plain, Tracked},
        pins::Pins,
        view::View,
    },
    model::{ObjectKey, Protocol},
};

/// Entries that are read in one go.
const CHUNK: usize = 4_096;

/// The pinned tables, and what it takes to understand them.
pub(in crate::cli) struct Flows {
    pins: Pins,
    hz: u32,
    timeouts: Timeouts,
    /// Service ports by [`traffic_index`].
    services: BTreeMap<u32, RecordedService>,
}

/// A flow that was come across.
pub(super) trait Found {
    /// What it is.
    fn view(&self) -> &FlowView;
    /// Removes all its entries; how many it were.
    fn remove(&mut self) -> u32;
}

struct Entries<'a, A: Tracked>
where
    FlowKey<A>: Plain,
    Flow<A>: Plain,
{
    table: &'a mut FlowTable<A>,
    kin: Kin<A>,
    view: FlowView,
}

impl<A: Tracked> Found for Entries<'_, A>
where
    FlowKey<A>: Plain,
    Flow<A>: Plain,
{
    fn view(&self) -> &FlowView {
        &self.view
    }

    fn remove(&mut self) -> u32 {
        self.table.remove_all(&self.kin)
    }
}

/// What is done with each flow.
type Visit<'a> = &'a mut dyn FnMut(&mut dyn Found) -> anyhow::Result<()>;

impl Flows {
    /// Opens what is pinned.
    pub(super) fn open(pins: Pins) -> anyhow::Result<Self> {
        let view = View::open(pins.clone())?;
        let state = view.agent()?;
        if state.hz == 0 {
            bail!(
                "the agent has only just started and has not said yet how flows are kept: try again"
            );
        }
        let mut services = BTreeMap::new();
        for (id, record) in view.services()? {
            if let Ok(record) = parse_record(&record) {
                for family in Family::BOTH {
                    services.insert(traffic_index(id, family), record.clone());
                }
            }
        }
        Ok(Self {
            pins,
            hz: state.hz,
            timeouts: Timeouts(state.timeouts).in_ticks(state.hz),
            services,
        })
    }

    /// What was typed, as a filter.
    pub(super) fn filter(&self, typed: &FilterArguments) -> anyhow::Result<Filter> {
        let service = typed.service.as_ref().map(|name| {
            let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
            let key = ObjectKey::new(namespace, name);
            let of = |(index, record): (&u32, &RecordedService)| {
                (record.service.key == key).then_some(*index)
            };
            let indexes: std::collections::BTreeSet<u32> =
                self.services.iter().filter_map(of).collect();
            if indexes.is_empty() {
                bail!("service {key}: not known here");
            }
            Ok(indexes)
        });
        Ok(Filter {
            service: service.transpose()?,
            client: typed.client,
            vip: typed.vip,
            endpoint: typed.endpoint,
            protocol: typed.protocol.map(|protocol| {
                match protocol {
                    ProtocolArgument::Tcp => Protocol::Tcp,
                    ProtocolArgument::Udp => Protocol::Udp,
                    ProtocolArgument::Sctp => Protocol::Sctp,
                }
                .number()
            }),
            state: typed.state.map(Into::into),
        })
    }

    /// Visits every flow.
    pub(super) fn walk(&self, visit: Visit<'_>) -> anyhow::Result<()> {
        self.family::<V4>(visit)?;
        self.family::<V6>(visit)
    }

    fn family<A: Tracked>(&self, visit: Visit<'_>) -> anyhow::Result<()>
    where
        FlowKey<A>: Plain,
        Flow<A>: Plain,
    {
        let mut table = FlowTable::<A>::open(&self.pins, A::FLOWS)?;
        let mut walk = table.walk(CHUNK);
        while let Some(piece) = table.next(&mut walk)? {
            let now = now_ticks(self.hz);
            for entry in piece {
                let kin = assemble(entry, |key| table.find(key));
                // Of each flow its forward entry is taken up, or what stands for it.
                if !is_forward(&entry.1) && !kin.is_orphaned_by(&entry.0) {
                    continue;
                }
                let Some(view) = FlowView::of(&kin, now, &self.timeouts) else {
                    continue;
                };
                let table = &mut table;
                visit(&mut Entries { table, kin, view })?;
            }
        }
        Ok(())
    }

    /// Notes how many entries were removed, so that they are not taken for evicted.
    pub(super) fn note_flushed(&self, entries: &[(Family, u64)]) -> anyhow::Result<()> {
        let mut counters = Counters::open(&self.pins)?;
        for (family, entries) in entries {
            counters.add_flushed(*family, *entries)?;
        }
        Ok(())
    }

    /// What a service port is called.
    pub(super) fn name(&self, traffic: Option<u32>) -> String {
        let Some(traffic) = traffic else {
            return super::row::NOBODY.to_owned();
        };
        match self.services.get(&traffic) {
            None => format!("(id {})", traffic >> 1),
            Some(record) => {
                let port = record.port.as_ref();
                let port = port.map_or_else(String::new, |port| format!(":{}", port.port));
                format!("{}{port}", record.service.key)
            }
        }
    }

    /// So many ticks in seconds.
    pub(super) fn seconds(&self, ticks: u32) -> u64 {
        ticks_to_seconds(ticks, self.hz)
    }
}
