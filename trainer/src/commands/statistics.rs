//! `roadhound-train statistics`: gives a bundle what the board's `--adapt` starts from.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use roadhound_trainer::data::Dataset;
use roadhound_trainer::export::bundle;
use roadhound_trainer::quantise::statistics::source_statistics;
use roadhound_trainer::sampler::Split;

use super::quantise::drawn;

#[derive(clap::Args)]
pub(crate) struct StatisticsArguments {
    /// Bundle with int8 graphs.
    #[arg(long, default_value = "edge/models/roadhound-s")]
    bundle: PathBuf,
    /// Training configuration: names the packs that the model learned from.
    #[arg(long, default_value = "configs/roadhound-s-5.toml")]
    config: PathBuf,
    /// Folder of the packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Pairs of crops to measure on.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    crops: u64,
    /// Layers, from the image on, that the board may put right.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    layers: u8,
    /// Folder of the new bundle, instead of the old one's.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn statistics(arguments: &StatisticsArguments) -> Result<()> {
    let from = || format!("{}", arguments.bundle.display());
    let mut files = bundle::read(&arguments.bundle)?;
    let run = super::load(&arguments.config, arguments.data.as_ref())?;
    let dataset = Arc::new(Dataset::open(&run.data)?);
    let sampler = super::sampler(&run, &dataset, Split::Train)?;
    let pairs = drawn(&sampler, arguments.crops)?;
    ensure!(
        !pairs.is_empty(),
        "{}: no pairs",
        arguments.config.display()
    );
    let graphs = files.int8.as_ref().with_context(|| {
        format!(
            "{}: no int8 graphs; `roadhound-train quantise` makes them",
            from()
        )
    })?;
    let contract = &files.manifest.follow;
    let most = arguments.layers.into();
    let found = source_statistics(graphs, contract, &pairs, most).with_context(from)?;
    for layer in &found.layers {
        log::info!("{}: {} channels", layer.tensor, layer.mean.len());
    }
    bundle::set_statistics(&mut files, &found)?;
    let out = arguments.out.as_ref().unwrap_or(&arguments.bundle);
    bundle::write_quantised(files, &[], out)?;
    log::info!("{}: written", out.display());
    Ok(())
}
