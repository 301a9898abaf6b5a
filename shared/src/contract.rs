//! The model bundle: what trainer and edge agree on.
//!
//! In: the text of `bundle.toml`, the bytes of the files it names, and a parsed `probe.json`.
//! Out: typed, validated sizes and constants, or one line that names the offending key. Reading
//! files and JSON is the caller's work; this module does no I/O.
//!
//! A [`BundleManifest`] holds the SHA-256 of every file, the tensor contract of the two graphs
//! ([`FollowContract`]), which graphs there are in eight bits ([`Quantisation`]), every constant of the
//! tracker ([`TrackerConfig`](crate::tracker::TrackerConfig)) and where the weights came from. A [`Probe`] holds a seeded input and samples of the outputs it must give, so that a
//! runtime that computes something else is found out before the first frame.
//!
//! ```
//! use roadhound_shared::contract::{FollowContract, FollowSizes};
//!
//! let contract = FollowContract::new(FollowSizes::default()).expect("the default sizes agree");
//! assert_eq!(contract.tensors.score.shape, [1, 1, 16, 16]);
//! assert_eq!(contract.search_context(), 2.0);
//! ```

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits::LimitError;
use crate::preprocess::Normalisation;

mod manifest;
mod probe;

pub use manifest::{
    BundleManifest, Calibration, GraphFiles, MANIFEST_FILE, PROBE_FILE, Quantisation, Training,
};
pub(crate) use probe::probe_frame;
pub use probe::{Probe, ProbeError, ProbeTensor, ProbeTolerance, probe_crop};

/// The version of the bundle format that this code reads and writes.
pub const BUNDLE_FORMAT: u32 = 1;

/// No tensor of a bundle may hold more values than this: a wrong manifest must not exhaust memory.
pub(crate) const MAX_TENSOR_VALUES: usize = 1 << 24;

/// Why a bundle was refused. Every message is one line.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ContractError {
    /// The text is not TOML, misses a key, or has a key nobody knows.
    #[error("line {line}: {message}, at `{text}`")]
    Syntax {
        /// Line in the file, from 1.
        line: usize,
        /// What the parser said.
        message: String,
        /// The line itself, shortened.
        text: String,
    },
    /// The manifest could not be written as TOML.
    #[error("cannot write the manifest: {message}")]
    Write {
        /// What the writer said.
        message: String,
    },
    /// A bundle from another time.
    #[error("format: found {found}, expected {expected}")]
    Format {
        /// The format in the file.
        found: u32,
        /// The format this code knows.
        expected: u32,
    },
    /// A key holds a value that cannot be.
    #[error("{key}: {message}, found {found}")]
    Value {
        /// Path of the key.
        key: String,
        /// What was found.
        found: String,
        /// What should have been there.
        message: &'static str,
    },
    /// A tensor's shape disagrees with the sizes.
    #[error("follow.tensors.{tensor}.shape: found {found:?}, expected {expected:?}")]
    Shape {
        /// Key of the tensor.
        tensor: &'static str,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that follows from the sizes.
        expected: Vec<usize>,
    },
    /// A constant of the tracker or of watch mode is out of range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The manifest does not name this file.
    #[error("files: `{name}` is not listed")]
    UnknownFile {
        /// The name asked for.
        name: String,
    },
    /// A file is shorter or longer than the manifest says.
    #[error("{name}: {found} bytes, expected {expected}")]
    FileSize {
        /// Name of the file.
        name: String,
        /// Length of the file.
        found: u64,
        /// Length in the manifest.
        expected: u64,
    },
    /// A file is not the one the manifest was written for.
    #[error("{name}: SHA-256 is {found}, expected {expected}")]
    FileHash {
        /// Name of the file.
        name: String,
        /// Digest of the file.
        found: String,
        /// Digest in the manifest.
        expected: String,
    },
}

