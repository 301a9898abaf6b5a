//! By what made samples are scored: a ring whose modes are known, or a classifier that was taught on real samples.

use candle_core::Device;

use crate::gan::GanRun;
use crate::gan::coverage::RingConfig;
use crate::gap::frechet::Moments;
use crate::labelled::Samples;
use crate::model::stack::StackError;
use crate::probe::Probe;

const JUDGE_SEED: u64 = 0;

/// By what made samples are scored.
pub enum Judge {
    /// The modes are known.
    Ring {
        /// Where they are.
        ring: RingConfig,
        /// Moments of real points.
        real: Moments,
    },
    /// A classifier says what samples show.
    Classifier {
        /// It.
        probe: Box<Probe>,
        /// Classes that it finds in real held-out samples.
        real_classes: Vec<u32>,
        /// Moments of its features of them.
        real: Moments,
        /// Its accuracy on them.
        accuracy: f64,
        /// The Frechet distance of real samples that it was not taught on, as many as are made where there are four times as many.
        null: f64,
    },
}

impl Judge {
    /// One who knows the ring.
    pub fn of_ring(ring: &RingConfig, held_out: &Samples) -> Self {
        Self::Ring {
            ring: ring.clone(),
            real: Moments::of(&rows_of(&held_out.rows(0..held_out.len()), 2)),
        }
    }

    /// One who is taught on labelled samples, the same for every seed of a run: else the medians of several would be of distances in
    /// several spaces of features.
    ///
    /// # Errors
    /// Samples that the judge's network cannot take.
    pub fn taught(
        run: &GanRun,
        train: &Samples,
        held_out: &Samples,
        device: &Device,
    ) -> std::result::Result<Self, StackError> {
        // The last samples are kept from the lessons. What a judge was taught on lies nearer together in its features than what it
        // never saw, and there is nothing else to compare made samples with.
        let kept = run.evaluate.samples.min(train.len() / 4);
        let taught = train.len() - kept;
        let probe = Probe::taught(
            &run.evaluate.judge,
            train.shape(),
            &train.rows(0..taught),
            &train.labels()[..taught],
            train.class_count(),
            JUDGE_SEED,
            device,
        )?;
        let rows = held_out.rows(0..held_out.len());
        let real = Moments::of(&probe.features_of(&rows)?);
        let others = train.rows(taught..train.len());
        let null = Moments::of(&probe.features_of(&others)?).distance(&real);
        Ok(Self::Classifier {
            real_classes: probe.classes_of(&rows)?,
            accuracy: probe.accuracy(&rows, held_out.labels())?,
            real,
            null,
            probe: Box::new(probe),
        })
    }
}

/// Rows of so many values.
pub(super) fn rows_of(values: &[f32], length: usize) -> Vec<Vec<f64>> {
    let row = |row: &[f32]| row.iter().map(|v| f64::from(*v)).collect();
    values.chunks(length).map(row).collect()
}
