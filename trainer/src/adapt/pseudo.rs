//! Pseudo-tracks: what the tracker itself believes about unlabelled video, where it agrees with itself.
//!
//! In: clips, the bundle's proposals for where to begin and its tracker to go on. Out: tracks that were followed from a
//! proposal on a clip's first frame as far as presence and similarity stayed high, and then backwards from there to the
//! beginning; kept are the frames on which both ways have nearly the same box. What is refused is counted by reason. They
//! are written as a pack of videos like any labelled one: `boxes.csv` and `images/CLIP/FRAME.EXT`.
//!
//! A pack made here is no truth for detection: who was refused, or not proposed, stands in the pictures without a box.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use image::DynamicImage;
use rayon::prelude::*;
use roadhound_shared::follow::Follower;
use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::network::FollowNetwork;
use roadhound_shared::propose::finder::Finder;
use roadhound_shared::propose::{ProposeNetwork, RoadUser};
use serde::{Deserialize, Serialize};

use super::clips::Clip;
use crate::config::{ConfigError, in_range};
use crate::data::TargetFilter;
use crate::evaluate;
use crate::outputs;

/// What makes a track worth learning from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PseudoConfig {
    /// Score of a proposal, at least.
    pub min_score: f32,
    /// Tracks of a clip at most, the likeliest proposals first.
    pub tracks_per_clip: usize,
    /// Presence on every frame, at least.
    pub min_presence: f32,
    /// Similarity with the track's templates on every frame, at least; -1 to leave it out.
    pub min_similarity: f32,
    /// Overlap of both ways on every frame, at least.
    pub frame_iou: f32,
    /// Median of the overlaps, at least.
    pub track_iou: f32,
    /// Frames of a track at least.
    pub min_frames: usize,
}

impl Default for PseudoConfig {
    fn default() -> Self {
        Self {
            min_score: 0.35,
            tracks_per_clip: 6,
            min_presence: 0.5,
            min_similarity: 0.3,
            frame_iou: 0.55,
            track_iou: 0.7,
            min_frames: 6,
        }
    }
}

impl PseudoConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (name, share) in [
            ("pseudo.min_score", self.min_score),
            ("pseudo.min_presence", self.min_presence),
            ("pseudo.frame_iou", self.frame_iou),
            ("pseudo.track_iou", self.track_iou),
        ] {
            in_range(name, f64::from(share), 0.0, 1.0)?;
        }
        let similarity = f64::from(self.min_similarity);
        in_range("pseudo.min_similarity", similarity, -1.0, 1.0)?;
        let (tracks, frames) = (self.tracks_per_clip as f64, self.min_frames as f64);
        in_range("pseudo.tracks_per_clip", tracks, 1.0, 1000.0)?;
        in_range("pseudo.min_frames", frames, 2.0, 1000.0)
    }
}

/// Why a proposal became no track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Too small, too long, or too much of it outside.
    Unfit,
    /// The tracker lost it before there were enough frames.
    Lost,
    /// Presence fell before there were enough frames.
    Unsure,
    /// It no longer looked like itself before there were enough frames.
    Changed,
    /// Back and forth are different ways.
    Disagreed,
}

impl Refusal {
    /// In a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unfit => "unfit box",
            Self::Lost => "lost",
            Self::Unsure => "presence fell",
            Self::Changed => "similarity fell",
            Self::Disagreed => "back and forth disagreed",
        }
    }
}

/// What the tracker said on one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Its box; none where the target is lost.
    pub box_in_image: Option<BoxXywh>,
    /// Probability that it is there.
    pub presence: f32,
    /// Similarity with its templates.
    pub similarity: f32,
}

/// Where both ways agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreed {
    /// Number of its first frame.
    pub first: usize,
    /// The mean of both boxes, frame by frame.
    pub boxes: Vec<BoxXywh>,
    /// Median overlap of both ways times mean presence.
    pub confidence: f32,
}

/// How many of the frames followed forwards are trusted, and what ended them.
pub fn trusted(forwards: &[Seen], config: &PseudoConfig) -> (usize, Option<Refusal>) {
    for (frame, seen) in forwards.iter().enumerate() {
        let ended = match seen.box_in_image {
            None => Some(Refusal::Lost),
            // What is not a number is below everything.
            Some(_) if seen.presence.max(-2.0) < config.min_presence => Some(Refusal::Unsure),
            Some(_) if seen.similarity.max(-2.0) < config.min_similarity => Some(Refusal::Changed),
            Some(_) => None,
        };
        if ended.is_some() {
            return (frame, ended);
        }
    }
    (forwards.len(), None)
}

