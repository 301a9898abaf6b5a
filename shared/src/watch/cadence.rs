//! Which frames the detector looks at: all would cost more than a board has, and motion carries everybody over the rest.
//!
//! In: capture times, and how long looks took. Out: whether this frame is looked at. It reads no clock: whoever has one
//! tells. Without a budget the answer depends on nothing but the capture times, so that a run repeats to the byte.
//!
//! ```
//! use roadhound_shared::frame::Timestamp;
//! use roadhound_shared::watch::{Cadence, CadenceConfig};
//!
//! let mut cadence = Cadence::new(CadenceConfig { looks_per_second: 15.0, ..CadenceConfig::default() });
//! let looks = (0..60).filter(|n| cadence.is_due(Timestamp::of_frame(*n, 30.0))).count();
//! assert_eq!(looks, 30);
//! // A camera of ten frames a second has no frame to spare.
//! let mut cadence = Cadence::new(CadenceConfig { looks_per_second: 15.0, ..CadenceConfig::default() });
//! assert!((0..20).all(|n| cadence.is_due(Timestamp::of_frame(n, 10.0))));
//! ```

use serde::{Deserialize, Serialize};

use super::config::TABLE;
use crate::frame::Timestamp;
use crate::limits::{LimitError, check_ranges};

/// Looks whose times are remembered.
const REMEMBERED: usize = 9;
/// A frame this share of the interval early is on time: stamps tremble.
const EARLY: f32 = 0.1;

/// How often to look.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CadenceConfig {
    /// Looks a second, at most; in capture time.
    pub looks_per_second: f32,
    /// A look every so many frames, whatever the other settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u32>,
    /// What a frame may cost on average, looks included. Where looks cost more they are taken less often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_millis: Option<f32>,
    /// However dear a look is, nobody waits longer for the next: the budget gives way, `looks_per_second` does not.
    pub longest_gap_seconds: f32,
}

impl Default for CadenceConfig {
    fn default() -> Self {
        Self {
            looks_per_second: 15.0,
            every: None,
            budget_millis: None,
            longest_gap_seconds: 0.4,
        }
    }
}

impl CadenceConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn validate(&self) -> Result<(), LimitError> {
        let every = self.every.map_or(1.0, |every| every as f32);
        let budget_millis = self.budget_millis.unwrap_or(1.0);
        let gap_seconds = self.longest_gap_seconds;
        check_ranges(
            TABLE,
            [
                ("cadence.looks_per_second", self.looks_per_second, 0.1..=1e3),
                ("cadence.every", every, 1.0..=1e3),
                ("cadence.budget_millis", budget_millis, 0.1..=1e5),
                ("cadence.longest_gap_seconds", gap_seconds, 1e-3..=60.0),
            ],
        )
    }
}

/// Says for every frame whether to look.
#[derive(Debug, Clone)]
pub struct Cadence {
    config: CadenceConfig,
    last_look: Option<Timestamp>,
    frames_since: u32,
    /// Milliseconds of the latest looks.
    took_millis: heapless::HistoryBuf<f32, REMEMBERED>,
}

impl Cadence {
    /// Nothing was looked at yet: the first frame is due.
    #[must_use]
    pub fn new(config: CadenceConfig) -> Self {
        Self {
            config,
            last_look: None,
            frames_since: 0,
            took_millis: heapless::HistoryBuf::new(),
        }
    }

    /// Whether to look at the frame taken `now`. To be asked once a frame.
    pub fn is_due(&mut self, now: Timestamp) -> bool {
        self.frames_since = self.frames_since.saturating_add(1);
        let due = match self.last_look {
            None => true,
            Some(last) => self.is_due_after(now.seconds_since(last)),
        };
        if due {
            self.last_look = Some(now);
            self.frames_since = 0;
        }
        due
    }

