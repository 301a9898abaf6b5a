//! Watch mode: detections of one frame after the other become road users whose identities last.
//!
//! What enters: for each frame its time stamp, what a detector found ([`Detection`]), and, where somebody knows it, how
//! the camera moved. What leaves: a [`Report`] for everybody who is believed: seen, expected, hidden or lost. Nothing
//! here does I/O or reads a clock; memory is taken once, by [`Watch::new`], and the same input gives the same output to
//! the bit on any machine.
//!
//! ```
//! use roadhound_shared::frame::Timestamp;
//! use roadhound_shared::geometry::BoxXywh;
//! use roadhound_shared::watch::{Detection, RoadUser, Sight, Watch, WatchConfig};
//!
//! let mut watch = Watch::new(WatchConfig::default(), 640, 360)?;
//! for frame in 0..10 {
//!     let car = Detection {
//!         box_in_image: BoxXywh::new(100.0 + 3.0 * frame as f32, 150.0, 60.0, 40.0),
//!         score: 0.9,
//!         kind: RoadUser::Car,
//!         embedding: &[],
//!     };
//!     watch.look(Timestamp::of_frame(frame, 30.0), None, &[car])?;
//! }
//! let reports = watch.reports();
//! assert_eq!((reports.len(), reports[0].identity, reports[0].kind), (1, 1, RoadUser::Car));
//! // Something drives in front of it.
//! let reports = watch.look(Timestamp::of_frame(20, 30.0), None, &[])?;
//! assert!(matches!(reports[0].sight, Sight::Hidden { .. }));
//! assert!(reports[0].box_in_image.x_px > 130.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # One look
//! 1. Time passes for everybody ([`AxisFilter`](crate::tracker::AxisFilter), by real time), and the camera's motion is
//!    taken out: told, or a shift that most detections share (`camera`).
//! 2. Strong detections go to those who were just seen or are hidden, at the smallest sum of costs ([`CostConfig`]).
//! 3. Weak detections go to those who were just seen and found none (ByteTrack).
//! 4. Strong ones that are left go to the lost ([`ReclaimConfig`]), then to those who are not believed yet.
//! 5. Those that are still left are somebody new, unless they overlap somebody.
//! 6. Lives change ([`Life`]): one table says who is believed, hidden, lost, forgotten.

use alloc::vec::Vec;

use crate::assignment::Assigner;
use crate::frame::Timestamp;
use crate::geometry::{Affine2, BoxXywh};
use crate::limits::LimitError;

mod cadence;
mod camera;
mod config;
mod cost;
mod life;
mod looks;
mod track;
mod watcher;
pub mod zones;

pub use cadence::{Cadence, CadenceConfig};
pub use config::{
    CHI_SQUARE_4_95, CameraConfig, CostConfig, LifeConfig, MotionConfig, ReclaimConfig, RoomConfig,
    ScoreConfig, Scores, WatchConfig,
};
pub use life::Life;
pub use looks::LooksMetric;
pub use watcher::{Watcher, WatcherError};

pub use crate::propose::RoadUser;

use camera::Ballot;
use life::Event;
use looks::Gallery;
use track::{Measured, Track};

/// How many kinds there are.
const KINDS: usize = RoadUser::COUNT;

/// What a detector found in one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection<'a> {
    /// Where. A box without area or with coordinates that are not finite is passed over.
    pub box_in_image: BoxXywh,
    /// How sure it is, 0 to 1. NaN is not sure at all.
    pub score: f32,
    /// What it is.
    pub kind: RoadUser,
    /// What it looks like: as many numbers as the configuration says, or none. Taken at unit norm.
    pub embedding: &'a [f32],
}

/// What is known about one road user on one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Counted from 1 in the order in which they were believed; never given twice.
    pub identity: u32,
    /// What it was called most.
    pub kind: RoadUser,
    /// Where it is, or should be.
    pub box_in_image: BoxXywh,
    /// Score of the last detection.
    pub score: f32,
    /// Whether it is seen.
    pub sight: Sight,
}

/// Whether somebody is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Found.
    Seen {
        /// Which of the detections.
        detection: usize,
    },
    /// Nobody looked, or the detector blinked: it should be here.
    Expected {
        /// Last found.
        last_seen: Timestamp,
    },
    /// Not found for longer: hidden by something. The box is a guess.
    Hidden {
        /// Last found.
        since: Timestamp,
    },
    /// Not found for long. The box is where it was heading.
    Lost {
        /// Last found.
        since: Timestamp,
    },
}

