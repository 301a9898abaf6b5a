//! The network that is followed with: [`TrackerNet`].
//!
//! ```text
//! template 128x128x3 -> backbone -> 8x8xC  --- (first, latest) mixed per channel --+
//! search   256x256x3 -> backbone -> 16x16xC -- pixel-wise correlation (64) -- BN --+- concat - mix - 3x3 - 3x3 -> score, box, presence
//!                                        \---- embed 1x1, 1x1, unit norm -> identity of whatever is at each cell
//! ```
//!
//! Dense 3x3 and 1x1 convolutions, batch normalisation and ReLU only: they quantise well and run fast in int8.
//! The pixel-wise correlation treats every template cell as a 1x1 kernel (Alpha-Refine, Yan et al. 2021).
//!
//! A pixel's position: cell `i` of a map of stride `s` looks at crop coordinate `s * i + s / 2`.

use candle_core::{D, Device, Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::layers::{ConvBn, ConvShape, FoldedConv, Head, Norm, Pass, Residual};
use crate::ops;
use crate::params::{Init, ParamBuilder, Params};

/// Width and depth of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Channels after each stride-2 stage; the number of stages sets the stride.
    pub stage_channels: Vec<usize>,
    /// Plain 3x3 convolutions after each stage's first.
    pub plain_convs: Vec<usize>,
    /// Residual pairs after the plain convolutions of each stage.
    pub residual_pairs: Vec<usize>,
    /// Channels of the features that template and search share.
    pub feature_channels: usize,
    /// Channels of the head.
    pub head_channels: usize,
    /// Length of the identity embedding.
    pub embedding: usize,
    /// Side of the template crop.
    pub template_px: usize,
    /// Side of the search crop.
    pub search_px: usize,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            stage_channels: vec![16, 32, 64, 128],
            plain_convs: vec![0, 1, 0, 0],
            residual_pairs: vec![0, 0, 1, 1],
            feature_channels: 96,
            head_channels: 96,
            embedding: 64,
            template_px: 128,
            search_px: 256,
        }
    }
}

/// A configuration that no network can be built from.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ModelConfigError {
    /// The lists describe different numbers of stages.
    #[error(
        "model: stage_channels, plain_convs and residual_pairs have {0}, {1} and {2} entries, expected as many each and at least one"
    )]
    Stages(usize, usize, usize),
    /// A width of zero.
    #[error("model: {0} is 0")]
    Zero(&'static str),
    /// A crop that the stride does not divide.
    #[error("model: {name} is {px}, expected a multiple of the stride {stride}")]
    Crop {
        /// Which crop.
        name: &'static str,
        /// Its side.
        px: usize,
        /// Product of the stages' strides.
        stride: usize,
    },
}

impl ModelConfig {
    /// Pixels per cell.
    pub fn stride(&self) -> usize {
        1 << self.stage_channels.len()
    }

    /// Cells along the search map.
    pub fn search_cells(&self) -> usize {
        self.search_px / self.stride()
    }

    /// Cells along the template map.
    pub fn template_cells(&self) -> usize {
        self.template_px / self.stride()
    }

    /// Blocks of the backbone before the last stage.
    pub fn fine_blocks(&self) -> usize {
        let before = self.stage_channels.len().saturating_sub(1);
        let of_stage = |stage: usize| 1 + self.plain_convs[stage] + self.residual_pairs[stage];
        (0..before).map(of_stage).sum()
    }

    /// Channels before the last stage: 3 where it is the only one.
    pub fn fine_channels(&self) -> usize {
        let before = self.stage_channels.len().saturating_sub(1);
        self.stage_channels[..before].last().copied().unwrap_or(3)
    }

    /// Checks what the types cannot say.
    pub fn validate(&self) -> std::result::Result<(), ModelConfigError> {
        let stages = self.stage_channels.len();
        if stages == 0
            || stages > 6
            || self.plain_convs.len() != stages
            || self.residual_pairs.len() != stages
        {
            return Err(ModelConfigError::Stages(
                stages,
                self.plain_convs.len(),
                self.residual_pairs.len(),
            ));
        }
        for (name, value) in [
            ("feature_channels", self.feature_channels),
            ("head_channels", self.head_channels),
            ("embedding", self.embedding),
            (
                "stage_channels",
                self.stage_channels.iter().copied().min().unwrap_or(0),
            ),
        ] {
            if value == 0 {
                return Err(ModelConfigError::Zero(name));
            }
        }
        let stride = self.stride();
        for (name, px) in [
            ("template_px", self.template_px),
            ("search_px", self.search_px),
        ] {
            if px == 0 || px % stride != 0 {
                return Err(ModelConfigError::Crop { name, px, stride });
            }
        }
        Ok(())
    }
}

