//! Samples of both domains, and batches of half of each.
//!
//! In: a [`PairConfig`]. Out: [`Pair`], and of any step its [`DannBatch`]: a function of seed and step, with the source's
//! labels and none of the target's.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, anyhow};
use rand::Rng;

use super::config::{DomainConfigOf, PairConfig};
use crate::batch::BatchSource;
use crate::data::DataError;
use crate::epochs::{Shuffled, rng_at};
use crate::labelled::resize::{framed, resized};
use crate::labelled::warp::WarpConfig;
use crate::labelled::{Samples, Shape};
use crate::sampler::SamplerScratch;

const WARP: u64 = 21;
const INVERT: u64 = 22;
/// Added to a seed for the order of the target's samples.
const TARGET: u64 = 0x7461_7267;

/// One domain.
#[derive(Clone, Debug)]
pub struct DomainSamples {
    /// To learn from.
    pub train: Samples,
    /// To score on.
    pub test: Samples,
}

/// Both domains.
#[derive(Clone, Debug)]
pub struct Pair {
    /// With labels.
    pub source: DomainSamples,
    /// Whose labels are for the score alone.
    pub target: DomainSamples,
}

impl Pair {
    /// Reads them and brings them to one shape.
    ///
    /// # Errors
    /// Those of the readers; samples that are no pictures; a class that the source does not have.
    pub fn open(config: &PairConfig) -> Result<Self> {
        let mut pair = Self {
            source: open(config, &config.source, "data.source")?,
            target: open(config, &config.target, "data.target")?,
        };
        let known = pair.source.train.clone();
        for (name, samples) in [
            ("data.source.test", &mut pair.source.test),
            ("data.target.train", &mut pair.target.train),
            ("data.target.test", &mut pair.target.test),
        ] {
            let named = samples.clone().in_classes_of(&known);
            *samples = named.map_err(|reason| anyhow!("{name}: {reason}"))?;
        }
        Ok(pair)
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.source.train.class_count()
    }

    /// Of every sample.
    pub fn shape(&self) -> Shape {
        self.source.train.shape()
    }
}

fn open(config: &PairConfig, domain: &DomainConfigOf, name: &str) -> Result<DomainSamples> {
    let part = |part: &str, source: &crate::labelled::Source, skip: usize| {
        let samples = source.open(&config.root)?;
        if skip >= samples.len() {
            let count = samples.len();
            return Err(anyhow!(
                "{name}.skip_{part} is {skip}, there are {count} samples"
            ));
        }
        let kept: Vec<usize> = (skip..samples.len()).collect();
        let side = domain.side_px.unwrap_or(config.side_px);
        let own = Shape {
            height: side,
            width: side,
            channels: config.channels,
        };
        resized(samples.chosen(&kept), own)
            .and_then(|samples| framed(samples, config.shape()))
            .map_err(|reason| anyhow!("{name}.{part}: {reason}"))
    };
    Ok(DomainSamples {
        train: part("train", &domain.train, domain.skip_train)?,
        test: part("test", &domain.test, domain.skip_test)?,
    })
}

/// What one step sees.
pub struct DannBatch {
    /// Samples of the source, one after the other.
    pub source: Vec<f32>,
    /// Their classes.
    pub labels: Vec<u32>,
    /// As many of the target.
    pub target: Vec<f32>,
}

/// Draws batches; see the module head.
pub struct Batches {
    /// What they are drawn from.
    pub pair: Arc<Pair>,
    /// How samples are moved.
    pub warp: WarpConfig,
    /// Share of the source's samples whose light and dark are exchanged.
    pub inverted: f64,
    /// Of order and warp.
    pub seed: u64,
}

impl Batches {
    /// The batch of a step; half of `batch` is of each domain.
    pub fn at(&self, step: u64, batch: usize) -> DannBatch {
        let half = (batch / 2).max(1);
        let chosen = |samples: &Samples, seed: u64| {
            let mut order = Shuffled::new(samples.len(), half, seed).from_step(step);
            order.next().unwrap_or_default()
        };
        let (source, target) = (&self.pair.source.train, &self.pair.target.train);
        let of_source = chosen(source, self.seed);
        let of_target = chosen(target, self.seed ^ TARGET);
        let mut rng = rng_at(self.seed, WARP, step);
        let mut moved = |samples: &Samples, chosen: &[usize]| {
            let rows = samples.rows(chosen.iter().copied());
            if self.warp == WarpConfig::none() {
                return rows;
            }
            let shape = samples.shape();
            rows.chunks_exact(shape.len())
                .flat_map(|row| self.warp.apply(row, shape, &mut rng))
                .collect()
        };
        let mut shown = moved(source, &of_source);
        let mut rng = rng_at(self.seed, INVERT, step);
        for sample in shown.chunks_exact_mut(source.shape().len()) {
            if rng.random_bool(self.inverted) {
                sample.iter_mut().for_each(|v| *v = 1.0 - *v);
            }
        }
        DannBatch {
            source: shown,
            labels: of_source.iter().map(|i| source.labels()[*i]).collect(),
            target: moved(target, &of_target),
        }
    }
}

