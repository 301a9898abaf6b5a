//! What ends the program early, and with which status.

use std::process::ExitCode;

use roadhound_shared::follow::FollowError;
use roadhound_shared::watch::WatcherError;

use crate::bundle::BundleError;
use crate::capture::CaptureError;
use crate::infer::InferError;
use crate::sink::SinkError;
use crate::source::SourceError;

/// The end of a command that did not work out. Its text is one line with the file and the reason.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Bad usage.
    #[error("{0}")]
    Usage(String),
    /// A source that cannot be read, from the start or from some frame on.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A model that is refused.
    #[error(transparent)]
    Model(#[from] BundleError),
    /// A result that cannot be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A frame that cannot be followed, with the source it came from.
    #[error("{source_name}: {error}")]
    Follow {
        /// The source.
        source_name: String,
        /// The reason.
        error: Box<FollowError<InferError>>,
    },
    /// A frame that cannot be watched, with the source it came from.
    #[error("{source_name}: {error}")]
    Watch {
        /// The source.
        source_name: String,
        /// The reason.
        error: Box<WatcherError<InferError>>,
    },
    /// A live source that cannot be used, and trying again does not help.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The camera stayed away for longer than the configuration allows.
    #[error("{device}: no frames for too long ({cause}), giving up")]
    CameraGone {
        /// What the camera is called.
        device: String,
        /// Why it was last closed or not opened.
        cause: &'static str,
    },
    /// A thread of the running program hangs.
    #[error(
        "{stage}: no sign of life for {seconds} s, ending so that the service manager starts anew"
    )]
    Stalled {
        /// Which one.
        stage: &'static str,
        /// For how long.
        seconds: u64,
    },
    /// A thread of the running program panicked; what it said was said there.
    #[error("{stage}: ended by a panic, ending so that the service manager starts anew")]
    Panicked {
        /// Which one.
        stage: &'static str,
    },
}

impl Failure {
    /// 3 where the camera is gone for good, 4 where a disk is full, 5 where the program hangs or panicked, else 2.
    pub fn status(&self) -> ExitCode {
        match self {
            Self::CameraGone { .. } => ExitCode::from(3),
            Self::Sink(e) | Self::Capture(CaptureError::Sink(e)) if e.is_full() => {
                ExitCode::from(4)
            }
            Self::Stalled { .. } | Self::Panicked { .. } => ExitCode::from(5),
            _ => ExitCode::from(2),
        }
    }

    /// The text for standard error: never more than one line.
    pub fn line(&self) -> String {
        roadhound_host::line::of(self)
    }
}
