//! `roadhound-train quantise`: adds int8 graphs to a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use roadhound_shared::contract::FollowContract;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::metrics::{RunScore, success_area};
use roadhound_shared::tracker::TrackerConfig;
use roadhound_shared::world::{Region, WorldConfig};
use roadhound_trainer::config::TrackerRun;
use roadhound_trainer::data::layout::Layout;
use roadhound_trainer::data::sequence::Run;
use roadhound_trainer::data::{DataConfig, Dataset, PackConfig, PackKind, ReadConfig};
use roadhound_trainer::evaluate::{self, PairAnswer};
use roadhound_trainer::export::bundle;
use roadhound_trainer::export::interpret::OnnxNetwork;
use roadhound_trainer::quantise::compare::{self, Layer};
use roadhound_trainer::quantise::follow::{PairSamples, pixel_params, sources};
use roadhound_trainer::quantise::observe::Observer;
use roadhound_trainer::quantise::report::{Figures, Report, Trial, best};
use roadhound_trainer::quantise::source::Source;
use roadhound_trainer::quantise::weights::Rounding;
use roadhound_trainer::quantise::{
    Corrections, Samples, Seen, Settings, correct, equalise, quantised,
};
use roadhound_trainer::render::{self, RenderJob};
use roadhound_trainer::sampler::{Pair, Sampler, SamplerScratch, Split};

use super::{load, sampler};

/// Seed of the drives that crops are calibrated on.
const CALIBRATION_SEED: u64 = 0x0071_6e74;
/// Seed of the drives that are followed to choose: others.
const CHOICE_SEED: u64 = 0x6368_6f69;
/// Crops that biases are corrected on: each layer runs them again.
const CORRECTION_PAIRS: usize = 16;
/// Crops that noise is measured on.
const NOISE_PAIRS: usize = 32;

#[derive(clap::Args)]
pub(crate) struct QuantiseArguments {
    /// Bundle with f32 graphs.
    #[arg(long, default_value = "edge/models/roadhound-s")]
    bundle: PathBuf,
    /// Training configuration: names the packs that crops come from.
    #[arg(long, default_value = "configs/roadhound-s-5.toml")]
    config: PathBuf,
    /// Folder of the packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder of the new bundle, instead of the old one's.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Pairs of crops to calibrate on: two thirds from the packs, the rest rendered.
    #[arg(long, default_value_t = 192)]
    calibration: usize,
    /// Held-out pairs to choose by.
    #[arg(long, default_value_t = 480)]
    pairs: u64,
    /// Rendered drives, half of each region, to calibrate on and as many others to choose by.
    #[arg(long, default_value_t = 6)]
    drives: u32,
    /// Observers to choose from.
    #[arg(long = "observer", value_name = "RULE", default_values_t = [
        Observer::Mse, Observer::Percentile(99.999), Observer::Percentile(99.99), Observer::Entropy,
    ])]
    observers: Vec<Observer>,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
}

/// What ways are measured on.
struct Bench<'a> {
    contract: &'a FollowContract,
    tracker: &'a TrackerConfig,
    held_out: Vec<Pair>,
    clips: Vec<Run>,
    /// What the f32 graphs say about the held-out pairs.
    plain: Vec<PairAnswer>,
}

