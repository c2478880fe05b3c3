//! What becomes of devices in the arrangements that nodes have.

use lb_common::address::{V4, V6};

use super::*;
use crate::config::DetectLocal;

/// Devices as they are told to the functions under test.
#[derive(Default)]
struct Node {
    host: Host,
    rules: Option<Rules>,
}

impl Node {
    /// The default of the command line.
    fn new() -> Self {
        let mut node = Self::default();
        node.rules = Some(Rules {
            devices: vec![],
            said: Said {
                uplinks: vec![],
                detect_local: DetectLocal::ClusterCidr(vec![]),
            },
            xdp: XdpMode::Auto,
            node: vec![],
        });
        node
    }

    fn rules(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(self.rules.as_mut().unwrap());
        self
    }

    /// A device `index name kind` with addresses; `kind` is empty for a physical one.
    fn link(mut self, index: u32, name: &str, kind: &str, addresses: &[&str]) -> Self {
        let layer = match kind {
            "wireguard" | "ipip" | "sit" | "gre" | "tun" => LinkLayer::Ip,
            "can" => LinkLayer::Other,
            _ => LinkLayer::Ethernet,
        };
        let link = Link {
            index,
            name: name.into(),
            kind: kind.into(),
            layer,
            is_loopback: name == "lo",
            is_peer_elsewhere: kind == "veth",
            master: None,
        };
        self.host.links.insert(index, link);
        for text in addresses {
            self = self.address(index, text, |_| {});
        }
        self
    }

    fn port(mut self, of: u32, index: u32, name: &str, kind: &str, addresses: &[&str]) -> Self {
        self = self.link(index, name, kind, addresses);
        self.host.links.get_mut(&index).unwrap().master = Some(of);
        self
    }

    fn address(mut self, device: u32, text: &str, change: impl FnOnce(&mut AddressState)) -> Self {
        let network: ipnet::IpNet = text.parse().unwrap();
        let (ip, prefix) = (network.addr(), network.prefix_len());
        let mut state = AddressState {
            is_scoped: text.starts_with("fe80:"),
            ..AddressState::default()
        };
        change(&mut state);
        self.host
            .addresses
            .insert(AddressKey { device, ip, prefix }, state);
        self
    }

    fn wanted(&self) -> BTreeMap<u32, Wanted> {
        wanted(&self.host, self.rules.as_ref().unwrap())
    }

    #[track_caller]
    fn plan(&self, index: u32) -> Plan {
        match self.wanted()[&index] {
            Wanted::Attach(plan) => plan,
            Wanted::Skip(reason) => panic!("{index} is skipped: {reason}"),
        }
    }

    #[track_caller]
    fn skip(&self, index: u32) -> Reason {
        match self.wanted()[&index] {
            Wanted::Attach(plan) => panic!("{index} is attached: {plan:?}"),
            Wanted::Skip(reason) => reason,
        }
    }

    #[track_caller]
    fn role(&self, index: u32) -> &'static str {
        role_name(self.plan(index).device.role)
    }

    #[track_caller]
    fn sources(&self, index: u32) -> [String; 2] {
        let Device { v4, v6, .. } = self.plan(index).device;
        [format!("{v4:?}"), format!("{v6:?}")]
    }
}

const NONE_V6: &str = "::";

#[test]
fn whatever_is_no_pods_device_is_an_uplink() {
    let node = Node::new()
        .link(2, "eth0", "", &["192.0.2.1/24"])
        .link(3, "eth0.100", "vlan", &["198.51.100.1/24"])
        .link(4, "flannel.1", "vxlan", &["10.244.1.0/32"])
        .link(5, "wg0", "wireguard", &["10.9.0.1/24"])
        .link(6, "tunl0", "ipip", &[])
        .link(7, "macvlan0", "macvlan", &[]);
    for index in 2..=7 {
        assert_eq!(node.role(index), "uplink", "{index}");
    }
    assert_eq!(node.plan(5).layer, LinkLayer::Ip);
}