impl Sight {
    /// Whether a box is to be shown.
    #[must_use]
    pub fn is_shown(self) -> bool {
        matches!(self, Self::Seen { .. } | Self::Expected { .. })
    }
}

/// A look that cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// An embedding of another length than the configuration says.
    #[error(
        "detection {detection} has an embedding of {found} numbers, expected {expected} or none"
    )]
    Embedding {
        /// Which of the detections.
        detection: usize,
        /// Its numbers.
        found: usize,
        /// What there is room for.
        expected: usize,
    },
}

/// Everybody on the road, from frame to frame.
#[derive(Clone, Debug)]
pub struct Watch {
    config: WatchConfig,
    scores: Scores,
    width_px: u32,
    height_px: u32,
    tracks: Vec<Track>,
    last: Option<Timestamp>,
    next_identity: u32,
    reports: Vec<Report>,
    work: Work,
}

/// Detections of one look that there is room for. They are counted among themselves; only reports name them by their places
/// among all.
#[derive(Clone, Copy, Debug)]
struct Taken<'a, 'e> {
    all: &'a [Detection<'e>],
    numbers: &'a [u32],
}

impl<'a, 'e> Taken<'a, 'e> {
    fn number(&self, at: usize) -> usize {
        self.numbers[at] as usize
    }

    fn get(&self, at: usize) -> &'a Detection<'e> {
        &self.all[self.number(at)]
    }
}

/// Room for one look.
#[derive(Clone, Debug)]
struct Work {
    /// Which of the detections there is room for.
    numbers: Vec<u32>,
    /// By detection, as filters measure it.
    measured: Vec<Measured>,
    gallery: Gallery,
    /// Numbers of detections that nobody took yet.
    strong: Vec<u32>,
    weak: Vec<u32>,
    matcher: Matcher,
    ballot: Ballot,
}

impl Watch {
    /// Nobody yet, in pictures of this size. All memory is taken here. Scores that the configuration leaves to the model are
    /// the defaults.
    ///
    /// # Errors
    /// A configuration that is out of range.
    pub fn new(config: WatchConfig, width_px: u32, height_px: u32) -> Result<Self, LimitError> {
        Self::by_looks(config, None, width_px, height_px)
    }

    /// The same with a learned distance between embeddings instead of their cosine. Rows of another length than embeddings
    /// have count as far as they go: [`LooksMetric::validate`] refuses them.
    ///
    /// # Errors
    /// A configuration that is out of range.
    pub fn by_looks(
        config: WatchConfig,
        metric: Option<LooksMetric>,
        width_px: u32,
        height_px: u32,
    ) -> Result<Self, LimitError> {
        config.validate()?;
        let scores = config.score.over(Scores::default());
        scores.validate(config::TABLE)?;
        let (tracks, detections) = (config.room.tracks as usize, config.room.detections as usize);
        let gallery = Gallery::new(metric, config.room.embedding as usize, detections);
        Ok(Self {
            config,
            scores,
            width_px,
            height_px,
            tracks: (0..tracks).map(|_| Track::free(gallery.length())).collect(),
            last: None,
            next_identity: 1,
            reports: Vec::with_capacity(tracks),
            work: Work {
                numbers: Vec::with_capacity(detections),
                measured: Vec::with_capacity(detections),
                gallery,
                strong: Vec::with_capacity(detections),
                weak: Vec::with_capacity(detections),
                matcher: Matcher {
                    places: core::array::from_fn(|_| Vec::with_capacity(detections)),
                    shares: Vec::with_capacity(detections),
                    rows: Vec::with_capacity(tracks),
                    costs: Vec::with_capacity(tracks * detections),
                    pairs: Vec::with_capacity(tracks),
                    assigner: Assigner::with_capacity(tracks.max(detections)),
                },
                ballot: Ballot::new(tracks, detections),
            },
        })
    }

