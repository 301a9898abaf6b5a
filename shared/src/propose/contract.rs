//! What trainer and edge agree on about `propose.onnx`: the table `[propose]` of the bundle's manifest.
//!
//! In: [`ProposeSizes`], or the table. Out: [`ProposeContract`], validated; an error is one line that names the key.
//!
//! ```
//! use roadhound_shared::propose::{ProposeContract, ProposeSizes};
//! let contract = ProposeContract::new(ProposeSizes::default())?;
//! assert_eq!(contract.tensors.score.shape, [1, 36, 16, 26]);
//! assert_eq!((contract.grid_columns(), contract.grid_rows()), (52, 32));
//! # Ok::<(), roadhound_shared::contract::ContractError>(())
//! ```

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::classes::RoadUser;
use super::decode::ProposalConfig;
use crate::contract::{
    ContractError, MAX_TENSOR_VALUES, TensorSpec, Training, check_file_name, check_normalisation,
    wrong,
};
use crate::preprocess::{CropSize, Normalisation};
use crate::watch::{LooksMetric, Scores};

/// Sub-cells along one side of a cell.
pub const SUB_CELLS: usize = 2;
/// Longest embedding that a tracker need have room for.
pub const MAX_EMBEDDING: usize = 128;

/// The numbers that every shape follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposeSizes {
    /// Columns and rows of the input.
    pub input: CropSize,
    /// Input pixels per cell of the maps, which hold four sub-cells each.
    pub stride_px: u32,
    /// Length of an embedding.
    pub embedding_size: usize,
}

impl Default for ProposeSizes {
    fn default() -> Self {
        Self {
            input: CropSize {
                width_px: 416,
                height_px: 256,
            },
            stride_px: 16,
            embedding_size: 32,
        }
    }
}

/// The tensors of `propose.onnx`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposeTensors {
    /// In: letterboxed frame `[1, 3, H, W]`.
    pub frame: TensorSpec,
    /// Out: score in 0..1 `[1, 4 * classes, H/s, W/s]`.
    pub score: TensorSpec,
    /// Out: distances left, top, right, bottom from the sub-cell's centre, in input pixels `[1, 16, H/s, W/s]`.
    #[serde(rename = "box")]
    pub box_ltrb_px: TensorSpec,
    /// Out: unit-norm embedding of every sub-cell `[1, 4 * E, H/s, W/s]`.
    pub embedding: TensorSpec,
}

impl ProposeTensors {
    fn standard(sizes: ProposeSizes) -> Self {
        let (width, height) = (
            sizes.input.width_px as usize,
            sizes.input.height_px as usize,
        );
        let stride = (sizes.stride_px as usize).max(1);
        let spec = |name: &str, shape: Vec<usize>| TensorSpec {
            name: name.to_owned(),
            shape,
        };
        let map = |name: &str, values: usize| {
            let channels = SUB_CELLS * SUB_CELLS * values;
            spec(name, vec![1, channels, height / stride, width / stride])
        };
        Self {
            frame: spec("frame", vec![1, 3, height, width]),
            score: map("score", RoadUser::COUNT),
            box_ltrb_px: map("box", 4),
            embedding: map("embedding", sizes.embedding_size),
        }
    }

    fn all(&self) -> [(&'static str, &TensorSpec); 4] {
        [
            ("frame", &self.frame),
            ("score", &self.score),
            ("box", &self.box_ltrb_px),
            ("embedding", &self.embedding),
        ]
    }
}

/// The table `[propose.int8]`: the same graph in eight bits, in QOperator form, with the inputs and outputs of the f32 one
/// and a probe of its own, because eight bits give other outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposeInt8 {
    /// File of the graph.
    pub file: String,
    /// File of its probe.
    pub probe_file: String,
}

impl Default for ProposeInt8 {
    fn default() -> Self {
        Self {
            file: "propose.int8.onnx".to_owned(),
            probe_file: "probe.propose.int8.json".to_owned(),
        }
    }
}

/// The files of one precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposeFiles<'a> {
    /// The graph.
    pub graph: &'a str,
    /// What it must give.
    pub probe: &'a str,
}

