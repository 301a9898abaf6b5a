//! From which scores on watch mode believes proposals: searched on validation drives, for a bundle to say.
//!
//! In: a network that proposes, and annotated clips that are no evaluation clips. Out: for every choice of thresholds and
//! every clip how well everybody was followed, and which choice to ship.
//!
//! The network does not know of thresholds, so each clip is looked at once ([`Watched::clip`]), on the frames that watch mode
//! looks at; every choice then only associates what was found, with the code of the board. What counts is the mean of HOTA
//! and IDF1: the one asks for boxes, the other for identities, and thresholds trade one for the other.
//!
//! ```
//! use roadhound_shared::watch::Scores;
//! use roadhound_trainer::tune::scores::choices;
//! let all = choices(Scores::default());
//! assert_eq!(all[0], Scores::default(), "the current ones come first");
//! assert!(all.iter().all(|s| s.weak_from <= s.strong_from && s.strong_from <= s.birth_from));
//! ```

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::metrics::ScoreBox;
use roadhound_shared::metrics::multi::{Found, Judged, JudgingRule, MultiScore, Role, Truth};
use roadhound_shared::propose::{Finder, ProposeNetwork, RoadUser};
use roadhound_shared::watch::{Cadence, Detection, LooksMetric, Scores, Watch, WatchConfig};

use super::gain::Gain;
use super::refuse_evaluation_frames;
use crate::adapt::clips::by_number;
use crate::data::clip::folders;
use crate::data::{DataError, list_images, otb};
use crate::{evaluate, many};

/// Thresholds that are tried.
const STRONG: [f32; 7] = [0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5];
const WEAK: [f32; 5] = [0.1, 0.15, 0.2, 0.25, 0.3];
/// Of somebody new, above strong ones.
const BIRTH_ABOVE_STRONG: [f32; 4] = [0.0, 0.05, 0.1, 0.2];

/// Every choice that is tried, `current` first.
pub fn choices(current: Scores) -> Vec<Scores> {
    let mut all = vec![current];
    for strong_from in STRONG {
        for weak_from in WEAK.into_iter().filter(|weak| *weak <= strong_from) {
            for above in BIRTH_ABOVE_STRONG {
                let choice = Scores {
                    strong_from,
                    weak_from,
                    // To two digits, as it is written.
                    birth_from: ((strong_from + above) * 100.0).round() / 100.0,
                    ..current
                };
                if choice != current {
                    all.push(choice);
                }
            }
        }
    }
    all
}

/// The clips below some folders.
///
/// # Errors
/// A folder that cannot be read, an evaluation clip, no clip at all.
pub fn clips(roots: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut clips = Vec::new();
    for root in roots {
        let places = folders(root)?.into_iter().map(|place| place.folder);
        clips.extend(places.filter(|folder| folder.join("gt.txt").is_file()));
    }
    anyhow::ensure!(
        !clips.is_empty(),
        "no clip with a gt.txt in any of the folders"
    );
    let images: Vec<PathBuf> = clips.iter().map(|clip| clip.join("img/any")).collect();
    refuse_evaluation_frames(images.iter().map(AsRef::as_ref))?;
    // A link to a clip is the clip.
    refuse_evaluation_frames(clips.iter().map(AsRef::as_ref))?;
    Ok(clips)
}

/// A road user that a network found.
struct Seen {
    box_in_image: BoxXywh,
    score: f32,
    kind: RoadUser,
    embedding: Vec<f32>,
}

/// A clip, looked at once.
pub struct Watched {
    /// Its folder's name.
    pub name: String,
    fps: f64,
    size_px: (u32, u32),
    /// Who was found on each frame; `None` where nobody looked.
    looks: Vec<Option<Vec<Seen>>>,
    truth: Vec<Vec<Truth>>,
    rule: JudgingRule,
}

/// Pictures of a clip, in order.
fn frames_of(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    Ok(by_number(list_images(&folder.join("img"))?))
}