    /// What was said last.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// A frame that a detector looked at. `now_from_last` is what the camera's motion since the last frame makes of a
    /// point that stands still; without it, it is estimated where the configuration says so.
    ///
    /// # Errors
    /// An embedding of the wrong length; nothing has changed then.
    pub fn look(
        &mut self,
        now: Timestamp,
        now_from_last: Option<&Affine2>,
        detections: &[Detection<'_>],
    ) -> Result<&[Report], WatchError> {
        let expected = self.config.room.embedding as usize;
        let lengths = detections.iter().map(|d| d.embedding.len());
        if let Some((detection, found)) =
            lengths.enumerate().find(|(_, n)| *n != 0 && *n != expected)
        {
            return Err(WatchError::Embedding {
                detection,
                found,
                expected,
            });
        }
        self.pass(now);
        // Lent out, so that detections can be named while everybody changes.
        let mut numbers = core::mem::take(&mut self.work.numbers);
        choose(
            detections,
            self.config.room.detections as usize,
            &mut numbers,
        );
        let taken = Taken {
            all: detections,
            numbers: &numbers,
        };
        self.sort(taken);
        self.compensate(now_from_last, taken);
        self.match_all(now, taken);
        self.give_birth(now, taken);
        self.work.numbers = numbers;
        self.live_on(now);
        self.report(now);
        Ok(&self.reports)
    }

    /// A frame that no detector looked at: everybody goes on as expected, and nobody is the worse for not being found.
    pub fn coast(&mut self, now: Timestamp, now_from_last: Option<&Affine2>) -> &[Report] {
        self.pass(now);
        if let Some(map) = now_from_last {
            self.carry(map);
        }
        self.report(now);
        &self.reports
    }

    fn pass(&mut self, now: Timestamp) {
        let motion = &self.config.motion;
        let dt = self.last.map_or(0.0, |last| now.seconds_since(last));
        let dt = dt.min(motion.max_step_seconds);
        for track in self.tracks.iter_mut().filter(|t| t.life.is_some()) {
            track.pass(dt, motion);
        }
        // Time that runs backwards stands still.
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
    }

    /// Strong and weak ones by number; boxes that are none are passed over.
    fn sort(&mut self, taken: Taken<'_, '_>) {
        let scores = &self.scores;
        let work = &mut self.work;
        for list in [&mut work.strong, &mut work.weak] {
            list.clear();
        }
        work.measured.clear();
        work.gallery.clear();
        for at in 0..taken.numbers.len() {
            let d = taken.get(at);
            work.measured.push(Measured::of(d));
            work.gallery.add(d);
            if !d.box_in_image.is_proper() {
                continue;
            }
            if d.score >= scores.strong_from {
                work.strong.push(at as u32);
            } else if d.score >= scores.weak_from {
                work.weak.push(at as u32);
            }
        }
    }

    fn compensate(&mut self, told: Option<&Affine2>, taken: Taken<'_, '_>) {
        if let Some(map) = told {
            self.carry(map);
            return;
        }
        let c = self.config.camera;
        if !c.estimate {
            return;
        }
        let Work { ballot, strong, .. } = &mut self.work;
        let boxes = strong.iter().map(|&d| taken.get(d as usize).box_in_image);
        ballot.open(self.width_px as f32, &c, boxes);
        let seen = |track: &&Track| matches!(track.life, Some(Life::Seen { .. }));
        for track in self.tracks.iter().filter(seen) {
            ballot.vote(&track.expected);
        }
        if let Some((dx_px, dy_px)) = ballot.winner(&c) {
            self.carry(&Affine2::translation(dx_px, dy_px));
        }
    }

    fn carry(&mut self, now_from_last: &Affine2) {
        // A map that turns the picture inside out is nobody's motion.
        let Some(scale) = now_from_last.scale() else {
            return;
        };
        for track in self.tracks.iter_mut().filter(|t| t.life.is_some()) {
            track.carry(now_from_last, scale);
        }
    }

    fn match_all(&mut self, now: Timestamp, taken: Taken<'_, '_>) {
        let c = &self.config;
        let tracks = &mut self.tracks;
        let Work {
            measured,
            gallery,
            strong,
            weak,
            matcher,
            ..
        } = &mut self.work;
        let measured = measured.as_slice();
        let looks = |at: usize| gallery.of(at, taken.get(at));
        let likely = |track: &Track, at: usize, share: f32| {
            let waited = match track.life {
                // Who was seen on the last look has waited a frame, which is nobody's fault.
                Some(Life::Hidden { since }) => now.seconds_since(since),
                _ => 0.0,
            };
            let cost = cost::seen(track, taken.get(at), looks(at).as_ref(), share, &c.cost);
            cost + waited * c.cost.unseen_per_second
        };
        let within = |gate: f32, below: f32| Limits { gate, below };
        let known = |life| matches!(life, Life::Seen { .. } | Life::Hidden { .. });
        let limits = within(c.cost.gate, c.cost.strong_below);
        matcher.pair(tracks, known, (&*strong, measured), limits, likely);
        matcher.take(tracks, strong, |track, at| {
            let number = taken.number(at);
            track.see(taken.get(at), looks(at), number, now, false, c);
        });

        let just_seen = |life| matches!(life, Life::Seen { .. });
        let limits = within(c.cost.gate, c.cost.weak_below);
        matcher.pair(tracks, just_seen, (&*weak, measured), limits, likely);
        matcher.take(tracks, weak, |track, at| {
            let number = taken.number(at);
            track.see(taken.get(at), looks(at), number, now, true, c);
        });

        let lost = |life| matches!(life, Life::Lost { .. });
        let limits = within(c.reclaim.gate, c.reclaim.below);
        let perhaps = |track: &Track, at: usize, share: f32| {
            cost::lost(track, taken.get(at), looks(at).as_ref(), share, &c.reclaim)
        };
        matcher.pair(tracks, lost, (&*strong, measured), limits, perhaps);
        matcher.take(tracks, strong, |track, at| {
            let number = taken.number(at);
            track.see(taken.get(at), looks(at), number, now, false, c);
        });

        let tentative = |life| matches!(life, Life::Tentative { .. });
        let limits = within(c.cost.gate, c.cost.tentative_below);
        matcher.pair(tracks, tentative, (&*strong, measured), limits, likely);
        matcher.take(tracks, strong, |track, at| {
            let number = taken.number(at);
            track.see(taken.get(at), looks(at), number, now, false, c);
        });
    }

    /// Whoever is left over is somebody new.
    fn give_birth(&mut self, now: Timestamp, taken: Taken<'_, '_>) {
        let c = &self.config;
        for at in self.work.strong.iter().map(|&at| at as usize) {
            let d = taken.get(at);
            if d.score < self.scores.birth_from {
                continue;
            }
            let b = &d.box_in_image;
            let twin =
                |t: &Track| t.found.is_some() && t.expected.iou(b) >= c.cost.duplicate_from_iou;
            if self.tracks.iter().any(twin) {
                continue;
            }
            if let Some(place) = free_place(&mut self.tracks) {
                let believed = d.score >= self.scores.believed_from;
                let looks = self.work.gallery.of(at, d);
                place.start(d, looks, taken.number(at), now, believed, c);
            }
        }
    }

    fn live_on(&mut self, now: Timestamp) {
        let c = &self.config;
        for track in &mut self.tracks {
            let Some(life) = track.life else { continue };
            let event = match track.found {
                Some(_) => Event::Found {
                    believed: track.score >= self.scores.believed_from,
                },
                None => Event::NotFound {
                    last_seen: track.last_seen,
                    left: share_inside(&track.expected, self.width_px, self.height_px)
                        < c.life.left_below_share,
                },
            };
            track.life = life.after(event, now, &c.life);
            if track.is_believed() && track.identity.is_none() {
                track.identity = Some(self.next_identity);
                self.next_identity += 1;
            }
        }
    }

    fn report(&mut self, now: Timestamp) {
        let bridge_seconds = self.config.life.bridge_seconds;
        self.reports.clear();
        for track in &self.tracks {
            let (Some(life), Some(identity)) = (track.life, track.identity) else {
                continue;
            };
            let last_seen = track.last_seen;
            let bridged = now.seconds_since(last_seen) <= bridge_seconds;
            let sight = match (life, track.found) {
                (Life::Tentative { .. }, _) => continue,
                (_, Some(detection)) => Sight::Seen { detection },
                (Life::Seen { .. }, None) => Sight::Expected { last_seen },
                (Life::Hidden { .. }, None) if bridged => Sight::Expected { last_seen },
                (Life::Hidden { since }, None) => Sight::Hidden { since },
                (Life::Lost { since }, None) => Sight::Lost { since },
            };
            self.reports.push(Report {
                identity,
                kind: track.kind(),
                box_in_image: track.expected,
                score: track.score,
                sight,
            });
        }
        self.reports.sort_unstable_by_key(|report| report.identity);
    }
}

/// Which pairs can be.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Largest squared Mahalanobis distance.
    gate: f32,
    /// No pair costs this or more.
    below: f32,
}

