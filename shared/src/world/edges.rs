//! Which samples of which pixels a triangle covers, and the planes over it.
//!
//! Enters: three corners in pixels. Leaves: for every row, the columns that are covered, with a mask of [`SAMPLES`]
//! bits. Columns that are covered whole are told apart by arithmetic on the row's ends, so that large triangles (ground,
//! walls) cost nothing but the depth test there.

use super::math::{larger, smaller};
use super::raster::{Plane, SAMPLE_AT, SAMPLES};

/// A mask with every sample in it.
pub(super) const WHOLE: u8 = (1 << SAMPLES) - 1;

/// Below this area, in square pixels, a triangle is taken for an edge seen end on.
const LEAST_AREA_PX2: f64 = 1e-6;

/// Samples a pixel along one side: every one lies in the middle of a cell, but for half a cell, of a grid so fine.
const SIDE: f64 = SAMPLES as f64;

/// A triangle so narrow is looked at pixel by pixel: finding out where its rows begin and end would take longer.
const NARROW_PX: i32 = 4;

/// The edge functions of a triangle: positive inside, in double precision because corners may lie far outside the image.
pub(super) struct Edges {
    /// `a x + b y + c` for every edge.
    slope: [[f64; 3]; 3],
    /// `a`, for going along a row.
    step: [f32; 3],
    /// What a sample's place in its pixel adds to that.
    offset: [[f32; SAMPLES]; 3],
    /// Greatest and least of the offsets.
    most: [f64; 3],
    least: [f64; 3],
    /// `1 / a`.
    per_slope: [f64; 3],
    /// First and last column, first and last row.
    x: [i32; 2],
    y: [i32; 2],
    inverse_area: f64,
    points: [[f64; 2]; 3],
}

/// Columns of a row, ends included: covered at all, and covered whole (none where the ends are the wrong way round).
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) from: i32,
    pub(super) to: i32,
    pub(super) whole_from: i32,
    pub(super) whole_to: i32,
}

/// The edges along a row.
#[derive(Clone, Copy)]
pub(super) struct Along([f32; 3]);

/// A triangle's corners and what is quickly known of it.
pub(super) struct Outline {
    points: [[f64; 2]; 3],
    area: f64,
    /// First and last column, first and last row that may be covered.
    x: [i32; 2],
    y: [i32; 2],
}

impl Outline {
    /// `None` where the triangle is seen from behind (unless `two_sided`), is empty, is outside, or lies between samples.
    #[inline]
    pub(super) fn new(
        p: [[f32; 2]; 3],
        width: usize,
        height: usize,
        two_sided: bool,
    ) -> Option<Self> {
        let points = p.map(|v| [f64::from(v[0]), f64::from(v[1])]);
        let [q, r, s] = points;
        let area = (r[0] - q[0]) * (s[1] - q[1]) - (s[0] - q[0]) * (r[1] - q[1]);
        // A face seen from outside goes round so that this is positive; see `Mesh::quad`.
        if !area.is_finite() || area.abs() < LEAST_AREA_PX2 || (area < 0.0 && !two_sided) {
            return None;
        }
        let span = |k: usize, size: usize| {
            let low = larger(smaller(smaller(q[k], r[k]), s[k]), 0.0);
            let high = smaller(larger(larger(q[k], r[k]), s[k]), size as f64 - 0.5 / SIDE);
            // Samples lie on lines that are a fraction of a pixel apart.
            let line = |v: f64| (v * SIDE + 0.5) as i32;
            (high > low && line(high) > line(low - 1e-3)).then_some([low as i32, high as i32])
        };
        Some(Self {
            points,
            area,
            x: span(0, width)?,
            y: span(1, height)?,
        })
    }

    /// First and last column and row that may be covered.
    #[inline]
    pub(super) fn bounds(&self) -> [[i32; 2]; 2] {
        [self.x, self.y]
    }
}

