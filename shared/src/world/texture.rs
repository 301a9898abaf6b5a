//! Small painted images with mip chains. Every texel has a colour and a [`Kind`] that says how it takes light.

use alloc::vec::Vec;

use super::math::{Rgb, floor_i32, larger};

/// How a surface takes and gives light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Cloth, skin, plaster, rubber.
    Matte = 0,
    /// Lacquer: a weak mirror at flat angles.
    Paint = 1,
    /// A mirror over a dark inside.
    Glass = 2,
    /// Glows red with the tail and brake lamps.
    Tail = 3,
    /// Glows white with the headlamps.
    Head = 4,
    /// Glows with the indicator.
    Amber = 5,
    /// Bright metal.
    Chrome = 6,
    /// Plates and signs: throw headlight back.
    Retro = 7,
    /// A window that may be lit from inside at night.
    Window = 8,
    /// Leaves: light shines through.
    Leaf = 9,
    /// A lamp that is always on at night; traffic lights are on by day too.
    Lamp = 10,
}

impl Kind {
    pub(super) fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Paint,
            2 => Self::Glass,
            3 => Self::Tail,
            4 => Self::Head,
            5 => Self::Amber,
            6 => Self::Chrome,
            7 => Self::Retro,
            8 => Self::Window,
            9 => Self::Leaf,
            10 => Self::Lamp,
            _ => Self::Matte,
        }
    }
}

/// Sides are two to the power of less than this.
const MOST_LEVELS: usize = 12;

/// One size of a texture.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Index of its first texel.
    start: u32,
    log2_w: u32,
    /// Last column and row.
    columns: u32,
    rows: u32,
    /// Sides in sixteenths of a texel: in those, places between texels are told.
    w16: f32,
    h16: f32,
}

impl Level {
    fn new(start: usize, log2_w: u32, log2_h: u32) -> Self {
        Self {
            start: start as u32,
            log2_w,
            columns: (1 << log2_w) - 1,
            rows: (1 << log2_h) - 1,
            w16: (16_u32 << log2_w) as f32,
            h16: (16_u32 << log2_h) as f32,
        }
    }
}

/// A square-free image: sides are powers of two, it repeats in both directions.
pub(super) struct Texture {
    log2_w: u32,
    log2_h: u32,
    /// Level after level, the finest first. A texel is `kind << 24 | r << 16 | g << 8 | b`; in a cut-out the upper byte is
    /// coverage.
    texels: Vec<u32>,
    /// Of a cut-out, the coverage alone: what is drawn is more than what is seen of it.
    coverage: Vec<u8>,
    levels: [Level; MOST_LEVELS],
    last_level: usize,
    /// Coverage instead of kinds: leaves and fences.
    pub(super) cutout: bool,
}

fn pack(c: Rgb, upper: u8) -> u32 {
    let byte = |v: f32| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u32;
    u32::from(upper) << 24 | byte(c[0]) << 16 | byte(c[1]) << 8 | byte(c[2])
}

fn mean4(texels: [u32; 4], cutout: bool) -> u32 {
    let mut sum = [0_u32; 4];
    for t in texels {
        for (channel, total) in sum.iter_mut().enumerate() {
            *total += t >> (8 * channel) & 0xff;
        }
    }
    let upper = if cutout {
        (sum[3] + 2) / 4
    } else {
        texels[0] >> 24
    };
    let [b, g, r] = [0, 1, 2].map(|channel: usize| (sum[channel] + 2) / 4);
    upper << 24 | r << 16 | g << 8 | b
}

impl Texture {
    /// Paints level 0 from a function of `u` (right) and `v` (up), both in 0..1; colours are sRGB in 0..1.
    pub(super) fn paint(
        log2_w: u32,
        log2_h: u32,
        mut colour: impl FnMut(f32, f32) -> (Rgb, Kind),
    ) -> Self {
        Self::build(log2_w, log2_h, false, |u, v| {
            let (c, kind) = colour(u, v);
            (c, kind as u8)
        })
    }

    /// The same with a coverage in 0..1 instead of a kind.
    pub(super) fn paint_cutout(
        log2_w: u32,
        log2_h: u32,
        mut colour: impl FnMut(f32, f32) -> (Rgb, f32),
    ) -> Self {
        Self::build(log2_w, log2_h, true, |u, v| {
            let (c, coverage) = colour(u, v);
            (c, (coverage.clamp(0.0, 1.0) * 255.0) as u8)
        })
    }

