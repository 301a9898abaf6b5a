//! What a bundle's graphs must give for a seeded input, so that a runtime that computes something else is found out before
//! the first frame.
//!
//! In: a network and a seed. Out: a [`Probe`]; or, of a network that gives something else, the value and how far it is off.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{FollowContract, one_line};
use crate::mix::SplitMix64;
use crate::network::{FollowNetwork, SearchOutputs, TemplateOutputs};

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
    use crate::contract::FollowSizes;
    use alloc::vec;

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
}
