//! `roadhound-train`: learns the tracker and writes the bundles that `roadhound` runs; learns other systems on the same parts.
//!
//! Exit status: 0 done (also after Ctrl-C, with a checkpoint); 2 bad usage, configuration, data or model, said in one
//! line.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use roadhound_host::line;

mod commands;

// The training step allocates and frees hundreds of megabytes of feature maps; the system's allocator gives them back
// to the kernel each time and pays for the page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "roadhound-train",
    version,
    about = "Learns the tracker and exports the bundles that roadhound runs"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train the tracker; the same command goes on where a stopped run ended.
    Tracker(commands::TrackerArguments),
    /// Learn to find road users on whole frames, on the backbone of a bundle.
    Propose(commands::ProposeArguments),
    /// Follow annotated sequences with a bundle or a checkpoint, and score.
    Evaluate(commands::EvaluateArguments),
    /// Write a bundle from a checkpoint.
    Export(commands::ExportArguments),
    /// Train without each trick of the recipe in turn, and tabulate what it costs.
    Ablate(commands::AblateArguments),
    /// Draw a contact sheet of training pairs, to look at.
    Samples(commands::SamplesArguments),
    /// Write a page that shows a run, or compares several.
    Report(commands::ReportArguments),
    /// Search the tracker's constants on validation runs.
    Tune(commands::TuneArguments),
    /// Search the scores from which watch mode believes a bundle's proposals, on validation drives.
    TuneScores(commands::TuneScoresArguments),
    /// Learn the distance between embeddings that `roadhound watch` tells road users apart by, on annotated clips.
    TuneLooks(commands::TuneLooksArguments),
    /// Add int8 graphs to a bundle, and a report of what eight bits cost.
    Quantise(commands::QuantiseArguments),
    /// Measure how far two sets of images lie apart on the features of a trained network.
    Gap(commands::GapArguments),
    /// Learn a Mahalanobis distance from classes or pairs, linear or with a kernel; score it; write L and M.
    Metric(commands::MetricArguments),
    /// Learn a distance by a Siamese network; score it on classes never shown; write its graphs.
    Siamese(commands::LearnArguments),
    /// Learn codes by an autoencoder, plain, sparse, denoising or variational; write its graphs.
    Autoencoder(commands::LearnArguments),
    /// Learn to make samples, against a discriminator, with codes that mean something or without; write its graphs.
    Gan(commands::LearnArguments),
    /// Learn a code in two parts, the class and the rest, and probe both; write encoder and decoder.
    Disentangle(commands::LearnArguments),
    /// Learn classes of a domain without labels from those of another; estimate the bound on its error; write the graph.
    Dann(commands::DannArguments),
    /// Learn what the board may expect to see, score it on faults, and put it into a bundle.
    Familiarity(commands::FamiliarityArguments),
    /// Give a bundle what the board's `--adapt` starts from: where the sums of its int8 graphs lie on the source.
    Statistics(commands::StatisticsArguments),
    /// Adapt a bundle to unlabelled video of another domain; give it back as it was where nothing speaks for the change.
    Adapt(commands::AdaptArguments),
    /// Render drives with exact boxes: training packs and evaluation clips.
    Render(commands::RenderArguments),
}

fn main() -> ExitCode {
    roadhound_trainer::ops::keep_freed_memory();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version are answers.
        Err(answer) if !answer.use_stderr() => answer.exit(),
        Err(error) => {
            let said = match error.kind() {
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command".to_owned(),
                _ => line::usage(&error.render().to_string()),
            };
            eprintln!("roadhound-train: {said}; see roadhound-train --help");
            return ExitCode::from(2);
        }
    };
    let result = match arguments.command {
        Command::Tracker(a) => commands::tracker(&a),
        Command::Propose(a) => commands::propose(&a),
        Command::Evaluate(a) => commands::evaluate(&a),
        Command::Export(a) => commands::export(&a),
        Command::Ablate(a) => commands::ablate(&a),
        Command::Samples(a) => commands::samples(&a),
        Command::Report(a) => commands::report(&a),
        Command::Tune(a) => commands::tune(&a),
        Command::TuneScores(a) => commands::tune_scores(&a),
        Command::TuneLooks(a) => commands::tune_looks(&a),
        Command::Quantise(a) => commands::quantise(&a),
        Command::Gap(a) => commands::gap(&a),
        Command::Metric(a) => commands::metric(&a),
        Command::Siamese(a) => commands::siamese(&a),
        Command::Autoencoder(a) => commands::autoencoder(&a),
        Command::Gan(a) => commands::gan(&a),
        Command::Disentangle(a) => commands::disentangle(&a),
        Command::Dann(a) => commands::dann(&a),
        Command::Familiarity(a) => commands::familiarity(&a),
        Command::Statistics(a) => commands::statistics(&a),
        Command::Adapt(a) => commands::adapt(&a),
        Command::Render(a) => commands::render(&a),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roadhound-train: {}", line::of(&*error));
            ExitCode::from(2)
        }
    }
}
