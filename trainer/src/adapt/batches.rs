//! What a step of an adaptation sees: pairs of the source, and of the target the same pairs twice.
//!
//! In: samplers. Out: [`AdaptBatch`]es, a function of seed and step. The teacher sees the target's pairs as they were cut,
//! the student sees them changed; both have the same crops of the same frames, so that a box found in one view is the box
//! in the other.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand::Rng;

use super::fourier::swap_low_frequencies;
use super::style::Restyler;
use crate::augment::AugmentConfig;
use crate::batch::{Batch, BatchSource};
use crate::data::DataError;
use crate::epochs::rng_at;
use crate::sampler::{Sampler, SamplerScratch};

/// Random streams of what is swapped and what is restyled.
const SWAPS: u64 = 41;
const STYLES: u64 = 42;

/// What one step sees.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptBatch {
    /// Labelled pairs.
    pub source: Batch,
    /// Pairs of pseudo-tracks as they were cut.
    pub weak: Batch,
    /// The same pairs, changed as those of the source are.
    pub strong: Batch,
    /// Pairs of labelled tracks of the target, where there are any.
    pub labelled: Option<Batch>,
}

/// Which source crops get the target's low frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swap {
    /// Share of the pairs.
    pub share: f64,
    /// Waves a side.
    pub reach: usize,
}

/// Draws batches of both domains.
#[derive(Debug)]
pub struct Batches {
    /// Of the source.
    pub source: Sampler,
    /// Of the target, without changes: the seed of `strong`.
    pub weak: Sampler,
    /// Of the target, with them.
    pub strong: Sampler,
    /// Of labelled tracks, and how many pairs a step.
    pub labelled: Option<(Sampler, usize)>,
    /// Of the low frequencies.
    pub swap: Option<Swap>,
    /// Of the manner of a recording.
    pub restyle: Option<Restyle>,
    /// Decides which pairs are swapped and restyled.
    pub seed: u64,
}

/// Which source crops get the manner of the target's.
#[derive(Clone, Debug)]
pub struct Restyle {
    /// Share of the pairs.
    pub share: f64,
    /// Who gives it.
    pub by: Arc<Restyler>,
}

/// Changes that leave a pair as it was cut; `strong` decides which pairs are grey, which belongs to the plan of a pair.
pub fn weak_of(strong: &AugmentConfig) -> AugmentConfig {
    AugmentConfig {
        grey_share: strong.grey_share,
        ..AugmentConfig::none()
    }
}

impl BatchSource for Batches {
    type Batch = AdaptBatch;

    fn draw_unless(
        &self,
        step: u64,
        batch_size: usize,
        scratch: &mut SamplerScratch,
        stop: &AtomicBool,
    ) -> Result<Option<AdaptBatch>, DataError> {
        let mut drawn = Vec::with_capacity(3);
        for sampler in [&self.source, &self.weak, &self.strong] {
            match sampler.draw_unless(step, batch_size, scratch, stop)? {
                Some(batch) => drawn.push(batch),
                None => return Ok(None),
            }
        }
        let labelled = match &self.labelled {
            Some((sampler, count)) => match sampler.draw_unless(step, *count, scratch, stop)? {
                Some(batch) => Some(batch),
                None => return Ok(None),
            },
            None => None,
        };
        let (strong, weak, source) = (drawn.pop(), drawn.pop(), drawn.pop());
        let (Some(mut source), Some(weak), Some(strong)) = (source, weak, strong) else {
            return Ok(None);
        };
        if let Some(restyle) = &self.restyle {
            let recordings = restyle.by.recordings();
            let chosen = chosen(source.len, restyle.share, recordings, self.seed, step);
            let changed = restyle.by.restyle_pairs(&mut source, &chosen);
            changed.map_err(|error| DataError::Restyle(error.to_string()))?;
        }
        if let Some(swap) = self.swap {
            swapped(&mut source, &weak, swap, self.seed, step);
        }
        Ok(Some(AdaptBatch {
            source,
            weak,
            strong,
            labelled,
        }))
    }
}

/// Numbers of the pairs that are restyled in a step, each with that of the recording whose manner it is given.
fn chosen(
    pairs: usize,
    share: f64,
    recordings: usize,
    seed: u64,
    step: u64,
) -> Vec<(usize, usize)> {
    let mut rng = rng_at(seed, STYLES, step);
    let drawn =
        (0..pairs).map(|pair| (rng.random::<f64>(), (pair, rng.random_range(0..recordings))));
    drawn
        .filter(|(drawn, _)| *drawn < share)
        .map(|(_, chosen)| chosen)
        .collect()
}

/// Gives some pairs of `source` the low frequencies of the pairs of `target` in the same places, templates from templates
/// and search crops from search crops.
fn swapped(source: &mut Batch, target: &Batch, swap: Swap, seed: u64, step: u64) {
    let mut rng = rng_at(seed, SWAPS, step);
    for i in 0..source.len.min(target.len) {
        if rng.random::<f64>() >= swap.share {
            continue;
        }
        let pair = |crops: &[u8], side: usize| {
            let len = side * side * 3;
            crops[i * len..(i + 1) * len].to_vec()
        };
        let template = pair(&target.template_rgb, target.template_px);
        let search = pair(&target.search_rgb, target.search_px);
        let (template_px, search_px) = (source.template_px, source.search_px);
        for (crops, side, of) in [
            (&mut source.template_rgb, template_px, &template),
            (&mut source.template_latest_rgb, template_px, &template),
            (&mut source.search_rgb, search_px, &search),
        ] {
            let len = side * side * 3;
            let crop = &mut crops[i * len..(i + 1) * len];
            swap_low_frequencies(crop, of, side, swap.reach);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_source_pairs_is_swapped_and_the_same_ones_for_the_same_step() {
        let (source, target) = (Batch::noise(1, 40, 16, 32), Batch::noise(2, 40, 16, 32));
        let with = |share, step| {
            let mut batch = source.clone();
            swapped(&mut batch, &target, Swap { share, reach: 1 }, 5, step);
            batch
        };
        let changed = |batch: &Batch| {
            let search = |b: &Batch, i: usize| b.pair(i).search_rgb;
            (0..40)
                .filter(|i| search(batch, *i) != search(&source, *i))
                .count()
        };
        assert_eq!(changed(&with(0.0, 1)), 0);
        assert!(changed(&with(1.0, 1)) >= 39);
        let half = with(0.5, 1);
        assert!((8..=32).contains(&changed(&half)), "{}", changed(&half));
        assert_eq!(half, with(0.5, 1));
        assert_ne!(half, with(0.5, 2));
        // What is restyled is drawn apart from what is swapped.
        let all = chosen(40, 1.0, 3, 5, 1);
        assert!(all.iter().map(|(pair, _)| *pair).eq(0..40));
        assert!((0..3).all(|recording| all.iter().any(|(_, r)| *r == recording)));
        assert!(chosen(40, 0.0, 3, 5, 1).is_empty());
        let restyled = chosen(40, 0.5, 3, 5, 1);
        assert!((8..=32).contains(&restyled.len()), "{}", restyled.len());
        assert!(restyled.iter().all(|chosen| all.contains(chosen)));
        assert_ne!(restyled, chosen(40, 0.5, 3, 5, 2));
        // Truth stays.
        assert_eq!(half.box_in_search, source.box_in_search);
    }
}
