//! One frame: everything near is transformed, drawn into the visibility buffer and shaded where it is seen.

mod batch;
mod draw;
mod shade;
mod sky;

use alloc::vec;
use alloc::vec::Vec;
use core::array::from_fn;

use super::camera::Camera;
use super::lens::{KEPT_ROWS, Row};
use super::math::{Rgb, TAU, V3, add, dot, fract, linear_from_srgb, mix, sin, sub};
use super::random::{unit_at, wander};
use super::raster::{Buffer, Extent, ViewVertex};
use super::traffic::State;
use super::{ObjectTruth, Sequence};
use crate::geometry::BoxXywh;
use sky::SkyPoint;

/// The camera's own rate. A sequence of fewer frames a second is a drive of which frames are left out: its shutter stays
/// open for as long as this camera's.
const CAMERA_FPS: f32 = 30.0;

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
const PROPS_PER_SURVEY: usize = 4;

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

/// Red, green, blue and nothing: the processor takes four at a time.
pub(super) type Light = [f32; 4];

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
    pub(super) colour: Vec<Light>,
    pub(super) other: Vec<Light>,
    pub(super) flow: Vec<[f32; 2]>,
    pub(super) glows: Vec<Glow>,
    /// Levels of the last rows.
    pub(super) rows: [Row; KEPT_ROWS],
    instances: Vec<Instance>,
    full: Vec<Extent>,
    seen: Vec<Extent>,
    sky: Vec<Vec<SkyPoint>>,
}

impl Scratch {
    /// For frames of this size.
    pub fn new(width_px: u32, height_px: u32) -> Self {
        let n = width_px as usize * height_px as usize;
        Self {
            buffer: Buffer::new(width_px as usize, height_px as usize),
            vertices: Vec::new(),
            pixels: Vec::new(),
            colour: vec![[0.0; 4]; n],
            other: vec![[0.0; 4]; n],
            flow: vec![[0.0; 2]; n],
            glows: Vec::new(),
            rows: from_fn(|_| from_fn(|_| vec![0.0; width_px as usize])),
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

    /// Share of light that comes through so many metres of air.
    #[inline]
    fn clear(&self, z: f32) -> f32 {
        self.clear[((z * 2.0) as i32 as usize).min(FOG_STEPS - 1)]
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
        // As a share of the time between two frames.
        let open = self.look.shutter * (fps / CAMERA_FPS).min(1.0);
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
        let (frame, view, agents_of_objects) = self.draw(frame, scratch);
        self.resolve(&view, scratch);
        let truth = self.truth(scratch, &agents_of_objects);
        self.develop(frame, &view, scratch, rgb);
        truth
    }

    /// What [`Self::render`] tells about a frame, without its picture, and without the time that takes.
    pub fn annotate(&self, frame: u32, scratch: &mut Scratch) -> Vec<ObjectTruth> {
        let (_, _, agents_of_objects) = self.draw(frame, scratch);
        let Scratch {
            buffer,
            seen,
            instances,
            full,
            ..
        } = scratch;
        seen.clear();
        seen.resize(full.len(), Extent::EMPTY);
        for (at, front) in buffer.front.iter().enumerate() {
            for (sample, &index) in front.iter().enumerate() {
                // Nothing drawn there is the sky.
                if index == 0 {
                    continue;
                }
                let instance = buffer.shown[index as usize].instance;
                let object = instances[instance as usize].object as usize;
                if object != 0 {
                    seen[object].add(at % buffer.width, at / buffer.width, 1 << sample);
                }
            }
        }
        self.truth(scratch, &agents_of_objects)
    }

    /// Draws a frame into the visibility buffer; says which one, how it is looked at, and whose the objects are.
    fn draw(&self, frame: u32, scratch: &mut Scratch) -> (u32, View, Vec<usize>) {
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
        (frame, view, agents_of_objects)
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
}

#[cfg(test)]
mod tests;
