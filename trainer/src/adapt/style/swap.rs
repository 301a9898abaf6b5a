//! The change that another manner makes to a crop.
//!
//! In: a learned code in two parts, what it says of the target's recordings, and crops as bytes, red, green, blue of a pixel
//! together, with a recording each. Out: the changed crops. See [`super`].

use candle_core::{Result, Tensor};

use crate::batch::Batch;
use crate::model::Pass;
use crate::task::disentangle::DisentangleNet;

const CHANNELS: usize = 3;
/// Of a byte.
const HIGHEST: f32 = 255.0;

/// Gives crops the manner of recordings of the target.
pub struct Restyler {
    net: DisentangleNet,
    side_px: usize,
    strength: f32,
    /// The mean `s` of each recording.
    manners: Vec<Vec<f32>>,
}

impl std::fmt::Debug for Restyler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restyler")
            .field("side_px", &self.side_px)
            .field("strength", &self.strength)
            .field("manners", &self.manners)
            .finish_non_exhaustive()
    }
}

impl Restyler {
    /// By a network that has learned pictures of `side_px` x `side_px` pixels; `strength` of the change is made. The manner
    /// of a recording is the mean of what its crops say: a single one says as much about itself.
    ///
    /// # Shapes
    /// `recordings` have rows of `[side_px, side_px, 3]` values from 0 to 1
    ///
    /// # Errors
    /// No recording, or one without crops; rows of another length.
    pub fn new(
        net: DisentangleNet,
        side_px: usize,
        strength: f32,
        recordings: &[Vec<Vec<f32>>],
    ) -> Result<Self> {
        let mut found = Self {
            net,
            side_px,
            strength,
            manners: Vec::with_capacity(recordings.len()),
        };
        for crops in recordings {
            let seen = found.net.encode(&found.rows(crops)?, Pass::Eval)?;
            found.manners.push(seen.class.mean(0)?.to_vec1()?);
        }
        match found.manners.is_empty() {
            true => candle_core::bail!("no recording whose manner could be given"),
            false => Ok(found),
        }
    }

    /// How many recordings there are to choose among.
    pub fn recordings(&self) -> usize {
        self.manners.len()
    }

    fn rows(&self, crops: &[Vec<f32>]) -> Result<Tensor> {
        let length = self.side_px * self.side_px * CHANNELS;
        Tensor::from_vec(crops.concat(), (crops.len(), length), self.net.device())
    }

    /// What each of `crops` becomes in the manner of the recording in the same place, less what it becomes in its own.
    ///
    /// # Shapes
    /// Rows of `[side_px, side_px, 3]` values from 0 to 1; returns rows of `[side_px / 2, side_px / 2, 3]` from -1 to 1
    ///
    /// # Errors
    /// Rows of another length, a recording that there is not.
    fn changes(&self, crops: &[Vec<f32>], recordings: &[usize]) -> Result<Vec<Vec<f32>>> {
        let mut manners = Vec::new();
        for recording in recordings {
            match self.manners.get(*recording) {
                Some(manner) => manners.extend_from_slice(manner),
                None => candle_core::bail!("recording {recording} of {}", self.manners.len()),
            }
        }
        let count = crops.len();
        let seen = self.net.encode(&self.rows(crops)?, Pass::Eval)?;
        let shape = (count, self.net.class_code());
        let manners = Tensor::from_vec(manners, shape, self.net.device())?;
        let class = Tensor::cat(&[&seen.class, &manners], 0)?;
        let rest = Tensor::cat(&[&seen.rest.mean, &seen.rest.mean], 0)?;
        let made = self.net.decoded(&class, &rest)?;
        let change = (made.narrow(0, count, count)? - made.narrow(0, 0, count)?)?;
        // Layers that widen leave a pattern of two pixels' length, which their mean is without.
        let half = self.side_px / 2;
        let change = change.reshape((count, half, 2, half, 2, CHANNELS))?;
        let change = change.mean(4)?.mean(2)?;
        change.reshape((count, half * half * CHANNELS))?.to_vec2()
    }

