//! Runs the tracker that ships over annotated sequences and scores it.
//!
//! In: a network (checkpoint or bundle), the tracker's constants, runs. Out: one [`Followed`] a run, from which come
//! the table, the CSV, result files for other scorers and contact sheets of the worst runs.
//!
//! The loop is [`Follower`], the same code that `roadhound track` runs on the board.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::{DynamicImage, GrayImage, Rgb, RgbImage};
use roadhound_shared::contract::FollowContract;
use roadhound_shared::follow::Follower;
use roadhound_shared::frame::{FrameView, PixelFormat, Timestamp};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::metrics::presence::{TimedFrame, returns, roc_auc};
use roadhound_shared::metrics::{Convention, RunScore, ScoreBox, success_area};
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use roadhound_shared::preprocess::Normalisation;
use roadhound_shared::tracker::{Phase, Report, TrackerConfig};
use serde::Serialize;

use crate::calibrate::Reliability;
use crate::data::DataError;
use crate::data::sequence::Run;
use crate::data::store;
use crate::outputs;
use crate::sampler::Pair;

/// What the tracker made of one run.
pub struct Followed {
    /// The run.
    pub run: Run,
    /// One report a frame, the first one for the initial box.
    pub reports: Vec<Report>,
    /// Its figures, as OTB and LaSOT define them.
    pub score: RunScore,
}

/// A run, and when its frames were taken.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedRun {
    /// The run.
    pub run: Run,
    /// Numbers of its frames in the recording, counted from the first one.
    pub numbers: Vec<u64>,
    /// When they were taken, where the recording says so; otherwise numbers tell it, at the run's rate.
    pub taken_at: Option<Vec<Timestamp>>,
}

impl From<Run> for TimedRun {
    /// Every frame of a recording.
    fn from(run: Run) -> Self {
        Self {
            numbers: (0..run.frames.len() as u64).collect(),
            taken_at: None,
            run,
        }
    }
}

impl TimedRun {
    /// Time stamps of the frames; `frames_per_second` overrides what the recording says.
    pub fn times(&self, frames_per_second: Option<f64>) -> Vec<Timestamp> {
        match (&self.taken_at, frames_per_second) {
            (Some(times), None) => times.clone(),
            (_, rate) => {
                let rate = rate.unwrap_or(self.run.fps);
                let numbers = self.numbers.iter();
                numbers.map(|n| Timestamp::of_frame(*n, rate)).collect()
            }
        }
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Name of the run, or of the mean.
    pub run: String,
    /// Frames with truth.
    pub frames: usize,
    /// Success AUC.
    pub auc: f64,
    /// Mean IoU.
    pub ao: f64,
    /// Share of frames above IoU 0.5.
    pub sr50: f64,
    /// Share of frames above IoU 0.75.
    pub sr75: f64,
    /// Share of frames within 20 px.
    pub p20: f64,
    /// Share of frames within 0.2 of the object's size.
    pub np20: f64,
    /// Frames without the target.
    pub absent: usize,
    /// Boxes reported on those.
    pub false_alarms: usize,
    /// Frames with the target on which it was called lost.
    pub false_lost: usize,
}

impl Row {
    fn new(run: &str, score: &RunScore, false_lost: usize) -> Self {
        Self {
            run: run.to_owned(),
            frames: score.frames,
            auc: score.success_auc,
            ao: score.average_overlap,
            sr50: score.success_50,
            sr75: score.success_75,
            p20: score.precision_20px,
            np20: score.normalised_precision_20,
            absent: score.absent,
            false_alarms: score.false_alarms,
            false_lost,
        }
    }
}

/// How well presence tells frames with the target from frames without.
#[derive(Debug, Serialize)]
pub struct PresenceFigures {
    /// Area under the ROC over all frames of all runs; `None` where no frame lacks the target.
    pub roc_auc: Option<f64>,
    /// The same over the runs that have absent frames only.
    pub roc_auc_within_runs: Option<f64>,
    /// Share of absent frames on which a box was reported.
    pub false_alarm_rate: Option<f64>,
    /// Share of present frames on which the target was called lost.
    pub false_lost_rate: f64,
    /// Seconds from each return of the target to the first box that overlaps it by half; `None` where that never came.
    pub redetection_seconds: Vec<Option<f64>>,
}

impl Followed {
    /// Boxes and truth as the metrics take them.
    fn score_boxes(
        run: &Run,
        reports: &[Report],
    ) -> (Vec<Option<ScoreBox>>, Vec<Option<ScoreBox>>) {
        let truth = run.truth.iter().map(|b| b.map(ScoreBox::from)).collect();
        let found = reports
            .iter()
            .map(|r| r.box_in_image.map(ScoreBox::from))
            .collect();
        (truth, found)
    }

