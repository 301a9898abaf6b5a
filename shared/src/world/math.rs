//! Vectors of three, angles and small interpolations, for a crate without the standard library.

pub(super) type V3 = [f32; 3];
/// Linear light or reflectance: red, green, blue.
pub(super) type Rgb = [f32; 3];

pub(super) const TAU: f32 = 2.0 * core::f32::consts::PI;

/// Added to a number below two to the power of 22, it leaves no bits for what is behind the point.
pub(super) const NO_FRACTION: f32 = 12_582_912.0;

/// `libm`'s floor is slow where the processor's is not to be had. Exact below two to the power of 22, as positions and
/// texels here are; nonsense, but no panic, beyond.
#[inline]
pub(super) fn floor(x: f32) -> f32 {
    let nearest = (x + NO_FRACTION) - NO_FRACTION;
    nearest - if nearest > x { 1.0 } else { 0.0 }
}

/// The same as a whole number.
#[inline]
pub(super) fn floor_i32(x: f32) -> i32 {
    let shifted = x + NO_FRACTION;
    let nearest = shifted.to_bits().wrapping_sub(NO_FRACTION.to_bits()) as i32;
    nearest.wrapping_sub(i32::from(shifted - NO_FRACTION > x))
}

#[inline]
pub(super) fn fract(x: f32) -> f32 {
    x - floor(x)
}

/// The larger of two numbers that are not NaN; `f32::max` takes the longer way round for those that are.
#[inline]
pub(super) fn larger<T: PartialOrd>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// The smaller of two numbers that are not NaN.
#[inline]
pub(super) fn smaller<T: PartialOrd>(a: T, b: T) -> T {
    if a < b { a } else { b }
}

/// Cut to 0..1.
#[inline]
pub(super) fn share(x: f32) -> f32 {
    smaller(larger(x, 0.0), 1.0)
}

/// One over the root of a number above zero, to five digits: what light needs, in instructions that come in vectors.
#[inline]
pub(super) fn inverse_sqrt(x: f32) -> f32 {
    let y = f32::from_bits(0x5f37_59df - (x.to_bits() >> 1));
    let y = y * (1.5 - 0.5 * x * y * y);
    y * (1.5 - 0.5 * x * y * y)
}

/// Of what is below zero, zero.
#[inline]
pub(super) fn sqrt(x: f32) -> f32 {
    libm::sqrtf(larger(x, 0.0))
}

pub(super) fn sin(x: f32) -> f32 {
    libm::sinf(x)
}

pub(super) fn cos(x: f32) -> f32 {
    libm::cosf(x)
}

#[inline]
pub(super) fn smooth(t: f32) -> f32 {
    let t = share(t);
    t * t * (3.0 - 2.0 * t)
}

/// 0 below `low`, 1 above `high`, smooth between.
#[inline]
pub(super) fn ramp(low: f32, high: f32, x: f32) -> f32 {
    smooth((x - low) / (high - low))
}

#[inline]
pub(super) fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

#[inline]
pub(super) fn mix3(a: V3, b: V3, t: f32) -> V3 {
    [mix(a[0], b[0], t), mix(a[1], b[1], t), mix(a[2], b[2], t)]
}

#[inline]
pub(super) fn add(a: V3, b: V3) -> V3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

#[inline]
pub(super) fn sub(a: V3, b: V3) -> V3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

#[inline]
pub(super) fn scale(a: V3, k: f32) -> V3 {
    [a[0] * k, a[1] * k, a[2] * k]
}

/// Element by element.
#[inline]
pub(super) fn times(a: V3, b: V3) -> V3 {
    [a[0] * b[0], a[1] * b[1], a[2] * b[2]]
}

#[inline]
pub(super) fn dot(a: V3, b: V3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn cross(a: V3, b: V3) -> V3 {
    [
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    ]
}

pub(super) fn length(a: V3) -> f32 {
    sqrt(dot(a, a))
}

/// Unit length; the zero vector becomes "up".
pub(super) fn unit(a: V3) -> V3 {
    let len = length(a);
    if len < 1e-9 {
        [0.0, 1.0, 0.0]
    } else {
        scale(a, 1.0 / len)
    }
}

pub(super) fn luma(c: Rgb) -> f32 {
    0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]
}

/// Turned about the vertical: heading 0 looks along +z, positive turns to +x.
#[inline]
pub(super) fn turned(p: V3, sin_heading: f32, cos_heading: f32) -> V3 {
    [
        p[0] * cos_heading + p[2] * sin_heading,
        p[1],
        p[2] * cos_heading - p[0] * sin_heading,
    ]
}

/// Linear reflectance of an sRGB value in 0..1.
pub(super) fn linear_from_srgb(c: f32) -> f32 {
    if c <= 0.04045 {
        c / 12.92
    } else {
        libm::powf((c + 0.055) / 1.055, 2.4)
    }
}
