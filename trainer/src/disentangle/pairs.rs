//! Batches of pairs: samples, another of each one's class, and the same once more of other samples.
//!
//! In: samples with classes, a seed. Out: endless batches, a function of the seed and of the step.

use std::sync::Arc;

use rand::Rng;

use crate::epochs::{Shuffled, rng_at};
use crate::labelled::Samples;

const MATES: u64 = 51;
/// Makes the order of the others another one.
const OTHERS: u64 = 0x6f74_6865;

/// What one step sees: four times as many samples, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct PairBatch {
    /// Samples.
    pub first: Vec<f32>,
    /// A sample of the same class as each.
    pub mate: Vec<f32>,
    /// Samples of any class.
    pub other: Vec<f32>,
    /// A sample of the same class as each of those.
    pub other_mate: Vec<f32>,
    /// How many of each.
    pub count: usize,
}

/// Batches from that of `step` on.
pub fn batches(
    samples: Arc<Samples>,
    batch: usize,
    seed: u64,
    step: u64,
) -> impl Iterator<Item = anyhow::Result<PairBatch>> {
    let firsts = Shuffled::new(samples.len(), batch, seed).from_step(step);
    let others = Shuffled::new(samples.len(), batch, seed ^ OTHERS).from_step(step);
    let classes = samples.by_class();
    firsts
        .zip(others)
        .zip(step..)
        .map(move |((first, other), step)| {
            let mut rng = rng_at(seed, MATES, step);
            let mut mates = |of: &[usize]| -> Vec<usize> {
                of.iter()
                    .map(|index| {
                        let class = &classes[samples.labels()[*index] as usize];
                        class[rng.random_range(0..class.len())]
                    })
                    .collect()
            };
            let (mate, other_mate) = (mates(&first), mates(&other));
            let count = first.len();
            Ok(PairBatch {
                first: samples.rows(first),
                mate: samples.rows(mate),
                other: samples.rows(other),
                other_mate: samples.rows(other_mate),
                count,
            })
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::labelled::{Shape, Values};

    #[test]
    fn mates_are_of_one_class_others_of_any_and_a_resumed_run_sees_the_same() {
        // The value of a sample is its number; its class is that modulo 3.
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 1,
        };
        let values = Values::Numbers((0..30).map(|i| i as f32).collect());
        let samples = Samples::new(shape, values, (0..30).map(|i| i % 3).collect(), vec![]);
        let samples = Arc::new(samples.unwrap());
        let all: Vec<PairBatch> = batches(samples.clone(), 8, 1, 0)
            .take(6)
            .map(|batch| batch.unwrap())
            .collect();
        let class = |value: &f32| *value as u32 % 3;
        let (mut apart, mut moved) = (0, 0);
        for (step, batch) in all.iter().enumerate() {
            for i in 0..batch.count {
                assert_eq!(class(&batch.first[i]), class(&batch.mate[i]));
                assert_eq!(class(&batch.other[i]), class(&batch.other_mate[i]));
                apart += u32::from(class(&batch.first[i]) != class(&batch.other[i]));
                moved += u32::from(batch.first[i] != batch.mate[i]);
            }
            let resumed = batches(samples.clone(), 8, 1, step as u64).next();
            assert_eq!(&resumed.unwrap().unwrap(), batch);
        }
        assert!(apart > 20 && moved > 35, "{apart} {moved}");
    }
}
