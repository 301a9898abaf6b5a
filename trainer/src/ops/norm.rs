//! Batch normalisation of NHWC maps, fused with an optional residual addition and ReLU.
//!
//! In comes `x` `[.., C]`, out goes `relu?(gamma * (x - mean) / sqrt(variance + epsilon) + beta + residual?)`, with
//! the statistics of the batch (training) or remembered ones (frozen). Sums are taken in `f32` over short blocks
//! and in `f64` over blocks, in a fixed order: results do not depend on the number of threads. See
//! [`batch_norm`](super::batch_norm) in the head of [`ops`](super) for an example.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda::device::{self, DeviceStats};
use super::kernels::{self, LANES};
use super::{contiguous_f32, with_f32};

/// Added to every variance, as in PyTorch's default.
pub const BN_EPSILON: f64 = 1e-5;

/// Values per parallel piece of work: a fixed number, so that sums have a fixed order.
const BLOCK_VALUES: usize = 128 * 1024;
/// Values whose sums are kept in `f32`: half of a first-level cache.
const RUN_VALUES: usize = 4 * 1024;

/// Remembered mean and variance of each channel, for inference.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningStats {
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// Unbiased variance of each channel.
    pub variance: Vec<f32>,
}

/// Running statistics that the operators of a training step update. While a GPU trains, the newest ones are there.
#[derive(Clone, Debug)]
pub struct SharedRunningStats {
    host: Arc<Mutex<RunningStats>>,
    #[cfg(feature = "cuda")]
    device: Arc<Mutex<Option<DeviceStats>>>,
}

impl SharedRunningStats {
    /// The newest statistics, to read or to change; those of a GPU come back to the host first.
    ///
    /// # Errors
    /// If a GPU does not give them back.
    pub fn lock(&self) -> Result<MutexGuard<'_, RunningStats>> {
        #[cfg_attr(
            not(feature = "cuda"),
            expect(unused_mut, reason = "only a GPU's are newer")
        )]
        let mut host = unpoisoned(&self.host);
        #[cfg(feature = "cuda")]
        if let Some(device) = unpoisoned(&self.device).take() {
            device.copy_to(&mut host)?;
        }
        Ok(host)
    }

    /// The statistics after [`lock`](Self::lock) failed: NaN.
    pub(crate) fn lock_unknown(&self) -> MutexGuard<'_, RunningStats> {
        let mut host = unpoisoned(&self.host);
        host.mean.fill(f32::NAN);
        host.variance.fill(f32::NAN);
        host
    }

    /// Runs `f` with the statistics on the GPU, brought there by `new` where they are not there yet.
    #[cfg(feature = "cuda")]
    pub(super) fn on_device<T>(
        &self,
        new: impl FnOnce(&RunningStats) -> Result<DeviceStats>,
        f: impl FnOnce(&DeviceStats) -> Result<T>,
    ) -> Result<T> {
        let host = unpoisoned(&self.host);
        let mut device = unpoisoned(&self.device);
        let device = match &mut *device {
            Some(device) => device,
            none => none.insert(new(&host)?),
        };
        f(device)
    }
}

impl RunningStats {
    /// Mean 0 and variance 1 for `channels` channels.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self {
            mean: vec![0.; channels],
            variance: vec![1.; channels],
        }
    }

    /// Wraps the statistics for [`BnStats`].
    #[must_use]
    pub fn into_shared(self) -> SharedRunningStats {
        SharedRunningStats {
            host: Arc::new(Mutex::new(self)),
            #[cfg(feature = "cuda")]
            device: Arc::default(),
        }
    }
}

/// Which statistics normalise.
#[derive(Clone, Debug)]
pub enum BnStats {
    /// Those of the batch: mean and biased variance over all but the last dimension. `running` moves towards them
    /// (with the unbiased variance) by `momentum`, a fraction from 0 to 1, once per call.
    Training {
        /// Updated by every forward pass.
        running: SharedRunningStats,
        /// Weight of the new statistics.
        momentum: f32,
    },
    /// The remembered ones, as constants.
    Frozen {
        /// Only read.
        running: SharedRunningStats,
    },
}

