//! The logs of a run: CSV files that grow line by line.
//!
//! In: a header and lines. Out: a file in which every line is whole, also after a kill in the middle of one; the first
//! column is the step. [`crate::report`] draws them.
//!
//! ```
//! use roadhound_trainer::run_log;
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("validation.csv");
//! run_log::append_csv(&path, "step,loss", "1,0.5")?;
//! run_log::append_csv(&path, "step,loss", "2,0.25")?;
//! assert_eq!(run_log::best_of(&path, "loss", -1.0)?, Some(0.25));
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

/// Appends a line, after a header where the file is new.
///
/// # Errors
/// Those of the file system, with the path.
pub fn append_csv(path: &Path, header: &str, line: &str) -> Result<()> {
    let name = || format!("{}", path.display());
    let new = !path.exists();
    let mut file: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(name)?;
    if new {
        writeln!(file, "{header}").with_context(name)?;
    }
    writeln!(file, "{line}").with_context(name)
}

/// Cuts off what a killed program left of a file's last line; a file that is not there is whole.
///
/// # Errors
/// Those of the file system.
pub fn drop_torn_line(path: &Path) -> std::io::Result<()> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let whole = bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |end| end + 1);
    if whole == 0 {
        // Not even the header: whoever appends next writes it again.
        return std::fs::remove_file(path);
    }
    if whole == bytes.len() {
        return Ok(());
    }
    OpenOptions::new()
        .write(true)
        .open(path)?
        .set_len(whole as u64)
}

/// Takes the lines of steps after `step` out of a log: a killed run has written some that the resumed one writes again.
///
/// # Errors
/// Those of the file system.
pub fn rewind_log(path: &Path, step: u64) -> std::io::Result<()> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let is_later = |line: &&str| {
        let first = line.split(',').next().unwrap_or_default();
        first.parse::<u64>().is_ok_and(|of| of > step)
    };
    let kept = match text.lines().find(is_later) {
        // Steps only grow: everything from the first later line on goes.
        Some(line) => line.as_ptr().addr() - text.as_ptr().addr(),
        None => return Ok(()),
    };
    OpenOptions::new()
        .write(true)
        .open(path)?
        .set_len(kept as u64)
}

/// The best value of a column so far, so that a resumed run does not take a worse checkpoint for the best one; `None`
/// where there is none. `sign` is 1 where higher is better and -1 where lower is.
///
/// # Errors
/// Those of the file system.
pub fn best_of(path: &Path, column: &str, sign: f64) -> Result<Option<f64>> {
    let shown = || format!("{}", path.display());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(shown),
    };
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split(',').position(|name| name == column) else {
        return Ok(None);
    };
    let values = lines.filter_map(|line| line.split(',').nth(column)?.parse::<f64>().ok());
    Ok(values
        .filter(|value| !value.is_nan())
        .max_by(|a, b| (sign * a).total_cmp(&(sign * b))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_log_that_a_kill_has_torn_goes_on_with_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        drop_torn_line(&path).unwrap();
        let whole = "step,loss\n20,1.5\n40,1.25\n";
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            drop_torn_line(&path).unwrap();
            append_csv(&path, "step,loss", "60,1").unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let kept = &whole[..whole[..cut].rfind('\n').map_or(0, |end| end + 1)];
            let kept = if kept.is_empty() { "step,loss\n" } else { kept };
            assert_eq!(text, format!("{kept}60,1\n"), "cut at {cut}");
        }
    }
}
