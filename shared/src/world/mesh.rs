//! Triangles of one thing in its own frame (x right, y up, z forward, metres), and the shapes they are built from.

use alloc::vec::Vec;

use super::math::{Rgb, TAU, V3, add, cos, cross, dot, length, scale, sin, sub, unit};
use super::texture::{Kind, Texture};

#[derive(Clone, Copy, Debug)]
pub(super) struct Vertex {
    pub(super) at: V3,
    pub(super) normal: V3,
    pub(super) uv: [f32; 2],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Face {
    pub(super) corners: [u32; 3],
    /// Index into the world's textures.
    pub(super) texture: u32,
    /// Linear colour that multiplies the texture's.
    pub(super) tint: Rgb,
    /// Overrides the texture's kinds.
    pub(super) kind: Option<Kind>,
    /// Texels of level 0 a metre.
    pub(super) texels_per_m: f32,
    /// Seen from behind too.
    pub(super) two_sided: bool,
}

/// A lamp: where it is, and which.
#[derive(Clone, Copy, Debug)]
pub(super) struct LampSpot {
    pub(super) at: V3,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Mesh {
    pub(super) vertices: Vec<Vertex>,
    pub(super) faces: Vec<Face>,
    pub(super) lamps: Vec<LampSpot>,
    /// About the point (0, `middle_m`, 0).
    pub(super) radius_m: f32,
    pub(super) middle_m: f32,
    /// Only so many faces are drawn from far; 0 for all of them.
    pub(super) far_faces: usize,
}

/// What a face is covered with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cover {
    pub(super) texture: u32,
    pub(super) tint: Rgb,
    pub(super) kind: Option<Kind>,
}

impl Cover {
    pub(super) fn texture(texture: u32) -> Self {
        Self {
            texture,
            tint: [1.0; 3],
            kind: None,
        }
    }

    pub(super) fn tinted(texture: u32, tint: Rgb, kind: Kind) -> Self {
        Self {
            texture,
            tint,
            kind: Some(kind),
        }
    }
}

/// One cross-section of a vehicle's body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Station {
    pub(super) z: f32,
    pub(super) y_low: f32,
    pub(super) y_belt: f32,
    pub(super) y_top: f32,
    pub(super) half_low: f32,
    pub(super) half_belt: f32,
    pub(super) half_top: f32,
}

/// Textures of a body's four views; each is projected straight onto the faces that look that way.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyCovers {
    pub(super) side: Cover,
    pub(super) front: Cover,
    pub(super) rear: Cover,
    pub(super) top: Cover,
}

/// Slope above which a face takes the view from above.
const TOP_FROM_NORMAL_Y: f32 = 0.5;

impl Mesh {
    /// Sets the bounding sphere; call once when the mesh is complete.
    pub(super) fn finish(mut self) -> Self {
        let top = self.vertices.iter().fold(0.0_f32, |m, v| m.max(v.at[1]));
        self.middle_m = top / 2.0;
        let centre = [0.0, self.middle_m, 0.0];
        self.radius_m = self
            .vertices
            .iter()
            .fold(0.0_f32, |m, v| m.max(length(sub(v.at, centre))));
        self
    }

    fn face(&mut self, corners: [u32; 3], cover: Cover, sides: (f32, f32), two_sided: bool) {
        let v = corners.map(|c| self.vertices[c as usize]);
        let (e1, e2) = (sub(v[1].at, v[0].at), sub(v[2].at, v[0].at));
        let area = length(cross(e1, e2));
        if area < 1e-7 {
            return;
        }
        let (du1, dv1) = (v[1].uv[0] - v[0].uv[0], v[1].uv[1] - v[0].uv[1]);
        let (du2, dv2) = (v[2].uv[0] - v[0].uv[0], v[2].uv[1] - v[0].uv[1]);
        let texels = (du1 * dv2 - du2 * dv1).abs() * sides.0 * sides.1;
        self.faces.push(Face {
            corners,
            texture: cover.texture,
            tint: cover.tint,
            kind: cover.kind,
            texels_per_m: super::math::sqrt(texels / area),
            two_sided,
        });
    }

