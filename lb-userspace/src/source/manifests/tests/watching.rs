//! Does the directory on disk get through, promptly and whatever happens to it?

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::PathBuf,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::source::manifests::{Error, Options, Problem, run};

struct Running {
    dir: TempDir,
    path: PathBuf,
    events: mpsc::Receiver<Event>,
    problems: watch::Receiver<Vec<Problem>>,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Runs on `name` in a new directory, prepared by `prepare`, and waits for the listing.
    async fn start(prepare: impl FnOnce(&Path)) -> (Self, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifests");
        prepare(&path);
        let options = Options {
            directory: path.clone(),
            node: "node-1".to_owned(),
            service_cidrs: DUAL.parse().unwrap(),
        };
        let (sender, events) = mpsc::channel(4);
        let (problem_sender, problems) = watch::channel(Vec::new());
        let task = tokio::spawn(run(options, Vec::new(), sender, problem_sender));
        let mut running = Self {
            dir,
            path,
            events,
            problems,
            task,
        };
        let mut listing = Vec::new();
        while listing.last().is_none_or(|last| last != "done") {
            listing.push(running.next().await);
        }
        (running, listing)
    }

    /// The next event worth a mention, which must come well within a second.
    async fn next(&mut self) -> String {
        let started = Instant::now();
        loop {
            let event = timeout(Duration::from_secs(10), self.events.recv())
                .await
                .unwrap()
                .unwrap();
            assert!(
                started.elapsed() < Duration::from_millis(950),
                "{:?}",
                started.elapsed()
            );
            let shown = short(&Update {
                events: vec![event],
                problems: Vec::new(),
            });
            if let Some(shown) = shown.into_iter().next() {
                return shown;
            }
        }
    }

    /// Asserts that nothing is said for a while.
    async fn assert_quiet(&mut self) {
        let next = timeout(Duration::from_millis(1200), self.events.recv()).await;
        assert!(next.is_err(), "{next:?}");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path.join(name), text).unwrap();
    }
}

fn empty(path: &Path) {
    fs::create_dir(path).unwrap();
}

#[tokio::test]
async fn files_that_come_change_and_go_take_effect_within_a_second() {
    let (mut running, listing) = Running::start(|path| {
        empty(path);
        fs::write(path.join("a.yaml"), service("a", "")).unwrap();
    })
    .await;
    assert_eq!(listing, ["init", "+a", "done"]);
    running.write("b.yaml", &service("b", ""));
    assert_eq!(running.next().await, "+b");
    running.write("b.yaml", &service("b", "type: NodePort"));
    assert_eq!(running.next().await, "+b");
    // As editors do it: a hidden copy takes the name.
    running.write(".a.yaml.swp", &service("a", "type: NodePort"));
    fs::rename(
        running.path.join(".a.yaml.swp"),
        running.path.join("a.yaml"),
    )
    .unwrap();
    assert_eq!(running.next().await, "+a");
    fs::remove_file(running.path.join("b.yaml")).unwrap();
    assert_eq!(running.next().await, "-b");
    running.assert_quiet().await;
    assert!(running.problems.borrow().is_empty());
}

#[tokio::test]
async fn a_file_being_written_is_not_taken_over_half() {
    let (mut running, _) = Running::start(|path| {
        empty(path);
        fs::write(path.join("a.yaml"), service("a", "") + &service("b", "")).unwrap();
    })
    .await;
    let mut file = fs::File::create(running.path.join("a.yaml")).unwrap();
    for name in ["a", "b", "c"] {
        tokio::time::sleep(Duration::from_millis(30)).await;
        file.write_all(service(name, "").as_bytes()).unwrap();
    }
    drop(file);
    assert_eq!(running.next().await, "+c");
}

#[tokio::test]
async fn a_mounted_config_map_is_followed() {
    let (mut running, listing) = Running::start(|path| {
        fs::create_dir_all(path.join("..1")).unwrap();
        fs::write(path.join("..1/a.yaml"), service("a", "")).unwrap();
        symlink("..1", path.join("..data")).unwrap();
        symlink("..data/a.yaml", path.join("a.yaml")).unwrap();
    })
    .await;
    assert_eq!(listing, ["init", "+a", "done"]);
    let path = &running.path;
    fs::create_dir(path.join("..2")).unwrap();
    fs::write(path.join("..2/a.yaml"), service("b", "")).unwrap();
    symlink("..2", path.join("..data_tmp")).unwrap();
    fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    fs::remove_dir_all(path.join("..1")).unwrap();
    assert_eq!(running.next().await, "-a");
    assert_eq!(running.next().await, "+b");
}

#[tokio::test]
async fn a_directory_that_disappears_withdraws_nothing_and_may_come_back() {
    let (mut running, _) = Running::start(|path| {
        empty(path);
        fs::write(path.join("a.yaml"), service("a", "")).unwrap();
    })
    .await;
    let aside = running.dir.path().join("aside");
    fs::rename(&running.path, &aside).unwrap();
    running.assert_quiet().await;
    let problems = running.problems.borrow_and_update().clone();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0]
            .to_string()
            .contains("manifests: cannot be read"),
        "{problems:?}"
    );

    fs::create_dir(&running.path).unwrap();
    running.write("a.yaml", &service("a", ""));
    running.write("b.yaml", &service("b", ""));
    assert_eq!(running.next().await, "+b");
    running.write("b.yaml", "");
    assert_eq!(running.next().await, "-b");
    assert!(running.problems.borrow().is_empty());
}

#[tokio::test]
async fn problems_are_published_and_go_when_they_are_mended() {
    let (mut running, _) = Running::start(empty).await;
    running.write("a.yaml", "kind: [\n");
    timeout(Duration::from_secs(1), running.problems.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(running.problems.borrow_and_update().len(), 1);
    running.write("a.yaml", &service("a", ""));
    assert_eq!(running.next().await, "+a");
    assert!(running.problems.borrow().is_empty());
}

#[tokio::test]
async fn it_ends_when_nobody_listens_any_more() {
    let (running, _) = Running::start(empty).await;
    drop(running.events);
    let ended = timeout(Duration::from_secs(2), running.task)
        .await
        .unwrap()
        .unwrap();
    assert!(ended.is_ok());
}

#[tokio::test]
async fn a_directory_that_is_not_there_at_the_start_is_an_error() {
    let options = Options {
        directory: "no/such/directory".into(),
        node: "node-1".to_owned(),
        service_cidrs: DUAL.parse().unwrap(),
    };
    let (events, _receiver) = mpsc::channel(1);
    let (problems, _problems) = watch::channel(Vec::new());
    let error = run(options, Vec::new(), events, problems)
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Directory { .. }));
    assert!(
        error
            .to_string()
            .starts_with("manifests directory no/such/directory: "),
        "{error}"
    );
}
