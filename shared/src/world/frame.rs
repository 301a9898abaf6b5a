//! One frame: everything near is transformed, drawn into the visibility buffer and shaded where it is seen.

use alloc::vec;
use alloc::vec::Vec;

use super::camera::Camera;
use super::edges::WHOLE;
use super::ground::Spot;
use super::math::{
    Rgb, TAU, V3, add, cos, dot, floor, floor_i32, fract, linear_from_srgb, mix, mix3, ramp, scale,
    sin, smooth, sqrt, sub, times, turned, unit,
};
use super::mesh::{LampSpot, Mesh};
use super::models::Class;
use super::random::{unit_at, wander};
use super::raster::{
    Buffer, Extent, KIND_FROM_TEXTURE, MASK_MIDDLE, NEAR_M, SAMPLES, Shown, Triangle, ViewVertex,
    on,
};
use super::scenery::lamps_of;
use super::texture::Kind;
use super::traffic::{Role, State};
use super::{ObjectTruth, Sequence};
use crate::geometry::BoxXywh;

/// Marks the ground among textures.
const GROUND: u32 = u32::MAX;
/// The ground is drawn this far.
const GROUND_AHEAD_M: f32 = 320.0;
/// And from here behind the camera: a bus's length, for what a wide lens sees beside it.
const GROUND_BEHIND_M: f32 = 8.0;
/// Things are drawn up to here.
const SEEN_UP_TO_M: f32 = 230.0;
/// Shadows are cast up to here.
const SHADOWS_UP_TO_M: f32 = 85.0;
/// From here on, trees are drawn without their branches.
const FEWER_FACES_FROM_M: f32 = 45.0;
/// After so many things beside the road, what is filled is worth another look.
const PROPS_PER_SURVEY: usize = 32;
/// Columns of the ground's grid between the verges.
const GROUND_COLUMNS: usize = 14;
/// The sky is computed at every so many pixels and blended in between.
const SKY_STEP_PX: usize = 4;
/// Entries of the table of what stands on the horizon, all round.
const FAR_STEPS: usize = 4096;
const FAR_PER_RADIAN: f32 = FAR_STEPS as f32 / TAU;
/// Fog is looked up in steps of half a metre.
const FOG_STEPS: usize = 1024;
/// Vehicle lamps, by day braking ones too, shine this strongly.
const TAIL_GLOW: f32 = 0.45;
const BRAKE_GLOW: f32 = 2.2;
const HEAD_GLOW: f32 = 7.0;
/// A street lamp lights things up to here.
const LAMP_REACH_M: f32 = 30.0;
/// Street lamps that light the scene; those behind them are too far away to matter.
const MOST_LAMPS: usize = 10;
/// Strength of our own headlamps at a metre.
const HEADLAMP: f32 = 26.0;

/// What is lit on a vehicle.
#[derive(Clone, Copy, Debug, Default)]
struct Lit {
    tail: f32,
    head: f32,
    amber: f32,
}

/// What belongs together: a vehicle, a house.
#[derive(Clone, Copy, Debug)]
struct Instance {
    object: u32,
    lit: Lit,
    /// Shift in the second camera's frame, for motion blur.
    shift: V3,
    seed: u64,
}

/// A glow round a lamp.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glow {
    pub(super) at_px: [f32; 2],
    pub(super) radius_px: f32,
    pub(super) colour: Rgb,
    /// Mirrored in a wet road down to here.
    pub(super) streak_px: f32,
}

/// Buffers that are kept from frame to frame.
pub struct Scratch {
    buffer: Buffer,
    vertices: Vec<ViewVertex>,
    pixels: Vec<[f32; 2]>,
    pub(super) colour: Vec<Rgb>,
    pub(super) other: Vec<Rgb>,
    pub(super) flow: Vec<[f32; 2]>,
    pub(super) glows: Vec<Glow>,
    pub(super) planes: [Vec<f32>; 3],
    instances: Vec<Instance>,
    full: Vec<Extent>,
    seen: Vec<Extent>,
    sky: Vec<SkyPoint>,
}

