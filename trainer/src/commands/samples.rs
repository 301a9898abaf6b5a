//! `roadhound-train samples`: training pairs on a sheet, to look at.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use roadhound_trainer::data::Dataset;
use roadhound_trainer::data::sheet::contact_sheet;
use roadhound_trainer::outputs;
use roadhound_trainer::sampler::{SamplerScratch, Split};

use super::{load, sampler};

#[derive(clap::Args)]
pub(crate) struct SamplesArguments {
    /// TOML file, as for `tracker`.
    #[arg(long)]
    config: PathBuf,
    /// PNG file to write.
    #[arg(long)]
    out: PathBuf,
    /// Folder of the training packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// First pair.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    from: u64,
    /// How many pairs.
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u64).range(1..=4096))]
    count: u64,
}

pub(crate) fn samples(arguments: &SamplesArguments) -> Result<()> {
    let run = load(&arguments.config, arguments.data.as_ref())?;
    let dataset = Arc::new(Dataset::open(&run.data)?);
    let train = sampler(&run, &dataset, Split::Train)?;
    let mut scratch = SamplerScratch::default();
    let mut pairs = Vec::new();
    for number in arguments.from..arguments.from.saturating_add(arguments.count) {
        pairs.push(train.draw_number(number, &mut scratch)?);
    }
    outputs::picture(&arguments.out, &contact_sheet(&pairs, 8))
}
