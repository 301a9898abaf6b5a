//! The model bundle: what trainer and edge agree on.
//!
//! In: the text of `bundle.toml`, the bytes of the files it names, and a parsed `probe.json`.
//! Out: typed, validated sizes and constants, or one line that names the offending key. Reading
//! files and JSON is the caller's work; this module does no I/O.
//!
//! A [`BundleManifest`] holds the SHA-256 of every file, the tensor contract of the two graphs
//! ([`FollowContract`]), which graphs there are in eight bits ([`Quantisation`]), every constant of the
//! tracker ([`TrackerConfig`]) and where the weights came from. A [`Probe`] holds a seeded input and samples of the outputs it must give, so that a
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
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::adapt::AdaptContract;
use crate::familiarity::FamiliarityContract;
use crate::limits::LimitError;
use crate::mix::SplitMix64;
use crate::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use crate::preprocess::Normalisation;
use crate::propose::ProposeContract;
use crate::tracker::TrackerConfig;

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
    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
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

/// Name of the manifest in a bundle's folder.
pub const MANIFEST_FILE: &str = "bundle.toml";
/// File of the f32 graphs' probe.
pub const PROBE_FILE: &str = "probe.json";

/// The `[quantisation]` table: which graphs a bundle holds besides the f32 ones that `[follow]` names.
///
/// The int8 graphs have the inputs and outputs of the f32 ones, names, shapes and f32 values included, and a probe of
/// their own: eight bits give other outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Quantisation {
    /// None: the bundle computes in f32 only.
    None {},
    /// Both graphs in eight bits as well, in QOperator form.
    Int8 {
        /// File of the template graph.
        template_file: String,
        /// File of the search graph.
        search_file: String,
        /// File of their probe.
        probe_file: String,
    },
}

impl Default for Quantisation {
    fn default() -> Self {
        Self::None {}
    }
}

impl Quantisation {
    /// int8 graphs under the standard file names.
    pub fn int8() -> Self {
        Self::Int8 {
            template_file: "template.int8.onnx".to_owned(),
            search_file: "search.int8.onnx".to_owned(),
            probe_file: "probe.int8.json".to_owned(),
        }
    }
}

/// The files of one precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphFiles<'a> {
    /// Template graph.
    pub template: &'a str,
    /// Search graph.
    pub search: &'a str,
    /// What both must give.
    pub probe: &'a str,
}

/// Where the weights come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Commit of the code that trained them.
    pub commit: String,
    /// SHA-256 of the resolved configuration, lower-case hexadecimal.
    pub config_sha256: String,
    /// Names of the data sets used.
    pub data: Vec<String>,
    /// Training pairs seen, counting repeats.
    pub pairs_seen: u64,
}

/// How presence was fitted to held-out data, `sigmoid(scale * logit + bias)`. The graphs hold it already; this is the
/// record. Expected calibration errors are over 15 bins of equal width.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Slope: the reciprocal of a temperature. Positive.
    pub scale: f64,
    /// Offset.
    pub bias: f64,
    /// Held-out pairs it was fitted to.
    pub pairs: u64,
    /// Expected calibration error before, on as many other held-out pairs.
    pub error_before: f64,
    /// The same after.
    pub error_after: f64,
}

/// The content of `bundle.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleManifest {
    /// Version of this layout: [`BUNDLE_FORMAT`].
    pub format: u32,
    /// Name of the model.
    pub name: String,
    /// Version of the model.
    pub version: String,
    /// Licence of weights and data, as text.
    pub licence: String,
    /// Every other file of the folder, by name.
    pub files: BTreeMap<String, FileEntry>,
    /// The tensor contract.
    pub follow: FollowContract,
    /// Every constant of the tracker.
    pub tracker: TrackerConfig,
    /// Which graphs there are besides the f32 ones.
    pub quantisation: Quantisation,
    /// Where the weights come from.
    pub training: Training,
    /// Scores on validation and test data, by name.
    pub scores: BTreeMap<String, f64>,
    /// How presence was calibrated; absent where it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// The graph that finds road users by itself; absent from bundles that only follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propose: Option<ProposeContract>,
    /// The graph that tells whether the camera shows what was learned; absent where nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub familiarity: Option<FamiliarityContract>,
    /// Where the maps lay on the source; absent where the board cannot adapt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapt: Option<AdaptContract>,
}

