//! Every constant of adaptation on the board: rates a second of capture time, bounds in deviations of the source.

use core::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::limits::{LimitError, check_order, check_ranges};

/// What errors call these constants by.
const TABLE: &str = "adapt";

/// Every constant of adaptation on the board.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptConfig {
    /// What was seen fades by e in this time.
    pub memory_seconds: f32,
    /// How much of the distance to the source is taken back, 0..1.
    pub strength: f32,
    /// No scale is larger, and none smaller than one over it.
    pub max_scale: f32,
    /// No shift is larger, either way, in deviations of the source.
    pub max_shift: f32,
    /// Constants change this often at most: the templates are computed anew each time.
    pub change_every_seconds: f32,
    /// They change only where the root mean square of the changes is at least this.
    pub least_change: f32,
    /// A look counts where the target is tracked with at least this presence.
    pub learn_above_presence: f32,
    /// Presence below this is a collapse,
    pub recover_below_presence: f32,
    /// where every look had it for so long; a lost target is one at once.
    pub recover_after_seconds: f32,
    /// After a collapse the constants of the source stay in force for so long.
    pub rest_seconds: f32,
}

impl Default for AdaptConfig {
    fn default() -> Self {
        Self {
            memory_seconds: 2.0,
            strength: 0.5,
            max_scale: 1.5,
            max_shift: 0.5,
            change_every_seconds: 2.0,
            least_change: 0.02,
            learn_above_presence: 0.6,
            recover_below_presence: 0.4,
            recover_after_seconds: 0.5,
            rest_seconds: 10.0,
        }
    }
}

impl AdaptConfig {
    /// Checks every constant.
    ///
    /// # Errors
    /// The first one outside its range.
    pub fn validate(&self) -> Result<(), LimitError> {
        let seconds: RangeInclusive<f32> = 0.05..=3600.0;
        check_ranges(
            TABLE,
            [
                ("memory_seconds", self.memory_seconds, seconds.clone()),
                ("strength", self.strength, 0.0..=1.0),
                ("max_scale", self.max_scale, 1.0..=4.0),
                ("max_shift", self.max_shift, 0.0..=4.0),
                (
                    "change_every_seconds",
                    self.change_every_seconds,
                    seconds.clone(),
                ),
                ("least_change", self.least_change, 0.0..=4.0),
                ("learn_above_presence", self.learn_above_presence, 0.0..=1.0),
                (
                    "recover_below_presence",
                    self.recover_below_presence,
                    0.0..=1.0,
                ),
                (
                    "recover_after_seconds",
                    self.recover_after_seconds,
                    0.0..=3600.0,
                ),
                ("rest_seconds", self.rest_seconds, seconds),
            ],
        )?;
        check_order(
            TABLE,
            [(
                "recover_below_presence",
                self.recover_below_presence,
                "learn_above_presence",
                self.learn_above_presence,
            )],
        )
    }
}
