//! Where the sums of chosen layers lay on the source: the table `[adapt]` of a bundle, and the file that it names.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::contract::{ContractError, check_file_name, wrong};

/// No bundle names more layers.
pub const MOST_LAYERS: usize = 16;
/// No layer has more channels.
const MOST_CHANNELS: usize = 4096;

/// Which file has the statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptContract {
    /// [`SourceStatistics`] in JSON.
    pub file: String,
}

impl Default for AdaptContract {
    /// The standard name.
    fn default() -> Self {
        Self {
            file: "adapt.json".to_owned(),
        }
    }
}

impl AdaptContract {
    /// Checks the name.
    ///
    /// # Errors
    /// A name that walks out of the folder.
    pub fn validate(&self) -> Result<(), ContractError> {
        check_file_name("adapt.file", &self.file)
    }

    /// Keys that name files, and the files.
    pub(crate) fn named_files(&self) -> [(&'static str, &String); 1] {
        [("adapt.file", &self.file)]
    }
}

/// Where every channel of the chosen layers lay on the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceStatistics {
    /// Search crops that were looked at.
    pub crops: u64,
    /// In the order of the graph.
    pub layers: Vec<LayerStatistics>,
}

/// One convolution that both graphs have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerStatistics {
    /// Name of its output in both int8 graphs.
    pub tensor: String,
    /// Mean of each channel before the activation.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel there.
    pub deviation: Vec<f32>,
}

impl SourceStatistics {
    /// Checks lengths and numbers.
    ///
    /// # Errors
    /// The first layer that cannot be.
    pub fn validate(&self) -> Result<(), ContractError> {
        if !(1..=MOST_LAYERS).contains(&self.layers.len()) {
            let expected = "expected 1 to 16 layers";
            return Err(wrong("layers", self.layers.len(), expected));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let key = |name: &str| format!("layers.{index}.{name}");
            let channels = layer.mean.len();
            if !(1..=MOST_CHANNELS).contains(&channels) {
                let expected = "expected 1 to 4096 numbers";
                return Err(wrong(&key("mean"), channels, expected));
            }
            if layer.deviation.len() != channels {
                let expected = "expected a number for each mean";
                return Err(wrong(&key("deviation"), layer.deviation.len(), expected));
            }
            if let Some(mean) = layer.mean.iter().find(|m| !m.is_finite()) {
                return Err(wrong(&key("mean"), mean, "expected finite numbers"));
            }
            let deviates = |d: &&f32| !(d.is_finite() && **d > 0.0);
            if let Some(deviation) = layer.deviation.iter().find(deviates) {
                let expected = "expected finite numbers above 0";
                return Err(wrong(&key("deviation"), deviation, expected));
            }
            if self.layers[..index]
                .iter()
                .any(|l| l.tensor == layer.tensor)
            {
                let expected = "expected each layer once";
                return Err(wrong(&key("tensor"), &layer.tensor, expected));
            }
        }
        Ok(())
    }
}
