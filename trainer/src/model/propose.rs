//! The network that finds road users by itself: [`ProposeNet`], a head on the follow model's own backbone.
//!
//! ```text
//! frame 416x256x3 -> backbone -> 52x32x64 (stride 8) -> 3x3 - 3x3 - 3x3 stride 2 --+
//!                            \-> 26x16x96 (stride 16) -----------------------------+- concat - 1x1 - 3x3, six times -> score, box, embedding
//! ```
//!
//! Small road users are told apart by the convolutions of stride 8, which learn what following had no need of. A bus
//! beside the camera fills half of the frame: six convolutions of stride 16 see all of it, where two saw its wheels and
//! proposed a bus for each.
//!
//! The backbone stays as it is: a bundle's follow graphs lose nothing, and a board that runs both holds its weights once.
//! Each cell of stride 16 answers for four sub-cells, so that the maps lie on a grid of stride 8 without a layer of
//! stride 8 (see [`roadhound_shared::propose`] for their order). Dense convolutions, batch normalisation, ReLU and
//! concatenation only, as in the follow model.

use candle_core::{D, Device, Result, Tensor};
use roadhound_shared::preprocess::CropSize;
use roadhound_shared::propose::contract::SUB_CELLS;
use roadhound_shared::propose::{ProposeSizes, RoadUser};
use serde::{Deserialize, Serialize};

use super::layers::{ConvBn, ConvShape, FoldedConv, Head, Pass};
use super::net::{FoldedBlock, ModelConfig, TrackerNet, unit_norm};
use crate::ops;
use crate::params::{ParamBuilder, Params};

/// Distances that `exp(0)` of the box head means: half the side of a middling car.
pub const PROPOSAL_UNIT_PX: f64 = 16.0;
/// Bounds of the box head's logarithm: distances from 0.3 to 435 px.
pub const PROPOSAL_LOG_RANGE: (f64, f64) = (-4.0, 3.3);
/// A fresh head says with this probability that a road user of a given kind is at a given place.
const BORN_WITH_SCORE: f32 = 0.01;

/// Width of the head, and the backbone that it sits on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProposeModelConfig {
    /// Channels of the head.
    pub head_channels: usize,
    /// 3x3 convolutions on half the stride, as wide as the backbone is there, before the taps are joined.
    pub fine_convs: usize,
    /// 3x3 convolutions of the head after the taps are joined.
    pub trunk_convs: usize,
    /// Length of the embedding.
    pub embedding: usize,
    /// Of the bundle whose backbone it is.
    pub backbone: ModelConfig,
}

impl Default for ProposeModelConfig {
    fn default() -> Self {
        Self {
            head_channels: 128,
            fine_convs: 2,
            trunk_convs: 6,
            embedding: 32,
            backbone: ModelConfig::default(),
        }
    }
}

/// What the head says about a batch of frames. Sub-cells are row-major on the grid of half the stride.
pub struct ProposeMaps {
    /// `[N, sub-cells, kinds]`, before the sigmoid.
    pub score_logits: Tensor,
    /// `[N, sub-cells, 4]`: distances left, top, right, bottom from the sub-cell's centre, in pixels.
    pub box_ltrb_px: Tensor,
    /// `[N, sub-cells, embedding]`, unit norm.
    pub embedding: Tensor,
}

/// The head, and the backbone it reads; see the module head. Only the head is among its parameters.
pub struct ProposeNet {
    config: ProposeModelConfig,
    input: CropSize,
    backbone: TrackerNet,
    params: Params,
    fine: Vec<ConvBn>,
    down: ConvBn,
    mix: ConvBn,
    trunk: Vec<ConvBn>,
    score: Head,
    boxes: Head,
    embed: Head,
}

/// The whole network as plain numbers, normalisation folded: what the exporter writes.
pub struct FoldedPropose {
    /// Sizes of input and outputs.
    pub sizes: ProposeSizes,
    /// Steps of the backbone, the neck last.
    pub backbone: Vec<FoldedBlock>,
    /// How many of them come before the tap of half the stride.
    pub fine_blocks: usize,
    /// 3x3 convolutions of the head on the fine tap.
    pub fine: Vec<FoldedConv>,
    /// From there to the stride of the coarse tap.
    pub down: FoldedConv,
    /// 1x1 over both.
    pub mix: FoldedConv,
    /// 3x3 convolutions.
    pub trunk: Vec<FoldedConv>,
    /// Score logits.
    pub score: FoldedConv,
    /// Logarithm of the distances in [`PROPOSAL_UNIT_PX`].
    pub boxes: FoldedConv,
    /// Embedding, before the unit norm.
    pub embed: FoldedConv,
}