impl BatchSource for Batches {
    type Batch = DannBatch;

    fn draw_unless(
        &self,
        step: u64,
        batch_size: usize,
        _scratch: &mut SamplerScratch,
        _stop: &AtomicBool,
    ) -> Result<Option<DannBatch>, DataError> {
        Ok(Some(self.at(step, batch_size)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::labelled::Values;
    use crate::task::siamese::tests::bars;

    /// Bars as they are, and bars in a pale picture.
    pub(crate) fn bars_and_pale_ones(train: usize, test: usize) -> Pair {
        let pale = |samples: Samples| {
            let bytes = (0..samples.len()).flat_map(|i| samples.row(i));
            let bytes = bytes.map(|v| 110 + (90.0 * v) as u8).collect();
            let labels = samples.labels().to_vec();
            Samples::new(samples.shape(), Values::Bytes(bytes), labels, vec![]).unwrap_or(samples)
        };
        Pair {
            source: DomainSamples {
                train: bars(train, 1),
                test: bars(test, 2),
            },
            target: DomainSamples {
                train: pale(bars(train, 3)),
                test: pale(bars(test, 4)),
            },
        }
    }

    #[test]
    fn a_batch_is_a_function_of_seed_and_step_and_does_not_depend_on_labels_of_the_target() {
        let pair = bars_and_pale_ones(80, 16);
        let batches = |pair: Pair, seed| Batches {
            pair: Arc::new(pair),
            warp: WarpConfig::default(),
            inverted: 0.0,
            seed,
        };
        let of = |batches: &Batches, step| {
            let batch = batches.at(step, 20);
            (batch.source, batch.labels, batch.target)
        };
        let first = batches(pair.clone(), 5);
        assert_eq!(of(&first, 9), of(&batches(pair.clone(), 5), 9));
        assert_ne!(of(&first, 9), of(&first, 10));
        assert_ne!(of(&first, 9), of(&batches(pair.clone(), 6), 9));
        assert_eq!(of(&first, 9).2.len(), 10 * pair.shape().len());
        let mut relabelled = pair.clone();
        let target = &mut relabelled.target.train;
        let rows = Values::Numbers(target.rows(0..target.len()));
        let others = target.labels().iter().map(|label| 1 - label.min(&1));
        *target = Samples::new(target.shape(), rows, others.collect(), vec![]).unwrap();
        assert_ne!(relabelled.target.train.labels(), pair.target.train.labels());
        assert_eq!(of(&first, 9), of(&batches(relabelled, 5), 9));
        // All of the target in eight steps of ten.
        let unmoved = Batches {
            warp: WarpConfig::none(),
            ..batches(pair.clone(), 5)
        };
        let mut seen: Vec<Vec<u32>> = Vec::new();
        for step in 0..8 {
            let rows = unmoved.at(step, 20).target;
            let bits = |row: &[f32]| row.iter().map(|v| v.to_bits()).collect();
            seen.extend(rows.chunks(pair.shape().len()).map(bits));
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 80);
    }

    #[test]
    fn light_and_dark_are_exchanged_in_the_asked_share_of_the_source_and_nowhere_else() {
        let pair = Arc::new(bars_and_pale_ones(80, 16));
        let of = |inverted| Batches {
            pair: pair.clone(),
            warp: WarpConfig::none(),
            inverted,
            seed: 5,
        };
        let length = pair.shape().len();
        let mut exchanged = 0;
        for step in 0..10 {
            let [plain, half] = [0.0, 0.5].map(|share| of(share).at(step, 80));
            assert_eq!((&plain.labels, &plain.target), (&half.labels, &half.target));
            for (a, b) in plain.source.chunks(length).zip(half.source.chunks(length)) {
                let is_exchanged = a.iter().zip(b).all(|(a, b)| *b == 1.0 - *a);
                assert!(is_exchanged || a == b);
                exchanged += usize::from(is_exchanged);
            }
        }
        assert!((150..250).contains(&exchanged), "{exchanged} of 400");
    }
}
