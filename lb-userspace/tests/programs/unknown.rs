//! Packets to a VIP at which nothing is served: known ports that are no more, unknown ports (rule 49),
//! addresses that nobody has (rule 50), and those that are nobody's business (rule 51).

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    tables::{VIP_RANGES, VipRange},
    verdict::Verdict,
};

use crate::{
    kernel::{Becomes, Dropped, Egress, Ingress, Kernel, REDIRECT, Untouched},
    packet::{Frame, Net, SCTP, TCP, UDP, both, flag, verify},
    tables::GONE,
};

const WEB: u32 = 2;
const VIPS: u32 = VipRange::<()>::VIPS;
const CIDR: u32 = VipRange::<()>::SERVICE_CIDR;

/// The first address of the Services' range, and its length.
pub fn cidr(net: &Net) -> (IpAddr, u8) {
    if net.is_v6 {
        ("fd00:10:96::".parse().unwrap(), 112)
    } else {
        ("10.96.0.0".parse().unwrap(), 12)
    }
}

/// For each family: a VIP with a mark and a frontend, and its range with these flags.
fn each(flags: u32, test: impl Fn(&mut Kernel, &Net)) {
    for net in both() {
        let Some(mut kernel) = Kernel::load() else {
            return;
        };
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.tables.mark(net.vip.ip());
        let (first, bits) = cidr(&net);
        kernel.tables.write_ranges(&[(first, bits, flags)]);
        test(&mut kernel, &net);
    }
}

/// A port of the VIP that is not served.
fn unknown(net: &Net) -> SocketAddr {
    SocketAddr::new(net.vip.ip(), 81)
}

#[test]
fn an_unknown_port_of_a_vip_is_refused_whatever_the_packet_opens() {
    for flags in [VIPS, VIPS | CIDR] {
        each(flags, |kernel, net| {
            for proto in [TCP, UDP, SCTP] {
                let sent = |flags| Frame::of(proto, net.client, unknown(net), flags);
                let mut packets = vec![sent(flag::SYN), sent(flag::ACK)];
                // An IPv6 fragment has an extension header, and no answer for it.
                if !net.is_v6 {
                    packets.push(sent(flag::SYN).fragment(0, true));
                }
                for sent in packets {
                    let input = sent.bytes();
                    let outcome = kernel.run(Ingress, &input);
                    assert_eq!(outcome.verdict, Some(Verdict::UnknownPort), "{sent:?}");
                    assert_eq!(outcome.returned, REDIRECT, "{sent:?}");
                    verify(&outcome.bytes).expect("checksums");
                }
            }
            assert_eq!(kernel.flows.tuples(net.vip), [], "{}", net.name);
            let known = Frame::tcp(net.client, net.vip, flag::SYN);
            kernel.pass("the known port", &known, net.endpoint());
        });
    }
}

#[test]
fn an_address_of_the_service_cidr_that_nobody_has_is_dropped() {
    each(VIPS | CIDR, |kernel, net| {
        for proto in [TCP, UDP, SCTP] {
            for flags in [flag::SYN, flag::ACK] {
                let sent = Frame::of(proto, net.client, net.other_vip, flags);
                let dropped = Dropped(Verdict::Unallocated);
                kernel.check("rule 50", Ingress, &sent, dropped);
            }
        }
    });
}

#[test]
fn without_a_service_cidr_an_address_without_a_mark_is_left_alone() {
    each(VIPS, |kernel, net| {
        for proto in [TCP, UDP, SCTP] {
            let sent = Frame::of(proto, net.client, net.other_vip, flag::SYN);
            kernel.check("rule 51", Ingress, &sent, Untouched);
        }
    });
}

#[test]
fn addresses_outside_of_every_range_are_left_alone_though_they_be_vips() {
    each(VIPS | CIDR, |kernel, net| {
        let vip = SocketAddr::new(net.stranger.ip(), 80);
        kernel.serve(vip, WEB, &[net.endpoint()]);
        for proto in [TCP, UDP, SCTP] {
            for to in [net.stranger, net.neighbour] {
                let sent = Frame::of(proto, net.client, to, flag::SYN);
                kernel.check("rule 51", Ingress, &sent, Untouched);
            }
        }
    });
}

#[test]
fn every_range_up_to_the_first_unused_one_counts() {
    for net in both() {
        let Some(mut kernel) = Kernel::load() else {
            return;
        };
        let sent = Frame::udp(net.client, net.other_vip);
        let elsewhere = (net.router, if net.is_v6 { 128 } else { 32 }, VIPS);
        let (first, bits) = cidr(&net);
        for before in 0..VIP_RANGES {
            let mut ranges = vec![elsewhere; usize::try_from(before).unwrap()];
            kernel.tables.write_ranges(&ranges);
            ranges.push((first, bits, VIPS | CIDR));
            kernel.tables.write_ranges(&ranges);
            let dropped = Dropped(Verdict::Unallocated);
            kernel.check("the last of them", Ingress, &sent, dropped);
        }
        kernel.tables.write_ranges(&[elsewhere, (first, bits, 0)]);
        kernel.check("behind the end", Ingress, &sent, Untouched);
    }
}