impl BundleManifest {
    /// Reads and validates the text of `bundle.toml`.
    ///
    /// # Errors
    /// A one-line message that names the key or the line that is wrong.
    pub fn parse(text: &str) -> Result<Self, ContractError> {
        let manifest: Self = parse_toml(text)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Writes the text of `bundle.toml`, after the same checks as [`BundleManifest::parse`].
    ///
    /// # Errors
    /// The first key that is wrong.
    pub fn to_toml(&self) -> Result<String, ContractError> {
        self.validate()?;
        toml::to_string(self).map_err(|error| ContractError::Write {
            message: one_line(&error.to_string()),
        })
    }

    /// Checks every table.
    ///
    /// # Errors
    /// The first key that is wrong, with its value.
    pub fn validate(&self) -> Result<(), ContractError> {
        if self.format != BUNDLE_FORMAT {
            return Err(ContractError::Format {
                found: self.format,
                expected: BUNDLE_FORMAT,
            });
        }
        for (key, text) in [("name", &self.name), ("version", &self.version)] {
            if text.is_empty() || text.chars().any(char::is_control) {
                return Err(wrong(key, format!("{text:?}"), "expected one line of text"));
            }
        }
        for (name, entry) in &self.files {
            let key = format!("files.{name}");
            check_file_name(&key, name)?;
            if !is_sha256(&entry.sha256) {
                return Err(wrong(
                    &format!("{key}.sha256"),
                    format!("{:?}", entry.sha256),
                    "expected 64 lower-case hexadecimal digits",
                ));
            }
        }
        self.follow.validate()?;
        let mut named = vec![
            ("follow.template_file", &self.follow.template_file),
            ("follow.search_file", &self.follow.search_file),
        ];
        if let Quantisation::Int8 {
            template_file,
            search_file,
            probe_file,
        } = &self.quantisation
        {
            named.extend([
                ("quantisation.template_file", template_file),
                ("quantisation.search_file", search_file),
                ("quantisation.probe_file", probe_file),
            ]);
        }
        if let Some(propose) = &self.propose {
            propose.validate()?;
            named.extend(propose.named_files());
        }
        if let Some(familiarity) = &self.familiarity {
            familiarity.validate()?;
            named.extend(familiarity.named_files());
        }
        if let Some(adapt) = &self.adapt {
            adapt.validate()?;
            named.extend(adapt.named_files());
        }
        for (key, name) in named {
            if !self.files.contains_key(name) {
                return Err(wrong(
                    key,
                    format!("{name:?}"),
                    "expected a file listed in [files]",
                ));
            }
        }
        self.tracker.validate()?;
        for (name, score) in &self.scores {
            if !score.is_finite() {
                return Err(wrong(
                    &format!("scores.{name}"),
                    score,
                    "expected a finite number",
                ));
            }
        }
        Ok(())
    }

    /// The f32 graphs.
    pub fn f32_files(&self) -> GraphFiles<'_> {
        GraphFiles {
            template: &self.follow.template_file,
            search: &self.follow.search_file,
            probe: PROBE_FILE,
        }
    }

