//! A direct connection that was there before the client asked a VIP by the same port (decision 3).

use std::net::SocketAddr;

use lb_common::verdict::Verdict;

use crate::{
    kernel::{Becomes, Egress, Ingress, Kernel, Untouched},
    packet::{Frame, TCP, both, flag},
};

#[test]
fn the_tuple_is_given_back_and_the_next_syn_takes_another_port() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, 1, &[net.endpoint()]);
        let direct = Frame::tcp(net.client, net.endpoint(), flag::ACK);
        let answer = Frame::tcp(net.endpoint(), net.client, flag::ACK);
        kernel.check("a direct connection", Ingress, &direct, Untouched);
        kernel.check("a direct connection", Egress, &answer, Untouched);

        let syn = Frame::tcp(net.client, net.vip, flag::SYN);
        kernel.pass("the VIP by the same port", &syn, net.endpoint());
        kernel.check("the endpoint's challenge ACK", Egress, &answer, Untouched);
        kernel.check("it goes on", Ingress, &direct, Untouched);
        kernel.check("it goes on", Egress, &answer, Untouched);

        let outcome = kernel.run(Ingress, &syn.bytes());
        assert_eq!(outcome.verdict, Some(Verdict::Dnat), "{}", net.name);
        let flow = kernel.flows.get((net.client, net.vip, TCP)).unwrap();
        let moved = SocketAddr::new(net.client.ip(), flow.client_port);
        assert_ne!(moved, net.client, "{}", net.name);
        let expected = syn.clone().from(moved).to(net.endpoint());
        assert_eq!(outcome.bytes, expected.bytes(), "{}", net.name);
        let syn_ack = Frame::tcp(net.endpoint(), moved, flag::SYN | flag::ACK);
        let told = syn_ack.clone().from(net.vip).to(net.client);
        let told = Becomes(&told, Verdict::RevNat);
        kernel.check("the VIP answers", Egress, &syn_ack, told);
        kernel.check("both go on", Egress, &answer, Untouched);
    }
}

#[test]
fn a_client_that_goes_on_has_had_its_answer() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, 1, &[net.endpoint()]);
        for flags in [flag::SYN, flag::ACK] {
            let sent = Frame::tcp(net.client, net.vip, flags);
            kernel.pass("opens", &sent, net.endpoint());
        }
        let answer = Frame::tcp(net.endpoint(), net.client, flag::ACK);
        let told = answer.clone().from(net.vip);
        let told = Becomes(&told, Verdict::RevNat);
        kernel.check("SYN-ACK came by another way", Egress, &answer, told);
    }
}

#[test]
fn what_the_endpoint_says_of_a_late_syn_is_told_the_client() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, 1, &[net.endpoint()]);
        let sent = |flags| Frame::tcp(net.client, net.vip, flags);
        let answer = |flags| Frame::tcp(net.endpoint(), net.client, flags);
        let answered = |kernel: &mut Kernel, shows: &str, flags| {
            let told = answer(flags).from(net.vip);
            kernel.check(
                shows,
                Egress,
                &answer(flags),
                Becomes(&told, Verdict::RevNat),
            );
        };
        kernel.pass("opens", &sent(flag::SYN), net.endpoint());
        // Rule 61: both sides may open at once; then the client's own SYN-ACK may overtake its SYN, sent again.
        answered(&mut kernel, "so does the endpoint", flag::SYN);
        kernel.pass("SYN-ACK", &sent(flag::SYN | flag::ACK), net.endpoint());
        kernel.pass("a SYN that is late", &sent(flag::SYN), net.endpoint());
        answered(&mut kernel, "a challenge ACK (RFC 5961)", flag::ACK);
        kernel.pass("goes on", &sent(flag::ACK), net.endpoint());
    }
}
