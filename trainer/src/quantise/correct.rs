//! Bias correction: what rounding moved on average, taken back in the biases.
//!
//! Rounded weights shift the mean of a channel, and the next layer sees all its inputs shifted (Nagel et al. 2019). From
//! the first layer to the last, each channel's mean over the samples is compared with the f32 graph's, with everything
//! before it corrected already, and the bias takes up the difference.

use std::collections::HashMap;

use anyhow::Result;

use super::compare::Layer;
use super::source::Source;
use super::{Corrections, Samples, Seen, Settings, Values, parsed, quantised};
use crate::export::array::{Array, Value};

/// A channel that is seldom above zero says little about its bias: no correction is blown up by more than this.
const LEAST_ACTIVE: f64 = 0.1;

/// Sums of each channel over all samples.
#[derive(Clone, Debug, Default)]
struct Means {
    sum: Vec<f64>,
    active: Vec<f64>,
    count: f64,
}

impl Means {
    fn add<T: Copy>(&mut self, array: &Array<T>, number: impl Fn(T) -> f32) {
        let [1, channels, height, width] = array.shape()[..] else {
            return;
        };
        self.sum.resize(channels, 0.0);
        self.active.resize(channels, 0.0);
        for (c, map) in array
            .values()
            .chunks_exact((height * width).max(1))
            .enumerate()
        {
            for value in map {
                let value = number(*value);
                self.sum[c] += f64::from(value);
                self.active[c] += f64::from(u8::from(value > 0.0));
            }
        }
        self.count += (height * width) as f64;
    }

    fn mean(&self, c: usize) -> f64 {
        self.sum[c] / self.count.max(1.0)
    }

    /// Share of cells above zero.
    fn share(&self, c: usize) -> f64 {
        self.active[c] / self.count.max(1.0)
    }
}

/// Corrections for every convolution among `layers`.
///
/// # Errors
/// Those of the graphs.
pub fn corrections(
    sources: &[Source],
    seen: &Seen,
    settings: &Settings,
    layers: &[Layer],
    samples: &dyn Samples,
    mut progress: impl FnMut(),
) -> Result<Corrections> {
    let mut order: Vec<&Layer> = Vec::new();
    for layer in layers.iter().filter(|l| l.operator == "QLinearConv") {
        if !order.iter().any(|other| other.key == layer.key) {
            order.push(layer);
        }
    }
    let by_key = |graph: usize, key: u64| {
        layers
            .iter()
            .filter(move |l| l.graph == graph && l.key == key)
    };
    let plain = parsed(&sources.iter().map(Source::to_bytes).collect::<Vec<_>>())?;
    let mut expected: HashMap<u64, Means> = HashMap::new();
    for index in 0..samples.count() {
        samples.forward(index, &mut |at, inputs| {
            let values = plain[at].run(inputs)?;
            for layer in &order {
                for found in by_key(at, layer.key) {
                    if let Some(array) = values.get(&found.value).and_then(Value::floats) {
                        expected.entry(layer.key).or_default().add(array, |v| v);
                    }
                }
            }
            Ok(values)
        })?;
    }
    let mut corrections = Corrections::new();
    for layer in order {
        let graphs = parsed(&quantised(sources, seen, settings, &corrections)?)?;
        let mut found = Means::default();
        let number: [f32; 256] = std::array::from_fn(|b| layer.params.dequantise(b as u8));
        for index in 0..samples.count() {
            samples.forward(index, &mut |at, inputs| {
                let values: Values = graphs[at].run(inputs)?;
                for same in by_key(at, layer.key) {
                    if let Some(array) = values.get(&same.value).and_then(Value::bytes) {
                        found.add(array, |byte| number[usize::from(byte)]);
                    }
                }
                Ok(values)
            })?;
        }
        let Some(expected) = expected.get(&layer.key) else {
            continue;
        };
        let correction = (0..found.sum.len().min(expected.sum.len())).map(|c| {
            let share = if layer.relu {
                expected.share(c).max(LEAST_ACTIVE)
            } else {
                1.0
            };
            ((expected.mean(c) - found.mean(c)) / share) as f32
        });
        corrections.insert(layer.key, correction.collect());
        progress();
    }
    Ok(corrections)
}
