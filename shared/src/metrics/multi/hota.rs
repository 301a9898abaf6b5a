//! HOTA: how well objects are found and how well they are told apart, at nineteen demands on the overlap.
//!
//! In: a [`Judged`] sequence. Out: counts and association figures at each [`alpha`], their means as methods. Luiten et
//! al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021; order of computation and
//! treatment of empty sequences are TrackEval's.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{EPSILON, Judged, share};
use crate::assignment::Assigner;

/// How many demands on the overlap there are.
pub const ALPHAS: usize = 19;

/// A demand on the overlap: 0.05, 0.10 .. 0.95.
#[must_use]
pub fn alpha(index: usize) -> f64 {
    // As NumPy's `arange(0.05, 0.99, 0.05)` has it, to the bit: an overlap of a round number must fall on the same side.
    0.05 + index as f64 * 0.05
}

/// Figures at each [`alpha`]. Shares are 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Hota {
    /// True boxes that were found.
    pub matches: [u64; ALPHAS],
    /// True boxes that were not.
    pub misses: [u64; ALPHAS],
    /// Found boxes that are nobody's.
    pub false_alarms: [u64; ALPHAS],
    /// AssA: mean over matches of the share of frames on which both identities match, of those with either.
    pub association: [f64; ALPHAS],
    /// AssRe: the same share, of the frames with the true identity.
    pub association_recall: [f64; ALPHAS],
    /// AssPr: the same share, of the frames with the found identity.
    pub association_precision: [f64; ALPHAS],
    /// LocA: mean overlap of matches; 1 where there is none.
    pub localisation: [f64; ALPHAS],
}

impl Default for Hota {
    /// Of a sequence without boxes.
    fn default() -> Self {
        Self {
            matches: [0; ALPHAS],
            misses: [0; ALPHAS],
            false_alarms: [0; ALPHAS],
            association: [0.0; ALPHAS],
            association_recall: [0.0; ALPHAS],
            association_precision: [0.0; ALPHAS],
            localisation: [1.0; ALPHAS],
        }
    }
}

/// Two identities that met: the true one's number, the found one's.
type Pair = (u32, u32);

impl Hota {
    /// Scores one sequence.
    #[must_use]
    pub fn of(judged: &Judged) -> Self {
        let mut hota = Self::default();
        let alignment = alignment(judged);
        let mut met: BTreeMap<Pair, [u32; ALPHAS]> = BTreeMap::new();
        let mut overlap_sums = [0.0; ALPHAS];
        let mut assigner = Assigner::default();
        let mut costs: Vec<f64> = Vec::new();
        for frame in &judged.frames {
            let (rows, columns) = (frame.truth.len(), frame.found.len());
            costs.clear();
            for (row, &t) in frame.truth.iter().enumerate() {
                costs.extend(frame.found.iter().enumerate().map(|(column, &f)| {
                    -alignment.get(&(t, f)).copied().unwrap_or(0.0) * frame.overlap(row, column)
                }));
            }
            // The table is of the right size, and overlaps are finite.
            let pairs = assigner.solve(&costs, rows, columns).unwrap_or(&[]);
            let mut matches = [0_u64; ALPHAS];
            for (row, column) in pairs.iter().enumerate() {
                let Some(column) = column.map(|c| c as usize) else {
                    continue;
                };
                let overlap = frame.overlap(row, column);
                let reached = (0..ALPHAS)
                    .take_while(|&a| overlap >= alpha(a) - EPSILON)
                    .count();
                if reached == 0 {
                    continue;
                }
                let counts = met
                    .entry((frame.truth[row], frame.found[column]))
                    .or_insert([0; ALPHAS]);
                for a in 0..reached {
                    counts[a] += 1;
                    matches[a] += 1;
                    overlap_sums[a] += overlap;
                }
            }
            for (a, matches) in matches.into_iter().enumerate() {
                hota.matches[a] += matches;
                hota.misses[a] += rows as u64 - matches;
                hota.false_alarms[a] += columns as u64 - matches;
            }
        }
        for a in 0..ALPHAS {
            let (mut whole, mut recall, mut precision) = (0.0, 0.0, 0.0);
            for ((t, f), counts) in &met {
                let both = f64::from(counts[a]);
                let with_truth = f64::from(judged.truth_sizes[*t as usize]);
                let with_found = f64::from(judged.found_sizes[*f as usize]);
                whole += both * share(both, with_truth + with_found - both);
                recall += both * share(both, with_truth);
                precision += both * share(both, with_found);
            }
            let matches = hota.matches[a] as f64;
            hota.association[a] = share(whole, matches);
            hota.association_recall[a] = share(recall, matches);
            hota.association_precision[a] = share(precision, matches);
            hota.localisation[a] = mean_overlap(overlap_sums[a], matches);
        }
        hota
    }

