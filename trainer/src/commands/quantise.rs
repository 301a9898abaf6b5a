//! `roadhound-train quantise`: adds int8 graphs to a bundle, or writes those of any other graph.
//!
//! One path for all: `follow`, `propose` and `graphs` say what graphs see and what is measured of them, the library's
//! `Search` does the rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use roadhound_shared::world::{Region, WorldConfig};
use roadhound_trainer::config::TrackerRun;
use roadhound_trainer::data::{DataConfig, Dataset, PackConfig, PackKind, ReadConfig};
use roadhound_trainer::export::bundle::{self, BundleFiles};
use roadhound_trainer::quantise::observe::Observer;
use roadhound_trainer::quantise::report::Figures;
use roadhound_trainer::render::{self, RenderJob};
use roadhound_trainer::sampler::Pair;
use tempfile::TempDir;

mod follow;
mod graphs;
mod propose;

pub(super) use follow::drawn;

/// Seed of the drives that graphs are calibrated on.
const CALIBRATION_SEED: u64 = 0x0071_6e74;
/// Seed of the drives that ways are chosen by: others.
const CHOICE_SEED: u64 = 0x6368_6f69;
/// Samples that biases are corrected on: each layer runs them again.
const CORRECTION_SAMPLES: usize = 16;
/// Samples that noise is measured on.
const NOISE_SAMPLES: usize = 32;

/// A part of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The two graphs that follow.
    Follow,
    /// The one that finds road users.
    Propose,
}

#[derive(clap::Args)]
pub(crate) struct QuantiseArguments {
    /// Bundle with f32 graphs.
    #[arg(long, default_value = "edge/models/roadhound-s")]
    bundle: PathBuf,
    /// Quantise this part of the bundle alone and leave the other as it is; without it, all that the bundle has.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// An f32 graph that stands for itself, instead of a bundle; repeatable, in the order in which they need each other:
    /// an input that has the name of an earlier graph's output is fed by it.
    #[arg(long = "graph", value_name = "FILE", requires = "samples", conflicts_with_all = ["bundle", "only", "config", "data", "drives", "frames"])]
    graphs: Vec<PathBuf>,
    /// What those graphs see: an idx file, an npz archive, a CSV table, or a folder of folders of pictures.
    #[arg(long, value_name = "PATH", requires = "graphs")]
    samples: Option<PathBuf>,
    /// Array of the npz archive.
    #[arg(long, value_name = "NAME", requires = "samples")]
    array: Option<String>,
    /// Training configuration: names the packs that crops and frames come from.
    #[arg(long, default_value = "configs/roadhound-s-5.toml")]
    config: PathBuf,
    /// Folder of the packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder of the new bundle, instead of the old one's. Of one graph, the new file, instead of NAME.int8.onnx beside it;
    /// of several, their folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Pairs of crops, frames or samples to calibrate on; of crops and frames two thirds from the packs, the rest rendered.
    #[arg(long, default_value_t = 192)]
    calibration: usize,
    /// Held-out pairs, or samples, to choose by.
    #[arg(long, default_value_t = 480)]
    pairs: u64,
    /// Held-out frames to choose by, half of them rendered.
    #[arg(long, default_value_t = 160)]
    frames: usize,
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

pub(crate) fn quantise(arguments: &QuantiseArguments) -> Result<()> {
    if let (false, Some(samples)) = (arguments.graphs.is_empty(), &arguments.samples) {
        return graphs::quantise(arguments, samples);
    }
    let mut files = bundle::read(&arguments.bundle)?;
    let has_proposals = files.propose.is_some();
    if arguments.only == Some(Part::Propose) && !has_proposals {
        bail!(
            "{}: --only propose: the bundle has no propose.onnx",
            arguments.bundle.display()
        );
    }
    let rendered = Rendered::new(arguments)?;
    let mut reports = Vec::new();
    if arguments.only != Some(Part::Propose) {
        let report = follow::quantise(arguments, &rendered, &mut files)?;
        reports.push(("QUANTISATION.md", report));
    }
    if arguments.only != Some(Part::Follow) && has_proposals {
        let report = propose::quantise(arguments, &rendered, &mut files)?;
        reports.push(("QUANTISATION.propose.md", report));
    }
    for (_, report) in &reports {
        print(report);
    }
    let out = arguments.out.as_ref().unwrap_or(&arguments.bundle);
    bundle::write_quantised(files, &reports, out)?;
    log::info!("{}: written", out.display());
    Ok(())
}

/// Gives the bundle in a folder int8 graphs to follow with: ranges from `calibration`, ways chosen by `held_out`.
pub(super) fn quantise_follow(
    folder: &Path,
    calibration: Vec<Pair>,
    held_out: Vec<Pair>,
    quiet: bool,
) -> Result<()> {
    let mut files = bundle::read(folder)?;
    let bar = |steps, message| match quiet {
        true => ProgressBar::hidden().with_message(message),
        false => ProgressBar::new(steps).with_message(message),
    };
    let inputs = follow::Inputs {
        bundle: folder,
        calibration,
        held_out,
        clips: Vec::new(),
        observers: &[Observer::Mse, Observer::Percentile(99.99)],
        bar: &bar,
    };
    let report = follow::quantise_by(inputs, &mut files)?;
    bundle::write_quantised(files, &[("QUANTISATION.md", report)], folder)?;
    Ok(())
}

/// Puts scores on a bundle's card, to four digits.
fn add_scores<'a>(files: &mut BundleFiles, scores: impl IntoIterator<Item = (&'a str, f64)>) {
    for (name, score) in scores {
        let score = (score * 1e4).round() / 1e4;
        files.manifest.scores.insert(name.to_owned(), score);
    }
}

