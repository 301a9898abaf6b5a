//! Where results go: text lines, JSON lines, files for annotators, an annotated video.
//!
//! Enters: reports, one a frame. Leaves: files that are complete up to the last frame written, however the
//! program ends; only the video needs its `finish`, and what is written from [`recorded`] comes at the end.

pub mod boxes;
pub mod coco;
pub mod crowd;
pub mod cvat;
mod font;
pub mod jsonl;
pub mod live;
pub mod mot;
pub mod mp4;
pub mod overlay;
pub mod picture;
pub mod recorded;
pub mod times;
pub mod users;
pub mod video;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use roadhound_host::apart::{Read, Written, clash};

use crate::bundle::ModelSource;
use crate::source::PICTURE_ENDINGS;

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct SinkError {
    /// The file.
    pub path: PathBuf,
    /// What the operating system or the encoder said.
    pub reason: std::io::Error,
}

impl SinkError {
    /// Whether the disk is full, which is nobody's mistake and has an exit status of its own.
    pub fn is_full(&self) -> bool {
        matches!(
            self.reason.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        )
    }
}

/// Whether every file that is asked for is another one, and none is read: the source, the model, a configuration.
///
/// # Errors
/// One line that names the file and its two meanings.
pub(crate) fn check_apart(
    files: &[(&str, &Option<PathBuf>)],
    source: &Path,
    model: &ModelSource,
    config: Option<&Path>,
) -> Result<(), String> {
    let written = files.iter().filter_map(|(name, path)| {
        let path = path.as_deref()?;
        Some(Written { name, path })
    });
    let mut read = vec![Read {
        name: "the source",
        path: source,
        holds: PICTURE_ENDINGS,
    }];
    if let ModelSource::Folder(path) = model {
        read.push(Read {
            name: "a file of the model",
            path,
            holds: &["toml", "onnx", "json"],
        });
    }
    read.extend(config.map(|path| Read {
        name: "--config",
        path,
        holds: &[],
    }));
    let found = clash(&written.collect::<Vec<_>>(), &read);
    found.map_or(Ok(()), |found| Err(found.to_string()))
}

/// A text file that holds every line as soon as it is written.
pub(crate) struct Lines {
    path: PathBuf,
    out: BufWriter<Box<dyn Write>>,
}

impl Lines {
    pub(crate) fn create(path: &Path) -> Result<Self, SinkError> {
        match File::create(path) {
            Ok(file) => Ok(Self::new(path, Box::new(file))),
            Err(reason) => Err(SinkError {
                path: path.to_path_buf(),
                reason,
            }),
        }
    }

    fn new(path: &Path, out: Box<dyn Write>) -> Self {
        Self {
            path: path.to_path_buf(),
            out: BufWriter::new(out),
        }
    }

    pub(crate) fn stdout() -> Self {
        Self::new(Path::new("standard output"), Box::new(std::io::stdout()))
    }

    /// Writes one line and hands it to the operating system: a line costs microseconds, a lost one an experiment.
    pub(crate) fn write(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), SinkError> {
        write(&mut self.out)
            .and_then(|()| self.out.write_all(b"\n"))
            .and_then(|()| self.out.flush())
            .map_err(|reason| SinkError {
                path: self.path.clone(),
                reason,
            })
    }
}
