//! What the single-object data sets have in common: numbered images, one line of truth each.
//!
//! In goes what a reader found in one clip's folder; out comes a [`Sequence`] for training or a [`Run`] for evaluation.
//! LaSOT, GOT-10k and TrackingNet differ in where files lie, where pixels are counted from and how absence is told;
//! everything behind that is here.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::str::{FromStr, Utf8Error};
use std::sync::Arc;

use rayon::prelude::*;
use roadhound_shared::geometry::BoxXywh;

use super::classes::ClassTable;
use super::sequence::{Annotation, Frame, Run, Sequence};
use super::{DataError, LineProblem, number, numbered_images};

/// The object on one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    /// `None` where the object cannot be seen.
    pub(crate) box_in_image: Option<BoxXywh>,
    /// Whether something hides a part of it; `None` where that is not told.
    pub(crate) occluded: Option<bool>,
}

/// One object followed through one recording.
#[derive(Debug)]
pub(crate) struct Clip {
    pub(crate) name: String,
    /// What it was cut out of, where others were, too: see [`Sequence::scene`].
    pub(crate) scene: Option<String>,
    pub(crate) class: String,
    /// Frame numbers and files: as many as `targets`, or more where the truth ends early.
    pub(crate) images: Vec<(u32, Arc<Path>)>,
    pub(crate) targets: Vec<Target>,
    pub(crate) fps: f64,
    pub(crate) size_px: Option<(u32, u32)>,
    /// The file with the truth, for messages.
    pub(crate) truth_path: PathBuf,
}

impl Clip {
    /// Holds the truth against the images: line `i` speaks of image `first_number + i`.
    ///
    /// # Errors
    /// The first line without an image.
    pub(crate) fn check_images(&self, first_number: u32) -> Result<(), DataError> {
        for index in 0..self.targets.len() {
            let frame = first_number.saturating_add(index as u32);
            if self.images.get(index).map(|(number, _)| *number) != Some(frame) {
                let sequence = self.name.clone();
                let problem = LineProblem::NoImage { sequence, frame };
                return Err(DataError::line(&self.truth_path, index as u64 + 1, problem));
            }
        }
        Ok(())
    }

    /// For training: images behind the last line of truth are left out, and all but every `keep_every`-th frame. `None`
    /// where only the first box is published, as in test splits.
    pub(crate) fn into_sequence(self, classes: &ClassTable, keep_every: u32) -> Option<Sequence> {
        if self.targets.len() <= 1 && self.images.len() > 1 {
            return None;
        }
        let class = classes.get(&self.class);
        let frames: Vec<Frame> = self
            .images
            .into_iter()
            .zip(self.targets)
            .step_by(keep_every.max(1) as usize)
            .map(|((number, path), target)| Frame {
                path,
                number,
                size_px: self.size_px,
                annotations: target
                    .box_in_image
                    .map(|box_in_image| Annotation {
                        box_in_image,
                        instance: 0,
                        class: class.name.clone(),
                        occluded: target.occluded,
                        ignore: class.ignore,
                    })
                    .into_iter()
                    .collect(),
            })
            .collect();
        (!frames.is_empty()).then(|| Sequence {
            name: self.name.into(),
            frames,
            is_video: true,
            scene: self.scene.map(Arc::from),
        })
    }

    /// For evaluation: the truth has to cover every image.
    ///
    /// # Errors
    /// A clip of which only the first box is published, as in test splits.
    pub(crate) fn into_run(self) -> Result<Run, DataError> {
        if self.targets.len() != self.images.len() {
            return Err(DataError::line(
                &self.truth_path,
                self.targets.len() as u64,
                LineProblem::EntryCount {
                    found: self.targets.len(),
                    expected: self.images.len(),
                    of: "the folder of images",
                },
            ));
        }
        Ok(Run {
            name: self.name,
            frames: self
                .images
                .iter()
                .map(|(_, path)| path.to_path_buf())
                .collect(),
            truth: self
                .targets
                .iter()
                .map(|target| target.box_in_image)
                .collect(),
            fps: self.fps,
            assisted: false,
            class: None,
        })
    }
}

/// Where a clip is and what its folder tells about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

/// Reads clips or files on all cores and keeps their order; the first error in that order is the one reported.
pub(crate) fn read_all<P: Send, T: Send>(
    places: Vec<P>,
    read: impl Fn(P) -> Result<T, DataError> + Sync + Send,
) -> Result<Vec<T>, DataError> {
    let read: Vec<Result<T, DataError>> = places.into_par_iter().map(read).collect();
    read.into_iter().collect()
}

