//! Sets S of similar and D of dissimilar pairs: what is known where classes are not.
//!
//! In: a CSV file `a,b,similar` (numbers of samples from 0, and 0 or 1), or classes to draw pairs from. Out: [`PairSets`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const HEADER: &str = "a,b,similar";

/// Why pairs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    /// The operating system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// A line is not what it should be.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Classes that no pairs can be drawn from.
    #[error("pairs need a class of two samples and another class")]
    Classes,
}

/// Pairs by the numbers of their samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairSets {
    /// S: should be close.
    pub similar: Vec<(usize, usize)>,
    /// D: should be far apart.
    pub dissimilar: Vec<(usize, usize)>,
}

impl PairSets {
    /// Draws `count` pairs of each kind.
    ///
    /// # Errors
    /// Fewer than two classes, or no class of two samples.
    pub fn of_labels(labels: &[u32], count: usize, seed: u64) -> Result<Self, PairsError> {
        let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, label) in labels.iter().enumerate() {
            classes.entry(*label).or_default().push(index);
        }
        let with_mates: Vec<usize> = classes
            .values()
            .filter(|members| members.len() > 1)
            .flatten()
            .copied()
            .collect();
        if classes.len() < 2 || with_mates.is_empty() {
            return Err(PairsError::Classes);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut sets = Self::default();
        for _ in 0..count {
            let a = with_mates[rng.random_range(0..with_mates.len())];
            let mates = &classes[&labels[a]];
            let b = loop {
                let b = mates[rng.random_range(0..mates.len())];
                if b != a {
                    break b;
                }
            };
            sets.similar.push((a, b));
            let c = rng.random_range(0..labels.len());
            let others = labels.len() - classes[&labels[c]].len();
            let pick = rng.random_range(0..others);
            let mut foreign = (0..labels.len()).filter(|d| labels[*d] != labels[c]);
            if let Some(d) = foreign.nth(pick) {
                sets.dissimilar.push((c, d));
            }
        }
        Ok(sets)
    }

    /// Reads a file of pairs of `count` samples.
    ///
    /// # Errors
    /// A file that cannot be read, or the line that is not what it should be.
    pub fn read(path: &Path, count: usize) -> Result<Self, PairsError> {
        let text = std::fs::read_to_string(path).map_err(|reason| PairsError::Io {
            path: path.to_owned(),
            reason,
        })?;
        Self::parse(path, &text, count)
    }

    /// Reads the text of such a file; `path` is what errors name.
    ///
    /// # Errors
    /// Those of [`PairSets::read`].
    pub fn parse(path: &Path, text: &str, count: usize) -> Result<Self, PairsError> {
        let mut sets = Self::default();
        for (index, line) in text.lines().enumerate() {
            let wrong = |reason: String| PairsError::Line {
                path: path.to_owned(),
                line: index + 1,
                reason,
            };
            if index == 0 {
                if line.trim() != HEADER {
                    return Err(wrong(format!("header is {line:?}, expected {HEADER:?}")));
                }
                continue;
            }
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let &[a, b, similar] = &fields[..] else {
                return Err(wrong(format!("{} fields, expected 3", fields.len())));
            };
            let sample = |field: &str| {
                let number = field.parse::<usize>().ok().filter(|n| *n < count);
                number.ok_or_else(|| {
                    wrong(format!(
                        "{field:?} is not the number of one of {count} samples"
                    ))
                })
            };
            let pair = (sample(a)?, sample(b)?);
            if pair.0 == pair.1 {
                return Err(wrong(format!("sample {} with itself", pair.0)));
            }
            match similar {
                "1" => sets.similar.push(pair),
                "0" => sets.dissimilar.push(pair),
                other => return Err(wrong(format!("similar is {other:?}, expected 0 or 1"))),
            }
        }
        Ok(sets)
    }

    /// The pairs whose samples are both among `chosen`, by their places there.
    #[must_use]
    pub fn among(&self, chosen: &[usize]) -> Self {
        let places: BTreeMap<usize, usize> = chosen
            .iter()
            .enumerate()
            .map(|(place, index)| (*index, place))
            .collect();
        let kept = |pairs: &[(usize, usize)]| {
            let moved = pairs
                .iter()
                .filter_map(|(a, b)| Some((*places.get(a)?, *places.get(b)?)));
            moved.collect()
        };
        Self {
            similar: kept(&self.similar),
            dissimilar: kept(&self.dissimilar),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn drawn_pairs_are_what_they_are_called_and_follow_from_the_seed() {
        let labels = [0, 1, 0, 2, 1, 1, 2];
        let sets = PairSets::of_labels(&labels, 200, 3).unwrap();
        assert_eq!((sets.similar.len(), sets.dissimilar.len()), (200, 200));
        assert!(
            sets.similar
                .iter()
                .all(|(a, b)| a != b && labels[*a] == labels[*b])
        );
        assert!(
            sets.dissimilar
                .iter()
                .all(|(a, b)| labels[*a] != labels[*b])
        );
        assert_eq!(sets, PairSets::of_labels(&labels, 200, 3).unwrap());
        assert_ne!(sets, PairSets::of_labels(&labels, 200, 4).unwrap());
        assert!(PairSets::of_labels(&[1, 1, 1], 5, 0).is_err());
        assert!(PairSets::of_labels(&[1, 2, 3], 5, 0).is_err());
    }

    #[test]
    fn a_file_of_pairs_is_read_and_what_is_wrong_is_named() {
        let parse = |text: &str| PairSets::parse("p.csv".as_ref(), text, 4);
        let sets = parse("a,b,similar\n0,1,1\n2, 3,0\n").unwrap();
        assert_eq!(
            (sets.similar, sets.dissimilar),
            (vec![(0, 1)], vec![(2, 3)])
        );
        for (text, said) in [
            (
                "0,1,1\n",
                "p.csv:1: header is \"0,1,1\", expected \"a,b,similar\"",
            ),
            ("a,b,similar\n0,1\n", "p.csv:2: 2 fields, expected 3"),
            (
                "a,b,similar\n0,4,1\n",
                "p.csv:2: \"4\" is not the number of one of 4 samples",
            ),
            ("a,b,similar\n2,2,1\n", "p.csv:2: sample 2 with itself"),
            (
                "a,b,similar\n0,1,yes\n",
                "p.csv:2: similar is \"yes\", expected 0 or 1",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn pairs_among_some_samples_are_numbered_by_their_places() {
        let sets = PairSets {
            similar: vec![(5, 2), (2, 9)],
            dissimilar: vec![(9, 5)],
        };
        let kept = sets.among(&[9, 2, 7]);
        assert_eq!((kept.similar, kept.dissimilar), (vec![(1, 0)], vec![]));
    }
}