/// Both ways over the same frames, in the same order, held against each other.
///
/// # Errors
/// Why they are no track.
pub fn agreed(
    forwards: &[Seen],
    backwards: &[Seen],
    config: &PseudoConfig,
) -> Result<Agreed, Refusal> {
    let overlaps: Vec<f32> = overlaps(forwards, backwards);
    // The longest run of frames that agree.
    let (mut best, mut start) = (0..0, 0);
    for end in 0..=overlaps.len() {
        if end == overlaps.len() || overlaps[end] < config.frame_iou {
            if end - start > best.len() {
                best = start..end;
            }
            start = end + 1;
        }
    }
    if best.len() < config.min_frames {
        return Err(Refusal::Disagreed);
    }
    let mut sorted = overlaps[best.clone()].to_vec();
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    if median < config.track_iou {
        return Err(Refusal::Disagreed);
    }
    let both = forwards[best.clone()].iter().zip(&backwards[best.clone()]);
    let boxes = both.filter_map(|(a, b)| Some(mean(a.box_in_image?, b.box_in_image?)));
    let presence: f32 = forwards[best.clone()].iter().map(|s| s.presence).sum();
    Ok(Agreed {
        first: best.start,
        boxes: boxes.collect(),
        confidence: median * presence / best.len() as f32,
    })
}

/// Overlap of both ways, frame by frame; 0 where one of them has no box.
pub fn overlaps(forwards: &[Seen], backwards: &[Seen]) -> Vec<f32> {
    let both = forwards.iter().zip(backwards);
    both.map(|(a, b)| match (a.box_in_image, b.box_in_image) {
        (Some(a), Some(b)) => a.iou(&b),
        _ => 0.0,
    })
    .collect()
}

fn mean(a: BoxXywh, b: BoxXywh) -> BoxXywh {
    let half = |a: f32, b: f32| (a + b) / 2.0;
    BoxXywh::new(
        half(a.x_px, b.x_px),
        half(a.y_px, b.y_px),
        half(a.w_px, b.w_px),
        half(a.h_px, b.h_px),
    )
}

/// Pictures of a clip, decoded.
///
/// # Errors
/// A file that is no picture, by name.
pub fn pictures(clip: &Clip) -> Result<Vec<(DynamicImage, Timestamp)>> {
    let opened = clip.frames.iter();
    opened
        .map(|(path, at)| Ok((evaluate::open(path)?, *at)))
        .collect()
}

/// Follows a box over these pictures, the first of which shows it.
///
/// # Errors
/// A picture of another size, or a failure of the network.
pub fn followed<'a, N: FollowNetwork>(
    follower: &mut Follower<N>,
    pictures: impl Iterator<Item = (&'a DynamicImage, Timestamp)>,
    initial: BoxXywh,
) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for (picture, at) in pictures {
        let frame = evaluate::view(picture)?;
        if seen.is_empty() {
            follower
                .start(&frame, initial, at)
                .map_err(|e| anyhow!("{e}"))?;
            seen.push(Seen {
                box_in_image: Some(initial),
                presence: 1.0,
                similarity: 1.0,
            });
            continue;
        }
        let report = follower.step(&frame, at).map_err(|e| anyhow!("{e}"))?;
        seen.push(Seen {
            box_in_image: report.box_in_image,
            presence: report.presence,
            similarity: report.similarity,
        });
    }
    Ok(seen)
}

/// Forwards from `initial` over all pictures, then backwards from the last of the first `trusted` of these; both in the
/// pictures' order, the second one as long as that is.
///
/// # Errors
/// As [`followed`].
pub fn both_ways<N: FollowNetwork>(
    follower: &mut Follower<N>,
    pictures: &[(DynamicImage, Timestamp)],
    initial: BoxXywh,
    trusted: impl Fn(&[Seen]) -> usize,
) -> Result<[Vec<Seen>; 2]> {
    let forwards = followed(follower, pictures.iter().map(|(p, at)| (p, *at)), initial)?;
    let count = trusted(&forwards).min(forwards.len());
    let last = forwards[..count].last().and_then(|seen| seen.box_in_image);
    let Some(last) = last else {
        return Ok([forwards, Vec::new()]);
    };
    let end = pictures[count - 1].1.0;
    let turned = pictures[..count].iter().rev();
    let turned = turned.map(|(p, at)| (p, Timestamp(end.saturating_sub(at.0))));
    let mut backwards = followed(follower, turned, last)?;
    backwards.reverse();
    Ok([forwards, backwards])
}

