//! Cross-layer equalisation: channels of unequal size made alike where two layers can agree on it.
//!
//! One scale covers all channels of a map, so a channel whose values are small has few steps. Between a convolution with
//! a ReLU and the one convolution that reads it, a channel may be made larger by any factor and its weights in the
//! reader smaller by the same: the function stays (Nagel et al., "Data-free quantization through weight equalization",
//! 2019). The factor is set where the channel's largest value and its largest weight in the reader are equally far from
//! the others' (as in SmoothQuant, Xiao et al. 2023).

use std::collections::HashMap;

use super::Seen;
use super::source::{Source, Weights};
use crate::export::onnx::NodeProto;

/// No channel is changed by more.
const MOST_FACTOR: f32 = 32.0;

/// Changes weights of all sources; returns how many pairs of layers were equalised. What was seen before is out of date.
/// Pairs that cannot be equalised are left alone.
pub fn equalise(sources: &mut [Source], seen: &Seen) -> usize {
    // Ties are known by what was computed before anything is changed.
    let mut factors: HashMap<u64, Vec<f32>> = HashMap::new();
    let mut plans = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        for (first, second, value) in pairs(source) {
            let key = source.key(value);
            let Some(weights) = source.weights(second) else {
                continue;
            };
            let Some(most) = seen
                .channels(key)
                .filter(|most| most.len() == weights.shape[1])
            else {
                continue;
            };
            let found = factors
                .entry(key)
                .or_insert_with(|| factors_of(most, &weights));
            plans.push((at, first.clone(), second.clone(), found.clone()));
        }
    }
    for (at, first, second, factors) in &plans {
        let source = &mut sources[*at];
        // Read only now: a layer in a chain is the second of one pair and the first of the next.
        if let (Some(mut made), Some(mut read)) = (source.weights(first), source.weights(second)) {
            apply(&mut made, &mut read, factors);
            source.set_weights(first, &made);
            source.set_weights(second, &read);
        }
    }
    factors.len()
}

/// Convolution, the one convolution that reads its ReLU, and that ReLU's value.
fn pairs(source: &Source) -> Vec<(&NodeProto, &NodeProto, &str)> {
    let convs = source.graph.node.iter().filter(|n| n.op_type == "Conv");
    let found = convs.filter_map(|first| {
        let relu = source.only_reader(first.output.first()?)?;
        let value = relu.output.first().filter(|_| relu.op_type == "Relu")?;
        let second = source.only_reader(value)?;
        let reads_map = second.op_type == "Conv" && second.input.first() == Some(value);
        reads_map.then_some((first, second, value.as_str()))
    });
    found.collect()
}

/// What each channel is divided by: between its largest value and the reader's largest weight for it, about a mean of 1.
fn factors_of(most: &[f32], reader: &Weights) -> Vec<f32> {
    let taps = reader.taps();
    let largest = |c: usize| {
        let kernels = (0..reader.shape[0]).map(|o| &reader.filter(o)[c * taps..(c + 1) * taps]);
        kernels.flatten().fold(0.0f32, |most, w| most.max(w.abs()))
    };
    let raw: Vec<Option<f32>> = most
        .iter()
        .enumerate()
        .map(|(c, most)| {
            let ratio = most / largest(c);
            (ratio.is_finite() && ratio > 0.0).then(|| ratio.sqrt())
        })
        .collect();
    let live = raw.iter().flatten().count().max(1) as f32;
    let mean = (raw.iter().flatten().map(|f| f.ln()).sum::<f32>() / live).exp();
    raw.iter()
        .map(|f| f.map_or(1.0, |f| (f / mean).clamp(1.0 / MOST_FACTOR, MOST_FACTOR)))
        .collect()
}

fn apply(made: &mut Weights, read: &mut Weights, factors: &[f32]) {
    let len = made.shape[1] * made.taps();
    for (o, factor) in factors.iter().enumerate() {
        made.kernel[o * len..(o + 1) * len]
            .iter_mut()
            .for_each(|w| *w /= factor);
        made.bias[o] /= factor;
    }
    let (channels, taps) = (read.shape[1], read.taps());
    for filter in read.kernel.chunks_exact_mut(channels * taps) {
        for (kernel, factor) in filter.chunks_exact_mut(taps).zip(factors) {
            kernel.iter_mut().for_each(|w| *w *= factor);
        }
    }
}
