//! From things in the world to triangles in the visibility buffer, with their shadows and the halos of their lamps.

use alloc::vec::Vec;

use super::{
    BRAKE_GLOW, FEWER_FACES_FROM_M, GROUND, GROUND_AHEAD_M, GROUND_BEHIND_M, GROUND_COLUMNS, Glow,
    HEAD_GLOW, Instance, Lit, PROPS_PER_SURVEY, SEEN_UP_TO_M, SHADOWS_UP_TO_M, Scratch, TAIL_GLOW,
    View,
};
use crate::world::Sequence;
use crate::world::camera::Camera;
use crate::world::math::{
    Rgb, V3, add, cos, dot, floor, fract, mix, mix3, ramp, scale, sin, smooth, sqrt, sub, turned,
    unit,
};
use crate::world::mesh::{LampSpot, Mesh};
use crate::world::models::Class;
use crate::world::random::unit_at;
use crate::world::raster::{Buffer, Extent, KIND_FROM_TEXTURE, NEAR_M, Triangle, ViewVertex};
use crate::world::scenery::lamps_of;
use crate::world::texture::Kind;
use crate::world::traffic::{Role, State};

/// A mesh at its place.
pub(super) struct Thing<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) at: V3,
    pub(super) sin: f32,
    pub(super) cos: f32,
    pub(super) size: f32,
    /// Rise over run along its own z.
    pub(super) slope: f32,
    pub(super) instance: u32,
    pub(super) object: u32,
    /// Share of sunlight at its rear and front end.
    pub(super) sun: [f32; 2],
    pub(super) sky: f32,
    pub(super) half_len: f32,
    pub(super) vehicle: bool,
}

