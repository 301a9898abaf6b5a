//! A picture in the planes that the video encoder takes, and what can be drawn on it.
//!
//! In: frames in any pixel format, rectangles, lines, letters. Out: [`I420`]. What lies outside the picture is left out.

use roadhound_shared::frame::PixelFormat;
use roadhound_shared::geometry::BoxXywh;

use super::font::FONT;
use crate::source::Pixels;

/// Y, U and V, BT.601 limited range.
pub(super) type Yuv = [u8; 3];

pub(super) const WHITE: Yuv = [235, 128, 128];

/// A picture in three planes, the second and third at half the size: 4:2:0.
///
/// Sides are even; a last odd row or column of the source is left out.
#[derive(Default)]
pub struct I420 {
    /// Width in pixels, even.
    pub width_px: usize,
    /// Height in pixels, even.
    pub height_px: usize,
    /// `width * height` bytes.
    pub y: Vec<u8>,
    /// `width * height / 4` bytes.
    pub u: Vec<u8>,
    /// `width * height / 4` bytes.
    pub v: Vec<u8>,
}

fn luma(r: i32, g: i32, b: i32) -> u8 {
    (16 + ((16_829 * r + 33_039 * g + 6_416 * b + (1 << 15)) >> 16)) as u8
}

impl I420 {
    /// Takes over a frame, whatever its format. Buffers are used again.
    pub fn fill(&mut self, pixels: &Pixels<'_>) {
        let source_width = pixels.width_px() as usize;
        let (width, height) = (source_width & !1, pixels.height_px() as usize & !1);
        (self.width_px, self.height_px) = (width, height);
        self.y.resize(width * height, 0);
        self.u.resize(width * height / 4, 0);
        self.v.resize(width * height / 4, 0);
        if width == 0 || height == 0 {
            return;
        }
        match *pixels {
            Pixels::Nv12 { luma, chroma, .. } => {
                self.y.copy_from_slice(&luma[..width * height]);
                for ((u, v), pair) in self
                    .u
                    .iter_mut()
                    .zip(&mut self.v)
                    .zip(chroma.chunks_exact(2))
                {
                    (*u, *v) = (pair[0], pair[1]);
                }
            }
            Pixels::Packed {
                format: PixelFormat::Yuyv,
                data,
                ..
            } => {
                for (row, out) in data
                    .chunks_exact(source_width * 2)
                    .zip(self.y.chunks_exact_mut(width))
                {
                    out.iter_mut()
                        .zip(row.chunks_exact(2))
                        .for_each(|(y, pair)| *y = pair[0]);
                }
                let chroma = self
                    .u
                    .chunks_exact_mut(width / 2)
                    .zip(self.v.chunks_exact_mut(width / 2));
                for (rows, (us, vs)) in data.chunks_exact(source_width * 4).zip(chroma) {
                    let (upper, lower) = rows.split_at(source_width * 2);
                    for (((a, b), u), v) in upper
                        .chunks_exact(4)
                        .zip(lower.chunks_exact(4))
                        .zip(us)
                        .zip(vs)
                    {
                        *u = a[1].midpoint(b[1]);
                        *v = a[3].midpoint(b[3]);
                    }
                }
            }
            Pixels::Packed {
                format: PixelFormat::Grey8,
                data,
                ..
            } => {
                for (row, out) in data
                    .chunks_exact(source_width)
                    .zip(self.y.chunks_exact_mut(width))
                {
                    out.iter_mut()
                        .zip(row)
                        .for_each(|(y, &g)| *y = luma(i32::from(g), i32::from(g), i32::from(g)));
                }
                self.u.fill(128);
                self.v.fill(128);
            }
            Pixels::Packed { format, data, .. } => {
                let (red, blue) = if format == PixelFormat::Bgr8 {
                    (2, 0)
                } else {
                    (0, 2)
                };
                let rows = data.chunks_exact(source_width * 6);
                let planes = self
                    .y
                    .chunks_exact_mut(width * 2)
                    .zip(self.u.chunks_exact_mut(width / 2))
                    .zip(self.v.chunks_exact_mut(width / 2));
                for (pair, ((ys, us), vs)) in rows.zip(planes) {
                    let (upper, lower) = pair.split_at(source_width * 3);
                    let (upper_out, lower_out) = ys.split_at_mut(width);
                    for i in 0..width / 2 {
                        let mut sum = [0i32; 3];
                        for (row, out) in [(upper, &mut *upper_out), (lower, &mut *lower_out)] {
                            for k in [2 * i, 2 * i + 1] {
                                let p = &row[3 * k..3 * k + 3];
                                let (r, g, b) =
                                    (i32::from(p[red]), i32::from(p[1]), i32::from(p[blue]));
                                out[k] = luma(r, g, b);
                                sum = [sum[0] + r, sum[1] + g, sum[2] + b];
                            }
                        }
                        let [r, g, b] = sum;
                        // Four pixels' sum: the shift divides by four as well.
                        us[i] = (128 + ((-9_714 * r - 19_070 * g + 28_784 * b + (1 << 17)) >> 18))
                            as u8;
                        vs[i] =
                            (128 + ((28_784 * r - 24_103 * g - 4_681 * b + (1 << 17)) >> 18)) as u8;
                    }
                }
            }
        }
    }

