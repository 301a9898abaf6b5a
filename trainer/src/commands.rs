//! What the subcommands do: files and the clock are touched here, the rest is in the library. A file each, its arguments
//! beside it; what several of them need is below.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use roadhound_shared::tracker::TrackerConfig;
use roadhound_trainer::config::{SystemConfig, TrackerRun};
use roadhound_trainer::data::Dataset;
use roadhound_trainer::network::network_of;
use roadhound_trainer::sampler::{Sampler, Split};

mod ablate;
mod adapt;
mod autoencoder;
mod dann;
mod disentangle;
mod evaluate;
mod evaluate_many;
mod export;
mod familiarity;
mod gan;
mod gap;
mod held_out;
mod metric;
mod propose;
mod quantise;
mod render;
mod report;
mod samples;
mod siamese;
mod statistics;
mod system;
mod tracker;
mod tune;
mod tune_looks;
mod tune_scores;

pub(crate) use ablate::{AblateArguments, ablate};
pub(crate) use adapt::{AdaptArguments, adapt};
pub(crate) use autoencoder::autoencoder;
pub(crate) use dann::{DannArguments, dann};
pub(crate) use disentangle::disentangle;
pub(crate) use evaluate::{EvaluateArguments, evaluate};
pub(crate) use export::{ExportArguments, export};
pub(crate) use familiarity::{FamiliarityArguments, familiarity};
pub(crate) use gan::gan;
pub(crate) use gap::{GapArguments, gap};
pub(crate) use metric::{MetricArguments, metric};
pub(crate) use propose::{ProposeArguments, propose};
pub(crate) use quantise::{QuantiseArguments, quantise};
pub(crate) use render::{RenderArguments, render};
pub(crate) use report::{ReportArguments, report};
pub(crate) use samples::{SamplesArguments, samples};
pub(crate) use siamese::siamese;
pub(crate) use statistics::{StatisticsArguments, statistics};
pub(crate) use system::LearnArguments;
pub(crate) use tracker::{TrackerArguments, tracker};
pub(crate) use tune::{TuneArguments, tune};
pub(crate) use tune_looks::{TuneLooksArguments, tune_looks};
pub(crate) use tune_scores::{TuneScoresArguments, tune_scores};

/// Set by Ctrl-C: whoever trains ends after the step at hand.
static STOP: AtomicBool = AtomicBool::new(false);

/// Threads of the arithmetic and Ctrl-C, once a process.
fn set_out(threads: usize) -> Result<()> {
    roadhound_trainer::ops::set_candle_threads(threads);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .context("the thread pool cannot be made")?;
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).context("Ctrl-C cannot be handled")
}

/// `--threads`: as many as a configuration may ask for.
fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(threads @ 1..=4096) => Ok(threads),
        _ => Err("expected 1 to 4096".into()),
    }
}

fn load(config: &Path, data: Option<&PathBuf>) -> Result<TrackerRun> {
    let mut run = TrackerRun::load(config)?;
    if let Some(root) = data {
        run.data.root.clone_from(root);
    }
    Ok(run)
}

fn sampler(run: &TrackerRun, dataset: &Arc<Dataset>, split: Split) -> Result<Sampler> {
    Ok(Sampler::new(
        dataset.clone(),
        run.sampler.clone(),
        run.augment.clone(),
        split,
        split.seed_of(run.seed),
    )?)
}

/// Constants of the tracker: `base`, with the file's keys over them.
fn tracker_config(base: TrackerConfig, path: Option<&PathBuf>) -> Result<TrackerConfig> {
    let Some(path) = path else { return Ok(base) };
    let shown = || format!("{}", path.display());
    let text = std::fs::read_to_string(path).with_context(shown)?;
    base.overridden(&text).with_context(shown)
}