fn tell(figures: &Figures) {
    log::info!("f32: {}", figures.line());
}

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
fn print(report: &str) {
    println!("{report}");
}

impl QuantiseArguments {
    fn bar(&self, steps: u64, message: &'static str) -> ProgressBar {
        let bar = match self.quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(steps),
        };
        bar.with_message(message)
    }

    /// How many of the calibration samples are rendered, and how many are not.
    fn shares(&self) -> (usize, usize) {
        let rendered = match self.drives {
            0 => 0,
            _ => self.calibration / 3,
        };
        (rendered, self.calibration - rendered)
    }
}

/// Real and rendered samples in turn, so that the first few are of both kinds.
fn in_turn<T>(real: Vec<T>, rendered: Vec<T>) -> Vec<T> {
    let step = (real.len() / rendered.len().max(1)).max(1);
    let (mut later, mut mixed) = (rendered.into_iter(), Vec::new());
    for (at, sample) in real.into_iter().enumerate() {
        mixed.push(sample);
        if at % step == step - 1 {
            mixed.extend(later.next());
        }
    }
    mixed.extend(later);
    mixed
}

/// Rendered drives, in a folder that goes when the command ends.
struct Rendered<'a> {
    arguments: &'a QuantiseArguments,
    folder: TempDir,
}

impl<'a> Rendered<'a> {
    fn new(arguments: &'a QuantiseArguments) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        Ok(Self { arguments, folder })
    }

    /// Drives of both regions; the folders. What has been rendered is not rendered again.
    fn drives(&self, layout: render::Layout, seed: u64) -> Result<Vec<PathBuf>> {
        let sequences = self.arguments.drives.div_ceil(2);
        if sequences == 0 {
            return Ok(Vec::new());
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut folders = Vec::new();
        for region in [Region::Us, Region::India] {
            let mut world = WorldConfig::of(region);
            (world.fps, world.frames) = (10.0, 40);
            let name = format!("{layout:?}-{seed:x}-{}", region.name());
            let out = self.folder.path().join(name);
            folders.push(out.clone());
            if out.is_dir() {
                continue;
            }
            let job = RenderJob {
                world,
                seed,
                sequences,
                threads,
                out,
                layout,
                sheet_cells: 0,
            };
            job.run(|_| {})?;
        }
        Ok(folders)
    }

    /// Drives as packs of which nothing is held out.
    fn dataset(&self, run: &TrackerRun, seed: u64) -> Result<Arc<Dataset>> {
        let packs = self.drives(render::Layout::Pack, seed)?;
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
            root: self.folder.path().to_owned(),
            packs: packs.iter().map(pack).collect(),
            ..run.data.clone()
        };
        Ok(Arc::new(Dataset::open(&data)?))
    }
}