impl ProposeNet {
    /// A head born from `seed` on a backbone that stays as it is. Both sides of the input are multiples of the stride.
    ///
    /// # Errors
    /// A backbone of another geometry than the configuration's, or of a single stage; an input of a wrong size.
    pub fn new(
        config: &ProposeModelConfig,
        input: CropSize,
        backbone: TrackerNet,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        if *backbone.config() != config.backbone {
            candle_core::bail!(
                "the backbone is {:?}, the configuration's {:?}",
                backbone.config(),
                config.backbone
            );
        }
        let stride = config.backbone.stride() as u32;
        for px in [input.width_px, input.height_px] {
            if px == 0 || !px.is_multiple_of(stride) || config.backbone.stage_channels.len() < 2 {
                candle_core::bail!("a side of {px} px, expected a multiple of the stride {stride}");
            }
        }
        let b = &mut ParamBuilder::new(seed, device);
        let (fine, coarse) = (
            config.backbone.fine_channels(),
            config.backbone.feature_channels,
        );
        let width = config.head_channels;
        // Several 3x3 convolutions of one width in a row.
        let mut row = |name: &str, count: usize, width: usize| -> Result<Vec<ConvBn>> {
            let shape = ConvShape::new(width, width, 3);
            (0..count)
                .map(|k| ConvBn::new(b, &format!("propose.{name}{k}"), shape, true))
                .collect()
        };
        let fine_row = row("fine", config.fine_convs, fine)?;
        let trunk = row("trunk", config.trunk_convs, width)?;
        let down = ConvShape::new(fine, width, 3).strided(2);
        let down = ConvBn::new(b, "propose.down", down, true)?;
        let mix = ConvShape::new(width + coarse, width, 1);
        let mix = ConvBn::new(b, "propose.mix", mix, true)?;
        let subs = SUB_CELLS * SUB_CELLS;
        let fan = |gain: f32| (gain / width as f32).sqrt();
        let unsure = (BORN_WITH_SCORE / (1.0 - BORN_WITH_SCORE)).ln();
        let scores = subs * RoadUser::COUNT;
        let score = Head::new(b, "propose.score", width, scores, unsure, fan(0.1))?;
        let boxes = Head::new(b, "propose.box", width, 4 * subs, 0.0, 0.01)?;
        let values = subs * config.embedding;
        let embed = Head::new(b, "propose.embed", width, values, 0.0, fan(2.0))?;
        let params = std::mem::replace(b, ParamBuilder::new(seed, device)).finish();
        Ok(Self {
            config: config.clone(),
            input,
            backbone,
            params,
            fine: fine_row,
            down,
            mix,
            trunk,
            score,
            boxes,
            embed,
        })
    }

    /// Geometry.
    pub fn config(&self) -> &ProposeModelConfig {
        &self.config
    }

    /// Columns and rows of the input.
    pub fn input(&self) -> CropSize {
        self.input
    }

    /// The numbers that the contract's shapes follow from.
    pub fn sizes(&self) -> ProposeSizes {
        ProposeSizes {
            input: self.input,
            stride_px: self.config.backbone.stride() as u32,
            embedding_size: self.config.embedding,
        }
    }

    /// Variables and statistics of the head.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The network of which the backbone is a part.
    pub fn backbone(&self) -> &TrackerNet {
        &self.backbone
    }

    /// Columns and rows of the grid of sub-cells.
    pub fn grid(&self) -> (usize, usize) {
        let stride = self.config.backbone.stride();
        let sub_cells = |px: u32| px as usize / stride * SUB_CELLS;
        (
            sub_cells(self.input.width_px),
            sub_cells(self.input.height_px),
        )
    }

    /// Side of a sub-cell.
    pub fn sub_stride_px(&self) -> f32 {
        self.config.backbone.stride() as f32 / SUB_CELLS as f32
    }

    /// What the head reads of the backbone, which computes as in evaluation; no gradient reaches it. Where the pass is that of
    /// the quantised graph, both maps are bytes, as the head will get them.
    fn taps(&self, frames: &Tensor, pass: Pass) -> Result<(Tensor, Tensor)> {
        let (fine, coarse) = self.backbone.taps(frames, Pass::Eval)?;
        let (fine, coarse) = (fine.detach(), coarse.detach());
        match pass {
            Pass::TrainQuantised { .. } => Ok((
                ops::fake_quantise_batch(&fine, true)?,
                ops::fake_quantise_batch(&coarse, true)?,
            )),
            _ => Ok((fine, coarse)),
        }
    }

