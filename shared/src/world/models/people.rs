//! People: proportions and clothes, riding or walking.

use super::{Workshop, srgb};
use crate::world::math::{Rgb, V3, add, cos, scale, sin};
use crate::world::mesh::{Cover, Mesh};
use crate::world::random::Dice;
use crate::world::skins::{self, LOUD};
use crate::world::texture::{Kind, Texture};

/// How a creature looks; its pose changes from frame to frame.
#[derive(Clone, Debug)]
pub(in crate::world) struct Figure {
    pub(super) tall: f32,
    pub(super) build: f32,
    pub(super) shirt: u32,
    pub(super) legs: Rgb,
    pub(super) skirt: Option<u32>,
    pub(super) skin: Rgb,
    pub(super) hair: Rgb,
    pub(super) helmet: bool,
    pub(super) bag: Option<(Rgb, bool)>,
    pub(super) umbrella: Option<Rgb>,
    pub(super) long_hair: bool,
}

impl Workshop<'_> {
    pub(in crate::world) fn figure(&mut self, dice: &mut Dice, rider: bool) -> Figure {
        let indian = self.place.keeps_left;
        let shirt = skins::cloth(dice, self.noise);
        let shirt = self.push(shirt);
        let skirted = !rider && dice.chance(if indian { 0.42 } else { 0.12 });
        let skirt = if skirted {
            let t = skins::cloth(dice, self.noise);
            Some(if dice.chance(0.5) {
                shirt
            } else {
                self.push(t)
            })
        } else {
            None
        };
        let legs: Rgb = dice.pick(&[
            [0.10, 0.12, 0.20],
            [0.16, 0.20, 0.32],
            [0.07, 0.07, 0.075],
            [0.38, 0.33, 0.26],
            [0.28, 0.27, 0.26],
            [0.80, 0.78, 0.72],
            [0.22, 0.16, 0.12],
        ]);
        let skin: Rgb = if indian {
            dice.pick(&[[0.42, 0.28, 0.20], [0.34, 0.22, 0.16], [0.50, 0.35, 0.25]])
        } else {
            dice.pick(&[
                [0.75, 0.56, 0.46],
                [0.80, 0.62, 0.52],
                [0.46, 0.31, 0.23],
                [0.30, 0.20, 0.15],
            ])
        };
        let helmet = rider && dice.chance(if indian { 0.6 } else { 0.85 });
        let hair: Rgb = if helmet {
            let loud = dice.pick(&LOUD);
            dice.pick(&[[0.05; 3], [0.8; 3], loud])
        } else if indian {
            [0.03; 3]
        } else {
            dice.pick(&[[0.05; 3], [0.22, 0.14, 0.08], [0.55, 0.42, 0.22], [0.45; 3]])
        };
        Figure {
            tall: dice.range(1.48, 1.86)
                * if !rider && dice.chance(0.08) {
                    0.7
                } else {
                    1.0
                },
            build: dice.range(0.85, 1.2),
            shirt,
            legs: srgb(legs),
            skirt,
            skin: srgb(skin),
            hair: srgb(hair),
            helmet,
            bag: dice
                .chance(0.3)
                .then(|| (srgb(dice.pick(&LOUD)), dice.chance(0.6))),
            umbrella: (!rider && dice.chance(0.04)).then(|| srgb(dice.pick(&LOUD))),
            long_hair: skirted && dice.chance(0.7),
        }
    }

    /// Somebody sitting: hips, hands and feet are where the machine has them.
    pub(super) fn rider(
        &self,
        mesh: &mut Mesh,
        figure: &Figure,
        hips: V3,
        lean: f32,
        hands: V3,
        feet: V3,
    ) {
        let s = figure.tall / 1.75;
        let b = figure.build;
        let shirt = Cover::texture(figure.shirt);
        let legs = self.plain(figure.legs, Kind::Matte);
        let skin = self.plain(figure.skin, Kind::Matte);
        let shoulders = add(hips, [0.0, 0.50 * s * cos(lean), 0.50 * s * sin(lean)]);
        mesh.limb(
            hips,
            shoulders,
            [0.17 * b, 0.20 * b],
            8,
            shirt,
            self.textures,
        );
        let head = add(shoulders, [0.0, 0.22 * s, 0.04]);
        let hair = self.plain(
            figure.hair,
            if figure.helmet {
                Kind::Paint
            } else {
                Kind::Matte
            },
        );
        if figure.helmet {
            mesh.ball(head, [0.135, 0.15, 0.155], 5, 8, hair, self.textures);
        } else {
            mesh.ball(head, [0.095, 0.12, 0.11], 5, 7, skin, self.textures);
            mesh.ball(
                add(head, [0.0, 0.03, -0.02]),
                [0.102, 0.11, 0.105],
                5,
                7,
                hair,
                self.textures,
            );
        }
        for side in [-1.0_f32, 1.0] {
            let shoulder = add(shoulders, [side * 0.19 * b, -0.04, 0.0]);
            let hand = [side * hands[0], hands[1], hands[2]];
            let elbow = add(scale(add(shoulder, hand), 0.5), [side * 0.06, -0.08, -0.03]);
            mesh.limb(shoulder, elbow, [0.06, 0.05], 5, shirt, self.textures);
            mesh.limb(elbow, hand, [0.045, 0.04], 5, skin, self.textures);
            let hip = add(hips, [side * 0.10, -0.02, 0.02]);
            let foot = [side * feet[0], feet[1], feet[2]];
            let knee = [side * (feet[0] + 0.06), hips[1] - 0.06, hips[2] + 0.40 * s];
            mesh.limb(hip, knee, [0.085 * b, 0.065], 5, legs, self.textures);
            mesh.limb(knee, foot, [0.06, 0.045], 5, legs, self.textures);
            let shoe = self.plain([0.02; 3], Kind::Matte);
            mesh.ball(
                add(foot, [0.0, 0.0, 0.05]),
                [0.045, 0.045, 0.11],
                3,
                5,
                shoe,
                self.textures,
            );
        }
        if let Some((colour, true)) = figure.bag {
            let bag = self.plain(colour, Kind::Matte);
            mesh.ball(
                add(shoulders, [0.0, -0.2, -0.22]),
                [0.15, 0.2, 0.11],
                4,
                6,
                bag,
                self.textures,
            );
        }
    }
}

