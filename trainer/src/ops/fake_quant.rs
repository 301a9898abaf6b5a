//! Rounding that lets gradients through: a network that is trained with it learns to live with eight bits.
//!
//! In come f32 tensors, out go f32 tensors whose values are those of bytes. Rounding has a derivative of 0 almost
//! everywhere; backwards it counts as the identity, and as 0 where a value is cut off at the end of the range (the
//! straight-through estimator, Bengio et al. 2013; Jacob et al. 2018).
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use roadhound_shared::quantised::QuantParams;
//! use roadhound_trainer::ops::fake_quantise;
//! let x = Var::new(&[0.26f32, 3.1, 400.0], &Device::Cpu)?;
//! let bytes = QuantParams::new(0.5, 0).expect("a scale");
//! let y = fake_quantise(x.as_tensor(), bytes)?;
//! assert_eq!(y.to_vec1::<f32>()?, [0.5, 3.0, 127.5]);
//! let gradients = y.sum_all()?.backward()?;
//! assert_eq!(gradients.get(&x).expect("a gradient").to_vec1::<f32>()?, [1.0, 1.0, 0.0]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor};
use roadhound_shared::quantised::QuantParams;

use super::contiguous_f32;
use crate::quantise::observe::{Histogram, Observer, params_of};
use crate::quantise::weights::{Rounding, filter_scale, rounded};

/// Values that are looked at of a large tensor to find its range.
const MOST_LOOKED_AT: usize = 1 << 20;

/// Range of activations that bytes cover, taken from the batch itself: no state, so that a resumed run is the same. On a
/// GPU it is all of the range, which can be found there.
pub const BATCH_RANGE: Observer = Observer::Percentile(99.995);

/// Rounds every value to the nearest byte's.
///
/// # Errors
/// A tensor that is not f32.
pub fn fake_quantise(x: &Tensor, params: QuantParams) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1(Round { params });
    }
    fake_quantise_anywhere(x, params)
}

/// The same of candle's own operators, on any device. Values halfway between two bytes go away from 0 instead of to the
/// even one.
fn fake_quantise_anywhere(x: &Tensor, params: QuantParams) -> Result<Tensor> {
    let (low, high) = range(params);
    let inside = x.detach().clamp(low, high)?;
    let steps = (inside / f64::from(params.scale()))?.round()?;
    let value = (steps * f64::from(params.scale()))?;
    let passing = (x * mask(x, params)?)?;
    (&passing - passing.detach())? + value.detach()
}

/// As [`fake_quantise`], with the range of the tensor's own values. Where `relu`, the zero point is 0.
///
/// # Errors
/// A tensor that is not f32.
pub fn fake_quantise_batch(x: &Tensor, relu: bool) -> Result<Tensor> {
    let params = batch_params(x, relu)?;
    fake_quantise(x, params)
}

/// What bytes would mean for the values of a batch: [`BATCH_RANGE`], which on other devices than the processor is the
/// whole range.
///
/// # Shapes
/// Channels are the last axis.
///
/// # Errors
/// Values beyond all bounds.
pub fn batch_params(x: &Tensor, relu: bool) -> Result<QuantParams> {
    let x = x.detach();
    let channels = x.dim(D::Minus1)?;
    if x.device().is_cpu() {
        let x = x.contiguous()?;
        super::with_f32([&x], |[values]| {
            let mut seen = Histogram::default();
            if values.len() <= MOST_LOOKED_AT {
                seen.add(values);
            } else {
                // Whole cells, so that all channels are looked at; an odd step, so that all columns of a map are.
                let step = values.len().div_ceil(MOST_LOOKED_AT) | 1;
                let cells = values.chunks(channels.max(1)).step_by(step);
                let some: Vec<f32> = cells.flatten().copied().collect();
                seen.add(&some);
            }
            BATCH_RANGE
                .params(&seen, relu)
                .map_err(candle_core::Error::wrap)
        })
    } else {
        whole_range(&x, relu)
    }
}

/// Bytes over all values, of candle's own operators.
fn whole_range(x: &Tensor, relu: bool) -> Result<QuantParams> {
    let flat = x.flatten_all()?;
    let (low, high) = (
        flat.min(0)?.to_scalar::<f32>()?,
        flat.max(0)?.to_scalar::<f32>()?,
    );
    let low = if relu { 0.0 } else { low.min(0.0) };
    params_of(f64::from(low), f64::from(high.max(0.0))).map_err(candle_core::Error::wrap)
}