impl Watched {
    /// Looks at a clip in MOTChallenge's layout, on the frames that `config` says.
    ///
    /// # Errors
    /// Files that cannot be read, a frame that the network cannot look at.
    pub fn clip<N: ProposeNetwork>(
        folder: &Path,
        finder: &mut Finder<N>,
        config: &WatchConfig,
    ) -> Result<Self> {
        let frames = frames_of(folder)?;
        let fps = otb::frame_rate(&folder.join("seqinfo.ini"))?;
        let (truth, rule) = many::road_users(folder, frames.len())?;
        let mut watched = Self {
            name: folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            fps,
            size_px: (0, 0),
            looks: Vec::with_capacity(frames.len()),
            truth,
            rule,
        };
        let mut cadence = Cadence::new(config.cadence);
        for (number, path) in frames.iter().enumerate() {
            if !cadence.is_due(Timestamp::of_frame(number as u64, fps)) {
                watched.looks.push(None);
                continue;
            }
            let image = evaluate::open(path)?;
            watched.size_px = (image.width(), image.height());
            let found = finder.find_in(&evaluate::view(&image)?, &config.views);
            found.map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
            let seen = finder.found().map(|d| Seen {
                box_in_image: d.box_in_image,
                score: d.score,
                kind: d.kind,
                embedding: d.embedding.to_vec(),
            });
            watched.looks.push(Some(seen.collect()));
        }
        Ok(watched)
    }

    /// How well everybody is followed with these thresholds, and by a learned distance between embeddings where one is given.
    ///
    /// # Errors
    /// Constants that cannot be.
    pub fn score(
        &self,
        config: &WatchConfig,
        scores: Scores,
        looks: Option<&LooksMetric>,
    ) -> Result<MultiScore> {
        let mut config = *config;
        config.score = scores.into();
        let embedding = self.looks.iter().flatten().flatten().next();
        config.room.embedding = embedding.map_or(0, |seen| seen.embedding.len() as u32);
        let (width_px, height_px) = self.size_px;
        let mut watch = Watch::by_looks(config, looks.cloned(), width_px, height_px)?;
        let mut judged = Judged::new(self.rule);
        for (number, (look, truth)) in self.looks.iter().zip(&self.truth).enumerate() {
            let now = Timestamp::of_frame(number as u64, self.fps);
            let reports = match look {
                None => watch.coast(now, None),
                Some(seen) => {
                    let detections: Vec<Detection<'_>> =
                        seen.iter().map(Seen::as_detection).collect();
                    watch.look(now, None, &detections)?
                }
            };
            let found: Vec<Found> = reports
                .iter()
                .filter(|report| report.sight.is_shown())
                .map(|report| Found {
                    identity: report.identity.into(),
                    box_in_image: ScoreBox::from(report.box_in_image),
                })
                .collect();
            judged.add_frame(truth, &found)?;
        }
        Ok(MultiScore::of(&judged))
    }
}

/// A road user that was found, and is known.
pub(super) struct Known<'a> {
    pub(super) seconds: f64,
    pub(super) identity: i64,
    pub(super) kind: RoadUser,
    pub(super) embedding: &'a [f32],
}

/// A box that overlaps a true one by as much is of it.
const SAME_FROM_IOU: f64 = 0.5;

impl Watched {
    /// Whoever was found and is annotated, frame by frame: pairs of boxes, the best overlaps first.
    pub(super) fn known(&self) -> Vec<Known<'_>> {
        let mut known = Vec::new();
        for (number, (look, truth)) in self.looks.iter().zip(&self.truth).enumerate() {
            let seen = look.as_deref().unwrap_or_default();
            let there: Vec<&Truth> = truth.iter().filter(|t| t.role == Role::Counted).collect();
            let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
            for (at, seen) in seen.iter().enumerate() {
                let found = ScoreBox::from(seen.box_in_image);
                let overlaps = there.iter().map(|t| t.box_in_image.iou(&found));
                let close = overlaps
                    .enumerate()
                    .filter(|(_, iou)| *iou >= SAME_FROM_IOU);
                pairs.extend(close.map(|(of, iou)| (iou, at, of)));
            }
            pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
            let (mut taken, mut given) = (vec![false; seen.len()], vec![false; there.len()]);
            for (_, at, of) in pairs {
                if taken[at] || given[of] || seen[at].embedding.is_empty() {
                    continue;
                }
                (taken[at], given[of]) = (true, true);
                known.push(Known {
                    seconds: number as f64 / self.fps,
                    identity: there[of].identity,
                    kind: seen[at].kind,
                    embedding: &seen[at].embedding,
                });
            }
        }
        known
    }
}

