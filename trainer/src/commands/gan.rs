//! `roadhound-train gan`: learns to make samples, scores what is made, and writes generator and discriminator.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::export::package::Package;
use roadhound_trainer::gan::GanRun;
use roadhound_trainer::gan::export::graphs;
use roadhound_trainer::labelled::Samples;
use roadhound_trainer::labelled::neighbours::Neighbours;
use roadhound_trainer::ops::open_device;
use roadhound_trainer::systems::System;
use roadhound_trainer::task::Task;
use roadhound_trainer::task::gan::{GanNet, GanTask, Judge, batches};

use super::system::{self, LearnArguments, Learned};

/// Points of a ring that made ones are compared with.
const RING_POINTS: usize = 10_000;

pub(crate) fn gan(arguments: &LearnArguments) -> Result<()> {
    let mut run = GanRun::load(&arguments.config)?;
    arguments.apply(&mut run.seed, &mut run.data.root, &mut run.train);
    run.validate()?;
    super::set_out(arguments.threads)?;
    let device = open_device(arguments.device)?;
    let of_config = |reason: String| anyhow!("{}: {reason}", arguments.config.display());
    let (train, test) = samples(&run).map_err(|e| match run.ring {
        Some(_) => of_config(e.to_string()),
        None => e,
    })?;
    // Networks that cannot be are refused before the judge is taught, which takes its time.
    GanNet::new(&run, train.shape(), &device)?;
    let judge = match &run.ring {
        Some(ring) => Judge::of_ring(ring, &test),
        None if train.class_count() < 2 => {
            return Err(anyhow!(
                "data.train has one class: nobody can be taught to say what made samples show"
            ));
        }
        None => {
            log::info!("teaching the judge");
            Judge::taught(&run, &train, &test, &device)?
        }
    };
    let config = run.train.of_samples(train.len(), 0.0);
    let test = Arc::new(test);
    let mut task = GanTask::new(&run, test.clone(), judge, config.steps(), &device)?;
    let parameters = task.params().parameter_count() as u64;
    arguments.begin(System::Gan, &run, run.seed, parameters, &config)?;
    let learned = arguments.learn(&mut task, config, &run.optim, &run, |step| {
        let neighbours = neighbours(&run, &train)?;
        Ok(batches(Arc::new(train), neighbours, &run, step))
    })?;
    let Learned::Finished { figures } = learned else {
        return Ok(());
    };
    let config_sha256 = run.hash()?;
    let metadata = [("config_sha256", config_sha256.as_str())];
    let package = Package {
        system: System::Gan,
        graphs: graphs(task.averaged(), &test, run.seed, &metadata)?,
        others: Vec::new(),
        scores: system::scores(&figures),
        config_sha256,
    };
    arguments.finish(package, &figures)
}

/// Which samples are to be read alike, where any are.
fn neighbours(run: &GanRun, train: &Samples) -> Result<Option<Neighbours>> {
    let invariance = &run.mutual.invariance;
    if invariance.weight == 0.0 || invariance.neighbours == 0 {
        return Ok(None);
    }
    log::info!("looking for the neighbours of {} samples", train.len());
    let found = Neighbours::of(train, invariance.neighbours);
    found.map(Some).context("mutual.invariance.neighbours")
}

/// What is learned from, and what is held out of it.
fn samples(run: &GanRun) -> Result<(Samples, Samples)> {
    if let Some(ring) = &run.ring {
        let points = |count, purpose| {
            ring.points(count, run.seed, purpose)
                .map_err(|e| anyhow!(e))
        };
        return Ok((points(ring.samples, 0)?, points(RING_POINTS, 1)?));
    }
    let train = run.data.open_train()?;
    let test = run.data.open_test(&train)?;
    let test = test.context("data.test is not set: nothing to score on")?;
    if test.shape() != train.shape() {
        return Err(anyhow!(
            "data.test has samples of another shape than data.train"
        ));
    }
    Ok((train, test))
}