impl BnStats {
    pub(super) fn running(&self) -> &SharedRunningStats {
        match self {
            Self::Training { running, .. } | Self::Frozen { running } => running,
        }
    }
}

/// A thread that panicked between two complete vectors cannot leave anything broken behind.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Mean and reciprocal standard deviation of each channel.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub mean: Vec<f32>,
    pub reciprocal_std: Vec<f32>,
}

/// Two sums per channel.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    pub first: Vec<f64>,
    pub second: Vec<f64>,
}

impl Sums {
    pub(super) fn zero(channels: usize) -> Self {
        Self {
            first: vec![0.; channels],
            second: vec![0.; channels],
        }
    }

    /// The sums over pieces, added in order.
    pub(super) fn total(channels: usize, pieces: &[Self]) -> Self {
        let mut total = Self::zero(channels);
        for piece in pieces {
            for (sum, value) in total.first.iter_mut().zip(&piece.first) {
                *sum += value;
            }
            for (sum, value) in total.second.iter_mut().zip(&piece.second) {
                *sum += value;
            }
        }
        total
    }

    /// Adds one value of each kind per channel and row.
    #[inline(always)]
    fn add_rows(&mut self, values: usize, pair: &impl Pair) {
        let channels = self.first.len();
        let run = (RUN_VALUES / channels).max(1) * channels;
        let whole = channels - channels % LANES;
        for start in (0..values).step_by(run) {
            let rows = start..values.min(start + run);
            for column in (0..whole).step_by(LANES) {
                self.add_columns::<LANES>(rows.clone(), column, pair);
            }
            for column in whole..channels {
                self.add_columns::<1>(rows.clone(), column, pair);
            }
        }
    }

    #[inline(always)]
    fn add_columns<const L: usize>(&mut self, rows: Range<usize>, column: usize, pair: &impl Pair) {
        let channels = self.first.len();
        let (mut first, mut second) = ([0f32; L], [0f32; L]);
        for row in rows.step_by(channels) {
            let (a, b) = pair.get::<L>(row + column, column);
            for lane in 0..L {
                first[lane] += a[lane];
                second[lane] += b[lane];
            }
        }
        for lane in 0..L {
            self.first[column + lane] += f64::from(first[lane]);
            self.second[column + lane] += f64::from(second[lane]);
        }
    }
}

/// An array of `L` values, one expression per lane. (`std::array::from_fn` is not always inlined, and then neither
/// vectorised.)
macro_rules! each_lane {
    (|$l:ident| $value:expr) => {{
        let mut lanes = [0f32; L];
        for $l in 0..L {
            lanes[$l] = $value;
        }
        lanes
    }};
}

/// `L` consecutive values, as an array that the compiler keeps in a register.
#[inline(always)]
fn lanes<const L: usize>(values: &[f32], start: usize) -> [f32; L] {
    let mut lanes = [0.; L];
    lanes.copy_from_slice(&values[start..start + L]);
    lanes
}

/// Two values of each position, `L` neighbouring channels at a time.
trait Pair {
    fn get<const L: usize>(&self, index: usize, channel: usize) -> ([f32; L], [f32; L]);
}

/// One value of each position, `L` neighbouring channels at a time.
trait Single {
    fn get<const L: usize>(&self, index: usize, channel: usize) -> [f32; L];
}

/// Writes a value for every position of rows of channels.
#[inline(always)]
fn write_rows(channels: usize, out: &mut [MaybeUninit<f32>], value: &impl Single) {
    let whole = channels - channels % LANES;
    for row in (0..out.len()).step_by(channels) {
        for column in (0..whole).step_by(LANES) {
            let lanes: [f32; LANES] = value.get(row + column, column);
            out[row + column..row + column + LANES].write_copy_of_slice(&lanes);
        }
        for column in whole..channels {
            let [lane] = value.get::<1>(row + column, column);
            out[row + column].write(lane);
        }
    }
}

struct Moment<'a>(&'a [f32]);

impl Pair for Moment<'_> {
    #[inline(always)]
    fn get<const L: usize>(&self, index: usize, _channel: usize) -> ([f32; L], [f32; L]) {
        let x: [f32; L] = lanes(self.0, index);
        (x, each_lane!(|l| x[l] * x[l]))
    }
}