impl Seen {
    fn as_detection(&self) -> Detection<'_> {
        Detection {
            box_in_image: self.box_in_image,
            score: self.score,
            kind: self.kind,
            embedding: &self.embedding,
        }
    }
}

/// What is to be as large as possible, of one clip.
pub(super) fn objective(score: &MultiScore) -> f64 {
    (score.hota.hota() + score.identity.f1()) / 2.0
}

/// Every choice on every clip.
pub struct Search {
    /// In the order of [`choices`].
    pub choices: Vec<Scores>,
    /// Of each choice, over all clips taken together.
    pub combined: Vec<MultiScore>,
    /// How much the best one gains over the current one.
    pub gain: Gain,
}

impl Search {
    /// Tries every choice.
    ///
    /// # Errors
    /// Constants that cannot be.
    pub fn over(
        clips: &[Watched],
        config: &WatchConfig,
        current: Scores,
        looks: Option<&LooksMetric>,
        seed: u64,
    ) -> Result<Self> {
        let choices = choices(current);
        let (mut combined, mut objectives) = (Vec::new(), Vec::new());
        for choice in &choices {
            let of_clip = |clip: &Watched| {
                clip.score(config, *choice, looks)
                    .context(clip.name.clone())
            };
            let scores: Vec<MultiScore> = clips.iter().map(of_clip).collect::<Result<_>>()?;
            objectives.push(scores.iter().map(objective).collect());
            combined.push(MultiScore::combined(&scores));
        }
        let gain = Gain::of(&objectives, seed);
        Ok(Self {
            choices,
            combined,
            gain,
        })
    }

    /// The choice to ship: the best one where its gain is more than luck, the current one otherwise.
    pub fn shipped(&self) -> Scores {
        self.choices[if self.gain.is_real() {
            self.gain.best
        } else {
            0
        }]
    }

    /// What it came to, in one line.
    pub fn verdict(&self) -> String {
        let Gain { best, measured, .. } = self.gain;
        let [low, high] = self.gain.interval();
        let figures = |at: usize| {
            let score = &self.combined[at];
            let [hota, f1] = [score.hota.hota(), score.identity.f1()].map(|v| 100.0 * v);
            format!("HOTA {hota:.1}, IDF1 {f1:.1}")
        };
        if best == 0 {
            return format!(
                "nothing tried is better than the current scores ({})",
                figures(0)
            );
        }
        let corrected = self.gain.corrected();
        let worth = match self.gain.is_real() {
            true => "worth shipping",
            false => "may be luck, the current scores stay",
        };
        format!(
            "{} to {}; a mean gain of {measured:+.4} a clip, corrected for the choice {corrected:+.4}, 90 % interval {low:+.4} to {high:+.4}: {worth}",
            figures(0),
            figures(best)
        )
    }

