//! Auto-rickshaws and cycle rickshaws.

use alloc::vec;

use super::kinds::Make;
use super::{Model, RUBBER, STEEL, Shape, Workshop, append, srgb};
use crate::world::math::{Rgb, V3};
use crate::world::mesh::{Cover, LampSpot, Mesh, Station};
use crate::world::random::Dice;
use crate::world::skins::LOUD;
use crate::world::texture::Kind;

impl Workshop<'_> {
    pub(super) fn autorickshaw(&mut self, dice: &mut Dice) -> Model {
        let (len, half, tall) = (
            dice.range(2.55, 2.8),
            dice.range(0.62, 0.68),
            dice.range(1.66, 1.78),
        );
        let (r, f) = (-len / 2.0, len / 2.0);
        let belt = dice.range(0.80, 0.92);
        let st = |z: f32, y_low: f32, y_belt: f32, y_top: f32, w: f32, t: f32| Station {
            z,
            y_low,
            y_belt,
            y_top,
            half_low: half * w,
            half_belt: half * w,
            half_top: half * t,
        };
        let stations = vec![
            st(r, 0.34, belt, tall - 0.22, 0.92, 0.84),
            st(r + 0.14, 0.26, belt, tall - 0.05, 1.0, 0.92),
            st(-0.1, 0.26, belt - 0.05, tall, 1.0, 0.94),
            st(f - 0.75, 0.26, belt - 0.05, tall - 0.08, 0.95, 0.88),
            st(f - 0.42, 0.28, belt, belt + 0.10, 0.80, 0.72),
            st(f - 0.12, 0.34, 0.72, 0.74, 0.48, 0.40),
            st(f, 0.42, 0.60, 0.62, 0.34, 0.28),
        ];
        let hood: Rgb = dice.pick(&[
            [0.90, 0.72, 0.06],
            [0.88, 0.70, 0.08],
            [0.06, 0.06, 0.065],
            [0.10, 0.30, 0.14],
            [0.85, 0.66, 0.05],
        ]);
        let body: Rgb = dice.pick(&[
            [0.07, 0.30, 0.14],
            [0.06, 0.06, 0.065],
            [0.88, 0.70, 0.06],
            [0.10, 0.34, 0.20],
            [0.12, 0.22, 0.45],
            [0.55, 0.10, 0.08],
        ]);
        let mut work = self.coachwork(dice, hood, stations);
        work.lower = body;
        work.windows = [r + 0.30, f - 0.55];
        work.pillars = vec![f - 0.95];
        work.window_inset_m = [0.0, 0.16];
        work.front_window = true;
        work.open = true;
        work.top_glass = [[f - 0.74, f - 0.44], [r - 2.0, r - 1.0]];
        work.plate = if dice.chance(0.8) {
            [0.90, 0.74, 0.12]
        } else {
            [0.2, 0.5, 0.25]
        };
        work.lamp_style = 4;
        work.badge = false;
        let mut mesh = Mesh::default();
        self.coach(&mut mesh, &work);
        let hub = Cover::texture(self.common.hubs[3]);
        let tyre = self.plain(RUBBER, Kind::Matte);
        for side in [-1.0_f32, 1.0] {
            mesh.wheel(
                [side * (half - 0.07), 0.22, r + 0.45],
                0.22,
                0.055,
                0.0,
                hub,
                tyre,
                self.textures,
            );
        }
        mesh.wheel(
            [0.0, 0.22, f - 0.15],
            0.22,
            0.055,
            0.0,
            hub,
            tyre,
            self.textures,
        );
        let guard = self.plain(srgb(body), Kind::Paint);
        mesh.block(
            [-0.12, 0.40, f - 0.34],
            [0.12, 0.47, f + 0.06],
            [1.0, 1.0],
            guard,
            guard,
            self.textures,
        );
        if dice.chance(0.3) {
            let load = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
            mesh.block(
                [-half * 0.6, tall - 0.02, -0.7],
                [half * 0.6, tall + dice.range(0.1, 0.4), 0.2],
                [1.0, 1.0],
                load,
                load,
                self.textures,
            );
        }
        mesh.lamps.push(LampSpot {
            at: [0.0, 0.66, f + 0.02],
            kind: Kind::Head,
        });
        for side in [-1.0, 1.0] {
            mesh.lamps.push(LampSpot {
                at: [side * half * 0.8, 0.5, r - 0.03],
                kind: Kind::Tail,
            });
        }
        Model {
            half_width_m: half,
            half_length_m: len / 2.0,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }

    /// A bicycle's front half before a bench on two wheels, mostly under a hood.
    pub(super) fn cycle_rickshaw(&mut self, dice: &mut Dice) -> Model {
        let mut mesh = Mesh::default();
        let front = self.two_wheeler(Make::Bicycle, dice);
        append(&mut mesh, &front.mesh, [0.0, 0.0, 0.62]);
        let frame = self.plain(srgb(dice.pick(&LOUD)), Kind::Paint);
        let seat = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
        let hood = self.plain(srgb(dice.pick(&LOUD)), Kind::Matte);
        let steel = self.plain(STEEL, Kind::Chrome);
        let (hub, tyre) = (
            Cover::texture(self.common.spokes),
            self.plain(RUBBER, Kind::Matte),
        );
        let (half, axle, radius) = (dice.range(0.40, 0.50), -0.72, 0.34);
        for side in [-1.0_f32, 1.0] {
            mesh.wheel(
                [side * (half + 0.06), radius, axle],
                radius,
                0.02,
                0.0,
                hub,
                tyre,
                self.textures,
            );
            // From the axle to the pedals.
            mesh.limb(
                [side * half * 0.8, radius, axle],
                [0.0, 0.34, 0.3],
                [0.025, 0.025],
                4,
                steel,
                self.textures,
            );
        }
        let mut block = |low: V3, high: V3, cover: Cover| {
            mesh.block(low, high, [1.0, 1.0], cover, cover, self.textures);
        };
        block([-half, 0.42, -0.98], [half, 0.70, -0.42], frame);
        block([-half, 0.70, -0.96], [half, 0.80, -0.40], seat);
        block([-half, 0.80, -1.02], [half, 1.25, -0.92], seat);
        // Where passengers put their feet.
        block([-half, 0.40, -0.42], [half, 0.44, -0.05], frame);
        if dice.chance(0.7) {
            let (top, ahead) = (dice.range(1.72, 1.90), dice.range(-0.50, -0.15));
            block(
                [-half - 0.04, top - 0.05, -1.0],
                [half + 0.04, top, ahead],
                hood,
            );
            block(
                [-half - 0.04, 1.15, -1.04],
                [half + 0.04, top - 0.05, -1.0],
                hood,
            );
            for side in [-1.0_f32, 1.0] {
                let x = side * (half + 0.03);
                mesh.limb(
                    [x, 0.78, -0.9],
                    [x, top - 0.03, ahead + 0.02],
                    [0.012, 0.012],
                    3,
                    steel,
                    self.textures,
                );
            }
        }
        let passengers = dice.below(3);
        for k in 0..passengers {
            let figure = self.figure(dice, true);
            let x = if passengers == 1 {
                0.0
            } else {
                0.42 * k as f32 - 0.21
            };
            let mut seated = Mesh::default();
            self.rider(
                &mut seated,
                &figure,
                [0.0, 0.86, -0.72],
                -0.04,
                [0.14, 0.98, -0.36],
                [0.09, 0.46, -0.22],
            );
            append(&mut mesh, &seated, [x, 0.0, 0.0]);
        }
        Model {
            half_width_m: half + 0.1,
            half_length_m: 1.3,
            mesh: mesh.finish(),
            shape: Shape::Rigid,
        }
    }
}
