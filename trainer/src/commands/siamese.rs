//! `roadhound-train siamese`: learns a distance by a network, scores it on classes never shown, and writes its graphs.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::export::package::Package;
use roadhound_trainer::ops::open_device;
use roadhound_trainer::siamese::SiameseRun;
use roadhound_trainer::siamese::export::graphs;
use roadhound_trainer::siamese::sampler::{Batches, Changes};
use roadhound_trainer::systems::System;
use roadhound_trainer::task::Task;
use roadhound_trainer::task::siamese::{HeldOut, SiameseTask, shown_classes};

use super::system::{self, LearnArguments, Learned};

/// Share of the steps, at the end, over which normalisation is held constant.
const FREEZE_NORM_SHARE: f64 = 0.1;

pub(crate) fn siamese(arguments: &LearnArguments) -> Result<()> {
    let mut run = SiameseRun::load(&arguments.config)?;
    arguments.apply(&mut run.seed, &mut run.data.root, &mut run.train);
    run.validate()?;
    super::set_out(arguments.threads)?;
    let device = open_device(arguments.device)?;
    let train = Arc::new(run.data.open_train()?);
    let test = run.data.open_test(&train)?;
    let test = test.context("data.test is not set: nothing to score on")?;
    if test.shape() != train.shape() {
        return Err(anyhow!(
            "data.test has samples of another shape than data.train"
        ));
    }
    let of_config = |reason: String| anyhow!("{}: {reason}", arguments.config.display());
    let shape = train.shape();
    let is_square = shape.is_map() && shape.width == shape.height;
    if !is_square && !run.turns.is_empty() {
        let (width, height) = (shape.width, shape.height);
        return Err(of_config(format!(
            "turns is {:?}, which only square pictures can be turned by: samples are {width}x{height}",
            run.turns
        )));
    }
    let held_out = HeldOut::new(&test, &run.held_out, &run.set_aside, run.evaluate.per_class)
        .map_err(of_config)?;
    let hidden = [&run.held_out[..], &run.set_aside].concat();
    let classes = shown_classes(&train, &hidden);
    let shown: usize = classes.iter().map(Vec::len).sum();
    if shown == 0 {
        return Err(of_config("held_out leaves no samples to learn from".into()));
    }
    let held_out = Arc::new(held_out);
    let mut task = SiameseTask::new(&run, held_out.clone(), &device)?;
    let config = run.train.of_samples(shown, FREEZE_NORM_SHARE);
    let parameters = task.params().parameter_count() as u64;
    arguments.begin(System::Siamese, &run, run.seed, parameters, &config)?;
    let changes = Changes {
        warp: run.warp.clone(),
        turns: run.turns.clone(),
        signs: run.signs.clone(),
    };
    let seed = run.seed;
    let sizes = (run.train.batch, run.samples_per_class);
    let learned = arguments.learn(&mut task, config, &run.optim, &run, |step| {
        Ok(Batches::new(train, classes, sizes, changes, seed, step))
    })?;
    let Learned::Finished { figures } = learned else {
        return Ok(());
    };
    let config_sha256 = run.hash()?;
    let metadata = [("config_sha256", config_sha256.as_str())];
    let mut scores = system::scores(&figures);
    scores.extend(task.threshold().map(|t| ("threshold".to_owned(), t)));
    let measure = run.loss.measure();
    let package = Package {
        system: System::Siamese,
        graphs: graphs(task.averaged(), measure, &held_out.unseen, &metadata)?,
        others: Vec::new(),
        scores,
        config_sha256,
    };
    arguments.finish(package, &figures)
}