impl Scratch {
    /// For frames of this size.
    pub fn new(width_px: u32, height_px: u32) -> Self {
        let n = width_px as usize * height_px as usize;
        Self {
            buffer: Buffer::new(width_px as usize, height_px as usize),
            vertices: Vec::new(),
            pixels: Vec::new(),
            colour: vec![[0.0; 3]; n],
            other: vec![[0.0; 3]; n],
            flow: vec![[0.0; 2]; n],
            glows: Vec::new(),
            planes: [vec![0.0; n], vec![0.0; n], vec![0.0; n]],
            instances: Vec::new(),
            full: Vec::new(),
            seen: Vec::new(),
            sky: Vec::new(),
        }
    }

    pub(super) fn size(&self) -> (usize, usize) {
        (self.buffer.width, self.buffer.height)
    }
}

/// A mesh at its place.
struct Thing<'a> {
    mesh: &'a Mesh,
    at: V3,
    sin: f32,
    cos: f32,
    size: f32,
    /// Rise over run along its own z.
    slope: f32,
    instance: u32,
    object: u32,
    /// Share of sunlight at its rear and front end.
    sun: [f32; 2],
    sky: f32,
    half_len: f32,
    vehicle: bool,
}

/// Where the camera is and how it moves during the exposure.
pub(super) struct View {
    pub(super) camera: Camera,
    pub(super) later: Camera,
    pub(super) s: f32,
    pub(super) time_s: f32,
    pub(super) speed: f32,
    /// View of the later camera from that of the first.
    turn: [V3; 3],
    open_s: f32,
}

/// Tables that shading looks up.
pub(super) struct Tables {
    linear: Vec<f32>,
    clear: Vec<f32>,
}

impl Tables {
    pub(super) fn new(fog_per_m: f32) -> Self {
        Self {
            linear: (0..=256)
                .map(|i| linear_from_srgb(i as f32 / 255.0))
                .collect(),
            clear: (0..FOG_STEPS)
                .map(|i| libm::expf(-(i as f32 * 0.5) * fog_per_m))
                .collect(),
        }
    }
}

impl Sequence {
    fn camera_at(&self, state: &State, t: f32) -> Camera {
        let look = &self.look;
        let (w, h) = (self.config.width_px as f32, self.config.height_px as f32);
        let seed = self.seed;
        let lively = (0.15 + state.speed / 14.0).min(1.3) * look.shake;
        let rough = 0.5 + self.road.wear;
        let bounce = lively * rough;
        let pitch = bounce
            * (0.0055 * wander(seed ^ 1, t * 2.3) + 0.0016 * wander(seed ^ 2, t * 9.0))
            + 0.0006 * lively * wander(seed ^ 3, t * 27.0);
        let roll =
            bounce * (0.006 * wander(seed ^ 4, t * 1.9) + 0.0015 * wander(seed ^ 5, t * 11.0));
        let yaw = lively * 0.0025 * wander(seed ^ 6, t * 1.4);
        let heave = bounce * 0.025 * wander(seed ^ 7, t * 2.3 + 0.3);
        // A bump now and then.
        let bump_at = fract(t * 0.13 + unit_at(seed, 8, 8));
        let bump = if bump_at < 0.08 && state.speed > 2.0 {
            sin(bump_at / 0.08 * TAU) * rough
        } else {
            0.0
        };
        let place = self.road.place(state.s, state.d);
        let mut camera = Camera {
            at: add(place.at, [0.0, look.height_m + heave + 0.03 * bump, 0.0]),
            right: [0.0; 3],
            up: [0.0; 3],
            forward: [0.0; 3],
            focal_px: look.focal_share * w,
            cx_px: w / 2.0,
            cy_px: h / 2.0,
            distortion: look.distortion,
            half_width_px: w / 2.0,
        };
        let slope = self.road.slope(state.s);
        camera.aim(
            place.heading + state.heading + look.yaw + yaw,
            slope + look.pitch + pitch + 0.012 * bump,
            look.roll + roll,
        );
        camera
    }

