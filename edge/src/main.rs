//! The `roadhound` command: arguments in, exit status out. What the commands do is in the library.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use roadhound_edge::bench::{BenchOptions, Watch, bench, compare};
use roadhound_edge::bundle::{ModelSource, Precision};
use roadhound_edge::config;
use roadhound_edge::demo::{DemoOptions, demo};
use roadhound_edge::failure::Failure;
use roadhound_edge::run::{RunOptions, run as run_board};
use roadhound_edge::select::Target;
use roadhound_edge::source::{Options as SourceOptions, RawLayout};
use roadhound_edge::track::{TrackOptions, track};
use roadhound_edge::watch::config::WatchFile;
use roadhound_edge::watch::{WatchOptions, WatchOutputs, watch};
use roadhound_host::line;
use roadhound_shared::adapt::AdaptConfig;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::propose::Closer;

/// Follows objects in dashcam video.
#[derive(Parser)]
#[command(name = "roadhound", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Follow one object through a folder of images, a video file (H.264 MP4, MJPEG AVI) or a raw frame dump
    Track(TrackArgs),
    /// Find everybody on the road and keep their identities, through any source that `track` reads
    Watch(WatchArgs),
    /// Follow what a camera sees, as a service on a board
    Run(RunArgs),
    /// Render a drive, follow a car in it, score the result and write a video to look at
    Demo(DemoArgs),
    /// Measure the time of every stage, the start-up and the memory
    Bench(BenchArgs),
}

#[derive(Args)]
struct ModelArgs {
    /// Folder of a model bundle; without it, the model built into this program
    #[arg(long, value_name = "BUNDLE")]
    model: Option<PathBuf>,
    /// Arithmetic of the network [default: int8 where the model has it, else f32]
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Threads of the network
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
}