    /// The int8 graphs, where there are any.
    pub fn int8_files(&self) -> Option<GraphFiles<'_>> {
        match &self.quantisation {
            Quantisation::None {} => None,
            Quantisation::Int8 {
                template_file,
                search_file,
                probe_file,
            } => Some(GraphFiles {
                template: template_file,
                search: search_file,
                probe: probe_file,
            }),
        }
    }

    /// Checks that `bytes` are the file that the manifest lists under `name`.
    ///
    /// # Errors
    /// Not listed, another length, or another SHA-256.
    pub fn verify_file(&self, name: &str, bytes: &[u8]) -> Result<(), ContractError> {
        let Some(entry) = self.files.get(name) else {
            return Err(ContractError::UnknownFile {
                name: name.to_owned(),
            });
        };
        if entry.size_bytes != bytes.len() as u64 {
            return Err(ContractError::FileSize {
                name: name.to_owned(),
                found: bytes.len() as u64,
                expected: entry.size_bytes,
            });
        }
        let found = sha256_hex(bytes);
        if found != entry.sha256 {
            return Err(ContractError::FileHash {
                name: name.to_owned(),
                found,
                expected: entry.sha256.clone(),
            });
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

// ---------------------------------------------------------------------------------------------
// Probe

/// How far a runtime may be from the recorded outputs, in the units of each output.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeTolerance {
    /// Template features.
    pub features: f32,
    /// Embeddings, of unit norm.
    pub embedding: f32,
    /// Score, 0..1.
    pub score: f32,
    /// Box distances in search-crop pixels.
    pub box_px: f32,
    /// Presence, 0..1.
    pub presence: f32,
}

impl Default for ProbeTolerance {
    /// What different summation orders in `f32` explain, and no more.
    fn default() -> Self {
        Self {
            features: 2e-3,
            embedding: 1e-3,
            score: 1e-3,
            box_px: 0.1,
            presence: 1e-3,
        }
    }
}

/// What is remembered of one output tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeTensor {
    /// How many values it has.
    pub len: usize,
    /// Mean of all values.
    pub mean: f64,
    /// Mean of all magnitudes.
    pub mean_magnitude: f64,
    /// Values at [`ProbeTensor::sample_index`].
    pub samples: Vec<f32>,
}

impl ProbeTensor {
    /// How many values are kept of a large tensor.
    pub const SAMPLES: usize = 32;

    /// Position of sample `i` in a tensor of `len` values: evenly spread, in the middle of its
    /// share.
    pub fn sample_index(i: usize, len: usize) -> usize {
        let samples = len.clamp(1, Self::SAMPLES);
        ((2 * i + 1) * len) / (2 * samples)
    }

    /// Remembers `values`.
    pub fn capture(values: &[f32]) -> Self {
        let (mean, mean_magnitude) = means(values);
        let samples = (0..values.len().min(Self::SAMPLES))
            .map(|i| values[Self::sample_index(i, values.len())])
            .collect();
        Self {
            len: values.len(),
            mean,
            mean_magnitude,
            samples,
        }
    }

    /// Compares `values` with what was remembered: each sample and both means within `tolerance`.
    ///
    /// # Errors
    /// The first difference, under the name `tensor`.
    pub fn check(
        &self,
        tensor: &'static str,
        values: &[f32],
        tolerance: f32,
    ) -> Result<(), ProbeError> {
        if values.len() != self.len || self.samples.len() != self.len.min(Self::SAMPLES) {
            return Err(ProbeError::Length {
                tensor,
                found: values.len(),
                expected: self.len,
            });
        }
        for (i, &expected) in self.samples.iter().enumerate() {
            let index = Self::sample_index(i, values.len());
            let found = values[index];
            if !is_within(found.into(), expected.into(), tolerance) {
                return Err(ProbeError::Mismatch {
                    tensor,
                    index,
                    found,
                    expected,
                    tolerance,
                });
            }
        }
        let (mean, mean_magnitude) = means(values);
        for (found, expected) in [(mean, self.mean), (mean_magnitude, self.mean_magnitude)] {
            if !is_within(found, expected, tolerance) {
                return Err(ProbeError::Mean {
                    tensor,
                    found,
                    expected,
                    tolerance,
                });
            }
        }
        Ok(())
    }
}

/// False where anything is not a number.
fn is_within(found: f64, expected: f64, tolerance: f32) -> bool {
    (found - expected).abs() <= f64::from(tolerance)
}

fn means(values: &[f32]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
    let magnitude: f64 = values.iter().map(|&v| f64::from(v.abs())).sum();
    (sum / n, magnitude / n)
}