impl Figure {
    /// On foot: `phase` of the step in radians, `stride` 0 (standing) to 1.
    pub(super) fn pose(
        &self,
        phase: f32,
        stride: f32,
        plain: u32,
        textures: &[Texture],
        mesh: &mut Mesh,
    ) {
        let s = self.tall / 1.75;
        let b = self.build;
        let shirt = Cover::texture(self.shirt);
        let legs = Cover::tinted(plain, self.legs, Kind::Matte);
        let skin = Cover::tinted(plain, self.skin, Kind::Matte);
        let hair = Cover::tinted(plain, self.hair, Kind::Matte);
        let shoe = Cover::tinted(plain, [0.03, 0.027, 0.025], Kind::Matte);
        let bob = 0.02 * stride * cos(2.0 * phase);
        let hip_y = 0.90 * s + bob;
        let shoulder_y = 1.42 * s + bob;
        mesh.limb(
            [0.0, hip_y - 0.04, 0.0],
            [0.0, shoulder_y, 0.03 * stride],
            [0.155 * b, 0.185 * b],
            8,
            shirt,
            textures,
        );
        let head = [0.0, 1.60 * s + bob, 0.05 * stride];
        mesh.ball(head, [0.088 * s, 0.125 * s, 0.10 * s], 5, 7, skin, textures);
        mesh.ball(
            add(head, [0.0, 0.03 * s, -0.02]),
            [0.096 * s, 0.112 * s, 0.10 * s],
            5,
            7,
            hair,
            textures,
        );
        if self.long_hair {
            mesh.ball(
                add(head, [0.0, -0.14, -0.07]),
                [0.08, 0.20, 0.05],
                4,
                6,
                hair,
                textures,
            );
        }
        for side in [-1.0_f32, 1.0] {
            let swing = side * sin(phase) * 0.42 * stride;
            let lift = (side * cos(phase)).max(0.0) * stride;
            let hip = [side * 0.09 * b, hip_y, 0.0];
            let knee = [
                side * 0.09 * b,
                0.48 * s + 0.04 * lift,
                0.40 * s * sin(swing) + 0.08 * lift,
            ];
            let foot = [
                side * 0.09 * b,
                0.07 + 0.12 * lift,
                knee[2] + 0.40 * s * sin(swing * 1.1) - 0.22 * lift,
            ];
            if let Some(skirt) = self.skirt {
                let cloth = Cover::texture(skirt);
                if side < 0.0 {
                    let sway = 0.06 * sin(phase) * stride;
                    mesh.limb(
                        [0.0, 0.14, sway],
                        [0.0, hip_y + 0.05, 0.0],
                        [0.27 * b, 0.17 * b],
                        8,
                        cloth,
                        textures,
                    );
                }
                mesh.limb(knee, foot, [0.05, 0.04], 5, skin, textures);
            } else {
                mesh.limb(hip, knee, [0.085 * b, 0.062], 6, legs, textures);
                mesh.limb(knee, foot, [0.062, 0.05], 5, legs, textures);
            }
            mesh.ball(
                [foot[0], 0.05 + 0.12 * lift, foot[2] + 0.05],
                [0.045, 0.045, 0.12],
                3,
                5,
                shoe,
                textures,
            );
            let arm = -swing * 0.9;
            let shoulder = [side * 0.21 * b, shoulder_y - 0.05, 0.02];
            let elbow = [side * 0.25 * b, shoulder_y - 0.31 * s, 0.30 * sin(arm)];
            let hand = [
                side * 0.24 * b,
                shoulder_y - 0.56 * s,
                0.60 * sin(arm) + 0.08,
            ];
            mesh.limb(shoulder, elbow, [0.058, 0.048], 5, shirt, textures);
            mesh.limb(elbow, hand, [0.044, 0.038], 5, skin, textures);
            if let Some((colour, back)) = self.bag {
                let bag = Cover::tinted(plain, colour, Kind::Matte);
                if side > 0.0 && !back {
                    mesh.ball(
                        add(hand, [0.03, -0.2, 0.0]),
                        [0.07, 0.17, 0.15],
                        4,
                        6,
                        bag,
                        textures,
                    );
                } else if side > 0.0 {
                    mesh.ball(
                        [0.0, shoulder_y - 0.22, -0.2],
                        [0.15, 0.2, 0.1],
                        4,
                        6,
                        bag,
                        textures,
                    );
                }
            }
        }
        if let Some(colour) = self.umbrella {
            let cloth = Cover::tinted(plain, colour, Kind::Matte);
            mesh.limb(
                [0.12, shoulder_y - 0.3, 0.15],
                [0.12, 2.0 * s, 0.12],
                [0.012, 0.012],
                4,
                shoe,
                textures,
            );
            mesh.limb(
                [0.12, 1.85 * s, 0.12],
                [0.12, 2.06 * s, 0.12],
                [0.52, 0.02],
                8,
                cloth,
                textures,
            );
        }
    }
}