    /// Gives each of `crops`, of one side, the manner of the recording in the same place.
    ///
    /// # Shapes
    /// `crops` `[N, side, side, 3]`
    ///
    /// # Errors
    /// Crops of other sides, or not as many as recordings; a recording that there is not.
    pub fn restyle(&self, crops: &mut [u8], side: usize, recordings: &[usize]) -> Result<()> {
        let length = side * side * CHANNELS;
        if length == 0 || crops.len() != recordings.len() * length {
            candle_core::bail!(
                "{} values, expected {} crops of {side} x {side} pixels",
                crops.len(),
                recordings.len()
            )
        }
        if crops.is_empty() {
            return Ok(());
        }
        let small = crops.chunks_exact(length);
        let small: Vec<Vec<f32>> = small.map(|crop| shrunk(crop, side, self.side_px)).collect();
        let changes = self.changes(&small, recordings)?;
        for (crop, change) in crops.chunks_exact_mut(length).zip(changes) {
            add_widened(crop, side, &change, self.side_px / 2, self.strength);
        }
        Ok(())
    }

    /// Gives pairs of a batch, by their numbers, the manner of a recording each, templates and search crop alike.
    ///
    /// # Errors
    /// As [`Restyler::restyle`].
    pub fn restyle_pairs(&self, batch: &mut Batch, pairs: &[(usize, usize)]) -> Result<()> {
        let recordings: Vec<usize> = pairs.iter().map(|(_, recording)| *recording).collect();
        let (template_px, search_px) = (batch.template_px, batch.search_px);
        for (crops, side) in [
            (&mut batch.template_rgb, template_px),
            (&mut batch.template_latest_rgb, template_px),
            (&mut batch.search_rgb, search_px),
        ] {
            let length = side * side * CHANNELS;
            let spans = || pairs.iter().map(|(at, _)| at * length..(at + 1) * length);
            let mut changed: Vec<u8> = spans().flat_map(|span| &crops[span]).copied().collect();
            self.restyle(&mut changed, side, &recordings)?;
            for (span, crop) in spans().zip(changed.chunks_exact(length)) {
                crops[span].copy_from_slice(crop);
            }
        }
        Ok(())
    }
}

/// For each of `to` places along a side of `from`, the first and the second pixel that it lies between, and how much of the
/// second there is in it. Centres of pixels lie at halves.
fn between(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let step = from as f32 / to as f32;
    let place = |i: usize| {
        let at = ((i as f32 + 0.5) * step - 0.5).clamp(0.0, (from - 1) as f32);
        let first = (at as usize).min(from - 1);
        (first, (first + 1).min(from - 1), at - first as f32)
    };
    (0..to).map(place).collect()
}

/// The crop at another side, the mean of what falls on a pixel, as values from 0 to 1.
///
/// # Shapes
/// `crop` `[side, side, 3]`; returns `[to, to, 3]`
fn shrunk(crop: &[u8], side: usize, to: usize) -> Vec<f32> {
    if side <= to {
        let places = between(side, to);
        let value = |y: usize, x: usize, c: usize| f32::from(crop[(y * side + x) * CHANNELS + c]);
        let mut small = Vec::with_capacity(to * to * CHANNELS);
        for (top, bottom, down) in &places {
            for (left, right, across) in &places {
                small.extend((0..CHANNELS).map(|c| {
                    let along = |y: usize| mix(value(y, *left, c), value(y, *right, c), *across);
                    mix(along(*top), along(*bottom), *down) / HIGHEST
                }));
            }
        }
        return small;
    }
    // The first pixel of each span, and the one behind its last.
    let span = |i: usize| (i * side / to, ((i + 1) * side).div_ceil(to));
    let mut small = Vec::with_capacity(to * to * CHANNELS);
    for y in 0..to {
        let (top, bottom) = span(y);
        for x in 0..to {
            let (left, right) = span(x);
            let mut sums = [0u32; CHANNELS];
            for row in top..bottom {
                let pixels = &crop[(row * side + left) * CHANNELS..(row * side + right) * CHANNELS];
                for pixel in pixels.chunks_exact(CHANNELS) {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += u32::from(*value);
                    }
                }
            }
            let count = ((bottom - top) * (right - left)) as f32;
            small.extend(sums.map(|sum| sum as f32 / count / HIGHEST));
        }
    }
    small
}

fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + (b - a) * share
}

/// Adds `strength` of a smaller picture of changes to a crop, between whose pixels it is interpolated linearly.
///
/// # Shapes
/// `crop` `[side, side, 3]`, `change` `[from, from, 3]`
fn add_widened(crop: &mut [u8], side: usize, change: &[f32], from: usize, strength: f32) {
    let places = between(from, side);
    let value = |y: usize, x: usize, c: usize| change[(y * from + x) * CHANNELS + c];
    for (row, (top, bottom, down)) in crop.chunks_exact_mut(side * CHANNELS).zip(&places) {
        for (pixel, (left, right, across)) in row.chunks_exact_mut(CHANNELS).zip(&places) {
            for (c, byte) in pixel.iter_mut().enumerate() {
                let along = |y: usize| mix(value(y, *left, c), value(y, *right, c), *across);
                let by = strength * mix(along(*top), along(*bottom), *down) * HIGHEST;
                *byte = (f32::from(*byte) + by).round().clamp(0.0, HIGHEST) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::adapt::style::StyleConfig;
    use crate::labelled::Shape;
    use candle_core::Device;

    fn rows(crops: &[u8], side: usize) -> Vec<Vec<f32>> {
        let each = crops.chunks_exact(side * side * 3);
        each.map(|crop| shrunk(crop, side, 8)).collect()
    }

    /// The first recording is a white wall; each of the others is one crop of `others`.
    fn restyler(strength: f32, others: &Batch) -> Restyler {
        let config = StyleConfig {
            side_px: 8,
            ..StyleConfig::default()
        };
        let shape = Shape {
            height: 8,
            width: 8,
            channels: 3,
        };
        let net = DisentangleNet::new(&config.learner(3), shape, &Device::Cpu).unwrap();
        let wall = vec![vec![1.0; 8 * 8 * 3]; 2];
        let others = rows(&others.search_rgb, others.search_px);
        let recordings: Vec<_> = std::iter::once(wall)
            .chain(others.into_iter().map(|crop| vec![crop]))
            .collect();
        Restyler::new(net, 8, strength, &recordings).unwrap()
    }

    #[test]
    fn shrinking_takes_the_mean_and_a_flat_crop_stays_flat_at_any_side() {
        // Left half black, right half white.
        let halves: Vec<u8> = (0..16 * 16)
            .flat_map(|at| [if at % 16 < 8 { 0 } else { 255 }; 3])
            .collect();
        let small = shrunk(&halves, 16, 4);
        for (at, pixel) in small.chunks_exact(3).enumerate() {
            assert_eq!(pixel, [if at % 4 < 2 { 0.0 } else { 1.0 }; 3]);
        }
        for (side, to) in [(16, 4), (10, 4), (7, 7), (3, 8), (1, 5)] {
            let flat = vec![51u8; side * side * 3];
            let small = shrunk(&flat, side, to);
            assert_eq!(small.len(), to * to * 3);
            assert!(
                small.iter().all(|v| (v - 0.2).abs() < 1e-6),
                "{side} to {to}"
            );
        }
    }

    #[test]
    fn a_change_is_added_smoothly_by_its_strength_and_stays_in_a_byte() {
        let mut crop = vec![100u8; 12 * 12 * 3];
        let change: Vec<f32> = (0..16)
            .flat_map(|at| [if at % 4 < 2 { 0.2 } else { -0.2 }, 0.0, 2.0])
            .collect();
        add_widened(&mut crop, 12, &change, 4, 0.5);
        let row: Vec<u8> = crop[..12 * 3].chunks_exact(3).map(|p| p[0]).collect();
        // 25.5 lighter on the left, as much darker on the right, nothing sudden in the middle.
        assert_eq!((row[0], row[11]), (126, 75));
        assert!(row.windows(2).all(|two| two[0] >= two[1]));
        assert!(row.windows(2).all(|two| two[0] - two[1] <= 18), "{row:?}");
        assert!(crop.chunks_exact(3).all(|p| p[1] == 100 && p[2] == 255));
    }

    #[test]
    fn a_crop_in_its_own_manner_stays_as_it_is() {
        let noise = Batch::noise(4, 5, 16, 32);
        let changed = |strength: f32, recordings: [usize; 5]| {
            let mut crops = noise.search_rgb.clone();
            restyler(strength, &noise)
                .restyle(&mut crops, 32, &recordings)
                .unwrap();
            crops
        };
        assert_eq!(restyler(1.0, &noise).recordings(), 6);
        assert_eq!(changed(1.0, [1, 2, 3, 4, 5]), noise.search_rgb);
        assert_eq!(changed(0.0, [0; 5]), noise.search_rgb);
        let white = changed(4.0, [0; 5]);
        assert_ne!(white, noise.search_rgb);
        // Each has its own partner.
        let length = 32 * 32 * 3;
        let mixed = changed(4.0, [0, 2, 3, 4, 5]);
        assert_eq!(mixed[length..], noise.search_rgb[length..]);
        let apart = mixed.iter().zip(&white).take(length);
        let apart = apart.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart <= Some(1), "{apart:?}");
    }

    #[test]
    fn the_manner_of_a_recording_is_the_mean_of_what_its_crops_say() {
        let noise = Batch::noise(4, 5, 16, 32);
        let one = restyler(1.0, &noise);
        let crops = rows(&noise.search_rgb, 32);
        let both = Restyler::new(one.net, 8, 1.0, &[crops[..2].to_vec()]).unwrap();
        let mean = one.manners[1].iter().zip(&one.manners[2]);
        for (mean, found) in mean.map(|(a, b)| (a + b) / 2.0).zip(&both.manners[0]) {
            assert!((mean - found).abs() < 1e-5, "{mean} {found}");
        }
        assert!(Restyler::new(both.net, 8, 1.0, &[]).is_err());
    }

    #[test]
    fn chosen_pairs_are_changed_and_no_other_and_what_does_not_fit_is_refused() {
        let source = Batch::noise(1, 6, 16, 32);
        let restyler = restyler(4.0, &Batch::noise(2, 2, 16, 32));
        let mut changed = source.clone();
        restyler
            .restyle_pairs(&mut changed, &[(1, 0), (4, 0)])
            .unwrap();
        for at in 0..6 {
            let (new, old) = (changed.pair(at), source.pair(at));
            let chosen = [1, 4].contains(&at);
            assert_eq!(new.search_rgb != old.search_rgb, chosen);
            assert_eq!(new.template_rgb != old.template_rgb, chosen);
        }
        assert_eq!(changed.box_in_search, source.box_in_search);
        assert!(restyler.restyle_pairs(&mut changed, &[]).is_ok());
        let mut crop = vec![0u8; 32 * 32 * 3];
        assert!(restyler.restyle(&mut crop, 31, &[0]).is_err());
        assert!(restyler.restyle(&mut crop, 32, &[0, 1]).is_err());
        assert!(restyler.restyle(&mut crop, 32, &[3]).is_err());
        assert!(restyler.restyle(&mut crop, 32, &[2]).is_ok());
    }
}
