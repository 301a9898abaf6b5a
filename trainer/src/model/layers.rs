//! Building blocks of the follow model: convolution, batch normalisation, ReLU, and the residual pair.
//!
//! In: feature maps `[N, H, W, C]`. Out: feature maps. A layer knows its folded form ([`FoldedConv`]), which is
//! what the exporter writes: batch normalisation never reaches the board.

use candle_core::{Result, Tensor, Var};

use crate::ops::{self, BN_EPSILON, BnStats, Precision, RunningStats, SharedRunningStats};
use crate::params::{Init, ParamBuilder, lock};

/// Weight of a new batch in the running statistics of batch normalisation.
pub const BN_MOMENTUM: f32 = 0.1;

/// How a forward pass treats batch normalisation, and in what precision convolutions multiply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pass {
    /// Statistics of the batch; running statistics move by `momentum`.
    Train {
        /// Weight of the new batch in the running statistics.
        momentum: f32,
        /// Precision of the products; sums are always f32.
        precision: Precision,
    },
    /// Running statistics and the affine map after them as constants: the end of a run, when what evaluation computes
    /// is what is trained.
    TrainFrozen {
        /// Precision of the products; sums are always f32.
        precision: Precision,
    },
    /// As the quantised graph will compute: normalisation folded into weights that are rounded to signed bytes, and every
    /// map rounded to bytes; running statistics as constants, everything else learns on. See [`ops::fake_quantise`].
    TrainQuantised {
        /// Precision of the products; sums are always f32.
        precision: Precision,
    },
    /// Running statistics, f32.
    Eval,
    /// As `Eval`, but every normalisation first moves its statistics towards those of the batch, and its scale and
    /// shift so that the layer computes what it did. After a few such passes over training crops, `Train` starts where
    /// `Eval` is: what a network needs whose normalisation had been folded away (see [`ConvBn::adopt`]).
    Rebase {
        /// Weight of the batch in the running statistics: 1 on the first pass, `1 / n` on the n-th for a mean.
        weight: f32,
    },
}

impl Pass {
    /// The pass of a training step, as the loop asks for it: rounding wins over constant normalisation, which it includes.
    pub fn training(precision: Precision, quantised: bool, norm_frozen: bool) -> Self {
        match (quantised, norm_frozen) {
            (true, _) => Self::TrainQuantised { precision },
            (false, true) => Self::TrainFrozen { precision },
            (false, false) => Self::Train {
                momentum: BN_MOMENTUM,
                precision,
            },
        }
    }

    /// Precision of the products of this pass.
    pub fn precision(self) -> Precision {
        match self {
            Pass::Train { precision, .. }
            | Pass::TrainFrozen { precision }
            | Pass::TrainQuantised { precision } => precision,
            Pass::Eval | Pass::Rebase { .. } => Precision::F32,
        }
    }
}

/// Shape of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Channels in.
    pub input: usize,
    /// Channels out.
    pub output: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Step in both directions; the border is padded by `kernel / 2` zeros.
    pub stride: usize,
}

impl ConvShape {
    /// A kernel of `kernel` from `input` to `output` channels, stride 1.
    pub fn new(input: usize, output: usize, kernel: usize) -> Self {
        Self {
            input,
            output,
            kernel,
            stride: 1,
        }
    }

    /// The same with a stride.
    pub fn strided(self, stride: usize) -> Self {
        Self { stride, ..self }
    }
}

/// Convolution without bias, batch normalisation, and ReLU where wanted.
pub struct ConvBn {
    shape: ConvShape,
    relu: bool,
    weight: Var,
    norm: Norm,
}

/// Batch normalisation over the last axis.
pub struct Norm {
    gamma: Var,
    beta: Var,
    stats: SharedRunningStats,
}

/// A convolution with its normalisation folded in: plain numbers, kernel in ONNX order.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedConv {
    /// Geometry.
    pub shape: ConvShape,
    /// `[output, input, kernel, kernel]`, row-major.
    pub weight_oihw: Vec<f32>,
    /// One value per output channel.
    pub bias: Vec<f32>,
    /// Whether negative outputs are cut off.
    pub relu: bool,
}