/// One file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// SHA-256 in lower-case hexadecimal, 64 digits.
    pub sha256: String,
    /// Length in bytes.
    pub size_bytes: u64,
}

impl FileEntry {
    /// The entry for these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            sha256: sha256_hex(bytes),
            size_bytes: bytes.len() as u64,
        }
    }
}

/// The sizes from which every shape follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowSizes {
    /// Side of the template crop.
    pub template_px: u32,
    /// Side of the search crop.
    pub search_px: u32,
    /// Pixels of a crop per cell of its feature map.
    pub stride_px: u32,
    /// Side of the square with the object's area in both crops.
    pub object_px: u32,
    /// Channels of the template features.
    pub feature_channels: usize,
    /// Length of an embedding.
    pub embedding_size: usize,
}

impl Default for FollowSizes {
    /// The sizes of the first shipped network.
    fn default() -> Self {
        Self {
            template_px: 128,
            search_px: 256,
            stride_px: 16,
            object_px: 64,
            feature_channels: 96,
            embedding_size: 64,
        }
    }
}

/// Name and shape of one tensor of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Its name in the ONNX graph.
    pub name: String,
    /// Its shape, planar: `[N, C, H, W]` for maps.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// How many values it holds; where there are more than can be counted, as many as can.
    pub fn len(&self) -> usize {
        // A product that wraps round could pass for a small one.
        let sides = self.shape.iter();
        sides.fold(1, |values, side| values.saturating_mul(*side))
    }

    /// Whether it holds no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The tensors of `template.onnx` and `search.onnx`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowTensors {
    /// In: template crop `[1, 3, T, T]`.
    pub template: TensorSpec,
    /// Out: template features `[1, F, T/s, T/s]`.
    pub features: TensorSpec,
    /// Out: unit-norm embedding of the template `[1, E]`.
    pub template_embedding: TensorSpec,
    /// In: search crop `[1, 3, S, S]`.
    pub search: TensorSpec,
    /// In: features of the first template `[1, F, T/s, T/s]`.
    pub template_first: TensorSpec,
    /// In: features of the latest trusted template `[1, F, T/s, T/s]`.
    pub template_latest: TensorSpec,
    /// Out: score in 0..1 `[1, 1, S/s, S/s]`.
    pub score: TensorSpec,
    /// Out: distances left, top, right, bottom from the cell centre in search-crop pixels
    /// `[1, 4, S/s, S/s]`.
    #[serde(rename = "box")]
    pub box_ltrb_px: TensorSpec,
    /// Out: presence in 0..1 `[1, 1]`.
    pub presence: TensorSpec,
    /// Out: unit-norm embedding of every location `[1, E, S/s, S/s]`.
    pub embedding: TensorSpec,
}

impl FollowTensors {
    /// The standard names, with the shapes that follow from the sizes.
    fn standard(sizes: FollowSizes) -> Self {
        let template = sizes.template_px as usize;
        let search = sizes.search_px as usize;
        let stride = (sizes.stride_px as usize).max(1);
        let (cells_t, cells_s) = (template / stride, search / stride);
        let spec = |name: &str, shape: Vec<usize>| TensorSpec {
            name: name.to_owned(),
            shape,
        };
        let features = vec![1, sizes.feature_channels, cells_t, cells_t];
        Self {
            template: spec("template", vec![1, 3, template, template]),
            features: spec("features", features.clone()),
            template_embedding: spec("embedding", vec![1, sizes.embedding_size]),
            search: spec("search", vec![1, 3, search, search]),
            template_first: spec("template_first", features.clone()),
            template_latest: spec("template_latest", features),
            score: spec("score", vec![1, 1, cells_s, cells_s]),
            box_ltrb_px: spec("box", vec![1, 4, cells_s, cells_s]),
            presence: spec("presence", vec![1, 1]),
            embedding: spec("embedding", vec![1, sizes.embedding_size, cells_s, cells_s]),
        }
    }