kernels::multiversion! {
    /// Adds sums and sums of squares of rows of channels.
    pub(super) fn add_moments(sums: &mut Sums, x: &[f32]) {
        sums.add_rows(x.len(), &Moment(x));
    }
}

/// Where the gradient passes the ReLU.
#[derive(Clone, Copy)]
pub(super) enum Mask<'a> {
    /// Everywhere: there is none.
    All,
    /// Where this result is positive.
    Result(&'a [f32]),
    /// Where the normalised input is positive: the result without having to read it.
    Affine(&'a Affine),
}

impl Mask<'_> {
    /// The mask of a part of the values.
    pub(super) fn part(self, range: Range<usize>) -> Self {
        match self {
            Self::Result(y) => Mask::Result(&y[range]),
            Self::All | Self::Affine(_) => self,
        }
    }
}

/// A mask known at compile time, and the gradient behind it.
trait Gate {
    fn gated<const L: usize>(&self, index: usize, channel: usize, x: [f32; L]) -> [f32; L];
}

struct Open<'a>(&'a [f32]);

impl Gate for Open<'_> {
    #[inline(always)]
    fn gated<const L: usize>(&self, index: usize, _channel: usize, _x: [f32; L]) -> [f32; L] {
        lanes(self.0, index)
    }
}

struct ByResult<'a>(&'a [f32], &'a [f32]);

impl Gate for ByResult<'_> {
    #[inline(always)]
    fn gated<const L: usize>(&self, index: usize, _channel: usize, _x: [f32; L]) -> [f32; L] {
        let (g, y): ([f32; L], [f32; L]) = (lanes(self.0, index), lanes(self.1, index));
        each_lane!(|l| if y[l] > 0. { g[l] } else { 0. })
    }
}

struct ByAffine<'a>(&'a [f32], &'a Affine);

impl Gate for ByAffine<'_> {
    #[inline(always)]
    fn gated<const L: usize>(&self, index: usize, channel: usize, x: [f32; L]) -> [f32; L] {
        let g: [f32; L] = lanes(self.0, index);
        let (scale, shift): ([f32; L], [f32; L]) =
            (lanes(&self.1.scale, channel), lanes(&self.1.shift, channel));
        // The same expression as in the forward pass, so that both round to the same side of zero.
        each_lane!(|l| {
            if x[l] * scale[l] + shift[l] > 0. {
                g[l]
            } else {
                0.
            }
        })
    }
}

struct GradientPair<'a, G> {
    x: &'a [f32],
    mean: &'a [f32],
    gate: G,
}

impl<G: Gate> Pair for GradientPair<'_, G> {
    #[inline(always)]
    fn get<const L: usize>(&self, index: usize, channel: usize) -> ([f32; L], [f32; L]) {
        let (x, mean): ([f32; L], [f32; L]) = (lanes(self.x, index), lanes(self.mean, channel));
        let g = self.gate.gated(index, channel, x);
        (g, each_lane!(|l| g[l] * (x[l] - mean[l])))
    }
}

kernels::multiversion! {
    /// Adds the sums of the gradient `g` behind the mask, and of it times `x - mean`.
    pub(super) fn add_gradient_sums(sums: &mut Sums, x: &[f32], g: &[f32], mask: Mask<'_>, mean: &[f32]) {
        match mask {
            Mask::All => sums.add_rows(x.len(), &GradientPair { x, mean, gate: Open(g) }),
            Mask::Result(y) => sums.add_rows(x.len(), &GradientPair { x, mean, gate: ByResult(g, y) }),
            Mask::Affine(affine) => sums.add_rows(x.len(), &GradientPair { x, mean, gate: ByAffine(g, affine) }),
        }
    }
}

/// `y = x * scale + shift` of each channel.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

impl Affine {
    /// Normalisation as one multiplication and one addition.
    pub(super) fn new(moments: &Moments, gamma: &[f32], beta: &[f32]) -> Self {
        let scale: Vec<f32> = gamma
            .iter()
            .zip(&moments.reciprocal_std)
            .map(|(g, r)| g * r)
            .collect();
        let shift = beta
            .iter()
            .zip(&scale)
            .zip(&moments.mean)
            .map(|((b, s), m)| b - m * s)
            .collect();
        Self { scale, shift }
    }
}

