//! Numbers from hashes: every random choice is a function of a seed and a few integers, so that nothing depends on
//! the order in which things are made.

use alloc::vec;
use alloc::vec::Vec;

pub(super) use crate::mix::hash;

use super::math::{floor, floor_i32, mix, smooth};

/// Uniform in 0..1 from the upper bits.
fn unit_of(bits: u64) -> f32 {
    (bits >> 40) as f32 / (1_u32 << 24) as f32
}

/// Uniform in 0..1, decided by a seed and two integers.
pub(super) fn unit_at(seed: u64, a: i64, b: i64) -> f32 {
    unit_of(hash(seed ^ hash((a as u64) ^ hash(b as u64))))
}

/// Smooth in `t`, in -1..1: a wandering value for drift, sway and desire.
pub(super) fn wander(seed: u64, t: f32) -> f32 {
    let at = floor(t);
    let knot = |i: i64| unit_at(seed, at as i64 + i, 77) * 2.0 - 1.0;
    mix(knot(0), knot(1), smooth(t - at))
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Streams of one seed are independent.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self(hash(seed ^ hash(stream ^ 0x5851_F42D_4C95_7F2D)))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        hash(self.0)
    }

    pub(super) fn unit(&mut self) -> f32 {
        unit_of(self.next())
    }

    pub(super) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in a configured range.
    pub(super) fn within(&mut self, range: [f32; 2]) -> f32 {
        self.range(range[0], range[1])
    }

    pub(super) fn chance(&mut self, share: f32) -> bool {
        self.unit() < share
    }

    /// Below `n`, which must be above zero.
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n.max(1)
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Index drawn by weight; the last one where all are zero.
    pub(super) fn weighted(&mut self, weights: &[f32]) -> usize {
        let total: f32 = weights.iter().sum();
        let mut left = self.unit() * total;
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len().saturating_sub(1)
    }

    /// Roughly normal, in -1..1, mostly near zero.
    pub(super) fn bell(&mut self) -> f32 {
        (self.unit() + self.unit() + self.unit()) * (2.0 / 3.0) - 1.0
    }
}

/// Value of one step of the stored noise.
const NOISE_STEP: f32 = 0.01;
/// Side of the noise tile.
const TILE: usize = 256;

/// Tileable noise in -1..1 with a mip chain, so that distant ground fades instead of shimmering.
pub(super) struct Noise {
    /// In steps of [`NOISE_STEP`]: bytes, so that the tile stays in the processor's cache.
    levels: Vec<Vec<i8>>,
}

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        let mut base = vec![0.0_f32; TILE * TILE];
        for (cells, weight) in [(4_usize, 0.30_f32), (16, 0.28), (64, 0.26), (256, 0.36)] {
            let lattice: Vec<f32> = (0..cells * cells)
                .map(|i| {
                    unit_at(seed ^ cells as u64, (i % cells) as i64, (i / cells) as i64) * 2.0 - 1.0
                })
                .collect();
            let step = TILE / cells;
            for y in 0..TILE {
                let (y0, ty) = (y / step, smooth((y % step) as f32 / step as f32));
                let y1 = (y0 + 1) % cells;
                for x in 0..TILE {
                    let (x0, tx) = (x / step, smooth((x % step) as f32 / step as f32));
                    let x1 = (x0 + 1) % cells;
                    let low = mix(lattice[y0 * cells + x0], lattice[y0 * cells + x1], tx);
                    let high = mix(lattice[y1 * cells + x0], lattice[y1 * cells + x1], tx);
                    base[y * TILE + x] += mix(low, high, ty) * weight;
                }
            }
        }
        let mut levels = vec![base];
        let mut size = TILE;
        while size > 4 {
            let half = size / 2;
            let fine = &levels[levels.len() - 1];
            let coarse = (0..half * half)
                .map(|i| {
                    let (x, y) = (i % half * 2, i / half * 2);
                    let at = y * size + x;
                    (fine[at] + fine[at + 1] + fine[at + size] + fine[at + size + 1]) / 4.0
                })
                .collect();
            levels.push(coarse);
            size = half;
        }
        let levels = levels
            .into_iter()
            .map(|level| {
                level
                    .into_iter()
                    .map(|v| (v / NOISE_STEP).clamp(-127.0, 127.0) as i8)
                    .collect()
            })
            .collect();
        Self { levels }
    }

    /// Bilinear sample; `u`, `v` in tiles, `footprint` in tiles a pixel.
    #[inline]
    pub(super) fn at(&self, u: f32, v: f32, footprint: f32) -> f32 {
        let texels = (footprint * TILE as f32).max(1.0);
        // The exponent of a float is the floor of its logarithm.
        let level = ((texels.to_bits() >> 23) as usize)
            .saturating_sub(127)
            .min(self.levels.len() - 1);
        let size = TILE >> level;
        let map = &self.levels[level];
        let (fx, fy) = (u * size as f32, v * size as f32);
        let (ix, iy) = (floor_i32(fx), floor_i32(fy));
        let (tx, ty) = (fx - ix as f32, fy - iy as f32);
        let mask = size - 1;
        let (x0, y0) = (ix as usize & mask, iy as usize & mask);
        let (x1, y1) = ((x0 + 1) & mask, (y0 + 1) & mask);
        let at = |x: usize, y: usize| f32::from(map[y * size + x]);
        let low = mix(at(x0, y0), at(x1, y0), tx);
        let high = mix(at(x0, y1), at(x1, y1), tx);
        mix(low, high, ty) * NOISE_STEP
    }

    /// Nearest sample: good enough where a texel is no larger than a pixel.
    #[inline]
    pub(super) fn near(&self, u: f32, v: f32, footprint: f32) -> f32 {
        let texels = (footprint * TILE as f32).max(1.0);
        let level = ((texels.to_bits() >> 23) as usize)
            .saturating_sub(127)
            .min(self.levels.len() - 1);
        let size = TILE >> level;
        let (x, y) = (
            floor_i32(u * size as f32) as usize & (size - 1),
            floor_i32(v * size as f32) as usize & (size - 1),
        );
        f32::from(self.levels[level][y * size + x]) * NOISE_STEP
    }

    /// Sample at full resolution, for textures that are painted once.
    pub(super) fn fine(&self, u: f32, v: f32) -> f32 {
        self.at(u, v, 0.0)
    }
}
