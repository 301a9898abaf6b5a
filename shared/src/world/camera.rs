//! A pinhole camera with a little radial distortion.

use super::math::{V3, add, cos, dot, scale, sin, sub, turned};

/// Radius, in half image widths squared, beyond which the distortion grows no more: it would fold.
const DISTORTION_UP_TO: f32 = 2.2;

#[derive(Clone, Copy, Debug)]
pub(super) struct Camera {
    pub(super) at: V3,
    pub(super) right: V3,
    pub(super) up: V3,
    pub(super) forward: V3,
    pub(super) focal_px: f32,
    pub(super) cx_px: f32,
    pub(super) cy_px: f32,
    /// Relative shift at one half image width from the centre; negative is a barrel.
    pub(super) distortion: f32,
    pub(super) half_width_px: f32,
}

impl Camera {
    /// Axes from heading, pitch (up) and roll (clockwise), in radians.
    pub(super) fn aim(&mut self, heading: f32, pitch: f32, roll: f32) {
        let (sp, cp) = (sin(pitch), cos(pitch));
        let (sr, cr) = (sin(roll), cos(roll));
        let (sh, ch) = (sin(heading), cos(heading));
        let about = |p: V3| turned(p, sh, ch);
        self.forward = about([0.0, sp, cp]);
        let (right, up) = ([1.0, 0.0, 0.0], [0.0, cp, -sp]);
        self.right = about(sub(scale(right, cr), scale(up, sr)));
        self.up = about(add(scale(up, cr), scale(right, sr)));
    }

    /// Right, up and forward of the camera, in metres.
    #[inline]
    pub(super) fn view_from_world(&self, p: V3) -> V3 {
        let d = sub(p, self.at);
        [dot(d, self.right), dot(d, self.up), dot(d, self.forward)]
    }

    #[inline]
    pub(super) fn turn_into_view(&self, d: V3) -> V3 {
        [dot(d, self.right), dot(d, self.up), dot(d, self.forward)]
    }

    #[inline]
    pub(super) fn pixel_from_view(&self, v: V3) -> [f32; 2] {
        let k = self.focal_px / v[2];
        let (dx, dy) = (v[0] * k, -v[1] * k);
        let (nx, ny) = (dx / self.half_width_px, dy / self.half_width_px);
        let bend = 1.0 + self.distortion * (nx * nx + ny * ny).min(DISTORTION_UP_TO);
        [self.cx_px + dx * bend, self.cy_px + dy * bend]
    }

    /// First and last column and row, in pixels, that any point of a ball can have; `None` where it comes nearer than
    /// `near_m`. Larger than they need be.
    pub(super) fn bounds_of_ball(
        &self,
        middle: V3,
        radius_m: f32,
        near_m: f32,
    ) -> Option<[[f32; 2]; 2]> {
        let (near, far) = (middle[2] - radius_m, middle[2] + radius_m);
        if near <= near_m {
            return None;
        }
        // The box about the ball: what is off to one side is farthest off where it is near, or least where it is far.
        let span = |centre: f32| {
            let (low, high) = (centre - radius_m, centre + radius_m);
            let low = low / if low > 0.0 { far } else { near };
            let high = high / if high > 0.0 { near } else { far };
            [low * self.focal_px, high * self.focal_px]
        };
        let (across, down) = (span(middle[0]), span(-middle[1]));
        let reach = |[low, high]: [f32; 2]| (-low).max(high) / self.half_width_px;
        let (nx, ny) = (reach(across), reach(down));
        let bend = 1.0 + self.distortion * (nx * nx + ny * ny).min(DISTORTION_UP_TO);
        let bent = |[low, high]: [f32; 2], centre: f32| {
            [centre + low.min(low * bend), centre + high.max(high * bend)]
        };
        Some([bent(across, self.cx_px), bent(down, self.cy_px)])
    }

    /// Direction through a pixel, in the world; not of unit length.
    #[inline]
    pub(super) fn ray(&self, x_px: f32, y_px: f32) -> V3 {
        let (dx, dy) = (x_px - self.cx_px, y_px - self.cy_px);
        let (nx, ny) = (dx / self.half_width_px, dy / self.half_width_px);
        // One step of the inverse; what is left over is below a tenth of a pixel.
        let bend = 1.0 + self.distortion * (nx * nx + ny * ny).min(DISTORTION_UP_TO);
        let (mx, my) = (nx / bend, ny / bend);
        let bend = 1.0 + self.distortion * (mx * mx + my * my).min(DISTORTION_UP_TO);
        let k = 1.0 / (bend * self.focal_px);
        add(
            self.forward,
            sub(scale(self.right, dx * k), scale(self.up, dy * k)),
        )
    }
}
