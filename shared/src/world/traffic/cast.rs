//! Who is there: who drives in which lane, who walks, what is parked, who comes to the junctions.

use alloc::vec::Vec;

use super::{AHEAD_M, BEHIND_M, Halt, Mover, Role, SLOWS_FOR_TURN_M, Simulation, TURN_RADIUS_M};
use crate::world::math::mix;
use crate::world::models::Make;
use crate::world::random::Dice;
use crate::world::road::STREET_HALF_M;

/// Once there are so many agents, nobody is added but whom a stage direction asks for: a bound on time and memory, however
/// long the drive is.
pub(super) const MOST_AGENTS: usize = 420;

/// Shares of those who come out of a side street, and of those who pass one in the outermost lane, that turn.
pub(super) const TURNS_IN: f32 = 0.4;

pub(super) const TURNS_OFF: f32 = 0.25;

/// Half length and half width, before the model is built.
pub(super) fn size(make: Make) -> (f32, f32) {
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

pub(super) fn own_speed(make: Make, wish: f32) -> f32 {
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
pub(super) fn keeps_outside(make: Make) -> bool {
    matches!(
        make,
        Make::Bicycle | Make::CycleRickshaw | Make::Cart | Make::Tractor
    )
}

impl Simulation<'_> {
    pub(super) fn mover(
        &self,
        dice: &mut Dice,
        make: Make,
        role: Role,
        s: f32,
        d: f32,
        speed: f32,
    ) -> Mover {
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

    pub(super) fn driver(&self, dice: &mut Dice, with_us: bool, s: f32) -> Mover {
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

    pub(super) fn walker(&self, dice: &mut Dice, make: Make, s: f32) -> Mover {
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

    pub(super) fn populate(&mut self, dice: &mut Dice, camera_speed_m_s: f32) {
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
                    if self.is_full() {
                        return;
                    }
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
            if self.is_full() {
                return;
            }
            let s = dice.range(-20.0, reach);
            let m = self.walker(dice, Make::Person, s);
            self.movers.push(m);
        }
        let herd = (dice.within(place.animals_per_km) * span_km + dice.unit()) as usize;
        for _ in 0..herd {
            if self.is_full() {
                return;
            }
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
                if self.is_full() {
                    return;
                }
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
                if self.is_full() {
                    return;
                }
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

    fn is_full(&self) -> bool {
        self.movers.len() >= MOST_AGENTS
    }

    pub(super) fn free(&self, s: f32, d: f32, half_len: f32, half_width: f32) -> bool {
        self.movers.iter().all(|m| {
            (m.s - s).abs() > m.half_len + half_len
                || (m.d - d).abs() > m.half_width + half_width + 0.2
        })
    }

    /// New vehicles enter at the ends of what is seen.
    pub(super) fn refill(&mut self, dice: &mut Dice) {
        let camera_s = self.movers[0].s;
        for m in &mut self.movers {
            let gone = m.s < camera_s - BEHIND_M - 40.0 || m.s > camera_s + AHEAD_M + 60.0;
            if gone && matches!(m.role, Role::Drives { .. }) {
                m.here = false;
                m.s = -9e3;
            }
        }
        if self.is_full() {
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

    /// Some of those in the outermost lane leave by the side street that comes next.
    pub(super) fn choose_turn(&self, dice: &mut Dice, m: &mut Mover) {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::road::Road;
    use crate::world::{Region, WorldConfig};

    #[test]
    fn a_drive_of_an_hour_has_no_more_agents_than_there_may_be() {
        for region in [Region::Us, Region::India] {
            let config = WorldConfig {
                fps: 1.0,
                frames: 3600,
                ..WorldConfig::of(region)
            };
            let road = Road::new(&config, 5, 1e5);
            let mut simulation = Simulation::new(&config, &road, 5);
            simulation.populate(&mut Dice::new(5, 1), 15.0);
            let agents = simulation.movers.len();
            assert_eq!(agents, MOST_AGENTS, "{region:?}");
        }
    }
}
