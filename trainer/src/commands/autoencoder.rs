//! `roadhound-train autoencoder`: learns codes, scores them on held-out samples, and writes encoder and decoder.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use roadhound_trainer::autoencoder::AutoencoderRun;
use roadhound_trainer::autoencoder::export::graphs;
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::export::package::Package;
use roadhound_trainer::labelled::Samples;
use roadhound_trainer::ops::open_device;
use roadhound_trainer::systems::System;
use roadhound_trainer::task::Task;
use roadhound_trainer::task::autoencoder::{AutoencoderTask, batches};

use super::system::{self, LearnArguments, Learned};

pub(crate) fn autoencoder(arguments: &LearnArguments) -> Result<()> {
    let mut run = AutoencoderRun::load(&arguments.config)?;
    arguments.apply(&mut run.seed, &mut run.data.root, &mut run.train);
    run.validate()?;
    super::set_out(arguments.threads)?;
    let device = open_device(arguments.device)?;
    let of_config = |reason: String| anyhow!("{}: {reason}", arguments.config.display());
    let test = run.data.open_test_alone()?;
    let test = test.context("data.test is not set: nothing to score on")?;
    let train = with_outliers(&run, run.data.open_train()?).map_err(of_config)?;
    if test.shape() != train.shape() {
        return Err(anyhow!(
            "data.test has samples of another shape than data.train"
        ));
    }
    let config = run.train.of_samples(train.len(), 0.0);
    let mut task = AutoencoderTask::new(&run, Arc::new(test.clone()), config.steps(), &device)?;
    let parameters = task.params().parameter_count() as u64;
    arguments.begin(System::Autoencoder, &run, run.seed, parameters, &config)?;
    let train = Arc::new(train);
    let (batch, how, seed) = (run.train.batch, run.binarise, run.seed);
    let learned = arguments.learn(&mut task, config, &run.optim, &run, |step| {
        Ok(batches(train, batch, how, seed, step))
    })?;
    let Learned::Finished { mut figures } = learned else {
        return Ok(());
    };
    if let Some(log_loss) = task.estimated_log_loss()? {
        log::info!(
            "-log p of {} samples by {} draws each: {log_loss:.2} nats",
            run.likelihood.samples.min(test.len()),
            run.likelihood.draws
        );
        figures.push(("estimated_log_loss", log_loss));
    }
    let config_sha256 = run.hash()?;
    let metadata = [("config_sha256", config_sha256.as_str())];
    let package = Package {
        system: System::Autoencoder,
        graphs: graphs(task.averaged(), &test, &metadata)?,
        others: Vec::new(),
        scores: system::scores(&figures),
        config_sha256,
    };
    arguments.finish(package, &figures)
}

/// Puts the configured share of samples that do not belong among those to learn from.
fn with_outliers(run: &AutoencoderRun, train: Samples) -> Result<Samples, String> {
    let Some(outliers) = &run.outliers else {
        return Ok(train);
    };
    let others = outliers
        .source
        .open(&run.data.root)
        .map_err(|e| e.to_string())?;
    let wanted = (train.len() as f64 * outliers.share / (1.0 - outliers.share)).round() as usize;
    if others.len() < wanted {
        return Err(format!(
            "outliers.source has {} samples, expected {wanted}",
            others.len()
        ));
    }
    let chosen: Vec<usize> = (0..wanted).collect();
    train.joined(&others.chosen(&chosen), "outlier")
}