impl Norm {
    /// Declares `name.gamma`, `name.beta` and the running statistics `name`.
    pub fn new(builder: &mut ParamBuilder, name: &str, channels: usize) -> Result<Self> {
        Ok(Self {
            gamma: builder.var(&format!("{name}.gamma"), &[channels], Init::Constant(1.0))?,
            beta: builder.var(&format!("{name}.beta"), &[channels], Init::Constant(0.0))?,
            stats: builder.stats(name, channels),
        })
    }

    /// `relu?(bn(x) + residual?)` over `[.., C]`.
    pub fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        relu: bool,
        pass: Pass,
    ) -> Result<Tensor> {
        if let Pass::Rebase { weight } = pass {
            self.rebase(x, weight)?;
        }
        let (gamma, beta) = self.affine_for(pass);
        ops::batch_norm(x, &gamma, &beta, residual, relu, &self.stats_for(pass))
    }

    fn stats_for(&self, pass: Pass) -> BnStats {
        let running = self.stats.clone();
        match pass {
            Pass::Train { momentum, .. } => BnStats::Training { running, momentum },
            Pass::TrainFrozen { .. }
            | Pass::TrainQuantised { .. }
            | Pass::Eval
            | Pass::Rebase { .. } => BnStats::Frozen { running },
        }
    }

    /// Gamma and beta, without a gradient where they are constants.
    fn affine_for(&self, pass: Pass) -> (Tensor, Tensor) {
        match pass {
            Pass::TrainFrozen { .. } => (self.gamma.detach(), self.beta.detach()),
            _ => (
                self.gamma.as_tensor().clone(),
                self.beta.as_tensor().clone(),
            ),
        }
    }

    /// Makes this the affine map `y = scale x + shift`, about statistics of mean 0 and variance 1 until
    /// [`Pass::Rebase`] has seen some crops.
    pub fn adopt(&self, scale: &[f32], shift: &[f32]) -> Result<()> {
        {
            let mut stats = lock(&self.stats);
            stats.mean.fill(0.0);
            stats.variance.fill(1.0);
        }
        let root = (1.0 + BN_EPSILON as f32).sqrt();
        let gamma = scale.iter().map(|s| s * root).collect();
        set(&self.gamma, gamma)?;
        set(&self.beta, shift.to_vec())
    }

    /// Moves the statistics towards those of `x` by `weight` and leaves the affine map as it is.
    fn rebase(&self, x: &Tensor, weight: f32) -> Result<()> {
        let (scale, shift) = self.folded()?;
        let (mean, variance) = moments(x)?;
        let (mut gamma, mut beta) = (scale.clone(), shift);
        {
            let mut stats = lock(&self.stats);
            for (c, scale) in scale.iter().enumerate() {
                stats.mean[c] += weight * (mean[c] - stats.mean[c]);
                stats.variance[c] += weight * (variance[c] - stats.variance[c]);
                gamma[c] = scale * (stats.variance[c] + BN_EPSILON as f32).sqrt();
                beta[c] += scale * stats.mean[c];
            }
        }
        set(&self.gamma, gamma)?;
        set(&self.beta, beta)
    }

    /// The same affine map as [`Norm::folded`], as tensors that gradients reach gamma and beta through.
    pub fn folded_tensors(&self) -> Result<(Tensor, Tensor)> {
        let (reciprocal, mean) = {
            let stats = lock(&self.stats);
            let root = |v: &f32| 1.0 / (v + BN_EPSILON as f32).sqrt();
            let reciprocal: Vec<f32> = stats.variance.iter().map(root).collect();
            (reciprocal, stats.mean.clone())
        };
        let constant = |values: Vec<f32>| {
            let channels = values.len();
            Tensor::from_vec(values, channels, self.gamma.device())
        };
        let scale = (self.gamma.as_tensor() * constant(reciprocal)?)?;
        let shift = (self.beta.as_tensor() - (&scale * constant(mean)?)?)?;
        Ok((scale, shift))
    }

    /// The affine map `y = scale x + shift` that the running statistics amount to.
    pub fn folded(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        let (gamma, beta) = (self.gamma.to_vec1::<f32>()?, self.beta.to_vec1::<f32>()?);
        let stats = lock(&self.stats);
        let scale: Vec<f32> = gamma
            .iter()
            .zip(&stats.variance)
            .map(|(g, v)| g / (v + BN_EPSILON as f32).sqrt())
            .collect();
        let shift = beta
            .iter()
            .zip(&stats.mean)
            .zip(&scale)
            .map(|((b, m), s)| b - m * s)
            .collect();
        Ok((scale, shift))
    }
}