struct Applied<'a, const RESIDUAL: bool> {
    affine: &'a Affine,
    x: &'a [f32],
    residual: &'a [f32],
    floor: f32,
}

impl<const RESIDUAL: bool> Single for Applied<'_, RESIDUAL> {
    #[inline(always)]
    fn get<const L: usize>(&self, index: usize, channel: usize) -> [f32; L] {
        let x: [f32; L] = lanes(self.x, index);
        let (scale, shift): ([f32; L], [f32; L]) = (
            lanes(&self.affine.scale, channel),
            lanes(&self.affine.shift, channel),
        );
        let residual: [f32; L] = if RESIDUAL {
            lanes(self.residual, index)
        } else {
            [0.; L]
        };
        each_lane!(|l| {
            let value = x[l] * scale[l] + shift[l];
            let value = if RESIDUAL { value + residual[l] } else { value };
            // Written so that a NaN stays one.
            if value < self.floor {
                self.floor
            } else {
                value
            }
        })
    }
}

kernels::multiversion! {
    /// Writes `relu?(x * scale + shift + residual?)`.
    pub(super) fn apply(affine: &Affine, x: &[f32], residual: Option<&[f32]>, relu: bool, y: &mut [MaybeUninit<f32>]) {
        let channels = affine.scale.len();
        let floor = if relu { 0. } else { f32::NEG_INFINITY };
        match residual {
            Some(residual) => write_rows(channels, y, &Applied::<true> { affine, x, residual, floor }),
            None => write_rows(channels, y, &Applied::<false> { affine, x, residual: &[], floor }),
        }
    }
}

/// The gradient with respect to the input: `g * scale + x * slope + offset` of each channel, where the last two
/// carry the dependence of the batch statistics on the input and are zero when those are constants.
#[derive(Clone, Debug)]
pub(super) struct InputGrad {
    pub scale: Vec<f32>,
    pub slope: Vec<f32>,
    pub offset: Vec<f32>,
}

struct InputGradOf<'a, G> {
    grad: &'a InputGrad,
    x: &'a [f32],
    gate: G,
}

impl<G: Gate> Single for InputGradOf<'_, G> {
    #[inline(always)]
    fn get<const L: usize>(&self, index: usize, channel: usize) -> [f32; L] {
        let x: [f32; L] = lanes(self.x, index);
        let g = self.gate.gated(index, channel, x);
        let scale: [f32; L] = lanes(&self.grad.scale, channel);
        let (slope, offset): ([f32; L], [f32; L]) = (
            lanes(&self.grad.slope, channel),
            lanes(&self.grad.offset, channel),
        );
        each_lane!(|l| g[l] * scale[l] + (x[l] * slope[l] + offset[l]))
    }
}

kernels::multiversion! {
    /// Writes the gradient of the input.
    pub(super) fn apply_input_grad(grad: &InputGrad, x: &[f32], g: &[f32], mask: Mask<'_>, out: &mut [MaybeUninit<f32>]) {
        let channels = grad.scale.len();
        match mask {
            Mask::All => write_rows(channels, out, &InputGradOf { grad, x, gate: Open(g) }),
            Mask::Result(y) => write_rows(channels, out, &InputGradOf { grad, x, gate: ByResult(g, y) }),
            Mask::Affine(affine) => write_rows(channels, out, &InputGradOf { grad, x, gate: ByAffine(g, affine) }),
        }
    }
}

kernels::multiversion! {
    /// Writes `g` where `y` is positive, zero elsewhere.
    pub(super) fn apply_mask(g: &[f32], y: &[f32], out: &mut [MaybeUninit<f32>]) {
        for ((out, g), y) in out.iter_mut().zip(g).zip(y) {
            let g = *g;
            out.write(if *y > 0. { g } else { 0. });
        }
    }
}

/// Values per block of `channels` channels: whole rows.
fn block_len(channels: usize) -> usize {
    (BLOCK_VALUES / channels).max(1) * channels
}

