//! `roadhound-train evaluate`: follows annotated clips and scores them; `--mot` scores results of many objects.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use roadhound_host::apart::{Read, Written, clash};
use roadhound_shared::tracker::TrackerConfig;
use roadhound_trainer::calibrate::Reliability;
use roadhound_trainer::data::Dataset;
use roadhound_trainer::data::layout::Layout;
use roadhound_trainer::evaluate::{self, TimedRun};
use roadhound_trainer::export::bundle::{self, GraphPrecision};
use roadhound_trainer::many::ManyRules;
use roadhound_trainer::outputs;
use roadhound_trainer::sampler::{SamplerScratch, Split};

use super::evaluate_many::evaluate_many;
use super::held_out::held_out_runs;
use super::{load, network_of, sampler, tracker_config};

#[derive(clap::Args)]
pub(crate) struct EvaluateArguments {
    /// Bundle (a folder) or checkpoint (a file).
    #[arg(long, required_unless_present = "mot")]
    model: Option<PathBuf>,
    /// Instead of following anything: score these results of many objects, a folder or a file; with --truth.
    #[arg(long, value_name = "RESULTS", requires = "truth", conflicts_with_all = ["model", "sequences", "held_out"])]
    mot: Option<PathBuf>,
    /// Truth of --mot: a folder in the layout of MOTChallenge or KITTI, or a file.
    #[arg(long, requires = "mot")]
    truth: Option<PathBuf>,
    /// Whose layout and rules --mot goes by, instead of what the truth looks like.
    #[arg(long, value_enum, requires = "mot")]
    rules: Option<ManyRules>,
    /// Which graphs of the bundle.
    #[arg(long, value_enum, default_value_t)]
    precision: GraphPrecision,
    /// Folder of annotated sequences.
    #[arg(
        long,
        required_unless_present_any = ["held_out", "mot"],
        conflicts_with = "held_out"
    )]
    sequences: Option<PathBuf>,
    /// Data set that the sequences are laid out as.
    #[arg(long, value_enum, default_value_t = Layout::Auto)]
    layout: Layout,
    /// Follow the held-out videos of this training configuration instead.
    #[arg(long, value_name = "CONFIG")]
    held_out: Option<PathBuf>,
    /// Also score this many held-out pairs, behind those that the bundle's presence was fitted to; with --held-out.
    #[arg(long, default_value_t = 0, conflicts_with = "sequences")]
    pairs: u64,
    /// Folder of the training packs, instead of the configuration's; with --held-out.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Constants of the tracker: TOML over those of the bundle.
    #[arg(long)]
    tracker: Option<PathBuf>,
    /// Only runs whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Draw the reliability diagram of presence, as PNG.
    #[arg(long)]
    reliability: Option<PathBuf>,
    /// Frames a second, instead of what the recordings say.
    #[arg(long, allow_hyphen_values = true, value_parser = parse_fps)]
    fps: Option<f64>,
    /// Write the table as CSV.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Write one result file a run into this folder.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Draw contact sheets of the worst runs into this folder.
    #[arg(long)]
    sheets: Option<PathBuf>,
    /// How many of them.
    #[arg(long, default_value_t = 4)]
    worst: usize,
}

/// Figures are not written over what they are computed from.
fn check_apart(arguments: &EvaluateArguments) -> Result<()> {
    let written = [
        ("--csv", &arguments.csv),
        ("--reliability", &arguments.reliability),
    ];
    let read = [
        ("--model", &arguments.model),
        ("--mot", &arguments.mot),
        ("--truth", &arguments.truth),
        ("--held-out", &arguments.held_out),
        ("--tracker", &arguments.tracker),
    ];
    let written = written.into_iter().filter_map(|(name, path)| {
        let path = path.as_deref()?;
        Some(Written { name, path })
    });
    let read = read.into_iter().filter_map(|(name, path)| {
        let (path, holds) = (path.as_deref()?, &["toml", "onnx", "json", "txt"]);
        Some(Read { name, path, holds })
    });
    let (written, read): (Vec<_>, Vec<_>) = (written.collect(), read.collect());
    clash(&written, &read).map_or(Ok(()), |found| bail!("{found}"))
}

pub(crate) fn evaluate(arguments: &EvaluateArguments) -> Result<()> {
    check_apart(arguments)?;
    if let (Some(results), Some(truth)) = (&arguments.mot, &arguments.truth) {
        return evaluate_many(results, truth, arguments.rules, arguments.csv.as_deref());
    }
    let Some(model) = &arguments.model else {
        bail!("give --model or --mot");
    };
    let (mut runs, source) = match (&arguments.sequences, &arguments.held_out) {
        (Some(root), _) => {
            let runs = arguments.layout.load_runs(root)?.into_iter();
            (runs.map(TimedRun::from).collect(), root)
        }
        (None, Some(config)) => (held_out_runs(config, arguments.data.as_ref())?, config),
        (None, None) => bail!("give --sequences or --held-out"),
    };
    runs.retain(|timed| timed.run.name.contains(&arguments.only));
    if runs.is_empty() && arguments.pairs == 0 {
        bail!("{}: no runs to follow", source.display());
    }
    let (mut network, contract, tracker, fitted) = if model.is_dir() {
        let (network, manifest) = bundle::load(model, arguments.precision)?;
        let fitted = manifest.calibration.map_or(0, |c| c.pairs);
        (network, manifest.follow, manifest.tracker, fitted)
    } else {
        if arguments.precision == GraphPrecision::Int8 {
            bail!(
                "{}: --precision int8: a checkpoint has no int8 graphs; export and quantise it first",
                model.display()
            );
        }
        let (net, ..) = network_of(model)?;
        let (network, contract) = bundle::graphs_of(&net)?;
        (network, contract, TrackerConfig::default(), 0)
    };
    let tracker = tracker_config(tracker, arguments.tracker.as_ref())?;
    if let (Some(config), 1..) = (&arguments.held_out, arguments.pairs) {
        let run = load(config, arguments.data.as_ref())?;
        let dataset = Arc::new(Dataset::open(&run.data)?);
        let held_out = sampler(&run, &dataset, Split::Validation)?;
        let mut scratch = SamplerScratch::default();
        // Presence was fitted to the first ones when the bundle was exported: it would be measured by its own measure.
        let numbers = fitted..fitted.saturating_add(arguments.pairs);
        let pairs = numbers.map(|number| held_out.draw_number(number, &mut scratch));
        let figures = evaluate::pairs(&mut network, &contract, pairs)?;
        print_pairs(&figures, fitted);
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
fn print_pairs(figures: &evaluate::PairFigures, fitted: u64) {
    let ranked = figures.presence_roc_auc;
    println!(
        "{} held-out pairs{}: auc {:.3}, presence ROC-AUC {}",
        figures.pairs,
        match fitted {
            0 => String::new(),
            _ => format!(" behind the {fitted} that presence was fitted to"),
        },
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

fn parse_fps(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(fps) if fps.is_finite() && fps > 0.0 => Ok(fps),
        _ => Err("expected a positive number".into()),
    }
}