    /// Frames with the target on which it was called lost.
    pub fn false_lost(&self) -> usize {
        let frames = self.run.truth.iter().zip(&self.reports).skip(1);
        frames
            .filter(|(truth, report)| truth.is_some() && report.box_in_image.is_none())
            .count()
    }

    /// The result file: one line a frame, `nan` where the target is reported absent.
    pub fn result_lines(&self) -> String {
        self.reports
            .iter()
            .map(|r| match r.box_in_image {
                Some(b) => format!("{:.3},{:.3},{:.3},{:.3}\n", b.x_px, b.y_px, b.w_px, b.h_px),
                None => "nan,nan,nan,nan\n".to_owned(),
            })
            .collect()
    }
}

/// Follows every run from its first box. `frames_per_second` overrides what the recordings say.
pub fn follow_runs<N: FollowNetwork>(
    network: N,
    contract: &FollowContract,
    tracker: &TrackerConfig,
    runs: Vec<impl Into<TimedRun>>,
    frames_per_second: Option<f64>,
    mut progress: impl FnMut(&Followed),
) -> Result<Vec<Followed>> {
    let mut follower = Follower::new(network, contract.clone(), *tracker)?;
    let mut followed = Vec::new();
    for run in runs {
        let timed: TimedRun = run.into();
        let times = timed.times(frames_per_second);
        let run = timed.run;
        let mut reports = Vec::with_capacity(run.frames.len());
        for (index, (path, at)) in run.frames.iter().zip(times).enumerate() {
            let shown = || format!("{}", path.display());
            let image = open(path)?;
            let frame = view(&image).with_context(shown)?;
            let report = match (index, run.truth.first().copied().flatten()) {
                (0, Some(first)) => {
                    let report = follower
                        .start(&frame, first, at)
                        .map_err(|e| anyhow::anyhow!("{e}"))
                        .with_context(shown)?;
                    // The first line of a result is the box that was given, as given.
                    Report {
                        box_in_image: Some(first),
                        ..report
                    }
                }
                (0, None) => anyhow::bail!(
                    "{}: run {} starts without its target",
                    path.display(),
                    run.name
                ),
                _ => follower
                    .step(&frame, at)
                    .map_err(|e| anyhow::anyhow!("{e}"))
                    .with_context(shown)?,
            };
            reports.push(report);
        }
        let (truth, found) = Followed::score_boxes(&run, &reports);
        let score = RunScore::of(&truth, &found, &Convention::default())?;
        let done = Followed {
            run,
            reports,
            score,
        };
        progress(&done);
        followed.push(done);
    }
    Ok(followed)
}

/// What a network makes of single pairs, without the loop around it.
#[derive(Debug)]
pub struct PairFigures {
    /// How many.
    pub pairs: usize,
    /// Success AUC of the box at the highest score, over the pairs that show their target.
    pub auc: f64,
    /// Area under the ROC of presence; `None` where all pairs show their target, or none.
    pub presence_roc_auc: Option<f64>,
    /// What presence says against what was the case.
    pub reliability: Reliability,
}

/// What a network says about one pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairAnswer {
    /// Cell with the highest score.
    pub peak_cell: usize,
    /// The box there, in pixels of the search crop.
    pub box_in_search: BoxXywh,
    /// Probability that the target is in the crop.
    pub presence: f32,
}

