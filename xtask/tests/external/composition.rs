//! Everything that others do on a node at once: a vxlan between the nodes with strict reverse paths, a CNI that
//! masquerades, a firewall that drops what conntrack finds invalid.
//!
//! The same cells as in the plain table, by the same rules; that no firewall drops anything is looked at with
//! the other counters.

use anyhow::Result;

use crate::{
    cells::Cell,
    cluster::{Kind, Mode},
    needs_root,
    reference::{Client, Frontend},
    table::check,
};

/// The overlay's pods are nobody's business outside.
fn has_no_way(cell: &Cell) -> bool {
    cell.client == Client::Outside && matches!(cell.frontend, Frontend::SecondaryAddress { .. })
}

fn check_composed(mode: Mode) -> Result<()> {
    let kind = Kind {
        mode,
        composed: true,
        firewall: true,
    };
    check(kind, &[], has_no_way).map(drop)
}

#[test]
fn every_flow_passes_overlay_masquerading_and_firewall_together_through_tc() -> Result<()> {
    needs_root!();
    check_composed(Mode::Tc)
}

#[test]
fn every_flow_passes_overlay_masquerading_and_firewall_together_through_native_xdp() -> Result<()> {
    needs_root!();
    check_composed(Mode::Native)
}