    fn build(
        log2_w: u32,
        log2_h: u32,
        cutout: bool,
        mut texel: impl FnMut(f32, f32) -> (Rgb, u8),
    ) -> Self {
        let (w, h) = (1_usize << log2_w, 1_usize << log2_h);
        let mut texels = Vec::with_capacity(w * h * 4 / 3 + 1);
        for y in 0..h {
            for x in 0..w {
                let (c, upper) = texel((x as f32 + 0.5) / w as f32, (y as f32 + 0.5) / h as f32);
                texels.push(pack(c, upper));
            }
        }
        let mut levels = [Level::default(); MOST_LEVELS];
        levels[0] = Level::new(0, log2_w, log2_h);
        let mut last_level = 0;
        let (mut lw, mut lh) = (log2_w, log2_h);
        while lw > 0 && lh > 0 && last_level + 1 < MOST_LEVELS {
            let from = levels[last_level].start as usize;
            last_level += 1;
            levels[last_level] = Level::new(texels.len(), lw - 1, lh - 1);
            let (w, half_w, half_h) = (1_usize << lw, 1_usize << (lw - 1), 1_usize << (lh - 1));
            for y in 0..half_h {
                for x in 0..half_w {
                    let at = from + 2 * y * w + 2 * x;
                    let four = [
                        texels[at],
                        texels[at + 1],
                        texels[at + w],
                        texels[at + w + 1],
                    ];
                    texels.push(mean4(four, cutout));
                }
            }
            lw -= 1;
            lh -= 1;
        }
        Self {
            log2_w,
            log2_h,
            coverage: if cutout {
                texels.iter().map(|texel| (texel >> 24) as u8).collect()
            } else {
                Vec::new()
            },
            texels,
            levels,
            last_level,
            cutout,
        }
    }

    /// The level whose texels are nearest to `texels_per_px` texels of level 0.
    #[inline]
    fn level(&self, texels_per_px: f32) -> &Level {
        let exponent = (larger(texels_per_px, 1.0) * 1.19).to_bits() >> 23;
        let level = (exponent as usize).saturating_sub(127);
        &self.levels[level.min(self.last_level).min(MOST_LEVELS - 1)]
    }

    /// The four texels about a place, as indices, and sixteenths of the way from the first to the others.
    #[inline]
    fn about(&self, u: f32, v: f32, level: &Level) -> ([usize; 4], [u32; 2]) {
        // From the middle of the first texel.
        let (fx, fy) = (
            floor_i32(u * level.w16 - 8.0) as u32,
            floor_i32(v * level.h16 - 8.0) as u32,
        );
        let (x0, y0) = (fx >> 4 & level.columns, fy >> 4 & level.rows);
        let (x1, y1) = ((x0 + 1) & level.columns, (y0 + 1) & level.rows);
        let low = level.start + (y0 << level.log2_w);
        let high = level.start + (y1 << level.log2_w);
        (
            [low + x0, low + x1, high + x0, high + x1].map(|at| at as usize),
            [fx & 15, fy & 15],
        )
    }

    /// Texels along `u` and `v` at the finest level.
    pub(super) fn sides(&self) -> (f32, f32) {
        ((1_u32 << self.log2_w) as f32, (1_u32 << self.log2_h) as f32)
    }

    /// Colour (sRGB bytes) and upper byte of the nearest texel; bilinear in the level whose texels are nearest to `texels_per_px` texels of level 0.
    #[inline]
    pub(super) fn sample(&self, u: f32, v: f32, texels_per_px: f32) -> ([u8; 3], u8) {
        let (places, [tx, ty]) = self.about(u, v, self.level(texels_per_px));
        let texels = places.map(|at| self.texels[at]);
        // Three channels at a time, sixteen bits each; the weights add up to 256.
        let wide =
            texels.map(|texel| u64::from(texel & 0x00ff_00ff) | u64::from(texel & 0xff00) << 24);
        let (right, below) = (u64::from(tx), u64::from(ty));
        let above = wide[0] * (16 - right) + wide[1] * right;
        let under = wide[2] * (16 - right) + wide[3] * right;
        let sum = above * (16 - below) + under * below;
        let nearest = texels[usize::from(tx > 8) + 2 * usize::from(ty > 8)];
        (
            [(sum >> 24) as u8, (sum >> 40) as u8, (sum >> 8) as u8],
            (nearest >> 24) as u8,
        )
    }

    /// How far the texels about a place agree with the nearest one in kind: 1 all of them, 0 at a border.
    pub(super) fn agreement(&self, u: f32, v: f32, texels_per_px: f32) -> f32 {
        let (_, here) = self.sample(u, v, texels_per_px);
        let (w, h) = self.sides();
        let step = texels_per_px.max(1.0) * 0.5;
        let around = [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)];
        let same = around
            .iter()
            .filter(|(x, y)| {
                self.sample(u + x * step / w, v + y * step / h, texels_per_px)
                    .1
                    == here
            })
            .count();
        (same as f32 - 1.0) / 3.0
    }

    /// Coverage alone, of a cut-out.
    #[inline]
    pub(super) fn coverage(&self, u: f32, v: f32, texels_per_px: f32) -> f32 {
        let (places, [tx, ty]) = self.about(u, v, self.level(texels_per_px));
        let [a, b, c, d] = places.map(|at| u32::from(self.coverage[at]));
        let low = a * (16 - tx) + b * tx;
        let high = c * (16 - tx) + d * tx;
        (low * (16 - ty) + high * ty) as f32 * (1.0 / 256.0)
    }
}
