//! The visibility buffer: which triangle is in front at each of four samples a pixel.
//!
//! Nothing is shaded here. A triangle leaves planes from which the shader gets depth, texture coordinates and light at
//! any point; whatever is hidden costs no shading. Along the way the buffer learns, for every annotated object, where
//! it would be seen if nothing stood in front of it.

use alloc::vec;
use alloc::vec::Vec;

use super::math::V3;

/// Samples a pixel.
pub(super) const SAMPLES: usize = 4;
/// Where they are: a rotated grid, so that edges of any slope are caught in four steps.
pub(super) const SAMPLE_AT: [[f32; 2]; SAMPLES] = [
    [0.375, 0.125],
    [0.875, 0.375],
    [0.125, 0.625],
    [0.625, 0.875],
];
/// Nearest distance that is drawn.
pub(super) const NEAR_M: f32 = 0.25;

/// Value = `a + b x + c y` over the image.
pub(super) type Plane = [f32; 3];

#[inline]
pub(super) fn on(p: &Plane, x: f32, y: f32) -> f32 {
    p[0] + p[1] * x + p[2] * y
}

/// Attributes of a vertex that are interpolated: `u`, `v`, sun, sky, mirror.
pub(super) const ATTRIBUTES: usize = 5;

/// A vertex in the camera's frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ViewVertex {
    pub(super) at: V3,
    pub(super) attributes: [f32; ATTRIBUTES],
}

/// A triangle that may be visible: planes of `1 / depth` and of the attributes over depth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) inverse_depth: Plane,
    pub(super) attributes: [Plane; ATTRIBUTES],
    pub(super) texture: u32,
    /// Index of the instance it belongs to.
    pub(super) instance: u32,
    pub(super) tint: [f32; 3],
    pub(super) texels_per_m: f32,
    pub(super) kind: u8,
}

/// Marks "no override" in [`Shown::kind`].
pub(super) const KIND_FROM_TEXTURE: u8 = 255;

/// Pixel bounds and samples of one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) samples: u32,
    pub(super) left_px: f32,
    pub(super) top_px: f32,
    pub(super) right_px: f32,
    pub(super) bottom_px: f32,
}

impl Extent {
    pub(super) const EMPTY: Self = Self {
        samples: 0,
        left_px: f32::INFINITY,
        top_px: f32::INFINITY,
        right_px: f32::NEG_INFINITY,
        bottom_px: f32::NEG_INFINITY,
    };

    /// Adds the samples of `mask` in a pixel.
    #[inline]
    pub(super) fn add(&mut self, x: usize, y: usize, mask: u8) {
        self.samples += mask.count_ones();
        let (x, y) = (x as f32, y as f32);
        let span = MASK_SPAN[mask as usize & 15];
        self.left_px = self.left_px.min(x + span[0]);
        self.right_px = self.right_px.max(x + span[1]);
        self.top_px = self.top_px.min(y + span[2]);
        self.bottom_px = self.bottom_px.max(y + span[3]);
    }
}

/// For every mask: left, right, top, bottom of its samples, each sample being a quarter of a pixel wide.
static MASK_SPAN: [[f32; 4]; 16] = mask_spans();
/// For every mask: the middle of its samples.
pub(super) static MASK_MIDDLE: [[f32; 2]; 16] = mask_middles();

const fn mask_spans() -> [[f32; 4]; 16] {
    let mut spans = [[0.0; 4]; 16];
    let mut mask = 1;
    while mask < 16 {
        let mut span = [1.0_f32, 0.0, 1.0, 0.0];
        let mut k = 0;
        while k < SAMPLES {
            if mask >> k & 1 == 1 {
                let [x, y] = SAMPLE_AT[k];
                span[0] = span[0].min(x - 0.125);
                span[1] = span[1].max(x + 0.125);
                span[2] = span[2].min(y - 0.125);
                span[3] = span[3].max(y + 0.125);
            }
            k += 1;
        }
        spans[mask] = span;
        mask += 1;
    }
    spans
}

const fn mask_middles() -> [[f32; 2]; 16] {
    let mut middles = [[0.5; 2]; 16];
    let mut mask = 1;
    while mask < 16 {
        let (mut x, mut y, mut n) = (0.0, 0.0, 0.0);
        let mut k = 0;
        while k < SAMPLES {
            if mask >> k & 1 == 1 {
                x += SAMPLE_AT[k][0];
                y += SAMPLE_AT[k][1];
                n += 1.0;
            }
            k += 1;
        }
        middles[mask] = [x / n, y / n];
        mask += 1;
    }
    middles
}

