//! How long it takes to open a hundred thousand annotated frames in every layout, and how much memory.
//!
//! ```sh
//! cargo bench -p roadhound-trainer --bench open_packs                 # all layouts, one core
//! cargo bench -p roadhound-trainer --bench open_packs -- voc yolo     # those whose name holds a word
//! ```
//! Writes each pack into a temporary folder, opens it `--rounds N` times (default 5) with warm file caches and prints
//! the median and the best of the processor time (user and system) and of the wall time, and the most memory of the first
//! opening. `--threads N` (default 1), `--frames N`. `--keep FOLDER` writes the packs there, or takes those that are there:
//! two of them have two hundred thousand small files. `--at-most S`: exit status 1 where a median of processor time over
//! all threads is above `S` seconds.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/packs/mod.rs"]
mod packs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use packs::{LAYOUTS, Layout, config_of, forget_peak, memory_mib};
use roadhound_trainer::data::Dataset;

// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Options {
    words: Vec<String>,
    frames: usize,
    threads: usize,
    rounds: usize,
    at_most_s: Option<f64>,
    keep: Option<PathBuf>,
}

fn options() -> Result<Options> {
    let mut options = Options {
        words: Vec::new(),
        frames: 100_000,
        threads: 1,
        rounds: 5,
        at_most_s: None,
        keep: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .context(format!("{argument} needs a value"))
        };
        match argument.as_str() {
            // Cargo says so to every bench.
            "--bench" => {}
            "--frames" => options.frames = value()?.parse()?,
            "--threads" => options.threads = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
            "--keep" => options.keep = Some(value()?.into()),
            "--at-most" => options.at_most_s = Some(value()?.parse()?),
            other if other.starts_with('-') => bail!("{other} is not known"),
            word => options.words.push(word.to_lowercase()),
        }
    }
    Ok(options)
}

/// Processor time of this process in seconds: user and system of all threads, in steps of 10 ms.
fn processor_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program is in brackets and may hold spaces.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|t| t.parse::<f64>().unwrap_or(0.0)).sum::<f64>() / 100.0
}

struct Times {
    median_s: f64,
    best_s: f64,
}

fn times(mut seconds: Vec<f64>) -> Times {
    seconds.sort_by(f64::total_cmp);
    Times {
        median_s: seconds[seconds.len() / 2],
        best_s: seconds[0],
    }
}

/// The median of the processor time.
fn measure(layout: &Layout, options: &Options) -> Result<f64> {
    let frames = layout.whole_videos(options.frames);
    let temporary = tempfile::tempdir()?;
    let folder = match &options.keep {
        Some(keep) => keep.join(format!("{}-{frames}", layout.name)),
        None => temporary.path().join(layout.name),
    };
    if !folder.exists() {
        std::fs::create_dir_all(&folder)?;
        (layout.write)(&folder, frames);
    }
    let config = config_of(&folder, layout.kind);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build()?;
    let (mut processor, mut wall) = (Vec::new(), Vec::new());
    let mut used_mib = 0.0;
    for round in 0..options.rounds {
        let before_mib = memory_mib("VmRSS");
        forget_peak();
        let (started, busy) = (Instant::now(), processor_s());
        let dataset = pool.install(|| Dataset::open(&config))?;
        wall.push(started.elapsed().as_secs_f64());
        processor.push(processor_s() - busy);
        if round == 0 {
            used_mib = memory_mib("VmHWM") - before_mib;
        }
        let found = dataset.packs()[0]
            .sequences
            .iter()
            .flat_map(|s| &s.sequence.frames)
            .fold((0, 0), |(n, boxes), f| (n + 1, boxes + f.annotations.len()));
        if found != (frames, frames * layout.boxes_of_a_frame) {
            bail!("{}: {found:?} frames and boxes of {frames}", layout.name);
        }
    }
    let (processor, wall) = (times(processor), times(wall));
    println!(
        "{:<13} {frames:>7} frames {:>8} boxes   processor {:.2} s (best {:.2})   wall {:.2} s (best {:.2})   {used_mib:>4.0} MiB",
        layout.name,
        frames * layout.boxes_of_a_frame,
        processor.median_s,
        processor.best_s,
        wall.median_s,
        wall.best_s,
    );
    Ok(processor.median_s)
}

fn main() -> Result<ExitCode> {
    let options = options()?;
    let mut status = ExitCode::SUCCESS;
    for layout in &LAYOUTS {
        let name = layout.name.to_lowercase();
        let words = &options.words;
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let taken_s = measure(layout, &options)?;
        if options.at_most_s.is_some_and(|most_s| taken_s > most_s) {
            status = ExitCode::FAILURE;
        }
    }
    Ok(status)
}
