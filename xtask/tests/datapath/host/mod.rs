//! Processes of the node itself: their sockets are connected to endpoints and never see them.
//!
//! The kernel has no test run for programs of this kind (BPF_PROG_TEST_RUN knows no `cgroup_sock_addr`), so that
//! whatever can be said of them is said here, by real sockets.

mod reached;