/// A proposal on a clip's first frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Number of the clip.
    pub clip: usize,
    /// Where.
    pub box_in_image: BoxXywh,
    /// What it is taken for.
    pub kind: RoadUser,
}

/// A track of a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct PseudoTrack {
    /// What it began with.
    pub from: Candidate,
    /// Where it was followed.
    pub agreed: Agreed,
}

/// Everything found in a set of clips.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Harvest {
    /// What the tracker could have begun with, fit boxes only.
    pub candidates: Vec<Candidate>,
    /// What is kept.
    pub tracks: Vec<PseudoTrack>,
    /// Proposals that are no track, by reason.
    pub refused: BTreeMap<Refusal, usize>,
}

impl Harvest {
    /// Boxes of all tracks.
    pub fn boxes(&self) -> usize {
        self.tracks.iter().map(|t| t.agreed.boxes.len()).sum()
    }

    /// One line: what was kept and why others were not.
    pub fn line(&self) -> String {
        let refused: usize = self.refused.values().sum();
        let mut line = format!(
            "{} pseudo-tracks with {} boxes of {} proposals",
            self.tracks.len(),
            self.boxes(),
            self.tracks.len() + refused
        );
        for (reason, count) in &self.refused {
            let _ = write!(line, ", {count} {}", reason.name());
        }
        line
    }
}

/// Looks through all clips, on as many threads as rayon has; `networks` makes what a thread needs.
///
/// # Errors
/// A picture that cannot be read, by name; a failure of a network.
pub fn harvest<P: ProposeNetwork, F: FollowNetwork>(
    clips: &[Clip],
    networks: impl Fn() -> Result<(Finder<P>, Follower<F>)> + Sync,
    fit: &TargetFilter,
    config: &PseudoConfig,
    progress: impl Fn() + Sync,
) -> Result<Harvest> {
    let numbered: Vec<(usize, &Clip)> = clips.iter().enumerate().collect();
    let share = numbered.len().div_ceil(rayon::current_num_threads().max(1));
    let parts: Vec<Result<Vec<Harvest>>> = numbered
        .par_chunks(share.max(1))
        .map(|part| {
            let (mut finder, mut follower) = networks()?;
            part.iter()
                .map(|(number, clip)| {
                    let found = of_clip(*number, clip, &mut finder, &mut follower, fit, config);
                    progress();
                    found.with_context(|| clip.name.clone())
                })
                .collect()
        })
        .collect();
    let mut all = Harvest::default();
    for part in parts {
        for found in part? {
            all.candidates.extend(found.candidates);
            all.tracks.extend(found.tracks);
            for (reason, count) in found.refused {
                *all.refused.entry(reason).or_default() += count;
            }
        }
    }
    Ok(all)
}

fn of_clip<P: ProposeNetwork, F: FollowNetwork>(
    number: usize,
    clip: &Clip,
    finder: &mut Finder<P>,
    follower: &mut Follower<F>,
    fit: &TargetFilter,
    config: &PseudoConfig,
) -> Result<Harvest> {
    let pictures = pictures(clip)?;
    let mut found = Harvest::default();
    let Some((first, _)) = pictures.first() else {
        return Ok(found);
    };
    let frame = evaluate::view(first)?;
    finder.find(&frame).map_err(|e| anyhow!("{e}"))?;
    let (width_px, height_px) = (frame.width_px(), frame.height_px());
    for proposal in finder.found() {
        if proposal.score < config.min_score {
            continue;
        }
        if !fit.accepts(&proposal.box_in_image, width_px, height_px) {
            *found.refused.entry(Refusal::Unfit).or_default() += 1;
        } else if found.candidates.len() < config.tracks_per_clip {
            found.candidates.push(Candidate {
                clip: number,
                box_in_image: proposal.box_in_image,
                kind: proposal.kind,
            });
        }
    }
    for from in found.candidates.clone() {
        let [forwards, backwards] =
            both_ways(follower, &pictures, from.box_in_image, |forwards| {
                trusted(forwards, config).0
            })?;
        let (count, ended) = trusted(&forwards, config);
        let verdict = match ended {
            Some(reason) if count < config.min_frames => Err(reason),
            _ => agreed(&forwards[..count], &backwards, config),
        };
        match verdict {
            Ok(agreed) => found.tracks.push(PseudoTrack { from, agreed }),
            Err(reason) => *found.refused.entry(reason).or_default() += 1,
        }
    }
    Ok(found)
}

