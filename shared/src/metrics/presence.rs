//! How well a tracker knows whether its target is there.
//!
//! What enters: presence scores of frames known to hold the target or not, and runs with their time stamps. What
//! leaves: the area under the ROC curve and the delay of each re-detection. The false-alarm rate is in
//! [`RunScore::false_alarm_rate`](super::RunScore::false_alarm_rate).
//!
//! ```
//! use roadhound_shared::metrics::presence::roc_auc;
//!
//! assert_eq!(roc_auc(&[0.9, 0.8, 0.5], &[0.1, 0.5])?, Some(5.5 / 6.0));
//! # Ok::<(), roadhound_shared::metrics::MetricsError>(())
//! ```

use alloc::vec::Vec;

use super::{MetricsError, ScoreBox};
use crate::frame::Timestamp;

/// The chance that a frame with the target scores above a frame without it; a tie counts half (Mann and Whitney,
/// 1947). `None` where either kind of frame is lacking.
///
/// # Errors
/// A score that is NaN; its index counts through `present`, then `absent`.
pub fn roc_auc(present: &[f64], absent: &[f64]) -> Result<Option<f64>, MetricsError> {
    let mut scores: Vec<(f64, bool)> = present
        .iter()
        .map(|score| (*score, true))
        .chain(absent.iter().map(|score| (*score, false)))
        .collect();
    if let Some(index) = scores.iter().position(|(score, _)| score.is_nan()) {
        return Err(MetricsError::NotANumber { index });
    }
    if present.is_empty() || absent.is_empty() {
        return Ok(None);
    }
    // Adding zero makes one of the two zeros, which `total_cmp` would tell apart.
    scores.sort_unstable_by(|a, b| (a.0 + 0.0).total_cmp(&(b.0 + 0.0)));
    let (mut absent_below, mut wins) = (0_usize, 0.0);
    for ties in scores.chunk_by(|a, b| a.0 == b.0) {
        let present_here = ties.iter().filter(|(_, is_present)| *is_present).count();
        let absent_here = ties.len() - present_here;
        wins += present_here as f64 * (absent_below as f64 + absent_here as f64 / 2.0);
        absent_below += absent_here;
    }
    Ok(Some(wins / (present.len() as f64 * absent.len() as f64)))
}

/// The target came back into view.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Return {
    /// Frame on which it was visible again.
    pub frame: usize,
    /// Seconds from that frame to the first with a box of IoU above 0.5; zero if it was there at once. `None` if the
    /// target left again, or the run ended, before.
    pub delay_s: Option<f64>,
}

/// One frame of a run, for [`returns`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimedFrame {
    /// When the frame was taken.
    pub captured_at: Timestamp,
    /// The true box, where the target is visible.
    pub truth: Option<ScoreBox>,
    /// The box reported, if any.
    pub found: Option<ScoreBox>,
}

/// Every return of the target after at least one frame without it, in order.
///
/// Frames before the target is first visible are no absence.
#[must_use]
pub fn returns(run: &[TimedFrame]) -> Vec<Return> {
    enum View {
        NotYet,
        Visible,
        Away,
        /// Visible again but not found, since the frame and time given.
        Sought(usize, Timestamp),
    }
    let mut view = View::NotYet;
    let mut returns = Vec::new();
    for (
        frame,
        TimedFrame {
            captured_at,
            truth,
            found,
        },
    ) in run.iter().enumerate()
    {
        let hit = |truth: &ScoreBox| found.is_some_and(|found| found.iou(truth) > 0.5);
        view = match (view, truth) {
            (View::NotYet, None) => View::NotYet,
            (View::Away | View::Visible, None) => View::Away,
            (View::NotYet | View::Visible, Some(_)) => View::Visible,
            (View::Sought(frame, _), None) => {
                returns.push(Return {
                    frame,
                    delay_s: None,
                });
                View::Away
            }
            (View::Away, Some(truth)) if hit(truth) => {
                returns.push(Return {
                    frame,
                    delay_s: Some(0.0),
                });
                View::Visible
            }
            (View::Away, Some(_)) => View::Sought(frame, *captured_at),
            (View::Sought(since_frame, since), Some(truth)) if hit(truth) => {
                let delay_s = Some(captured_at.micros_since(since) as f64 * 1e-6);
                returns.push(Return {
                    frame: since_frame,
                    delay_s,
                });
                View::Visible
            }
            (sought @ View::Sought(..), Some(_)) => sought,
        };
    }
    if let View::Sought(frame, _) = view {
        returns.push(Return {
            frame,
            delay_s: None,
        });
    }
    returns
}
