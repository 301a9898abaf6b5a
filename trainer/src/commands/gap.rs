//! `roadhound-train gap`: the distance between two sets of images, on the features of a trained network.

use std::path::PathBuf;

use anyhow::{Context, Result};
use roadhound_trainer::data::TargetFilter;
use roadhound_trainer::export::bundle::{self, GraphPrecision};
use roadhound_trainer::gap::features::{Drawn, draw};
use roadhound_trainer::gap::pictures::PictureSet;
use roadhound_trainer::gap::{GapConfig, Samples, Table};
use roadhound_trainer::outputs;

use super::network_of;

#[derive(clap::Args)]
pub(crate) struct GapArguments {
    /// Bundle (a folder) or checkpoint (a file) whose backbone gives the features.
    #[arg(long)]
    model: PathBuf,
    /// Training packs or folders of pictures: one side.
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    a: Vec<PathBuf>,
    /// The other side.
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    b: Vec<PathBuf>,
    /// TOML file; every key has a default.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Regions, and tiles, drawn from each side at most.
    #[arg(long)]
    samples: Option<usize>,
    /// Decides what is drawn.
    #[arg(long)]
    seed: Option<u64>,
    /// Also write the table as CSV.
    #[arg(long)]
    csv: Option<PathBuf>,
}

pub(crate) fn gap(arguments: &GapArguments) -> Result<()> {
    let config = config_of(arguments)?;
    let (mut network, contract) = if arguments.model.is_dir() {
        let (network, manifest) = bundle::load(&arguments.model, GraphPrecision::F32)?;
        (network, manifest.follow)
    } else {
        bundle::graphs_of(&network_of(&arguments.model)?.0)?
    };
    let mut sample = |name: char, folders: &[PathBuf]| -> Result<Drawn> {
        let set = PictureSet::open(folders)?;
        let bar = indicatif::ProgressBar::new_spinner().with_message(format!("set {name}: images"));
        let target = TargetFilter::default();
        let drawn = draw(&set, &mut network, &contract, &config, &target, || {
            bar.inc(1)
        })?;
        bar.finish_and_clear();
        report(name, folders, &set, &drawn);
        Ok(drawn)
    };
    let (a, b) = (sample('A', &arguments.a)?, sample('B', &arguments.b)?);
    let mut tables = Vec::new();
    for (of, a, b) in [
        ("regions", &a.regions, &b.regions),
        ("tiles", &a.tiles, &b.tiles),
    ] {
        if of == "regions" && [a, b].into_iter().any(Samples::is_empty) {
            log::info!("regions: not compared, a set has no annotated objects");
            continue;
        }
        tables.push(Table::of(of, a, b, &config)?);
    }
    print_tables(&tables);
    if let Some(path) = &arguments.csv {
        let head = Table::CSV_HEAD.to_owned();
        let text = tables.iter().fold(head, |text, table| text + &table.csv());
        outputs::file(path, text)?;
    }
    Ok(())
}

fn config_of(arguments: &GapArguments) -> Result<GapConfig> {
    let mut config = match &arguments.config {
        Some(path) => {
            let shown = || format!("{}", path.display());
            let text = std::fs::read_to_string(path).with_context(shown)?;
            toml::from_str(&text).with_context(shown)?
        }
        None => GapConfig::default(),
    };
    if let Some(samples) = arguments.samples {
        config.samples = samples;
    }
    if let Some(seed) = arguments.seed {
        config.seed = seed;
    }
    config.validate()?;
    Ok(config)
}

#[expect(clippy::print_stdout, reason = "says what the figures are of")]
fn report(name: char, folders: &[PathBuf], set: &PictureSet, drawn: &Drawn) {
    let folders: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    println!(
        "{name}: {}: {} regions and {} tiles from {} of {} images, kept apart by {}",
        folders.join(", "),
        drawn.regions.len(),
        drawn.tiles.len(),
        drawn.images,
        set.pictures.len(),
        if set.by_sequence { "sequence" } else { "image" }
    );
}

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
fn print_tables(tables: &[Table]) {
    for (index, table) in tables.iter().enumerate() {
        let text = table.text();
        let skip = if index == 0 { 0 } else { 1 };
        for line in text.lines().skip(skip) {
            println!("{line}");
        }
    }
}
