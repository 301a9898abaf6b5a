//! Bytes against numbers: the quantised set beside the f32 one, layer by layer.
//!
//! In: both sets and samples. Out: for every value that became bytes, how much noise that made and how often the last
//! byte was not enough. Each set gets its own earlier outputs as later inputs, as on the board: errors add up.

use std::collections::HashMap;

use anyhow::{Context, Result};
use roadhound_shared::quantised::QuantParams;

use super::source::Source;
use super::{Samples, Seen, Settings, Values, params_in, parsed, wanted};
use crate::export::array::Value;
use crate::export::interpret::Graph;

/// One value of one graph that became bytes.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Place of the graph in the set.
    pub graph: usize,
    /// Its name in both graphs.
    pub value: String,
    /// The same for values that are the same function.
    pub key: u64,
    /// Operator that makes it, in words of the quantised graph.
    pub operator: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// What its bytes mean.
    pub params: QuantParams,
    /// Whether it comes after a ReLU.
    pub relu: bool,
}

/// Sums over all samples.
#[derive(Clone, Debug, Default)]
pub struct Noise {
    /// Squares of the f32 values.
    pub signal: f64,
    /// Squares of what bytes are off by.
    pub noise: f64,
    /// Bytes at the end of their range: the last one, and the first where it does not stand for 0.
    pub saturated: u64,
    /// Values.
    pub count: u64,
}

impl Noise {
    /// Ratio of signal to noise in decibels.
    pub fn decibels(&self) -> f64 {
        10.0 * (self.signal / self.noise.max(f64::MIN_POSITIVE)).log10()
    }

    /// Share of bytes at the end of their range.
    pub fn saturation(&self) -> f64 {
        self.saturated as f64 / self.count.max(1) as f64
    }
}

/// Every value that becomes bytes, in the order of the graphs.
///
/// # Errors
/// Values of which nothing was seen.
pub fn layers(sources: &[Source], seen: &Seen, settings: &Settings) -> Result<Vec<Layer>> {
    let mut found = Vec::new();
    for (graph, source) in sources.iter().enumerate() {
        let wanted: HashMap<String, bool> = wanted(source)?
            .into_iter()
            .map(|w| (w.value, w.relu))
            .collect();
        let made = source.graph.node.iter().flat_map(|n| &n.output);
        let inputs = source.graph.input.iter().map(|i| &i.name);
        for value in inputs.chain(made) {
            let Some(relu) = wanted.get(value) else {
                continue;
            };
            let params = params_in(sources, source, seen, settings, value, *relu)?;
            let maker = source.producer(value).map(|n| n.op_type.as_str());
            let before = source
                .producer(value)
                .and_then(|n| source.producer(n.input.first()?));
            let operator = match (maker, before.map(|n| n.op_type.as_str())) {
                (Some("Relu"), Some("Add")) => "QLinearAdd",
                (Some("Conv"), _) | (Some("Relu"), Some("Conv")) => "QLinearConv",
                (Some("MatMul"), _) => "QLinearMatMul",
                _ => "QuantizeLinear",
            };
            found.push(Layer {
                graph,
                value: value.clone(),
                key: source.key(value),
                operator: operator.to_owned(),
                shape: source.shape(value).unwrap_or_default().to_vec(),
                params,
                relu: *relu,
            });
        }
    }
    Ok(found)
}

/// Runs both sets on every sample and shows what each graph made of it, f32 first.
///
/// # Errors
/// Those of the graphs.
pub fn side_by_side(
    plain: &[Graph],
    quantised: &[Graph],
    samples: &dyn Samples,
    mut visit: impl FnMut(usize, &Values, &Values) -> Result<()>,
) -> Result<()> {
    for index in 0..samples.count() {
        let mut kept = Vec::new();
        samples.forward(index, &mut |at, inputs| {
            let values = plain[at].run(inputs)?;
            kept.push(values.clone());
            Ok(values)
        })?;
        let mut kept = kept.into_iter();
        samples.forward(index, &mut |at, inputs| {
            let values = quantised[at].run(inputs)?;
            let beside = kept
                .next()
                .context("the two sets are run in different orders")?;
            visit(at, &beside, &values)?;
            Ok(values)
        })?;
    }
    Ok(())
}

/// Noise and saturation of every layer.
///
/// # Errors
/// Those of the graphs.
pub fn noise(
    sources: &[Source],
    quantised: &[Vec<u8>],
    layers: &[Layer],
    samples: &dyn Samples,
) -> Result<Vec<Noise>> {
    let plain = parsed(&sources.iter().map(Source::to_bytes).collect::<Vec<_>>())?;
    let quantised = parsed(quantised)?;
    let mut sums = vec![Noise::default(); layers.len()];
    side_by_side(&plain, &quantised, samples, |graph, plain, bytes| {
        for (layer, sum) in layers
            .iter()
            .zip(&mut sums)
            .filter(|(l, _)| l.graph == graph)
        {
            let Some((numbers, bytes)) = pair(&layer.value, plain, bytes) else {
                continue;
            };
            let number: [f32; 256] = std::array::from_fn(|b| layer.params.dequantise(b as u8));
            let first_is_zero = layer.params.zero_point() == 0;
            for (number_wanted, byte) in numbers.iter().zip(bytes) {
                let off = f64::from(number[usize::from(*byte)] - number_wanted);
                sum.signal += f64::from(*number_wanted).powi(2);
                sum.noise += off * off;
                let ends = *byte == 255 || (*byte == 0 && !first_is_zero);
                sum.saturated += u64::from(ends);
            }
            sum.count += bytes.len() as u64;
        }
        Ok(())
    })?;
    Ok(sums)
}

/// A value in both sets; where f32 was quantised, the bytes have a name of their own.
fn pair<'a>(value: &str, plain: &'a Values, bytes: &'a Values) -> Option<(&'a [f32], &'a [u8])> {
    let numbers = plain.get(value).and_then(Value::floats)?.values();
    let quantised = bytes.get(value).and_then(Value::bytes);
    let quantised = quantised.or_else(|| bytes.get(&format!("{value}.u8"))?.bytes())?;
    (numbers.len() == quantised.values().len()).then(|| (numbers, quantised.values()))
}