    /// Every choice and its figures.
    pub fn csv(&self) -> String {
        let mut text =
            String::from("strong_from,weak_from,birth_from,believed_from,hota,det_a,ass_a,idf1\n");
        for (s, score) in self.choices.iter().zip(&self.combined) {
            let h = &score.hota;
            let figures = [
                h.hota(),
                h.detection(),
                h.association(),
                score.identity.f1(),
            ];
            let figures = figures.map(|v| format!("{v:.5}")).join(",");
            let _ = writeln!(
                text,
                "{},{},{},{},{figures}",
                s.strong_from, s.weak_from, s.birth_from, s.believed_from
            );
        }
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Cars that stand still and are found on every frame, ten a second, each by the embedding that is made for it.
    pub(in crate::tune) fn standing(
        name: &str,
        cars: usize,
        frames: usize,
        mut embedding: impl FnMut(usize) -> Vec<f32>,
    ) -> Watched {
        let place = |car: usize| BoxXywh::new(20.0 + 100.0 * car as f32, 150.0, 60.0, 40.0);
        let mut seen = |car| Seen {
            box_in_image: place(car),
            score: 0.9,
            kind: RoadUser::Car,
            embedding: embedding(car),
        };
        let truth = |car| Truth {
            identity: car as i64,
            box_in_image: ScoreBox::from(place(car)),
            role: Role::Counted,
        };
        Watched {
            name: name.into(),
            fps: 10.0,
            size_px: (640, 360),
            looks: (0..frames)
                .map(|_| Some((0..cars).map(&mut seen).collect()))
                .collect(),
            truth: (0..frames)
                .map(|_| (0..cars).map(truth).collect())
                .collect(),
            rule: JudgingRule::default(),
        }
    }

    /// A car that is always there, found with `car`; beside it something that is none, found with `clutter`.
    fn clip(number: usize, car: f32, clutter: f32) -> Watched {
        let place = |frame: usize, x_px: f32| {
            BoxXywh::new(x_px + (frame + number) as f32, 150.0, 60.0, 40.0)
        };
        let seen = |box_in_image, score| Seen {
            box_in_image,
            score,
            kind: RoadUser::Car,
            embedding: Vec::new(),
        };
        let looks = |frame| {
            vec![
                seen(place(frame, 100.0), car),
                seen(place(frame, 400.0), clutter),
            ]
        };
        let truth = |frame| Truth {
            identity: 7,
            box_in_image: ScoreBox::from(place(frame, 100.0)),
            role: Role::Counted,
        };
        Watched {
            name: format!("clip {number}"),
            fps: 10.0,
            size_px: (640, 360),
            looks: (0..20).map(|frame| Some(looks(frame))).collect(),
            truth: (0..20).map(|frame| vec![truth(frame)]).collect(),
            rule: JudgingRule::default(),
        }
    }

    fn search(clips: &[Watched]) -> Search {
        Search::over(clips, &WatchConfig::default(), Scores::default(), None, 1).unwrap()
    }

    #[test]
    fn clutter_that_scores_above_the_thresholds_raises_them() {
        let clips: Vec<Watched> = (0..12).map(|n| clip(n, 0.9, 0.42)).collect();
        let found = search(&clips);
        let shipped = found.shipped();
        assert!(
            shipped.birth_from > 0.42 && shipped.birth_from < 0.9,
            "{shipped:?}"
        );
        assert!(found.gain.is_real(), "{}", found.verdict());
        let line = found.csv().lines().count();
        assert_eq!(line, 1 + found.choices.len());
    }

    #[test]
    fn frames_without_leading_zeros_are_looked_at_in_the_order_of_their_numbers() {
        let clip = tempfile::tempdir().unwrap();
        std::fs::create_dir(clip.path().join("img")).unwrap();
        let names = ["8.png", "9.png", "10.png"];
        for name in names {
            std::fs::write(clip.path().join("img").join(name), "").unwrap();
        }
        let frames = frames_of(clip.path()).unwrap();
        assert_eq!(frames, names.map(|name| clip.path().join("img").join(name)));
    }

    #[test]
    fn where_nothing_is_gained_the_scores_stay() {
        let clips: Vec<Watched> = (0..12).map(|n| clip(n, 0.9, 0.05)).collect();
        let found = search(&clips);
        assert_eq!(found.shipped(), Scores::default(), "{}", found.verdict());
        assert!(found.combined[0].hota.hota() > 0.9);
    }

    #[test]
    fn evaluation_clips_are_refused_and_so_are_folders_without_clips() {
        let folder = tempfile::tempdir().unwrap();
        let roots = [folder.path().to_owned()];
        assert!(
            clips(&roots)
                .unwrap_err()
                .to_string()
                .contains("no clip with a gt.txt")
        );
        let clip = folder.path().join("in_kerala_a");
        std::fs::create_dir(&clip).unwrap();
        std::fs::write(clip.join("gt.txt"), "").unwrap();
        let said = clips(&roots).unwrap_err().to_string();
        assert!(said.contains("in_kerala_a is an evaluation clip"), "{said}");
    }
}
