//! What is sent when files change, and what stays when they go wrong?

use super::*;

const SLICE: &str = "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-v4, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.1.10]}]
";

#[test]
fn the_first_time_is_a_listing_and_later_only_differences_are_sent() {
    let mut manifests = directory(DUAL, Vec::new());
    let (a, b) = (service("a", ""), service("b", ""));
    let update = write(
        &mut manifests,
        &[("b.yaml", &b), ("a.yaml", &(a.clone() + SLICE))],
    );
    assert_eq!(
        short(&update),
        ["init", "+a", "+b", "+slice web-v4", "done"]
    );
    assert_eq!(short(&write(&mut manifests, &[("b.yaml", &b)])), [""; 0]);
    let update = write(
        &mut manifests,
        &[("b.yaml", &service("b", "ipFamilyPolicy: PreferDualStack"))],
    );
    assert_eq!(short(&update), ["+b"]);
    let moved = SLICE.replace("1.10", "1.11") + &service("c", "");
    assert_eq!(
        short(&write(&mut manifests, &[("a.yaml", &moved)])),
        ["-a", "+c", "+slice web-v4"]
    );
    let gone = BTreeMap::from([("a.yaml".to_owned(), Content::Gone)]);
    assert_eq!(short(&manifests.update(gone)), ["-slice web-v4", "-c"]);
}

#[test]
fn an_empty_directory_is_a_listing_too() {
    assert_eq!(
        short(&directory("", Vec::new()).update(BTreeMap::new())),
        ["init", "done"]
    );
}

#[test]
fn an_object_that_moves_to_another_file_is_not_touched() {
    let mut manifests = directory(DUAL, Vec::new());
    let a = service("a", "");
    write(&mut manifests, &[("one.yaml", &a)]);
    assert_eq!(
        short(&write(
            &mut manifests,
            &[("one.yaml", ""), ("two.yaml", &a)]
        )),
        [""; 0]
    );
}

#[test]
fn a_document_that_does_not_parse_withdraws_nothing() {
    let mut manifests = directory(DUAL, Vec::new());
    let (a, b, c) = (service("a", ""), service("b", ""), service("c", ""));
    write(&mut manifests, &[("x.yaml", &(a.clone() + &b))]);
    // b's document is broken, c is new: b stays and c comes; a stays, since its document may be the broken one.
    let update = write(
        &mut manifests,
        &[("x.yaml", &(c.clone() + "---\nkind: [\n"))],
    );
    assert_eq!(short(&update), ["+c"]);
    assert!(
        messages(&update)[0].starts_with("dir/x.yaml:"),
        "{:?}",
        messages(&update)
    );
    let update = write(&mut manifests, &[("x.yaml", &(a + &c))]);
    assert_eq!(
        (short(&update), messages(&update).len()),
        (vec!["-b".into()], 0)
    );
}

#[test]
fn what_cannot_be_recognised_withdraws_nothing() {
    for (what, text) in [
        ("no kind", "apiVersion: v1\nmetadata: {name: a}\n"),
        ("no name", "apiVersion: v1\nkind: Service\nmetadata: {}\n"),
        (
            "a name that is none",
            "apiVersion: v1\nkind: Service\nmetadata: {name: A}\n",
        ),
        ("text", "hello\n"),
        ("a list", "[]\n"),
        (
            "items that are none",
            "apiVersion: v1\nkind: List\nitems: {}\n",
        ),
        ("nonsense", "\u{0}\u{1}"),
    ] {
        let mut manifests = directory(DUAL, Vec::new());
        write(&mut manifests, &[("x.yaml", &service("a", ""))]);
        let update = write(&mut manifests, &[("x.yaml", text)]);
        assert_eq!(
            (short(&update), messages(&update).len()),
            (vec![], 1),
            "{what}"
        );
    }
    let mut manifests = directory(DUAL, Vec::new());
    write(&mut manifests, &[("x.yaml", &service("a", ""))]);
    for (content, message) in [
        (
            Content::Bytes(b"# \n\xff".to_vec()),
            "dir/x.yaml:2: does not parse: it is not UTF-8",
        ),
        (
            Content::Unreadable("no".into()),
            "dir/x.yaml: cannot be read: no",
        ),
    ] {
        let update = manifests.update(BTreeMap::from([("x.yaml".to_owned(), content)]));
        assert_eq!(
            (short(&update), messages(&update)),
            (vec![], vec![message.to_owned()])
        );
    }
}

#[test]
fn an_invalid_object_keeps_its_last_version_while_the_others_change() {
    let mut manifests = directory(DUAL, Vec::new());
    let bad = service("a", "").replace("80", "70000");
    write(
        &mut manifests,
        &[("x.yaml", &(service("a", "") + &service("b", "")))],
    );
    let update = write(
        &mut manifests,
        &[("x.yaml", &(bad.clone() + &service("c", "")))],
    );
    assert_eq!(short(&update), ["-b", "+c"]);
    let message = "Service default/a: spec.ports[0].port: 70000 is not a port (1..65535)";
    assert_eq!(messages(&update), [format!("dir/x.yaml:5: {message}")]);
    // An agent that never saw a sound version has none.
    assert_eq!(short(&read(DUAL, &bad)), ["init", "done"]);
    assert_eq!(
        short(&write(&mut manifests, &[("x.yaml", "")])),
        ["-a", "-c"]
    );
}

