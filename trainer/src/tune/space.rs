//! Which constants are searched, and how far.
//!
//! In: TOML with the tables and keys of [`TrackerConfig`], each with a range. Out: a [`Space`], which turns places in
//! a unit cube into constants and back.
//!
//! ```
//! use roadhound_shared::tracker::TrackerConfig;
//! use roadhound_trainer::tune::space::Space;
//!
//! let space = Space::parse("[shape]\nsize_rate = { min = 0.1, max = 0.9 }\n", &TrackerConfig::default()).unwrap();
//! let config = space.constants(&TrackerConfig::default(), &[0.3]).unwrap();
//! assert_eq!(config.shape.size_rate, 0.3);
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use roadhound_shared::tracker::TrackerConfig;
use serde::{Deserialize, Serialize};

use super::TuneError;
use crate::config::one_line;

/// How a constant's range is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// In equal steps.
    #[default]
    Linear,
    /// In equal factors.
    Log,
}

/// How far one constant may go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// How the range is divided.
    #[serde(default)]
    pub scale: Scale,
    /// Whole values only.
    #[serde(default)]
    pub integer: bool,
}

impl Range {
    /// The value at a share of the range, 0 to 1.
    pub fn at(&self, share: f64) -> f64 {
        let share = share.clamp(0.0, 1.0);
        let value = match self.scale {
            Scale::Linear => self.min + share * (self.max - self.min),
            Scale::Log => self.min * (self.max / self.min).powf(share),
        };
        let value = match self.integer {
            true => value.round(),
            // Four digits are more than validation can tell apart, and can be read.
            false => four_digits(value),
        };
        value.clamp(self.min, self.max)
    }

    /// The share of the range at which a value lies; values outside count as the nearer end.
    pub fn share_of(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.min) / (self.max - self.min),
            Scale::Log => (value.max(self.min) / self.min).ln() / (self.max / self.min).ln(),
        };
        share.clamp(0.0, 1.0)
    }
}

fn four_digits(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let unit = 10f64.powi(value.abs().log10().floor() as i32 - 3);
    // Through text: a product with 1e-4 would end in 0.30000000000000004.
    format!("{:.4e}", (value / unit).round() * unit)
        .parse()
        .unwrap_or(value)
}

/// One searched constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// `TABLE.KEY` below `[tracker]`.
    pub key: String,
    /// Its range.
    pub range: Range,
}

/// The searched constants, in the order of their keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    constants: Vec<Constant>,
}

impl Space {
    /// The built-in space.
    ///
    /// # Errors
    /// None as long as the built-in text names constants that exist, which a test checks.
    pub fn default_for(base: &TrackerConfig) -> Result<Self, TuneError> {
        Self::parse(include_str!("default_space.toml"), base)
    }

    /// Reads a space and checks it against the constants there are.
    ///
    /// # Errors
    /// Text that is no space, a key that is no number of the tracker's, a range that is empty or that the tracker
    /// would refuse.
    pub fn parse(text: &str, base: &TrackerConfig) -> Result<Self, TuneError> {
        let tables: BTreeMap<String, BTreeMap<String, Range>> =
            toml::from_str(text).map_err(|e| TuneError::Space(one_line(text, &e)))?;
        let known = toml::Table::try_from(base).map_err(|e| TuneError::Space(e.to_string()))?;
        let mut constants = Vec::new();
        for (table, keys) in tables {
            for (name, range) in keys {
                let key = format!("{table}.{name}");
                let value = known.get(&table).and_then(|t| t.get(&name));
                let integer = match value {
                    Some(toml::Value::Integer(_)) => true,
                    Some(toml::Value::Float(_)) => range.integer,
                    Some(_) => return Err(TuneError::Space(format!("{key} is not a number"))),
                    None => {
                        return Err(TuneError::Space(format!(
                            "{key} is not a constant of the tracker"
                        )));
                    }
                };
                constants.push(Constant {
                    key,
                    range: Range { integer, ..range },
                });
            }
        }
        let space = Self { constants };
        space.check(base)?;
        Ok(space)
    }

    fn check(&self, base: &TrackerConfig) -> Result<(), TuneError> {
        if self.constants.is_empty() {
            return Err(TuneError::Space("names no constant".to_owned()));
        }
        for Constant { key, range } in &self.constants {
            let Range { min, max, .. } = *range;
            if !(min.is_finite() && max.is_finite() && min < max) {
                return Err(TuneError::Space(format!(
                    "{key}: min {min} is not below max {max}"
                )));
            }
            if range.scale == Scale::Log && min <= 0.0 {
                return Err(TuneError::Space(format!(
                    "{key}: min {min} has no logarithm"
                )));
            }
            for end in [min, max] {
                use roadhound_shared::contract::ContractError;
                use roadhound_shared::limits::LimitError;
                let line = assignment(key, end, range.integer);
                match base.overridden(&line) {
                    // Thresholds may cross at the ends of their ranges; trials in which they do are drawn again.
                    Ok(_) | Err(ContractError::Limit(LimitError::Order { .. })) => {}
                    Err(error) => return Err(TuneError::Space(error.to_string())),
                }
            }
        }
        Ok(())
    }

    /// The searched constants.
    pub fn searched(&self) -> &[Constant] {
        &self.constants
    }

