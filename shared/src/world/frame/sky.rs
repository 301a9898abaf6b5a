//! The sky and what stands on the horizon: computed at every few pixels, blended in between.

use alloc::vec::Vec;

use super::{FAR_PER_RADIAN, FAR_STEPS, SKY_STEP_PX, View};
use crate::world::Sequence;
use crate::world::math::{Rgb, add, dot, floor_i32, mix, mix3, ramp, scale, smooth, sqrt, times};

/// Red, green, blue, bearing, elevation.
pub(super) type SkyPoint = [f32; 5];

/// Below this elevation there may be hills, trees, a town.
const FAR_BELOW: f32 = 0.20;

/// The sky over one frame. Rows of its grid are computed when they are first seen.
pub(super) struct Sky<'a> {
    world: &'a Sequence,
    view: &'a View,
    heading: f32,
    columns: usize,
    /// Row by row; empty where it is not known.
    grid: &'a mut Vec<Vec<SkyPoint>>,
    known: Vec<bool>,
    /// The grid's rows blended for the middle of a row of pixels, and which.
    blended: Vec<SkyPoint>,
    blended_for: usize,
    /// Light on what is far, and how clear the air is there.
    far_light: Rgb,
    far_clear: f32,
}

#[inline]
fn blend(a: &SkyPoint, b: &SkyPoint, t: f32) -> SkyPoint {
    core::array::from_fn(|k| mix(a[k], b[k], t))
}

impl<'a> Sky<'a> {
    pub(super) fn new(
        world: &'a Sequence,
        view: &'a View,
        (width, height): (usize, usize),
        grid: &'a mut Vec<Vec<SkyPoint>>,
    ) -> Self {
        let rows = height / SKY_STEP_PX + 2;
        grid.resize_with(rows, Vec::new);
        let forward = view.camera.forward;
        Self {
            world,
            view,
            heading: libm::atan2f(forward[0], forward[2]),
            columns: width / SKY_STEP_PX + 2,
            grid,
            known: alloc::vec![false; rows],
            blended: Vec::new(),
            blended_for: usize::MAX,
            far_light: add(scale(world.light.sun, 0.35), world.light.sky),
            far_clear: world.tables.clear(190.0),
        }
    }

    /// Colour at a point of the image.
    pub(super) fn at(&mut self, x: f32, y: f32) -> Rgb {
        let step = 1.0 / SKY_STEP_PX as f32;
        let (gx, gy) = (x * step, y * step);
        let (ix, iy) = (gx as usize, gy as usize);
        self.learn(iy);
        self.learn(iy + 1);
        let (tx, ty) = (gx - ix as f32, gy - iy as f32);
        let (row, below) = (&self.grid[iy], &self.grid[iy + 1]);
        self.seen(&blend(
            &blend(&row[ix], &below[ix], ty),
            &blend(&row[ix + 1], &below[ix + 1], ty),
            tx,
        ))
    }

    /// Colours of whole pixels of a row.
    pub(super) fn run(
        &mut self,
        columns: core::ops::Range<usize>,
        row: usize,
        mut put: impl FnMut(usize, Rgb),
    ) {
        let step = 1.0 / SKY_STEP_PX as f32;
        if self.blended_for != row {
            let gy = (row as f32 + 0.5) * step;
            let iy = gy as usize;
            self.learn(iy);
            self.learn(iy + 1);
            let ty = gy - iy as f32;
            let (above, below) = (&self.grid[iy], &self.grid[iy + 1]);
            let pairs = above.iter().zip(below);
            self.blended.clear();
            self.blended.extend(pairs.map(|(a, b)| blend(a, b, ty)));
            self.blended_for = row;
        }
        for x in columns {
            let ix = x / SKY_STEP_PX;
            let tx = ((x % SKY_STEP_PX) as f32 + 0.5) * step;
            let pair = &self.blended[ix..ix + 2];
            put(x, self.seen(&blend(&pair[0], &pair[1], tx)));
        }
    }

    /// The colour of a blended point, or of what stands before it.
    #[inline]
    fn seen(&self, point: &SkyPoint) -> Rgb {
        let &[r, g, b, bearing, up] = point;
        if up < FAR_BELOW {
            let world = self.world;
            let place = floor_i32(bearing * FAR_PER_RADIAN);
            let (ridge, house) = world.far_ridge[place as usize & (FAR_STEPS - 1)];
            if up < ridge {
                let tone = 0.8 + 0.5 * world.noise.near(bearing * 4.0, up * 14.0, 0.004);
                let base = if house {
                    [0.26, 0.25, 0.24]
                } else {
                    world.far_colour
                };
                return mix3(
                    world.light.fog,
                    scale(times(base, self.far_light), tone),
                    self.far_clear,
                );
            }
        }
        [r, g, b]
    }

    /// Computes a row of the grid if it is not known.
    #[inline]
    fn learn(&mut self, row: usize) {
        if !core::mem::replace(&mut self.known[row], true) {
            let mut points = core::mem::take(&mut self.grid[row]);
            points.clear();
            let y = (row * SKY_STEP_PX) as f32;
            points.extend((0..self.columns).map(|i| self.point((i * SKY_STEP_PX) as f32, y)));
            self.grid[row] = points;
        }
    }

    /// The sky without what stands on the horizon; then bearing and elevation, for that.
    fn point(&self, x: f32, y: f32) -> SkyPoint {
        let light = &self.world.light;
        let camera = &self.view.camera;
        let ray = camera.ray(x, y);
        let inverse = 1.0 / sqrt(dot(ray, ray));
        let up = ray[1] * inverse;
        let mut c = mix3(light.horizon, light.zenith, smooth(up * 2.2));
        if up > 0.015 && light.clouds > 0.05 {
            let k = 0.05 / up;
            let (u, v) = (
                ray[0] * inverse * k + self.world.cloud_shift,
                ray[2] * inverse * k,
            );
            let noise = &self.world.noise;
            let thick = noise.at(u, v, 0.0015 / up) + 0.5 * noise.at(u * 2.7, v * 2.7, 0.004 / up);
            let cover = ramp(
                0.35 - 0.75 * light.clouds,
                0.75 - 0.75 * light.clouds,
                thick,
            ) * ramp(0.0, 0.12, up);
            let bright = scale(light.horizon, 0.82 + 0.30 * (0.5 - thick));
            c = mix3(c, bright, cover * 0.85);
        }
        let towards = (dot(ray, light.sun_dir) * inverse).max(0.0);
        if !light.night && light.sun[0] > 0.2 {
            let halo = towards * towards;
            let halo = halo * halo * halo;
            let near = ramp(0.9985, 0.9996, towards);
            let glow = 0.35 * halo * halo + 0.9 * ramp(0.96, 1.0, towards) + 30.0 * near;
            c = add(c, scale(light.sun, glow));
        }
        let aside = libm::atan2f(dot(ray, camera.right), dot(ray, camera.forward));
        [c[0], c[1], c[2], self.heading + aside, up]
    }
}
