//! Why data could not be read.

use std::io;
use std::path::{Path, PathBuf};

use roadhound_shared::metrics::multi::text::LineError;
use roadhound_shared::preprocess::PreprocessError;

/// Why data could not be read. Every variant names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// What was being opened or listed.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// A line of a text file does not say what it should.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The text file.
        path: PathBuf,
        /// Counted from 1, as editors do.
        line: u64,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// An entry of a file refers to something that the file does not have. Found when all of it has been read, so there
    /// is no line.
    #[error("{}: {entry} {id}: {problem}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// What kind of entry.
        entry: &'static str,
        /// Which one.
        id: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A folder is not laid out as its kind of pack is.
    #[error("{}: {reason}", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// An image could not be decoded, or is no image.
    #[error("{}: not a readable image: {reason}", path.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// The decoder's words.
        reason: String,
    },
    /// A setting cannot be used.
    #[error("data configuration: {field} is {value}: {reason}")]
    Config {
        /// Path of the field.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// Why that does not work.
        reason: &'static str,
    },
    /// Nothing usable is left after splitting and filtering.
    #[error("no usable target in the {split} split of packs {packs:?}")]
    NoTargets {
        /// `training` or `validation`.
        split: &'static str,
        /// Names of the packs with a weight above zero.
        packs: Vec<String>,
    },
    /// The crop geometry was refused.
    #[error("cannot crop: {0}")]
    Crop(PreprocessError),
    /// Crops could not be given another manner.
    #[error("cannot restyle crops: {0}")]
    Restyle(String),
    /// A worker thread ended without saying why.
    #[error("worker {worker} of the prefetcher ended before batch {step} was made")]
    WorkerGone {
        /// Which thread, from 0.
        worker: usize,
        /// The batch that is missing.
        step: u64,
    },
}

/// What is wrong with one line of an annotation file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LineProblem {
    /// Too few or too many columns.
    #[error("{found} fields, expected {expected}")]
    FieldCount {
        /// Columns on the line.
        found: usize,
        /// Columns needed.
        expected: usize,
    },
    /// A column holds something else than the number it should.
    #[error("{field} is {text:?}, expected {expected}")]
    NotANumber {
        /// The column's name.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What should.
        expected: &'static str,
    },
    /// A box of no area, or of infinite or undefined size.
    #[error("box {x},{y},{w},{h} has no finite positive area")]
    EmptyBox {
        /// Left edge as written.
        x: f32,
        /// Top edge as written.
        y: f32,
        /// Width as written.
        w: f32,
        /// Height as written.
        h: f32,
    },
    /// The first line does not name the columns we read.
    #[error("header is {found:?}, expected {expected:?}")]
    Header {
        /// As written.
        found: String,
        /// As needed.
        expected: &'static str,
    },
    /// The line speaks of an image that is not in the folder.
    #[error("no image for sequence {sequence:?} frame {frame}")]
    NoImage {
        /// Name of the sequence.
        sequence: String,
        /// Number of the frame.
        frame: u32,
    },
    /// Two lines give the same object two boxes on one frame.
    #[error("instance {instance} has a second box on frame {frame}")]
    Repeated {
        /// The object.
        instance: u32,
        /// The frame.
        frame: u32,
    },
    /// A file with one entry a frame has another number of them than there are frames.
    #[error("{found} entries, {of} has {expected}")]
    EntryCount {
        /// Entries in this file.
        found: usize,
        /// Entries there should be.
        expected: usize,
        /// What they are counted against.
        of: &'static str,
    },
    /// A named part is missing.
    #[error("no {0}")]
    Missing(&'static str),
    /// A column of the line does not fit the format.
    #[error("column {column}: {reason}")]
    Column {
        /// Counted from 1.
        column: u64,
        /// The parser's words.
        reason: String,
    },
    /// A path in the file would leave the pack's folder.
    #[error("{0:?} leaves the folder of images")]
    Outside(String),
    /// A line of tracks does not say what it should.
    #[error(transparent)]
    Track(LineError),
    /// An object is in two places at once.
    #[error("identity {identity} is on this frame already")]
    Identity {
        /// Which.
        identity: i64,
    },
    /// A frame that the sequence does not have.
    #[error("frame {frame} of a sequence of {frames}")]
    BehindTheEnd {
        /// As written.
        frame: u32,
        /// Frames of the sequence.
        frames: u32,
    },
    /// The text is not UTF-8 or not a table.
    #[error("unreadable text: {0}")]
    Text(String),
}

impl From<PreprocessError> for DataError {
    fn from(reason: PreprocessError) -> Self {
        Self::Crop(reason)
    }
}

impl DataError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |reason| Self::Io {
            path: path.to_owned(),
            reason,
        }
    }

    pub(crate) fn line(path: &Path, line: u64, problem: LineProblem) -> Self {
        Self::Line {
            path: path.to_owned(),
            line,
            problem,
        }
    }
}
