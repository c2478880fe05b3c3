//! What becomes of each endpoint from one list of a service port to the next.
//!
//! Both lists are sorted, so one walk over the two tells it, and an endpoint that stays keeps its id
//! whatever happens to the others.

use std::{cmp::Ordering, iter, net::IpAddr};

use lb_common::address::Address;

use crate::control::desired::DesiredEndpoint;

/// What becomes of an endpoint, with its places in the two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in the old list only.
    Goes(usize),
    /// It is in the new list only.
    Comes(usize),
    /// It is in both, at these places; its state may differ.
    Stays(usize, usize),
}

/// The order of a service port's endpoints: by address, then by port.
pub(in super::super) fn place<A: Address>(endpoint: &DesiredEndpoint<A>) -> (IpAddr, u16) {
    (endpoint.addr.to_ip(), u16::from_be(endpoint.port))
}

/// The fate of every endpoint in `old` or `new`, each sorted by [`place`] and without duplicates.
pub(super) fn merge<'a, A: Address>(
    old: &'a [DesiredEndpoint<A>],
    new: &'a [DesiredEndpoint<A>],
) -> impl Iterator<Item = Fate> + 'a {
    debug_assert!(
        new.is_sorted_by(|a, b| place(a) < place(b)),
        "endpoints are not sorted: {new:?}"
    );
    let (mut i, mut j) = (0, 0);
    iter::from_fn(move || {
        let order = match (old.get(i), new.get(j)) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => place(old).cmp(&place(new)),
        };
        let fate = match order {
            Ordering::Less => Fate::Goes(i),
            Ordering::Greater => Fate::Comes(j),
            Ordering::Equal => Fate::Stays(i, j),
        };
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
        Some(fate)
    })
}

#[cfg(test)]
mod tests {
    use lb_common::address::V4;

    use super::*;

    fn list(sockets: &[(u8, u16)]) -> Vec<DesiredEndpoint<V4>> {
        let endpoint = |(host, port): &(u8, u16)| DesiredEndpoint {
            addr: V4::from(std::net::Ipv4Addr::new(10, 0, 0, *host)),
            port: port.to_be(),
            state: 1,
        };
        sockets.iter().map(endpoint).collect()
    }

    #[test]
    fn each_endpoint_comes_goes_or_stays() {
        let old = list(&[(1, 80), (2, 80), (2, 8080), (9, 80)]);
        let new = list(&[(2, 80), (2, 443), (2, 8080), (3, 80)]);
        let fates: Vec<_> = merge(&old, &new).collect();
        let expected = [
            Fate::Goes(0),
            Fate::Stays(1, 0),
            Fate::Comes(1),
            Fate::Stays(2, 2),
            Fate::Comes(3),
            Fate::Goes(3),
        ];
        assert_eq!(fates, expected);
    }
}
