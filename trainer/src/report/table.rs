//! The CSV files of a run as columns of numbers.
//!
//! In: a file's name and text. Out: a [`Table`]. The file may still be growing, so a last line without its line end is
//! not there yet; every other line must hold what the header says.
//!
//! ```
//! use roadhound_trainer::report::table::Table;
//! let table = Table::parse("losses.csv".as_ref(), "step,auc\n20,0.5\n40,NaN\n60,0.").unwrap();
//! assert_eq!(table.len(), 2); // the third line is still being written
//! assert_eq!(table.column("auc").unwrap()[0], 0.5);
//! let error = Table::parse("losses.csv".as_ref(), "step,auc\n20\n40,0.6\n").unwrap_err();
//! assert_eq!(error.to_string(), "losses.csv:2: 1 fields, expected 2");
//! ```

use std::path::Path;

use super::ReportError;

/// Named columns of equal length. Values may be NaN or infinite: a run that went wrong has those.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    names: Vec<String>,
    columns: Vec<Vec<f64>>,
}

impl Table {
    /// Reads the text of a CSV file of numbers with a header.
    ///
    /// # Errors
    /// The first complete line that has another number of fields than the header, or a field that is no number.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ReportError> {
        let complete = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let mut lines = complete.lines().enumerate();
        let Some((_, header)) = lines.next() else {
            return Ok(Self::default());
        };
        let names: Vec<String> = header
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect();
        let mut columns = vec![Vec::new(); names.len()];
        for (index, line) in lines {
            if line.trim().is_empty() {
                continue;
            }
            let wrong = |reason| ReportError::Line {
                path: path.to_owned(),
                line: index + 1,
                reason,
            };
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            if fields.len() != names.len() {
                return Err(wrong(format!(
                    "{} fields, expected {}",
                    fields.len(),
                    names.len()
                )));
            }
            for ((column, name), field) in columns.iter_mut().zip(&names).zip(fields) {
                let value = field
                    .parse::<f64>()
                    .map_err(|_| wrong(format!("{name} is {field:?}, expected a number")))?;
                column.push(value);
            }
        }
        Ok(Self { names, columns })
    }

    /// Drops lines that a later line repeats: a run that was killed between two checkpoints does some steps twice, and
    /// what counts is the second time.
    #[must_use]
    pub fn without_repeats(mut self, by: &str) -> Self {
        let Some(key) = self.column(by).map(<[f64]>::to_vec) else {
            return self;
        };
        let mut kept: Vec<usize> = Vec::with_capacity(key.len());
        for row in 0..key.len() {
            while kept.last().is_some_and(|last| key[*last] >= key[row]) {
                kept.pop();
            }
            kept.push(row);
        }
        for column in &mut self.columns {
            *column = kept.iter().map(|row| column[*row]).collect();
        }
        self
    }

    /// Checks that a column is there.
    ///
    /// # Errors
    /// The file and the column's name.
    pub fn require(&self, path: &Path, names: &[&str]) -> Result<(), ReportError> {
        match names.iter().find(|name| self.column(name).is_none()) {
            Some(name) if !self.names.is_empty() => Err(ReportError::Line {
                path: path.to_owned(),
                line: 1,
                reason: format!("no column {name:?} among {}", self.names.join(",")),
            }),
            _ => Ok(()),
        }
    }

    /// Names of the columns, in the order of the file.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Values of a column.
    pub fn column(&self, name: &str) -> Option<&[f64]> {
        let at = self.names.iter().position(|n| n == name)?;
        Some(&self.columns[at])
    }

    /// Lines, the header aside.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// No lines yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Table, ReportError> {
        Table::parse("runs/a/losses.csv".as_ref(), text)
    }

    #[test]
    fn a_torn_last_line_is_not_there_yet_wherever_it_is_torn() {
        let text = "step,pairs,iou\n20,480,0.5125\n40,960,0.75\n";
        for cut in 0..=text.len() {
            let table = parse(&text[..cut]).unwrap();
            let whole_lines = text[..cut].matches('\n').count();
            assert_eq!(table.len(), whole_lines.saturating_sub(1), "cut at {cut}");
        }
    }

    #[test]
    fn any_other_malformed_line_is_named_with_file_and_line() {
        let fewer = parse("step,iou\n20,0.5\n40\n60,0.7\n").unwrap_err();
        assert_eq!(
            fewer.to_string(),
            "runs/a/losses.csv:3: 1 fields, expected 2"
        );
        let glued = parse("step,iou\n20,0.5\n40,0.60,0.7\n80,0.8\n").unwrap_err();
        assert_eq!(
            glued.to_string(),
            "runs/a/losses.csv:3: 3 fields, expected 2"
        );
        let word = parse("step,iou\n20,<b>\n").unwrap_err();
        assert_eq!(
            word.to_string(),
            "runs/a/losses.csv:2: iou is \"<b>\", expected a number"
        );
    }

    #[test]
    fn values_that_are_not_numbers_are_kept_as_such() {
        let table = parse("step,loss\n1,NaN\n2,inf\n3,1e-3\n").unwrap();
        let loss = table.column("loss").unwrap();
        assert!(loss[0].is_nan() && loss[1].is_infinite());
        assert_eq!(loss[2], 1e-3);
    }

    #[test]
    fn steps_done_twice_count_the_second_time() {
        let table = parse("step,loss\n20,5\n40,4\n60,3\n40,4.5\n60,3.5\n80,2\n")
            .unwrap()
            .without_repeats("step");
        assert_eq!(table.column("step").unwrap(), [20.0, 40.0, 60.0, 80.0]);
        assert_eq!(table.column("loss").unwrap(), [5.0, 4.5, 3.5, 2.0]);
    }

    #[test]
    fn a_missing_column_is_named_but_an_empty_file_is_only_early() {
        let path = Path::new("calibration.csv");
        let error = parse("a,b\n1,2\n")
            .unwrap()
            .require(path, &["a", "c"])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "calibration.csv:1: no column \"c\" among a,b"
        );
        parse("").unwrap().require(path, &["c"]).unwrap();
    }
}
