//! Pieces in every order, and twice: what came after its first goes on, the rest is dropped.

use lb_common::verdict::Verdict;

use super::{SIZE, WEB, long};
use crate::{
    kernel::{Becomes, Dropped, Ingress, Kernel},
    packet::{UDP, both},
};

/// Pieces by their number, as they come, and which of those are lost.
const ORDERS: [(&str, &[usize], &[usize]); 11] = [
    ("in order", &[0, 1, 2], &[]),
    ("the last one early", &[0, 2, 1], &[]),
    ("the first one second", &[1, 0, 2], &[0]),
    ("the first one last", &[2, 1, 0], &[0, 1]),
    ("without the first", &[1, 2], &[0, 1]),
    ("without the middle", &[0, 2], &[]),
    ("without the end", &[0, 1], &[]),
    ("the first one twice", &[0, 0, 1, 2], &[]),
    ("the middle twice", &[0, 1, 1, 2], &[]),
    ("the middle again after all", &[0, 1, 2, 1], &[3]),
    ("all again", &[0, 1, 2, 0, 1, 2], &[]),
];

#[test]
fn pieces_in_any_order_go_where_the_first_went_or_nowhere() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let mut id = 0;
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.tables.mark(net.vip.ip());
        let sent = long(UDP, net.client, net.vip, 0);
        for (shows, order, lost) in ORDERS {
            id += 1;
            let pieces = sent.pieces(id, SIZE);
            let after = sent.clone().to(net.endpoint()).pieces(id, SIZE);
            for (nth, at) in order.iter().enumerate() {
                let fate = if lost.contains(&nth) {
                    Dropped(Verdict::Fragment)
                } else {
                    Becomes(&after[*at], Verdict::Dnat)
                };
                kernel.check(shows, Ingress, &pieces[*at], fate);
            }
        }
    }
}
