//! Where a lost target could be, by whoever finds road users: places for the follow model to look at.
//!
//! In: the reports of a [`Follower`], frames, a [`ProposeNetwork`]. Out: a few boxes a frame while the
//! target is lost. While it is tracked, a look a second learns what the target is to the network that proposes: its kind and
//! its embedding there. Boxes of that kind and like that embedding are offered, the likest first; whether one of them is the
//! target is for the follow model to say ([`Follower::look_at`](super::Follower::look_at)), by its own rules. A target that
//! the network never recognised is never offered anything. [`Refinder::step`] is a followed frame with all of that.
//!
//! ```
//! use roadhound_shared::follow::refind::{RefindConfig, Refinder};
//! use roadhound_shared::frame::{FrameView, Timestamp};
//! use roadhound_shared::propose::{
//!     Finder, ProposeContract, ProposeDecoder, ProposeNetwork, ProposeOutputs, ProposeSizes, RoadUser,
//! };
//! use roadhound_shared::tracker::{Phase, Report};
//!
//! /// Sees a car in the middle of whatever it is shown.
//! struct Middle(ProposeDecoder);
//! impl ProposeNetwork for Middle {
//!     type Error = core::convert::Infallible;
//!     fn propose(&mut self, _: &[f32], out: &mut ProposeOutputs) -> Result<(), Self::Error> {
//!         let cell = 16 * self.0.columns() + 26;
//!         out.score[self.0.index(RoadUser::Car as usize, cell)] = 0.9;
//!         for side in 0..4 { out.box_ltrb_px[self.0.index(side, cell)] = 20.0; }
//!         out.embedding[self.0.index(0, cell)] = 1.0;
//!         Ok(())
//!     }
//! }
//!
//! let contract = ProposeContract::new(ProposeSizes::default())?;
//! let finder = Finder::new(Middle(ProposeDecoder::new(&contract)), contract)?;
//! let mut refinder = Refinder::new(finder, RefindConfig::default());
//! let pixels = vec![0; 416 * 256 * 3];
//! let frame = FrameView::rgb8(416, 256, &pixels)?;
//! let car = roadhound_shared::geometry::BoxXywh::new(192.0, 112.0, 40.0, 40.0);
//! let mut report = Report { box_in_image: Some(car), phase: Phase::Tracking, ..Report::idle(Timestamp(0)) };
//! assert!(refinder.offers(&report, &frame, Timestamp(0))?.is_empty());
//! (report.phase, report.box_in_image) = (Phase::Lost, None);
//! assert_eq!(refinder.offers(&report, &frame, Timestamp(500_000))?, [car]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::vec;
use alloc::vec::Vec;

use core::fmt::{Debug, Display};

use super::{FollowError, Follower};
use crate::frame::{FrameView, Timestamp};
use crate::geometry::BoxXywh;
use crate::network::FollowNetwork;
use crate::propose::{FindError, Finder, ProposeNetwork, RoadUser};
use crate::tracker::{Phase, Report};

/// At most this many places a frame.
pub const MAX_OFFERS: usize = 4;

/// How a lost target is looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RefindConfig {
    /// While the target is tracked, the network looks this seldom.
    pub learn_every_seconds: f32,
    /// A proposal that overlaps the tracked box by so much is the target (IoU).
    pub learn_from_iou: f32,
    /// How much of what is known of its looks a new one replaces.
    pub learn_share: f32,
    /// While the target is lost, the network looks this often.
    pub look_every_seconds: f32,
    /// Proposals below this score are not offered.
    pub min_score: f32,
    /// Nor those that look less like the target (cosine).
    pub min_similarity: f32,
    /// Places a frame, at most [`MAX_OFFERS`]: each costs a look of the follow model.
    pub offers: usize,
}

impl Default for RefindConfig {
    fn default() -> Self {
        Self {
            learn_every_seconds: 1.0,
            learn_from_iou: 0.5,
            learn_share: 0.3,
            look_every_seconds: 0.2,
            min_score: 0.2,
            min_similarity: 0.5,
            offers: 2,
        }
    }
}

/// What can go wrong with one frame. Follower and refinder stay usable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepError<F: Debug + Display, P: Debug + Display> {
    /// It could not be followed.
    #[error(transparent)]
    Follow(#[from] FollowError<F>),
    /// It was followed, but a lost target could not be looked for.
    #[error(transparent)]
    Find(FindError<P>),
}

/// Remembers what the target is to the network that proposes.
#[derive(Debug)]
pub struct Refinder<N> {
    finder: Finder<N>,
    config: RefindConfig,
    /// Unit norm; `None` where the network never saw the target.
    known: Option<RoadUser>,
    looks: Vec<f32>,
    votes: [f32; RoadUser::COUNT],
    last_look: Option<Timestamp>,
    offered: heapless::Vec<(f32, BoxXywh), MAX_OFFERS>,
    places: heapless::Vec<BoxXywh, MAX_OFFERS>,
}

