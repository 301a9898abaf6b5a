//! The stage that tracks: a frame or a silence in, a [`TrackEvent`] out. No thread, no clock, no queue.
//!
//! Frames that were dropped need no mention: the tracker goes by the time stamps. A camera that is silent or away makes
//! the target Lost by time, and frames that come back, also of another size, are searched for it.
//!
//! Where the model proposes, the stage can choose whom to follow by itself, and look for a lost target where proposals say.
//! Such a look costs the frame that it is taken on some milliseconds, and is taken a few times a second at most; whoever
//! captures waits for nobody here.

use std::sync::Arc;

use roadhound_shared::follow::Follower;
use roadhound_shared::follow::refind::Refinder;
use roadhound_shared::frame::{FrameView, Timestamp};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::network::FollowNetwork;
use roadhound_shared::propose::ProposeNetwork;
use roadhound_shared::propose::pick::{Pick, pick_found};
use roadhound_shared::tracker::{Phase, Report};

use super::event::TrackEvent;
use crate::capture::stage::Captured;
use crate::capture::{Encoding, Frame};
use crate::familiarity::{Familiarity, Looked};
use crate::infer::TractProposer;
use crate::source::{Pixels, decode_jpeg};

/// Silence is told to the tracker this late: a frame that is on its way was taken earlier than it arrives, and the
/// tracker's time must not be ahead of it.
const SILENCE_BEHIND_MICROS: u64 = 200_000;
/// While nobody is there to choose, the stage looks this often: a parked car has all night.
const CHOOSE_EVERY_SECONDS: f32 = 0.2;

/// What is to be followed, in pixels of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// What is in this box.
    Box(BoxXywh),
    /// What is here, whatever its size.
    Point {
        /// From the left.
        x_px: f32,
        /// From the top.
        y_px: f32,
    },
    /// Whom a driver would watch, as soon as somebody is there.
    Auto,
}

/// What somebody wants of the tracker.
#[derive(Clone, Debug)]
pub enum Command {
    /// Follow this.
    Follow {
        /// What.
        target: Target,
        /// The frame that was looked at when somebody pointed at it; without it, the next one.
        frame: Option<Arc<Frame>>,
    },
    /// Follow nothing.
    Stop,
    /// Keep this moment.
    Mark,
    /// The car was driven hard.
    Manoeuvre,
}

/// What finds road users, and what for.
#[derive(Debug)]
pub struct Eyes<P> {
    /// Remembers the target, and holds the finder that it is chosen with.
    pub refinder: Refinder<P>,
    /// A lost target is looked for; otherwise one is only chosen.
    pub refinds: bool,
    /// A target that the stage chose itself and that is lost for longer is given up for another.
    pub again_after_seconds: Option<f32>,
}

/// Follower, decoder, and what was asked of them.
pub struct Stage<N, P = TractProposer> {
    follower: Follower<N>,
    familiarity: Option<Familiarity>,
    /// What the last look said, until an event has it.
    looked: Option<Looked>,
    eyes: Option<Eyes<P>>,
    /// What is followed was chosen by the stage itself.
    chose: bool,
    /// When it last looked for somebody to choose.
    last_choice: Option<Timestamp>,
    /// Decoded pixels of an MJPEG frame.
    pixels: Vec<u8>,
    wanted: Option<Target>,
    /// Size of the frames that are followed in.
    size_px: Option<(u32, u32)>,
    last_number: Option<u64>,
    last: Option<TrackEvent>,
    marked: bool,
    manoeuvred: bool,
    /// Why the last frame or command came to nothing, to be taken by whoever logs.
    complaint: Option<String>,
    undecodable: u64,
}

impl<N: FollowNetwork, P: ProposeNetwork> Stage<N, P> {
    /// A stage that follows `initial` from the first frame on, or nothing. Without `eyes` it chooses nobody by itself.
    pub fn new(follower: Follower<N>, eyes: Option<Eyes<P>>, initial: Option<Target>) -> Self {
        Self {
            follower,
            familiarity: None,
            looked: None,
            eyes,
            chose: false,
            last_choice: None,
            pixels: Vec::new(),
            wanted: initial,
            size_px: None,
            last_number: None,
            last: None,
            marked: false,
            manoeuvred: false,
            complaint: None,
            undecodable: 0,
        }
    }

