//! What a stage direction may do to the traffic: see `stage`.

use super::{Role, Simulation};
use crate::world::models::Make;
use crate::world::random::{Dice, hash};
use crate::world::road::Road;

/// What a stage direction may do: see [`crate::world::stage`].
pub(in crate::world) struct StageHand<'s, 'a> {
    pub(super) simulation: &'s mut Simulation<'a>,
}

impl StageHand<'_, '_> {
    pub(in crate::world) fn seed(&self) -> u64 {
        self.simulation.seed
    }

    /// Seconds of the sequence.
    pub(in crate::world) fn duration_s(&self) -> f32 {
        self.simulation.config.frames as f32 / self.simulation.config.fps
    }

    pub(in crate::world) fn road(&self) -> &Road {
        self.simulation.road
    }

    /// Everybody else leaves the given stretch, and the camera stands still or creeps.
    pub(in crate::world) fn clear(
        &mut self,
        from_m: f32,
        to_m: f32,
        reach_d_m: f32,
        camera_speed_m_s: f32,
    ) {
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
    pub(in crate::world) fn bus_length_m(&self, agent: usize) -> f32 {
        super::super::models::bus_length_m(self.simulation.movers[agent].seed)
    }

    /// Starts somebody who has entered from another place sideways.
    pub(in crate::world) fn send(&mut self, agent: usize, d: f32, speed: f32) {
        let m = &mut self.simulation.movers[agent];
        m.d = d;
        m.speed = speed;
    }

    pub(in crate::world) fn camera_d(&self) -> f32 {
        self.simulation.movers[0].d
    }

    /// Somebody on a straight line at a steady speed; its number among the agents.
    pub(in crate::world) fn enter(
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
