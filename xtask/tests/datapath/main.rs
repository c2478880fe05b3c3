//! The datapath with real sockets: a lab of namespaces, real agents, real traffic.
//!
//! One binary, so that it is linked once and at most two labs exist at a time. `DUOLB_BIN` names the
//! binary under test; without it, the `duolb` beside the tests is taken. Rule numbers are those of
//! docs/semantics.md.

mod bystanders;
mod changes;
mod collisions;
mod echo;
mod firewall;
mod fragments;
mod hard;
mod host;
mod host_routing;
mod icmp;
mod modes;
mod offload;
mod path_mtu;
mod support;
mod traffic;
mod unknown_ports;
