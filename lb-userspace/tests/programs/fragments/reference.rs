//! Random pieces of many packets, mixed, against a reference of a few lines.

use std::{collections::HashMap, net::SocketAddr};

use duolb::datapath::object::Sizes;
use lb_common::verdict::Verdict;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};

use super::{WEB, long};
use crate::{
    kernel::{Becomes, Dropped, Ingress, Kernel, SMALL},
    packet::{Frame, Net, TCP, UDP, both, flag},
};

/// Packets that are on their way at once, and how often that is done.
const PACKETS: u16 = 24;
const ROUNDS: u16 = 60;

/// A few ids for many packets: whoever has one overwrites the note of who had it before.
const IDS: u16 = 6;

/// A piece, as it comes and as its first one's flow has it.
struct Coming {
    id: u16,
    proto: u8,
    /// Which frontend it is for.
    at: usize,
    sent: Frame,
    delivered: Frame,
}

/// What was noted of the packet whose first piece came last under its id.
struct Note {
    at: usize,
    covered: usize,
    total: usize,
}

/// Pieces of random packets to `vips`, shuffled.
fn coming(random: &mut SmallRng, round: u16, net: &Net, vips: &[SocketAddr]) -> Vec<Coming> {
    let mut coming = vec![];
    for _ in 0..PACKETS {
        let at = random.random_range(0..vips.len());
        let proto = [TCP, UDP][random.random_range(0..2)];
        // What is left of the rounds before is another matter.
        let id = round * IDS + random.random_range(0..IDS);
        let size = 8 * random.random_range(3..7);
        let sent = long(proto, net.client, vips[at], flag::ACK);
        let delivered = sent.clone().to(net.endpoints[at]).pieces(id, size);
        for (sent, delivered) in sent.pieces(id, size).into_iter().zip(delivered) {
            coming.push(Coming {
                id,
                proto,
                at,
                sent,
                delivered,
            });
        }
    }
    coming.shuffle(random);
    coming
}

#[test]
fn random_pieces_go_where_the_last_first_piece_of_their_id_went_or_nowhere() {
    let sizes = Sizes {
        fragments: 4_096,
        ..SMALL
    };
    let Some(mut kernel) = Kernel::load_sized(sizes) else {
        return;
    };
    let (mut gone_on, mut lost) = (0, 0);
    for net in both() {
        let vips = [80, 81, 82, 83].map(|port| SocketAddr::new(net.vip.ip(), port));
        for ((vip, endpoint), service) in vips.iter().zip(net.endpoints).zip(WEB..) {
            kernel.serve(*vip, service, &[endpoint]);
        }
        kernel.tables.mark(net.vip.ip());
        for round in 0..ROUNDS {
            let mut random = SmallRng::seed_from_u64(round.into());
            let mut notes: HashMap<(u16, u8), Note> = HashMap::new();
            for piece in coming(&mut random, round, &net, &vips) {
                let key = (piece.id, piece.proto);
                let (offset, more) = piece.sent.fragment.unwrap();
                let len = piece.sent.payload.len();
                if offset == 0 {
                    let (at, covered, total) = (piece.at, 0, 0);
                    notes.insert(key, Note { at, covered, total });
                }
                let Some(note) = notes.get_mut(&key) else {
                    let fate = Dropped(Verdict::Fragment);
                    kernel.check("without a note", Ingress, &piece.sent, fate);
                    lost += 1;
                    continue;
                };
                note.covered += len;
                if !more {
                    note.total = usize::from(offset) * 8 + len;
                }
                // Nothing tells apart pieces that share an id: whoever receives them puts them together as well.
                let delivered = piece.delivered.to(net.endpoints[note.at]);
                let fate = Becomes(&delivered, Verdict::Dnat);
                kernel.check("with a note", Ingress, &piece.sent, fate);
                gone_on += 1;
                if note.total != 0 && note.covered >= note.total {
                    notes.remove(&key);
                }
            }
        }
    }
    println!("{gone_on} pieces went on, {lost} were dropped");
    assert!(gone_on > 1_000 && lost > 1_000);
}
