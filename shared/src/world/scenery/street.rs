//! Lamps, stalls, bridges and the screen of a stage.

use alloc::vec::Vec;

use super::{Builder, Prop, srgb};
use crate::world::math::{V3, add, cos, scale, sin, turned};
use crate::world::mesh::{Cover, LampSpot, Mesh};
use crate::world::models::Common;
use crate::world::random::{Dice, Noise};
use crate::world::road::Road;
use crate::world::skins::{self, LOUD};
use crate::world::stage::{SCREEN_AHEAD_M, SCREEN_HALF_M};
use crate::world::texture::{Kind, Texture};

impl Builder<'_> {
    pub(super) fn pole_lamp(&mut self, dice: &mut Dice) -> Mesh {
        let mut mesh = Mesh::default();
        let steel = self.plain(
            dice.pick(&[[0.45, 0.46, 0.47], [0.30, 0.31, 0.32], [0.55, 0.52, 0.45]]),
            Kind::Matte,
        );
        let (tall, arm) = (dice.range(6.5, 9.5), dice.range(1.2, 2.6));
        mesh.limb(
            [0.0, 0.0, 0.0],
            [0.0, tall, 0.0],
            [0.10, 0.06],
            6,
            steel,
            self.textures,
        );
        mesh.limb(
            [0.0, tall - 0.1, 0.0],
            [-arm, tall + 0.35, 0.0],
            [0.05, 0.04],
            5,
            steel,
            self.textures,
        );
        let lamp = self.plain([0.85, 0.83, 0.75], Kind::Lamp);
        mesh.block(
            [-arm - 0.35, tall + 0.28, -0.12],
            [-arm + 0.25, tall + 0.40, 0.12],
            [1.0, 1.0],
            lamp,
            steel,
            self.textures,
        );
        mesh.lamps.push(LampSpot {
            at: [-arm, tall + 0.25, 0.0],
            kind: Kind::Lamp,
        });
        mesh
    }

    pub(super) fn stall(&mut self, d: &mut Dice, s: f32, at: f32, concrete: Cover) {
        let mut m = Mesh::default();
        match d.below(5) {
            0 => {
                // A kiosk.
                let c = self.plain(d.pick(&LOUD), Kind::Matte);
                let dark = self.plain([0.10, 0.09, 0.08], Kind::Matte);
                m.block(
                    [-0.8, 0.0, -0.9],
                    [0.8, 1.0, 0.9],
                    [1.0, 1.0],
                    c,
                    dark,
                    self.textures,
                );
                m.block(
                    [-0.7, 1.0, -0.8],
                    [0.8, 1.9, 0.8],
                    [1.0, 1.0],
                    dark,
                    dark,
                    self.textures,
                );
                m.block(
                    [-1.2, 1.9, -1.1],
                    [0.9, 2.3, 1.1],
                    [1.0, 1.0],
                    c,
                    c,
                    self.textures,
                );
            }
            1 => {
                // An umbrella over a table.
                let c = self.plain(d.pick(&LOUD), Kind::Matte);
                let wood = self.plain([0.40, 0.30, 0.20], Kind::Matte);
                m.limb(
                    [0.0, 0.0, 0.0],
                    [0.0, 2.2, 0.0],
                    [0.03, 0.03],
                    4,
                    wood,
                    self.textures,
                );
                m.limb(
                    [0.0, 1.8, 0.0],
                    [0.0, 2.3, 0.0],
                    [1.3, 0.03],
                    8,
                    c,
                    self.textures,
                );
                m.block(
                    [-0.6, 0.65, -0.9],
                    [0.6, 0.75, 0.9],
                    [1.0, 1.0],
                    wood,
                    wood,
                    self.textures,
                );
                let goods = self.plain(d.pick(&LOUD), Kind::Matte);
                m.ball(
                    [0.0, 0.78, 0.0],
                    [0.5, 0.25, 0.8],
                    4,
                    7,
                    goods,
                    self.textures,
                );
            }
            2 => {
                // Sand, rubble or bricks.
                let c = self.plain(
                    d.pick(&[
                        [0.62, 0.54, 0.42],
                        [0.45, 0.42, 0.38],
                        [0.55, 0.30, 0.22],
                        [0.35, 0.32, 0.28],
                    ]),
                    Kind::Matte,
                );
                m.ball(
                    [0.0, -0.1, 0.0],
                    [d.range(0.8, 1.8), d.range(0.5, 1.3), d.range(0.8, 2.2)],
                    5,
                    9,
                    c,
                    self.textures,
                );
            }
            3 => {
                // Barrels and cones.
                for k in 0..3 {
                    let c = self.plain(
                        d.pick(&[[0.88, 0.35, 0.08], [0.85, 0.40, 0.10], [0.20, 0.35, 0.65]]),
                        Kind::Matte,
                    );
                    let z = k as f32 * 1.3 - 1.3;
                    m.limb(
                        [0.0, 0.0, z],
                        [0.0, 0.9, z],
                        [0.28, d.pick(&[0.06, 0.26])],
                        8,
                        c,
                        self.textures,
                    );
                }
            }
            _ => {
                m.block(
                    [-0.4, 0.0, -1.0],
                    [0.4, d.range(0.5, 1.1), 1.0],
                    [0.5, 0.5],
                    concrete,
                    concrete,
                    self.textures,
                );
            }
        }
        let m = self.mesh(m);
        self.put(m, s, at, 1.0, d.bell() * 0.3, true);
    }

    pub(super) fn bridge(&mut self, d: &mut Dice, index: usize, concrete: Cover) {
        let bridge = self.road.bridges[index];
        let middle = (bridge.from_m + bridge.to_m) / 2.0;
        let half_len = (bridge.to_m - bridge.from_m) / 2.0;
        let low = bridge.clearance_m;
        let reach = if bridge.tunnel {
            self.road.border_m() + 2.5
        } else {
            60.0
        };
        let mut m = Mesh::default();
        let pieces = (half_len / 6.0) as i32 + 1;
        let step = 2.0 * half_len / pieces as f32;
        for k in 0..pieces {
            let z = -half_len + step * k as f32;
            m.block(
                [-reach, low, z],
                [reach, low + 1.3, z + step],
                [0.25, 0.5],
                concrete,
                concrete,
                self.textures,
            );
        }
        if !bridge.tunnel {
            for z in [-half_len, half_len - 0.3] {
                m.block(
                    [-reach, low + 1.3, z],
                    [reach, low + 2.2, z + 0.3],
                    [0.25, 0.5],
                    concrete,
                    concrete,
                    self.textures,
                );
            }
        }
        let edge = self.road.border_m() + d.range(0.7, 2.0);
        if bridge.tunnel {
            for k in 0..pieces {
                let z = -half_len + step * k as f32;
                for x in [-edge - 1.0, edge] {
                    m.block(
                        [x, 0.0, z],
                        [x + 1.0, low, z + step],
                        [0.25, 0.4],
                        concrete,
                        concrete,
                        self.textures,
                    );
                }
                let lamp = self.plain([0.9, 0.85, 0.7], Kind::Lamp);
                for x in [-edge + 0.1, edge - 0.2] {
                    m.block(
                        [x, low - 0.8, z + 1.0],
                        [x + 0.1, low - 0.65, z + 2.4],
                        [1.0, 1.0],
                        lamp,
                        lamp,
                        self.textures,
                    );
                }
            }
            // The slope above the mouth.
            let earth = self.plain([0.34, 0.36, 0.22], Kind::Matte);
            m.block(
                [-40.0, low + 1.0, -half_len + 0.5],
                [40.0, low + 4.0, half_len],
                [0.2, 0.2],
                earth,
                earth,
                self.textures,
            );
            m.block(
                [-40.0, 0.0, -half_len + 0.5],
                [-edge - 1.0, low + 1.0, half_len],
                [0.2, 0.2],
                concrete,
                earth,
                self.textures,
            );
            m.block(
                [edge + 1.0, 0.0, -half_len + 0.5],
                [40.0, low + 1.0, half_len],
                [0.2, 0.2],
                concrete,
                earth,
                self.textures,
            );
        } else {
            let mut pillars = alloc::vec![-edge - 0.6, edge + 0.6, -edge - 14.0, edge + 14.0];
            if self.road.median_m > 1.5 {
                pillars.push(0.0);
            }
            for x in pillars {
                let r = d.range(0.45, 0.8);
                let mut z = -half_len + 1.5;
                while z < half_len {
                    m.limb([x, 0.0, z], [x, low, z], [r, r], 8, concrete, self.textures);
                    z += 9.0;
                }
            }
        }
        let m = self.mesh(m);
        self.put(m, middle, 0.01, 1.0, 0.0, true);
        self.block_caster(middle, 0.0, [reach, 1.0, half_len], low);
    }
}

