//! What stands beside and over the road: houses, trees, walls, poles, signs, stalls, bridges.

mod houses;
mod plants;
mod street;

use alloc::vec::Vec;

use super::config::WorldConfig;
use super::math::{Rgb, V3, add, cos, linear_from_srgb, sin};
use super::mesh::{Cover, Mesh};
use super::models::Common;
use super::random::{Dice, Noise, hash};
use super::road::{Border, Road};
use super::skins;
use super::texture::{Kind, Texture};

pub(super) use street::{lamps_of, screen};

/// One thing at its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prop {
    /// Along the road, to find what is near.
    pub(super) s: f32,
    pub(super) at: V3,
    pub(super) heading: f32,
    pub(super) size: f32,
    pub(super) mesh: u32,
    pub(super) casts: bool,
}

/// What keeps the sun off other things.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caster {
    /// A crown of leaves; lets a third through.
    Ball { at: V3, radius: f32 },
    /// An upright box.
    Block {
        at: V3,
        sin: f32,
        cos: f32,
        half: V3,
    },
}

impl Caster {
    /// Share of the light from direction `sun` that arrives at `p`.
    fn light(&self, p: V3, sun: V3) -> f32 {
        match *self {
            Self::Ball { at, radius } => {
                let d = [at[0] - p[0], at[1] - p[1], at[2] - p[2]];
                let along = d[0] * sun[0] + d[1] * sun[1] + d[2] * sun[2];
                if along < 0.0 {
                    return 1.0;
                }
                let off = d[0] * d[0] + d[1] * d[1] + d[2] * d[2] - along * along;
                1.0 - 0.7 * super::math::ramp(1.0, 0.5, off / (radius * radius))
            }
            Self::Block { at, sin, cos, half } => {
                let to_local = |v: V3| [v[0] * cos - v[2] * sin, v[1], v[2] * cos + v[0] * sin];
                let o = to_local([p[0] - at[0], p[1] - at[1], p[2] - at[2]]);
                let r = to_local(sun);
                let (mut near, mut far) = (0.0_f32, 1e6_f32);
                for k in 0..3 {
                    if r[k].abs() < 1e-5 {
                        if o[k].abs() > half[k] {
                            return 1.0;
                        }
                        continue;
                    }
                    let (a, b) = ((-half[k] - o[k]) / r[k], (half[k] - o[k]) / r[k]);
                    near = near.max(a.min(b));
                    far = far.min(a.max(b));
                }
                // Soft over the last half metre of the way through.
                1.0 - super::math::ramp(0.0, 0.5, far - near)
            }
        }
    }
}

pub(super) struct Scenery {
    pub(super) meshes: Vec<Mesh>,
    /// Sorted by `s`.
    pub(super) props: Vec<Prop>,
    /// With the place along the road.
    casters: Vec<(f32, Caster)>,
}

/// Length of a roadside slot.
const SLOT_M: f32 = 6.5;

/// Things further from the middle than this are not built.
const FARTHEST_D_M: f32 = 26.0;

struct Builder<'a> {
    road: &'a Road,
    noise: &'a Noise,
    common: Common,
    textures: &'a mut Vec<Texture>,
    out: Scenery,
    seed: u64,
    dust: f32,
}

fn srgb(c: Rgb) -> Rgb {
    c.map(linear_from_srgb)
}

impl Scenery {
    #[expect(
        clippy::too_many_arguments,
        reason = "everything that a street is made from"
    )]
    pub(super) fn new(
        config: &WorldConfig,
        road: &Road,
        noise: &Noise,
        common: Common,
        textures: &mut Vec<Texture>,
        seed: u64,
        dust: f32,
        reach_m: f32,
    ) -> Self {
        let mut b = Builder {
            road,
            noise,
            common,
            textures,
            out: Self {
                meshes: Vec::new(),
                props: Vec::new(),
                casters: Vec::new(),
            },
            seed,
            dust,
        };
        b.build(config, reach_m);
        let mut out = b.out;
        out.props.sort_by(|a, b| a.s.total_cmp(&b.s));
        out.casters.sort_by(|a, b| a.0.total_cmp(&b.0));
        out
    }

    /// Takes everything beside the road away between two places along it.
    pub(super) fn clear(&mut self, from_m: f32, to_m: f32) {
        self.props.retain(|p| p.s < from_m || p.s > to_m);
        self.casters.retain(|(s, _)| *s < from_m || *s > to_m);
    }

    /// The things between two places along the road.
    pub(super) fn between(&self, from_m: f32, to_m: f32) -> &[Prop] {
        let low = self.props.partition_point(|p| p.s < from_m);
        let high = self.props.partition_point(|p| p.s < to_m);
        &self.props[low..high.max(low)]
    }

    /// Share of sunlight at a point whose place along the road is `s`.
    pub(super) fn sunlight(&self, s: f32, p: V3, sun: V3) -> f32 {
        let low = self.casters.partition_point(|c| c.0 < s - 30.0);
        let mut light = 1.0;
        for (at_s, caster) in &self.casters[low..] {
            if *at_s > s + 30.0 || light < 0.02 {
                break;
            }
            light *= caster.light(p, sun);
        }
        light
    }
}

