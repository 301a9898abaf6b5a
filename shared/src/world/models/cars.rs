//! Cars, vans and pickups, and the colours that they are sold in.

use alloc::vec;
use alloc::vec::Vec;

use super::kinds::Make;
use super::{Model, STEEL, Shape, Workshop, srgb};
use crate::world::math::{Rgb, scale};
use crate::world::mesh::{Mesh, Station};
use crate::world::random::Dice;
use crate::world::skins::{LOUD, Livery};
use crate::world::texture::Kind;

impl Workshop<'_> {
    pub(super) fn paint(&self, dice: &mut Dice) -> Rgb {
        let tone = dice.range(0.9, 1.1);
        let loud = dice.chance(if self.place.keeps_left { 0.20 } else { 0.16 });
        let c: Rgb = if loud {
            dice.pick(&[
                [0.60, 0.07, 0.08],
                [0.72, 0.12, 0.08],
                [0.10, 0.20, 0.45],
                [0.16, 0.36, 0.62],
                [0.12, 0.30, 0.22],
                [0.80, 0.55, 0.10],
                [0.42, 0.26, 0.16],
                [0.62, 0.55, 0.40],
                [0.36, 0.08, 0.14],
                [0.80, 0.34, 0.08],
                [0.20, 0.46, 0.50],
            ])
        } else {
            dice.pick(&[
                [0.86, 0.86, 0.85],
                [0.88, 0.88, 0.86],
                [0.80, 0.80, 0.79],
                [0.62, 0.63, 0.64],
                [0.54, 0.55, 0.56],
                [0.36, 0.37, 0.38],
                [0.26, 0.27, 0.29],
                [0.08, 0.08, 0.09],
                [0.05, 0.05, 0.06],
                [0.13, 0.15, 0.20],
                [0.48, 0.46, 0.42],
                [0.70, 0.69, 0.65],
            ])
        };
        [
            c[0] * tone * dice.range(0.96, 1.04),
            c[1] * tone,
            c[2] * tone * dice.range(0.96, 1.04),
        ]
    }

    pub(super) fn car(&mut self, make: Make, dice: &mut Dice) -> Model {
        let small = self.place.keeps_left;
        let stretch = dice.range(0.93, 1.07) * if small { 0.93 } else { 1.03 };
        let (len, tall, half) = match make {
            Make::Sedan => (4.6 * stretch, dice.range(1.40, 1.50), 0.89),
            Make::Hatchback => (3.8 * stretch, dice.range(1.44, 1.62), 0.84),
            Make::Suv => (4.55 * stretch, dice.range(1.62, 1.90), 0.94),
            Make::Pickup => (5.5 * stretch, dice.range(1.72, 1.95), 0.99),
            _ => (4.7 * stretch, dice.range(1.85, 2.35), 0.95),
        };
        let half = half * dice.range(0.95, 1.04);
        let ground = match make {
            Make::Sedan | Make::Hatchback => 0.24,
            _ => 0.32,
        };
        let wheel = match make {
            Make::Sedan => 0.32,
            Make::Hatchback => 0.29,
            Make::Pickup => 0.40,
            _ => 0.36,
        } * dice.range(0.95, 1.06);
        let belt = ground + (tall - ground) * dice.range(0.56, 0.62);
        let (r, f) = (-len / 2.0, len / 2.0);
        let bonnet = belt - dice.range(0.06, 0.16);
        let roof_half = half * dice.range(0.74, 0.82);
        let st = |z: f32, y_low: f32, y_belt: f32, y_top: f32, w: f32, top_w: f32| Station {
            z,
            y_low,
            y_belt,
            y_top,
            half_low: half * w * 0.96,
            half_belt: half * w,
            half_top: top_w,
        };
        // Shares of the length at which the screen begins and ends, roof follows.
        let (screen, roof_front) = match make {
            Make::Sedan => (dice.range(0.66, 0.71), 0.0),
            Make::Hatchback => (dice.range(0.72, 0.77), 0.0),
            Make::Suv => (dice.range(0.70, 0.75), 0.0),
            Make::Pickup => (dice.range(0.70, 0.74), 0.0),
            _ => (dice.range(0.84, 0.93), 0.0),
        };
        let slope = match make {
            Make::Van => dice.range(0.07, 0.11),
            Make::Suv | Make::Pickup => dice.range(0.10, 0.14),
            _ => dice.range(0.13, 0.17),
        };
        let at = |share: f32| r + len * share;
        let screen_z = at(screen);
        let roof_z = at(screen - slope + roof_front);
        let mut top_glass = [[roof_z + 0.05, screen_z - 0.02], [0.0, 0.0]];
        let windows;
        let pillars;
        let mut stations = Vec::new();
        let mut rear_window = false;
        match make {
            Make::Sedan => {
                let boot = belt + dice.range(-0.02, 0.06);
                let (rear_roof, rear_glass) =
                    (at(dice.range(0.27, 0.31)), at(dice.range(0.13, 0.17)));
                stations.push(st(
                    r,
                    ground + 0.12,
                    boot - 0.16,
                    boot - 0.14,
                    0.86,
                    half * 0.84,
                ));
                stations.push(st(
                    r + 0.09,
                    ground + 0.02,
                    boot - 0.03,
                    boot,
                    0.93,
                    half * 0.86,
                ));
                stations.push(st(rear_glass, ground, belt, boot + 0.02, 1.0, half * 0.88));
                stations.push(st(rear_roof, ground, belt, tall - 0.03, 1.0, roof_half));
                stations.push(st(at(0.42), ground, belt, tall, 1.0, roof_half));
                stations.push(st(roof_z, ground, belt - 0.01, tall - 0.04, 1.0, roof_half));
                top_glass[1] = [rear_glass + 0.05, rear_roof - 0.04];
                windows = [rear_glass + 0.32, screen_z - 0.28];
                pillars = vec![at(0.46)];
            }
            Make::Pickup => {
                let cab = at(0.40);
                let bed = belt + 0.02;
                stations.push(st(r, ground + 0.16, bed - 0.03, bed, 0.95, half * 0.93));
                stations.push(st(
                    r + 0.05,
                    ground + 0.10,
                    bed - 0.02,
                    bed,
                    0.98,
                    half * 0.95,
                ));
                stations.push(st(
                    cab - 0.04,
                    ground + 0.06,
                    bed,
                    bed + 0.01,
                    1.0,
                    half * 0.96,
                ));
                stations.push(st(cab, ground + 0.06, belt, tall - 0.02, 1.0, roof_half));
                stations.push(st(at(0.5), ground + 0.06, belt, tall, 1.0, roof_half));
                stations.push(st(roof_z, ground + 0.06, belt, tall - 0.04, 1.0, roof_half));
                windows = [cab + 0.1, screen_z - 0.25];
                pillars = vec![at(0.54)];
                top_glass[1] = [r - 2.0, r - 1.0];
            }
            _ => {
                rear_window = true;
                let lean = match make {
                    Make::Van => 0.05,
                    Make::Suv => dice.range(0.10, 0.40),
                    _ => dice.range(0.15, 0.50),
                };
                stations.push(st(
                    r,
                    ground + 0.12,
                    belt - 0.10,
                    belt - 0.06,
                    0.90,
                    half * 0.86,
                ));
                stations.push(st(
                    r + 0.06,
                    ground + 0.03,
                    belt,
                    belt + 0.02,
                    0.95,
                    half * 0.88,
                ));
                stations.push(st(
                    r + 0.06 + lean,
                    ground,
                    belt,
                    tall - 0.06,
                    1.0,
                    roof_half * 0.97,
                ));
                stations.push(st(r + 0.45 + lean, ground, belt, tall, 1.0, roof_half));
                stations.push(st(roof_z, ground, belt - 0.01, tall - 0.03, 1.0, roof_half));
                windows = [
                    r + 0.25 + lean * 0.8,
                    screen_z - if make == Make::Van { 0.1 } else { 0.25 },
                ];
                pillars = vec![at(0.50), at(0.24)];
                top_glass[1] = [r - 2.0, r - 1.0];
            }
        }
        stations.push(st(
            screen_z,
            ground,
            belt - 0.01,
            belt + 0.015,
            0.99,
            half * 0.90,
        ));
        let nose = bonnet - dice.range(0.04, 0.14);
        stations.push(st(
            f - 0.35,
            ground,
            bonnet,
            bonnet + 0.01,
            0.97,
            half * 0.86,
        ));
        stations.push(st(
            f - 0.07,
            ground + 0.02,
            nose,
            nose + 0.01,
            0.90,
            half * 0.78,
        ));
        stations.push(st(
            f,
            ground + 0.10,
            nose - 0.14,
            nose - 0.13,
            0.82,
            half * 0.72,
        ));
        let paint = self.paint(dice);
        let taxi = dice.chance(0.08);
        let paint = match (taxi, small) {
            (true, true) => dice.pick(&[[0.88, 0.72, 0.12], [0.88, 0.88, 0.86]]),
            (true, false) => [0.90, 0.68, 0.06],
            _ => paint,
        };
        let wheels = vec![
            (r + len * 0.19, wheel),
            (f - len * dice.range(0.17, 0.20), wheel),
        ];
        let mut work = self.coachwork(dice, paint, stations);
        work.windows = windows;
        work.pillars = pillars;
        work.wheels.clone_from(&wheels);
        work.rear_window = rear_window;
        work.front_window = make == Make::Van;
        work.top_glass = top_glass;
        let commercial = taxi || (make == Make::Van && dice.chance(0.6));
        work.plate = self.plate(dice, commercial);
        work.rails = matches!(make, Make::Suv | Make::Van) && dice.chance(0.6);
        let two_tone = matches!(make, Make::Suv | Make::Pickup | Make::Van) && dice.chance(0.3);
        if two_tone {
            work.lower = scale(paint, 0.25);
        }
        if make == Make::Van && dice.chance(0.35) {
            let base = if dice.chance(0.7) {
                [0.86, 0.86, 0.84]
            } else {
                paint
            };
            work.livery = Some(Livery::new(dice, base));
            work.paint = base;
        }
        let mut mesh = Mesh::default();
        self.coach(&mut mesh, &work);
        self.wheels(&mut mesh, dice, &wheels, half * 0.99, 0.10, false);
        // Mirrors, and now and then a load on the roof.
        let shell = self.plain(srgb(scale(paint, 0.8)), Kind::Paint);
        for side in [-1.0_f32, 1.0] {
            let x = side * (half + 0.06);
            mesh.block(
                [x - 0.09, belt - 0.02, screen_z - 0.42],
                [x + 0.09, belt + 0.12, screen_z - 0.32],
                [1.0, 1.0],
                shell,
                shell,
                self.textures,
            );
        }
        if dice.chance(if small { 0.14 } else { 0.08 }) && make != Make::Pickup {
            let steel = self.plain(STEEL, Kind::Matte);
            for z in [roof_z - 0.3, roof_z - 1.2] {
                mesh.block(
                    [-roof_half, tall, z],
                    [roof_half, tall + 0.07, z + 0.06],
                    [1.0, 1.0],
                    steel,
                    steel,
                    self.textures,
                );
            }
            if dice.chance(0.7) {
                let load = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
                let w = roof_half * dice.range(0.4, 0.9);
                mesh.block(
                    [-w, tall + 0.05, roof_z - 1.3],
                    [w, tall + dice.range(0.2, 0.55), roof_z - 0.2],
                    [1.0, 1.0],
                    load,
                    load,
                    self.textures,
                );
            }
        }
        if taxi && !small {
            let sign = self.plain([0.8, 0.75, 0.5], Kind::Lamp);
            mesh.block(
                [-0.25, tall, roof_z - 0.7],
                [0.25, tall + 0.16, roof_z - 0.55],
                [1.0, 1.0],
                sign,
                sign,
                self.textures,
            );
        }
        if make == Make::Pickup && dice.chance(0.6) {
            // Sides of the bed hide its floor; the load shows above.
            let load = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            let high = belt + dice.range(0.05, 0.5);
            mesh.block(
                [-half * 0.7, belt - 0.2, r + 0.2],
                [half * 0.7, high, r + len * 0.36],
                [1.0, 1.0],
                load,
                load,
                self.textures,
            );
        }
        Self::lamps(&mut mesh, r, f, half * 0.78, belt - 0.15, nose - 0.06);
        Model {
            half_width_m: half + 0.05,
            half_length_m: len / 2.0,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }
}
