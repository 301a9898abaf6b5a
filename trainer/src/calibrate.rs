//! Is a presence of 0.8 right eight times in ten? Reliability figures, and the correction that makes it so.
//!
//! In: probabilities and what was the case. Out: [`Reliability`] with the expected calibration error, a picture of it,
//! and [`Platt`], a slope and an offset of the logit fitted on held-out data (Platt 1999). The slope is positive, so no
//! ranking changes, and both fold into the weights of the presence head: the graphs stay as they are.
//!
//! ```
//! use roadhound_trainer::calibrate::Reliability;
//! // Says 0.9 and is right nine times in ten.
//! let present: Vec<bool> = (0..10).map(|i| i > 0).collect();
//! let reliability = Reliability::of(&[0.9; 10], &present);
//! assert!(reliability.expected_calibration_error < 1e-9);
//! ```

use image::{Rgb, RgbImage};
use serde::Serialize;

/// Bins of equal width over 0 to 1 (Guo et al. 2017).
pub const BINS: usize = 15;

/// Cases whose probability falls into one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bin {
    /// How many.
    pub count: usize,
    /// Mean of their probabilities.
    pub mean_probability: f64,
    /// Share of them in which the target was present.
    pub present_share: f64,
}

/// Probabilities against frequencies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reliability {
    /// [`BINS`] bins, from 0 to 1. A probability on a border belongs to the bin above it, 1 to the last one.
    pub bins: Vec<Bin>,
    /// Mean over all cases of the distance between a bin's mean probability and its share of present cases.
    pub expected_calibration_error: f64,
}

impl Reliability {
    /// The bins as `lower,upper,count,mean_predicted,share_present`.
    pub fn csv(&self) -> String {
        let mut text = String::from("lower,upper,count,mean_predicted,share_present\n");
        let width = 1.0 / self.bins.len().max(1) as f64;
        for (k, bin) in self.bins.iter().enumerate() {
            let [lower, upper] = [k, k + 1].map(|edge| edge as f64 * width);
            text += &format!(
                "{lower:.4},{upper:.4},{},{:.5},{:.5}\n",
                bin.count, bin.mean_probability, bin.present_share
            );
        }
        text
    }

    /// Sorts cases into bins. Probabilities that are not numbers are left out; without any case the error is 0.
    pub fn of(probabilities: &[f64], present: &[bool]) -> Self {
        let mut sums = vec![(0_usize, 0.0, 0.0); BINS];
        for (&p, &present) in probabilities.iter().zip(present) {
            if p.is_finite() {
                let at = ((p.clamp(0.0, 1.0) * BINS as f64) as usize).min(BINS - 1);
                sums[at].0 += 1;
                sums[at].1 += p;
                sums[at].2 += f64::from(u8::from(present));
            }
        }
        let total: usize = sums.iter().map(|s| s.0).sum();
        let mut error = 0.0;
        let bins = sums
            .into_iter()
            .map(|(count, probability, present)| {
                let n = count.max(1) as f64;
                error += (probability - present).abs() / total.max(1) as f64;
                Bin {
                    count,
                    mean_probability: probability / n,
                    present_share: present / n,
                }
            })
            .collect();
        Self {
            bins,
            expected_calibration_error: error,
        }
    }

    /// The figures as lines: a bin each, empty ones left out.
    pub fn lines(&self) -> Vec<String> {
        let bins = self.bins.iter().enumerate().filter(|(_, b)| b.count > 0);
        bins.map(|(k, b)| {
            format!(
                "{:.2}-{:.2} {:>6} cases, said {:.3}, present {:.3}",
                k as f64 / BINS as f64,
                (k + 1) as f64 / BINS as f64,
                b.count,
                b.mean_probability,
                b.present_share
            )
        })
        .collect()
    }

