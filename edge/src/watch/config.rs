//! `roadhound watch --config`: what to watch for, checked whole before the first frame.
//!
//! In: the text of a TOML file. Out: a [`WatchFile`] with every default filled in, or one line that names the file, the
//! key and what would do. `packaging/watch.toml` is the documented sample.
//!
//! ```
//! use roadhound_edge::watch::config::WatchFile;
//! let file = WatchFile::parse("[watch.cadence]\nlooks_per_second = 10\n")?;
//! assert_eq!(file.watch.cadence.looks_per_second, 10.0);
//! let error = WatchFile::parse("[wacht]\n").unwrap_err();
//! assert_eq!(error.to_string(), "line 1: unknown key 'wacht', did you mean 'watch'?");
//! # Ok::<(), roadhound_edge::config::ConfigError>(())
//! ```

use std::path::Path;

use roadhound_shared::propose::RoadUser;
use roadhound_shared::watch::WatchConfig;
use serde::{Deserialize, Serialize};

use super::scene::{HeadwayConfig, NamedLine, NamedZone, SceneConfig};
use crate::config::{ConfigError, explain, read_text};

/// No configuration is longer than this.
const MAX_BYTES: u64 = 1 << 20;

/// Who is worth a line of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportConfig {
    /// Kinds that are reported; everybody is followed all the same.
    pub kinds: Vec<RoadUser>,
    /// Boxes with a shorter side than this are left out.
    pub min_side_px: f32,
    /// Seconds of trail on an annotated video.
    pub trail_seconds: f32,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self {
            kinds: RoadUser::ALL.to_vec(),
            min_side_px: 0.0,
            trail_seconds: 1.5,
        }
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchFile {
    /// Every constant of watch mode.
    pub watch: WatchConfig,
    /// Who is worth a line of results.
    pub report: ReportConfig,
    /// Lines whose crossings are told and counted.
    pub lines: Vec<NamedLine>,
    /// Areas.
    pub zones: Vec<NamedZone>,
    /// The vehicle ahead.
    pub headway: Option<HeadwayConfig>,
}

impl WatchFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file and the first thing in it that cannot be.
    pub fn read(path: &Path) -> Result<Self, String> {
        let at = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = read_text(path, MAX_BYTES).map_err(|e| at(&e))?;
        Self::parse(&text).map_err(|e| at(&e))
    }

    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file: Self = toml::from_str(text).map_err(|e| explain(text, &e))?;
        file.validate()?;
        Ok(file)
    }

    /// Checks ranges, and what has to agree.
    ///
    /// # Errors
    /// The first key that cannot be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key, what: String| Err(ConfigError::Value { key, what });
        self.watch
            .validate()
            .map_err(|e| ConfigError::Form(e.to_string()))?;
        if self.report.kinds.is_empty() {
            return wrong("report.kinds", "is empty: nobody would be reported".into());
        }
        for (key, found, most) in [
            ("report.min_side_px", self.report.min_side_px, 1e4),
            ("report.trail_seconds", self.report.trail_seconds, 60.0),
        ] {
            if !(0.0..=most).contains(&found) {
                return wrong(key, format!("{found}, expected 0 to {most}"));
            }
        }
        self.scene().validate()
    }

    /// Lines, zones and headway.
    pub fn scene(&self) -> SceneConfig {
        SceneConfig {
            lines: self.lines.clone(),
            zones: self.zones.clone(),
            headway: self.headway.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> String {
        let error = WatchFile::parse(text).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn the_documented_sample_holds_every_default_and_a_scene() {
        let sample = include_str!("../../../packaging/watch.toml");
        let file = WatchFile::parse(sample).unwrap();
        assert_eq!(file.watch, WatchConfig::default());
        assert_eq!(file.report, ReportConfig::default());
        assert!(!file.lines.is_empty() && !file.zones.is_empty() && file.headway.is_some());
        // Every table of constants is in it, with every key.
        let table: toml::Table = toml::from_str(sample).unwrap();
        let whole = toml::Table::try_from(WatchConfig::default()).unwrap();
        for (group, keys) in &whole {
            for key in keys.as_table().unwrap().keys() {
                let found = table["watch"].get(group).and_then(|group| group.get(key));
                assert!(found.is_some(), "watch.{group}.{key} is not in the sample");
            }
        }
    }

    #[test]
    fn slips_are_refused_with_what_was_meant() {
        for (text, said) in [
            (
                "[watch.scroe]\n",
                "line 1: unknown key 'scroe', did you mean 'score'?",
            ),
            (
                "[watch.cadence]\nlooks_per_secund = 3\n",
                "line 2: unknown key 'looks_per_secund', did you mean 'looks_per_second'?",
            ),
            (
                "[report]\nkinds = [\"cra\"]\n",
                "unknown value 'cra', did you mean 'car'?",
            ),
            ("[report]\nkinds = []\n", "report.kinds: is empty"),
            (
                "[[lines]]\nname = \"a\"\nform_px = [0, 0]\n",
                "unknown key 'form_px', did you mean 'from_px'?",
            ),
            (
                "[watch.cost]\ngate = -1\n",
                "watch.cost.gate: found -1, expected",
            ),
            (
                "[watch.cadence]\nevery = 0\n",
                "watch.cadence.every: found 0, expected 1 to 1000",
            ),
            ("[report]\ntrail_seconds = -1\n", "report.trail_seconds: -1"),
        ] {
            let error = refused(text);
            assert!(error.contains(said), "{text:?} gives {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_configuration_or_one_line(text in "\\PC{0,200}") {
            if let Err(e) = WatchFile::parse(&text) {
                prop_assert!(!e.to_string().contains('\n'));
            }
        }
    }
}
