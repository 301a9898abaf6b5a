//! Tables of numbers with a class a row: iris, wine and their like.
//!
//! ```text
//! 14.23,1.71,2.43,15.6,0
//! ```
//! Every column but one is a finite number; the one that is left, by default the last, holds the class: any text, classes
//! numbered in the order of their names (numbers as numbers: 2 before 10).

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{LabelledError, Samples, Shape, Values};

/// Which column holds the class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LabelColumn {
    /// By its place, counted from 0.
    Number(usize),
    /// By its name in the header; `"last"` where none is called so.
    Name(String),
}

impl Default for LabelColumn {
    fn default() -> Self {
        Self::Name("last".into())
    }
}

/// How a table is laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableConfig {
    /// Which column holds the class.
    pub label: LabelColumn,
    /// Whether the first line names the columns.
    pub header: bool,
}

/// Reads a table.
///
/// # Errors
/// A file that cannot be read, or the line that is not what it should be.
pub fn read(path: &Path, config: &TableConfig) -> Result<Samples, LabelledError> {
    let bytes = std::fs::read(path).map_err(LabelledError::io(path))?;
    parse(path, &bytes, config)
}

/// Reads the text of a table; `path` is what errors name.
///
/// # Errors
/// Those of [`read`].
pub fn parse(path: &Path, text: &[u8], config: &TableConfig) -> Result<Samples, LabelledError> {
    let wrong = |line: u64, reason: String| LabelledError::Line {
        path: path.to_owned(),
        line,
        reason,
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text);
    let mut values = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut header: Option<csv::StringRecord> = None;
    let mut layout: Option<(usize, usize)> = None;
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| {
            let line = error
                .position()
                .map_or(index as u64 + 1, csv::Position::line);
            wrong(line, error.to_string())
        })?;
        let line = record
            .position()
            .map_or(index as u64 + 1, csv::Position::line);
        if config.header && header.is_none() {
            header = Some(record);
            continue;
        }
        let (columns, label) = match layout {
            Some(layout) => layout,
            None => {
                let columns = header.as_ref().map_or(record.len(), csv::StringRecord::len);
                let label = label_column(&config.label, columns, header.as_ref());
                let label = label.map_err(|reason| wrong(1, reason))?;
                *layout.insert((columns, label))
            }
        };
        if record.len() != columns {
            return Err(wrong(
                line,
                format!("{} fields, expected {columns}", record.len()),
            ));
        }
        for (column, field) in record.iter().enumerate() {
            if column == label {
                names.push(field.to_owned());
                continue;
            }
            let number = field.parse::<f32>().ok().filter(|v| v.is_finite());
            values.push(number.ok_or_else(|| {
                wrong(
                    line,
                    format!(
                        "column {} is {field:?}, expected a finite number",
                        column + 1
                    ),
                )
            })?);
        }
    }
    let classes = sorted(&names);
    let labels = names
        .iter()
        .filter_map(|name| classes.iter().position(|class| class == name))
        .map(|label| label as u32)
        .collect();
    let shape = Shape {
        height: 1,
        width: 1,
        channels: layout.map_or(0, |(columns, _)| columns - 1),
    };
    Samples::new(shape, Values::Numbers(values), labels, classes)
        .map_err(|reason| LabelledError::format(path, reason))
}

fn label_column(
    wanted: &LabelColumn,
    columns: usize,
    header: Option<&csv::StringRecord>,
) -> Result<usize, String> {
    let found = match wanted {
        LabelColumn::Number(number) => Some(*number).filter(|n| *n < columns),
        LabelColumn::Name(name) => match header.and_then(|h| h.iter().position(|c| c == name)) {
            None if name == "last" => columns.checked_sub(1),
            found => found,
        },
    };
    match found {
        Some(column) if columns > 1 => Ok(column),
        Some(_) => Err("one column, expected numbers and a class".into()),
        None => Err(match wanted {
            LabelColumn::Number(number) => format!("no column {number} among {columns}"),
            LabelColumn::Name(name) => format!("no column named {name:?}"),
        }),
    }
}

/// Names without repeats: as numbers where all are, else as text.
fn sorted(names: &[String]) -> Vec<String> {
    let distinct: BTreeSet<&String> = names.iter().collect();
    let mut classes: Vec<String> = distinct.into_iter().cloned().collect();
    let number = |name: &String| name.parse::<i64>().ok();
    if classes.iter().all(|name| number(name).is_some()) {
        classes.sort_by_key(number);
    }
    classes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn last() -> LabelColumn {
        LabelColumn::default()
    }

    fn with(text: &str, label: LabelColumn, header: bool) -> Result<Samples, String> {
        parse(
            "t.csv".as_ref(),
            text.as_bytes(),
            &TableConfig { label, header },
        )
        .map_err(|e| e.to_string())
    }

    #[test]
    fn the_class_may_stand_in_any_column_and_be_any_text() {
        let last = with("1,2,b\n3,4,a\n", last(), false).unwrap();
        let first = with("b,1,2\na,3,4\n", LabelColumn::Number(0), false).unwrap();
        let named = with(
            "x, kind ,y\n1,b,2\n3,a,4\n",
            LabelColumn::Name("kind".into()),
            true,
        )
        .unwrap();
        assert_eq!(last, first);
        assert_eq!(last, named);
        assert_eq!((last.labels(), last.class_name(0)), (&[1, 0][..], "a"));
    }

    #[test]
    fn classes_that_are_numbers_are_in_the_order_of_numbers() {
        let samples = with("0,10\n0,2\n0,10\n", last(), false).unwrap();
        assert_eq!(samples.labels(), [1, 0, 1]);
    }

    #[test]
    fn malformed_lines_are_named_with_what_is_wrong() {
        for (text, label, header, said) in [
            (
                "1,2,0\n1,0\n",
                last(),
                false,
                "t.csv:2: 2 fields, expected 3",
            ),
            (
                "1,x,0\n",
                last(),
                false,
                "t.csv:1: column 2 is \"x\", expected a finite number",
            ),
            (
                "1,2,0\n1,nan,0\n",
                last(),
                false,
                "t.csv:2: column 2 is \"nan\", expected a finite number",
            ),
            (
                "1,2,0\n",
                LabelColumn::Number(3),
                false,
                "t.csv:1: no column 3 among 3",
            ),
            (
                "a,b\n1,2\n",
                LabelColumn::Name("c".into()),
                true,
                "t.csv:1: no column named \"c\"",
            ),
            (
                "7\n",
                last(),
                false,
                "t.csv:1: one column, expected numbers and a class",
            ),
            ("", last(), false, "t.csv: no samples"),
            ("a,b\n", last(), true, "t.csv: no samples"),
        ] {
            assert_eq!(with(text, label, header).unwrap_err(), said);
        }
    }
}
