//! lb-common's packet code on packets that others built: parsing, translation, checksums.

mod datapath;
#[expect(dead_code, reason = "the program tests use it too, and more of it")]
mod packet;
mod parse;
mod parse_icmp;
mod properties;
mod translate;
mod translate_icmp;
