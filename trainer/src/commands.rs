//! What the subcommands do: files and the clock are touched here, the rest is in the library.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use roadhound_shared::contract::{Calibration, Training};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::tracker::TrackerConfig;
use roadhound_shared::world::{Region, Scenario, WorldConfig};
use roadhound_trainer::batch::{Batch, PrefetchConfig, Prefetcher};
use roadhound_trainer::calibrate::{Platt, Reliability};
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::TrackerRun;
use roadhound_trainer::data::Dataset;
use roadhound_trainer::data::sequence::{Frame, Run as FollowRun};
use roadhound_trainer::data::sheet::contact_sheet;
use roadhound_trainer::data::store::ImageId;
use roadhound_trainer::evaluate;
use roadhound_trainer::export::bundle::{self, Card};
use roadhound_trainer::export::unfold::network_from_bundle;
use roadhound_trainer::model::TrackerNet;
use roadhound_trainer::ops::open_device;
use roadhound_trainer::outputs;
use roadhound_trainer::render::{self, RenderJob};
use roadhound_trainer::sampler::{Sampler, SamplerScratch, Split};
use roadhound_trainer::task::Task;
use roadhound_trainer::task::track::TrackTask;
use roadhound_trainer::train_loop::{Outcome, Run};

mod ablate;
mod gap;
pub(crate) use self::ablate::ablate;
pub(crate) use self::gap::gap;

use crate::{
    EvaluateArguments, ExportArguments, RenderArguments, SamplesArguments, TrackerArguments,
};

mod report;
mod tune;

pub(crate) use report::{ReportArguments, report};
pub(crate) use tune::{TuneArguments, tune};

/// Added to the seed for the validation pairs, so that they share no random stream with training.
const VALIDATION_SEED: u64 = 0x7661_6c69;

/// Batches over which the statistics of a restored bundle are measured.
const SETTLING_BATCHES: u64 = 4;

/// Held-out pairs that presence is calibrated on.
const CALIBRATION_PAIRS: usize = 1_200;

/// Licence line of a bundle trained on packs whose licences are not known.
const LICENCE: &str = "Code Apache-2.0. Weights: research use only; trained on images whose licences are unstated or research-only, see the model card.";

/// Frames side by side on a contact sheet of rendered frames.
const SHEET_COLUMNS: u32 = 4;

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
    if let Some(device) = arguments.device {
        run.compute.device = device;
    }
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
    let dataset = Arc::new(Dataset::open(&run.data)?);
    let (init, quiet) = (arguments.init.as_deref(), arguments.quiet);
    train_tracker(&run, &dataset, init, &arguments.out, quiet)?;
    Ok(())
}

/// Pairs that a run never trains on, the same for the same configuration.
fn held_out_batches(run: &TrackerRun, dataset: &Arc<Dataset>, count: usize) -> Result<Vec<Batch>> {
    let held_out = sampler(run, dataset, Split::Validation)?;
    let mut scratch = SamplerScratch::default();
    let batches =
        (0..count as u64).map(|step| Batch::draw(&held_out, step, run.train.batch, &mut scratch));
    Ok(batches.collect::<Result<_, _>>()?)
}

/// Trains in the folder `out` until the run ends or is stopped; goes on where it was stopped.
fn train_tracker(
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
    let fresh = !out.join("last.safetensors").exists();
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
            // Files are followed as they are stored; the boxes of a data set are those of images as it loads them.
            let truth_on = |(frame, image): (&Frame, &ImageId)| {
                let [across, down] = dataset.store().loaded_from_stored(*image);
                let target = frame
                    .annotations
                    .iter()
                    .find(|a| a.instance == first.instance)?;
                let b = target.box_in_image;
                Some(BoxXywh::new(
                    b.x_px / across,
                    b.y_px / down,
                    b.w_px / across,
                    b.h_px / down,
                ))
            };
            runs.push(FollowRun {
                name: format!("{}.{}", pack.name, loaded.sequence.name),
                frames: frames.iter().map(|f| f.path.to_path_buf()).collect(),
                truth: frames.iter().zip(&loaded.images).map(truth_on).collect(),
                fps: 30.0,
                assisted: false,
            });
        }
    }
    Ok(runs)
}

