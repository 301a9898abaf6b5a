//! `roadhound watch`: everybody on the road through one source, each with an identity that lasts.
//!
//! In: a source, a bundle with proposals, and, where somebody has lines, zones or constants of their own, a
//! [`config::WatchFile`]. Out: MOTChallenge lines, JSON lines, COCO and CVAT files, an annotated video. Lines are written
//! frame by frame; COCO and CVAT at the end, whole or not at all. When the source breaks on the way, everything before that
//! frame is in the files, and the reason is reported.
//!
//! The same source, bundle and configuration give the same files, to the byte, unless a budget of time decides how often
//! the network looks: the summary then says how often it did, and `--every` repeats that.

pub mod config;
pub mod scene;
mod sinks;

use std::path::PathBuf;
use std::time::Instant;

use roadhound_shared::watch::zones::Direction;
use roadhound_shared::watch::{Report, RoadUser, Watcher};

use crate::bundle::{ModelSource, Precision, ProposeModel};
use crate::failure::Failure;
use crate::infer::TractProposer;
use crate::sink::check_apart;
use crate::source::{self, Reason, SourceError, SourceFrame};
use crate::track::{median, progress};
use config::{ReportConfig, WatchFile};
use scene::Scene;
use sinks::Sinks;

/// Where results go. All are optional; with none, MOTChallenge lines go to standard output.
#[derive(Clone, Debug, Default)]
pub struct WatchOutputs {
    /// MOTChallenge lines.
    pub out: Option<PathBuf>,
    /// File of times.
    pub times: Option<PathBuf>,
    /// JSON lines.
    pub jsonl: Option<PathBuf>,
    /// COCO-style JSON.
    pub coco: Option<PathBuf>,
    /// CVAT for video.
    pub cvat: Option<PathBuf>,
    /// Annotated video.
    pub video: Option<PathBuf>,
}

/// What to watch and where to write it.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// Folder, video or raw dump.
    pub source: PathBuf,
    /// How to read it.
    pub source_options: source::Options,
    /// What to watch for.
    pub file: WatchFile,
    /// Where that was read, if anywhere.
    pub config: Option<PathBuf>,
    /// Where results go.
    pub outputs: WatchOutputs,
    /// The model.
    pub model: ModelSource,
    /// How it computes; without it, in int8 where the model can.
    pub precision: Option<Precision>,
    /// Threads of the network.
    pub threads: usize,
    /// No progress bar.
    pub quiet: bool,
}

/// What happened on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Frames read.
    pub frames: u64,
    /// Frames that the network looked at.
    pub looks: u64,
    /// Road users that had a line of results.
    pub road_users: usize,
    /// Mean milliseconds from decoded frame to boxes, looks and the frames between them taken together.
    pub mean_millis: f64,
    /// Median milliseconds of a frame that was looked at.
    pub median_look_millis: f64,
    /// Lines, and who crossed them.
    pub crossed: Vec<Crossed>,
}

/// Who crossed a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crossed {
    /// What the line is called.
    pub line: String,
    /// By kind: to the right, to the left.
    pub kinds: Vec<(RoadUser, u64, u64)>,
}

/// Watches a source.
///
/// # Errors
/// A source, model or output that does not work; what was seen before is in the files.
pub fn watch(options: &WatchOptions) -> Result<Summary, Failure> {
    let outputs = &options.outputs;
    let files = [
        ("--out", &outputs.out),
        ("--times", &outputs.times),
        ("--jsonl", &outputs.jsonl),
        ("--coco", &outputs.coco),
        ("--cvat", &outputs.cvat),
        ("--video", &outputs.video),
    ];
    let config = options.config.as_deref();
    check_apart(&files, &options.source, &options.model, config).map_err(Failure::Usage)?;
    let mut source = source::open(&options.source, &options.source_options)?;
    let fps = source.fps();
    let source_name = options.source.display().to_string();
    let model = ProposeModel::open(&options.model, options.precision, options.threads)?;
    let bar = progress(source.frames_expected(), options.quiet);
    let mut model = Some(model);
    let mut open: Option<Open> = None;
    let mut run = Run::default();
    let result = loop {
        let frame = match source.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => break Ok(()),
            Err(e) => break Err(Failure::from(e)),
        };
        let SourceFrame {
            pixels,
            captured_at,
        } = frame;
        // Outputs are opened once there is something to put in: a source that is not one leaves old results alone.
        if let Some(model) = model.take() {
            match Open::new(options, model, (pixels.width_px(), pixels.height_px()), fps) {
                Ok(opened) => open = Some(opened),
                Err(e) => break Err(e),
            }
        }
        let Some(Open {
            watcher,
            scene,
            sinks,
        }) = &mut open
        else {
            break Ok(());
        };
        let started = Instant::now();
        let view = match pixels.view() {
            Ok(view) => view,
            Err(e) => {
                let (path, reason) = (options.source.clone(), Reason::from(e));
                break Err(SourceError { path, reason }.into());
            }
        };
        if let Err(error) = watcher.step(&view, captured_at) {
            let source_name = source_name.clone();
            let error = Box::new(error);
            break Err(Failure::Watch { source_name, error });
        }
        let happenings = scene.see(captured_at, watcher.reports()).clone();
        let took = started.elapsed();
        watcher.took(took.as_secs_f32() * 1e3);
        let looked = watcher.looked();
        let reports = watcher.reports();
        let shown: Vec<Report> = worth_showing(reports, &options.file.report).collect();
        let moment = sinks::Moment {
            index: run.summary.frames,
            captured_at,
            looked,
            took,
            reports,
            shown: &shown,
            happenings: &happenings,
        };
        if let Err(e) = sinks.write(&pixels, &moment, scene) {
            break Err(e.into());
        }
        run.count(&shown, took.as_secs_f64() * 1e3, looked);
        sinks.record(captured_at, source.frame_file(), &shown);
        bar.inc(1);
    };
    bar.finish_and_clear();
    let mut crossed = Vec::new();
    let mut finished = Ok(());
    if let Some(open) = open {
        crossed = crossings(&open.scene);
        finished = open.sinks.finish();
    }
    result.and(finished)?;
    if run.summary.frames == 0 {
        return Err(Failure::Usage(format!("{source_name}: no frames in it")));
    }
    Ok(Summary {
        crossed,
        ..run.finish()
    })
}