/// Runs both graphs on pairs, one by one, with the network's own normalisation; `take` gets each pair with its answer.
///
/// # Errors
/// A pair that cannot be drawn, or whatever the network says.
pub fn answer_pairs<N: FollowNetwork, P: Borrow<Pair>>(
    network: &mut N,
    contract: &FollowContract,
    pairs: impl Iterator<Item = Result<P, DataError>>,
    mut take: impl FnMut(&Pair, PairAnswer),
) -> Result<()> {
    let said = |e: N::Error| anyhow::anyhow!("{e}");
    let crop = |rgb: &[u8]| planar(rgb, &contract.normalisation);
    let mut first = TemplateOutputs::for_contract(contract);
    let mut latest = first.clone();
    let mut out = SearchOutputs::for_contract(contract);
    for pair in pairs {
        let pair = pair?;
        let pair = pair.borrow();
        network
            .template(&crop(&pair.template_rgb), &mut first)
            .map_err(said)?;
        latest.clone_from(&first);
        if pair.has_distinct_latest {
            let template = crop(&pair.template_latest_rgb);
            network.template(&template, &mut latest).map_err(said)?;
        }
        let search = crop(&pair.search_rgb);
        network
            .search(&search, &first.features, &latest.features, &mut out)
            .map_err(said)?;
        let (cells, stride) = (contract.score_cells(), contract.stride_px as f32);
        let best = (0..out.score.len())
            .max_by(|a, b| out.score[*a].total_cmp(&out.score[*b]))
            .unwrap_or(0);
        let centre = |cell: usize| (cell as f32 + 0.5) * stride;
        let (x, y) = (centre(best % cells), centre(best / cells));
        let [l, t, r, b] = [0, 1, 2, 3].map(|side| out.box_ltrb_px[side * cells * cells + best]);
        let answer = PairAnswer {
            peak_cell: best,
            box_in_search: BoxXywh::new(x - l, y - t, l + r, t + b),
            presence: out.presence,
        };
        take(pair, answer);
    }
    Ok(())
}

/// Planar and normalised, from interleaved bytes.
pub fn planar(rgb: &[u8], normalisation: &Normalisation) -> Vec<f32> {
    (0..3)
        .flat_map(|c| rgb.iter().skip(c).step_by(3).map(move |v| (c, *v)))
        .map(|(c, v)| (f32::from(v) - normalisation.mean[c]) * normalisation.scale[c])
        .collect()
}

/// Scores pairs one by one.
///
/// # Errors
/// As [`answer_pairs`].
pub fn pairs<N: FollowNetwork>(
    network: &mut N,
    contract: &FollowContract,
    pairs: impl Iterator<Item = Result<Pair, DataError>>,
) -> Result<PairFigures> {
    let (mut overlaps, mut probabilities, mut present) = (Vec::new(), Vec::new(), Vec::new());
    answer_pairs(network, contract, pairs, |pair, answer| {
        probabilities.push(f64::from(answer.presence));
        present.push(pair.present);
        if pair.present {
            let found = &answer.box_in_search;
            overlaps.push(f64::from(BoxXywh::from(pair.box_in_search).iou(found)));
        }
    })?;
    let of = |kind: bool| -> Vec<f64> {
        let cases = probabilities.iter().zip(&present);
        cases
            .filter(|(_, p)| **p == kind)
            .map(|(v, _)| *v)
            .collect()
    };
    Ok(PairFigures {
        pairs: present.len(),
        auc: success_area(&overlaps),
        presence_roc_auc: roc_auc(&of(true), &of(false))?,
        reliability: Reliability::of(&probabilities, &present),
    })
}

