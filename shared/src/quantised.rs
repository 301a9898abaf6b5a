//! What an eight-bit graph computes, number by number: the definition that every implementation is held to.
//!
//! In: bytes, sums of products, scales and zero points as a graph in QOperator form holds them. Out: bytes, the same
//! ones that ONNX Runtime gives on x86 with AVX2 or later. The trainer's interpreter and the kernels of the board are
//! tested against these functions; the trainer is tested against ONNX Runtime.
//!
//! - A byte `q` of a tensor means `scale * (q - zero_point)`: [`QuantParams`].
//! - A convolution sums `(x - x_zero_point) * w` and an `i32` bias exactly, in `i32`; padding is the zero point. The sum
//!   becomes a byte by [`Requantise`]: one `f32` product, rounded half to even. A ReLU is an output zero point of 0.
//! - A residual addition is two fused multiply-adds: [`QuantisedAdd`].
//!
//! Numbers that no trained network has (scales of zero, sums that could overflow) are refused when a graph is loaded,
//! so that the arithmetic itself cannot fail.
//!
//! ```
//! use roadhound_shared::quantised::{QuantParams, Requantise};
//!
//! let x = QuantParams::new(0.5, 10)?;
//! assert_eq!(x.quantise(3.0), 16);
//! assert_eq!(x.dequantise(16), 3.0);
//! // A sum of 40 in steps of 0.5 * 0.1 is 2.0, which is 20 steps of 0.1 above a zero point of 3.
//! let out = QuantParams::new(0.1, 3)?;
//! assert_eq!(Requantise::new(x.scale(), 0.1, out)?.apply(40), 23);
//! # Ok::<(), roadhound_shared::quantised::QuantError>(())
//! ```

/// Scales outside of this range are refused: their products and quotients could leave the range of `f32`.
pub const SCALE_RANGE: (f32, f32) = (1e-12, 1e12);

/// Why numbers of a quantised graph were refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// A scale that is zero, negative, huge, tiny, or no number.
    #[error("a scale is {found:e}, expected a number in 1e-12..=1e12")]
    Scale {
        /// The scale.
        found: f32,
    },
    /// A sum of products that an `i32` might not hold.
    #[error("a sum of {depth} products and a bias of {bias} could overflow 32 bits")]
    Overflow {
        /// Products in the sum.
        depth: usize,
        /// The bias.
        bias: i32,
    },
}

/// What the bytes of a tensor mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantParams {
    scale: f32,
    zero_point: u8,
}

impl QuantParams {
    /// Steps of `scale`, of which `zero_point` stands for 0.
    ///
    /// # Errors
    /// A scale outside of [`SCALE_RANGE`].
    pub fn new(scale: f32, zero_point: u8) -> Result<Self, QuantError> {
        Ok(Self {
            scale: checked_scale(scale)?,
            zero_point,
        })
    }

    /// Real value of one step.
    pub fn scale(self) -> f32 {
        self.scale
    }

    /// The byte that stands for 0.
    pub fn zero_point(self) -> u8 {
        self.zero_point
    }

    /// The nearest byte, ties to the even step, beyond the range the first or the last one (`QuantizeLinear`). What is
    /// not a number becomes 0.
    pub fn quantise(self, value: f32) -> u8 {
        saturate(value / self.scale, self.zero_point)
    }

    /// The real value of a byte (`DequantizeLinear`).
    pub fn dequantise(self, byte: u8) -> f32 {
        (i32::from(byte) - i32::from(self.zero_point)) as f32 * self.scale
    }
}

/// `1e-12..=1e12`, or the reason why not.
///
/// # Errors
/// [`QuantError::Scale`].
pub fn checked_scale(scale: f32) -> Result<f32, QuantError> {
    let (least, most) = SCALE_RANGE;
    if (least..=most).contains(&scale) {
        Ok(scale)
    } else {
        Err(QuantError::Scale { found: scale })
    }
}

/// Checks that a sum of `depth` products of a byte less its zero point with a factor of magnitude at most
/// `most_factor` (128 for an `i8` weight, 255 for another byte), and a bias, is exact in `i32` in any order.
///
/// # Errors
/// [`QuantError::Overflow`].
pub fn check_sum(depth: usize, most_factor: u8, bias: i32) -> Result<(), QuantError> {
    let products = (depth as u64).saturating_mul(255 * u64::from(most_factor));
    if products.saturating_add(u64::from(bias.unsigned_abs())) <= i32::MAX as u64 {
        Ok(())
    } else {
        Err(QuantError::Overflow { depth, bias })
    }
}

/// From the sum of one output channel to its byte.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requantise {
    multiplier: f32,
    zero_point: u8,
}