/// Everything a caller must know to feed the graph and read its outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposeContract {
    /// File of the graph.
    pub file: String,
    /// File of its probe.
    pub probe_file: String,
    /// Columns of the input.
    pub input_width_px: u32,
    /// Rows of the input.
    pub input_height_px: u32,
    /// Input pixels per cell of the maps.
    pub stride_px: u32,
    /// Length of an embedding.
    pub embedding_size: usize,
    /// What the score maps are of, in their order.
    pub classes: Vec<RoadUser>,
    /// How a pixel becomes a number.
    pub normalisation: Normalisation,
    /// How maps become proposals.
    pub decode: ProposalConfig,
    /// From which scores on somebody who watches believes what; absent where nobody chose them for this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Scores>,
    /// The distance between embeddings; absent where their cosine is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks: Option<LooksMetric>,
    /// Where the head's weights come from; the backbone's are those of the follow graphs.
    pub training: Training,
    /// The graph in eight bits; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<ProposeInt8>,
    /// Names and shapes.
    pub tensors: ProposeTensors,
}

impl ProposeContract {
    /// A contract with the standard file and tensor names and the default normalisation.
    ///
    /// # Errors
    /// [`ContractError::Value`] when the sizes do not fit together.
    pub fn new(sizes: ProposeSizes) -> Result<Self, ContractError> {
        let contract = Self {
            file: "propose.onnx".to_owned(),
            probe_file: "probe.propose.json".to_owned(),
            input_width_px: sizes.input.width_px,
            input_height_px: sizes.input.height_px,
            stride_px: sizes.stride_px,
            embedding_size: sizes.embedding_size,
            classes: RoadUser::ALL.to_vec(),
            normalisation: Normalisation::default(),
            decode: ProposalConfig::default(),
            score: None,
            looks: None,
            training: Training::default(),
            int8: None,
            tensors: ProposeTensors::standard(sizes),
        };
        contract.validate()?;
        Ok(contract)
    }