/// Why a runtime was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProbeError {
    /// The network itself failed.
    #[error("probe: {message}")]
    Network {
        /// What it said.
        message: String,
    },
    /// An output has another length.
    #[error("probe: {tensor} has {found} values, expected {expected}")]
    Length {
        /// Which output.
        tensor: &'static str,
        /// Its length.
        found: usize,
        /// The length in the probe.
        expected: usize,
    },
    /// One value differs.
    #[error("probe: {tensor}[{index}] is {found}, expected {expected} within {tolerance}")]
    Mismatch {
        /// Which output.
        tensor: &'static str,
        /// Which value.
        index: usize,
        /// What the runtime gave.
        found: f32,
        /// What the trainer recorded.
        expected: f32,
        /// How far they may be apart.
        tolerance: f32,
    },
    /// The mean, or the mean magnitude, differs.
    #[error("probe: mean of {tensor} is {found}, expected {expected} within {tolerance}")]
    Mean {
        /// Which output.
        tensor: &'static str,
        /// What the runtime gave.
        found: f64,
        /// What the trainer recorded.
        expected: f64,
        /// How far they may be apart.
        tolerance: f32,
    },
}

/// The content of `probe.json`: a seed and what the two graphs make of its input.
///
/// Two template crops and one search crop are drawn by [`probe_crop`] (streams 0, 1 and 2 of the
/// seed); the search graph gets the features of the first template and of the second one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Seed of the inputs.
    pub seed: u64,
    /// How far a runtime may be off.
    pub tolerance: ProbeTolerance,
    /// Features of the first template.
    pub features: ProbeTensor,
    /// Embedding of the first template.
    pub template_embedding: ProbeTensor,
    /// Score map.
    pub score: ProbeTensor,
    /// Box distances.
    #[serde(rename = "box")]
    pub box_ltrb_px: ProbeTensor,
    /// Presence.
    pub presence: ProbeTensor,
    /// Embeddings of the search crop.
    pub embedding: ProbeTensor,
}

impl Probe {
    /// Runs the reference network on the seeded input and remembers its outputs.
    ///
    /// # Errors
    /// Those of the network.
    pub fn capture<N: FollowNetwork>(
        network: &mut N,
        contract: &FollowContract,
        seed: u64,
        tolerance: ProbeTolerance,
    ) -> Result<Self, N::Error> {
        let (template, search) = run_probe(network, contract, seed)?;
        Ok(Self {
            seed,
            tolerance,
            features: ProbeTensor::capture(&template.features),
            template_embedding: ProbeTensor::capture(&template.embedding),
            score: ProbeTensor::capture(&search.score),
            box_ltrb_px: ProbeTensor::capture(&search.box_ltrb_px),
            presence: ProbeTensor::capture(&[search.presence]),
            embedding: ProbeTensor::capture(&search.embedding),
        })
    }

    /// Runs `network` on the seeded input and compares.
    ///
    /// # Errors
    /// The first output that differs, or the error of the network as text.
    pub fn replay<N: FollowNetwork>(
        &self,
        network: &mut N,
        contract: &FollowContract,
    ) -> Result<(), ProbeError> {
        let (template, search) =
            run_probe(network, contract, self.seed).map_err(|error| ProbeError::Network {
                message: one_line(&error.to_string()),
            })?;
        let t = &self.tolerance;
        self.features
            .check("features", &template.features, t.features)?;
        self.template_embedding
            .check("template_embedding", &template.embedding, t.embedding)?;
        self.score.check("score", &search.score, t.score)?;
        self.box_ltrb_px
            .check("box", &search.box_ltrb_px, t.box_px)?;
        self.presence
            .check("presence", &[search.presence], t.presence)?;
        self.embedding
            .check("embedding", &search.embedding, t.embedding)
    }
}

fn run_probe<N: FollowNetwork>(
    network: &mut N,
    contract: &FollowContract,
    seed: u64,
) -> Result<(TemplateOutputs, SearchOutputs), N::Error> {
    let mut first = TemplateOutputs::for_contract(contract);
    let mut latest = TemplateOutputs::for_contract(contract);
    let mut search = SearchOutputs::for_contract(contract);
    let side = contract.template_px as usize;
    network.template(&probe_crop(seed, 0, side), &mut first)?;
    network.template(&probe_crop(seed, 1, side), &mut latest)?;
    network.search(
        &probe_crop(seed, 2, contract.search_px as usize),
        &first.features,
        &latest.features,
        &mut search,
    )?;
    Ok((first, search))
}

