//! The networks that pods of this node have their addresses from, where that is how they are told (rule 59).

use ipnet::IpNet;
use lb_common::address::Family;

use crate::config::DetectLocal;

/// What `LOCALS_V4` and `LOCALS_V6` should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locals {
    /// The networks, at most one of each family. Of a family without, what its devices are tells.
    pub networks: Vec<IpNet>,
    /// Families that should have had one.
    pub missing: Vec<Family>,
}

/// What is local by address. `pod_cidrs` are the Node's, `None` while it is not known; then so is the answer with
/// NodeCIDR, and what an agent before this one wrote stays.
///
/// A Node's podCIDRs may change, though Kubernetes never does so by itself: kube-proxy ends then, to be started
/// anew. Here the change is followed, since no flow depends on them once it is open.
pub fn locals(detect_local: &DetectLocal, pod_cidrs: Option<&[IpNet]>) -> Option<Locals> {
    let said = match detect_local {
        DetectLocal::ClusterCidr(networks) => networks,
        DetectLocal::NodeCidr => pod_cidrs?,
        DetectLocal::BridgeInterface(_) | DetectLocal::InterfaceNamePrefix(_) => {
            return Some(Locals {
                networks: vec![],
                missing: vec![],
            });
        }
    };
    let (mut networks, mut missing) = (vec![], vec![]);
    for family in Family::BOTH {
        match said
            .iter()
            .find(|network| Family::of(&network.addr()) == family)
        {
            Some(network) => networks.push(network.trunc()),
            None => missing.push(family),
        }
    }
    Some(Locals { networks, missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn cluster_cidr_takes_the_first_range_of_each_family_and_says_which_has_none() {
        let cidrs = networks(&["10.0.0.1/8"]);
        let found = locals(&DetectLocal::ClusterCidr(cidrs), None).unwrap();
        assert_eq!(found.networks, networks(&["10.0.0.0/8"]));
        assert_eq!(found.missing, [Family::V6]);
    }

    #[test]
    fn node_cidr_waits_for_the_node_and_follows_it() {
        let mode = DetectLocal::NodeCidr;
        assert_eq!(locals(&mode, None), None);
        let cidrs = networks(&["10.1.0.0/24", "fd00:1::/64", "10.2.0.0/24"]);
        let found = locals(&mode, Some(&cidrs)).unwrap();
        assert_eq!(found.networks, cidrs[..2]);
        assert_eq!(locals(&mode, Some(&[])).unwrap().missing, Family::BOTH);
    }

    #[test]
    fn modes_by_device_leave_it_to_the_devices() {
        let mode = DetectLocal::BridgeInterface("cni0".into());
        let found = locals(&mode, Some(&networks(&["10.1.0.0/24"]))).unwrap();
        assert!(found.networks.is_empty() && found.missing.is_empty());
    }
}
