//! Unlabelled video: folders of frames, cut into short clips.
//!
//! In: folders. Out: [`Clip`]s of a few frames each, in order, with time stamps. Any folder below a given one that holds
//! pictures is one recording. Where the names of all its frames end in numbers that rise, the numbers tell the time: of a
//! recording of which every eighth frame was kept, frames lie eight apart, and where many are missing a clip ends.
//!
//! Clips of one recording show the same road, and the next one follows by a frame: what is held out is the end of a recording,
//! with a clip between that nobody uses, or a whole recording where that is short.
//!
//! ```no_run
//! use roadhound_trainer::adapt::clips::{ClipConfig, open};
//! let clips = open(&["drives".into()], &ClipConfig::default())?;
//! println!("{} clips, the first of {} frames", clips.len(), clips[0].frames.len());
//! # Ok::<(), roadhound_trainer::data::DataError>(())
//! ```

use std::ops::Range;
use std::path::{Path, PathBuf};

use roadhound_shared::frame::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, in_range};
use crate::data::{DataError, list_folders, list_images};

/// Names of recordings and of their clips begin so.
pub(crate) const RECORDING: &str = "v";
/// Folders below a given one are searched this deep.
const DEEPEST: usize = 5;
/// A clip has at least as many frames.
const SHORTEST: usize = 2;

/// How recordings are cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipConfig {
    /// Frames a second of the recordings.
    pub fps: f64,
    /// Frames of a clip at most.
    pub frames: usize,
    /// A clip ends where the next frame is further away.
    pub largest_gap_seconds: f64,
    /// The last one in so many clips of a recording is held out: weights are chosen by these and learn nothing from them. Of
    /// recordings with fewer clips than that, one in so many is.
    pub held_out_every: usize,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self {
            fps: 30.0,
            frames: 24,
            largest_gap_seconds: 0.5,
            held_out_every: 5,
        }
    }
}

impl ClipConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("clips.fps", self.fps, 0.1, 1000.0)?;
        in_range("clips.frames", self.frames as f64, 2.0, 1000.0)?;
        let gap = self.largest_gap_seconds;
        in_range("clips.largest_gap_seconds", gap, 1e-3, 60.0)?;
        let every = self.held_out_every as f64;
        in_range("clips.held_out_every", every, 2.0, 1000.0)
    }
}

/// A few frames of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Unique; can be the name of a folder. Up to its last `_` it is the recording.
    pub name: String,
    /// What it is a part of, the same for all clips of the same recording.
    pub recording: String,
    /// In order: files and when they were taken, from the clip's first frame.
    pub frames: Vec<(PathBuf, Timestamp)>,
    /// Kept for choosing.
    pub held_out: bool,
}

/// All clips of these folders, in the order of their names.
///
/// # Errors
/// A folder that cannot be listed, or that has no video in it.
pub fn open(folders: &[PathBuf], config: &ClipConfig) -> Result<Vec<Clip>, DataError> {
    let mut clips = Vec::new();
    let mut short = 0;
    for (number, folder) in folders.iter().enumerate() {
        let mut recordings = Vec::new();
        search(folder, &format!("{RECORDING}{number}"), 0, &mut recordings)?;
        let before = clips.len();
        for (recording, frames) in recordings {
            let parts = cut(frames, config);
            let every = config.held_out_every;
            let (learned, held_out) = match learned_and_held_out(parts.len(), every) {
                Some(both) => both,
                None if parts.is_empty() => continue,
                None => {
                    short += 1;
                    match short % every {
                        0 => (0..0, 0..parts.len()),
                        _ => (0..parts.len(), 0..0),
                    }
                }
            };
            for (part, frames) in parts.into_iter().enumerate() {
                if learned.contains(&part) || held_out.contains(&part) {
                    clips.push(Clip {
                        name: format!("{recording}_{part:04}"),
                        recording: recording.clone(),
                        frames,
                        held_out: held_out.contains(&part),
                    });
                }
            }
        }
        if clips.len() == before {
            return Err(DataError::Layout {
                path: folder.clone(),
                reason: "holds no video: a folder of two or more .jpg, .jpeg or .png frames, here or below (a film has to be written as frames first)",
            });
        }
    }
    Ok(clips)
}

