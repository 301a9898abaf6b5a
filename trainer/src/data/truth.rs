//! What a rendered pack knows beyond its boxes: `truth.csv`, how much of each object can be seen on each frame.
//!
//! In goes the text of the table, out come the rows of objects that are mostly or wholly hidden, by sequence. The
//! others are in `boxes.csv` already. Columns are found by name, so a table may have more of them.
//!
//! ```
//! use roadhound_trainer::data::truth;
//! let text = "sequence,frame,instance,full_x,full_y,full_w,full_h,visible_share\n\
//!             drive,7,3,10,20,30,40,0.02\ndrive,8,3,11,20,30,40,0.9\n";
//! let hidden = truth::parse(std::path::Path::new("truth.csv"), text.as_bytes(), 0.5)?;
//! assert_eq!(hidden["drive"].len(), 1);
//! # Ok::<(), roadhound_trainer::data::DataError>(())
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use roadhound_shared::geometry::BoxXywh;

use super::{DataError, LineProblem, checked_box, number};

/// An object that can hardly be seen on a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hidden {
    /// Number of the frame.
    pub frame: u32,
    /// Identity within the sequence.
    pub instance: u32,
    /// All of the object, as if nothing were in front of it; pixels of the stored image.
    pub box_in_image: BoxXywh,
    /// Share of its pixels that can be seen.
    pub visible_share: f32,
}

const COLUMNS: [&str; 8] = [
    "sequence",
    "frame",
    "instance",
    "full_x",
    "full_y",
    "full_w",
    "full_h",
    "visible_share",
];

/// Where the table of an image's pack would be: beside the last folder called `images`.
pub fn table_path(image: &Path) -> Option<PathBuf> {
    let images = image
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "images"))?;
    Some(images.with_file_name("truth.csv"))
}

/// Reads a table: the rows whose visible share is below `below`, by sequence.
///
/// # Errors
/// An unreadable file, or what [`parse`] refuses.
pub fn read(path: &Path, below: f32) -> Result<HashMap<String, Vec<Hidden>>, DataError> {
    let text = std::fs::read(path).map_err(DataError::io(path))?;
    parse(path, &text, below)
}

/// Parses a table; `path` is what errors name.
///
/// # Errors
/// The first line with a missing or malformed column, by number.
pub fn parse(
    path: &Path,
    text: &[u8],
    below: f32,
) -> Result<HashMap<String, Vec<Hidden>>, DataError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text);
    let mut at = [0_usize; COLUMNS.len()];
    let mut width = 0;
    let mut by_sequence: HashMap<String, Vec<Hidden>> = HashMap::new();
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| {
            let line = error
                .position()
                .map_or(index as u64 + 1, csv::Position::line);
            DataError::line(path, line, LineProblem::Text(error.to_string()))
        })?;
        let line = record
            .position()
            .map_or(index as u64 + 1, csv::Position::line);
        let at_line = |problem| DataError::line(path, line, problem);
        if index == 0 {
            width = record.len();
            for (at, name) in at.iter_mut().zip(COLUMNS) {
                let found = record
                    .iter()
                    .position(|cell| cell.trim_start_matches('\u{feff}').trim() == name);
                *at = found.ok_or_else(|| {
                    at_line(LineProblem::Header {
                        found: record.iter().collect::<Vec<_>>().join(","),
                        expected: "sequence, frame, instance, full_x, full_y, full_w, full_h, visible_share",
                    })
                })?;
            }
            continue;
        }
        if record.len() != width {
            return Err(at_line(LineProblem::FieldCount {
                found: record.len(),
                expected: width,
            }));
        }
        let cell = |k: usize| &record[at[k]];
        let real = |k: usize| number::<f32>(cell(k), COLUMNS[k], "a number");
        let parsed = || -> Result<(f32, Hidden), LineProblem> {
            let visible_share = real(7)?;
            let hidden = Hidden {
                frame: number(cell(1), COLUMNS[1], "a whole number")?,
                instance: number(cell(2), COLUMNS[2], "a whole number")?,
                box_in_image: checked_box(real(3)?, real(4)?, real(5)?, real(6)?)?,
                visible_share,
            };
            Ok((visible_share, hidden))
        };
        let (visible_share, hidden) = parsed().map_err(at_line)?;
        if visible_share < below {
            by_sequence
                .entry(cell(0).to_owned())
                .or_default()
                .push(hidden);
        }
    }
    Ok(by_sequence)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str =
        "sequence,frame,time_s,instance,class,full_x,full_y,full_w,full_h,visible_share,absent\n";

    fn parsed(rows: &str) -> Result<HashMap<String, Vec<Hidden>>, DataError> {
        let text = format!("{HEADER}{rows}");
        parse(Path::new("p/truth.csv"), text.as_bytes(), 0.5)
    }

    #[test]
    fn what_can_hardly_be_seen_is_kept_with_its_whole_box() {
        let found =
            parsed("a,3,0.1,7,car,1,2,30,40,0.1,0\na,4,0.2,7,car,1,2,30,40,0.7,0\n").unwrap();
        let expected = Hidden {
            frame: 3,
            instance: 7,
            box_in_image: BoxXywh::new(1.0, 2.0, 30.0, 40.0),
            visible_share: 0.1,
        };
        assert_eq!(found["a"], [expected]);
    }

    #[test]
    fn malformed_lines_are_named() {
        for (rows, part) in [
            (
                "a,3,0.1,7,car,1,2,30,40,0.1\n",
                "p/truth.csv:2: 10 fields, expected 11",
            ),
            (
                "a,3,0.1,7,car,1,2,30,40,0.1,0\na,x,0,7,car,1,2,3,4,0,0\n",
                "p/truth.csv:3: frame is \"x\"",
            ),
            (
                "a,3,0.1,7,car,1,2,nan,40,0.1,0\n",
                "p/truth.csv:2: box 1,2,NaN,40",
            ),
        ] {
            let line = parsed(rows).unwrap_err().to_string();
            assert!(line.contains(part), "{line}");
        }
        let error = parse(Path::new("t"), b"sequence,frame\n", 0.5).unwrap_err();
        assert!(error.to_string().starts_with("t:1: header is"), "{error}");
    }

    #[test]
    fn the_table_lies_beside_the_images() {
        let path = |image: &str| table_path(Path::new(image));
        assert_eq!(path("p/images/s/1.jpg").unwrap(), Path::new("p/truth.csv"));
        assert_eq!(path("p/img/1.jpg"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", rows in proptest::collection::vec("[a-z0-9,.\n\"-]{0,60}", 0..5)) {
            let _ = parse(Path::new("t"), text.as_bytes(), 0.5);
            let _ = parsed(&rows.join("\n"));
        }
    }
}
