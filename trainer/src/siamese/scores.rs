//! How good distances are: may two samples pass for the same (verification), and is what lies nearest of the same class
//! (retrieval)?
//!
//! In: distances, or points with classes. Out: ROC, equal error rate, recall@k, MAP@R.
//!
//! ```
//! use roadhound_trainer::siamese::scores::Verification;
//! let v = Verification::of(&[0.1, 0.2, 0.4], &[0.3, 0.8, 0.9]).unwrap();
//! assert!((v.eer - 1.0 / 3.0).abs() < 1e-9 && v.threshold >= 0.3 && v.threshold <= 0.4);
//! ```

use crate::loss::embedding::pairs::Measure;

/// Points of the curve that is kept.
const CURVE_POINTS: usize = 200;

/// Two samples pass for the same where their distance is at most a threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Probability that a similar pair is closer than a dissimilar one; ties count half.
    pub auc: f64,
    /// Rate at which false accepts and false rejects are equally frequent.
    pub eer: f64,
    /// The distance at which they are.
    pub threshold: f64,
    /// Share of similar pairs that is accepted where one dissimilar pair in a hundred is.
    pub accepted_at_one_percent: f64,
    /// `(false accepts, true accepts)` as shares, from (0, 0) to (1, 1).
    pub curve: Vec<(f64, f64)>,
}

impl Verification {
    /// Of the distances of similar and of dissimilar pairs; `None` where one of the kinds is missing or a distance is not a
    /// number.
    pub fn of(similar: &[f32], dissimilar: &[f32]) -> Option<Self> {
        let is_nan = |d: &f32| d.is_nan();
        if similar.is_empty() || dissimilar.is_empty() {
            return None;
        }
        if similar.iter().any(is_nan) || dissimilar.iter().any(is_nan) {
            return None;
        }
        let mut all: Vec<(f32, bool)> = similar
            .iter()
            .map(|d| (*d, true))
            .chain(dissimilar.iter().map(|d| (*d, false)))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (similar, dissimilar) = (similar.len() as f64, dissimilar.len() as f64);
        let (mut true_accepts, mut false_accepts) = (0.0, 0.0);
        let mut steps = vec![(f64::from(all[0].0), 0.0, 0.0)];
        let (mut auc, mut at) = (0.0, 0);
        while at < all.len() {
            // Equal distances are accepted together.
            let (before_true, before_false) = (true_accepts, false_accepts);
            let value = all[at].0;
            while at < all.len() && all[at].0 == value {
                match all[at].1 {
                    true => true_accepts += 1.0,
                    false => false_accepts += 1.0,
                }
                at += 1;
            }
            auc += (false_accepts - before_false) * (true_accepts + before_true) / 2.0;
            steps.push((
                f64::from(value),
                false_accepts / dissimilar,
                true_accepts / similar,
            ));
        }
        // False rejects fall and false accepts rise: they meet between two steps.
        let excess = |step: &(f64, f64, f64)| step.1 - (1.0 - step.2);
        let after = steps
            .iter()
            .position(|s| excess(s) >= 0.0)
            .unwrap_or(steps.len() - 1);
        let (low, high) = (steps[after.saturating_sub(1)], steps[after]);
        let share = match excess(&high) - excess(&low) {
            gap if gap > 0.0 => -excess(&low) / gap,
            _ => 0.0,
        };
        let between = |a: f64, b: f64| a + share * (b - a);
        let accepted = steps
            .iter()
            .rev()
            .find(|s| s.1 <= 0.01)
            .map_or(0.0, |s| s.2);
        let stride = steps.len().div_ceil(CURVE_POINTS).max(1);
        let mut curve: Vec<(f64, f64)> = steps.iter().step_by(stride).map(|s| (s.1, s.2)).collect();
        curve.push((1.0, 1.0));
        Some(Self {
            auc: auc / (similar * dissimilar),
            eer: between(low.1, high.1),
            threshold: between(low.0, high.0),
            accepted_at_one_percent: accepted,
            curve,
        })
    }

    /// Of every two points.
    pub fn of_points(points: &[Vec<f32>], labels: &[u32], measure: Measure) -> Option<Self> {
        let (similar, dissimilar) = pair_distances(points, labels, measure);
        Self::of(&similar, &dissimilar)
    }
}

/// Distances of all pairs, similar and dissimilar.
pub fn pair_distances(
    points: &[Vec<f32>],
    labels: &[u32],
    measure: Measure,
) -> (Vec<f32>, Vec<f32>) {
    let (mut similar, mut dissimilar) = (Vec::new(), Vec::new());
    for a in 0..points.len() {
        for b in a + 1..points.len() {
            let distance = measure.between(&points[a], &points[b]);
            match labels[a] == labels[b] {
                true => similar.push(distance),
                false => dissimilar.push(distance),
            }
        }
    }
    (similar, dissimilar)
}

/// Every point asks for its neighbours among the others; only points that have a mate ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrieval {
    /// `(k, share of points with a mate among the k nearest)`.
    pub recall_at: Vec<(usize, f64)>,
    /// Mean average precision at R, the number of mates (Musgrave et al. 2020).
    pub map_at_r: f64,
}

