//! The control plane as a whole, against maps in memory: events in, meaning of the maps out.
//!
//! `behaviours/` holds one small script per behaviour; `behaviours` runs them all, with sound and with
//! faulty maps. `properties` throws random worlds at it and compares with `reference`, which works the
//! same out naively; `lists` does so with the desired state alone, and all the rules of endpoints. `cost` counts calls, `retry` watches the clock, and `audit` watches every write for
//! what must never happen.

mod audit;
mod behaviours;
mod cost;
mod leaving;
mod lists;
mod meaning;
mod properties;
mod reference;
mod retry;
mod script;
mod world;

/// The node that the agents under test run on.
const NODE: &str = "here";
