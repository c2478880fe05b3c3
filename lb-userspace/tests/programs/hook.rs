//! By which of a device's two programs a packet goes.

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Ingress,
    Egress,
}
pub use Hook::{Egress, Ingress};

impl Hook {
    pub const BOTH: [Self; 2] = [Ingress, Egress];

    pub const fn program(self) -> &'static str {
        match self {
            Ingress => "tc_ingress",
            Egress => "tc_egress",
        }
    }
}
