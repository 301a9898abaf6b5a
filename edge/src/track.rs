//! `roadhound track`: one object through one source.
//!
//! Until whoever is to be followed turns up there is no box; while it is lost, what finds road users says where it could be,
//! if the bundle has that, and the follow model looks there as well.
//!
//! Results are written frame by frame. When the source breaks on the way, everything before that frame is in the
//! files, the video is closed properly, and the reason is reported.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use roadhound_shared::adapt::{AdaptConfig, Adapted};
use roadhound_shared::contract::ContractError;
use roadhound_shared::follow::refind::{self, RefindConfig, Refinder};
use roadhound_shared::follow::{FollowError, Follower};
use roadhound_shared::frame::{FrameView, Timestamp};
use roadhound_shared::propose::Finder;
use roadhound_shared::tracker::Report;

use crate::bundle::{Bundle, Model, ModelSource, Precision};
use crate::failure::Failure;
use crate::familiarity::{Familiarity, Looked};
use crate::infer::{InferError, TractNetwork, TractProposer};
use crate::select::{Chooser, Target};
use crate::sink::boxes::BoxesSink;
use crate::sink::jsonl::JsonlSink;
use crate::sink::times::TimesSink;
use crate::sink::video::VideoSink;
use crate::sink::{SinkError, check_apart};
use crate::source::{self, Pixels, Reason, SourceError, SourceFrame};

