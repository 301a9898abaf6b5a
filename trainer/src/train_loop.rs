//! The loop that every task is trained by.
//!
//! In: a [`Task`], a source of batches, a run folder. Out, in the run folder:
//!
//! | file | what |
//! |---|---|
//! | `config.toml` | the resolved configuration, written before the first step |
//! | `losses.csv` | one line per logging interval: step, pairs (or samples), rate, gradient norm, loss parts, speed, loader share |
//! | `validation.csv` | figures of the averaged weights on held-out data |
//! | `calibration.csv` | presence at the last validation: bins with predicted and true share |
//! | `last.safetensors`, `best.safetensors` | checkpoints, replaced atomically |
//! | `panels.json` | what a task shows beside its curves ([`crate::report::panels`]) |
//! | `bad_batch.png` | the batch that gave a loss that is not a number, if one did |
//! | `report.html` | a page that shows all this, rewritten after each validation ([`crate::report`]) |
//!
//! A run that is stopped (Ctrl-C, power cut) and resumed gives the weights of an uninterrupted one, to the bit:
//! every random choice is a function of the seed and of the step.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::descent::Descent;
use crate::optim::{AdamW, OptimConfig};
use crate::outputs;
use crate::params::Params;
use crate::report::panels;
use crate::run_log::{append_csv, best_of, drop_torn_line, rewind_log};
use crate::task::{Task, Turn};

/// The newest checkpoint in a run's folder.
const LAST_FILE: &str = "last.safetensors";

/// Length and rhythm of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoopConfig {
    /// Pairs to train on, in all.
    pub pairs: u64,
    /// Pairs per step.
    pub batch: usize,
    /// Steps between lines of the loss log.
    pub log_every: u64,
    /// Steps between validations.
    pub validate_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Decay of the weights' moving average, reached gradually.
    pub average_keep: f64,
    /// Share of the steps, at the end, over which normalisation is held constant.
    pub freeze_norm_share: f64,
    /// Share of the steps, at the end, in which the network computes as its int8 graphs will: quantisation-aware
    /// fine-tuning. A tenth is usual; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub quantised_share: f64,
}

impl Default for LoopConfig {
    fn default() -> Self {
        Self {
            pairs: 120_000,
            batch: 24,
            log_every: 20,
            validate_every: 500,
            checkpoint_every: 200,
            average_keep: 0.998,
            freeze_norm_share: 0.1,
            quantised_share: 0.0,
        }
    }
}

/// A share of nothing is not written: configurations from before it was known keep their digest.
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl LoopConfig {
    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.pairs.div_ceil(self.batch.max(1) as u64)
    }

    /// Whether normalisation is held constant at `step`.
    pub fn norm_is_frozen_at(&self, step: u64) -> bool {
        self.is_in_last(self.freeze_norm_share, step)
    }

    /// Whether the network computes in eight bits at `step`.
    pub fn is_quantised_at(&self, step: u64) -> bool {
        self.is_in_last(self.quantised_share, step)
    }

    fn is_in_last(&self, share: f64, step: u64) -> bool {
        let steps = self.steps() as f64;
        step as f64 >= steps - (steps * share).floor()
    }
}

/// Why the loop returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// The stop flag was raised; the checkpoint is written.
    Stopped,
}

/// What a run is made of.
pub struct Run<'a> {
    /// Where its files go.
    pub folder: PathBuf,
    /// Length and rhythm.
    pub config: LoopConfig,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Resolved configuration, kept with every checkpoint.
    pub config_toml: String,
    /// Raised to ask for a checkpoint and a clean end.
    pub stop: &'a AtomicBool,
    /// No progress bar.
    pub quiet: bool,
}