impl<N: ProposeNetwork> Refinder<N> {
    /// Knows nothing of any target.
    pub fn new(finder: Finder<N>, config: RefindConfig) -> Self {
        Self {
            looks: vec![0.0; finder.contract().embedding_size],
            finder,
            config,
            known: None,
            votes: [0.0; RoadUser::COUNT],
            last_look: None,
            offered: heapless::Vec::new(),
            places: heapless::Vec::new(),
        }
    }

    /// Another target is followed: nothing is known of it.
    pub fn forget(&mut self) {
        self.known = None;
        self.votes = [0.0; RoadUser::COUNT];
        self.last_look = None;
    }

    /// What finds road users, to choose a target with.
    pub fn finder_mut(&mut self) -> &mut Finder<N> {
        &mut self.finder
    }

    /// Follows a target into a frame; where it is lost, the follower looks at what the network proposes as well.
    ///
    /// # Errors
    /// A frame that cannot be followed or looked at.
    pub fn step<F: FollowNetwork>(
        &mut self,
        follower: &mut Follower<F>,
        frame: &FrameView<'_>,
        now: Timestamp,
    ) -> Result<Report, StepError<F::Error, N::Error>> {
        let mut report = follower.step(frame, now)?;
        let offers = self.offers(&report, frame, now).map_err(StepError::Find)?;
        for offer in offers {
            match follower.look_at(frame, *offer, now)? {
                Some(looked) => report = looked,
                None => break,
            }
        }
        Ok(report)
    }

    /// What the target is, as far as the network ever saw it.
    pub fn kind(&self) -> Option<RoadUser> {
        self.known
    }

    /// Takes the report of a frame; tells where the target could be, likest first, where it is lost and it is time to look.
    ///
    /// # Errors
    /// A frame that cannot be looked at; nothing is offered then.
    pub fn offers(
        &mut self,
        report: &Report,
        frame: &FrameView<'_>,
        now: Timestamp,
    ) -> Result<&[BoxXywh], FindError<N::Error>> {
        self.places.clear();
        let c = self.config;
        let since_last = self.last_look.map(|last| now.seconds_since(last));
        let is_due = |every: f32| since_last.is_none_or(|passed| passed >= every);
        match (report.phase, report.box_in_image) {
            (Phase::Tracking, Some(tracked)) if is_due(c.learn_every_seconds) => {
                self.last_look = Some(now);
                self.finder.find(frame)?;
                self.learn(&tracked);
            }
            (Phase::Lost, _) if self.known.is_some() && is_due(c.look_every_seconds) => {
                self.last_look = Some(now);
                self.finder.find(frame)?;
                self.compare();
            }
            _ => {}
        }
        Ok(&self.places)
    }

    /// The proposal that overlaps most is the target.
    fn learn(&mut self, tracked: &BoxXywh) {
        let c = &self.config;
        let overlaps = self
            .finder
            .found()
            .map(|d| (d.box_in_image.iou(tracked), d));
        let best = overlaps.max_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, target)) = best.filter(|(iou, _)| *iou >= c.learn_from_iou) else {
            return;
        };
        if !target.embedding.iter().all(|v| v.is_finite()) {
            return;
        }
        let share = match self.known {
            None => 1.0,
            Some(_) => c.learn_share,
        };
        for (known, seen) in self.looks.iter_mut().zip(target.embedding) {
            *known += share * (seen - *known);
        }
        for votes in &mut self.votes {
            *votes *= 1.0 - c.learn_share;
        }
        self.votes[target.kind as usize] += target.score;
        let votes = |kind: &RoadUser| self.votes[*kind as usize];
        let kinds = RoadUser::ALL.into_iter();
        self.known = kinds.max_by(|a, b| votes(a).total_cmp(&votes(b)));
    }

    /// Fills the places with the proposals that could be the target.
    fn compare(&mut self) {
        let c = &self.config;
        self.offered.clear();
        for d in self.finder.found() {
            let similarity = cosine(&self.looks, d.embedding);
            let could_be = Some(d.kind) == self.known
                && d.score >= c.min_score
                && similarity >= c.min_similarity;
            if !could_be {
                continue;
            }
            let place = self.offered.partition_point(|(s, _)| *s >= similarity);
            if self.offered.is_full() && place < MAX_OFFERS {
                self.offered.pop();
            }
            // Full of likelier ones: this one goes.
            let _ = self.offered.insert(place, (similarity, d.box_in_image));
        }
        let most = c.offers.min(MAX_OFFERS);
        let places = self.offered.iter().take(most).map(|(_, b)| *b);
        self.places.extend(places);
    }
}