    pub(super) fn view(&self, frame: u32) -> View {
        let states = &self.agents[0].states;
        let fps = self.config.fps;
        let i = frame as usize;
        let state = states[i];
        let next = match states.get(i + 1) {
            Some(next) => *next,
            None => {
                let last = states[i.saturating_sub(1)];
                State {
                    s: 2.0 * state.s - last.s,
                    d: 2.0 * state.d - last.d,
                    heading: 2.0 * state.heading - last.heading,
                    ..state
                }
            }
        };
        let open = self.look.shutter;
        let later_state = State {
            s: mix(state.s, next.s, open),
            d: mix(state.d, next.d, open),
            heading: mix(state.heading, next.heading, open),
            ..state
        };
        let t = frame as f32 / fps;
        let camera = self.camera_at(&state, t);
        let later = self.camera_at(&later_state, t + open / fps);
        let axes = [camera.right, camera.up, camera.forward];
        let row = |axis: V3| [dot(axis, axes[0]), dot(axis, axes[1]), dot(axis, axes[2])];
        View {
            turn: [row(later.right), row(later.up), row(later.forward)],
            camera,
            later,
            s: state.s,
            time_s: t,
            speed: state.speed,
            open_s: open / fps,
        }
    }

    /// Elevation (its sine) of hills, trees and towns all round, and whether it is a house.
    pub(super) fn raise_horizon(&mut self) {
        let tall = self.far_tall;
        self.far_ridge = (0..FAR_STEPS)
            .map(|i| {
                // Whole repeats of the noise, so that the ends meet.
                let t = i as f32 / FAR_STEPS as f32;
                let trees = 0.010
                    + tall * (0.5 + 0.5 * self.noise.fine(t * 3.0, 0.31))
                    + 0.010 * self.noise.fine(t * 30.0, 0.7);
                let block = (i * 240 / FAR_STEPS) as i64;
                let houses = tall * 2.2 * unit_at(self.seed, block, 6) * self.road.town;
                (trees.max(houses), houses > trees)
            })
            .collect();
    }

    /// Draws a frame into `rgb` (tight, 8 bits) and tells what is on it. `scratch` must have the frame's size; what it
    /// held before does not matter.
    pub fn render(&self, frame: u32, scratch: &mut Scratch, rgb: &mut Vec<u8>) -> Vec<ObjectTruth> {
        let frame = frame.min(self.config.frames - 1);
        let view = self.view(frame);
        scratch.buffer.clear();
        scratch.instances.clear();
        scratch.full.clear();
        scratch.full.push(Extent::EMPTY);
        scratch.glows.clear();
        let shift = view
            .later
            .turn_into_view(sub(view.camera.at, view.later.at));
        scratch.instances.push(Instance {
            object: 0,
            lit: Lit::default(),
            shift,
            seed: 0,
        });
        let mut agents_of_objects = vec![0_usize];
        self.draw_bonnet(&view, scratch);
        self.draw_agents(frame, &view, scratch, &mut agents_of_objects);
        self.draw_scenery(&view, scratch);
        self.draw_ground(&view, scratch);
        self.resolve(&view, scratch);
        let truth = self.truth(scratch, &agents_of_objects);
        self.develop(frame, &view, scratch, rgb);
        truth
    }