/// One row a run, then the means of the genuine and of the assisted ones.
pub fn table(followed: &[Followed]) -> Vec<Row> {
    let mut rows: Vec<Row> = followed
        .iter()
        .map(|f| Row::new(&f.run.name, &f.score, f.false_lost()))
        .collect();
    for (assisted, label) in [(true, "assisted"), (false, "genuine")] {
        let group: Vec<&Followed> = followed
            .iter()
            .filter(|f| f.run.assisted == assisted)
            .collect();
        if !group.is_empty() {
            let scores: Vec<RunScore> = group.iter().map(|f| f.score).collect();
            let lost = group.iter().map(|f| f.false_lost()).sum();
            rows.push(Row::new(
                &format!("MEAN {label} ({})", group.len()),
                &RunScore::mean(&scores),
                lost,
            ));
        }
    }
    rows
}

/// Presence figures over all runs; the first frames, whose box was given, do not count.
pub fn presence(followed: &[Followed]) -> Result<PresenceFigures> {
    let split = |runs: &[&Followed]| -> Result<Option<f64>> {
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        for f in runs {
            for (truth, report) in f.run.truth.iter().zip(&f.reports).skip(1) {
                let side = if truth.is_some() {
                    &mut present
                } else {
                    &mut absent
                };
                side.push(f64::from(report.presence));
            }
        }
        Ok(roc_auc(&present, &absent)?)
    };
    let all: Vec<&Followed> = followed.iter().collect();
    let with_absence: Vec<&Followed> = followed.iter().filter(|f| f.score.absent > 0).collect();
    let scores: Vec<RunScore> = followed.iter().map(|f| f.score).collect();
    let pooled = RunScore::pooled(&scores);
    let lost: usize = followed.iter().map(Followed::false_lost).sum();
    let redetection_seconds = with_absence
        .iter()
        .flat_map(|f| {
            let (truth, found) = Followed::score_boxes(&f.run, &f.reports);
            let frames = f.reports.iter().zip(truth.into_iter().zip(found));
            let timed: Vec<TimedFrame> = frames
                .map(|(report, (truth, found))| TimedFrame {
                    captured_at: report.captured_at,
                    truth,
                    found,
                })
                .collect();
            returns(&timed)
                .into_iter()
                .map(|r| r.delay_s)
                .collect::<Vec<_>>()
        })
        .collect();
    Ok(PresenceFigures {
        roc_auc: split(&all)?,
        roc_auc_within_runs: split(&with_absence)?,
        false_alarm_rate: pooled.false_alarm_rate(),
        false_lost_rate: lost as f64 / pooled.frames.max(1) as f64,
        redetection_seconds,
    })
}

/// What presence says against what was the case, over all frames but the first ones, whose box was given.
pub fn reliability(followed: &[Followed]) -> Reliability {
    let frames = followed
        .iter()
        .flat_map(|f| f.run.truth.iter().zip(&f.reports).skip(1));
    let (said, present): (Vec<f64>, Vec<bool>) = frames
        .map(|(truth, report)| (f64::from(report.presence), truth.is_some()))
        .unzip();
    Reliability::of(&said, &present)
}

/// The table as CSV.
pub fn write_csv(path: &Path, rows: &[Row]) -> Result<()> {
    let shown = || format!("{}", path.display());
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).with_context(shown)?;
    }
    outputs::file(path, writer.into_inner().with_context(shown)?)
}

/// Writes `RUN.txt` for every run into `folder`, and its presence values as `RUN.presence`.
pub fn write_results(folder: &Path, followed: &[Followed]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    for f in followed {
        let presence: String = f
            .reports
            .iter()
            .map(|r| format!("{:.5}\n", r.presence))
            .collect();
        for (ending, text) in [("txt", f.result_lines()), ("presence", presence)] {
            let path = folder.join(format!("{}.{ending}", f.run.name));
            outputs::file(&path, text)?;
        }
    }
    Ok(())
}

