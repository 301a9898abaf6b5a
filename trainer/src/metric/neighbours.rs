//! k nearest neighbours, and stratified folds to score them on.
//!
//! In: points with classes. Out: a class by majority, and the share that is right. Ties go to the class of the nearest
//! neighbour among those that tie.

use std::collections::BTreeMap;

use nalgebra::DMatrix;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The classes of `queries` by their `k` nearest among `points`.
///
/// # Shapes
/// - `points`: `[n, d]` with `n` labels, `queries`: `[m, d]`; returns `m` labels
pub fn classify(
    points: &DMatrix<f64>,
    labels: &[u32],
    queries: &DMatrix<f64>,
    k: usize,
) -> Vec<u32> {
    queries
        .row_iter()
        .map(|query| {
            let mut near: Vec<(f64, usize)> = points
                .row_iter()
                .enumerate()
                .map(|(i, point)| ((point - query).norm_squared(), i))
                .collect();
            near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let mut votes: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
            for (rank, (_, i)) in near.iter().take(k).enumerate() {
                let vote = votes.entry(labels[*i]).or_insert((0, rank));
                vote.0 += 1;
            }
            let winner = votes
                .into_iter()
                .max_by_key(|(_, (count, first))| (*count, usize::MAX - first));
            winner.map_or(0, |(label, _)| label)
        })
        .collect()
}

/// Share of `found` that equals `expected`.
pub fn accuracy(found: &[u32], expected: &[u32]) -> f64 {
    let right = found.iter().zip(expected).filter(|(a, b)| a == b).count();
    right as f64 / expected.len().max(1) as f64
}

/// Numbers of the samples in each of `folds` parts that hold every class in like shares: the members of each class are
/// shuffled and dealt out, going on where the last class ended, so that parts differ by one sample at most.
pub fn stratified_folds(labels: &[u32], folds: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<usize>> {
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, label) in labels.iter().enumerate() {
        classes.entry(*label).or_default().push(index);
    }
    let mut parts = vec![Vec::new(); folds.max(1)];
    let mut next = 0;
    for (_, mut members) in classes {
        members.shuffle(rng);
        for member in members {
            let count = parts.len();
            parts[next % count].push(member);
            next += 1;
        }
    }
    for part in &mut parts {
        part.sort_unstable();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_majority_wins_and_the_nearest_breaks_ties() {
        let points = DMatrix::from_row_slice(5, 1, &[0.0, 1.0, 2.0, 10.0, 11.0]);
        let labels = [7, 7, 3, 3, 3];
        let classify =
            |q: f64, k| super::classify(&points, &labels, &DMatrix::from_element(1, 1, q), k)[0];
        assert_eq!(classify(0.1, 1), 7);
        assert_eq!(classify(1.2, 3), 7);
        assert_eq!(classify(1.6, 2), 3, "one vote each: the nearer one");
        assert_eq!(classify(1.4, 2), 7, "one vote each: the nearer one");
        assert_eq!(classify(0.0, 5), 3, "three against two");
    }

    #[test]
    fn folds_hold_every_sample_once_and_every_class_in_like_shares() {
        let labels: Vec<u32> = (0..103)
            .map(|i| u32::from(i >= 30) + u32::from(i >= 90))
            .collect();
        let folds = stratified_folds(&labels, 10, &mut ChaCha8Rng::seed_from_u64(1));
        let mut all: Vec<usize> = folds.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
        for fold in &folds {
            let of = |class: u32| fold.iter().filter(|i| labels[**i] == class).count();
            assert!((10..=11).contains(&fold.len()));
            assert!(of(0) == 3 && of(1) == 6 && (1..=2).contains(&of(2)));
        }
        let again = stratified_folds(&labels, 10, &mut ChaCha8Rng::seed_from_u64(2));
        assert_ne!(folds, again);
    }
}
