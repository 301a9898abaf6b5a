//! The tracker's constants, searched on validation runs.
//!
//! In: a network, runs that were not trained on and are no evaluation clips, a [`space::Space`]. Out: [`search::Trial`]s and
//! how much the best of them gains ([`gain::Gain`]).
//!
//! What counts ([`RunFigures::objective`]) is the mean over runs of
//!
//! ```text
//! success AUC - false_alarm * (boxes on absent frames / absent frames) - false_lost * (lost on present frames / present frames)
//! ```
//!
//! A present frame that is called lost already counts in the AUC, as no overlap; `false_lost` is what it costs beyond
//! that. The network sees what the tracker looks at, so every trial runs it: nothing can be computed ahead, and time
//! is saved by dropping poor trials early.
//!
//! ```
//! use roadhound_trainer::tune::{RunFigures, Weights};
//! let figures = RunFigures { frames: 80, auc: 0.75, absent: 20, false_alarms: 10, false_lost: 8 };
//! let weights = Weights { false_alarm: 0.2, false_lost: 0.1 };
//! assert!((figures.objective(&weights) - (0.75 - 0.2 * 0.5 - 0.1 * 0.1)).abs() < 1e-12);
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::sequence::Run;
use crate::evaluate::Followed;

pub mod gain;
pub mod log;
pub mod looks;
pub mod scores;
pub mod search;
pub mod space;

/// Clips that models are evaluated on. Nothing is ever tuned on them.
pub const EVALUATION_CLIPS: [&str; 12] = [
    "eu_kitti_raw_queue",
    "in_kerala_a",
    "in_kerala_b",
    "otb_car4",
    "otb_carscale",
    "otb_jogging",
    "tld_pedestrian1",
    "tld_pedestrian3",
    "tlp_carchase1",
    "tlp_motorcyclechase",
    "us_carnd_test",
    "us_i280_highway",
];

/// Absent frames below which nothing speaks against never calling a target lost.
pub const ABSENT_FRAMES_NEEDED: usize = 20;

/// Tables of constants that decide when a target is lost or found again.
pub const ABSENCE_TABLES: [&str; 2] = ["presence", "reclaim"];

/// Why constants cannot be searched.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The search space cannot be used.
    #[error("search space: {0}")]
    Space(String),
    /// Somebody tries to tune on what is evaluated on.
    #[error("{path}: {clip} is an evaluation clip, and constants are never tuned on those")]
    EvaluationClip {
        /// A frame of the clip.
        path: String,
        /// The clip.
        clip: &'static str,
    },
    /// The folder holds a search with other settings.
    #[error("{path}: made with other settings ({key}); give --out another folder")]
    OtherSettings {
        /// The file that holds the settings.
        path: String,
        /// The first one that differs.
        key: String,
    },
    /// The measurements of an earlier start cannot be read.
    #[error(transparent)]
    Log(#[from] crate::report::ReportError),
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: String,
        /// The reason.
        reason: std::io::Error,
    },
}

/// What mistakes about absence cost, in units of AUC.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// A box on every absent frame.
    pub false_alarm: f64,
    /// "Lost" on every present frame, beyond the overlap that is missed.
    pub false_lost: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            false_alarm: 0.2,
            false_lost: 0.2,
        }
    }
}

/// What came of following one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunFigures {
    /// Frames with the target, the first one aside.
    pub frames: usize,
    /// Success AUC over those.
    pub auc: f64,
    /// Frames without the target.
    pub absent: usize,
    /// Boxes reported on those.
    pub false_alarms: usize,
    /// Frames with the target on which it was called lost.
    pub false_lost: usize,
}

impl RunFigures {
    /// The figures of a followed run.
    pub fn of(followed: &Followed) -> Self {
        let score = &followed.score;
        Self {
            frames: score.frames,
            auc: score.success_auc,
            absent: score.absent,
            false_alarms: score.false_alarms,
            false_lost: followed.false_lost(),
        }
    }

    /// What is to be as large as possible; see the module head.
    pub fn objective(&self, weights: &Weights) -> f64 {
        let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
        self.auc
            - weights.false_alarm * share(self.false_alarms, self.absent)
            - weights.false_lost * share(self.false_lost, self.frames)
    }
}

/// Refuses runs whose frames lie in a folder named like an evaluation clip.
///
/// # Errors
/// The first such frame.
pub fn refuse_evaluation_clips(runs: &[Run]) -> Result<(), TuneError> {
    let first = runs.iter().filter_map(|run| run.frames.first());
    refuse_evaluation_frames(first.map(AsRef::as_ref))
}

/// The same for frames.
fn refuse_evaluation_frames<'a>(frames: impl Iterator<Item = &'a Path>) -> Result<(), TuneError> {
    let clip_of = |path: &Path| {
        path.components().find_map(|part| {
            let name = part.as_os_str().to_str()?;
            EVALUATION_CLIPS.into_iter().find(|clip| *clip == name)
        })
    };
    for path in frames {
        // A link to a clip is the clip.
        let target = std::fs::canonicalize(path);
        let clip = clip_of(path).or_else(|| clip_of(target.as_deref().ok()?));
        if let Some(clip) = clip {
            return Err(TuneError::EvaluationClip {
                path: path.display().to_string(),
                clip,
            });
        }
    }
    Ok(())
}

/// Frames without the target after the first one, over all runs.
pub fn absent_frames(runs: &[Run]) -> usize {
    let absent = |run: &Run| run.truth.iter().skip(1).filter(|t| t.is_none()).count();
    runs.iter().map(absent).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(path: &str) -> Run {
        Run {
            name: "a".into(),
            frames: vec![path.into()],
            truth: vec![None],
            fps: 30.0,
            assisted: false,
            class: None,
        }
    }

    #[test]
    fn evaluation_clips_are_refused_by_their_folder() {
        refuse_evaluation_clips(&[run("worlds/us_1/img/0001.jpg")])
            .unwrap_or_else(|e| panic!("{e}"));
        let error = refuse_evaluation_clips(&[
            run("worlds/us_1/img/1.jpg"),
            run("copy/otb_car4/img/0001.jpg"),
        ]);
        let error = error.map_err(|e| e.to_string()).err().unwrap_or_default();
        assert!(
            error.starts_with("copy/otb_car4/img/0001.jpg: otb_car4 is an evaluation clip"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_does_not_hide_an_evaluation_clip() {
        let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let clip = folder.path().join("tld_pedestrian1");
        std::fs::create_dir(&clip).unwrap_or_else(|e| panic!("{e}"));
        std::fs::write(clip.join("1.jpg"), "").unwrap_or_else(|e| panic!("{e}"));
        let link = folder.path().join("harmless");
        std::os::unix::fs::symlink(&clip, &link).unwrap_or_else(|e| panic!("{e}"));
        let hidden = run(&link.join("1.jpg").display().to_string());
        assert!(refuse_evaluation_clips(&[hidden]).is_err());
    }

    #[test]
    fn runs_without_absent_frames_have_no_false_alarms_to_pay_for() {
        let figures = RunFigures {
            frames: 50,
            auc: 0.6,
            absent: 0,
            false_alarms: 0,
            false_lost: 5,
        };
        let objective = figures.objective(&Weights::default());
        assert!((objective - (0.6 - 0.2 * 0.1)).abs() < 1e-12);
    }
}