#[test]
fn a_routed_pods_veth_has_no_address_or_one_without_a_network() {
    let node = Node::new()
        .link(2, "cali1", "veth", &["fe80::ecee:eeff:feee:eeee/64"])
        .link(3, "veth1", "veth", &["10.244.0.1/32", "fd00::1/128"])
        .link(4, "veth2", "veth", &["169.254.1.1/16"]);
    for index in 2..=4 {
        assert_eq!(node.role(index), "pods", "{index}");
        assert_ne!(node.plan(index).device.role & Device::PEER, 0);
    }
}

#[test]
fn a_node_that_is_a_container_has_a_veth_for_an_uplink() {
    let node = Node::new()
        .link(2, "eth0", "veth", &["172.18.0.2/16"])
        .link(3, "eth1", "veth", &["fc00:f853::2/64"]);
    assert_eq!([node.role(2), node.role(3)], ["uplink", "uplink"]);
}

#[test]
fn so_has_one_without_a_network_whose_default_route_goes_by_it() {
    let mut node = Node::new()
        .link(2, "eth0", "veth", &["172.18.0.2/32"])
        .link(3, "veth1", "veth", &["10.244.0.1/32"]);
    node.host.ways_out.insert(2);
    assert_eq!([node.role(2), node.role(3)], ["uplink", "pods"]);
    assert_eq!(node.sources(3)[0], "10.244.0.1");
}

#[test]
fn it_is_still_the_uplink_while_no_route_leads_anywhere() {
    let mut node = Node::new()
        .link(2, "eth0", "veth", &["172.18.0.2/32"])
        .link(3, "eth1", "veth", &["172.18.0.3/32"]);
    node.host.keep_ways_out([2].into());
    assert_eq!([node.role(2), node.role(3)], ["uplink", "pods"]);
    node.host.ways_out = [3].into();
    node.host.keep_ways_out([2].into());
    assert_eq!(
        [node.role(2), node.role(3)],
        ["pods", "uplink"],
        "the way out is another"
    );
}

#[test]
fn a_bridge_is_attached_by_its_ports_and_they_know_it() {
    let node = Node::new()
        .link(7, "cni0", "bridge", &["10.244.0.1/24"])
        // Somebody gave the port an address: it is a port all the same.
        .port(7, 8, "veth1", "veth", &["192.0.2.9/24"])
        .port(7, 9, "tap0", "tun", &[]);
    assert_eq!(node.skip(7), Reason::Bridge);
    assert_eq!(node.plan(8).device.bridge, 7);
    assert_eq!([node.role(8), node.role(9)], ["pods", "pods"]);
    assert_eq!(node.plan(8).device.role & Device::PEER, 0);
}

#[test]
fn a_bridges_physical_port_is_an_uplink_and_has_the_bridges_address() {
    let node = Node::new()
        .link(7, "br0", "bridge", &["192.0.2.1/24"])
        .port(7, 2, "eth0", "", &[])
        .port(7, 3, "bond0.5", "vlan", &[])
        .port(7, 8, "veth1", "veth", &[]);
    assert_eq!(
        [2, 3, 8].map(|index| node.role(index)),
        ["uplink", "uplink", "pods"]
    );
    assert_eq!(node.sources(2), ["192.0.2.1", NONE_V6]);
}

#[test]
fn a_bridge_that_is_attached_itself_is_an_uplink_if_one_of_its_ports_is() {
    let only = |pattern: &'static str| {
        Node::new()
            .rules(|rules| rules.devices = vec![pattern.into()])
            .link(7, "br0", "bridge", &["192.0.2.1/24"])
            .port(7, 8, "veth1", "veth", &[])
    };
    assert_eq!(only("br*").role(7), "pods");
    assert_eq!(only("br*").port(7, 2, "eth0", "", &[]).role(7), "uplink");
    let lonely = Node::new().link(7, "cni0", "bridge", &["10.244.0.1/24"]);
    assert_eq!(lonely.role(7), "pods");
}

