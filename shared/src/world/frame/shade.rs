//! The colour of what is seen: sky, surfaces, ground, lamps; and how it moves while the shutter is open.

use alloc::vec::Vec;

use super::{
    FAR_PER_RADIAN, FAR_STEPS, GROUND, GROUND_AHEAD_M, GROUND_BEHIND_M, HEADLAMP, Instance,
    LAMP_REACH_M, MOST_LAMPS, SKY_STEP_PX, Scratch, View,
};
use crate::world::Sequence;
use crate::world::edges::WHOLE;
use crate::world::ground::Spot;
use crate::world::math::{
    Rgb, V3, add, dot, floor, floor_i32, mix, mix3, ramp, scale, smooth, sqrt, sub, times,
};
use crate::world::random::unit_at;
use crate::world::raster::{Extent, KIND_FROM_TEXTURE, MASK_MIDDLE, NEAR_M, SAMPLES, Shown, on};
use crate::world::scenery::lamps_of;
use crate::world::texture::Kind;

impl Sequence {
    #[inline(never)]
    pub(super) fn resolve(&self, view: &View, scratch: &mut Scratch) {
        let (width, height) = scratch.size();
        let base_s = floor(view.s);
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
        let mut shader = Shader {
            world: self,
            view,
            base_s,
            lamps: &lamps,
            up: view.camera.turn_into_view([0.0, 1.0, 0.0]),
            junctions: &junctions,
            sky_grid: &[],
            sky_width: width / SKY_STEP_PX + 2,
        };
        sky.clear();
        for row in 0..height / SKY_STEP_PX + 2 {
            for column in 0..shader.sky_width {
                let (x, y) = ((column * SKY_STEP_PX) as f32, (row * SKY_STEP_PX) as f32);
                sky.push(shader.sky_point(x, y));
            }
        }
        shader.sky_grid = sky;
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
                && (a.texture == GROUND || self.textures[a.texture as usize].cutout)
        };
        for y in 0..height {
            let mut last_front = u32::MAX;
            for x in 0..width {
                let at = y * width + x;
                let front = buffer.front[at];
                let mut shaded = |index: u32, mask: u8| {
                    let [dx, dy] = MASK_MIDDLE[mask as usize];
                    let (px, py) = (x as f32 + dx, y as f32 + dy);
                    if index == 0 {
                        return shader.sky(px, py);
                    }
                    let shown = &buffer.shown[index as usize];
                    let instance = &instances[shown.instance as usize];
                    if instance.object != 0 {
                        seen[instance.object as usize].add(x, y, mask);
                    }
                    let shade =
                        (buffer.shadow[at] & mask).count_ones() as f32 / mask.count_ones() as f32;
                    shader.surface(shown, instance, px, py, shade, buffer.contact[at])
                };
                // Most pixels show one thing.
                let (total, strongest) = if front == [front[0]; SAMPLES] {
                    (shaded(front[0], WHOLE), front[0])
                } else {
                    let mut total = [0.0_f32; 3];
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
                        total = add(total, scale(shaded(index, mask), share));
                    }
                    (total, strongest.1)
                };
                colour[at] = [total[0], total[1], total[2], 0.0];
                // Motion changes slowly along a surface: every other pixel takes its neighbour's.
                if x & 1 == 1 && strongest == last_front {
                    flow[at] = flow[at - 1];
                    continue;
                }
                last_front = strongest;
                flow[at] = shader.flow(
                    &buffer.shown[strongest as usize],
                    instances,
                    strongest,
                    x as f32 + 0.5,
                    y as f32 + 0.5,
                );
            }
        }
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

    pub(super) fn lamps_near(&self, view: &View) -> Vec<StreetLamp> {
        let mut lamps = Vec::new();
        if self.light.night {
            for prop in self.scenery.between(view.s - 25.0, view.s + 110.0) {
                let mesh = &self.scenery.meshes[prop.mesh as usize];
                lamps.extend(lamps_of(prop, mesh).map(|world| StreetLamp {
                    at: view.camera.view_from_world(world),
                }));
            }
            lamps.truncate(MOST_LAMPS);
        }
        lamps
    }
}

