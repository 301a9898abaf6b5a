//! What every pixel sees, who is seen where, and how it moves while the shutter is open.

use super::batch::{BLOCK, Batch, Shader, StreetLamps, Ways, depths, is_ground, sunlit};
use super::sky::Sky;
use super::{GROUND_AHEAD_M, GROUND_BEHIND_M, Instance, Scratch, View};
use crate::world::Sequence;
use crate::world::edges::WHOLE;
use crate::world::math::{V3, dot, floor, larger, ramp, scale};
use crate::world::raster::{Extent, MASK_MIDDLE, NEAR_M, SAMPLES, Shown, on};
use crate::world::scenery::lamps_of;

/// Distance of the sky, for how it moves.
const SKY_M: f32 = 1e4;

impl Sequence {
    #[inline(never)]
    pub(super) fn resolve(&self, view: &View, scratch: &mut Scratch) {
        let (width, height) = scratch.size();
        let lamps = self.lamps_near(view);
        let junctions = self
            .road
            .junctions_between(view.s - GROUND_BEHIND_M, view.s + GROUND_AHEAD_M);
        scratch.seen.clear();
        scratch.seen.resize(scratch.full.len(), Extent::EMPTY);
        let Scratch {
            buffer,
            colour,
            flow,
            seen,
            instances,
            sky,
            ..
        } = scratch;
        let shader = Shader {
            world: self,
            view,
            base_s: floor(view.s),
            lamps: &lamps,
            up: view.camera.turn_into_view([0.0, 1.0, 0.0]),
            junctions: &junctions,
            shown: &buffer.shown,
            instances,
        };
        let mut sky = Sky::new(self, view, (width, height), sky);
        let (mut surfaces, mut ground) = (Batch::EMPTY, Batch::EMPTY);
        let ways = |at: usize, mask: u8| Ways {
            sun: sunlit(buffer.shadow[at], mask),
            open: 1.0 - f32::from(buffer.contact[at]) * (1.0 / 255.0),
        };
        // Leaves of one plant, and parts of the ground, are shaded once a pixel: there may be four, and they look alike.
        let alike = |a: u32, b: u32| {
            if a == b {
                return true;
            }
            if a == 0 || b == 0 {
                return false;
            }
            let (a, b) = (&buffer.shown[a as usize], &buffer.shown[b as usize]);
            a.texture == b.texture
                && a.instance == b.instance
                && (is_ground(a) || self.textures[a.texture as usize].cutout)
        };
        for y in 0..height {
            let row = y * width;
            let fronts = &buffer.front[row..row + width];
            let mut from = 0;
            while from < width {
                let front = fronts[from];
                let index = front[0];
                // Most pixels show one thing, and so do their neighbours.
                if front == [index; SAMPLES] {
                    let same = fronts[from + 1..].iter().take_while(|f| **f == front);
                    let to = from + 1 + same.count();
                    let shown = &buffer.shown[index as usize];
                    let instance = &instances[shown.instance as usize];
                    if instance.object != 0 {
                        seen[instance.object as usize].add_run(from..to, y);
                    }
                    if index == 0 {
                        sky.run(from..to, y, |x, c| {
                            colour[row + x] = [c[0], c[1], c[2], 0.0];
                        });
                    }
                    let motion = Motion::new(view, instance, index);
                    let middle = y as f32 + 0.5;
                    for x in (from..to).step_by(BLOCK) {
                        let n = BLOCK.min(to - x);
                        let columns: [f32; BLOCK] = core::array::from_fn(|i| (x + i) as f32 + 0.5);
                        let z = if index == 0 {
                            [SKY_M; BLOCK]
                        } else {
                            depths(&shown.inverse_depth, &columns, middle)
                        };
                        motion.run(&columns, middle, &z, &mut flow[row + x..row + x + n]);
                        if index == 0 {
                            continue;
                        }
                        let what = (index, shown);
                        if is_ground(shown) {
                            ground.put_run(what, row + x, n, &columns, middle, &z);
                            ground.open_ways(n, |i| ways(row + x + i, WHOLE));
                            if ground.is_full() {
                                shader.ground(&mut ground, colour);
                            }
                        } else {
                            surfaces.put_run(what, row + x, n, &columns, middle, &z);
                            if surfaces.is_full() {
                                shader.surfaces(&mut surfaces, colour);
                            }
                        }
                    }
                    from = to;
                    continue;
                }
                let at = row + from;
                colour[at] = [0.0; 4];
                let mut strongest = (0_u32, 0_u32);
                let mut left = WHOLE;
                while left != 0 {
                    let index = front[left.trailing_zeros() as usize];
                    let same = front.iter().enumerate();
                    let mask = left
                        & same.fold(0_u8, |mask, (s, &other)| {
                            mask | u8::from(alike(index, other)) << s
                        });
                    left &= !mask;
                    let n = mask.count_ones();
                    if n > strongest.0 {
                        strongest = (n, index);
                    }
                    let share = n as f32 * (1.0 / SAMPLES as f32);
                    let [dx, dy] = MASK_MIDDLE[usize::from(mask)];
                    let place = [from as f32 + dx, y as f32 + dy];
                    if index == 0 {
                        let c = sky.at(place[0], place[1]);
                        for (to, c) in colour[at].iter_mut().zip(c) {
                            *to += c * share;
                        }
                        continue;
                    }
                    let shown = &buffer.shown[index as usize];
                    let object = instances[shown.instance as usize].object;
                    if object != 0 {
                        seen[object as usize].add(from, y, mask);
                    }
                    if is_ground(shown) {
                        ground.put_part((index, shown), at, share, place);
                        ground.open_ways(1, |_| ways(at, mask));
                        if ground.is_full() {
                            shader.ground(&mut ground, colour);
                        }
                    } else {
                        surfaces.put_part((index, shown), at, share, place);
                        if surfaces.is_full() {
                            shader.surfaces(&mut surfaces, colour);
                        }
                    }
                }
                let index = strongest.1;
                let shown = &buffer.shown[index as usize];
                let motion = Motion::new(view, &instances[shown.instance as usize], index);
                let (x, y) = (from as f32 + 0.5, y as f32 + 0.5);
                flow[at] = motion.at(x, y, motion.depth(shown, x, y));
                from += 1;
            }
        }
        shader.surfaces(&mut surfaces, colour);
        shader.ground(&mut ground, colour);
        // Halos of lamps that are hidden go dark.
        let (w, h) = (width as i32, height as i32);
        for glow in &mut scratch.glows {
            let (x, y) = (floor(glow.at_px[0]) as i32, floor(glow.at_px[1]) as i32);
            let mut brightest = 0.0_f32;
            for (dx, dy) in [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)] {
                let (x, y) = (x + dx, y + dy);
                if x >= 0 && y >= 0 && x < w && y < h {
                    let c = scratch.colour[y as usize * width + x as usize];
                    brightest = brightest.max(c[0]);
                }
            }
            // A lamp that is seen is far brighter than its surroundings.
            let seen = if self.light.night {
                ramp(0.12, 0.35, brightest)
            } else {
                ramp(0.5, 0.9, brightest)
            };
            glow.colour = scale(glow.colour, seen);
        }
    }

    fn lamps_near(&self, view: &View) -> StreetLamps {
        let mut lamps = StreetLamps::new();
        if self.light.night {
            let near = self.scenery.between(view.s - 25.0, view.s + 110.0).iter();
            let all = near.flat_map(|prop| {
                let mesh = &self.scenery.meshes[prop.mesh as usize];
                lamps_of(prop, mesh)
            });
            for world in all {
                if lamps.push(view.camera.view_from_world(world)).is_err() {
                    break;
                }
            }
        }
        lamps
    }
}