/// The buffers of one frame; kept between frames.
pub(super) struct Buffer {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) inverse_depth: Vec<[f32; SAMPLES]>,
    /// Index into `shown`, 0 where nothing is.
    pub(super) front: Vec<[u32; SAMPLES]>,
    pub(super) shown: Vec<Shown>,
    /// Samples in cast shadow, if the ground is what is seen there.
    pub(super) shadow: Vec<u8>,
    /// Share of skylight that things close by take away, in 1/255.
    pub(super) contact: Vec<u8>,
    stamp_object: Vec<u32>,
    stamp_mask: Vec<u8>,
}

/// Edge functions of a triangle in pixels, prepared for four samples.
struct Edges {
    slope: [[f64; 3]; 3],
    offset: [[f32; SAMPLES]; 3],
    most: [f64; 3],
    /// One over the slope along a row.
    per_slope: [f64; 3],
    x: [i32; 2],
    y: [i32; 2],
    inverse_area: f64,
    points: [[f64; 2]; 3],
}

impl Edges {
    /// `None` where the triangle is seen from behind (unless `two_sided`), is empty, or is outside.
    fn new(p: [[f32; 2]; 3], width: usize, height: usize, two_sided: bool) -> Option<Self> {
        let mut q = p.map(|v| [f64::from(v[0]), f64::from(v[1])]);
        let area =
            (q[1][0] - q[0][0]) * (q[2][1] - q[0][1]) - (q[2][0] - q[0][0]) * (q[1][1] - q[0][1]);
        // A face seen from outside goes round so that this is positive; see `Mesh::quad`.
        if !area.is_finite() || area.abs() < 1e-6 || (area < 0.0 && !two_sided) {
            return None;
        }
        let min = |k: usize| q[0][k].min(q[1][k]).min(q[2][k]);
        let max = |k: usize| q[0][k].max(q[1][k]).max(q[2][k]);
        let (w, h) = (width as f64, height as f64);
        if max(0) <= 0.0 || min(0) >= w || max(1) <= 0.0 || min(1) >= h {
            return None;
        }
        let x = [min(0).max(0.0) as i32, max(0).min(w - 0.5) as i32];
        let y = [min(1).max(0.0) as i32, max(1).min(h - 0.5) as i32];
        let points = q;
        if area < 0.0 {
            q.swap(1, 2);
        }
        let mut slope = [[0.0; 3]; 3];
        let mut offset = [[0.0; SAMPLES]; 3];
        let mut most = [0.0; 3];
        for k in 0..3 {
            let (a, b) = (q[k], q[(k + 1) % 3]);
            let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
            // Positive inside for a positive area.
            slope[k] = [-dy, dx, dy * a[0] - dx * a[1]];
            most[k] = f64::NEG_INFINITY;
            for s in 0..SAMPLES {
                let value = slope[k][0] * f64::from(SAMPLE_AT[s][0])
                    + slope[k][1] * f64::from(SAMPLE_AT[s][1]);
                offset[k][s] = value as f32;
                most[k] = most[k].max(value);
            }
        }
        Some(Self {
            slope,
            offset,
            most,
            per_slope: slope.map(|s| 1.0 / s[0]),
            x,
            y,
            inverse_area: 1.0 / area,
            points,
        })
    }

    /// Columns of a row that may be covered, and the edges' values at the first.
    #[inline]
    fn row(&self, y: i32) -> Option<(i32, i32, [f32; 3])> {
        let (mut from, mut to) = (self.x[0], self.x[1]);
        for k in 0..3 {
            let [a, b, c] = self.slope[k];
            let rest = b * f64::from(y) + c + self.most[k];
            if a > 0.0 {
                let x = -rest * self.per_slope[k];
                if x > f64::from(from) {
                    from = if x > f64::from(to) {
                        return None;
                    } else {
                        x as i32
                    };
                }
            } else if a < 0.0 {
                let x = -rest * self.per_slope[k];
                if x < f64::from(to) {
                    to = if x < f64::from(from) {
                        return None;
                    } else {
                        x as i32
                    };
                }
            } else if rest < 0.0 {
                return None;
            }
        }
        let at = |k: usize| {
            let [a, b, c] = self.slope[k];
            (a * f64::from(from) + b * f64::from(y) + c) as f32
        };
        Some((from, to, [at(0), at(1), at(2)]))
    }

