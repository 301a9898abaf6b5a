//! Lines of KITTI and MOTChallenge, for truth and for results.
//!
//! In: one line. Out: a [`KittiLine`] or [`MotLine`], and the [`Role`] that a true box has under the rules of the
//! benchmark. Files are read elsewhere.
//!
//! ```
//! use roadhound_shared::metrics::multi::Role;
//! use roadhound_shared::metrics::multi::text::{MotLine, MotRules};
//!
//! let line = MotLine::parse("12,3,912,484,97,109,0,7,1")?;
//! assert_eq!((line.frame, line.identity), (12, 3));
//! assert_eq!(line.role(MotRules::Mot17), Role::Spared); // somebody who sits
//! # Ok::<(), roadhound_shared::metrics::multi::text::LineError>(())
//! ```

use alloc::borrow::ToOwned;
use alloc::string::String;

use super::{JudgingRule, Role};
use crate::metrics::ScoreBox;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Too few or too many columns.
    #[error("{found} fields, expected {expected}")]
    FieldCount {
        /// Columns on the line.
        found: usize,
        /// Columns needed.
        expected: &'static str,
    },
    /// A column holds something else than it should.
    #[error("{field} is {text:?}, expected {expected}")]
    Field {
        /// The column's name.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What should.
        expected: &'static str,
    },
}

/// The last frame that anybody numbers: later ones are slips.
const MOST_FRAMES: u32 = 1_000_000;

fn number<T: core::str::FromStr>(
    field: &'static str,
    text: &str,
    expected: &'static str,
    fits: impl Fn(&T) -> bool,
) -> Result<T, LineError> {
    let value = text.trim().parse().ok().filter(fits);
    value.ok_or_else(|| LineError::Field {
        field,
        text: text.trim().to_owned(),
        expected,
    })
}

fn real(field: &'static str, text: &str) -> Result<f64, LineError> {
    number(field, text, "a finite number", |v: &f64| {
        v.abs() <= 1e9 // Not for infinities and NaN either.
    })
}

fn side(field: &'static str, text: &str) -> Result<f64, LineError> {
    number(field, text, "a size of at least 0", |v: &f64| {
        (0.0..=1e9).contains(v)
    })
}

/// Identities and classes are whole numbers that some programs write with a point.
fn whole(field: &'static str, text: &str) -> Result<i64, LineError> {
    let value = number(field, text, "a whole number", |v: &f64| {
        v.abs() < 9e15 && libm::trunc(*v) == *v
    })?;
    Ok(value as i64)
}

/// Fields of a line, at most `N` of them, and how many there are.
fn split<'a, const N: usize>(parts: impl Iterator<Item = &'a str>) -> ([&'a str; N], usize) {
    let mut fields = [""; N];
    let mut found = 0;
    for part in parts {
        if let Some(place) = fields.get_mut(found) {
            *place = part;
        }
        found += 1;
    }
    (fields, found)
}

/// `frame,id,left,top,width,height,flag or score[,class[,visibility[,..]]]`, in the pixels of whoever wrote it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MotLine {
    /// Counted from 1.
    pub frame: u32,
    /// Whose box.
    pub identity: i64,
    /// Where.
    pub box_in_image: ScoreBox,
    /// In truth, 0 where the box is not to be judged; in results, how sure the tracker is.
    pub flag: f64,
    /// Class; `None` where the line has none, or -1.
    pub class: Option<i64>,
}

impl MotLine {
    /// Reads a line.
    ///
    /// # Errors
    /// Missing columns, or columns that are no numbers.
    pub fn parse(line: &str) -> Result<Self, LineError> {
        let (fields, found) = split::<8>(line.split(','));
        if found < 6 {
            return Err(LineError::FieldCount {
                found,
                expected: "at least 6",
            });
        }
        let frame = number("frame", fields[0], "a frame counted from 1", |v: &f64| {
            (1.0..=f64::from(MOST_FRAMES)).contains(v) && libm::trunc(*v) == *v
        })?;
        let class = match fields[7].trim() {
            // Of ten columns, the last three are a place in the world: MOT15, and results.
            "" => None,
            _ if found > 9 => None,
            text => Some(whole("class", text)?).filter(|&class| class != -1),
        };
        Ok(Self {
            frame: frame as u32,
            identity: whole("id", fields[1])?,
            box_in_image: ScoreBox::new(
                real("left", fields[2])?,
                real("top", fields[3])?,
                side("width", fields[4])?,
                side("height", fields[5])?,
            ),
            flag: match fields[6].trim() {
                "" => 1.0,
                text => real("flag", text)?,
            },
            class,
        })
    }

