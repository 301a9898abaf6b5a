//! Tractors, and carts that are pushed or drawn.

use alloc::vec;

use super::beasts::Beast;
use super::{Model, RUBBER, Shape, Workshop, append, srgb};
use crate::world::math::Rgb;
use crate::world::mesh::{Cover, Mesh};
use crate::world::random::Dice;
use crate::world::skins::{self, LOUD};
use crate::world::texture::Kind;

impl Workshop<'_> {
    pub(super) fn tractor(&mut self, dice: &mut Dice) -> Model {
        let mut mesh = Mesh::default();
        let paint = srgb(dice.pick(&[
            [0.70, 0.10, 0.08],
            [0.12, 0.30, 0.60],
            [0.15, 0.45, 0.20],
            [0.85, 0.45, 0.08],
        ]));
        let body = self.plain(paint, Kind::Paint);
        let dark = self.plain([0.02; 3], Kind::Matte);
        let (hub, tyre) = (
            Cover::texture(self.common.hubs[1]),
            self.plain(RUBBER, Kind::Matte),
        );
        for side in [-1.0_f32, 1.0] {
            mesh.wheel(
                [side * 0.72, 0.72, 0.2],
                0.72,
                0.18,
                0.0,
                hub,
                tyre,
                self.textures,
            );
            mesh.wheel(
                [side * 0.6, 0.40, 2.0],
                0.40,
                0.10,
                0.0,
                hub,
                tyre,
                self.textures,
            );
            mesh.block(
                [side * 0.72 - 0.2, 1.40, -0.3],
                [side * 0.72 + 0.2, 1.48, 0.8],
                [1.0, 1.0],
                body,
                body,
                self.textures,
            );
        }
        mesh.block(
            [-0.32, 0.7, 0.9],
            [0.32, 1.4, 2.4],
            [1.0, 1.0],
            body,
            body,
            self.textures,
        );
        mesh.block(
            [-0.45, 0.6, -0.1],
            [0.45, 0.95, 1.0],
            [1.0, 1.0],
            dark,
            dark,
            self.textures,
        );
        mesh.limb(
            [0.2, 1.4, 1.7],
            [0.2, 2.1, 1.7],
            [0.04, 0.04],
            5,
            dark,
            self.textures,
        );
        let driver = self.figure(dice, true);
        self.rider(
            &mut mesh,
            &driver,
            [0.0, 1.2, 0.2],
            0.1,
            [0.22, 1.45, 0.75],
            [0.25, 0.9, 0.8],
        );
        if dice.chance(0.75) {
            // A trailer with high sides and whatever is on it.
            let side = skins::wall(dice, self.noise);
            let side = Cover::texture(self.push(side));
            let high = dice.range(1.5, 1.9);
            mesh.block(
                [-1.0, 0.75, -4.2],
                [1.0, high, -1.0],
                [0.4, 0.6],
                side,
                dark,
                self.textures,
            );
            let load = self.plain(
                srgb(dice.pick(&[
                    [0.62, 0.52, 0.28],
                    [0.40, 0.36, 0.30],
                    [0.5, 0.24, 0.16],
                    [0.35, 0.42, 0.2],
                ])),
                Kind::Matte,
            );
            let bulge = dice.range(0.2, 1.1);
            mesh.ball(
                [0.0, high - 0.05, -2.6],
                [1.1, bulge, 1.7],
                6,
                10,
                load,
                self.textures,
            );
            for side in [-1.0_f32, 1.0] {
                mesh.wheel(
                    [side * 0.85, 0.45, -2.9],
                    0.45,
                    0.12,
                    0.0,
                    hub,
                    tyre,
                    self.textures,
                );
            }
        }
        Model {
            half_width_m: 1.05,
            half_length_m: 3.2,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }

    pub(super) fn cart(&mut self, dice: &mut Dice) -> Model {
        let mut mesh = Mesh::default();
        let wood = self.plain(srgb([0.36, 0.26, 0.18]), Kind::Matte);
        let (hub, tyre) = (
            Cover::texture(self.common.spokes),
            self.plain(RUBBER, Kind::Matte),
        );
        let pushed = dice.chance(0.6);
        let (half, high) = (dice.range(0.5, 0.85), dice.range(0.75, 0.95));
        for side in [-1.0_f32, 1.0] {
            for z in if pushed { [-0.6, 0.6] } else { [-0.1, 0.1] } {
                mesh.wheel(
                    [side * half, 0.36, z],
                    0.36,
                    0.025,
                    0.0,
                    hub,
                    tyre,
                    self.textures,
                );
            }
        }
        mesh.block(
            [-half - 0.05, high - 0.06, -1.0],
            [half + 0.05, high, 1.0],
            [1.0, 1.0],
            wood,
            wood,
            self.textures,
        );
        let goods: Rgb = dice.pick(&LOUD);
        let load = self.plain(srgb(goods), Kind::Matte);
        for k in 0..4 {
            let z = -0.75 + 0.5 * k as f32;
            let other = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            mesh.ball(
                [0.0, high, z],
                [half * 0.85, dice.range(0.12, 0.4), 0.27],
                4,
                7,
                if k % 2 == 0 { load } else { other },
                self.textures,
            );
        }
        if dice.chance(0.4) {
            let cover = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            for (x, z) in [(-half, -0.9), (half, -0.9), (-half, 0.9), (half, 0.9)] {
                mesh.limb(
                    [x, high, z],
                    [x, 2.0, z],
                    [0.02, 0.02],
                    4,
                    wood,
                    self.textures,
                );
            }
            mesh.block(
                [-half - 0.15, 1.98, -1.1],
                [half + 0.15, 2.1, 1.1],
                [1.0, 1.0],
                cover,
                cover,
                self.textures,
            );
        }
        let figure = self.figure(dice, false);
        let z = if pushed { -1.45 } else { 0.6 };
        let mut walker = Mesh::default();
        figure.pose(0.8, 0.5, self.common.plain, self.textures, &mut walker);
        append(
            &mut mesh,
            &walker,
            [0.0, if pushed { 0.0 } else { high - 0.3 }, z],
        );
        if !pushed {
            let beast = Beast {
                tall: 1.35,
                coat: srgb([0.72, 0.69, 0.63]),
                patch: srgb([0.6, 0.55, 0.5]),
                horns: true,
            };
            for x in if dice.chance(0.5) {
                vec![0.0]
            } else {
                vec![-0.42, 0.42]
            } {
                let mut ox = Mesh::default();
                beast.pose(0.7, self.common.plain, self.textures, &mut ox);
                append(&mut mesh, &ox, [x, 0.0, 2.3]);
            }
        }
        Model {
            half_width_m: half + 0.1,
            half_length_m: if pushed { 1.6 } else { 2.4 },
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }
}
