//! The model that is built into the program: the files of `edge/models/roadhound-s`, byte for byte.

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
);

/// The same for a board that computes in int8: five megabytes less to store, and to verify at every start.
#[cfg(not(feature = "f32"))]
pub(crate) const DEFAULT: EmbeddedBundle = files!(
    "roadhound-s": "bundle.toml",
    "probe.int8.json",
    "search.int8.onnx",
    "template.int8.onnx",
);
