//! AdamW and the weights' moving average on a device: the arithmetic of [`crate::optim::AdamW`] without a weight, a
//! gradient or a moment leaving it. One number a step comes back, the gradients' norm.

use std::collections::BTreeMap;

use candle_core::Result;

use super::engine::{Arg, Engine, Span, THREADS, count, kernels, size};
use crate::optim::OptimConfig;

/// Values of a gradient that one block of the norm's first pass adds up, at least.
const VALUES_PER_BLOCK: usize = 16 * THREADS as usize;
/// Blocks that one gradient is spread over, at most.
const MOST_BLOCKS: usize = 64;

/// A variable of the network, for one step.
pub(crate) struct Variable<'a> {
    pub name: &'a str,
    pub len: usize,
    pub values: Span<'a>,
    pub gradient: Span<'a>,
    /// Whether weight decay applies.
    pub decays: bool,
}

struct Moments<B> {
    first: B,
    second: B,
    len: usize,
}

/// The optimiser's memory, and the averages.
pub(crate) struct Descent<E: Engine> {
    moments: BTreeMap<String, Moments<E::Buffer>>,
    average: BTreeMap<String, (E::Buffer, usize)>,
    pub updates: u64,
}

fn blocks(len: usize) -> usize {
    len.div_ceil(VALUES_PER_BLOCK).clamp(1, MOST_BLOCKS)
}

impl<E: Engine> Descent<E> {
    pub(crate) fn new(updates: u64) -> Self {
        Self {
            moments: BTreeMap::new(),
            average: BTreeMap::new(),
            updates,
        }
    }

    /// Moments to go on from.
    pub(crate) fn set_moments(
        &mut self,
        engine: &E,
        name: &str,
        first: &[f32],
        second: &[f32],
    ) -> Result<()> {
        let moments = Moments {
            first: engine.upload(first)?,
            second: engine.upload(second)?,
            len: first.len(),
        };
        self.moments.insert(name.to_owned(), moments);
        Ok(())
    }

    /// An average to go on from.
    pub(crate) fn set_average(&mut self, engine: &E, name: &str, values: &[f32]) -> Result<()> {
        let average = (engine.upload(values)?, values.len());
        self.average.insert(name.to_owned(), average);
        Ok(())
    }

    /// First and second moments by name.
    pub(crate) fn moments(&self, engine: &E) -> Result<[BTreeMap<String, Vec<f32>>; 2]> {
        let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
        for (name, moments) in &self.moments {
            first.insert(name.clone(), engine.download(&moments.first, moments.len)?);
            second.insert(name.clone(), engine.download(&moments.second, moments.len)?);
        }
        Ok([first, second])
    }

    /// The averages by name.
    pub(crate) fn average(&self, engine: &E) -> Result<BTreeMap<String, Vec<f32>>> {
        let download = |(name, (buffer, len)): (&String, &(E::Buffer, usize))| {
            Ok((name.clone(), engine.download(buffer, *len)?))
        };
        self.average.iter().map(download).collect()
    }

    /// Moves every variable; returns the norm of the gradients before clipping. A norm that is not finite moves nothing.
    pub(crate) fn step(
        &mut self,
        engine: &E,
        variables: &[Variable<'_>],
        rate: f64,
        config: &OptimConfig,
    ) -> Result<f64> {
        let total: usize = variables.iter().map(|v| blocks(v.len)).sum();
        // Doubles, in words of four bytes.
        let sums = engine.allocate(2 * total)?;
        let norm = engine.allocate(2)?;
        let mut first = 0;
        for variable in variables {
            let blocks = blocks(variable.len);
            let arguments = [
                Arg::Memory(variable.gradient.words(0, variable.len)?),
                count(variable.len)?,
                Arg::Memory(engine.span(&sums).words(2 * first, 2 * blocks)?),
            ];
            engine.launch(kernels::SUM_OF_SQUARES, [size(blocks)?, 1], &arguments)?;
            first += blocks;
        }
        engine.launch(
            kernels::GRADIENT_NORM,
            [1, 1],
            &[
                Arg::Memory(engine.span(&sums)),
                count(total)?,
                Arg::Memory(engine.span(&norm)),
            ],
        )?;
        let updates = (self.updates + 1) as f64;
        let bias1 = 1.0 - config.beta1.powf(updates);
        let bias2 = 1.0 - config.beta2.powf(updates);
        for variable in variables {
            let len = variable.len;
            if !self.moments.contains_key(variable.name) {
                self.set_moments(engine, variable.name, &vec![0.; len], &vec![0.; len])?;
            }
            let moments = &self.moments[variable.name];
            let decay = if variable.decays {
                1.0 - (rate * config.weight_decay) as f32
            } else {
                1.0
            };
            let arguments = [
                Arg::Memory(variable.values.words(0, len)?),
                Arg::Memory(variable.gradient),
                Arg::Memory(engine.span(&moments.first)),
                Arg::Memory(engine.span(&moments.second)),
                count(len)?,
                Arg::Memory(engine.span(&norm)),
                Arg::F64(config.clip_norm),
                Arg::F32(config.beta1 as f32),
                Arg::F32(config.beta2 as f32),
                Arg::F32(decay),
                Arg::F32((rate / bias1) as f32),
                Arg::F32(bias2.sqrt() as f32),
                Arg::F32(config.epsilon as f32),
            ];
            engine.launch_each(kernels::ADAMW, len, &arguments)?;
        }
        // Read last: the host waits here, once a step.
        let words = engine.download(&norm, 2)?;
        let bits = words.iter().rev().fold(0, |bits: u64, word| {
            (bits << 32) | u64::from(word.to_bits())
        });
        let norm = f64::from_bits(bits);
        self.updates += u64::from(norm.is_finite());
        Ok(norm)
    }

    /// Moves the average called `name` towards `values` by `1 - keep`.
    pub(crate) fn blend(&self, engine: &E, name: &str, values: Span<'_>, keep: f32) -> Result<()> {
        let Some((average, len)) = self.average.get(name) else {
            return Ok(());
        };
        let arguments = [
            Arg::Memory(engine.span(average)),
            Arg::Memory(values.words(0, *len)?),
            count(*len)?,
            Arg::F32(keep),
        ];
        engine.launch_each(kernels::BLEND, *len, &arguments)
    }
}