/// So many shares of the gate are looked at together: in most of them there is nobody.
const TOGETHER: usize = 8;

/// Pairs road users with detections.
#[derive(Clone, Debug)]
struct Matcher {
    /// What the pool's detections measure, axis by axis, so that a road user is compared with several at once.
    places: [Vec<f32>; 4],
    /// How far a road user is from each of them: 1 at the gate.
    shares: Vec<f32>,
    /// Numbers of the road users in the table.
    rows: Vec<u32>,
    costs: Vec<f32>,
    /// Road user and detection, by number.
    pairs: Vec<(u32, u32)>,
    assigner: Assigner,
}

impl Matcher {
    /// The best pairs of those who found nothing yet with a pool of detections, of which `measured` knows the numbers.
    /// `cost` is asked about pairs within the gate only, and told their share of it.
    fn pair(
        &mut self,
        tracks: &[Track],
        who: impl Fn(Life) -> bool,
        (pool, measured): (&[u32], &[Measured]),
        Limits { gate, below }: Limits,
        cost: impl Fn(&Track, usize, f32) -> f32,
    ) {
        self.rows.clear();
        self.costs.clear();
        self.pairs.clear();
        if pool.is_empty() {
            return;
        }
        for (axis, places) in self.places.iter_mut().enumerate() {
            places.clear();
            places.extend(pool.iter().map(|&d| measured[d as usize].values[axis]));
        }
        for (at, track) in tracks.iter().enumerate() {
            if track.found.is_some() || !track.life.is_some_and(&who) {
                continue;
            }
            track.shares_of_gate(&self.places, gate, &mut self.shares);
            let start = self.costs.len();
            // At the limit it is as well to take nothing. What is not a number is no bargain.
            self.costs.resize(start + pool.len(), below);
            let mut any = false;
            let row = self.costs[start..].chunks_mut(TOGETHER);
            let pool = pool.chunks(TOGETHER);
            for ((shares, row), pool) in self.shares.chunks(TOGETHER).zip(row).zip(pool) {
                // Nearly all pairs end here.
                if !shares.iter().fold(false, |near, s| near | (*s <= 1.0)) {
                    continue;
                }
                for ((share, place), &d) in shares.iter().zip(row).zip(pool) {
                    if *share <= 1.0 {
                        let cost = cost(track, d as usize, *share);
                        if cost < below {
                            (*place, any) = (cost, true);
                        }
                    }
                }
            }
            if any {
                self.rows.push(at as u32);
            } else {
                // There is nothing for them: the table need not know.
                self.costs.truncate(start);
            }
        }
        // The table is of the right size, and its costs are finite.
        let columns = self
            .assigner
            .solve(&self.costs, self.rows.len(), pool.len())
            .unwrap_or(&[]);
        for (row, column) in columns.iter().enumerate() {
            let Some(column) = column.map(|c| c as usize) else {
                continue;
            };
            if self.costs[row * pool.len() + column] < below {
                self.pairs.push((self.rows[row], pool[column]));
            }
        }
    }

