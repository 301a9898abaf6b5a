//! Who drives and walks where: simulated once for the whole sequence, frame by frame, so that a frame can be looked up.
//!
//! Vehicles follow the intelligent driver model (Treiber, Hennecke, Helbing 2000) behind whoever is in their way
//! sideways, change lanes or squeeze past, stop at junctions and for people. Nobody reacts to the camera except
//! that it is a vehicle like the others: agent 0.

mod cast;
mod motion;
mod stage_hand;

use alloc::vec::Vec;

use super::config::{Scenario, WorldConfig};
use super::math::mix;
use super::models::{Class, Make};
use super::random::Dice;
use super::road::Road;

pub(super) use stage_hand::StageHand;

/// Time that is simulated before the first frame.
const WARM_UP_S: f32 = 4.0;

/// Traffic exists from here behind to there ahead of the camera.
pub(super) const BEHIND_M: f32 = 70.0;

pub(super) const AHEAD_M: f32 = 190.0;

/// How somebody moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// Our own vehicle.
    Camera,
    /// Along the road; `with_us` is our direction.
    Drives { with_us: bool },
    /// Across at a junction, along `d`.
    Crosses,
    /// Round a corner: from the side street into the road, or out of it.
    Turns(Turn),
    /// Stands at the edge, never moves.
    Parked,
    /// A person or an animal that walks along the edge.
    Walks,
    /// A person or an animal that crosses the carriageway.
    WalksAcross,
    /// Follows a script and ignores the others.
    Scripted,
}

/// A turn to the near side, which no oncoming traffic is in the way of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Turn {
    /// Heading at the end.
    to: f32,
    /// Joins the road's traffic in this direction, or leaves by the side street.
    joins: Option<bool>,
}

/// Radius of a turn at a junction, to the middle of the vehicle, and the speed in it.
const TURN_RADIUS_M: f32 = 6.5;

/// Who turns off the road begins to slow down here before the junction.
const SLOWS_FOR_TURN_M: f32 = 30.0;

/// Where an agent is at a frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub(super) s: f32,
    pub(super) d: f32,
    /// Relative to the road's direction.
    pub(super) heading: f32,
    pub(super) speed: f32,
    /// Metres gone, for legs.
    pub(super) gone: f32,
    pub(super) braking: bool,
    /// -1 left, +1 right.
    pub(super) blinks: i8,
    pub(super) here: bool,
}

pub(super) struct Agent {
    pub(super) make: Make,
    pub(super) seed: u64,
    pub(super) role: Role,
    /// One for every frame.
    pub(super) states: Vec<State>,
}

impl Agent {
    pub(super) fn class(&self) -> Class {
        self.make.class()
    }
}

/// A mover while it is simulated.
struct Mover {
    make: Make,
    seed: u64,
    role: Role,
    half_len: f32,
    half_width: f32,
    s: f32,
    d: f32,
    speed: f32,
    wish: f32,
    lane: u32,
    target_d: f32,
    headway: f32,
    gone: f32,
    heading: f32,
    braking: bool,
    blinks: i8,
    last_change_s: f32,
    /// Where the vehicle leaves its straight way: `d` for those who cross, `s` for those who drive.
    turns_at: Option<f32>,
    here: bool,
    states: Vec<State>,
}

/// Seconds of the journey during which our direction waits at a junction.
struct Halt {
    stop_s: f32,
    from: f32,
    to: f32,
}

pub(super) struct Simulation<'a> {
    config: &'a WorldConfig,
    road: &'a Road,
    seed: u64,
    movers: Vec<Mover>,
    halts: Vec<Halt>,
    density_m: f32,
}

impl<'a> Simulation<'a> {
    pub(super) fn new(config: &'a WorldConfig, road: &'a Road, seed: u64) -> Self {
        let mut dice = Dice::new(seed, 0x7472_6166);
        let per_km = mix(
            config.place.vehicles_per_lane_km[0],
            config.place.vehicles_per_lane_km[1],
            dice.unit() * dice.range(0.3, 1.0),
        );
        Self {
            config,
            road,
            seed,
            movers: Vec::new(),
            halts: Vec::new(),
            density_m: 1000.0 / per_km.max(0.5),
        }
    }

    /// Runs the whole sequence. Agent 0 is the camera.
    pub(super) fn run(mut self, camera_speed_m_s: f32) -> Vec<Agent> {
        let mut dice = Dice::new(self.seed, 0x7275_6e21);
        let frames = self.config.frames;
        let dt = 1.0 / self.config.fps;
        self.populate(&mut dice, camera_speed_m_s);
        if self.config.scenario == Scenario::Occlusion {
            super::stage::set(
                &mut StageHand {
                    simulation: &mut self,
                },
                &mut dice,
            );
        }
        let warm = if self.config.scenario == Scenario::Occlusion {
            0
        } else {
            (WARM_UP_S * self.config.fps) as u32
        };
        for step in 0..warm + frames {
            let t = (step as f32 - warm as f32) * dt;
            if step >= warm {
                let frame = step - warm;
                for m in &mut self.movers {
                    m.states.resize(frame as usize, State::default());
                    m.states.push(State {
                        s: m.s,
                        d: m.d,
                        heading: m.heading,
                        speed: m.speed,
                        gone: m.gone,
                        braking: m.braking,
                        blinks: m.blinks,
                        here: m.here,
                    });
                }
            }
            self.step(t, dt);
            if step % 8 == 0 {
                self.refill(&mut dice);
            }
        }
        let frames = frames as usize;
        self.movers
            .into_iter()
            .map(|mut m| {
                m.states.resize(frames, State::default());
                Agent {
                    make: m.make,
                    seed: m.seed,
                    role: m.role,
                    states: m.states,
                }
            })
            .collect()
    }
}
