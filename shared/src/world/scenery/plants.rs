//! Trees, palms and bushes.

use super::{Builder, Caster};
use crate::world::math::{add, cos, scale, sin};
use crate::world::mesh::{Cover, Mesh};
use crate::world::random::Dice;
use crate::world::texture::Kind;

impl Builder<'_> {
    pub(super) fn tree(&mut self, dice: &mut Dice, textures: &[u32], bush: bool) -> Mesh {
        let mut mesh = Mesh::default();
        let tall = if bush {
            dice.range(0.8, 1.6)
        } else {
            dice.range(5.0, 9.5)
        };
        let crown = if bush {
            tall * 0.6
        } else {
            tall * dice.range(0.24, 0.36)
        };
        let middle = if bush {
            tall * 0.45
        } else {
            tall - crown * 0.85
        };
        let bark = self.plain(
            dice.pick(&[[0.30, 0.25, 0.20], [0.40, 0.36, 0.31], [0.24, 0.20, 0.17]]),
            Kind::Matte,
        );
        let (mut lean, mut fork) = (0.0, [0.0; 3]);
        let r = tall * 0.022;
        if !bush {
            lean = dice.bell() * 0.5;
            fork = [lean * 0.6, middle * 0.62, dice.bell() * 0.3];
            mesh.limb([0.0, -0.2, 0.0], fork, [r * 1.5, r], 6, bark, self.textures);
        }
        let clumps = if bush { 7 } else { 17 };
        for k in 0..clumps {
            let angle = k as f32 * 2.399 + dice.unit();
            let out = crown * super::super::math::sqrt((k as f32 + 0.5) / clumps as f32) * 0.85;
            let up = dice.bell() * crown * 0.75 * (1.0 - 0.5 * out / crown.max(0.1));
            let at = [cos(angle) * out, middle + up, sin(angle) * out];
            let r = crown * dice.range(0.42, 0.66);
            let facing = dice.range(-1.5, 1.5);
            let (c, s) = (cos(facing) * r, sin(facing) * r);
            let lean = dice.bell() * 0.6 * r;
            let cover = Cover {
                texture: dice.pick(textures),
                tint: [dice.range(0.85, 1.1); 3],
                kind: Some(Kind::Leaf),
            };
            let high = (up / crown.max(0.1)).clamp(-1.0, 1.0);
            let normal = [cos(angle) * 0.7, 0.55 + 0.6 * high, sin(angle) * 0.7];
            mesh.sheet(
                [
                    add(at, [-c, -r, -s - lean]),
                    add(at, [c, -r, s - lean]),
                    add(at, [c, r, s + lean]),
                    add(at, [-c, r, -s + lean]),
                ],
                [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]],
                normal,
                cover,
                self.textures,
            );
        }
        // Branches come last: from far they are left out.
        mesh.far_faces = mesh.faces.len();
        if !bush {
            for k in 0..4 {
                let angle = k as f32 * 1.7 + dice.unit();
                let tip = [
                    lean + cos(angle) * crown * 0.6,
                    middle + crown * dice.range(0.0, 0.5),
                    sin(angle) * crown * 0.6,
                ];
                mesh.limb(fork, tip, [r * 0.7, r * 0.25], 4, bark, self.textures);
            }
        }
        mesh
    }

    pub(super) fn palm(&mut self, dice: &mut Dice, frond: u32) -> Mesh {
        let mut mesh = Mesh::default();
        let tall = dice.range(6.0, 11.0);
        let lean = dice.bell() * 1.4;
        let bark = self.plain([0.42, 0.37, 0.31], Kind::Matte);
        let bend = [lean * 0.4, tall * 0.55, 0.0];
        let top = [lean, tall, 0.0];
        mesh.limb([0.0, -0.2, 0.0], bend, [0.20, 0.15], 6, bark, self.textures);
        mesh.limb(bend, top, [0.15, 0.12], 6, bark, self.textures);
        let cover = Cover {
            texture: frond,
            tint: [1.0; 3],
            kind: Some(Kind::Leaf),
        };
        for k in 0..13 {
            let angle = k as f32 * 2.399 + dice.unit() * 0.5;
            let (len, rise) = (dice.range(1.7, 2.5), dice.range(-0.3, 0.9));
            let dir = [cos(angle), 0.0, sin(angle)];
            let across = [-sin(angle) * 0.45, 0.12, cos(angle) * 0.45];
            let mid = add(top, add(scale(dir, len * 0.55), [0.0, rise, 0.0]));
            let tip = add(
                top,
                add(scale(dir, len), [0.0, rise - dice.range(0.8, 1.7), 0.0]),
            );
            for (a, b, u0, u1) in [(top, mid, 0.0, 0.5), (mid, tip, 0.5, 1.0)] {
                mesh.sheet(
                    [
                        add(a, scale(across, -1.0)),
                        add(b, scale(across, -1.0)),
                        add(b, across),
                        add(a, across),
                    ],
                    [[u0, 0.0], [u1, 0.0], [u1, 1.0], [u0, 1.0]],
                    [dir[0] * 0.4, 0.9, dir[2] * 0.4],
                    cover,
                    self.textures,
                );
            }
        }
        mesh
    }

    #[expect(clippy::too_many_arguments, reason = "what, where and how large")]
    pub(super) fn plant(
        &mut self,
        d: &mut Dice,
        trees: &[u32],
        palms: &[u32],
        palm_share: f32,
        s: f32,
        at: f32,
        size: f32,
    ) {
        let palm = d.chance(palm_share);
        let m = if palm { d.pick(palms) } else { d.pick(trees) };
        self.put(m, s, at, size, d.range(0.0, 6.0), true);
        let mesh = &self.out.meshes[m as usize];
        let (tall, radius) = (
            mesh.middle_m * 2.0 * size,
            mesh.radius_m * size * if palm { 0.30 } else { 0.42 },
        );
        let place = self.road.place(s, at);
        self.out.casters.push((
            s,
            Caster::Ball {
                at: add(place.at, [0.0, tall - radius, 0.0]),
                radius,
            },
        ));
    }
}