    fn all(&self) -> [(&'static str, &TensorSpec); 10] {
        [
            ("template", &self.template),
            ("features", &self.features),
            ("template_embedding", &self.template_embedding),
            ("search", &self.search),
            ("template_first", &self.template_first),
            ("template_latest", &self.template_latest),
            ("score", &self.score),
            ("box", &self.box_ltrb_px),
            ("presence", &self.presence),
            ("embedding", &self.embedding),
        ]
    }
}

/// Everything a caller must know to feed the two graphs and read their outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowContract {
    /// File of the template graph.
    pub template_file: String,
    /// File of the search graph.
    pub search_file: String,
    /// Side of the template crop.
    pub template_px: u32,
    /// Side of the search crop.
    pub search_px: u32,
    /// Pixels of a crop per cell of its feature map.
    pub stride_px: u32,
    /// Side of the square with the object's area in both crops (exact for square objects).
    pub object_px: u32,
    /// Channels of the template features.
    pub feature_channels: usize,
    /// Length of an embedding.
    pub embedding_size: usize,
    /// How a pixel becomes a number.
    pub normalisation: Normalisation,
    /// Names and shapes.
    pub tensors: FollowTensors,
}

impl FollowContract {
    /// A contract with the standard file and tensor names and the default normalisation.
    ///
    /// # Errors
    /// [`ContractError::Value`] when the sizes do not fit together.
    pub fn new(sizes: FollowSizes) -> Result<Self, ContractError> {
        let contract = Self {
            template_file: "template.onnx".to_owned(),
            search_file: "search.onnx".to_owned(),
            template_px: sizes.template_px,
            search_px: sizes.search_px,
            stride_px: sizes.stride_px,
            object_px: sizes.object_px,
            feature_channels: sizes.feature_channels,
            embedding_size: sizes.embedding_size,
            normalisation: Normalisation::default(),
            tensors: FollowTensors::standard(sizes),
        };
        contract.validate()?;
        Ok(contract)
    }

    /// The sizes.
    pub fn sizes(&self) -> FollowSizes {
        FollowSizes {
            template_px: self.template_px,
            search_px: self.search_px,
            stride_px: self.stride_px,
            object_px: self.object_px,
            feature_channels: self.feature_channels,
            embedding_size: self.embedding_size,
        }
    }

    /// Context factor of the template window: 1 when the object fills half of its side.
    pub fn template_context(&self) -> f32 {
        self.template_px as f32 / (2.0 * self.object_px as f32)
    }

    /// Context factor of the search window, so that the object has the same size in both crops.
    pub fn search_context(&self) -> f32 {
        self.search_px as f32 / (2.0 * self.object_px as f32)
    }

    /// Cells along one side of the score map.
    pub fn score_cells(&self) -> usize {
        (self.search_px / self.stride_px.max(1)) as usize
    }

    /// Cells along one side of the template features.
    pub fn feature_cells(&self) -> usize {
        (self.template_px / self.stride_px.max(1)) as usize
    }

    /// Values in a template crop.
    pub fn template_len(&self) -> usize {
        self.tensors.template.len()
    }

    /// Values in a search crop.
    pub fn search_len(&self) -> usize {
        self.tensors.search.len()
    }

    /// Values in the template features.
    pub fn features_len(&self) -> usize {
        self.tensors.features.len()
    }