/// Pictures a run on a sheet.
const SHEET_FRAMES: usize = 12;
/// Pictures in a row.
const SHEET_COLUMNS: u32 = 4;
/// Colour of what another tracker said.
const EARLIER: Rgb<u8> = Rgb([0, 140, 255]);
/// Width of one picture.
const SHEET_WIDTH_PX: u32 = 320;

/// Draws contact sheets of the `count` runs with the lowest success AUC: truth in white, the tracker's box green while
/// tracking, yellow while uncertain; a red frame says lost. Returns the files.
pub fn worst_sheets(folder: &Path, followed: &[Followed], count: usize) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    let mut order: Vec<&Followed> = followed.iter().collect();
    order.sort_by(|a, b| a.score.success_auc.total_cmp(&b.score.success_auc));
    let mut files = Vec::new();
    for f in order.into_iter().take(count) {
        let path = folder.join(format!("{}.png", f.run.name));
        outputs::picture(&path, &sheet(f, None)?)?;
        files.push(path);
    }
    Ok(files)
}

/// A contact sheet of one run as two trackers followed it: as [`worst_sheets`] has it of the second one, the box of the first
/// one in blue below.
///
/// # Errors
/// A picture that cannot be read.
pub fn sheet_of_both(first: &Followed, second: &Followed) -> Result<RgbImage> {
    sheet(second, Some(first))
}

fn sheet(f: &Followed, earlier: Option<&Followed>) -> Result<RgbImage> {
    let n = f.run.frames.len();
    let shown = SHEET_FRAMES.min(n);
    let mut sheet = RgbImage::new(1, 1);
    for k in 0..shown {
        let index = k * (n - 1) / shown.saturating_sub(1).max(1);
        let image = open_rgb(&f.run.frames[index])?;
        let height = (SHEET_WIDTH_PX * image.height() / image.width().max(1)).max(1);
        let scale = SHEET_WIDTH_PX as f32 / image.width() as f32;
        let mut small = image::imageops::thumbnail(&image, SHEET_WIDTH_PX, height);
        if k == 0 {
            let rows = (shown as u32).div_ceil(SHEET_COLUMNS);
            sheet = RgbImage::new(SHEET_WIDTH_PX * SHEET_COLUMNS, height * rows);
        }
        let report = &f.reports[index];
        if let Some(truth) = f.run.truth[index] {
            outline(&mut small, truth, scale, Rgb([255, 255, 255]));
        }
        let earlier = earlier.and_then(|earlier| earlier.reports.get(index)?.box_in_image);
        if let Some(found) = earlier {
            outline(&mut small, found, scale, EARLIER);
        }
        match report.box_in_image {
            Some(found) => {
                let colour = if report.phase == Phase::Tracking {
                    Rgb([0, 255, 0])
                } else {
                    Rgb([255, 220, 0])
                };
                outline(&mut small, found, scale, colour);
            }
            None => {
                let all = BoxXywh::new(
                    1.0,
                    1.0,
                    small.width() as f32 - 3.0,
                    small.height() as f32 - 3.0,
                );
                outline(&mut small, all, 1.0, Rgb([255, 0, 0]));
            }
        }
        let (column, row) = (k as u32 % SHEET_COLUMNS, k as u32 / SHEET_COLUMNS);
        image::imageops::replace(
            &mut sheet,
            &small,
            i64::from(column * SHEET_WIDTH_PX),
            i64::from(row * height),
        );
    }
    Ok(sheet)
}

