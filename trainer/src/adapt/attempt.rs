//! One adaptation: by which parts, in which folder, and what it came to.
//!
//! In: a [`Setting`]. Out: [`Adapted`], the network that is kept with its figures. Its runs stop and go on as all runs do.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use candle_core::Device;

use super::batches::{Batches, Restyle, Swap};
use super::config::{AdaptRun, Part};
use super::measure::{Choice, Measures};
use super::score::Scored;
use super::setting::{Few, Setting, check_same, drawn};
use super::style::Restyler;
use crate::batch::{PrefetchConfig, Prefetcher};
use crate::checkpoint::Checkpoint;
use crate::config::SystemConfig;
use crate::data::Dataset;
use crate::model::TrackerNet;
use crate::outputs;
use crate::params::Snapshot;
use crate::report::facts;
use crate::sampler::Split;
use crate::systems::System;
use crate::task::adapt::{AdaptTask, Parts};
use crate::train_loop::{Outcome, Run};

/// What [`Setting::control`] is called.
pub const CONTROL: &str = "control";

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
    /// Who restyled crops of the source, where that took part.
    pub restyler: Option<Arc<Restyler>>,
    /// What it made of the annotated runs.
    pub scores: Vec<Scored>,
    /// Its success on held-out labelled pairs of the target, where there are any.
    pub target_auc: Option<f64>,
    /// Pairs that the adapted weights have learned from.
    pub pairs_seen: u64,
}

/// Labelled tracks that are learned from.
struct Lesson<'a> {
    data: &'a Arc<Dataset>,
}

/// How one is made.
struct Attempt<'a> {
    name: String,
    run: AdaptRun,
    lesson: Option<Lesson<'a>>,
    /// Whether the source's network may come back instead.
    guarded: bool,
    out: &'a Path,
    stop: &'static AtomicBool,
    quiet: bool,
}