impl Sequence {
    pub(super) fn draw_thing(&self, view: &View, scratch: &mut Scratch, thing: &Thing<'_>) {
        let camera = &view.camera;
        let mesh = thing.mesh;
        let place = |p: V3| {
            let p = scale(p, thing.size);
            let mut q = turned(p, thing.sin, thing.cos);
            q[1] += p[2] * thing.slope;
            add(thing.at, q)
        };
        let middle = camera.view_from_world(place([0.0, mesh.middle_m, 0.0]));
        let radius = mesh.radius_m * thing.size;
        // Too narrow for the strongest barrels: far things that these would show at the very edges are passed over. Wider, it
        // would change pictures that there are.
        let half_w = camera.cx_px / camera.focal_px * 1.15 + 0.05;
        if middle[2] < -radius
            || middle[0].abs() > half_w * middle[2].max(0.0) + radius * (1.0 + half_w)
        {
            return;
        }
        // Half of what stands beside a street stands behind something. The extent of annotated objects must be known all
        // the same. A thousandth more, for what rounding adds.
        if thing.object == 0
            && let Some(bounds) = camera.bounds_of_ball(middle, radius * 1.001, NEAR_M)
            && scratch.buffer.hides(bounds, middle[2] - radius * 1.001)
        {
            return;
        }
        let sun_dir = self.light.sun_dir;
        scratch.vertices.clear();
        scratch.pixels.clear();
        for v in &mesh.vertices {
            let world = place(v.at);
            let n = turned(v.normal, thing.sin, thing.cos);
            let at = camera.view_from_world(world);
            let along = (0.5 + 0.5 * v.at[2] / thing.half_len).clamp(0.0, 1.0);
            let sunlit = mix(thing.sun[0], thing.sun[1], along);
            let facing = dot(n, sun_dir);
            let occlusion = if thing.vehicle {
                mix(0.5, 1.0, smooth(v.at[1] * 1.3))
            } else {
                mix(0.75, 1.0, smooth(v.at[1] * 0.5))
            };
            let bounce = 0.22 * (0.5 - 0.5 * n[1]) * (1.0 + 1.6 * thing.sun[0]);
            let sky = ((0.55 + 0.45 * n[1]) * occlusion + bounce) * thing.sky;
            let mirror = if thing.vehicle {
                let eye = unit(sub(camera.at, world));
                let straight = dot(n, eye).max(0.0);
                let r = sub(scale(n, 2.0 * dot(n, eye)), eye);
                let flat = 1.0 - straight;
                let fresnel = flat * flat * flat * flat * flat;
                let town = 0.10 + 0.18 * self.road.town;
                let sky_there = ramp(-0.02, town, r[1]) * mix(1.0, 0.75, r[1].clamp(0.0, 1.0));
                let glint = (dot(r, sun_dir) - 0.93).max(0.0) * 14.0;
                (0.12 + 0.88 * fresnel) * (0.12 + sky_there) * thing.sky
                    + glint * glint * 2.5 * sunlit * self.light.sun[0]
            } else {
                0.0
            };
            scratch.vertices.push(ViewVertex {
                at,
                attributes: [v.uv[0], v.uv[1], facing.max(0.0) * sunlit, sky, mirror],
            });
            scratch.pixels.push(if at[2] > NEAR_M {
                camera.pixel_from_view(at)
            } else {
                [0.0; 2]
            });
        }
        let Scratch {
            buffer,
            vertices,
            pixels,
            full,
            ..
        } = scratch;
        let full = &mut full[thing.object as usize];
        let faces = if mesh.far_faces > 0 && middle[2] > FEWER_FACES_FROM_M {
            &mesh.faces[..mesh.far_faces]
        } else {
            &mesh.faces[..]
        };
        for (turn, face) in faces.iter().enumerate() {
            let [a, b, c] = face.corners.map(|c| c as usize);
            let corners = [&vertices[a], &vertices[b], &vertices[c]];
            let near = corners.iter().filter(|v| v.at[2] <= NEAR_M).count();
            if near == 3 {
                continue;
            }
            let texture = &self.textures[face.texture as usize];
            let mut draw = |corners: [&ViewVertex; 3], pixels: [[f32; 2]; 3]| {
                let triangle = Triangle {
                    pixels,
                    corners,
                    texture: face.texture,
                    instance: thing.instance,
                    tint: face.tint,
                    texels_per_m: face.texels_per_m / thing.size,
                    kind: face.kind.map_or(KIND_FROM_TEXTURE, |k| k as u8),
                    two_sided: face.two_sided,
                    turn: turn as u32,
                };
                let cutout = texture.cutout.then_some(texture);
                buffer.draw(&triangle, camera.focal_px, thing.object, full, cutout);
            };
            if near == 0 {
                draw(corners, [pixels[a], pixels[b], pixels[c]]);
            } else {
                clip_near(corners, |t| {
                    let p = [t[0], t[1], t[2]].map(|v| camera.pixel_from_view(v.at));
                    draw([&t[0], &t[1], &t[2]], p);
                });
            }
        }
    }

    /// The shadow of a thing on the ground at its foot.
    pub(super) fn cast_shadow(&self, view: &View, buffer: &mut Buffer, thing: &Thing<'_>) {
        let sun = self.light.sun_dir;
        if self.light.sun[1] < 0.04 || sun[1] < 0.03 {
            return;
        }
        let camera = &view.camera;
        let lean = [sun[0] / sun[1], sun[2] / sun[1]];
        let on_ground = |p: V3| {
            let p = scale(p, thing.size);
            let q = turned(p, thing.sin, thing.cos);
            let high = p[1].max(0.0);
            add(
                thing.at,
                [
                    q[0] - lean[0] * high,
                    p[2] * thing.slope + 0.01,
                    q[2] - lean[1] * high,
                ],
            )
        };
        for face in &thing.mesh.faces {
            let [a, b, c] = face.corners.map(|c| thing.mesh.vertices[c as usize]);
            // One of the two sides of a closed body casts the same shadow.
            if !face.two_sided {
                let n = turned(a.normal, thing.sin, thing.cos);
                if dot(n, sun) < -0.05 {
                    continue;
                }
            }
            let corners = [a.at, b.at, c.at].map(|p| ViewVertex {
                at: camera.view_from_world(on_ground(p)),
                ..ViewVertex::default()
            });
            clip_near([&corners[0], &corners[1], &corners[2]], |t| {
                let mut p = [t[0], t[1], t[2]].map(|v| camera.pixel_from_view(v.at));
                if self.textures[face.texture as usize].cutout {
                    // Leaves let light through: a smaller shadow.
                    let m = [
                        (p[0][0] + p[1][0] + p[2][0]) / 3.0,
                        (p[0][1] + p[1][1] + p[2][1]) / 3.0,
                    ];
                    p = p.map(|q| [mix(m[0], q[0], 0.82), mix(m[1], q[1], 0.82)]);
                }
                buffer.cast(p);
            });
        }
    }

