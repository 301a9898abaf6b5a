//! Whom `track` follows, where nobody gives a box: `--auto`, `--select`.
//!
//! In: a [`Target`], frames, and what finds road users. Out: the box to start with, on the first frame on which whoever is
//! meant is there.
//!
//! ```
//! use roadhound_edge::select::Target;
//! use roadhound_shared::propose::RoadUser;
//! use roadhound_shared::propose::pick::Pick;
//! assert_eq!("bus:2".parse(), Ok(Target::Pick(Pick::Kind(RoadUser::Bus, 1))));
//! assert_eq!("320,180".parse(), Ok(Target::Pick(Pick::Point(320.0, 180.0))));
//! assert_eq!("id:7".parse(), Ok(Target::Identity(7)));
//! assert!("tram".parse::<Target>().is_err());
//! ```

use std::str::FromStr;

use roadhound_shared::follow::Follower;
use roadhound_shared::frame::{FrameView, Timestamp};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::network::FollowNetwork;
use roadhound_shared::propose::pick::{Pick, pick_found};
use roadhound_shared::propose::{Finder, ProposeNetwork, RoadUser};
use roadhound_shared::watch::{WatchConfig, Watcher};

use crate::config::closest;
use crate::infer::InferError;

/// Whom to follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// What is in this box on the first frame.
    Box(BoxXywh),
    /// Whom somebody means by rank, kind or place.
    Pick(Pick),
    /// Whom `watch` gives this identity.
    Identity(u32),
}

impl Target {
    /// Whom a driver would watch.
    pub const AUTO: Self = Self::Pick(Pick::Rank(0));

    /// Whether a bundle has to find road users for it. At a point the follow model looks by itself.
    pub fn needs_proposals(&self) -> bool {
        !matches!(self, Self::Box(_) | Self::Pick(Pick::Point(..)))
    }
}

/// `--select`: a point `X,Y`, a kind (`car`, `bus:2`), a rank (`1` is `--auto`'s choice), `id:N`.
impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let nth = |text: &str| {
            let number = text
                .parse::<usize>()
                .ok()
                .filter(|n| (1..=1000).contains(n));
            let number = number.ok_or_else(|| format!("'{text}': expected 1 to 1000"));
            number.map(|n| n - 1)
        };
        if let Some((x, y)) = text.split_once(',') {
            let number = |text: &str| text.trim().parse::<f32>().ok().filter(|v| v.is_finite());
            let (Some(x), Some(y)) = (number(x), number(y)) else {
                return Err("expected a point X,Y".into());
            };
            return Ok(Self::Pick(Pick::Point(x, y)));
        }
        if let Some(identity) = text.strip_prefix("id:") {
            let identity = identity.parse().ok().filter(|id| *id >= 1);
            let identity = identity.ok_or("expected id: and a number from 1 on")?;
            return Ok(Self::Identity(identity));
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return nth(text).map(|n| Self::Pick(Pick::Rank(n)));
        }
        let (name, number) = text.split_once(':').unwrap_or((text, "1"));
        let Some(kind) = RoadUser::from_name(name) else {
            let names = RoadUser::ALL.map(RoadUser::name);
            return Err(match closest(name, &names) {
                Some(meant) => format!("no kind '{name}', did you mean '{meant}'?"),
                None => format!(
                    "no kind '{name}', expected X,Y, a number, id:N or one of {}",
                    names.join(", ")
                ),
            });
        };
        nth(number).map(|n| Self::Pick(Pick::Kind(kind, n)))
    }
}

/// What looks for whoever is meant.
enum Eyes<P> {
    /// Nothing but the follow model.
    None,
    Finder(Box<Finder<P>>),
    Watcher(Box<Watcher<P>>),
}

/// Waits for the target to turn up.
pub(crate) struct Chooser<P> {
    target: Target,
    eyes: Eyes<P>,
}

/// Why a frame cannot be chosen from; the text goes behind the source's name.
pub(crate) type ChooseError = String;

