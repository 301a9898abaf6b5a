//! The int8 kernels of the edge, compiled by themselves.

#[path = "../../../edge/src/int8/mod.rs"]
pub mod int8;
