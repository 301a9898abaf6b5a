//! `roadhound-train tracker`: trains, and goes on where it was stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use roadhound_trainer::batch::{Batch, PrefetchConfig, Prefetcher};
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::{SystemConfig, TrackerRun};
use roadhound_trainer::data::Dataset;
use roadhound_trainer::export::unfold::network_from_bundle;
use roadhound_trainer::model::TrackerNet;
use roadhound_trainer::ops::{DeviceChoice, open_device};
use roadhound_trainer::sampler::{SamplerScratch, Split};
use roadhound_trainer::task::Task;
use roadhound_trainer::task::track::TrackTask;
use roadhound_trainer::train_loop::{Outcome, Run, goes_on_from};

use super::held_out::held_out_batches;
use super::{STOP, load, parse_threads, report, sampler, set_out};

/// Batches over which the statistics of a restored bundle are measured.
const SETTLING_BATCHES: u64 = 4;

#[derive(clap::Args)]
pub(crate) struct TrackerArguments {
    /// TOML file; every key has a default.
    #[arg(long)]
    config: PathBuf,
    /// Folder for checkpoints and logs.
    #[arg(long)]
    out: PathBuf,
    /// What a new run starts from: a checkpoint (its averaged weights) or a bundle's folder; a resumed run does not
    /// need it.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Folder of the training packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Pairs to train on, instead of the configuration's.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pairs: Option<u64>,
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

pub(crate) fn tracker(arguments: &TrackerArguments) -> Result<()> {
    let mut run = load(&arguments.config, arguments.data.as_ref())?;
    if let Some(device) = arguments.device {
        run.compute.device = device;
    }
    if let Some(pairs) = arguments.pairs {
        run.train.pairs = pairs;
    }
    let threads = arguments.threads.unwrap_or(run.compute.threads);
    set_out(threads)?;
    let dataset = Arc::new(Dataset::open(&run.data)?);
    let (init, quiet) = (arguments.init.as_deref(), arguments.quiet);
    train_tracker(&run, &dataset, init, &arguments.out, quiet)?;
    Ok(())
}

/// Trains in the folder `out` until the run ends or is stopped; goes on where it was stopped.
pub(super) fn train_tracker(
    run: &TrackerRun,
    dataset: &Arc<Dataset>,
    init: Option<&Path>,
    out: &Path,
    quiet: bool,
) -> Result<Outcome> {
    let device = open_device(run.compute.device)?;
    let train = Arc::new(sampler(run, dataset, Split::Train)?);
    let validation = held_out_batches(run, dataset, run.validation.batches)?;
    let net = TrackerNet::new(&run.model, run.seed, &device)?;
    let average = TrackerNet::new(&run.model, run.seed, &device)?;
    let net = match init {
        Some(path) if path.is_dir() => network_from_bundle(path, &run.model, run.seed, &device)?,
        Some(path) => {
            let start = Checkpoint::load(path)?;
            net.params()
                .restore(&start.average)
                .with_context(|| format!("{}", path.display()))?;
            net
        }
        None => net,
    };
    log::info!(
        "{} tracks to train on, {} pairs held out; {:.2} M parameters, {} MMAC a frame",
        train.track_count(),
        validation.iter().map(|batch| batch.len).sum::<usize>(),
        net.parameter_count() as f64 / 1e6,
        net.macs_per_frame() / 1_000_000
    );
    let beginning = report::Beginning {
        run,
        init,
        net: &net,
        dataset,
        train: &train,
        validation: &validation,
    };
    let fresh = goes_on_from(out, &run.to_toml()?)?.is_none();
    report::leave_facts(out, &beginning)?;
    let mut task = TrackTask::new(
        net,
        average,
        run.loss.clone(),
        run.compute.precision,
        run.seed,
        &device,
        validation,
    );
    if let Some(path) = init.filter(|_| fresh) {
        if path.is_dir() {
            let mut scratch = SamplerScratch::default();
            let batches = (0..SETTLING_BATCHES)
                .map(|step| Batch::draw(&train, step, run.train.batch, &mut scratch))
                .collect::<Result<Vec<_>, _>>()?;
            task.settle(&batches)?;
        }
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
    let outcome =
        Run {
            folder: out.to_owned(),
            config: run.train.clone(),
            optim: run.optim.clone(),
            config_toml: run.to_toml()?,
            stop: &STOP,
            quiet,
        }
        .train(&mut task, |step| {
            Ok(Prefetcher::new(train, &prefetch, step)?
                .map(|batch| batch.map_err(anyhow::Error::from)))
        })?;
    if outcome == Outcome::Stopped {
        log::info!(
            "stopped; the same command goes on from {}",
            out.join("last.safetensors").display()
        );
    }
    Ok(outcome)
}