/// The kiosk or pillar of [`super::super::stage::Act::BehindScreen`], ahead of the camera, and its place.
#[expect(
    clippy::too_many_arguments,
    reason = "what it is made from and where it stands"
)]
pub(in crate::world) fn screen(
    road: &Road,
    camera_s: f32,
    camera_d: f32,
    aside_m: f32,
    dice: &mut Dice,
    common: Common,
    textures: &mut Vec<Texture>,
    noise: &Noise,
) -> (Mesh, Prop) {
    let t = if dice.chance(0.5) {
        skins::concrete(noise)
    } else {
        skins::wall(dice, noise)
    };
    textures.push(t);
    let cover = Cover::texture(textures.len() as u32 - 1);
    let mut mesh = Mesh::default();
    let h = SCREEN_HALF_M;
    if dice.chance(0.5) {
        mesh.limb(
            [0.0, 0.0, 0.0],
            [0.0, 7.0, 0.0],
            [h, h],
            14,
            cover,
            textures,
        );
    } else {
        mesh.block(
            [-h, 0.0, -h * 0.3],
            [h, 4.2, h],
            [0.4, 0.4],
            cover,
            cover,
            textures,
        );
        let band = Cover::tinted(common.plain, srgb(dice.pick(&LOUD)), Kind::Matte);
        mesh.block(
            [-h - 0.02, 2.2, -h * 0.3 - 0.02],
            [h + 0.02, 2.8, h],
            [1.0, 1.0],
            band,
            band,
            textures,
        );
    }
    let place = road.place(camera_s + SCREEN_AHEAD_M, camera_d + aside_m);
    let mesh = mesh.finish();
    let prop = Prop {
        s: camera_s + SCREEN_AHEAD_M,
        at: place.at,
        heading: place.heading,
        size: 1.0,
        mesh: 0,
        casts: true,
    };
    (mesh, prop)
}

/// The lamps of a thing, in the world.
pub(in crate::world) fn lamps_of<'a>(
    prop: &'a Prop,
    mesh: &'a Mesh,
) -> impl Iterator<Item = V3> + 'a {
    let (s, c) = (sin(prop.heading), cos(prop.heading));
    mesh.lamps
        .iter()
        .map(move |lamp| add(prop.at, turned(scale(lamp.at, prop.size), s, c)))
}
