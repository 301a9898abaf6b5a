//! Pictures that a driving camera does not see: the road from a camera that came off its mount, and a room.
//!
//! In: a frame and random streams. Out: a picture of about the frame's size. For the score alone.
//!
//! ```
//! use image::{Rgb, RgbImage};
//! use roadhound_trainer::familiarity::elsewhere::turned;
//! let frame = RgbImage::from_fn(160, 96, |_, y| Rgb([if y < 48 { 200 } else { 60 }; 3]));
//! let over = turned(&frame, 180.0, 160.0 / 96.0);
//! assert!(over.get_pixel(80, 10).0[0] < 70 && over.get_pixel(80, 85).0[0] > 190);
//! ```

use image::{Rgb, RgbImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::params::normal;

/// An angle in degrees, at least so many from straight.
pub fn any_turn(least: f32, rng: &mut ChaCha8Rng) -> f32 {
    rng.random_range(least..360.0 - least)
}

/// The largest part of this aspect (width by height) that a camera turned by so many degrees would have seen of the frame,
/// around its middle, as fine as the frame is.
pub fn turned(frame: &RgbImage, degrees: f32, aspect: f32) -> RgbImage {
    let (width, height) = (frame.width() as f32, frame.height() as f32);
    let (sin, cos) = degrees.to_radians().sin_cos();
    let fits = |side: f32, along: f32, across: f32| side / (aspect * along.abs() + across.abs());
    let high = fits(width, cos, sin).min(fits(height, sin, cos));
    let (wide, high) = ((aspect * high).floor().max(1.0), high.floor().max(1.0));
    RgbImage::from_fn(wide as u32, high as u32, |x, y| {
        let (u, v) = (x as f32 + 0.5 - wide / 2.0, y as f32 + 0.5 - high / 2.0);
        between(
            frame,
            cos * u - sin * v + width / 2.0 - 0.5,
            sin * u + cos * v + height / 2.0 - 0.5,
        )
    })
}

/// Bilinear; pixel centres are whole numbers, and what lies beyond the border is as the border.
fn between(frame: &RgbImage, x: f32, y: f32) -> Rgb<u8> {
    let at = |x: f32, y: f32| {
        let inside = |v: f32, side: u32| v.clamp(0.0, side as f32 - 1.0) as u32;
        frame
            .get_pixel(inside(x, frame.width()), inside(y, frame.height()))
            .0
            .map(f32::from)
    };
    let (left, top) = (x.floor(), y.floor());
    let (right, down) = (x - left, y - top);
    let corners = [
        (at(left, top), (1.0 - right) * (1.0 - down)),
        (at(left + 1.0, top), right * (1.0 - down)),
        (at(left, top + 1.0), (1.0 - right) * down),
        (at(left + 1.0, top + 1.0), right * down),
    ];
    Rgb([0, 1, 2].map(|c| {
        let sum: f32 = corners
            .iter()
            .map(|(pixel, weight)| pixel[c] * weight)
            .sum();
        byte(sum)
    }))
}

fn byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

fn any_colour(rng: &mut ChaCha8Rng) -> [f32; 3] {
    // Dull more often than bright: of a grey, each channel strays.
    let grey = rng.random_range(10.0..245.0f32);
    let stray = rng.random_range(0.0..60.0f32);
    [0; 3].map(|_| grey + stray * normal(rng))
}

/// The inside of a room, with a floor, a ceiling, walls, and things before them.
pub fn room((width, height): (u32, u32), rng: &mut ChaCha8Rng, grain: &mut ChaCha8Rng) -> RgbImage {
    let (wide, high) = (width as f32, height as f32);
    // The back wall.
    let left = rng.random_range(0.1..0.35) * wide;
    let right = rng.random_range(0.65..0.9) * wide;
    let top = rng.random_range(0.05..0.3) * high;
    let low = rng.random_range(0.55..0.85) * high;
    let (mx, my) = ((left + right) / 2.0, (top + low) / 2.0);
    let wall = any_colour(rng).map(|c| 90.0 + 0.6 * c);
    let floor = any_colour(rng).map(|c| 0.7 * c);
    let boards = rng.random_range(3.0..14.0f32);
    struct Thing {
        x: [f32; 2],
        y: [f32; 2],
        colour: [f32; 3],
        slats: f32,
    }
    let things: Vec<Thing> = (0..rng.random_range(2..8))
        .map(|_| {
            let x = rng.random_range(0.0..0.9) * wide;
            let y = rng.random_range(0.1..0.8) * high;
            Thing {
                x: [x, x + rng.random_range(0.06..0.35) * wide],
                y: [y, y + rng.random_range(0.1..0.6) * high],
                colour: any_colour(rng),
                slats: match rng.random_bool(0.5) {
                    true => rng.random_range(4.0..20.0f32) / high,
                    false => 0.0,
                },
            }
        })
        .collect();
    let lamp = [
        rng.random_range(0.1..0.9) * wide,
        rng.random_range(0.0..0.4) * high,
    ];
    let warmth = rng.random_range(0.7..1.0f32);
    let noise = rng.random_range(0.5..4.0f32);
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (x as f32, y as f32);
        let (dx, dy) = ((x - lamp[0]) / wide, (y - lamp[1]) / wide);
        let light = 0.55 + 0.6 / (1.0 + 6.0 * (dx * dx + dy * dy));
        // How far out of the back wall, towards each side: the largest says which plane is seen.
        let out = [
            (mx - x) / (mx - left),
            (x - mx) / (right - mx),
            (my - y) / (my - top),
            (y - my) / (low - my),
        ];
        let (plane, depth) = (0..4)
            .map(|k| (k, out[k]))
            .fold((0, f32::MIN), |a, b| if b.1 > a.1 { b } else { a });
        let base = match (depth > 1.0, plane) {
            (true, 0 | 1) => wall.map(|c| 0.85 * c),
            (true, 2) => [225.0; 3],
            (true, _) => {
                let across = ((x - mx) / depth / wide * boards).rem_euclid(1.0);
                floor.map(|c| c - 18.0 * f32::from(u8::from(across < 0.08)))
            }
            _ => wall,
        };
        let before = things
            .iter()
            .rev()
            .find(|t| (t.x[0]..t.x[1]).contains(&x) && (t.y[0]..t.y[1]).contains(&y));
        let colour = match before {
            Some(thing) => {
                let is_gap = thing.slats > 0.0 && (y * thing.slats).rem_euclid(1.0) < 0.15;
                thing.colour.map(|c| if is_gap { 0.5 * c } else { c })
            }
            None => base,
        };
        let grain = noise * normal(grain);
        Rgb([0, 1, 2].map(|c| {
            let tint = if c == 2 { warmth } else { 1.0 };
            byte(colour[c] * light * tint + grain)
        }))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::SeedableRng;

    const ASPECT: f32 = 160.0 / 96.0;

    fn frame() -> RgbImage {
        RgbImage::from_fn(200, 120, |x, y| Rgb([x as u8, (2 * y) as u8, 90]))
    }

    /// In a frame that grows to the right by one level a pixel, and downwards by two.
    #[test]
    fn a_turned_frame_keeps_its_middle_its_scale_and_what_fits() {
        for (degrees, size, right, down) in [
            (0.0, (200, 120), [1.0, 0.0], [0.0, 2.0]),
            (90.0, (120, 72), [0.0, 2.0], [-1.0, 0.0]),
            (180.0, (200, 120), [-1.0, 0.0], [0.0, -2.0]),
            (270.0, (120, 72), [0.0, -2.0], [1.0, 0.0]),
        ] {
            let found = turned(&frame(), degrees, ASPECT);
            let near = |a: u32, b: u32| a.abs_diff(b) <= 1;
            let (width, height) = found.dimensions();
            assert!(
                near(width, size.0) && near(height, size.1),
                "{degrees}: {width}x{height}"
            );
            let at = |dx: i64, dy: i64| {
                let of = |side: u32, d: i64| (i64::from(side / 2) + d) as u32;
                found
                    .get_pixel(of(width, dx), of(height, dy))
                    .0
                    .map(f32::from)
            };
            let middle = at(0, 0);
            assert!((middle[0] - 100.0).abs() <= 2.0 && (middle[1] - 120.0).abs() <= 4.0);
            for c in 0..2 {
                let step = |d: f32| d / 20.0;
                let (x, y) = (at(10, 0)[c] - at(-10, 0)[c], at(0, 10)[c] - at(0, -10)[c]);
                assert!((step(x) - right[c]).abs() < 0.11, "{degrees}: {x}");
                assert!((step(y) - down[c]).abs() < 0.11, "{degrees}: {y}");
            }
        }
        for degrees in [17.0, 63.0, 133.0] {
            let found = turned(&frame(), degrees, ASPECT);
            // Nothing of the border is repeated: the corners lie within the frame.
            let (width, height) = (found.width() as f32, found.height() as f32);
            assert!((width / height - ASPECT).abs() < 0.05);
            let (sin, cos) = f32::to_radians(degrees).sin_cos();
            let wide = width * cos.abs() + height * sin.abs();
            let high = width * sin.abs() + height * cos.abs();
            assert!(wide <= 201.0 && high <= 121.0 && (wide > 195.0 || high > 115.0));
        }
    }

    #[test]
    fn turns_are_never_nearly_straight() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<f32> = (0..500).map(|_| any_turn(50.0, &mut rng)).collect();
        assert!(drawn.iter().all(|d| (50.0..310.0).contains(d)));
        assert!(drawn.iter().any(|d| *d < 90.0) && drawn.iter().any(|d| *d > 270.0));
    }

    #[test]
    fn a_room_is_a_function_of_its_streams_and_any_frame_can_be_turned() {
        let rooms = |seed: u64, grain: u64| {
            let [mut rng, mut grain] = [seed, grain].map(ChaCha8Rng::seed_from_u64);
            room((160, 96), &mut rng, &mut grain)
        };
        assert!(rooms(1, 1) == rooms(1, 1) && rooms(1, 1) != rooms(1, 2));
        let light = |picture: RgbImage| {
            let sum: f32 = picture.pixels().map(|p| f32::from(p.0[1])).sum();
            sum / (160.0 * 96.0)
        };
        assert!((light(rooms(1, 1)) - light(rooms(1, 2))).abs() < 1.0);
        for (width, height) in [(1, 1), (3, 1), (1, 5), (7, 40)] {
            for degrees in [0.0, 60.0, 90.0, 200.0] {
                let found = turned(&RgbImage::new(width, height), degrees, ASPECT);
                assert!(found.width() > 0 && found.height() > 0);
            }
        }
    }
}