impl Requantise {
    /// For sums in steps of `input_scale * weight_scale`; for a product of two activations `weight_scale` is the scale
    /// of the second.
    ///
    /// # Errors
    /// A scale outside of [`SCALE_RANGE`].
    pub fn new(
        input_scale: f32,
        weight_scale: f32,
        output: QuantParams,
    ) -> Result<Self, QuantError> {
        // The order of the two roundings is that of ONNX Runtime.
        let multiplier =
            checked_scale(input_scale)? * checked_scale(weight_scale)? / output.scale();
        Ok(Self {
            multiplier,
            zero_point: output.zero_point(),
        })
    }

    /// What a sum is multiplied with.
    pub fn multiplier(self) -> f32 {
        self.multiplier
    }

    /// What is added to the rounded product.
    pub fn zero_point(self) -> u8 {
        self.zero_point
    }

    /// For sums that are shifted first, and multiplied with `factor` times as much: what is to be added to a sum so that
    /// it moves by `steps` of the output before that factor, at most `most` either way, and the rounding after it.
    ///
    /// # Errors
    /// A factor whose product with the multiplier is outside of [`SCALE_RANGE`].
    pub fn moved(
        self,
        steps: f32,
        factor: f32,
        zero_point: u8,
        most: i32,
    ) -> Result<(i32, Self), QuantError> {
        let shift = libm::rintf(steps / checked_scale(self.multiplier)?);
        // A cast saturates, and what is no number becomes 0.
        let shift = (shift as i32).clamp(-most, most);
        let multiplier = checked_scale(self.multiplier * factor)?;
        let moved = Self {
            multiplier,
            zero_point,
        };
        Ok((shift, moved))
    }

    /// The byte of a sum, bias included: the sum as `f32` (rounded to nearest where it has more than 24 bits), one
    /// product, rounded half to even.
    pub fn apply(self, sum: i32) -> u8 {
        saturate(sum as f32 * self.multiplier, self.zero_point)
    }
}

/// Sum of two quantised tensors of the same shape (`QLinearAdd` of ONNX Runtime's own operators).
///
/// Exactly `fma(a, ratio_a, fma(b, ratio_b, fixed))`, rounded half to even and saturated, where each ratio is a scale
/// divided by the output's and `fixed = output zero point - (ratio_a * a zero point + ratio_b * b zero point)`, every
/// operation rounded. ONNX Runtime's compiler may round that bracket once less, which shows only where both zero points
/// differ from 0: a graph that is to be exact has one input that is a ReLU's. (On ARM it computes sums in fixed point.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantisedAdd {
    ratio_a: f32,
    ratio_b: f32,
    fixed: f32,
}

impl QuantisedAdd {
    /// `a + b` in the steps of `output`.
    pub fn new(a: QuantParams, b: QuantParams, output: QuantParams) -> Self {
        let ratio_a = a.scale() / output.scale();
        let ratio_b = b.scale() / output.scale();
        let zeros = ratio_a * f32::from(a.zero_point()) + ratio_b * f32::from(b.zero_point());
        Self {
            ratio_a,
            ratio_b,
            fixed: f32::from(output.zero_point()) - zeros,
        }
    }

    /// Scale of the first input in steps of the output.
    pub fn ratio_a(self) -> f32 {
        self.ratio_a
    }

    /// Scale of the second input in steps of the output.
    pub fn ratio_b(self) -> f32 {
        self.ratio_b
    }

    /// What is added to both: the zero points, taken together.
    pub fn fixed(self) -> f32 {
        self.fixed
    }

    /// The byte of one pair.
    pub fn apply(self, a: u8, b: u8) -> u8 {
        let with_b = libm::fmaf(f32::from(b), self.ratio_b, self.fixed);
        saturate(libm::fmaf(f32::from(a), self.ratio_a, with_b), 0)
    }
}

