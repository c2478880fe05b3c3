//! Objects as `kubectl get -o json` prints them.

use lb_common::address::Family;
use serde_json::{Value, json};

use super::{Addresses, Object, Source};

pub(super) fn list<'a>(
    objects: impl Iterator<Item = &'a Object>,
    family: Family,
    addresses: &impl Addresses,
) -> Value {
    let items = objects.map(|object| item(object, family, addresses));
    json!({ "apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>() })
}

fn item(object: &Object, family: Family, addresses: &impl Addresses) -> Value {
    let (kind, name) = &object.name;
    let mut item = object.body.clone();
    item["kind"] = (*kind).into();
    item["metadata"]["name"] = name.as_str().into();
    item["apiVersion"] = match *kind {
        "EndpointSlice" => "discovery.k8s.io/v1",
        "ServiceCIDR" => "networking.k8s.io/v1",
        _ => "v1",
    }
    .into();
    if matches!(*kind, "Service" | "EndpointSlice") {
        item["metadata"]["namespace"] = "default".into();
    }
    match *kind {
        "Service" => {
            let own = object.only.unwrap_or(family);
            let vip = addresses.vip(&object.vip, own).to_string();
            item["spec"]["clusterIPs"] = json!([vip]);
            item["spec"]["clusterIP"] = vip.into();
            item["spec"]["ipFamilies"] = json!([own.name()]);
            item["spec"]["ipFamilyPolicy"] = "SingleStack".into();
            go_outside(&mut item, object, family, addresses);
        }
        "EndpointSlice" => {
            item["addressType"] = family.name().into();
            for (at, endpoint) in object.endpoints.iter().enumerate() {
                let ip = addresses.endpoint(endpoint, family).to_string();
                item["endpoints"][at]["addresses"] = json!([ip]);
            }
        }
        "Node" => {
            let ips = Family::BOTH.map(|family| addresses.node(name, family).to_string());
            let addresses = ips.map(|ip| json!({ "type": "InternalIP", "address": ip }));
            item["status"]["addresses"] = json!(addresses);
        }
        "ServiceCIDR" => item["spec"] = json!({ "cidrs": [addresses.range(family)] }),
        _ => {}
    }
    for patch in &object.patches {
        merge(&mut item, patch);
    }
    item
}

/// Adds the addresses that a Service has outside, and who may use them.
fn go_outside(item: &mut Value, object: &Object, family: Family, addresses: &impl Addresses) {
    let mut families = Family::BOTH.to_vec();
    families.retain(|other| object.only.is_some() || *other == family);
    let ips = |name: &String| {
        let ip = |family: &Family| addresses.external(name, *family).to_string();
        families.iter().map(ip).collect::<Vec<_>>()
    };
    if !object.externals.is_empty() {
        item["spec"]["externalIPs"] = object.externals.iter().flat_map(ips).collect();
    }
    let ingress = object.balancers.iter().flat_map(|(name, mode)| {
        ips(name).into_iter().map(move |ip| {
            let mut ingress = json!({ "ip": ip });
            if let Some(mode) = mode {
                ingress["ipMode"] = mode.as_str().into();
            }
            ingress
        })
    });
    if !object.balancers.is_empty() {
        item["status"]["loadBalancer"]["ingress"] = ingress.collect();
    }
    let network = |source: &Source| match (source, family) {
        (Source::Of(client), _) => addresses.clients(*client, family),
        (Source::Nobody, Family::V4) => "198.51.100.0/24".to_owned(),
        (Source::Nobody, Family::V6) => "2001:db8:51::/64".to_owned(),
        (Source::All, Family::V4) => "0.0.0.0/0".to_owned(),
        (Source::All, Family::V6) => "::/0".to_owned(),
    };
    if !object.sources.is_empty() {
        let networks = object.sources.iter().map(network);
        item["spec"]["loadBalancerSourceRanges"] = networks.collect();
    }
}

/// RFC 7396: members are replaced one by one, null removes.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in members {
        if value.is_null() {
            target.as_object_mut().expect("it is one now").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