/// One step of the backbone.
enum Block {
    Conv(ConvBn),
    Residual(Residual),
}

/// What the search branch says about a batch.
pub struct SearchMaps {
    /// `[N, cells * cells]`, before the sigmoid.
    pub score_logits: Tensor,
    /// `[N, cells * cells, 4]`: distances left, top, right, bottom from the cell's centre, in search pixels.
    pub box_ltrb_px: Tensor,
    /// `[N]`, before the sigmoid.
    pub presence_logits: Tensor,
    /// `[N, cells * cells, embedding]`, unit norm.
    pub embedding: Tensor,
}

/// The network; see the module head.
pub struct TrackerNet {
    config: ModelConfig,
    params: Params,
    backbone: Vec<Block>,
    neck: ConvBn,
    template_mix: Var,
    correlation_norm: Norm,
    mix: ConvBn,
    trunk: [ConvBn; 2],
    score: Head,
    boxes: Head,
    presence: Head,
    embed_hidden: ConvBn,
    embed: Head,
}

/// Half the side that an object fills in both crops: `exp(0)` of the box head means this distance.
pub const BOX_UNIT_PX: f64 = 32.0;
/// Bounds of the box head's logarithm: distances from 0.6 to 643 px.
pub const BOX_LOG_RANGE: (f64, f64) = (-4.0, 3.0);
/// Added to the squared length of an embedding before its root, so that the gradient at 0 is finite.
pub const EMBEDDING_EPSILON: f64 = 1e-6;

/// The whole network as plain numbers, normalisation folded: what the exporter writes.
pub struct FoldedNet {
    /// Geometry.
    pub config: ModelConfig,
    /// Steps of the backbone, the neck last.
    pub backbone: Vec<FoldedBlock>,
    /// Weight of the latest template per feature channel, within 0..1.
    pub latest_weight: Vec<f32>,
    /// Scale and shift of the correlation map per template cell; the scale holds `feature_channels^-1/2`.
    pub correlation_affine: (Vec<f32>, Vec<f32>),
    /// 1x1 over correlation and features.
    pub mix: FoldedConv,
    /// The two 3x3 convolutions of the head.
    pub trunk: [FoldedConv; 2],
    /// Score logit.
    pub score: FoldedConv,
    /// Logarithm of the distances in [`BOX_UNIT_PX`].
    pub boxes: FoldedConv,
    /// Presence logit over the maximum and the mean of the trunk.
    pub presence: FoldedConv,
    /// First layer of the identity head.
    pub embed_hidden: FoldedConv,
    /// Second layer of the identity head, before the unit norm.
    pub embed: FoldedConv,
}

impl FoldedNet {
    /// Every convolution, in the order in which the search graph runs them.
    pub fn convolutions_mut(&mut self) -> Vec<&mut FoldedConv> {
        let mut all = Vec::new();
        for block in &mut self.backbone {
            match block {
                FoldedBlock::Conv(layer) => all.push(layer),
                FoldedBlock::Residual(pair) => all.extend(pair.iter_mut()),
            }
        }
        all.push(&mut self.mix);
        all.extend(self.trunk.iter_mut());
        all.extend([&mut self.score, &mut self.boxes, &mut self.presence]);
        all.extend([&mut self.embed_hidden, &mut self.embed]);
        all
    }
}

/// A folded step of the backbone.
pub enum FoldedBlock {
    /// A convolution.
    Conv(FoldedConv),
    /// Two convolutions around an identity; the ReLU of the second comes after the addition.
    Residual([FoldedConv; 2]),
}