    /// Without the constants of these tables.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn without(mut self, tables: &[&str]) -> Result<Self, TuneError> {
        self.constants.retain(|c| {
            let table = c.key.split('.').next().unwrap_or_default();
            !tables.contains(&table)
        });
        match self.constants.is_empty() {
            true => Err(TuneError::Space(format!(
                "names no constant outside {}",
                tables.join(" and ")
            ))),
            false => Ok(self),
        }
    }

    /// The values that `config` has for the searched constants.
    pub fn values_of(&self, config: &TrackerConfig) -> Vec<f64> {
        let table = toml::Table::try_from(config).unwrap_or_default();
        let number = |key: &str| {
            let (group, name) = key.split_once('.')?;
            match table.get(group)?.get(name)? {
                toml::Value::Integer(v) => Some(*v as f64),
                // Constants are f32: 0.35 shall not become 0.3499999940395355.
                toml::Value::Float(v) => (*v as f32).to_string().parse().ok(),
                _ => None,
            }
        };
        // Keys were checked when the space was read; NaN would show up as a refused constant.
        let value = |c: &Constant| number(&c.key).unwrap_or(f64::NAN);
        self.constants.iter().map(value).collect()
    }

    /// `base` with these values for the searched constants.
    ///
    /// # Errors
    /// Values that the tracker refuses, such as thresholds in the wrong order.
    pub fn constants(
        &self,
        base: &TrackerConfig,
        values: &[f64],
    ) -> Result<TrackerConfig, TuneError> {
        let mut text = String::new();
        for (constant, value) in self.constants.iter().zip(values) {
            text.push_str(&assignment(&constant.key, *value, constant.range.integer));
        }
        base.overridden(&text)
            .map_err(|e| TuneError::Space(e.to_string()))
    }

    /// The space as TOML, one constant a line: what a search is recognised by when it goes on.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for Constant { key, range } in &self.constants {
            let Range {
                min,
                max,
                scale,
                integer,
            } = range;
            let scale = match scale {
                Scale::Linear => "linear",
                Scale::Log => "log",
            };
            let _ = writeln!(
                text,
                "{key} = {{ min = {min:?}, max = {max:?}, scale = \"{scale}\", integer = {integer} }}"
            );
        }
        text
    }
}

fn assignment(key: &str, value: f64, integer: bool) -> String {
    match integer {
        true => format!("{key} = {value:.0}\n"),
        false => format!("{key} = {value:?}\n"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Space, TuneError> {
        Space::parse(text, &TrackerConfig::default())
    }

    #[test]
    fn the_built_in_space_holds_the_default_constants() {
        let base = TrackerConfig::default();
        let space = Space::default_for(&base).unwrap();
        for (constant, value) in space.searched().iter().zip(space.values_of(&base)) {
            let Range { min, max, .. } = constant.range;
            assert!((min..=max).contains(&value), "{} is {value}", constant.key);
        }
        let again = space.constants(&base, &space.values_of(&base)).unwrap();
        assert_eq!(again, base);
    }

    #[test]
    fn a_space_survives_its_own_toml() {
        let space = Space::default_for(&TrackerConfig::default()).unwrap();
        assert_eq!(parse(&space.to_toml()).unwrap(), space);
    }

    #[test]
    fn shares_of_a_range_are_steps_or_factors_or_whole() {
        let range = |scale, integer| Range {
            min: 1.0,
            max: 100.0,
            scale,
            integer,
        };
        assert_eq!(range(Scale::Linear, false).at(0.5), 50.5);
        assert_eq!(range(Scale::Log, false).at(0.5), 10.0);
        assert_eq!(range(Scale::Linear, true).at(0.514), 52.0);
        for (scale, integer) in [
            (Scale::Linear, false),
            (Scale::Log, false),
            (Scale::Log, true),
        ] {
            let range = range(scale, integer);
            assert_eq!((range.at(0.0), range.at(1.0)), (1.0, 100.0));
            for k in 0..=10 {
                let value = range.at(f64::from(k) / 10.0);
                assert_eq!(range.at(range.share_of(value)), value);
            }
        }
        assert_eq!(four_digits(0.123_456), 0.1235);
        assert_eq!(four_digits(1234.56), 1235.0);
    }

    #[test]
    fn what_cannot_be_searched_is_refused_with_its_key() {
        for (text, reason) in [
            ("", "names no constant"),
            (
                "[decode]\nwindow = { min = 0.0, max = 1.0 }",
                "decode.window is not a constant",
            ),
            (
                "[shape]\nclip_to_image = { min = 0.0, max = 1.0 }",
                "shape.clip_to_image is not a number",
            ),
            (
                "[decode]\nwindow_weight = { min = 0.5, max = 0.5 }",
                "min 0.5 is not below max 0.5",
            ),
            (
                "[decode]\nwindow_weight = { min = 0.0, max = 0.5, scale = \"log\" }",
                "min 0 has no logarithm",
            ),
            (
                "[decode]\nwindow_weight = { min = 0.0, max = 1.5 }",
                "decode.window_weight: found 1.5, expected 0 to 1",
            ),
            (
                "[decode]\nwindow_weight = { min = 0.0, max = 1.0, step = 1 }",
                "line 2: unknown field `step`",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn tables_can_be_left_out() {
        let space = parse(
            "[decode]\nwindow_weight = { min = 0.0, max = 1.0 }\n[presence]\nlost_below = { min = 0.1, max = 0.3 }\n",
        )
        .unwrap();
        let rest = space.clone().without(&["presence"]).unwrap();
        assert_eq!(rest.searched().len(), 1);
        assert!(space.without(&["presence", "decode"]).is_err());
    }
}
