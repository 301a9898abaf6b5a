//! The stage that tracks: a frame or a silence in, a [`TrackEvent`] out. No thread, no clock, no queue.
//!
//! Frames that were dropped need no mention: the tracker goes by the time stamps. A camera that is silent or away makes
//! the target Lost by time, and frames that come back, also of another size, are searched for it.

use std::sync::Arc;

use roadhound_shared::follow::Follower;
use roadhound_shared::frame::{FrameView, Timestamp};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::network::FollowNetwork;
use roadhound_shared::tracker::{Phase, Report};

use super::event::TrackEvent;
use crate::capture::stage::Captured;
use crate::capture::{Encoding, Frame};
use crate::familiarity::{Familiarity, Looked};
use crate::source::{Pixels, decode_jpeg};

/// Silence is told to the tracker this late: a frame that is on its way was taken earlier than it arrives, and the
/// tracker's time must not be ahead of it.
const SILENCE_BEHIND_MICROS: u64 = 200_000;

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

/// Follower, decoder, and what was asked of them.
pub struct Stage<N> {
    follower: Follower<N>,
    familiarity: Option<Familiarity>,
    /// What the last look said, until an event has it.
    looked: Option<Looked>,
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

impl<N: FollowNetwork> Stage<N>
where
    N::Error: std::fmt::Debug + std::fmt::Display,
{
    /// A stage that follows `initial` from the first frame on, or nothing.
    pub fn new(follower: Follower<N>, initial: Option<BoxXywh>) -> Self {
        Self {
            follower,
            familiarity: None,
            looked: None,
            pixels: Vec::new(),
            wanted: initial.map(Target::Box),
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

    /// Takes another network; what was followed is followed no more.
    pub fn replace(&mut self, follower: Follower<N>, familiarity: Option<Familiarity>) {
        self.follower = follower;
        self.familiarity = familiarity;
        self.looked = None;
        self.size_px = None;
    }

    /// Does what somebody wants. A start in a frame of the past happens at once; the next frame goes on from there.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::Stop => {
                self.wanted = None;
                self.follower.stop();
            }
            Command::Mark => self.marked = true,
            Command::Manoeuvre => self.manoeuvred = true,
            Command::Follow {
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
    ) -> Result<roadhound_shared::tracker::Report, String> {
        self.size_px = Some((view.width_px(), view.height_px()));
        let initial = match target {
            Target::Box(box_in_image) => box_in_image,
            Target::Point { x_px, y_px } => self
                .follower
                .select(view, (x_px, y_px))
                .map_err(|e| e.to_string())?,
        };
        self.follower
            .start(view, initial, captured_at)
            .map_err(|e| e.to_string())
    }

    /// Looks at a frame. Nothing is decoded while nothing is followed.
    pub fn on_frame(&mut self, captured: &Captured) -> TrackEvent {
        let frame = &captured.frame;
        let skipped = self
            .last_number
            .map_or(0, |last| captured.number.saturating_sub(last + 1));
        self.last_number = Some(captured.number);
        let looks = self.wanted.is_some() || self.follower.tracker().phase() != Phase::Idle;
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

    fn look(
        &mut self,
        view: &FrameView<'_>,
        captured_at: Timestamp,
    ) -> Result<roadhound_shared::tracker::Report, String> {
        if let Some(target) = self.wanted.take() {
            return self.start(view, target, captured_at);
        }
        let size_px = (view.width_px(), view.height_px());
        if self.size_px != Some(size_px) {
            // The camera was renegotiated: the picture is the same, in other pixels.
            self.follower.resize_image(size_px.0, size_px.1);
            self.size_px = Some(size_px);
        }
        self.follower
            .step(view, captured_at)
            .map_err(|e| e.to_string())
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
    use std::convert::Infallible;

    use roadhound_shared::contract::{FollowContract, FollowSizes};
    use roadhound_shared::frame::PixelFormat;
    use roadhound_shared::network::{SearchOutputs, TemplateOutputs};
    use roadhound_shared::tracker::TrackerConfig;

    use super::*;

    /// Sees the target in the middle of every window.
    struct Certain;

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
            out.presence = 0.95;
            out.score.fill(0.01);
            let middle = out.score.len() / 2 + 2;
            out.score[middle] = 0.95;
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

    fn stage(initial: Option<BoxXywh>) -> Stage<Certain> {
        let contract = FollowContract::new(FollowSizes {
            template_px: 32,
            search_px: 64,
            stride_px: 16,
            object_px: 16,
            feature_channels: 2,
            embedding_size: 4,
        })
        .unwrap();
        Stage::new(
            Follower::new(Certain, contract, TrackerConfig::default()).unwrap(),
            initial,
        )
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
