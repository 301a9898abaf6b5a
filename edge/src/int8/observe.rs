//! Convolutions that are looked into and put right while a program runs: a few of their sums leave as bytes that count
//! deviations of the source, and a scale and a shift a channel come back.
//!
//! Enters: a [`Reference`] a channel, by [`Graph::observe`](super::Graph::observe), later an [`Adjustment`] a channel.
//! Leaves: samples, cell by cell.
//!
//! Both cost next to nothing, because the kernels do both: a sample is the same convolution at a few cells with other
//! biases and multipliers, written elsewhere; an adjustment is other biases and multipliers. So the bytes of both are the
//! same on every path. Which cells are sampled depends on the number of the run alone.
//!
//! ```
//! use roadhound_edge::int8::{Convolution, Graph, Layout, Number, Path, Reference, Shape, Sink, Source};
//! use roadhound_shared::adapt::{Adjustment, SAMPLE_STEPS, SAMPLE_ZERO};
//! use roadhound_shared::quantised::QuantParams;
//!
//! let params = QuantParams::new(1.0, 0)?;
//! let mut graph = Graph::new();
//! let x = graph.input(Shape::new(1, 2, 2)?, Layout::Planar, Number::F32(params))?;
//! let y = graph.convolve(x, &Convolution {
//!     weights: vec![1],
//!     bias: None,
//!     channels: 1,
//!     kernel: [1, 1],
//!     strides: [1, 1],
//!     dilations: [1, 1],
//!     pads: [0; 4],
//!     input: params,
//!     weight_scales: vec![1.0],
//!     output: params,
//! })?;
//! graph.output(y, Layout::Planar, Number::F32(params))?;
//! graph.observe(y, &[Reference { mean: 10.0, deviation: 4.0 }])?;
//! let mut program = graph.plan(Path::detect(), 1)?;
//! let mut sums = [0.0; 4];
//! program.run(&[Source::F32(&[14.0; 4])], &mut [Sink::F32(&mut sums)])?;
//! // One deviation above the mean of the source, in every cell.
//! assert!(program.samples(0).iter().all(|byte| *byte == SAMPLE_ZERO + SAMPLE_STEPS as u8));
//! program.adjust(0, &[Adjustment { scale: 1.0, shift: 1.0 }])?;
//! program.run(&[Source::F32(&[14.0; 4])], &mut [Sink::F32(&mut sums)])?;
//! assert_eq!(sums, [10.0; 4]);
//! # Ok::<(), roadhound_edge::int8::PlanError>(())
//! ```

use roadhound_shared::adapt::{Adjustment, SAMPLE_STEPS, SAMPLE_ZERO};
use roadhound_shared::mix::SplitMix64;
use roadhound_shared::quantised::Requantise;

use super::graph::{Conv, PlanError, counted};
use super::plan::{Aligned, ConvStep, Operand, multipliers};

/// Products that a layer's samples of one run cost, about: a thousandth of a search.
const SAMPLE_PRODUCTS: usize = 1 << 18;
/// Cells that are sampled: no fewer and no more.
const LEAST_CELLS: usize = 8;
const MOST_CELLS: usize = 64;

/// Where a channel lay on the source, before the activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reference {
    /// Its mean.
    pub mean: f32,
    /// Its standard deviation.
    pub deviation: f32,
}

/// How a convolution is looked into, and what it is without adjustments.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    /// Which of the observed convolutions it is.
    pub(super) index: usize,
    /// Which band of a stem is sampled in this run.
    pub(super) band: usize,
    /// Where the windows of the sampled cells start in this run.
    pub(super) input_offsets: Vec<u32>,
    /// Where their bytes go.
    pub(super) output_offsets: Vec<u32>,
    /// What turns sums into samples.
    pub(super) bias: Aligned,
    pub(super) multipliers: Vec<f32>,
    pub(super) requantise: Vec<Requantise>,
    /// In steps of the output.
    reference: Vec<Reference>,
    /// The convolution's own, one for each channel.
    own_bias: Vec<i32>,
    own: Vec<Requantise>,
    /// What may be added to a channel's sums, so that they do not overflow.
    room: Vec<i32>,
}

