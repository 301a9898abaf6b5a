//! Scores of many objects with identities: HOTA, CLEAR and identity figures, as TrackEval computes them.
//!
//! What enters: for each frame the true boxes, each with its [`Role`], and the boxes found, all with identities.
//! [`Judged`] takes out what is not to be judged and keeps the overlaps; [`Hota`], [`Clear`] and [`Identity`] are
//! computed from it, [`MultiScore`] holds all three, of one sequence or of several taken together. [`text`] reads the
//! lines of KITTI and MOTChallenge.
//!
//! ```
//! use roadhound_shared::metrics::ScoreBox;
//! use roadhound_shared::metrics::multi::{Found, Judged, JudgingRule, MultiScore, Role, Truth};
//!
//! let place = ScoreBox::new(10.0, 10.0, 40.0, 30.0);
//! let mut judged = Judged::new(JudgingRule::default());
//! for frame in 0..10 {
//!     let truth = [Truth { identity: 7, box_in_image: place, role: Role::Counted }];
//!     // Half-way, the object is taken for another one.
//!     let found = [Found { identity: if frame < 5 { 1 } else { 2 }, box_in_image: place }];
//!     judged.add_frame(&truth, &found)?;
//! }
//! let score = MultiScore::of(&judged);
//! assert_eq!((score.clear.switches, score.identity.f1()), (1, 0.5));
//! assert_eq!((score.hota.detection(), score.hota.association()), (1.0, 0.5));
//! # Ok::<(), roadhound_shared::metrics::multi::MultiError>(())
//! ```

mod clear;
mod hota;
mod identity;
mod judged;
pub mod text;

pub use clear::{Clear, ClearRule};
pub use hota::{ALPHAS, Hota, alpha};
pub use identity::Identity;
pub use judged::{Found, Judged, JudgingRule, MultiError, Role, Truth};

/// Overlap from which a found box is the true one, in CLEAR and identity figures and in what is spared.
pub const MATCH_FROM_IOU: f64 = 0.5;

/// Overlaps within this of a threshold reach it, as in TrackEval.
const EPSILON: f64 = f64::EPSILON;

/// All figures of one sequence, or of several taken together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MultiScore {
    /// Frames of the sequence.
    pub frames: u64,
    /// True boxes that had to be found.
    pub truth_boxes: u64,
    /// Found boxes that were judged.
    pub found_boxes: u64,
    /// Identities among the true boxes.
    pub truth_identities: u64,
    /// Identities among the found boxes.
    pub found_identities: u64,
    /// Detection and association alike (Luiten et al., IJCV 2021).
    pub hota: Hota,
    /// Counts of matches, misses, false alarms and switches (Bernardin and Stiefelhagen, 2008).
    pub clear: Clear,
    /// One found identity for each true one (Ristani et al., ECCV workshops 2016).
    pub identity: Identity,
}

impl MultiScore {
    /// All figures of one sequence.
    #[must_use]
    pub fn of(judged: &Judged) -> Self {
        Self {
            frames: judged.frames.len() as u64,
            truth_boxes: judged.truth_boxes(),
            found_boxes: judged.found_boxes(),
            truth_identities: judged.truth_sizes.len() as u64,
            found_identities: judged.found_sizes.len() as u64,
            hota: Hota::of(judged),
            clear: Clear::of(judged, ClearRule::TrackEval),
            identity: Identity::of(judged),
        }
    }

    /// Several sequences taken together: counts are summed, association is weighted by true positives.
    #[must_use]
    pub fn combined(scores: &[Self]) -> Self {
        let sum = |count: fn(&Self) -> u64| scores.iter().map(count).sum();
        Self {
            frames: sum(|s| s.frames),
            truth_boxes: sum(|s| s.truth_boxes),
            found_boxes: sum(|s| s.found_boxes),
            truth_identities: sum(|s| s.truth_identities),
            found_identities: sum(|s| s.found_identities),
            hota: Hota::combined(scores.iter().map(|s| &s.hota)),
            clear: Clear::combined(scores.iter().map(|s| &s.clear)),
            identity: Identity::combined(scores.iter().map(|s| &s.identity)),
        }
    }
}

/// A share of a count; nothing out of nothing is nothing.
fn share(part: f64, whole: f64) -> f64 {
    part / whole.max(1.0)
}

#[cfg(test)]
mod tests;
