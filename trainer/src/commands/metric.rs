//! `roadhound-train metric`: learns a Mahalanobis distance, scores it beside the others, and writes L and M.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::export::package::Package;
use roadhound_trainer::labelled::Samples;
use roadhound_trainer::metric::MetricRun;
use roadhound_trainer::metric::export::{graph, matrices};
use roadhound_trainer::metric::pairs::PairSets;
use roadhound_trainer::metric::study::Study;
use roadhound_trainer::ops::DeviceChoice;
use roadhound_trainer::systems::System;
use roadhound_trainer::{report, run_log};

use super::{STOP, parse_threads, set_out, system};

#[derive(clap::Args)]
pub(crate) struct MetricArguments {
    /// TOML file; every key has a default.
    #[arg(long)]
    config: PathBuf,
    /// Folder for the report, the logs and the model; what an earlier run left there is replaced.
    #[arg(long)]
    out: PathBuf,
    /// Folder that the configuration's data paths are relative to, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Threads of the arithmetic.
    #[arg(long, default_value = "2", value_parser = parse_threads)]
    threads: usize,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
}

pub(crate) fn metric(arguments: &MetricArguments) -> Result<()> {
    let mut run = MetricRun::load(&arguments.config)?;
    if let Some(root) = &arguments.data {
        run.data.root.clone_from(root);
    }
    set_out(arguments.threads)?;
    let samples = run.data.open_train()?;
    let pairs = match &run.pairs {
        Some(path) => Some(PairSets::read(&run.data.root.join(path), samples.len())?),
        None => None,
    };
    if pairs.is_some() && !run.learner.takes_pairs() {
        bail!(
            "pairs is set, but {} learns from classes",
            run.learner.name()
        );
    }
    let out = &arguments.out;
    let values = (samples.shape().len() * samples.shape().len()) as u64;
    let device = DeviceChoice::Cpu;
    // Before anything is learned, as it may be refused; the logs of an older run go when there are new ones.
    system::begin(out, System::Metric, &run, run.seed, values, 0, device)?;
    let study = learn(&run, &samples, pairs.as_ref(), arguments.quiet)?;
    for log in ["losses.csv", "validation.csv"] {
        let stale = out.join(log);
        if stale.exists() {
            std::fs::remove_file(&stale).with_context(|| format!("{}", stale.display()))?;
        }
    }

    for (step, value) in &study.curve {
        let line = format!("{step},{},{value:.9}", step * samples.len() as u64);
        run_log::append_csv(&out.join("losses.csv"), "step,samples,objective", &line)?;
    }
    report::panels::write(out, &study.panels(&run, &samples))?;
    let config_sha256 = run.hash()?;
    let metadata = [("config_sha256", config_sha256.as_str())];
    let scores = study
        .scores
        .iter()
        .map(|score| (format!("accuracy_{}", score.learner), score.median()));
    let package = Package {
        system: System::Metric,
        graphs: vec![graph(&study.fitted, &samples, &metadata)],
        others: matrices(&study.fitted)?,
        scores: scores.collect::<BTreeMap<_, _>>(),
        config_sha256,
    };
    package.write(&out.join(system::MODEL_FOLDER))?;
    report::refresh(out)?;
    for score in &study.scores {
        log::info!(
            "{}: {:.2} % right (median of {} repeats), smallest eigenvalue {:.1e}",
            score.learner,
            100.0 * score.median(),
            score.accuracies.len(),
            score.smallest_eigenvalue
        );
    }
    log::info!("{}", out.join(report::REPORT_FILE).display());
    Ok(())
}

fn learn(
    run: &MetricRun,
    samples: &Samples,
    pairs: Option<&PairSets>,
    quiet: bool,
) -> Result<Study> {
    let parts =
        Study::learners(run).len() as u64 * run.evaluate.repeats * run.evaluate.folds as u64;
    let bar = match quiet {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(parts),
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} parts, {eta} left, {msg}")
    {
        bar.set_style(style);
    }
    let study = Study::of(run, samples, pairs, &|| bar.inc(1), &mut |step, value| {
        bar.set_message(format!("step {step}, objective {value:.4}"));
        !STOP.load(Ordering::Relaxed)
    })?;
    bar.finish_and_clear();
    if STOP.load(Ordering::Relaxed) {
        bail!("stopped; nothing was learned");
    }
    Ok(study)
}