pub(crate) fn evaluate(arguments: &EvaluateArguments) -> Result<()> {
    let (mut runs, source) = match (&arguments.sequences, &arguments.held_out) {
        (Some(root), _) => (arguments.layout.load_runs(root)?, root),
        (None, Some(config)) => (held_out_runs(config, arguments.data.as_ref())?, config),
        (None, None) => bail!("give --sequences or --held-out"),
    };
    runs.retain(|run| run.name.contains(&arguments.only));
    if runs.is_empty() && arguments.pairs == 0 {
        bail!("{}: no runs to follow", source.display());
    }
    let (mut network, contract, tracker) = if arguments.model.is_dir() {
        let (network, manifest) = bundle::load(&arguments.model)?;
        (network, manifest.follow, manifest.tracker)
    } else {
        let (net, ..) = network_of(&arguments.model)?;
        let (network, contract) = bundle::graphs_of(&net)?;
        (network, contract, TrackerConfig::default())
    };
    let tracker = tracker_config(tracker, arguments.tracker.as_ref())?;
    if let (Some(config), 1..) = (&arguments.held_out, arguments.pairs) {
        let run = load(config, arguments.data.as_ref())?;
        let dataset = Arc::new(Dataset::open(&run.data)?);
        let held_out = sampler(&run, &dataset, Split::Validation)?;
        let mut scratch = SamplerScratch::default();
        let pairs = (0..arguments.pairs).map(|number| {
            let (epoch, index) = held_out.position(number);
            held_out.draw(epoch, index, &mut scratch)
        });
        let figures = evaluate::pairs(&mut network, &contract, pairs)?;
        print_pairs(&figures);
        if let (Some(path), true) = (&arguments.reliability, runs.is_empty()) {
            save_picture(&figures.reliability, path)?;
        }
    }
    if runs.is_empty() {
        return Ok(());
    }
    let bar = indicatif::ProgressBar::new(runs.len() as u64);
    let tick = |f: &evaluate::Followed| {
        bar.set_message(f.run.name.clone());
        bar.inc(1);
    };
    let followed = evaluate::follow_runs(network, &contract, &tracker, runs, arguments.fps, tick)?;
    bar.finish_and_clear();
    let rows = evaluate::table(&followed);
    print_table(&rows, &evaluate::presence(&followed)?);
    let reliability = evaluate::reliability(&followed);
    print_reliability("followed frames", &reliability);
    if let Some(path) = &arguments.reliability {
        save_picture(&reliability, path)?;
    }
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

fn save_picture(reliability: &Reliability, path: &Path) -> Result<()> {
    outputs::picture(path, &reliability.picture())
}

#[expect(clippy::print_stdout, reason = "the figures are what was asked for")]
fn print_pairs(figures: &evaluate::PairFigures) {
    let ranked = figures.presence_roc_auc;
    println!(
        "{} held-out pairs: auc {:.3}, presence ROC-AUC {}",
        figures.pairs,
        figures.auc,
        ranked.map_or("-".to_owned(), |v| format!("{v:.3}"))
    );
    print_reliability("held-out pairs", &figures.reliability);
}

#[expect(clippy::print_stdout, reason = "the figures are what was asked for")]
fn print_reliability(of: &str, reliability: &Reliability) {
    for line in reliability.lines() {
        println!("  {line}");
    }
    println!(
        "presence on {of}: expected calibration error {:.4} over {} equal bins",
        reliability.expected_calibration_error,
        reliability.bins.len()
    );
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
    outputs::picture(&arguments.out, &contact_sheet(&pairs, 8))
}

/// `--layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LayoutName {
    Pack,
    Sequences,
}

