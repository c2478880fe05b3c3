//! Flows that lose entries to the LRU in mid-flow: the client's next packet makes the same ones again.
//!
//! Every subset of a flow's entries is taken away, since the LRU takes entries and not flows. What there was of a
//! packet's ways, at both hooks and in both directions, must be there again to the byte. What is missing is looked for
//! once a tick. An answer alone cannot bring back what tells whose it is: that takes a packet of the client's.

use std::net::SocketAddr;

use lb_common::tables::Device;

use crate::{
    kernel::{Egress, Ingress, Kernel, Outcome, UNSPEC},
    packet::{Frame, Net, TCP, UDP, both, flag},
    state::Tuple,
};

const WEB: u32 = 2;

/// A flow and the ways of its packets.
struct Talk {
    proto: u8,
    client: SocketAddr,
    vip: SocketAddr,
    endpoint: SocketAddr,
    /// The client as the endpoint sees it.
    seen_as: SocketAddr,
}

impl Talk {
    /// Opens a flow from `client`, with another address for it if `has_snat`.
    fn open(kernel: &mut Kernel, net: &Net, client: SocketAddr, proto: u8, has_snat: bool) -> Self {
        let role = if has_snat {
            Device::UPLINK
        } else {
            Device::PODS
        };
        kernel.set_device(role, both().map(|net| net.router));
        let of = |flags| Frame::of(proto, client, net.vip, flags).bytes();
        kernel.run(Ingress, &of(flag::SYN));
        let forward = kernel.flows.get((client, net.vip, proto));
        let endpoint = forward.expect("it is open").peer;
        kernel.run(
            Egress,
            &Frame::of(proto, client, endpoint, flag::SYN).bytes(),
        );
        let snat = kernel.flows.get((client, endpoint, proto));
        Self {
            proto,
            client,
            vip: net.vip,
            endpoint,
            seen_as: snat.map_or(client, |snat| snat.peer),
        }
    }

    /// All its entries; the first two there always are.
    fn tuples(&self) -> Vec<Tuple> {
        let tuple = |from, to| (from, to, self.proto);
        let mut tuples = vec![
            tuple(self.client, self.vip),
            tuple(self.endpoint, self.client),
        ];
        if self.seen_as != self.client {
            tuples.push(tuple(self.client, self.endpoint));
            tuples.push(tuple(self.endpoint, self.seen_as));
        }
        tuples
    }

    /// What becomes of the client's packet.
    fn ask(&self, kernel: &mut Kernel) -> [Outcome; 2] {
        let of = |to| Frame::of(self.proto, self.client, to, flag::ACK).bytes();
        [
            kernel.run(Ingress, &of(self.vip)),
            kernel.run(Egress, &of(self.endpoint)),
        ]
    }

    /// What becomes of the endpoint's packet.
    fn answer(&self, kernel: &mut Kernel) -> [Outcome; 2] {
        let of = |to| Frame::of(self.proto, self.endpoint, to, flag::ACK).bytes();
        [
            kernel.run(Ingress, &of(self.seen_as)),
            kernel.run(Egress, &of(self.client)),
        ]
    }

    /// Takes those entries away whose place has a bit in `lost`; for the others a tick passes.
    fn lose(&self, kernel: &mut Kernel, lost: u32) {
        for (at, tuple) in self.tuples().into_iter().enumerate() {
            if lost & 1 << at != 0 {
                kernel.flows.evict(tuple);
            } else {
                kernel.flows.age(tuple, 1);
            }
        }
    }
}

/// For each family and protocol, several clients, with and without another address for them: enough that a choice
/// which is made anew would often be another one.
fn for_each_talk(test: impl Fn(&mut Kernel, &Talk)) {
    for net in both() {
        let Some(mut kernel) = Kernel::load() else {
            return;
        };
        kernel.serve(net.vip, WEB, &net.endpoints);
        for proto in [TCP, UDP] {
            for (has_snat, first) in [(false, 41_000), (true, 42_000)] {
                for port in first..first + 4 {
                    let client = SocketAddr::new(net.client.ip(), port);
                    let talk = Talk::open(&mut kernel, &net, client, proto, has_snat);
                    assert_eq!(talk.seen_as != client, has_snat);
                    test(&mut kernel, &talk);
                }
            }
        }
    }
}

#[test]
fn whatever_entries_are_lost_the_flow_goes_on_as_before_with_its_clients_next_packet() {
    for_each_talk(|kernel, talk| {
        let before = (talk.ask(kernel), talk.answer(kernel));
        assert!(before.0.iter().all(|outcome| outcome.returned == UNSPEC));
        let subsets = 1u32 << talk.tuples().len();
        for lost in 1..subsets {
            talk.lose(kernel, lost);
            let shows = format!("{lost:04b} of {:?}", talk.tuples());
            assert_eq!(talk.ask(kernel), before.0, "asks, without {shows}");
            assert_eq!(talk.answer(kernel), before.1, "answers, without {shows}");
            for tuple in talk.tuples() {
                assert!(kernel.flows.get(tuple).is_some(), "{shows}");
            }
        }
    });
}

/// The other two lead the answer: the undo entry to the client, the reply entry to the VIP.
#[test]
fn an_answer_that_comes_first_needs_the_reply_entry_and_under_snat_the_undo_entry_alone() {
    for_each_talk(|kernel, talk| {
        talk.ask(kernel);
        let before = talk.answer(kernel);
        let [reply, undo] = [0b0010, 0b1000];
        for lost in 1u32..1 << talk.tuples().len() {
            talk.lose(kernel, lost);
            let after = talk.answer(kernel);
            assert_eq!(
                after == before,
                lost & (reply | undo) == 0,
                "{lost:04b} of {:?}",
                talk.tuples()
            );
            // All of it again.
            talk.ask(kernel);
            assert_eq!(talk.answer(kernel), before);
        }
    });
}