/// The upper left of a [`probe_crop`], for graphs that see whole frames.
///
/// # Shapes
/// Returns planar `[3, height, width]`.
pub(crate) fn probe_frame(seed: u64, width: usize, height: usize) -> Vec<f32> {
    let side = width.max(height);
    let square = probe_crop(seed, 3, side);
    let planes = square.chunks_exact((side * side).max(1));
    planes
        .flat_map(|plane| plane.chunks_exact(side).take(height))
        .flat_map(|row| &row[..width])
        .copied()
        .collect()
}

/// A normalised crop drawn from a seed: the same bits on every machine.
///
/// Coloured 16-pixel squares with noise on top, because white noise alone leaves the deeper layers
/// of a network nearly constant. Only integers and exact multiples of 2^-16 are used.
///
/// # Shapes
/// Returns planar `[3, side, side]`, each value in `[-2, 2)`.
pub fn probe_crop(seed: u64, stream: u64, side: usize) -> Vec<f32> {
    const BLOCK_PX: usize = 16;
    let blocks = side.div_ceil(BLOCK_PX);
    let base = SplitMix64(seed).next() ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
    let mut colours = SplitMix64(base);
    let colour: Vec<i32> = (0..3 * blocks * blocks)
        .map(|_| below_2_pow_16(&mut colours) * 3)
        .collect();
    let mut noise = SplitMix64(base ^ 0x5851_F42D_4C95_7F2D);
    let mut crop = Vec::with_capacity(3 * side * side);
    for channel in 0..3 {
        for y in 0..side {
            for x in 0..side {
                let block = (channel * blocks + y / BLOCK_PX) * blocks + x / BLOCK_PX;
                // In 0..2^18: three quarters colour, one quarter noise.
                let level = colour[block] + below_2_pow_16(&mut noise);
                crop.push((level - (1 << 17)) as f32 / 65536.0);
            }
        }
    }
    crop
}

