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
use roadhound_trainer::data::sequence::{Frame, Run as FollowRun};
use roadhound_trainer::data::sheet::contact_sheet;
use roadhound_trainer::data::{Dataset, otb};
use roadhound_trainer::evaluate;
use roadhound_trainer::export::bundle::{self, Card};
use roadhound_trainer::model::TrackerNet;
use roadhound_trainer::network::CandleNetwork;
use roadhound_trainer::sampler::{Sampler, SamplerScratch, Split};
use roadhound_trainer::task::track::TrackTask;
use roadhound_trainer::train_loop::{Outcome, Run};

use crate::{EvaluateArguments, ExportArguments, SamplesArguments, TrackerArguments};

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
    if let Some(path) = &arguments.init {
        let start = Checkpoint::load(path)?;
        net.params()
            .restore(&start.average)
            .with_context(|| format!("{}", path.display()))?;
    }
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

/// Constants of the tracker: `base`, with the file's keys over them.
fn tracker_config(base: TrackerConfig, path: Option<&PathBuf>) -> Result<TrackerConfig> {
    let Some(path) = path else { return Ok(base) };
    let shown = || format!("{}", path.display());
    let text = std::fs::read_to_string(path).with_context(shown)?;
    base.overridden(&text).with_context(shown)
}

/// A network with the averaged weights of a checkpoint, and its configuration.
fn network_of(path: &Path) -> Result<(TrackerNet, TrackerRun, Checkpoint)> {
    let checkpoint = Checkpoint::load(path)?;
    let named = || format!("{}", path.display());
    let run = TrackerRun::parse(&checkpoint.config_toml).with_context(named)?;
    let net = TrackerNet::new(&run.model, run.seed, &Device::Cpu)?;
    net.params()
        .restore(&checkpoint.average)
        .with_context(named)?;
    Ok((net, run, checkpoint))
}

/// The videos that the configuration keeps for validation, each followed from its first object's first box.
fn held_out_runs(config: &Path, data: Option<&PathBuf>) -> Result<Vec<FollowRun>> {
    let run = load(config, data)?;
    let dataset = Dataset::open(&run.data)?;
    let mut runs = Vec::new();
    for pack in dataset.packs() {
        for loaded in &pack.sequences {
            let frames = &loaded.sequence.frames;
            if !loaded.held_out || frames.len() < 2 {
                continue;
            }
            let Some(first) = frames[0].annotations.iter().find(|a| !a.ignore) else {
                continue;
            };
            let truth_on = |frame: &Frame| {
                frame
                    .annotations
                    .iter()
                    .find(|a| a.instance == first.instance)
                    .map(|a| a.box_in_image)
            };
            runs.push(FollowRun {
                name: format!("{}.{}", pack.name, loaded.sequence.name),
                frames: frames.iter().map(|f| f.path.clone()).collect(),
                truth: frames.iter().map(truth_on).collect(),
                fps: 30.0,
                assisted: false,
            });
        }
    }
    Ok(runs)
}

pub(crate) fn evaluate(arguments: &EvaluateArguments) -> Result<()> {
    let (mut runs, source) = match (&arguments.sequences, &arguments.held_out) {
        (Some(root), _) => (otb::load_runs(root)?, root),
        (None, Some(config)) => (held_out_runs(config, arguments.data.as_ref())?, config),
        (None, None) => bail!("give --sequences or --held-out"),
    };
    runs.retain(|run| run.name.contains(&arguments.only));
    if runs.is_empty() {
        bail!("{}: no runs to follow", source.display());
    }
    let bar = indicatif::ProgressBar::new(runs.len() as u64);
    let tick = |f: &evaluate::Followed| {
        bar.set_message(f.run.name.clone());
        bar.inc(1);
    };
    let followed = if arguments.model.is_dir() {
        let (network, manifest) = bundle::load(&arguments.model)?;
        let tracker = tracker_config(manifest.tracker, arguments.tracker.as_ref())?;
        evaluate::follow_runs(
            network,
            &manifest.follow,
            &tracker,
            runs,
            arguments.fps,
            tick,
        )?
    } else {
        let (net, ..) = network_of(&arguments.model)?;
        let contract = bundle::contract_of(&net)?;
        let tracker = tracker_config(TrackerConfig::default(), arguments.tracker.as_ref())?;
        let network = CandleNetwork::new(net, &Device::Cpu);
        evaluate::follow_runs(network, &contract, &tracker, runs, arguments.fps, tick)?
    };
    bar.finish_and_clear();
    let rows = evaluate::table(&followed);
    print_table(&rows, &evaluate::presence(&followed)?);
    if let Some(path) = &arguments.csv {
        evaluate::write_csv(path, &rows)?;
    }
    if let Some(folder) = &arguments.results {
        evaluate::write_results(folder, &followed)?;
    }
    if let Some(folder) = &arguments.sheets {
        for file in evaluate::worst_sheets(folder, &followed, arguments.worst)? {
            log::info!("{}", file.display());
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
fn print_table(rows: &[evaluate::Row], presence: &evaluate::PresenceFigures) {
    println!(
        "{:<28} frames    auc     ao   sr50   sr75    p20   np20 absent alarms  lost",
        "run"
    );
    for r in rows {
        println!(
            "{:<28} {:>6} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6} {:>6} {:>5}",
            r.run,
            r.frames,
            r.auc,
            r.ao,
            r.sr50,
            r.sr75,
            r.p20,
            r.np20,
            r.absent,
            r.false_alarms,
            r.false_lost
        );
    }
    let shown = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.3}"));
    println!(
        "presence ROC-AUC {} (within runs with absences {}), boxes on absent frames {}, called lost while present {:.4}",
        shown(presence.roc_auc),
        shown(presence.roc_auc_within_runs),
        shown(presence.false_alarm_rate),
        presence.false_lost_rate
    );
    let delay = |d: &Option<f64>| d.map_or("never".to_owned(), |d| format!("{d:.2} s"));
    let delays: Vec<String> = presence.redetection_seconds.iter().map(delay).collect();
    if !delays.is_empty() {
        println!("found again after: {}", delays.join(", "));
    }
}

pub(crate) fn export(arguments: &ExportArguments) -> Result<()> {
    let (net, run, checkpoint) = network_of(&arguments.checkpoint)?;
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
            config_sha256: run.hash()?,
            data: run.data.packs.iter().map(|p| p.name.clone()).collect(),
            pairs_seen: arguments.pairs_before + checkpoint.step * run.train.batch as u64,
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
