//! `roadhound-train propose`: learns to find road users on the backbone of a bundle, and goes on where it was stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use roadhound_trainer::augment::AugmentConfig;
use roadhound_trainer::batch::{PrefetchConfig, Prefetcher};
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::data::Dataset;
use roadhound_trainer::export::unfold::{backbone_sha256, network_from_bundle};
use roadhound_trainer::model::ProposeNet;
use roadhound_trainer::ops::{DeviceChoice, open_device};
use roadhound_trainer::outputs;
use roadhound_trainer::propose::ProposeRun;
use roadhound_trainer::report::facts;
use roadhound_trainer::sampler::{SamplerScratch, Split};
use roadhound_trainer::scenes::batch::SceneBatch;
use roadhound_trainer::scenes::sheet::scene_sheet;
use roadhound_trainer::scenes::{SceneSampler, SceneView};
use roadhound_trainer::systems::System;
use roadhound_trainer::task::Task;
use roadhound_trainer::task::propose::{HeldOut, ProposeTask};
use roadhound_trainer::train_loop::{Outcome, Run, goes_on_from};

use super::{STOP, parse_threads, set_out};

/// Training scenes on the sheet of samples.
const SAMPLES: u64 = 12;
/// Held-out frames on theirs.
const HELD_OUT_SAMPLES: usize = 12;

#[derive(clap::Args)]
pub(crate) struct ProposeArguments {
    /// TOML file.
    #[arg(long)]
    config: PathBuf,
    /// Folder for checkpoints and logs.
    #[arg(long)]
    out: PathBuf,
    /// Folder of the bundle whose backbone is built on; it is not changed.
    #[arg(long)]
    backbone: PathBuf,
    /// Checkpoint of `propose` whose averaged weights a new run starts from, with a fresh optimiser; a resumed run does not
    /// need it.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Folder of the training packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Scenes to train on, instead of the configuration's.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    scenes: Option<u64>,
    /// Threads of the arithmetic, instead of the configuration's. They do not change the weights.
    #[arg(long, value_parser = parse_threads)]
    threads: Option<usize>,
    /// Where the network is computed, `cpu` or `cuda:0`, instead of the configuration's.
    #[arg(long)]
    device: Option<DeviceChoice>,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
}

pub(crate) fn propose(arguments: &ProposeArguments) -> Result<()> {
    let mut run = ProposeRun::load(&arguments.config)?;
    if let Some(root) = &arguments.data {
        run.data.root.clone_from(root);
    }
    if let Some(device) = arguments.device {
        run.compute.device = device;
    }
    if let Some(scenes) = arguments.scenes {
        run.train.pairs = scenes;
    }
    build_on(&mut run, &arguments.backbone)?;
    set_out(arguments.threads.unwrap_or(run.compute.threads))?;

    let dataset = Arc::new(Dataset::open(&run.data)?);
    let scenes = |split, seed, augment: AugmentConfig| {
        let (data, config) = (dataset.clone(), run.scenes.clone());
        SceneSampler::new(data, config, &run.labels, augment, split, seed)
    };
    let train = Arc::new(scenes(Split::Train, run.seed, run.augment.clone())?);
    let validation = Split::Validation.seed_of(run.seed);
    let validation = scenes(Split::Validation, validation, AugmentConfig::none())?;
    let held_out = held_out(&run, &validation)?;

    let device = open_device(run.compute.device)?;
    let net = |device: &Device| -> Result<ProposeNet> {
        let backbone = &run.model.backbone;
        let backbone = network_from_bundle(&arguments.backbone, backbone, run.seed, device)?;
        let input = run.scenes.input();
        Ok(ProposeNet::new(
            &run.model, input, backbone, run.seed, device,
        )?)
    };
    let (net, average) = (net(&device)?, net(&device)?);
    let (backbone_macs, head_macs) = net.folded()?.macs();
    log::info!(
        "{} sequences to train on, {} frames held out; head of {:.2} M parameters, {} MMAC a frame on a backbone of {}",
        train.sequence_count(),
        held_out.frames.iter().map(SceneBatch::views).sum::<usize>(),
        net.params().parameter_count() as f64 / 1e6,
        head_macs / 1_000_000,
        backbone_macs / 1_000_000
    );
    let out = &arguments.out;
    let is_fresh = goes_on_from(out, &run.to_toml()?)?.is_none();
    let init = arguments.init.as_deref().filter(|_| is_fresh);
    if let Some(path) = init {
        let start = Checkpoint::load(path)?;
        net.params()
            .restore(&start.average)
            .with_context(|| format!("{}", path.display()))?;
    }
    if is_fresh {
        let facts = facts::Facts {
            samples_in_all: 0,
            system: System::Propose,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: std::env::current_dir().ok().and_then(|f| facts::commit(&f)),
            seed: run.seed,
            config_sha256: run.hash()?,
            started_from: Some(init.unwrap_or(&arguments.backbone).display().to_string()),
            device: run.compute.device.to_string(),
            parameters: net.params().parameter_count() as u64,
            macs_per_frame: backbone_macs + head_macs,
            data: facts::count(&dataset),
        };
        begin(out, &run, &facts, &train, &held_out)?;
    }
    let mut task = ProposeTask::new(
        net,
        average,
        run.loss.clone(),
        run.compute.precision,
        run.seed,
        &device,
        held_out,
    )?;
    if let Some(path) = init {
        let start = task.params().snapshot()?;
        let figures = task.validate(&start)?;
        let shown: Vec<String> = figures.iter().map(|(n, v)| format!("{n} {v:.3}")).collect();
        log::info!("starts from {}: {}", path.display(), shown.join(", "));
    }
    let prefetch = PrefetchConfig {
        batch_size: run.train.batch,
        workers: run.compute.workers,
        ..PrefetchConfig::default()
    };
    let outcome = Run {
        folder: out.clone(),
        config: run.train.clone(),
        optim: run.optim.clone(),
        config_toml: run.to_toml()?,
        stop: &STOP,
        quiet: arguments.quiet,
    }
    .train(&mut task, |step| {
        let batches = Prefetcher::new(train, &prefetch, step)?;
        Ok(batches.map(|batch| batch.map_err(anyhow::Error::from)))
    })?;
    if outcome == Outcome::Stopped {
        log::info!(
            "stopped; the same command goes on from {}",
            out.join("last.safetensors").display()
        );
    }
    Ok(())
}

