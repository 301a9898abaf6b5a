//! Where a target was heading while it could be trusted.
//!
//! In: centres of trusted boxes with their times. Out: where the centre would be now, had it kept its mean velocity. The
//! motion filter forgets a velocity within a quarter of a second, which is right for a target that is in view; one that
//! drove behind a lorry comes out on the other side seconds later, and this is where.
//!
//! ```
//! use roadhound_shared::frame::Timestamp;
//! use roadhound_shared::tracker::Course;
//!
//! let mut course = Course::default();
//! for step in 0..30_u64 {
//!     // Thirty pixels a second to the right.
//!     course.see((100.0 + step as f32, 80.0), Timestamp(step * 33_333), 1.0);
//! }
//! let (x, y) = course.after(Timestamp(29 * 33_333 + 2_000_000), 4.0).expect("it was seen");
//! assert!((x - 189.0).abs() < 1.0 && (y - 80.0).abs() < 1e-3);
//! ```

use crate::frame::Timestamp;

/// A mean velocity and the last trusted centre. Every number is finite.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Course {
    last: Option<(f32, f32, Timestamp)>,
    /// Pixels per second.
    velocity: (f32, f32),
    /// How long the velocity was measured.
    seconds: f32,
}

/// A gap between two trusted centres that is longer says nothing about the velocity in between.
const MAX_GAP_SECONDS: f32 = 0.5;

impl Course {
    /// Takes a trusted centre. The velocity is a running mean at first, and forgets by e in `memory_seconds` later on.
    pub fn see(&mut self, (x_px, y_px): (f32, f32), at: Timestamp, memory_seconds: f32) {
        if !(x_px.is_finite() && y_px.is_finite()) {
            return;
        }
        if let Some((x0, y0, before)) = self.last {
            let dt = at.seconds_since(before);
            if dt <= 0.0 {
                return;
            }
            if dt <= MAX_GAP_SECONDS {
                self.seconds = (self.seconds + dt).min(memory_seconds.max(dt));
                let share = dt / self.seconds;
                self.velocity.0 += share * ((x_px - x0) / dt - self.velocity.0);
                self.velocity.1 += share * ((y_px - y0) / dt - self.velocity.1);
            }
        }
        self.last = Some((x_px, y_px, at));
    }

    /// The same course in an image of other pixels.
    #[must_use]
    pub fn scaled(&self, x_scale: f32, y_scale: f32) -> Self {
        Self {
            last: self.last.map(|(x, y, at)| (x * x_scale, y * y_scale, at)),
            velocity: (self.velocity.0 * x_scale, self.velocity.1 * y_scale),
            seconds: self.seconds,
        }
    }

    /// The centre at `now`, if the target kept its velocity for at most `limit_seconds` and then stayed; `None` if it was
    /// never trusted.
    pub fn after(&self, now: Timestamp, limit_seconds: f32) -> Option<(f32, f32)> {
        let (x, y, at) = self.last?;
        let t = now.seconds_since(at).clamp(0.0, limit_seconds);
        let there = (x + t * self.velocity.0, y + t * self.velocity.1);
        (there.0.is_finite() && there.1.is_finite()).then_some(there)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: f32) -> Timestamp {
        Timestamp((seconds * 1e6) as u64)
    }

    #[test]
    fn what_was_never_seen_heads_nowhere() {
        assert_eq!(Course::default().after(at(1.0), 9.0), None);
    }

    #[test]
    fn one_look_is_no_velocity() {
        let mut course = Course::default();
        course.see((5.0, 6.0), at(0.0), 1.0);
        assert_eq!(course.after(at(3.0), 9.0), Some((5.0, 6.0)));
    }

    #[test]
    fn noise_of_a_pixel_does_not_carry_a_parked_car_away() {
        let mut course = Course::default();
        for step in 0..60 {
            let noise = if step % 2 == 0 { 0.5 } else { -0.5 };
            course.see((300.0 + noise, 200.0), at(step as f32 / 30.0), 1.0);
        }
        let (x, y) = course.after(at(4.0), 9.0).unwrap();
        assert!(
            (x - 300.0).abs() < 4.0 && (y - 200.0).abs() < 1e-3,
            "{x} {y}"
        );
    }

    #[test]
    fn a_course_leads_to_the_same_place_in_an_image_of_another_size() {
        let mut course = Course::default();
        for step in 0..30 {
            let t = step as f32;
            course.see((100.0 + 2.0 * t, 90.0 - t), at(t / 30.0), 1.0);
        }
        let (x, y) = course.after(at(2.0), 9.0).unwrap();
        let (scaled_x, scaled_y) = course.scaled(2.0, 1.5).after(at(2.0), 9.0).unwrap();
        assert!(x > 200.0 && y < 40.0, "it moves: {x} {y}");
        assert!((scaled_x - 2.0 * x).abs() < 1e-3 && (scaled_y - 1.5 * y).abs() < 1e-3);
    }

    #[test]
    fn a_turn_is_learned_and_a_gap_is_no_movement() {
        let mut course = Course::default();
        for step in 0..30 {
            course.see((step as f32, 0.0), at(step as f32 / 30.0), 0.5);
        }
        for step in 0..90 {
            course.see((30.0, step as f32), at(1.0 + step as f32 / 30.0), 0.5);
        }
        // Gone for two seconds, and somewhere else at once.
        course.see((900.0, 400.0), at(6.0), 0.5);
        let (x, y) = course.after(at(7.0), 9.0).unwrap();
        assert!(
            (x - 900.0).abs() < 1.0 && (y - 430.0).abs() < 1.0,
            "{x} {y}"
        );
    }

    #[test]
    fn it_stops_at_the_limit_and_stays_finite_whatever_comes() {
        let mut course = Course::default();
        course.see((0.0, 0.0), at(0.0), 1.0);
        course.see((10.0, 0.0), at(0.1), 1.0);
        assert_eq!(course.after(at(50.0), 2.0), Some((210.0, 0.0)));
        course.see((f32::NAN, 0.0), at(0.2), 1.0);
        course.see((f32::MAX, -f32::MAX), at(0.3), 0.0);
        course.see((-f32::MAX, f32::MAX), at(0.4), 0.0);
        let there = course.after(at(9.0), 9.0);
        assert!(there.is_none_or(|(x, y)| x.is_finite() && y.is_finite()));
    }
}