    /// The whole network; the backbone is computed in evaluation.
    ///
    /// # Shapes
    /// `frames` `[N, height, width, 3]`; see [`ProposeMaps`] for the result.
    pub fn forward(&self, frames: &Tensor, pass: Pass) -> Result<ProposeMaps> {
        let (mut fine, coarse) = self.taps(frames, pass)?;
        for conv in &self.fine {
            fine = conv.forward(&fine, None, pass)?;
        }
        let fine = self.down.forward(&fine, None, pass)?;
        let joined = Tensor::cat(&[&fine, &coarse], D::Minus1)?;
        let mut x = self.mix.forward(&joined, None, pass)?;
        for conv in &self.trunk {
            x = conv.forward(&x, None, pass)?;
        }
        let score_logits = sub_cells(&self.score.forward(&x)?)?;
        let logs = sub_cells(&self.boxes.forward(&x)?)?;
        let (low, high) = PROPOSAL_LOG_RANGE;
        let box_ltrb_px = (logs.clamp(low, high)?.exp()? * PROPOSAL_UNIT_PX)?;
        let embedding = unit_norm(&sub_cells(&self.embed.forward(&x)?)?)?;
        Ok(ProposeMaps {
            score_logits,
            box_ltrb_px,
            embedding,
        })
    }

    /// The network with its normalisation folded in.
    ///
    /// # Errors
    /// Those of the device.
    pub fn folded(&self) -> Result<FoldedPropose> {
        let row = |convs: &[ConvBn]| convs.iter().map(ConvBn::folded).collect::<Result<_>>();
        Ok(FoldedPropose {
            sizes: self.sizes(),
            backbone: self.backbone.folded()?.backbone,
            fine_blocks: self.config.backbone.fine_blocks(),
            fine: row(&self.fine)?,
            down: self.down.folded()?,
            mix: self.mix.folded()?,
            trunk: row(&self.trunk)?,
            score: self.score.folded()?,
            boxes: self.boxes.folded()?,
            embed: self.embed.folded()?,
        })
    }
}

impl FoldedPropose {
    /// Multiply-accumulates of one frame: backbone and head.
    pub fn macs(&self) -> (u64, u64) {
        let input = self.sizes.input;
        let all = u64::from(input.width_px) * u64::from(input.height_px);
        let count = |cells: &mut u64, layer: &FoldedConv| {
            let s = layer.shape;
            *cells /= (s.stride * s.stride) as u64;
            *cells * (s.input * s.output * s.kernel * s.kernel) as u64
        };
        let (mut cells, mut backbone) = (all, 0);
        for block in &self.backbone {
            backbone += match block {
                FoldedBlock::Conv(layer) => count(&mut cells, layer),
                FoldedBlock::Residual([first, second]) => {
                    count(&mut cells, first) + count(&mut cells, second)
                }
            };
        }
        // The head begins on the cells of the fine tap; its strided layer ends on those of the coarse one.
        cells *= (self.down.shape.stride * self.down.shape.stride) as u64;
        let rest = [&self.mix, &self.score, &self.boxes, &self.embed];
        let head = self.fine.iter().chain([&self.down]).chain(rest);
        let head = head.chain(&self.trunk);
        (backbone, head.map(|layer| count(&mut cells, layer)).sum())
    }
}