    /// The reliability diagram: what was said across, how often it was so upwards, the diagonal where both agree; below
    /// it, how many cases fall into each bin (the square root of the share, so that rare bins can be seen).
    pub fn picture(&self) -> RgbImage {
        const SIDE: i64 = 300;
        const LEFT: i64 = 44;
        const TOP: i64 = 14;
        const BELOW: i64 = 70;
        let (white, ink, faint) = (Rgb([255; 3]), Rgb([40; 3]), Rgb([222; 3]));
        let (blue, gap, amount) = (
            Rgb([70, 120, 190]),
            Rgb([235, 150, 130]),
            Rgb([150, 170, 195]),
        );
        let mut image = RgbImage::from_pixel(
            (LEFT + SIDE + 16) as u32,
            (TOP + SIDE + 30 + BELOW + 14) as u32,
            white,
        );
        let floor = TOP + SIDE;
        let up = |share: f64| floor - (share.clamp(0.0, 1.0) * SIDE as f64).round() as i64;
        let along = |share: f64| LEFT + (share.clamp(0.0, 1.0) * SIDE as f64).round() as i64;
        for quarter in 0..=4 {
            let share = f64::from(quarter) / 4.0;
            fill(
                &mut image,
                [LEFT, up(share), LEFT + SIDE, up(share) + 1],
                faint,
            );
            fill(
                &mut image,
                [along(share), TOP, along(share) + 1, floor],
                faint,
            );
            let text = format!("{share:.2}");
            write(&mut image, [LEFT - 36, up(share) - 5], &text, ink);
            write(&mut image, [along(share) - 14, floor + 8], &text, ink);
        }
        let total: usize = self.bins.iter().map(|b| b.count).sum();
        let base = floor + 30 + BELOW;
        for (k, bin) in self.bins.iter().enumerate().filter(|(_, b)| b.count > 0) {
            let (from, to) = (
                along(k as f64 / BINS as f64),
                along((k + 1) as f64 / BINS as f64),
            );
            let (said, was) = (up(bin.mean_probability), up(bin.present_share));
            fill(&mut image, [from + 2, was, to - 2, floor], blue);
            fill(
                &mut image,
                [from + 2, said.min(was), to - 2, said.max(was)],
                gap,
            );
            let share = bin.count as f64 / total.max(1) as f64;
            let height = ((share.sqrt() * BELOW as f64).round() as i64).max(1);
            fill(&mut image, [from + 2, base - height, to - 2, base], amount);
        }
        for step in 0..SIDE {
            fill(
                &mut image,
                [LEFT + step, floor - step - 1, LEFT + step + 2, floor - step],
                ink,
            );
        }
        fill(&mut image, [LEFT, floor, LEFT + SIDE, floor + 2], ink);
        fill(&mut image, [LEFT, TOP, LEFT + 2, floor], ink);
        fill(&mut image, [LEFT, base, LEFT + SIDE, base + 1], ink);
        let text = format!("{:.3}", self.expected_calibration_error);
        write(&mut image, [LEFT + 10, TOP + 6], &text, Rgb([190, 60, 40]));
        image
    }
}

fn fill(image: &mut RgbImage, [left, top, right, bottom]: [i64; 4], colour: Rgb<u8>) {
    for y in top.max(0)..bottom.min(i64::from(image.height())) {
        for x in left.max(0)..right.min(i64::from(image.width())) {
            image.put_pixel(x as u32, y as u32, colour);
        }
    }
}

/// Digits and the point, three by five, doubled: a row a number, its bits from left to right.
fn write(image: &mut RgbImage, [left, top]: [i64; 2], text: &str, colour: Rgb<u8>) {
    const DIGITS: [[u8; 5]; 10] = [
        [7, 5, 5, 5, 7],
        [2, 6, 2, 2, 7],
        [7, 1, 7, 4, 7],
        [7, 1, 7, 1, 7],
        [5, 5, 7, 1, 1],
        [7, 4, 7, 1, 7],
        [7, 4, 7, 5, 7],
        [7, 1, 1, 1, 1],
        [7, 5, 7, 5, 7],
        [7, 5, 7, 1, 7],
    ];
    for (k, character) in text.chars().enumerate() {
        let rows = match character.to_digit(10) {
            Some(digit) => DIGITS[digit as usize],
            None => [0, 0, 0, 0, 2],
        };
        let at = left + 8 * k as i64;
        for (y, row) in rows.iter().enumerate() {
            for x in 0..3 {
                if row >> (2 - x) & 1 == 1 {
                    let (x, y) = (at + 2 * x, top + 2 * y as i64);
                    fill(image, [x, y, x + 2, y + 2], colour);
                }
            }
        }
    }
}

/// `sigmoid(scale * logit + bias)`; the scale is positive. A temperature is `1 / scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Platt {
    /// Slope.
    pub scale: f64,
    /// Offset.
    pub bias: f64,
}

impl Platt {
    /// Changes nothing.
    pub const IDENTITY: Self = Self {
        scale: 1.0,
        bias: 0.0,
    };

    /// The corrected probability of a logit.
    pub fn probability(&self, logit: f64) -> f64 {
        1.0 / (1.0 + (-(self.scale * logit + self.bias)).exp())
    }