#[test]
fn one_object_in_two_files_is_the_first_ones() {
    let mut manifests = directory(DUAL, Vec::new());
    let plain = service("a", "");
    let dual = service("a", "ipFamilyPolicy: PreferDualStack");
    let update = write(&mut manifests, &[("2.yaml", &dual), ("1.yaml", &plain)]);
    assert_eq!(services(&update)["a"].cluster_ips.len(), 1);
    let message = "Service default/a: is defined in dir/1.yaml:2 already; that one stays in force";
    assert_eq!(messages(&update), [format!("dir/2.yaml:2: {message}")]);
    let update = write(&mut manifests, &[("1.yaml", "")]);
    assert_eq!(
        (short(&update), messages(&update).len()),
        (vec!["+a".into()], 0)
    );
    // The same holds within a file.
    let update = read(DUAL, &(plain + &dual));
    assert_eq!(services(&update)["a"].cluster_ips.len(), 1);
    let message = "Service default/a: is defined in dir/x.yaml:2 already; that one stays in force";
    assert_eq!(messages(&update), [format!("dir/x.yaml:7: {message}")]);
}

#[test]
fn families_and_addresses_change_only_as_the_api_server_lets_them() {
    const PREFER: &str = "ipFamilyPolicy: PreferDualStack";
    const SIX_FOUR: &str = "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4]";
    const BOTH_OUT: &str = "ipFamilyPolicy: SingleStack, ipFamilies: [IPv6, IPv4]";
    const PAIR: &str = "ipFamilyPolicy: PreferDualStack, clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00:10:96::7']";
    const OTHER_PAIR: &str = "ipFamilyPolicy: PreferDualStack, clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00:10:96::8']";
    // From, to, number of addresses kept, number after; or the message.
    for (from, to, expected) in [
        ("", PREFER, Ok((1, 2))),
        (PREFER, "", Ok((1, 1))),
        (PREFER, "ipFamilyPolicy: SingleStack", Ok((1, 1))),
        (SIX_FOUR, BOTH_OUT, Ok((1, 1))),
        (SIX_FOUR, "ipFamilyPolicy: SingleStack", Ok((1, 1))),
        (SIX_FOUR, PREFER, Ok((2, 2))),
        ("ipFamilies: [IPv6]", "", Ok((1, 1))),
        ("", "type: NodePort", Ok((1, 1))),
        ("clusterIP: 10.96.0.7", "", Ok((1, 1))),
        ("clusterIP: 10.96.0.7", PAIR, Ok((1, 2))),
        (PAIR, "clusterIP: 10.96.0.7", Ok((1, 1))),
        (PAIR, PREFER, Ok((2, 2))),
        ("", "type: ExternalName, externalName: a.b", Ok((0, 0))),
        (
            "type: ExternalName, externalName: a.b",
            "ipFamilies: [IPv6]",
            Ok((0, 1)),
        ),
        (
            "clusterIP: None",
            "clusterIP: None, ipFamilies: [IPv6]",
            Ok((0, 0)),
        ),
        (
            "",
            "ipFamilies: [IPv6]",
            Err("spec.ipFamilies[0]: IPv6 cannot be changed from IPv4"),
        ),
        (
            PREFER,
            SIX_FOUR,
            Err("spec.ipFamilies[0]: IPv6 cannot be changed from IPv4"),
        ),
        (
            "clusterIP: 10.96.0.7",
            "clusterIP: 10.96.0.8",
            Err("10.96.0.8 cannot be changed from 10.96.0.7"),
        ),
        (
            "clusterIP: 10.96.0.7",
            "clusterIP: 'fd00:10:96::7'",
            Err("IPv6 cannot be changed from IPv4"),
        ),
        (
            PAIR,
            OTHER_PAIR,
            Err("spec.clusterIPs[1]: fd00:10:96::8 cannot be changed from fd00:10:96::7"),
        ),
        (
            "clusterIP: 10.96.0.7",
            "clusterIP: None",
            Err("spec.clusterIP: None cannot be changed from 10.96.0.7"),
        ),
        (
            "clusterIP: None",
            "",
            Err("spec.clusterIP: an assigned address cannot be changed from None"),
        ),
    ] {
        let mut manifests = directory(DUAL, Vec::new());
        let before = write(&mut manifests, &[("x.yaml", &service("s", from))]);
        let old = services(&before)["s"].clone();
        let update = write(&mut manifests, &[("x.yaml", &service("s", to))]);
        let new = manifests.services().values().next().unwrap().clone();
        match expected {
            Ok((kept, count)) => {
                assert_eq!(messages(&update), [""; 0], "{from} -> {to}");
                assert_eq!(new.cluster_ips.len(), count, "{from} -> {to}");
                assert_eq!(
                    new.cluster_ips[..kept],
                    old.cluster_ips[..kept],
                    "{from} -> {to}"
                );
            }
            Err(part) => {
                let messages = messages(&update);
                assert!(
                    messages.len() == 1 && messages[0].contains(part),
                    "{from} -> {to}: {messages:?}"
                );
                assert_eq!((new, short(&update).len()), (old, 0), "{from} -> {to}");
            }
        }
        // Looking again changes nothing.
        let again = write(&mut manifests, &[("y.yaml", "")]);
        assert_eq!(
            (short(&again).len(), again.problems),
            (0, update.problems),
            "{from} -> {to}"
        );
    }
}

#[test]
fn a_label_set_later_looks_like_a_deletion() {
    let mut manifests = directory(DUAL, Vec::new());
    write(&mut manifests, &[("x.yaml", &(service("web", "") + SLICE))]);
    // Rule 1, whatever the value; rule 2.
    let foreign = service("web", "").replace(
        "{name: web}",
        "{name: web, labels: {service.kubernetes.io/service-proxy-name: ''}}",
    );
    assert_eq!(
        short(&write(&mut manifests, &[("x.yaml", &(foreign + SLICE))])),
        ["-web"]
    );
    let headless = SLICE.replace("labels: {", "labels: {service.kubernetes.io/headless: '', ");
    assert_eq!(
        short(&write(&mut manifests, &[("x.yaml", &headless)])),
        ["-slice web-v4"]
    );
}
