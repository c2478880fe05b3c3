//! What first pieces leave for the later ones: how long it is believed.

use std::net::SocketAddr;

use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use duolb::datapath::Object;
use lb_common::{
    address::{V4, V6},
    pieces::{PieceKey, Pieces},
    verdict::Verdict,
};

use super::{SIZE, WEB, long, pass};
use crate::{
    kernel::{Becomes, Dropped, Egress, Ingress, Kernel, Untouched},
    packet::{Frame, UDP, both},
};

/// The tables of notes.
pub struct Notes {
    v4: HashMap<MapData, PieceKey<V4>, Pieces>,
    v6: HashMap<MapData, PieceKey<V6>, Pieces>,
}

impl Notes {
    pub fn take(object: &mut Object) -> Self {
        let mut map = |name| object.take_map(name).unwrap();
        Self {
            v4: map("FRAGMENTS_V4").try_into().unwrap(),
            v6: map("FRAGMENTS_V6").try_into().unwrap(),
        }
    }

    pub fn count(&self) -> usize {
        self.v4.keys().count() + self.v6.keys().count()
    }

    /// Makes all of them `ticks` older.
    fn age(&mut self, ticks: u32) {
        age(&mut self.v4, ticks);
        age(&mut self.v6, ticks);
    }
}

fn age<K: Pod>(map: &mut HashMap<MapData, K, Pieces>, ticks: u32) {
    let notes: Vec<_> = map.iter().map(Result::unwrap).collect();
    for (key, mut pieces) in notes {
        pieces.seen = pieces.seen.wrapping_sub(ticks);
        map.insert(key, pieces, 0).unwrap();
    }
}

/// A packet to the VIP, as it is sent and as it arrives.
fn datagram(from: SocketAddr, vip: SocketAddr, to: SocketAddr) -> (Frame, Frame) {
    let sent = long(UDP, from, vip, 0);
    (sent.clone(), sent.to(to))
}

#[test]
fn nothing_is_left_of_a_packet_whose_pieces_have_all_passed() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let notes = Notes::take(&mut kernel.object);
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let (sent, delivered) = datagram(net.client, net.vip, net.endpoint());
        let (pieces, after) = (sent.pieces(1, SIZE), delivered.pieces(1, SIZE));
        for at in 0..3 {
            let becomes = Becomes(&after[at], Verdict::Dnat);
            kernel.check("passes", Ingress, &pieces[at], becomes);
            assert_eq!(notes.count(), usize::from(at < 2), "{} {at}", net.name);
        }
        let answer = long(UDP, net.endpoint(), net.client, 0);
        let told = answer.clone().from(net.vip);
        pass(&mut kernel, Egress, &answer, &told, Verdict::RevNat);
        assert_eq!(notes.count(), 0, "{}", net.name);
    }
}

/// The id is another packet's by then, whose own first piece may come later.
#[test]
fn an_id_that_is_used_again_is_another_packets() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.tables.mark(net.vip.ip());
        let (sent, delivered) = datagram(net.client, net.vip, net.endpoint());
        pass(&mut kernel, Ingress, &sent, &delivered, Verdict::Dnat);

        // Another port of the same service, served by others.
        let other = SocketAddr::new(net.vip.ip(), 81);
        kernel.serve(other, WEB + 1, &[net.endpoints[5]]);
        let (sent, delivered) = datagram(net.client, other, net.endpoints[5]);
        let late = &sent.pieces(1, SIZE)[2];
        let lost = Dropped(Verdict::Fragment);
        kernel.check("before its first", Ingress, late, lost);
        pass(&mut kernel, Ingress, &sent, &delivered, Verdict::Dnat);

        // Also while the one before is not complete.
        let (first, after) = (&sent.pieces(1, SIZE)[0], &delivered.pieces(1, SIZE)[0]);
        kernel.check("first", Ingress, first, Becomes(after, Verdict::Dnat));
        let (sent, delivered) = datagram(net.client, net.vip, net.endpoint());
        pass(&mut kernel, Ingress, &sent, &delivered, Verdict::Dnat);
    }
}

#[test]
fn what_is_older_than_a_receiver_waits_is_not_believed() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let mut notes = Notes::take(&mut kernel.object);
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.tables.mark(net.vip.ip());
        let seconds = if net.is_v6 { 60 } else { 30 };
        // A tick is 1.024 s, and the moments may be a tick more apart than they seem.
        for (ticks, is_believed) in [(seconds - 3, true), (seconds + 2, false)] {
            let (sent, delivered) = datagram(net.client, net.vip, net.endpoint());
            let (pieces, after) = (sent.pieces(1, SIZE), delivered.pieces(1, SIZE));
            let becomes = Becomes(&after[0], Verdict::Dnat);
            kernel.check("first", Ingress, &pieces[0], becomes);
            notes.age(ticks);
            let fate = if is_believed {
                Becomes(&after[1], Verdict::Dnat)
            } else {
                Dropped(Verdict::Fragment)
            };
            kernel.check("later", Ingress, &pieces[1], fate);
        }
    }
}

/// On its way through a node a packet passes both under one tuple, and is translated at one.
#[test]
fn what_was_noted_at_one_hook_says_nothing_at_the_other() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let opens = Frame::udp(net.client, net.vip);
        kernel.pass("opens", &opens, net.endpoint());
        let answer = long(UDP, net.endpoint(), net.client, 0);
        let told = answer.clone().from(net.vip).pieces(1, SIZE);
        let answer = answer.pieces(1, SIZE);
        let becomes = |at: usize| Becomes(&told[at], Verdict::RevNat);
        kernel.check("first", Egress, &answer[0], becomes(0));
        kernel.check("not here", Ingress, &answer[1], Untouched);
        kernel.check("here", Egress, &answer[1], becomes(1));
    }
}

#[test]
fn pieces_of_a_flow_that_is_gone_are_dropped() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.tables.mark(net.vip.ip());
        let (sent, _) = datagram(net.client, net.vip, net.endpoint());
        let pieces = sent.pieces(1, SIZE);
        kernel.run(Ingress, &pieces[0].bytes());
        kernel.flows.evict((net.client, net.vip, UDP));
        let lost = Dropped(Verdict::Fragment);
        kernel.check("no flow", Ingress, &pieces[1], lost);
    }
}