    /// The f32 graph.
    pub fn f32_files(&self) -> ProposeFiles<'_> {
        ProposeFiles {
            graph: &self.file,
            probe: &self.probe_file,
        }
    }

    /// The int8 graph, where there is one.
    pub fn int8_files(&self) -> Option<ProposeFiles<'_>> {
        self.int8.as_ref().map(|int8| ProposeFiles {
            graph: &int8.file,
            probe: &int8.probe_file,
        })
    }

    /// Every file of the table, with the key that names it.
    pub(crate) fn named_files(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let int8 = self.int8.iter().flat_map(|int8| {
            [
                ("propose.int8.file", &int8.file),
                ("propose.int8.probe_file", &int8.probe_file),
            ]
        });
        let f32 = [
            ("propose.file", &self.file),
            ("propose.probe_file", &self.probe_file),
        ];
        f32.into_iter().chain(int8)
    }

    /// The sizes.
    pub fn sizes(&self) -> ProposeSizes {
        ProposeSizes {
            input: self.input_size(),
            stride_px: self.stride_px,
            embedding_size: self.embedding_size,
        }
    }

    /// Columns and rows of the input.
    pub fn input_size(&self) -> CropSize {
        CropSize {
            width_px: self.input_width_px,
            height_px: self.input_height_px,
        }
    }

    /// Columns of the grid of sub-cells.
    pub fn grid_columns(&self) -> usize {
        (self.input_width_px / self.stride_px.max(1)) as usize * SUB_CELLS
    }

    /// Rows of the grid of sub-cells.
    pub fn grid_rows(&self) -> usize {
        (self.input_height_px / self.stride_px.max(1)) as usize * SUB_CELLS
    }

    /// Checks sizes, shapes, names and normalisation.
    ///
    /// # Errors
    /// The first key that is wrong, with its value.
    pub fn validate(&self) -> Result<(), ContractError> {
        if self.stride_px < SUB_CELLS as u32 || self.stride_px > 64 {
            return Err(wrong(
                "propose.stride_px",
                self.stride_px,
                "expected 2..=64",
            ));
        }
        for (key, value) in [
            ("propose.input_width_px", self.input_width_px),
            ("propose.input_height_px", self.input_height_px),
        ] {
            if value == 0 || value > 4096 || !value.is_multiple_of(self.stride_px) {
                let message = "expected a multiple of stride_px in 1..=4096";
                return Err(wrong(key, value, message));
            }
        }
        if !(1..=MAX_EMBEDDING).contains(&self.embedding_size) {
            let (key, found) = ("propose.embedding_size", self.embedding_size);
            return Err(wrong(key, found, "expected 1..=128"));
        }
        for (key, name) in self.named_files() {
            check_file_name(key, name)?;
        }
        if self.classes != RoadUser::ALL {
            let names: Vec<&str> = self.classes.iter().map(|class| class.name()).collect();
            let message = "expected every class in its standard place";
            return Err(wrong("propose.classes", format!("{names:?}"), message));
        }
        check_normalisation("propose.normalisation", &self.normalisation)?;
        self.decode.validate()?;
        if let Some(scores) = &self.score {
            scores.validate("propose")?;
        }
        if let Some(looks) = &self.looks {
            looks.validate(self.embedding_size)?;
        }
        let expected = ProposeTensors::standard(self.sizes());
        for ((key, found), (_, expected)) in self.tensors.all().into_iter().zip(expected.all()) {
            let named = |part: &str| format!("propose.tensors.{key}.{part}");
            if found.name.is_empty() {
                return Err(wrong(&named("name"), "\"\"", "expected a name"));
            }
            if found.shape != expected.shape || found.len() > MAX_TENSOR_VALUES {
                let message = "expected the shape that follows from the sizes";
                return Err(wrong(
                    &named("shape"),
                    format!("{:?}", found.shape),
                    message,
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::string::ToString;

    fn refusal(change: impl Fn(&mut ProposeContract)) -> String {
        let mut contract = ProposeContract::new(ProposeSizes::default()).unwrap();
        change(&mut contract);
        contract.validate().unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key_and_value() {
        let scores = |weak_from, strong_from| {
            let defaults = Scores::default();
            Some(Scores {
                weak_from,
                strong_from,
                ..defaults
            })
        };
        for (said, expected) in [
            (
                refusal(|c| c.score = scores(0.4, 0.2)),
                "propose.score.weak_from is 0.4, above propose.score.strong_from, which is 0.2",
            ),
            (
                refusal(|c| c.score = scores(f32::NAN, 0.2)),
                "propose.score.weak_from: found NaN, expected 0 to 1",
            ),
            (
                refusal(|c| {
                    let rows = std::vec![std::vec![1.0; 3]];
                    c.looks = Some(LooksMetric { rows });
                }),
                "propose.looks.rows: expected embedding_size numbers in each, found a row of 3",
            ),
            (
                refusal(|c| c.input_width_px = 420),
                "propose.input_width_px: expected a multiple of stride_px in 1..=4096, found 420",
            ),
            (
                refusal(|c| c.embedding_size = 0),
                "propose.embedding_size: expected 1..=128, found 0",
            ),
            (
                refusal(|c| c.file = "../propose.onnx".to_owned()),
                "propose.file: expected a plain file name",
            ),
            (
                refusal(|c| {
                    let file = "/propose.int8.onnx".to_owned();
                    c.int8 = Some(ProposeInt8 {
                        file,
                        ..ProposeInt8::default()
                    });
                }),
                "propose.int8.file: expected a plain file name",
            ),
            (
                refusal(|c| c.classes.swap(0, 1)),
                "propose.classes: expected every class in its standard place, found [\"truck\", \"car\"",
            ),
            (
                refusal(|c| c.tensors.score.shape[1] = 9),
                "propose.tensors.score.shape: expected the shape that follows from the sizes, found [1, 9, 16, 26]",
            ),
            (
                refusal(|c| c.normalisation.scale[2] = 0.0),
                "propose.normalisation.scale: expected a positive number, found 0",
            ),
            (
                refusal(|c| c.decode.min_score = f32::NAN),
                "propose.decode.min_score: expected 0 to 1, found NaN",
            ),
        ] {
            assert!(said.contains(expected), "{said}, expected {expected}");
        }
    }

    #[test]
    fn a_contract_survives_being_written_and_read() {
        let mut contract = ProposeContract::new(ProposeSizes::default()).unwrap();
        let text = toml::to_string(&contract).unwrap();
        assert!(!text.contains("int8"), "{text}");
        assert_eq!(toml::from_str::<ProposeContract>(&text).unwrap(), contract);
        assert_eq!(contract.int8_files(), None);
        contract.int8 = Some(ProposeInt8::default());
        let text = toml::to_string(&contract).unwrap();
        assert_eq!(toml::from_str::<ProposeContract>(&text).unwrap(), contract);
        let graph = contract.int8_files().map(|files| files.graph);
        assert_eq!(graph, Some("propose.int8.onnx"));
        let unknown = format!("files = 1\n{text}");
        assert!(toml::from_str::<ProposeContract>(&unknown).is_err());
    }
}
