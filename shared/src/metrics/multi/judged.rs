//! What is judged: true boxes that only spare others are taken out, together with what found them.
//!
//! In: the boxes of one frame after the other. Out: [`Judged`], with identities numbered from 0 and the overlap of every
//! true with every found box. The steps are TrackEval's; KITTI and MOTChallenge differ in the roles that
//! [`text`](super::text) gives their boxes, and in the [`JudgingRule`].

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::{EPSILON, MATCH_FROM_IOU};
use crate::assignment::Assigner;
use crate::metrics::ScoreBox;

/// What a true box counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has to be found.
    Counted,
    /// Whoever finds it is neither right nor wrong: KITTI's vans and truncated cars, MOTChallenge's distractors.
    Spared,
    /// It need not be found, and what finds it is a false alarm: MOTChallenge's cars. It takes part in the matching that
    /// says what is spared, and keeps others from being so.
    Bystander,
    /// An area in which nothing was annotated: what matches nothing and lies in it by more than half is not judged.
    Region,
}

/// A true box of one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Whose box it is.
    pub identity: i64,
    /// Where.
    pub box_in_image: ScoreBox,
    /// What it counts for.
    pub role: Role,
}

/// A found box of one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Whose box it is said to be.
    pub identity: i64,
    /// Where.
    pub box_in_image: ScoreBox,
}

/// Which found boxes are too small to be wrong. A box that matches something is judged whatever its size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JudgingRule {
    /// Boxes that match nothing and are not wider are left out.
    pub unmatched_wider_than_px: Option<f64>,
    /// Boxes that match nothing and are not higher are left out.
    pub unmatched_higher_than_px: Option<f64>,
}

/// Frames that cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultiError {
    /// An identity is in two places at once.
    #[error("frame {frame} has {whose} identity {identity} twice")]
    Twice {
        /// Which frame, from 0.
        frame: usize,
        /// `true` or `found`.
        whose: &'static str,
        /// Which identity.
        identity: i64,
    },
    /// A coordinate is infinite or not a number.
    #[error("frame {frame} has a {whose} box of identity {identity} that is not finite")]
    NotFinite {
        /// Which frame, from 0.
        frame: usize,
        /// `true` or `found`.
        whose: &'static str,
        /// Which identity.
        identity: i64,
    },
}

/// A sequence, ready to be scored.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    rule: JudgingRule,
    pub(super) frames: Vec<JudgedFrame>,
    truth_numbers: BTreeMap<i64, u32>,
    found_numbers: BTreeMap<i64, u32>,
    /// Boxes of each identity.
    pub(super) truth_sizes: Vec<u32>,
    pub(super) found_sizes: Vec<u32>,
    assigner: Assigner,
}

/// One frame of it.
#[derive(Clone, Debug, Default)]
pub(super) struct JudgedFrame {
    /// Numbers of the identities, from 0 in order of their first box.
    pub(super) truth: Vec<u32>,
    pub(super) found: Vec<u32>,
    /// IoU, `[truth, found]`, row by row.
    pub(super) overlaps: Vec<f64>,
}

impl JudgedFrame {
    pub(super) fn overlap(&self, truth: usize, found: usize) -> f64 {
        self.overlaps[truth * self.found.len() + found]
    }
}

impl Judged {
    /// A sequence without frames yet.
    #[must_use]
    pub fn new(rule: JudgingRule) -> Self {
        Self {
            rule,
            ..Self::default()
        }
    }

    /// True boxes that have to be found.
    #[must_use]
    pub fn truth_boxes(&self) -> u64 {
        self.truth_sizes.iter().map(|&n| u64::from(n)).sum()
    }

    /// Found boxes that are judged.
    #[must_use]
    pub fn found_boxes(&self) -> u64 {
        self.found_sizes.iter().map(|&n| u64::from(n)).sum()
    }

