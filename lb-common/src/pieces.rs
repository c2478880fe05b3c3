//! Pieces of packets (rule 98): what the first one, which has the ports, leaves for those that follow.
//!
//! A first piece that is translated notes the ports it came with, under what all pieces of its packet share as they
//! reach the same hook. A later piece gets its tuple from there. The note goes when the pieces are all there, since
//! the number they share is used again; what is older than a receiver would wait for the rest is not believed.

use crate::{
    address::Address,
    flow::FlowKey,
    headers::{Icmp, Sctp, Tcp, Udp, len, proto},
    ip::L3,
};

/// A piece of a packet, by its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// What the pieces of a packet share, as on the wire.
    pub id: u32,
    /// Protocol of what was cut to pieces, by this piece's header: with IPv6 that may be an extension header.
    pub proto: u8,
    /// Whether it is the last piece.
    pub is_last: bool,
    /// Where it belongs in the whole, in bytes.
    pub offset: u16,
    /// Its own length in bytes.
    pub len: u16,
}

impl<A: Address> Piece<A> {
    /// The key of the note about its packet at the hook for packets that leave, or that enter: the same packet may pass
    /// both under one tuple, and be translated at one.
    #[inline(always)]
    pub fn key(&self, is_leaving: bool) -> PieceKey<A> {
        PieceKey {
            src: self.src,
            dst: self.dst,
            id: self.id,
            proto: u32::from(self.proto) | u32::from(is_leaving) << 8,
        }
    }
}

/// What all pieces of a packet share at a hook: the key of `FRAGMENTS_V4` and `FRAGMENTS_V6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct PieceKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// [`Piece::id`].
    pub id: u32,
    /// [`Piece::proto`], native byte order; bit 8: on the way out.
    pub proto: u32,
}

/// What is known of a packet in pieces: the value of `FRAGMENTS_V4` and `FRAGMENTS_V6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pieces {
    /// Source port before translation, network byte order.
    pub sport: u16,
    /// Destination port before translation, network byte order.
    pub dport: u16,
    /// Transport protocol, native byte order.
    pub proto: u32,
    /// When the first piece passed, on the flow clock.
    pub seen: u32,
    /// Bytes that have passed.
    pub covered: u32,
    /// Bytes that there are; 0 until the last piece says so.
    pub total: u32,
}

impl Pieces {
    /// Notes the first piece, which has this tuple.
    #[inline(always)]
    pub fn begin<A>(piece: &Piece<A>, tuple: &FlowKey<A>, now: u32) -> Self {
        Self {
            sport: tuple.sport,
            dport: tuple.dport,
            proto: tuple.proto,
            seen: now,
            covered: u32::from(piece.len),
            total: 0,
        }
    }

    /// The tuple of a later piece.
    #[inline(always)]
    pub const fn tuple<A: Address>(&self, piece: &Piece<A>) -> FlowKey<A> {
        FlowKey {
            src: piece.src,
            dst: piece.dst,
            sport: self.sport,
            dport: self.dport,
            proto: self.proto,
        }
    }

    /// Notes a later piece; whether all have passed. A piece that passes twice counts twice: then the note goes too
    /// soon, and what is left finds none.
    #[inline(always)]
    pub fn add<A>(&mut self, piece: &Piece<A>) -> bool {
        self.covered = self.covered.wrapping_add(u32::from(piece.len));
        if piece.is_last {
            self.total = u32::from(piece.offset) + u32::from(piece.len);
        }
        self.total != 0 && self.covered >= self.total
    }
}

/// Whether all of the transport header that is looked at lies within the first piece `ip`; other protocols have none.
#[inline(always)]
pub fn has_header<A>(ip: &L3<A>) -> bool {
    let header = match ip.proto {
        proto::TCP => len::<Tcp>(),
        proto::UDP => len::<Udp>(),
        proto::SCTP => len::<Sctp>(),
        _ => len::<Icmp>(),
    };
    u32::from(ip.payload) + u32::from(header) <= ip.end
}

const _: () = {
    use crate::address::{V4, V6};
    assert!(size_of::<PieceKey<V4>>() == 16);
    assert!(size_of::<PieceKey<V6>>() == 40);
    assert!(size_of::<Pieces>() == 20);
};

#[cfg(feature = "aya")]
mod pod {
    use super::{PieceKey, Pieces};
    use crate::address::{V4, V6};

    // SAFETY: repr(C), Copy, 'static, made of integers only, no padding (asserted above).
    unsafe impl aya::Pod for PieceKey<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PieceKey<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Pieces {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::V4;

    fn piece(offset: u16, len: u16, is_last: bool) -> Piece<V4> {
        Piece {
            src: V4(1),
            dst: V4(2),
            id: 7,
            proto: proto::UDP,
            is_last,
            offset,
            len,
        }
    }

    #[test]
    fn the_pieces_are_all_there_when_their_lengths_add_up_to_what_the_last_one_says() {
        let [middle, last] = [piece(1_480, 1_480, false), piece(2_960, 40, true)];
        for order in [[middle, last], [last, middle]] {
            let mut pieces = Pieces::begin(&piece(0, 1_480, false), &FlowKey::<V4>::default(), 5);
            assert!(!pieces.add(&order[0]));
            assert!(pieces.add(&order[1]));
        }
    }

    #[test]
    fn a_packet_that_leaves_is_another_than_one_that_enters() {
        let piece = piece(0, 8, false);
        assert_ne!(piece.key(true), piece.key(false));
    }
}