/// Turns the sums over the batch into moments, and moves the running statistics.
pub(super) fn batch_moments(
    stats: &BnStats,
    channels: usize,
    rows: usize,
    sums: impl FnOnce() -> Sums,
) -> Result<Moments> {
    let mut running = stats.running().lock()?;
    let found = running.mean.len();
    if found != channels || running.variance.len() != channels {
        bail!("batch_norm: running statistics have {found} channels, the input has {channels}")
    }
    match stats {
        BnStats::Frozen { .. } => {
            let reciprocal_std = running
                .variance
                .iter()
                .map(|&v| (1. / (f64::from(v) + BN_EPSILON).sqrt()) as f32)
                .collect();
            Ok(Moments {
                mean: running.mean.clone(),
                reciprocal_std,
            })
        }
        BnStats::Training { momentum, .. } => {
            if rows < 2 {
                bail!("batch_norm: a batch of {rows} value per channel has no variance")
            }
            let sums = sums();
            let count = rows as f64;
            let mean: Vec<f64> = sums.first.iter().map(|sum| sum / count).collect();
            let variance: Vec<f64> = sums
                .second
                .iter()
                .zip(&mean)
                .map(|(sum, mean)| (sum / count - mean * mean).max(0.))
                .collect();
            let blend = |old: &mut f32, new: f64| *old += momentum * (new as f32 - *old);
            for (old, new) in running.mean.iter_mut().zip(&mean) {
                blend(old, *new);
            }
            for (old, new) in running.variance.iter_mut().zip(&variance) {
                blend(old, new * count / (count - 1.));
            }
            Ok(Moments {
                mean: mean.iter().map(|&mean| mean as f32).collect(),
                reciprocal_std: variance
                    .iter()
                    .map(|v| (1. / (v + BN_EPSILON).sqrt()) as f32)
                    .collect(),
            })
        }
    }
}

/// Gradients of gamma and beta (in one vector), and what the input's gradient needs.
pub(super) fn gradient_coefficients(
    sums: &Sums,
    rows: usize,
    moments: &Moments,
    gamma: &[f32],
    training: bool,
) -> (Vec<f32>, InputGrad) {
    let channels = gamma.len();
    let mut affine_grad = Vec::with_capacity(2 * channels);
    let mut grad = InputGrad {
        scale: Vec::new(),
        slope: Vec::new(),
        offset: Vec::new(),
    };
    for (c, gamma) in gamma.iter().enumerate() {
        let mean = f64::from(moments.mean[c]);
        let r = f64::from(moments.reciprocal_std[c]);
        let scale = f64::from(*gamma) * r;
        let gamma_grad = sums.second[c] * r;
        affine_grad.push(gamma_grad as f32);
        let (mut slope, mut offset) = (0., 0.);
        if training {
            slope = -scale * r * gamma_grad / rows as f64;
            offset = -scale * sums.first[c] / rows as f64 - slope * mean;
        }
        grad.scale.push(scale as f32);
        grad.slope.push(slope as f32);
        grad.offset.push(offset as f32);
    }
    affine_grad.extend(sums.first.iter().map(|&sum| sum as f32));
    (affine_grad, grad)
}

struct BatchNorm {
    relu: bool,
    stats: BnStats,
    /// Set by the forward pass for the backward pass.
    moments: OnceLock<Moments>,
    #[cfg(feature = "cuda")]
    saved_on_gpu: OnceLock<device::NormSaved>,
}

/// Writes the values of a range.
type FillRange<'a> = dyn Fn(Range<usize>, &mut [MaybeUninit<f32>]) + Sync + 'a;

/// Gradients of one call.
struct Gradients {
    x: Option<Vec<f32>>,
    affine: Vec<f32>,
    residual: Option<Vec<f32>>,
}

