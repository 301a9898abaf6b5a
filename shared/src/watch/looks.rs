//! How alike two road users look: the cosine of their embeddings, or a distance that was learned.
//!
//! In: embeddings. Out: their likeness, 1 for the same and 0 for what has nothing to do with each other.
//!
//! A learned distance is Mahalanobis' (`d^2 = (x - y)^T M (x - y)` with `M = L L^T`): [`LooksMetric`] holds `L^T`, scaled so
//! that `d = 1` is its gate, and every embedding is brought to its point once, where Euclid's distance is the learned one.
//! A network's embeddings are learned for cosines; what the camera, its speed and the weather do to somebody from one look
//! to the next is not the same in all directions, which `M` knows.
//!
//! ```
//! use roadhound_shared::watch::LooksMetric;
//! // The second number is noise.
//! let metric = LooksMetric { rows: vec![vec![2.0, 0.0]] };
//! metric.validate(2)?;
//! let (mut a, mut b) = ([0.0], [0.0]);
//! metric.point(&[0.6, 0.8], &mut a);
//! metric.point(&[0.6, -0.8], &mut b);
//! assert_eq!(a, b);
//! # Ok::<(), roadhound_shared::contract::ContractError>(())
//! ```

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Detection;
use crate::contract::{ContractError, wrong};

/// A learned distance between embeddings; the table `[propose.looks]` of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LooksMetric {
    /// `L^T`, `[components, embedding]`: embeddings are at unit norm before it, and distances of 1 are at the gate after it.
    pub rows: Vec<Vec<f32>>,
}

/// Values may be no larger: a direction in which a thousandth tells people apart.
const LARGEST: f32 = 1e4;

impl LooksMetric {
    /// Checks it against the length of embeddings.
    ///
    /// # Errors
    /// No rows, more rows than numbers, a row of another length, or a value that cannot be.
    pub fn validate(&self, embedding_size: usize) -> Result<(), ContractError> {
        let key = "propose.looks.rows";
        if !(1..=embedding_size).contains(&self.rows.len()) {
            let found = format!("{} rows", self.rows.len());
            return Err(wrong(key, found, "expected 1 to embedding_size of them"));
        }
        for row in &self.rows {
            if row.len() != embedding_size {
                let found = format!("a row of {}", row.len());
                return Err(wrong(key, found, "expected embedding_size numbers in each"));
            }
            if let Some(value) = row.iter().find(|v| v.is_nan() || v.abs() > LARGEST) {
                return Err(wrong(key, value, "expected numbers of -1e4 to 1e4"));
            }
        }
        Ok(())
    }

    /// Numbers of a point.
    pub fn components(&self) -> usize {
        self.rows.len()
    }

    /// Where an embedding lies.
    ///
    /// # Shapes
    /// `embedding`: as many numbers as a row has; `point`: [`LooksMetric::components`].
    pub fn point(&self, embedding: &[f32], point: &mut [f32]) {
        for (value, row) in point.iter_mut().zip(&self.rows) {
            *value = dot(row, embedding);
        }
    }
}

/// What detections look like, of one look after the other. All memory is taken when it is made.
#[derive(Clone, Debug)]
pub(super) struct Gallery {
    metric: Option<LooksMetric>,
    /// By detection: the numbers that are compared, and whether there are any.
    points: Vec<f32>,
    scales: Vec<Option<f32>>,
    length: usize,
}

/// What one detection looks like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks<'a> {
    numbers: &'a [f32],
    /// What brings the numbers to those that are compared.
    scale: f32,
    learned: bool,
}

impl Gallery {
    pub(super) fn new(metric: Option<LooksMetric>, embedding: usize, detections: usize) -> Self {
        let length = metric.as_ref().map_or(embedding, LooksMetric::components);
        let kept = if metric.is_some() {
            detections * length
        } else {
            0
        };
        Self {
            metric,
            points: vec![0.0; kept],
            scales: Vec::with_capacity(detections),
            length,
        }
    }

    /// Numbers of what is compared.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn clear(&mut self) {
        self.scales.clear();
    }

    /// Takes the next detection in.
    pub(super) fn add(&mut self, d: &Detection<'_>) {
        let scale = unit_scale(d.embedding);
        if let (Some(metric), Some(scale)) = (&self.metric, scale) {
            let at = self.scales.len() * self.length;
            let point = &mut self.points[at..at + self.length];
            metric.point(d.embedding, point);
            for value in point {
                *value *= scale;
            }
        }
        self.scales.push(scale);
    }

    /// What the detection of a number looks like; `None` where nobody told.
    pub(super) fn of<'a>(&'a self, at: usize, d: &Detection<'a>) -> Option<Looks<'a>> {
        let scale = self.scales[at]?;
        Some(match self.metric {
            Some(_) => Looks {
                numbers: &self.points[at * self.length..][..self.length],
                scale: 1.0,
                learned: true,
            },
            None => Looks {
                numbers: d.embedding,
                scale,
                learned: false,
            },
        })
    }
}