impl Bench<'_> {
    fn network(&self, graphs: &[Vec<u8>]) -> Result<OnnxNetwork> {
        let [template, search] = graphs else {
            anyhow::bail!("{} graphs, expected 2", graphs.len())
        };
        Ok(OnnxNetwork::new(template, search, self.contract)?)
    }

    fn answers(&self, network: &mut OnnxNetwork) -> Result<Vec<PairAnswer>> {
        let mut answers = Vec::with_capacity(self.held_out.len());
        let pairs = self.held_out.iter().map(Ok);
        evaluate::answer_pairs(network, self.contract, pairs, |_, a| answers.push(a))?;
        Ok(answers)
    }

    fn figures(&self, network: OnnxNetwork, answers: &[PairAnswer]) -> Result<Figures> {
        let (mut to_truth, mut to_plain, mut same, mut moved) = (vec![], vec![], vec![], vec![]);
        for ((pair, plain), answer) in self.held_out.iter().zip(&self.plain).zip(answers) {
            moved.push(f64::from((plain.presence - answer.presence).abs()));
            // Where there is no target, the highest of many low scores says nothing.
            if pair.present {
                let found = &answer.box_in_search;
                to_truth.push(f64::from(BoxXywh::from(pair.box_in_search).iou(found)));
                to_plain.push(f64::from(plain.box_in_search.iou(found)));
                same.push(f64::from(u8::from(plain.peak_cell == answer.peak_cell)));
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        Ok(Figures {
            pair_auc: success_area(&to_truth),
            clip_auc: self.follow(network)?,
            same_peak: mean(&same),
            overlap: mean(&to_plain),
            presence_moved: mean(&moved),
        })
    }

    fn follow(&self, network: OnnxNetwork) -> Result<Option<f64>> {
        if self.clips.is_empty() {
            return Ok(None);
        }
        let clips = self.clips.clone();
        let followed =
            evaluate::follow_runs(network, self.contract, self.tracker, clips, None, |_| {})?;
        let scores: Vec<RunScore> = followed.iter().map(|f| f.score).collect();
        Ok(Some(RunScore::mean(&scores).success_auc))
    }
}

/// A way of quantising, and the graphs it gives.
struct Way {
    trial: Trial,
    settings: Settings,
    equalised: bool,
    corrections: Corrections,
    graphs: Vec<Vec<u8>>,
}

/// f32 graphs of one function, and what was seen in them.
struct Stage {
    sources: Vec<Source>,
    seen: Seen,
}

impl Stage {
    fn layers(&self, settings: &Settings) -> Result<Vec<Layer>> {
        compare::layers(&self.sources, &self.seen, settings)
    }
}

pub(crate) fn quantise(arguments: &QuantiseArguments) -> Result<()> {
    let named = || format!("{}", arguments.bundle.display());
    let files = bundle::read(&arguments.bundle)?;
    let (contract, tracker) = (files.manifest.follow.clone(), files.manifest.tracker);
    let rendered = tempfile_folder()?;
    let (calibration, held_out) = pairs(arguments, rendered.path())?;
    let clips = clips(arguments, rendered.path())?;
    log::info!(
        "{} pairs to calibrate on; {} held-out pairs and {} rendered clips to choose by",
        calibration.len(),
        held_out.len(),
        clips.len()
    );
    let samples = PairSamples {
        pairs: &calibration,
        contract: &contract,
    };
    let first = PairSamples {
        pairs: &calibration[..calibration.len().min(CORRECTION_PAIRS)],
        contract: &contract,
    };
    let mut bench = Bench {
        contract: &contract,
        tracker: &tracker,
        held_out,
        clips,
        plain: Vec::new(),
    };
    let f32_graphs = [files.f32.template.clone(), files.f32.search.clone()];
    let mut network = bench.network(&f32_graphs).with_context(named)?;
    bench.plain = bench.answers(&mut network)?;
    let plain = bench.plain.clone();
    let f32 = bench.figures(network, &plain)?;
    tell("f32", &f32);

    let open = || sources(&f32_graphs[0], &f32_graphs[1], &contract).with_context(named);
    let watch = |sources: Vec<Source>| -> Result<Stage> {
        let bar = bar(arguments, samples.count() as u64, "calibration");
        let seen = Seen::watch(&sources, &samples, || bar.inc(1))?;
        bar.finish_and_clear();
        Ok(Stage { sources, seen })
    };
    let as_trained = watch(open()?)?;
    let mut equal = open()?;
    let layers_equalised = equalise::equalise(&mut equal, &as_trained.seen);
    let equalised = watch(equal)?;
    let stage = |equal: bool| if equal { &equalised } else { &as_trained };

    let measure = |name: String, settings: Settings, equal: bool, corrections: Corrections| {
        let Stage { sources, seen } = stage(equal);
        let graphs = quantised(sources, seen, &settings, &corrections)?;
        let mut network = bench.network(&graphs)?;
        let answers = bench.answers(&mut network)?;
        let figures = bench.figures(network, &answers)?;
        tell(&name, &figures);
        Ok::<Way, anyhow::Error>(Way {
            trial: Trial { name, figures },
            settings,
            equalised: equal,
            corrections,
            graphs,
        })
    };
    let pixels = pixel_params(&contract.normalisation)?;
    let mut ways = Vec::new();
    for observer in &arguments.observers {
        let settings = Settings {
            observer: *observer,
            rounding: Rounding::Largest,
            pixels,
        };
        ways.push(measure(
            observer.to_string(),
            settings,
            false,
            Corrections::new(),
        )?);
    }
    // One refinement at a time, each kept where it helps.
    let leader = |ways: &[Way]| -> Result<usize> {
        let trials: Vec<Trial> = ways.iter().map(|w| w.trial.clone()).collect();
        let chosen = best(&trials).context("no observer to try")?;
        trials
            .iter()
            .position(|t| t == chosen)
            .context("no observer to try")
    };
    for refinement in [
        "least-squares weights",
        "equalised layers",
        "corrected biases",
    ] {
        let from = &ways[leader(&ways)?];
        let (mut settings, mut equal) = (from.settings, from.equalised);
        let mut corrections = from.corrections.clone();
        match refinement {
            "least-squares weights" => settings.rounding = Rounding::LeastSquares,
            "equalised layers" => equal = true,
            _ => {
                let stage = stage(equal);
                let layers = stage.layers(&settings)?;
                let bar = bar(arguments, layers.len() as u64, "corrections");
                corrections = correct::corrections(
                    &stage.sources,
                    &stage.seen,
                    &settings,
                    &layers,
                    &first,
                    || bar.inc(1),
                )?;
                bar.finish_and_clear();
            }
        }
        let name = format!("{}, {refinement}", from.trial.name);
        ways.push(measure(name, settings, equal, corrections)?);
    }
    let trials: Vec<Trial> = ways.iter().map(|w| w.trial.clone()).collect();
    let way = ways.swap_remove(leader(&ways)?);

    let stage = stage(way.equalised);
    let layers = stage.layers(&way.settings)?;
    let on = PairSamples {
        pairs: &bench.held_out[..bench.held_out.len().min(NOISE_PAIRS)],
        contract: &contract,
    };
    let noise = compare::noise(&stage.sources, &way.graphs, &layers, &on)?;
    let sizes: Vec<(usize, usize)> = f32_graphs
        .iter()
        .zip(&way.graphs)
        .map(|(a, b)| (a.len(), b.len()))
        .collect();
    let conditions = format!(
        "Calibrated on {} pairs of crops, chosen by {} held-out pairs and {} rendered clips; {layers_equalised} pairs of layers can be equalised.",
        calibration.len(),
        bench.held_out.len(),
        bench.clips.len()
    );
    let report = Report {
        name: &files.manifest.name,
        conditions: &conditions,
        f32,
        trials: &trials,
        chosen: &way.trial,
        graphs: &["template", "search"],
        layers: &layers,
        noise: &noise,
        sizes: &sizes,
    }
    .markdown();
    print(&report);
    let mut scores = BTreeMap::from([
        (
            "int8_validation_pair_auc".to_owned(),
            rounded(way.trial.figures.pair_auc),
        ),
        (
            "int8_same_peak".to_owned(),
            rounded(way.trial.figures.same_peak),
        ),
    ]);
    if let Some(clips) = way.trial.figures.clip_auc {
        scores.insert("int8_rendered_auc".to_owned(), rounded(clips));
    }
    let out = arguments.out.as_ref().unwrap_or(&arguments.bundle);
    let [template, search] = <[Vec<u8>; 2]>::try_from(way.graphs)
        .map_err(|g| anyhow::anyhow!("{} graphs, expected 2", g.len()))?;
    bundle::write_int8(
        files,
        [template, search],
        scores,
        ("QUANTISATION.md", &report),
        out,
    )?;
    log::info!("{}: int8 graphs by {}", out.display(), way.trial.name);
    Ok(())
}

fn rounded(score: f64) -> f64 {
    (score * 1e4).round() / 1e4
}

fn tell(name: &str, f: &Figures) {
    let clips = f.clip_auc.map_or("-".to_owned(), |v| format!("{v:.4}"));
    log::info!(
        "{name}: auc pairs {:.4}, clips {clips}; same peak {:.3}, overlap {:.4}, presence moved {:.4}",
        f.pair_auc,
        f.same_peak,
        f.overlap,
        f.presence_moved
    );
}

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
fn print(report: &str) {
    println!("{report}");
}

fn bar(arguments: &QuantiseArguments, steps: u64, message: &'static str) -> indicatif::ProgressBar {
    let bar = match arguments.quiet {
        true => indicatif::ProgressBar::hidden(),
        false => indicatif::ProgressBar::new(steps),
    };
    bar.with_message(message)
}

/// A folder that goes when the command ends.
struct Folder(PathBuf);

impl Folder {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tempfile_folder() -> Result<Folder> {
    let path = std::env::temp_dir().join(format!("roadhound-quantise-{}", std::process::id()));
    std::fs::create_dir_all(&path).with_context(|| format!("{}", path.display()))?;
    Ok(Folder(path))
}

/// Renders both regions below `folder`; returns the folders.
fn rendered(
    arguments: &QuantiseArguments,
    folder: &Path,
    layout: render::Layout,
    seed: u64,
) -> Result<Vec<PathBuf>> {
    let sequences = arguments.drives.div_ceil(2);
    if sequences == 0 {
        return Ok(Vec::new());
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut folders = Vec::new();
    for region in [Region::Us, Region::India] {
        let mut world = WorldConfig::of(region);
        (world.fps, world.frames) = (10.0, 40);
        let out = folder.join(format!("{layout:?}-{}", region.name()));
        let job = RenderJob {
            world,
            seed,
            sequences,
            threads,
            out: out.clone(),
            layout,
            sheet_cells: 0,
        };
        job.run(|_| {})?;
        folders.push(out);
    }
    Ok(folders)
}

fn clips(arguments: &QuantiseArguments, folder: &Path) -> Result<Vec<Run>> {
    let mut clips = Vec::new();
    for folder in rendered(arguments, folder, render::Layout::Sequences, CHOICE_SEED)? {
        clips.extend(Layout::Auto.load_runs(&folder)?);
    }
    Ok(clips)
}

/// Pairs to calibrate on, real and rendered, and pairs that no training saw.
fn pairs(arguments: &QuantiseArguments, folder: &Path) -> Result<(Vec<Pair>, Vec<Pair>)> {
    let run = load(&arguments.config, arguments.data.as_ref())?;
    let dataset = Arc::new(Dataset::open(&run.data)?);
    let train = sampler(&run, &dataset, Split::Train)?;
    let rendered_count = match arguments.drives {
        0 => 0,
        _ => arguments.calibration / 3,
    };
    let mut calibration = drawn(&train, (arguments.calibration - rendered_count) as u64)?;
    if rendered_count > 0 {
        calibration.extend(rendered_pairs(arguments, &run, folder, rendered_count)?);
    }
    ensure!(
        !calibration.is_empty(),
        "--calibration 0: there is nothing to calibrate on"
    );
    let held_out = sampler(&run, &dataset, Split::Validation)?;
    let held_out = drawn(&held_out, arguments.pairs)?;
    ensure!(
        !held_out.is_empty(),
        "--pairs 0: there is nothing to choose by"
    );
    // Real and rendered ones in turn, so that the first few are of both kinds.
    let real = calibration.len() - rendered_count;
    let later = calibration.split_off(real);
    let step = (real / later.len().max(1)).max(1);
    let (mut later, mut mixed) = (later.into_iter(), Vec::new());
    for (at, pair) in calibration.into_iter().enumerate() {
        mixed.push(pair);
        if at % step == step - 1 {
            mixed.extend(later.next());
        }
    }
    mixed.extend(later);
    Ok((mixed, held_out))
}

fn rendered_pairs(
    arguments: &QuantiseArguments,
    run: &TrackerRun,
    folder: &Path,
    count: usize,
) -> Result<Vec<Pair>> {
    let packs = rendered(arguments, folder, render::Layout::Pack, CALIBRATION_SEED)?;
    let pack = |path: &PathBuf| PackConfig {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        kind: PackKind::Video,
        weight: 1.0,
        path: None,
        held_out: Some(Vec::new()),
        fixed_camera_prefixes: Vec::new(),
        read: ReadConfig::default(),
    };
    let data = DataConfig {
        root: folder.to_owned(),
        packs: packs.iter().map(pack).collect(),
        ..run.data.clone()
    };
    let dataset = Arc::new(Dataset::open(&data)?);
    let sampler = Sampler::new(
        dataset,
        run.sampler.clone(),
        run.augment.clone(),
        Split::Train,
        CALIBRATION_SEED,
    )?;
    drawn(&sampler, count as u64)
}

fn drawn(sampler: &Sampler, count: u64) -> Result<Vec<Pair>> {
    let mut scratch = SamplerScratch::default();
    let pairs = (0..count).map(|number| Ok(sampler.draw_number(number, &mut scratch)?));
    pairs.collect()
}
