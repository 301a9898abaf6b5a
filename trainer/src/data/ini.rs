//! `key = value` and `key: value` lines, as `seqinfo.ini` and `meta_info.ini` have them.
//!
//! In goes a file, out come values by key, each with the line it stood on for messages. Sections do not matter.

use std::path::{Path, PathBuf};

use super::clip::read_text;
use super::{DataError, LineProblem, number};

/// The lines of one file.
#[derive(Debug)]
pub(crate) struct Ini {
    path: PathBuf,
    /// Line from 1, key, value.
    entries: Vec<(u64, String, String)>,
}

impl Ini {
    pub(crate) fn read(path: &Path) -> Result<Self, DataError> {
        let text = read_text(path)?;
        let entries = text
            .lines()
            .enumerate()
            .filter_map(|(index, line)| {
                let (key, value) = line.split_once(['=', ':'])?;
                Some((
                    index as u64 + 1,
                    key.trim().to_owned(),
                    value.trim().to_owned(),
                ))
            })
            .collect();
        Ok(Self {
            path: path.to_owned(),
            entries,
        })
    }

    fn find(&self, key: &str) -> Option<(u64, &str)> {
        self.entries
            .iter()
            .find(|(_, found, _)| found.eq_ignore_ascii_case(key))
            .map(|(line, _, value)| (*line, value.as_str()))
    }

    /// The text behind a key.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.find(key).map(|(_, value)| value)
    }

    /// Frames a second, with or without `Hz` behind it.
    pub(crate) fn rate(&self, key: &'static str) -> Result<Option<f64>, DataError> {
        let Some((line, value)) = self.find(key) else {
            return Ok(None);
        };
        let expected = "frames a second above zero";
        let at_line = |problem| DataError::line(&self.path, line, problem);
        let digits = value.strip_suffix("Hz").unwrap_or(value);
        let fps: f64 = number(digits, key, expected).map_err(at_line)?;
        if fps.is_finite() && fps > 0.0 {
            return Ok(Some(fps));
        }
        Err(at_line(LineProblem::NotANumber {
            field: key,
            text: value.to_owned(),
            expected,
        }))
    }

    /// A whole number.
    pub(crate) fn whole(&self, key: &'static str) -> Result<Option<u32>, DataError> {
        let Some((line, value)) = self.find(key) else {
            return Ok(None);
        };
        number(value, key, "a whole number")
            .map(Some)
            .map_err(|problem| DataError::line(&self.path, line, problem))
    }

    /// Width and height written as `(1920, 1080)`; `None` where missing or zero.
    pub(crate) fn size(&self, key: &'static str) -> Result<Option<(u32, u32)>, DataError> {
        let Some((line, value)) = self.find(key) else {
            return Ok(None);
        };
        let expected = "(width, height)";
        let at_line = |problem| DataError::line(&self.path, line, problem);
        let inner = value.trim_start_matches('(').trim_end_matches(')');
        let Some((width, height)) = inner.split_once(',') else {
            return Err(at_line(LineProblem::NotANumber {
                field: key,
                text: value.to_owned(),
                expected,
            }));
        };
        let size = (
            number(width, key, expected).map_err(at_line)?,
            number(height, key, expected).map_err(at_line)?,
        );
        Ok((size.0 > 0 && size.1 > 0).then_some(size))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ini(text: &str) -> (tempfile::TempDir, Ini) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ini");
        std::fs::write(&path, text).unwrap();
        let ini = Ini::read(&path).unwrap();
        (folder, ini)
    }

    #[test]
    fn both_separators_and_units_are_read() {
        let (_folder, seq) = ini("[Sequence]\nname=MOT17-02\nframeRate = 30\r\nimWidth=1920\n");
        assert_eq!(seq.rate("frameRate").unwrap(), Some(30.0));
        assert_eq!(seq.whole("imWidth").unwrap(), Some(1920));
        assert_eq!(seq.whole("imHeight").unwrap(), None);
        let (_folder, meta) = ini(
            "[METAINFO]\nurl: https://a.b/c=d\nanno_fps: 10Hz\nobject_class: JetLev-Flyer\nresolution: (1920, 1080)\n",
        );
        assert_eq!(meta.rate("anno_fps").unwrap(), Some(10.0));
        assert_eq!(meta.text("object_class"), Some("JetLev-Flyer"));
        assert_eq!(meta.size("resolution").unwrap(), Some((1920, 1080)));
    }

    #[test]
    fn malformed_values_are_named_by_line() {
        let (_folder, bad) = ini("[a]\nframeRate=fast\nimWidth=-1\nresolution: 1920x1080\n");
        for (error, words) in [
            (
                bad.rate("frameRate").unwrap_err(),
                "a.ini:2: frameRate is \"fast\"",
            ),
            (
                bad.whole("imWidth").unwrap_err(),
                "a.ini:3: imWidth is \"-1\"",
            ),
            (
                bad.size("resolution").unwrap_err(),
                "a.ini:4: resolution is \"1920x1080\"",
            ),
        ] {
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
    }
}
