//! Shading of many pixels together. Most of what a pixel needs is the same arithmetic for all of them; what is not
//! (texels, kinds of surface) is done one by one in between.

#![expect(
    clippy::needless_range_loop,
    reason = "one index goes through many arrays; so the compiler makes vectors of them"
)]

use super::{GROUND, HEADLAMP, Instance, LAMP_REACH_M, Light, MOST_LAMPS, Tables, View};
use crate::world::Sequence;
use crate::world::ground::Spots;
use crate::world::lanes::{LANES, Lanes, RgbLanes, ZERO};
use crate::world::math::{
    Rgb, V3, add, floor, inverse_sqrt, larger, mix, mix3, ramp, scale, smaller,
};
use crate::world::random::unit_at;
use crate::world::raster::{ATTRIBUTES, KIND_FROM_TEXTURE, Plane, SAMPLES, Shown, on};
use crate::world::texture::Kind;

/// Pixels that are put into a batch together.
pub(super) const BLOCK: usize = 8;

/// Points on surfaces that wait to be shaded, each seen by a pixel or a part of one.
pub(super) struct Batch {
    count: usize,
    /// Pixel that takes the light, and the share of it.
    pixel: [u32; LANES],
    share: Lanes,
    shown: [u32; LANES],
    /// Where it is in the image.
    x: Lanes,
    y: Lanes,
    /// Distance ahead.
    z: Lanes,
    /// `u`, `v`, sun, sky, mirror.
    attributes: [Lanes; ATTRIBUTES],
    /// What things close by leave of the skylight.
    open: Lanes,
}

/// The sun and the sky that reach a pixel of the ground.
#[derive(Clone, Copy)]
pub(super) struct Ways {
    pub(super) sun: f32,
    pub(super) open: f32,
}

impl Batch {
    pub(super) const EMPTY: Self = Self {
        count: 0,
        pixel: [0; LANES],
        share: ZERO,
        shown: [0; LANES],
        x: ZERO,
        y: ZERO,
        z: [1.0; LANES],
        attributes: [ZERO; ATTRIBUTES],
        open: ZERO,
    };

    /// Whether another block might not fit.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.count > LANES - BLOCK
    }

    /// Puts in neighbouring whole pixels, at most a block of them, `z` metres ahead.
    #[inline]
    pub(super) fn put_run(
        &mut self,
        (index, shown): (u32, &Shown),
        pixel: usize,
        n: usize,
        x: &[f32; BLOCK],
        y: f32,
        z: &[f32; BLOCK],
    ) {
        let lanes = self.count..self.count + BLOCK;
        let pixels: [u32; BLOCK] = core::array::from_fn(|i| (pixel + i) as u32);
        self.pixel[lanes.clone()].copy_from_slice(&pixels);
        self.share[lanes.clone()].fill(1.0);
        self.shown[lanes.clone()].fill(index);
        self.x[lanes.clone()].copy_from_slice(x);
        self.y[lanes.clone()].fill(y);
        self.z[lanes.clone()].copy_from_slice(z);
        for (lane, plane) in self.attributes.iter_mut().zip(&shown.attributes) {
            let values: [f32; BLOCK] = core::array::from_fn(|i| on(plane, x[i], y) * z[i]);
            lane[lanes.clone()].copy_from_slice(&values);
        }
        self.count += n;
    }

    /// Puts in a part of a pixel.
    #[inline]
    pub(super) fn put_part(
        &mut self,
        (index, shown): (u32, &Shown),
        pixel: usize,
        share: f32,
        [x, y]: [f32; 2],
    ) {
        let z = 1.0 / larger(on(&shown.inverse_depth, x, y), 1e-5);
        let lane = self.count;
        self.pixel[lane] = pixel as u32;
        self.share[lane] = share;
        self.shown[lane] = index;
        self.x[lane] = x;
        self.y[lane] = y;
        self.z[lane] = z;
        for (values, plane) in self.attributes.iter_mut().zip(&shown.attributes) {
            values[lane] = on(plane, x, y) * z;
        }
        self.count += 1;
    }

    /// Tells how much light reaches the last `n` points; see [`Ways`].
    #[inline]
    pub(super) fn open_ways(&mut self, n: usize, ways: impl Fn(usize) -> Ways) {
        let first = self.count - n;
        for i in 0..n {
            let Ways { sun, open } = ways(i);
            self.attributes[2][first + i] *= sun * open;
            self.attributes[3][first + i] *= open;
            self.open[first + i] = open;
        }
    }

    /// Hands the light over to the pixels.
    #[inline]
    fn deliver(&mut self, light: &RgbLanes, colour: &mut [Light]) {
        for i in 0..self.count.min(LANES) {
            let share = self.share[i];
            let c = [light[0][i], light[1][i], light[2][i]];
            let to = &mut colour[self.pixel[i] as usize];
            if share == 1.0 {
                *to = [c[0], c[1], c[2], 0.0];
            } else {
                for (to, c) in to.iter_mut().zip(c) {
                    *to += c * share;
                }
            }
        }
        self.count = 0;
    }
}

