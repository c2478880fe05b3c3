//! `duolb conntrack list`, `flush` and `top`: from the pinned tables, agent or no agent.
//!
//! ```text
//!   walk (each flow once) ──> list: a row at a time (row)
//!                         ├─> flush: all its entries are removed
//!                         └─> top: counted
//! ```
//!
//! The tables are read in pieces, and a row is printed as soon as it is known: a million flows need no more memory than
//! a thousand. What opens or ends meanwhile may be seen or not.

mod list;
mod row;
mod walk;

use std::net::{IpAddr, SocketAddr};

use anyhow::bail;
use lb_common::address::Family;
use serde::Serialize;

use self::walk::{Flows, Found};
use super::{
    arguments::{By, ConntrackCommand, FilterArguments, OutputArguments},
    output::{print, table},
};
use crate::{
    conntrack::{filter::Filter, top::Counts, view::FlowView},
    datapath::pins::Pins,
};

/// Carries out one of the commands.
pub(super) fn run(pins: Pins, command: ConntrackCommand) -> anyhow::Result<()> {
    match command {
        ConntrackCommand::List { filter, output } => {
            let flows = Flows::open(pins)?;
            list::run(&flows, &flows.filter(&filter)?, output)
        }
        ConntrackCommand::Flush {
            filter,
            all,
            output,
        } => flush(pins, &filter, all, output),
        ConntrackCommand::Top {
            by,
            n,
            filter,
            output,
        } => {
            let flows = Flows::open(pins)?;
            let filter = flows.filter(&filter)?;
            let rows = top(&flows, &filter, by, n)?;
            print(output, &rows, |rows| top_table(rows, by))
        }
    }
}

/// What was forgotten.
#[derive(Debug, Default, Serialize)]
struct Flushed {
    flows: u64,
    entries: u64,
}

fn flush(
    pins: Pins,
    filter: &FilterArguments,
    all: bool,
    output: OutputArguments,
) -> anyhow::Result<()> {
    let flows = Flows::open(pins)?;
    let filter = flows.filter(filter)?;
    if filter.is_empty() != all {
        bail!("flush: say which flows (--service, --client, ...), or --all, and not both");
    }
    let mut flushed = Flushed::default();
    let mut by_family = [(Family::V4, 0), (Family::V6, 0)];
    let result = flows.walk(&mut |found: &mut dyn Found| {
        if filter.admits(found.view()) {
            let entries = u64::from(found.remove());
            flushed.flows += u64::from(entries > 0);
            flushed.entries += entries;
            let family = Family::of(&found.view().client.ip());
            for (_, sum) in by_family.iter_mut().filter(|(of, _)| *of == family) {
                *sum += entries;
            }
        }
        Ok(())
    });
    // What is gone is told, whatever came after.
    flows.note_flushed(&by_family)?;
    result?;
    print(output, &flushed, |Flushed { flows, entries }| {
        format!("{flows} flows forgotten ({entries} entries)\n")
    })
}

/// Somebody, and how many flows he has.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct TopRow {
    pub(super) name: String,
    pub(super) flows: u64,
}

/// What flows are counted by.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Client(IpAddr),
    Traffic(Option<u32>),
    Socket(Option<SocketAddr>, u8),
}

impl Key {
    const fn of(flow: &FlowView, by: By) -> Self {
        match by {
            By::Client => Self::Client(flow.client.ip()),
            By::Service => Self::Traffic(flow.traffic),
            By::Endpoint => Self::Socket(Some(flow.endpoint), flow.protocol),
            By::Vip => Self::Socket(flow.vip, flow.protocol),
        }
    }
}

/// The `n` with most flows.
pub(super) fn top(flows: &Flows, filter: &Filter, by: By, n: usize) -> anyhow::Result<Vec<TopRow>> {
    let mut counts = Counts::default();
    flows.walk(&mut |found: &mut dyn Found| {
        let flow = found.view();
        if filter.admits(flow) {
            counts.add(Key::of(flow, by));
        }
        Ok(())
    })?;
    let name = |key| match key {
        Key::Client(address) => address.to_string(),
        Key::Traffic(traffic) => flows.name(traffic),
        Key::Socket(None, _) => row::NOBODY.to_owned(),
        Key::Socket(Some(socket), protocol) => format!("{socket}/{}", row::protocol(protocol)),
    };
    let rows = counts.top(n).into_iter().map(|(key, flows)| TopRow {
        name: name(key),
        flows,
    });
    Ok(rows.collect())
}

fn top_table(rows: &[TopRow], by: By) -> String {
    let by = match by {
        By::Client => "CLIENT",
        By::Service => "SERVICE",
        By::Endpoint => "ENDPOINT",
        By::Vip => "VIP",
    };
    let rows = rows
        .iter()
        .map(|row| [row.name.clone(), row.flows.to_string()]);
    table([by, "FLOWS"], rows)
}

/// The clients with most flows, for the status.
pub(super) fn top_clients(pins: Pins, n: usize) -> anyhow::Result<Vec<TopRow>> {
    top(&Flows::open(pins)?, &Filter::default(), By::Client, n)
}
