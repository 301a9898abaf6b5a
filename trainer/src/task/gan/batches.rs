//! Batches of real samples for both players, and moved pairs of neighbours for who reads clusters.

use std::sync::Arc;

use rand::Rng;

use super::{HOPS, VIEWS, WARP};
use crate::epochs::{Shuffled, rng_at};
use crate::gan::GanRun;
use crate::labelled::Samples;
use crate::labelled::neighbours::Neighbours;
use crate::labelled::warp::WarpConfig;

/// What one step sees.
pub struct GanBatch {
    /// Real samples, one after the other.
    pub rows: Vec<f32>,
    /// How many.
    pub count: usize,
    /// Other real samples and then a neighbour of each, all of them moved, of which the reader is to say the same.
    pub views: Vec<f32>,
    /// How many pairs those are.
    pub pairs: usize,
}

/// Endless batches of real samples, moved a little, from that of `step` on. Without `neighbours`, a pair is one sample twice.
pub fn batches(
    samples: Arc<Samples>,
    neighbours: Option<Neighbours>,
    run: &GanRun,
    step: u64,
) -> impl Iterator<Item = anyhow::Result<GanBatch>> + use<> {
    let (seed, warp) = (run.seed, run.warp.clone());
    let order = Shuffled::new(samples.len(), run.train.batch, seed).from_step(step);
    let invariance = run.mutual.invariance.clone();
    let paired = invariance.weight > 0.0;
    let mut others = Shuffled::new(samples.len(), invariance.pairs, seed ^ VIEWS).from_step(step);
    order.zip(step..).map(move |(chosen, step)| {
        let moved = |chosen: &[usize], warp: &WarpConfig, purpose: u64| -> Vec<f32> {
            if *warp == WarpConfig::none() {
                return samples.rows(chosen.iter().copied());
            }
            let mut rng = rng_at(seed, purpose, step);
            let moved = |index: &usize| warp.apply(&samples.row(*index), samples.shape(), &mut rng);
            chosen.iter().flat_map(moved).collect()
        };
        let (mut views, mut pairs) = (Vec::new(), 0);
        if let Some(others) = others.next().filter(|_| paired) {
            pairs = others.len();
            let mut rng = rng_at(seed, HOPS, step);
            let near = others.iter().map(|index| match &neighbours {
                Some(near) => near.walk(*index, rng.random_range(1..=invariance.hops), &mut rng),
                None => *index,
            });
            let both: Vec<usize> = others.iter().copied().chain(near).collect();
            views = moved(&both, &invariance.warp, VIEWS);
        }
        Ok(GanBatch {
            rows: moved(&chosen, &warp, WARP),
            count: chosen.len(),
            views,
            pairs,
        })
    })
}
