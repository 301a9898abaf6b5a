//! `roadhound-train tune-scores`: from which scores on `roadhound watch` believes what a bundle proposes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rayon::prelude::*;
use roadhound_shared::propose::Finder;
use roadhound_shared::watch::WatchConfig;
use roadhound_trainer::export::bundle::{self, GraphPrecision};
use roadhound_trainer::export::propose::OnnxProposer;
use roadhound_trainer::outputs;
use roadhound_trainer::tune::scores::{Search, Watched, clips};

use super::parse_threads;

#[derive(clap::Args)]
pub(crate) struct TuneScoresArguments {
    /// Bundle with proposals.
    #[arg(long, default_value = "edge/models/roadhound-s")]
    bundle: PathBuf,
    /// Folder of annotated clips, such as rendered drives; repeatable. Evaluation clips are refused.
    #[arg(long, value_name = "DIR", required = true)]
    sequences: Vec<PathBuf>,
    /// Which graph looks; without it, the int8 one where the bundle has it.
    #[arg(long)]
    precision: Option<GraphPrecision>,
    /// Folder for the table of everything that was tried.
    #[arg(long)]
    out: PathBuf,
    /// Write the choice into the bundle, in `[propose.score]`; everything else stays to the byte.
    #[arg(long)]
    write: bool,
    /// Of the draws that tell a gain from luck.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Clips looked at at a time. They do not change the result.
    #[arg(long, default_value_t = 1, value_parser = parse_threads)]
    threads: usize,
}

pub(crate) fn tune_scores(arguments: &TuneScoresArguments) -> Result<()> {
    let folders = clips(&arguments.sequences)?;
    let mut files = bundle::read(&arguments.bundle)?;
    let named = || {
        format!(
            "{}: the bundle has no proposals",
            arguments.bundle.display()
        )
    };
    let contract = files.manifest.propose.clone().with_context(named)?;
    let graph = match (arguments.precision, &files.propose_int8) {
        (Some(GraphPrecision::F32), _) | (None, None) => &files.propose,
        (Some(GraphPrecision::Int8) | None, int8) => int8,
    };
    let graph = graph.as_ref().with_context(|| {
        let bundle = arguments.bundle.display();
        format!("{bundle}: no int8 graph that proposes; `roadhound-train quantise` makes it")
    })?;
    let config = WatchConfig::default();
    roadhound_trainer::ops::set_candle_threads(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads);
    let watched: Vec<Watched> = pool.build()?.install(|| {
        let look = |folder: &PathBuf| -> Result<Watched> {
            let network = OnnxProposer::new(&graph.bytes, &contract)?;
            let mut finder = Finder::new(network, contract.clone())?;
            Watched::clip(folder, &mut finder, &config)
        };
        folders.par_iter().map(look).collect::<Result<_>>()
    })?;
    log::info!("{} clips looked at", watched.len());
    let current = contract.score.unwrap_or_default();
    let search = Search::over(&watched, &config, current, arguments.seed)?;
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("{}", arguments.out.display()))?;
    outputs::file(&arguments.out.join("scores.csv"), search.csv())?;
    let chosen = search.shipped();
    print(&search, &toml::to_string(&chosen)?);
    if arguments.write {
        if let Some(contract) = &mut files.manifest.propose {
            contract.score = Some(chosen);
        }
        bundle::write_quantised(files, &[], &arguments.bundle)?;
        log::info!("{}: written", arguments.bundle.display());
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result is what the command is for")]
fn print(search: &Search, chosen: &str) {
    println!("{}\n\n[propose.score]\n{chosen}", search.verdict());
}