fn outline(image: &mut RgbImage, target: BoxXywh, scale: f32, colour: Rgb<u8>) {
    let (w, h) = (image.width() as i64, image.height() as i64);
    let edge = |v: f32| (v * scale).round() as i64;
    let (l, t) = (edge(target.x_px), edge(target.y_px));
    let (r, b) = (
        edge(target.x_px + target.w_px),
        edge(target.y_px + target.h_px),
    );
    let mut dot = |x: i64, y: i64| {
        if (0..w).contains(&x) && (0..h).contains(&y) {
            image.put_pixel(x as u32, y as u32, colour);
        }
    };
    for x in l.max(0)..=r.min(w) {
        dot(x, t);
        dot(x, b);
    }
    for y in t.max(0)..=b.min(h) {
        dot(l, y);
        dot(r, y);
    }
}

fn open_rgb(path: &Path) -> Result<RgbImage> {
    Ok(open(path)?.into_rgb8())
}

/// Decodes a picture into the very bytes that `roadhound` gets: grey stays grey, everything else becomes RGB, alpha is
/// dropped and sixteen bits are cut to eight. Grey and colour are resampled with different rounding, and a hundredth
/// of a grey level can decide between two peaks.
///
/// # Errors
/// A file that is missing or no picture.
pub fn open(path: &Path) -> Result<DynamicImage> {
    use DynamicImage as D;
    let shown = || format!("{}", path.display());
    let decoded = store::open(path)?;
    let (width, height) = (decoded.width(), decoded.height());
    let grey = |values| GrayImage::from_raw(width, height, values).map(D::ImageLuma8);
    let colour = |values| RgbImage::from_raw(width, height, values).map(D::ImageRgb8);
    let high = |value: u16| (value >> 8) as u8;
    let opened = match decoded {
        D::ImageLuma8(grey) => Some(D::ImageLuma8(grey)),
        D::ImageLumaA8(i) => grey(i.pixels().map(|p| p[0]).collect()),
        D::ImageLuma16(i) => grey(i.pixels().map(|p| high(p[0])).collect()),
        D::ImageLumaA16(i) => grey(i.pixels().map(|p| high(p[0])).collect()),
        D::ImageRgb16(i) => colour(i.pixels().flat_map(|p| p.0).map(high).collect()),
        D::ImageRgba16(i) => {
            let three = |p: &image::Rgba<u16>| [p[0], p[1], p[2]];
            colour(i.pixels().flat_map(three).map(high).collect())
        }
        other => Some(D::ImageRgb8(other.into_rgb8())),
    };
    opened.with_context(shown)
}