/// Red, green, blue, bearing, elevation.
pub(super) type SkyPoint = [f32; 5];

/// In the camera's frame, without the lens's distortion: what it lights is broad.
pub(super) struct StreetLamp {
    pub(super) at: V3,
}

pub(super) struct Shader<'a> {
    pub(super) world: &'a Sequence,
    pub(super) view: &'a View,
    pub(super) base_s: f32,
    /// Street lamps.
    pub(super) lamps: &'a [StreetLamp],
    /// The vertical, in the camera's frame.
    pub(super) up: V3,
    /// Junctions that may be seen.
    pub(super) junctions: &'a [f32],
    pub(super) sky_grid: &'a [SkyPoint],
    pub(super) sky_width: usize,
}

impl Shader<'_> {
    /// The sky without what stands on the horizon; then bearing and elevation, for that.
    pub(super) fn sky_point(&self, x: f32, y: f32) -> SkyPoint {
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
        let heading = libm::atan2f(camera.forward[0], camera.forward[2]);
        let aside = libm::atan2f(dot(ray, camera.right), dot(ray, camera.forward));
        [c[0], c[1], c[2], heading + aside, up]
    }

    pub(super) fn sky(&self, x: f32, y: f32) -> Rgb {
        let light = &self.world.light;
        let (gx, gy) = (
            x * (1.0 / SKY_STEP_PX as f32),
            y * (1.0 / SKY_STEP_PX as f32),
        );
        let (ix, iy) = (gx as i32 as usize, gy as i32 as usize);
        let (tx, ty) = (gx - ix as f32, gy - iy as f32);
        let at = iy * self.sky_width + ix;
        let (row, below) = (
            &self.sky_grid[at..at + 2],
            &self.sky_grid[at + self.sky_width..],
        );
        let blend = |k: usize| {
            mix(
                mix(row[0][k], row[1][k], tx),
                mix(below[0][k], below[1][k], tx),
                ty,
            )
        };
        let up = blend(4);
        if up < 0.20 {
            // What is far: hills, trees, a town.
            let bearing = blend(3);
            let place = floor_i32(bearing * FAR_PER_RADIAN);
            let (ridge, house) = self.world.far_ridge[place as usize & (FAR_STEPS - 1)];
            if up < ridge {
                let tone = 0.8 + 0.5 * self.world.noise.near(bearing * 4.0, up * 14.0, 0.004);
                let base = if house {
                    [0.26, 0.25, 0.24]
                } else {
                    self.world.far_colour
                };
                let lit = add(scale(light.sun, 0.35), light.sky);
                return mix3(light.fog, scale(times(base, lit), tone), self.clear(190.0));
            }
        }
        [blend(0), blend(1), blend(2)]
    }

    pub(super) fn clear(&self, z: f32) -> f32 {
        let table = &self.world.tables.clear;
        table[((z * 2.0) as i32 as usize).min(table.len() - 1)]
    }

    /// Light of lamps at a point that is seen at a pixel, `z` metres ahead; `level` where it is ground.
    #[inline(never)]
    pub(super) fn lamp_light(&self, px: f32, py: f32, z: f32, level: bool) -> Rgb {
        let camera = &self.view.camera;
        let world = self.world;
        let per_focal = 1.0 / camera.focal_px;
        let (hx, hy) = (
            (px - camera.cx_px) * per_focal,
            (camera.cy_px - py) * per_focal,
        );
        let per_z = 1.0 / z;
        let wide = 1.0 + (hx * 2.0 + 0.1) * (hx * 2.0 + 0.1);
        let up = hy + world.look.pitch + 0.6 * per_z.min(1.0);
        let cut = ramp(0.05, -0.03, up) + 0.06;
        let slant = if level {
            (1.6 * per_z + 0.02).min(0.7)
        } else {
            1.0
        };
        let own = HEADLAMP * cut * slant / (wide * wide * (z * z + 30.0));
        let mut c = scale([1.0, 0.95, 0.86], own);
        let p = [hx * z, hy * z, z];
        for lamp in self.lamps {
            if (lamp.at[2] - z).abs() > LAMP_REACH_M {
                continue;
            }
            let d = sub(lamp.at, p);
            let r2 = dot(d, d).max(1.0);
            if r2 < LAMP_REACH_M * LAMP_REACH_M {
                let falls = if level {
                    dot(d, self.up).max(0.0) / sqrt(r2)
                } else {
                    0.6
                };
                c = add(c, scale(world.lamp_colour, 4.2 * falls / (r2 + 8.0)));
            }
        }
        c
    }

    pub(super) fn surface(
        &self,
        shown: &Shown,
        instance: &Instance,
        px: f32,
        py: f32,
        shade: f32,
        contact: u8,
    ) -> Rgb {
        let world = self.world;
        let light = &world.light;
        let z = 1.0 / on(&shown.inverse_depth, px, py).max(1e-5);
        let planes = &shown.attributes;
        let (u, v) = (on(&planes[0], px, py) * z, on(&planes[1], px, py) * z);
        let (sun, sky) = (on(&planes[2], px, py) * z, on(&planes[3], px, py) * z);
        let mirror = on(&planes[4], px, py) * z;
        if shown.texture == GROUND {
            return self.ground(px, py, z, [u, v, sun, sky, mirror], shade, contact);
        }
        let texture = &world.textures[shown.texture as usize];
        let texels_per_px = shown.texels_per_m * z / self.view.camera.focal_px;
        let (c, upper) = texture.sample(u, v, texels_per_px);
        let linear = &world.tables.linear;
        let albedo = [
            linear[c[0] as usize] * shown.tint[0],
            linear[c[1] as usize] * shown.tint[1],
            linear[c[2] as usize] * shown.tint[2],
        ];
        let kind = if shown.kind != KIND_FROM_TEXTURE {
            Kind::from_bits(shown.kind)
        } else if texture.cutout {
            Kind::Matte
        } else {
            Kind::from_bits(upper)
        };
        let sun = if kind == Kind::Leaf {
            0.25 + 0.75 * sun
        } else {
            sun.max(0.0)
        };
        let mut lit = [
            light.sun[0] * sun + light.sky[0] * sky,
            light.sun[1] * sun + light.sky[1] * sky,
            light.sun[2] * sun + light.sky[2] * sky,
        ];
        if light.night {
            lit = add(lit, self.lamp_light(px, py, z, false));
        }
        let mut out = times(albedo, lit);
        let mirror = mirror.max(0.0);
        let glossy = |k: f32| scale(mix3(light.zenith, light.horizon, 0.6), k * mirror);
        // Lamps fade towards the rim of their texels, which would show as steps from near.
        let rim = match kind {
            Kind::Tail | Kind::Head | Kind::Amber => texture.agreement(u, v, texels_per_px),
            _ => 0.0,
        };
        match kind {
            Kind::Matte | Kind::Leaf => {}
            Kind::Paint => out = add(out, glossy(0.42)),
            Kind::Glass => out = add(scale(out, 0.8), glossy(0.95)),
            Kind::Chrome => out = add(scale(out, 0.6), glossy(1.8)),
            Kind::Tail => {
                out = add(out, glossy(0.5));
                let glow = instance.lit.tail * rim;
                out = add(out, [glow * (0.25 + albedo[0]), glow * 0.03, glow * 0.02]);
            }
            Kind::Head => {
                out = add(scale(out, 0.8), glossy(0.9));
                out = add(
                    out,
                    scale([1.0, 0.96, 0.88], instance.lit.head * 0.35 * rim),
                );
            }
            Kind::Amber => out = add(out, scale([1.0, 0.42, 0.04], instance.lit.amber * rim)),
            Kind::Retro => {
                if light.night {
                    let back = HEADLAMP * 1.5 / (z * z + 60.0);
                    out = add(out, scale(albedo, back));
                }
            }
            Kind::Window => {
                out = add(out, scale(light.horizon, 0.06));
                if light.night {
                    // Rooms are lit or not, by their place on the wall.
                    let room = unit_at(
                        instance.seed,
                        floor(u * 2.0) as i64,
                        floor(v * 2.0) as i64 + i64::from(shown.texture) * 7,
                    );
                    if room < 0.35 {
                        out = add(out, scale([0.55, 0.42, 0.24], 0.3 + room));
                    }
                }
            }
            Kind::Lamp => {
                let glow = if light.night { 0.9 } else { 0.10 };
                out = add(out, scale(albedo, glow));
            }
        }
        let clear = self.clear(z);
        mix3(light.fog, out, clear)
    }

    pub(super) fn ground(
        &self,
        px: f32,
        py: f32,
        z: f32,
        [u, v, sun, sky, broad]: [f32; 5],
        shade: f32,
        contact: u8,
    ) -> Rgb {
        let world = self.world;
        let light = &world.light;
        let camera = &self.view.camera;
        let across_m = z / camera.focal_px;
        let along_m = z * z / (camera.focal_px * world.look.height_m);
        let s = self.base_s + u;
        let surface = world.ground.at(
            &world.road,
            &world.noise,
            self.junctions,
            Spot {
                s,
                d: v,
                across_m,
                along_m,
                broad,
            },
        );
        let dark = 1.0 - f32::from(contact) * (1.0 / 255.0);
        let sunlit = sun * (1.0 - shade) * dark;
        let sky = sky * dark;
        let mut lit = [
            light.sun[0] * sunlit + light.sky[0] * sky,
            light.sun[1] * sunlit + light.sky[1] * sky,
            light.sun[2] * sunlit + light.sky[2] * sky,
        ];
        if light.night {
            lit = add(lit, self.lamp_light(px, py, z, true));
        }
        let mut out = times(surface.albedo, lit);
        if light.wet > 0.0 {
            // Water darkens the stone and mirrors the sky at flat angles.
            let wet = light.wet * mix(0.45, 1.0, surface.puddle);
            let flat = (1.0 - world.look.height_m / z.max(world.look.height_m)).clamp(0.0, 1.0);
            let fresnel = 0.03 + 0.65 * flat * flat * flat * flat;
            out = scale(out, 1.0 - 0.5 * wet);
            let mirrored = mix3(light.horizon, light.fog, 0.5);
            out = mix3(out, mirrored, wet * fresnel * 0.75 * dark * sky);
        }
        mix3(light.fog, out, self.clear(z))
    }

    /// Pixels that a point moves during the exposure.
    #[inline(never)]
    pub(super) fn flow(
        &self,
        shown: &Shown,
        instances: &[Instance],
        index: u32,
        px: f32,
        py: f32,
    ) -> [f32; 2] {
        let camera = &self.view.camera;
        let (x, y) = (
            (px - camera.cx_px) / camera.focal_px,
            (camera.cy_px - py) / camera.focal_px,
        );
        let (z, shift) = if index == 0 {
            (1e4, [0.0; 3])
        } else {
            (
                1.0 / on(&shown.inverse_depth, px, py).max(1e-5),
                instances[shown.instance as usize].shift,
            )
        };
        if shift[0].is_nan() {
            return [0.0; 2];
        }
        let q = [x * z, y * z, z];
        let turn = &self.view.turn;
        let later = [
            dot(turn[0], q) + shift[0],
            dot(turn[1], q) + shift[1],
            (dot(turn[2], q) + shift[2]).max(NEAR_M),
        ];
        [
            camera.focal_px * (later[0] / later[2] - x),
            -camera.focal_px * (later[1] / later[2] - y),
        ]
    }
}