    /// Looks, every now and then, whether the camera shows what was learned.
    #[must_use]
    pub fn with_familiarity(mut self, familiarity: Option<Familiarity>) -> Self {
        self.familiarity = familiarity;
        self
    }

    /// Takes other networks; what was followed is followed no more.
    pub fn replace(
        &mut self,
        follower: Follower<N>,
        eyes: Option<Eyes<P>>,
        familiarity: Option<Familiarity>,
    ) {
        if self.chose && eyes.is_some() {
            self.wanted = self.wanted.or(Some(Target::Auto));
        }
        (self.follower, self.eyes) = (follower, eyes);
        (self.familiarity, self.looked) = (familiarity, None);
        self.size_px = None;
    }

    /// Does what somebody wants. A start in a frame of the past happens at once; the next frame goes on from there.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::Stop => {
                (self.wanted, self.chose) = (None, false);
                self.follower.stop();
            }
            Command::Mark => self.marked = true,
            Command::Manoeuvre => self.manoeuvred = true,
            // Whom to watch is a question about the road as it is now.
            Command::Follow {
                target: target @ Target::Auto,
                ..
            }
            | Command::Follow {
                target,
                frame: None,
            } => self.wanted = Some(target),
            Command::Follow {
                target,
                frame: Some(frame),
            } => {
                self.wanted = None;
                let mut pixels = std::mem::take(&mut self.pixels);
                let started = view(&frame, &mut pixels)
                    .and_then(|view| self.start(&view, target, frame.captured_at));
                self.pixels = pixels;
                if let Err(e) = started {
                    self.complaint = Some(e);
                }
            }
        }
    }

    fn start(
        &mut self,
        view: &FrameView<'_>,
        target: Target,
        captured_at: Timestamp,
    ) -> Result<Report, String> {
        let size_px = (view.width_px(), view.height_px());
        let initial = match target {
            Target::Box(box_in_image) => box_in_image,
            Target::Point { x_px, y_px } => self
                .follower
                .select(view, (x_px, y_px))
                .map_err(|e| e.to_string())?,
            Target::Auto => match self.choose(view, captured_at)? {
                Some(chosen) => chosen,
                // Who is followed is followed on until somebody else is there.
                None => return self.follow_on(view, captured_at),
            },
        };
        self.size_px = Some(size_px);
        let started = self.follower.start(view, initial, captured_at);
        let report = started.map_err(|e| e.to_string())?;
        self.chose = target == Target::Auto;
        if let Some(eyes) = &mut self.eyes {
            eyes.refinder.forget();
        }
        Ok(report)
    }

    /// Whom a driver would watch on this frame; `None` while nobody is there.
    fn choose(
        &mut self,
        view: &FrameView<'_>,
        captured_at: Timestamp,
    ) -> Result<Option<BoxXywh>, String> {
        self.last_choice = Some(captured_at);
        let Some(eyes) = &mut self.eyes else {
            self.wanted = None;
            return Err("the model proposes nobody to follow".into());
        };
        let finder = eyes.refinder.finder_mut();
        finder.find(view).map_err(|e| e.to_string())?;
        let size_px = (view.width_px(), view.height_px());
        let chosen = pick_found(finder, size_px, Pick::Rank(0));
        if chosen.is_some() {
            self.wanted = None;
        }
        Ok(chosen)
    }

    /// Whether it can find somebody to follow by itself.
    pub fn can_choose(&self) -> bool {
        self.eyes.is_some()
    }

    /// Whether a target is waited for that this frame is to be looked at for.
    fn awaits(&self, now: Timestamp) -> bool {
        match self.wanted {
            None => false,
            Some(Target::Auto) => self
                .last_choice
                .is_none_or(|last| now.seconds_since(last) >= CHOOSE_EVERY_SECONDS),
            Some(Target::Box(_) | Target::Point { .. }) => true,
        }
    }

    /// Whether the target that the stage chose is lost for so long that another is to be chosen.
    fn gives_up(&self, report: &Report) -> bool {
        let limit = self.eyes.as_ref().and_then(|eyes| eyes.again_after_seconds);
        self.chose
            && report.phase == Phase::Lost
            && limit.is_some_and(|limit| report.captured_at.seconds_since(report.since) > limit)
    }

    /// Looks at a frame. Nothing is decoded while nothing is followed.
    pub fn on_frame(&mut self, captured: &Captured) -> TrackEvent {
        let frame = &captured.frame;
        let skipped = self
            .last_number
            .map_or(0, |last| captured.number.saturating_sub(last + 1));
        self.last_number = Some(captured.number);
        let follows = self.follower.tracker().phase() != Phase::Idle;
        let looks = follows || self.awaits(frame.captured_at);
        let mut pixels = std::mem::take(&mut self.pixels);
        let report = if looks {
            let viewed = view(frame, &mut pixels);
            self.undecodable += u64::from(viewed.is_err());
            viewed.and_then(|view| self.look(&view, frame.captured_at))
        } else {
            Ok(self.follower.skip(frame.captured_at))
        };
        self.pixels = pixels;
        let report = report.unwrap_or_else(|complaint| {
            self.complaint = Some(complaint);
            self.follower.skip(frame.captured_at)
        });
        let event = TrackEvent {
            frame: Some(captured.number),
            skipped,
            report,
            image_px: (frame.width_px, frame.height_px),
            latency_micros: 0,
            track_micros: 0,
            mark: std::mem::take(&mut self.marked),
            manoeuvre: std::mem::take(&mut self.manoeuvred),
            familiarity: self.looked.take(),
            adapted: self.follower.adapted(),
        };
        self.last = Some(event);
        event
    }

    /// Looks whether the camera shows what was learned, where that is due. Called once a frame's event is on its way, so that
    /// no box waits for it; the next frame's event says what came of it.
    pub fn look_around(&mut self, captured: &Captured) {
        let frame = &captured.frame;
        let Some(familiarity) = &mut self.familiarity else {
            return;
        };
        if !familiarity.is_due(frame.captured_at) {
            return;
        }
        let looked = view(frame, &mut self.pixels)
            .and_then(|view| familiarity.look(&view, frame.captured_at));
        match looked {
            Ok(looked) => self.looked = Some(looked),
            Err(complaint) => self.complaint = Some(complaint),
        }
    }

    fn look(&mut self, view: &FrameView<'_>, captured_at: Timestamp) -> Result<Report, String> {
        match self.wanted {
            Some(Target::Auto) if self.awaits(captured_at) => {
                self.start(view, Target::Auto, captured_at)
            }
            None | Some(Target::Auto) => self.follow_on(view, captured_at),
            Some(target) => {
                self.wanted = None;
                self.start(view, target, captured_at)
            }
        }
    }

    /// Looks for whom is followed, if anybody is.
    fn follow_on(
        &mut self,
        view: &FrameView<'_>,
        captured_at: Timestamp,
    ) -> Result<Report, String> {
        let size_px = (view.width_px(), view.height_px());
        if self.size_px != Some(size_px) {
            // The camera was renegotiated: the picture is the same, in other pixels.
            self.follower.resize_image(size_px.0, size_px.1);
            self.size_px = Some(size_px);
        }
        let follower = &mut self.follower;
        let report = match &mut self.eyes {
            Some(eyes) if eyes.refinds => eyes
                .refinder
                .step(follower, view, captured_at)
                .map_err(|e| e.to_string()),
            _ => follower.step(view, captured_at).map_err(|e| e.to_string()),
        }?;
        if self.gives_up(&report) {
            self.follower.stop();
            self.wanted = Some(Target::Auto);
        }
        Ok(report)
    }

    /// No frame has come until now. An event where that changes the phase.
    pub fn on_silence(&mut self, now: Timestamp) -> Option<TrackEvent> {
        if self.follower.tracker().phase() == Phase::Idle {
            return None;
        }
        let last = self.last?;
        let now = Timestamp(now.0.saturating_sub(SILENCE_BEHIND_MICROS));
        if now <= last.report.captured_at {
            return None;
        }
        let report = self.follower.skip(now);
        if report.phase == last.report.phase {
            return None;
        }
        let event = TrackEvent {
            frame: None,
            skipped: 0,
            report,
            latency_micros: 0,
            track_micros: 0,
            mark: std::mem::take(&mut self.marked),
            manoeuvre: std::mem::take(&mut self.manoeuvred),
            familiarity: None,
            adapted: self.follower.adapted(),
            ..last
        };
        self.last = Some(event);
        Some(event)
    }

    /// The last event; before the first frame, an idle one.
    pub fn last(&self) -> TrackEvent {
        self.last.unwrap_or(TrackEvent {
            frame: None,
            skipped: 0,
            report: Report::idle(Timestamp(0)),
            image_px: (0, 0),
            latency_micros: 0,
            track_micros: 0,
            mark: false,
            manoeuvre: false,
            familiarity: None,
            adapted: self.follower.adapted(),
        })
    }

    /// Why the last frame or command came to nothing, once.
    pub fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// Frames that could not be read.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// The follower, to look at.
    pub fn follower(&self) -> &Follower<N> {
        &self.follower
    }
}