/// Numbers summed since the last line of the log.
#[derive(Default)]
struct Tally {
    steps: u64,
    parts: Vec<(&'static str, f64)>,
    norm: f64,
    waiting: Duration,
}

impl Tally {
    fn add(&mut self, parts: &[(&'static str, f32)], norm: f64, waiting: Duration) {
        if self.parts.is_empty() {
            self.parts = parts.iter().map(|(name, _)| (*name, 0.0)).collect();
        }
        for ((_, sum), (_, value)) in self.parts.iter_mut().zip(parts) {
            *sum += f64::from(*value);
        }
        self.steps += 1;
        self.norm += norm;
        self.waiting += waiting;
    }
}

/// A figure as the log of validations has it.
fn logged(figure: f64) -> String {
    format!("{figure:.5}")
}

/// What the log tells of a figure. A resumed run knows no more of the best one, so that no run may compare more.
fn as_logged(figure: f64) -> f64 {
    logged(figure).parse().unwrap_or(figure)
}

/// The checkpoint that a run of this configuration goes on from; `None` where it begins. To be asked before anything is
/// written into the folder: it may be that of another run.
///
/// # Errors
/// A checkpoint that cannot be read, or that was made with another configuration.
pub fn goes_on_from(folder: &Path, config_toml: &str) -> Result<Option<Checkpoint>> {
    let path = folder.join(LAST_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let checkpoint = Checkpoint::load(&path)?;
    if checkpoint.config_toml != config_toml {
        bail!(
            "{}: made with another configuration; give --out another folder",
            path.display()
        );
    }
    Ok(Some(checkpoint))
}

impl Run<'_> {
    /// Path of the newest checkpoint.
    pub fn last(&self) -> PathBuf {
        self.folder.join(LAST_FILE)
    }

    /// Trains `task` until all steps are done or the flag is raised. `batches(step)` gives the batches from `step` on.
    pub fn train<T: Task, I>(
        &self,
        task: &mut T,
        batches: impl FnOnce(u64) -> Result<I>,
    ) -> Result<Outcome>
    where
        I: Iterator<Item = Result<T::Batch>>,
    {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("{}", self.folder.display()))?;
        let steps = self.config.steps();
        let players = task.players();
        anyhow::ensure!(!players.is_empty(), "the task has no player: nothing moves");
        let mut adams = vec![AdamW::default(); players.len()];
        let mut average = task.params().snapshot()?;
        let mut step = 0;
        if let Some(checkpoint) = goes_on_from(&self.folder, &self.config_toml)? {
            task.params()
                .restore(&checkpoint.weights)
                .with_context(|| format!("{}", self.last().display()))?;
            (average, step) = (checkpoint.average, checkpoint.step);
            adams = vec![checkpoint.adam];
            adams.extend(checkpoint.other_adams);
            if adams.len() != players.len() {
                bail!(
                    "{}: has {} optimisers, expected {}",
                    self.last().display(),
                    adams.len(),
                    players.len()
                );
            }
            log::info!("resumed at step {step} of {steps}");
        }
        // The first one keeps the average, of all variables.
        let mut descents = Vec::with_capacity(players.len());
        for adam in adams {
            let average = std::mem::take(&mut average);
            descents.push(Descent::new(task.params(), adam, average)?);
        }
        let config_path = self.folder.join("config.toml");
        outputs::file(&config_path, &self.config_toml)?;
        for log in ["losses.csv", "validation.csv"] {
            let path = self.folder.join(log);
            drop_torn_line(&path)
                .and_then(|()| rewind_log(&path, step))
                .with_context(|| format!("{}", path.display()))?;
        }
        self.report();

        let mut batches = batches(step)?;
        let bar = self.progress_bar(task.unit(), steps, step);
        let (figure, sign) = task.best_by().column_and_sign();
        let mut best = best_of(&self.folder.join("validation.csv"), figure, sign)?;
        let mut tally = Tally::default();
        let mut since = Instant::now();
        while step < steps {
            let waited = Instant::now();
            let batch = batches
                .next()
                .context("the batches ended before the run did")??;
            let waiting = waited.elapsed();
            task.freeze_norm(self.config.norm_is_frozen_at(step));
            task.quantise(self.config.is_quantised_at(step));
            let rate = self.optim.rate_at(step, steps);
            let (mut parts, mut norms, mut total) = (Vec::new(), 0f64, 0.0);
            for (number, player) in players.iter().enumerate() {
                let turn = task.turn(number, &batch, step)?;
                let sits_out = turn.sits_out();
                let Turn { loss, share } = turn;
                let value = loss.total.to_scalar::<f32>()?;
                let norm = if sits_out {
                    0.0
                } else if value.is_finite() {
                    let gradients = loss.total.backward()?;
                    let rate = rate * player.rate * share;
                    descents[number].step(&player.params, &gradients, rate, &self.optim)?
                } else {
                    f64::NAN
                };
                if !norm.is_finite() {
                    let path = self.folder.join("bad_batch.png");
                    task.save_batch(&batch, &path)?;
                    bail!(
                        "step {step}: the loss or its gradient is not a number ({:?}); batch saved as {}, last good state in {}",
                        loss.parts,
                        path.display(),
                        self.last().display()
                    );
                }
                norms = norms.hypot(norm);
                total += value;
                parts.extend(loss.parts);
            }
            let keep = self
                .config
                .average_keep
                .min((step + 1) as f64 / (step + 11) as f64);
            descents[0].average_towards(task.params(), keep as f32)?;
            step += 1;
            tally.add(&parts, norms, waiting);
            bar.set_position(step * self.config.batch as u64);

            if step % self.config.log_every == 0 || step == steps {
                self.log_losses(task.unit(), step, rate, &tally, since.elapsed())?;
                bar.set_message(format!("loss {total:.2}"));
                tally = Tally::default();
                since = Instant::now();
            }
            let stopping = self.stop.load(Ordering::Relaxed);
            if step % self.config.validate_every == 0 || step == steps {
                let figures = task.validate(&descents[0].average()?)?;
                self.log_validation(task.unit(), step, &figures)?;
                if let Some(csv) = task.calibration_csv() {
                    let path = self.folder.join("calibration.csv");
                    outputs::file(&path, csv)?;
                }
                let shown = task.panels(&self.folder)?;
                if !shown.is_empty() {
                    panels::write(&self.folder, &shown)?;
                }
                self.report();
                let value = figures.iter().find(|(name, _)| *name == figure);
                let value = as_logged(value.map_or(0.0, |(_, v)| *v));
                if best.is_none_or(|best| sign * value > sign * best) {
                    // What is not a number is better than nothing, and every number better than that.
                    best = (!value.is_nan()).then_some(value);
                    let path = self.folder.join("best.safetensors");
                    self.checkpoint(&path, step, task.params(), &descents)?;
                }
                since = Instant::now();
            }
            if step % self.config.checkpoint_every == 0 || step == steps || stopping {
                self.checkpoint(&self.last(), step, task.params(), &descents)?;
            }
            if stopping {
                self.report();
                bar.abandon_with_message("stopped; run the same command to go on");
                return Ok(Outcome::Stopped);
            }
        }
        bar.finish();
        Ok(Outcome::Finished)
    }

    fn checkpoint(
        &self,
        path: &Path,
        step: u64,
        params: &Params,
        descents: &[Descent],
    ) -> Result<()> {
        let mut adams = descents.iter().map(Descent::adam);
        let checkpoint = Checkpoint {
            step,
            weights: params.snapshot()?,
            average: descents[0].average()?,
            adam: adams.next().context("nobody moves")??,
            other_adams: adams.collect::<candle_core::Result<_>>()?,
            config_toml: self.config_toml.clone(),
        };
        Ok(checkpoint.save(path)?)
    }

    /// Rewrites the page that shows the run. A run is worth more than its page: what goes wrong here is only said.
    fn report(&self) {
        if let Err(error) = crate::report::refresh(&self.folder) {
            log::warn!("no report: {error}");
        }
    }

    fn log_losses(
        &self,
        unit: &str,
        step: u64,
        rate: f64,
        tally: &Tally,
        elapsed: Duration,
    ) -> Result<()> {
        let names: Vec<&str> = tally.parts.iter().map(|(name, _)| *name).collect();
        let header = format!(
            "step,{unit},rate,gradient_norm,{},{unit}_per_s,loader_share",
            names.join(",")
        );
        let n = tally.steps.max(1) as f64;
        let values: Vec<String> = tally
            .parts
            .iter()
            .map(|(_, sum)| format!("{:.5}", sum / n))
            .collect();
        let pairs = self.config.batch as u64;
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let line = format!(
            "{step},{},{rate:.3e},{:.4},{},{:.2},{:.4}",
            step * pairs,
            tally.norm / n,
            values.join(","),
            (tally.steps * pairs) as f64 / seconds,
            tally.waiting.as_secs_f64() / seconds
        );
        append_csv(&self.folder.join("losses.csv"), &header, &line)
    }

    fn log_validation(&self, unit: &str, step: u64, figures: &[(&'static str, f64)]) -> Result<()> {
        let names: Vec<&str> = figures.iter().map(|(name, _)| *name).collect();
        let values: Vec<String> = figures.iter().map(|(_, v)| logged(*v)).collect();
        let pairs = step * self.config.batch as u64;
        log::info!(
            "step {step}, {pairs} {unit}: {}",
            figures
                .iter()
                .map(|(n, v)| format!("{n} {v:.3}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        append_csv(
            &self.folder.join("validation.csv"),
            &format!("step,{unit},{}", names.join(",")),
            &format!("{step},{pairs},{}", values.join(",")),
        )
    }

    fn progress_bar(&self, unit: &str, steps: u64, step: u64) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(steps * self.config.batch as u64);
        let template =
            format!("{{bar:30}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left, {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_position(step * self.config.batch as u64);
        bar.reset_eta();
        bar
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::params::{Init, ParamBuilder, Snapshot};
    use crate::task::StepLoss;

    /// Descends the square of one weight; its batches are factors of the loss, its AUCs are given.
    struct Square {
        params: Params,
        aucs: std::vec::IntoIter<f64>,
    }

    impl Square {
        fn new(aucs: &[f64]) -> Self {
            let mut builder = ParamBuilder::new(1, &Device::Cpu);
            builder.var("w", &[1], Init::Constant(1.0)).unwrap();
            let params = builder.finish();
            Self {
                params,
                aucs: Vec::from(aucs).into_iter(),
            }
        }
    }

    impl Task for Square {
        type Batch = f64;

        fn params(&self) -> &Params {
            &self.params
        }

        fn loss(&self, batch: &f64, _step: u64) -> candle_core::Result<StepLoss> {
            let total: Tensor = (self.params.vars["w"].sqr()?.sum_all()? * *batch)?;
            let value = total.to_scalar()?;
            Ok(StepLoss {
                total,
                parts: vec![("square", value)],
            })
        }

        fn validate(&mut self, _: &Snapshot) -> Result<Vec<(&'static str, f64)>> {
            Ok(vec![("auc", self.aucs.next().unwrap())])
        }

        fn save_batch(&self, batch: &f64, path: &Path) -> Result<()> {
            Ok(std::fs::write(path, batch.to_string())?)
        }
    }

    /// Four steps, each logged, validated and saved.
    fn four_steps(folder: &Path, stop: &'static AtomicBool) -> Run<'static> {
        Run {
            folder: folder.to_owned(),
            config: LoopConfig {
                pairs: 4,
                batch: 1,
                log_every: 1,
                validate_every: 1,
                checkpoint_every: 1,
                ..LoopConfig::default()
            },
            optim: OptimConfig::default(),
            config_toml: String::new(),
            stop,
            quiet: true,
        }
    }

    fn never() -> &'static AtomicBool {
        Box::leak(Box::new(AtomicBool::new(false)))
    }

    fn batches(from: u64, all: &[f64]) -> std::vec::IntoIter<Result<f64>> {
        let rest: Vec<Result<f64>> = all[from as usize..].iter().map(|b| Ok(*b)).collect();
        rest.into_iter()
    }

    #[test]
    fn a_loss_that_is_not_a_number_ends_the_run_with_its_batch_saved_and_the_last_good_state_kept()
    {
        let folder = tempfile::tempdir().unwrap();
        let run = four_steps(folder.path(), never());
        let mut task = Square::new(&[0.1, 0.2, 0.3, 0.4]);
        let with_nan = |from| Ok(batches(from, &[1.0, 1.0, f64::NAN, 1.0]));
        let error = run.train(&mut task, with_nan).unwrap_err().to_string();
        assert!(error.starts_with("step 2: "), "{error}");
        assert!(error.contains("bad_batch.png") && error.contains("last.safetensors"));
        let saved = std::fs::read_to_string(folder.path().join("bad_batch.png")).unwrap();
        assert_eq!(saved, "NaN");
        assert_eq!(Checkpoint::load(&run.last()).unwrap().step, 2);
    }

    #[test]
    fn a_resumed_run_keeps_the_best_checkpoint_and_writes_no_line_twice() {
        let folder = tempfile::tempdir().unwrap();
        let stop = never();
        let run = four_steps(folder.path(), stop);
        let good = |from| Ok(batches(from, &[1.0; 4]));
        // Two steps, then a stop.
        let mut raised = 0;
        let stopping = |from| {
            Ok(batches(from, &[1.0; 4]).inspect(move |_| {
                raised += 1;
                stop.store(raised == 2, Ordering::Relaxed);
            }))
        };
        let outcome = run.train(&mut Square::new(&[0.5, 0.9]), stopping).unwrap();
        assert_eq!(outcome, Outcome::Stopped);
        stop.store(false, Ordering::Relaxed);
        // As a kill after the next validation, before its checkpoint, would leave it.
        append_csv(&folder.path().join("validation.csv"), "", "3,3,0.99000").unwrap();
        let outcome = run.train(&mut Square::new(&[0.6, 0.7]), good).unwrap();
        assert_eq!(outcome, Outcome::Finished);

        let log = std::fs::read_to_string(folder.path().join("validation.csv")).unwrap();
        let rows: Vec<&str> = log.lines().skip(1).collect();
        assert_eq!(
            rows,
            ["1,1,0.50000", "2,2,0.90000", "3,3,0.60000", "4,4,0.70000"]
        );
        let best = Checkpoint::load(&folder.path().join("best.safetensors")).unwrap();
        assert_eq!(best.step, 2);
    }

    #[test]
    fn a_resumed_run_has_the_best_checkpoint_of_one_that_was_not_stopped() {
        // Which of two figures is best that the log tells apart, or does not.
        let best_of = |figures: [f64; 4], stop_after: Option<usize>| {
            let folder = tempfile::tempdir().unwrap();
            let stop = never();
            let run = four_steps(folder.path(), stop);
            if let Some(steps) = stop_after {
                let mut raised = 0;
                let stopping = |from| {
                    Ok(batches(from, &[1.0; 4]).inspect(move |_| {
                        raised += 1;
                        stop.store(raised == steps, Ordering::Relaxed);
                    }))
                };
                run.train(&mut Square::new(&figures[..steps]), stopping)
                    .unwrap();
                stop.store(false, Ordering::Relaxed);
            }
            let rest = &figures[stop_after.unwrap_or(0)..];
            let good = |from| Ok(batches(from, &[1.0; 4]));
            run.train(&mut Square::new(rest), good).unwrap();
            let best = Checkpoint::load(&folder.path().join("best.safetensors")).unwrap();
            best.step
        };
        for (figures, best) in [
            ([0.5, 0.712_344, 0.712_344, 0.6], 2),
            ([0.5, 0.712_344, 0.712_343, 0.6], 2),
            ([0.5, 0.712_341, 0.712_344, 0.6], 2),
            ([0.5, 0.712_344, 0.712_346, 0.6], 3),
            ([f64::NAN, f64::NAN, 0.4, 0.3], 3),
        ] {
            for stop_after in [None, Some(2)] {
                let found = best_of(figures, stop_after);
                assert_eq!(found, best, "{figures:?}, {stop_after:?}");
            }
        }
    }

    #[test]
    fn normalisation_is_held_constant_over_the_last_share_of_the_steps() {
        let frozen = |pairs: u64, freeze_norm_share: f64| {
            let config = LoopConfig {
                pairs,
                batch: 1,
                freeze_norm_share,
                ..LoopConfig::default()
            };
            (0..pairs)
                .filter(|step| config.norm_is_frozen_at(*step))
                .collect::<Vec<_>>()
        };
        assert_eq!(frozen(10, 0.2), [8, 9]);
        assert!(frozen(10, 0.0).is_empty() && frozen(4, 0.2).is_empty());
        assert_eq!(frozen(3, 1.0), [0, 1, 2]);
    }

    #[test]
    fn eight_bits_are_trained_with_over_the_last_share_of_the_steps_and_not_unless_asked() {
        let config = |quantised_share: f64| LoopConfig {
            pairs: 20,
            batch: 1,
            quantised_share,
            ..LoopConfig::default()
        };
        let steps = |share| {
            (0..20)
                .filter(|s| config(share).is_quantised_at(*s))
                .collect::<Vec<_>>()
        };
        assert_eq!(steps(0.1), [18, 19]);
        assert!(steps(LoopConfig::default().quantised_share).is_empty());
        let text = toml::to_string(&config(0.0)).unwrap();
        assert!(!text.contains("quantised"), "{text}");
        assert!(
            toml::to_string(&config(0.1))
                .unwrap()
                .contains("quantised_share = 0.1")
        );
    }
}
