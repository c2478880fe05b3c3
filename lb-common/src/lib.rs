//! The contract between the kernel side and the user side of duolb.
//!
//! Everything both sides must agree on to the byte lives here, and everything the datapath can decide
//! without touching a map: it is compiled for BPF and, unchanged, for the host, where it is unit-tested.
//! Deliberately absent: aya (but for a marker trait behind a feature), allocation, map access, policy.
//!
//! ```text
//!   packet bytes --cursor--> headers --parse--> Packet{tuple, offsets} --flow--> keys of the maps
//!                                                     |                               |
//!                                       translate, checksum, verdict           tables (map layouts)
//! ```
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod address;
pub mod checksum;
pub mod crc32c;
pub mod cursor;
pub mod filter;
pub mod flow;
pub mod former;
pub mod headers;
pub mod ip;
pub mod join;
pub mod opaque;
pub mod parse;
pub mod pieces;
pub mod problem;
pub mod reply;
pub mod tables;
pub mod translate;
pub mod verdict;
pub mod wide;

#[cfg(test)]
extern crate std;
