//! What values occur, and the scale and zero point that suit them.
//!
//! In: the values of a tensor over many crops. Out: [`QuantParams`], as one of three observers sees it: a percentile, the
//! least mean squared error, or the least loss of information (Migacz, "8-bit inference with TensorRT", 2017). Which one
//! is best is a matter of measurement, not of taste.
//!
//! ```
//! use roadhound_trainer::quantise::observe::{Histogram, Observer};
//! let mut seen = Histogram::default();
//! seen.add(&[0.0, 0.5, 1.0, 2.0]);
//! let params = Observer::Percentile(100.0).params(&seen, true)?;
//! assert_eq!(params.zero_point(), 0);
//! assert!((params.scale() - 2.0 / 255.0).abs() < 1e-4);
//! # Ok::<(), roadhound_shared::quantised::QuantError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use roadhound_shared::quantised::{QuantError, QuantParams};
use serde::{Deserialize, Serialize};

/// Bins on each side of zero.
const SIDE: usize = 4096;

/// Steps of a byte.
const STEPS: f64 = 255.0;

/// How often each magnitude was seen: bins of equal width about zero, whose reach doubles where a value lies beyond it.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// `2 * SIDE` bins over `-reach..reach`; empty until something was seen.
    counts: Vec<u64>,
    reach: f64,
    least: f32,
    most: f32,
}

/// Which rule sets the range of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Observer {
    /// The range that holds this many per cent of all values; 100 for all.
    Percentile(f64),
    /// The range under which the mean squared error is least.
    Mse,
    /// The range under which the distribution of bytes says most about that of values.
    Entropy,
}

impl fmt::Display for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percentile(share) => write!(f, "percentile-{share}"),
            Self::Mse => f.write_str("mse"),
            Self::Entropy => f.write_str("entropy"),
        }
    }
}

impl FromStr for Observer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mse" => Ok(Self::Mse),
            "entropy" => Ok(Self::Entropy),
            _ => {
                let share = text
                    .strip_prefix("percentile-")
                    .and_then(|s| s.parse::<f64>().ok());
                share
                    .filter(|s| (50.0..=100.0).contains(s))
                    .map(Self::Percentile)
                    .ok_or_else(|| {
                        format!("{text}: expected mse, entropy, or percentile-P with P in 50..=100")
                    })
            }
        }
    }
}

impl From<Observer> for String {
    fn from(observer: Observer) -> Self {
        observer.to_string()
    }
}

impl TryFrom<String> for Observer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Histogram {
    /// Counts values; those that are no numbers are left out.
    pub fn add(&mut self, values: &[f32]) {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let (least, most) = finite().fold((0.0f32, 0.0f32), |(l, m), v| (l.min(v), m.max(v)));
        let reach = f64::from(most.max(-least));
        if self.counts.is_empty() {
            self.counts = vec![0; 2 * SIDE];
            self.reach = 1e-6;
        }
        (self.least, self.most) = (self.least.min(least), self.most.max(most));
        while self.reach <= reach {
            self.widen();
        }
        let scale = (SIDE as f64 / self.reach) as f32;
        for value in finite() {
            // Truncation is towards zero: the offset keeps bins on both sides alike wide.
            let bin = (value * scale + SIDE as f32) as usize;
            self.counts[bin.min(2 * SIDE - 1)] += 1;
        }
    }

    /// Doubles the reach: pairs of bins become one.
    fn widen(&mut self) {
        let mut counts = vec![0; 2 * SIDE];
        for (bin, count) in self.counts.iter().enumerate() {
            counts[SIDE / 2 + bin / 2] += count;
        }
        self.counts = counts;
        self.reach *= 2.0;
    }

    /// Values counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Bins with something in them: middle and count.
    fn bins(&self) -> impl Iterator<Item = (f64, u64)> {
        let width = self.reach / SIDE as f64;
        let filled = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        filled.map(move |(bin, count)| ((bin as f64 + 0.5 - SIDE as f64) * width, *count))
    }

    /// The least and the largest value seen, 0 included.
    pub fn range(&self) -> (f32, f32) {
        (self.least, self.most)
    }

    /// The range left when a share of the values is cut off on each side; 0 stays inside.
    fn inner_range(&self, percent: f64) -> (f64, f64) {
        let out = (1.0 - percent / 100.0) * self.total() as f64;
        let width = self.reach / SIDE as f64;
        let edge = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut seen = 0.0;
            counts
                .take_while(|count| {
                    seen += **count as f64;
                    seen <= out
                })
                .count()
        };
        let below = edge(&mut self.counts.iter());
        let above = edge(&mut self.counts.iter().rev());
        let low = (below as f64 - SIDE as f64) * width;
        let high = (SIDE as f64 - above as f64) * width;
        (
            low.max(f64::from(self.least)).min(0.0),
            high.min(f64::from(self.most)).max(0.0),
        )
    }
}