/// Writes the tracks as a pack of videos; `boxes.csv` comes last: a folder without it is not whole. Returns the names of
/// the held-out clips that have tracks.
///
/// # Errors
/// The file system's, with the path.
pub fn write_pack(folder: &Path, clips: &[Clip], tracks: &[PseudoTrack]) -> Result<Vec<String>> {
    let mut table = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
    let mut trust = String::from("sequence,instance,class,frames,confidence\n");
    let mut held_out: Vec<String> = Vec::new();
    for (instance, track) in tracks.iter().enumerate() {
        let clip = &clips[track.from.clip];
        let (name, kind) = (&clip.name, track.from.kind.name());
        let images = folder.join("images").join(name);
        std::fs::create_dir_all(&images).with_context(|| format!("{}", images.display()))?;
        for (k, b) in track.agreed.boxes.iter().enumerate() {
            let frame = track.agreed.first + k;
            let _ = writeln!(
                table,
                "{name},{frame},{instance},{kind},{:.2},{:.2},{:.2},{:.2},-1",
                b.x_px, b.y_px, b.w_px, b.h_px
            );
            copy(&clip.frames[frame].0, &images, frame)?;
        }
        let _ = writeln!(
            trust,
            "{name},{instance},{kind},{},{:.3}",
            track.agreed.boxes.len(),
            track.agreed.confidence
        );
        if clip.held_out && held_out.last() != Some(name) {
            held_out.push(name.clone());
        }
    }
    outputs::file(&folder.join("tracks.csv"), trust)?;
    outputs::file(&folder.join("boxes.csv"), table)?;
    Ok(held_out)
}