impl BatchNorm {
    #[expect(unsafe_code, reason = "results are not zeroed before they are written")]
    fn forward(&self, x: &[f32], affine: &[f32], residual: Option<&[f32]>) -> Result<Vec<f32>> {
        let channels = affine.len() / 2;
        let block = block_len(channels);
        let moments = batch_moments(&self.stats, channels, x.len() / channels, || {
            let pieces: Vec<Sums> = x
                .par_chunks(block)
                .map(|x| {
                    let mut sums = Sums::zero(channels);
                    add_moments(&mut sums, x);
                    sums
                })
                .collect();
            Sums::total(channels, &pieces)
        })?;
        let coefficients = Affine::new(&moments, &affine[..channels], &affine[channels..]);
        // A second forward pass of the same operator does not happen; if it did, the first moments would stay.
        let _ = self.moments.set(moments);
        // SAFETY: `apply` writes every value of each block: lengths are multiples of the channel count.
        Ok(unsafe {
            kernels::filled(x.len(), |y| {
                y.par_chunks_mut(block).enumerate().for_each(|(i, y)| {
                    let range = i * block..i * block + y.len();
                    apply(
                        &coefficients,
                        &x[range.clone()],
                        residual.map(|r| &r[range]),
                        self.relu,
                        y,
                    );
                });
            })
        })
    }

    #[expect(unsafe_code, reason = "results are not zeroed before they are written")]
    fn backward(
        &self,
        x: &[f32],
        affine: &[f32],
        y: &[f32],
        g: &[f32],
        want_x: bool,
        want_residual: bool,
    ) -> Result<Gradients> {
        let Some(moments) = self.moments.get() else {
            bail!("batch_norm: backward before forward")
        };
        let channels = affine.len() / 2;
        let block = block_len(channels);
        let mask = if self.relu {
            Mask::Result(y)
        } else {
            Mask::All
        };
        let pieces: Vec<Sums> = x
            .par_chunks(block)
            .enumerate()
            .map(|(i, x)| {
                let range = i * block..i * block + x.len();
                let mut sums = Sums::zero(channels);
                add_gradient_sums(
                    &mut sums,
                    x,
                    &g[range.clone()],
                    mask.part(range),
                    &moments.mean,
                );
                sums
            })
            .collect();
        let training = matches!(self.stats, BnStats::Training { .. });
        let (affine, grad) = gradient_coefficients(
            &Sums::total(channels, &pieces),
            x.len() / channels,
            moments,
            &affine[..channels],
            training,
        );
        let blocks = |fill: &FillRange<'_>| {
            // SAFETY: both uses below write every value of each block.
            unsafe {
                kernels::filled(x.len(), |out| {
                    out.par_chunks_mut(block)
                        .enumerate()
                        .for_each(|(i, out)| fill(i * block..i * block + out.len(), out));
                })
            }
        };
        let x_grad = want_x.then(|| {
            blocks(&|range, out| {
                apply_input_grad(
                    &grad,
                    &x[range.clone()],
                    &g[range.clone()],
                    mask.part(range),
                    out,
                );
            })
        });
        let residual = match mask {
            Mask::Result(y) if want_residual => Some(blocks(&|range, out| {
                apply_mask(&g[range.clone()], &y[range], out)
            })),
            _ => None,
        };
        Ok(Gradients {
            x: x_grad,
            affine,
            residual,
        })
    }

    fn check(&self, x: &[usize], affine: &[usize]) -> Result<()> {
        match (x.last(), affine) {
            (Some(&channels), &[2, found])
                if channels == found && channels > 0 && !x.contains(&0) =>
            {
                Ok(())
            }
            _ => bail!(
                "batch_norm: expected [.., C] and scale and shift [2, C], found {x:?} and {affine:?}"
            ),
        }
    }

    fn tensors(
        &self,
        x: &Tensor,
        affine: &Tensor,
        y: &Tensor,
        g: &Tensor,
        residual: bool,
    ) -> Result<[Option<Tensor>; 3]> {
        let g = g.contiguous()?;
        #[cfg(feature = "cuda")]
        if let Some(saved) = self.saved_on_gpu.get() {
            let training = matches!(self.stats, BnStats::Training { .. });
            return device::batch_norm_backward(
                saved, training, self.relu, x, affine, y, &g, residual,
            );
        }
        let gradients = with_f32([x, affine, y, &g], |[x_data, affine, y, g]| {
            self.backward(x_data, affine, y, g, x.track_op(), residual)
        })?;
        let tensor =
            |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        let residual_grad = match gradients.residual {
            Some(values) => Some(tensor(values, x)?),
            // Without a ReLU in between, the residual's gradient is the result's.
            None => residual.then(|| g.clone()),
        };
        Ok([
            gradients.x.map(|values| tensor(values, x)).transpose()?,
            Some(tensor(gradients.affine, affine)?),
            residual_grad,
        ])
    }
}