/// `[N, h, w, 4 K]`, channel `4 k + 2 dy + dx`, to `[N, 2 h * 2 w, K]`.
fn sub_cells(maps: &Tensor) -> Result<Tensor> {
    let (n, h, w, channels) = maps.dims4()?;
    let values = channels / (SUB_CELLS * SUB_CELLS);
    maps.reshape(&[n, h, w, values, SUB_CELLS, SUB_CELLS])?
        .permute(vec![0, 1, 4, 2, 5, 3])?
        .contiguous()?
        .reshape((n, SUB_CELLS * h * SUB_CELLS * w, values))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::propose::{ProposeContract, ProposeDecoder};

    use super::*;
    use crate::ops::Precision;

    fn tiny() -> ProposeNet {
        let config = ProposeModelConfig {
            head_channels: 6,
            fine_convs: 1,
            trunk_convs: 1,
            embedding: 3,
            backbone: ModelConfig::tiny(),
        };
        let input = CropSize {
            width_px: 24,
            height_px: 16,
        };
        let backbone = TrackerNet::new(&config.backbone, 1, &Device::Cpu).unwrap();
        ProposeNet::new(&config, input, backbone, 2, &Device::Cpu).unwrap()
    }

    fn ramp(shape: (usize, usize, usize, usize)) -> Tensor {
        let (n, h, w, c) = shape;
        let values = (0..n * h * w * c).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0);
        Tensor::from_iter(values, &Device::Cpu)
            .unwrap()
            .reshape(shape)
            .unwrap()
    }

    #[test]
    fn the_network_of_the_design_stays_within_its_budget() {
        let config = ProposeModelConfig::default();
        let backbone = TrackerNet::new(&config.backbone, 1, &Device::Cpu).unwrap();
        let input = ProposeSizes::default().input;
        let net = ProposeNet::new(&config, input, backbone, 2, &Device::Cpu).unwrap();
        let (backbone, head) = net.folded().unwrap().macs();
        assert!(backbone + head <= 1_000_000_000, "{backbone} + {head}");
        assert!(net.params().parameter_count() <= 1_100_000);
        assert_eq!(net.grid(), (52, 32));
    }

    #[test]
    fn sub_cells_lie_where_the_decoder_of_the_board_looks_for_them() {
        let contract = ProposeContract::new(ProposeSizes {
            input: CropSize {
                width_px: 48,
                height_px: 32,
            },
            ..ProposeSizes::default()
        })
        .unwrap();
        let decoder = ProposeDecoder::new(&contract);
        // A map whose values are their own places in the planar tensor.
        let (h, w, channels) = (2, 3, 36);
        let planar = (0..channels * h * w).map(|i| i as f32);
        let planar = Tensor::from_iter(planar, &Device::Cpu).unwrap();
        let nhwc = planar.reshape((1, channels, h, w)).unwrap();
        let nhwc = nhwc.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        let cells = sub_cells(&nhwc).unwrap();
        assert_eq!(cells.dims(), [1, 24, 9]);
        let cells = cells.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
        for (cell, values) in cells.iter().enumerate() {
            for (k, value) in values.iter().enumerate() {
                assert_eq!(*value as usize, decoder.index(k, cell));
            }
        }
    }

    #[test]
    fn every_map_has_the_shape_that_the_docs_promise_and_only_the_head_learns() {
        let net = tiny();
        let pass = Pass::Train {
            momentum: 0.1,
            precision: Precision::F32,
        };
        let before = net.backbone().params().snapshot().unwrap();
        let maps = net.forward(&ramp((2, 16, 24, 3)), pass).unwrap();
        assert_eq!(maps.score_logits.dims(), [2, 96, 9]);
        assert_eq!(maps.box_ltrb_px.dims(), [2, 96, 4]);
        assert_eq!(maps.embedding.dims(), [2, 96, 3]);
        let sum = maps.score_logits.sum_all().unwrap();
        let sum = (sum + maps.box_ltrb_px.sum_all().unwrap()).unwrap();
        let sum = (sum + maps.embedding.sum_all().unwrap()).unwrap();
        let gradients = sum.backward().unwrap();
        for (name, var) in &net.params().vars {
            assert!(gradients.get(var).is_some(), "{name} does not learn");
        }
        for (name, var) in &net.backbone().params().vars {
            assert!(gradients.get(var).is_none(), "{name} learns");
        }
        assert_eq!(net.backbone().params().snapshot().unwrap(), before);
    }

    #[test]
    fn the_taps_are_what_following_computes() {
        let net = tiny();
        let frames = ramp((1, 16, 24, 3));
        let (fine, coarse) = net.backbone().taps(&frames, Pass::Eval).unwrap();
        assert_eq!(fine.dims(), [1, 8, 12, 4]);
        let features = net.backbone().features(&frames, Pass::Eval).unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&coarse), values(&features));
    }

    #[test]
    fn the_head_reads_bytes_where_it_learns_as_the_quantised_graph_will_compute() {
        let net = tiny();
        let frames = ramp((2, 16, 24, 3));
        let precision = Precision::F32;
        let of = |pass| {
            let (fine, coarse) = net.taps(&frames, pass).unwrap();
            [fine, coarse].map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        let plain = of(Pass::TrainFrozen { precision });
        let rounded = of(Pass::TrainQuantised { precision });
        for (plain, rounded) in plain.iter().zip(&rounded) {
            let step = plain.iter().fold(0.0f32, |m, v| m.max(*v)) / 255.0;
            assert_ne!(plain, rounded);
            for (plain, rounded) in plain.iter().zip(rounded) {
                assert!((plain - rounded).abs() <= 0.51 * step, "{plain} {rounded}");
                let bytes = rounded / step;
                assert!((bytes - bytes.round()).abs() < 1e-2, "{bytes}");
            }
        }
    }

    #[test]
    fn an_input_that_the_stride_does_not_divide_is_refused() {
        let config = tiny().config().clone();
        let backbone = TrackerNet::new(&config.backbone, 1, &Device::Cpu).unwrap();
        let input = CropSize::square(18);
        let error = ProposeNet::new(&config, input, backbone, 2, &Device::Cpu);
        let said = error.err().unwrap().to_string();
        assert!(said.contains("a side of 18 px"), "{said}");
    }
}
