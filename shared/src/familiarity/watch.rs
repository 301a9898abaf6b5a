//! From distances to an alarm: hysteresis by value and by time.
//!
//! A frame beyond the upper threshold starts a doubt; an alarm begins where every look for as long as the configuration says
//! is beyond it, and is dated back to the doubt's beginning. It ends in the same way below the lower threshold. What is no
//! number counts as unlike. A camera that was silent in between starts a doubt anew: nobody looked.

use super::contract::AlarmConfig;
use crate::frame::Timestamp;

/// Looks that may be missed before nothing is known of the time between.
const MISSED_LOOKS: u64 = 5;

/// What the camera shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// What was learned, or something like it.
    Familiar,
    /// Something else: a lens that is covered, smeared or blinded. A camera that is turned, or in a room, is seldom told.
    Unfamiliar {
        /// When the first of the frames was taken.
        since: Timestamp,
    },
}

impl Health {
    /// Its name in events and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Familiar => "familiar",
            Self::Unfamiliar { .. } => "unfamiliar",
        }
    }

    /// Whether it is an alarm.
    pub fn is_alarm(self) -> bool {
        matches!(self, Self::Unfamiliar { .. })
    }
}

/// The state machine; see the module head.
#[derive(Clone, Debug)]
pub struct FamiliarityWatch {
    config: AlarmConfig,
    health: Health,
    /// When looks began to speak for the other state.
    doubt_since: Option<Timestamp>,
    last_look: Option<Timestamp>,
}

impl FamiliarityWatch {
    /// One that has seen nothing.
    pub fn new(config: AlarmConfig) -> Self {
        Self {
            config,
            health: Health::Unknown,
            doubt_since: None,
            last_look: None,
        }
    }

    /// What the camera shows, as of the last look.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether it is time to look again. Also true where time has jumped back.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.last_look.is_none_or(|last| {
            now < last || now.micros_since(last) >= 1000 * u64::from(self.config.every_millis)
        })
    }

    /// Takes the distance of a frame that was taken `at`.
    pub fn accept(&mut self, distance: f32, at: Timestamp) -> Health {
        let config = self.config;
        let longest = 1000 * u64::from(config.every_millis) * MISSED_LOOKS;
        let looked = self
            .last_look
            .is_some_and(|last| at >= last && at.micros_since(last) <= longest);
        if !looked {
            self.doubt_since = None;
        }
        self.last_look = Some(at);
        let (contradicts, needed_millis) = match self.health {
            Health::Unknown | Health::Familiar => {
                let like = distance <= config.distance_above;
                (!like, config.after_millis)
            }
            Health::Unfamiliar { .. } => (distance < config.clear_below, config.clear_after_millis),
        };
        if !contradicts {
            self.doubt_since = None;
            if self.health == Health::Unknown {
                self.health = Health::Familiar;
            }
            return self.health;
        }
        let since = *self.doubt_since.get_or_insert(at);
        if at.micros_since(since) >= 1000 * u64::from(needed_millis) {
            self.doubt_since = None;
            self.health = match self.health {
                Health::Unknown | Health::Familiar => Health::Unfamiliar { since },
                Health::Unfamiliar { .. } => Health::Familiar,
            };
        }
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const CONFIG: AlarmConfig = AlarmConfig {
        distance_above: 3.0,
        clear_below: 2.0,
        every_millis: 1000,
        after_millis: 3000,
        clear_after_millis: 2000,
    };

    fn seconds(s: u64) -> Timestamp {
        Timestamp(s * 1_000_000)
    }

    fn healths(distances: &[f32]) -> Vec<Health> {
        let mut watch = FamiliarityWatch::new(CONFIG);
        (0..)
            .zip(distances)
            .map(|(s, d)| watch.accept(*d, seconds(s)))
            .collect()
    }

    #[test]
    fn an_alarm_begins_after_its_time_is_dated_back_and_ends_after_its_own() {
        let since = Health::Unfamiliar { since: seconds(1) };
        let found = healths(&[1.0, 9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0]);
        let familiar = Health::Familiar;
        assert_eq!(
            found,
            [
                familiar, familiar, familiar, familiar, since, since, since, familiar
            ]
        );
    }

    #[test]
    fn what_lies_between_the_thresholds_neither_begins_nor_ends_an_alarm() {
        assert!(healths(&[2.5; 20]).iter().all(|h| *h == Health::Familiar));
        let mut distances = [9.0; 20];
        distances[8..].fill(2.5);
        assert!(healths(&distances).last().is_some_and(|h| h.is_alarm()));
    }

    #[test]
    fn one_look_that_says_otherwise_starts_a_doubt_anew() {
        let found = healths(&[9.0, 9.0, 9.0, 1.0, 9.0, 9.0, 9.0, 1.0]);
        assert!(found.iter().all(|h| !h.is_alarm()));
    }

    #[test]
    fn what_is_no_number_is_unlike_and_never_the_end_of_an_alarm() {
        let found = healths(&[f32::NAN; 12]);
        assert!(!found[2].is_alarm() && found[3].is_alarm() && found[11].is_alarm());
    }

    #[test]
    fn silence_says_nothing_and_looks_are_due_by_time_alone() {
        let mut watch = FamiliarityWatch::new(CONFIG);
        assert!(watch.is_due(seconds(7)));
        watch.accept(9.0, seconds(0));
        assert!(!watch.is_due(Timestamp(999_999)) && watch.is_due(seconds(1)));
        // A camera that was away for a minute: nothing is known of the time between.
        assert!(!watch.accept(9.0, seconds(60)).is_alarm());
        assert_eq!(
            watch.accept(9.0, seconds(63)),
            Health::Unfamiliar { since: seconds(60) }
        );
        assert!(watch.is_due(seconds(2)), "time went back");
    }
}
