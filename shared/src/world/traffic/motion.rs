//! How they move: following, giving way, changing lanes, turning, walking.

use alloc::vec;
use alloc::vec::Vec;

use super::cast::own_speed;
use super::{Mover, Role, SLOWS_FOR_TURN_M, Simulation, TURN_RADIUS_M, Turn};
use crate::world::math::{sin, sqrt};
use crate::world::random::{unit_at, wander};

/// Comfortable acceleration and braking.
pub(super) const ACCELERATION_M_S2: f32 = 1.6;

pub(super) const BRAKING_M_S2: f32 = 2.5;

pub(super) const HARDEST_BRAKING_M_S2: f32 = 7.0;

/// Gap at standstill.
pub(super) const STANDSTILL_GAP_M: f32 = 2.2;

pub(super) const TURN_SPEED_M_S: f32 = 4.5;

impl Simulation<'_> {
    /// Gap to and speed of whoever is next in the way of mover `i`, were it at `d`.
    pub(super) fn leader(&self, i: usize, d: f32, t: f32) -> (f32, f32) {
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
    pub(super) fn wish_here(&self, m: &Mover) -> f32 {
        let turning = m
            .turns_at
            .is_some_and(|at| (at - m.s).abs() < SLOWS_FOR_TURN_M);
        if turning {
            m.wish.min(TURN_SPEED_M_S)
        } else {
            m.wish
        }
    }

    pub(super) fn step(&mut self, t: f32, dt: f32) {
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