    /// Carries the pairs out; their detections leave the pool.
    fn take(
        &self,
        tracks: &mut [Track],
        pool: &mut Vec<u32>,
        mut see: impl FnMut(&mut Track, usize),
    ) {
        for &(track, detection) in &self.pairs {
            see(&mut tracks[track as usize], detection as usize);
        }
        pool.retain(|d| !self.pairs.iter().any(|(_, taken)| taken == d));
    }
}

/// Numbers of the detections with the best scores, as many as there is room for, in the order in which they came. Of equals
/// the first; boxes that are none are the last, whatever they score.
fn choose(detections: &[Detection<'_>], room: usize, numbers: &mut Vec<u32>) {
    numbers.clear();
    let all = 0..detections.len() as u32;
    if detections.len() <= room {
        numbers.extend(all);
        return;
    }
    let score = |number: u32| {
        let d = &detections[number as usize];
        if d.box_in_image.is_proper() && !d.score.is_nan() {
            d.score
        } else {
            f32::NEG_INFINITY
        }
    };
    // The best first; whoever falls off the end is one too many.
    for number in all {
        let place = numbers.partition_point(|&before| score(before) >= score(number));
        if place < room {
            numbers.truncate(room - 1);
            numbers.insert(place, number);
        }
    }
    numbers.sort_unstable();
}

/// A place for somebody new: a free one, or that of whoever is lost for longest. Who was found in this very look is lost no
/// more, though their lives change only after it.
fn free_place(tracks: &mut [Track]) -> Option<&mut Track> {
    let at = match tracks.iter().position(|t| t.life.is_none()) {
        Some(at) => at,
        None => {
            let lost = tracks
                .iter()
                .enumerate()
                .filter_map(|(at, t)| match (t.life, t.found) {
                    (Some(Life::Lost { since }), None) => Some((since, at)),
                    _ => None,
                });
            lost.min()?.1
        }
    };
    Some(&mut tracks[at])
}

/// How much of a box is in the picture.
fn share_inside(b: &BoxXywh, width_px: u32, height_px: u32) -> f32 {
    let inside = b.clip(width_px, height_px).map_or(0.0, |part| part.area());
    inside / b.area().max(1e-6)
}
