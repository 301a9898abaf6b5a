//! The model that is built into the program: the files of `edge/models/roadhound-s`, byte for byte.
//!
//! Road users are found in int8 alone: the f32 graph of that would add six megabytes to every program, and to what a start
//! verifies; `--model edge/models/roadhound-s --precision f32` has it.

/// Name and content of each file of the built-in bundle.
pub(crate) type EmbeddedBundle = &'static [(&'static str, &'static [u8])];

macro_rules! files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../models/", $folder, "/", $name)))),+]
    };
}

/// The bundle that is used where none is named.
#[cfg(feature = "f32")]
pub(crate) const DEFAULT: EmbeddedBundle = files!(
    "roadhound-s": "bundle.toml",
    "probe.json",
    "search.onnx",
    "template.onnx",
    "probe.int8.json",
    "search.int8.onnx",
    "template.int8.onnx",
    "probe.propose.int8.json",
    "propose.int8.onnx",
);

/// The same for a board that computes in int8: five megabytes less to store, and to verify at every start.
#[cfg(not(feature = "f32"))]
pub(crate) const DEFAULT: EmbeddedBundle = files!(
    "roadhound-s": "bundle.toml",
    "probe.int8.json",
    "search.int8.onnx",
    "template.int8.onnx",
    "probe.propose.int8.json",
    "propose.int8.onnx",
);
