//! Buses and trucks.

use alloc::vec;

use super::kinds::Make;
use super::{MODEL_STREAM, Model, Shape, Workshop, srgb};
use crate::world::math::{V3, scale};
use crate::world::mesh::{Cover, Mesh, Station};
use crate::world::random::Dice;
use crate::world::skins::{self, LOUD, Livery};
use crate::world::texture::{Kind, Texture};

pub(super) const BUS_LENGTH_M: [f32; 2] = [8.5, 12.0];

/// How long the bus of this seed will be: the first thing its dice decide.
pub(in crate::world) fn bus_length_m(seed: u64) -> f32 {
    Dice::new(seed, MODEL_STREAM).within(BUS_LENGTH_M)
}

impl Workshop<'_> {
    pub(super) fn bus(&mut self, make: Make, dice: &mut Dice) -> Model {
        let school = make == Make::SchoolBus;
        let (len, tall, half) = (
            dice.within(BUS_LENGTH_M),
            dice.range(2.9, 3.3),
            dice.range(1.20, 1.28),
        );
        let (r, f) = (-len / 2.0, len / 2.0);
        let ground = 0.38;
        let belt = dice.range(1.35, 1.6);
        let st = |z: f32, y_low: f32, y_top: f32, w: f32| Station {
            z,
            y_low,
            y_belt: belt.min(y_top - 0.02),
            y_top,
            half_low: half * w,
            half_belt: half * w,
            half_top: half * w * 0.93,
        };
        let mut stations = vec![
            st(r, ground + 0.05, tall - 0.12, 0.96),
            st(r + 0.10, ground, tall - 0.02, 1.0),
            st(0.0, ground, tall, 1.0),
        ];
        let nose = school && !self.place.keeps_left;
        if nose {
            stations.push(st(f - 1.5, ground, tall - 0.03, 1.0));
            stations.push(st(f - 1.35, ground, tall - 0.25, 0.98));
            stations.push(st(f - 1.30, ground, belt - 0.02, 0.92));
            stations.push(st(f - 0.1, ground, belt - 0.22, 0.86));
            stations.push(st(f, ground + 0.1, belt - 0.4, 0.80));
        } else {
            stations.push(st(f - 0.25, ground, tall - 0.02, 1.0));
            stations.push(st(f - 0.08, ground, tall - 0.25, 0.98));
            stations.push(st(f, ground + 0.05, belt, 0.94));
        }
        let paint = if school {
            [0.90, 0.62, 0.05]
        } else {
            let loud = dice.pick(&LOUD);
            dice.pick(&[
                loud,
                [0.85, 0.85, 0.82],
                [0.70, 0.13, 0.10],
                [0.12, 0.32, 0.55],
            ])
        };
        let wheels = vec![
            (r + len * 0.27, 0.5),
            (f - if nose { 0.9 } else { len * 0.2 }, 0.5),
        ];
        let mut work = self.coachwork(dice, paint, stations);
        let end = if nose { f - 1.5 } else { f - 0.35 };
        work.windows = [r + 0.4, end];
        let bays = (len / dice.range(0.9, 1.7)) as usize;
        work.pillars = (1..bays.max(2))
            .map(|k| r + 0.4 + (end - r - 0.4) * k as f32 / bays as f32)
            .collect();
        work.window_inset_m = [0.05, dice.range(0.3, 0.55)];
        work.wheels.clone_from(&wheels);
        work.rear_window = dice.chance(0.75);
        work.front_window = true;
        work.top_glass = [[f + 1.0, f + 2.0], [r - 2.0, r - 1.0]];
        work.plate = self.plate(dice, true);
        if !school {
            work.livery = Some(Livery::new(dice, paint));
        }
        work.badge = false;
        let mut mesh = Mesh::default();
        self.coach(&mut mesh, &work);
        self.wheels(&mut mesh, dice, &wheels, half, 0.15, true);
        let dark = self.plain([0.02; 3], Kind::Matte);
        for side in [-1.0_f32, 1.0] {
            let x = side * (half + 0.14);
            mesh.block(
                [x - 0.1, belt + 0.1, end - 0.1],
                [x + 0.1, belt + 0.55, end],
                [1.0, 1.0],
                dark,
                dark,
                self.textures,
            );
        }
        if dice.chance(if self.place.keeps_left { 0.35 } else { 0.5 }) {
            let c = if self.place.keeps_left {
                srgb(dice.pick(&LOUD))
            } else {
                [0.4; 3]
            };
            let load = self.plain(c, Kind::Matte);
            let z = dice.range(r + 1.0, 0.0);
            mesh.block(
                [-half * 0.6, tall, z],
                [half * 0.6, tall + 0.3, z + 2.2],
                [1.0, 1.0],
                load,
                load,
                self.textures,
            );
        }
        Self::lamps(&mut mesh, r, f, half * 0.82, belt - 0.4, belt - 0.5);
        Model {
            half_width_m: half + 0.05,
            half_length_m: len / 2.0,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }

    pub(super) fn truck(&mut self, make: Make, dice: &mut Dice) -> Model {
        let indian = self.place.keeps_left;
        let decorated = make == Make::OpenTruck && dice.chance(self.place.decorated_share);
        let (len, half) = match make {
            Make::SemiTrailer => (dice.range(14.0, 17.5), 1.26),
            Make::BoxTruck => (dice.range(5.6, 8.5), dice.range(1.02, 1.22)),
            _ => (dice.range(6.0, 9.0), dice.range(1.10, 1.24)),
        };
        let (r, f) = (-len / 2.0, len / 2.0);
        let ground = 0.5;
        let cab_len = if make == Make::SemiTrailer && !indian {
            dice.range(4.2, 5.4)
        } else {
            dice.range(1.7, 2.1)
        };
        let nosed = make == Make::SemiTrailer && !indian && dice.chance(0.7);
        let cab_tall = match make {
            Make::SemiTrailer => dice.range(2.9, 3.6),
            Make::BoxTruck => dice.range(2.1, 2.5),
            _ => dice.range(2.4, 2.8),
        };
        let belt = dice.range(1.45, 1.7) * if make == Make::BoxTruck { 0.88 } else { 1.0 };
        let cab = f - cab_len;
        let st = |z: f32, y_low: f32, y_top: f32, w: f32| Station {
            z,
            y_low,
            y_belt: belt.min(y_top - 0.02),
            y_top,
            half_low: half * w * 0.97,
            half_belt: half * w * 0.97,
            half_top: half * w * 0.90,
        };
        let mut stations = vec![
            st(cab, ground, cab_tall - 0.05, 0.98),
            st(cab + 0.2, ground, cab_tall, 1.0),
        ];
        if nosed {
            stations.push(st(f - 2.0, ground, cab_tall - 0.15, 0.98));
            stations.push(st(f - 1.6, ground, belt + 0.03, 0.85));
            stations.push(st(f - 0.1, ground, belt - 0.15, 0.76));
            stations.push(st(f, ground, belt - 0.25, 0.74));
        } else {
            let lean = dice.range(0.05, 0.3);
            stations.push(st(f - 0.12 - lean, ground, cab_tall - 0.02, 1.0));
            stations.push(st(f - 0.06, ground - 0.1, belt + 0.04, 0.99));
            stations.push(st(f, ground - 0.08, belt - 0.1, 0.96));
        }
        let paint = if indian && make == Make::OpenTruck {
            dice.pick(&[
                [0.85, 0.45, 0.08],
                [0.78, 0.12, 0.10],
                [0.15, 0.35, 0.60],
                [0.88, 0.72, 0.12],
                [0.20, 0.45, 0.25],
                [0.55, 0.24, 0.12],
            ])
        } else {
            self.paint(dice)
        };
        let mut work = self.coachwork(dice, paint, stations);
        let window_front = if nosed { f - 1.9 } else { f - 0.25 };
        work.windows = [window_front - 0.9, window_front];
        work.window_inset_m = [0.05, 0.25];
        work.front_window = true;
        work.rear_window = false;
        work.top_glass = [[f + 1.0, f + 2.0], [r - 2.0, r - 1.0]];
        work.plate = self.plate(dice, true);
        work.badge = false;
        if decorated {
            work.decorated = Some(dice.next());
        }
        let front_wheel = (
            f - if nosed { 1.0 } else { cab_len * 0.55 },
            0.5 * dice.range(0.9, 1.05),
        );
        work.wheels = vec![front_wheel];
        let mut mesh = Mesh::default();
        self.coach(&mut mesh, &work);
        // What it carries.
        let deck = if make == Make::BoxTruck { 0.85 } else { 1.1 };
        let back = cab - dice.range(0.08, 0.35);
        let load_half = half * dice.range(0.98, 1.03);
        let base = if dice.chance(0.6) {
            [0.84, 0.84, 0.82]
        } else {
            dice.pick(&LOUD)
        };
        let livery = Livery::new(dice, base);
        let (dirt, style, seed) = (work.dirt, dice.below(3), dice.next());
        let open = make == Make::OpenTruck;
        let tarp = open && dice.chance(0.45);
        let high = match make {
            Make::OpenTruck => deck + dice.range(0.9, 1.6),
            Make::BoxTruck => deck + dice.range(1.7, 2.2),
            _ => dice.range(3.8, 4.1),
        };
        let noise = self.noise;
        let decor_seed = work.decorated;
        let side = Texture::paint(8, 6, |u, v| {
            let grain = noise.fine(u, v * 0.5);
            let ribs = style == 1 && super::super::math::fract(u * 26.0) < 0.3;
            let mut c = match decor_seed {
                Some(s) => skins::decor(u, v, s),
                None if open => {
                    let plank = super::super::math::fract(v * 5.0) < 0.1
                        || super::super::math::fract(u * 7.0) < 0.04;
                    scale(paint, if plank { 0.5 } else { 0.9 })
                }
                None => livery.at(u, v),
            };
            if ribs {
                c = scale(c, 0.86);
            }
            if !(0.03..=0.975).contains(&v) || !(0.008..=0.992).contains(&u) {
                c = [0.35, 0.35, 0.36];
            }
            let dirty = dirt * (0.7 - v).max(0.0) * (0.8 + grain);
            (
                super::super::math::mix3(scale(c, 1.0 + 0.08 * grain), [0.42, 0.36, 0.29], dirty),
                Kind::Paint,
            )
        });
        let plate = work.plate;
        let rear = Texture::paint(7, 7, |u, v| {
            let grain = noise.fine(u * 0.6, v * 0.6);
            let x = (u - 0.5).abs() * 2.0;
            let mut c = match decor_seed {
                Some(s) => skins::decor(u, v, s ^ 5),
                None if open => scale(paint, 0.85),
                None => livery.at(u * 0.9, v),
            };
            if decor_seed.is_some() && skins::lettering((u - 0.1) / 0.8, (v - 0.42) / 0.2, 11, seed)
            {
                c = [0.95, 0.93, 0.85];
            }
            if style != 2 && (x < 0.02 || (x - 0.35).abs() < 0.02 || v > 0.97 || x > 0.975) {
                c = [0.45, 0.46, 0.47];
            }
            if style == 2 && super::super::math::fract(v * 9.0) < 0.12 {
                c = scale(c, 0.7);
            }
            if v < 0.10 {
                return if x > 0.72 && v > 0.015 {
                    ([0.6, 0.04, 0.04], Kind::Tail)
                } else if x < 0.16 && v > 0.02 {
                    (plate, Kind::Retro)
                } else if super::super::math::fract(u * 9.0) < 0.5 {
                    ([0.75, 0.10, 0.08], Kind::Retro)
                } else {
                    ([0.8; 3], Kind::Retro)
                };
            }
            let dirty = dirt * (0.8 - v).max(0.0) * (0.8 + grain);
            (
                super::super::math::mix3(scale(c, 1.0 + 0.08 * grain), [0.42, 0.36, 0.29], dirty),
                Kind::Paint,
            )
        });
        let (side, rear) = (
            Cover::texture(self.push(side)),
            Cover::texture(self.push(rear)),
        );
        let top = self.plain(
            srgb(if open {
                [0.3, 0.28, 0.25]
            } else {
                scale(base, 0.9)
            }),
            Kind::Matte,
        );
        let tanker = make != Make::BoxTruck && !open && dice.chance(0.2);
        if tanker {
            let y = deck + 1.1;
            mesh.limb(
                [0.0, y, r + 0.1],
                [0.0, y, back],
                [1.1, 1.1],
                12,
                side,
                self.textures,
            );
            mesh.limb(
                [0.0, y, back],
                [0.0, y, r + 0.1],
                [1.08, 1.08],
                12,
                rear,
                self.textures,
            );
        } else {
            let (x0, x1) = (-load_half, load_half);
            let q = |a: V3, b: V3, c: V3, d: V3| [a, b, c, d];
            let full = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
            let rear_y = deck - 0.25;
            mesh.flat(
                q(
                    [x0, rear_y, r],
                    [x1, rear_y, r],
                    [x1, high, r],
                    [x0, high, r],
                ),
                full,
                [0.0, 0.0, -1.0],
                rear,
                self.textures,
            );
            for (x, out) in [(x0, -1.0), (x1, 1.0)] {
                mesh.flat(
                    q([x, deck, r], [x, deck, back], [x, high, back], [x, high, r]),
                    full,
                    [out, 0.0, 0.0],
                    side,
                    self.textures,
                );
            }
            mesh.flat(
                q(
                    [x0, deck, back],
                    [x1, deck, back],
                    [x1, high, back],
                    [x0, high, back],
                ),
                full,
                [0.0, 0.0, 1.0],
                top,
                self.textures,
            );
            mesh.flat(
                q(
                    [x0, high, r],
                    [x1, high, r],
                    [x1, high, back],
                    [x0, high, back],
                ),
                full,
                [0.0, 1.0, 0.0],
                top,
                self.textures,
            );
        }
        if tarp || (open && dice.chance(0.5)) {
            let c = if tarp {
                dice.pick(&[
                    [0.15, 0.30, 0.50],
                    [0.55, 0.50, 0.40],
                    [0.70, 0.55, 0.15],
                    [0.25, 0.33, 0.25],
                ])
            } else {
                dice.pick(&[[0.55, 0.45, 0.30], [0.45, 0.42, 0.38], [0.62, 0.50, 0.25]])
            };
            let load = self.plain(srgb(c), Kind::Matte);
            let bulge = dice.range(0.2, 0.9);
            mesh.ball(
                [0.0, high - 0.05, (r + back) / 2.0],
                [load_half * 0.99, bulge, (back - r) * 0.5],
                6,
                10,
                load,
                self.textures,
            );
        }
        if decorated && dice.chance(0.8) {
            // The crown above the cab.
            let crown = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            mesh.block(
                [-half * 0.95, cab_tall - 0.02, cab],
                [half * 0.95, cab_tall + 0.35, f - 0.4],
                [1.0, 1.0],
                side,
                crown,
                self.textures,
            );
        }
        // Chassis and wheels.
        let frame = self.plain([0.015; 3], Kind::Matte);
        mesh.block(
            [-half * 0.45, 0.45, r + 0.2],
            [half * 0.45, deck + 0.02, cab + 0.3],
            [1.0, 1.0],
            frame,
            frame,
            self.textures,
        );
        mesh.block(
            [-half * 0.9, 0.42, r + 0.05],
            [half * 0.9, 0.58, r + 0.15],
            [1.0, 1.0],
            frame,
            frame,
            self.textures,
        );
        let mut axles = vec![front_wheel];
        let wheel = front_wheel.1;
        match make {
            Make::SemiTrailer => axles.extend([
                (r + 1.2, wheel),
                (r + 2.4, wheel),
                (cab - 0.2, wheel),
                (cab + 1.0, wheel),
            ]),
            Make::BoxTruck => axles.push((r + len * 0.24, wheel * 0.9)),
            _ => axles.extend([(r + len * 0.2, wheel), (r + len * 0.2 + 1.15, wheel)]),
        }
        self.wheels(&mut mesh, dice, &axles, half, 0.16, true);
        let dark = self.plain([0.02; 3], Kind::Matte);
        for side in [-1.0_f32, 1.0] {
            let x = side * (half + 0.16);
            mesh.block(
                [x - 0.09, belt + 0.1, window_front - 0.05],
                [x + 0.09, belt + 0.6, window_front + 0.03],
                [1.0, 1.0],
                dark,
                dark,
                self.textures,
            );
        }
        Self::lamps(&mut mesh, r, f, half * 0.82, deck - 0.15, 1.0);
        Model {
            half_width_m: half + 0.05,
            half_length_m: len / 2.0,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }
}
