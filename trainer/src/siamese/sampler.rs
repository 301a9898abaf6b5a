//! Balanced batches: as many samples of each class as of any other, so that every batch has mates and strangers.
//!
//! In: the samples of the classes that may be seen. Out: for any step a batch, a function of seed and step.
//!
//! ```
//! use roadhound_trainer::siamese::sampler::balanced;
//! let classes = [vec![0, 1, 2], vec![], vec![3, 4]];
//! let batch = balanced(&classes, 4, 2, 7, 0);
//! assert_eq!(batch.iter().filter(|i| **i >= 3).count(), 2);
//! ```

use std::sync::Arc;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::epochs::rng_at;
use crate::labelled::Samples;
use crate::labelled::warp::{WarpConfig, quarter_turned};
use crate::siamese::signs::{Sign, SignsConfig};

const DRAW: u64 = 2;
const WARP: u64 = 3;
const SIGNS: u64 = 4;
/// Quarters of a turn.
const QUARTERS: u32 = 4;

/// How the samples of a batch are changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// Each sample on its own.
    pub warp: WarpConfig,
    /// Quarters by one of which, or by none, every group is turned, which makes its class another one. A batch with one group a
    /// class never holds a class against itself turned: that of a symmetric sign is no other.
    pub turns: Vec<u32>,
    /// Groups of invented signs beside those of the samples' classes.
    pub signs: SignsConfig,
}

/// Numbers of the samples of the batch of `step`: `batch / per_class` groups of one class each. Classes are dealt out in
/// rounds, so that none comes twice before each has come once; a sample comes twice in a group only where its class has
/// fewer than `per_class`.
pub fn balanced(
    classes: &[Vec<usize>],
    batch: usize,
    per_class: usize,
    seed: u64,
    step: u64,
) -> Vec<usize> {
    let mut rng = rng_at(seed, DRAW, step);
    let groups: Vec<&Vec<usize>> = classes.iter().filter(|c| !c.is_empty()).collect();
    let mut chosen = Vec::with_capacity(batch);
    let mut round = Vec::new();
    while chosen.len() < batch && !groups.is_empty() {
        if round.is_empty() {
            round = groups.clone();
            round.shuffle(&mut rng);
        }
        let Some(members) = round.pop() else { continue };
        let wanted = per_class.min(batch - chosen.len());
        let start = chosen.len();
        while chosen.len() < start + wanted {
            let missing = start + wanted - chosen.len();
            chosen.extend(members.choose_multiple(&mut rng, missing).copied());
        }
    }
    chosen
}

/// What one step sees.
#[derive(Clone, Debug, PartialEq)]
pub struct SiameseBatch {
    /// Samples, one after the other.
    pub rows: Vec<f32>,
    /// Their classes.
    pub labels: Vec<u32>,
}

/// Endless batches.
pub struct Batches {
    samples: Arc<Samples>,
    classes: Vec<Vec<usize>>,
    batch: usize,
    per_class: usize,
    changes: Changes,
    seed: u64,
    step: u64,
}

impl Batches {
    /// From the batch of `step` on, of the samples in `classes`.
    pub fn new(
        samples: Arc<Samples>,
        classes: Vec<Vec<usize>>,
        (batch, per_class): (usize, usize),
        changes: Changes,
        seed: u64,
        step: u64,
    ) -> Self {
        Self {
            samples,
            classes,
            batch,
            per_class,
            changes,
            seed,
            step,
        }
    }
}

