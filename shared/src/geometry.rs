//! Box formats and the maps between image, crop and feature space.
//!
//! What enters and leaves: boxes in pixels of some space, and affine maps named `a_from_b`. All coordinates are
//! continuous: pixel `i` covers `[i, i + 1)`, its centre is at `i + 0.5`, the origin is the top-left corner of the
//! top-left pixel. Each box format has its own type; [`BoxXywh`] is the canonical one.
//!
//! ```
//! use roadhound_shared::geometry::{AxisAffine, BoxXywh};
//!
//! let image_from_crop = AxisAffine::new(2.0, 100.0, 2.0, 50.0);
//! let box_in_crop = BoxXywh::new(10.0, 10.0, 20.0, 20.0);
//! let box_in_image = image_from_crop.apply_box(&box_in_crop);
//! assert_eq!(box_in_image, BoxXywh::new(120.0, 70.0, 40.0, 40.0));
//! ```

use serde::{Deserialize, Serialize};

/// Pixel edges, half-open: covers `[x, x + w) x [y, y + h)`. The canonical box, in result files and reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxXywh {
    /// Left edge.
    pub x_px: f32,
    /// Top edge.
    pub y_px: f32,
    /// Width.
    pub w_px: f32,
    /// Height.
    pub h_px: f32,
}

/// Four edges: covers `[left, right) x [top, bottom)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxLtrb {
    /// Left edge.
    pub left_px: f32,
    /// Top edge.
    pub top_px: f32,
    /// Right edge, exclusive.
    pub right_px: f32,
    /// Bottom edge, exclusive.
    pub bottom_px: f32,
}

/// Centre and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxCxcywh {
    /// Horizontal centre.
    pub cx_px: f32,
    /// Vertical centre.
    pub cy_px: f32,
    /// Width.
    pub w_px: f32,
    /// Height.
    pub h_px: f32,
}

impl BoxXywh {
    /// A box from its left and top edge and its size.
    #[must_use]
    pub const fn new(x_px: f32, y_px: f32, w_px: f32, h_px: f32) -> Self {
        Self {
            x_px,
            y_px,
            w_px,
            h_px,
        }
    }

    /// A box from its centre and size.
    #[must_use]
    pub fn from_center(cx_px: f32, cy_px: f32, w_px: f32, h_px: f32) -> Self {
        Self::new(cx_px - w_px / 2.0, cy_px - h_px / 2.0, w_px, h_px)
    }

    /// Horizontal and vertical centre.
    #[must_use]
    pub fn center(&self) -> (f32, f32) {
        (self.x_px + self.w_px / 2.0, self.y_px + self.h_px / 2.0)
    }

    /// Right edge, exclusive.
    #[must_use]
    pub fn right_px(&self) -> f32 {
        self.x_px + self.w_px
    }

    /// Bottom edge, exclusive.
    #[must_use]
    pub fn bottom_px(&self) -> f32 {
        self.y_px + self.h_px
    }

    /// Area in square pixels; zero where a side is not positive.
    #[must_use]
    pub fn area(&self) -> f32 {
        self.w_px.max(0.0) * self.h_px.max(0.0)
    }

    /// Whether every coordinate is finite and both sides are positive.
    #[must_use]
    pub fn is_proper(&self) -> bool {
        let Self {
            x_px,
            y_px,
            w_px,
            h_px,
        } = *self;
        x_px.is_finite()
            && y_px.is_finite()
            && w_px.is_finite()
            && h_px.is_finite()
            && w_px > 0.0
            && h_px > 0.0
    }

    /// Whether the box is [proper](Self::is_proper) and overlaps a frame of this size.
    #[must_use]
    pub fn is_sane(&self, frame_width_px: u32, frame_height_px: u32) -> bool {
        self.is_proper() && self.clip(frame_width_px, frame_height_px).is_some()
    }

    /// The part inside a frame of this size; `None` where nothing of positive area is.
    #[must_use]
    pub fn clip(&self, frame_width_px: u32, frame_height_px: u32) -> Option<Self> {
        self.intersection(&Self::new(
            0.0,
            0.0,
            frame_width_px as f32,
            frame_height_px as f32,
        ))
    }