/// `--scenario`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ScenarioName {
    Drive,
    Occlusion,
}

pub(crate) fn parse_region(text: &str) -> Result<Region, String> {
    [Region::Us, Region::India]
        .into_iter()
        .find(|region| region.name() == text)
        .ok_or_else(|| "expected us or india".to_owned())
}

pub(crate) fn parse_size(text: &str) -> Result<(u32, u32), String> {
    text.split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)))
        .ok_or_else(|| "expected WIDTHxHEIGHT, such as 640x360".to_owned())
}

pub(crate) fn render(arguments: &RenderArguments) -> Result<()> {
    let mut world = match &arguments.world {
        None => WorldConfig::of(arguments.region),
        Some(path) => {
            let shown = || format!("{}", path.display());
            let text = std::fs::read_to_string(path).with_context(shown)?;
            toml::from_str(&text).with_context(shown)?
        }
    };
    world.region = arguments.region;
    (world.width_px, world.height_px) = arguments.size;
    world.fps = arguments.fps;
    world.frames = arguments.frames;
    world.scenario = match arguments.scenario {
        ScenarioName::Drive => Scenario::Drive,
        ScenarioName::Occlusion => Scenario::Occlusion,
    };
    if arguments.bench {
        let rate = render::frames_per_second(&world, arguments.seed, arguments.sequences)?;
        log::info!("{rate:.1} frames a second on one core, JPEG included");
        return Ok(());
    }
    let Some(out) = &arguments.out else {
        bail!("give --out or --bench")
    };
    let job = RenderJob {
        world,
        seed: arguments.seed,
        sequences: arguments.sequences,
        threads: arguments.threads,
        out: out.clone(),
        layout: match arguments.layout {
            LayoutName::Pack => render::Layout::Pack,
            LayoutName::Sequences => render::Layout::Sequences,
        },
        sheet_cells: if arguments.sheet.is_some() {
            arguments.cells
        } else {
            0
        },
    };
    let total = u64::from(job.sequences) * u64::from(job.world.frames);
    let bar = if arguments.quiet {
        indicatif::ProgressBar::hidden()
    } else {
        indicatif::ProgressBar::new(total)
    };
    let done = job.run(|frames| bar.inc(frames))?;
    bar.finish_and_clear();
    if let Some(path) = &arguments.sheet {
        let sheet = render::sheet(&done.cells, SHEET_COLUMNS, !arguments.bare);
        outputs::picture(path, &sheet)?;
    }
    log::info!(
        "{}: {} frames, {} boxes",
        out.display(),
        done.frames,
        done.boxes
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn held_out_videos_are_followed_in_pixels_of_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let frames = folder.path().join("wide/images/drive");
        std::fs::create_dir_all(&frames).unwrap();
        let mut table = "sequence,frame,instance,class,x,y,w,h,occluded\n".to_owned();
        for index in 0..3 {
            // Twice as wide as images are kept in memory.
            let image = image::RgbImage::from_pixel(1120, 630, image::Rgb([90, 100, 110]));
            image.save(frames.join(format!("{index}.png"))).unwrap();
            table += &format!("drive,{index},1,car,400,200,120,90,0\n");
        }
        std::fs::write(folder.path().join("wide/boxes.csv"), table).unwrap();
        let config = folder.path().join("run.toml");
        std::fs::write(
            &config,
            "[[data.packs]]\nname = \"wide\"\nkind = \"video\"\nweight = 1.0\nheld_out = [\"drive\"]\n",
        )
        .unwrap();
        let runs = held_out_runs(&config, Some(&folder.path().to_path_buf())).unwrap();
        assert_eq!(runs.len(), 1);
        for truth in &runs[0].truth {
            assert_eq!(*truth, Some(BoxXywh::new(400.0, 200.0, 120.0, 90.0)));
        }
    }
}