impl Setting {
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
        let names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
        let few = self
            .few
            .as_ref()
            .filter(|_| parts.contains(&Part::Labelled));
        let lesson = few.map(|Few { data, .. }| Lesson { data });
        self.attempt(Attempt {
            name: names.join("+"),
            run,
            lesson,
            guarded: true,
            out,
            stop,
            quiet,
        })
    }

    /// As many steps on the source's pairs alone, by the same choice: what the network gains by going on, which what any part
    /// gains has to be held against. `None` where it was told to stop.
    ///
    /// # Errors
    /// As [`Setting::adapted`].
    pub fn control(
        &self,
        out: &Path,
        stop: &'static AtomicBool,
        quiet: bool,
    ) -> Result<Option<Adapted>> {
        let mut run = self.run.clone();
        // A part that sees nothing of the target, and does nothing.
        run.adapt.parts = [Part::Fourier].into();
        run.adapt.fourier_share = 0.0;
        self.attempt(Attempt {
            name: CONTROL.to_owned(),
            run,
            lesson: None,
            guarded: true,
            out,
            stop,
            quiet,
        })
    }

    /// What as many steps reach with all labels of both domains, for the score alone: its last weights, whatever they are.
    /// `None` where it was told to stop, or no oracle was asked for.
    ///
    /// # Errors
    /// As [`Setting::adapted`].
    pub fn oracle(
        &self,
        out: &Path,
        stop: &'static AtomicBool,
        quiet: bool,
    ) -> Result<Option<Adapted>> {
        let Some(judge) = &self.judge else {
            return Ok(None);
        };
        let mut run = self.run.clone();
        run.adapt.parts = [Part::Labelled].into();
        run.adapt.labelled_share = 1.0;
        run.labelled.pack.clone_from(&self.sources.oracle);
        self.attempt(Attempt {
            name: "oracle".to_owned(),
            run,
            lesson: Some(Lesson { data: &judge.data }),
            guarded: false,
            out,
            stop,
            quiet,
        })
    }

    fn attempt(&self, attempt: Attempt<'_>) -> Result<Option<Adapted>> {
        let Attempt {
            name,
            run,
            lesson,
            guarded,
            out,
            stop,
            quiet,
        } = attempt;
        let track = self.track_task()?;
        let born = || TrackerNet::new(&self.model, run.seed, &Device::Cpu);
        let weak = self.target_sampler(true)?;
        let for_norm = match run.adapt.has(Part::Adabn) {
            true => drawn(&weak, run.train.batch, run.select.norm_batches)?,
            false => Vec::new(),
        };
        check_same(out, Some(&self.origin()), &run)?;
        self.leave_facts(out, &run, lesson.as_ref(), track.net())?;
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
        let restyler = match run.adapt.has(Part::Style) {
            true => match self.restyler(stop, quiet)? {
                Some(restyler) => Some(Arc::new(restyler)),
                None => return Ok(None),
            },
            false => None,
        };
        // With how many steps each took.
        let mut candidates: Vec<(u64, Snapshot)> = Vec::new();
        if run.adapt.learns() {
            let batches = Arc::new(Batches {
                source: self.sampler(Split::Train)?,
                weak,
                strong: self.target_sampler(false)?,
                swap: run.adapt.has(Part::Fourier).then_some(Swap {
                    share: run.adapt.fourier_share,
                    reach: run.adapt.fourier_reach,
                }),
                restyle: restyler.clone().map(|by| Restyle {
                    share: run.style.share,
                    by,
                }),
                labelled: lesson
                    .map(|lesson| {
                        let pairs = run.adapt.labelled_pairs(run.train.batch);
                        let sampler = self.labelled_sampler(lesson.data, Split::Train)?;
                        anyhow::Ok((sampler, pairs))
                    })
                    .transpose()?,
                seed: run.seed,
            });
            let prefetch = PrefetchConfig {
                batch_size: run.train.batch,
                workers: run.compute.workers,
                ..PrefetchConfig::default()
            };
            let loop_run = Run {
                folder: out.to_owned(),
                config: run.train.clone(),
                optim: run.optim.clone(),
                config_toml: self.config_toml(&run)?,
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
            let names: &[&str] = match guarded {
                true => &["best.safetensors", "last.safetensors"],
                false => &["last.safetensors"],
            };
            for name in names {
                let Checkpoint { step, average, .. } = Checkpoint::load(&out.join(name))?;
                candidates.push((step, average));
            }
            candidates.dedup_by(|later, earlier| later.1 == earlier.1);
        } else {
            std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
            outputs::file(&out.join("config.toml"), self.config_toml(&run)?)?;
            candidates.push((0, task.snapshot()?));
        }
        let mut measured = Vec::with_capacity(candidates.len());
        for (_, candidate) in &candidates {
            measured.push(task.measure(candidate)?);
        }
        let choice = match guarded {
            true => Choice::of(&self.before, &measured, run.select.most_source_loss),
            false => Choice::Candidate(0),
        };
        let number = match choice {
            Choice::Candidate(number) => number,
            _ => candidates.len() - 1,
        };
        let measures = measured[number];
        let (steps, weights) = &candidates[number];
        let kept = match choice {
            Choice::Candidate(_) => {
                let kept = born()?;
                let found = task.candidate(weights)?.params().snapshot()?;
                kept.params().restore(&found)?;
                kept
            }
            _ => self.network()?,
        };
        log::info!("{name}: {}", choice.sentence());
        let judge = self.judge.as_ref();
        let shipped = kept.params().snapshot()?;
        let target_auc = judge.map(|judge| task.auc_on(&shipped, &judge.held_out));
        Ok(Some(Adapted {
            name,
            measures,
            choice,
            scores: self.scores(&kept)?,
            target_auc: target_auc.transpose()?,
            restyler,
            kept,
            pairs_seen: steps * run.adapt.pairs_a_step(run.train.batch),
        }))
    }

    fn leave_facts(
        &self,
        out: &Path,
        run: &AdaptRun,
        lesson: Option<&Lesson<'_>>,
        net: &TrackerNet,
    ) -> Result<()> {
        let mut data = facts::count(&self.source);
        data.extend(facts::count(&self.target));
        data.extend(lesson.iter().flat_map(|lesson| facts::count(lesson.data)));
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