impl ConvBn {
    /// Declares `name.weight`, `name.bn.*`.
    pub fn new(
        builder: &mut ParamBuilder,
        name: &str,
        shape: ConvShape,
        relu: bool,
    ) -> Result<Self> {
        let ConvShape {
            input,
            output,
            kernel,
            ..
        } = shape;
        let weight = builder.var(
            &format!("{name}.weight"),
            &[kernel, kernel, input, output],
            Init::He {
                fan_in: kernel * kernel * input,
            },
        )?;
        Ok(Self {
            shape,
            relu,
            weight,
            norm: Norm::new(builder, &format!("{name}.bn"), output)?,
        })
    }

    /// `[N, H, W, input]` to `[N, H / stride, W / stride, output]`.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, pass: Pass) -> Result<Tensor> {
        if let Pass::Rebase { weight } = pass {
            let (stride, padding) = (self.shape.stride, self.shape.kernel / 2);
            let before = ops::conv2d(x, &self.weight, stride, padding, Precision::F32)?;
            self.norm.rebase(&before, weight)?;
        }
        if let Pass::TrainQuantised { precision } = pass {
            return match residual {
                None => self.rounded(x, self.relu, None, precision),
                Some(_) => candle_core::bail!("a residual sum is rounded on its own"),
            };
        }
        let (gamma, beta) = self.norm.affine_for(pass);
        ops::ConvBn {
            weight: &self.weight,
            gamma: &gamma,
            beta: &beta,
            stats: &self.norm.stats_for(pass),
            stride: self.shape.stride,
            padding: self.shape.kernel / 2,
            relu: self.relu,
            precision: pass.precision(),
        }
        .forward(x, residual)
    }

    /// What the quantised graph makes of `x`: weights rounded after folding, result rounded. `input_factor` as for
    /// [`ops::fake_quantise_weights`].
    pub fn rounded(
        &self,
        x: &Tensor,
        relu: bool,
        input_factor: Option<&[f32]>,
        precision: Precision,
    ) -> Result<Tensor> {
        let (scale, shift) = self.norm.folded_tensors()?;
        let weight = self.weight.as_tensor().broadcast_mul(&scale)?;
        let weight = ops::fake_quantise_weights(&weight, input_factor)?;
        // Statistics under which normalisation is the identity: what is left of it is the bias.
        let outputs = self.shape.output;
        let mut running = RunningStats::new(outputs);
        running.mean.fill(0.0);
        running.variance.fill(1.0 - BN_EPSILON as f32);
        let y = ops::ConvBn {
            weight: &weight,
            gamma: &Tensor::ones(outputs, candle_core::DType::F32, x.device())?,
            beta: &shift,
            stats: &BnStats::Frozen {
                running: running.into_shared(),
            },
            stride: self.shape.stride,
            padding: self.shape.kernel / 2,
            relu,
            precision,
        }
        .forward(x, None)?;
        ops::fake_quantise_batch(&y, relu)
    }

    /// Weights and bias with the running statistics folded in.
    pub fn folded(&self) -> Result<FoldedConv> {
        let (scale, shift) = self.norm.folded()?;
        let weight = self.weight.as_tensor().flatten_all()?.to_vec1::<f32>()?;
        let weight_oihw = oihw_from_hwio(&weight, self.shape, |o| scale[o]);
        Ok(FoldedConv {
            shape: self.shape,
            weight_oihw,
            bias: shift,
            relu: self.relu,
        })
    }

    /// Takes over a folded layer, the inverse of [`ConvBn::folded`]. Normalisation makes the size of a filter a matter
    /// of choice: each is given the variance that a fresh one has, so that learning rates mean what they mean there.
    pub fn adopt(&self, layer: &FoldedConv) -> Result<()> {
        let ConvShape {
            input,
            output,
            kernel,
            ..
        } = self.shape;
        let fan_in = input * kernel * kernel;
        let wanted = (2.0 / fan_in as f32).sqrt();
        let rms = |values: &[f32]| {
            let squares: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
            (squares / values.len().max(1) as f64).sqrt() as f32
        };
        // A filter that is next to nothing stays small: noise is not to be blown up.
        let least = (1e-3 * rms(&layer.weight_oihw)).max(f32::MIN_POSITIVE);
        let gain: Vec<f32> = layer
            .weight_oihw
            .chunks_exact(fan_in)
            .map(|filter| wanted / rms(filter).max(least))
            .collect();
        if gain.len() != output || layer.bias.len() != output {
            candle_core::bail!(
                "a layer of {} filters and {} biases, expected {output}",
                gain.len(),
                layer.bias.len()
            );
        }
        set(&self.weight, hwio_from_oihw(layer, |o| gain[o]))?;
        let scale: Vec<f32> = gain.iter().map(|g| 1.0 / g).collect();
        self.norm.adopt(&scale, &layer.bias)
    }

    /// Multiply-accumulates for one image whose input is `side` x `side`, and the output's side.
    pub fn macs(&self, side: usize) -> (u64, usize) {
        let out = side.div_ceil(self.shape.stride);
        let ConvShape {
            input,
            output,
            kernel,
            ..
        } = self.shape;
        ((out * out * input * output * kernel * kernel) as u64, out)
    }
}

