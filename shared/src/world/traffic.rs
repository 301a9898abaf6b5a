//! Who drives and walks where: simulated once for the whole sequence, frame by frame, so that a frame can be looked up.
//!
//! Vehicles follow the intelligent driver model (Treiber, Hennecke, Helbing 2000) behind whoever is in their way
//! sideways, change lanes or squeeze past, stop at junctions and for people. Nobody reacts to the camera except
//! that it is a vehicle like the others: agent 0.

use alloc::vec;
use alloc::vec::Vec;

use super::config::{Scenario, WorldConfig};
use super::math::{mix, sin, sqrt};
use super::models::{Class, Make};
use super::random::{Dice, hash, unit_at, wander};
use super::road::{Road, STREET_HALF_M};

/// Time that is simulated before the first frame.
const WARM_UP_S: f32 = 4.0;
/// Traffic exists from here behind to there ahead of the camera.
pub(super) const BEHIND_M: f32 = 70.0;
pub(super) const AHEAD_M: f32 = 190.0;
/// Comfortable acceleration and braking.
const ACCELERATION_M_S2: f32 = 1.6;
const BRAKING_M_S2: f32 = 2.5;
const HARDEST_BRAKING_M_S2: f32 = 7.0;
/// Gap at standstill.
const STANDSTILL_GAP_M: f32 = 2.2;
/// Most agents of a sequence: a bound on time and memory.
const MOST_AGENTS: usize = 420;

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
const TURN_SPEED_M_S: f32 = 4.5;
/// Who turns off the road begins to slow down here before the junction.
const SLOWS_FOR_TURN_M: f32 = 30.0;
/// Shares of those who come out of a side street, and of those who pass one in the outermost lane, that turn.
const TURNS_IN: f32 = 0.4;
const TURNS_OFF: f32 = 0.25;

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

/// Half length and half width, before the model is built.
fn size(make: Make) -> (f32, f32) {
    match make {
        Make::Sedan | Make::Suv | Make::Van => (2.3, 0.95),
        Make::Hatchback => (1.9, 0.85),
        Make::Pickup => (2.8, 1.0),
        Make::BoxTruck => (3.8, 1.2),
        Make::OpenTruck => (4.2, 1.25),
        Make::SemiTrailer => (8.5, 1.3),
        Make::CityBus | Make::SchoolBus => (5.8, 1.3),
        Make::Motorcycle | Make::Scooter => (1.0, 0.38),
        Make::Bicycle => (0.9, 0.33),
        Make::Autorickshaw => (1.35, 0.66),
        Make::CycleRickshaw => (1.3, 0.55),
        Make::Tractor => (3.4, 1.1),
        Make::Cart => (1.9, 0.8),
        Make::Person => (0.3, 0.3),
        Make::Cow => (1.0, 0.4),
        Make::Dog => (0.4, 0.18),
    }
}

fn own_speed(make: Make, wish: f32) -> f32 {
    match make {
        Make::SemiTrailer | Make::OpenTruck | Make::BoxTruck | Make::CityBus | Make::SchoolBus => {
            wish * 0.85
        }
        Make::Autorickshaw => (wish * 0.85).min(12.0),
        Make::Bicycle => wish.min(4.5),
        Make::CycleRickshaw => wish.min(3.2),
        Make::Tractor => wish.min(6.0),
        Make::Cart => wish.min(1.3),
        _ => wish,
    }
}