/// The frame as the tracker reads it; MJPEG is decoded into `pixels`.
fn view<'a>(frame: &'a Frame, pixels: &'a mut Vec<u8>) -> Result<FrameView<'a>, String> {
    if frame.encoding == Encoding::Mjpeg {
        let decoded: Pixels<'a> =
            decode_jpeg(&frame.bytes, pixels).map_err(|e| format!("a frame is no picture: {e}"))?;
        return decoded.view().map_err(|e| e.to_string());
    }
    match frame.view() {
        Ok(Some(view)) => Ok(view),
        Ok(None) => Err("a frame without pixels".into()),
        Err(e) => Err(format!("a frame does not hold together: {e}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::{Cell, RefCell};
    use std::convert::Infallible;
    use std::rc::Rc;

    use roadhound_shared::contract::{FollowContract, FollowSizes};
    use roadhound_shared::follow::refind::RefindConfig;
    use roadhound_shared::frame::PixelFormat;
    use roadhound_shared::network::{SearchOutputs, TemplateOutputs};
    use roadhound_shared::preprocess::CropSize;
    use roadhound_shared::propose::{
        Finder, ProposeContract, ProposeDecoder, ProposeOutputs, ProposeSizes, RoadUser,
    };
    use roadhound_shared::tracker::TrackerConfig;

    use super::*;

    /// What the road shows, and how often the networks looked at it.
    #[derive(Clone, Default)]
    struct Road {
        /// The target is behind something.
        hidden: Rc<Cell<bool>>,
        /// Left edges of cars.
        cars: Rc<RefCell<Vec<usize>>>,
        followed: Rc<Cell<u32>>,
        proposed: Rc<Cell<u32>>,
    }

    /// Sees the target in the middle of every window, unless it is hidden.
    struct Certain(Road);

    impl FollowNetwork for Certain {
        type Error = Infallible;

        fn template(&mut self, _: &[f32], out: &mut TemplateOutputs) -> Result<(), Infallible> {
            out.embedding.fill(0.5);
            Ok(())
        }

        fn search(
            &mut self,
            _: &[f32],
            _: &[f32],
            _: &[f32],
            out: &mut SearchOutputs,
        ) -> Result<(), Infallible> {
            let Road {
                hidden, followed, ..
            } = &self.0;
            followed.set(followed.get() + 1);
            out.presence = if hidden.get() { 0.01 } else { 0.95 };
            out.score.fill(0.01);
            let middle = out.score.len() / 2 + 2;
            out.score[middle] = if hidden.get() { 0.01 } else { 0.95 };
            // That cell is right of and below the middle: the box reaches left and up.
            let half = out.box_ltrb_px.len() / 2;
            out.box_ltrb_px[..half].fill(16.0);
            out.box_ltrb_px[half..].fill(0.0);
            out.embedding.fill(0.5);
            Ok(())
        }
    }

    const BOX: BoxXywh = BoxXywh {
        x_px: 28.0,
        y_px: 20.0,
        w_px: 16.0,
        h_px: 16.0,
    };

    /// Proposes a car of 16x16 wherever the road has one.
    struct Sees(Road, ProposeDecoder);

    impl ProposeNetwork for Sees {
        type Error = Infallible;

        fn propose(&mut self, _: &[f32], out: &mut ProposeOutputs) -> Result<(), Infallible> {
            self.0.proposed.set(self.0.proposed.get() + 1);
            out.score.fill(0.0);
            for &left in self.0.cars.borrow().iter() {
                // The cell whose centre is 12 px to the right of the edge, in the middle row.
                let cell = 3 * self.1.columns() + left / 8 + 1;
                out.score[self.1.index(RoadUser::Car as usize, cell)] = 0.9;
                for (side, px) in [12.0, 8.0, 4.0, 8.0].into_iter().enumerate() {
                    out.box_ltrb_px[self.1.index(side, cell)] = px;
                }
                out.embedding[self.1.index(0, cell)] = 1.0;
            }
            Ok(())
        }
    }

    fn stage_on(
        road: &Road,
        finds: Option<(bool, Option<f32>)>,
        initial: Option<Target>,
    ) -> Stage<Certain, Sees> {
        let contract = FollowContract::new(FollowSizes {
            template_px: 32,
            search_px: 64,
            stride_px: 16,
            object_px: 16,
            feature_channels: 2,
            embedding_size: 4,
        })
        .unwrap();
        let eyes = finds.map(|(refinds, again_after_seconds)| {
            let input = CropSize {
                width_px: 64,
                height_px: 48,
            };
            let sizes = ProposeSizes {
                input,
                ..ProposeSizes::default()
            };
            let contract = ProposeContract::new(sizes).unwrap();
            let network = Sees(road.clone(), ProposeDecoder::new(&contract));
            let finder = Finder::new(network, contract).unwrap();
            Eyes {
                refinder: Refinder::new(finder, RefindConfig::default()),
                refinds,
                again_after_seconds,
            }
        });
        let network = Certain(road.clone());
        let follower = Follower::new(network, contract, TrackerConfig::default()).unwrap();
        Stage::new(follower, eyes, initial)
    }

    fn stage(initial: Option<BoxXywh>) -> Stage<Certain, Sees> {
        stage_on(&Road::default(), None, initial.map(Target::Box))
    }

    fn grey(number: u64, millis: u64, width_px: u32, height_px: u32) -> Captured {
        let mut frame = Frame::default();
        let pixels = vec![100; (width_px * height_px) as usize];
        frame.set_tight(PixelFormat::Grey8, width_px, height_px, &[&pixels]);
        frame.captured_at = ms(millis);
        captured(number, frame)
    }

    fn captured(number: u64, frame: Frame) -> Captured {
        Captured {
            frame: Arc::new(frame),
            number,
        }
    }

    fn mjpeg(number: u64, millis: u64, bytes: &[u8]) -> Captured {
        captured(
            number,
            Frame {
                encoding: Encoding::Mjpeg,
                width_px: 64,
                height_px: 48,
                bytes: bytes.to_vec(),
                captured_at: ms(millis),
                ..Frame::default()
            },
        )
    }

    fn ms(millis: u64) -> Timestamp {
        Timestamp(millis * 1000)
    }

    #[test]
    fn a_silent_camera_makes_the_target_lost_once_and_a_frame_brings_it_back() {
        let mut stage = stage(Some(BOX));
        for n in 0..5 {
            let event = stage.on_frame(&grey(n, 33 * n, 64, 48));
            assert_eq!(event.report.phase, Phase::Tracking);
        }
        let events: Vec<(u64, TrackEvent)> = (132..6_000)
            .step_by(50)
            .filter_map(|millis| Some((millis, stage.on_silence(ms(millis))?)))
            .collect();
        assert_eq!(events.len(), 1, "{events:?}");
        let (at, event) = events[0];
        assert_eq!((event.frame, event.report.phase), (None, Phase::Lost));
        // The bundle's limit without a look, and what silence is told later by.
        assert!((1_800..2_000).contains(&at), "lost at {at} ms");
        let found = (5..40).find(|&n| {
            let event = stage.on_frame(&grey(n, 6_000 + 33 * n, 64, 48));
            event.report.phase == Phase::Tracking
        });
        assert!(found.is_some());
    }

    #[test]
    fn silence_means_nothing_while_nothing_is_followed() {
        let mut stage = stage(None);
        stage.on_frame(&grey(0, 0, 64, 48));
        assert_eq!(stage.on_silence(ms(60_000)), None);
    }

    #[test]
    fn frames_that_nobody_looked_at_are_counted() {
        let mut stage = stage(Some(BOX));
        let skipped: Vec<u64> = [3, 4, 9, 10]
            .map(|n| stage.on_frame(&grey(n, 33 * n, 64, 48)).skipped)
            .into();
        assert_eq!(skipped, [0, 0, 4, 0]);
    }

    #[test]
    fn a_picture_is_decoded_only_for_a_target_and_a_broken_one_costs_that_frame() {
        let jpeg = include_bytes!("../../tests/data/one.jpg");
        let mut stage = stage(None);
        stage.on_frame(&mjpeg(0, 0, b"no picture"));
        assert_eq!((stage.take_complaint(), stage.undecodable()), (None, 0));
        stage.command(Command::Follow {
            target: Target::Box(BOX),
            frame: None,
        });
        let event = stage.on_frame(&mjpeg(1, 33, jpeg));
        assert_eq!(
            event.report.phase,
            Phase::Tracking,
            "{:?}",
            stage.take_complaint()
        );
        stage.on_frame(&mjpeg(2, 66, &jpeg[..jpeg.len() / 2]));
        assert!(stage.take_complaint().unwrap().contains("no picture"));
        assert_eq!(stage.undecodable(), 1);
        let event = stage.on_frame(&mjpeg(3, 99, jpeg));
        assert_eq!(event.report.phase, Phase::Tracking);
        assert_eq!(stage.take_complaint(), None);
    }

    #[test]
    fn a_target_is_followed_on_after_the_camera_agreed_on_another_size() {
        let mut stage = stage(Some(BOX));
        stage.on_frame(&grey(0, 0, 64, 48));
        stage.on_frame(&grey(1, 33, 64, 48));
        let event = stage.on_frame(&grey(2, 66, 128, 96));
        assert_eq!(stage.take_complaint(), None);
        assert_eq!(
            (event.report.phase, event.image_px),
            (Phase::Tracking, (128, 96))
        );
        let (cx, cy) = event.report.box_in_image.unwrap().center();
        assert!(
            (cx - 72.0).abs() < 4.0 && (cy - 56.0).abs() < 4.0,
            "{cx} {cy}"
        );
    }

    #[test]
    fn a_box_drawn_on_an_older_frame_is_taken_from_that_frame() {
        let mut stage = stage(None);
        let old = grey(0, 0, 64, 48);
        stage.on_frame(&old);
        stage.on_frame(&grey(5, 165, 64, 48));
        stage.command(Command::Follow {
            target: Target::Box(BOX),
            frame: Some(old.frame.clone()),
        });
        assert_eq!(stage.take_complaint(), None);
        let event = stage.on_frame(&grey(6, 198, 64, 48));
        assert_eq!(event.report.phase, Phase::Tracking);
        stage.command(Command::Stop);
        assert_eq!(
            stage.on_frame(&grey(7, 231, 64, 48)).report.phase,
            Phase::Idle
        );
    }

    #[test]
    fn what_is_at_a_point_is_followed_from_the_picture_that_was_pointed_at() {
        let mut stage = stage(None);
        let shown = grey(0, 0, 64, 48);
        stage.on_frame(&shown);
        let mut point = |x_px, y_px| {
            stage.command(Command::Follow {
                target: Target::Point { x_px, y_px },
                frame: Some(shown.frame.clone()),
            });
            (stage.take_complaint(), stage.on_frame(&grey(1, 33, 64, 48)))
        };
        let (complaint, event) = point(30.0, 20.0);
        assert_eq!(complaint, None);
        let found = event.report.box_in_image.unwrap();
        assert!(found.x_px < 30.0 && found.right_px() > 30.0, "{found:?}");
        let (complaint, event) = point(70.0, 20.0);
        assert!(complaint.unwrap().contains("outside the 64x48 image"));
        // A slip of the finger ends nothing.
        assert_eq!(event.report.phase, Phase::Tracking);
    }

    #[test]
    fn a_box_outside_the_picture_is_complained_about_and_nothing_is_followed() {
        let mut stage = stage(Some(BoxXywh::new(500.0, 500.0, 10.0, 10.0)));
        let event = stage.on_frame(&grey(0, 0, 64, 48));
        assert_eq!(event.report.phase, Phase::Idle);
        assert!(
            stage
                .take_complaint()
                .unwrap()
                .contains("outside the 64x48 image")
        );
    }

    #[test]
    fn somebody_is_chosen_as_soon_as_they_are_there_and_a_board_that_waits_does_little() {
        let road = Road::default();
        let mut stage = stage_on(&road, Some((false, None)), Some(Target::Auto));
        // For a second nobody is there; pictures are not even decoded between the looks.
        for n in 0..30 {
            let looked = road.proposed.get();
            stage.on_frame(&grey(2 * n, 33 * n, 64, 48));
            if road.proposed.get() > looked {
                stage.on_frame(&mjpeg(2 * n + 1, 33 * n + 1, b"no picture"));
            }
        }
        assert_eq!((stage.take_complaint(), stage.undecodable()), (None, 0));
        assert!(
            (4..=6).contains(&road.proposed.get()),
            "{}",
            road.proposed.get()
        );
        assert_eq!(stage.last().report.phase, Phase::Idle);
        road.cars.borrow_mut().push(24);
        let first = (30..40).find_map(|n| {
            let report = stage.on_frame(&grey(2 * n, 33 * n, 64, 48)).report;
            (report.phase == Phase::Tracking).then_some((n, report.box_in_image))
        });
        let (n, found) = first.unwrap();
        assert!(n <= 36, "chosen after {} frames", n - 30);
        let car = BoxXywh::new(24.0, 20.0, 16.0, 16.0);
        assert!(found.unwrap().iou(&car) > 0.9, "{found:?}");
        // Once chosen, nobody is looked for.
        let looked = road.proposed.get();
        for n in 40..90 {
            stage.on_frame(&grey(2 * n, 33 * n, 64, 48));
        }
        assert_eq!(road.proposed.get(), looked);
    }

    /// Follows the only car there is, which then hides for three seconds; the phases after that.
    fn hidden_for_three_seconds(
        again_after_seconds: Option<f32>,
        initial: Target,
    ) -> (Phase, Stage<Certain, Sees>, Road) {
        let road = Road::default();
        road.cars.borrow_mut().push(24);
        let mut stage = stage_on(&road, Some((false, again_after_seconds)), Some(initial));
        stage.on_frame(&grey(0, 0, 64, 48));
        assert_eq!(
            stage.on_frame(&grey(1, 33, 64, 48)).report.phase,
            Phase::Tracking
        );
        road.hidden.set(true);
        road.cars.borrow_mut().clear();
        for n in 2..92 {
            stage.on_frame(&grey(n, 33 * n, 64, 48));
        }
        let phase = stage.last().report.phase;
        (phase, stage, road)
    }

    #[test]
    fn who_is_followed_is_followed_on_while_nobody_else_is_there_to_choose() {
        let road = Road::default();
        let mut stage = stage_on(&road, Some((false, None)), Some(Target::Box(BOX)));
        stage.on_frame(&grey(0, 0, 64, 48));
        stage.command(Command::Follow {
            target: Target::Auto,
            frame: None,
        });
        for n in 1..30 {
            let followed = road.followed.get();
            let report = stage.on_frame(&grey(n, 33 * n, 64, 48)).report;
            assert_eq!(report.phase, Phase::Tracking);
            assert!(
                road.followed.get() > followed,
                "frame {n} was not looked at"
            );
        }
        assert!(road.proposed.get() >= 4, "{}", road.proposed.get());
        road.cars.borrow_mut().push(40);
        for n in 30..40 {
            stage.on_frame(&grey(n, 33 * n, 64, 48));
        }
        let chosen = stage.last().report.box_in_image.unwrap();
        assert!(chosen.center().0 > 40.0, "{chosen:?}");
    }

    #[test]
    fn a_chosen_target_that_is_lost_for_long_is_given_up_for_another() {
        let (phase, mut stage, road) = hidden_for_three_seconds(Some(1.5), Target::Auto);
        assert_eq!(phase, Phase::Idle);
        road.hidden.set(false);
        road.cars.borrow_mut().push(40);
        for n in 92..100 {
            stage.on_frame(&grey(n, 33 * n, 64, 48));
        }
        let report = stage.last().report;
        assert_eq!(report.phase, Phase::Tracking);
        assert!(report.box_in_image.unwrap().center().0 > 40.0);
    }

    #[test]
    fn whom_somebody_pointed_at_or_who_is_not_to_be_given_up_is_searched_for_on() {
        for (again, initial) in [(Some(1.5), Target::Box(BOX)), (None, Target::Auto)] {
            let (phase, ..) = hidden_for_three_seconds(again, initial);
            assert_eq!(phase, Phase::Lost, "{initial:?}");
        }
    }

    #[test]
    fn whoever_wants_nothing_followed_is_not_overruled() {
        let (_, mut stage, road) = hidden_for_three_seconds(Some(1.5), Target::Auto);
        stage.command(Command::Stop);
        road.cars.borrow_mut().push(40);
        for n in 92..120 {
            stage.on_frame(&grey(n, 33 * n, 64, 48));
        }
        assert_eq!(stage.last().report.phase, Phase::Idle);
    }

    #[test]
    fn a_lost_target_is_looked_for_where_proposals_say_if_that_is_wanted() {
        let looks = |refinds: bool| {
            let road = Road::default();
            road.cars.borrow_mut().push(24);
            let initial = Target::Box(BoxXywh::new(24.0, 20.0, 16.0, 16.0));
            let mut stage = stage_on(&road, Some((refinds, None)), Some(initial));
            for n in 0..40 {
                stage.on_frame(&grey(n, 33 * n, 64, 48));
            }
            road.hidden.set(true);
            *road.cars.borrow_mut() = vec![40];
            for n in 40..100 {
                stage.on_frame(&grey(n, 33 * n, 64, 48));
            }
            assert_eq!(stage.last().report.phase, Phase::Lost);
            (road.proposed.get(), road.followed.get())
        };
        let (without, with) = (looks(false), looks(true));
        assert_eq!(without.0, 0);
        // Once a second while it is there, five times a second while it is lost; each of those an offer, looked at.
        assert!((8..=13).contains(&with.0), "{} looks", with.0);
        assert!(with.1 >= without.1 + 6, "{with:?} and {without:?}");
    }

    #[test]
    fn a_model_that_proposes_nobody_is_complained_about_once() {
        let mut stage = stage_on(&Road::default(), None, Some(Target::Auto));
        let complaints = (0..20).filter(|n| {
            stage.on_frame(&grey(*n, 33 * n, 64, 48));
            stage.take_complaint().is_some()
        });
        assert_eq!(complaints.count(), 1);
    }

    #[test]
    fn a_mark_or_a_manoeuvre_is_told_with_the_next_event_and_only_there() {
        let mut stage = stage(Some(BOX));
        stage.command(Command::Mark);
        let mut told = |n| {
            let event = stage.on_frame(&grey(n, 33 * n, 64, 48));
            stage.command(Command::Manoeuvre);
            (event.mark, event.manoeuvre)
        };
        assert_eq!([0, 1].map(&mut told), [(true, false), (false, true)]);
    }
}
