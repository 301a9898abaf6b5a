//! `roadhound-train`: learns the tracker and writes the bundles that `roadhound` runs.
//!
//! Exit status: 0 done (also after Ctrl-C, with a checkpoint); 2 bad usage, configuration, data or model, said in one
//! line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use roadhound_trainer::data::layout::Layout;
use roadhound_trainer::ops::DeviceChoice;

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
    Tracker(TrackerArguments),
    /// Follow annotated sequences with a bundle or a checkpoint, and score.
    Evaluate(EvaluateArguments),
    /// Write a bundle from a checkpoint.
    Export(ExportArguments),
    /// Train without each trick of the recipe in turn, and tabulate what it costs.
    Ablate(AblateArguments),
    /// Draw a contact sheet of training pairs, to look at.
    Samples(SamplesArguments),
    /// Write a page that shows a run, or compares several.
    Report(commands::ReportArguments),
    /// Search the tracker's constants on validation runs.
    Tune(commands::TuneArguments),
    /// Measure how far two sets of images lie apart on the features of a trained network.
    Gap(GapArguments),
    /// Render drives with exact boxes: training packs and evaluation clips.
    Render(RenderArguments),
}

#[derive(clap::Args)]
struct GapArguments {
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

#[derive(clap::Args)]
struct RenderArguments {
    /// `us` or `india`.
    #[arg(long, value_parser = commands::parse_region)]
    region: roadhound_shared::world::Region,
    /// Decides everything random.
    #[arg(long)]
    seed: u64,
    /// How many drives.
    #[arg(long, default_value_t = 10)]
    sequences: u32,
    /// Frames of each.
    #[arg(long, default_value_t = 90)]
    frames: u32,
    /// Frames a second.
    #[arg(long, default_value_t = 30.0)]
    fps: f32,
    /// Image size, `WIDTHxHEIGHT`.
    #[arg(long, default_value = "640x360", value_parser = commands::parse_size)]
    size: (u32, u32),
    /// Threads; they change nothing but the time it takes.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// New folder.
    #[arg(long, required_unless_present = "bench")]
    out: Option<PathBuf>,
    /// A training pack, or clips for `evaluate --sequences`.
    #[arg(long, value_enum, default_value_t = commands::LayoutName::Pack)]
    layout: commands::LayoutName,
    /// Traffic as it comes, or somebody who is hidden for two seconds.
    #[arg(long, value_enum, default_value_t = commands::ScenarioName::Drive)]
    scenario: commands::ScenarioName,
    /// TOML file with the whole world, instead of the region's defaults.
    #[arg(long)]
    world: Option<PathBuf>,
    /// Draw frames with their boxes into this PNG.
    #[arg(long)]
    sheet: Option<PathBuf>,
    /// How many frames.
    #[arg(long, default_value_t = 24)]
    cells: u32,
    /// No boxes on the sheet.
    #[arg(long)]
    bare: bool,
    /// Write nothing; print frames a second on one core, JPEG included.
    #[arg(long)]
    bench: bool,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
}

#[derive(clap::Args)]
struct TrackerArguments {
    /// TOML file; every key has a default.
    #[arg(long)]
    config: PathBuf,
    /// Folder for checkpoints and logs.
    #[arg(long)]
    out: PathBuf,
    /// What a new run starts from: a checkpoint (its averaged weights) or a bundle's folder; a resumed run does not
    /// need it.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Folder of the training packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Pairs to train on, instead of the configuration's.
    #[arg(long)]
    pairs: Option<u64>,
    /// Threads of the arithmetic, instead of the configuration's. They do not change the weights.
    #[arg(long)]
    threads: Option<usize>,
    /// Where the network is computed, `cpu` or `cuda:0`, instead of the configuration's.
    #[arg(long)]
    device: Option<DeviceChoice>,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
}

#[derive(clap::Args)]
struct EvaluateArguments {
    /// Bundle (a folder) or checkpoint (a file).
    #[arg(long)]
    model: PathBuf,
    /// Folder of annotated sequences.
    #[arg(
        long,
        required_unless_present = "held_out",
        conflicts_with = "held_out"
    )]
    sequences: Option<PathBuf>,
    /// Data set that the sequences are laid out as.
    #[arg(long, value_enum, default_value_t = Layout::Auto)]
    layout: Layout,
    /// Follow the held-out videos of this training configuration instead.
    #[arg(long, value_name = "CONFIG")]
    held_out: Option<PathBuf>,
    /// Also score this many held-out pairs; with --held-out.
    #[arg(long, default_value_t = 0, conflicts_with = "sequences")]
    pairs: u64,
    /// Folder of the training packs, instead of the configuration's; with --held-out.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Constants of the tracker: TOML over those of the bundle.
    #[arg(long)]
    tracker: Option<PathBuf>,
    /// Only runs whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Draw the reliability diagram of presence, as PNG.
    #[arg(long)]
    reliability: Option<PathBuf>,
    /// Frames a second, instead of what the recordings say.
    #[arg(long)]
    fps: Option<f64>,
    /// Write the table as CSV.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Write one result file a run into this folder.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Draw contact sheets of the worst runs into this folder.
    #[arg(long)]
    sheets: Option<PathBuf>,
    /// How many of them.
    #[arg(long, default_value_t = 4)]
    worst: usize,
}