pub(crate) fn view(image: &DynamicImage) -> Result<FrameView<'_>> {
    let (width, height) = (image.width(), image.height());
    let view = match image {
        DynamicImage::ImageLuma8(grey) => FrameView::packed(
            PixelFormat::Grey8,
            width,
            height,
            width as usize,
            grey.as_raw(),
        ),
        other => FrameView::rgb8(width, height, other.as_bytes()),
    };
    Ok(view?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::contract::FollowSizes;
    use roadhound_shared::geometry::BoxLtrb;

    use super::*;

    /// Sees the target in the middle, with the red of the search crop's first pixel for a presence.
    struct Reads;

    impl FollowNetwork for Reads {
        type Error = std::convert::Infallible;

        fn template(&mut self, _: &[f32], _: &mut TemplateOutputs) -> Result<(), Self::Error> {
            Ok(())
        }

        fn search(
            &mut self,
            crop: &[f32],
            _: &[f32],
            _: &[f32],
            out: &mut SearchOutputs,
        ) -> Result<(), Self::Error> {
            out.presence = (crop[0] * 58.0 + 114.0) / 255.0;
            out.score.fill(0.0);
            out.score[8 * 16 + 8] = 1.0;
            out.box_ltrb_px.fill(32.0);
            Ok(())
        }
    }

    /// A run with the target or without it, frame by frame, and the presence that was said.
    fn followed(frames: &[(bool, f32)]) -> Followed {
        let there = BoxXywh::new(10.0, 20.0, 30.0, 40.0);
        let report = |(index, &(_, presence)): (usize, &(bool, f32))| Report {
            box_in_image: Some(there),
            phase: Phase::Tracking,
            score: 1.0,
            presence,
            similarity: 1.0,
            captured_at: Timestamp(index as u64),
            since: Timestamp(0),
        };
        Followed {
            run: Run {
                name: "r".into(),
                frames: frames.iter().map(|_| "i.png".into()).collect(),
                truth: frames
                    .iter()
                    .map(|(seen, _)| seen.then_some(there))
                    .collect(),
                fps: 30.0,
                assisted: false,
                class: None,
            },
            reports: frames.iter().enumerate().map(report).collect(),
            score: RunScore::default(),
        }
    }

    #[test]
    fn reliability_leaves_out_the_first_frame_of_every_run_and_no_other() {
        let runs = [
            followed(&[(true, 0.99), (true, 0.9), (false, 0.1)]),
            followed(&[(true, 0.99), (false, 0.9)]),
            followed(&[(true, 0.99)]),
        ];
        let found = reliability(&runs);
        let counts: Vec<(usize, usize)> = (0..found.bins.len())
            .map(|k| (k, found.bins[k].count))
            .filter(|(_, count)| *count > 0)
            .collect();
        // 0.1 twice fifteen is 1.5, 0.9 is 13.5; of the latter one of two was there.
        assert_eq!(counts, [(1, 1), (13, 2)]);
        assert_eq!(found.bins[13].present_share, 0.5);
        assert_eq!(found.bins[1].present_share, 0.0);
    }

    #[test]
    fn presence_ranks_all_frames_but_the_first_of_every_run() {
        let mut with_absence = followed(&[(true, 0.0), (true, 0.9), (false, 0.1)]);
        with_absence.score.absent = 1;
        let runs = [with_absence, followed(&[(true, 0.0), (true, 0.05)])];
        let found = presence(&runs).unwrap();
        // 0.9 lies above 0.1; of 0.9 and 0.05 one does. The zeros of the first frames would lie below.
        assert_eq!(found.roc_auc_within_runs, Some(1.0));
        assert_eq!(found.roc_auc, Some(0.5));
    }

    #[test]
    fn a_target_that_is_there_and_called_lost_counts_from_the_second_frame_on() {
        let mut run = followed(&[(true, 0.9), (true, 0.9), (false, 0.9), (true, 0.9)]);
        for report in &mut run.reports[..3] {
            report.box_in_image = None;
        }
        assert_eq!(run.false_lost(), 1);
    }

    #[test]
    fn pairs_are_scored_at_the_peak_and_presence_in_its_own_bin() {
        let contract = FollowContract::new(FollowSizes::default()).unwrap();
        let pair = |present: bool, red: u8, left_px: f32| {
            let mut search_rgb = vec![0; 256 * 256 * 3];
            search_rgb[0] = red;
            Ok(Pair {
                template_rgb: vec![0; 128 * 128 * 3],
                template_latest_rgb: vec![0; 128 * 128 * 3],
                search_rgb,
                box_in_search: BoxLtrb {
                    left_px,
                    top_px: 104.0,
                    right_px: left_px + 64.0,
                    bottom_px: 168.0,
                },
                present,
                instance: 0,
                has_distinct_latest: false,
            })
        };
        let drawn = [
            pair(true, 255, 104.0),
            pair(true, 255, 0.0),
            pair(false, 0, 104.0),
        ];
        let figures = pairs(&mut Reads, &contract, drawn.into_iter()).unwrap();
        // One box is right on 20 of 21 thresholds (overlap above 1 does not exist), one is nowhere.
        assert!((figures.auc - 10.0 / 21.0).abs() < 1e-9, "{}", figures.auc);
        assert_eq!((figures.pairs, figures.presence_roc_auc), (3, Some(1.0)));
        assert!(figures.reliability.expected_calibration_error < 1e-4);
        assert_eq!(figures.reliability.bins[14].count, 2);
    }
}