    fn is_due_after(&self, passed_seconds: f32) -> bool {
        let c = &self.config;
        if let Some(every) = c.every {
            return self.frames_since >= every;
        }
        let interval_seconds = 1.0 / c.looks_per_second;
        let affordable =
            self.frames_since >= self.frames_a_look() || passed_seconds >= c.longest_gap_seconds;
        affordable && passed_seconds >= interval_seconds * (1.0 - EARLY)
    }

    /// A look took so long. Only a budget needs to know.
    pub fn took(&mut self, millis: f32) {
        if millis.is_finite() {
            self.took_millis.write(millis);
        }
    }

    /// Frames from one look to the next that the budget asks for: the median look over what a frame may cost, rounded up.
    #[must_use]
    pub fn frames_a_look(&self) -> u32 {
        let Some(budget) = self.config.budget_millis else {
            return 1;
        };
        let mut times: heapless::Vec<f32, REMEMBERED> = heapless::Vec::new();
        times.extend(self.took_millis.oldest_ordered().copied());
        times.sort_unstable_by(f32::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or(0.0);
        // At most a thousand: a float's whole numbers.
        libm::ceilf(median / budget).clamp(1.0, 1e3) as u32
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::vec::Vec;

    use super::*;

    fn looks(config: CadenceConfig, fps: f64, look_millis: f32) -> Vec<u64> {
        config.validate().unwrap();
        let mut cadence = Cadence::new(config);
        let due = |n: &u64| {
            let due = cadence.is_due(Timestamp::of_frame(*n, fps));
            if due {
                cadence.took(look_millis);
            }
            due
        };
        (0..30).filter(due).collect()
    }

    #[test]
    fn a_budget_is_kept_and_no_gap_is_longer_than_allowed() {
        let budget = |millis: f32| CadenceConfig {
            looks_per_second: 1e3,
            budget_millis: Some(millis),
            ..CadenceConfig::default()
        };
        assert_eq!(looks(budget(10.0), 30.0, 9.0).len(), 30);
        assert_eq!(looks(budget(10.0), 30.0, 29.0).len(), 10);
        // Three seconds a look: 0.4 s are 12 frames.
        assert_eq!(looks(budget(10.0), 30.0, 3e3), [0, 12, 24]);
    }

    #[test]
    fn a_rate_is_kept_where_it_makes_gaps_longer_than_those_that_dear_looks_may() {
        let once_a_second = |budget_millis| CadenceConfig {
            looks_per_second: 1.0,
            budget_millis,
            longest_gap_seconds: 0.4,
            ..CadenceConfig::default()
        };
        assert_eq!(looks(once_a_second(None), 8.0, 1.0), [0, 8, 16, 24]);
        // Three hundred frames a look, and all the same a look whenever the rate allows it.
        let dear = once_a_second(Some(10.0));
        assert_eq!(looks(dear, 8.0, 3e3), [0, 8, 16, 24]);
    }

    #[test]
    fn a_number_of_frames_goes_before_everything_else() {
        let config = CadenceConfig {
            every: Some(4),
            budget_millis: Some(0.1),
            ..CadenceConfig::default()
        };
        assert_eq!(looks(config, 2.0, 1e3), [0, 4, 8, 12, 16, 20, 24, 28]);
    }

    #[test]
    fn dropped_frames_do_not_make_looks_rarer() {
        let mut cadence = Cadence::new(CadenceConfig::default());
        assert!(cadence.is_due(Timestamp(0)));
        assert!(!cadence.is_due(Timestamp(33_000)));
        assert!(cadence.is_due(Timestamp(200_000)));
        // Time that runs backwards is no reason to look, nor to look never again.
        assert!(!cadence.is_due(Timestamp(100_000)));
        assert!(cadence.is_due(Timestamp(270_000)));
    }

    #[test]
    fn values_that_cannot_be_are_named() {
        let config = CadenceConfig {
            every: Some(0),
            ..CadenceConfig::default()
        };
        let said = config.validate().unwrap_err();
        assert_eq!(
            std::format!("{said}"),
            "watch.cadence.every: found 0, expected 1 to 1000"
        );
    }
}