impl Retrieval {
    /// Of points with classes; `ks` rising.
    pub fn of(points: &[Vec<f32>], labels: &[u32], measure: Measure, ks: &[usize]) -> Self {
        let mut found = vec![0.0; ks.len()];
        let (mut precision, mut queries) = (0.0, 0.0);
        for (a, point) in points.iter().enumerate() {
            let mates = labels.iter().filter(|l| **l == labels[a]).count() - 1;
            if mates == 0 {
                continue;
            }
            let mut near: Vec<(f32, usize)> = (0..points.len())
                .filter(|b| *b != a)
                .map(|b| (measure.between(point, &points[b]), b))
                .collect();
            let wanted = mates.max(ks.last().copied().unwrap_or(1)).min(near.len());
            let order =
                |x: &(f32, usize), y: &(f32, usize)| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1));
            if wanted < near.len() {
                near.select_nth_unstable_by(wanted - 1, order);
                near.truncate(wanted);
            }
            near.sort_by(order);
            let is_mate = |rank: usize| labels[near[rank].1] == labels[a];
            let first = (0..near.len()).find(|rank| is_mate(*rank));
            for (count, k) in found.iter_mut().zip(ks) {
                *count += f64::from(u8::from(first.is_some_and(|first| first < *k)));
            }
            let (mut right, mut sum) = (0.0, 0.0);
            for rank in 0..mates.min(near.len()) {
                if is_mate(rank) {
                    right += 1.0;
                    sum += right / (rank + 1) as f64;
                }
            }
            precision += sum / mates as f64;
            queries += 1.0;
        }
        let queries = f64::max(queries, 1.0);
        Self {
            recall_at: ks
                .iter()
                .copied()
                .zip(found.iter().map(|f| f / queries))
                .collect(),
            map_at_r: precision / queries,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pairs_that_are_told_apart_have_no_error_and_mixed_ones_one_half() {
        let apart = Verification::of(&[0.1, 0.2], &[0.5, 0.6]).unwrap();
        assert_eq!((apart.auc, apart.eer), (1.0, 0.0));
        assert!((0.2..=0.5).contains(&apart.threshold));
        let same: Vec<f32> = (0..100).map(|i| i as f32).collect();
        let mixed = Verification::of(&same, &same).unwrap();
        assert!((mixed.auc - 0.5).abs() < 1e-9 && (mixed.eer - 0.5).abs() < 0.011);
        let reversed = Verification::of(&[0.5, 0.6], &[0.1, 0.2]).unwrap();
        assert_eq!((reversed.auc, reversed.eer), (0.0, 1.0));
        assert_eq!(Verification::of(&[], &[1.0]), None);
        assert_eq!(Verification::of(&[f32::NAN], &[1.0]), None);
    }

    #[test]
    fn the_area_is_the_probability_that_a_similar_pair_is_closer() {
        // Of the six pairs of pairs: 0.1 < both, 0.4 < 0.9 only, 0.4 = 0.4 counts half, 0.9 = 0.9 half.
        let v = Verification::of(&[0.1, 0.4, 0.9], &[0.4, 0.9]).unwrap();
        assert!(
            (v.auc - (2.0 + 0.5 + 1.0 + 0.5) / 6.0).abs() < 1e-9,
            "{}",
            v.auc
        );
        assert_eq!(v.curve.first(), Some(&(0.0, 0.0)));
        assert_eq!(v.curve.last(), Some(&(1.0, 1.0)));
        assert!(
            v.curve
                .windows(2)
                .all(|w| w[0].0 <= w[1].0 && w[0].1 <= w[1].1)
        );
    }

    #[test]
    fn retrieval_by_hand() {
        // On a line: A at 0, 1, 5; B at 2, 2.4. Neighbours of A0: 1A 2B 2.4B 5A; R = 2: precision (1 + 0) / 2.
        // A1: 2B 0A ...; equal distances by number: A0 (index 0) before B: right at rank 1, then wrong: 1 / 2.
        // A5: 2.4B 2B 1A: nothing in two. B2: 2.4 first: 1. B2.4: 2 first: 1.
        let points: Vec<Vec<f32>> = [0.0, 1.0, 5.0, 2.0, 2.4].iter().map(|x| vec![*x]).collect();
        let labels = [0, 0, 0, 1, 1];
        let r = Retrieval::of(&points, &labels, Measure::Euclid, &[1, 3]);
        assert!((r.map_at_r - (0.5 + 0.5 + 0.0 + 1.0 + 1.0) / 5.0).abs() < 1e-9);
        assert_eq!(r.recall_at, [(1, 0.8), (3, 1.0)]);
    }

    #[test]
    fn points_without_a_mate_do_not_ask() {
        let points = vec![vec![0.0], vec![1.0], vec![1.5]];
        let r = Retrieval::of(&points, &[0, 1, 1], Measure::CityBlock, &[1]);
        assert_eq!((r.recall_at[0].1, r.map_at_r), (1.0, 1.0));
    }
}