    /// Paints a rectangle, edges given in pixels; what lies outside the picture is left out.
    pub(super) fn fill_rect(&mut self, left: i32, top: i32, right: i32, bottom: i32, colour: Yuv) {
        let clamp = |v: i32, most: usize| v.clamp(0, most as i32) as usize;
        let (x0, x1) = (clamp(left, self.width_px), clamp(right, self.width_px));
        let (y0, y1) = (clamp(top, self.height_px), clamp(bottom, self.height_px));
        if x0 >= x1 || y0 >= y1 {
            return;
        }
        for y in y0..y1 {
            self.y[y * self.width_px + x0..y * self.width_px + x1].fill(colour[0]);
        }
        let half = self.width_px / 2;
        for y in y0 / 2..y1.div_ceil(2) {
            let cells = y * half + x0 / 2..y * half + x1.div_ceil(2);
            self.u[cells.clone()].fill(colour[1]);
            self.v[cells].fill(colour[2]);
        }
    }

    /// Halves the light of a rectangle, as a ground for text.
    pub(super) fn darken(&mut self, left: i32, top: i32, right: i32, bottom: i32) {
        let clamp = |v: i32, most: usize| v.clamp(0, most as i32) as usize;
        let (x0, x1) = (clamp(left, self.width_px), clamp(right, self.width_px));
        for y in clamp(top, self.height_px)..clamp(bottom, self.height_px) {
            self.y[y * self.width_px + x0..y * self.width_px + x1]
                .iter_mut()
                .for_each(|v| *v = 16 + v.saturating_sub(16) / 4);
        }
    }

    pub(super) fn outline(&mut self, b: &BoxXywh, line: i32, colour: Yuv) {
        // Even edges and thickness: a coloured line then has its chroma to itself.
        let even = |v: f32| (v.clamp(-1e6, 1e6) / 2.0).round() as i32 * 2;
        let (l, t) = (even(b.x_px), even(b.y_px));
        let (r, d) = (
            even(b.x_px + b.w_px).max(l + line),
            even(b.y_px + b.h_px).max(t + line),
        );
        self.fill_rect(l, t, r, t + line, colour);
        self.fill_rect(l, d - line, r, d, colour);
        self.fill_rect(l, t, l + line, d, colour);
        self.fill_rect(r - line, t, r, d, colour);
    }

    pub(super) fn text(&mut self, left: i32, top: i32, scale: i32, text: &str, colour: Yuv) {
        for (n, letter) in text.chars().enumerate() {
            let rows = FONT
                .iter()
                .find(|(c, _)| *c == letter)
                .map_or([0; 7], |(_, rows)| *rows);
            let x = left + n as i32 * 6 * scale;
            for (row, bits) in (0..).zip(rows) {
                for column in 0..5 {
                    if bits >> (4 - column) & 1 == 1 {
                        let (x0, y0) = (x + column * scale, top + row * scale);
                        for y in y0.max(0)..(y0 + scale).min(self.height_px as i32) {
                            for x in x0.max(0)..(x0 + scale).min(self.width_px as i32) {
                                self.y[y as usize * self.width_px + x as usize] = colour[0];
                            }
                        }
                    }
                }
            }
        }
    }

    /// Letters in a unit of the picture's size: one for 360 rows.
    pub(super) fn text_scale(&self) -> i32 {
        (self.height_px as i32 / 360).max(1)
    }

    /// Draws a line of text on a dark ground, underlined in its colour, as near to `(x, y)` as the picture has room for.
    pub(super) fn label(&mut self, (x, y): (i32, i32), text: &str, colour: Yuv) {
        let scale = self.text_scale();
        let wide = text.chars().count() as i32 * 6 * scale;
        let (high, margin) = (7 * scale, 3 * scale);
        let x = x.clamp(margin, (self.width_px as i32 - wide - margin).max(margin));
        let y = y.clamp(margin, (self.height_px as i32 - high - margin).max(margin));
        self.darken(x - margin, y - margin, x + wide + margin, y + high + margin);
        self.fill_rect(
            (x - margin) & !1,
            (y + high + margin) & !1,
            x + wide + margin,
            ((y + high + margin) & !1) + 2,
            colour,
        );
        self.text(x, y, scale, text, WHITE);
    }

