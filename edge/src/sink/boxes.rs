//! The result file: `x,y,w,h` a line in pixels of the source image, `nan,nan,nan,nan` where there is no target.

use std::path::Path;

use roadhound_shared::geometry::BoxXywh;

use super::{Lines, SinkError};

/// Writes a result file.
pub struct BoxesSink(Lines);

impl BoxesSink {
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

    /// Writes the line of one frame.
    ///
    /// # Errors
    /// The line cannot be written.
    pub fn write(&mut self, box_in_image: Option<BoxXywh>) -> Result<(), SinkError> {
        self.0.write(|out| match box_in_image {
            Some(b) => write!(
                out,
                "{:.3},{:.3},{:.3},{:.3}",
                b.x_px, b.y_px, b.w_px, b.h_px
            ),
            None => write!(out, "nan,nan,nan,nan"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_in_the_file_before_the_sink_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        let mut sink = BoxesSink::create(&path).unwrap();
        sink.write(Some(BoxXywh::new(1.0, -2.5, 30.1254, 4.0)))
            .unwrap();
        sink.write(None).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "1.000,-2.500,30.125,4.000\nnan,nan,nan,nan\n"
        );
    }
}