impl ModelArgs {
    fn source(&self) -> ModelSource {
        self.model
            .clone()
            .map_or(ModelSource::BuiltIn, ModelSource::Folder)
    }
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct WhomArgs {
    /// Box of the object in the first frame, in pixels from the image's top-left corner
    #[arg(long, value_name = "X,Y,W,H", allow_hyphen_values = true, value_parser = parse_box)]
    init: Option<BoxXywh>,
    /// Whom to follow: a point X,Y; a kind, such as car or bus:2; a number, the most conspicuous being 1; id:N, as `watch`
    /// counts them
    #[arg(long, value_name = "WHOM", allow_hyphen_values = true)]
    select: Option<Target>,
    /// Follow whom a driver would watch
    #[arg(long)]
    auto: bool,
}

impl WhomArgs {
    fn target(&self) -> Target {
        let init = self.init.map(Target::Box);
        init.or(self.select).unwrap_or(Target::AUTO)
    }
}

#[derive(Args)]
struct TrackArgs {
    /// Folder of images, video file, or raw dump
    source: PathBuf,
    #[command(flatten)]
    whom: WhomArgs,
    /// Let what finds road users say where a lost object could be; --select and --auto, which have it at hand, do so by
    /// themselves
    #[arg(long)]
    refind: bool,
    /// Do not
    #[arg(long, conflicts_with = "refind")]
    no_refind: bool,
    /// Look every now and then whether the camera shows what was learned: a covered, blurred or blinded lens is told
    #[arg(long)]
    familiarity: bool,
    /// Let the network's normalisation follow what the camera shows
    #[arg(long)]
    adapt: bool,
    /// The same with these constants: the keys of the table `[adapt]` of packaging/roadhound.toml
    #[arg(long, value_name = "F.toml")]
    adapt_config: Option<PathBuf>,
    /// Write boxes here, one `x,y,w,h` a frame, `nan,nan,nan,nan` where the object is lost
    #[arg(long, value_name = "F.txt")]
    out: Option<PathBuf>,
    /// Write milliseconds from decoded frame to box here, one line a frame
    #[arg(long, value_name = "F.time")]
    times: Option<PathBuf>,
    /// Write one JSON object a frame here
    #[arg(long, value_name = "F")]
    jsonl: Option<PathBuf>,
    /// Write an annotated video here
    #[arg(long, value_name = "F.mp4")]
    video: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Frames per second of a folder of images or raw dump [default: seqinfo.ini's, else 30]
    #[arg(long, value_name = "N", value_parser = parse_fps)]
    fps: Option<f64>,
    /// Layout of a raw dump; the format may come from its name (.yuyv .nv12 .rgb .bgr .grey)
    #[arg(long, value_name = "WxH[:FORMAT][@FPS]")]
    raw: Option<RawLayout>,
    /// No progress bar and no summary
    #[arg(long)]
    quiet: bool,
}

#[derive(Args)]
struct WatchArgs {
    /// Folder of images, video file, or raw dump
    source: PathBuf,
    /// Lines, zones and constants; packaging/watch.toml is a sample with everything in it
    #[arg(long, value_name = "watch.toml")]
    config: Option<PathBuf>,
    /// Write MOTChallenge lines here: frame,id,left,top,width,height,score,-1,-1,-1
    #[arg(long, value_name = "F.txt")]
    out: Option<PathBuf>,
    /// Write milliseconds from decoded frame to boxes here, one line a frame
    #[arg(long, value_name = "F.time")]
    times: Option<PathBuf>,
    /// Write one JSON object a frame here, with kinds, zones and crossings
    #[arg(long, value_name = "F")]
    jsonl: Option<PathBuf>,
    /// Write COCO-style JSON with tracks here
    #[arg(long, value_name = "F.json")]
    coco: Option<PathBuf>,
    /// Write "CVAT for video 1.1" here, for annotators to correct
    #[arg(long, value_name = "F.xml")]
    cvat: Option<PathBuf>,
    /// Write an annotated video with trails here
    #[arg(long, value_name = "F.mp4")]
    video: Option<PathBuf>,
    /// Look at every N-th frame; motion carries everybody over the others [default: 15 looks a second]
    #[arg(long, value_name = "N", conflicts_with = "budget", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    every: Option<u32>,
    /// Look as often as a mean of so many milliseconds a frame allows; what is found then depends on the machine
    #[arg(long, value_name = "MILLISECONDS", allow_hyphen_values = true, value_parser = parse_budget)]
    budget: Option<f32>,
    /// Look closer where the far things are, a look more for each view: nothing, middle, halves or all [default: middle]
    #[arg(long, value_name = "WHERE", value_parser = parse_closer)]
    closer: Option<Closer>,
    #[command(flatten)]
    model: ModelArgs,
    /// Frames per second of a folder of images or raw dump [default: seqinfo.ini's, else 30]
    #[arg(long, value_name = "N", value_parser = parse_fps)]
    fps: Option<f64>,
    /// Layout of a raw dump; the format may come from its name (.yuyv .nv12 .rgb .bgr .grey)
    #[arg(long, value_name = "WxH[:FORMAT][@FPS]")]
    raw: Option<RawLayout>,
    /// No progress bar and no summary
    #[arg(long)]
    quiet: bool,
}

#[derive(Args)]
struct RunArgs {
    /// What to do; packaging/roadhound.toml is a sample with everything in it
    #[arg(long, value_name = "roadhound.toml")]
    config: PathBuf,
    /// Let the network's normalisation follow what the camera shows, by the constants of the table `[adapt]` where it is there
    #[arg(long)]
    adapt: bool,
    /// Only check the configuration
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
struct DemoArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Where the video and the result files go
    #[arg(long, value_name = "FOLDER", default_value = "roadhound-demo")]
    folder: PathBuf,
    /// Seed of the drive
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Frames of the drive, which takes ten seconds however many there are
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(30..=2_400))]
    frames: u32,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

#[derive(Args)]
struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Frames to measure
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    frames: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Time both graphs in int8, in f32 and in tract's own int8, in turn, and the most that the processor can multiply
    #[arg(long)]
    compare: bool,
    /// Count what the processor spends on this thread instead of the time that passes: for a machine with neighbours.
    /// Start-up is told in time that passes
    #[arg(long)]
    processor_time: bool,
}

fn parse_box(text: &str) -> Result<BoxXywh, String> {
    let values = text
        .split(',')
        .map(|part| part.trim().parse::<f32>().ok().filter(|v| v.is_finite()))
        .collect::<Option<Vec<_>>>();
    match values.as_deref() {
        Some(&[x, y, w, h]) => Ok(BoxXywh::new(x, y, w, h)),
        _ => Err("expected four numbers X,Y,W,H".into()),
    }
}

fn parse_fps(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(fps) if fps.is_finite() && fps > 0.0 => Ok(fps),
        _ => Err("expected a positive number".into()),
    }
}

fn parse_closer(text: &str) -> Result<Closer, String> {
    let mut all = Closer::ALL.into_iter();
    let known = all.find(|closer| closer.name() == text);
    known.ok_or_else(|| format!("expected {}", Closer::ALL.map(Closer::name).join(", ")))
}