#[test]
fn a_bond_is_attached_and_its_ports_are_not() {
    let node = Node::new()
        .link(7, "bond0", "bond", &[])
        .port(7, 2, "eth0", "", &[])
        .port(7, 3, "eth1", "", &[])
        .link(8, "bond0.100", "vlan", &["192.0.2.1/24"]);
    assert_eq!(node.skip(2), Reason::BondPort);
    assert_eq!(node.skip(3), Reason::BondPort);
    assert_eq!([node.role(7), node.role(8)], ["uplink", "uplink"]);
    // Untagged traffic has no address of its own to send from.
    assert_eq!(node.sources(7), ["192.0.2.1", NONE_V6]);
    // XDP by itself is for physical devices.
    assert!(node.plan(7).xdp.is_empty());
}

#[test]
fn loopback_and_unknown_frames_are_skipped() {
    let node = Node::new()
        .link(1, "lo", "", &["127.0.0.1/8"])
        .link(2, "can0", "can", &[]);
    assert_eq!(node.skip(1), Reason::Loopback);
    assert_eq!(node.skip(2), Reason::UnknownLayer);
}

#[test]
fn uplinks_that_are_named_are_all_there_are() {
    let node = Node::new()
        .rules(|rules| rules.said.uplinks = vec!["wan*".into()])
        .link(2, "eth0", "", &["10.0.0.1/24"])
        .link(3, "wan0", "veth", &[]);
    assert_eq!([node.role(2), node.role(3)], ["pods", "uplink"]);
}

#[test]
fn rule_59_interface_name_prefix_tells_pods_and_what_it_names_is_no_uplink() {
    let node = Node::new()
        .rules(|rules| {
            rules.said.detect_local = DetectLocal::InterfaceNamePrefix("lxc".into());
        })
        .link(2, "eth0", "", &["192.0.2.1/24"])
        .link(3, "lxc1", "veth", &["10.1.0.1/24"])
        .link(4, "veth1", "veth", &[]);
    assert_eq!(
        [2, 3, 4].map(|index| node.role(index)),
        ["uplink", "pods", "other"]
    );
}

#[test]
fn rule_59_bridge_interface_tells_pods_by_their_bridge() {
    let node = Node::new()
        .rules(|rules| rules.said.detect_local = DetectLocal::BridgeInterface("cni0".into()))
        .link(7, "cni0", "bridge", &[])
        .port(7, 8, "veth1", "veth", &[])
        .port(7, 2, "eth0", "", &[])
        .link(9, "docker0", "bridge", &[])
        .port(9, 10, "veth2", "veth", &[]);
    assert_eq!(
        [8, 2, 10].map(|index| node.role(index)),
        ["pods", "uplink", "other"]
    );
}

