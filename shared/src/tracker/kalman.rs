//! One axis of a constant-velocity Kalman filter.
//!
//! In: time steps in seconds and measurements. Out: position, velocity and their covariance, always
//! finite and positive. Four of these (centre x and y, logarithm of width and height) make the
//! motion model of the tracker; they are independent, so each is a filter of two states that can be
//! written out by hand and kept positive definite by clamping.
//!
//! ```
//! use roadhound_shared::tracker::{AxisFilter, AxisNoise};
//!
//! let noise = AxisNoise { acceleration: 10.0, measurement: 0.5, max_rate: 100.0, decay_seconds: 0.5 };
//! let mut axis = AxisFilter::new(0.0, &noise);
//! for step in 1..=30 {
//!     axis.predict(0.1, &noise);
//!     axis.correct(step as f32, &noise); // ten units per second
//! }
//! assert!((axis.position() - 30.0).abs() < 0.5);
//! assert!(axis.rate() > 5.0);
//! ```

/// Noise and limits of one axis. All values are finite and positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AxisNoise {
    /// Standard deviation of the acceleration, units per second squared. What it makes of a second depends on the frame rate
    /// in [`AxisFilter::predict`], and does not in [`AxisFilter::drift`].
    pub acceleration: f32,
    /// Standard deviation of a measurement, units.
    pub measurement: f32,
    /// Largest magnitude of the velocity, units per second.
    pub max_rate: f32,
    /// A velocity that is not measured fades by e in this time.
    pub decay_seconds: f32,
}

/// Position and velocity along one axis, with their covariance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AxisFilter {
    position: f32,
    rate: f32,
    /// Variance of the position, of the velocity, and their covariance.
    var_position: f32,
    var_rate: f32,
    covariance: f32,
}

/// Bounds of every variance: wide enough for any image, narrow enough for `f32`.
const MIN_VARIANCE: f32 = 1e-9;
const MAX_VARIANCE: f32 = 1e9;
/// A square that is smaller by this factor has the smaller root, however both were rounded.
const CERTAINLY_BELOW: f32 = 0.999_99;
/// No coordinate is ever larger.
const MAX_POSITION: f32 = 1e7;

impl AxisFilter {
    /// At rest at `position`, with a velocity that could be anything up to half the limit.
    pub fn new(position: f32, noise: &AxisNoise) -> Self {
        let mut axis = Self {
            position: 0.0,
            rate: 0.0,
            var_position: noise.measurement * noise.measurement,
            var_rate: 0.25 * noise.max_rate * noise.max_rate,
            covariance: 0.0,
        };
        axis.move_to(position);
        axis.bound(noise);
        axis
    }

    /// Position.
    pub fn position(&self) -> f32 {
        self.position
    }

    /// Velocity, per second.
    pub fn rate(&self) -> f32 {
        self.rate
    }

    /// Variance of the position.
    pub fn position_variance(&self) -> f32 {
        self.var_position
    }

    /// Variance of the velocity.
    pub fn rate_variance(&self) -> f32 {
        self.var_rate
    }

    /// Variance of a measurement about the position: a residual squared, over this, is chi-square distributed with one
    /// degree of freedom where the model holds (Mahalanobis distance).
    pub fn detection_variance(&self, noise: &AxisNoise) -> f32 {
        self.var_position + noise.measurement * noise.measurement
    }

    /// The same axis in a picture whose camera moved: the position there, and the velocity, both with `scale` units for
    /// one of before. What is known stays known as well. Arguments that are not finite change nothing.
    pub fn carry(&mut self, position: f32, rate: f32, scale: f32, noise: &AxisNoise) {
        if !(position.is_finite() && rate.is_finite() && scale.is_finite()) {
            return;
        }
        self.move_to(position);
        self.rate = rate;
        let square = scale * scale;
        self.var_position *= square;
        self.var_rate *= square;
        self.covariance *= square;
        self.bound(noise);
    }

    /// How far the axis will have moved after `dt_seconds`, if its velocity fades from now on: an
    /// object that was not seen for long is rather where it was than where it was heading.
    pub fn displacement(&self, dt_seconds: f32, noise: &AxisNoise) -> f32 {
        let lasting = noise.decay_seconds * (1.0 - kept(dt_seconds, noise));
        self.rate * lasting
    }

    /// Lets the velocity fade for `dt_seconds` in which nothing could be measured.
    pub fn fade(&mut self, dt_seconds: f32, noise: &AxisNoise) {
        self.rate *= kept(dt_seconds, noise);
        self.bound(noise);
    }

