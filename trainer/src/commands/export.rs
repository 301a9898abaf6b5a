//! `roadhound-train export`: a checkpoint becomes a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use roadhound_shared::contract::{Calibration, Training};
use roadhound_shared::propose::ProposalConfig;
use roadhound_shared::tracker::TrackerConfig;
use roadhound_trainer::calibrate::{Platt, Reliability};
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::{SystemConfig, TrackerRun};
use roadhound_trainer::data::Dataset;
use roadhound_trainer::export::bundle::{self, Card};
use roadhound_trainer::export::propose::add_to_bundle;
use roadhound_trainer::export::unfold::network_from_bundle;
use roadhound_trainer::model::{ProposeNet, TrackerNet};
use roadhound_trainer::propose::ProposeRun;
use roadhound_trainer::task::track::TrackTask;

use super::held_out::held_out_batches;
use super::{network_of, tracker_config};

/// Held-out pairs that presence is calibrated on.
const CALIBRATION_PAIRS: usize = 1_200;

/// Licence line of a bundle trained on packs whose licences are not known.
const LICENCE: &str = "Code Apache-2.0. Weights: research use only; trained on images whose licences are unstated or research-only, see the model card.";

#[derive(clap::Args)]
pub(crate) struct ExportArguments {
    /// Checkpoint written by `tracker`, or, with `--bundle`, by `propose`.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Add the proposals of a checkpoint of `propose` to this bundle, whose backbone they were trained on, and write both
    /// to `--out`. Name, licence, tracker and presence stay the bundle's.
    #[arg(long, conflicts_with_all = ["name", "tracker", "data", "uncalibrated"])]
    bundle: Option<PathBuf>,
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

/// `--score NAME=VALUE`, by name.
fn scores_of(arguments: &ExportArguments) -> Result<BTreeMap<String, f64>> {
    let mut scores = BTreeMap::new();
    for pair in &arguments.scores {
        let Some((name, value)) = pair.split_once('=') else {
            bail!("--score {pair}: expected NAME=VALUE")
        };
        let value = value.parse::<f64>();
        scores.insert(
            name.to_owned(),
            value.with_context(|| format!("--score {pair}"))?,
        );
    }
    Ok(scores)
}

/// Writes `bundle` with the proposals of a checkpoint to `--out`.
fn export_proposals(arguments: &ExportArguments, bundle: &Path) -> Result<()> {
    let checkpoint = Checkpoint::load(&arguments.checkpoint)?;
    let named = || format!("{}", arguments.checkpoint.display());
    let run = ProposeRun::parse(&checkpoint.config_toml).with_context(named)?;
    let backbone_sha256 = run.backbone_sha256.as_ref();
    let backbone_sha256 = backbone_sha256
        .with_context(|| format!("{}: does not say on which backbone it was trained", named()))?;
    let backbone = network_from_bundle(bundle, &run.model.backbone, run.seed, &Device::Cpu)?;
    let input = run.scenes.input();
    let net = ProposeNet::new(&run.model, input, backbone, run.seed, &Device::Cpu)?;
    net.params()
        .restore(&checkpoint.average)
        .with_context(named)?;
    let training = Training {
        commit: arguments.commit.clone(),
        config_sha256: run.hash()?,
        data: run.data.packs.iter().map(|p| p.name.clone()).collect(),
        pairs_seen: arguments.pairs_before + checkpoint.step * run.train.batch as u64,
    };
    let scores: Vec<(String, f64)> = scores_of(arguments)?.into_iter().collect();
    let manifest = add_to_bundle(
        &net,
        backbone_sha256,
        ProposalConfig::default(),
        training,
        &scores,
        bundle,
        &arguments.out,
    )?;
    log::info!(
        "{}: {} files, {} scenes seen",
        arguments.out.display(),
        manifest.files.len() + 1,
        manifest.propose.map_or(0, |p| p.training.pairs_seen)
    );
    Ok(())
}

pub(crate) fn export(arguments: &ExportArguments) -> Result<()> {
    if let Some(bundle) = &arguments.bundle {
        return export_proposals(arguments, bundle);
    }
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
    let scores = scores_of(arguments)?;
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
