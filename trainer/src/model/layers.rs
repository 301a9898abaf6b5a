//! Building blocks of the follow model: convolution, batch normalisation, ReLU, and the residual pair.
//!
//! In: feature maps `[N, H, W, C]`. Out: feature maps. A layer knows its folded form ([`FoldedConv`]), which is
//! what the exporter writes: batch normalisation never reaches the board.

use candle_core::{Result, Tensor, Var};

use crate::ops::{self, BN_EPSILON, BnStats, Precision, SharedRunningStats};
use crate::params::{Init, ParamBuilder, lock};

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
    /// Running statistics, f32.
    Eval,
}

impl Pass {
    /// Precision of the products of this pass.
    pub fn precision(self) -> Precision {
        match self {
            Pass::Train { precision, .. } => precision,
            Pass::Eval => Precision::F32,
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
        ops::batch_norm(
            x,
            &self.gamma,
            &self.beta,
            residual,
            relu,
            &self.stats_for(pass),
        )
    }

    fn stats_for(&self, pass: Pass) -> BnStats {
        let running = self.stats.clone();
        match pass {
            Pass::Train { momentum, .. } => BnStats::Training { running, momentum },
            Pass::Eval => BnStats::Frozen { running },
        }
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
        ops::ConvBn {
            weight: &self.weight,
            gamma: &self.norm.gamma,
            beta: &self.norm.beta,
            stats: &self.norm.stats_for(pass),
            stride: self.shape.stride,
            padding: self.shape.kernel / 2,
            relu: self.relu,
            precision: pass.precision(),
        }
        .forward(x, residual)
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
        self.second.forward(&inner, Some(x), pass)
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

fn oihw_from_hwio(hwio: &[f32], shape: ConvShape, scale: impl Fn(usize) -> f32) -> Vec<f32> {
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
