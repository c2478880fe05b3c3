//! What an agent finds around it: no bpffs, a read-only one, pins of others, cgroups of any kind or none, no BTF.
//!
//! Each case is a mount namespace of its own, so that nothing of the machine changes.

use anyhow::{Result, ensure};

use crate::{needs_root, node::Faulty};

/// A surrounding, how an agent in it ends, and words that it says.
struct Case {
    what: &'static str,
    script: &'static str,
    status: i32,
    says: &'static [&'static str],
}

const IN_PLACE: &str = "the datapath is in place";
const PROCESSES: &str = "the node's own processes are served";

const CASES: &[Case] = &[
    Case {
        what: "no bpffs: it is mounted",
        script: "umount -l /sys/fs/bpf && serve --bpffs $PINS && grep '/sys/fs/bpf bpf' /proc/self/mounts && ls $PINS",
        status: 0,
        says: &[IN_PLACE, "bpf /sys/fs/bpf bpf rw"],
    },
    Case {
        what: "no bpffs and no right to mount one: it says how",
        script: "umount -l /sys/fs/bpf && RUN='setpriv --bounding-set -sys_admin' serve --bpffs $PINS",
        status: 1,
        says: &[
            "cannot mount bpffs on /sys/fs/bpf",
            "mount -t bpf bpf /sys/fs/bpf",
        ],
    },
    Case {
        what: "a read-only bpffs",
        script: "umount -l /sys/fs/bpf && mount -t bpf -o ro bpf /sys/fs/bpf && serve --bpffs $PINS",
        status: 1,
        says: &["/v4/maps: Read-only file system", "remount,rw"],
    },
    Case {
        what: "a directory that is on no bpffs",
        script: "serve --bpffs /run/duolb-no-bpffs",
        status: 1,
        says: &[
            "--bpffs /run/duolb-no-bpffs: not on a bpffs",
            "mount -t bpf bpf /run/duolb-no-bpffs",
        ],
    },
    Case {
        what: "a pin in place of the directory",
        script: "serve --bpffs $PINS && mv $PINS/v4/maps/AGENT $PINS/file && serve --bpffs $PINS/file; \
                 status=$?; mount | grep -c ' /sys/fs/bpf type bpf'; exit $status",
        status: 1,
        says: &[
            "/file/v4/maps: Not a directory",
            "something else is there",
            "--bpffs",
        ],
    },
    Case {
        what: "a directory that is not ours to write",
        script: "mkdir -p $PINS && chown 65534 $PINS && chmod 555 $PINS && \
                 RUN='setpriv --bounding-set -all,+bpf,+net_admin,+perfmon' serve --bpffs $PINS; \
                 status=$?; chmod 755 $PINS; exit $status",
        status: 1,
        says: &[
            "Permission denied",
            "run as root with CAP_BPF, or name another directory by --bpffs",
        ],
    },
    Case {
        what: "no BTF of the kernel",
        script: "mount -t tmpfs none /sys/kernel/btf && serve --bpffs $PINS",
        status: 0,
        says: &[IN_PLACE, PROCESSES],
    },
    Case {
        what: "cgroups of version 2 alone",
        script: "mount -t tmpfs none /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && serve --bpffs $PINS",
        status: 0,
        says: &[IN_PLACE, PROCESSES, "cgroup=/sys/fs/cgroup"],
    },
    Case {
        what: "both versions side by side",
        script: "mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/unified /sys/fs/cgroup/cpu && \
                 mount -t cgroup2 none /sys/fs/cgroup/unified && serve --bpffs $PINS",
        status: 0,
        says: &[IN_PLACE, PROCESSES, "cgroup=/sys/fs/cgroup/unified"],
    },
    Case {
        what: "cgroups of version 2, read-only as in a container",
        script: "mount -t tmpfs none /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && \
                 mount -o remount,bind,ro /sys/fs/cgroup && serve --bpffs $PINS",
        status: 0,
        says: &[IN_PLACE, PROCESSES],
    },
    Case {
        what: "no cgroups of version 2: everybody else is served",
        script: "for at in $(grep ' cgroup2 ' /proc/self/mounts | cut -d' ' -f2 | tac); do umount -l $at; done; \
                 serve --bpffs $PINS",
        status: 0,
        says: &[
            IN_PLACE,
            "the node's own processes are not served: cgroups: no cgroup v2 file system is mounted",
            "--cgroup-root",
        ],
    },
];

#[test]
fn an_agent_serves_in_any_surrounding_or_says_what_is_wrong_with_it() -> Result<()> {
    needs_root!();
    let faulty = Faulty::new()?;
    for Case {
        what,
        script,
        status,
        says,
    } in CASES
    {
        let (ended, said) = faulty.script(script)?;
        ensure!(
            ended == Some(*status),
            "{what}: ended with {ended:?}: {said}"
        );
        for words in *says {
            ensure!(said.contains(words), "{what}: no {words:?} in {said}");
        }
    }
    Ok(())
}

#[test]
fn pins_of_others_are_named_and_left_alone() -> Result<()> {
    needs_root!();
    let faulty = Faulty::new()?;
    // Another map where ours belongs, of another layout, as another program would have pinned it.
    let (ended, said) = faulty.script(
        "serve --bpffs $PINS > /dev/null && mkdir $PINS/other && mv $PINS/v4/maps/SERVICES $PINS/other/v && \
         rm $PINS/v4/maps/SLOTS_V4 && mv $PINS/other/v $PINS/v4/maps/SLOTS_V4 && before=$(ls -i $PINS/v4/maps/SLOTS_V4) && \
         serve --bpffs $PINS; status=$?; [ \"$before\" = \"$(ls -i $PINS/v4/maps/SLOTS_V4)\" ] && echo untouched; exit $status",
    )?;
    ensure!(ended == Some(1), "ended with {ended:?}: {said}");
    for words in ["/v4/maps/SLOTS_V4: pinned by", "untouched", "duolb cleanup"] {
        ensure!(said.contains(words), "no {words:?} in {said}");
    }
    Ok(())
}
