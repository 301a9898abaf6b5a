//! Motorcycles, scooters and bicycles with who sits on them.

use super::kinds::Make;
use super::{Model, RUBBER, STEEL, Shape, Workshop, srgb};
use crate::world::mesh::{Cover, LampSpot, Mesh};
use crate::world::random::Dice;
use crate::world::skins::LOUD;
use crate::world::texture::Kind;

impl Workshop<'_> {
    pub(super) fn two_wheeler(&mut self, make: Make, dice: &mut Dice) -> Model {
        let mut mesh = Mesh::default();
        let paint = srgb(if dice.chance(0.5) {
            dice.pick(&LOUD)
        } else {
            dice.pick(&[[0.05; 3], [0.1, 0.1, 0.12], [0.5; 3], [0.45, 0.04, 0.05]])
        });
        let (radius, base, tyre_half) = match make {
            Make::Scooter => (0.235, 0.62, 0.05),
            Make::Bicycle => (0.335, 0.52, 0.018),
            _ => (0.305, 0.66, 0.055),
        };
        let hub = if make == Make::Bicycle || dice.chance(0.3) {
            Cover::texture(self.common.spokes)
        } else {
            Cover::texture(self.common.hubs[dice.below(3)])
        };
        let tyre = self.plain(RUBBER, Kind::Matte);
        for z in [-base, base] {
            mesh.wheel(
                [0.0, radius, z],
                radius,
                tyre_half,
                0.0,
                hub,
                tyre,
                self.textures,
            );
        }
        let body = self.plain(paint, Kind::Paint);
        let steel = self.plain(STEEL, Kind::Chrome);
        let dark = self.plain([0.02; 3], Kind::Matte);
        let seat_y = match make {
            Make::Scooter => 0.76,
            Make::Bicycle => 0.88,
            _ => 0.78,
        };
        let bar_y = seat_y + 0.22;
        let bar_z = base - 0.20;
        mesh.limb(
            [0.0, radius, base],
            [0.0, bar_y, bar_z],
            [0.035, 0.03],
            5,
            steel,
            self.textures,
        );
        mesh.limb(
            [-0.34, bar_y, bar_z - 0.03],
            [0.34, bar_y, bar_z - 0.03],
            [0.018, 0.018],
            4,
            steel,
            self.textures,
        );
        match make {
            Make::Bicycle => {
                for (a, b) in [
                    ([0.0, radius, -base], [0.0, seat_y - 0.06, -0.18]),
                    ([0.0, 0.30, -0.05], [0.0, seat_y - 0.06, -0.18]),
                    ([0.0, 0.30, -0.05], [0.0, bar_y - 0.2, bar_z + 0.05]),
                    (
                        [0.0, seat_y - 0.12, -0.16],
                        [0.0, bar_y - 0.1, bar_z + 0.02],
                    ),
                    ([0.0, radius, -base], [0.0, 0.30, -0.05]),
                ] {
                    mesh.limb(a, b, [0.022, 0.022], 4, body, self.textures);
                }
                mesh.block(
                    [-0.07, seat_y - 0.05, -0.34],
                    [0.07, seat_y, -0.10],
                    [1.0, 1.0],
                    dark,
                    dark,
                    self.textures,
                );
            }
            Make::Scooter => {
                mesh.block(
                    [-0.20, 0.28, bar_z - 0.02],
                    [0.20, bar_y - 0.06, bar_z + 0.10],
                    [1.0, 1.0],
                    body,
                    body,
                    self.textures,
                );
                mesh.block(
                    [-0.17, 0.26, -0.12],
                    [0.17, 0.33, bar_z],
                    [1.0, 1.0],
                    dark,
                    dark,
                    self.textures,
                );
                mesh.ball(
                    [0.0, 0.52, -base + 0.15],
                    [0.20, 0.24, 0.52],
                    5,
                    8,
                    body,
                    self.textures,
                );
                mesh.block(
                    [-0.14, seat_y - 0.06, -base - 0.05],
                    [0.14, seat_y, 0.05],
                    [1.0, 1.0],
                    dark,
                    dark,
                    self.textures,
                );
            }
            _ => {
                mesh.ball(
                    [0.0, seat_y + 0.02, 0.14],
                    [0.15, 0.13, 0.30],
                    5,
                    7,
                    body,
                    self.textures,
                );
                mesh.ball(
                    [0.0, 0.40, 0.05],
                    [0.16, 0.20, 0.26],
                    4,
                    6,
                    steel,
                    self.textures,
                );
                mesh.block(
                    [-0.12, seat_y - 0.08, -0.72],
                    [0.12, seat_y, -0.05],
                    [1.0, 1.0],
                    dark,
                    dark,
                    self.textures,
                );
                mesh.limb(
                    [0.13, 0.30, 0.1],
                    [0.14, 0.34, -base - 0.1],
                    [0.04, 0.05],
                    5,
                    steel,
                    self.textures,
                );
                mesh.limb(
                    [0.0, 0.42, -0.2],
                    [0.0, radius, -base],
                    [0.05, 0.04],
                    4,
                    dark,
                    self.textures,
                );
                mesh.block(
                    [-0.07, radius + 0.15, -base - 0.30],
                    [0.07, radius + 0.36, -base - 0.22],
                    [1.0, 1.0],
                    body,
                    body,
                    self.textures,
                );
            }
        }
        if make != Make::Bicycle {
            let tail = self.plain([0.30, 0.01, 0.01], Kind::Tail);
            let (low, high) = (seat_y - 0.16, seat_y - 0.07);
            mesh.block(
                [-0.09, low, -base - 0.14],
                [0.09, high, -base - 0.06],
                [1.0, 1.0],
                tail,
                tail,
                self.textures,
            );
            let plate = self.plain([0.7, 0.7, 0.66], Kind::Retro);
            mesh.block(
                [-0.10, low - 0.20, -base - 0.30],
                [0.10, low - 0.08, -base - 0.28],
                [1.0, 1.0],
                plate,
                plate,
                self.textures,
            );
            let lamp = self.plain([0.7; 3], Kind::Head);
            mesh.ball(
                [0.0, bar_y - 0.08, bar_z + 0.16],
                [0.09, 0.09, 0.07],
                4,
                6,
                lamp,
                self.textures,
            );
            mesh.lamps.push(LampSpot {
                at: [0.0, bar_y - 0.08, bar_z + 0.25],
                kind: Kind::Head,
            });
            mesh.lamps.push(LampSpot {
                at: [0.0, low + 0.04, -base - 0.16],
                kind: Kind::Tail,
            });
            for side in [-1.0_f32, 1.0] {
                mesh.limb(
                    [side * 0.2, bar_y, bar_z],
                    [side * 0.26, bar_y + 0.16, bar_z],
                    [0.008, 0.008],
                    3,
                    dark,
                    self.textures,
                );
                mesh.ball(
                    [side * 0.27, bar_y + 0.18, bar_z],
                    [0.06, 0.04, 0.015],
                    3,
                    5,
                    dark,
                    self.textures,
                );
            }
        }
        let figure = self.figure(dice, true);
        let front_seat = if make == Make::Bicycle { -0.22 } else { -0.12 };
        let lean = dice.range(0.02, 0.22) + if make == Make::Bicycle { 0.2 } else { 0.0 };
        let feet = match make {
            Make::Scooter => [0.14, 0.36, 0.22],
            Make::Bicycle => [0.10, 0.28, 0.0],
            _ => [0.19, 0.34, 0.02],
        };
        self.rider(
            &mut mesh,
            &figure,
            [0.0, seat_y + 0.08, front_seat],
            lean,
            [0.32, bar_y + 0.02, bar_z - 0.05],
            feet,
        );
        if make != Make::Bicycle && dice.chance(self.place.pillion_share) {
            let second = self.figure(dice, true);
            self.rider(
                &mut mesh,
                &second,
                [0.0, seat_y + 0.10, front_seat - 0.38],
                0.03,
                [0.18, seat_y + 0.25, front_seat - 0.12],
                [0.19, 0.36, -0.25],
            );
        } else if self.place.keeps_left && dice.chance(0.2) {
            let load = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            let w = dice.range(0.2, 0.5);
            mesh.block(
                [-w, seat_y, -base - 0.2],
                [w, seat_y + dice.range(0.25, 0.7), -0.36],
                [1.0, 1.0],
                load,
                load,
                self.textures,
            );
        }
        Model {
            half_width_m: 0.36,
            half_length_m: base + radius,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }
}