#[cfg(feature = "cuda")]
impl BatchNorm {
    /// The forward pass on a GPU.
    fn forward_on_gpu(
        &self,
        x: (&candle_core::CudaStorage, &Layout),
        affine: (&candle_core::CudaStorage, &Layout),
        residual: Option<(&candle_core::CudaStorage, &Layout)>,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.check(x.1.dims(), affine.1.dims())?;
        check_residual(x.1, residual.map(|(_, layout)| layout))?;
        let (y, saved) = device::batch_norm(&self.stats, self.relu, x, affine, residual)?;
        let _ = self.saved_on_gpu.set(saved);
        Ok((y, x.1.shape().clone()))
    }
}

fn check_residual(x: &Layout, residual: Option<&Layout>) -> Result<()> {
    match residual {
        Some(residual) if residual.dims() != x.dims() => bail!(
            "batch_norm: residual has shape {:?}, the input {:?}",
            residual.dims(),
            x.dims()
        ),
        _ => Ok(()),
    }
}

impl CustomOp2 for BatchNorm {
    fn name(&self) -> &'static str {
        "roadhound-batch-norm"
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        affine: &candle_core::CudaStorage,
        la: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.forward_on_gpu((x, lx), (affine, la), None)
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        affine: &CpuStorage,
        la: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.check(lx.dims(), la.dims())?;
        let y = self.forward(contiguous_f32(x, lx)?, contiguous_f32(affine, la)?, None)?;
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, affine, _] = self.tensors(x, affine, y, g, false)?;
        Ok((x, affine))
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "roadhound-batch-norm-residual"
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        affine: &candle_core::CudaStorage,
        la: &Layout,
        residual: &candle_core::CudaStorage,
        lr: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.forward_on_gpu((x, lx), (affine, la), Some((residual, lr)))
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        affine: &CpuStorage,
        la: &Layout,
        residual: &CpuStorage,
        lr: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.check(lx.dims(), la.dims())?;
        check_residual(lx, Some(lr))?;
        let y = self.forward(
            contiguous_f32(x, lx)?,
            contiguous_f32(affine, la)?,
            Some(contiguous_f32(residual, lr)?),
        )?;
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, affine, residual] = self.tensors(x, affine, y, g, residual.track_op())?;
        Ok((x, affine, residual))
    }
}

/// `relu?(gamma * (x - mean) / sqrt(variance + epsilon) + beta + residual?)`, with the mean and the biased
/// variance of each channel chosen by `stats` and epsilon = [`BN_EPSILON`].
///
/// With [`BnStats::Training`], gradients include the dependence of the statistics on `x`, and the running
/// statistics move once per call: a network applied to template and search moves them twice per step. Source:
/// Ioffe and Szegedy, "Batch Normalization", 2015.
///
/// # Shapes
/// - `x`, `residual` and the result: `[.., C]`, usually `[N, H, W, C]`
/// - `gamma`, `beta` and the running statistics: `[C]`
///
/// # Errors
/// If shapes do not fit, a tensor is not `f32`, the device has no implementation, or training statistics are asked for
/// with fewer than two values per channel.
pub fn batch_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    stats: &BnStats,
) -> Result<Tensor> {
    let op = BatchNorm {
        relu,
        stats: stats.clone(),
        moments: OnceLock::new(),
        #[cfg(feature = "cuda")]
        saved_on_gpu: OnceLock::new(),
    };
    let affine = Tensor::stack(&[gamma, beta], 0)?;
    let x = x.contiguous()?;
    match residual {
        Some(residual) => x.apply_op3(&affine, &residual.contiguous()?, op),
        None => x.apply_op2(&affine, op),
    }
}
