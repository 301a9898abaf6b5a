//! Watch mode: scenes that are laid out by hand, rendered drives with a simulated detector, whatever input there is, and
//! memory.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../counting/mod.rs"]
mod counting;
mod detector;
mod drives;
mod properties;
mod scenes;
