//! The tracker's state machine, driven by outputs that a test wrote instead of a network.
#![allow(clippy::unwrap_used)]

mod golden;
mod phases;
mod properties;
mod script;
