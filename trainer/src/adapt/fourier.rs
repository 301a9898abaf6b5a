//! The light of one picture on the shapes of another: low frequencies swap their amplitudes (Yang and Soatto 2020).
//!
//! In: a picture of the source and one of the target, square and of one side. Out: the source's picture with the
//! amplitudes that the target has at the lowest frequencies, its own phases kept. Only those few frequencies are ever
//! computed: no transform of the whole picture is needed.
//!
//! ```
//! use roadhound_trainer::adapt::fourier::swap_low_frequencies;
//! let mut dark = vec![40u8; 16 * 16 * 3];
//! swap_low_frequencies(&mut dark, &vec![200u8; 16 * 16 * 3], 16, 1);
//! assert!(dark.iter().all(|v| *v == 200));
//! ```

use std::f64::consts::TAU;

/// Channels of an interleaved picture.
const CHANNELS: usize = 3;

/// Amplitudes of frequencies up to `reach` waves a side, in both directions, become those of `target`; both are
/// `side` x `side`, RGB, interleaved. Pictures of other sizes stay as they are.
pub fn swap_low_frequencies(source: &mut [u8], target: &[u8], side: usize, reach: usize) {
    let len = side * side * CHANNELS;
    if source.len() != len || target.len() != len || side < 2 {
        return;
    }
    // Above half the side frequencies repeat.
    let reach = reach.min((side - 1) / 2);
    let waves = Waves::new(side, reach);
    for channel in 0..CHANNELS {
        let (own, other) = (waves.of(source, channel), waves.of(target, channel));
        let change: Vec<[f64; 2]> = own
            .iter()
            .zip(&other)
            .map(|(a, b)| {
                let (from, to) = (a[0].hypot(a[1]), b[0].hypot(b[1]));
                // A frequency that the source lacks has no phase to keep.
                let by = if from > 1e-9 { to / from - 1.0 } else { 0.0 };
                [by * a[0], by * a[1]]
            })
            .collect();
        waves.add(&change, source, channel);
    }
}

/// Cosines and sines of the frequencies `-reach..=reach` along a side.
struct Waves {
    side: usize,
    reach: usize,
    /// By frequency, then place: `exp(-2 pi i k x / side)`.
    turns: Vec<Vec<[f64; 2]>>,
}

fn times(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

impl Waves {
    fn new(side: usize, reach: usize) -> Self {
        let turn = |k: i64, x: usize| {
            let (sin, cos) = (-TAU * k as f64 * x as f64 / side as f64).sin_cos();
            [cos, sin]
        };
        let reach_signed = reach as i64;
        let turns = (-reach_signed..=reach_signed)
            .map(|k| (0..side).map(|x| turn(k, x)).collect())
            .collect();
        Self { side, reach, turns }
    }

    fn count(&self) -> usize {
        2 * self.reach + 1
    }

    /// Coefficients, row frequency by column frequency.
    fn of(&self, rgb: &[u8], channel: usize) -> Vec<[f64; 2]> {
        let count = self.count();
        let mut found = vec![[0.0; 2]; count * count];
        for (y, row) in rgb.chunks_exact(self.side * CHANNELS).enumerate() {
            for (kx, along_x) in self.turns.iter().enumerate() {
                let mut sum = [0.0; 2];
                for (pixel, turn) in row.chunks_exact(CHANNELS).zip(along_x) {
                    let v = f64::from(pixel[channel]);
                    sum[0] += v * turn[0];
                    sum[1] += v * turn[1];
                }
                for (ky, along_y) in self.turns.iter().enumerate() {
                    let term = times(sum, along_y[y]);
                    let at = &mut found[ky * count + kx];
                    at[0] += term[0];
                    at[1] += term[1];
                }
            }
        }
        found
    }

    /// Adds what these coefficients amount to.
    fn add(&self, change: &[[f64; 2]], rgb: &mut [u8], channel: usize) {
        let count = self.count();
        let area = (self.side * self.side) as f64;
        for (y, row) in rgb.chunks_exact_mut(self.side * CHANNELS).enumerate() {
            let mut of_row = vec![[0.0; 2]; count];
            for (ky, along_y) in self.turns.iter().enumerate() {
                // The way back turns the other way.
                let back = [along_y[y][0], -along_y[y][1]];
                for (sum, change) in of_row.iter_mut().zip(&change[ky * count..]) {
                    let term = times(*change, back);
                    sum[0] += term[0];
                    sum[1] += term[1];
                }
            }
            for (x, pixel) in row.chunks_exact_mut(CHANNELS).enumerate() {
                // Frequencies come in pairs of opposite sign: what is imaginary cancels.
                let sum: f64 = of_row
                    .iter()
                    .zip(&self.turns)
                    .map(|(c, along_x)| c[0] * along_x[x][0] + c[1] * along_x[x][1])
                    .sum();
                let value = f64::from(pixel[channel]) + sum / area;
                pixel[channel] = value.round().clamp(0.0, 255.0) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waves of these frequencies along x, about a mean.
    fn picture(mean: f64, waves: &[(f64, f64, f64)]) -> Vec<u8> {
        let side = 32;
        (0..side * side)
            .flat_map(|at| {
                let x = (at % side) as f64 / side as f64;
                let sum: f64 = waves
                    .iter()
                    .map(|(k, size, phase)| size * (TAU * k * x + phase).cos())
                    .sum();
                [(mean + sum).round() as u8; 3]
            })
            .collect()
    }

    #[test]
    fn low_frequencies_take_the_targets_amplitude_and_keep_their_phase_and_high_ones_stay() {
        let mut source = picture(90.0, &[(1.0, 30.0, 0.4), (6.0, 12.0, 1.0)]);
        let target = picture(140.0, &[(1.0, 10.0, 2.5), (6.0, 40.0, 0.0)]);
        swap_low_frequencies(&mut source, &target, 32, 2);
        let expected = picture(140.0, &[(1.0, 10.0, 0.4), (6.0, 12.0, 1.0)]);
        let furthest = source
            .iter()
            .zip(&expected)
            .map(|(a, b)| a.abs_diff(*b))
            .max();
        // Both pictures were rounded to bytes.
        assert!(furthest <= Some(3), "{furthest:?}");
    }

    #[test]
    fn a_picture_swapped_with_itself_and_one_of_another_size_stay() {
        let before = picture(90.0, &[(1.0, 30.0, 0.4), (5.0, 12.0, 1.0)]);
        let mut same = before.clone();
        swap_low_frequencies(&mut same, &before, 32, 3);
        assert_eq!(same, before);
        swap_low_frequencies(&mut same, &[1, 2, 3], 32, 3);
        assert_eq!(same, before);
    }
}
