//! The programs in the kernel, one packet at a time: packet in, packet out, verdict.
//!
//! Loaded without pins and attached nowhere, they are run by `BPF_PROG_TEST_RUN`. Every packet that
//! leaves must equal the one built anew with the right addresses, so its checksums are right as well;
//! the tables hold for both families. Needs root; without, each test says so and passes.

mod affinity;
mod bench;
mod bridge;
mod collisions;
mod cost;
mod coverage;
mod echo;
mod evicted;
mod external;
mod fast;
mod flood;
mod flows;
mod fragments;
mod given_back;
mod hook;
mod icmp;
mod kernel;
mod left;
mod leftovers;
mod namespace;
mod nat;
#[expect(
    dead_code,
    reason = "lb-common's tests use it too, and other parts of it"
)]
#[path = "../../../lb-common/tests/packets/packet/mod.rs"]
mod packet;
mod random;
mod ratchet;
mod refusals;
mod sctp;
mod slots;
mod snat;
mod sockets;
mod spare;
mod stack;
mod state;
mod tables;
mod unknown;
mod unreached;
mod untouched;
mod verdicts;
mod xdp;
