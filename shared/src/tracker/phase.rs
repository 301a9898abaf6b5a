//! When the target is tracked, uncertain or lost: one table, one match.
//!
//! In: a [`State`], an [`Event`] and the time. Out: the next [`State`]. Nothing else of the tracker
//! changes here, and nothing else changes the phase.
//!
//! | from | to | when (`presence.*`, `reclaim.*` of the configuration) |
//! |---|---|---|
//! | Idle | Tracking | `start` |
//! | Tracking | Uncertain | presence < `uncertain_below`, score < `uncertain_below_score`, or similarity < `uncertain_below_similarity` |
//! | Tracking, Uncertain | Lost | presence <= `lost_at_once_below` |
//! | Tracking, Uncertain | Lost | presence < `lost_below` in every look for `lost_after_millis` |
//! | Tracking, Uncertain | Lost | no look for more than `lost_without_result_millis`: lost since that time was over, however long nobody asked |
//! | Uncertain | Lost | Uncertain for `uncertain_at_most_millis`, where that is not 0 |
//! | Uncertain | Tracking | presence >= `tracking_above`, and score and similarity not below theirs |
//! | Lost | Tracking | `frames` looks in a row, over `millis`, find a box at one place that meets `min_presence`, `min_score`, `min_similarity`, `max_side_ratio` |
//! | Lost | Tracking | one such look within `soon_millis` that overlaps the last trusted box by `soon_iou` |
//! | any | Idle | `stop` |

use serde::{Deserialize, Serialize};

use super::config::{PresenceConfig, ReclaimConfig};
use crate::frame::Timestamp;
use crate::geometry::BoxXywh;

/// What is known about the target, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing is followed.
    Idle,
    /// The target is seen.
    Tracking,
    /// Something is followed that may not be the target: size and template are frozen.
    Uncertain,
    /// The target is not seen. No box is reported.
    Lost,
}

impl Phase {
    /// The name used in result files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Tracking => "tracking",
            Self::Uncertain => "uncertain",
            Self::Lost => "lost",
        }
    }
}

/// Looks in a row that support taking up a lost target again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Claim {
    /// Time of the first.
    pub(crate) since: Timestamp,
    /// How many.
    pub(crate) looks: u32,
    /// Where the last one found it.
    pub(crate) box_in_image: BoxXywh,
}

/// A phase with what only that phase knows. All times are on the tracker's own clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum State {
    Idle,
    Tracking {
        since: Timestamp,
    },
    Uncertain {
        since: Timestamp,
        /// Since when every look had a presence below `lost_below`.
        low_since: Option<Timestamp>,
    },
    Lost {
        since: Timestamp,
        last_trusted: BoxXywh,
        claim: Option<Claim>,
    },
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Event {
    /// Time passed; the last look was then.
    Silence { last_look: Timestamp },
    /// The network looked at a crop.
    Look {
        presence: f32,
        score: f32,
        similarity: f32,
        /// A box that meets the thresholds for a claim.
        claim: Option<BoxXywh>,
    },
}