/// What exists once the size of the pictures is known.
struct Open {
    watcher: Watcher<TractProposer>,
    scene: Scene,
    sinks: Sinks,
}

impl Open {
    fn new(
        options: &WatchOptions,
        model: ProposeModel,
        (width_px, height_px): (u32, u32),
        fps: f64,
    ) -> Result<Self, Failure> {
        let file = &options.file;
        let watcher = Watcher::new(
            model.network,
            model.contract,
            file.watch,
            width_px,
            height_px,
        )
        .map_err(|e| Failure::Usage(e.to_string()))?;
        Ok(Self {
            watcher,
            scene: Scene::new(&file.scene()),
            sinks: Sinks::create(options, (width_px, height_px), fps)?,
        })
    }
}

/// Those who have a box and are asked for.
fn worth_showing(reports: &[Report], config: &ReportConfig) -> impl Iterator<Item = Report> {
    reports
        .iter()
        .filter(|r| {
            let b = &r.box_in_image;
            r.sight.is_shown()
                && config.kinds.contains(&r.kind)
                && b.w_px.min(b.h_px) >= config.min_side_px
        })
        .copied()
}

fn crossings(scene: &Scene) -> Vec<Crossed> {
    let line = |(at, line): (usize, scene::LineCount<'_>)| Crossed {
        line: line.name.to_owned(),
        kinds: RoadUser::ALL
            .into_iter()
            .map(|kind| {
                let count = |direction| scene.count(at, kind, direction);
                (
                    kind,
                    count(Direction::ToTheRight),
                    count(Direction::ToTheLeft),
                )
            })
            .filter(|(_, right, left)| right + left > 0)
            .collect(),
    };
    scene.counts().enumerate().map(line).collect()
}

/// Counts on the way to a [`Summary`].
#[derive(Default)]
struct Run {
    summary: Summary,
    identities: std::collections::BTreeSet<u32>,
    total_millis: f64,
    look_millis: Vec<f32>,
}

/// Times beyond this many are not kept: memory stays flat over any number of frames.
const MAX_TIMES: usize = 100_000;

impl Run {
    fn count(&mut self, shown: &[Report], millis: f64, looked: bool) {
        self.identities.extend(shown.iter().map(|r| r.identity));
        self.summary.looks += u64::from(looked);
        // The first look warms the caches.
        if self.summary.frames > 0 {
            self.total_millis += millis;
            if looked && self.look_millis.len() < MAX_TIMES {
                self.look_millis.push(millis as f32);
            }
        }
        self.summary.frames += 1;
    }

    fn finish(mut self) -> Summary {
        self.summary.road_users = self.identities.len();
        let timed = self.summary.frames.saturating_sub(1).max(1);
        self.summary.mean_millis = self.total_millis / timed as f64;
        self.summary.median_look_millis = median(&mut self.look_millis);
        self.summary
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} frames, {} road users; a look every {:.1} frames, {:.1} ms/look (median), {:.1} ms/frame (mean)",
            self.frames,
            self.road_users,
            self.frames as f64 / self.looks.max(1) as f64,
            self.median_look_millis,
            self.mean_millis
        )?;
        for Crossed { line, kinds } in &self.crossed {
            let sum = |side: fn(&(RoadUser, u64, u64)) -> u64| kinds.iter().map(side).sum::<u64>();
            let (right, left) = (sum(|k| k.1), sum(|k| k.2));
            write!(
                f,
                "\nline '{line}': {right} to the right, {left} to the left"
            )?;
            for (n, (kind, right, left)) in kinds.iter().enumerate() {
                let lead = if n == 0 { " (" } else { ", " };
                write!(f, "{lead}{} {right} and {left}", kind.name())?;
            }
            if !kinds.is_empty() {
                write!(f, ")")?;
            }
        }
        Ok(())
    }
}
