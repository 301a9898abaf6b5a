//! Segments in a folder: what they are called, and which have to go.
//!
//! A segment is `NNNNNNNN-YYYYMMDD-HHMMSS.avi` with `.jsonl` of the same name beside it, and `-event` before the dot where
//! something happened in it. The number only grows, so that names sort by age also on a board whose clock does not know
//! the year; the date is for people. [`to_delete`] is pure: a list in, a list out.
//!
//! ```
//! use roadhound_edge::record::segments::{Limits, Name, Segment, to_delete};
//! let segment = |number, event| Segment { name: Name { number, unix_seconds: 0, event }, bytes: 10, age_seconds: 0 };
//! let limits = Limits { plain_bytes: 20, event_bytes: 10, age_seconds: None };
//! let all = [segment(1, false), segment(2, true), segment(3, false), segment(4, false)];
//! let gone: Vec<u64> = to_delete(&all, &limits).map(|segment| segment.name.number).collect();
//! assert_eq!(gone, [1]);
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What a segment's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Grows from segment to segment.
    pub number: u64,
    /// When it began, by the wall clock.
    pub unix_seconds: u64,
    /// Something happened in it.
    pub event: bool,
}

impl Name {
    /// The file's name without what follows the dot.
    pub fn stem(&self) -> String {
        let (year, month, day) = date(self.unix_seconds / 86_400);
        let second = self.unix_seconds % 86_400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let event = if self.event { "-event" } else { "" };
        format!(
            "{:08}-{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}{event}",
            self.number
        )
    }

    /// Reads a stem again; `None` for files of somebody else.
    pub fn parse(stem: &str) -> Option<Self> {
        let (rest, event) = match stem.strip_suffix("-event") {
            Some(rest) => (rest, true),
            None => (stem, false),
        };
        let mut parts = rest.split('-');
        let (number, day, second) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = |text: &str, length: usize| {
            text.len() >= length && text.bytes().all(|b| b.is_ascii_digit())
        };
        if parts.next().is_some() || !digits(number, 8) || !digits(day, 8) || !digits(second, 6) {
            return None;
        }
        let (day, second): (u64, u64) = (day.parse().ok()?, second.parse().ok()?);
        let days = days_to(day / 10_000, day / 100 % 100, day % 100)?;
        let name = Self {
            number: number.parse().ok()?,
            unix_seconds: days * 86_400
                + second / 10_000 * 3600
                + second / 100 % 100 * 60
                + second % 100,
            event,
        };
        (name.stem() == stem).then_some(name)
    }
}

/// Year, month and day of a day since 1970: civil_from_days of Howard Hinnant's chrono-compatible date algorithms.
fn date(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (
        era * 400 + year + u64::from(month <= 2),
        month,
        of_year - (153 * shifted + 2) / 5 + 1,
    )
}

/// The other way round, for dates from 1970 to 9999.
fn days_to(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let y = year - u64::from(month <= 2);
    let (era, of_era) = (y / 400, y % 400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

/// One that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What it is called.
    pub name: Name,
    /// Of the pictures and the track together.
    pub bytes: u64,
    /// Since it was last written to, by the wall clock.
    pub age_seconds: u64,
}

/// What may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of segments in which nothing happened.
    pub plain_bytes: u64,
    /// Bytes of the others.
    pub event_bytes: u64,
    /// Nothing in which nothing happened is kept longer.
    pub age_seconds: Option<u64>,
}

/// Which of these segments, oldest first, have to go.
pub fn to_delete<'a>(
    segments: &'a [Segment],
    limits: &Limits,
) -> impl Iterator<Item = &'a Segment> {
    let bytes = |event: bool| -> u64 {
        segments
            .iter()
            .filter(|s| s.name.event == event)
            .map(|s| s.bytes)
            .sum()
    };
    let mut over = [
        bytes(false).saturating_sub(limits.plain_bytes),
        bytes(true).saturating_sub(limits.event_bytes),
    ];
    let most_seconds = limits.age_seconds;
    segments.iter().filter(move |segment| {
        let over = &mut over[usize::from(segment.name.event)];
        let old =
            !segment.name.event && most_seconds.is_some_and(|most| segment.age_seconds > most);
        let goes = old || *over > 0;
        if goes {
            *over = over.saturating_sub(segment.bytes);
        }
        goes
    })
}

/// Takes back what a clock that was set says about the age of segments from `first` on: a run of `seconds` has recorded
/// them, so none of them is older. A board without a clock of its own is in the past until the network tells it the time,
/// and all that it has recorded since it started would be too old at that moment. How long ago an earlier run was, only the
/// clock can say.
///
/// ```
/// use roadhound_edge::record::segments::{Name, Segment, no_older_than_their_run};
/// let segment = |number, age_seconds| Segment { name: Name { number, unix_seconds: 0, event: false }, bytes: 1, age_seconds };
/// let mut all = [segment(1, 90_000), segment(2, 90_000), segment(3, 5)];
/// no_older_than_their_run(&mut all, 2, 60);
/// assert_eq!(all.map(|segment| segment.age_seconds), [90_000, 60, 5]);
/// ```
pub fn no_older_than_their_run(segments: &mut [Segment], first: u64, seconds: u64) {
    for segment in segments.iter_mut().filter(|s| s.name.number >= first) {
        segment.age_seconds = segment.age_seconds.min(seconds);
    }
}

