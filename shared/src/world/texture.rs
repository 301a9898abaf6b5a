//! Small painted images with mip chains. Every texel has a colour and a [`Kind`] that says how it takes light.

use alloc::vec::Vec;

use super::math::{Rgb, floor_i32};

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

/// A square-free image: sides are powers of two, it repeats in both directions.
pub(super) struct Texture {
    log2_w: u32,
    log2_h: u32,
    /// Level 0 is the finest. A texel is `kind << 24 | r << 16 | g << 8 | b`; in a cut-out the upper byte is coverage.
    levels: Vec<Vec<u32>>,
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
        let mut base = Vec::with_capacity(w * h);
        for y in 0..h {
            for x in 0..w {
                let (c, upper) = texel((x as f32 + 0.5) / w as f32, (y as f32 + 0.5) / h as f32);
                base.push(pack(c, upper));
            }
        }
        let mut levels = alloc::vec![base];
        let (mut lw, mut lh) = (log2_w, log2_h);
        while lw > 0 && lh > 0 {
            let fine = &levels[levels.len() - 1];
            let (w, half_w, half_h) = (1_usize << lw, 1_usize << (lw - 1), 1_usize << (lh - 1));
            let coarse = (0..half_w * half_h)
                .map(|i| {
                    let at = (i / half_w) * 2 * w + (i % half_w) * 2;
                    mean4(
                        [fine[at], fine[at + 1], fine[at + w], fine[at + w + 1]],
                        cutout,
                    )
                })
                .collect();
            levels.push(coarse);
            lw -= 1;
            lh -= 1;
        }
        Self {
            log2_w,
            log2_h,
            levels,
            cutout,
        }
    }

    /// Texels along `u` and `v` at the finest level.
    pub(super) fn sides(&self) -> (f32, f32) {
        ((1_u32 << self.log2_w) as f32, (1_u32 << self.log2_h) as f32)
    }

    /// Colour (sRGB bytes) and upper byte of the nearest texel; bilinear in the level whose texels are nearest to `texels_per_px` texels of level 0.
    #[inline]
    pub(super) fn sample(&self, u: f32, v: f32, texels_per_px: f32) -> ([u8; 3], u8) {
        let exponent = ((texels_per_px.max(1.0) * 1.19).to_bits() >> 23) as usize;
        let level = exponent.saturating_sub(127).min(self.levels.len() - 1);
        let (lw, lh) = (self.log2_w - level as u32, self.log2_h - level as u32);
        let map = &self.levels[level];
        let (fx, fy) = (
            u * (1_u32 << lw) as f32 - 0.5,
            v * (1_u32 << lh) as f32 - 0.5,
        );
        let (ix, iy) = (floor_i32(fx), floor_i32(fy));
        let (tx, ty) = (
            ((fx - ix as f32) * 16.0) as u32,
            ((fy - iy as f32) * 16.0) as u32,
        );
        let (mw, mh) = ((1_usize << lw) - 1, (1_usize << lh) - 1);
        let (x0, y0) = (ix as usize & mw, iy as usize & mh);
        let (x1, y1) = ((x0 + 1) & mw, (y0 + 1) & mh);
        let texels = [
            map[y0 << lw | x0],
            map[y0 << lw | x1],
            map[y1 << lw | x0],
            map[y1 << lw | x1],
        ];
        let (sx, sy) = (16 - tx, 16 - ty);
        let weights = [sx * sy, tx * sy, sx * ty, tx * ty];
        // Two channels at a time; the weights add up to 256.
        let (mut odd, mut even) = (0_u32, 0_u32);
        for (texel, weight) in texels.iter().zip(weights) {
            odd += (texel & 0x00ff_00ff) * weight;
            even += (texel >> 8 & 0xff) * weight;
        }
        let nearest = texels[usize::from(tx > 8) + 2 * usize::from(ty > 8)];
        (
            [(odd >> 24) as u8, (even >> 8) as u8, (odd >> 8) as u8],
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
        let exponent = ((texels_per_px.max(1.0) * 1.19).to_bits() >> 23) as usize;
        let level = exponent.saturating_sub(127).min(self.levels.len() - 1);
        let (lw, lh) = (self.log2_w - level as u32, self.log2_h - level as u32);
        let map = &self.levels[level];
        let (fx, fy) = (
            u * (1_u32 << lw) as f32 - 0.5,
            v * (1_u32 << lh) as f32 - 0.5,
        );
        let (ix, iy) = (floor_i32(fx), floor_i32(fy));
        let (tx, ty) = (fx - ix as f32, fy - iy as f32);
        let (mw, mh) = ((1_usize << lw) - 1, (1_usize << lh) - 1);
        let (x0, y0) = (ix as usize & mw, iy as usize & mh);
        let (x1, y1) = ((x0 + 1) & mw, (y0 + 1) & mh);
        let at = |x: usize, y: usize| (map[y << lw | x] >> 24) as f32;
        let low = at(x0, y0) + (at(x1, y0) - at(x0, y0)) * tx;
        let high = at(x0, y1) + (at(x1, y1) - at(x0, y1)) * tx;
        low + (high - low) * ty
    }
}