    /// Sequences taken together: counts are summed, the rest is weighted by matches.
    #[must_use]
    pub fn combined<'a>(scores: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let mut all = Self::default();
        for a in 0..ALPHAS {
            let (mut whole, mut recall, mut precision, mut overlaps) = (0.0, 0.0, 0.0, 0.0);
            for s in scores.clone() {
                all.matches[a] += s.matches[a];
                all.misses[a] += s.misses[a];
                all.false_alarms[a] += s.false_alarms[a];
                let weight = s.matches[a] as f64;
                whole += weight * s.association[a];
                recall += weight * s.association_recall[a];
                precision += weight * s.association_precision[a];
                overlaps += weight * s.localisation[a];
            }
            let matches = all.matches[a] as f64;
            all.association[a] = share(whole, matches);
            all.association_recall[a] = share(recall, matches);
            all.association_precision[a] = share(precision, matches);
            all.localisation[a] = mean_overlap(overlaps, matches);
        }
        all
    }

    /// DetRe at an alpha: share of the true boxes that were found.
    #[must_use]
    pub fn detection_recall_at(&self, a: usize) -> f64 {
        let found = self.matches[a] as f64;
        share(found, found + self.misses[a] as f64)
    }

    /// DetPr at an alpha: share of the found boxes that are somebody's.
    #[must_use]
    pub fn detection_precision_at(&self, a: usize) -> f64 {
        let found = self.matches[a] as f64;
        share(found, found + self.false_alarms[a] as f64)
    }

    /// DetA at an alpha: matches, of all boxes of either kind.
    #[must_use]
    pub fn detection_at(&self, a: usize) -> f64 {
        let found = self.matches[a] as f64;
        share(
            found,
            found + self.misses[a] as f64 + self.false_alarms[a] as f64,
        )
    }

    /// HOTA at an alpha: the geometric mean of DetA and AssA.
    #[must_use]
    pub fn hota_at(&self, a: usize) -> f64 {
        libm::sqrt(self.detection_at(a) * self.association[a])
    }

    /// OWTA at an alpha: the geometric mean of DetRe and AssA, where not everything is annotated.
    #[must_use]
    pub fn open_world_at(&self, a: usize) -> f64 {
        libm::sqrt(self.detection_recall_at(a) * self.association[a])
    }

    /// HOTA: the mean over all alphas.
    #[must_use]
    pub fn hota(&self) -> f64 {
        mean(|a| self.hota_at(a))
    }

    /// DetA.
    #[must_use]
    pub fn detection(&self) -> f64 {
        mean(|a| self.detection_at(a))
    }

    /// DetRe.
    #[must_use]
    pub fn detection_recall(&self) -> f64 {
        mean(|a| self.detection_recall_at(a))
    }

    /// DetPr.
    #[must_use]
    pub fn detection_precision(&self) -> f64 {
        mean(|a| self.detection_precision_at(a))
    }

    /// AssA.
    #[must_use]
    pub fn association(&self) -> f64 {
        mean(|a| self.association[a])
    }

    /// AssRe.
    #[must_use]
    pub fn association_recall(&self) -> f64 {
        mean(|a| self.association_recall[a])
    }

    /// AssPr.
    #[must_use]
    pub fn association_precision(&self) -> f64 {
        mean(|a| self.association_precision[a])
    }

    /// LocA.
    #[must_use]
    pub fn localisation(&self) -> f64 {
        mean(|a| self.localisation[a])
    }

    /// OWTA.
    #[must_use]
    pub fn open_world(&self) -> f64 {
        mean(|a| self.open_world_at(a))
    }
}

/// How well two identities go together over the whole sequence, before anybody is matched: overlaps, each divided by
/// all overlaps of the two boxes in their frame, as a share of the frames with either.
fn alignment(judged: &Judged) -> BTreeMap<Pair, f64> {
    let mut together: BTreeMap<Pair, f64> = BTreeMap::new();
    let mut by_found: Vec<f64> = Vec::new();
    for frame in &judged.frames {
        let columns = frame.found.len();
        if columns == 0 {
            continue;
        }
        by_found.clear();
        by_found.resize(columns, 0.0);
        for row in frame.overlaps.chunks_exact(columns) {
            for (sum, overlap) in by_found.iter_mut().zip(row) {
                *sum += overlap;
            }
        }
        for (row, &t) in frame.overlaps.chunks_exact(columns).zip(&frame.truth) {
            let of_truth: f64 = row.iter().sum();
            for ((&overlap, of_found), &f) in row.iter().zip(&by_found).zip(&frame.found) {
                if overlap > 0.0 {
                    *together.entry((t, f)).or_default() +=
                        overlap / (of_found + of_truth - overlap);
                }
            }
        }
    }
    for ((t, f), together) in &mut together {
        let with_truth = f64::from(judged.truth_sizes[*t as usize]);
        let with_found = f64::from(judged.found_sizes[*f as usize]);
        *together /= with_truth + with_found - *together;
    }
    together
}

/// 1 where there is no match: nothing was placed badly.
fn mean_overlap(sum: f64, matches: f64) -> f64 {
    if matches > 0.0 { sum / matches } else { 1.0 }
}

fn mean(at: impl Fn(usize) -> f64) -> f64 {
    (0..ALPHAS).map(at).sum::<f64>() / ALPHAS as f64
}
