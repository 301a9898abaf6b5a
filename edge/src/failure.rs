//! What ends the program early, and with which status.

use std::process::ExitCode;

use roadhound_shared::follow::FollowError;

use crate::bundle::BundleError;
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
}

impl Failure {
    /// 4 where a disk is full, else 2.
    pub fn status(&self) -> ExitCode {
        match self {
            Self::Sink(e) if e.is_full() => ExitCode::from(4),
            _ => ExitCode::from(2),
        }
    }

    /// The text for standard error: never more than one line.
    pub fn line(&self) -> String {
        roadhound_host::line::of(self)
    }
}
