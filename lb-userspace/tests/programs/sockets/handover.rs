//! From one agent's programs to the next one's.

use duolb::datapath::{cgroup, netns, object::Settings};

use super::{WEB, on_node};
use crate::{
    kernel::{Kernel, settings},
    packet::both,
};

#[test]
fn a_new_object_takes_the_links_over_and_leaves_one_of_each() {
    on_node("handover", &settings(), |node| {
        let settings = Settings {
            netns_cookie: netns::cookie().unwrap(),
            ..settings()
        };
        let mut next = Kernel::load_alone(&settings).unwrap();
        for net in both() {
            node.kernel.serve(net.vip, WEB, &net.endpoints[..1]);
            next.serve(net.vip, WEB, &net.endpoints[1..2]);
            node.check("the first object's tables", &net, net.vip, Ok(0));
        }
        cgroup::attach(&mut next.object, &node.pins, None).unwrap();
        assert!(cgroup::is_attached(&node.pins));
        let before = node.kernel.verdicts();
        let first = std::mem::replace(&mut node.kernel, next);
        for net in both() {
            node.check("the next one's", &net, net.vip, Ok(1));
        }
        assert_eq!(first.verdicts(), before, "the first one is asked no more");
    });
}