/// How what is seen moves over the image while the shutter is open.
struct Motion {
    turn: [V3; 3],
    /// Not a number where it moves with the camera.
    shift: V3,
    focal_px: f32,
    centre_px: [f32; 2],
    is_sky: bool,
}

impl Motion {
    #[inline]
    fn new(view: &View, instance: &Instance, index: u32) -> Self {
        let is_sky = index == 0;
        Self {
            turn: view.turn,
            shift: if is_sky { [0.0; 3] } else { instance.shift },
            focal_px: view.camera.focal_px,
            centre_px: [view.camera.cx_px, view.camera.cy_px],
            is_sky,
        }
    }

    fn depth(&self, shown: &Shown, x: f32, y: f32) -> f32 {
        if self.is_sky {
            SKY_M
        } else {
            1.0 / larger(on(&shown.inverse_depth, x, y), 1e-5)
        }
    }

    /// Pixels that a point at a place in the image, `z` metres ahead, moves.
    #[inline]
    fn at(&self, x_px: f32, y_px: f32, z: f32) -> [f32; 2] {
        if self.shift[0].is_nan() {
            return [0.0; 2];
        }
        let per_focal = 1.0 / self.focal_px;
        let x = (x_px - self.centre_px[0]) * per_focal;
        let y = (self.centre_px[1] - y_px) * per_focal;
        let q = [x * z, y * z, z];
        let later = |k: usize| dot(self.turn[k], q) + self.shift[k];
        let per_depth = 1.0 / larger(later(2), NEAR_M);
        [
            self.focal_px * (later(0) * per_depth - x),
            -self.focal_px * (later(1) * per_depth - y),
        ]
    }

    /// The same of neighbours.
    #[inline]
    fn run(&self, x_px: &[f32; BLOCK], y_px: f32, z: &[f32; BLOCK], flow: &mut [[f32; 2]]) {
        let moves: [[f32; 2]; BLOCK] = core::array::from_fn(|i| self.at(x_px[i], y_px, z[i]));
        for (to, moves) in flow.iter_mut().zip(moves) {
            *to = moves;
        }
    }
}