/// Street lamps, in the camera's frame, without the lens's distortion: what they light is broad.
pub(super) type StreetLamps = heapless::Vec<V3, MOST_LAMPS>;

/// What shading needs to know about a frame.
pub(super) struct Shader<'a> {
    pub(super) world: &'a Sequence,
    pub(super) view: &'a View,
    pub(super) base_s: f32,
    pub(super) lamps: &'a [V3],
    /// The vertical, in the camera's frame.
    pub(super) up: V3,
    /// Junctions that may be seen.
    pub(super) junctions: &'a [f32],
    pub(super) shown: &'a [Shown],
    pub(super) instances: &'a [Instance],
}

impl Shader<'_> {
    /// Shades what is in a batch of textured surfaces.
    #[inline(never)]
    pub(super) fn surfaces(&self, batch: &mut Batch, colour: &mut [Light]) {
        let world = self.world;
        let light = &world.light;
        let Tables { linear, .. } = &world.tables;
        let per_focal = 1.0 / self.view.camera.focal_px;
        let mut albedo = [ZERO; 3];
        let mut clear = ZERO;
        // Those that do more than scatter light.
        let mut special = [(0_u8, Kind::Matte); LANES];
        let mut specials = 0;
        let n = batch.count.min(LANES);
        for i in 0..n {
            let shown = &self.shown[batch.shown[i] as usize];
            let texture = &world.textures[shown.texture as usize];
            let (u, v, z) = (batch.attributes[0][i], batch.attributes[1][i], batch.z[i]);
            let (c, upper) = texture.sample(u, v, shown.texels_per_m * z * per_focal);
            for k in 0..3 {
                albedo[k][i] = linear[usize::from(c[k])] * shown.tint[k];
            }
            clear[i] = world.tables.clear(z);
            let kind = if shown.kind != KIND_FROM_TEXTURE {
                Kind::from_bits(shown.kind)
            } else if texture.cutout {
                Kind::Matte
            } else {
                Kind::from_bits(upper)
            };
            let sun = &mut batch.attributes[2][i];
            *sun = if kind == Kind::Leaf {
                0.25 + 0.75 * *sun
            } else {
                larger(*sun, 0.0)
            };
            special[specials] = (i as u8, kind);
            specials += usize::from(!matches!(kind, Kind::Matte | Kind::Leaf));
        }
        let mut out = self.lit(batch);
        if light.night {
            self.lamp_light(batch, false, &mut out);
        }
        for (out, albedo) in out.iter_mut().zip(&albedo) {
            for i in 0..LANES {
                out[i] *= albedo[i];
            }
        }
        for &(i, kind) in &special[..specials] {
            let i = usize::from(i);
            let lane = [out[0][i], out[1][i], out[2][i]];
            let shone = self.shine(kind, batch, i, lane, albedo.each_ref().map(|a| a[i]));
            for k in 0..3 {
                out[k][i] = shone[k];
            }
        }
        self.haze(&clear, &mut out);
        batch.deliver(&out, colour);
    }

    /// Light of sun and sky on every point.
    #[inline]
    fn lit(&self, batch: &Batch) -> RgbLanes {
        let light = &self.world.light;
        let mut lit = [ZERO; 3];
        for (k, lit) in lit.iter_mut().enumerate() {
            for i in 0..LANES {
                lit[i] =
                    light.sun[k] * batch.attributes[2][i] + light.sky[k] * batch.attributes[3][i];
            }
        }
        lit
    }

    /// What the air between leaves of the light, and what it adds.
    #[inline]
    fn haze(&self, clear: &Lanes, out: &mut RgbLanes) {
        for (out, fog) in out.iter_mut().zip(self.world.light.fog) {
            for i in 0..LANES {
                out[i] = mix(fog, out[i], clear[i]);
            }
        }
    }

    /// Mirrors and lamps: `out` is the light that a point scatters.
    fn shine(&self, kind: Kind, batch: &Batch, i: usize, out: Rgb, albedo: Rgb) -> Rgb {
        let world = self.world;
        let light = &world.light;
        let shown = &self.shown[batch.shown[i] as usize];
        let instance = &self.instances[shown.instance as usize];
        let texture = &world.textures[shown.texture as usize];
        let (u, v, z) = (batch.attributes[0][i], batch.attributes[1][i], batch.z[i]);
        let mirror = larger(batch.attributes[4][i], 0.0);
        let glossy = |k: f32| scale(mix3(light.zenith, light.horizon, 0.6), k * mirror);
        // Lamps fade towards the rim of their texels, which would show as steps from near.
        let rim = || texture.agreement(u, v, shown.texels_per_m * z / self.view.camera.focal_px);
        match kind {
            Kind::Matte | Kind::Leaf => out,
            Kind::Paint => add(out, glossy(0.42)),
            Kind::Glass => add(scale(out, 0.8), glossy(0.95)),
            Kind::Chrome => add(scale(out, 0.6), glossy(1.8)),
            Kind::Tail => {
                let glow = instance.lit.tail * rim();
                add(
                    add(out, glossy(0.5)),
                    [glow * (0.25 + albedo[0]), glow * 0.03, glow * 0.02],
                )
            }
            Kind::Head => add(
                add(scale(out, 0.8), glossy(0.9)),
                scale([1.0, 0.96, 0.88], instance.lit.head * 0.35 * rim()),
            ),
            Kind::Amber => add(out, scale([1.0, 0.42, 0.04], instance.lit.amber * rim())),
            Kind::Retro if light.night => add(out, scale(albedo, HEADLAMP * 1.5 / (z * z + 60.0))),
            Kind::Retro => out,
            Kind::Window => {
                let out = add(out, scale(light.horizon, 0.06));
                if !light.night {
                    return out;
                }
                // Rooms are lit or not, by their place on the wall.
                let room = unit_at(
                    instance.seed,
                    floor(u * 2.0) as i64,
                    floor(v * 2.0) as i64 + i64::from(shown.texture) * 7,
                );
                if room < 0.35 {
                    add(out, scale([0.55, 0.42, 0.24], 0.3 + room))
                } else {
                    out
                }
            }
            Kind::Lamp => add(out, scale(albedo, if light.night { 0.9 } else { 0.10 })),
        }
    }

    /// Shades what is in a batch of points on the ground.
    #[inline(never)]
    pub(super) fn ground(&self, batch: &mut Batch, colour: &mut [Light]) {
        let world = self.world;
        let light = &world.light;
        let high_m = world.look.height_m;
        let focal_px = self.view.camera.focal_px;
        let mut spots = Spots {
            s: ZERO,
            d: batch.attributes[1],
            across_m: ZERO,
            along_m: ZERO,
            broad: batch.attributes[4],
        };
        let mut clear = ZERO;
        let z = &batch.z;
        for i in 0..LANES {
            spots.s[i] = self.base_s + batch.attributes[0][i];
            spots.across_m[i] = z[i] / focal_px;
            spots.along_m[i] = z[i] * z[i] / (focal_px * high_m);
        }
        for i in 0..LANES {
            clear[i] = world.tables.clear(z[i]);
        }
        let surfaces = world
            .ground
            .at(&world.road, &world.noise, self.junctions, &spots);
        let mut out = self.lit(batch);
        if light.night {
            self.lamp_light(batch, true, &mut out);
        }
        for (out, albedo) in out.iter_mut().zip(&surfaces.albedo) {
            for i in 0..LANES {
                out[i] *= albedo[i];
            }
        }
        if light.wet > 0.0 {
            // Water darkens the stone and mirrors the sky at flat angles.
            let mirrored = mix3(light.horizon, light.fog, 0.5);
            for i in 0..LANES {
                let wet = light.wet * mix(0.45, 1.0, surfaces.puddle[i]);
                let flat = larger(1.0 - high_m / larger(z[i], high_m), 0.0);
                let fresnel = 0.03 + 0.65 * flat * flat * flat * flat;
                let share = wet * fresnel * 0.75 * batch.open[i] * batch.attributes[3][i];
                for k in 0..3 {
                    out[k][i] = mix(out[k][i] * (1.0 - 0.5 * wet), mirrored[k], share);
                }
            }
        }
        self.haze(&clear, &mut out);
        batch.deliver(&out, colour);
    }

    /// Adds the light of lamps; `level` where it falls on the ground.
    #[inline(never)]
    fn lamp_light(&self, batch: &Batch, level: bool, lit: &mut RgbLanes) {
        let camera = &self.view.camera;
        let world = self.world;
        let per_focal = 1.0 / camera.focal_px;
        let (mut own, mut theirs) = (ZERO, ZERO);
        let (mut right, mut above) = (ZERO, ZERO);
        for i in 0..LANES {
            let z = batch.z[i];
            let hx = (batch.x[i] - camera.cx_px) * per_focal;
            let hy = (camera.cy_px - batch.y[i]) * per_focal;
            let per_z = 1.0 / z;
            let wide = 1.0 + (hx * 2.0 + 0.1) * (hx * 2.0 + 0.1);
            let up = hy + world.look.pitch + 0.6 * smaller(per_z, 1.0);
            let cut = ramp(0.05, -0.03, up) + 0.06;
            let slant = if level {
                smaller(1.6 * per_z + 0.02, 0.7)
            } else {
                1.0
            };
            own[i] = HEADLAMP * cut * slant / (wide * wide * (z * z + 30.0));
            (right[i], above[i]) = (hx * z, hy * z);
        }
        for lamp in self.lamps {
            for i in 0..LANES {
                let d = [lamp[0] - right[i], lamp[1] - above[i], lamp[2] - batch.z[i]];
                let r2 = larger(d[0] * d[0] + d[1] * d[1] + d[2] * d[2], 1.0);
                let falls = if level {
                    let down = d[0] * self.up[0] + d[1] * self.up[1] + d[2] * self.up[2];
                    larger(down, 0.0) * inverse_sqrt(r2)
                } else {
                    0.6
                };
                let reached = 4.2 * falls / (r2 + 8.0);
                theirs[i] += if r2 < LAMP_REACH_M * LAMP_REACH_M {
                    reached
                } else {
                    0.0
                };
            }
        }
        for (k, tint) in [1.0, 0.95, 0.86].into_iter().enumerate() {
            for i in 0..LANES {
                lit[k][i] += own[i] * tint + theirs[i] * world.lamp_colour[k];
            }
        }
    }
}

/// Distance ahead of a run of pixels.
#[inline]
pub(super) fn depths(plane: &Plane, x: &[f32; BLOCK], y: f32) -> [f32; BLOCK] {
    core::array::from_fn(|i| 1.0 / larger(on(plane, x[i], y), 1e-5))
}

/// Share of a pixel's samples that are lit, by how many of those that count are in shadow.
#[inline]
pub(super) fn sunlit(shadow: u8, mask: u8) -> f32 {
    if mask.count_ones() as usize == SAMPLES {
        1.0 - (shadow & mask).count_ones() as f32 * (1.0 / SAMPLES as f32)
    } else {
        1.0 - (shadow & mask).count_ones() as f32 / mask.count_ones() as f32
    }
}

/// Whether this is the ground.
#[inline]
pub(super) fn is_ground(shown: &Shown) -> bool {
    shown.texture == GROUND
}