/// What to track and where to write it.
#[derive(Clone, Debug)]
pub struct TrackOptions {
    /// Folder, video or raw dump.
    pub source: PathBuf,
    /// How to read it.
    pub source_options: source::Options,
    /// Whom to follow.
    pub target: Target,
    /// Whether a lost target is looked for by what finds road users, where the bundle has that.
    pub refind: bool,
    /// Whether to look if the camera shows what was learned. A bundle that cannot tell is refused.
    pub familiarity: bool,
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
    /// Whether and how the network's normalisation follows the camera.
    pub adapt: Option<AdaptConfig>,
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
    /// How often the camera began to show nothing like what was learned, where that was looked for.
    pub times_unfamiliar: u64,
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
        (looked, adapted): (Option<Looked>, Option<Adapted>),
    ) -> Result<(), SinkError> {
        if let Some(sink) = &mut self.boxes {
            sink.write(report.box_in_image)?;
        }
        if let Some(sink) = &mut self.times {
            sink.write(took)?;
        }
        if let Some(sink) = &mut self.jsonl {
            sink.write(index, report, looked, adapted)?;
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
    if let Target::Box(b) = options.target
        && !b.is_proper()
    {
        return Err(Failure::Usage(format!(
            "{}: --init {},{},{},{} has no area",
            options.source.display(),
            b.x_px,
            b.y_px,
            b.w_px,
            b.h_px
        )));
    }
    let files = [
        ("--out", &options.out),
        ("--times", &options.times),
        ("--jsonl", &options.jsonl),
        ("--video", &options.video),
    ];
    check_apart(&files, &options.source, &options.model, None).map_err(Failure::Usage)?;
    let mut source = source::open(&options.source, &options.source_options)?;
    let fps = source.fps();
    let source_name = options.source.display().to_string();
    let (mut follower, finder, mut familiarity) = open_model(options)?;
    let mut stage = Stage::Choosing(Box::new(Chooser::new(options.target, finder)));
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
        let report = stage.step(&mut follower, &view, captured_at, options.refind);
        let took = started.elapsed();
        let report = match report {
            Ok(report) => report,
            Err(StepError::Follow(error)) => {
                break Err(Failure::Follow {
                    source_name: source_name.clone(),
                    error: Box::new(error),
                });
            }
            Err(StepError::Find(reason)) => {
                break Err(Failure::Usage(format!("{source_name}: {reason}")));
            }
        };
        // Beside the tracker's time, which is that of the box.
        let due = familiarity.as_mut().filter(|f| f.is_due(captured_at));
        let looked = match due.map(|f| f.look(&view, captured_at)).transpose() {
            Ok(looked) => looked,
            Err(e) => break Err(Failure::Usage(format!("{source_name}: {e}"))),
        };
        run.summary.times_unfamiliar += u64::from(looked.is_some_and(|l| l.is_new));
        if sinks.is_none() {
            match Sinks::create(options, fps) {
                Ok(created) => sinks = Some(created),
                Err(e) => break Err(e),
            }
        }
        if let Some(sinks) = &mut sinks
            && let Err(e) = sinks.write(index, &pixels, &report, took, (looked, follower.adapted()))
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
    if let Stage::Choosing(_) = stage {
        let (frames, target) = (run.summary.frames, options.target);
        return Err(Failure::Usage(format!(
            "{source_name}: nobody to follow on {frames} frames (--select {target})"
        )));
    }
    Ok(run.finish())
}

/// The follow model, and what finds road users where it is wanted and there.
/// What a bundle gives a run.
type Networks = (
    Follower<TractNetwork>,
    Option<Finder<TractProposer>>,
    Option<Familiarity>,
);

fn open_model(options: &TrackOptions) -> Result<Networks, Failure> {
    let bundle = Bundle::read(&options.model, options.precision)?;
    let (model, adapter) = bundle.adaptive_follower(options.threads, options.adapt.as_ref())?;
    let Model {
        manifest, network, ..
    } = model;
    let refused = |e: ContractError| Failure::Usage(format!("model {}: {e}", manifest.name));
    let is_point = matches!(options.target, Target::Pick(_));
    let proposer = match options.target.needs_proposals() {
        true => Some(bundle.proposer_or_refuse(options.threads)?),
        false if is_point || options.refind => bundle.proposer(options.threads)?,
        false => None,
    };
    let finder = proposer.map(|p| Finder::new(p.network, p.contract));
    let finder = finder.transpose().map_err(refused)?;
    let (follow, tracker) = (manifest.follow.clone(), manifest.tracker);
    let follower = Follower::new(network, follow, tracker).map_err(refused)?;
    let follower = follower.with_adapter(adapter);
    let familiarity = match options.familiarity {
        true => Some(bundle.familiarity_or_refuse()?),
        false => None,
    };
    Ok((follower, finder, familiarity))
}

/// How far a run is.
enum Stage {
    /// Whoever is to be followed is not there yet.
    Choosing(Box<Chooser<TractProposer>>),
    Following(Option<Box<Refinder<TractProposer>>>),
}

/// Why a frame could not be followed.
enum StepError {
    Follow(FollowError<InferError>),
    /// Nobody could be looked for; the text goes behind the source's name.
    Find(String),
}

impl From<FollowError<InferError>> for StepError {
    fn from(error: FollowError<InferError>) -> Self {
        Self::Follow(error)
    }
}

impl Stage {
    fn step(
        &mut self,
        follower: &mut Follower<TractNetwork>,
        view: &FrameView<'_>,
        at: Timestamp,
        refind: bool,
    ) -> Result<Report, StepError> {
        let refinder = match self {
            Self::Choosing(chooser) => {
                let chosen = chooser.choose(view, at, follower);
                let Some(initial) = chosen.map_err(StepError::Find)? else {
                    return Ok(Report::idle(at));
                };
                // The first line is the initial box itself, not the tracker's idea of it.
                let report = Report {
                    box_in_image: Some(initial),
                    ..follower.start(view, initial, at)?
                };
                let chooser =
                    std::mem::replace(&mut **chooser, Chooser::new(Target::Box(initial), None));
                let finder = chooser.into_finder().filter(|_| refind);
                let refinder = |f| Box::new(Refinder::new(f, RefindConfig::default()));
                let refinder = finder.map(refinder);
                *self = Self::Following(refinder);
                return Ok(report);
            }
            Self::Following(refinder) => refinder,
        };
        match refinder {
            None => Ok(follower.step(view, at)?),
            Some(refinder) => refinder.step(follower, view, at).map_err(|e| match e {
                refind::StepError::Follow(error) => error.into(),
                refind::StepError::Find(error) => StepError::Find(error.to_string()),
            }),
        }
    }
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
        self.summary.median_millis = median(&mut self.millis);
        self.summary
    }
}

/// The middle one; not a number where there are none.
pub(crate) fn median(values: &mut [f32]) -> f64 {
    values.sort_by(f32::total_cmp);
    let middle = values.get(values.len() / 2);
    middle.map_or(f64::NAN, |&value| f64::from(value))
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
        )?;
        match self.times_unfamiliar {
            0 => Ok(()),
            times => write!(f, "; showed nothing like what was learned {times} time(s)"),
        }
    }
}