#[derive(clap::Args)]
struct ExportArguments {
    /// Checkpoint written by `tracker`.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Folder of the bundle; replaced as a whole.
    #[arg(long)]
    out: PathBuf,
    /// Name of the model.
    #[arg(long, default_value = "roadhound-s")]
    name: String,
    /// Constants of the tracker: a TOML file with the `[tracker]` table's keys, over the defaults.
    #[arg(long)]
    tracker: Option<PathBuf>,
    /// Scores to put on the card, `name=value`, repeatable.
    #[arg(long = "score", value_name = "NAME=VALUE")]
    scores: Vec<String>,
    /// Pairs seen before this checkpoint's run, by the one it was started from.
    #[arg(long, default_value_t = 0)]
    pairs_before: u64,
    /// Commit of the code that trained the weights.
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Folder of the training packs, instead of the configuration's: presence is calibrated on their held-out pairs.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Leave presence as it was trained; needs no data.
    #[arg(long)]
    uncalibrated: bool,
}

#[derive(clap::Args)]
struct AblateArguments {
    /// TOML file, as for `tracker`: the baseline.
    #[arg(long)]
    config: PathBuf,
    /// Folder: one run folder a variant, `ablation.csv` and `ablation.md`. The same command goes on where it stopped.
    #[arg(long)]
    out: PathBuf,
    /// Pairs of every run.
    #[arg(long)]
    pairs: u64,
    /// Checkpoint or bundle that every run starts from.
    #[arg(long)]
    init: Option<PathBuf>,
    /// Only these tricks, by name, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Seeds of the baseline: their spread says how far two figures must be apart to mean anything.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Folder of the training packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Threads of the arithmetic, instead of the configuration's.
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(clap::Args)]
struct SamplesArguments {
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
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many pairs.
    #[arg(long, default_value_t = 48)]
    count: u64,
}

fn main() -> ExitCode {
    roadhound_trainer::ops::keep_freed_memory();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Tracker(a) => commands::tracker(&a),
        Command::Evaluate(a) => commands::evaluate(&a),
        Command::Export(a) => commands::export(&a),
        Command::Ablate(a) => commands::ablate(&a),
        Command::Samples(a) => commands::samples(&a),
        Command::Report(a) => commands::report(&a),
        Command::Tune(a) => commands::tune(&a),
        Command::Gap(a) => commands::gap(&a),
        Command::Render(a) => commands::render(&a),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roadhound-train: {}", roadhound_host::line::of(&*error));
            ExitCode::from(2)
        }
    }
}