/// Rounds weights to signed bytes, one scale an output channel, as the quantiser does; gradients pass unchanged.
/// `input_factor` is what each input channel's weights are multiplied with before they are rounded, and divided by after.
///
/// # Shapes
/// `weights`: `[kh, kw, Ci, Co]`; `input_factor`: `[Ci]`.
///
/// # Errors
/// Other shapes.
pub fn fake_quantise_weights(weights: &Tensor, input_factor: Option<&[f32]>) -> Result<Tensor> {
    let (_, _, inputs, outputs) = weights.dims4()?;
    let factor = |i: usize| input_factor.map_or(1.0, |f| f[i]);
    if input_factor.is_some_and(|f| f.len() != inputs || f.contains(&0.0)) {
        candle_core::bail!(
            "fake_quantise_weights: factors for {inputs} channels that are not 0 were expected"
        );
    }
    let mut values = weights.detach().flatten_all()?.to_vec1::<f32>()?;
    for o in 0..outputs {
        let filter = || values.iter().skip(o).step_by(outputs).enumerate();
        let filter: Vec<f32> = filter().map(|(k, w)| w * factor(k % inputs)).collect();
        let scale = filter_scale(&filter, Rounding::Largest);
        for (k, w) in filter.iter().enumerate() {
            values[k * outputs + o] = rounded(*w, scale) * scale / factor(k % inputs);
        }
    }
    let rounded = Tensor::from_vec(values, weights.shape(), weights.device())?;
    (weights - weights.detach())? + rounded
}

/// What bytes mean of values that are those of bytes already, after a ReLU: the last byte is the largest value.
///
/// # Errors
/// Values beyond all bounds.
pub fn params_to_the_last(x: &Tensor) -> Result<QuantParams> {
    let most = x.detach().flatten_all()?.max(0)?.to_scalar::<f32>()?;
    params_of(0.0, f64::from(most.max(0.0))).map_err(candle_core::Error::wrap)
}

fn range(params: QuantParams) -> (f64, f64) {
    let end = |byte: u8| f64::from(params.dequantise(byte));
    (end(0), end(255))
}

/// 1 where a value is within the range, 0 where it is cut off.
fn mask(x: &Tensor, params: QuantParams) -> Result<Tensor> {
    let (low, high) = range(params);
    let x = x.detach();
    (x.ge(low)? * x.le(high)?)?.to_dtype(DType::F32)
}

struct Round {
    params: QuantParams,
}