/// Clamps to what a byte can hold about `zero_point`, rounds half to even, adds `zero_point`. Not a number gives 0.
fn saturate(steps: f32, zero_point: u8) -> u8 {
    /// Adding and taking away 1.5 * 2^23 rounds a small number half to even.
    const ROUND: f32 = 12_582_912.0;
    let zero = f32::from(zero_point);
    let clamped = steps.max(-zero).min(255.0 - zero);
    ((clamped + ROUND) - ROUND + zero) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use alloc::string::ToString;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounding_is_half_to_even_on_both_sides_of_zero() {
        let params = QuantParams::new(1.0, 100).unwrap();
        for (value, expected) in [
            (0.5, 100),
            (1.5, 102),
            (2.5, 102),
            (-0.5, 100),
            (-1.5, 98),
            (2.500_001, 103),
        ] {
            assert_eq!(params.quantise(value), expected, "{value}");
        }
    }

    #[test]
    fn values_beyond_the_range_saturate_and_nan_is_the_first_step() {
        let params = QuantParams::new(0.1, 114).unwrap();
        assert_eq!(params.quantise(f32::INFINITY), 255);
        assert_eq!(params.quantise(1e30), 255);
        assert_eq!(params.quantise(-1e30), 0);
        assert_eq!(params.quantise(f32::NAN), 0);
        let relu = Requantise::new(1.0, 1.0, QuantParams::new(1.0, 0).unwrap()).unwrap();
        assert_eq!(
            [i32::MIN, -1, 0, 7, i32::MAX].map(|s| relu.apply(s)),
            [0, 0, 0, 7, 255]
        );
    }

    #[test]
    fn the_multiplier_is_rounded_after_the_product_and_after_the_quotient() {
        let out = QuantParams::new(0.3, 0).unwrap();
        let found = Requantise::new(0.1, 0.7, out).unwrap().multiplier();
        assert_eq!(found, (0.1_f32 * 0.7) / 0.3);
        // Another order gives another number, so the order is part of the definition.
        assert_ne!(found, 0.1_f32 * (0.7 / 0.3));
    }

    #[test]
    fn an_addition_is_fused() {
        let a = QuantParams::new(0.037_1, 0).unwrap();
        let b = QuantParams::new(0.051_3, 131).unwrap();
        let out = QuantParams::new(0.044_7, 0).unwrap();
        let add = QuantisedAdd::new(a, b, out);
        for (x, y) in (0..=255).flat_map(|x| (0..=255).map(move |y| (x, y))) {
            // One rounding of an exact sum: 24 bits of a ratio times 8 of a byte fit into the 53 of an f64.
            let inner = (f64::from(y) * f64::from(add.ratio_b()) + f64::from(add.fixed())) as f32;
            let outer = (f64::from(x) * f64::from(add.ratio_a()) + f64::from(inner)) as f32;
            let expected = outer.round_ties_even().clamp(0.0, 255.0) as u8;
            assert_eq!(add.apply(x, y), expected, "{x} + {y}");
        }
    }

    #[test]
    fn scales_that_no_network_has_are_refused() {
        for scale in [
            0.0,
            -0.1,
            f32::NAN,
            f32::INFINITY,
            1e13,
            1e-13,
            f32::MIN_POSITIVE,
        ] {
            let error = QuantParams::new(scale, 0).unwrap_err().to_string();
            assert!(
                error.ends_with("expected a number in 1e-12..=1e12"),
                "{error}"
            );
            let out = QuantParams::new(1.0, 0).unwrap();
            assert!(Requantise::new(scale, 1.0, out).is_err());
            assert!(Requantise::new(1.0, scale, out).is_err());
        }
    }

    #[test]
    fn sums_that_might_overflow_are_refused() {
        assert!(check_sum(65_793, 128, 0).is_ok());
        assert!(check_sum(65_794, 128, 0).is_err());
        assert!(check_sum(9, 128, i32::MIN).is_err());
        assert!(check_sum(usize::MAX, 255, 1).is_err());
        assert_eq!(
            check_sum(70_000, 255, -3).unwrap_err().to_string(),
            "a sum of 70000 products and a bias of -3 could overflow 32 bits"
        );
    }

    proptest! {
        #[test]
        fn a_value_in_range_is_off_by_half_a_step_at_most(
            scale in 1e-6_f32..1e3, zero in any::<u8>(), steps in 0.0_f32..255.0,
        ) {
            let params = QuantParams::new(scale, zero).unwrap();
            let value = (steps - f32::from(zero)) * scale;
            let back = params.dequantise(params.quantise(value));
            prop_assert!((back - value).abs() <= 0.5001 * scale, "{value} came back as {back}");
        }

        #[test]
        fn a_byte_survives_the_way_to_a_number_and_back(scale in 1e-12_f32..1e12, zero: u8, byte: u8) {
            let params = QuantParams::new(scale, zero).unwrap();
            prop_assert_eq!(params.quantise(params.dequantise(byte)), byte);
        }

        #[test]
        fn a_larger_sum_never_gives_a_smaller_byte(
            a: i32, b: i32, multiplier in 1e-9_f32..10.0, zero: u8,
        ) {
            let out = QuantParams::new(1.0, zero).unwrap();
            let requantise = Requantise::new(multiplier, 1.0, out).unwrap();
            prop_assert!(requantise.apply(a.min(b)) <= requantise.apply(a.max(b)));
        }
    }
}
