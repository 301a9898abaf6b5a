//! `roadhound-train disentangle`: learns a code in two parts, the class and the rest; scores both; writes encoder and decoder.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::disentangle::DisentangleRun;
use roadhound_trainer::disentangle::export::graphs;
use roadhound_trainer::disentangle::pairs::batches;
use roadhound_trainer::disentangle::scores::Factor;
use roadhound_trainer::export::package::Package;
use roadhound_trainer::labelled::Samples;
use roadhound_trainer::ops::open_device;
use roadhound_trainer::systems::System;
use roadhound_trainer::task::Task;
use roadhound_trainer::task::disentangle::DisentangleTask;

use super::system::{self, LearnArguments, Learned};

pub(crate) fn disentangle(arguments: &LearnArguments) -> Result<()> {
    let mut run = DisentangleRun::load(&arguments.config)?;
    arguments.apply(&mut run.seed, &mut run.data.root, &mut run.train);
    run.validate()?;
    super::set_out(arguments.threads)?;
    let device = open_device(arguments.device)?;
    let (train, test, factors) = samples(&run)?;
    if train.class_count() < 2 {
        return Err(anyhow!(
            "data.train has one class: there is nothing to tell apart"
        ));
    }
    let config = run.train.of_samples(train.len(), 0.0);
    let (train, test) = (Arc::new(train), Arc::new(test));
    let mut task = DisentangleTask::new(&run, &train, test.clone(), factors, &device)?;
    let parameters = task.params().parameter_count() as u64;
    arguments.begin(System::Disentangle, &run, run.seed, parameters, &config)?;
    let (batch, seed) = (run.train.batch, run.seed);
    let learned = arguments.learn(&mut task, config, &run.optim, &run, |step| {
        Ok(batches(train, batch, seed, step))
    })?;
    let Learned::Finished { figures } = learned else {
        return Ok(());
    };
    let config_sha256 = run.hash()?;
    let metadata = [("config_sha256", config_sha256.as_str())];
    let package = Package {
        system: System::Disentangle,
        graphs: graphs(task.averaged(), &test, &metadata)?,
        others: Vec::new(),
        scores: system::scores(&figures),
        config_sha256,
    };
    arguments.finish(package, &figures)
}

/// What is learned from, what is held out of it, and the factors of that where they are known.
fn samples(run: &DisentangleRun) -> Result<(Samples, Samples, Vec<Factor>)> {
    if let Some(factors) = &run.factors {
        let set = factors.rendered().map_err(|e| anyhow!(e))?;
        let (train, test) = factors.split();
        let held_out = set.chosen(&test);
        return Ok((
            set.samples.chosen(&train),
            held_out.samples,
            held_out.factors,
        ));
    }
    let train = run.data.open_train()?;
    let test = run.data.open_test(&train)?;
    let test = test.context("data.test is not set: nothing to score on")?;
    if test.shape() != train.shape() {
        return Err(anyhow!(
            "data.test has samples of another shape than data.train"
        ));
    }
    Ok((train, test, Vec::new()))
}