    fn truth(&self, scratch: &Scratch, agents: &[usize]) -> Vec<ObjectTruth> {
        let rule = &self.config.truth;
        let (w, h) = (self.config.width_px as f32, self.config.height_px as f32);
        let bounds = |e: &Extent| {
            BoxXywh::new(
                e.left_px,
                e.top_px,
                e.right_px - e.left_px,
                e.bottom_px - e.top_px,
            )
        };
        let mut out = Vec::new();
        for (object, &agent) in agents.iter().enumerate().skip(1) {
            let (full, seen) = (&scratch.full[object], &scratch.seen[object]);
            if full.samples == 0 {
                continue;
            }
            let full_box = bounds(full);
            let visible_share = seen.samples as f32 / full.samples as f32;
            out.push(ObjectTruth {
                instance: agent as u32,
                class: self.agents[agent].class(),
                full_box,
                visible_box: (seen.samples > 0).then(|| bounds(seen)),
                visible_share,
                cut: full.left_px < 0.5
                    || full.top_px < 0.5
                    || full.right_px > w - 0.5
                    || full.bottom_px > h - 0.5,
                ignore: full_box.w_px.min(full_box.h_px) < rule.ignore_below_px,
                occluded: visible_share < rule.occluded_below_share,
                absent: visible_share < rule.absent_below_share || seen.samples == 0,
            });
        }
        out
    }

    // ---- drawing ------------------------------------------------------------------------------------------------

    fn draw_thing(&self, view: &View, scratch: &mut Scratch, thing: &Thing<'_>) {
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
        let half_w = camera.cx_px / camera.focal_px * 1.15 + 0.05;
        if middle[2] < -radius
            || middle[0].abs() > half_w * middle[2].max(0.0) + radius * (1.0 + half_w)
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
        for face in faces {
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
    fn cast_shadow(&self, view: &View, buffer: &mut Buffer, thing: &Thing<'_>) {
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
    fn contact_shadow(
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

    fn draw_bonnet(&self, view: &View, scratch: &mut Scratch) {
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
    fn skylight(&self, s: f32) -> f32 {
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

    fn draw_agents(
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

    fn glows_of(
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
    fn glow(
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

    fn draw_scenery(&self, view: &View, scratch: &mut Scratch) {
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

    fn draw_ground(&self, view: &View, scratch: &mut Scratch) {
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

    // ---- shading ------------------------------------------------------------------------------------------------

    #[inline(never)]
    fn resolve(&self, view: &View, scratch: &mut Scratch) {
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
                        let mask = same.fold(0_u8, |mask, (s, &other)| {
                            mask | u8::from(other == index) << s
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
                colour[at] = total;
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

    fn lamps_near(&self, view: &View) -> Vec<StreetLamp> {
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
type SkyPoint = [f32; 5];

/// In the camera's frame, without the lens's distortion: what it lights is broad.
struct StreetLamp {
    at: V3,
}

struct Shader<'a> {
    world: &'a Sequence,
    view: &'a View,
    base_s: f32,
    /// Street lamps.
    lamps: &'a [StreetLamp],
    /// The vertical, in the camera's frame.
    up: V3,
    /// Junctions that may be seen.
    junctions: &'a [f32],
    sky_grid: &'a [SkyPoint],
    sky_width: usize,
}

impl Shader<'_> {
    /// The sky without what stands on the horizon; then bearing and elevation, for that.
    fn sky_point(&self, x: f32, y: f32) -> SkyPoint {
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

    fn sky(&self, x: f32, y: f32) -> Rgb {
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

    fn clear(&self, z: f32) -> f32 {
        let table = &self.world.tables.clear;
        table[((z * 2.0) as i32 as usize).min(table.len() - 1)]
    }

    /// Light of lamps at a point that is seen at a pixel, `z` metres ahead; `level` where it is ground.
    #[inline(never)]
    fn lamp_light(&self, px: f32, py: f32, z: f32, level: bool) -> Rgb {
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

    fn surface(
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

    fn ground(
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
    fn flow(
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

/// Cuts a triangle at the near plane and hands over what is in front of it.
fn clip_near(corners: [&ViewVertex; 3], mut draw: impl FnMut(&[ViewVertex; 3])) {
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
