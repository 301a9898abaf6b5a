//! `roadhound-train tune-looks`: the distance between embeddings that `roadhound watch` tells road users apart by.

use anyhow::Result;
use roadhound_shared::watch::WatchConfig;
use roadhound_trainer::export::bundle;
use roadhound_trainer::outputs;
use roadhound_trainer::tune::looks::Search;

use super::tune_scores::{Looked, LookedAtArguments};

#[derive(clap::Args)]
pub(crate) struct TuneLooksArguments {
    #[command(flatten)]
    looked_at: LookedAtArguments,
    /// Write the choice into the bundle, in `[propose.looks]`, where it is better beyond luck; everything else stays to the
    /// byte.
    #[arg(long)]
    write: bool,
}

pub(crate) fn tune_looks(arguments: &TuneLooksArguments) -> Result<()> {
    let of = &arguments.looked_at;
    let config = WatchConfig::default();
    let Looked {
        mut files,
        contract,
        clips,
    } = of.look(&config)?;
    let scores = contract.score.unwrap_or_default();
    let search = Search::over(&clips, &config, scores, contract.looks.as_ref(), of.seed)?;
    outputs::file(&of.table("looks.csv"), search.csv())?;
    print(&search);
    if arguments.write && search.is_worth_it() {
        if let Some(contract) = &mut files.manifest.propose {
            contract.looks = search.best;
        }
        bundle::write_quantised(files, &[], &of.bundle)?;
        log::info!("{}: written", of.bundle.display());
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result is what the command is for")]
fn print(search: &Search) {
    print!("{}", search.csv());
    println!("{}", search.verdict());
}
