//! One JSON object a line and event, to a file or standard output.

use std::io::{self, Write};
use std::path::Path;

use super::{LiveSink, lines_file};
use crate::run::event::TrackEvent;

/// Appends lines.
pub struct JsonLines {
    out: Box<dyn Write + Send>,
    line: Vec<u8>,
}

impl JsonLines {
    /// Opens the file, or standard output for `-`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            out: lines_file(path)?,
            line: Vec::new(),
        })
    }
}

/// Writes the JSON of an event, without a line break.
pub(crate) fn json(event: &TrackEvent, line: &mut Vec<u8>) -> io::Result<()> {
    line.clear();
    serde_json::to_writer(line, &event.line()).map_err(io::Error::from)
}

impl LiveSink for JsonLines {
    fn write(&mut self, event: &TrackEvent) -> io::Result<()> {
        json(event, &mut self.line)?;
        self.line.push(b'\n');
        // One call: a line is whole or absent, also where several programs append to one file.
        self.out.write_all(&self.line)?;
        self.out.flush()
    }
}