    /// A flat or slightly bent quadrilateral; corners go round it. `outward` decides which side is seen.
    pub(super) fn quad(
        &mut self,
        corners: [V3; 4],
        uv: [[f32; 2]; 4],
        normals: [V3; 4],
        cover: Cover,
        textures: &[Texture],
        two_sided: bool,
    ) {
        let base = self.vertices.len() as u32;
        for k in 0..4 {
            self.vertices.push(Vertex {
                at: corners[k],
                normal: normals[k],
                uv: uv[k],
            });
        }
        let sides = textures[cover.texture as usize].sides();
        let outward = add(add(normals[0], normals[1]), add(normals[2], normals[3]));
        let flat = cross(sub(corners[2], corners[0]), sub(corners[3], corners[1]));
        let order = if dot(flat, outward) >= 0.0 {
            [0, 1, 2, 3]
        } else {
            [0, 3, 2, 1]
        };
        let [a, b, c, d] = order.map(|k| base + k);
        self.face([a, b, c], cover, sides, two_sided);
        self.face([a, c, d], cover, sides, two_sided);
    }

    /// The same with one normal.
    pub(super) fn flat(
        &mut self,
        corners: [V3; 4],
        uv: [[f32; 2]; 4],
        outward: V3,
        cover: Cover,
        textures: &[Texture],
    ) {
        self.quad(corners, uv, [unit(outward); 4], cover, textures, false);
    }

    /// An upright sheet seen from both sides, for leaves and fences.
    pub(super) fn sheet(
        &mut self,
        corners: [V3; 4],
        uv: [[f32; 2]; 4],
        normal: V3,
        cover: Cover,
        textures: &[Texture],
    ) {
        self.quad(corners, uv, [unit(normal); 4], cover, textures, true);
    }

    /// A box between two corners; `uv` of the sides in metres times `per_m`, so that textures repeat.
    pub(super) fn block(
        &mut self,
        low: V3,
        high: V3,
        per_m: [f32; 2],
        side: Cover,
        top: Cover,
        textures: &[Texture],
    ) {
        let [x0, y0, z0] = low;
        let [x1, y1, z1] = high;
        let (pu, pv) = (per_m[0], per_m[1]);
        let (w, h, d) = ((x1 - x0) * pu, (y1 - y0) * pv, (z1 - z0) * pu);
        let wall = |len: f32| [[0.0, 0.0], [len, 0.0], [len, h], [0.0, h]];
        self.flat(
            [[x0, y0, z0], [x1, y0, z0], [x1, y1, z0], [x0, y1, z0]],
            wall(w),
            [0.0, 0.0, -1.0],
            side,
            textures,
        );
        self.flat(
            [[x1, y0, z1], [x0, y0, z1], [x0, y1, z1], [x1, y1, z1]],
            wall(w),
            [0.0, 0.0, 1.0],
            side,
            textures,
        );
        self.flat(
            [[x0, y0, z1], [x0, y0, z0], [x0, y1, z0], [x0, y1, z1]],
            wall(d),
            [-1.0, 0.0, 0.0],
            side,
            textures,
        );
        self.flat(
            [[x1, y0, z0], [x1, y0, z1], [x1, y1, z1], [x1, y1, z0]],
            wall(d),
            [1.0, 0.0, 0.0],
            side,
            textures,
        );
        let flat = [[0.0, 0.0], [w, 0.0], [w, d], [0.0, d]];
        self.flat(
            [[x0, y1, z0], [x1, y1, z0], [x1, y1, z1], [x0, y1, z1]],
            flat,
            [0.0, 1.0, 0.0],
            top,
            textures,
        );
        if y0 > 0.3 {
            self.flat(
                [[x0, y0, z0], [x1, y0, z0], [x1, y0, z1], [x0, y0, z1]],
                flat,
                [0.0, -1.0, 0.0],
                top,
                textures,
            );
        }
    }

    /// A tapered round bar from `a` to `b`: arms, legs, poles, trunks.
    pub(super) fn limb(
        &mut self,
        a: V3,
        b: V3,
        radius: [f32; 2],
        sides: u32,
        cover: Cover,
        textures: &[Texture],
    ) {
        let axis = unit(sub(b, a));
        let helper = if axis[1].abs() > 0.8 {
            [1.0, 0.0, 0.0]
        } else {
            [0.0, 1.0, 0.0]
        };
        let across = unit(cross(axis, helper));
        let other = cross(axis, across);
        let ring = |k: u32| {
            let angle = TAU * k as f32 / sides as f32;
            add(scale(across, cos(angle)), scale(other, sin(angle)))
        };
        for k in 0..sides {
            let (n0, n1) = (ring(k), ring(k + 1));
            let (u0, u1) = (k as f32 / sides as f32, (k + 1) as f32 / sides as f32);
            self.quad(
                [
                    add(a, scale(n0, radius[0])),
                    add(a, scale(n1, radius[0])),
                    add(b, scale(n1, radius[1])),
                    add(b, scale(n0, radius[1])),
                ],
                [[u0, 0.0], [u1, 0.0], [u1, 1.0], [u0, 1.0]],
                [n0, n1, n1, n0],
                cover,
                textures,
                false,
            );
        }
        // A cap where it can be seen.
        if radius[1] > 0.03 {
            let half = sides / 2;
            for k in 0..half.max(1) {
                let (p, q) = (ring(k), ring(k + 1));
                let (r, s) = (ring(sides - k - 1), ring(sides - k));
                self.flat(
                    [p, q, r, s].map(|n| add(b, scale(n, radius[1]))),
                    [[0.4, 0.9], [0.6, 0.9], [0.6, 1.0], [0.4, 1.0]],
                    axis,
                    cover,
                    textures,
                );
            }
        }
    }

