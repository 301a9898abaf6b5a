//! Identity figures: every true identity is given at most one found identity, so that as many boxes as can be are theirs.
//!
//! In: a [`Judged`] sequence. Out: counts, from which IDF1, IDP and IDR. Ristani et al., "Performance Measures and a Data
//! Set for Multi-Target, Multi-Camera Tracking", ECCV workshops 2016.

use alloc::vec;

use super::{Judged, MATCH_FROM_IOU, share};
use crate::assignment::Assigner;

/// Boxes by whether they bear the right identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// IDTP: boxes of a true identity on which the found identity that it was given overlaps it by half.
    pub matches: u64,
    /// IDFN: the other true boxes.
    pub misses: u64,
    /// IDFP: the other found boxes.
    pub false_alarms: u64,
}

impl Identity {
    /// Scores one sequence.
    #[must_use]
    pub fn of(judged: &Judged) -> Self {
        let (rows, columns) = (judged.truth_sizes.len(), judged.found_sizes.len());
        let mut together = vec![0_f64; rows * columns];
        for frame in &judged.frames {
            for (row, &t) in frame.truth.iter().enumerate() {
                for (column, &f) in frame.found.iter().enumerate() {
                    if frame.overlap(row, column) >= MATCH_FROM_IOU {
                        together[t as usize * columns + f as usize] -= 1.0;
                    }
                }
            }
        }
        // Whoever is left alone costs all their boxes, whoever is paired all but the common ones: the best pairs are
        // those with most boxes in common.
        let mut assigner = Assigner::default();
        let pairs = assigner.solve(&together, rows, columns).unwrap_or(&[]);
        let matches = pairs
            .iter()
            .enumerate()
            .filter_map(|(row, column)| Some(-together[row * columns + (*column)? as usize]))
            .sum::<f64>() as u64;
        Self {
            matches,
            misses: judged.truth_boxes() - matches,
            false_alarms: judged.found_boxes() - matches,
        }
    }

    /// Sequences taken together: identities of different sequences are different.
    #[must_use]
    pub fn combined<'a>(scores: impl Iterator<Item = &'a Self>) -> Self {
        scores.fold(Self::default(), |all, s| Self {
            matches: all.matches + s.matches,
            misses: all.misses + s.misses,
            false_alarms: all.false_alarms + s.false_alarms,
        })
    }

    /// IDF1: twice the matches, of all boxes of either kind.
    #[must_use]
    pub fn f1(&self) -> f64 {
        let matches = self.matches as f64;
        share(
            matches,
            matches + 0.5 * self.misses as f64 + 0.5 * self.false_alarms as f64,
        )
    }

    /// IDP: share of the found boxes that bear the right identity.
    #[must_use]
    pub fn precision(&self) -> f64 {
        let matches = self.matches as f64;
        share(matches, matches + self.false_alarms as f64)
    }

    /// IDR: share of the true boxes whose identity was found.
    #[must_use]
    pub fn recall(&self) -> f64 {
        let matches = self.matches as f64;
        share(matches, matches + self.misses as f64)
    }
}