impl Watch {
    /// For a convolution that is laid out.
    pub(super) fn new(
        index: usize,
        references: &[Reference],
        conv: &Conv,
        step: &mut ConvStep,
    ) -> Result<Self, PlanError> {
        let channels = step.channels;
        let depth = conv.weights.len() / channels;
        let cells = (SAMPLE_PRODUCTS / conv.weights.len().max(1)).clamp(LEAST_CELLS, MOST_CELLS);
        let last = conv.requantise.len() - 1;
        let own: Vec<Requantise> = (0..channels)
            .map(|channel| conv.requantise[channel.min(last)])
            .collect();
        let in_steps = |reference: &Reference| Reference {
            mean: reference.mean / conv.output_scale,
            deviation: reference.deviation / conv.output_scale,
        };
        let reference: Vec<Reference> = references.iter().map(in_steps).collect();
        let widest = i64::from(i32::MAX) - depth as i64 * 255 * 128;
        let room = |bias: &i32| (widest - i64::from(bias.unsigned_abs())).max(0) as i32;
        let room: Vec<i32> = conv.bias.iter().map(room).collect();
        let Operand::Owned(packed) = &mut step.bias else {
            return Err(PlanError::Unobservable);
        };
        let own_bias = numbers(packed, channels);
        let mut bias = packed.clone();
        let mut requantise = Vec::with_capacity(channels);
        for (channel, reference) in reference.iter().enumerate() {
            let (shift, sampled) = own[channel].moved(
                -reference.mean,
                SAMPLE_STEPS / reference.deviation,
                SAMPLE_ZERO,
                room[channel],
            )?;
            set_number(&mut bias, channel, own_bias[channel].wrapping_add(shift));
            requantise.push(sampled);
        }
        Ok(Self {
            index,
            band: 0,
            input_offsets: vec![0; cells],
            output_offsets: (0..cells).map(|cell| (cell * channels) as u32).collect(),
            bias,
            multipliers: multipliers(&requantise, channels, step.block),
            requantise,
            reference,
            own_bias,
            own,
            room,
        })
    }

    /// Bytes of a run's samples.
    pub(super) fn sample_bytes(&self) -> usize {
        self.input_offsets.len() * self.own.len()
    }

    /// Chooses the cells of a run among those of a map; of a stem, `bands` is the number of bands, the last of which has
    /// `last_cells`.
    pub(super) fn choose(&mut self, run: u64, offsets: &[u32], bands: usize, last_cells: usize) {
        let mut stream = SplitMix64((run << 8) ^ self.index as u64);
        self.band = (stream.next() % bands.max(1) as u64) as usize;
        let cells = if self.band + 1 == bands {
            last_cells
        } else {
            offsets.len()
        };
        for offset in &mut self.input_offsets {
            *offset = offsets[(stream.next() % cells.max(1) as u64) as usize];
        }
    }

    /// Gives a convolution the biases and multipliers of adjustments.
    pub(super) fn adjust(
        &self,
        adjustments: &[Adjustment],
    ) -> Result<(Vec<i32>, Vec<Requantise>), PlanError> {
        counted("adjustments", adjustments.len(), self.own.len())?;
        let mut bias = Vec::with_capacity(self.own.len());
        let mut requantise = Vec::with_capacity(self.own.len());
        for (channel, adjustment) in adjustments.iter().enumerate() {
            let Adjustment { scale, shift } = *adjustment;
            let (own, reference) = (self.own[channel], self.reference[channel]);
            // (y - mean - shift * deviation) * scale + mean, as (y + steps) * scale.
            let steps = reference.mean * (1.0 - scale) / scale - shift * reference.deviation;
            let (moved_by, moved) =
                own.moved(steps, scale, own.zero_point(), self.room[channel])?;
            bias.push(self.own_bias[channel].wrapping_add(moved_by));
            requantise.push(moved);
        }
        Ok((bias, requantise))
    }
}

impl ConvStep {
    /// Puts an observed convolution right; one that is not observed stays as it is.
    pub(super) fn adjust(&mut self, adjustments: &[Adjustment]) -> Result<(), PlanError> {
        let (Some(watch), Operand::Owned(packed)) = (&self.watch, &mut self.bias) else {
            return Ok(());
        };
        let (bias, requantise) = watch.adjust(adjustments)?;
        for (channel, bias) in bias.into_iter().enumerate() {
            set_number(packed, channel, bias);
        }
        self.multipliers = multipliers(&requantise, self.channels, self.block);
        self.requantise = requantise;
        Ok(())
    }
}

/// The first numbers of packed biases.
fn numbers(packed: &mut Aligned, count: usize) -> Vec<i32> {
    let (numbers, _) = packed.bytes_mut().as_chunks::<4>();
    numbers
        .iter()
        .take(count)
        .map(|n| i32::from_ne_bytes(*n))
        .collect()
}

fn set_number(packed: &mut Aligned, at: usize, number: i32) {
    packed.bytes_mut()[4 * at..4 * at + 4].copy_from_slice(&number.to_ne_bytes());
}
