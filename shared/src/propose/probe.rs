//! A seeded frame and what `propose.onnx` must say of it: how a runtime that computes something else is found out.
//!
//! In: a network and its contract. Out: [`ProposeProbe`], the content of `probe.propose.json`; or, of a replay, the
//! first output that differs.

use alloc::format;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::contract::ProposeContract;
use super::{ProposeNetwork, ProposeOutputs};
use crate::contract::{self, ProbeError, ProbeTensor};

/// How far a runtime may be from the recorded outputs, in the units of each output.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposeTolerance {
    /// Score, 0..1.
    pub score: f32,
    /// Box distances, in pixels of the input.
    pub box_px: f32,
    /// Embeddings, of unit norm.
    pub embedding: f32,
}

impl Default for ProposeTolerance {
    /// What different summation orders in `f32` explain, and no more.
    fn default() -> Self {
        Self {
            score: 1e-3,
            box_px: 0.1,
            embedding: 1e-3,
        }
    }
}

/// A seed and what the graph makes of its frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposeProbe {
    /// Seed of the frame.
    pub seed: u64,
    /// How far a runtime may be off.
    pub tolerance: ProposeTolerance,
    /// Score maps.
    pub score: ProbeTensor,
    /// Box distances.
    #[serde(rename = "box")]
    pub box_ltrb_px: ProbeTensor,
    /// Embeddings.
    pub embedding: ProbeTensor,
}

impl ProposeProbe {
    /// Runs the reference network on the seeded frame and remembers its outputs.
    ///
    /// # Errors
    /// Those of the network.
    pub fn capture<N: ProposeNetwork>(
        network: &mut N,
        contract: &ProposeContract,
        seed: u64,
        tolerance: ProposeTolerance,
    ) -> Result<Self, N::Error> {
        let outputs = run(network, contract, seed)?;
        Ok(Self {
            seed,
            tolerance,
            score: ProbeTensor::capture(&outputs.score),
            box_ltrb_px: ProbeTensor::capture(&outputs.box_ltrb_px),
            embedding: ProbeTensor::capture(&outputs.embedding),
        })
    }

    /// Runs `network` on the seeded frame and compares.
    ///
    /// # Errors
    /// The first output that differs, or the error of the network as text.
    pub fn replay<N: ProposeNetwork>(
        &self,
        network: &mut N,
        contract: &ProposeContract,
    ) -> Result<(), ProbeError> {
        let outputs = run(network, contract, self.seed).map_err(|error| ProbeError::Network {
            message: crate::contract::one_line(&format!("{error}")),
        })?;
        let t = &self.tolerance;
        self.score.check("score", &outputs.score, t.score)?;
        self.box_ltrb_px
            .check("box", &outputs.box_ltrb_px, t.box_px)?;
        self.embedding
            .check("embedding", &outputs.embedding, t.embedding)
    }
}

fn run<N: ProposeNetwork>(
    network: &mut N,
    contract: &ProposeContract,
    seed: u64,
) -> Result<ProposeOutputs, N::Error> {
    let mut outputs = ProposeOutputs::for_contract(contract);
    network.propose(&probe_frame(seed, contract), &mut outputs)?;
    Ok(outputs)
}

/// A normalised frame drawn from a seed: the same bits on every machine. The upper left of a
/// [`probe_crop`](contract::probe_crop).
///
/// # Shapes
/// Returns planar `[3, height, width]`.
pub fn probe_frame(seed: u64, contract: &ProposeContract) -> Vec<f32> {
    let (width, height) = (
        contract.input_width_px as usize,
        contract.input_height_px as usize,
    );
    contract::probe_frame(seed, width, height)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::propose::ProposeSizes;
    use std::string::{String, ToString};

    /// Says everywhere what the mean of the frame is, and one value more at one place.
    struct Means {
        off: f32,
    }

    impl ProposeNetwork for Means {
        type Error = String;

        fn propose(&mut self, frame: &[f32], out: &mut ProposeOutputs) -> Result<(), String> {
            let mean = frame.iter().sum::<f32>() / frame.len() as f32;
            out.score.fill(mean);
            out.box_ltrb_px.fill(2.0 * mean);
            out.embedding.fill(mean);
            for value in &mut out.box_ltrb_px {
                *value += self.off;
            }
            Ok(())
        }
    }

    #[test]
    fn a_network_that_says_something_else_is_found_out_by_name() {
        let contract = ProposeContract::new(ProposeSizes::default()).unwrap();
        assert_eq!(
            probe_frame(5, &contract).len(),
            contract.tensors.frame.len()
        );
        assert_ne!(probe_frame(5, &contract), probe_frame(6, &contract));
        let tolerance = ProposeTolerance::default();
        let probe =
            ProposeProbe::capture(&mut Means { off: 0.0 }, &contract, 5, tolerance).unwrap();
        probe.replay(&mut Means { off: 0.05 }, &contract).unwrap();
        let said = probe
            .replay(&mut Means { off: 0.2 }, &contract)
            .unwrap_err();
        assert!(said.to_string().starts_with("probe: box["), "{said}");
    }
}