fn copy(from: &Path, images: &Path, frame: usize) -> Result<()> {
    let ending = from.extension().and_then(|e| e.to_str()).unwrap_or("jpg");
    let to: PathBuf = images.join(format!("{frame:05}.{ending}"));
    if !to.exists() {
        std::fs::copy(from, &to).with_context(|| format!("{}", to.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::{PackKind, ReadConfig, read_pack};
    use roadhound_shared::contract::{FollowContract, FollowSizes};
    use roadhound_shared::network::{SearchOutputs, TemplateOutputs};
    use roadhound_shared::propose::{
        ProposeContract, ProposeDecoder, ProposeOutputs, ProposeSizes,
    };
    use roadhound_shared::tracker::TrackerConfig;

    fn seen(x_px: f32, presence: f32, similarity: f32) -> Seen {
        Seen {
            box_in_image: Some(BoxXywh::new(x_px, 10.0, 40.0, 30.0)),
            presence,
            similarity,
        }
    }

    fn config() -> PseudoConfig {
        PseudoConfig {
            min_frames: 3,
            ..PseudoConfig::default()
        }
    }

    #[test]
    fn a_way_is_trusted_until_it_is_lost_unsure_or_changed() {
        let good = seen(0.0, 0.9, 0.8);
        let lost = Seen {
            box_in_image: None,
            ..good
        };
        for (bad, reason) in [
            (lost, Refusal::Lost),
            (seen(0.0, 0.2, 0.8), Refusal::Unsure),
            (seen(0.0, f32::NAN, 0.8), Refusal::Unsure),
            (seen(0.0, 0.9, 0.1), Refusal::Changed),
        ] {
            let found = trusted(&[good, good, bad, good], &config());
            assert_eq!(found, (2, Some(reason)));
        }
        assert_eq!(trusted(&[good; 4], &config()), (4, None));
    }

    #[test]
    fn the_longest_run_on_which_both_ways_agree_is_kept_between_them() {
        let forwards: Vec<Seen> = (0..7u8).map(|i| seen(f32::from(i), 0.8, 0.9)).collect();
        let mut backwards: Vec<Seen> = (0..7u8)
            .map(|i| seen(f32::from(i) + 2.0, 0.9, 0.9))
            .collect();
        // The third frame is elsewhere on the way back: two frames before it, four behind.
        backwards[2] = seen(300.0, 0.9, 0.9);
        let found = agreed(&forwards, &backwards, &config()).unwrap();
        assert_eq!((found.first, found.boxes.len()), (3, 4));
        assert_eq!(found.boxes[0], BoxXywh::new(4.0, 10.0, 40.0, 30.0));
        let overlap = 38.0 / 42.0;
        assert!(
            (found.confidence - 0.8 * overlap).abs() < 1e-5,
            "{}",
            found.confidence
        );
        let longer = PseudoConfig {
            min_frames: 5,
            ..config()
        };
        assert_eq!(
            agreed(&forwards, &backwards, &longer),
            Err(Refusal::Disagreed)
        );
        let stricter = PseudoConfig {
            track_iou: 0.95,
            ..config()
        };
        assert_eq!(
            agreed(&forwards, &backwards, &stricter),
            Err(Refusal::Disagreed)
        );
        assert_eq!(agreed(&[], &[], &config()), Err(Refusal::Disagreed));
    }

    /// Proposes one car in the middle of the frame.
    struct Middle(ProposeDecoder);

    impl ProposeNetwork for Middle {
        type Error = std::convert::Infallible;

        fn propose(&mut self, _: &[f32], out: &mut ProposeOutputs) -> Result<(), Self::Error> {
            let cell = 16 * self.0.columns() + 26;
            out.score.fill(0.0);
            out.score[self.0.index(RoadUser::Car as usize, cell)] = 0.9;
            out.box_ltrb_px.fill(0.0);
            for side in 0..4 {
                out.box_ltrb_px[self.0.index(side, cell)] = 30.0;
            }
            Ok(())
        }
    }

    /// Sees its target where it was, as sure as it is told.
    struct Stays(f32);

    impl FollowNetwork for Stays {
        type Error = std::convert::Infallible;

        fn template(&mut self, _: &[f32], out: &mut TemplateOutputs) -> Result<(), Self::Error> {
            let size = out.embedding.len() as f32;
            out.embedding.fill(1.0 / size.sqrt());
            Ok(())
        }

        fn search(
            &mut self,
            _: &[f32],
            _: &[f32],
            _: &[f32],
            out: &mut SearchOutputs,
        ) -> Result<(), Self::Error> {
            out.presence = self.0;
            out.score.fill(0.0);
            out.score[7 * 16 + 7] = 0.9;
            // The middle of the crop lies between cells.
            let cells = out.score.len();
            for (side, px) in [24.0, 24.0, 40.0, 40.0].into_iter().enumerate() {
                out.box_ltrb_px[side * cells..(side + 1) * cells].fill(px);
            }
            let size = (out.embedding.len() / out.score.len()) as f32;
            out.embedding.fill(1.0 / size.sqrt());
            Ok(())
        }
    }

    #[test]
    fn what_is_harvested_is_written_as_a_pack_that_is_read_and_the_rest_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let frames = (0..5u64).map(|i| {
            let path = root.path().join(format!("{i}.png"));
            image::RgbImage::from_pixel(416, 256, image::Rgb([90, 99, 105]))
                .save(&path)
                .unwrap();
            (path, Timestamp::of_frame(i, 30.0))
        });
        let clip = |name: &str, held_out| Clip {
            name: name.into(),
            recording: name.into(),
            frames: Vec::new(),
            held_out,
        };
        let mut clips = vec![clip("a", false), clip("b", true)];
        clips[0].frames = frames.collect();
        clips[1].frames = clips[0].frames.clone();
        let found = |presence: f32| {
            let networks = || {
                let sizes = ProposeContract::new(ProposeSizes::default()).unwrap();
                let finder = Finder::new(Middle(ProposeDecoder::new(&sizes)), sizes)?;
                let contract = FollowContract::new(FollowSizes::default()).unwrap();
                let follower = Follower::new(Stays(presence), contract, TrackerConfig::default())?;
                Ok((finder, follower))
            };
            harvest(&clips, networks, &TargetFilter::default(), &config(), || ()).unwrap()
        };
        let sure = found(0.95);
        assert_eq!(
            (sure.tracks.len(), sure.candidates.len()),
            (2, 2),
            "{}",
            sure.line()
        );
        assert!(
            sure.refused.is_empty() && sure.boxes() >= 6,
            "{}",
            sure.line()
        );
        let out = root.path().join("pack");
        assert_eq!(write_pack(&out, &clips, &sure.tracks).unwrap(), ["b"]);
        let read = read_pack(&out, PackKind::Video, &ReadConfig::default(), &|_| false).unwrap();
        let names: Vec<&str> = read.iter().map(|s| &*s.name).collect();
        assert_eq!(names, ["a", "b"]);
        let first = &read[0].frames[0].annotations[0];
        assert_eq!(&*first.class, "car");
        let middle = first.box_in_image.center();
        assert!(
            (middle.0 - 212.0).abs() < 16.0 && (middle.1 - 132.0).abs() < 16.0,
            "{middle:?}"
        );
        // Nothing is followed that the tracker is not sure of.
        let unsure = found(0.05);
        assert_eq!(unsure.tracks.len(), 0);
        assert_eq!(
            unsure.refused.values().sum::<usize>(),
            2,
            "{}",
            unsure.line()
        );
        assert!(
            unsure.line().contains("2 presence fell"),
            "{}",
            unsure.line()
        );
    }
}
