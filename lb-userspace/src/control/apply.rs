//! Carries out a plan on the maps: the only place that writes them.
//!
//! A step that fails does not stop the others (rule 95), but nothing further is done for the same
//! service port: what follows relies on it. Nor is anything taken away any more from a service port whose
//! frontend was to pass to that one and did not. Runs of like steps go out as one call; only if that fails
//! are they repeated one by one, to find out which of them it was.

use std::collections::HashSet;

use lb_common::address::Address;

use super::{
    maps::{FamilyMaps, Maps, MapsError, Table},
    plan::{FamilyOp, Op, Plan, Step},
};

/// Most steps that go out as one call.
const BATCH: usize = 4096;
/// Number of slots or endpoints from which on no more are gathered for one call.
const LARGE: usize = 65_536;

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Applied<'a> {
    /// Number of steps carried out.
    pub done: usize,
    /// The steps that failed, and why.
    pub failed: Vec<(&'a Step, MapsError)>,
    /// Number of steps left out because an earlier one for the same service port failed.
    pub skipped: usize,
}

/// Carries out `plan` on `maps`.
pub fn apply<'a>(maps: &mut impl Maps, plan: &'a Plan) -> Applied<'a> {
    let mut applied = Applied::default();
    let mut given_up = HashSet::new();
    let like = |a: &Step, b: &Step| a.op.phase() == b.op.phase();
    for run in plan
        .steps()
        .chunk_by(like)
        .flat_map(|run| run.chunks(BATCH))
    {
        if given_up.is_empty() && run.len() > 1 && apply_run(maps, run) {
            applied.done += run.len();
            continue;
        }
        for step in run {
            if given_up.contains(&step.id) {
                given_up.extend(step.op.relies_on());
                applied.skipped += 1;
                continue;
            }
            match apply_step(maps, step) {
                Ok(()) => applied.done += 1,
                Err(error) => {
                    // A frontend that found no room is missing, and that is all; see Planner::reject.
                    if !is_rejection(&error) && step.id != Step::NO_PORT {
                        given_up.insert(step.id);
                        given_up.extend(step.op.relies_on());
                    }
                    applied.failed.push((step, error));
                }
            }
        }
    }
    applied
}

/// Whether the error says that the frontends map has no room: the mirror of the maps is still right.
pub(super) fn is_rejection(error: &MapsError) -> bool {
    matches!(
        error,
        MapsError::Full {
            table: Table::Frontends(_)
        }
    )
}

fn apply_step(maps: &mut impl Maps, step: &Step) -> Result<(), MapsError> {
    match &step.op {
        Op::ResetTraffic => maps.reset_traffic(step.id),
        Op::PutService(record) => maps.put_service(step.id, record),
        Op::V4(op) => apply_op(maps, op),
        Op::V6(op) => apply_op(maps, op),
        Op::RemoveService => maps.remove_service(step.id),
    }
}

fn apply_op<A: Address>(maps: &mut impl FamilyMaps<A>, op: &FamilyOp<A>) -> Result<(), MapsError> {
    match op {
        FamilyOp::RaiseEndpoints(endpoints) | FamilyOp::LowerEndpoints(endpoints) => {
            maps.put_endpoints(endpoints)
        }
        FamilyOp::WriteSlots { base, ids } => maps.write_slots(*base, ids),
        FamilyOp::PutFrontend { key, value, .. } => maps.put_frontend(key, value),
        FamilyOp::WriteRanges(ranges) => maps.write_ranges(ranges),
        FamilyOp::PutSources(sources) => maps.put_sources(sources),
        FamilyOp::RemoveSources(sources) => maps.remove_sources(sources),
        FamilyOp::RemoveFrontend { key } => maps.remove_frontend(key),
    }
}

/// Carries out like steps together, where such steps can be; whether that was possible and went well.
fn apply_run(maps: &mut impl Maps, run: &[Step]) -> bool {
    let record = |step: &Step| match &step.op {
        Op::PutService(record) => Some((step.id, **record)),
        _ => None,
    };
    let v4 = run.iter().filter_map(|step| {
        if let Op::V4(op) = &step.op {
            Some(op)
        } else {
            None
        }
    });
    let v6 = run.iter().filter_map(|step| {
        if let Op::V6(op) = &step.op {
            Some(op)
        } else {
            None
        }
    });
    match run.first().map(|step| &step.op) {
        Some(Op::PutService(_)) => {
            let records: Vec<_> = run.iter().filter_map(record).collect();
            maps.put_services(&records).is_ok()
        }
        Some(Op::V4(op)) => apply_family_run(maps, op, v4),
        Some(Op::V6(op)) => apply_family_run(maps, op, v6),
        _ => false,
    }
}

fn apply_family_run<'a, A: Address>(
    maps: &mut impl FamilyMaps<A>,
    first: &FamilyOp<A>,
    run: impl Iterator<Item = &'a FamilyOp<A>>,
) -> bool {
    match first {
        FamilyOp::RaiseEndpoints(_) | FamilyOp::LowerEndpoints(_) => {
            put_together(maps, run).is_ok()
        }
        FamilyOp::WriteSlots { .. } => write_together(maps, run).is_ok(),
        FamilyOp::PutFrontend { .. } => {
            let entry = |op: &FamilyOp<A>| match op {
                FamilyOp::PutFrontend { key, value, .. } => Some((*key, *value)),
                _ => None,
            };
            maps.put_frontends(&run.filter_map(entry).collect::<Vec<_>>())
                .is_ok()
        }
        FamilyOp::PutSources(_)
        | FamilyOp::WriteRanges(_)
        | FamilyOp::RemoveFrontend { .. }
        | FamilyOp::RemoveSources(_) => false,
    }
}

/// Writes the endpoints of many steps, wherever they stand.
fn put_together<'a, A: Address>(
    maps: &mut impl FamilyMaps<A>,
    run: impl Iterator<Item = &'a FamilyOp<A>>,
) -> Result<(), MapsError> {
    let mut gathered = Vec::new();
    for op in run {
        let (FamilyOp::RaiseEndpoints(endpoints) | FamilyOp::LowerEndpoints(endpoints)) = op else {
            continue;
        };
        gathered.extend_from_slice(endpoints);
        if gathered.len() >= LARGE {
            maps.put_endpoints(&gathered)?;
            gathered.clear();
        }
    }
    if gathered.is_empty() {
        Ok(())
    } else {
        maps.put_endpoints(&gathered)
    }
}

/// Writes the slots of many steps, wherever they stand.
fn write_together<'a, A: Address>(
    maps: &mut impl FamilyMaps<A>,
    run: impl Iterator<Item = &'a FamilyOp<A>>,
) -> Result<(), MapsError> {
    let (mut gathered, mut slots) = (Vec::new(), 0);
    for op in run {
        let FamilyOp::WriteSlots { base, ids } = op else {
            continue;
        };
        gathered.push((*base, ids.as_slice()));
        slots += ids.len();
        if slots >= LARGE {
            maps.write_slot_runs(&gathered)?;
            gathered.clear();
            slots = 0;
        }
    }
    if gathered.is_empty() {
        Ok(())
    } else {
        maps.write_slot_runs(&gathered)
    }
}

#[cfg(test)]
mod tests;