    /// Lets time pass. A step that is negative or not a number is no step.
    ///
    /// The acceleration is one for the whole step and another for the next, so what a step adds to the variance of the
    /// velocity grows with its square, and at twice the frame rate a second adds half as much. The tracker's constants
    /// were tuned with it as it is; [`Self::drift`] is for who needs the same at any rate.
    pub fn predict(&mut self, dt_seconds: f32, noise: &AxisNoise) {
        let dt = if dt_seconds > 0.0 { dt_seconds } else { 0.0 };
        self.position += self.rate * dt;
        // F P F' with F = [1 dt; 0 1], plus white acceleration noise over the step.
        let q = noise.acceleration * noise.acceleration;
        let (a, b, c) = (self.var_position, self.covariance, self.var_rate);
        self.var_position = a + 2.0 * dt * b + dt * dt * c + 0.25 * q * dt * dt * dt * dt;
        self.covariance = b + dt * c + 0.5 * q * dt * dt * dt;
        self.var_rate = c + q * dt * dt;
        self.bound(noise);
    }

    /// Lets time pass as [`Self::predict`] does, with a course that wanders in continuous time: `acceleration` is then the
    /// standard deviation of the change of velocity in one second, and two steps of half the length leave the same
    /// uncertainty as one, whatever the frame rate. Where nothing is seen, the velocity fades on the way.
    pub fn drift(&mut self, dt_seconds: f32, seen: bool, noise: &AxisNoise) {
        let dt = if dt_seconds > 0.0 { dt_seconds } else { 0.0 };
        let (lasting, kept) = if seen {
            (dt, 1.0)
        } else {
            let kept = kept(dt, noise);
            (noise.decay_seconds * (1.0 - kept), kept)
        };
        self.position += self.rate * lasting;
        self.rate *= kept;
        // F P F' with F = [1 lasting; 0 kept], plus the integral of white acceleration.
        let q = noise.acceleration * noise.acceleration;
        let (a, b, c) = (self.var_position, self.covariance, self.var_rate);
        self.var_position = a + 2.0 * lasting * b + lasting * lasting * c + q * dt * dt * dt / 3.0;
        self.covariance = kept * (b + lasting * c) + 0.5 * q * dt * dt;
        self.var_rate = kept * kept * c + q * dt;
        self.bound(noise);
    }

    /// Takes a measurement of the position. One that is not a number is ignored.
    pub fn correct(&mut self, measured: f32, noise: &AxisNoise) {
        if !measured.is_finite() {
            return;
        }
        let (a, b, c) = (self.var_position, self.covariance, self.var_rate);
        let total = a + noise.measurement * noise.measurement;
        let residual = measured - self.position;
        self.position += a / total * residual;
        self.rate += b / total * residual;
        self.var_position = a * (1.0 - a / total);
        self.covariance = b * (1.0 - a / total);
        self.var_rate = c - b * b / total;
        self.bound(noise);
    }

    /// Puts the position somewhere else without touching velocity or covariance.
    pub fn move_to(&mut self, position: f32) {
        if position.is_finite() {
            self.position = position.clamp(-MAX_POSITION, MAX_POSITION);
        }
    }

    /// Keeps every number finite and the covariance positive semidefinite. Inlined: the numbers are still in registers, and
    /// to read back together what was just written one by one stalls a processor.
    #[inline(always)]
    fn bound(&mut self, noise: &AxisNoise) {
        let finite = |value: f32, otherwise: f32| if value.is_finite() { value } else { otherwise };
        let max_rate = finite(noise.max_rate, 0.0).max(0.0);
        self.position = finite(self.position, 0.0).clamp(-MAX_POSITION, MAX_POSITION);
        self.rate = finite(self.rate, 0.0).clamp(-max_rate, max_rate);
        self.var_position =
            finite(self.var_position, MAX_VARIANCE).clamp(MIN_VARIANCE, MAX_VARIANCE);
        self.var_rate = finite(self.var_rate, MAX_VARIANCE).clamp(MIN_VARIANCE, MAX_VARIANCE);
        self.covariance = finite(self.covariance, 0.0);
        // The root is dear, and only who comes near the limit need know it exactly.
        let square_limit = self.var_position * self.var_rate;
        if self.covariance * self.covariance > CERTAINLY_BELOW * square_limit {
            let limit = libm::sqrtf(square_limit);
            self.covariance = self.covariance.clamp(-limit, limit);
        }
    }
}

