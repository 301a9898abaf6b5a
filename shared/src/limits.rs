//! Constants within ranges: what every table of configuration is checked by.
//!
//! In: rows of keys, values and ranges. Out: the first value that cannot be, in one line that names its key.
//!
//! ```
//! use roadhound_shared::watch::WatchConfig;
//! let mut config = WatchConfig::default();
//! config.cost.gate = f32::NAN;
//! let said = config.validate().expect_err("no gate is not a number").to_string();
//! assert!(said.starts_with("watch.cost.gate: found NaN, expected "));
//! ```

use core::ops::RangeInclusive;

/// A constant that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum LimitError {
    /// Outside its range, or not a number.
    #[error("{table}.{key}: found {found}, expected {min} to {max}")]
    Range {
        /// The table that the key is in.
        table: &'static str,
        /// Path of the key below it.
        key: &'static str,
        /// What was found.
        found: f64,
        /// Smallest value allowed.
        min: f64,
        /// Largest value allowed.
        max: f64,
    },
    /// Two values are the wrong way round.
    #[error("{table}.{low} is {low_value}, above {table}.{high}, which is {high_value}")]
    Order {
        /// The table that the keys are in.
        table: &'static str,
        /// The key that must not be larger.
        low: &'static str,
        /// Its value.
        low_value: f32,
        /// The key that must not be smaller.
        high: &'static str,
        /// Its value.
        high_value: f32,
    },
}

/// Keys with their values and what these may be.
pub(crate) fn check_ranges<T: Copy + PartialOrd + Into<f64>>(
    table: &'static str,
    rows: impl IntoIterator<Item = (&'static str, T, RangeInclusive<T>)>,
) -> Result<(), LimitError> {
    for (key, found, range) in rows {
        // `contains` is false for NaN.
        if !range.contains(&found) {
            return Err(LimitError::Range {
                table,
                key,
                found: found.into(),
                min: (*range.start()).into(),
                max: (*range.end()).into(),
            });
        }
    }
    Ok(())
}

/// Pairs of keys of which the first must not have the larger value.
pub(crate) fn check_order(
    table: &'static str,
    rows: impl IntoIterator<Item = (&'static str, f32, &'static str, f32)>,
) -> Result<(), LimitError> {
    for (low, low_value, high, high_value) in rows {
        if low_value > high_value {
            return Err(LimitError::Order {
                table,
                low,
                low_value,
                high,
                high_value,
            });
        }
    }
    Ok(())
}
