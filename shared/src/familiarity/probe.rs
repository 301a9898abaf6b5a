//! Seeded frames and what `familiarity.onnx` must say of them: how a runtime that computes something else is found out.

use alloc::format;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{FamiliarityContract, FamiliarityNetwork, Look};
use crate::contract::{self, ProbeError};

/// Frames of a probe.
pub const PROBES: u64 = 3;

/// One frame of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbedFrame {
    /// Seed of the frame.
    pub seed: u64,
    /// What the graph says of it.
    pub error: f32,
    /// What the graph says of it.
    pub distance: f32,
}

/// The content of `probe.familiarity.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamiliarityProbe {
    /// How far a runtime may be off, as a share of the value where that is above one.
    pub tolerance: f32,
    /// The frames.
    pub frames: Vec<ProbedFrame>,
}

impl FamiliarityProbe {
    /// Runs the reference network on seeded frames and remembers what it says.
    ///
    /// # Errors
    /// Those of the network.
    pub fn capture<N: FamiliarityNetwork>(
        network: &mut N,
        contract: &FamiliarityContract,
        seed: u64,
    ) -> Result<Self, N::Error> {
        let mut frames = Vec::new();
        for seed in seed..seed + PROBES {
            let Look { error, distance } = network.look(&probe_frame(seed, contract))?;
            frames.push(ProbedFrame {
                seed,
                error,
                distance,
            });
        }
        Ok(Self {
            // What different orders of summation explain, and no more.
            tolerance: 1e-3,
            frames,
        })
    }

    /// Runs `network` on the frames and compares.
    ///
    /// # Errors
    /// The first answer that differs, or the error of the network as text.
    pub fn replay<N: FamiliarityNetwork>(
        &self,
        network: &mut N,
        contract: &FamiliarityContract,
    ) -> Result<(), ProbeError>
    where
        N::Error: core::fmt::Display,
    {
        for (index, probed) in self.frames.iter().enumerate() {
            let look = network
                .look(&probe_frame(probed.seed, contract))
                .map_err(|error| ProbeError::Network {
                    message: crate::contract::one_line(&format!("{error}")),
                })?;
            for (tensor, found, expected) in [
                ("error", look.error, probed.error),
                ("distance", look.distance, probed.distance),
            ] {
                let tolerance = self.tolerance * expected.abs().max(1.0);
                let off = (found - expected).abs();
                if off.is_nan() || off > tolerance {
                    return Err(ProbeError::Mismatch {
                        tensor,
                        index,
                        found,
                        expected,
                        tolerance,
                    });
                }
            }
        }
        Ok(())
    }
}

/// A frame drawn from a seed, its values between 0 and 1: the same bits on every machine.
///
/// # Shapes
/// Returns planar `[3, height, width]`.
pub fn probe_frame(seed: u64, contract: &FamiliarityContract) -> Vec<f32> {
    let (width, height) = (
        contract.input_width_px as usize,
        contract.input_height_px as usize,
    );
    let mut frame = contract::probe_frame(seed, width, height);
    for value in &mut frame {
        *value = (0.5 + 0.25 * *value).clamp(0.0, 1.0);
    }
    frame
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::familiarity::AlarmConfig;
    use crate::preprocess::CropSize;
    use core::convert::Infallible;
    use std::string::ToString;

    struct Mean {
        off: f32,
    }

    impl FamiliarityNetwork for Mean {
        type Error = Infallible;

        fn look(&mut self, frame: &[f32]) -> Result<Look, Infallible> {
            let mean = frame.iter().sum::<f32>() / frame.len() as f32;
            Ok(Look {
                error: mean,
                distance: 10.0 * mean + self.off,
            })
        }
    }

    #[test]
    fn a_network_that_says_something_else_is_found_out() {
        let size = CropSize {
            width_px: 20,
            height_px: 12,
        };
        let contract = FamiliarityContract::new(size, AlarmConfig::default()).unwrap();
        let frame = probe_frame(3, &contract);
        assert_eq!(frame.len(), contract.input_len());
        assert!(frame.iter().all(|v| (0.0..=1.0).contains(v)));
        assert_ne!(frame, probe_frame(4, &contract));
        let probe = FamiliarityProbe::capture(&mut Mean { off: 0.0 }, &contract, 7).unwrap();
        assert_eq!(probe.frames.len() as u64, PROBES);
        assert!(probe.replay(&mut Mean { off: 1e-4 }, &contract).is_ok());
        for off in [0.1, f32::NAN] {
            let said = probe.replay(&mut Mean { off }, &contract).unwrap_err();
            assert!(said.to_string().contains("distance[0] is"), "{said}");
        }
    }
}