/// Paths of a segment's pictures and of its track.
pub fn paths(folder: &Path, name: &Name) -> [PathBuf; 2] {
    let stem = name.stem();
    ["avi", "jsonl"].map(|kind| folder.join(format!("{stem}.{kind}")))
}

/// All segments of a folder, oldest first. Files of somebody else are passed over.
///
/// # Errors
/// A folder that cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .and_then(|stem| Name::parse(stem.to_str()?));
        let Some(name) = name.filter(|_| path.extension().is_some_and(|kind| kind == "avi")) else {
            continue;
        };
        // Gone in the meantime: somebody tidied up.
        let Ok(pictures) = std::fs::metadata(&path) else {
            continue;
        };
        let [_, track] = paths(folder, &name);
        let written = pictures.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Segment {
            name,
            bytes: pictures.len() + std::fs::metadata(track).map_or(0, |track| track.len()),
            age_seconds: written.elapsed().map_or(0, |age| age.as_secs()),
        });
    }
    found.sort_by_key(|segment| segment.name);
    Ok(found)
}

/// Takes a segment away.
///
/// # Errors
/// What the system says; one that is gone already is fine.
pub fn delete(folder: &Path, name: &Name) -> io::Result<()> {
    for path in paths(folder, name) {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_sorts_by_age_and_tells_people_when() {
        let name = Name {
            number: 42,
            unix_seconds: 1_700_000_000,
            event: false,
        };
        assert_eq!(name.stem(), "00000042-20231114-221320");
        assert_eq!(
            Name {
                event: true,
                ..name
            }
            .stem(),
            "00000042-20231114-221320-event"
        );
        for foreign in [
            "",
            "holiday",
            "00000042-20231114",
            "42-20231114-221320",
            "00000042-20231314-221320",
            "00000042-20231114-221320-",
        ] {
            assert_eq!(Name::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_happened_outlives_what_did_not_until_its_own_room_is_full() {
        let segment = |number, event, bytes| Segment {
            name: Name {
                number,
                unix_seconds: 0,
                event,
            },
            bytes,
            age_seconds: 100 - number,
        };
        let all = [
            segment(1, true, 50),
            segment(2, false, 50),
            segment(3, false, 50),
            segment(4, true, 50),
            segment(5, false, 50),
        ];
        let gone = |limits: Limits| {
            to_delete(&all, &limits)
                .map(|s| s.name.number)
                .collect::<Vec<_>>()
        };
        let roomy = Limits {
            plain_bytes: 1_000,
            event_bytes: 1_000,
            age_seconds: None,
        };
        assert_eq!(gone(roomy), [] as [u64; 0]);
        assert_eq!(
            gone(Limits {
                plain_bytes: 99,
                ..roomy
            }),
            [2, 3]
        );
        assert_eq!(
            gone(Limits {
                plain_bytes: 100,
                event_bytes: 99,
                ..roomy
            }),
            [1, 2]
        );
        assert_eq!(
            gone(Limits {
                age_seconds: Some(96),
                ..roomy
            }),
            [2, 3]
        );
    }

    #[test]
    fn a_folder_lists_its_own_segments_and_deletes_both_files() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("00000002-20231114-221320.avi", "ab"),
            ("00000002-20231114-221320.jsonl", "c"),
            ("00000001-20231114-221320-event.avi", "d"),
            ("mine.avi", "e"),
            ("00000003-20231114-221320.jsonl", "f"),
        ] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let found = list(folder.path()).unwrap();
        assert_eq!(
            found
                .iter()
                .map(|s| (s.name.number, s.bytes))
                .collect::<Vec<_>>(),
            [(1, 1), (2, 3)]
        );
        delete(folder.path(), &found[1].name).unwrap();
        delete(folder.path(), &found[1].name).unwrap();
        assert_eq!(list(folder.path()).unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(number in 0u64..1 << 40, unix_seconds in 0u64..253_402_300_800, event: bool) {
            let name = Name { number, unix_seconds, event };
            prop_assert_eq!(Name::parse(&name.stem()), Some(name));
        }

        #[test]
        fn what_stays_fits_and_no_less_than_necessary_goes(
            sizes in prop::collection::vec((1u64..100, any::<bool>()), 0..30), plain in 0u64..600, event in 0u64..600,
        ) {
            let all: Vec<Segment> = sizes.iter().enumerate().map(|(n, &(bytes, event))| Segment {
                name: Name { number: n as u64, unix_seconds: 0, event }, bytes, age_seconds: 0,
            }).collect();
            let limits = Limits { plain_bytes: plain, event_bytes: event, age_seconds: None };
            let gone: Vec<u64> = to_delete(&all, &limits).map(|s| s.name.number).collect();
            for (kind, limit) in [(false, plain), (true, event)] {
                let of_kind = || all.iter().filter(|s| s.name.event == kind);
                let stay: Vec<&Segment> = of_kind().filter(|s| !gone.contains(&s.name.number)).collect();
                prop_assert!(stay.iter().map(|s| s.bytes).sum::<u64>() <= limit);
                // The youngest that went would not have fitted any more.
                if let Some(last) = of_kind().rfind(|s| gone.contains(&s.name.number)) {
                    prop_assert!(stay.iter().all(|s| s.name.number > last.name.number));
                    prop_assert!(stay.iter().map(|s| s.bytes).sum::<u64>() + last.bytes > limit);
                }
            }
        }
    }
}