/// Nothing looks like what is nothing.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let cosine = dot(a, b) / libm::sqrtf(dot(a, a) * dot(b, b));
    if cosine.is_finite() { cosine } else { -1.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::propose::{ProposeContract, ProposeDecoder, ProposeOutputs, ProposeSizes};

    /// Kind, column of the middle row, score, number of the embedding that is one.
    type Seen = (RoadUser, usize, f32, usize);

    struct Sees(ProposeDecoder, std::vec::Vec<Seen>, u32);

    impl ProposeNetwork for Sees {
        type Error = core::convert::Infallible;

        fn propose(&mut self, _: &[f32], out: &mut ProposeOutputs) -> Result<(), Self::Error> {
            self.2 += 1;
            for map in [&mut out.score, &mut out.box_ltrb_px, &mut out.embedding] {
                map.fill(0.0);
            }
            for (kind, column, score, number) in &self.1 {
                let cell = 16 * self.0.columns() + column;
                out.score[self.0.index(*kind as usize, cell)] = *score;
                for side in 0..4 {
                    out.box_ltrb_px[self.0.index(side, cell)] = 20.0;
                }
                out.embedding[self.0.index(*number, cell)] = 1.0;
            }
            Ok(())
        }
    }

    struct Scene {
        refinder: Refinder<Sees>,
        pixels: std::vec::Vec<u8>,
    }

    fn scene() -> Scene {
        let contract = ProposeContract::new(ProposeSizes::default()).unwrap();
        let network = Sees(ProposeDecoder::new(&contract), std::vec::Vec::new(), 0);
        let finder = Finder::new(network, contract).unwrap();
        Scene {
            refinder: Refinder::new(finder, RefindConfig::default()),
            pixels: std::vec![90; 416 * 256 * 3],
        }
    }

    fn at_column(column: usize) -> BoxXywh {
        BoxXywh::from_center(8.0 * column as f32 + 4.0, 132.0, 40.0, 40.0)
    }

    impl Scene {
        fn see(
            &mut self,
            millis: u64,
            tracked: Option<BoxXywh>,
            seen: &[Seen],
        ) -> std::vec::Vec<BoxXywh> {
            self.refinder.finder.network_mut().1 = seen.to_vec();
            let now = Timestamp(1000 * millis);
            let report = Report {
                box_in_image: tracked,
                phase: tracked.map_or(Phase::Lost, |_| Phase::Tracking),
                ..Report::idle(now)
            };
            let frame = FrameView::rgb8(416, 256, &self.pixels).unwrap();
            self.refinder.offers(&report, &frame, now).unwrap().to_vec()
        }

        fn looks(&mut self) -> u32 {
            self.refinder.finder.network_mut().2
        }
    }

    use RoadUser::{Bus, Car};

    #[test]
    fn a_lost_target_is_offered_those_of_its_kind_that_look_like_it() {
        let mut scene = scene();
        let target = (Car, 10, 0.9, 3);
        assert!(
            scene
                .see(0, Some(at_column(10)), &[target, (Bus, 30, 0.9, 4)])
                .is_empty()
        );
        assert_eq!(scene.refinder.kind(), Some(Car));
        let offers = scene.see(
            2000,
            None,
            &[
                (Car, 5, 0.9, 7),   // looks otherwise
                (Bus, 15, 0.9, 3),  // another kind
                (Car, 25, 0.15, 3), // hardly there
                (Car, 40, 0.6, 3),
            ],
        );
        assert_eq!(offers, [at_column(40)]);
    }

    #[test]
    fn the_network_looks_once_a_second_and_five_times_a_second_when_it_is_lost() {
        let mut scene = scene();
        for frame in 0..60 {
            scene.see(33 * frame, Some(at_column(10)), &[(Car, 10, 0.9, 3)]);
        }
        assert_eq!(scene.looks(), 2);
        for frame in 60..90 {
            scene.see(33 * frame, None, &[(Car, 10, 0.9, 3)]);
        }
        assert!((6..=8).contains(&scene.looks()), "{}", scene.looks());
    }

    #[test]
    fn whoever_was_never_recognised_is_offered_nothing_and_costs_no_look() {
        let mut scene = scene();
        scene.see(0, Some(at_column(10)), &[(Car, 30, 0.9, 3)]);
        assert_eq!((scene.looks(), scene.refinder.kind()), (1, None));
        assert!(scene.see(900, None, &[(Car, 30, 0.9, 3)]).is_empty());
        assert_eq!(scene.looks(), 1);
    }

    #[test]
    fn the_likest_come_first_and_no_more_than_there_is_room_for() {
        let mut scene = scene();
        scene.see(0, Some(at_column(10)), &[(Car, 10, 0.9, 3)]);
        scene.refinder.config.offers = MAX_OFFERS;
        scene.refinder.looks[4] = 0.6;
        let cars = [2, 10, 18, 26, 34, 42].map(|column| {
            let number = if column == 26 { 3 } else { 4 };
            (Car, column, 0.9, number)
        });
        let offers = scene.see(500, None, &cars);
        assert_eq!((offers.len(), offers[0]), (MAX_OFFERS, at_column(26)));
    }
}
