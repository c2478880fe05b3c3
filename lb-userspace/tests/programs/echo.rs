//! Echo requests to ClusterIPs are answered, to anybody else's addresses left alone (rule 52).

use lb_common::verdict::Verdict;

use crate::{
    kernel::{Egress, Hook, Ingress, Kernel, Outcome, REDIRECT, Untouched},
    packet::{Frame, Net, both, verify},
};

const WEB: u32 = 2;

/// An answer as it goes back: the link layer is turned round as well.
fn turned(reply: &Frame) -> Vec<u8> {
    let mut bytes = reply.bytes();
    let (dst, src) = bytes[..12].split_at_mut(6);
    dst.swap_with_slice(src);
    bytes
}

#[track_caller]
fn check(kernel: &mut Kernel, hook: Hook, request: &Frame, reply: &Frame) {
    let outcome = kernel.run(hook, &request.bytes());
    let expected = Outcome {
        returned: REDIRECT,
        bytes: turned(reply),
        verdict: Some(Verdict::Echo),
    };
    assert_eq!(outcome, expected, "{hook:?}");
    if request.fragment.is_none() {
        verify(&outcome.bytes).unwrap();
    }
}

fn request(net: &Net) -> Frame {
    Frame::echo(net.client.ip(), net.vip.ip())
}

#[test]
fn a_cluster_ip_answers_whether_or_not_it_has_endpoints() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.tables.mark(net.vip.ip());
        for endpoints in [&[][..], &[net.endpoint()]] {
            kernel.serve(net.vip, WEB, endpoints);
            for hook in Hook::BOTH {
                let ping = request(&net);
                check(&mut kernel, hook, &ping, &ping.echoed());
                let tagged = ping.with_extras().tagged(&[0x8100]);
                check(&mut kernel, hook, &tagged, &tagged.echoed());
            }
        }
    }
}

#[test]
fn the_answer_has_all_hops_whatever_the_request_has_left() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let [net, _] = both();
    kernel.tables.mark(net.vip.ip());
    let ping = request(&net);
    let mut bytes = ping.bytes();
    // TTL 3 instead of 64, and the checksum for it.
    bytes[22] = 3;
    let sum = u16::from_be_bytes([bytes[24], bytes[25]]);
    bytes[24..26].copy_from_slice(&(sum + (61 << 8)).to_be_bytes());
    verify(&bytes).expect("the request is right");
    let outcome = kernel.run(Ingress, &bytes);
    assert_eq!(outcome.bytes, turned(&ping.echoed()));
}

#[test]
fn each_piece_of_a_large_request_is_answered_in_any_order() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.tables.mark(net.vip.ip());
        let ping = request(&net).payload(&[7; 100]);
        for hook in Hook::BOTH {
            for at in [2, 0, 1] {
                let request = &ping.pieces(5, 40)[at];
                let reply = &ping.echoed().pieces(5, 40)[at];
                check(&mut kernel, hook, request, reply);
            }
        }
    }
}

#[test]
fn other_addresses_and_other_messages_are_left_alone() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.serve(net.other_vip, WEB, &[net.endpoint()]);
        kernel.tables.mark(net.vip.ip());
        for to in [net.other_vip, net.stranger, net.endpoint()] {
            let ping = Frame::echo(net.client.ip(), to.ip()).payload(&[7; 100]);
            for hook in Hook::BOTH {
                kernel.check("not marked", hook, &ping, Untouched);
                for piece in ping.pieces(5, 40) {
                    kernel.check("not marked", hook, &piece, Untouched);
                }
            }
        }
        let reply = Frame::echo(net.vip.ip(), net.client.ip()).echoed();
        kernel.check("a reply", Egress, &reply, Untouched);
        kernel.check("a reply", Ingress, &reply, Untouched);
    }
}
