//! `roadhound-train render`: drives with exact boxes, as training packs or evaluation clips.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use roadhound_shared::world::{Region, Scenario, WorldConfig};
use roadhound_trainer::outputs;
use roadhound_trainer::render::{self, RenderJob};

/// Frames side by side on a contact sheet of rendered frames.
const SHEET_COLUMNS: u32 = 4;

#[derive(clap::Args)]
pub(crate) struct RenderArguments {
    /// `us` or `india`.
    #[arg(long, value_parser = parse_region)]
    region: Region,
    /// Decides everything random.
    #[arg(long)]
    seed: u64,
    /// How many drives.
    #[arg(long, default_value_t = 10)]
    sequences: u32,
    /// Frames of each, instead of the world's.
    #[arg(long)]
    frames: Option<u32>,
    /// Frames a second, instead of the world's.
    #[arg(long, allow_hyphen_values = true)]
    fps: Option<f32>,
    /// Image size, `WIDTHxHEIGHT`, instead of the world's.
    #[arg(long, value_parser = parse_size)]
    size: Option<(u32, u32)>,
    /// Threads; they change nothing but the time it takes.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// New folder.
    #[arg(long, required_unless_present = "bench")]
    out: Option<PathBuf>,
    /// A training pack, or clips for `evaluate --sequences`.
    #[arg(long, value_enum, default_value_t = LayoutName::Pack)]
    layout: LayoutName,
    /// Traffic as it comes, or somebody who is hidden for two seconds; instead of the world's.
    #[arg(long, value_enum)]
    scenario: Option<ScenarioName>,
    /// TOML file with what differs from the region's world.
    #[arg(long)]
    world: Option<PathBuf>,
    /// Draw frames with their boxes into this PNG.
    #[arg(long)]
    sheet: Option<PathBuf>,
    /// How many frames.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    cells: u32,
    /// No boxes on the sheet.
    #[arg(long)]
    bare: bool,
    /// Write nothing; print frames a second on one core, JPEG included.
    #[arg(long, conflicts_with_all = ["out", "layout", "threads", "sheet", "cells", "bare"])]
    bench: bool,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
}

/// `--layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LayoutName {
    Pack,
    Sequences,
}

/// `--scenario`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ScenarioName {
    Drive,
    Occlusion,
}

fn parse_region(text: &str) -> Result<Region, String> {
    [Region::Us, Region::India]
        .into_iter()
        .find(|region| region.name() == text)
        .ok_or_else(|| "expected us or india".to_owned())
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    text.split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)))
        .ok_or_else(|| "expected WIDTHxHEIGHT, such as 640x360".to_owned())
}

pub(crate) fn render(arguments: &RenderArguments) -> Result<()> {
    let mut world = match &arguments.world {
        None => WorldConfig::of(arguments.region),
        Some(path) => {
            let shown = || format!("{}", path.display());
            let text = std::fs::read_to_string(path).with_context(shown)?;
            render::world_of_file(&text, arguments.region)
                .map_err(|reason| anyhow!(reason))
                .with_context(shown)?
        }
    };
    world.region = arguments.region;
    if let Some(size) = arguments.size {
        (world.width_px, world.height_px) = size;
    }
    world.fps = arguments.fps.unwrap_or(world.fps);
    world.frames = arguments.frames.unwrap_or(world.frames);
    world.scenario = match arguments.scenario {
        Some(ScenarioName::Drive) => Scenario::Drive,
        Some(ScenarioName::Occlusion) => Scenario::Occlusion,
        None => world.scenario,
    };
    if arguments.bench {
        let rate = render::frames_per_second(&world, arguments.seed, arguments.sequences)?;
        log::info!("{rate:.1} frames a second on one core, JPEG included");
        return Ok(());
    }
    let Some(out) = &arguments.out else {
        bail!("give --out or --bench")
    };
    if let Some(sheet) = &arguments.sheet {
        // Not after an hour of rendering.
        outputs::picture_format(sheet)?;
    }
    let job = RenderJob {
        world,
        seed: arguments.seed,
        sequences: arguments.sequences,
        threads: arguments.threads,
        out: out.clone(),
        layout: match arguments.layout {
            LayoutName::Pack => render::Layout::Pack,
            LayoutName::Sequences => render::Layout::Sequences,
        },
        sheet_cells: if arguments.sheet.is_some() {
            arguments.cells
        } else {
            0
        },
    };
    let total = u64::from(job.sequences) * u64::from(job.world.frames);
    let bar = if arguments.quiet {
        indicatif::ProgressBar::hidden()
    } else {
        indicatif::ProgressBar::new(total)
    };
    let done = job.run(|frames| bar.inc(frames))?;
    bar.finish_and_clear();
    if let Some(path) = &arguments.sheet {
        let sheet = render::sheet(&done.cells, SHEET_COLUMNS, !arguments.bare);
        outputs::picture(path, &sheet)?;
    }
    log::info!(
        "{}: {} frames, {} boxes",
        out.display(),
        done.frames,
        done.boxes
    );
    Ok(())
}