impl Observer {
    /// Scale and zero point for what was seen. Where `relu`, negative values are cut off and the zero point is 0.
    ///
    /// # Errors
    /// Values beyond all bounds.
    pub fn params(&self, seen: &Histogram, relu: bool) -> Result<QuantParams, QuantError> {
        let (least, most) = seen.range();
        let least = if relu { 0.0 } else { f64::from(least) };
        let full = (least, f64::from(most));
        let (low, high) = match self {
            Self::Percentile(percent) => {
                let (low, high) = seen.inner_range(*percent);
                (low.max(least), high)
            }
            Self::Mse => best_share(full, |range| squared_error(seen, range)),
            Self::Entropy => best_share(full, |range| lost_information(seen, range)),
        };
        params_of(low, high)
    }
}

/// Bytes over a range that holds 0, which is one of them.
pub fn params_of(low: f64, high: f64) -> Result<QuantParams, QuantError> {
    // A tensor that is always 0 may have any scale.
    let scale = if high > low {
        (high - low) / STEPS
    } else {
        1.0
    };
    let zero = (-low / scale).round_ties_even().clamp(0.0, STEPS);
    QuantParams::new(scale as f32, zero as u8)
}

/// The share of the full range with the least cost.
fn best_share(full: (f64, f64), cost: impl Fn((f64, f64)) -> f64) -> (f64, f64) {
    let shares = (0..=90).map(|k| 1.0 - 0.01 * f64::from(k));
    let ranges = shares.map(|share| (full.0 * share, full.1 * share));
    let costs = ranges.map(|range| (cost(range), range));
    costs
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(full, |(_, range)| range)
}

/// Mean squared error of values that are rounded and cut off to a range: within a bin values are taken to be spread
/// evenly, so a step finer than the bins does not look free of error.
fn squared_error(seen: &Histogram, (low, high): (f64, f64)) -> f64 {
    let step = ((high - low) / STEPS).max(f64::MIN_POSITIVE);
    let within = step * step / 12.0;
    let error = |value: f64| {
        let beyond = (value - high).max(low - value).max(0.0);
        beyond * beyond + within
    };
    // Zero is a byte of its own, and half of what a ReLU gives is zero: those values have no error.
    let width = seen.reach / SIDE as f64;
    let weigh = |(value, count): (f64, u64)| match value.abs() < width && step > width {
        true => 0.0,
        false => count as f64 * error(value),
    };
    seen.bins().map(weigh).sum::<f64>() / seen.total().max(1) as f64
}

