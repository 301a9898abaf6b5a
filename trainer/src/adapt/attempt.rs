//! One adaptation: by which parts, in which folder, and what it came to.
//!
//! In: a [`Setting`]. Out: [`Adapted`], the network that is kept with its figures. Its runs stop and go on as all runs do.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use roadhound_shared::metrics::RunScore;

use super::batches::{Batches, Swap};
use super::config::{AdaptRun, Part};
use super::measure::{Choice, Measures};
use super::setting::{Setting, drawn};
use crate::batch::{PrefetchConfig, Prefetcher};
use crate::checkpoint::Checkpoint;
use crate::config::SystemConfig;
use crate::data::layout::Layout;
use crate::evaluate;
use crate::export::bundle;
use crate::model::TrackerNet;
use crate::outputs;
use crate::params::Snapshot;
use crate::report::facts;
use crate::sampler::Split;
use crate::systems::System;
use crate::task::adapt::{AdaptTask, Parts};
use crate::train_loop::{Outcome, Run};

/// What an adaptation came to.
pub struct Adapted {
    /// Its parts.
    pub name: String,
    /// Figures of its weights, kept or not.
    pub measures: Measures,
    /// What is kept.
    pub choice: Choice,
    /// The network that is: the source's where nothing better was found.
    pub kept: TrackerNet,
    /// Its success AUC on each of the annotated folders.
    pub scores: Vec<f64>,
}

impl Setting {
    /// Success AUC on each of the annotated folders.
    ///
    /// # Errors
    /// Files that cannot be read, a folder without runs.
    pub fn scores(&self, net: &TrackerNet) -> Result<Vec<f64>> {
        let tracker = &self.files.manifest.tracker;
        let folders = self.sources.score.iter();
        folders
            .map(|folder| {
                let runs = Layout::Auto.load_runs(folder)?;
                ensure!(!runs.is_empty(), "{}: no runs to follow", folder.display());
                let (network, contract) = bundle::graphs_of(net)?;
                let followed =
                    evaluate::follow_runs(network, &contract, tracker, runs, None, |_| ())?;
                let scores: Vec<RunScore> = followed.iter().map(|f| f.score).collect();
                Ok(RunScore::mean(&scores).success_auc)
            })
            .collect()
    }

    /// Adapts by these parts in the folder `out`; `None` where it was told to stop.
    ///
    /// # Errors
    /// The folder of another run; what cannot be read or written.
    pub fn adapted(
        &self,
        parts: &BTreeSet<Part>,
        out: &Path,
        stop: &'static AtomicBool,
        quiet: bool,
    ) -> Result<Option<Adapted>> {
        let mut run = self.run.clone();
        run.adapt.parts.clone_from(parts);
        let track = self.track_task()?;
        let born = || TrackerNet::new(&self.model, run.seed, &Device::Cpu);
        let weak = self.target_sampler(true)?;
        let for_norm = match run.adapt.has(Part::Adabn) {
            true => drawn(&weak, run.train.batch, run.select.norm_batches)?,
            false => Vec::new(),
        };
        self.leave_facts(out, &run, track.net())?;
        let parts = Parts {
            track,
            others: [born()?, born()?],
            config: run.adapt.clone(),
            select: run.select.clone(),
            steps: run.train.steps(),
            bench: self.bench(),
            before: self.before,
            target: for_norm,
            seed: run.seed,
        };
        let mut task = AdaptTask::new(parts, &Device::Cpu)?;
        let mut candidates: Vec<Snapshot> = Vec::new();
        if run.adapt.learns() {
            let batches = Arc::new(Batches {
                source: self.sampler(Split::Train)?,
                weak,
                strong: self.target_sampler(false)?,
                swap: run.adapt.has(Part::Fourier).then_some(Swap {
                    share: run.adapt.fourier_share,
                    reach: run.adapt.fourier_reach,
                }),
                seed: run.seed,
            });
            let prefetch = PrefetchConfig {
                batch_size: run.train.batch,
                workers: run.compute.workers,
                ..PrefetchConfig::default()
            };
            let search = &self.files.manifest.files[self.files.manifest.f32_files().search];
            let loop_run = Run {
                folder: out.to_owned(),
                config: run.train.clone(),
                optim: run.optim.clone(),
                // A run does not go on from another bundle, or on other video.
                config_toml: format!(
                    "# search graph {}, {} clips, {}\n{}",
                    search.sha256,
                    self.clips.len(),
                    self.harvest.line(),
                    run.to_toml()?
                ),
                stop,
                quiet,
            };
            let outcome = loop_run.train(&mut task, |step| {
                let batches = Prefetcher::new(batches, &prefetch, step)?;
                Ok(batches.map(|batch| batch.map_err(anyhow::Error::from)))
            })?;
            if outcome == Outcome::Stopped {
                return Ok(None);
            }
            for name in ["best.safetensors", "last.safetensors"] {
                candidates.push(Checkpoint::load(&out.join(name))?.average);
            }
            candidates.dedup();
        } else {
            std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
            outputs::file(&out.join("config.toml"), run.to_toml()?)?;
            candidates.push(task.snapshot()?);
        }
        let mut measured = Vec::with_capacity(candidates.len());
        for candidate in &candidates {
            measured.push(task.measure(candidate)?);
        }
        let choice = Choice::of(&self.before, &measured, run.select.most_source_loss);
        let (kept, measures) = match choice {
            Choice::Candidate(number) => {
                let kept = born()?;
                let found = task.candidate(&candidates[number])?.params().snapshot()?;
                kept.params().restore(&found)?;
                (kept, measured[number])
            }
            _ => (self.network()?, measured.pop().unwrap_or_default()),
        };
        let names: Vec<&str> = run.adapt.parts.iter().map(|part| part.name()).collect();
        let name = names.join("+");
        log::info!("{name}: {}", choice.sentence());
        Ok(Some(Adapted {
            name,
            measures,
            choice,
            scores: self.scores(&kept)?,
            kept,
        }))
    }

    fn leave_facts(&self, out: &Path, run: &AdaptRun, net: &TrackerNet) -> Result<()> {
        let mut data = facts::count(&self.source);
        data.extend(facts::count(&self.target));
        let here = std::env::current_dir().ok();
        let facts = facts::Facts {
            samples_in_all: 0,
            system: System::Adapt,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: here.and_then(|folder| facts::commit(&folder)),
            seed: run.seed,
            config_sha256: run.hash()?,
            started_from: Some(self.sources.bundle.display().to_string()),
            device: "cpu".to_owned(),
            parameters: net.parameter_count() as u64,
            macs_per_frame: net.macs_per_frame(),
            data,
        };
        std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
        outputs::file(
            &out.join(facts::FACTS_FILE),
            serde_json::to_vec_pretty(&facts)?,
        )
    }
}
