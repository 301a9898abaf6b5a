//! `roadhound demo`: renders a drive, follows somebody through it, scores the result, writes a video to look at.
//!
//! Needs nothing but the program. Leaves in its folder: `drive.mp4` (annotated), `boxes.txt` (the result file),
//! `truth.txt` (what it is scored against) and `frames.jsonl`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use roadhound_shared::follow::Follower;
use roadhound_shared::frame::PixelFormat;
use roadhound_shared::metrics::presence::{Return, TimedFrame, returns, roc_auc};
use roadhound_shared::metrics::{Convention, RunScore, ScoreBox};

use crate::bundle::{Model, ModelSource, Precision};
use crate::drive::{Drive, DriveConfig};
use crate::failure::Failure;
use crate::sink::SinkError;
use crate::sink::boxes::BoxesSink;
use crate::sink::jsonl::JsonlSink;
use crate::sink::video::VideoSink;
use crate::source::{Pixels, Reason, SourceError};
use crate::track::progress;

/// Length of the drive: time to see the target well, lose it for two seconds and follow it again.
const DRIVE_S: f32 = 10.0;

/// What to run and where to write it.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The model.
    pub model: ModelSource,
    /// How it computes; without it, in int8 where the model can.
    pub precision: Option<Precision>,
    /// Threads of the network.
    pub threads: usize,
    /// Folder for the results.
    pub folder: PathBuf,
    /// Seed of the drive.
    pub seed: u64,
    /// Frames of the drive, which takes ten seconds however many there are.
    pub frames: u32,
    /// No progress bar.
    pub quiet: bool,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct DemoSummary {
    model: String,
    folder: PathBuf,
    config: DriveConfig,
    target: &'static str,
    score: RunScore,
    presence_auc: Option<f64>,
    returns: Vec<Return>,
    median_millis: f64,
    p99_millis: f64,
    start_up_millis: f64,
}

/// Renders, follows, scores.
///
/// # Errors
/// A model that is refused, or a folder that cannot be written.
pub fn demo(options: &DemoOptions) -> Result<DemoSummary, Failure> {
    let started = Instant::now();
    let model = Model::open(&options.model, options.precision, options.threads)?;
    let start_up_millis = started.elapsed().as_secs_f64() * 1e3;
    let name = format!("{} {}", model.manifest.name, model.manifest.version);
    let mut follower = Follower::new(model.network, model.manifest.follow, model.manifest.tracker)
        .map_err(|e| Failure::Usage(format!("model {name}: {e}")))?;

    let folder = &options.folder;
    std::fs::create_dir_all(folder).map_err(|reason| SinkError {
        path: folder.clone(),
        reason,
    })?;
    let mut drive = Drive::new(DriveConfig {
        seed: options.seed,
        frames: options.frames,
        fps: options.frames as f32 / DRIVE_S,
        ..DriveConfig::default()
    })
    .map_err(|e| Failure::Usage(format!("demo: {e}")))?;
    let config = *drive.config();
    let mut boxes = BoxesSink::create(&folder.join("boxes.txt"))?;
    let mut truths = BoxesSink::create(&folder.join("truth.txt"))?;
    let mut jsonl = JsonlSink::create(&folder.join("frames.jsonl"))?;
    let mut video = VideoSink::create(&folder.join("drive.mp4"), f64::from(config.fps))?;

    let bar = progress(Some(u64::from(config.frames)), options.quiet);
    let (mut run, mut millis) = (Vec::new(), Vec::new());
    let (mut when_present, mut when_absent) = (Vec::new(), Vec::new());
    let mut rgb = Vec::new();
    for index in 0..config.frames {
        let truth = drive.render(index, &mut rgb);
        let pixels = Pixels::Packed {
            format: PixelFormat::Rgb8,
            width_px: config.width_px,
            height_px: config.height_px,
            data: &rgb,
        };
        let view = pixels.view().map_err(|e| SourceError {
            path: Path::new("rendered drive").into(),
            reason: Reason::from(e),
        })?;
        let started = Instant::now();
        let report = if index == 0 {
            let initial = truth.box_in_image.ok_or_else(|| {
                Failure::Usage(format!(
                    "demo: seed {} hides its target at once",
                    options.seed
                ))
            })?;
            follower.start(&view, initial, truth.captured_at)
        } else {
            follower.step(&view, truth.captured_at)
        }
        .map_err(|error| Failure::Follow {
            source_name: "rendered drive".into(),
            error: Box::new(error),
        })?;
        let took = started.elapsed();
        let visible = truth.box_in_image;
        boxes.write(report.box_in_image)?;
        truths.write(visible)?;
        jsonl.write(u64::from(index), &report, None, None)?;
        video.write(&pixels, &report)?;
        if index > 0 {
            millis.push(took.as_secs_f64() * 1e3);
            let presence = f64::from(report.presence);
            if visible.is_some() {
                when_present.push(presence);
            } else {
                when_absent.push(presence);
            }
        }
        run.push(TimedFrame {
            captured_at: truth.captured_at,
            truth: visible.map(ScoreBox::from),
            found: report.box_in_image.map(ScoreBox::from),
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    video.finish()?;

    let (truth, found): (Vec<_>, Vec<_>) =
        run.iter().map(|frame| (frame.truth, frame.found)).unzip();
    let unscored = |e| Failure::Usage(format!("{name}: its outputs cannot be scored: {e}"));
    millis.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = millis.len().saturating_sub(1) as f64;
        millis
            .get((last * share).round() as usize)
            .copied()
            .unwrap_or(0.0)
    };
    Ok(DemoSummary {
        score: RunScore::of(&truth, &found, &Convention::default()).map_err(unscored)?,
        presence_auc: roc_auc(&when_present, &when_absent).map_err(unscored)?,
        returns: returns(&run),
        median_millis: at(0.5),
        p99_millis: at(0.99),
        start_up_millis,
        model: name,
        folder: folder.clone(),
        config,
        target: drive.class().name(),
    })
}

impl fmt::Display for DemoSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DriveConfig {
            width_px,
            height_px,
            frames,
            fps,
            seed,
            region,
        } = self.config;
        let target = self.target;
        let score = &self.score;
        writeln!(
            f,
            "Followed a {target} through a rendered drive ({}): {frames} frames of {width_px}x{height_px}, {:.0} s, seed {seed}.",
            region.name(),
            frames as f32 / fps
        )?;
        writeln!(
            f,
            "  model     {}, ready after {:.0} ms",
            self.model, self.start_up_millis
        )?;
        writeln!(
            f,
            "  accuracy  success AUC {:.3}, overlap above one half on {:.0} % of the frames with the {target} in view",
            score.success_auc,
            score.success_50 * 100.0
        )?;
        write!(
            f,
            "  presence  a box on {} of the {} frames without the {target}",
            score.false_alarms, score.absent
        )?;
        if let Some(auc) = self.presence_auc {
            write!(f, ", ROC-AUC {auc:.3}")?;
        }
        for back in &self.returns {
            let at_s = back.frame as f32 / fps;
            match back.delay_s {
                Some(delay_s) => write!(
                    f,
                    "\n  return    back in view at {at_s:.1} s, found again {delay_s:.2} s later"
                )?,
                None => write!(
                    f,
                    "\n  return    back in view at {at_s:.1} s, not found again"
                )?,
            }
        }
        writeln!(
            f,
            "\n  speed     {:.1} ms a frame (median), {:.1} ms (99th percentile)",
            self.median_millis, self.p99_millis
        )?;
        write!(f, "Look at {}", self.folder.join("drive.mp4").display())
    }
}