/// Too slow for any lane but the outermost.
fn keeps_outside(make: Make) -> bool {
    matches!(
        make,
        Make::Bicycle | Make::CycleRickshaw | Make::Cart | Make::Tractor
    )
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

    fn mover(&self, dice: &mut Dice, make: Make, role: Role, s: f32, d: f32, speed: f32) -> Mover {
        let (half_len, half_width) = size(make);
        let heading = match role {
            Role::Drives { with_us: false } => core::f32::consts::PI,
            _ => 0.0,
        };
        Mover {
            make,
            seed: dice.next(),
            role,
            half_len,
            half_width,
            s,
            d,
            speed,
            wish: speed,
            lane: 0,
            target_d: d,
            headway: dice.range(0.8, 1.8)
                * if self.config.place.keeps_left {
                    0.6
                } else {
                    1.0
                },
            gone: dice.range(0.0, 3.0),
            heading,
            braking: false,
            blinks: 0,
            last_change_s: dice.range(-8.0, 0.0),
            turns_at: None,
            here: true,
            states: Vec::new(),
        }
    }

    fn driver(&self, dice: &mut Dice, with_us: bool, s: f32) -> Mover {
        let road = self.road;
        let make = Make::draw(dice, &self.config.place.mix);
        let lane = dice.below(road.lanes as usize) as u32;
        // Slow ones keep to the outside.
        let lane = if keeps_outside(make) {
            road.lanes - 1
        } else {
            lane
        };
        let loose = 1.0 - self.config.place.lane_discipline;
        let shift = dice.bell() * loose * 1.5;
        let edge = if matches!(make, Make::Bicycle | Make::CycleRickshaw | Make::Cart) {
            road.lane_m * 0.32 * road.side
        } else {
            0.0
        };
        let d = road.lane_d(lane, with_us) + shift + if with_us { edge } else { -edge };
        let wish = road.speed_m_s
            * dice.range(0.75, 1.2)
            * (1.0 + 0.12 * (1.0 - lane as f32 / road.lanes as f32));
        let wish = own_speed(make, wish);
        let mut m = self.mover(dice, make, Role::Drives { with_us }, s, d, wish);
        m.lane = lane;
        self.choose_turn(dice, &mut m);
        m
    }

    fn walker(&self, dice: &mut Dice, make: Make, s: f32) -> Mover {
        let road = self.road;
        let side = if dice.chance(0.5) { 1.0 } else { -1.0 };
        let across = dice.chance(self.config.place.jaywalking_share);
        let outside = road.border_m() + dice.range(0.2, 0.4 + road.pavement_m);
        let on_road =
            road.edge_m() - dice.range(0.0, 1.0) * (1.0 - self.config.place.lane_discipline) * 2.5;
        let d = side
            * if across || dice.chance(0.7) {
                outside
            } else {
                on_road
            };
        let pace = match make {
            Make::Person if dice.chance(0.25) => 0.0,
            Make::Person => dice.range(0.8, 1.7),
            _ if dice.chance(0.6) => 0.0,
            _ => dice.range(0.3, 1.0),
        };
        let role = if across {
            Role::WalksAcross
        } else {
            Role::Walks
        };
        let mut m = self.mover(dice, make, role, s, d, pace);
        m.target_d = -side * (road.border_m() + 1.0);
        m.heading = match (across, dice.chance(0.5)) {
            (true, _) if side > 0.0 => -core::f32::consts::FRAC_PI_2,
            (true, _) => core::f32::consts::FRAC_PI_2,
            (false, true) => 0.0,
            (false, false) => core::f32::consts::PI,
        };
        if pace == 0.0 {
            m.heading = dice.range(-3.1, 3.1);
        }
        // Crossing begins some time during the sequence.
        m.last_change_s = dice.range(-3.0, self.config.frames as f32 / self.config.fps);
        m
    }

    fn populate(&mut self, dice: &mut Dice, camera_speed_m_s: f32) {
        let road = self.road;
        let place = &self.config.place;
        let lane = dice.below(road.lanes as usize) as u32;
        let loose = 1.0 - place.lane_discipline;
        let d = road.lane_d(lane, true) + dice.bell() * (0.2 + 0.5 * loose);
        let mut camera = self.mover(dice, Make::Sedan, Role::Camera, 0.0, d, camera_speed_m_s);
        camera.lane = lane;
        camera.headway = dice.range(0.5, 1.1);
        self.movers.push(camera);
        for with_us in [true, false] {
            for lane in 0..road.lanes {
                let mut s = -BEHIND_M + dice.range(0.0, self.density_m);
                while s < AHEAD_M {
                    let mut m = self.driver(dice, with_us, s);
                    if !keeps_outside(m.make) {
                        let shift = m.d - road.lane_d(m.lane, with_us);
                        m.lane = lane;
                        m.d = road.lane_d(lane, with_us) + shift;
                        m.target_d = m.d;
                        if lane + 1 != road.lanes {
                            m.turns_at = None;
                        }
                    }
                    let gap = m.half_len * 2.0 + 3.0;
                    if self.free(s, m.d, m.half_len + 2.0, m.half_width) {
                        self.movers.push(m);
                    }
                    s += gap + self.density_m * dice.range(0.2, 1.8);
                }
            }
        }
        // People, animals and the parked, over everything that will be seen.
        let reach = AHEAD_M + camera_speed_m_s * self.config.frames as f32 / self.config.fps;
        let span_km = (reach + 20.0) / 1000.0;
        let crowd = mix(
            place.people_per_km[0],
            place.people_per_km[1],
            dice.unit() * (0.25 + 0.75 * road.town),
        );
        for _ in 0..(crowd * span_km) as usize {
            let s = dice.range(-20.0, reach);
            let m = self.walker(dice, Make::Person, s);
            self.movers.push(m);
        }
        let herd = (dice.within(place.animals_per_km) * span_km + dice.unit()) as usize;
        for _ in 0..herd {
            let (s, make) = (
                dice.range(5.0, reach),
                if dice.chance(0.6) && place.keeps_left {
                    Make::Cow
                } else {
                    Make::Dog
                },
            );
            let m = self.walker(dice, make, s);
            self.movers.push(m);
        }
        let parked = mix(
            place.parked_per_km[0],
            place.parked_per_km[1],
            dice.unit() * (0.2 + 0.8 * road.town),
        );
        for side in [-1.0_f32, 1.0] {
            for _ in 0..(parked * span_km) as usize {
                let s = dice.range(-20.0, reach);
                let make = Make::draw(dice, &place.mix);
                let (half_len, half_width) = size(make);
                let d = side
                    * (road.edge_m()
                        + half_width * dice.range(0.6, 1.1)
                        + if road.shoulder_m > 1.2 { 0.1 } else { 0.35 });
                if !self.free(s, d, half_len + 0.8, half_width)
                    || road.near_junction(s, half_len)
                    || make == Make::Cart && dice.chance(0.5)
                {
                    continue;
                }
                let mut m = self.mover(dice, make, Role::Parked, s, d, 0.0);
                let along = (side * road.side > 0.0) != dice.chance(0.15);
                m.heading = if along { 0.0 } else { core::f32::consts::PI } + dice.bell() * 0.08;
                if make.two_wheeled() {
                    m.heading = dice.range(-3.1, 3.1);
                }
                self.movers.push(m);
            }
        }
        // One junction is crossed, and perhaps waited for.
        let duration = self.config.frames as f32 / self.config.fps;
        for (index, &s) in road.junctions.iter().enumerate() {
            if s < -20.0 || s > reach {
                continue;
            }
            let waits = dice.chance(0.45);
            if waits {
                let from = dice.range(-5.0, duration);
                self.halts.push(Halt {
                    stop_s: s - STREET_HALF_M - 3.0,
                    from,
                    to: from + dice.range(3.0, 9.0),
                });
            }
            let count = 1 + dice.below(if waits { 6 } else { 3 });
            for k in 0..count {
                let make = Make::draw(dice, &place.mix);
                let from_left = (k + index) % 2 == 0;
                let sign = if from_left { 1.0 } else { -1.0 };
                let d = -sign * dice.range(10.0, 70.0);
                let lane = sign * road.side * -STREET_HALF_M * 0.45;
                let speed = own_speed(make, dice.range(4.0, 10.0));
                let mut m = self.mover(dice, make, Role::Crosses, s + lane, d, speed);
                m.heading = sign * core::f32::consts::FRAC_PI_2;
                // To the near side: those who come from where our side of the road lies go our way.
                if dice.chance(TURNS_IN) {
                    let with_us = sign * road.side < 0.0;
                    m.lane = road.lanes - 1;
                    m.target_d = road.lane_d(m.lane, with_us);
                    m.turns_at = Some(m.target_d - sign * TURN_RADIUS_M);
                }
                self.movers.push(m);
            }
        }
    }

    fn free(&self, s: f32, d: f32, half_len: f32, half_width: f32) -> bool {
        self.movers.iter().all(|m| {
            (m.s - s).abs() > m.half_len + half_len
                || (m.d - d).abs() > m.half_width + half_width + 0.2
        })
    }

    /// New vehicles enter at the ends of what is seen.
    fn refill(&mut self, dice: &mut Dice) {
        let camera_s = self.movers[0].s;
        for m in &mut self.movers {
            let gone = m.s < camera_s - BEHIND_M - 40.0 || m.s > camera_s + AHEAD_M + 60.0;
            if gone && matches!(m.role, Role::Drives { .. }) {
                m.here = false;
                m.s = -9e3;
            }
        }
        if self.movers.len() >= MOST_AGENTS {
            return;
        }
        for with_us in [true, false] {
            let wanted = (AHEAD_M + BEHIND_M) / self.density_m * self.road.lanes as f32;
            let there = self
                .movers
                .iter()
                .filter(|m| m.here && m.role == Role::Drives { with_us })
                .count();
            if (there as f32) < wanted && dice.chance(0.5) {
                let ahead = !with_us || dice.chance(0.6);
                let s = camera_s
                    + if ahead {
                        AHEAD_M + dice.range(0.0, 40.0)
                    } else {
                        -BEHIND_M
                    };
                let m = self.driver(dice, with_us, s);
                if self.free(m.s, m.d, m.half_len + 8.0, m.half_width) {
                    self.movers.push(m);
                }
            }
        }
    }

    /// Gap to and speed of whoever is next in the way of mover `i`, were it at `d`.
    fn leader(&self, i: usize, d: f32, t: f32) -> (f32, f32) {
        let me = &self.movers[i];
        let forward = match me.role {
            Role::Drives { with_us: false } => -1.0,
            _ => 1.0,
        };
        let mut best = (1e4_f32, me.wish);
        for (k, other) in self.movers.iter().enumerate() {
            if k == i || !other.here {
                continue;
            }
            let along = (other.s - me.s) * forward;
            if along <= 0.0 || along > 90.0 {
                continue;
            }
            let (half_len, half_width, speed) = match other.role {
                Role::Crosses | Role::Turns(_) | Role::Scripted => {
                    (other.half_width, other.half_len + 1.0, 0.0)
                }
                Role::WalksAcross => (0.5, other.half_width + 1.2, 0.0),
                Role::Drives { with_us } => {
                    let same = if with_us { 1.0 } else { -1.0 };
                    (
                        other.half_len,
                        other.half_width,
                        other.speed * same * forward,
                    )
                }
                _ => (other.half_len, other.half_width, other.speed),
            };
            let clear = if self.config.place.keeps_left {
                0.1
            } else {
                0.3
            };
            if (other.d - d).abs() > half_width + me.half_width + clear {
                continue;
            }
            // Those who cross are given way to only when near.
            if matches!(
                other.role,
                Role::Crosses | Role::Turns(_) | Role::WalksAcross
            ) && along > 35.0
            {
                continue;
            }
            let gap = along - half_len - me.half_len;
            if gap < best.0 {
                best = (gap, speed);
            }
        }
        if matches!(me.role, Role::Camera | Role::Drives { with_us: true }) {
            for halt in &self.halts {
                let gap = halt.stop_s - me.s - me.half_len;
                if t > halt.from && t < halt.to && gap > -1.0 && gap < best.0 && gap < 70.0 {
                    best = (gap, 0.0);
                }
            }
        }
        best
    }

    /// The speed that a driver wants here and now: less before turning off.
    fn wish_here(&self, m: &Mover) -> f32 {
        let turning = m
            .turns_at
            .is_some_and(|at| (at - m.s).abs() < SLOWS_FOR_TURN_M);
        if turning {
            m.wish.min(TURN_SPEED_M_S)
        } else {
            m.wish
        }
    }

    /// Some of those in the outermost lane leave by the side street that comes next.
    fn choose_turn(&self, dice: &mut Dice, m: &mut Mover) {
        let Role::Drives { with_us } = m.role else {
            return;
        };
        if m.lane + 1 != self.road.lanes || !dice.chance(TURNS_OFF) {
            return;
        }
        let forward = if with_us { 1.0 } else { -1.0 };
        let next = self
            .road
            .junctions
            .iter()
            .copied()
            .filter(|j| (j - m.s) * forward > SLOWS_FOR_TURN_M);
        let nearest = next.min_by(|a, b| (a - m.s).abs().total_cmp(&(b - m.s).abs()));
        // The near lane of the street is on the side that is met first.
        let lane = STREET_HALF_M * 0.45 + TURN_RADIUS_M;
        m.turns_at = nearest.map(|j| j - forward * lane);
    }

    fn step(&mut self, t: f32, dt: f32) {
        let road = self.road;
        let place = &self.config.place;
        let mut plans: Vec<(f32, f32, i8)> = vec![(0.0, 0.0, 0); self.movers.len()];
        for (i, plan) in plans.iter_mut().enumerate() {
            let me = &self.movers[i];
            if !me.here {
                continue;
            }
            match me.role {
                Role::Camera | Role::Drives { .. } => {
                    let with_us = !matches!(me.role, Role::Drives { with_us: false });
                    let (gap, leader_speed) = self.leader(i, me.d, t);
                    let closing = me.speed - leader_speed;
                    let wanted_gap = STANDSTILL_GAP_M
                        + (me.speed * me.headway
                            + me.speed * closing / (2.0 * sqrt(ACCELERATION_M_S2 * BRAKING_M_S2)))
                        .max(0.0);
                    let ratio = me.speed / self.wish_here(me).max(0.5);
                    let push = wanted_gap / gap.max(0.3);
                    let acceleration = (ACCELERATION_M_S2
                        * (1.0 - ratio * ratio * ratio * ratio - push * push))
                        .clamp(-HARDEST_BRAKING_M_S2, ACCELERATION_M_S2);
                    // Sideways: another lane, or past the leader wherever there is room.
                    let mut target = me.target_d;
                    let mut blinks = 0;
                    let held_up = gap < 28.0 && leader_speed < me.wish * 0.85;
                    let whim = unit_at(me.seed, (t * 2.0) as i64, 3) < 0.02;
                    let patience = if place.keeps_left { 1.6 } else { 4.0 };
                    if (held_up || whim)
                        && me.turns_at.is_none()
                        && t - me.last_change_s > patience
                        && me.speed > 1.5
                    {
                        let step = if me.make.two_wheeled()
                            || place.keeps_left && unit_at(me.seed, t as i64, 4) < 0.5
                        {
                            road.lane_m * (0.4 + 0.5 * unit_at(me.seed, (t * 3.0) as i64, 5))
                        } else {
                            road.lane_m
                        };
                        let inner = road.median_m / 2.0 + me.half_width + 0.2
                            - if road.median_m == 0.0 && place.keeps_left {
                                1.2
                            } else {
                                0.0
                            };
                        let outer = road.edge_m() - me.half_width - 0.1;
                        for side in [-1.0_f32, 1.0] {
                            let d = me.target_d + side * step;
                            let out = d * road.side * if with_us { 1.0 } else { -1.0 };
                            if out < inner || out > outer {
                                continue;
                            }
                            let (there, _) = self.leader(i, d, t);
                            let room = self.movers.iter().enumerate().all(|(k, o)| {
                                k == i
                                    || !o.here
                                    || (o.s - me.s).abs()
                                        > o.half_len
                                            + me.half_len
                                            + 2.5
                                            + (o.speed - me.speed).abs() * 0.6
                                    || (o.d - d).abs() > o.half_width + me.half_width + 0.25
                            });
                            if room && there > gap + 8.0 {
                                target = d;
                                blinks = if side > 0.0 { 1 } else { -1 };
                            }
                        }
                    }
                    *plan = (acceleration, target, blinks);
                }
                Role::WalksAcross => {
                    // Waits at the edge until nobody is near.
                    let waiting = t > me.last_change_s
                        && me.d.abs() > road.edge_m() - 0.3
                        && me.d * me.target_d < 0.0;
                    let clear = !waiting
                        || self.movers.iter().all(|o| {
                            !matches!(o.role, Role::Drives { .. } | Role::Camera)
                                || (o.s - me.s).abs() > 9.0 + o.speed * 1.6
                                || !o.here
                        });
                    *plan = (
                        if t > me.last_change_s && clear {
                            1.0
                        } else {
                            0.0
                        },
                        0.0,
                        0,
                    );
                }
                Role::Turns(_) => {
                    *plan = (if me.speed > TURN_SPEED_M_S { -2.0 } else { 1.0 }, 0.0, 0)
                }
                Role::Crosses => {
                    let ahead = if me.heading > 0.0 { 1.0 } else { -1.0 };
                    let blocked = self.movers.iter().enumerate().any(|(k, o)| {
                        let along = (o.d - me.d) * ahead;
                        k != i
                            && o.here
                            && along > 0.0
                            && along < me.half_len + 4.0 + me.speed
                            && (o.s - me.s).abs() < o.half_len.min(6.0) + me.half_width + 0.6
                    });
                    *plan = (if blocked { -4.0 } else { 1.2 }, 0.0, 0);
                }
                _ => {}
            }
        }
        for (i, &(acceleration, target, blinks)) in plans.iter().enumerate() {
            let me = &mut self.movers[i];
            if !me.here {
                continue;
            }
            match me.role {
                Role::Camera | Role::Drives { .. } => {
                    let forward = if matches!(me.role, Role::Drives { with_us: false }) {
                        -1.0
                    } else {
                        1.0
                    };
                    let still = me.wish <= 0.0;
                    me.speed = if still {
                        0.0
                    } else {
                        (me.speed + acceleration * dt).max(0.0)
                    };
                    me.braking = acceleration < -0.7 || me.speed < 0.2;
                    me.s += me.speed * forward * dt;
                    if let Some(at) = me.turns_at {
                        let left_m = (at - me.s) * forward;
                        // The near side is the right where traffic keeps right.
                        let near = road.side;
                        if left_m < SLOWS_FOR_TURN_M {
                            me.blinks = near as i8;
                            me.last_change_s = t;
                        }
                        if left_m <= 0.0 {
                            let base = if forward > 0.0 {
                                0.0
                            } else {
                                core::f32::consts::PI
                            };
                            me.turns_at = None;
                            me.role = Role::Turns(Turn {
                                to: base + near * core::f32::consts::FRAC_PI_2,
                                joins: None,
                            });
                            me.gone += me.speed * dt;
                            continue;
                        }
                    }
                    me.gone += me.speed * dt;
                    if blinks != 0 {
                        me.target_d = target;
                        me.last_change_s = t;
                        me.blinks = blinks;
                    } else if t - me.last_change_s > 2.0 {
                        me.blinks = 0;
                    }
                    let sway = wander(me.seed, t * 0.35)
                        * (0.12 + 0.5 * (1.0 - place.lane_discipline))
                        * if me.make.two_wheeled() { 1.4 } else { 0.8 };
                    let pull = (me.target_d + sway - me.d) * 0.9;
                    let limit = (me.speed * 0.16).min(1.5);
                    let sideways = pull.clamp(-limit, limit);
                    me.d += sideways * dt;
                    let base = if forward > 0.0 {
                        0.0
                    } else {
                        core::f32::consts::PI
                    };
                    let lean = if me.speed > 0.5 {
                        sideways / me.speed.max(2.0)
                    } else {
                        0.0
                    };
                    me.heading += (base + forward * lean - me.heading) * (4.0 * dt).min(1.0);
                }
                Role::Crosses => {
                    let ahead = if me.heading > 0.0 { 1.0 } else { -1.0 };
                    me.speed = (me.speed + acceleration * dt).clamp(0.0, me.wish);
                    me.braking = acceleration < 0.0;
                    me.d += ahead * me.speed * dt;
                    me.gone += me.speed * dt;
                    if let Some(at) = me.turns_at {
                        me.blinks = road.side as i8;
                        if (at - me.d) * ahead <= 0.0 {
                            let with_us = ahead * road.side < 0.0;
                            me.turns_at = None;
                            me.role = Role::Turns(Turn {
                                to: me.heading + road.side * core::f32::consts::FRAC_PI_2,
                                joins: Some(with_us),
                            });
                        }
                    }
                }
                Role::Turns(turn) => {
                    me.speed = (me.speed + acceleration * dt).max(1.0);
                    me.braking = acceleration < 0.0;
                    let turned = me.speed / TURN_RADIUS_M * dt;
                    let left = turn.to - me.heading;
                    me.heading += left.clamp(-turned, turned);
                    me.s += me.speed * libm::cosf(me.heading) * dt;
                    me.d += me.speed * sin(me.heading) * dt;
                    me.gone += me.speed * dt;
                    if left.abs() <= turned {
                        me.blinks = 0;
                        match turn.joins {
                            Some(with_us) => {
                                me.role = Role::Drives { with_us };
                                me.heading = if with_us { 0.0 } else { core::f32::consts::PI };
                                me.wish = own_speed(me.make, road.speed_m_s);
                                me.target_d = me.d;
                            }
                            None => {
                                me.role = Role::Crosses;
                                me.heading = if sin(turn.to) > 0.0 {
                                    core::f32::consts::FRAC_PI_2
                                } else {
                                    -core::f32::consts::FRAC_PI_2
                                };
                            }
                        }
                    }
                }
                Role::Walks => {
                    me.s += me.speed * libm::cosf(me.heading) * dt;
                    me.d += 0.25 * me.speed * wander(me.seed, t * 0.3) * dt;
                    me.gone += me.speed * dt;
                }
                Role::WalksAcross => {
                    if acceleration > 0.0 {
                        let side = if me.target_d > me.d { 1.0 } else { -1.0 };
                        if (me.target_d - me.d).abs() > 0.2 {
                            me.d += side * me.speed * dt;
                            me.s += 0.15 * me.speed * wander(me.seed, 1.0) * dt;
                            me.gone += me.speed * dt;
                        }
                    }
                }
                Role::Scripted => {
                    me.s += me.speed * libm::cosf(me.heading) * dt;
                    me.d += me.speed * sin(me.heading) * dt;
                    me.gone += me.speed * dt;
                }
                Role::Parked => {}
            }
        }
    }
}

