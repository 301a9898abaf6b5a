//! `roadhound-train tune-scores`: from which scores on `roadhound watch` believes what a bundle proposes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rayon::prelude::*;
use roadhound_shared::propose::{Finder, ProposeContract};
use roadhound_shared::watch::WatchConfig;
use roadhound_trainer::export::bundle::{self, BundleFiles, GraphPrecision};
use roadhound_trainer::export::propose::OnnxProposer;
use roadhound_trainer::outputs;
use roadhound_trainer::tune::scores::{Search, Watched, clips};

use super::parse_threads;

/// A bundle, and the clips that its proposals are tuned on.
#[derive(clap::Args)]
pub(super) struct LookedAtArguments {
    /// Bundle with proposals.
    #[arg(long, default_value = "edge/models/roadhound-s")]
    pub(super) bundle: PathBuf,
    /// Folder of annotated clips, such as rendered drives; repeatable. Evaluation clips are refused.
    #[arg(long, value_name = "DIR", required = true)]
    sequences: Vec<PathBuf>,
    /// Which graph looks; without it, the int8 one where the bundle has it.
    #[arg(long)]
    precision: Option<GraphPrecision>,
    /// Folder for the table of everything that was tried.
    #[arg(long)]
    out: PathBuf,
    /// Of the draws that tell a gain from luck.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Clips looked at at a time. They do not change the result.
    #[arg(long, default_value_t = 1, value_parser = parse_threads)]
    threads: usize,
}

/// A bundle, and what it found on the clips.
pub(super) struct Looked {
    pub(super) files: BundleFiles,
    pub(super) contract: ProposeContract,
    pub(super) clips: Vec<Watched>,
}

impl LookedAtArguments {
    /// Looks at every clip once, for a table in a folder that is there then.
    pub(super) fn look(&self, config: &WatchConfig) -> Result<Looked> {
        std::fs::create_dir_all(&self.out).with_context(|| format!("{}", self.out.display()))?;
        let folders = clips(&self.sequences)?;
        let files = bundle::read(&self.bundle)?;
        let named = || format!("{}: the bundle has no proposals", self.bundle.display());
        let contract = files.manifest.propose.clone().with_context(named)?;
        let graph = match (self.precision, &files.propose_int8) {
            (Some(GraphPrecision::F32), _) | (None, None) => &files.propose,
            (Some(GraphPrecision::Int8) | None, int8) => int8,
        };
        let graph = graph.as_ref().with_context(|| {
            let bundle = self.bundle.display();
            format!("{bundle}: no int8 graph that proposes; `roadhound-train quantise` makes it")
        })?;
        roadhound_trainer::ops::set_candle_threads(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads);
        let clips: Vec<Watched> = pool.build()?.install(|| {
            let look = |folder: &PathBuf| -> Result<Watched> {
                let network = OnnxProposer::new(&graph.bytes, &contract)?;
                let mut finder = Finder::new(network, contract.clone())?;
                Watched::clip(folder, &mut finder, config)
            };
            folders.par_iter().map(look).collect::<Result<_>>()
        })?;
        log::info!("{} clips looked at", clips.len());
        Ok(Looked {
            files,
            contract,
            clips,
        })
    }

    /// Where a table goes.
    pub(super) fn table(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }
}

#[derive(clap::Args)]
pub(crate) struct TuneScoresArguments {
    #[command(flatten)]
    looked_at: LookedAtArguments,
    /// Write the choice into the bundle, in `[propose.score]`; everything else stays to the byte.
    #[arg(long)]
    write: bool,
}

pub(crate) fn tune_scores(arguments: &TuneScoresArguments) -> Result<()> {
    let of = &arguments.looked_at;
    let config = WatchConfig::default();
    let Looked {
        mut files,
        contract,
        clips,
    } = of.look(&config)?;
    let current = contract.score.unwrap_or_default();
    let search = Search::over(&clips, &config, current, contract.looks.as_ref(), of.seed)?;
    outputs::file(&of.table("scores.csv"), search.csv())?;
    let chosen = search.shipped();
    print(&search, &toml::to_string(&chosen)?);
    if arguments.write {
        if let Some(contract) = &mut files.manifest.propose {
            contract.score = Some(chosen);
        }
        bundle::write_quantised(files, &[], &of.bundle)?;
        log::info!("{}: written", of.bundle.display());
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result is what the command is for")]
fn print(search: &Search, chosen: &str) {
    println!("{}\n\n[propose.score]\n{chosen}", search.verdict());
}
