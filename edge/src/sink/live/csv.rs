//! One line of comma-separated values an event, under a header.

use std::io::{self, Write};
use std::path::Path;

use super::{LiveSink, lines_file};
use crate::run::event::TrackEvent;

/// Names of the columns.
pub const HEADER: &str = "frame,t_micros,unix_micros,phase,x,y,w,h,score,presence,similarity,latency_ms,track_ms,skipped,mark,manoeuvre";

/// Appends lines; a file that is new or empty gets the header first.
pub struct CsvLines {
    out: Box<dyn Write + Send>,
    line: Vec<u8>,
}

impl CsvLines {
    /// Opens the file, or standard output for `-`.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut out = lines_file(path)?;
        if std::fs::metadata(path).map_or(true, |file| file.len() == 0) {
            // One call: half of it would be taken for the header of a file that is there already.
            out.write_all(format!("{HEADER}\n").as_bytes())?;
        }
        Ok(Self {
            out,
            line: Vec::new(),
        })
    }
}

impl LiveSink for CsvLines {
    fn write(&mut self, event: &TrackEvent) -> io::Result<()> {
        let l = event.line();
        self.line.clear();
        let to = &mut self.line;
        if let Some(frame) = l.frame {
            write!(to, "{frame}")?;
        }
        write!(to, ",{},{},{}", l.t_micros, l.unix_micros, l.phase)?;
        match l.r#box {
            Some([x, y, w, h]) => write!(to, ",{x:.3},{y:.3},{w:.3},{h:.3}")?,
            None => write!(to, ",,,,")?,
        }
        writeln!(
            to,
            ",{:.4},{:.4},{:.4},{:.3},{:.3},{},{},{}",
            l.score,
            l.presence,
            l.similarity,
            l.latency_ms,
            l.track_ms,
            l.skipped,
            u8::from(l.mark),
            u8::from(l.manoeuvre)
        )?;
        self.out.write_all(&self.line)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::run::event::testing::event;

    #[test]
    fn every_line_has_the_columns_of_the_header_and_a_second_run_goes_on_below() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let lost = TrackEvent {
            frame: None,
            report: roadhound_shared::tracker::Report {
                box_in_image: None,
                ..event(1).report
            },
            ..event(1)
        };
        for run in 0..2 {
            let mut sink = CsvLines::open(&path).unwrap();
            sink.write(&event(run)).unwrap();
            sink.write(&lost).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], HEADER);
        let columns = HEADER.split(',').count();
        assert!(
            lines.iter().all(|line| line.split(',').count() == columns),
            "{text}"
        );
        assert!(lines[3].starts_with("1,33333,"), "{text}");
    }
}