    /// An ellipsoid: heads, bellies, bundles.
    pub(super) fn ball(
        &mut self,
        centre: V3,
        radii: V3,
        rings: u32,
        sides: u32,
        cover: Cover,
        textures: &[Texture],
    ) {
        let point = |i: u32, k: u32| {
            let (polar, angle) = (
                core::f32::consts::PI * i as f32 / rings as f32,
                TAU * k as f32 / sides as f32,
            );
            let n = [
                sin(polar) * cos(angle),
                -cos(polar),
                sin(polar) * sin(angle),
            ];
            let at = [
                centre[0] + n[0] * radii[0],
                centre[1] + n[1] * radii[1],
                centre[2] + n[2] * radii[2],
            ];
            (
                at,
                unit([n[0] / radii[0], n[1] / radii[1], n[2] / radii[2]]),
            )
        };
        for i in 0..rings {
            for k in 0..sides {
                let (p, q, r, s) = (
                    point(i, k),
                    point(i, k + 1),
                    point(i + 1, k + 1),
                    point(i + 1, k),
                );
                let (u0, u1) = (k as f32 / sides as f32, (k + 1) as f32 / sides as f32);
                let (v0, v1) = (i as f32 / rings as f32, (i + 1) as f32 / rings as f32);
                self.quad(
                    [p.0, q.0, r.0, s.0],
                    [[u0, v0], [u1, v0], [u1, v1], [u0, v1]],
                    [p.1, q.1, r.1, s.1],
                    cover,
                    textures,
                    false,
                );
            }
        }
    }