/// Relative entropy of the values cut off to a range against what bytes can tell of them.
fn lost_information(seen: &Histogram, (low, high): (f64, f64)) -> f64 {
    let step = ((high - low) / STEPS).max(f64::MIN_POSITIVE);
    let width = seen.reach / SIDE as f64;
    let total = seen.total().max(1) as f64;
    // By byte: values in it without those cut off, bins in it that hold something, and what is cut off at each end.
    let mut held = [0.0f64; 256];
    let mut filled = [0u32; 256];
    let byte = |value: f64| ((value - low) / step).round().clamp(0.0, STEPS) as usize;
    let inside = |value: f64| value >= low - 0.5 * width && value <= high + 0.5 * width;
    let mut beyond = [0.0f64; 2];
    for (value, count) in seen.bins() {
        let at = byte(value);
        if inside(value) {
            held[at] += count as f64;
            filled[at] += 1;
        } else {
            beyond[usize::from(value > high)] += count as f64;
        }
    }
    let kept: f64 = held.iter().sum();
    if kept <= 0.0 {
        return f64::INFINITY;
    }
    let mut divergence = 0.0;
    let (mut first, mut last) = (None, None);
    for (value, count) in seen.bins().filter(|(value, _)| inside(*value)) {
        first.get_or_insert((value, count));
        last = Some((value, count));
    }
    for (value, count) in seen.bins().filter(|(value, _)| inside(*value)) {
        let mut p = count as f64;
        // What is cut off lands on the ends.
        if first == Some((value, count)) {
            p += beyond[0];
        }
        if last == Some((value, count)) {
            p += beyond[1];
        }
        let at = byte(value);
        let q = held[at] / f64::from(filled[at].max(1)) / kept;
        let p = p / total;
        divergence += p * (p / q.max(1e-12)).ln();
    }
    divergence
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const ALL: [Observer; 4] = [
        Observer::Percentile(100.0),
        Observer::Percentile(99.9),
        Observer::Mse,
        Observer::Entropy,
    ];

    /// Half zeros, the rest of a bell curve's right side: what a ReLU gives.
    fn relu_values(count: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let bell = |rng: &mut ChaCha8Rng| (0..12).map(|_| rng.random::<f32>() - 0.5).sum::<f32>();
        (0..count).map(|_| bell(&mut rng).max(0.0)).collect()
    }

    fn error(values: &[f32], params: QuantParams) -> f64 {
        let off = |v: &f32| f64::from(params.dequantise(params.quantise(*v)) - v).powi(2);
        values.iter().map(off).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn all_of_the_range_is_kept_at_one_hundred_per_cent_and_a_stray_value_is_cut_off_below() {
        let mut values = relu_values(20_000);
        values.push(50.0);
        let mut seen = Histogram::default();
        values.chunks(997).for_each(|part| seen.add(part));
        let full = Observer::Percentile(100.0).params(&seen, true).unwrap();
        assert!(
            (full.scale() * 255.0 - 50.0).abs() < 0.01,
            "{}",
            full.scale() * 255.0
        );
        for observer in [Observer::Percentile(99.9), Observer::Entropy] {
            let most = observer.params(&seen, true).unwrap().scale() * 255.0;
            assert!((1.0..20.0).contains(&most), "{observer}: {most}");
        }
    }

    #[test]
    fn the_least_squares_range_has_the_least_error_of_all() {
        let mut values = relu_values(20_000);
        values.extend([6.0, 7.0, 9.0]);
        let mut seen = Histogram::default();
        seen.add(&values);
        let best = error(&values, Observer::Mse.params(&seen, true).unwrap());
        for observer in ALL {
            let other = error(&values, observer.params(&seen, true).unwrap());
            assert!(
                best <= 1.02 * other,
                "{observer}: {other:e} against {best:e}"
            );
        }
    }

    #[test]
    fn a_histogram_that_grew_is_the_one_that_was_wide_from_the_start() {
        let values = relu_values(5_000);
        let (mut grown, mut wide) = (Histogram::default(), Histogram::default());
        for value in &values {
            grown.add(&[*value]);
        }
        grown.add(&[7.5]);
        wide.add(&[7.5]);
        wide.add(&values);
        assert_eq!(grown.total(), wide.total());
        let of = |seen: &Histogram| {
            Observer::Percentile(99.0)
                .params(seen, true)
                .unwrap()
                .scale()
        };
        assert!((of(&grown) / of(&wide) - 1.0).abs() < 0.01);
    }

    #[test]
    fn values_on_both_sides_get_a_zero_point_between() {
        let mut seen = Histogram::default();
        seen.add(&[-1.0, 0.0, 3.0]);
        let params = Observer::Percentile(100.0).params(&seen, false).unwrap();
        assert_eq!(params.zero_point(), 64);
        assert_eq!(params.dequantise(params.quantise(0.0)), 0.0);
    }

    #[test]
    fn a_tensor_that_was_always_zero_or_never_seen_still_has_a_scale() {
        let mut zeros = Histogram::default();
        zeros.add(&[0.0; 9]);
        for observer in ALL {
            assert_eq!(observer.params(&zeros, true).unwrap().zero_point(), 0);
            assert_eq!(
                observer
                    .params(&Histogram::default(), false)
                    .unwrap()
                    .zero_point(),
                0
            );
        }
    }

    #[test]
    fn observers_are_written_as_they_are_read() {
        for observer in ALL {
            assert_eq!(observer.to_string().parse::<Observer>().unwrap(), observer);
        }
        assert!("percentile-120".parse::<Observer>().is_err());
        assert!(
            "median"
                .parse::<Observer>()
                .unwrap_err()
                .starts_with("median: expected mse")
        );
    }

    proptest! {
        #[test]
        fn any_values_give_parameters_that_hold_zero(
            values in prop::collection::vec(-1e6f32..1e6, 1..40), relu: bool,
        ) {
            let mut seen = Histogram::default();
            seen.add(&values);
            for observer in ALL {
                let params = observer.params(&seen, relu).unwrap();
                prop_assert_eq!(params.dequantise(params.quantise(0.0)), 0.0);
                prop_assert!(!relu || params.zero_point() == 0);
            }
        }
    }
}