impl Builder<'_> {
    fn push(&mut self, t: Texture) -> u32 {
        self.textures.push(t);
        self.textures.len() as u32 - 1
    }

    fn plain(&self, c: Rgb, kind: Kind) -> Cover {
        Cover::tinted(self.common.plain, srgb(c), kind)
    }

    fn mesh(&mut self, mesh: Mesh) -> u32 {
        self.out.meshes.push(mesh.finish());
        self.out.meshes.len() as u32 - 1
    }

    /// Puts a thing at `s`, `d`; its own +x points away from the road.
    fn put(&mut self, mesh: u32, s: f32, d: f32, size: f32, turn: f32, casts: bool) {
        let place = self.road.place(s, d);
        let flip = if d < 0.0 { core::f32::consts::PI } else { 0.0 };
        self.out.props.push(Prop {
            s,
            at: place.at,
            heading: place.heading + flip + turn,
            size,
            mesh,
            casts,
        });
    }

    fn block_caster(&mut self, s: f32, d: f32, half: V3, lift: f32) {
        let place = self.road.place(s, d);
        self.out.casters.push((
            s,
            Caster::Block {
                at: add(place.at, [0.0, half[1] + lift, 0.0]),
                sin: sin(place.heading),
                cos: cos(place.heading),
                half,
            },
        ));
    }

    #[expect(
        clippy::too_many_lines,
        reason = "a list of things, one after the other"
    )]
    fn build(&mut self, config: &WorldConfig, reach_m: f32) {
        let place = &config.place;
        let indian = place.keeps_left;
        let mut dice = Dice::new(self.seed, 0x7363_656e);
        let (seed, dust) = (dice.next(), self.dust);
        let noise = self.noise;
        let greens: [Rgb; 5] = if indian {
            [
                [0.24, 0.32, 0.12],
                [0.20, 0.28, 0.12],
                [0.30, 0.34, 0.14],
                [0.18, 0.26, 0.10],
                [0.34, 0.33, 0.18],
            ]
        } else {
            [
                [0.20, 0.32, 0.12],
                [0.16, 0.27, 0.10],
                [0.28, 0.36, 0.12],
                [0.36, 0.32, 0.12],
                [0.15, 0.23, 0.13],
            ]
        };
        let bare = dice.chance(0.1);
        let leaves = skins::several(4, seed ^ 1, self.textures, |d| {
            let c = d.pick(&greens);
            let airy = if bare { 1.6 } else { d.range(0.35, 0.9) };
            skins::leaves(noise, d.next(), c, dust * 0.7, airy)
        });
        let facades = skins::several(8, seed ^ 2, self.textures, |d| {
            skins::facade(d, noise, indian)
        });
        let shops = skins::several(6, seed ^ 3, self.textures, |d| {
            skins::shops(d, noise, indian)
        });
        let walls = skins::several(3, seed ^ 4, self.textures, |d| skins::wall(d, noise));
        let boards = skins::several(4, seed ^ 5, self.textures, skins::billboard);
        let fences = skins::several(2, seed ^ 6, self.textures, skins::fence);
        let signs: Vec<u32> = (0..7)
            .map(|k| {
                let t = skins::sign(&mut dice, k);
                self.push(t)
            })
            .collect();
        let concrete = skins::concrete(noise);
        let concrete = Cover::texture(self.push(concrete));
        let signals: Vec<u32> = [0, 1]
            .map(|k| {
                let t = skins::signal(k);
                self.push(t)
            })
            .to_vec();
        let frond = skins::frond(dice.next(), dust);
        let frond = self.push(frond);
        let trees: Vec<u32> = (0..5)
            .map(|_| {
                let m = self.tree(&mut dice, &leaves, false);
                self.mesh(m)
            })
            .collect();
        let palms: Vec<u32> = (0..3)
            .map(|_| {
                let m = self.palm(&mut dice, frond);
                self.mesh(m)
            })
            .collect();
        let bushes: Vec<u32> = (0..3)
            .map(|_| {
                let m = self.tree(&mut dice, &leaves, true);
                self.mesh(m)
            })
            .collect();
        let road = self.road;
        let kerbed = matches!(road.border, Border::Kerb { .. });
        let outside = road.border_m() + if kerbed { road.pavement_m } else { 1.5 };
        let rails = !kerbed && dice.chance(place.rail_share / 0.5);
        let tree_share = (place.tree_share * dice.range(0.7, 1.7)).min(0.95);

        // Row by row.
        let steel = self.plain([0.42, 0.43, 0.44], Kind::Matte);
        let rail = {
            let mut m = Mesh::default();
            m.block(
                [-0.03, 0.48, -SLOT_M / 2.0],
                [0.03, 0.74, SLOT_M / 2.0],
                [1.0, 1.0],
                steel,
                steel,
                self.textures,
            );
            for z in [-2.0, 1.2] {
                m.block(
                    [0.0, 0.0, z],
                    [0.1, 0.66, z + 0.12],
                    [1.0, 1.0],
                    steel,
                    steel,
                    self.textures,
                );
            }
            self.mesh(m)
        };
        let wall_meshes: Vec<u32> = walls
            .iter()
            .map(|&w| {
                let mut m = Mesh::default();
                let high = dice.range(1.5, 2.5);
                m.block(
                    [0.0, 0.0, -SLOT_M / 2.0],
                    [0.25, high, SLOT_M / 2.0],
                    [1.0 / SLOT_M, 1.0 / high],
                    Cover::texture(w),
                    concrete,
                    self.textures,
                );
                self.mesh(m)
            })
            .collect();
        let fence_meshes: Vec<u32> = fences
            .iter()
            .map(|&f| {
                let mut m = Mesh::default();
                let (z, high) = (SLOT_M / 2.0, dice.range(1.0, 2.2));
                let cover = Cover::texture(f);
                m.sheet(
                    [
                        [0.0, 0.0, -z],
                        [0.0, 0.0, z],
                        [0.0, high, z],
                        [0.0, high, -z],
                    ],
                    [[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]],
                    [-1.0, 0.2, 0.0],
                    cover,
                    self.textures,
                );
                self.mesh(m)
            })
            .collect();
        let lamp = {
            let m = self.pole_lamp(&mut dice);
            self.mesh(m)
        };
        let utility = {
            let mut m = Mesh::default();
            let wood = self.plain(
                dice.pick(&[[0.34, 0.28, 0.22], [0.52, 0.51, 0.49]]),
                Kind::Matte,
            );
            m.limb(
                [0.0, 0.0, 0.0],
                [0.0, 8.5, 0.0],
                [0.14, 0.10],
                6,
                wood,
                self.textures,
            );
            for y in [7.2, 8.1] {
                m.block(
                    [-0.9, y, -0.05],
                    [0.9, y + 0.12, 0.05],
                    [1.0, 1.0],
                    wood,
                    wood,
                    self.textures,
                );
            }
            if dice.chance(0.6) {
                let dark = self.plain([0.25; 3], Kind::Matte);
                m.limb(
                    [0.3, 5.6, 0.0],
                    [0.3, 6.5, 0.0],
                    [0.26, 0.26],
                    7,
                    dark,
                    self.textures,
                );
            }
            // Wires to the next pole.
            let wire = self.plain([0.05; 3], Kind::Matte);
            let span = SLOT_M * 5.0;
            for (x, y) in [
                (-0.8, 8.15),
                (0.0, 8.2),
                (0.8, 8.15),
                (-0.6, 7.3),
                (0.6, 7.3),
            ] {
                let mut last = [x, y, 0.0];
                for k in 1..=4 {
                    let t = k as f32 / 4.0;
                    let next = [x, y - 1.6 * t * (1.0 - t), span * t];
                    m.limb(last, next, [0.012, 0.012], 3, wire, self.textures);
                    last = next;
                }
            }
            self.mesh(m)
        };
        let sign_meshes: Vec<u32> = signs
            .iter()
            .enumerate()
            .map(|(k, &texture)| {
                let mut m = Mesh::default();
                let (half, y) = if k == 6 {
                    (1.3, 3.0)
                } else {
                    (dice.range(0.30, 0.45), dice.range(1.9, 2.5))
                };
                m.limb(
                    [0.0, 0.0, 0.06],
                    [0.0, y + half, 0.06],
                    [0.035, 0.035],
                    5,
                    steel,
                    self.textures,
                );
                let face = Cover {
                    texture,
                    tint: [1.0; 3],
                    kind: Some(Kind::Retro),
                };
                let uv = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
                m.sheet(
                    [
                        [-half, y - half * 0.9, 0.0],
                        [half, y - half * 0.9, 0.0],
                        [half, y + half * 0.9, 0.0],
                        [-half, y + half * 0.9, 0.0],
                    ],
                    uv,
                    [0.0, 0.0, -1.0],
                    face,
                    self.textures,
                );
                self.mesh(m)
            })
            .collect();
        let billboard_meshes: Vec<u32> = boards
            .iter()
            .map(|&texture| {
                let mut m = Mesh::default();
                let (half, low, high) = (
                    dice.range(1.5, 4.0),
                    dice.range(2.2, 5.0),
                    dice.range(1.5, 3.5),
                );
                for x in [-half * 0.7, half * 0.7] {
                    m.limb(
                        [x, 0.0, 0.1],
                        [x, low + high, 0.1],
                        [0.10, 0.10],
                        5,
                        steel,
                        self.textures,
                    );
                }
                let face = Cover::texture(texture);
                let uv = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
                m.sheet(
                    [
                        [-half, low, 0.0],
                        [half, low, 0.0],
                        [half, low + high, 0.0],
                        [-half, low + high, 0.0],
                    ],
                    uv,
                    [0.0, 0.0, -1.0],
                    face,
                    self.textures,
                );
                self.mesh(m)
            })
            .collect();
        let median_kind = dice.below(4);
        let barrier = {
            let mut m = Mesh::default();
            match median_kind {
                0 => m.block(
                    [-0.22, 0.0, -SLOT_M / 2.0],
                    [0.22, 0.85, SLOT_M / 2.0],
                    [0.4, 0.4],
                    concrete,
                    concrete,
                    self.textures,
                ),
                _ => {
                    let half = (road.median_m / 2.0 - 0.1).max(0.15);
                    let kerb = if let Border::Kerb { painted: true } = road.border {
                        let paint = Texture::paint(5, 2, |u, _| {
                            (
                                if u < 0.5 {
                                    [0.10; 3]
                                } else {
                                    [0.82, 0.80, 0.72]
                                },
                                Kind::Matte,
                            )
                        });
                        Cover::texture(self.push(paint))
                    } else {
                        concrete
                    };
                    let earth = self.plain(
                        if indian {
                            [0.45, 0.38, 0.28]
                        } else {
                            [0.36, 0.40, 0.22]
                        },
                        Kind::Matte,
                    );
                    m.block(
                        [-half, 0.0, -SLOT_M / 2.0],
                        [half, 0.24, SLOT_M / 2.0],
                        [0.5, 4.0],
                        kerb,
                        earth,
                        self.textures,
                    );
                    if median_kind == 1 {
                        m.block(
                            [-0.03, 0.5, -SLOT_M / 2.0],
                            [0.03, 0.75, SLOT_M / 2.0],
                            [1.0, 1.0],
                            steel,
                            steel,
                            self.textures,
                        );
                    }
                }
            }
            self.mesh(m)
        };
        let last = (reach_m / SLOT_M) as i32 + 4;
        let mut wall_run = [0_i32; 2];
        let mut wall_pick = [0_u32; 2];
        for slot in -8..last {
            let s = slot as f32 * SLOT_M;
            let mut d20 = Dice::new(self.seed ^ 0x51, hash(slot as u64));
            let d = &mut d20;
            let junction = road.near_junction(s, 3.0);
            let bridge = road
                .bridges
                .iter()
                .any(|b| s > b.from_m - 6.0 && s < b.to_m + 6.0);
            if road.median_m > 0.5 && !junction {
                self.put(barrier, s, 0.01, 1.0, 0.0, false);
                if road.median_m > 1.2 && median_kind >= 2 && !bridge {
                    if d.chance(0.7) {
                        let m = d.pick(&bushes);
                        self.put(
                            m,
                            s + d.bell(),
                            0.01,
                            d.range(0.5, 0.95),
                            d.range(0.0, 6.0),
                            true,
                        );
                    } else if d.chance(0.3) && road.median_m > 2.0 {
                        let m = d.pick(&trees);
                        self.put(m, s, 0.01, d.range(0.5, 0.8), d.range(0.0, 6.0), true);
                    }
                }
                if median_kind == 1 && slot % 5 == 0 && !bridge {
                    self.put(lamp, s, 0.01, 1.0, 0.0, true);
                    self.put(lamp, s, -0.01, 1.0, 0.0, true);
                }
            }
            for (side_index, side) in [-1.0_f32, 1.0].into_iter().enumerate() {
                if bridge {
                    continue;
                }
                if rails && !junction {
                    self.put(rail, s, side * (road.border_m() + 0.3), 1.0, 0.0, true);
                }
                if slot % 5 == 0 && median_kind != 1 && road.town > 0.2 {
                    self.put(lamp, s, side * (road.border_m() + 0.5), 1.0, 0.0, true);
                }
                if slot % 5 == 2
                    && side_index as u64 == self.seed & 1
                    && (indian || road.town > 0.5)
                    && place.wall_share > 0.0
                {
                    // The wires run on along the road, also where the pole is turned.
                    let turn = if side < 0.0 {
                        core::f32::consts::PI
                    } else {
                        0.0
                    };
                    self.put(utility, s, side * (outside + 0.4), 1.0, turn, true);
                }
                if d.chance(0.10) {
                    let m = d.pick(&sign_meshes[..6]);
                    let turn = if side < 0.0 {
                        core::f32::consts::PI
                    } else {
                        0.0
                    };
                    self.put(
                        m,
                        s + d.bell() * 2.0,
                        side * (road.border_m() + d.range(0.4, 1.0)),
                        1.0,
                        turn + d.bell() * 0.3,
                        true,
                    );
                }
                if d.chance(0.02) {
                    let turn = if side < 0.0 {
                        core::f32::consts::PI
                    } else {
                        0.0
                    };
                    self.put(
                        sign_meshes[6],
                        s,
                        side * (road.border_m() + 1.8),
                        1.0,
                        turn,
                        true,
                    );
                }
                if junction {
                    continue;
                }
                if d.chance(place.stall_share) {
                    let at = side * (road.border_m() + d.range(0.8, 2.6));
                    self.stall(d, s, at, concrete);
                }
                if d.chance(place.billboard_share) {
                    let m = d.pick(&billboard_meshes);
                    let turn = if side < 0.0 {
                        core::f32::consts::PI
                    } else {
                        0.0
                    };
                    self.put(
                        m,
                        s,
                        side * (outside + d.range(1.5, 6.0)),
                        1.0,
                        turn + d.bell() * 0.4,
                        true,
                    );
                }
                if wall_run[side_index] == 0 && d.chance(place.wall_share * 0.3) {
                    wall_run[side_index] = 2 + d.below(9) as i32;
                    wall_pick[side_index] = if d.chance(0.75) {
                        d.pick(&wall_meshes)
                    } else {
                        d.pick(&fence_meshes)
                    };
                }
                let walled = wall_run[side_index] > 0;
                if walled {
                    wall_run[side_index] -= 1;
                    self.put(
                        wall_pick[side_index],
                        s,
                        side * (outside + 0.3),
                        1.0,
                        0.0,
                        true,
                    );
                }
                // A second row fills the horizon behind what stands at the road.
                let mut far = outside + d.range(13.0, 20.0);
                while far < FARTHEST_D_M + 22.0 && d.chance(0.25 + 0.5 * tree_share) {
                    let (along, size) = (s + d.bell() * 3.0, d.range(0.9, 1.6));
                    self.plant(d, &trees, &palms, place.palm_share, along, side * far, size);
                    far += d.range(7.0, 16.0);
                }
                let built = place.building_share * road.town * 1.6;
                let near = if road.town > 0.6 { 0.5 } else { 3.0 };
                if d.chance(built) {
                    let tall = if d.chance(0.15 * road.town) {
                        d.range(12.0, 30.0)
                    } else if indian {
                        d.range(3.4, 11.0)
                    } else {
                        d.range(3.4, 9.5)
                    };
                    let (deep, wide) = (d.range(6.0, 11.0), SLOT_M * d.range(0.85, 1.05));
                    let shop = !walled && d.chance(place.shop_share);
                    let m = self.house(d, &facades, &shops, shop, indian, [deep, wide, tall]);
                    let m = self.mesh(m);
                    let set = if walled { 3.0 } else { 0.0 }
                        + near
                        + d.range(0.0, if road.town > 0.6 { 1.2 } else { 6.0 });
                    let at = outside + set;
                    self.put(m, s, side * at, 1.0, 0.0, true);
                    self.block_caster(
                        s,
                        side * (at + deep / 2.0),
                        [deep / 2.0, tall / 2.0, wide / 2.0],
                        0.0,
                    );
                    if d.chance(tree_share * 0.4) {
                        self.plant(
                            d,
                            &trees,
                            &palms,
                            place.palm_share,
                            s,
                            side * (outside + 0.2),
                            0.75,
                        );
                    }
                } else {
                    let mut at = outside + d.range(0.3, 3.0);
                    while at < FARTHEST_D_M && d.chance(tree_share) {
                        let (along, size) = (s + d.bell() * 3.0, d.range(0.7, 1.25));
                        self.plant(d, &trees, &palms, place.palm_share, along, side * at, size);
                        at += d.range(3.5, 9.0);
                    }
                    if d.chance(0.4) {
                        let m = d.pick(&bushes);
                        self.put(
                            m,
                            s + d.bell() * 3.0,
                            side * (outside + d.range(0.5, 4.0)),
                            d.range(0.7, 1.6),
                            d.range(0.0, 6.0),
                            true,
                        );
                    }
                }
            }
        }
        for &s in &road.junctions {
            let green = dice.below(2);
            if !dice.chance(0.3 + 0.5 * road.town) {
                continue;
            }
            let mut m = Mesh::default();
            let (tall, arm) = (dice.range(4.6, 6.0), dice.range(0.0, road.edge_m() * 0.6));
            m.limb(
                [0.0, 0.0, 0.0],
                [0.0, tall, 0.0],
                [0.09, 0.07],
                6,
                steel,
                self.textures,
            );
            let face = Cover::texture(signals[green]);
            let dark = self.plain([0.05; 3], Kind::Matte);
            let uv = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
            let side = self.road.side;
            for (x, y) in [(0.25, 2.6), (arm, tall - 0.6)] {
                // The arm reaches over the road; +x is away from it.
                let x = -x;
                m.block(
                    [x - 0.19, y - 0.5, 0.05],
                    [x + 0.19, y + 0.5, 0.3],
                    [1.0, 1.0],
                    dark,
                    dark,
                    self.textures,
                );
                let z = 0.04;
                m.sheet(
                    [
                        [x - 0.16, y - 0.45, z],
                        [x + 0.16, y - 0.45, z],
                        [x + 0.16, y + 0.45, z],
                        [x - 0.16, y + 0.45, z],
                    ],
                    uv,
                    [0.0, 0.0, -1.0],
                    face,
                    self.textures,
                );
            }
            m.limb(
                [0.0, tall - 0.1, 0.1],
                [-arm, tall, 0.1],
                [0.06, 0.04],
                5,
                steel,
                self.textures,
            );
            let m = self.mesh(m);
            // On the right of the road the mesh keeps its direction; on the left it is turned, so that its face
            // would look away: there it stands on the far side for those who come.
            self.put(
                m,
                s + if side > 0.0 { 8.0 } else { -8.0 },
                road.border_m() + 0.6,
                1.0,
                0.0,
                true,
            );
            self.put(m, s - 8.0, -(road.border_m() + 0.6), 1.0, 0.0, true);
        }
        for index in 0..road.bridges.len() {
            self.bridge(&mut dice, index, concrete);
        }
    }
}
