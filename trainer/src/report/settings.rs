//! Configurations as flat lists of keys, to be compared.
//!
//! In: TOML text. Out: [`Settings`]: `data.packs.syn_carla.weight = 0.04` and the like, tables of an array named by
//! their `name`. Nothing here knows the keys, so runs of other versions can be shown.
//!
//! ```
//! use roadhound_trainer::report::settings::Settings;
//! let settings = Settings::parse("config.toml".as_ref(), "[[data.packs]]\nname = \"a\"\nweight = 0.5\n").unwrap();
//! assert_eq!(settings.get("data.packs.a.weight"), Some("0.5"));
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use super::ReportError;
use crate::config::one_line;

/// Keys with their values as TOML, sorted within each table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    entries: Vec<(String, String)>,
}

impl Settings {
    /// Flattens TOML text.
    ///
    /// # Errors
    /// Text that is no TOML, with file and line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ReportError> {
        let table: toml::Table = toml::from_str(text).map_err(|e| ReportError::File {
            path: path.to_owned(),
            reason: one_line(text, &e),
        })?;
        let mut settings = Self::default();
        settings.flatten("", &toml::Value::Table(table));
        Ok(settings)
    }

    fn flatten(&mut self, key: &str, value: &toml::Value) {
        let below = |name: &str| match key {
            "" => name.to_owned(),
            _ => format!("{key}.{name}"),
        };
        match value {
            toml::Value::Table(table) => {
                for (name, value) in table {
                    self.flatten(&below(name), value);
                }
            }
            toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
                for (index, item) in items.iter().enumerate() {
                    let name = item.get("name").and_then(toml::Value::as_str);
                    let name = name.map_or_else(|| index.to_string(), str::to_owned);
                    self.flatten(&below(&name), item);
                }
            }
            value => self.entries.push((key.to_owned(), value.to_string())),
        }
    }

    /// Keys and values.
    pub fn entries(&self) -> &[(String, String)] {
        &self.entries
    }

    /// The value of a key, as TOML.
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut entries = self.entries.iter();
        entries.find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The value of a key as a number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.parse().ok()
    }
}

/// Keys whose values are not the same in all of `settings`, with those values.
pub fn differences<'a>(settings: &[&'a Settings]) -> Vec<(&'a str, Vec<Option<&'a str>>)> {
    let mut seen = BTreeSet::new();
    let keys = settings.iter().flat_map(|s| &s.entries);
    keys.filter(|(key, _)| seen.insert(key.as_str()))
        .map(|(key, _)| (key.as_str(), settings.iter().map(|s| s.get(key)).collect()))
        .filter(|(_, values): &(_, Vec<_>)| values.iter().any(|v| *v != values[0]))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Settings {
        Settings::parse("runs/a/config.toml".as_ref(), text).unwrap()
    }

    #[test]
    fn only_keys_that_differ_are_listed_and_a_missing_key_differs() {
        let a = parse("seed = 1\n[train]\npairs = 10\nbatch = 2\n");
        let b = parse("seed = 2\n[train]\npairs = 10\nbatch = 2\nextra = true\n");
        assert_eq!(
            differences(&[&a, &b]),
            [
                ("seed", vec![Some("1"), Some("2")]),
                ("train.extra", vec![None, Some("true")])
            ]
        );
        assert!(differences(&[&a]).is_empty());
    }

    #[test]
    fn packs_are_compared_by_name_and_not_by_place() {
        let a = parse("[[packs]]\nname = \"x\"\nw = 1\n[[packs]]\nname = \"y\"\nw = 2\n");
        let b = parse("[[packs]]\nname = \"y\"\nw = 2\n[[packs]]\nname = \"x\"\nw = 3\n");
        assert_eq!(
            differences(&[&a, &b]),
            [("packs.x.w", vec![Some("1"), Some("3")])]
        );
    }

    #[test]
    fn half_a_file_is_named_with_its_line() {
        let error = Settings::parse("runs/a/config.toml".as_ref(), "seed = 1\n[tra").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("runs/a/config.toml: line 2: "),
            "{error}"
        );
    }
}
