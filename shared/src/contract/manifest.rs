//! The content of `bundle.toml`: what a bundle holds, and where it comes from.
//!
//! In: its text, and the bytes of the files that it names. Out: a validated [`BundleManifest`], or one line that names the
//! key or the file.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{
    BUNDLE_FORMAT, ContractError, FileEntry, FollowContract, check_file_name, is_sha256, one_line,
    parse_toml, sha256_hex, wrong,
};
use crate::adapt::AdaptContract;
use crate::familiarity::FamiliarityContract;
use crate::propose::ProposeContract;
use crate::tracker::TrackerConfig;

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::FollowSizes;
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