    /// The common part of two boxes; `None` where it has no positive area.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (a, b) = (BoxLtrb::from(*self), BoxLtrb::from(*other));
        let common = BoxLtrb {
            left_px: a.left_px.max(b.left_px),
            top_px: a.top_px.max(b.top_px),
            right_px: a.right_px.min(b.right_px),
            bottom_px: a.bottom_px.min(b.bottom_px),
        };
        let common = Self::from(common);
        (common.w_px > 0.0 && common.h_px > 0.0).then_some(common)
    }

    /// Intersection over union, 0 to 1. Zero for boxes without area or with coordinates that are not finite.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        self.overlap(other).map_or(0.0, |overlap| overlap.iou)
    }

    /// Generalised intersection over union, -1 to 1 (Rezatofighi et al., CVPR 2019): IoU less the share of the hull
    /// that neither box covers. -1 for boxes without area or with coordinates that are not finite.
    #[must_use]
    pub fn giou(&self, other: &Self) -> f32 {
        self.overlap(other)
            .map_or(-1.0, |overlap| overlap.iou - overlap.hull_waste)
    }

    /// `None` unless both boxes are proper. Double precision: areas of far-off boxes overflow or cancel in single.
    fn overlap(&self, other: &Self) -> Option<Overlap> {
        if !self.is_proper() || !other.is_proper() {
            return None;
        }
        let edges = |b: &Self| {
            let (x, y) = (f64::from(b.x_px), f64::from(b.y_px));
            [x, y, x + f64::from(b.w_px), y + f64::from(b.h_px)]
        };
        let (a, b) = (edges(self), edges(other));
        let area = |e: [f64; 4]| (e[2] - e[0]).max(0.0) * (e[3] - e[1]).max(0.0);
        let common = area([
            a[0].max(b[0]),
            a[1].max(b[1]),
            a[2].min(b[2]),
            a[3].min(b[3]),
        ]);
        let hull = area([
            a[0].min(b[0]),
            a[1].min(b[1]),
            a[2].max(b[2]),
            a[3].max(b[3]),
        ]);
        let union = area(a) + area(b) - common;
        // Sides too small to survive addition to the corner leave no area.
        if !(union > 0.0 && hull > 0.0) {
            return None;
        }
        Some(Overlap {
            iou: (common / union) as f32,
            hull_waste: ((hull - union) / hull).clamp(0.0, 1.0) as f32,
        })
    }

    /// The box moved by this many pixels.
    #[must_use]
    pub fn translated(&self, dx_px: f32, dy_px: f32) -> Self {
        Self {
            x_px: self.x_px + dx_px,
            y_px: self.y_px + dy_px,
            ..*self
        }
    }

    /// The box grown (or shrunk) about its centre.
    #[must_use]
    pub fn scaled_about_center(&self, factor_x: f32, factor_y: f32) -> Self {
        let (cx_px, cy_px) = self.center();
        Self::from_center(cx_px, cy_px, self.w_px * factor_x, self.h_px * factor_y)
    }
}

struct Overlap {
    iou: f32,
    hull_waste: f32,
}

impl BoxLtrb {
    /// A box from its four edges.
    #[must_use]
    pub const fn new(left_px: f32, top_px: f32, right_px: f32, bottom_px: f32) -> Self {
        Self {
            left_px,
            top_px,
            right_px,
            bottom_px,
        }
    }

    /// Left, top, right, bottom.
    #[must_use]
    pub const fn to_array(self) -> [f32; 4] {
        [self.left_px, self.top_px, self.right_px, self.bottom_px]
    }
}

impl From<BoxLtrb> for BoxXywh {
    fn from(b: BoxLtrb) -> Self {
        Self::new(
            b.left_px,
            b.top_px,
            b.right_px - b.left_px,
            b.bottom_px - b.top_px,
        )
    }
}

impl From<BoxXywh> for BoxLtrb {
    fn from(b: BoxXywh) -> Self {
        Self::new(b.x_px, b.y_px, b.right_px(), b.bottom_px())
    }
}

impl From<BoxCxcywh> for BoxXywh {
    fn from(b: BoxCxcywh) -> Self {
        Self::from_center(b.cx_px, b.cy_px, b.w_px, b.h_px)
    }
}

impl From<BoxXywh> for BoxCxcywh {
    fn from(b: BoxXywh) -> Self {
        let (cx_px, cy_px) = b.center();
        Self {
            cx_px,
            cy_px,
            w_px: b.w_px,
            h_px: b.h_px,
        }
    }
}

/// A map `a = scale * b + offset` on one axis; name the value `a_from_b`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine1 {
    /// Units of `a` for one unit of `b`.
    pub scale: f32,
    /// Where the origin of `b` lies in `a`.
    pub offset: f32,
}

impl Affine1 {
    /// Changes nothing.
    pub const IDENTITY: Self = Self {
        scale: 1.0,
        offset: 0.0,
    };

    /// A coordinate in `b`, in `a`.
    #[must_use]
    pub fn apply(self, in_b: f32) -> f32 {
        self.scale * in_b + self.offset
    }

    /// `b_from_a`; `None` where the scale is zero, not finite, or too small to be inverted.
    #[must_use]
    pub fn inverse(self) -> Option<Self> {
        let scale = 1.0 / self.scale;
        let inverse = Self {
            scale,
            offset: -self.offset * scale,
        };
        (scale.is_finite() && scale != 0.0 && inverse.offset.is_finite()).then_some(inverse)
    }

