//! What trainer and edge agree on about `familiarity.onnx`: the table `[familiarity]` of the bundle's manifest.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;

use serde::{Deserialize, Serialize};

use crate::contract::{
    ContractError, MAX_TENSOR_VALUES, TensorSpec, Training, check_file_name, check_normalisation,
    wrong,
};
use crate::preprocess::{CropSize, Normalisation};

/// When a distance is an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmConfig {
    /// Frames beyond this distance are unlike what was learned.
    pub distance_above: f32,
    /// Frames below this one are like it again.
    pub clear_below: f32,
    /// Time between two looks.
    pub every_millis: u32,
    /// How long every look must find the frame unlike for an alarm.
    pub after_millis: u32,
    /// How long every look must find it like again for the end of one.
    pub clear_after_millis: u32,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self {
            distance_above: 2.0,
            clear_below: 1.7,
            every_millis: 1000,
            after_millis: 5000,
            clear_after_millis: 5000,
        }
    }
}

impl AlarmConfig {
    /// Checks the ranges; `table` is what errors name.
    ///
    /// # Errors
    /// The first key that is wrong, with its value.
    pub fn validate(&self, table: &str) -> Result<(), ContractError> {
        let named = |key: &str| format!("{table}.{key}");
        let sane = |v: f32| v.is_finite() && v > 0.0 && v < 1e6;
        if !sane(self.distance_above) {
            let key = named("distance_above");
            return Err(wrong(
                &key,
                self.distance_above,
                "expected above 0 and below 1000000",
            ));
        }
        if !sane(self.clear_below) || self.clear_below > self.distance_above {
            let key = named("clear_below");
            return Err(wrong(
                &key,
                self.clear_below,
                "expected above 0, at most distance_above",
            ));
        }
        for (key, value, least) in [
            ("every_millis", self.every_millis, 1),
            ("after_millis", self.after_millis, 0),
            ("clear_after_millis", self.clear_after_millis, 0),
        ] {
            if !(least..=3_600_000).contains(&value) {
                return Err(wrong(
                    &named(key),
                    value,
                    "expected at most an hour, and every_millis above 0",
                ));
            }
        }
        Ok(())
    }
}

/// The tensors of `familiarity.onnx`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamiliarityTensors {
    /// In: frame `[1, 3, H, W]`.
    pub frame: TensorSpec,
    /// Out: mean squared error `[1, 1]`.
    pub error: TensorSpec,
    /// Out: distance `[1, 1]`.
    pub distance: TensorSpec,
}

/// Everything a caller must know to feed the graph and read its outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamiliarityContract {
    /// File of the graph.
    pub file: String,
    /// File of its probe.
    pub probe_file: String,
    /// Columns of the input.
    pub input_width_px: u32,
    /// Rows of the input.
    pub input_height_px: u32,
    /// How a pixel becomes a number.
    pub normalisation: Normalisation,
    /// When a distance is an alarm.
    pub alarm: AlarmConfig,
    /// Where the weights come from.
    pub training: Training,
    /// Names and shapes.
    pub tensors: FamiliarityTensors,
}

impl FamiliarityContract {
    /// A contract with the standard file and tensor names; pixels are 0 to 1.
    ///
    /// # Errors
    /// [`ContractError::Value`] where the size or the alarm cannot be.
    pub fn new(input: CropSize, alarm: AlarmConfig) -> Result<Self, ContractError> {
        let contract = Self {
            file: "familiarity.onnx".to_owned(),
            probe_file: "probe.familiarity.json".to_owned(),
            input_width_px: input.width_px,
            input_height_px: input.height_px,
            normalisation: Normalisation {
                mean: [0.0; 3],
                scale: [1.0 / 255.0; 3],
            },
            alarm,
            training: Training::default(),
            tensors: standard(input),
        };
        contract.validate()?;
        Ok(contract)
    }

    /// Columns and rows of the input.
    pub fn input_size(&self) -> CropSize {
        CropSize {
            width_px: self.input_width_px,
            height_px: self.input_height_px,
        }
    }

    /// Values of an input.
    pub fn input_len(&self) -> usize {
        3 * self.input_width_px as usize * self.input_height_px as usize
    }

    /// Its files, each with its key.
    pub(crate) fn named_files(&self) -> [(&'static str, &String); 2] {
        [
            ("familiarity.file", &self.file),
            ("familiarity.probe_file", &self.probe_file),
        ]
    }

    /// Checks sizes, shapes, names and thresholds.
    ///
    /// # Errors
    /// The first key that is wrong, with its value.
    pub fn validate(&self) -> Result<(), ContractError> {
        for (key, value) in [
            ("familiarity.input_width_px", self.input_width_px),
            ("familiarity.input_height_px", self.input_height_px),
        ] {
            if !(8..=1024).contains(&value) {
                return Err(wrong(key, value, "expected 8..=1024"));
            }
        }
        for (key, name) in self.named_files() {
            check_file_name(key, name)?;
        }
        check_normalisation("familiarity.normalisation", &self.normalisation)?;
        self.alarm.validate("familiarity.alarm")?;
        let expected = standard(self.input_size());
        let found = &self.tensors;
        for (key, found, expected) in [
            ("frame", &found.frame, &expected.frame),
            ("error", &found.error, &expected.error),
            ("distance", &found.distance, &expected.distance),
        ] {
            let named = |part: &str| format!("familiarity.tensors.{key}.{part}");
            if found.name.is_empty() {
                return Err(wrong(&named("name"), "\"\"", "expected a name"));
            }
            if found.shape != expected.shape || found.len() > MAX_TENSOR_VALUES {
                let message = "expected the shape that follows from the sizes";
                let shape = format!("{:?}", found.shape);
                return Err(wrong(&named("shape"), shape, message));
            }
        }
        Ok(())
    }
}

fn standard(input: CropSize) -> FamiliarityTensors {
    let spec = |name: &str, shape| TensorSpec {
        name: name.to_owned(),
        shape,
    };
    let (width, height) = (input.width_px as usize, input.height_px as usize);
    FamiliarityTensors {
        frame: spec("frame", vec![1, 3, height, width]),
        error: spec("error", vec![1, 1]),
        distance: spec("distance", vec![1, 1]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::string::ToString;

    const SIZE: CropSize = CropSize {
        width_px: 160,
        height_px: 96,
    };

    #[test]
    fn what_is_wrong_is_named_by_its_key_and_value() {
        let refusal = |change: fn(&mut FamiliarityContract)| {
            let mut contract = FamiliarityContract::new(SIZE, AlarmConfig::default()).unwrap();
            assert_eq!(contract.input_len(), 3 * 160 * 96);
            change(&mut contract);
            contract.validate().unwrap_err().to_string()
        };
        for (said, part) in [
            (
                refusal(|c| c.input_width_px = 4),
                "familiarity.input_width_px: expected 8..=1024, found 4",
            ),
            (refusal(|c| c.file = "../x".to_owned()), "familiarity.file"),
            (
                refusal(|c| c.alarm.distance_above = f32::NAN),
                "familiarity.alarm.distance_above",
            ),
            (
                refusal(|c| c.alarm.clear_below = 9.0),
                "familiarity.alarm.clear_below",
            ),
            (
                refusal(|c| c.alarm.every_millis = 0),
                "familiarity.alarm.every_millis",
            ),
            (
                refusal(|c| c.input_height_px = 97),
                "familiarity.tensors.frame.shape",
            ),
            (
                refusal(|c| c.tensors.distance.name.clear()),
                "familiarity.tensors.distance.name",
            ),
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
