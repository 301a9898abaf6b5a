//! Networks of eight-bit integers, fast: convolutions, additions and correlations of bytes on one arena.
//!
//! Enters: a [`Graph`] of operators, what their bytes mean ([`roadhound_shared::quantised`]), and a [`Path`], the set of
//! instructions to use. Leaves: a [`Program`] that turns numbers into numbers, allocates nothing, and gives the same
//! bytes on every path and any number of threads: those of ONNX Runtime. Knows nothing of ONNX files or of tract; who
//! does is `crate::infer`.
//!
//! Read in this order: [`graph`] says what can be computed, `plan` where everything lies and what is fused, `program`
//! runs it, `kernel` is the seam to the instructions, `observe` looks into convolutions and puts them right. [`graph`] has an example.

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod graph;
mod kernel;
mod maps;
mod observe;
mod path;
pub mod peak;
mod plan;
mod pool;
mod program;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use graph::{Convolution, Graph, Layout, Number, PlanError, Shape, Value};
pub use observe::Reference;
pub use path::{ASSUME_VARIABLE, PATH_VARIABLE, Path, UnknownPath};
pub use program::{Program, Sink, Source};
