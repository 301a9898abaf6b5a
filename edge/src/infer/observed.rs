//! Layers of a graph that are looked into and put right, by the names that they have in its file.

use std::sync::{Arc, Mutex, PoisonError};

use roadhound_shared::adapt::{Adjustment, SourceStatistics};
use tract_onnx::prelude::TypedModel;

use super::InferError;
use super::fused::{Planned, Running};
use crate::int8::Reference;

/// What to look into: names of outputs, and where their channels lay on the source.
#[derive(Debug, Default)]
pub(super) struct Observed(Vec<(String, Vec<Reference>)>);

impl Observed {
    /// Those of a bundle.
    pub(super) fn new(source: &SourceStatistics) -> Self {
        let layers = source.layers.iter().map(|layer| {
            let both = layer.mean.iter().zip(&layer.deviation);
            let references = both.map(|(mean, deviation)| Reference {
                mean: *mean,
                deviation: *deviation,
            });
            (layer.tensor.clone(), references.collect())
        });
        Self(layers.collect())
    }

    /// Which layer has this output.
    pub(super) fn find(&self, output: &str) -> Option<(usize, &[Reference])> {
        let at = self.0.iter().position(|(name, _)| name == output)?;
        Some((at, &self.0[at].1))
    }
}

/// The layers of a graph, found in its programs.
pub(super) struct Layers(Vec<(Arc<Mutex<Running>>, usize)>);

impl Layers {
    /// Finds them in a graph that was read with `observed`.
    ///
    /// # Errors
    /// A layer that no kernel of ours computes.
    pub(super) fn find(
        file: &str,
        typed: &TypedModel,
        observed: &Observed,
    ) -> Result<Self, InferError> {
        let planned = || {
            let nodes = typed.nodes().iter();
            nodes.filter_map(|node| node.op_as::<Planned>())
        };
        let layers = observed.0.iter().enumerate().map(|(layer, (name, _))| {
            let mut found = planned().filter_map(|op| {
                let place = op.layers.iter().position(|l| *l == layer)?;
                Some((op.running.clone(), place))
            });
            found.next().ok_or_else(|| InferError::Unobserved {
                file: file.to_owned(),
                layer: name.clone(),
            })
        });
        layers.collect::<Result<_, _>>().map(Self)
    }

    /// What the last run saw of a layer.
    pub(super) fn samples(&self, layer: usize, take: &mut dyn FnMut(&[u8])) {
        if let Some((running, place)) = self.0.get(layer) {
            let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
            take(running.program.samples(*place));
        }
    }

    /// Puts a layer right.
    pub(super) fn adjust(
        &self,
        file: &str,
        layer: usize,
        adjustments: &[Adjustment],
    ) -> Result<(), InferError> {
        let Some((running, place)) = self.0.get(layer) else {
            return Ok(());
        };
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let adjusted = running.program.adjust(*place, adjustments);
        adjusted.map_err(|e| InferError::Run {
            file: file.to_owned(),
            message: e.to_string(),
        })
    }
}