    /// The slope and offset under which `present` is most likely, found by Newton's method. Each label is drawn in by
    /// what one more case of the other kind would do (Platt 1999), so that separable data gives a finite slope.
    /// `None` without cases of both kinds, or where a higher logit means absent.
    pub fn fit(logits: &[f64], present: &[bool]) -> Option<Self> {
        let cases: Vec<(f64, bool)> = logits
            .iter()
            .zip(present)
            .filter(|(logit, _)| logit.is_finite())
            .map(|(logit, present)| (*logit, *present))
            .collect();
        let positives = cases.iter().filter(|(_, present)| *present).count() as f64;
        let negatives = cases.len() as f64 - positives;
        if positives == 0.0 || negatives == 0.0 {
            return None;
        }
        let label = |present: bool| match present {
            true => (positives + 1.0) / (positives + 2.0),
            false => 1.0 / (negatives + 2.0),
        };
        let loss = |platt: &Self| -> f64 {
            let of = |(logit, present): &(f64, bool)| {
                let z = platt.scale * logit + platt.bias;
                // ln(1 + exp(z)) without overflow.
                z.max(0.0) + (-z.abs()).exp().ln_1p() - label(*present) * z
            };
            cases.iter().map(of).sum()
        };
        let mut platt = Self::IDENTITY;
        let mut best = loss(&platt);
        for _ in 0..100 {
            let (mut g, mut h) = ([0.0; 2], [1e-9, 0.0, 1e-9]);
            for (logit, present) in &cases {
                let p = platt.probability(*logit);
                let (error, weight) = (p - label(*present), p * (1.0 - p));
                g[0] += error * logit;
                g[1] += error;
                h[0] += weight * logit * logit;
                h[1] += weight * logit;
                h[2] += weight;
            }
            let determinant = h[0] * h[2] - h[1] * h[1];
            if determinant <= 0.0 {
                break;
            }
            let step = [
                (h[2] * g[0] - h[1] * g[1]) / determinant,
                (h[0] * g[1] - h[1] * g[0]) / determinant,
            ];
            // Newton's step, halved until it helps.
            let next = (0..30).map(|k| 0.5_f64.powi(k)).find_map(|share| {
                let next = Self {
                    scale: platt.scale - share * step[0],
                    bias: platt.bias - share * step[1],
                };
                let value = loss(&next);
                (value < best).then_some((next, value))
            });
            let Some((next, value)) = next else { break };
            let gained = best - value;
            (platt, best) = (next, value);
            if gained < 1e-10 * (1.0 + best) {
                break;
            }
        }
        (platt.scale > 0.0).then_some(platt)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Logits in -6..6 whose true probability of presence is `sigmoid(scale * logit + bias)`, as exact frequencies.
    fn cases(truth: Platt) -> (Vec<f64>, Vec<bool>) {
        let (mut logits, mut present) = (Vec::new(), Vec::new());
        for k in 0..=48 {
            let logit = f64::from(k) / 4.0 - 6.0;
            for i in 0..400 {
                logits.push(logit);
                present.push(f64::from(i) + 0.5 < 400.0 * truth.probability(logit));
            }
        }
        (logits, present)
    }

    #[test]
    fn certainty_that_is_half_wrong_costs_one_half() {
        let reliability = Reliability::of(&[1.0, 1.0, 0.0, 0.0], &[true, false, true, false]);
        assert!((reliability.expected_calibration_error - 0.5).abs() < 1e-12);
        assert_eq!(reliability.bins[BINS - 1].count, 2);
        assert_eq!(Reliability::of(&[], &[]).expected_calibration_error, 0.0);
        assert_eq!(Reliability::of(&[f64::NAN], &[true]).bins[0].count, 0);
    }

    #[test]
    fn the_error_is_weighted_by_how_many_fall_into_a_bin() {
        let probabilities = [0.1, 0.1, 0.1, 0.9];
        let reliability = Reliability::of(&probabilities, &[false, false, false, false]);
        assert!((reliability.expected_calibration_error - (0.75 * 0.1 + 0.25 * 0.9)).abs() < 1e-12);
    }

    #[test]
    fn a_fit_finds_the_slope_and_offset_that_made_the_data_and_cures_the_error() {
        let truth = Platt {
            scale: 0.4,
            bias: -0.7,
        };
        let (logits, present) = cases(truth);
        let fitted = Platt::fit(&logits, &present).unwrap();
        assert!((fitted.scale - truth.scale).abs() < 0.01, "{fitted:?}");
        assert!((fitted.bias - truth.bias).abs() < 0.02, "{fitted:?}");
        let error = |platt: Platt| {
            let probabilities: Vec<f64> = logits.iter().map(|l| platt.probability(*l)).collect();
            Reliability::of(&probabilities, &present).expected_calibration_error
        };
        assert!(error(Platt::IDENTITY) > 0.1, "{}", error(Platt::IDENTITY));
        assert!(error(fitted) < 0.01, "{}", error(fitted));
    }

    #[test]
    fn separable_cases_give_a_finite_slope_and_one_sided_or_reversed_ones_none() {
        let fitted = Platt::fit(&[-3.0, -1.0, 1.0, 3.0], &[false, false, true, true]).unwrap();
        assert!(fitted.scale.is_finite() && fitted.scale > 0.0);
        assert_eq!(Platt::fit(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(Platt::fit(&[], &[]), None);
        assert_eq!(
            Platt::fit(&[3.0, 2.0, -2.0, -3.0], &[false, false, true, true]),
            None
        );
        assert!(
            Platt::fit(&[1e30, -1e30, f64::NAN], &[true, false, true])
                .is_none_or(|p| p.scale.is_finite())
        );
    }

    #[test]
    fn the_picture_shows_bars_where_there_are_cases() {
        let picture = Reliability::of(&[0.95; 8], &[true; 8]).picture();
        let coloured = |x: u32| (14..314).any(|y| *picture.get_pixel(x, y) == Rgb([70, 120, 190]));
        assert!(coloured(44 + 290) && !coloured(44 + 100));
    }
}