fn parse_budget(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(millis) if (0.1..=1e5).contains(&millis) => Ok(millis),
        _ => Err("expected 0.1 to 100000 milliseconds".into()),
    }
}

fn main() -> ExitCode {
    roadhound_edge::memory::give_large_blocks_back();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    // A service says what happens to its camera; a command speaks through its results.
    let level = match cli.command {
        Command::Run(_) => "roadhound=info,roadhound_edge=info,error",
        _ => "error",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.line());
            failure.status()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Track(args) => {
            let quiet = args.quiet;
            let to_stdout = args.out.is_none() && args.jsonl.is_none() && args.video.is_none();
            let adapt = match &args.adapt_config {
                Some(path) => Some(config::read_adapt(path).map_err(Failure::Usage)?),
                None => args.adapt.then(AdaptConfig::default),
            };
            let summary = track(&TrackOptions {
                adapt,
                familiarity: args.familiarity,
                source_options: SourceOptions {
                    fps: args.fps,
                    raw: args.raw,
                },
                // Nine megabytes more, which a board that is given a box need not have.
                refind: args.refind || (args.whom.init.is_none() && !args.no_refind),
                target: args.whom.target(),
                model: args.model.source(),
                precision: args.model.precision,
                threads: args.model.threads.into(),
                source: args.source,
                out: args.out,
                times: args.times,
                jsonl: args.jsonl,
                video: args.video,
                quiet,
            })?;
            if !quiet && !to_stdout {
                say(&summary.to_string());
            }
            Ok(())
        }
        Command::Watch(args) => {
            let mut file = match &args.config {
                Some(path) => WatchFile::read(path).map_err(Failure::Usage)?,
                None => WatchFile::default(),
            };
            let cadence = &mut file.watch.cadence;
            cadence.every = args.every.or(cadence.every);
            if args.budget.is_some() {
                (cadence.budget_millis, cadence.every) = (args.budget, None);
            }
            let views = &mut file.watch.views;
            views.closer = args.closer.unwrap_or(views.closer);
            let outputs = WatchOutputs {
                out: args.out,
                times: args.times,
                jsonl: args.jsonl,
                coco: args.coco,
                cvat: args.cvat,
                video: args.video,
            };
            let files = [
                &outputs.out,
                &outputs.jsonl,
                &outputs.coco,
                &outputs.cvat,
                &outputs.video,
            ];
            let to_stdout = files.iter().all(|file| file.is_none());
            let summary = watch(&WatchOptions {
                source: args.source,
                source_options: SourceOptions {
                    fps: args.fps,
                    raw: args.raw,
                },
                file,
                config: args.config,
                outputs,
                model: args.model.source(),
                precision: args.model.precision,
                threads: args.model.threads.into(),
                quiet: args.quiet,
            })?;
            if !args.quiet && !to_stdout {
                say(&summary.to_string());
            }
            Ok(())
        }
        Command::Run(args) => run_board(&RunOptions {
            config: args.config,
            adapt: args.adapt,
            check: args.check,
        }),
        Command::Demo(args) => {
            let summary = demo(&DemoOptions {
                model: args.model.source(),
                precision: args.model.precision,
                threads: args.model.threads.into(),
                folder: args.folder,
                seed: args.seed,
                frames: args.frames,
                quiet: args.quiet,
            })?;
            say(&summary.to_string());
            Ok(())
        }
        Command::Bench(args) => {
            let options = BenchOptions {
                model: args.model.source(),
                precision: args.model.precision,
                threads: args.model.threads.into(),
                frames: args.frames,
                watch: if args.processor_time {
                    Watch::Processor
                } else {
                    Watch::Wall
                },
            };
            if args.compare {
                let comparison = compare(&options)?;
                say(&if args.json {
                    comparison.to_json()
                } else {
                    comparison.to_string()
                });
                return Ok(());
            }
            let figures = bench(&options)?;
            say(&if args.json {
                figures.to_json()
            } else {
                figures.to_string()
            });
            Ok(())
        }
    }
}

/// Help and version are answers; everything else is one line on standard error.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        say(error.render().to_string().trim_end());
        let asked = error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        return if asked {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        };
    }
    let said = line::usage(&error.render().to_string());
    complain(&format!("{said}; see roadhound --help"));
    ExitCode::from(2)
}

fn say(text: &str) {
    // A reader that has gone away is no failure of ours.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "roadhound: {line}");
}
