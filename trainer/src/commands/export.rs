//! `roadhound-train export`: a checkpoint becomes a bundle.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use roadhound_shared::contract::{Calibration, Training};
use roadhound_shared::tracker::TrackerConfig;
use roadhound_trainer::calibrate::{Platt, Reliability};
use roadhound_trainer::config::{SystemConfig, TrackerRun};
use roadhound_trainer::data::Dataset;
use roadhound_trainer::export::bundle::{self, Card};
use roadhound_trainer::model::TrackerNet;
use roadhound_trainer::task::track::TrackTask;

use super::held_out::held_out_batches;
use super::{network_of, tracker_config};

/// Held-out pairs that presence is calibrated on.
const CALIBRATION_PAIRS: usize = 1_200;

/// Licence line of a bundle trained on packs whose licences are not known.
const LICENCE: &str = "Code Apache-2.0. Weights: research use only; trained on images whose licences are unstated or research-only, see the model card.";

#[derive(clap::Args)]
pub(crate) struct ExportArguments {
    /// Checkpoint written by `tracker`.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Folder of the bundle; replaced as a whole.
    #[arg(long)]
    out: PathBuf,
    /// Name of the model.
    #[arg(long, default_value = "roadhound-s")]
    name: String,
    /// Constants of the tracker: a TOML file with the `[tracker]` table's keys, over the defaults.
    #[arg(long)]
    tracker: Option<PathBuf>,
    /// Scores to put on the card, `name=value`, repeatable.
    #[arg(long = "score", value_name = "NAME=VALUE")]
    scores: Vec<String>,
    /// Pairs seen before this checkpoint's run, by the one it was started from.
    #[arg(long, default_value_t = 0)]
    pairs_before: u64,
    /// Commit of the code that trained the weights.
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Folder of the training packs, instead of the configuration's: presence is calibrated on their held-out pairs.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Leave presence as it was trained; needs no data.
    #[arg(long)]
    uncalibrated: bool,
}

/// Fits presence to held-out pairs and folds the correction into the network. Errors are measured on as many others.
fn calibrated(net: TrackerNet, run: &TrackerRun) -> Result<(TrackerNet, Calibration)> {
    let dataset = Arc::new(Dataset::open(&run.data).context(
        "presence is calibrated on the held-out pairs; give --data, or --uncalibrated to go without",
    )?);
    let fitted = CALIBRATION_PAIRS.div_ceil(run.train.batch);
    let batches = held_out_batches(run, &dataset, 2 * fitted)?;
    let average = TrackerNet::new(&run.model, run.seed, &Device::Cpu)?;
    let (precision, device) = (run.compute.precision, Device::Cpu);
    let task = TrackTask::new(
        net,
        average,
        run.loss.clone(),
        precision,
        0,
        &device,
        vec![],
    );
    let (to_fit, to_measure) = batches.split_at(fitted);
    let (logits, present) = task.presence(to_fit)?;
    let pairs = logits.len() as u64;
    let platt = Platt::fit(&logits, &present)
        .context("presence cannot be calibrated: the held-out pairs are all present, all absent, or ranked backwards")?;
    let (logits, present) = task.presence(to_measure)?;
    let error = |platt: Platt| {
        let probabilities: Vec<f64> = logits.iter().map(|l| platt.probability(*l)).collect();
        Reliability::of(&probabilities, &present).expected_calibration_error
    };
    let calibration = Calibration {
        scale: platt.scale,
        bias: platt.bias,
        pairs,
        error_before: error(Platt::IDENTITY),
        error_after: error(platt),
    };
    let net = task.into_net();
    net.scale_presence(platt.scale as f32, platt.bias as f32)?;
    Ok((net, calibration))
}

pub(crate) fn export(arguments: &ExportArguments) -> Result<()> {
    let (net, mut run, checkpoint) = network_of(&arguments.checkpoint)?;
    let config_sha256 = run.hash()?;
    if let Some(root) = &arguments.data {
        run.data.root.clone_from(root);
    }
    let (net, calibration) = match arguments.uncalibrated {
        true => (net, None),
        false => {
            let (net, calibration) = calibrated(net, &run)?;
            log::info!(
                "presence fitted on {} held-out pairs; calibration error on as many others {:.4}, {:.4} after logit x {:.3} + {:.3}",
                calibration.pairs,
                calibration.error_before,
                calibration.error_after,
                calibration.scale,
                calibration.bias
            );
            (net, Some(calibration))
        }
    };
    let tracker = tracker_config(TrackerConfig::default(), arguments.tracker.as_ref())?;
    let mut scores = BTreeMap::new();
    for pair in &arguments.scores {
        let Some((name, value)) = pair.split_once('=') else {
            bail!("--score {pair}: expected NAME=VALUE")
        };
        scores.insert(
            name.to_owned(),
            value
                .parse::<f64>()
                .with_context(|| format!("--score {pair}"))?,
        );
    }
    let card = Card {
        name: arguments.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        licence: LICENCE.to_owned(),
        tracker,
        training: Training {
            commit: arguments.commit.clone(),
            config_sha256,
            data: run.data.packs.iter().map(|p| p.name.clone()).collect(),
            pairs_seen: arguments.pairs_before + checkpoint.step * run.train.batch as u64,
        },
        scores,
        calibration,
    };
    let manifest = bundle::write(net, card, &arguments.out)?;
    log::info!(
        "{}: {} files, {} pairs seen",
        arguments.out.display(),
        manifest.files.len() + 1,
        manifest.training.pairs_seen
    );
    Ok(())
}