    /// `a_from_c`, where `self` is `a_from_b`.
    #[must_use]
    pub fn compose(self, b_from_c: Self) -> Self {
        Self {
            scale: self.scale * b_from_c.scale,
            offset: self.apply(b_from_c.offset),
        }
    }
}

/// A map between two spaces whose axes are parallel; name the value `a_from_b`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AxisAffine {
    /// Horizontal map.
    pub x: Affine1,
    /// Vertical map.
    pub y: Affine1,
}

impl AxisAffine {
    /// Changes nothing.
    pub const IDENTITY: Self = Self {
        x: Affine1::IDENTITY,
        y: Affine1::IDENTITY,
    };

    /// A map from the scale and offset of each axis.
    #[must_use]
    pub const fn new(scale_x: f32, offset_x: f32, scale_y: f32, offset_y: f32) -> Self {
        Self {
            x: Affine1 {
                scale: scale_x,
                offset: offset_x,
            },
            y: Affine1 {
                scale: scale_y,
                offset: offset_y,
            },
        }
    }

    /// A point of `b`, in `a`.
    #[must_use]
    pub fn apply(self, (x, y): (f32, f32)) -> (f32, f32) {
        (self.x.apply(x), self.y.apply(y))
    }

    /// A box in `b`, in `a`. Scales are taken to be positive; a mirror image needs its edges swapped by the caller.
    #[must_use]
    pub fn apply_box(self, in_b: &BoxXywh) -> BoxXywh {
        BoxXywh::new(
            self.x.apply(in_b.x_px),
            self.y.apply(in_b.y_px),
            self.x.scale * in_b.w_px,
            self.y.scale * in_b.h_px,
        )
    }

    /// `b_from_a`; `None` where an axis cannot be inverted.
    #[must_use]
    pub fn inverse(self) -> Option<Self> {
        Some(Self {
            x: self.x.inverse()?,
            y: self.y.inverse()?,
        })
    }

    /// `a_from_c`, where `self` is `a_from_b`.
    #[must_use]
    pub fn compose(self, b_from_c: Self) -> Self {
        Self {
            x: self.x.compose(b_from_c.x),
            y: self.y.compose(b_from_c.y),
        }
    }
}

/// An affine map of points between two pictures, such as what a moving camera makes of a scene; name the value
/// `a_from_b`. [`AxisAffine`] is for spaces whose axes are parallel.
///
/// ```
/// use roadhound_shared::geometry::Affine2;
///
/// let now_from_last = Affine2::translation(12.0, -3.0);
/// assert_eq!(now_from_last.apply((100.0, 50.0)), (112.0, 47.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine2 {
    /// Horizontal in `a` for a pixel of `b` to the right.
    pub x_from_x: f32,
    /// Horizontal in `a` for a pixel of `b` down.
    pub x_from_y: f32,
    /// Horizontal place in `a` of the origin of `b`.
    pub x_px: f32,
    /// Vertical in `a` for a pixel of `b` to the right.
    pub y_from_x: f32,
    /// Vertical in `a` for a pixel of `b` down.
    pub y_from_y: f32,
    /// Vertical place in `a` of the origin of `b`.
    pub y_px: f32,
}

impl Affine2 {
    /// Changes nothing.
    pub const IDENTITY: Self = Self::translation(0.0, 0.0);

    /// Moves every point alike.
    #[must_use]
    pub const fn translation(x_px: f32, y_px: f32) -> Self {
        Self {
            x_from_x: 1.0,
            x_from_y: 0.0,
            x_px,
            y_from_x: 0.0,
            y_from_y: 1.0,
            y_px,
        }
    }

    /// A point of `b`, in `a`.
    #[must_use]
    pub fn apply(&self, (x, y): (f32, f32)) -> (f32, f32) {
        (
            self.x_from_x * x + self.x_from_y * y + self.x_px,
            self.y_from_x * x + self.y_from_y * y + self.y_px,
        )
    }

    /// A direction or speed of `b`, in `a`.
    #[must_use]
    pub fn turn(&self, (dx, dy): (f32, f32)) -> (f32, f32) {
        (
            self.x_from_x * dx + self.x_from_y * dy,
            self.y_from_x * dx + self.y_from_y * dy,
        )
    }

    /// Pixels of `a` for one of `b`, over all directions; `None` where the map is not finite or leaves no area.
    #[must_use]
    pub fn scale(&self) -> Option<f32> {
        let area = self.x_from_x * self.y_from_y - self.x_from_y * self.y_from_x;
        let placed = self.x_px.is_finite() && self.y_px.is_finite();
        (placed && area.is_finite() && area > 0.0).then(|| libm::sqrtf(area))
    }
}