/// A 1x1 convolution with bias and without normalisation: the last layer of a head.
pub struct Head {
    shape: ConvShape,
    weight: Var,
    bias: Var,
}

impl Head {
    /// Declares `name.weight` and `name.bias`.
    pub fn new(
        builder: &mut ParamBuilder,
        name: &str,
        input: usize,
        output: usize,
        bias: f32,
        weight_std: f32,
    ) -> Result<Self> {
        let weight = builder.var(
            &format!("{name}.weight"),
            &[1, 1, input, output],
            Init::Normal { std: weight_std },
        )?;
        let bias = builder.var(&format!("{name}.bias"), &[output], Init::Constant(bias))?;
        Ok(Self {
            shape: ConvShape::new(input, output, 1),
            weight,
            bias,
        })
    }

    /// `[N, H, W, input]` to `[N, H, W, output]`, always f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv2d(x, &self.weight, 1, 0, Precision::F32)?.broadcast_add(&self.bias)
    }

    /// Changes every output from `y` to `scale y + offset`.
    pub fn rescale(&self, scale: f32, offset: f32) -> Result<()> {
        let scaled = (self.weight.as_tensor() * f64::from(scale))?;
        self.weight.set(&scaled.detach())?;
        let bias = self.bias.to_vec1::<f32>()?;
        set(
            &self.bias,
            bias.iter().map(|b| scale * b + offset).collect(),
        )
    }

    /// Takes over a layer as it is.
    pub fn adopt(&self, layer: &FoldedConv) -> Result<()> {
        set(&self.weight, hwio_from_oihw(layer, |_| 1.0))?;
        set(&self.bias, layer.bias.clone())
    }

    /// The layer as plain numbers.
    pub fn folded(&self) -> Result<FoldedConv> {
        let weight = self.weight.as_tensor().flatten_all()?.to_vec1::<f32>()?;
        Ok(FoldedConv {
            shape: self.shape,
            weight_oihw: oihw_from_hwio(&weight, self.shape, |_| 1.0),
            bias: self.bias.to_vec1::<f32>()?,
            relu: false,
        })
    }
}

