//! Random changes and random faults: whatever happens to a watch on the way, the maps say in the end what those of an
//! agent say that starts then.

use std::{collections::BTreeSet, time::Duration};

use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
    agent::{Agent, options},
    double::WatchFault,
    faults::world,
    objects::{Resource, service, slice},
};

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Vec<u8>),
    Delete(u8),
    Service(u8, bool),
    Fault(WatchFault),
    Compact,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop::sample::select(vec![
        WatchFault::Cut,
        WatchFault::Garbage,
        WatchFault::Repeat,
        WatchFault::Gone,
        WatchFault::Failed,
        WatchFault::End,
    ]);
    let step = prop_oneof![
        6 => (0..6u8, prop::collection::vec(1..9u8, 0..4)).prop_map(|(slice, hosts)| Step::Put(slice, hosts)),
        2 => (0..6u8).prop_map(Step::Delete),
        3 => (0..3u8, any::<bool>()).prop_map(|(service, exists)| Step::Service(service, exists)),
        3 => fault.prop_map(Step::Fault),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 10..40)
}

#[test]
fn whatever_goes_wrong_on_the_way_the_end_is_the_same() {
    let config = ProptestConfig {
        cases: 6,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let run = |steps: Vec<Step>| {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(play(&steps));
        Ok(())
    };
    TestRunner::new(config).run(&steps(), run).unwrap();
}

async fn play(steps: &[Step]) {
    let (mut double, mut agent) = world().await;
    let mut slices = BTreeSet::new();
    let mut services = BTreeSet::new();
    for step in steps {
        match step {
            Step::Put(number, hosts) => {
                let addresses: Vec<_> = hosts.iter().map(|host| format!("10.0.2.{host}")).collect();
                let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
                let service = format!("s{}", number % 3);
                double.put(&slice(&format!("slice-{number}"), &service, &addresses));
                slices.insert(*number);
            }
            Step::Delete(number) if slices.remove(number) => {
                double.delete(&slice(&format!("slice-{number}"), "", &[]));
            }
            Step::Service(number, true) => {
                double.put(&service(&format!("s{number}"), &format!("1.{number}")));
                services.insert(*number);
            }
            Step::Service(number, false) if services.remove(number) => {
                double.delete(&service(&format!("s{number}"), ""));
            }
            Step::Fault(fault) => double.faults(|faults| {
                let queue = faults.watch.entry(Resource::Slices).or_default();
                queue.push_back(*fault);
            }),
            Step::Compact => double.compact(),
            Step::Restart => {
                double.down().await;
                double.up().await;
            }
            Step::Delete(_) | Step::Service(..) => {}
        }
        agent.take_for(Duration::from_millis(5)).await;
    }
    double.faults(|faults| faults.watch.clear());
    double.put(&service("last", "2.1"));
    double.put(&slice("last-1", "last", &["10.0.3.1"]));
    let done = |agent: &Agent| agent.leads("10.96.2.1:80", &["10.0.3.1:8080"]) && agent.is_well();
    let mut fresh = Agent::start(&options(double.url())).await;
    fresh.until("a fresh agent is done", done).await;
    agent.until("the old agent is done", done).await;
    assert_eq!(agent.meaning(), fresh.meaning());
}