    #[inline]
    fn mask(&self, e: [f32; 3]) -> u8 {
        let mut mask = 0;
        for s in 0..SAMPLES {
            let worst = (e[0] + self.offset[0][s])
                .min(e[1] + self.offset[1][s])
                .min(e[2] + self.offset[2][s]);
            mask |= u8::from(worst >= 0.0) << s;
        }
        mask
    }

    fn step(&self) -> [f32; 3] {
        [
            self.slope[0][0] as f32,
            self.slope[1][0] as f32,
            self.slope[2][0] as f32,
        ]
    }

    /// The plane through three values at the corners.
    fn plane(&self, f: [f32; 3]) -> Plane {
        let [p, q, r] = self.points;
        let (d1, d2) = (
            f64::from(f[1]) - f64::from(f[0]),
            f64::from(f[2]) - f64::from(f[0]),
        );
        let dx = (d1 * (r[1] - p[1]) - d2 * (q[1] - p[1])) * self.inverse_area;
        let dy = (d2 * (q[0] - p[0]) - d1 * (r[0] - p[0])) * self.inverse_area;
        [
            (f64::from(f[0]) - dx * p[0] - dy * p[1]) as f32,
            dx as f32,
            dy as f32,
        ]
    }
}

/// What to draw: corners in pixels, depths, attributes, and the rest of [`Shown`].
pub(super) struct Triangle<'a> {
    pub(super) pixels: [[f32; 2]; 3],
    pub(super) corners: [&'a ViewVertex; 3],
    pub(super) texture: u32,
    pub(super) instance: u32,
    pub(super) tint: [f32; 3],
    pub(super) texels_per_m: f32,
    pub(super) kind: u8,
    pub(super) two_sided: bool,
}

impl Buffer {
    pub(super) fn new(width: usize, height: usize) -> Self {
        let n = width * height;
        Self {
            width,
            height,
            inverse_depth: vec![[0.0; SAMPLES]; n],
            front: vec![[0; SAMPLES]; n],
            shown: Vec::new(),
            shadow: vec![0; n],
            contact: vec![0; n],
            stamp_object: vec![0; n],
            stamp_mask: vec![0; n],
        }
    }

    pub(super) fn clear(&mut self) {
        self.inverse_depth.fill([0.0; SAMPLES]);
        self.front.fill([0; SAMPLES]);
        self.shadow.fill(0);
        self.contact.fill(0);
        self.stamp_object.fill(0);
        self.shown.clear();
        self.shown.push(Shown {
            inverse_depth: [0.0; 3],
            attributes: [[0.0; 3]; ATTRIBUTES],
            texture: 0,
            instance: 0,
            tint: [1.0; 3],
            texels_per_m: 0.0,
            kind: KIND_FROM_TEXTURE,
        });
    }