/// What a stage direction may do: see [`super::stage`].
pub(super) struct StageHand<'s, 'a> {
    simulation: &'s mut Simulation<'a>,
}

impl StageHand<'_, '_> {
    pub(super) fn seed(&self) -> u64 {
        self.simulation.seed
    }

    /// Seconds of the sequence.
    pub(super) fn duration_s(&self) -> f32 {
        self.simulation.config.frames as f32 / self.simulation.config.fps
    }

    pub(super) fn road(&self) -> &Road {
        self.simulation.road
    }

    /// Everybody else leaves the given stretch, and the camera stands still or creeps.
    pub(super) fn clear(&mut self, from_m: f32, to_m: f32, reach_d_m: f32, camera_speed_m_s: f32) {
        let sim = &mut *self.simulation;
        sim.movers[0].speed = camera_speed_m_s;
        sim.movers[0].wish = camera_speed_m_s;
        let camera_d = sim.movers[0].d;
        for m in sim.movers.iter_mut().skip(1) {
            let near = m.s > from_m && m.s < to_m && m.d.abs() < reach_d_m;
            let behind = m.s < from_m
                && (m.d - camera_d).abs() < 40.0
                && m.role == (Role::Drives { with_us: true });
            let crosses = matches!(
                m.role,
                Role::Crosses | Role::Turns(_) | Role::WalksAcross | Role::Drives { with_us: true }
            );
            m.turns_at = None;
            if near || behind || crosses {
                m.here = false;
                m.s = -9e3;
            }
        }
        sim.halts.clear();
        // Nobody new comes up from behind or ahead in our direction.
        sim.density_m = 1e6;
    }

    /// Length of a bus that has entered.
    pub(super) fn bus_length_m(&self, agent: usize) -> f32 {
        super::models::bus_length_m(self.simulation.movers[agent].seed)
    }

    /// Starts somebody who has entered from another place sideways.
    pub(super) fn send(&mut self, agent: usize, d: f32, speed: f32) {
        let m = &mut self.simulation.movers[agent];
        m.d = d;
        m.speed = speed;
    }

    pub(super) fn camera_d(&self) -> f32 {
        self.simulation.movers[0].d
    }

    /// Somebody on a straight line at a steady speed; its number among the agents.
    pub(super) fn enter(
        &mut self,
        dice: &mut Dice,
        make: Make,
        s: f32,
        d: f32,
        heading: f32,
        speed: f32,
    ) -> usize {
        let mut m = self
            .simulation
            .mover(dice, make, Role::Scripted, s, d, speed);
        m.heading = heading;
        m.seed = hash(m.seed);
        self.simulation.movers.push(m);
        self.simulation.movers.len() - 1
    }
}