impl Edges {
    /// The edges of a triangle.
    #[inline]
    pub(super) fn of(outline: &Outline) -> Self {
        let &Outline { points, area, x, y } = outline;
        let mut q = points;
        if area < 0.0 {
            q.swap(1, 2);
        }
        let mut slope = [[0.0; 3]; 3];
        let mut offset = [[0.0; SAMPLES]; 3];
        let mut most = [f64::NEG_INFINITY; 3];
        let mut least = [f64::INFINITY; 3];
        for k in 0..3 {
            let (a, b) = (q[k], q[(k + 1) % 3]);
            let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
            slope[k] = [-dy, dx, dy * a[0] - dx * a[1]];
            for s in 0..SAMPLES {
                let value = slope[k][0] * f64::from(SAMPLE_AT[s][0])
                    + slope[k][1] * f64::from(SAMPLE_AT[s][1]);
                offset[k][s] = value as f32;
                most[k] = most[k].max(value);
                least[k] = least[k].min(value);
            }
        }
        Self {
            slope,
            step: slope.map(|s| s[0] as f32),
            offset,
            most,
            least,
            per_slope: slope.map(|s| 1.0 / s[0]),
            x,
            y,
            inverse_area: 1.0 / area,
            points,
        }
    }

    /// Rows that may be covered.
    #[inline]
    pub(super) fn rows(&self) -> core::ops::RangeInclusive<i32> {
        self.y[0]..=self.y[1]
    }

    /// Which columns of a row are covered.
    #[inline]
    pub(super) fn row(&self, y: i32) -> Option<Row> {
        let [mut from, mut to] = self.x;
        if to - from < NARROW_PX {
            return Some(Row {
                from,
                to,
                whole_from: 1,
                whole_to: 0,
            });
        }
        let [mut whole_from, mut whole_to] = self.x;
        for k in 0..3 {
            let [a, b, c] = self.slope[k];
            let rest = b * f64::from(y) + c;
            if a == 0.0 {
                if rest + self.most[k] < 0.0 {
                    return None;
                }
                if rest + self.least[k] < 0.0 {
                    whole_to = -1;
                }
                continue;
            }
            // Where the edge goes through the sample that is covered first, and through the one covered last. Casts
            // saturate; whatever they cut off, `mask` looks at.
            let some = -(rest + self.most[k]) * self.per_slope[k];
            let every = -(rest + self.least[k]) * self.per_slope[k];
            if a > 0.0 {
                from = from.max(some as i32);
                whole_from = whole_from.max((every as i32).saturating_add(1));
            } else {
                if some < 0.0 {
                    return None;
                }
                to = to.min(some as i32);
                whole_to = whole_to.min(if every < 0.0 { -1 } else { every as i32 });
            }
        }
        (from <= to).then_some(Row {
            from,
            to,
            whole_from: whole_from.max(from),
            whole_to: whole_to.min(to),
        })
    }

    /// The edges at the upper left corner of a pixel.
    #[inline]
    pub(super) fn along(&self, x: i32, y: i32) -> Along {
        Along(
            self.slope
                .map(|[a, b, c]| (a * f64::from(x) + b * f64::from(y) + c) as f32),
        )
    }

    /// How far inside each sample of a pixel is, below zero outside; then on to the next pixel.
    #[inline]
    pub(super) fn inside(&self, along: &mut Along) -> [f32; SAMPLES] {
        let e = along.0;
        let inside = core::array::from_fn(|s| {
            smaller(
                smaller(e[0] + self.offset[0][s], e[1] + self.offset[1][s]),
                e[2] + self.offset[2][s],
            )
        });
        for (value, step) in along.0.iter_mut().zip(self.step) {
            *value += step;
        }
        inside
    }

    /// Calls `visit` with every column of a row that has covered samples, from left to right, and with their mask.
    #[inline]
    pub(super) fn covered(&self, y: i32, mut visit: impl FnMut(usize, u8)) {
        let Some(row) = self.row(y) else {
            return;
        };
        let runs = if row.whole_from <= row.whole_to {
            [
                (row.from, row.whole_from - 1, false),
                (row.whole_from, row.whole_to, true),
                (row.whole_to + 1, row.to, false),
            ]
        } else {
            [(row.from, row.to, false), (0, -1, true), (0, -1, true)]
        };
        for (from, to, whole) in runs {
            if from > to {
                continue;
            }
            if whole {
                (from..=to).for_each(|x| visit(x as usize, WHOLE));
                continue;
            }
            let mut along = self.along(from, y);
            for x in from..=to {
                let inside = self.inside(&mut along);
                let mut mask = 0;
                for (s, inside) in inside.into_iter().enumerate() {
                    mask |= u8::from(inside >= 0.0) << s;
                }
                if mask != 0 {
                    visit(x as usize, mask);
                }
            }
        }
    }

    /// The plane through three values at the corners.
    #[inline]
    pub(super) fn plane(&self, f: [f32; 3]) -> Plane {
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
