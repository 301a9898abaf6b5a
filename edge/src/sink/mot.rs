//! Lines of MOTChallenge: `frame,id,left,top,width,height,score,-1,-1,-1`, frames counted from 1, pixels of the image.
//!
//! The layout has no place for classes of road users; JSON lines, COCO and CVAT have.

use std::path::Path;

use roadhound_shared::watch::Report;

use super::{Lines, SinkError};

/// Writes a result file of many.
pub struct MotSink(Lines);

impl MotSink {
    /// Creates or replaces the file.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path) -> Result<Self, SinkError> {
        Lines::create(path).map(Self)
    }

    /// Writes to standard output instead.
    pub fn stdout() -> Self {
        Self(Lines::stdout())
    }

    /// Writes a line for everybody on a frame, which is counted from 0.
    ///
    /// # Errors
    /// A line cannot be written.
    pub fn write(&mut self, frame: u64, shown: &[Report]) -> Result<(), SinkError> {
        for report in shown {
            let (number, b) = (frame + 1, &report.box_in_image);
            self.0.write(|out| {
                write!(
                    out,
                    "{number},{},{:.2},{:.2},{:.2},{:.2},{:.4},-1,-1,-1",
                    report.identity, b.x_px, b.y_px, b.w_px, b.h_px, report.score
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::geometry::BoxXywh;
    use roadhound_shared::metrics::multi::text::MotLine;
    use roadhound_shared::watch::{RoadUser, Sight};

    use super::*;

    #[test]
    fn lines_are_read_as_they_were_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        let shown = [3, 12].map(|identity| Report {
            identity,
            kind: RoadUser::Bus,
            box_in_image: BoxXywh::new(1.5, -2.25, 30.126, 4.0),
            score: 0.75,
            sight: Sight::Seen { detection: 0 },
        });
        let mut sink = MotSink::create(&path).unwrap();
        sink.write(0, &shown).unwrap();
        sink.write(1, &[]).unwrap();
        sink.write(2, &shown[..1]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<MotLine> = text.lines().map(|l| MotLine::parse(l).unwrap()).collect();
        let read: Vec<_> = lines.iter().map(|l| (l.frame, l.identity)).collect();
        assert_eq!(read, [(1, 3), (1, 12), (3, 3)]);
        assert_eq!((lines[0].flag, lines[0].class), (0.75, None));
        let b = &lines[0].box_in_image;
        assert_eq!((b.x_px, b.y_px, b.w_px, b.h_px), (1.5, -2.25, 30.13, 4.0));
    }
}