impl CustomOp1 for Round {
    fn name(&self) -> &'static str {
        "fake-quantise"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let number: [f32; 256] = std::array::from_fn(|b| self.params.dequantise(b as u8));
        let values = contiguous_f32(storage, layout)?.iter();
        let values = values.map(|v| number[usize::from(self.params.quantise(*v))]);
        Ok((CpuStorage::F32(values.collect()), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some((gradient * mask(x, self.params)?)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Var};

    use super::*;

    fn spread(n: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 37) % 101) as f32 / 25.0 - 2.0)
            .collect()
    }

    #[test]
    fn values_are_those_of_bytes_and_gradients_stop_at_the_ends_of_the_range() {
        let params = QuantParams::new(0.01, 100).unwrap(); // -1.00 to 1.55
        let x = Var::from_vec(spread(101), 101, &Device::Cpu).unwrap();
        let weights = Tensor::from_vec(spread(101), 101, &Device::Cpu).unwrap();
        let y = fake_quantise(x.as_tensor(), params).unwrap();
        let gradients = (&y * &weights)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let gradient = gradients.get(&x).unwrap().to_vec1::<f32>().unwrap();
        let y = y.to_vec1::<f32>().unwrap();
        for (i, x) in spread(101).into_iter().enumerate() {
            assert_eq!(y[i], params.dequantise(params.quantise(x)));
            let inside = (-1.0..=1.55).contains(&x);
            assert_eq!(
                gradient[i],
                if inside { spread(101)[i] } else { 0.0 },
                "{x}"
            );
        }
    }

    /// The gradient of a straight-through estimator is that of the clamp without the rounding, which finite differences
    /// know.
    #[test]
    fn the_gradient_is_that_of_the_clamp_by_finite_differences() {
        let params = QuantParams::new(0.02, 30).unwrap(); // -0.6 to 4.5
        let (low, high) = range(params);
        let at = spread(60);
        let loss = |x: &[f32]| -> f64 {
            x.iter()
                .enumerate()
                .map(|(i, v)| f64::from(*v).clamp(low, high) * (i as f64 - 20.0))
                .sum()
        };
        let x = Var::from_vec(at.clone(), 60, &Device::Cpu).unwrap();
        let y = fake_quantise(x.as_tensor(), params).unwrap();
        let factor = Tensor::from_iter((0..60).map(|i| i as f32 - 20.0), &Device::Cpu).unwrap();
        let gradients = (y * factor).unwrap().sum_all().unwrap().backward().unwrap();
        let found = gradients.get(&x).unwrap().to_vec1::<f32>().unwrap();
        for i in 0..60 {
            let mut moved = [at.clone(), at.clone()];
            moved[0][i] -= 1e-3;
            moved[1][i] += 1e-3;
            let width = f64::from(moved[1][i]) - f64::from(moved[0][i]);
            let expected = (loss(&moved[1]) - loss(&moved[0])) / width;
            assert!(
                (f64::from(found[i]) - expected).abs() < 1e-3,
                "{i}: {} and {expected}",
                found[i]
            );
        }
    }

    /// A GPU has no operator of its own: what it computes is tested here, on the CPU.
    #[test]
    fn other_devices_compute_the_same_values_and_gradients() {
        let params = QuantParams::new(0.0127, 60).unwrap(); // -0.76 to 2.48, no value halfway between two bytes
        let weights = Tensor::from_vec(spread(101), 101, &Device::Cpu).unwrap();
        let run = |quantise: fn(&Tensor, QuantParams) -> Result<Tensor>| {
            let x = Var::from_vec(spread(101), 101, &Device::Cpu).unwrap();
            let y = quantise(x.as_tensor(), params).unwrap();
            let loss = (&y * &weights).unwrap().sum_all().unwrap();
            let gradient = loss.backward().unwrap().get(&x).unwrap().to_vec1::<f32>();
            (y.to_vec1::<f32>().unwrap(), gradient.unwrap())
        };
        assert_eq!(run(fake_quantise_anywhere), run(fake_quantise));
    }

    #[test]
    fn the_whole_range_of_a_batch_ends_at_its_extremes() {
        let x = Tensor::new(&[[-0.5f32, 0.25], [2.05, 1.0]], &Device::Cpu).unwrap();
        let signed = whole_range(&x, false).unwrap();
        assert_eq!((signed.zero_point(), signed.scale()), (50, 0.01));
        let relu = whole_range(&x, true).unwrap();
        assert_eq!((relu.zero_point(), relu.scale() * 255.0), (0, 2.05));
    }

    #[test]
    fn weights_are_rounded_as_the_quantiser_rounds_them_and_their_gradient_passes() {
        let (inputs, outputs) = (3, 2);
        let w = Var::from_vec(spread(9 * 6), (3, 3, inputs, outputs), &Device::Cpu).unwrap();
        let y = fake_quantise_weights(w.as_tensor(), None).unwrap();
        let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let gradient = gradients
            .get(&w)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for o in 0..outputs {
            let filter: Vec<f32> = spread(54).into_iter().skip(o).step_by(outputs).collect();
            let scale = filter_scale(&filter, Rounding::Largest);
            for (k, w) in filter.iter().enumerate() {
                let found = y[k * outputs + o];
                assert!((found - rounded(*w, scale) * scale).abs() < 1e-6);
                assert_eq!(gradient[k * outputs + o], 2.0 * found);
            }
        }
    }

    #[test]
    fn factors_decide_which_weights_get_the_finer_steps() {
        let w = Tensor::new(&[[[[1.0f32], [0.001]]]], &Device::Cpu).unwrap();
        let rounded = |factor: Option<&[f32]>| {
            let y = fake_quantise_weights(&w, factor).unwrap();
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(rounded(None)[1], 0.0);
        let fine = rounded(Some(&[1.0, 1000.0]));
        assert!((fine[1] - 0.001).abs() < 1e-5, "{fine:?}");
        assert!(fake_quantise_weights(&w, Some(&[1.0])).is_err());
    }

    #[test]
    fn the_range_of_a_batch_is_that_of_its_values_without_a_few_strays() {
        let range_of = |strays: usize, relu: bool| {
            let mut values: Vec<f32> = (0..100_000).map(|i| (i % 101) as f32 / 100.0).collect();
            for stray in 0..strays {
                (values[300 * stray], values[300 * stray + 1]) = (2.0, -1.0);
            }
            let x = Tensor::from_vec(values, 100_000, &Device::Cpu).unwrap();
            range(batch_params(&x, relu).unwrap())
        };
        let near = |(low, high): (f64, f64), expected: (f64, f64)| {
            assert!((low - expected.0).abs() < 0.02, "from {low}");
            assert!((high - expected.1).abs() < 0.02, "to {high}");
        };
        near(range_of(0, false), (0.0, 1.0));
        near(range_of(4, false), (0.0, 1.0));
        near(range_of(40, false), (-1.0, 2.0));
        near(range_of(40, true), (0.0, 2.0));
    }

    /// With 96 channels a step of 3 values would look at every third channel only.
    #[test]
    fn every_channel_of_a_large_batch_counts() {
        let (cells, channels) = (20_000, 96);
        assert!(cells * channels > MOST_LOOKED_AT);
        for channel in [0, 1, 2, 95] {
            let value = |i: usize| f32::from(u8::from(i % channels == channel));
            let values: Vec<f32> = (0..cells * channels).map(value).collect();
            let x = Tensor::from_vec(values, (cells, channels), &Device::Cpu).unwrap();
            let (_, high) = range(batch_params(&x, true).unwrap());
            assert!((high - 1.0).abs() < 0.01, "channel {channel}: up to {high}");
        }
    }
}