/// Share of the velocity that is left after `dt_seconds`.
fn kept(dt_seconds: f32, noise: &AxisNoise) -> f32 {
    let dt = if dt_seconds > 0.0 { dt_seconds } else { 0.0 };
    libm::expf(-dt / noise.decay_seconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const NOISE: AxisNoise = AxisNoise {
        acceleration: 100.0,
        measurement: 2.0,
        max_rate: 500.0,
        decay_seconds: 0.25,
    };

    #[test]
    fn a_target_at_rest_is_predicted_at_rest() {
        let mut axis = AxisFilter::new(50.0, &NOISE);
        for _ in 0..100 {
            axis.predict(1.0 / 30.0, &NOISE);
            axis.correct(50.0, &NOISE);
        }
        assert!((axis.position() - 50.0).abs() < 1e-3);
        assert!(axis.displacement(0.5, &NOISE).abs() < 1e-2);
    }

    #[test]
    fn irregular_steps_give_the_same_velocity_as_regular_ones() {
        let rate_after = |steps: &[f32]| {
            let mut axis = AxisFilter::new(0.0, &NOISE);
            let mut at = 0.0;
            for _ in 0..60 {
                for dt in steps {
                    at += dt;
                    axis.predict(*dt, &NOISE);
                    axis.correct(80.0 * at, &NOISE);
                }
            }
            axis.rate()
        };
        let regular = rate_after(&[0.05, 0.05]);
        let irregular = rate_after(&[0.033, 0.067]);
        assert!((regular - irregular).abs() < 1.0, "{regular} {irregular}");
        assert!((regular - 80.0).abs() < 1.0, "{regular}");
    }

    #[test]
    fn velocity_fades_when_nothing_is_measured() {
        let mut axis = AxisFilter::new(0.0, &NOISE);
        for step in 1..30 {
            axis.predict(0.033, &NOISE);
            axis.correct(step as f32 * 3.3, &NOISE);
        }
        let before = axis.rate();
        assert!((before - 100.0).abs() < 5.0, "{before}");
        axis.fade(1.0, &NOISE);
        assert!(axis.rate() < 0.05 * before);
    }

    #[test]
    fn what_is_known_after_a_second_does_not_depend_on_the_number_of_steps() {
        let after = |steps: usize, seen: bool| {
            let mut axis = AxisFilter::new(10.0, &NOISE);
            (axis.rate, axis.covariance) = (60.0, 20.0);
            for _ in 0..steps {
                axis.drift(1.0 / steps as f32, seen, &NOISE);
            }
            axis
        };
        let near = |a: f32, b: f32, share: f32| assert!((a - b).abs() < share * b, "{a}, {b}");
        let (one, hundred) = (after(1, true), after(100, true));
        near(one.var_position, hundred.var_position, 1e-3);
        near(one.var_rate, hundred.var_rate, 1e-3);
        near(one.covariance, hundred.covariance, 1e-3);
        let (one, hundred) = (after(1, false), after(100, false));
        near(one.position, hundred.position, 1e-3);
        near(one.rate, hundred.rate, 1e-3);
    }

    #[test]
    fn a_measurement_varies_by_what_the_position_and_it_itself_are_unsure() {
        // Each by 2 units.
        let axis = AxisFilter::new(50.0, &NOISE);
        assert!((axis.detection_variance(&NOISE) - 8.0).abs() < 1e-6);
    }

    #[test]
    fn an_axis_carried_into_a_moved_picture_predicts_there_what_it_would_have_here() {
        let mut here = AxisFilter::new(0.0, &NOISE);
        for step in 1..40 {
            here.predict(0.05, &NOISE);
            here.correct(step as f32 * 3.0, &NOISE);
        }
        let mut there = here;
        // Zoomed by 1.5 and moved by 100.
        there.carry(
            1.5 * here.position() + 100.0,
            1.5 * here.rate(),
            1.5,
            &NOISE,
        );
        here.predict(0.2, &NOISE);
        there.predict(0.2, &NOISE);
        assert!((there.position() - (1.5 * here.position() + 100.0)).abs() < 1e-2);
        assert!(there.position_variance() > 1.5 * here.position_variance());
    }

    proptest! {
        #[test]
        fn whatever_happens_the_state_is_finite_and_positive(
            events in prop::collection::vec((any::<f32>(), any::<f32>(), 0..3), 1..60)
        ) {
            let mut axis = AxisFilter::new(0.0, &NOISE);
            for (dt, measured, kind) in events {
                match kind {
                    0 => axis.predict(dt, &NOISE),
                    1 => axis.correct(measured, &NOISE),
                    _ => axis.fade(dt, &NOISE),
                }
                prop_assert!(axis.position().abs() <= MAX_POSITION);
                prop_assert!(axis.rate().abs() <= NOISE.max_rate);
                prop_assert!(axis.var_position > 0.0 && axis.var_rate > 0.0);
                let limit = axis.var_position * axis.var_rate * 1.0001;
                prop_assert!(axis.covariance * axis.covariance <= limit);
            }
        }
    }
}
