//! A document between two sound ones, in YAML or, if the first byte says so, a file of its own in JSON: whatever it
//! is, it is told with file and line if it is bad, and the others are served.

use std::{collections::BTreeMap, path::Path};

use duolb::source::{
    Event,
    manifests::{Content, Manifests, ServiceCidrs, Update},
};

pub fn run(data: &[u8]) {
    let Some((is_json, document)) = data.split_first() else {
        return;
    };
    if *is_json == b'J' {
        check(&read("x.json", document.to_vec()), "x.json");
        return;
    }
    let sound = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n"
        )
    };
    let bytes = [
        sound("fuzz-before").as_bytes(),
        document,
        b"\n",
        sound("zzz-fuzz-after").as_bytes(),
    ]
    .concat();
    let update = read("x.yaml", bytes);
    check(&update, "x.yaml");
    // A file that is no text says nothing, and a document may take names and address ranges from others.
    let Ok(text) = str::from_utf8(document) else {
        assert!(!update.problems.is_empty(), "that it is no text is told");
        return;
    };
    if text.contains("fuzz-") || text.contains("CIDR") {
        return;
    }
    for name in ["fuzz-before", "zzz-fuzz-after"] {
        let is_served = update
            .events
            .iter()
            .any(|event| matches!(event, Event::ApplyService(service) if service.key.name == name));
        assert!(is_served, "{name} is lost: {:?}", update.problems);
    }
}

fn read(name: &str, bytes: Vec<u8>) -> Update {
    let cidrs: ServiceCidrs = "10.96.0.0/16,fd00:10:96::/112".parse().expect("two ranges");
    let mut manifests = Manifests::new(Path::new("dir"), "here", cidrs, Vec::new());
    manifests.update(BTreeMap::from([(name.to_owned(), Content::Bytes(bytes))]))
}

/// Every problem names the file and a line of it.
fn check(update: &Update, name: &str) {
    for problem in &update.problems {
        let text = problem.to_string();
        let line = text
            .split_once(&format!("{name}:"))
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
        assert!(
            line.is_some_and(|line| line.parse::<u32>().is_ok_and(|line| line > 0)),
            "no line: {text}"
        );
    }
}
