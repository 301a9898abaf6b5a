//! What the subcommands do: files and the clock are touched here, the rest is in the library.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use roadhound_shared::contract::Training;
use roadhound_shared::tracker::TrackerConfig;
use roadhound_trainer::batch::{Batch, PrefetchConfig, Prefetcher};
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::TrackerRun;
use roadhound_trainer::data::Dataset;
use roadhound_trainer::data::sheet::contact_sheet;
use roadhound_trainer::export::bundle::{self, Card};
use roadhound_trainer::model::TrackerNet;
use roadhound_trainer::sampler::{Sampler, SamplerScratch, Split};
use roadhound_trainer::task::track::TrackTask;
use roadhound_trainer::train_loop::{Outcome, Run};

use crate::{ExportArguments, SamplesArguments, TrackerArguments};

/// Added to the seed for the validation pairs, so that they share no random stream with training.
const VALIDATION_SEED: u64 = 0x7661_6c69;

/// Licence line of a bundle trained on packs whose licences are not known.
const LICENCE: &str = "Code Apache-2.0. Weights: research use only; trained on images whose licences are unstated or research-only, see the model card.";

static STOP: AtomicBool = AtomicBool::new(false);

fn load(config: &Path, data: Option<&PathBuf>) -> Result<TrackerRun> {
    let mut run = TrackerRun::load(config)?;
    if let Some(root) = data {
        run.data.root.clone_from(root);
    }
    Ok(run)
}

fn sampler(run: &TrackerRun, dataset: &Arc<Dataset>, split: Split) -> Result<Sampler> {
    let seed = match split {
        Split::Train => run.seed,
        Split::Validation => run.seed.wrapping_add(VALIDATION_SEED),
    };
    Ok(Sampler::new(
        dataset.clone(),
        run.sampler.clone(),
        run.augment.clone(),
        split,
        seed,
    )?)
}

pub(crate) fn tracker(arguments: &TrackerArguments) -> Result<()> {
    let mut run = load(&arguments.config, arguments.data.as_ref())?;
    if let Some(pairs) = arguments.pairs {
        run.train.pairs = pairs;
    }
    let threads = arguments.threads.unwrap_or(run.compute.threads);
    roadhound_trainer::ops::set_candle_threads(threads);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .context("the thread pool was already made")?;
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))
        .context("Ctrl-C cannot be handled")?;

    let device = Device::Cpu;
    let dataset = Arc::new(Dataset::open(&run.data)?);
    let train = Arc::new(sampler(&run, &dataset, Split::Train)?);
    let held_out = sampler(&run, &dataset, Split::Validation)?;
    let mut scratch = SamplerScratch::default();
    let validation = (0..run.validation.batches as u64)
        .map(|step| Batch::draw(&held_out, step, run.train.batch, &mut scratch))
        .collect::<Result<Vec<_>, _>>()?;
    let net = TrackerNet::new(&run.model, run.seed, &device)?;
    let average = TrackerNet::new(&run.model, run.seed, &device)?;
    log::info!(
        "{} tracks to train on, {} held out; {:.2} M parameters, {} MMAC a frame",
        train.track_count(),
        held_out.track_count(),
        net.parameter_count() as f64 / 1e6,
        net.macs_per_frame() / 1_000_000
    );
    let mut task = TrackTask::new(
        net,
        average,
        run.loss.clone(),
        run.compute.precision,
        run.seed,
        &device,
        validation,
    );
    let prefetch = PrefetchConfig {
        batch_size: run.train.batch,
        workers: run.compute.workers,
        ..PrefetchConfig::default()
    };
    let outcome =
        Run {
            folder: arguments.out.clone(),
            config: run.train.clone(),
            optim: run.optim.clone(),
            config_toml: run.to_toml()?,
            stop: &STOP,
            quiet: arguments.quiet,
        }
        .train(&mut task, |step| {
            Ok(Prefetcher::new(train, &prefetch, step)?
                .map(|batch| batch.map_err(anyhow::Error::from)))
        })?;
    if outcome == Outcome::Stopped {
        log::info!(
            "stopped; the same command goes on from {}",
            arguments.out.join("last.safetensors").display()
        );
    }
    Ok(())
}

pub(crate) fn export(arguments: &ExportArguments) -> Result<()> {
    let checkpoint = Checkpoint::load(&arguments.checkpoint)?;
    let named = || format!("{}", arguments.checkpoint.display());
    let run = TrackerRun::parse(&checkpoint.config_toml).with_context(named)?;
    let net = TrackerNet::new(&run.model, run.seed, &Device::Cpu)?;
    net.params()
        .restore(&checkpoint.average)
        .with_context(named)?;
    let tracker = match &arguments.tracker {
        None => TrackerConfig::default(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
            TrackerConfig::default()
                .overridden(&text)
                .with_context(|| format!("{}", path.display()))?
        }
    };
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
            config_sha256: run.hash()?,
            data: run.data.packs.iter().map(|p| p.name.clone()).collect(),
            pairs_seen: checkpoint.step * run.train.batch as u64,
        },
        scores,
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

pub(crate) fn samples(arguments: &SamplesArguments) -> Result<()> {
    let run = load(&arguments.config, arguments.data.as_ref())?;
    let dataset = Arc::new(Dataset::open(&run.data)?);
    let train = sampler(&run, &dataset, Split::Train)?;
    let mut scratch = SamplerScratch::default();
    let mut pairs = Vec::new();
    for number in arguments.from..arguments.from + arguments.count {
        let (epoch, index) = train.position(number);
        pairs.push(train.draw(epoch, index, &mut scratch)?);
    }
    contact_sheet(&pairs, 8)
        .save(&arguments.out)
        .with_context(|| format!("{}", arguments.out.display()))
}
