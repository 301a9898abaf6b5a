//! The visibility buffer: which triangle is in front at each of four samples a pixel.
//!
//! Nothing is shaded here. A triangle leaves planes from which the shader gets depth, texture coordinates and light at
//! any point; whatever is hidden costs no shading. Along the way the buffer learns, for every annotated object, where
//! it would be seen if nothing stood in front of it.

use alloc::vec;
use alloc::vec::Vec;

use super::edges::{Edges, Outline, WHOLE};
use super::math::{V3, larger};
use super::texture::Texture;

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

    /// Adds all samples of a run of pixels.
    pub(super) fn add_run(&mut self, columns: core::ops::Range<usize>, y: usize) {
        let whole = (1 << SAMPLES) - 1;
        let samples = self.samples + SAMPLES as u32 * columns.len() as u32;
        self.add(columns.start, y, whole);
        self.add(columns.end - 1, y, whole);
        self.samples = samples;
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
    /// Least inverse depth of every tile at the last survey: whatever is behind that is hidden.
    farthest: Vec<f32>,
    /// Tiles that were drawn on since then.
    stale: Vec<bool>,
    tile_columns: usize,
}

/// Side of the tiles that are known to be filled up to a depth.
const TILE_PX: usize = 8;

/// The samples that a cut-out fills which covers `part` (0..255) of a pixel. Which go first changes with `turn`, so that
/// layers of leaves do not line up.
#[inline]
fn dithered(part: f32, turn: u32) -> u8 {
    let turn = turn & 3;
    let kept = match (part * (4.0 / 255.0) + 0.5) as u32 {
        0 => 0,
        1 => 1,
        2 => 9,
        3 => 11,
        _ => WHOLE,
    };
    (kept << turn | kept >> (4 - turn)) & WHOLE
}

/// Which samples are inside.
#[inline]
fn covered(inside: &[f32; SAMPLES]) -> u8 {
    let mut mask = 0;
    for (s, inside) in inside.iter().enumerate() {
        mask |= u8::from(*inside >= 0.0) << s;
    }
    mask
}

/// Puts those samples of `mask` in front that are nearer than what is known; whether there are any.
#[inline]
fn put(
    known: &mut [f32; SAMPLES],
    front: &mut [u32; SAMPLES],
    depths: &[f32; SAMPLES],
    mask: u8,
    index: u32,
    keep: impl FnOnce(u8) -> u8,
) -> bool {
    let mut hit = 0;
    for s in 0..SAMPLES {
        hit |= u8::from(depths[s] > known[s]) << s;
    }
    hit &= mask;
    // What is hidden need not be cut out.
    if hit != 0 {
        hit = keep(hit);
    }
    if hit == WHOLE {
        *known = *depths;
        *front = [index; SAMPLES];
    } else if hit != 0 {
        for s in 0..SAMPLES {
            if hit >> s & 1 == 1 {
                known[s] = depths[s];
                front[s] = index;
            }
        }
    }
    hit != 0
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
    /// Its place in its mesh: which samples of a cut-out go first is a matter of the thing alone, so that what a thing
    /// covers does not depend on what else is drawn.
    pub(super) turn: u32,
}