/// Notes which backbone is built on; one that the configuration names must be the one that is there.
fn build_on(run: &mut ProposeRun, bundle: &Path) -> Result<()> {
    let found = backbone_sha256(bundle)?;
    match &run.backbone_sha256 {
        Some(named) if *named != found => bail!(
            "{}: the search graph's SHA-256 is {found}, backbone_sha256 is {named}",
            bundle.display()
        ),
        _ => run.backbone_sha256 = Some(found),
    }
    Ok(())
}

fn held_out(run: &ProposeRun, scenes: &SceneSampler) -> Result<HeldOut> {
    let mut scratch = SamplerScratch::default();
    let frames = scenes.whole_frames(run.validation.frames, &mut scratch)?;
    let size = run.scenes.input();
    let batches = frames.chunks(run.train.batch);
    let pairs = (0..run.validation.batches as u64)
        .map(|step| SceneBatch::draw(scenes, step, run.train.batch, &mut scratch));
    Ok(HeldOut {
        scenes: pairs.collect::<Result<_, _>>()?,
        frames: batches
            .map(|views| SceneBatch::of(size, views.iter().cloned()))
            .collect(),
    })
}

/// Writes the facts of a new run and sheets of its scenes.
fn begin(
    folder: &Path,
    run: &ProposeRun,
    facts: &facts::Facts,
    train: &SceneSampler,
    held_out: &HeldOut,
) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    let path = folder.join(facts::FACTS_FILE);
    outputs::file(&path, serde_json::to_vec_pretty(facts)?)?;
    let mut scratch = SamplerScratch::default();
    let mut views: Vec<SceneView> = Vec::new();
    for k in 0..SAMPLES {
        views.extend(
            train
                .draw(k * run.train.pairs / SAMPLES, &mut scratch)?
                .views,
        );
    }
    let frames = held_out.frames.iter();
    let frames = frames.flat_map(|batch| (0..batch.views()).map(|i| batch.view(i)));
    let frames: Vec<SceneView> = frames.take(HELD_OUT_SAMPLES).collect();
    for (name, views, columns) in [
        ("samples.jpg", views, 4),
        ("samples_held_out.jpg", frames, 3),
    ] {
        let sheet = scene_sheet(run.scenes.input(), &views, &[], columns);
        outputs::picture(&folder.join(name), &sheet)?;
    }
    Ok(())
}