/// `relu(x + bn(conv(relu(bn(conv(x))))))`: two 3x3 convolutions around an identity (He et al. 2016).
pub struct Residual {
    first: ConvBn,
    second: ConvBn,
}

impl Residual {
    /// Declares `name.first.*` and `name.second.*` over `channels` channels.
    pub fn new(builder: &mut ParamBuilder, name: &str, channels: usize) -> Result<Self> {
        let shape = ConvShape::new(channels, channels, 3);
        Ok(Self {
            first: ConvBn::new(builder, &format!("{name}.first"), shape, true)?,
            second: ConvBn::new(builder, &format!("{name}.second"), shape, true)?,
        })
    }

    /// Keeps the shape.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let inner = self.first.forward(x, None, pass)?;
        if let Pass::TrainQuantised { precision } = pass {
            let inner = self.second.rounded(&inner, false, None, precision)?;
            return ops::fake_quantise_batch(&(inner + x)?.relu()?, true);
        }
        self.second.forward(&inner, Some(x), pass)
    }

    /// Takes over both layers.
    pub fn adopt(&self, [first, second]: &[FoldedConv; 2]) -> Result<()> {
        self.first.adopt(first)?;
        self.second.adopt(second)
    }

    /// Both layers folded. The second one's ReLU belongs after the addition.
    pub fn folded(&self) -> Result<[FoldedConv; 2]> {
        Ok([self.first.folded()?, self.second.folded()?])
    }

    /// Multiply-accumulates for one image of `side` x `side`.
    pub fn macs(&self, side: usize) -> u64 {
        self.first.macs(side).0 + self.second.macs(side).0
    }
}

/// A kernel as ONNX orders it, every filter times its `scale`.
pub(crate) fn oihw_from_hwio(
    hwio: &[f32],
    shape: ConvShape,
    scale: impl Fn(usize) -> f32,
) -> Vec<f32> {
    let ConvShape {
        input,
        output,
        kernel,
        ..
    } = shape;
    let mut oihw = vec![0.0; hwio.len()];
    for (at, value) in hwio.iter().enumerate() {
        let (o, rest) = (at % output, at / output);
        let (i, tap) = (rest % input, rest / input);
        oihw[(o * input + i) * kernel * kernel + tap] = value * scale(o);
    }
    oihw
}

fn hwio_from_oihw(layer: &FoldedConv, scale: impl Fn(usize) -> f32) -> Vec<f32> {
    let ConvShape {
        input,
        output,
        kernel,
        ..
    } = layer.shape;
    let taps = kernel * kernel;
    let mut hwio = vec![0.0; layer.weight_oihw.len()];
    for (at, value) in layer.weight_oihw.iter().enumerate() {
        let (tap, rest) = (at % taps, at / taps);
        let (i, o) = (rest % input, rest / input);
        hwio[(tap * input + i) * output + o] = value * scale(o);
    }
    hwio
}

/// Overwrites a variable; errors where the number of values differs.
fn set(var: &Var, values: Vec<f32>) -> Result<()> {
    var.set(&Tensor::from_vec(values, var.shape(), var.device())?)
}

/// Mean and unbiased variance of each channel over `[.., C]`.
fn moments(x: &Tensor) -> Result<(Vec<f32>, Vec<f32>)> {
    let channels = x.dim(candle_core::D::Minus1)?;
    let values = x.flatten_all()?.to_vec1::<f32>()?;
    let rows = (values.len() / channels.max(1)).max(1) as f64;
    let mut mean = vec![0f64; channels];
    for row in values.chunks_exact(channels) {
        for (sum, v) in mean.iter_mut().zip(row) {
            *sum += f64::from(*v) / rows;
        }
    }
    let mut variance = vec![0f64; channels];
    for row in values.chunks_exact(channels) {
        for ((sum, v), m) in variance.iter_mut().zip(row).zip(&mean) {
            *sum += (f64::from(*v) - m).powi(2) / (rows - 1.0).max(1.0);
        }
    }
    let single = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
    Ok((single(mean), single(variance)))
}