impl Buffer {
    pub(super) fn new(width: usize, height: usize) -> Self {
        let n = width * height;
        let tiles = width.div_ceil(TILE_PX) * height.div_ceil(TILE_PX);
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
            farthest: vec![0.0; tiles],
            stale: vec![false; tiles],
            tile_columns: width.div_ceil(TILE_PX),
        }
    }

    pub(super) fn clear(&mut self) {
        // Flat: element by element, each of them would be a call.
        self.inverse_depth.as_flattened_mut().fill(0.0);
        self.front.as_flattened_mut().fill(0);
        self.shadow.fill(0);
        self.contact.fill(0);
        self.stamp_object.fill(0);
        self.farthest.fill(0.0);
        self.stale.fill(false);
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

    /// Takes note of what is filled: looks at every sample of the tiles that changed. Worth its time after a good part
    /// of what is near is drawn.
    pub(super) fn survey(&mut self) {
        for (tile, stale) in self.stale.iter_mut().enumerate() {
            if !core::mem::take(stale) {
                continue;
            }
            let (row, column) = (tile / self.tile_columns, tile % self.tile_columns);
            let (top, left) = (row * TILE_PX, column * TILE_PX);
            let right = (left + TILE_PX).min(self.width);
            let mut least = [f32::INFINITY; SAMPLES];
            for y in top..(top + TILE_PX).min(self.height) {
                for pixel in &self.inverse_depth[y * self.width + left..y * self.width + right] {
                    for (least, &sample) in least.iter_mut().zip(pixel) {
                        *least = if sample < *least { sample } else { *least };
                    }
                }
            }
            self.farthest[tile] = least.into_iter().fold(f32::INFINITY, f32::min);
        }
    }

    /// Whether anything between these columns and rows that is no nearer than `nearest_m` was behind everything at the
    /// last survey, or is outside the image.
    pub(super) fn hides(
        &self,
        [[left, right], [top, bottom]]: [[f32; 2]; 2],
        nearest_m: f32,
    ) -> bool {
        let (w, h) = (self.width as f32, self.height as f32);
        if right < 0.0 || bottom < 0.0 || left >= w || top >= h {
            return true;
        }
        let within = |from: f32, to: f32, last: f32| [from.max(0.0) as i32, to.min(last) as i32];
        self.hidden(
            [within(left, right, w - 1.0), within(top, bottom, h - 1.0)],
            1.0 / nearest_m,
        )
    }

    /// Whether something as near as this, within these columns and rows, was behind everything at the last survey.
    fn hidden(&self, [x, y]: [[i32; 2]; 2], inverse_depth: f32) -> bool {
        let tiles = |[from, to]: [i32; 2]| from as usize / TILE_PX..=to as usize / TILE_PX;
        tiles(y).all(|row| {
            tiles(x).all(|column| inverse_depth < self.farthest[row * self.tile_columns + column])
        })
    }

    /// Draws a triangle. `object` is 0 for what is not annotated, else its mark, with its full extent to be grown.
    /// `coverage` gives the coverage (0..255) of a cut-out at `u`, `v`, texels a pixel.
    #[inline(never)]
    pub(super) fn draw(
        &mut self,
        t: &Triangle<'_>,
        focal_px: f32,
        object: u32,
        full: &mut Extent,
        cutout: Option<&Texture>,
    ) {
        let Some(outline) = Outline::new(t.pixels, self.width, self.height, t.two_sided) else {
            return;
        };
        let inverse = t.corners.map(|v| 1.0 / v.at[2]);
        let nearest = larger(larger(inverse[0], inverse[1]), inverse[2]);
        if object == 0 && self.hidden(outline.bounds(), nearest) {
            return;
        }
        let edges = Edges::of(&outline);
        let over_depth = |k: usize| {
            edges.plane([
                t.corners[0].attributes[k] * inverse[0],
                t.corners[1].attributes[k] * inverse[1],
                t.corners[2].attributes[k] * inverse[2],
            ])
        };
        let depth_plane = edges.plane(inverse);
        let index = self.shown.len() as u32;
        let mut depth_offset = [0.0; SAMPLES];
        for s in 0..SAMPLES {
            depth_offset[s] = depth_plane[1] * SAMPLE_AT[s][0] + depth_plane[2] * SAMPLE_AT[s][1];
        }
        let mut seen = false;
        let cutout = cutout.map(|texture| (texture, over_depth(0), over_depth(1)));
        // What is left of samples (`mask`) of a pixel where there are holes.
        let cut = |x: usize, y: i32, mask: u8| match &cutout {
            None => mask,
            Some((texture, u_plane, v_plane)) => {
                let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
                let depth = 1.0 / on(&depth_plane, px, py);
                let part = texture.coverage(
                    on(u_plane, px, py) * depth,
                    on(v_plane, px, py) * depth,
                    t.texels_per_m * depth / focal_px,
                );
                mask & dithered(part, x as u32 * 3 + y as u32 * 5 + t.turn)
            }
        };
        let marked = object != 0;
        if !marked {
            seen = if cutout.is_none() {
                self.fill(&edges, &depth_plane, &depth_offset, index, |_, _, mask| {
                    mask
                })
            } else {
                self.fill(&edges, &depth_plane, &depth_offset, index, cut)
            };
        }
        for y in edges.rows().filter(|_| marked) {
            let row = y as usize * self.width;
            let base = depth_plane[0] + depth_plane[2] * y as f32;
            let known = &mut self.inverse_depth[row..row + self.width];
            let front = &mut self.front[row..row + self.width];
            edges.covered(y, |x, mut mask| {
                let depth = base + depth_plane[1] * x as f32;
                let known = &mut known[x];
                let depths = depth_offset.map(|offset| depth + offset);
                let mut nearer = 0;
                for s in 0..SAMPLES {
                    nearer |= u8::from(depths[s] > known[s]) << s;
                }
                // Where an object would be seen must be known even where it is hidden.
                mask = cut(x, y, mask);
                if mask == 0 {
                    return;
                }
                let at = row + x;
                if self.stamp_object[at] != object {
                    self.stamp_object[at] = object;
                    self.stamp_mask[at] = 0;
                }
                let new = mask & !self.stamp_mask[at];
                if new != 0 {
                    self.stamp_mask[at] |= new;
                    full.add(x, y as usize, new);
                }
                mask &= nearer;
                let front = &mut front[x];
                if mask == WHOLE {
                    *known = depths;
                    *front = [index; SAMPLES];
                    seen = true;
                } else if mask != 0 {
                    for s in 0..SAMPLES {
                        if mask >> s & 1 == 1 {
                            known[s] = depths[s];
                            front[s] = index;
                        }
                    }
                    seen = true;
                }
            });
        }
        // Most small triangles turn out to be hidden: their attributes are not worth a plane.
        if seen {
            let [columns, rows] = outline.bounds();
            let tiles = |[from, to]: [i32; 2]| from as usize / TILE_PX..=to as usize / TILE_PX;
            for row in tiles(rows) {
                let first = row * self.tile_columns;
                for column in tiles(columns) {
                    self.stale[first + column] = true;
                }
            }
            self.shown.push(Shown {
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
            });
        }
    }

    /// Draws a triangle of what is not annotated; whether any of it is in front. `cut` tells what holes leave of samples.
    #[inline]
    fn fill(
        &mut self,
        edges: &Edges,
        depth: &Plane,
        offset: &[f32; SAMPLES],
        index: u32,
        cut: impl Fn(usize, i32, u8) -> u8,
    ) -> bool {
        let most = offset.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut seen = false;
        for y in edges.rows() {
            let Some(run) = edges.row(y) else {
                continue;
            };
            let y_px = y as usize;
            let row = y_px * self.width..(y_px + 1) * self.width;
            let known = &mut self.inverse_depth[row.clone()];
            let front = &mut self.front[row];
            let tiles = y_px / TILE_PX * self.tile_columns;
            let farthest = &self.farthest[tiles..tiles + self.tile_columns];
            let base = depth[0] + depth[2] * y as f32;
            let at = |x: i32| base + depth[1] * x as f32;
            let has_whole = run.whole_from <= run.whole_to;
            let parts = if has_whole {
                [(run.from, run.whole_from - 1), (run.whole_to + 1, run.to)]
            } else {
                [(run.from, run.to), (0, -1)]
            };
            for (from, to) in parts {
                if from > to {
                    continue;
                }
                let mut along = edges.along(from, y);
                for x in from..=to {
                    let inside = covered(&edges.inside(&mut along));
                    let depths = offset.map(|offset| at(x) + offset);
                    let x = x as usize;
                    let keep = |hit| cut(x, y, hit);
                    seen |= put(&mut known[x], &mut front[x], &depths, inside, index, keep);
                }
            }
            if !has_whole {
                continue;
            }
            let mut x = run.whole_from;
            while x <= run.whole_to {
                let tile = x as usize / TILE_PX;
                let last = (((tile + 1) * TILE_PX) as i32 - 1).min(run.whole_to);
                // What is behind all of a tile is hidden.
                if f32::max(at(x), at(last)) + most > farthest[tile] {
                    let pixels = x as usize..last as usize + 1;
                    let pairs = known[pixels.clone()].iter_mut().zip(&mut front[pixels]);
                    for (x, (known, front)) in (x..).zip(pairs) {
                        let depths = offset.map(|offset| at(x) + offset);
                        let keep = |hit| cut(x as usize, y, hit);
                        seen |= put(known, front, &depths, WHOLE, index, keep);
                    }
                }
                x = last + 1;
            }
        }
        seen
    }

    /// Marks samples as lying in cast shadow.
    pub(super) fn cast(&mut self, pixels: [[f32; 2]; 3]) {
        let Some(outline) = Outline::new(pixels, self.width, self.height, true) else {
            return;
        };
        let edges = Edges::of(&outline);
        for y in edges.rows() {
            let row = y as usize * self.width;
            let shadow = &mut self.shadow[row..row + self.width];
            edges.covered(y, |x, mask| shadow[x] |= mask);
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
        let Some(outline) = Outline::new(pixels, self.width, self.height, true) else {
            return;
        };
        let edges = Edges::of(&outline);
        let inverse = depths.map(|d| 1.0 / d);
        let (depth, value) = (
            edges.plane(inverse),
            edges.plane([
                value[0] * inverse[0],
                value[1] * inverse[1],
                value[2] * inverse[2],
            ]),
        );
        for y in edges.rows() {
            let row = y as usize * self.width;
            let contact = &mut self.contact[row..row + self.width];
            edges.covered(y, |x, _| {
                let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
                let share = (on(&value, px, py) / on(&depth, px, py)).clamp(0.0, 1.0);
                let dark = (strength * share * (2.0 - share) * 255.0) as u8;
                contact[x] = contact[x].max(dark);
            });
        }
    }
}