    /// The dark below a vehicle.
    pub(super) fn contact_shadow(
        &self,
        view: &View,
        buffer: &mut Buffer,
        thing: &Thing<'_>,
        half_w: f32,
        strength: f32,
    ) {
        let camera = &view.camera;
        let half_l = thing.half_len;
        let at = |x: f32, z: f32| {
            let q = turned([x, 0.0, z], thing.sin, thing.cos);
            camera.view_from_world(add(thing.at, [q[0], z * thing.slope + 0.01, q[2]]))
        };
        let rim = 0.45;
        let (inner, outer) = ([half_w * 0.8, half_l * 0.92], [half_w + rim, half_l + rim]);
        let corner = |k: usize, r: [f32; 2]| {
            let (sx, sz) = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)][k % 4];
            at(sx * r[0], sz * r[1])
        };
        let mut triangle = |v: [V3; 3], value: [f32; 3]| {
            if v.iter().all(|p| p[2] > NEAR_M) {
                buffer.darken(
                    v.map(|p| camera.pixel_from_view(p)),
                    v.map(|p| p[2]),
                    value,
                    strength,
                );
            }
        };
        triangle(
            [corner(0, inner), corner(1, inner), corner(2, inner)],
            [1.0; 3],
        );
        triangle(
            [corner(0, inner), corner(2, inner), corner(3, inner)],
            [1.0; 3],
        );
        for k in 0..4 {
            triangle(
                [corner(k, inner), corner(k + 1, inner), corner(k + 1, outer)],
                [1.0, 1.0, 0.0],
            );
            triangle(
                [corner(k, inner), corner(k + 1, outer), corner(k, outer)],
                [1.0, 0.0, 0.0],
            );
        }
    }

    pub(super) fn draw_bonnet(&self, view: &View, scratch: &mut Scratch) {
        if self.look.bonnet.is_none() {
            return;
        }
        let camera = &view.camera;
        let s = &self.bonnet;
        let (sh, ch) = {
            let f = camera.forward;
            let len = sqrt(f[0] * f[0] + f[2] * f[2]).max(1e-3);
            (f[0] / len, f[2] / len)
        };
        let sunlit = self
            .scenery
            .sunlight(view.s + 1.0, camera.at, self.light.sun_dir);
        // It moves with the camera: its own frame is the camera's, levelled by the mounting.
        let thing = Thing {
            mesh: s,
            at: sub(camera.at, [0.0, self.look.height_m, 0.0]),
            sin: sh,
            cos: ch,
            size: 1.0,
            slope: camera.forward[1] - self.look.pitch,
            instance: scratch.instances.len() as u32,
            object: 0,
            sun: [sunlit; 2],
            sky: self.skylight(view.s + 2.0),
            half_len: 1.0,
            vehicle: true,
        };
        // It does not move over the image: the shift that cancels the camera's motion cannot be expressed for a
        // turning camera, so it is marked by an infinite one and skipped by the blur.
        scratch.instances.push(Instance {
            object: 0,
            lit: Lit::default(),
            shift: [f32::NAN; 3],
            seed: 0,
        });
        self.draw_thing(view, scratch, &thing);
    }

    /// Share of the sky that is seen from a place on the road.
    pub(super) fn skylight(&self, s: f32) -> f32 {
        let mut share = 1.0_f32;
        for b in &self.road.bridges {
            let deep = (s - b.from_m).min(b.to_m - s);
            let least = if b.tunnel { 0.06 } else { 0.26 };
            share = share.min(mix(
                1.0,
                least,
                ramp(-b.clearance_m * 0.6, b.clearance_m * 0.7, deep),
            ));
        }
        share
    }

    pub(super) fn draw_agents(
        &self,
        frame: u32,
        view: &View,
        scratch: &mut Scratch,
        agents_of_objects: &mut Vec<usize>,
    ) {
        let camera = &view.camera;
        let dt = 1.0 / self.config.fps;
        let mut order: Vec<(f32, usize)> = Vec::new();
        for (index, agent) in self.agents.iter().enumerate().skip(1) {
            let state = agent.states[frame as usize];
            if !state.here || self.models[index].is_none() {
                continue;
            }
            let place = self.road.place(state.s, state.d);
            let at = camera.view_from_world(place.at);
            let reach = self.models[index]
                .as_ref()
                .map_or(0.0, |m| m.half_length_m.max(m.half_width_m) + 1.0);
            if at[2] < -reach - 14.0 || at[2] > SEEN_UP_TO_M {
                continue;
            }
            order.push((at[2], index));
        }
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (distance, index) in order {
            let Some(model) = &self.models[index] else {
                continue;
            };
            let agent = &self.agents[index];
            let state = agent.states[frame as usize];
            let next = agent
                .states
                .get(frame as usize + 1)
                .filter(|n| n.here)
                .copied()
                .unwrap_or(State {
                    s: state.s + state.speed * cos(state.heading) * dt,
                    d: state.d + state.speed * sin(state.heading) * dt,
                    ..state
                });
            let place = self.road.place(state.s, state.d);
            let moved = sub(self.road.place(next.s, next.d).at, place.at);
            let heading = place.heading + state.heading;
            let walking = matches!(agent.class(), Class::Person | Class::Animal);
            let next_gone = next.gone - state.gone;
            let stride = if walking {
                (next_gone / dt / 1.2).clamp(0.0, 1.0)
            } else {
                0.0
            };
            let phase = state.gone
                * if agent.class() == Class::Person {
                    4.3
                } else {
                    5.0
                };
            let posed = model.pose(
                phase,
                if state.speed > 0.05 && next_gone > 0.0 {
                    stride.max(0.35)
                } else {
                    0.0
                },
                self.common.plain,
                &self.textures,
            );
            let mesh = posed.as_ref().unwrap_or(&model.mesh);
            let object = scratch.full.len() as u32;
            scratch.full.push(Extent::EMPTY);
            agents_of_objects.push(index);
            let t = view.time_s;
            let blinking = state.blinks != 0 && fract(t * 1.4 + unit_at(agent.seed, 1, 2)) < 0.5;
            let parked = agent.role == Role::Parked;
            let lamps = self.light.lamps && !parked;
            let daylight_lamps = !parked
                && unit_at(agent.seed, 2, 2) < if self.road.side > 0.0 { 0.3 } else { 0.06 };
            let lit = Lit {
                tail: if state.braking && !parked {
                    BRAKE_GLOW
                } else if lamps {
                    TAIL_GLOW
                } else {
                    0.0
                },
                head: if lamps {
                    HEAD_GLOW
                } else if daylight_lamps {
                    0.9
                } else {
                    0.0
                },
                amber: if blinking { 2.0 } else { 0.0 },
            };
            let instance = scratch.instances.len() as u32;
            let shift_world = add(
                sub(camera.at, view.later.at),
                scale(moved, view.open_s / dt),
            );
            scratch.instances.push(Instance {
                object,
                lit,
                shift: view.later.turn_into_view(shift_world),
                seed: agent.seed,
            });
            let (sh, ch) = (sin(heading), cos(heading));
            let along = if agent.role == Role::WalksAcross {
                0.0
            } else {
                cos(state.heading)
            };
            let probe = |z: f32| {
                let q = turned([0.0, 0.9, z], sh, ch);
                let s = state.s + z * along;
                self.scenery
                    .sunlight(s, add(place.at, q), self.light.sun_dir)
            };
            let half_len = model.half_length_m.max(0.3);
            let thing = Thing {
                mesh,
                at: place.at,
                sin: sh,
                cos: ch,
                size: 1.0,
                slope: self.road.slope(state.s) * along,
                instance,
                object,
                sun: [probe(-half_len), probe(half_len)],
                sky: self.skylight(state.s),
                half_len,
                vehicle: !walking,
            };
            self.draw_thing(view, scratch, &thing);
            if distance < SHADOWS_UP_TO_M {
                let strength = if walking { 0.45 } else { 0.78 };
                self.contact_shadow(
                    view,
                    &mut scratch.buffer,
                    &thing,
                    model.half_width_m * if agent.make.two_wheeled() { 0.5 } else { 1.0 },
                    strength,
                );
                if thing.sun[0] + thing.sun[1] > 0.2 {
                    self.cast_shadow(view, &mut scratch.buffer, &thing);
                }
            }
            self.glows_of(view, scratch, &thing, &mesh.lamps, lit);
        }
    }

    pub(super) fn glows_of(
        &self,
        view: &View,
        scratch: &mut Scratch,
        thing: &Thing<'_>,
        lamps: &[LampSpot],
        lit: Lit,
    ) {
        if !(self.light.lamps || lit.tail > 1.0 || lit.amber > 0.0 || lit.head > 0.0) {
            return;
        }
        let camera = &view.camera;
        let ahead = turned([0.0, 0.0, 1.0], thing.sin, thing.cos);
        let to_eye = unit(sub(camera.at, thing.at));
        for lamp in lamps {
            let world = add(thing.at, turned(lamp.at, thing.sin, thing.cos));
            let at = camera.view_from_world(world);
            if at[2] < 1.0 {
                continue;
            }
            let facing = dot(ahead, to_eye);
            let night = if self.light.night { 1.0 } else { 0.12 };
            let (strength, colour) = match lamp.kind {
                Kind::Tail if facing < -0.1 => (lit.tail * 0.14 * night, [1.0, 0.10, 0.05]),
                Kind::Head if facing > 0.1 => {
                    (lit.head * 0.22 * facing * facing * night, [1.0, 0.95, 0.85])
                }
                _ => continue,
            };
            if strength <= 0.0 {
                continue;
            }
            self.glow(scratch, camera, at, strength, colour, thing.at[1]);
        }
    }

    /// A halo, if nothing stands before the lamp.
    pub(super) fn glow(
        &self,
        scratch: &mut Scratch,
        camera: &Camera,
        at: V3,
        strength: f32,
        colour: Rgb,
        ground_y: f32,
    ) {
        let p = camera.pixel_from_view(at);
        let (w, h) = scratch.size();
        if p[0] < -20.0 || p[1] < -20.0 || p[0] > w as f32 + 20.0 || p[1] > h as f32 + 20.0 {
            return;
        }
        let radius =
            (camera.focal_px * 0.55 / at[2]).clamp(1.5, 0.10 * w as f32) * (0.5 + sqrt(strength));
        let below = camera.pixel_from_view([
            at[0],
            at[1] - 2.0 * (camera.at[1] + at[1] - ground_y).max(0.2),
            at[2],
        ]);
        scratch.glows.push(Glow {
            at_px: p,
            radius_px: radius,
            colour: scale(colour, strength),
            streak_px: below[1] - p[1],
        });
    }

    pub(super) fn draw_scenery(&self, view: &View, scratch: &mut Scratch) {
        let camera = &view.camera;
        let near_to_far = self.scenery.between(view.s - 30.0, view.s + SEEN_UP_TO_M);
        for (nth, prop) in near_to_far.iter().enumerate() {
            if nth % PROPS_PER_SURVEY == 0 {
                scratch.buffer.survey();
            }
            let mesh = &self.scenery.meshes[prop.mesh as usize];
            let (s, c) = (sin(prop.heading), cos(prop.heading));
            let sky = self.skylight(prop.s);
            let thing = Thing {
                mesh,
                at: prop.at,
                sin: s,
                cos: c,
                size: prop.size,
                slope: 0.0,
                instance: 0,
                object: 0,
                sun: [1.0; 2],
                sky: if mesh.radius_m > 20.0 { 1.0 } else { sky },
                half_len: 1.0,
                vehicle: false,
            };
            self.draw_thing(view, scratch, &thing);
            let distance = camera.view_from_world(prop.at)[2];
            if prop.casts && distance < SHADOWS_UP_TO_M && distance > -25.0 {
                self.cast_shadow(view, &mut scratch.buffer, &thing);
            }
            if self.light.night && distance < 120.0 {
                for world in lamps_of(prop, mesh) {
                    let at = camera.view_from_world(world);
                    if at[2] > 1.5 {
                        self.glow(scratch, camera, at, 0.55, self.lamp_colour, prop.at[1]);
                    }
                }
            }
        }
    }

    pub(super) fn draw_ground(&self, view: &View, scratch: &mut Scratch) {
        let road = &self.road;
        let reach = road.border_m() + 4.0;
        let mut across = alloc::vec![-90.0_f32, -reach - 16.0];
        for k in 0..=GROUND_COLUMNS {
            across.push(reach * (2.0 * k as f32 / GROUND_COLUMNS as f32 - 1.0));
        }
        across.extend([reach + 16.0, 90.0]);
        let columns = across.len();
        let base = floor(view.s);
        scratch.vertices.clear();
        scratch.pixels.clear();
        let mut rows = 0;
        let mut s = base - GROUND_BEHIND_M;
        while s < base + GROUND_AHEAD_M {
            let sky = self.skylight(s);
            for &d in &across {
                let place = road.place(s, d);
                let at = view.camera.view_from_world(place.at);
                scratch.vertices.push(ViewVertex {
                    at,
                    attributes: [
                        s - base,
                        d,
                        self.light.sun_dir[1].max(0.0),
                        sky,
                        self.noise.fine(d / 19.0 + 0.3, s / 37.0),
                    ],
                });
                scratch.pixels.push(if at[2] > NEAR_M {
                    view.camera.pixel_from_view(at)
                } else {
                    [0.0; 2]
                });
            }
            rows += 1;
            s += if s < base + 24.0 {
                2.0
            } else if s < base + 90.0 {
                6.0
            } else {
                20.0
            };
        }
        let Scratch {
            buffer,
            vertices,
            pixels,
            full,
            ..
        } = scratch;
        buffer.survey();
        for row in 0..rows - 1 {
            for column in 0..columns - 1 {
                let a = row * columns + column;
                for corners in [
                    [a, a + 1, a + 1 + columns],
                    [a, a + 1 + columns, a + columns],
                ] {
                    let v = corners.map(|c| &vertices[c]);
                    let mut draw = |corners: [&ViewVertex; 3], pixels: [[f32; 2]; 3]| {
                        let triangle = Triangle {
                            pixels,
                            corners,
                            texture: GROUND,
                            instance: 0,
                            tint: [1.0; 3],
                            texels_per_m: 0.0,
                            kind: KIND_FROM_TEXTURE,
                            two_sided: true,
                            turn: 0,
                        };
                        buffer.draw(&triangle, view.camera.focal_px, 0, &mut full[0], None);
                    };
                    if v.iter().all(|v| v.at[2] > NEAR_M) {
                        draw(v, corners.map(|c| pixels[c]));
                    } else {
                        clip_near(v, |t| {
                            let p = [t[0], t[1], t[2]].map(|v| view.camera.pixel_from_view(v.at));
                            draw([&t[0], &t[1], &t[2]], p);
                        });
                    }
                }
            }
        }
    }
}

/// Cuts a triangle at the near plane and hands over what is in front of it.
pub(super) fn clip_near(corners: [&ViewVertex; 3], mut draw: impl FnMut(&[ViewVertex; 3])) {
    let mut kept = [ViewVertex::default(); 4];
    let mut n = 0;
    for k in 0..3 {
        let (a, b) = (corners[k], corners[(k + 1) % 3]);
        let (za, zb) = (a.at[2] - NEAR_M * 1.01, b.at[2] - NEAR_M * 1.01);
        if za > 0.0 {
            kept[n] = *a;
            n += 1;
        }
        if (za > 0.0) != (zb > 0.0) {
            let t = za / (za - zb);
            let mut v = ViewVertex {
                at: mix3(a.at, b.at, t),
                ..*a
            };
            for (value, other) in v.attributes.iter_mut().zip(b.attributes) {
                *value = mix(*value, other, t);
            }
            kept[n] = v;
            n += 1;
        }
    }
    if n >= 3 {
        draw(&[kept[0], kept[1], kept[2]]);
    }
    if n == 4 {
        draw(&[kept[0], kept[2], kept[3]]);
    }
}
