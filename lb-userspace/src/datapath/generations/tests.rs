//! What is made of what killed agents leave. Renames are the same in any file system.

use std::fs;

use super::*;

/// A pin directory with these files.
fn pins(files: &[&str]) -> (tempfile::TempDir, Pins) {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let pins = Pins::new(dir.path());
    fs::create_dir_all(pins.links()).unwrap();
    (dir, pins)
}

/// What is in force and what was before, relative to the pin directory.
fn found(pins: &Pins) -> [Option<String>; 2] {
    let Generations { current, former } = Generations::find(pins).unwrap();
    [current, former].map(|generation| {
        let maps = generation?.maps;
        let maps = maps.strip_prefix(pins.top()).unwrap();
        Some(maps.display().to_string())
    })
}

fn names(current: &str, former: &str) -> [Option<String>; 2] {
    [current, former].map(|name| (!name.is_empty()).then(|| name.to_owned()))
}

#[test]
fn whatever_a_killed_agent_leaves_one_set_of_maps_is_in_force() {
    let own = SCHEMA_VERSION;
    for (files, current, former, why) in [
        (&[][..], "", "", "nothing was ever pinned"),
        (&["vO/maps/A"], "vO/maps", "", "an agent of ours"),
        (&["v1/maps/A"], "v1/maps", "", "an agent of another version"),
        (
            &["v1/maps/A", "vO/next/A"],
            "v1/maps",
            "",
            "killed while copying",
        ),
        (
            &["vO/former/A", "vO/next/A"],
            "vO/maps",
            "",
            "killed between the two renames",
        ),
        (
            &["v1/former/A", "vO/next/A"],
            "v1/maps",
            "",
            "the same, between versions",
        ),
        (
            &["vO/former/A", "vO/maps/A"],
            "vO/maps",
            "vO/former",
            "killed while exchanging",
        ),
        (
            &["v1/former/A", "vO/maps/A"],
            "vO/maps",
            "v1/former",
            "the same, between versions",
        ),
        (
            &["v99/former/A", "vO/maps/A"],
            "vO/maps",
            "v99/former",
            "and back",
        ),
        (
            &["v1/former/A", "v99/maps/A"],
            "v99/maps",
            "v1/former",
            "between two others",
        ),
        (
            &["v3/maps/A", "vO/maps/A"],
            "vO/maps",
            "",
            "ours go before others",
        ),
    ] {
        let files: Vec<String> = files
            .iter()
            .map(|file| file.replace("vO", &format!("v{own}")))
            .collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let own = |name: &str| name.replace("vO", &format!("v{own}"));
        let (_dir, pins) = pins(&files);
        assert_eq!(found(&pins), names(&own(current), &own(former)), "{why}");
        assert!(!pins.next().exists(), "{why}: what nobody uses is removed");
        // And again: nothing more happens.
        assert_eq!(found(&pins), names(&own(current), &own(former)), "{why}");
    }
}

#[test]
fn links_of_any_version_are_taken_over() {
    let (_dir, pins) = pins(&[
        "v3/maps/A",
        "v3/links/7-ingress",
        "v3/links/cgroup-connect4",
    ]);
    let found = Generations::find(&pins).unwrap();
    assert_eq!(found.current.map(|current| current.schema), Some(3));
    let mut names: Vec<_> = fs::read_dir(pins.links())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["7-ingress", "cgroup-connect4"]);
    assert!(!pins.top().join("v3/links").exists());
}

#[test]
fn a_switch_leaves_the_maps_of_before_until_they_are_removed() {
    for before in ["v1", &format!("v{SCHEMA_VERSION}")] {
        let (_dir, pins) = pins(&[&format!("{before}/maps/OLD")]);
        let current = Generations::find(&pins).unwrap().current.unwrap();
        fs::create_dir_all(pins.next()).unwrap();
        fs::write(pins.next().join("NEW"), "").unwrap();
        fs::create_dir_all(pins.maps()).unwrap();
        let former = Generations::commit(&pins, &current).unwrap();
        assert!(pins.map("NEW").exists() && former.maps.join("OLD").exists());
        former.remove().unwrap();
        assert!(!former.maps.exists());
        assert!(!pins.top().join("v1").exists());
    }
}
