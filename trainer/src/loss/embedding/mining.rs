//! Who of a batch is compared with whom.
//!
//! In: the distance of every two points, and their classes. Out: pairs or triplets by number. Plain numbers, no gradient.
//!
//! ```
//! use roadhound_trainer::loss::embedding::mining::PairMining;
//! let d = [vec![0.0, 1.0, 5.0], vec![1.0, 0.0, 2.0], vec![5.0, 2.0, 0.0]];
//! // As many dissimilar pairs as similar ones, the closest first.
//! assert_eq!(PairMining::Hard.pairs(&d, &[7, 7, 8]), [(0, 1), (1, 2)]);
//! ```

use serde::{Deserialize, Serialize};

/// Which pairs count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairMining {
    /// All.
    All,
    /// All similar ones, and as many dissimilar ones: the closest.
    Hard,
}

impl PairMining {
    /// The pairs `(a, b)` with `a < b`, similar ones first.
    pub fn pairs(self, distances: &[Vec<f32>], labels: &[u32]) -> Vec<(usize, usize)> {
        let n = labels.len();
        let every = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
        let (mut similar, mut dissimilar): (Vec<_>, Vec<_>) =
            every.partition(|(a, b)| labels[*a] == labels[*b]);
        if self == Self::Hard {
            dissimilar.sort_by(|x, y| distances[x.0][x.1].total_cmp(&distances[y.0][y.1]));
            dissimilar.truncate(similar.len());
        }
        similar.append(&mut dissimilar);
        similar
    }
}

/// Which triplets count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TripletMining {
    /// All.
    All,
    /// For each anchor and mate the closest stranger that is further than the mate, within the margin; the furthest
    /// stranger where none is (Schroff et al. 2015).
    SemiHard,
    /// For each anchor the furthest mate and the closest stranger (Hermans et al. 2017).
    Hardest,
}

impl TripletMining {
    /// Triplets `[anchor, mate, stranger]`.
    pub fn triplets(self, distances: &[Vec<f32>], labels: &[u32], margin: f32) -> Vec<[usize; 3]> {
        let n = labels.len();
        let mut triplets = Vec::new();
        for (anchor, row) in distances.iter().enumerate() {
            let mates: Vec<usize> = (0..n)
                .filter(|j| *j != anchor && labels[*j] == labels[anchor])
                .collect();
            let strangers: Vec<usize> = (0..n).filter(|j| labels[*j] != labels[anchor]).collect();
            let by_distance = |a: &usize, b: &usize| row[*a].total_cmp(&row[*b]);
            let (Some(closest), Some(furthest)) = (
                strangers.iter().copied().min_by(by_distance),
                strangers.iter().copied().max_by(by_distance),
            ) else {
                continue;
            };
            match self {
                Self::All => {
                    let every = mates.iter().flat_map(|mate| {
                        let anchor = [anchor, *mate];
                        strangers.iter().map(move |s| [anchor[0], anchor[1], *s])
                    });
                    triplets.extend(every);
                }
                Self::SemiHard => triplets.extend(mates.iter().map(|mate| {
                    let within =
                        |s: &&usize| row[**s] > row[*mate] && row[**s] < row[*mate] + margin;
                    let chosen = strangers.iter().filter(within).copied().min_by(by_distance);
                    [anchor, *mate, chosen.unwrap_or(furthest)]
                })),
                Self::Hardest => {
                    let mate = mates.iter().copied().max_by(by_distance);
                    triplets.extend(mate.map(|mate| [anchor, mate, closest]));
                }
            }
        }
        triplets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five points on a line: 0 and 1 of one class, 1.2, 1.7 and 5 of another.
    const AT: [f32; 5] = [0.0, 1.0, 1.2, 1.7, 5.0];
    const LABELS: [u32; 5] = [0, 0, 1, 1, 1];

    fn distances() -> Vec<Vec<f32>> {
        let row = |a: &f32| AT.iter().map(|b| (a - b).abs()).collect();
        AT.iter().map(row).collect()
    }

    #[test]
    fn hard_pairs_are_all_similar_ones_and_as_many_of_the_closest_dissimilar_ones() {
        let pairs = PairMining::Hard.pairs(&distances(), &LABELS);
        assert_eq!(
            pairs,
            [
                (0, 1),
                (2, 3),
                (2, 4),
                (3, 4),
                (1, 2),
                (1, 3),
                (0, 2),
                (0, 3)
            ]
        );
        assert_eq!(PairMining::All.pairs(&distances(), &LABELS).len(), 10);
    }

    #[test]
    fn a_semi_hard_stranger_is_just_beyond_the_mate() {
        let triplets = TripletMining::SemiHard.triplets(&distances(), &LABELS, 0.5);
        // Anchor 0: its mate is at 1, and of the strangers at 1.2, 1.7 and 5 the first is within 0.5 beyond it. Anchor 1:
        // the mate is at distance 1, no stranger lies between 1 and 1.5: the furthest is taken.
        assert_eq!(triplets[..2], [[0, 1, 2], [1, 0, 4]]);
    }

    #[test]
    fn the_hardest_triplet_has_the_furthest_mate_and_the_closest_stranger() {
        let triplets = TripletMining::Hardest.triplets(&distances(), &LABELS, 0.5);
        assert_eq!(
            triplets,
            [[0, 1, 2], [1, 0, 2], [2, 4, 1], [3, 4, 1], [4, 2, 1]]
        );
        assert_eq!(
            TripletMining::All
                .triplets(&distances(), &LABELS, 0.0)
                .len(),
            2 * 3 + 6 * 2
        );
        assert!(
            TripletMining::All
                .triplets(&distances(), &[1; 5], 0.0)
                .is_empty()
        );
    }
}
