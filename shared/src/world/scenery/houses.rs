//! Houses and towers.

use super::Builder;
use crate::world::mesh::{Cover, Mesh};
use crate::world::random::Dice;
use crate::world::skins::LOUD;
use crate::world::texture::Kind;

impl Builder<'_> {
    pub(super) fn house(
        &mut self,
        dice: &mut Dice,
        facades: &[u32],
        shops: &[u32],
        shop: bool,
        indian: bool,
        size: [f32; 3],
    ) -> Mesh {
        let [deep, wide, tall] = size;
        let mut mesh = Mesh::default();
        let tint = [dice.range(0.8, 1.15); 3];
        let front = Cover {
            texture: dice.pick(facades),
            tint: [
                tint[0] * dice.range(0.93, 1.07),
                tint[1],
                tint[2] * dice.range(0.93, 1.07),
            ],
            kind: None,
        };
        let roof = self.plain([0.38, 0.36, 0.34], Kind::Matte);
        let base = if shop { 3.2 } else { 0.0 };
        // Two bays of about 3.2 m and two floors of 3.1 m a repeat.
        let repeat = [1.0 / dice.range(5.2, 7.2), 1.0 / dice.range(5.8, 6.8)];
        if tall > base + 0.5 {
            let setback = if shop && dice.chance(0.3) { 0.6 } else { 0.0 };
            mesh.block(
                [setback, base, -wide / 2.0],
                [deep, tall, wide / 2.0],
                repeat,
                front,
                roof,
                self.textures,
            );
        }
        if shop {
            let cover = Cover::texture(dice.pick(shops));
            mesh.block(
                [0.0, 0.0, -wide / 2.0],
                [deep, base, wide / 2.0],
                [1.0 / dice.range(8.0, 11.0), 1.0 / base],
                cover,
                roof,
                self.textures,
            );
            if dice.chance(0.6) {
                let awning = self.plain(dice.pick(&LOUD), Kind::Matte);
                let (y, out) = (2.2, dice.range(0.8, 1.6));
                mesh.sheet(
                    [
                        [-out, y, -wide * 0.45],
                        [-out, y, wide * 0.45],
                        [0.0, y + 0.55, wide * 0.45],
                        [0.0, y + 0.55, -wide * 0.45],
                    ],
                    [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]],
                    [-0.3, 1.0, 0.0],
                    awning,
                    self.textures,
                );
            }
            if indian || dice.chance(0.3) {
                for _ in 0..2 + dice.below(3) {
                    // Boards that stand out from the wall.
                    let board = Cover::texture(dice.pick(shops));
                    let (z, y) = (
                        dice.range(-wide * 0.45, wide * 0.45),
                        dice.range(3.0, (tall - 1.0).max(3.6)),
                    );
                    let h = dice.range(0.6, 1.8);
                    let plain = self.plain(dice.pick(&LOUD), Kind::Matte);
                    mesh.block(
                        [-dice.range(0.5, 1.1), y, z],
                        [0.0, y + h, z + 0.12],
                        [0.9, 0.5],
                        if dice.chance(0.5) { board } else { plain },
                        roof,
                        self.textures,
                    );
                }
            }
        } else if !indian && tall < 8.0 && dice.chance(0.75) {
            // A pitched roof.
            let tiles = self.plain(
                dice.pick(&[
                    [0.30, 0.24, 0.22],
                    [0.36, 0.30, 0.27],
                    [0.25, 0.26, 0.28],
                    [0.42, 0.25, 0.19],
                ]),
                Kind::Matte,
            );
            let (z0, z1, over) = (-wide / 2.0 - 0.4, wide / 2.0 + 0.4, -0.4);
            let rise = deep.min(wide) * dice.range(0.2, 0.4);
            let uv = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
            let ridge = deep / 2.0;
            mesh.flat(
                [
                    [over, tall, z0],
                    [over, tall, z1],
                    [ridge, tall + rise, z1],
                    [ridge, tall + rise, z0],
                ],
                uv,
                [-0.6, 1.0, 0.0],
                tiles,
                self.textures,
            );
            mesh.flat(
                [
                    [deep, tall, z0],
                    [deep, tall, z1],
                    [ridge, tall + rise, z1],
                    [ridge, tall + rise, z0],
                ],
                uv,
                [0.6, 1.0, 0.0],
                tiles,
                self.textures,
            );
            for (z, out) in [(z0 + 0.4, -1.0), (z1 - 0.4, 1.0)] {
                mesh.flat(
                    [
                        [0.0, tall, z],
                        [ridge, tall + rise, z],
                        [deep, tall, z],
                        [ridge, tall, z],
                    ],
                    uv,
                    [0.0, 0.0, out],
                    front,
                    self.textures,
                );
            }
        }
        if tall > 5.0 && dice.chance(if indian { 0.8 } else { 0.4 }) {
            for _ in 0..1 + dice.below(3) {
                let tank = self.plain(
                    dice.pick(&[[0.06; 3], [0.8, 0.8, 0.78], [0.5, 0.5, 0.5]]),
                    Kind::Matte,
                );
                let (x, z) = (
                    dice.range(0.8, deep - 0.8),
                    dice.range(-wide * 0.4, wide * 0.4),
                );
                mesh.limb(
                    [x, tall, z],
                    [x, tall + 1.4, z],
                    [0.55, 0.55],
                    8,
                    tank,
                    self.textures,
                );
            }
        }
        mesh
    }
}