#[test]
fn connections_outlive_their_frontend_and_udp_does_not() {
    for (flags, verdict) in [
        (VIPS, Verdict::UnknownPort),
        (VIPS | CIDR, Verdict::UnknownPort),
    ] {
        each(flags, |kernel, net| {
            for proto in [TCP, SCTP, UDP] {
                kernel.serve(net.vip, WEB, &[net.endpoint()]);
                for flags in [flag::SYN, flag::ACK] {
                    let sent = Frame::of(proto, net.client, net.vip, flags);
                    kernel.pass("before", &sent, net.endpoint());
                }
                kernel.withdraw(net.vip);
                kernel.tables.set_state(WEB, net.endpoint(), GONE);
                let known = Frame::of(proto, net.client, net.vip, flag::ACK);
                if proto == UDP {
                    let outcome = kernel.run(Ingress, &known.bytes());
                    assert_eq!(outcome.verdict, Some(verdict), "rule 75, {}", net.name);
                    continue;
                }
                for age in [0, 1] {
                    kernel.flows.age((net.client, net.vip, proto), age);
                    kernel.pass("rules 53 and 78", &known, net.endpoint());
                }
                let answer = Frame::of(proto, net.endpoint(), net.client, flag::ACK);
                let told = answer.clone().from(net.vip);
                let told = Becomes(&told, Verdict::RevNat);
                kernel.check("rules 53 and 78", Egress, &answer, told);
                let anew = Frame::of(proto, net.client, net.vip, flag::SYN);
                let outcome = kernel.run(Ingress, &anew.bytes());
                assert_eq!(outcome.verdict, Some(verdict), "{}", net.name);
            }
        });
    }
}

#[test]
fn a_retransmitted_syn_goes_on_though_the_frontend_has_gone_in_between() {
    each(VIPS | CIDR, |kernel, net| {
        let syn = Frame::tcp(net.client, net.vip, flag::SYN);
        kernel.pass("opens", &syn, net.endpoint());
        kernel.withdraw(net.vip);
        kernel.pass("rule 79", &syn, net.endpoint());
    });
}

#[test]
fn a_connection_outlives_the_mark_of_its_vip_as_well() {
    for flags in [VIPS, VIPS | CIDR] {
        for net in both() {
            let Some(mut kernel) = Kernel::load() else {
                return;
            };
            let (first, bits) = cidr(&net);
            kernel.tables.write_ranges(&[(first, bits, flags)]);
            kernel.serve(net.vip, WEB, &[net.endpoint()]);
            for flags in [flag::SYN, flag::ACK] {
                let sent = Frame::tcp(net.client, net.vip, flags);
                kernel.pass("before", &sent, net.endpoint());
            }
            kernel.withdraw(net.vip);
            let known = Frame::tcp(net.client, net.vip, flag::ACK);
            kernel.pass("rule 78", &known, net.endpoint());
        }
    }
}

/// A direct connection to an endpoint that is within a range: moved to another port as anywhere.
#[test]
fn a_direct_connection_within_a_range_is_moved_from_a_live_flow_s_way_too() {
    each(VIPS, |kernel, net| {
        let endpoint = SocketAddr::new(net.other_vip.ip(), 9_000);
        kernel.serve(net.vip, WEB, &[endpoint]);
        for flags in [flag::SYN, flag::ACK] {
            let sent = Frame::tcp(net.client, net.vip, flags);
            kernel.pass("through the VIP", &sent, endpoint);
        }
        for flags in [flag::SYN, flag::ACK] {
            let direct = Frame::tcp(net.client, endpoint, flags);
            let outcome = kernel.run(Ingress, &direct.bytes());
            assert_eq!(outcome.verdict, Some(Verdict::PortMoved), "{}", net.name);
        }
    });
}

#[test]
fn icmp_to_such_addresses_but_an_echo_is_left_alone() {
    each(VIPS | CIDR, |kernel, net| {
        for to in [net.vip, net.other_vip] {
            for (shows, kind) in net.icmp_others().iter().chain(net.icmp_errors()) {
                // That of a cluster IP is answered, see `echo`.
                if *shows == "echo" && to == net.vip {
                    continue;
                }
                let about = Frame::udp(to, net.client);
                let sent = Frame::icmp(net.client.ip(), to.ip(), *kind, &about, 8);
                kernel.check(shows, Ingress, &sent, Untouched);
            }
        }
    });
}