impl Iterator for Batches {
    type Item = anyhow::Result<SiameseBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let signs = &self.changes.signs;
        let of_signs = signs.groups_of(self.batch / self.per_class.max(1));
        let chosen = balanced(
            &self.classes,
            self.batch - of_signs * self.per_class,
            self.per_class,
            self.seed,
            self.step,
        );
        let mut rng = rng_at(self.seed, WARP, self.step);
        self.step += 1;
        let shape = self.samples.shape();
        let mut rows = Vec::with_capacity(self.batch * shape.len());
        let mut labels = Vec::with_capacity(self.batch);
        for group in chosen.chunks(self.per_class) {
            let turns = &self.changes.turns;
            let chosen = rng.random_range(0..=turns.len());
            let quarters = chosen.checked_sub(1).map_or(0, |turn| turns[turn]);
            for index in group {
                let turned = quarter_turned(&self.samples.row(*index), shape, quarters);
                rows.extend(self.changes.warp.apply(&turned, shape, &mut rng));
                let class = self.samples.labels()[*index];
                labels.push(class + quarters * self.samples.class_count() as u32);
            }
        }
        let mut rng = rng_at(self.seed, SIGNS, self.step - 1);
        let known = QUARTERS * self.samples.class_count() as u32;
        for class in signs.chosen(of_signs, &mut rng) {
            let sign = Sign::invented(self.seed, class, signs);
            for _ in 0..self.per_class {
                let written = sign.written(signs, shape, &mut rng);
                rows.extend(self.changes.warp.apply(&written, shape, &mut rng));
                labels.push(known + class);
            }
        }
        Some(Ok(SiameseBatch { rows, labels }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_comes_once_before_any_comes_twice_and_steps_differ() {
        let classes: Vec<Vec<usize>> = (0..5).map(|c| (100 * c..100 * c + 30).collect()).collect();
        let batch = balanced(&classes, 40, 4, 1, 3);
        let of = |group: &[usize]| group[0] / 100;
        for group in batch.chunks(4) {
            assert!(group.iter().all(|i| i / 100 == of(group)));
            let mut distinct = group.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 4);
        }
        for round in batch.chunks(20) {
            let mut seen: Vec<usize> = round.chunks(4).map(of).collect();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4]);
        }
        assert_ne!(batch, balanced(&classes, 40, 4, 1, 4));
        assert_eq!(batch, balanced(&classes, 40, 4, 1, 3));
    }

    #[test]
    fn a_turned_group_is_a_class_of_its_own_and_its_samples_are_turned_alike() {
        use crate::labelled::{Shape, Values};
        let shape = Shape {
            height: 2,
            width: 2,
            channels: 1,
        };
        let bytes = [255, 0, 0, 0].repeat(8);
        let samples = Samples::new(shape, Values::Bytes(bytes), vec![0; 8], vec![]);
        let Ok(samples) = samples else { panic!() };
        let changes = Changes {
            warp: WarpConfig::none(),
            turns: vec![1, 2, 3],
            signs: SignsConfig::default(),
        };
        let classes = samples.by_class();
        let mut seen = std::collections::BTreeSet::new();
        for batch in Batches::new(Arc::new(samples), classes, (4, 4), changes, 1, 0).take(30) {
            let Ok(batch) = batch else { panic!() };
            assert!(batch.labels.iter().all(|l| *l == batch.labels[0]));
            assert!(batch.rows.chunks(4).all(|row| *row == batch.rows[..4]));
            // The bright corner goes round to the right: upper left, upper right, lower right, lower left.
            let corner = batch.rows[..4].iter().position(|v| *v == 1.0);
            assert_eq!(corner, Some([0, 1, 3, 2][batch.labels[0] as usize]));
            seen.insert(batch.labels[0]);
        }
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn signs_take_their_share_of_the_groups_and_are_classes_of_their_own_each_once_a_batch() {
        let samples = crate::task::siamese::tests::bars(80, 3);
        let length = samples.shape().len();
        let changes = Changes {
            warp: WarpConfig::none(),
            turns: vec![1, 2, 3],
            signs: SignsConfig {
                classes: 40,
                share: 0.75,
                ..SignsConfig::default()
            },
        };
        let classes = samples.by_class();
        let known = 4 * samples.class_count() as u32;
        let batches = |step| {
            let samples = Arc::new(samples.clone());
            Batches::new(samples, classes.clone(), (48, 4), changes.clone(), 1, step)
        };
        let mut seen = std::collections::BTreeSet::new();
        for batch in batches(0).take(30) {
            let Ok(batch) = batch else { panic!() };
            assert_eq!((batch.labels.len(), batch.rows.len()), (48, 48 * length));
            let signs: Vec<u32> = batch
                .labels
                .iter()
                .copied()
                .filter(|l| *l >= known)
                .collect();
            assert_eq!(signs.len(), 36);
            let distinct: std::collections::BTreeSet<u32> = signs.into_iter().collect();
            assert_eq!(distinct.len(), 9);
            seen.extend(distinct);
        }
        assert_eq!(
            seen.into_iter().collect::<Vec<_>>(),
            (known..known + 40).collect::<Vec<_>>()
        );
        let third = |mut batches: Batches| batches.next().and_then(Result::ok);
        assert_eq!(batches(0).nth(2).and_then(Result::ok), third(batches(2)));
    }

    #[test]
    fn a_class_with_too_few_samples_is_seen_again() {
        assert_eq!(balanced(&[vec![9]], 3, 3, 0, 0), [9, 9, 9]);
        assert!(balanced(&[vec![]], 3, 3, 0, 0).is_empty());
    }
}