impl<P: ProposeNetwork<Error = InferError>> Chooser<P> {
    /// A target that [`Target::needs_proposals`] is never found without a finder.
    pub(crate) fn new(target: Target, finder: Option<Finder<P>>) -> Self {
        let eyes = finder.map_or(Eyes::None, |finder| Eyes::Finder(Box::new(finder)));
        Self { target, eyes }
    }

    /// The box to start with; `None` where whoever is meant is not there yet.
    pub(crate) fn choose<N: FollowNetwork<Error = InferError>>(
        &mut self,
        frame: &FrameView<'_>,
        captured_at: Timestamp,
        follower: &mut Follower<N>,
    ) -> Result<Option<BoxXywh>, ChooseError> {
        let size = (frame.width_px(), frame.height_px());
        match self.target {
            Target::Box(b) => Ok(Some(b)),
            Target::Pick(wanted) => {
                if let Eyes::Finder(finder) = &mut self.eyes {
                    finder.find(frame).map_err(|e| e.to_string())?;
                    let chosen = pick_found(finder, size, wanted);
                    if chosen.is_some() {
                        return Ok(chosen);
                    }
                }
                let Pick::Point(x_px, y_px) = wanted else {
                    return Ok(None);
                };
                let selected = follower.select(frame, (x_px, y_px));
                selected.map(Some).map_err(|e| e.to_string())
            }
            Target::Identity(identity) => {
                self.eyes = match std::mem::replace(&mut self.eyes, Eyes::None) {
                    Eyes::Finder(finder) => {
                        let config = WatchConfig::default();
                        let watcher = Watcher::with_finder(*finder, config, size.0, size.1);
                        Eyes::Watcher(Box::new(watcher.map_err(|e| e.to_string())?))
                    }
                    eyes => eyes,
                };
                let Eyes::Watcher(watcher) = &mut self.eyes else {
                    return Ok(None);
                };
                let reports = watcher.step(frame, captured_at);
                let reports = reports.map_err(|e| e.to_string())?;
                let meant = |r: &&roadhound_shared::watch::Report| {
                    r.identity == identity && r.sight.is_shown()
                };
                Ok(reports.iter().find(meant).map(|r| r.box_in_image))
            }
        }
    }

    /// What found it, for what comes after.
    pub(crate) fn into_finder(self) -> Option<Finder<P>> {
        match self.eyes {
            Eyes::None => None,
            Eyes::Finder(finder) => Some(*finder),
            Eyes::Watcher(watcher) => Some(watcher.into_finder()),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Box(b) => write!(f, "{},{},{},{}", b.x_px, b.y_px, b.w_px, b.h_px),
            Self::Pick(Pick::Rank(n)) => write!(f, "{}", n + 1),
            Self::Pick(Pick::Kind(kind, n)) => write!(f, "{}:{}", kind.name(), n + 1),
            Self::Pick(Pick::Point(x, y)) => write!(f, "{x},{y}"),
            Self::Identity(identity) => write!(f, "id:{identity}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_selected_is_said_as_it_was_written() {
        for text in ["1", "12", "car:1", "auto_rickshaw:3", "3.5,-2", "id:9"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("car".parse::<Target>(), "car:1".parse());
        assert_eq!("1".parse(), Ok(Target::AUTO));
    }

    #[test]
    fn what_cannot_be_selected_is_refused_with_what_would_do() {
        for (text, said) in [
            ("cra", "no kind 'cra', did you mean 'car'?"),
            (
                "spaceship",
                "expected X,Y, a number, id:N or one of car, truck",
            ),
            ("0", "'0': expected 1 to 1000"),
            ("car:x", "'x': expected 1 to 1000"),
            ("1,nan", "expected a point X,Y"),
            ("id:0", "expected id: and a number from 1 on"),
            ("", "no kind ''"),
        ] {
            let found = text.parse::<Target>().unwrap_err();
            assert!(found.contains(said), "{text}: {found}");
        }
    }
}