    /// Checks sizes, shapes, names and normalisation.
    ///
    /// # Errors
    /// The first key that is wrong, with its value.
    pub fn validate(&self) -> Result<(), ContractError> {
        for (key, value) in [
            ("follow.template_px", self.template_px),
            ("follow.search_px", self.search_px),
        ] {
            if value == 0
                || value > 4096
                || self.stride_px == 0
                || !value.is_multiple_of(self.stride_px)
            {
                return Err(wrong(
                    key,
                    value,
                    "expected a multiple of stride_px in 1..=4096",
                ));
            }
        }
        if self.stride_px == 0 || self.stride_px > 64 {
            return Err(wrong("follow.stride_px", self.stride_px, "expected 1..=64"));
        }
        if self.object_px == 0 || self.object_px >= self.template_px {
            return Err(wrong(
                "follow.object_px",
                self.object_px,
                "expected at least 1 and less than template_px",
            ));
        }
        for (key, value) in [
            ("follow.feature_channels", self.feature_channels),
            ("follow.embedding_size", self.embedding_size),
        ] {
            if value == 0 || value > 4096 {
                return Err(wrong(key, value, "expected 1..=4096"));
            }
        }
        for (key, name) in [
            ("follow.template_file", &self.template_file),
            ("follow.search_file", &self.search_file),
        ] {
            check_file_name(key, name)?;
        }
        check_normalisation("follow.normalisation", &self.normalisation)?;
        let expected = FollowTensors::standard(self.sizes());
        for ((key, found), (_, expected)) in self.tensors.all().into_iter().zip(expected.all()) {
            if found.name.is_empty() {
                return Err(wrong(
                    &format!("follow.tensors.{key}.name"),
                    "\"\"",
                    "expected a name",
                ));
            }
            if found.shape != expected.shape {
                return Err(ContractError::Shape {
                    tensor: key,
                    found: found.shape.clone(),
                    expected: expected.shape.clone(),
                });
            }
            if found.len() > MAX_TENSOR_VALUES {
                return Err(wrong(
                    &format!("follow.tensors.{key}.shape"),
                    found.len(),
                    "expected at most 16777216 values",
                ));
            }
        }
        Ok(())
    }
}

/// Lower-case hexadecimal SHA-256 of `bytes`.
pub fn sha256_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Parses TOML into a typed value, with an error of one line.
pub(crate) fn parse_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ContractError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count();
        let mut excerpt: String = text
            .lines()
            .nth(line)
            .unwrap_or_default()
            .trim()
            .chars()
            .take(60)
            .collect();
        if excerpt.is_empty() {
            excerpt.push_str("end of file");
        }
        ContractError::Syntax {
            line: line + 1,
            message: one_line(error.message()),
            text: excerpt,
        }
    })
}

pub(crate) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn wrong(key: &str, found: impl ToString, message: &'static str) -> ContractError {
    ContractError::Value {
        key: key.to_owned(),
        found: found.to_string(),
        message,
    }
}

/// A bundle is one flat folder: a name that walks out of it is an attack or a mistake.
pub(crate) fn check_file_name(key: &str, name: &str) -> Result<(), ContractError> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if name.is_empty() || name.starts_with('.') || !plain {
        return Err(wrong(
            key,
            format!("{name:?}"),
            "expected a plain file name of letters, digits, `.`, `-` and `_`",
        ));
    }
    Ok(())
}

pub(crate) fn check_normalisation(
    key: &str,
    normalisation: &Normalisation,
) -> Result<(), ContractError> {
    for (mean, scale) in normalisation.mean.into_iter().zip(normalisation.scale) {
        if !mean.is_finite() {
            let key = format!("{key}.mean");
            return Err(wrong(&key, mean, "expected a finite number"));
        }
        if !scale.is_finite() || scale <= 0.0 {
            let key = format!("{key}.scale");
            return Err(wrong(&key, scale, "expected a positive number"));
        }
    }
    Ok(())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_of_more_values_than_can_be_counted_is_too_long_and_not_empty() {
        // The product of the sides is one more than the largest number.
        let spec = TensorSpec {
            name: "score".to_owned(),
            shape: alloc::vec![1 << (usize::BITS / 2); 2],
        };
        assert_eq!(spec.len(), usize::MAX);
        assert!(!spec.is_empty() && spec.len() > MAX_TENSOR_VALUES);
    }

    #[test]
    fn sha256_is_the_one_of_fips_180() {
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