fn below_2_pow_16(stream: &mut SplitMix64) -> i32 {
    (stream.next() >> 48) as i32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::network::{SearchOutputs, TemplateOutputs};
    use proptest::prelude::*;

    fn manifest() -> BundleManifest {
        BundleManifest {
            format: BUNDLE_FORMAT,
            name: "roadhound-s".to_owned(),
            version: "0.1.0".to_owned(),
            licence: "Apache-2.0\nSome data is CC BY 4.0.".to_owned(),
            files: [
                ("template.onnx".to_owned(), FileEntry::of(b"template")),
                ("search.onnx".to_owned(), FileEntry::of(b"search")),
            ]
            .into(),
            follow: FollowContract::new(FollowSizes::default()).unwrap(),
            tracker: TrackerConfig::default(),
            quantisation: Quantisation::default(),
            training: Training {
                commit: "0123abc".to_owned(),
                config_sha256: sha256_hex(b"config"),
                data: vec!["davis".to_owned()],
                pairs_seen: 81_700,
            },
            scores: [("validation_auc".to_owned(), 0.74)].into(),
            calibration: None,
            propose: None,
            familiarity: None,
            adapt: None,
        }
    }

    /// The manifest with one piece of its text replaced.
    fn parse_with(old: &str, new: &str) -> Result<BundleManifest, ContractError> {
        let text = manifest().to_toml().unwrap();
        assert!(text.contains(old), "{old} is not in\n{text}");
        BundleManifest::parse(&text.replacen(old, new, 1))
    }

    #[track_caller]
    fn check_refused(old: &str, new: &str, message: &str) {
        let error = parse_with(old, new).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn a_manifest_survives_being_written_and_read() {
        let text = manifest().to_toml().unwrap();
        assert_eq!(BundleManifest::parse(&text).unwrap(), manifest());
    }

    #[test]
    fn a_manifest_that_cannot_be_read_is_not_written() {
        let mut manifest = manifest();
        manifest.scores.insert("broken".to_owned(), f64::NAN);
        let error = manifest.to_toml().unwrap_err().to_string();
        assert_eq!(error, "scores.broken: expected a finite number, found NaN");
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        check_refused("stride_px", "strid_px", "unknown field `strid_px`");
        check_refused("stride_px", "strid_px", "line 21: ");
    }

    #[test]
    fn a_constant_of_the_tracker_that_is_left_out_is_named() {
        check_refused("min_presence = 0.7\n", "", "missing field `min_presence`");
    }

    #[test]
    fn a_key_of_another_type_is_shown() {
        check_refused(
            "pairs_seen = 81700",
            "pairs_seen = \"many\"",
            "pairs_seen = \"many\"",
        );
    }

    #[test]
    fn text_that_is_not_toml_is_refused() {
        check_refused("[follow]", "[follow", "line ");
        assert!(BundleManifest::parse("").is_err());
    }

    #[test]
    fn a_bundle_of_another_format_is_refused() {
        check_refused("format = 1", "format = 2", "format: found 2, expected 1");
    }

    #[test]
    fn a_shape_that_disagrees_with_the_sizes_is_refused() {
        check_refused(
            "feature_channels = 96",
            "feature_channels = 64",
            "found [1, 96, 8, 8], expected [1, 64, 8, 8]",
        );
    }

    #[test]
    fn sizes_that_no_network_has_are_refused() {
        check_refused("stride_px = 16", "stride_px = 0", "found");
        check_refused("stride_px = 16", "stride_px = 24", "follow.template_px");
        check_refused(
            "search_px = 256",
            "search_px = 4294967295",
            "found 4294967295",
        );
        check_refused("object_px = 64", "object_px = 0", "follow.object_px");
        check_refused(
            "embedding_size = 64",
            "embedding_size = 0",
            "follow.embedding_size",
        );
    }

    #[test]
    fn a_constant_of_the_tracker_out_of_range_is_refused() {
        check_refused(
            "window_weight = 0.35",
            "window_weight = nan",
            "tracker.decode.window_weight: found NaN, expected 0 to 1",
        );
    }

    #[test]
    fn a_file_name_that_leaves_the_folder_is_refused() {
        check_refused(
            "template_file = \"template.onnx\"",
            "template_file = \"../x.onnx\"",
            "follow.template_file",
        );
        check_refused(
            "template_file = \"template.onnx\"",
            "template_file = \"other.onnx\"",
            "listed in [files]",
        );
    }

    #[test]
    fn a_manifest_may_name_int8_graphs_that_it_lists() {
        let mut manifest = manifest();
        assert_eq!(manifest.int8_files(), None);
        manifest.quantisation = Quantisation::int8();
        let error = manifest.to_toml().unwrap_err().to_string();
        assert!(
            error.starts_with("quantisation.template_file: expected a file listed in [files]"),
            "{error}"
        );
        for name in ["template.int8.onnx", "search.int8.onnx", "probe.int8.json"] {
            manifest
                .files
                .insert(name.to_owned(), FileEntry::of(name.as_bytes()));
        }
        let read = BundleManifest::parse(&manifest.to_toml().unwrap()).unwrap();
        assert_eq!(read, manifest);
        let files = read.int8_files().unwrap();
        assert_eq!(
            [files.template, files.search, files.probe],
            ["template.int8.onnx", "search.int8.onnx", "probe.int8.json"]
        );
        assert_eq!(read.f32_files().probe, "probe.json");
    }

    #[test]
    fn a_quantisation_that_nobody_knows_is_refused() {
        check_refused("kind = \"none\"", "kind = \"int4\"", "int4");
        check_refused(
            "kind = \"none\"",
            "kind = \"none\"\nbits = 3",
            "unknown field `bits`",
        );
    }

    #[test]
    fn a_digest_that_is_none_is_refused() {
        let digest = sha256_hex(b"search");
        check_refused(&digest, &digest[1..], "files.search.onnx.sha256");
    }

    #[test]
    fn a_tampered_file_is_refused_and_the_right_one_is_not() {
        let manifest = manifest();
        manifest.verify_file("search.onnx", b"search").unwrap();
        let error = |name, bytes| manifest.verify_file(name, bytes).unwrap_err().to_string();
        assert!(error("search.onnx", b"seerch").starts_with("search.onnx: SHA-256 is "));
        assert_eq!(
            error("search.onnx", b"longer than it"),
            "search.onnx: 14 bytes, expected 6"
        );
        assert_eq!(
            error("probe.json", b""),
            "files: `probe.json` is not listed"
        );
    }

    #[test]
    fn sha256_is_the_one_of_fips_180() {
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn the_probe_input_is_the_same_on_every_machine() {
        let crop = probe_crop(7, 2, 40);
        assert_eq!(crop.len(), 3 * 40 * 40);
        assert!(crop.iter().all(|v| (-2.0..2.0).contains(v)));
        let bits = crop.iter().fold(0_u64, |hash, v| {
            hash.wrapping_mul(31).wrapping_add(u64::from(v.to_bits()))
        });
        // Exact: an input that differs in one bit makes every recorded output worthless.
        assert_eq!(bits, PROBE_BITS);
        assert_ne!(probe_crop(7, 1, 40), crop);
        assert_ne!(probe_crop(8, 2, 40), crop);
    }

    /// From a second implementation, in Python.
    const PROBE_BITS: u64 = 13254697189383942400;

    /// Output values depend on every input value, and on a bias that stands for the weights.
    struct Sums {
        bias: f32,
    }

    impl FollowNetwork for Sums {
        type Error = core::convert::Infallible;

        fn template(&mut self, crop: &[f32], out: &mut TemplateOutputs) -> Result<(), Self::Error> {
            for (i, value) in out.features.iter_mut().enumerate() {
                *value = crop[i % crop.len()] + self.bias;
            }
            let size = out.embedding.len();
            out.embedding.copy_from_slice(&crop[..size]);
            Ok(())
        }

        fn search(
            &mut self,
            crop: &[f32],
            first: &[f32],
            latest: &[f32],
            out: &mut SearchOutputs,
        ) -> Result<(), Self::Error> {
            for (i, value) in out.score.iter_mut().enumerate() {
                *value = crop[i] + first[i] - latest[i];
            }
            out.presence = first[0];
            Ok(())
        }
    }

    #[test]
    fn a_probe_accepts_its_own_network_and_refuses_another() {
        let contract = FollowContract::new(FollowSizes::default()).unwrap();
        let tolerance = ProbeTolerance::default();
        let Ok(probe) = Probe::capture(&mut Sums { bias: 0.0 }, &contract, 7, tolerance);
        let json = serde_json::to_string(&probe).unwrap();
        let read: Probe = serde_json::from_str(&json).unwrap();
        read.replay(&mut Sums { bias: 1e-4 }, &contract).unwrap();
        let error = read.replay(&mut Sums { bias: 0.1 }, &contract).unwrap_err();
        assert!(
            error.to_string().starts_with("probe: features[96] is "),
            "{error}"
        );
        let nan = read.replay(&mut Sums { bias: f32::NAN }, &contract);
        assert!(nan.is_err());
    }

    #[test]
    fn a_difference_between_the_samples_shows_in_the_means() {
        let mut values = vec![0.0; 1000];
        let probe = ProbeTensor::capture(&values);
        values[1] = 100.0;
        let error = probe.check("score", &values, 1e-3).unwrap_err();
        assert_eq!(
            error.to_string(),
            "probe: mean of score is 0.1, expected 0 within 0.001"
        );
    }

    proptest! {
        #[test]
        fn a_damaged_manifest_is_an_error_of_one_line_or_a_valid_manifest(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = manifest().to_toml().unwrap().into_bytes();
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            match BundleManifest::parse(&String::from_utf8_lossy(&bytes)) {
                Ok(found) => prop_assert!(found.validate().is_ok()),
                Err(error) => prop_assert!(!error.to_string().contains('\n'), "{error}"),
            }
        }
    }
}