impl State {
    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self::Idle => Phase::Idle,
            Self::Tracking { .. } => Phase::Tracking,
            Self::Uncertain { .. } => Phase::Uncertain,
            Self::Lost { .. } => Phase::Lost,
        }
    }

    /// When the phase began; `None` for Idle.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        match *self {
            Self::Idle => None,
            Self::Tracking { since } | Self::Uncertain { since, .. } | Self::Lost { since, .. } => {
                Some(since)
            }
        }
    }

    /// The same state with its boxes elsewhere: the image has another size.
    pub(crate) fn with_boxes(self, moved: impl Fn(BoxXywh) -> BoxXywh) -> Self {
        match self {
            Self::Idle | Self::Tracking { .. } | Self::Uncertain { .. } => self,
            Self::Lost {
                since,
                last_trusted,
                claim,
            } => Self::Lost {
                since,
                last_trusted: moved(last_trusted),
                claim: claim.map(|claim| Claim {
                    box_in_image: moved(claim.box_in_image),
                    ..claim
                }),
            },
        }
    }

    /// The next state. `trusted` is the last box of the Tracking phase.
    pub(crate) fn next(
        self,
        event: Event,
        now: Timestamp,
        trusted: BoxXywh,
        presence_config: &PresenceConfig,
        reclaim_config: &ReclaimConfig,
    ) -> Self {
        let p = presence_config;
        let lost_since = |since| Self::Lost {
            since,
            last_trusted: trusted,
            claim: None,
        };
        let lost = lost_since(now);
        match (self, event) {
            (Self::Idle, _) => Self::Idle,

            (Self::Tracking { .. } | Self::Uncertain { .. }, Event::Silence { last_look }) => {
                // Not since now: who comes back after a minute was not lost a moment ago.
                let since = last_look.plus_millis(u64::from(p.lost_without_result_millis));
                if now > since { lost_since(since) } else { self }
            }

            (Self::Tracking { .. }, Event::Look { presence, .. })
            | (Self::Uncertain { .. }, Event::Look { presence, .. })
                if presence <= p.lost_at_once_below =>
            {
                lost
            }

            (
                Self::Tracking { .. },
                Event::Look {
                    presence,
                    score,
                    similarity,
                    ..
                },
            ) => {
                let seen = presence >= p.uncertain_below && is_target(score, similarity, p);
                let low = presence < p.lost_below;
                if seen {
                    self
                } else if low && p.lost_after_millis == 0 {
                    lost
                } else {
                    Self::Uncertain {
                        since: now,
                        low_since: low.then_some(now),
                    }
                }
            }

            (
                Self::Uncertain { since, low_since },
                Event::Look {
                    presence,
                    score,
                    similarity,
                    ..
                },
            ) => {
                let low_since = (presence < p.lost_below).then(|| low_since.unwrap_or(now));
                let low_too_long =
                    low_since.is_some_and(|s| has_lasted(s, now, p.lost_after_millis));
                let uncertain_too_long = p.uncertain_at_most_millis > 0
                    && has_lasted(since, now, p.uncertain_at_most_millis);
                if presence >= p.tracking_above && is_target(score, similarity, p) {
                    Self::Tracking { since: now }
                } else if low_too_long || uncertain_too_long {
                    lost
                } else {
                    Self::Uncertain { since, low_since }
                }
            }

            (Self::Lost { .. }, Event::Silence { .. }) => self,

            (
                Self::Lost {
                    since,
                    last_trusted,
                    claim: before,
                },
                Event::Look { claim: found, .. },
            ) => {
                let r = reclaim_config;
                let claim = found.map(|box_in_image| match before {
                    Some(before) if is_near(&before.box_in_image, &box_in_image, r) => Claim {
                        looks: before.looks.saturating_add(1),
                        box_in_image,
                        ..before
                    },
                    Some(_) | None => Claim {
                        since: now,
                        looks: 1,
                        box_in_image,
                    },
                });
                let confirmed = claim.is_some_and(|claim| {
                    let soon = r.soon_millis > 0
                        && !has_lasted(since, now, r.soon_millis)
                        && claim.box_in_image.iou(&last_trusted) >= r.soon_iou;
                    soon || claim.looks >= r.frames && has_lasted(claim.since, now, r.millis)
                });
                if confirmed {
                    Self::Tracking { since: now }
                } else {
                    Self::Lost {
                        since,
                        last_trusted,
                        claim,
                    }
                }
            }
        }
    }
}

fn is_target(score: f32, similarity: f32, config: &PresenceConfig) -> bool {
    score >= config.uncertain_below_score && similarity >= config.uncertain_below_similarity
}

fn has_lasted(since: Timestamp, now: Timestamp, millis: u32) -> bool {
    now.micros_since(since) >= 1000 * u64::from(millis)
}

/// Whether two looks may have found one object: centres within `max_move_sides`.
fn is_near(before: &BoxXywh, now: &BoxXywh, config: &ReclaimConfig) -> bool {
    let ((x0, y0), (x1, y1)) = (before.center(), now.center());
    let side = libm::sqrtf(before.area());
    libm::hypotf(x1 - x0, y1 - y0) <= config.max_move_sides * side
}