impl TrackerNet {
    /// A network born from `seed`. `config` has been validated.
    pub fn new(config: &ModelConfig, seed: u64, device: &Device) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let b = &mut ParamBuilder::new(seed, device);
        let mut backbone = Vec::new();
        let mut channels = 3;
        for (stage, &width) in config.stage_channels.iter().enumerate() {
            let name = format!("backbone.stage{}", stage + 1);
            let down = ConvShape::new(channels, width, 3).strided(2);
            backbone.push(Block::Conv(ConvBn::new(
                b,
                &format!("{name}.down"),
                down,
                true,
            )?));
            for k in 0..config.plain_convs[stage] {
                let shape = ConvShape::new(width, width, 3);
                backbone.push(Block::Conv(ConvBn::new(
                    b,
                    &format!("{name}.plain{k}"),
                    shape,
                    true,
                )?));
            }
            for k in 0..config.residual_pairs[stage] {
                backbone.push(Block::Residual(Residual::new(
                    b,
                    &format!("{name}.residual{k}"),
                    width,
                )?));
            }
            channels = width;
        }
        let (features, head) = (config.feature_channels, config.head_channels);
        let template_cells = config.template_cells().pow(2);
        let neck = ConvBn::new(b, "neck", ConvShape::new(channels, features, 1), true)?;
        // sigmoid(-1.4) = 0.2: the first template dominates until training says otherwise.
        let template_mix = b.var("template_mix", &[features], Init::Constant(-1.4))?;
        let correlation_norm = Norm::new(b, "head.correlation", template_cells)?;
        let mix = ConvBn::new(
            b,
            "head.mix",
            ConvShape::new(template_cells + features, head, 1),
            true,
        )?;
        let trunk = [
            ConvBn::new(b, "head.trunk0", ConvShape::new(head, head, 3), true)?,
            ConvBn::new(b, "head.trunk1", ConvShape::new(head, head, 3), true)?,
        ];
        let score = Head::new(b, "head.score", head, 1, -3.0, (1.0 / head as f32).sqrt())?;
        let boxes = Head::new(b, "head.box", head, 4, 0.0, 0.01)?;
        let presence = Head::new(
            b,
            "head.presence",
            2 * head,
            1,
            0.0,
            (0.5 / head as f32).sqrt(),
        )?;
        let embed_hidden = ConvBn::new(
            b,
            "embed.hidden",
            ConvShape::new(features, features, 1),
            true,
        )?;
        let embed = Head::new(
            b,
            "embed.out",
            features,
            config.embedding,
            0.0,
            (2.0 / features as f32).sqrt(),
        )?;
        let params = std::mem::replace(b, ParamBuilder::new(seed, device)).finish();
        Ok(Self {
            config: config.clone(),
            params,
            backbone,
            neck,
            template_mix,
            correlation_norm,
            mix,
            trunk,
            score,
            boxes,
            presence,
            embed_hidden,
            embed,
        })
    }

    /// Geometry.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Variables and statistics.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The shared branch.
    ///
    /// # Shapes
    /// `[N, S, S, 3]` to `[N, S / stride, S / stride, feature_channels]`.
    pub fn features(&self, crops: &Tensor, pass: Pass) -> Result<Tensor> {
        let (_n, _h, _w, _three) = crops.dims4()?;
        let mut x = crops.clone();
        for block in &self.backbone {
            x = match block {
                Block::Conv(conv) => conv.forward(&x, None, pass)?,
                Block::Residual(pair) => pair.forward(&x, pass)?,
            };
        }
        self.neck.forward(&x, None, pass)
    }

    /// What proposals are made from: the features of the last stage but one, of half the stride, and the shared branch's.
    ///
    /// # Shapes
    /// `[N, H, W, 3]` to `[N, 2 H / stride, 2 W / stride, fine_channels]` and `[N, H / stride, W / stride,
    /// feature_channels]`.
    pub fn taps(&self, images: &Tensor, pass: Pass) -> Result<(Tensor, Tensor)> {
        let fine_blocks = self.config.fine_blocks();
        let (mut x, mut fine) = (images.clone(), images.clone());
        for (at, block) in self.backbone.iter().enumerate() {
            if at == fine_blocks {
                fine = x.clone();
            }
            x = match block {
                Block::Conv(conv) => conv.forward(&x, None, pass)?,
                Block::Residual(pair) => pair.forward(&x, pass)?,
            };
        }
        Ok((fine, self.neck.forward(&x, None, pass)?))
    }

    /// Mixes the features of the first and the latest template, one learned weight a channel.
    ///
    /// # Shapes
    /// Both `[N, cells, cells, C]`, and so is the result.
    pub fn mix_templates(&self, first: &Tensor, latest: &Tensor) -> Result<Tensor> {
        let weight = sigmoid(self.template_mix.as_tensor())?;
        first + (latest - first)?.broadcast_mul(&weight)?
    }

    /// The search branch's heads.
    ///
    /// # Shapes
    /// `template` `[N, t, t, C]`, `search` `[N, s, s, C]`; see [`SearchMaps`] for the result.
    pub fn heads(&self, template: &Tensor, search: &Tensor, pass: Pass) -> Result<SearchMaps> {
        self.heads_and_identity(template, search, pass, pass)
    }

    /// The same, with another pass for the identity of cells: its layers see templates as well, and so twice as many maps.
    ///
    /// # Shapes
    /// As [`TrackerNet::heads`].
    pub fn heads_and_identity(
        &self,
        template: &Tensor,
        search: &Tensor,
        pass: Pass,
        identity: Pass,
    ) -> Result<SearchMaps> {
        let (n, side, _, c) = search.dims4()?;
        let (_, t, _, _) = template.dims4()?;
        let rounded = matches!(pass, Pass::TrainQuantised { .. });
        let kernels = match rounded {
            // A mix of features has the bytes of features, whose last one is their largest value.
            true => ops::fake_quantise(template, ops::params_to_the_last(template)?)?,
            false => template.clone(),
        };
        let kernels = kernels
            .reshape((n, t * t, c))?
            .transpose(1, 2)?
            .contiguous()?;
        let cells = search.reshape((n, side * side, c))?;
        let correlation = cells.matmul(&kernels)?.reshape((n, side, side, t * t))?;
        let scale = (c as f64).powf(-0.5);
        let mut x = match pass {
            Pass::TrainQuantised { precision } => {
                self.mix_rounded(&correlation, scale, search, precision)?
            }
            _ => {
                let norm = &self.correlation_norm;
                let correlation = norm.forward(&(correlation * scale)?, None, false, pass)?;
                let joined = Tensor::cat(&[&correlation, search], D::Minus1)?;
                self.mix.forward(&joined, None, pass)?
            }
        };
        for conv in &self.trunk {
            x = conv.forward(&x, None, pass)?;
        }
        let score_logits = self.score.forward(&x)?.reshape((n, side * side))?;
        let logs = self.boxes.forward(&x)?.reshape((n, side * side, 4))?;
        let box_ltrb_px = (logs.clamp(BOX_LOG_RANGE.0, BOX_LOG_RANGE.1)?.exp()? * BOX_UNIT_PX)?;
        let pooled = Tensor::cat(&[&ops::global_max_pool(&x)?, &x.mean((1, 2))?], 1)?;
        let pooled = pooled.reshape((n, 1, 1, pooled.dim(1)?))?;
        let presence_logits = self.presence.forward(&pooled)?.reshape(n)?;
        let embedding = self.embed_cells(search, identity)?;
        Ok(SearchMaps {
            score_logits,
            box_ltrb_px,
            presence_logits,
            embedding,
        })
    }

    /// The first layer over correlation and features as the quantised graph has it: the correlation becomes bytes before
    /// its affine map, which is part of the weights when they are rounded, as is the ratio of the two scales.
    fn mix_rounded(
        &self,
        correlation: &Tensor,
        correlation_scale: f64,
        search: &Tensor,
        precision: ops::Precision,
    ) -> Result<Tensor> {
        let bytes = ops::batch_params(correlation, true)?;
        let correlation = ops::fake_quantise(correlation, bytes)?;
        let (scale, shift) = self.correlation_norm.folded_tensors()?;
        let scale = (scale * correlation_scale)?;
        let affine = correlation.broadcast_mul(&scale)?.broadcast_add(&shift)?;
        let joined = Tensor::cat(&[&affine, search], D::Minus1)?;
        let unit = f64::from(ops::params_to_the_last(search)?.scale());
        let ratio = (f64::from(bytes.scale()) / unit) as f32;
        // A channel whose scale is 0 adds a constant: whatever its weights are rounded to is as good.
        let factor = |s: &f32| if *s == 0.0 { 1.0 } else { s * ratio };
        let mut factors: Vec<f32> = scale.to_vec1::<f32>()?.iter().map(factor).collect();
        factors.resize(factors.len() + search.dim(D::Minus1)?, 1.0);
        self.mix.rounded(&joined, true, Some(&factors), precision)
    }

    /// Unit-norm embedding of every cell: `[N, s, s, C]` to `[N, s * s, embedding]`.
    fn embed_cells(&self, features: &Tensor, pass: Pass) -> Result<Tensor> {
        let (n, side, _, _) = features.dims4()?;
        let raw = self
            .embed
            .forward(&self.embed_hidden.forward(features, None, pass)?)?;
        unit_norm(&raw.reshape((n, side * side, self.config.embedding))?)
    }

    /// Embedding of the object in a template: the mean over the cells that it fills (the central half), unit norm.
    ///
    /// # Shapes
    /// `[N, t, t, C]` to `[N, embedding]`.
    pub fn embed_template(&self, features: &Tensor, pass: Pass) -> Result<Tensor> {
        let (_, t, _, _) = features.dims4()?;
        let (from, count) = central_half(t);
        let centre = features
            .narrow(1, from, count)?
            .narrow(2, from, count)?
            .contiguous()?;
        unit_norm(&self.embed_cells(&centre, pass)?.mean(1)?)
    }

    /// Parameters of the network.
    pub fn parameter_count(&self) -> usize {
        self.params.parameter_count()
    }

    /// Multiply-accumulates of one followed frame: search branch and heads, template cached.
    pub fn macs_per_frame(&self) -> u64 {
        let mut side = self.config.search_px;
        let mut total = 0;
        for block in &self.backbone {
            match block {
                Block::Conv(conv) => {
                    let (macs, out) = conv.macs(side);
                    total += macs;
                    side = out;
                }
                Block::Residual(pair) => total += pair.macs(side),
            }
        }
        let cells = (side * side) as u64;
        let (c, head) = (
            self.config.feature_channels as u64,
            self.config.head_channels as u64,
        );
        let template = (self.config.template_cells() as u64).pow(2);
        total += self.neck.macs(side).0 + self.mix.macs(side).0 + self.embed_hidden.macs(side).0;
        total += self.trunk.iter().map(|conv| conv.macs(side).0).sum::<u64>();
        total += cells * (c * template + head * 5 + c * self.config.embedding as u64) + 2 * head;
        total
    }

    /// Changes presence logits from `z` to `scale z + bias`, in the weights.
    pub fn scale_presence(&self, scale: f32, bias: f32) -> Result<()> {
        self.presence.rescale(scale, bias)
    }

    /// Takes over a folded network, the inverse of [`TrackerNet::folded`]: evaluation mode computes what `folded` says.
    /// Training mode does so once a few batches have been seen with [`Pass::Rebase`].
    ///
    /// # Errors
    /// A network of another geometry.
    pub fn adopt(&self, folded: &FoldedNet) -> Result<()> {
        if folded.config != self.config {
            candle_core::bail!(
                "the folded network is {:?}, expected {:?}",
                folded.config,
                self.config
            );
        }
        let Some((FoldedBlock::Conv(neck), backbone)) = folded.backbone.split_last() else {
            candle_core::bail!("the folded network has no neck")
        };
        for (mine, theirs) in self.backbone.iter().zip(backbone) {
            match (mine, theirs) {
                (Block::Conv(mine), FoldedBlock::Conv(theirs)) => mine.adopt(theirs)?,
                (Block::Residual(mine), FoldedBlock::Residual(theirs)) => mine.adopt(theirs)?,
                _ => candle_core::bail!("the folded network has its residual pairs elsewhere"),
            }
        }
        self.neck.adopt(neck)?;
        // Bounded, so that a weight of exactly 0 or 1 still has a logarithm and can still be learned away from.
        let logit = |w: &f32| {
            let w = w.clamp(1e-4, 1.0 - 1e-4);
            (w / (1.0 - w)).ln()
        };
        let mix: Vec<f32> = folded.latest_weight.iter().map(logit).collect();
        self.template_mix.set(&Tensor::from_vec(
            mix,
            self.template_mix.shape(),
            self.template_mix.device(),
        )?)?;
        let (scale, shift) = &folded.correlation_affine;
        let root = (self.config.feature_channels as f32).sqrt();
        let scale: Vec<f32> = scale.iter().map(|s| s * root).collect();
        self.correlation_norm.adopt(&scale, shift)?;
        self.mix.adopt(&folded.mix)?;
        for (mine, theirs) in self.trunk.iter().zip(&folded.trunk) {
            mine.adopt(theirs)?;
        }
        self.score.adopt(&folded.score)?;
        self.boxes.adopt(&folded.boxes)?;
        self.presence.adopt(&folded.presence)?;
        self.embed_hidden.adopt(&folded.embed_hidden)?;
        self.embed.adopt(&folded.embed)
    }

    /// The network with its normalisation folded in.
    pub fn folded(&self) -> Result<FoldedNet> {
        let mut backbone = Vec::new();
        for block in &self.backbone {
            backbone.push(match block {
                Block::Conv(conv) => FoldedBlock::Conv(conv.folded()?),
                Block::Residual(pair) => FoldedBlock::Residual(pair.folded()?),
            });
        }
        backbone.push(FoldedBlock::Conv(self.neck.folded()?));
        let latest_weight = sigmoid(self.template_mix.as_tensor())?.to_vec1::<f32>()?;
        let (mut scale, shift) = self.correlation_norm.folded()?;
        let root = (self.config.feature_channels as f32).powf(-0.5);
        scale.iter_mut().for_each(|s| *s *= root);
        Ok(FoldedNet {
            config: self.config.clone(),
            backbone,
            latest_weight,
            correlation_affine: (scale, shift),
            mix: self.mix.folded()?,
            trunk: [self.trunk[0].folded()?, self.trunk[1].folded()?],
            score: self.score.folded()?,
            boxes: self.boxes.folded()?,
            presence: self.presence.folded()?,
            embed_hidden: self.embed_hidden.folded()?,
            embed: self.embed.folded()?,
        })
    }
}