impl Looks<'_> {
    /// 1 for the same. A cosine; or 1 less the squared distance, which is below 0 beyond the gate.
    pub(super) fn likeness(&self, known: &[f32]) -> f32 {
        match self.learned {
            false => self.scale * dot(known, self.numbers),
            true => 1.0 - squared_distance(known, self.numbers),
        }
    }

    /// Somebody who is less alike is somebody else: `cosine`, or the gate.
    pub(super) fn least(&self, cosine: f32) -> f32 {
        if self.learned { 0.0 } else { cosine }
    }

    /// Moves what is known towards it by a share.
    pub(super) fn teach(&self, known: &mut [f32], share: f32) {
        for (mine, theirs) in known.iter_mut().zip(self.numbers) {
            *mine += share * (theirs * self.scale - *mine);
        }
        if self.learned {
            return;
        }
        let norm = libm::sqrtf(dot(known, known)).max(1e-6);
        for value in known {
            *value /= norm;
        }
    }
}

/// One over the norm; `None` for nothing, zeros, and what is not finite.
fn unit_scale(embedding: &[f32]) -> Option<f32> {
    let scale = 1.0 / libm::sqrtf(dot(embedding, embedding));
    (scale.is_finite() && scale > 0.0).then_some(scale)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_of(a, b, |a, b| a * b)
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    sum_of(a, b, |a, b| (a - b) * (a - b))
}

/// Eight sums side by side, which the processor adds at once.
fn sum_of(a: &[f32], b: &[f32], of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a_parts, b_parts) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_parts
        .remainder()
        .iter()
        .zip(b_parts.remainder())
        .map(|(a, b)| of(*a, *b))
        .sum();
    for (a, b) in a_parts.zip(b_parts) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += of(*a, *b);
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::string::ToString;

    use super::*;
    use crate::geometry::BoxXywh;
    use crate::propose::RoadUser;

    fn seen(embedding: &[f32]) -> Detection<'_> {
        Detection {
            box_in_image: BoxXywh::new(0.0, 0.0, 1.0, 1.0),
            score: 0.9,
            kind: RoadUser::Car,
            embedding,
        }
    }

    #[test]
    fn rows_that_do_not_fit_embeddings_are_refused_by_their_key() {
        let said = |rows: Vec<Vec<f32>>| LooksMetric { rows }.validate(2).unwrap_err().to_string();
        for (rows, part) in [
            (vec![], "0 rows"),
            (vec![vec![1.0, 0.0]; 3], "3 rows"),
            (vec![vec![1.0]], "a row of 1"),
            (vec![vec![1.0, f32::NAN]], "NaN"),
            (vec![vec![2e4, 0.0]], "20000"),
        ] {
            let said = said(rows);
            assert!(
                said.contains("propose.looks.rows") && said.contains(part),
                "{said}"
            );
        }
    }

    /// With the identity over the square root of two, 1 - d^2 is the cosine.
    #[test]
    fn the_identity_is_the_cosine_and_lengths_do_not_count() {
        let half = core::f32::consts::FRAC_1_SQRT_2;
        let identity = LooksMetric {
            rows: vec![vec![half, 0.0], vec![0.0, half]],
        };
        let embeddings = [[3.0, 4.0], [0.5, -0.1]];
        let found = embeddings.each_ref().map(|e| seen(e));
        let likeness = |metric: Option<LooksMetric>| {
            let mut gallery = Gallery::new(metric, 2, 4);
            for d in &found {
                gallery.add(d);
            }
            let mut known = vec![0.0; gallery.length()];
            gallery.of(0, &found[0]).unwrap().teach(&mut known, 1.0);
            gallery.of(1, &found[1]).unwrap().likeness(&known)
        };
        let (cosine, learned) = (likeness(None), likeness(Some(identity)));
        assert!((cosine - learned).abs() < 1e-6, "{cosine} {learned}");
    }

    #[test]
    fn what_nobody_told_looks_like_nothing() {
        let metric = LooksMetric {
            rows: vec![vec![1.0, 0.0]],
        };
        for metric in [None, Some(metric)] {
            let mut gallery = Gallery::new(metric, 2, 4);
            for embedding in [&[][..], &[0.0, 0.0], &[f32::NAN, 1.0]] {
                gallery.clear();
                gallery.add(&seen(embedding));
                assert!(gallery.of(0, &seen(embedding)).is_none(), "{embedding:?}");
            }
        }
    }
}
