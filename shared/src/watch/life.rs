//! Who is believed, seen, hidden, lost, forgotten: one table, one match.
//!
//! In: a [`Life`], what a look brought, and the time. Out: the next [`Life`], or nothing where somebody is forgotten.
//! Nothing else of watch mode changes a life. All times are of capture, so that frames may be dropped or come at any rate.
//!
//! | from | to | when (`life.*` of the configuration) |
//! |---|---|---|
//! | nobody | Tentative | a strong detection that nobody takes |
//! | Tentative | Seen | seen again, `confirm_after_seconds` after the first time, or so well that it is `believed_from` |
//! | Tentative | forgotten | not seen for more than `tentative_gap_seconds` |
//! | Seen | Hidden | a look that does not find it |
//! | Hidden | Lost | not seen for more than `lost_after_seconds` |
//! | Hidden, Lost | Seen | found |
//! | Hidden, Lost | forgotten | not seen for more than `forget_after_seconds`, or out of the picture for `left_after_seconds` |

use serde::{Deserialize, Serialize};

use super::config::LifeConfig;
use crate::frame::Timestamp;

/// What is known about a road user, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// Seen, but not for long enough to be believed.
    Tentative {
        /// First seen.
        since: Timestamp,
    },
    /// Seen on the last look.
    Seen {
        /// Found, or found again.
        since: Timestamp,
    },
    /// Not seen: hidden by something, or missed by the detector. Taken up where it should be.
    Hidden {
        /// Last seen.
        since: Timestamp,
    },
    /// Not seen for so long that it may be anywhere near.
    Lost {
        /// Last seen.
        since: Timestamp,
    },
}

/// What a look brought for one road user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event {
    /// It was found; `believed` where the detection alone is enough.
    Found { believed: bool },
    /// It was not. `left` where it should be out of the picture.
    NotFound { last_seen: Timestamp, left: bool },
}

impl Life {
    /// The name used in result files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tentative { .. } => "tentative",
            Self::Seen { .. } => "seen",
            Self::Hidden { .. } => "hidden",
            Self::Lost { .. } => "lost",
        }
    }

    pub(super) fn after(self, event: Event, now: Timestamp, c: &LifeConfig) -> Option<Self> {
        match (self, event) {
            (Self::Tentative { since }, Event::Found { believed }) => {
                let long = now.seconds_since(since) >= c.confirm_after_seconds;
                Some(if believed || long {
                    Self::Seen { since: now }
                } else {
                    self
                })
            }
            (Self::Seen { .. }, Event::Found { .. }) => Some(self),
            (Self::Hidden { .. } | Self::Lost { .. }, Event::Found { .. }) => {
                Some(Self::Seen { since: now })
            }
            (Self::Tentative { .. }, Event::NotFound { last_seen, .. }) => {
                (now.seconds_since(last_seen) <= c.tentative_gap_seconds).then_some(self)
            }
            (_, Event::NotFound { last_seen, left }) => {
                let unseen = now.seconds_since(last_seen);
                let patience = if left {
                    c.left_after_seconds.min(c.forget_after_seconds)
                } else {
                    c.forget_after_seconds
                };
                let since = last_seen;
                if unseen > patience {
                    None
                } else if unseen > c.lost_after_seconds {
                    Some(Self::Lost { since })
                } else {
                    Some(Self::Hidden { since })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: LifeConfig = LifeConfig {
        confirm_after_seconds: 0.1,
        tentative_gap_seconds: 0.08,
        bridge_seconds: 0.1,
        lost_after_seconds: 0.5,
        forget_after_seconds: 3.0,
        left_after_seconds: 0.3,
        left_below_share: 0.3,
    };
    const START: Timestamp = Timestamp(5_000_000);

    fn found(life: Life, after_millis: u64) -> Option<Life> {
        let event = Event::Found { believed: false };
        life.after(event, START.plus_millis(after_millis), &CONFIG)
    }

    fn missed(life: Life, after_millis: u64, left: bool) -> Option<Life> {
        let last_seen = START;
        let event = Event::NotFound { last_seen, left };
        life.after(event, START.plus_millis(after_millis), &CONFIG)
    }

    #[test]
    fn somebody_new_is_believed_after_a_time_and_not_after_a_number_of_frames() {
        let new = Life::Tentative { since: START };
        assert_eq!(found(new, 99), Some(new));
        let since = START.plus_millis(100);
        assert_eq!(found(new, 100), Some(Life::Seen { since }));
        let event = Event::Found { believed: true };
        let since = START.plus_millis(1);
        assert_eq!(new.after(event, since, &CONFIG), Some(Life::Seen { since }));
        assert_eq!(missed(new, 80, false), Some(new));
        assert_eq!(missed(new, 81, false), None);
    }

    #[test]
    fn whoever_is_not_seen_is_hidden_then_lost_then_forgotten() {
        let seen = Life::Seen { since: START };
        let since = START;
        assert_eq!(missed(seen, 33, false), Some(Life::Hidden { since }));
        assert_eq!(missed(seen, 501, false), Some(Life::Lost { since }));
        assert_eq!(
            missed(Life::Lost { since }, 3000, false),
            Some(Life::Lost { since })
        );
        assert_eq!(missed(Life::Lost { since }, 3001, false), None);
        assert_eq!(missed(seen, 301, true), None);
        let again = Some(Life::Seen {
            since: START.plus_millis(2000),
        });
        assert_eq!(found(Life::Lost { since }, 2000), again);
        assert_eq!(found(Life::Hidden { since }, 2000), again);
    }
}
