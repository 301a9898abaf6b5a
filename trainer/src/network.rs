//! The trained network as the tracker sees it: [`CandleNetwork`] implements
//! [`FollowNetwork`], so that evaluation runs the state machine that ships.
//!
//! In: planar crops `[3, px, px]`. Out: planar maps, as the ONNX graphs give them.

use std::path::Path;

use anyhow::Context;
use candle_core::{Device, Result, Tensor};
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};

use crate::checkpoint::Checkpoint;
use crate::config::{SystemConfig, TrackerRun};
use crate::model::net::sigmoid;
use crate::model::{Pass, TrackerNet};

/// A network with the averaged weights of a checkpoint, and its configuration.
///
/// # Errors
/// A file that is no checkpoint of a tracker.
pub fn network_of(path: &Path) -> anyhow::Result<(TrackerNet, TrackerRun, Checkpoint)> {
    let checkpoint = Checkpoint::load(path)?;
    let named = || format!("{}", path.display());
    let run = TrackerRun::parse(&checkpoint.config_toml).with_context(named)?;
    let net = TrackerNet::new(&run.model, run.seed, &Device::Cpu)?;
    net.params()
        .restore(&checkpoint.average)
        .with_context(named)?;
    Ok((net, run, checkpoint))
}

/// A network in evaluation mode on candle; batch 1.
pub struct CandleNetwork {
    net: TrackerNet,
    device: Device,
}

impl CandleNetwork {
    /// Wraps `net`, whose statistics stay as they are.
    pub fn new(net: TrackerNet, device: &Device) -> Self {
        Self {
            net,
            device: device.clone(),
        }
    }

    /// The wrapped network.
    pub fn net(&self) -> &TrackerNet {
        &self.net
    }

    /// Gives the network back.
    pub fn into_net(self) -> TrackerNet {
        self.net
    }

    /// `[1, side, side, channels]` from planar values.
    fn nhwc(&self, planar: &[f32], channels: usize, side: usize) -> Result<Tensor> {
        Tensor::from_slice(planar, (1, channels, side, side), &self.device)?
            .permute((0, 2, 3, 1))?
            .contiguous()
    }
}

/// Copies `[1, cells, C]` to planar `[C, cells]`.
fn to_planar(map: &Tensor, out: &mut [f32]) -> Result<()> {
    let values = map
        .squeeze(0)?
        .t()?
        .contiguous()?
        .flatten_all()?
        .to_vec1::<f32>()?;
    if values.len() != out.len() {
        candle_core::bail!(
            "the network gives {} values where the contract has {}",
            values.len(),
            out.len()
        );
    }
    out.copy_from_slice(&values);
    Ok(())
}

impl FollowNetwork for CandleNetwork {
    type Error = candle_core::Error;

    fn template(&mut self, crop_chw: &[f32], out: &mut TemplateOutputs) -> Result<()> {
        let features = self.net.features(
            &self.nhwc(crop_chw, 3, self.net.config().template_px)?,
            Pass::Eval,
        )?;
        to_planar(&features.flatten(1, 2)?, &mut out.features)?;
        let embedding = self.net.embed_template(&features, Pass::Eval)?;
        to_planar(&embedding.unsqueeze(1)?, &mut out.embedding)
    }

    fn search(
        &mut self,
        crop_chw: &[f32],
        first: &[f32],
        latest: &[f32],
        out: &mut SearchOutputs,
    ) -> Result<()> {
        let config = self.net.config();
        let (cells, channels) = (config.template_cells(), config.feature_channels);
        let template = self.net.mix_templates(
            &self.nhwc(first, channels, cells)?,
            &self.nhwc(latest, channels, cells)?,
        )?;
        let features = self
            .net
            .features(&self.nhwc(crop_chw, 3, config.search_px)?, Pass::Eval)?;
        let maps = self.net.heads(&template, &features, Pass::Eval)?;
        to_planar(&sigmoid(&maps.score_logits)?.unsqueeze(2)?, &mut out.score)?;
        to_planar(&maps.box_ltrb_px, &mut out.box_ltrb_px)?;
        to_planar(&maps.embedding, &mut out.embedding)?;
        out.presence = sigmoid(&maps.presence_logits)?.to_vec1::<f32>()?[0];
        Ok(())
    }
}