/// Which clips of a recording are learned from, and which are held out: its end, with a clip between. `None` where it is too
/// short for that.
fn learned_and_held_out(clips: usize, every: usize) -> Option<(Range<usize>, Range<usize>)> {
    let held_out = clips / every;
    let from = clips - held_out;
    (held_out > 0 && from > 1).then(|| (0..from - 1, from..clips))
}

/// Files in the order of the numbers that their names end in, where the names differ in nothing else: `9.jpg` comes before
/// `10.jpg`. Others stay as they are.
pub(crate) fn by_number(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let named = files.iter().map(|path| {
        let (stem, number) = (path.file_stem()?.to_str()?, number_of(path)?);
        Some((stem.trim_end_matches(|c: char| c.is_ascii_digit()), number))
    });
    let named: Option<Vec<(&str, u64)>> = named.collect();
    let Some(named) = named.filter(|named| named.windows(2).all(|pair| pair[0].0 == pair[1].0))
    else {
        return files;
    };
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|at| named[*at].1);
    order.into_iter().map(|at| files[at].clone()).collect()
}

fn search(
    folder: &Path,
    name: &str,
    depth: usize,
    found: &mut Vec<(String, Vec<PathBuf>)>,
) -> Result<(), DataError> {
    let images = by_number(list_images(folder)?);
    if images.len() >= SHORTEST {
        found.push((name.to_owned(), images));
    }
    if depth == DEEPEST {
        return Ok(());
    }
    for path in list_folders(folder)? {
        let own = path.file_name().unwrap_or_default().to_string_lossy();
        search(&path, &format!("{name}.{own}"), depth + 1, found)?;
    }
    Ok(())
}

/// The number that a file's name ends in.
fn number_of(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let digits = stem.len() - stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    stem[stem.len() - digits..].parse().ok()
}