    /// Adds the next frame. One without any boxes is a frame as well.
    ///
    /// # Errors
    /// An identity that is there twice among what is judged, or a box that is not finite.
    pub fn add_frame(&mut self, truth: &[Truth], found: &[Found]) -> Result<(), MultiError> {
        let frame = self.frames.len();
        let boxes = truth.iter().map(|t| ("true", t.identity, &t.box_in_image));
        let boxes = boxes.chain(found.iter().map(|f| ("found", f.identity, &f.box_in_image)));
        for (whose, identity, b) in boxes {
            if ![b.x_px, b.y_px, b.w_px, b.h_px]
                .iter()
                .all(|v| v.is_finite())
            {
                return Err(MultiError::NotFinite {
                    frame,
                    whose,
                    identity,
                });
            }
        }
        let spared = self.spared(truth, found);
        let counted: Vec<&Truth> = truth.iter().filter(|t| t.role == Role::Counted).collect();
        let kept: Vec<&Found> = found
            .iter()
            .zip(&spared)
            .filter_map(|(f, spared)| (!spared).then_some(f))
            .collect();
        for (whose, mut identities) in [
            ("true", counted.iter().map(|t| t.identity).collect()),
            ("found", kept.iter().map(|f| f.identity).collect::<Vec<_>>()),
        ] {
            identities.sort_unstable();
            if let Some(pair) = identities.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(MultiError::Twice {
                    frame,
                    whose,
                    identity: pair[0],
                });
            }
        }
        let overlaps = counted
            .iter()
            .flat_map(|t| kept.iter().map(|f| t.box_in_image.iou(&f.box_in_image)))
            .collect();
        let numbers = &mut self.truth_numbers;
        let sizes = &mut self.truth_sizes;
        let truth = counted
            .iter()
            .map(|t| number(numbers, sizes, t.identity))
            .collect();
        let (numbers, sizes) = (&mut self.found_numbers, &mut self.found_sizes);
        let found = kept
            .iter()
            .map(|f| number(numbers, sizes, f.identity))
            .collect();
        self.frames.push(JudgedFrame {
            truth,
            found,
            overlaps,
        });
        Ok(())
    }

    /// Which of the found boxes are not judged.
    fn spared(&mut self, truth: &[Truth], found: &[Found]) -> Vec<bool> {
        let matchable: Vec<&Truth> = truth.iter().filter(|t| t.role != Role::Region).collect();
        let mut spared = vec![false; found.len()];
        let mut matched = vec![false; found.len()];
        let scores: Vec<f64> = matchable
            .iter()
            .flat_map(|t| {
                found.iter().map(|f| {
                    let iou = t.box_in_image.iou(&f.box_in_image);
                    if iou < MATCH_FROM_IOU - EPSILON {
                        0.0
                    } else {
                        -iou
                    }
                })
            })
            .collect();
        // The table is of the right size, and overlaps are finite.
        let pairs = self
            .assigner
            .solve(&scores, matchable.len(), found.len())
            .unwrap_or(&[]);
        for (row, column) in pairs.iter().enumerate() {
            let Some(column) = column.map(|c| c as usize) else {
                continue;
            };
            if scores[row * found.len() + column] < -EPSILON {
                matched[column] = true;
                spared[column] = matchable[row].role == Role::Spared;
            }
        }
        for ((f, matched), spared) in found.iter().zip(matched).zip(&mut spared) {
            let b = &f.box_in_image;
            if !matched {
                let small =
                    |side: f64, least: Option<f64>| least.is_some_and(|l| side <= l + EPSILON);
                *spared = small(b.w_px, self.rule.unmatched_wider_than_px)
                    || small(b.h_px, self.rule.unmatched_higher_than_px)
                    || truth.iter().any(|t| {
                        t.role == Role::Region && share_within(b, &t.box_in_image) > 0.5 + EPSILON
                    });
            }
        }
        spared
    }
}

/// The number of an identity, which gets one more box.
fn number(numbers: &mut BTreeMap<i64, u32>, sizes: &mut Vec<u32>, identity: i64) -> u32 {
    let number = *numbers.entry(identity).or_insert(sizes.len() as u32);
    if number as usize == sizes.len() {
        sizes.push(0);
    }
    sizes[number as usize] += 1;
    number
}

/// How much of a box lies in another.
fn share_within(b: &ScoreBox, region: &ScoreBox) -> f64 {
    let w = (b.x_px + b.w_px).min(region.x_px + region.w_px) - b.x_px.max(region.x_px);
    let h = (b.y_px + b.h_px).min(region.y_px + region.h_px) - b.y_px.max(region.y_px);
    let area = b.w_px * b.h_px;
    if area > EPSILON {
        w.max(0.0) * h.max(0.0) / area
    } else {
        0.0
    }
}
