//! Checksums as etherparse computes them.

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, checksum::Sum16BitWords};

use super::{ICMP, SCTP, UDP};

/// The checksum of `bytes`, as it stands on the wire.
pub fn ones_complement(bytes: &[u8]) -> [u8; 2] {
    Sum16BitWords::new()
        .add_slice(bytes)
        .ones_complement()
        .to_ne_bytes()
}

/// The checksum of a transport header and payload, as it stands on the wire, over the pseudo-header
/// where the protocol has one. The field itself must be zero; if it is not, a right one gives zero.
pub fn transport(src: IpAddr, dst: IpAddr, proto: u8, bytes: &[u8]) -> [u8; 2] {
    let sum = sum(src, dst, proto, bytes);
    let sum = match proto {
        UDP => sum.to_ones_complement_with_no_zero(),
        _ => sum.ones_complement(),
    };
    sum.to_ne_bytes()
}

fn sum(src: IpAddr, dst: IpAddr, proto: u8, bytes: &[u8]) -> Sum16BitWords {
    let mut sum = Sum16BitWords::new().add_slice(bytes);
    if proto == ICMP {
        return sum;
    }
    sum = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => sum.add_4bytes(src.octets()).add_4bytes(dst.octets()),
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            sum.add_16bytes(src.octets()).add_16bytes(dst.octets())
        }
        mixed => panic!("two families in one packet: {mixed:?}"),
    };
    sum.add_2bytes([0, proto])
        .add_4bytes(u32::try_from(bytes.len()).unwrap().to_be_bytes())
}

/// The CRC32c of an SCTP packet whose own field is zero, as it stands on the wire: bit by bit after RFC 9260,
/// appendix A.
pub fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let is_odd = crc & 1 != 0;
            crc >>= 1;
            if is_odd {
                crc ^= 0x82f6_3b78;
            }
        }
    }
    (!crc).to_le_bytes()
}

/// Checks every checksum of a frame; says which is wrong. Of a piece only the IP header's: the other is over the whole
/// packet.
///
/// What an ICMP error embeds is not looked into: it may be cut short.
pub fn verify(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let (src, dst, payload): (IpAddr, IpAddr, _) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            if ones_complement(header.slice()) != [0, 0] {
                return Err(format!("IPv4 header: {:04x}", header.header_checksum()));
            }
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                ip.payload(),
            )
        }
        Some(NetSlice::Ipv6(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
            ip.payload(),
        ),
        _ => return Ok(()),
    };
    if payload.fragmented {
        return Ok(());
    }
    let proto = payload.ip_number.0;
    if proto == UDP && payload.payload.get(6..8) == Some(&[0, 0]) {
        return Ok(());
    }
    if proto == SCTP {
        let mut bytes = payload.payload.to_vec();
        let field = bytes
            .get_mut(8..12)
            .ok_or("an SCTP packet without a header")?;
        let found = field.to_vec();
        field.fill(0);
        return if crc32c(&bytes)[..] == found {
            Ok(())
        } else {
            Err(format!("SCTP: {found:02x?}"))
        };
    }
    match sum(src, dst, proto, payload.payload).ones_complement() {
        0 => Ok(()),
        off => Err(format!("protocol {proto}: off by {off:04x}")),
    }
}
