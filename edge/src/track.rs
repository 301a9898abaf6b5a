//! `roadhound track`: one object through one source.
//!
//! Results are written frame by frame. When the source breaks on the way, everything before that frame is in the
//! files, the video is closed properly, and the reason is reported.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use roadhound_shared::follow::Follower;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::tracker::Report;

use crate::bundle::{Model, ModelSource, Precision};
use crate::failure::Failure;
use crate::sink::SinkError;
use crate::sink::boxes::BoxesSink;
use crate::sink::jsonl::JsonlSink;
use crate::sink::times::TimesSink;
use crate::sink::video::VideoSink;
use crate::source::{self, Pixels, Reason, SourceError, SourceFrame};

/// What to track and where to write it.
#[derive(Clone, Debug)]
pub struct TrackOptions {
    /// Folder, video or raw dump.
    pub source: PathBuf,
    /// How to read it.
    pub source_options: source::Options,
    /// The object's box in the first frame.
    pub initial: BoxXywh,
    /// Result file.
    pub out: Option<PathBuf>,
    /// File of times.
    pub times: Option<PathBuf>,
    /// JSON lines.
    pub jsonl: Option<PathBuf>,
    /// Annotated video.
    pub video: Option<PathBuf>,
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
    /// Frames tracked, the first one included.
    pub frames: u64,
    /// Frames without a box.
    pub frames_lost: u64,
    /// How often the target was lost.
    pub times_lost: u64,
    /// Median milliseconds from decoded frame to box, the first frame left out.
    pub median_millis: f64,
}

/// The files that were asked for.
struct Sinks {
    boxes: Option<BoxesSink>,
    times: Option<TimesSink>,
    jsonl: Option<JsonlSink>,
    video: Option<VideoSink>,
}

impl Sinks {
    fn create(options: &TrackOptions, fps: f64) -> Result<Self, Failure> {
        let nothing = options.out.is_none() && options.jsonl.is_none() && options.video.is_none();
        Ok(Self {
            boxes: match &options.out {
                Some(path) => Some(BoxesSink::create(path)?),
                None if nothing => Some(BoxesSink::stdout()),
                None => None,
            },
            times: options
                .times
                .as_deref()
                .map(TimesSink::create)
                .transpose()?,
            jsonl: options
                .jsonl
                .as_deref()
                .map(JsonlSink::create)
                .transpose()?,
            video: options
                .video
                .as_deref()
                .map(|path| VideoSink::create(path, fps))
                .transpose()?,
        })
    }

    fn write(
        &mut self,
        index: u64,
        pixels: &Pixels<'_>,
        report: &Report,
        took: Duration,
    ) -> Result<(), SinkError> {
        if let Some(sink) = &mut self.boxes {
            sink.write(report.box_in_image)?;
        }
        if let Some(sink) = &mut self.times {
            sink.write(took)?;
        }
        if let Some(sink) = &mut self.jsonl {
            sink.write(index, report)?;
        }
        if let Some(sink) = &mut self.video {
            sink.write(pixels, report)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        Ok(self.video.map_or(Ok(()), VideoSink::finish)?)
    }
}

/// Tracks an object through a source.
///
/// # Errors
/// A source, model, box or output that does not work; what was tracked before is in the files.
pub fn track(options: &TrackOptions) -> Result<Summary, Failure> {
    if !options.initial.is_proper() {
        let b = options.initial;
        return Err(Failure::Usage(format!(
            "{}: --init {},{},{},{} has no area",
            options.source.display(),
            b.x_px,
            b.y_px,
            b.w_px,
            b.h_px
        )));
    }
    let mut source = source::open(&options.source, &options.source_options)?;
    let fps = source.fps();
    let source_name = options.source.display().to_string();
    let model = Model::open(&options.model, options.precision, options.threads)?;
    let mut follower = Follower::new(model.network, model.manifest.follow, model.manifest.tracker)
        .map_err(|e| Failure::Usage(format!("model {}: {e}", model.manifest.name)))?;
    let bar = progress(source.frames_expected(), options.quiet);
    let mut sinks: Option<Sinks> = None;
    let mut run = Run::default();
    let result = loop {
        let frame = match source.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => break Ok(()),
            Err(e) => break Err(Failure::from(e)),
        };
        // Outputs are opened once there is something to put in: a source that is not one leaves old results alone.
        let index = run.summary.frames;
        let SourceFrame {
            pixels,
            captured_at,
        } = frame;
        let started = Instant::now();
        let view = match pixels.view() {
            Ok(view) => view,
            Err(e) => {
                break Err(SourceError {
                    path: options.source.clone(),
                    reason: Reason::from(e),
                }
                .into());
            }
        };
        let report = if index == 0 {
            follower.start(&view, options.initial, captured_at)
        } else {
            follower.step(&view, captured_at)
        };
        let took = started.elapsed();
        let report = match report {
            // The first line is the initial box itself, not the tracker's idea of it.
            Ok(report) if index == 0 => Report {
                box_in_image: Some(options.initial),
                ..report
            },
            Ok(report) => report,
            Err(error) => {
                break Err(Failure::Follow {
                    source_name: source_name.clone(),
                    error: Box::new(error),
                });
            }
        };
        if sinks.is_none() {
            match Sinks::create(options, fps) {
                Ok(created) => sinks = Some(created),
                Err(e) => break Err(e),
            }
        }
        if let Some(sinks) = &mut sinks
            && let Err(e) = sinks.write(index, &pixels, &report, took)
        {
            break Err(e.into());
        }
        run.count(&report, took.as_secs_f64() * 1e3);
        bar.inc(1);
    };
    bar.finish_and_clear();
    let finished = sinks.map_or(Ok(()), Sinks::finish);
    result.and(finished)?;
    if run.summary.frames == 0 {
        return Err(Failure::Usage(format!("{source_name}: no frames in it")));
    }
    Ok(run.finish())
}

/// Counts on the way to a [`Summary`].
#[derive(Default)]
struct Run {
    summary: Summary,
    was_lost: bool,
    millis: Vec<f32>,
}

/// Times beyond this many are not kept: memory stays flat over any number of frames.
const MAX_TIMES: usize = 100_000;

impl Run {
    fn count(&mut self, report: &Report, millis: f64) {
        let lost = report.box_in_image.is_none();
        self.summary.frames_lost += u64::from(lost);
        self.summary.times_lost += u64::from(lost && !self.was_lost);
        self.was_lost = lost;
        if self.summary.frames > 0 && self.millis.len() < MAX_TIMES {
            self.millis.push(millis as f32);
        }
        self.summary.frames += 1;
    }

    fn finish(mut self) -> Summary {
        self.millis.sort_by(f32::total_cmp);
        self.summary.median_millis = self
            .millis
            .get(self.millis.len() / 2)
            .map_or(f64::NAN, |&ms| f64::from(ms));
        self.summary
    }
}

/// A bar on standard error where somebody looks at it.
pub(crate) fn progress(frames: Option<u64>, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{wide_bar} {pos}/{len} frames, {per_sec}, {eta} left";
    let bar = frames.map_or_else(ProgressBar::no_length, ProgressBar::new);
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} frames, {:.1} ms/frame (median); lost {} time(s), {} frames without a box",
            self.frames, self.median_millis, self.times_lost, self.frames_lost
        )
    }
}
