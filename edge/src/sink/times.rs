//! Milliseconds from decoded frame to box, one line a frame.

use std::path::Path;
use std::time::Duration;

use super::{Lines, SinkError};

/// Writes a file of times.
pub struct TimesSink(Lines);

impl TimesSink {
    /// Creates or replaces the file.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        Lines::create(path).map(Self)
    }

    /// Writes the line of one frame.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn write(&mut self, took: Duration) -> Result<(), SinkError> {
        self.0
            .write(|out| write!(out, "{:.4}", took.as_secs_f64() * 1e3))
    }
}
