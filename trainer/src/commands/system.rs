//! What the commands of the learning systems have in common.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::epochs::EpochsConfig;
use roadhound_trainer::export::package::Package;
use roadhound_trainer::ops::DeviceChoice;
use roadhound_trainer::optim::OptimConfig;
use roadhound_trainer::outputs;
use roadhound_trainer::report::facts::{FACTS_FILE, Facts, commit};
use roadhound_trainer::report::{self, panels};
use roadhound_trainer::systems::System;
use roadhound_trainer::task::Task;
use roadhound_trainer::train_loop::{LoopConfig, Outcome, Run, goes_on_from};

use super::{STOP, parse_threads};

/// Where the saved model lies in a run's folder.
pub(super) const MODEL_FOLDER: &str = "model";

/// Refuses a folder that holds something and is not that of a run of this system: what a run replaces has to be its own.
pub(super) fn check_own(out: &Path, system: System) -> Result<()> {
    let shown = || format!("{}", out.display());
    let mut entries = match std::fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(shown),
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let facts = std::fs::read(out.join(FACTS_FILE)).ok();
    let facts: Option<Facts> = facts.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if facts.is_none_or(|facts| facts.system != system) {
        bail!(
            "{}: holds other things than a run of this kind; give --out another folder",
            out.display()
        );
    }
    Ok(())
}

/// Writes what is known before a run starts: `config.toml` and `facts.json`. The folder of another run is refused.
pub(super) fn begin(
    out: &Path,
    system: System,
    run: &impl SystemConfig,
    seed: u64,
    parameters: u64,
    samples_in_all: u64,
    device: DeviceChoice,
) -> Result<()> {
    let config_toml = run.to_toml()?;
    goes_on_from(out, &config_toml)?;
    std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
    outputs::file(&out.join("config.toml"), config_toml)?;
    let here = std::env::current_dir().ok();
    let facts = Facts {
        system,
        samples_in_all,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: here.and_then(|folder| commit(&folder)),
        seed,
        config_sha256: run.hash()?,
        device: device.to_string(),
        parameters,
        ..Facts::default()
    };
    outputs::file(&out.join(FACTS_FILE), serde_json::to_vec_pretty(&facts)?)
}

/// Arguments of the systems that are trained by the train loop.
#[derive(Clone, clap::Args)]
pub(crate) struct LearnArguments {
    /// TOML file; every key has a default.
    #[arg(long)]
    pub(super) config: PathBuf,
    /// Folder for checkpoints, logs, report and model; a stopped run goes on there.
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Folder that the configuration's data paths are relative to, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Everything random follows from it, instead of the configuration's.
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(super) seed: Option<u64>,
    /// As long as the published runs: `train.full_epochs` instead of `train.epochs`.
    #[arg(long)]
    full: bool,
    /// Threads of the arithmetic.
    #[arg(long, default_value = "1", value_parser = parse_threads)]
    pub(super) threads: usize,
    /// Where the network is computed: `cpu` or `cuda:0`.
    #[arg(long, default_value = "cpu")]
    pub(super) device: DeviceChoice,
    /// No progress bar.
    #[arg(long)]
    pub(super) quiet: bool,
}

/// How training ended.
pub(super) enum Learned {
    /// With these figures of the last, averaged weights, which the task now has.
    Finished {
        /// By name.
        figures: Vec<(&'static str, f64)>,
    },
    /// By Ctrl-C; the same command goes on.
    Stopped,
}

impl LearnArguments {
    /// Puts the arguments in the place of what the configuration says.
    pub(super) fn apply(&self, seed: &mut u64, root: &mut PathBuf, train: &mut EpochsConfig) {
        if let Some(value) = self.seed {
            *seed = value;
        }
        if let Some(value) = &self.data {
            root.clone_from(value);
        }
        if self.full {
            train.epochs = train.full_epochs;
        }
    }

    /// Writes what is known before the run starts.
    pub(super) fn begin(
        &self,
        system: System,
        run: &impl SystemConfig,
        seed: u64,
        parameters: u64,
        config: &LoopConfig,
    ) -> Result<()> {
        let samples = config.steps() * config.batch as u64;
        log::info!(
            "{}: {:.2} M parameters, {} steps of {} samples",
            system.title(),
            parameters as f64 / 1e6,
            config.steps(),
            config.batch
        );
        begin(
            &self.out,
            system,
            run,
            seed,
            parameters,
            samples,
            self.device,
        )
    }

    /// Trains, or goes on; then scores the averaged weights of the last step.
    pub(super) fn learn<T: Task, I>(
        &self,
        task: &mut T,
        config: LoopConfig,
        optim: &OptimConfig,
        run: &impl SystemConfig,
        batches: impl FnOnce(u64) -> Result<I>,
    ) -> Result<Learned>
    where
        I: Iterator<Item = Result<T::Batch>>,
    {
        let training = Run {
            folder: self.out.clone(),
            config,
            optim: optim.clone(),
            config_toml: run.to_toml()?,
            stop: &STOP,
            quiet: self.quiet,
        };
        if training.train(task, batches)? == Outcome::Stopped {
            log::info!(
                "stopped; the same command goes on from {}",
                training.last().display()
            );
            return Ok(Learned::Stopped);
        }
        // Nothing is chosen by the figures: they are those of the last weights, not of the best ones.
        let last = Checkpoint::load(&training.last())?;
        let figures = task.validate(&last.average)?;
        panels::write(&self.out, &task.panels(&self.out)?)?;
        Ok(Learned::Finished { figures })
    }

    /// Writes the model and the report.
    pub(super) fn finish(&self, package: Package, figures: &[(&'static str, f64)]) -> Result<()> {
        package.write(&self.out.join(MODEL_FOLDER))?;
        report::refresh(&self.out)?;
        let shown: Vec<String> = figures.iter().map(|(n, v)| format!("{n} {v:.4}")).collect();
        log::info!("last weights: {}", shown.join(", "));
        log::info!("{}", self.out.join(report::REPORT_FILE).display());
        Ok(())
    }
}

/// Figures as a model's card has them: without those that are not numbers.
pub(super) fn scores(figures: &[(&'static str, f64)]) -> BTreeMap<String, f64> {
    let known = figures.iter().filter(|(_, value)| value.is_finite());
    known
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
}
