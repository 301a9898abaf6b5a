//! `report`, and what `tracker` leaves for it in the run's folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use roadhound_trainer::batch::Batch;
use roadhound_trainer::config::{SystemConfig, TrackerRun};
use roadhound_trainer::data::Dataset;
use roadhound_trainer::data::sheet::contact_sheet;
use roadhound_trainer::model::TrackerNet;
use roadhound_trainer::outputs;
use roadhound_trainer::report::{self, facts};
use roadhound_trainer::sampler::{Sampler, SamplerScratch};
use roadhound_trainer::systems::System;

/// Training pairs on the sheet of samples.
const SAMPLES: u64 = 18;
/// Held-out pairs on theirs.
const HELD_OUT_SAMPLES: usize = 12;
/// Pairs in a row of a sheet.
const COLUMNS: u32 = 6;

#[derive(clap::Args)]
pub(crate) struct ReportArguments {
    /// Folders of runs, finished or not: one to look at, several to compare.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// HTML file to write; `report.html` in the run's folder, or `comparison.html` here, where not given.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn report(arguments: &ReportArguments) -> Result<()> {
    let out = match (&arguments.out, arguments.runs.as_slice()) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.join(report::REPORT_FILE),
        (None, _) => PathBuf::from("comparison.html"),
    };
    report::write(&out, &report::page_of(&arguments.runs)?)?;
    log::info!("{}", out.display());
    Ok(())
}

/// What a run starts from.
pub(super) struct Beginning<'a> {
    pub(super) run: &'a TrackerRun,
    pub(super) init: Option<&'a Path>,
    pub(super) net: &'a TrackerNet,
    pub(super) dataset: &'a Dataset,
    pub(super) train: &'a Sampler,
    pub(super) validation: &'a [Batch],
}

/// Writes the facts of a new run and sheets of its pairs; a run that goes on keeps those it began with.
pub(super) fn leave_facts(folder: &Path, beginning: &Beginning<'_>) -> Result<()> {
    if folder.join("last.safetensors").exists() {
        return Ok(());
    }
    let Beginning {
        run, net, train, ..
    } = beginning;
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    let here = std::env::current_dir().ok();
    let facts = facts::Facts {
        samples_in_all: 0,
        system: System::Tracker,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: here.and_then(|folder| facts::commit(&folder)),
        seed: run.seed,
        config_sha256: run.hash()?,
        started_from: beginning.init.map(|path| path.display().to_string()),
        device: run.compute.device.to_string(),
        parameters: net.parameter_count() as u64,
        macs_per_frame: net.macs_per_frame(),
        data: facts::count(beginning.dataset),
    };
    let path = folder.join(facts::FACTS_FILE);
    outputs::file(&path, serde_json::to_vec_pretty(&facts)?)?;

    // Spread over the whole run: what a pair looks like changes as it goes on.
    let mut scratch = SamplerScratch::default();
    let mut pairs = Vec::new();
    for k in 0..SAMPLES {
        pairs.push(train.draw_number(k * run.train.pairs / SAMPLES, &mut scratch)?);
    }
    let batches = beginning.validation.iter();
    let held_out: Vec<_> = batches
        .flat_map(|batch| (0..batch.len).map(|i| batch.pair(i)))
        .take(HELD_OUT_SAMPLES)
        .collect();
    for (name, pairs) in [("samples.jpg", pairs), ("samples_held_out.jpg", held_out)] {
        let path = folder.join(name);
        outputs::picture(&path, &contact_sheet(&pairs, COLUMNS))?;
    }
    Ok(())
}
