//! `roadhound-train dann`: learns classes of a domain without labels, from several seeds, beside what is learned without
//! adaptation; estimates the bound before and after; writes the graph of the weights that were chosen without a label.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::Device;
use roadhound_trainer::batch::{PrefetchConfig, Prefetcher};
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::dann::data::{Batches, Pair};
use roadhound_trainer::dann::export::graphs;
use roadhound_trainer::dann::study::{Outcome, Study, validations};
use roadhound_trainer::dann::{DannRun, Method};
use roadhound_trainer::export::package::Package;
use roadhound_trainer::ops::open_device;
use roadhound_trainer::outputs;
use roadhound_trainer::report::panels;
use roadhound_trainer::systems::System;
use roadhound_trainer::task::Task;
use roadhound_trainer::task::dann::DannTask;

use super::system::{LearnArguments, Learned};

/// Threads that prepare batches.
const WORKERS: usize = 2;

#[derive(clap::Args)]
pub(crate) struct DannArguments {
    #[command(flatten)]
    learn: LearnArguments,
    /// Seeds, a network from each, instead of the configuration's; each has a folder of its own, and a finished one is not
    /// trained again: programs can share the seeds, and one for all at the end writes the page.
    #[arg(long, value_delimiter = ',', conflicts_with = "seed")]
    seeds: Vec<u64>,
}

/// Where the networks of one seed and method lie.
fn folder_of(arguments: &LearnArguments, seed: u64, method: Method) -> std::path::PathBuf {
    arguments
        .out
        .join(format!("seed-{seed}"))
        .join(method.name())
}

pub(crate) fn dann(arguments: &DannArguments) -> Result<()> {
    let learn = &arguments.learn;
    let mut run = DannRun::load(&learn.config)?;
    let mut seed = run.seed();
    learn.apply(&mut seed, &mut run.data.root, &mut run.train);
    if learn.seed.is_some() {
        run.seeds = vec![seed];
    } else if !arguments.seeds.is_empty() {
        run.seeds.clone_from(&arguments.seeds);
    }
    run.validate()?;
    super::set_out(learn.threads)?;
    let device = open_device(learn.device)?;
    let pair = Arc::new(Pair::open(&run.data)?);
    let config = run
        .train
        .of_samples(2 * pair.source.train.len(), run.freeze_norm_share());
    // Networks of all seeds are alike.
    let first = DannTask::new(&run, pair.clone(), config.steps(), &device)?;
    let parameters = first.params().parameter_count() as u64;
    drop(first);
    learn.begin(System::Dann, &run, run.seed(), parameters, &config)?;

    let mut outcomes = Vec::new();
    for seed in &run.seeds {
        for method in &run.methods {
            let one = run.of(*seed, *method);
            let mut its = learn.clone();
            its.out = folder_of(learn, *seed, *method);
            let outcome = match Outcome::read(&its.out, &one.hash()?) {
                Some(outcome) => outcome,
                None => match outcome_of(&its, &one, &pair, &device)? {
                    Some(outcome) => outcome,
                    None => return Ok(()),
                },
            };
            log::info!(
                "seed {seed}, {}: {:.2} % right on the target (score only), {:.2} % wrong on the source, chosen after step {}",
                method.name(),
                100.0 * outcome.accuracy,
                100.0 * outcome.terms.source_error,
                outcome.chosen_step
            );
            outcomes.push(outcome);
        }
    }
    let study = Study {
        run: &run,
        outcomes: &outcomes,
    };
    panels::write(&learn.out, &study.panels())?;
    outputs::file(&learn.out.join("runs.csv"), study.csv())?;
    log::info!(
        "the bound before and after, seeds in the middle\n{}",
        study.text()
    );
    let shipped = study.shipped().context("no run to take weights from")?;
    let one = run.of(shipped.seed, shipped.method);
    let mut task = DannTask::new(&one, pair.clone(), config.steps(), &Device::Cpu)?;
    let best = folder_of(learn, shipped.seed, shipped.method).join("best.safetensors");
    task.validate(&Checkpoint::load(&best)?.average)?;
    let config_sha256 = run.hash()?;
    let metadata = [("config_sha256", config_sha256.as_str())];
    // The figures of the source are with the source's moments, which a graph for the target does not have.
    let whose = match one.is_apart() {
        true => "the target domain, whose moments it normalises by",
        false => "either domain",
    };
    let package = Package {
        system: System::Dann,
        graphs: graphs(task.averaged(), &pair.target.test, whose, &metadata)?,
        others: Vec::new(),
        scores: study.scores().into_iter().collect(),
        config_sha256,
    };
    let shown = ["information", "soft_density"].map(|n| (n, shipped.criterion));
    let by = run.select.by.figure();
    let shown: Vec<_> = shown.into_iter().filter(|(n, _)| *n == by).collect();
    learn.finish(package, &shown)
}

/// Trains the network of one seed and method, or goes on; `None` where Ctrl-C ended it.
fn outcome_of(
    arguments: &LearnArguments,
    run: &DannRun,
    pair: &Arc<Pair>,
    device: &Device,
) -> Result<Option<Outcome>> {
    let config = run
        .train
        .of_samples(2 * pair.source.train.len(), run.freeze_norm_share());
    let mut task = DannTask::new(run, pair.clone(), config.steps(), device)?;
    let parameters = task.params().parameter_count() as u64;
    arguments.begin(System::Dann, run, run.seed(), parameters, &config)?;
    let source = Arc::new(Batches {
        pair: pair.clone(),
        warp: run.warp.clone(),
        inverted: run.inverted,
        seed: run.seed(),
    });
    let prefetch = PrefetchConfig {
        batch_size: run.train.batch,
        workers: WORKERS,
        ..PrefetchConfig::default()
    };
    let learned = arguments.learn(&mut task, config, &run.optim, run, |step| {
        let batches = Prefetcher::new(source, &prefetch, step)?;
        Ok(batches.map(|batch| batch.map_err(anyhow::Error::from)))
    })?;
    let Learned::Finished { figures: last } = learned else {
        return Ok(None);
    };
    let best = Checkpoint::load(&arguments.out.join("best.safetensors"))?;
    let chosen = task.validate(&best.average)?;
    let figure = |figures: &[(&'static str, f64)], name: &str| {
        let found = figures.iter().find(|(n, _)| *n == name);
        found
            .map(|(_, value)| *value)
            .context("a validation without its figures")
    };
    let outcome = Outcome {
        seed: run.seed(),
        method: run.method(),
        config_sha256: run.hash()?,
        last_accuracy: figure(&last, "target_accuracy")?,
        accuracy: figure(&chosen, "target_accuracy")?,
        criterion: figure(&chosen, run.select.by.figure())?,
        chosen_step: best.step,
        terms: task.terms()?,
        validations: validations(&arguments.out.join("validation.csv"))?,
    };
    outcome.write(&arguments.out)?;
    Ok(Some(outcome))
}