fn cut(frames: Vec<PathBuf>, config: &ClipConfig) -> Vec<Vec<(PathBuf, Timestamp)>> {
    let numbers: Option<Vec<u64>> = frames.iter().map(|path| number_of(path)).collect();
    let rises = |numbers: &Vec<u64>| numbers.windows(2).all(|pair| pair[0] < pair[1]);
    let numbers = numbers
        .filter(rises)
        .unwrap_or_else(|| (0..frames.len() as u64).collect());
    let most_apart = (config.largest_gap_seconds * config.fps).max(1.0);
    let mut clips: Vec<Vec<(PathBuf, u64)>> = Vec::new();
    for (path, number) in frames.into_iter().zip(numbers) {
        match clips.last_mut() {
            Some(clip)
                if clip.len() < config.frames
                    && clip
                        .last()
                        .is_some_and(|(_, last)| (number - last) as f64 <= most_apart) =>
            {
                clip.push((path, number));
            }
            _ => clips.push(vec![(path, number)]),
        }
    }
    clips.retain(|clip| clip.len() >= SHORTEST);
    let timed = |clip: Vec<(PathBuf, u64)>| {
        let first = clip[0].1;
        let at = |number: u64| Timestamp::of_frame(number - first, config.fps);
        clip.into_iter()
            .map(|(path, number)| (path, at(number)))
            .collect()
    };
    clips.into_iter().map(timed).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn touch(folder: &Path, names: &[&str]) {
        std::fs::create_dir_all(folder).unwrap();
        for name in names {
            std::fs::write(folder.join(name), b"").unwrap();
        }
    }

    #[test]
    fn numbers_tell_the_time_and_a_gap_ends_a_clip() {
        let root = tempfile::tempdir().unwrap();
        touch(
            &root.path().join("drive/img"),
            &["008.jpg", "016.jpg", "024.jpg", "200.jpg", "208.jpg"],
        );
        touch(&root.path().join("plain"), &["a.png", "b.png", "notes.txt"]);
        touch(&root.path().join("still"), &["alone.jpg"]);
        let config = ClipConfig {
            held_out_every: 2,
            ..ClipConfig::default()
        };
        let clips = open(&[root.path().to_owned()], &config).unwrap();
        let names: Vec<&str> = clips.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(
            names,
            ["v0.drive.img_0000", "v0.drive.img_0001", "v0.plain_0000"]
        );
        let recordings: Vec<&str> = clips.iter().map(|c| c.recording.as_str()).collect();
        assert_eq!(recordings, ["v0.drive.img", "v0.drive.img", "v0.plain"]);
        let times: Vec<u64> = clips[0].frames.iter().map(|f| f.1.0).collect();
        assert_eq!(times, [0, 266_667, 533_333]);
        assert_eq!(clips[2].frames[1].1, Timestamp::of_frame(1, 30.0));
        let held_out: Vec<bool> = clips.iter().map(|c| c.held_out).collect();
        assert_eq!(held_out, [false, false, true]);
    }

    #[test]
    fn the_end_of_a_long_recording_is_held_out_with_a_gap_and_one_in_so_many_short_ones() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..30).map(|i| format!("{i:02}.jpg")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        touch(&root.path().join("long"), &names[..20]);
        for short in ["s1", "s2", "s3", "s4", "s5"] {
            touch(&root.path().join(short), &names[..4]);
        }
        let config = ClipConfig {
            frames: 2,
            ..ClipConfig::default()
        };
        let clips = open(&[root.path().to_owned()], &config).unwrap();
        let of = |held_out: bool| -> Vec<&str> {
            let wanted = clips.iter().filter(|clip| clip.held_out == held_out);
            wanted.map(|clip| clip.name.as_str()).collect()
        };
        assert_eq!(
            of(true),
            ["v0.long_0008", "v0.long_0009", "v0.s5_0000", "v0.s5_0001"]
        );
        let learned = of(false);
        assert_eq!(learned.len(), 7 + 4 * 2, "{learned:?}");
        // The clip between is nobody's.
        assert_eq!(learned[6], "v0.long_0006");
        for (clips, every, expected) in [
            (4, 5, None),
            (5, 5, Some((0..3, 4..5))),
            (2, 2, None),
            (3, 2, Some((0..1, 2..3))),
            (0, 2, None),
        ] {
            assert_eq!(learned_and_held_out(clips, every), expected);
        }
    }

    #[test]
    fn frames_without_leading_zeros_are_in_the_order_of_their_numbers() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["f8.jpg", "f9.jpg", "f10.jpg", "f11.jpg"]);
        let clips = open(&[root.path().to_owned()], &ClipConfig::default()).unwrap();
        let frames: Vec<(String, Timestamp)> = clips[0]
            .frames
            .iter()
            .map(|(path, at)| (path.file_name().unwrap().to_str().unwrap().to_owned(), *at))
            .collect();
        let expected = ["f8.jpg", "f9.jpg", "f10.jpg", "f11.jpg"]
            .into_iter()
            .zip(0..)
            .map(|(name, frame)| (name.to_owned(), Timestamp::of_frame(frame, 30.0)));
        assert_eq!(frames, expected.collect::<Vec<_>>());
        // Numbers of two cameras, or of seconds, say nothing of the order.
        for names in [["a_2.jpg", "b_1.jpg"], ["10-59.jpg", "11-00.jpg"]] {
            let files: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
            assert_eq!(by_number(files.clone()), files);
        }
    }

    #[test]
    fn a_long_recording_is_cut_and_a_folder_without_video_is_named() {
        let root = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..11).map(|i| format!("f{i:02}.jpg")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        touch(root.path(), &names);
        let config = ClipConfig {
            frames: 5,
            ..ClipConfig::default()
        };
        let clips = open(&[root.path().to_owned()], &config).unwrap();
        // The last frame alone is no clip.
        assert_eq!(
            clips.iter().map(|c| c.frames.len()).collect::<Vec<_>>(),
            [5, 5]
        );
        let empty = tempfile::tempdir().unwrap();
        touch(empty.path(), &["drive.mp4"]);
        let error = open(&[empty.path().to_owned()], &config)
            .unwrap_err()
            .to_string();
        assert!(error.contains("holds no video"), "{error}");
        assert!(
            error.starts_with(&empty.path().display().to_string()),
            "{error}"
        );
    }
}