/// Folders directly inside `folder`, sorted by name.
pub(crate) fn folders(folder: &Path) -> Result<Vec<Place>, DataError> {
    let mut places = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let kind = entry.file_type().map_err(DataError::io(folder))?;
        // Data sets are often put together from links.
        if kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()) {
            places.push(Place {
                name: entry.file_name().to_string_lossy().into_owned(),
                folder: entry.path(),
            });
        }
    }
    places.sort();
    Ok(places)
}

/// The first word of every line that has one: a list of clips.
pub(crate) fn read_list(path: &Path) -> Result<Vec<(u64, String)>, DataError> {
    let text = read_text(path)?;
    Ok(text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| {
            Some((index as u64 + 1, line.split_whitespace().next()?.to_owned()))
        })
        .collect())
}

/// A text file, or the line on which it stops being UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = std::fs::read(path).map_err(DataError::io(path))?;
    String::from_utf8(bytes).map_err(|error| not_text(path, error.as_bytes(), error.utf8_error()))
}

fn not_text(path: &Path, bytes: &[u8], error: Utf8Error) -> DataError {
    let valid = &bytes[..error.valid_up_to()];
    let line = valid.iter().filter(|b| **b == b'\n').count() as u64 + 1;
    DataError::line(path, line, LineProblem::Text("not UTF-8".into()))
}

/// Reads many small text files into the same memory, with as few calls of the system as there can be: for a hundred
/// thousand files these are most of the time.
#[derive(Debug, Default)]
pub(crate) struct TextReader {
    bytes: Vec<u8>,
}

impl TextReader {
    /// The text of a file, `None` where there is no such file; or the line on which it stops being UTF-8.
    pub(crate) fn read_if_there(&mut self, path: &Path) -> Result<Option<&str>, DataError> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DataError::io(path)(error)),
        };
        // Not `read_to_end`, which asks for the length first.
        self.bytes.resize(self.bytes.capacity().max(8 << 10), 0);
        let mut filled = 0;
        loop {
            if filled == self.bytes.len() {
                self.bytes.resize(2 * filled, 0);
            }
            match file.read(&mut self.bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(DataError::io(path)(error)),
            }
        }
        let text = &self.bytes[..filled];
        let checked = std::str::from_utf8(text).map_err(|error| not_text(path, text, error))?;
        Ok(Some(checked))
    }

    /// The text of a file.
    pub(crate) fn read(&mut self, path: &Path) -> Result<&str, DataError> {
        let found = self.read_if_there(path)?;
        found.ok_or_else(|| DataError::io(path)(ErrorKind::NotFound.into()))
    }
}

/// As [`read_all`], with a reader of texts for each thread.
pub(crate) fn read_all_texts<P: Send, T: Send>(
    places: Vec<P>,
    read: impl Fn(&mut TextReader, P) -> Result<T, DataError> + Sync + Send,
) -> Result<Vec<T>, DataError> {
    let read: Vec<Result<T, DataError>> = places
        .into_par_iter()
        .map_init(TextReader::default, read)
        .collect();
    read.into_iter().collect()
}

/// The images of a clip by number.
pub(crate) fn clip_images(folder: &Path) -> Result<Vec<(u32, Arc<Path>)>, DataError> {
    let images = numbered_images(folder)?;
    if images.is_empty() {
        return Err(DataError::Layout {
            path: folder.to_owned(),
            reason: "has no numbered .jpg, .jpeg or .png files",
        });
    }
    Ok(images)
}

/// One whole number a frame, apart by commas or white space, on one line or many.
///
/// # Errors
/// A field that is no number, or another count than `expected`.
pub(crate) fn read_flags<T: FromStr + PartialOrd>(
    path: &Path,
    field: &'static str,
    says: &'static str,
    most: T,
    expected: usize,
) -> Result<Vec<T>, DataError> {
    let text = read_text(path)?;
    let mut flags = Vec::with_capacity(expected);
    let mut last = 1;
    for (index, line) in text.lines().enumerate() {
        let at_line = |problem| DataError::line(path, index as u64 + 1, problem);
        for word in line
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|word| !word.is_empty())
        {
            let flag: T = number(word, field, says).map_err(at_line)?;
            if flag > most {
                return Err(at_line(LineProblem::NotANumber {
                    field,
                    text: word.to_owned(),
                    expected: says,
                }));
            }
            flags.push(flag);
            last = index as u64 + 1;
        }
    }
    if flags.len() != expected {
        let problem = LineProblem::EntryCount {
            found: flags.len(),
            expected,
            of: "groundtruth.txt",
        };
        return Err(DataError::line(path, last, problem));
    }
    Ok(flags)
}