    /// A wheel that turns about the x axis; `hub` covers the disc, its texture is centred.
    #[expect(
        clippy::too_many_arguments,
        reason = "a wheel is where, how large, how turned and what it wears"
    )]
    pub(super) fn wheel(
        &mut self,
        centre: V3,
        radius: f32,
        half_width: f32,
        roll: f32,
        hub: Cover,
        tyre: Cover,
        textures: &[Texture],
    ) {
        const SIDES: u32 = 12;
        let rim = |k: u32| {
            let angle = TAU * k as f32 / SIDES as f32;
            (sin(angle), cos(angle))
        };
        for k in 0..SIDES {
            let (p, q) = (rim(k), rim(k + 1));
            let at = |side: f32, r: (f32, f32)| {
                [
                    centre[0] + side * half_width,
                    centre[1] + r.1 * radius,
                    centre[2] + r.0 * radius,
                ]
            };
            self.quad(
                [at(-1.0, p), at(1.0, p), at(1.0, q), at(-1.0, q)],
                [[0.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.0, 0.1]],
                [
                    [0.0, p.1, p.0],
                    [0.0, p.1, p.0],
                    [0.0, q.1, q.0],
                    [0.0, q.1, q.0],
                ],
                tyre,
                textures,
                false,
            );
        }
        // Discs as fans of two spans, so that a quadrilateral serves.
        for side in [-1.0_f32, 1.0] {
            for k in (0..SIDES).step_by(2) {
                let ring = [rim(k), rim(k + 1), rim(k + 2)];
                let at = |r: (f32, f32)| {
                    [
                        centre[0] + side * half_width,
                        centre[1] + r.1 * radius,
                        centre[2] + r.0 * radius,
                    ]
                };
                // The picture turns with the wheel, the outline need not.
                let uv = |r: (f32, f32)| {
                    let (s, c) = (sin(roll), cos(roll));
                    [
                        0.5 + 0.48 * (r.0 * c + r.1 * s),
                        0.5 + 0.48 * (r.1 * c - r.0 * s),
                    ]
                };
                self.flat(
                    [
                        [centre[0] + side * half_width, centre[1], centre[2]],
                        at(ring[0]),
                        at(ring[1]),
                        at(ring[2]),
                    ],
                    [[0.5, 0.5], uv(ring[0]), uv(ring[1]), uv(ring[2])],
                    [side, 0.0, 0.0],
                    hub,
                    textures,
                );
            }
        }
    }

    /// A body through cross-sections from rear to front, with smooth normals, its views projected onto it.
    pub(super) fn body(&mut self, stations: &[Station], covers: &BodyCovers, textures: &[Texture]) {
        let Some((first, last)) = stations.first().zip(stations.last()) else {
            return;
        };
        let (z0, len) = (first.z, (last.z - first.z).max(1e-3));
        let tall = stations.iter().fold(0.1_f32, |m, s| m.max(s.y_top));
        let half = stations.iter().fold(0.1_f32, |m, s| {
            m.max(s.half_low).max(s.half_belt).max(s.half_top)
        });
        let ring = |s: &Station| -> [V3; 6] {
            [
                [s.half_low, s.y_low, s.z],
                [s.half_belt, s.y_belt, s.z],
                [s.half_top, s.y_top, s.z],
                [-s.half_top, s.y_top, s.z],
                [-s.half_belt, s.y_belt, s.z],
                [-s.half_low, s.y_low, s.z],
            ]
        };
        let rings: Vec<[V3; 6]> = stations.iter().map(ring).collect();
        // Strips between neighbouring points of the ring; the bottom is left open, nobody sees it.
        let out = |k: usize| -> V3 {
            match k {
                0 | 1 => [1.0, 0.15, 0.0],
                2 => [0.0, 1.0, 0.0],
                _ => [-1.0, 0.15, 0.0],
            }
        };
        let flat_normal = |i: usize, k: usize| {
            let n = cross(
                sub(rings[i + 1][k + 1], rings[i][k]),
                sub(rings[i + 1][k], rings[i][k + 1]),
            );
            if length(n) < 1e-6 {
                return None;
            }
            let n = unit(n);
            Some(if dot(n, out(k)) < 0.0 {
                scale(n, -1.0)
            } else {
                n
            })
        };
        let mut smooth: Vec<[V3; 6]> = alloc::vec![[[0.0; 3]; 6]; rings.len()];
        for i in 0..rings.len().saturating_sub(1) {
            for k in 0..5 {
                if let Some(n) = flat_normal(i, k) {
                    for (a, b) in [(i, k), (i + 1, k), (i, k + 1), (i + 1, k + 1)] {
                        smooth[a][b] = add(smooth[a][b], n);
                    }
                }
            }
        }
        let side_uv = |p: V3| [(p[2] - z0) / len, p[1] / tall];
        let end_uv = |p: V3| [0.5 + 0.5 * p[0] / half, p[1] / tall];
        let top_uv = |p: V3| [0.5 + 0.5 * p[0] / half, (p[2] - z0) / len];
        for i in 0..rings.len().saturating_sub(1) {
            for k in 0..5 {
                let Some(n) = flat_normal(i, k) else { continue };
                let corners = [
                    rings[i][k],
                    rings[i + 1][k],
                    rings[i + 1][k + 1],
                    rings[i][k + 1],
                ];
                let round =
                    |a: usize, b: usize| unit(add(scale(n, 1.2), scale(unit(smooth[a][b]), 0.8)));
                let normals = [
                    round(i, k),
                    round(i + 1, k),
                    round(i + 1, k + 1),
                    round(i, k + 1),
                ];
                let (cover, uv) = if k == 2 {
                    if n[1] > TOP_FROM_NORMAL_Y {
                        (covers.top, corners.map(top_uv))
                    } else if n[2] < 0.0 {
                        (covers.rear, corners.map(end_uv))
                    } else {
                        (covers.front, corners.map(end_uv))
                    }
                } else {
                    (covers.side, corners.map(side_uv))
                };
                self.quad(corners, uv, normals, cover, textures, false);
            }
        }
        for (r, outward, cover) in [
            (rings[0], [0.0, 0.1, -1.0], covers.rear),
            (rings[rings.len() - 1], [0.0, 0.1, 1.0], covers.front),
        ] {
            for [a, b, c, d] in [[0, 1, 4, 5], [1, 2, 3, 4]] {
                let corners = [r[a], r[b], r[c], r[d]];
                if (corners[1][1] - corners[0][1]).abs() > 1e-3 {
                    self.flat(corners, corners.map(end_uv), outward, cover, textures);
                }
            }
        }
    }
}