    /// What a true box counts for.
    #[must_use]
    pub fn role(&self, rules: MotRules) -> Role {
        // Numbered from 1 as the benchmark does: those who look like pedestrians and are not to be told apart.
        const PEDESTRIAN: i64 = 1;
        const ON_VEHICLE: i64 = 2;
        const OTHER_VEHICLE: i64 = 6;
        const SITS: i64 = 7;
        const DISTRACTOR: i64 = 8;
        const REFLECTION: i64 = 12;
        let judged = self.flag != 0.0;
        match (rules, self.class.unwrap_or(PEDESTRIAN)) {
            // What is not judged is not even looked at.
            (MotRules::Mot15, _) if judged => Role::Counted,
            (MotRules::Mot15, _) => Role::Bystander,
            (MotRules::Mot17 | MotRules::Mot20, ON_VEHICLE | SITS | DISTRACTOR | REFLECTION)
            | (MotRules::Mot20, OTHER_VEHICLE) => Role::Spared,
            (MotRules::Mot17 | MotRules::Mot20, PEDESTRIAN) if judged => Role::Counted,
            (MotRules::Mot17 | MotRules::Mot20, _) => Role::Bystander,
            (MotRules::Roadhound, _) if judged && self.identity < FIRST_UNREVIEWED => Role::Counted,
            (MotRules::Roadhound, _) => Role::Spared,
        }
    }
}

/// In clips of ours, identities from here on were not looked at by anybody.
pub const FIRST_UNREVIEWED: i64 = 900;

/// Which of MOTChallenge's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MotRules {
    /// MOT15: no classes; boxes of flag 0 are passed over.
    Mot15,
    /// MOT16 and MOT17: pedestrians; who sits, rides, is mirrored or stands out is spared.
    Mot17,
    /// MOT20: vehicles without a motor are spared as well.
    Mot20,
    /// Clips of road users: any class; boxes of flag 0 and identities that nobody reviewed are spared, and so are false
    /// alarms of 24 px or less, since smaller vehicles are not annotated.
    Roadhound,
}

impl MotRules {
    /// Which found boxes are too small to be wrong.
    #[must_use]
    pub fn judging(self) -> JudgingRule {
        match self {
            Self::Mot15 | Self::Mot17 | Self::Mot20 => JudgingRule::default(),
            Self::Roadhound => JudgingRule {
                unmatched_wider_than_px: Some(24.0),
                ..JudgingRule::default()
            },
        }
    }
}

/// A line of KITTI's tracking benchmark: 17 columns; results have a score as the 18th, and some write more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KittiLine<'a> {
    /// Counted from 0.
    pub frame: u32,
    /// Whose box; -1 for areas without annotation.
    pub identity: i64,
    /// As written.
    pub class: &'a str,
    /// 0 whole, 1 or 2 cut by the image's border.
    pub truncation: f64,
    /// 0 in full view to 3 unknown.
    pub occlusion: f64,
    /// Where.
    pub box_in_image: ScoreBox,
}

/// What of KITTI is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KittiClass {
    /// Cars; vans are spared.
    Car,
    /// Pedestrians; people who sit are spared.
    Pedestrian,
}

impl<'a> KittiLine<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// Missing columns, or columns that are no numbers.
    pub fn parse(line: &'a str) -> Result<Self, LineError> {
        let (fields, found) = split::<17>(line.split_ascii_whitespace());
        if found < 17 {
            return Err(LineError::FieldCount {
                found,
                expected: "at least 17",
            });
        }
        let frame = number("frame", fields[0], "a frame counted from 0", |v: &u32| {
            *v <= MOST_FRAMES
        })?;
        let (left, top) = (real("left", fields[6])?, real("top", fields[7])?);
        let (right, bottom) = (real("right", fields[8])?, real("bottom", fields[9])?);
        if right < left {
            return Err(LineError::Field {
                field: "right",
                text: fields[8].to_owned(),
                expected: "nothing left of the left edge",
            });
        }
        if bottom < top {
            return Err(LineError::Field {
                field: "bottom",
                text: fields[9].to_owned(),
                expected: "nothing above the top edge",
            });
        }
        Ok(Self {
            frame,
            identity: whole("id", fields[1])?,
            class: fields[2],
            truncation: real("truncation", fields[3])?,
            occlusion: real("occlusion", fields[4])?,
            box_in_image: ScoreBox::new(left, top, right - left, bottom - top),
        })
    }

    fn is(&self, class: &str) -> bool {
        self.class.eq_ignore_ascii_case(class)
    }

    /// What a true box counts for; `None` for classes that have no part in it.
    #[must_use]
    pub fn role(&self, class: KittiClass) -> Option<Role> {
        let (counted, spared) = match class {
            KittiClass::Car => ("car", "van"),
            KittiClass::Pedestrian => ("pedestrian", "person"),
        };
        if self.is("dontcare") {
            Some(Role::Region)
        } else if self.is(spared) {
            Some(Role::Spared)
        } else if self.is(counted) {
            let whole = self.occlusion <= 2.0 && self.truncation <= 0.0;
            Some(if whole { Role::Counted } else { Role::Spared })
        } else {
            None
        }
    }

    /// Whether a found box says that it is one of those that are scored.
    #[must_use]
    pub fn is_found(&self, class: KittiClass) -> bool {
        let counted = self.is(match class {
            KittiClass::Car => "car",
            KittiClass::Pedestrian => "pedestrian",
        });
        // The benchmark passes over identities below zero.
        counted && self.identity >= 0
    }
}

impl KittiClass {
    /// Which found boxes are too small to be wrong.
    #[must_use]
    pub fn judging(self) -> JudgingRule {
        JudgingRule {
            unmatched_higher_than_px: Some(25.0),
            ..JudgingRule::default()
        }
    }
}
