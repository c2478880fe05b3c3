//! What the kernel lacks and what is done instead: probed, in one place, and named in `duolb status`.
//!
//! Asked is the kernel itself where it can be, not its version: distributions carry features back, and what a kernel
//! can do with one kind of program it may not with another. What every kernel since 5.15 has is not asked for.

use std::{fs, sync::LazyLock};

use aya::{
    programs::{ProgramType, SchedClassifier, TcAttachType},
    sys::{BpfHelper, is_helper_supported},
    util::KernelVersion,
};

use super::attach::find_errno;

/// The oldest kernel that is served on.
const OLDEST: (u8, u8, u16) = (5, 15, 0);

/// What this kernel has of what not every one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Linux 5.15 or later.
    pub is_promised: bool,
    /// tcx links, since 6.6.
    pub tcx: bool,
    /// XDP programs for frames that stand in several buffers, since 5.18.
    pub xdp_frags: bool,
    /// `bpf_set_retval` in programs of sockets, since 6.1 (commit bed89185af0d "bpf: Use
    /// cgroup_{common,current}_func_proto in more hooks"; others had it in 5.18).
    pub set_retval: bool,
}

impl Features {
    /// This kernel's, probed once.
    pub fn of_kernel() -> Self {
        static FEATURES: LazyLock<Features> = LazyLock::new(probe);
        *FEATURES
    }

    /// What is done otherwise than on a kernel that has everything: what, and what that takes.
    pub fn fallbacks(self) -> Vec<&'static str> {
        let Self {
            is_promised,
            tcx,
            xdp_frags,
            set_retval,
        } = self;
        [
            (
                is_promised,
                "older than 5.15: not tested as a whole, and nothing is promised",
            ),
            (
                tcx,
                "TC by filters of a clsact qdisc: tcx links need 6.6",
            ),
            (
                xdp_frags,
                "no XDP, TC serves: XDP for frames of several buffers needs 5.18",
            ),
            (
                set_retval,
                "refused calls of the node's processes end with \"not permitted\": other errors need 6.1",
            ),
        ]
        .into_iter()
        .filter_map(|(has, fallback)| (!has).then_some(fallback))
        .collect()
    }
}

/// What cannot be asked for lack of rights counts as there: then nothing can be loaded either, and that is said.
fn probe() -> Features {
    let (major, minor, patch) = OLDEST;
    let oldest = KernelVersion::new(major, minor, patch);
    let helper = |kind, helper| is_helper_supported(kind, helper).unwrap_or(true);
    Features {
        is_promised: KernelVersion::current().is_ok_and(|kernel| kernel >= oldest),
        tcx: has_tcx(),
        // Of the same series as the flag that the program is loaded with (commit 0165cc817075).
        xdp_frags: helper(ProgramType::Xdp, BpfHelper::BPF_FUNC_xdp_get_buff_len),
        set_retval: helper(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_set_retval),
    }
}

/// Whether the kernel knows the hook: to one that does not, listing its programs is an invalid question, whatever the
/// device. Where the answer is another error, the version tells.
fn has_tcx() -> bool {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => true,
        Err(error) if find_errno(&error) == Some(nix::libc::EINVAL) => false,
        Err(_) => {
            KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0))
        }
    }
}

/// What the kernel calls itself, as `uname -r` prints it.
pub fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Features = Features {
        is_promised: true,
        tcx: true,
        xdp_frags: true,
        set_retval: true,
    };

    #[test]
    fn a_kernel_that_has_everything_needs_no_fallback() {
        assert_eq!(ALL.fallbacks(), Vec::<&str>::new());
    }

    #[test]
    fn what_a_kernel_lacks_is_named_with_what_it_takes() {
        for (features, words) in [
            (Features { tcx: false, ..ALL }, ["clsact", "6.6"]),
            (
                Features {
                    xdp_frags: false,
                    ..ALL
                },
                ["XDP", "5.18"],
            ),
            (
                Features {
                    set_retval: false,
                    ..ALL
                },
                ["not permitted", "6.1"],
            ),
            (
                Features {
                    is_promised: false,
                    ..ALL
                },
                ["promised", "5.15"],
            ),
        ] {
            let fallbacks = features.fallbacks();
            assert_eq!(fallbacks.len(), 1, "{features:?}: {fallbacks:?}");
            for word in words {
                assert!(fallbacks[0].contains(word), "{word}: {fallbacks:?}");
            }
        }
    }
}