/// First cell and number of cells of the central half of a map of `cells` cells: what an object that fills half
/// the template crop covers.
pub fn central_half(cells: usize) -> (usize, usize) {
    let count = (cells / 2).max(1);
    ((cells - count) / 2, count)
}

/// `1 / (1 + exp(-x))`, through the hyperbolic tangent: finite, with a finite gradient, however large `x` is.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    ((x * 0.5)?.tanh()? * 0.5)? + 0.5
}

/// Divides the last axis by its length.
pub fn unit_norm(x: &Tensor) -> Result<Tensor> {
    let length = (x.sqr()?.sum_keepdim(D::Minus1)? + EMBEDDING_EPSILON)?.sqrt()?;
    x.broadcast_div(&length)
}

#[cfg(test)]
impl ModelConfig {
    /// Small enough to train in a test, with a layer of every kind.
    pub(crate) fn tiny() -> Self {
        Self {
            stage_channels: vec![4, 6],
            plain_convs: vec![0, 1],
            residual_pairs: vec![0, 1],
            feature_channels: 5,
            head_channels: 7,
            embedding: 3,
            template_px: 16,
            search_px: 32,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_default_network_stays_within_the_budget_of_the_design() {
        let net = TrackerNet::new(&ModelConfig::default(), 1, &Device::Cpu).unwrap();
        assert!(
            net.macs_per_frame() <= 600_000_000,
            "{}",
            net.macs_per_frame()
        );
        assert!(
            net.parameter_count() <= 2_000_000,
            "{}",
            net.parameter_count()
        );
    }

    #[test]
    fn every_output_has_the_shape_that_the_docs_promise() {
        let net = TrackerNet::new(&ModelConfig::tiny(), 1, &Device::Cpu).unwrap();
        let template =
            Tensor::zeros((2, 16, 16, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let search = Tensor::ones((2, 32, 32, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let t = net.features(&template, Pass::Eval).unwrap();
        assert_eq!(t.dims(), [2, 4, 4, 5]);
        let maps = net
            .heads(&t, &net.features(&search, Pass::Eval).unwrap(), Pass::Eval)
            .unwrap();
        assert_eq!(maps.score_logits.dims(), [2, 64]);
        assert_eq!(maps.box_ltrb_px.dims(), [2, 64, 4]);
        assert_eq!(maps.presence_logits.dims(), [2]);
        assert_eq!(maps.embedding.dims(), [2, 64, 3]);
        assert_eq!(net.embed_template(&t, Pass::Eval).unwrap().dims(), [2, 3]);
    }

    #[test]
    fn a_template_mixed_with_itself_is_itself() {
        let net = TrackerNet::new(&ModelConfig::tiny(), 1, &Device::Cpu).unwrap();
        let t = Tensor::new(&[[[[0.5f32, -1.0, 2.0, 0.0, 3.0]]]], &Device::Cpu).unwrap();
        let mixed = net.mix_templates(&t, &t).unwrap();
        assert_eq!(
            mixed.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [0.5, -1.0, 2.0, 0.0, 3.0]
        );
    }

    /// Gradients of the presence logits' sum and the statistics afterwards, by name.
    fn trained(pass: Pass) -> (TrackerNet, candle_core::backprop::GradStore) {
        let net = TrackerNet::new(&ModelConfig::tiny(), 1, &Device::Cpu).unwrap();
        let crops = |px: usize| {
            let values = (0..2 * px * px * 3).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0);
            let values = Tensor::from_iter(values, &Device::Cpu).unwrap();
            values.reshape((2, px, px, 3)).unwrap()
        };
        let template = net.features(&crops(16), pass).unwrap();
        let search = net.features(&crops(32), pass).unwrap();
        let maps = net.heads(&template, &search, pass).unwrap();
        let gradients = maps.presence_logits.sum_all().unwrap().backward().unwrap();
        (net, gradients)
    }

    #[test]
    fn frozen_normalisation_learns_nothing_while_convolutions_do() {
        let precision = ops::Precision::F32;
        let (net, gradients) = trained(Pass::TrainFrozen { precision });
        let untouched = TrackerNet::new(&ModelConfig::tiny(), 1, &Device::Cpu).unwrap();
        assert_eq!(
            net.params().snapshot().unwrap(),
            untouched.params().snapshot().unwrap(),
            "statistics stay"
        );
        for (name, var) in &net.params().vars {
            let moves = gradients.get(var).is_some();
            if name.ends_with(".gamma") || name.ends_with(".beta") {
                assert!(!moves, "{name} would move");
            }
        }
        assert!(
            gradients
                .get(&net.params().vars["backbone.stage1.down.weight"])
                .is_some()
        );
        // And as it is otherwise.
        let momentum = 0.1;
        let (net, gradients) = trained(Pass::Train {
            momentum,
            precision,
        });
        assert!(
            gradients
                .get(&net.params().vars["head.trunk1.bn.gamma"])
                .is_some()
        );
        let snapshot = net.params().snapshot().unwrap();
        assert_ne!(snapshot, untouched.params().snapshot().unwrap());
    }

    #[test]
    fn a_calibrated_presence_is_the_old_logit_scaled_and_shifted_and_nothing_else_changes() {
        let net = TrackerNet::new(&ModelConfig::tiny(), 1, &Device::Cpu).unwrap();
        let search = Tensor::ones((2, 8, 8, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
        let template = search.narrow(1, 0, 4).unwrap().narrow(2, 0, 4).unwrap();
        let template = template.contiguous().unwrap();
        let maps = |net: &TrackerNet| net.heads(&template, &search, Pass::Eval).unwrap();
        let before = maps(&net);
        net.scale_presence(0.5, -2.0).unwrap();
        let after = maps(&net);
        let logits = |maps: &SearchMaps| maps.presence_logits.to_vec1::<f32>().unwrap();
        for (new, old) in logits(&after).iter().zip(logits(&before)) {
            assert!((new - (0.5 * old - 2.0)).abs() < 1e-5, "{new} from {old}");
        }
        let scores = |maps: &SearchMaps| maps.score_logits.to_vec2::<f32>().unwrap();
        assert_eq!(scores(&after), scores(&before));
    }

    #[test]
    fn a_crop_that_the_stride_does_not_divide_is_refused_with_its_size() {
        let config = ModelConfig {
            search_px: 250,
            ..ModelConfig::default()
        };
        assert_eq!(
            config.validate(),
            Err(ModelConfigError::Crop {
                name: "search_px",
                px: 250,
                stride: 16
            })
        );
    }
}