#[test]
fn a_device_sends_from_its_own_address_and_never_from_a_link_local_one() {
    let node = Node::new()
        .link(
            2,
            "eth0",
            "",
            &["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"],
        )
        .link(
            3,
            "flannel.1",
            "vxlan",
            &["10.244.1.0/32", "fe80::2/64", "169.254.0.9/16"],
        );
    assert_eq!(node.sources(2), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(node.sources(3), ["10.244.1.0", "2001:db8::1"]);
}

#[test]
fn a_pods_device_sends_from_its_bridges_address_else_from_the_nodes() {
    let node = Node::new()
        .link(7, "cni0", "bridge", &["10.244.0.1/24"])
        .port(7, 8, "veth1", "veth", &[])
        .link(2, "eth0", "", &["192.0.2.1/24", "2001:db8::1/64"])
        .link(9, "cali1", "veth", &[]);
    assert_eq!(node.sources(8), ["10.244.0.1", "2001:db8::1"]);
    assert_eq!(node.sources(9), ["192.0.2.1", "2001:db8::1"]);
}

#[test]
fn the_nodes_primary_address_is_what_its_object_says_if_it_is_here() {
    let said = |texts: &[&str]| {
        let ips: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Node::new()
            .rules(|rules| rules.node = ips)
            .link(2, "eth0", "", &["192.0.2.1/24"])
            .link(3, "eth1", "", &["198.51.100.1/24", "198.51.100.2/24"])
            .link(9, "cali1", "veth", &[])
    };
    assert_eq!(said(&[]).sources(9)[0], "192.0.2.1");
    assert_eq!(said(&["198.51.100.2"]).sources(9)[0], "198.51.100.2");
    assert_eq!(said(&["198.51.100.2"]).sources(3)[0], "198.51.100.2");
    assert_eq!(said(&["203.0.113.1"]).sources(9)[0], "192.0.2.1");
}

#[test]
fn of_several_addresses_the_one_that_stays_is_taken() {
    // A virtual address without a network may move to another node.
    let node = Node::new().link(2, "eth0", "", &["192.0.2.1/32", "192.0.2.7/24"]);
    assert_eq!(node.sources(2)[0], "192.0.2.7");
    let node = node.address(2, "192.0.2.3/24", |state| state.is_secondary = true);
    assert_eq!(node.sources(2)[0], "192.0.2.7");

    let node = Node::new()
        .address(2, "2001:db8::1/64", |state| state.is_tentative = true)
        .address(2, "2001:db8::2/64", |state| state.is_secondary = true)
        .link(2, "eth0", "", &[]);
    assert_eq!(node.sources(2)[1], "2001:db8::2");
    let node = node.address(2, "2001:db8::3/64", |state| state.is_deprecated = true);
    assert_eq!(node.sources(2)[1], "2001:db8::2");
    let node = node.address(2, "2001:db8::9/64", |_| {});
    assert_eq!(node.sources(2)[1], "2001:db8::9");
}

#[test]
fn the_nodes_own_addresses_are_those_it_answers_for_each_once() {
    let node = Node::new()
        .link(1, "lo", "", &["127.0.0.1/8"])
        .link(2, "eth0", "", &["192.0.2.1/24", "fe80::1/64"])
        .link(3, "eth1", "", &["fe80::1/64"])
        .link(4, "kube-ipvs0", "dummy", &["10.96.0.1/32"])
        .address(2, "2001:db8::1/64", |state| state.is_tentative = true);
    let own = own_addresses(&node.host);
    let texts: Vec<_> = own.iter().map(|address| address.ip.to_string()).collect();
    assert_eq!(texts, ["127.0.0.1", "192.0.2.1", "fe80::1"]);
}

#[test]
fn without_any_address_there_is_none_to_send_from() {
    let node = Node::new().link(2, "eth0", "", &["fe80::1/64"]);
    assert_eq!(node.plan(2).device.v4, V4::default());
    assert_eq!(node.plan(2).device.v6, V6::default());
}

#[test]
fn xdp_is_for_uplinks_and_by_default_for_drivers_of_physical_ones() {
    const NATIVE: u32 = Device::XDP_NATIVE;
    const GENERIC: u32 = Device::XDP_GENERIC;
    for (mode, physical, veth) in [
        (XdpMode::Auto, &[NATIVE][..], &[][..]),
        (XdpMode::Native, &[NATIVE, GENERIC], &[NATIVE, GENERIC]),
        (XdpMode::Generic, &[GENERIC], &[GENERIC]),
        (XdpMode::Off, &[], &[]),
    ] {
        let node = Node::new()
            .rules(|rules| rules.xdp = mode)
            .link(2, "eth0", "", &["192.0.2.1/24"])
            .link(3, "eth1", "veth", &["198.51.100.1/24"])
            .link(4, "wg0", "wireguard", &["10.9.0.1/24"])
            .link(5, "cali1", "veth", &[]);
        assert_eq!(node.plan(2).xdp, physical, "{mode:?}");
        assert_eq!(node.plan(3).xdp, veth, "{mode:?}");
        assert!(node.plan(4).xdp.is_empty(), "no Ethernet header");
        assert!(node.plan(5).xdp.is_empty(), "a pod's");
    }
}