    /// Draws a triangle. `object` is 0 for what is not annotated, else its mark, with its full extent to be grown.
    /// `coverage` gives the coverage (0..255) of a cut-out at `u`, `v`, texels a pixel.
    pub(super) fn draw(
        &mut self,
        t: &Triangle<'_>,
        focal_px: f32,
        object: u32,
        full: &mut Extent,
        coverage: Option<&dyn Fn(f32, f32, f32) -> f32>,
    ) {
        let Some(edges) = Edges::new(t.pixels, self.width, self.height, t.two_sided) else {
            return;
        };
        let inverse = t.corners.map(|v| 1.0 / v.at[2]);
        let over_depth = |k: usize| {
            edges.plane([
                t.corners[0].attributes[k] * inverse[0],
                t.corners[1].attributes[k] * inverse[1],
                t.corners[2].attributes[k] * inverse[2],
            ])
        };
        let depth_plane = edges.plane(inverse);
        let index = self.shown.len() as u32;
        let shown = Shown {
            inverse_depth: depth_plane,
            attributes: [
                over_depth(0),
                over_depth(1),
                over_depth(2),
                over_depth(3),
                over_depth(4),
            ],
            texture: t.texture,
            instance: t.instance,
            tint: t.tint,
            texels_per_m: t.texels_per_m,
            kind: t.kind,
        };
        self.shown.push(shown);
        let mut depth_offset = [0.0; SAMPLES];
        for s in 0..SAMPLES {
            depth_offset[s] = depth_plane[1] * SAMPLE_AT[s][0] + depth_plane[2] * SAMPLE_AT[s][1];
        }
        let step = edges.step();
        for y in edges.y[0]..=edges.y[1] {
            let Some((from, to, mut e)) = edges.row(y) else {
                continue;
            };
            let row = y as usize * self.width;
            let base = depth_plane[0] + depth_plane[2] * y as f32;
            for x in from..=to {
                let mut mask = edges.mask(e);
                for k in 0..3 {
                    e[k] += step[k];
                }
                if mask == 0 {
                    continue;
                }
                let at = row + x as usize;
                let depth = base + depth_plane[1] * x as f32;
                let known = &mut self.inverse_depth[at];
                let mut nearer = 0;
                for s in 0..SAMPLES {
                    nearer |= u8::from(depth + depth_offset[s] > known[s]) << s;
                }
                // What is hidden need not be cut out; where an object would be seen must be known all the same.
                if object == 0 {
                    mask &= nearer;
                    if mask == 0 {
                        continue;
                    }
                }
                if let Some(coverage) = coverage {
                    let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
                    let depth = 1.0 / on(&depth_plane, px, py);
                    let (u, v) = (
                        on(&shown.attributes[0], px, py) * depth,
                        on(&shown.attributes[1], px, py) * depth,
                    );
                    let part = coverage(u, v, t.texels_per_m * depth / focal_px);
                    // Which samples go first changes from pixel to pixel, so that layers of leaves do not line up.
                    let turn = (x as u32 * 3 + y as u32 * 5 + index) & 3;
                    let kept = match (part * (4.0 / 255.0) + 0.5) as u32 {
                        0 => 0,
                        1 => 1,
                        2 => 9,
                        3 => 11,
                        _ => 15,
                    };
                    mask &= ((kept << turn | kept >> (4 - turn)) & 15) as u8;
                    if mask == 0 {
                        continue;
                    }
                }
                if object != 0 {
                    if self.stamp_object[at] != object {
                        self.stamp_object[at] = object;
                        self.stamp_mask[at] = 0;
                    }
                    let new = mask & !self.stamp_mask[at];
                    if new != 0 {
                        self.stamp_mask[at] |= new;
                        full.add(x as usize, y as usize, new);
                    }
                }
                mask &= nearer;
                let front = &mut self.front[at];
                for s in 0..SAMPLES {
                    if mask >> s & 1 == 1 {
                        known[s] = depth + depth_offset[s];
                        front[s] = index;
                    }
                }
            }
        }
    }

    /// Marks samples as lying in cast shadow.
    pub(super) fn cast(&mut self, pixels: [[f32; 2]; 3]) {
        let Some(edges) = Edges::new(pixels, self.width, self.height, true) else {
            return;
        };
        let step = edges.step();
        for y in edges.y[0]..=edges.y[1] {
            let Some((from, to, mut e)) = edges.row(y) else {
                continue;
            };
            let row = y as usize * self.width;
            for x in from..=to {
                self.shadow[row + x as usize] |= edges.mask(e);
                for k in 0..3 {
                    e[k] += step[k];
                }
            }
        }
    }

    /// Darkens the ground below a thing: `value` of the corners is 0 at the rim and 1 in the middle.
    pub(super) fn darken(
        &mut self,
        pixels: [[f32; 2]; 3],
        depths: [f32; 3],
        value: [f32; 3],
        strength: f32,
    ) {
        let Some(edges) = Edges::new(pixels, self.width, self.height, true) else {
            return;
        };
        let inverse = depths.map(|d| 1.0 / d);
        let (depth, value) = (
            edges.plane(inverse),
            edges.plane([
                value[0] * inverse[0],
                value[1] * inverse[1],
                value[2] * inverse[2],
            ]),
        );
        let step = edges.step();
        for y in edges.y[0]..=edges.y[1] {
            let Some((from, to, mut e)) = edges.row(y) else {
                continue;
            };
            let row = y as usize * self.width;
            for x in from..=to {
                let mask = edges.mask(e);
                for k in 0..3 {
                    e[k] += step[k];
                }
                if mask == 0 {
                    continue;
                }
                let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
                let share = (on(&value, px, py) / on(&depth, px, py)).clamp(0.0, 1.0);
                let dark = (strength * share * (2.0 - share) * 255.0) as u8;
                let known = &mut self.contact[row + x as usize];
                *known = (*known).max(dark);
            }
        }
    }
}