    /// Where the label of a box goes: above it where there is room, else below.
    pub(super) fn label_place(&self, b: &BoxXywh) -> (i32, i32) {
        let scale = self.text_scale();
        let (high, margin) = (7 * scale, 3 * scale);
        let above = b.y_px as i32 - high - 2 * margin;
        let y = if above >= margin {
            above
        } else {
            (b.y_px + b.h_px) as i32 + 2 * margin
        };
        (b.x_px as i32, y)
    }

    /// Draws a straight line of dots two pixels wide and high.
    pub(super) fn segment(&mut self, from: (f32, f32), to: (f32, f32), colour: Yuv) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let steps = (dx.abs().max(dy.abs()) / 2.0).ceil();
        // What is not a number is nowhere (a maximum passes over it), and nobody's line is longer than this.
        if !(dx + dy).is_finite() || steps > 1e5 {
            return;
        }
        for step in 0..=steps as u32 {
            let share = step as f32 / steps.max(1.0);
            let even = |v: f32| (v.clamp(-1e6, 1e6) / 2.0).round() as i32 * 2;
            let (x, y) = (even(from.0 + share * dx), even(from.1 + share * dy));
            self.fill_rect(x, y, x + 2, y + 2, colour);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn grey_ramp_keeps_its_order_and_its_range() {
        let data: Vec<u8> = (0..=255).collect();
        let mut picture = I420::default();
        picture.fill(&Pixels::Packed {
            format: PixelFormat::Grey8,
            width_px: 128,
            height_px: 2,
            data: &data,
        });
        assert!(picture.y.is_sorted());
        assert_eq!((picture.y[0], picture.y[255]), (16, 235));
    }

    #[test]
    fn rgb_and_bgr_of_the_same_colour_give_the_same_planes() {
        let (mut a, mut b) = (I420::default(), I420::default());
        let (rgb, bgr) = ([200, 30, 60].repeat(16), [60, 30, 200].repeat(16));
        a.fill(&Pixels::Packed {
            format: PixelFormat::Rgb8,
            width_px: 4,
            height_px: 4,
            data: &rgb,
        });
        b.fill(&Pixels::Packed {
            format: PixelFormat::Bgr8,
            width_px: 4,
            height_px: 4,
            data: &bgr,
        });
        assert_eq!((&a.y, &a.u, &a.v), (&b.y, &b.u, &b.v));
        // Red enough that V is far above the middle and U below it.
        assert!(a.v[0] > 180 && a.u[0] < 128);
    }

    #[test]
    fn odd_last_row_and_column_are_left_out() {
        let data = [128u8; 5 * 3 * 3];
        let mut picture = I420::default();
        picture.fill(&Pixels::Packed {
            format: PixelFormat::Rgb8,
            width_px: 5,
            height_px: 3,
            data: &data,
        });
        assert_eq!(
            (picture.width_px, picture.height_px, picture.y.len()),
            (4, 2, 8)
        );
    }

    #[test]
    fn box_far_outside_changes_nothing_and_does_not_fail() {
        let data = [128u8; 64 * 64];
        let mut picture = I420::default();
        picture.fill(&Pixels::Packed {
            format: PixelFormat::Grey8,
            width_px: 64,
            height_px: 64,
            data: &data,
        });
        let before = picture.y.clone();
        picture.outline(&BoxXywh::new(-1e9, 1e9, 1e12, 5.0), 2, WHITE);
        assert_eq!(picture.y, before);
    }

    #[test]
    fn a_segment_reaches_both_ends_and_one_that_is_nowhere_draws_nothing() {
        let data = [16u8; 64 * 64];
        let mut picture = I420::default();
        picture.fill(&Pixels::Packed {
            format: PixelFormat::Grey8,
            width_px: 64,
            height_px: 64,
            data: &data,
        });
        let before = picture.y.clone();
        picture.segment((0.0, f32::NAN), (9.0, 9.0), WHITE);
        picture.segment((0.0, 0.0), (1e9, 0.0), WHITE);
        assert!(picture.y == before, "something was drawn");
        picture.segment((10.0, 20.0), (50.0, 8.0), WHITE);
        for (x, y) in [(10, 20), (50, 8), (30, 14)] {
            assert_eq!(picture.y[y * 64 + x], 235, "{x} {y}");
        }
    }
}
