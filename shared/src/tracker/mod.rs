//! The tracker: a state machine that asks for crops and accepts what the network made of them.
//!
//! In: an initial box, time stamps of frames, outputs of the two graphs. Out: windows to crop and
//! one [`Report`] a frame. It does no I/O, never sees a pixel, and allocates nothing after
//! [`Tracker::new`]. The phases and their conditions are the table in [`Phase`]'s module:
//! Idle, Tracking, Uncertain, Lost.
//!
//! For each frame the caller asks [`Tracker::next_crop`], runs the search graph and hands its
//! outputs to [`Tracker::accept`]; a frame that is dropped goes to [`Tracker::skip`]. After
//! `accept`, [`Tracker::next_look`] may ask for another window of the same frame, whose outputs go to
//! `accept` again: a lost target is looked for in several places at once. Then
//! [`Tracker::template_wanted`] may ask for a template of the same frame, whose embedding
//! goes to [`Tracker::accept_template`]. [`crate::follow::Follower`] is that loop.
//!
//! What holds whatever the network says: a reported box is finite, its centre is inside the image,
//! its sides are between `shape.min_side_px` and `shape.max_side_of_image` (before the part outside
//! the image is cut off), and none is reported while the target is lost.
//!
//! ```
//! use roadhound_shared::contract::{FollowContract, FollowSizes};
//! use roadhound_shared::frame::Timestamp;
//! use roadhound_shared::geometry::BoxXywh;
//! use roadhound_shared::network::SearchOutputs;
//! use roadhound_shared::tracker::{Phase, Tracker, TrackerConfig};
//!
//! let contract = FollowContract::new(FollowSizes::default()).expect("the default sizes agree");
//! let mut tracker = Tracker::new(TrackerConfig::default(), &contract).expect("the default is valid");
//! let car = BoxXywh::new(300.0, 200.0, 80.0, 60.0);
//! let _template = tracker.start(car, 1280, 720, Timestamp(0)).expect("the box is in the image");
//!
//! let at = Timestamp(33_333);
//! let _window = tracker.next_crop(at).expect("a target is followed");
//! let nothing = SearchOutputs::for_contract(&contract); // presence 0
//! let report = tracker.accept(&nothing, at);
//! assert_eq!(report.phase, Phase::Lost);
//! assert_eq!(report.box_in_image, None);
//! ```

mod config;
mod course;
mod kalman;
mod phase;

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use config::{
    DecodeConfig, MotionConfig, PresenceConfig, ReclaimConfig, SearchConfig, ShapeConfig,
    TemplateConfig, TrackerConfig,
};
pub use course::Course;
pub use kalman::{AxisFilter, AxisNoise};
pub use phase::Phase;

use crate::contract::{ContractError, FollowContract};
use crate::decode::{Candidate, Decoder, MotionPrior, Prior};
use crate::frame::{MAX_SIDE_PX, Timestamp};
use crate::geometry::BoxXywh;
use crate::network::SearchOutputs;
use crate::preprocess::CropWindow;
use phase::{Event, State};

/// A time step counts for size and growth as at least this share of the reference step, and as at
/// most its inverse: sources with broken time stamps must neither freeze nor explode the box.
const MIN_STEP_SHARE: f32 = 0.25;

/// What the tracker says about one frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The target's box; `None` while Lost or Idle.
    pub box_in_image: Option<BoxXywh>,
    /// What is known about the target.
    pub phase: Phase,
    /// Score of the chosen candidate in the last look, 0..1.
    pub score: f32,
    /// Presence in the last look, 0..1.
    pub presence: f32,
    /// Cosine similarity of the chosen candidate with the gallery in the last look, -1..1.
    pub similarity: f32,
    /// When the frame was taken.
    pub captured_at: Timestamp,
    /// When the phase began.
    pub since: Timestamp,
}

impl Report {
    /// Nothing is followed, and nothing known.
    pub fn idle(captured_at: Timestamp) -> Self {
        Self {
            box_in_image: None,
            phase: Phase::Idle,
            score: 0.0,
            presence: 0.0,
            similarity: 0.0,
            captured_at,
            since: captured_at,
        }
    }
}

/// Why a target cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum StartError {
    /// The image has no pixel, or more than a frame may have.
    #[error("image is {width_px}x{height_px}, expected 1 to {max} pixels a side", max = MAX_SIDE_PX)]
    Image {
        /// Its width.
        width_px: u32,
        /// Its height.
        height_px: u32,
    },
    /// A coordinate is not a number, a side is not positive, or the centre is outside the image.
    #[error(
        "box {x},{y},{w},{h} has no area or its centre is outside the {width_px}x{height_px} image",
        x = bad.x_px, y = bad.y_px, w = bad.w_px, h = bad.h_px
    )]
    Box {
        /// The box.
        bad: BoxXywh,
        /// Width of the image.
        width_px: u32,
        /// Height of the image.
        height_px: u32,
    },
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Tracker {
    config: TrackerConfig,
    search_px: u32,
    template_context: f32,
    search_context: f32,
    decoder: Decoder,
    gallery: Gallery,
    state: State,
    /// `Some` in every phase but Idle.
    target: Option<Target>,
    /// The window handed out for the frame that is on its way.
    pending: Option<Pending>,
    clock: Clock,
    last_look: Look,
    /// How many windows of the newest frame were looked at.
    looks_in_frame: u32,
}

/// The tracker's own time: the source's, except that it never runs backwards.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    now: Timestamp,
    /// What has to be added to a time stamp of the source.
    offset_micros: u64,
}

impl Clock {
    fn at(self, captured_at: Timestamp) -> Self {
        let now = captured_at.0.saturating_add(self.offset_micros);
        if now >= self.now.0 {
            Self {
                now: Timestamp(now),
                ..self
            }
        } else {
            // The source jumped back: no time has passed, and it goes on from here.
            Self {
                now: self.now,
                offset_micros: self.now.0.saturating_sub(captured_at.0),
            }
        }
    }

    fn in_source(self, own: Timestamp) -> Timestamp {
        Timestamp(own.0.saturating_sub(self.offset_micros))
    }
}

/// What the last look said, for reports; of several looks at one frame, the usual one, or one that supports a claim.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    score: f32,
    presence: f32,
    similarity: f32,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    window: CropWindow,
    /// Where the motion model expects the box.
    expected: BoxXywh,
    /// Whether the window is somewhere the target is not expected at all.
    elsewhere: bool,
}

#[derive(Debug, Clone, Copy)]
struct Target {
    image_width_px: f32,
    image_height_px: f32,
    cx_px: f32,
    cy_px: f32,
    w_px: f32,
    h_px: f32,
    /// Centre x and y, logarithm of width and height.
    axes: [AxisFilter; 4],
    /// Last box of the Tracking phase.
    trusted: BoxXywh,
    /// When the box was last moved.
    moved_at: Timestamp,
    looked_at: Timestamp,
    tracked_at: Timestamp,
    /// Since when every frame could be trusted for a template.
    trusted_since: Option<Timestamp>,
    refreshed_at: Timestamp,
    template_due: bool,
    /// Frames looked at since the target was lost.
    lost_looks: u32,
    /// Where it was heading when it could last be trusted.
    course: Course,
}

impl Target {
    fn new(
        initial: BoxXywh,
        width_px: u32,
        height_px: u32,
        now: Timestamp,
        c: &TrackerConfig,
    ) -> Self {
        let mut target = Self {
            image_width_px: width_px as f32,
            image_height_px: height_px as f32,
            cx_px: 0.0,
            cy_px: 0.0,
            w_px: 0.0,
            h_px: 0.0,
            axes: [AxisFilter::new(0.0, &c.motion.size_noise()); 4],
            trusted: initial,
            moved_at: now,
            looked_at: now,
            tracked_at: now,
            trusted_since: None,
            refreshed_at: now,
            template_due: false,
            lost_looks: 0,
            course: Course::default(),
        };
        target.jump_to(initial, now, c);
        target
    }

    fn box_in_image(&self) -> BoxXywh {
        BoxXywh::from_center(self.cx_px, self.cy_px, self.w_px, self.h_px)
    }

    /// Geometric mean of the sides.
    fn side_px(&self) -> f32 {
        libm::sqrtf(self.w_px * self.h_px)
    }

    /// The box moved to where it is sane: centre in the image, sides within limits.
    fn sane(&self, found: BoxXywh, c: &ShapeConfig) -> BoxXywh {
        let side = |value: f32, image: f32| {
            let max = (c.max_side_of_image * image).max(c.min_side_px);
            if value.is_nan() {
                c.min_side_px
            } else {
                value.clamp(c.min_side_px, max)
            }
        };
        let place = |value: f32, image: f32| {
            if value.is_nan() {
                0.5 * image
            } else {
                value.clamp(0.0, image)
            }
        };
        let (cx, cy) = found.center();
        BoxXywh::from_center(
            place(cx, self.image_width_px),
            place(cy, self.image_height_px),
            side(found.w_px, self.image_width_px),
            side(found.h_px, self.image_height_px),
        )
    }

    fn set(&mut self, found: BoxXywh, c: &ShapeConfig) {
        let sane = self.sane(found, c);
        (self.cx_px, self.cy_px) = sane.center();
        (self.w_px, self.h_px) = (sane.w_px, sane.h_px);
    }

    /// Puts the box somewhere else and forgets its motion.
    fn jump_to(&mut self, found: BoxXywh, now: Timestamp, c: &TrackerConfig) {
        self.set(found, &c.shape);
        let (noise, at) = (self.noise(c), self.coordinates());
        for ((axis, noise), position) in self.axes.iter_mut().zip(noise).zip(at) {
            *axis = AxisFilter::new(position, &noise);
        }
        self.moved_at = now;
        self.tracked_at = now;
        self.trusted = self.box_in_image();
        self.trusted_since = None;
        self.lost_looks = 0;
        self.course = Course::default();
    }

    fn coordinates(&self) -> [f32; 4] {
        [
            self.cx_px,
            self.cy_px,
            libm::logf(self.w_px),
            libm::logf(self.h_px),
        ]
    }

    fn noise(&self, c: &TrackerConfig) -> [AxisNoise; 4] {
        let centre = c.motion.centre_noise(self.side_px());
        let size = c.motion.size_noise();
        [centre, centre, size, size]
    }

    /// Where the box should be `now`. Falls back to where it was, the less is known of its motion.
    fn expected(&self, now: Timestamp, c: &TrackerConfig) -> BoxXywh {
        let dt = self.step_seconds(now, &c.motion);
        let noise = self.noise(c);
        let [x, y, w, h] = &self.axes;
        let centre = c.motion.prediction_weight * certainty([x, y]);
        let size = c.motion.size_prediction_weight * certainty([w, h]);
        let expected = BoxXywh::from_center(
            self.cx_px + centre * x.displacement(dt, &noise[0]),
            self.cy_px + centre * y.displacement(dt, &noise[1]),
            self.w_px * libm::expf(size * w.displacement(dt, &noise[2])),
            self.h_px * libm::expf(size * h.displacement(dt, &noise[3])),
        );
        self.sane(expected, &c.shape)
    }

    fn step_seconds(&self, now: Timestamp, c: &MotionConfig) -> f32 {
        now.seconds_since(self.moved_at).min(c.max_step_seconds)
    }

    /// Follows a candidate of the Tracking phase.
    fn follow(&mut self, found: &Found, expected: BoxXywh, now: Timestamp, c: &TrackerConfig) {
        let dt = self.step_seconds(now, &c.motion);
        let steps = steps_of(dt, &c.shape);
        let measured = found.box_in_image;
        let ((ex, ey), (mx, my)) = (expected.center(), measured.center());
        let rate = c.shape.centre_rate;
        let size_rate = over_steps(
            c.shape.size_rate * found.candidate.shape_penalty * found.candidate.score,
            steps,
        );
        let limit =
            libm::expf(c.shape.max_log_growth_per_second * steps * c.shape.reference_step_seconds);
        let side = |expected: f32, measured: f32, before: f32| {
            (expected + size_rate * (measured - expected)).clamp(before / limit, before * limit)
        };
        let next = BoxXywh::from_center(
            ex + rate * (mx - ex),
            ey + rate * (my - ey),
            side(expected.w_px, measured.w_px, self.w_px),
            side(expected.h_px, measured.h_px, self.h_px),
        );
        let noise = self.noise(c);
        let measurement = [mx, my, libm::logf(measured.w_px), libm::logf(measured.h_px)];
        self.set(next, &c.shape);
        for ((axis, noise), measured) in self.axes.iter_mut().zip(noise).zip(measurement) {
            axis.predict(dt, &noise);
            axis.correct(measured, &noise);
        }
        self.moved_at = now;
        self.tracked_at = now;
        self.trusted = self.box_in_image();
    }

    /// Moves towards a candidate that may be something else: the centre only, and not all the way.
    fn drift(
        &mut self,
        found: Option<&Found>,
        expected: BoxXywh,
        now: Timestamp,
        c: &TrackerConfig,
    ) {
        let dt = self.step_seconds(now, &c.motion);
        let (mut cx, mut cy) = expected.center();
        if let Some(found) = found {
            let share = c.shape.centre_rate_uncertain * found.candidate.score;
            let rate = over_steps(share, steps_of(dt, &c.shape));
            let (mx, my) = found.box_in_image.center();
            cx += rate * (mx - cx);
            cy += rate * (my - cy);
        }
        let noise = self.noise(c);
        self.set(BoxXywh::from_center(cx, cy, self.w_px, self.h_px), &c.shape);
        let at = self.coordinates();
        for ((axis, noise), position) in self.axes.iter_mut().zip(noise).zip(at) {
            // Velocity fades; what is known of it becomes less.
            axis.predict(dt, &noise);
            axis.fade(dt, &noise);
            axis.move_to(position);
        }
        self.moved_at = now;
    }

    /// Share of the box that is inside the image.
    fn inside(&self) -> f32 {
        let whole = self.box_in_image();
        whole
            .clip(self.image_width_px as u32, self.image_height_px as u32)
            .map_or(0.0, |part| part.area() / whole.area())
    }
}

impl MotionConfig {
    fn centre_noise(&self, side_px: f32) -> AxisNoise {
        AxisNoise {
            acceleration: self.acceleration_sides * side_px,
            measurement: self.centre_noise_sides * side_px,
            max_rate: self.max_speed_sides_per_second * side_px,
            decay_seconds: self.velocity_decay_seconds,
        }
    }

    fn size_noise(&self) -> AxisNoise {
        AxisNoise {
            acceleration: self.log_size_acceleration,
            measurement: self.log_size_noise,
            max_rate: self.max_log_size_rate,
            decay_seconds: self.velocity_decay_seconds,
        }
    }
}

/// How sure the velocity of two axes is, 0..1: its square against that plus its variance (Wiener).
fn certainty(axes: [&AxisFilter; 2]) -> f32 {
    let square: f32 = axes.iter().map(|axis| axis.rate() * axis.rate()).sum();
    let variance: f32 = axes.iter().map(|axis| axis.rate_variance()).sum();
    let share = square / (square + variance);
    if share.is_finite() { share } else { 0.0 }
}

/// How many reference steps `dt` is worth for rates that are stated per step.
fn steps_of(dt_seconds: f32, c: &ShapeConfig) -> f32 {
    (dt_seconds / c.reference_step_seconds).clamp(MIN_STEP_SHARE, 1.0 / MIN_STEP_SHARE)
}

/// A share that is taken over in each step, over several steps.
fn over_steps(share: f32, steps: f32) -> f32 {
    1.0 - libm::powf(1.0 - share.clamp(0.0, 1.0), steps)
}

/// What the target looks like: its first embedding and a running mean of trusted ones.
#[derive(Debug, Clone)]
struct Gallery {
    filled: bool,
    first: Vec<f32>,
    mean: Vec<f32>,
    scratch: Vec<f32>,
}

impl Gallery {
    fn new(embedding_size: usize) -> Self {
        Self {
            filled: false,
            first: vec![0.0; embedding_size],
            mean: vec![0.0; embedding_size],
            scratch: vec![0.0; embedding_size],
        }
    }

    /// Forgets everything: nothing is similar to an empty gallery.
    fn clear(&mut self) {
        self.filled = false;
        self.first.fill(0.0);
        self.mean.fill(0.0);
    }

    fn fill(&mut self, embedding: &[f32]) {
        self.clear();
        if embedding.len() == self.first.len() && embedding.iter().all(|v| v.is_finite()) {
            self.first.copy_from_slice(embedding);
            normalise(&mut self.first);
        }
        self.mean.copy_from_slice(&self.first);
        self.filled = true;
    }

    /// Mixes the similarity with the first embedding and with the running mean.
    fn mix(&self, first: f32, mean: f32, c: &TemplateConfig) -> f32 {
        c.first_weight * first + (1.0 - c.first_weight) * mean
    }

    fn similarity(&self, embedding: &[f32], c: &TemplateConfig) -> f32 {
        let cosine = |reference: &[f32]| {
            if embedding.len() != reference.len() {
                return 0.0;
            }
            let dot: f32 = embedding.iter().zip(reference).map(|(a, b)| a * b).sum();
            let square: f32 = embedding.iter().map(|a| a * a).sum();
            let cosine = dot / libm::sqrtf(square);
            if cosine.is_finite() {
                cosine.clamp(-1.0, 1.0)
            } else {
                0.0
            }
        };
        self.mix(cosine(&self.first), cosine(&self.mean), c)
    }

    /// Moves the running mean towards the embedding in `scratch`.
    fn learn_scratch(&mut self, share: f32) {
        if !self.scratch.iter().all(|v| v.is_finite()) || !normalise(&mut self.scratch) {
            return;
        }
        for (mean, found) in self.mean.iter_mut().zip(&self.scratch) {
            *mean += share * (found - *mean);
        }
        normalise(&mut self.mean);
    }
}

/// Scales to unit norm; leaves what has no norm and says so.
fn normalise(values: &mut [f32]) -> bool {
    let norm = libm::sqrtf(values.iter().map(|v| v * v).sum());
    let usable = norm.is_finite() && norm > 1e-12;
    if usable {
        for value in values {
            *value /= norm;
        }
    }
    usable
}

/// A candidate in the image, with what the gallery says about it.
#[derive(Debug, Clone, Copy)]
struct Found {
    candidate: Candidate,
    box_in_image: BoxXywh,
    similarity: f32,
}

impl Tracker {
    /// A tracker that follows nothing yet. The only place that allocates.
    ///
    /// # Errors
    /// A constant out of range, or sizes that do not fit together.
    pub fn new(config: TrackerConfig, contract: &FollowContract) -> Result<Self, ContractError> {
        config.validate()?;
        contract.validate()?;
        Ok(Self {
            config,
            search_px: contract.search_px,
            template_context: contract.template_context(),
            search_context: contract.search_context(),
            decoder: Decoder::new(contract),
            gallery: Gallery::new(contract.embedding_size),
            state: State::Idle,
            target: None,
            pending: None,
            clock: Clock::default(),
            last_look: Look::default(),
            looks_in_frame: 0,
        })
    }

    /// The constants in use.
    pub fn config(&self) -> &TrackerConfig {
        &self.config
    }

    /// The decoder, for looks at something else than the target. It keeps nothing from one look to the next.
    pub(crate) fn decoder_mut(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// What is known about the target.
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// Follows a new target. Returns the window of its template, whose embedding must go to
    /// [`Tracker::accept_template`] before the target can be recognised.
    ///
    /// # Errors
    /// An image without area, or a box that no one could follow; the tracker is then as it was.
    pub fn start(
        &mut self,
        initial: BoxXywh,
        image_width_px: u32,
        image_height_px: u32,
        captured_at: Timestamp,
    ) -> Result<CropWindow, StartError> {
        let sides = 1..=MAX_SIDE_PX;
        if !sides.contains(&image_width_px) || !sides.contains(&image_height_px) {
            return Err(StartError::Image {
                width_px: image_width_px,
                height_px: image_height_px,
            });
        }
        let (cx, cy) = initial.center();
        let inside = (0.0..=image_width_px as f32).contains(&cx)
            && (0.0..=image_height_px as f32).contains(&cy);
        if !initial.is_proper() || !inside {
            return Err(StartError::Box {
                bad: initial,
                width_px: image_width_px,
                height_px: image_height_px,
            });
        }
        self.clock = Clock::default().at(captured_at);
        let now = self.clock.now;
        let target = Target::new(initial, image_width_px, image_height_px, now, &self.config);
        let window = CropWindow::around(target.box_in_image(), self.template_context);
        self.target = Some(target);
        self.state = State::Tracking { since: now };
        self.gallery.clear();
        self.pending = None;
        self.last_look = Look {
            score: 1.0,
            presence: 1.0,
            similarity: 1.0,
        };
        Ok(window)
    }

    /// Follows nothing any more.
    pub fn stop(&mut self) {
        self.state = State::Idle;
        self.target = None;
        self.pending = None;
    }

    /// From the next frame on, the same picture comes at another size. Boxes are scaled, motion is forgotten, phase and
    /// identity stay.
    pub fn resize_image(&mut self, image_width_px: u32, image_height_px: u32) {
        self.pending = None;
        let sides = 1..=MAX_SIDE_PX;
        let Some(target) = self.target.as_mut() else {
            return;
        };
        if !sides.contains(&image_width_px) || !sides.contains(&image_height_px) {
            return;
        }
        let x_scale = image_width_px as f32 / target.image_width_px;
        let y_scale = image_height_px as f32 / target.image_height_px;
        let scaled = |b: BoxXywh| {
            BoxXywh::new(
                b.x_px * x_scale,
                b.y_px * y_scale,
                b.w_px * x_scale,
                b.h_px * y_scale,
            )
        };
        let followed = scaled(target.box_in_image());
        target.image_width_px = image_width_px as f32;
        target.image_height_px = image_height_px as f32;
        target.trusted = scaled(target.trusted);
        target.course = target.course.scaled(x_scale, y_scale);
        target.template_due = false;
        target.set(followed, &self.config.shape);
        let (noise, at) = (target.noise(&self.config), target.coordinates());
        for ((axis, noise), position) in target.axes.iter_mut().zip(noise).zip(at) {
            *axis = AxisFilter::new(position, &noise);
        }
        self.state = self.state.with_boxes(scaled);
    }

    /// The window to search in the frame taken at this time; `None` while Idle.
    pub fn next_crop(&mut self, captured_at: Timestamp) -> Option<CropWindow> {
        self.looks_in_frame = 0;
        self.pending = self.pending_at(captured_at);
        self.pending.map(|pending| pending.window)
    }

    /// After [`Tracker::accept`], while the target is lost and no look supports a claim: another window of the same frame, until
    /// `search.looks_beside` are done. What the search graph makes of it goes to [`Tracker::accept`] with the same time, and
    /// that report is the frame's.
    pub fn next_look(&mut self, captured_at: Timestamp) -> Option<CropWindow> {
        let target = self.target.as_ref()?;
        let now = self.clock.at(captured_at).now;
        let State::Lost {
            since,
            last_trusted,
            claim: None,
        } = self.state
        else {
            return None;
        };
        let is_due = (1..=self.config.search.looks_beside).contains(&self.looks_in_frame);
        if !is_due || now <= since {
            return None;
        }
        self.pending = self.beside(target, last_trusted, now, now.seconds_since(since));
        self.pending.map(|pending| pending.window)
    }

    /// After [`Tracker::accept`], while the target is lost and no look supports a claim: a window about a box that somebody
    /// else offers. What the search graph makes of it goes to [`Tracker::accept`] with the same time, and that report is the
    /// frame's: an offer has to meet what every other candidate has to.
    pub fn look_at_offer(&mut self, offered: BoxXywh) -> Option<CropWindow> {
        let target = self.target.as_ref()?;
        let State::Lost { claim: None, .. } = self.state else {
            return None;
        };
        if !offered.is_proper() || self.looks_in_frame == 0 {
            return None;
        }
        self.pending = Some(self.confirm(target.sane(offered, &self.config.shape)));
        self.pending.map(|pending| pending.window)
    }

    fn pending_at(&self, captured_at: Timestamp) -> Option<Pending> {
        let target = self.target.as_ref()?;
        let now = self.clock.at(captured_at).now;
        Some(match self.after_silence(target, now) {
            State::Idle => return None,
            State::Tracking { .. } | State::Uncertain { .. } => {
                let expected = target.expected(now, &self.config);
                self.look_at(target, expected, now)
            }
            State::Lost {
                claim: Some(claim), ..
            } => self.confirm(claim.box_in_image),
            State::Lost {
                since,
                last_trusted,
                claim: None,
            } => {
                let near = self.look_at(target, target.sane(last_trusted, &self.config.shape), now);
                if self.config.search.looks_beside > 0 {
                    near
                } else {
                    self.sweep(target, &near, now.seconds_since(since))
                        .or_else(|| self.ahead(target, last_trusted, now))
                        .unwrap_or(near)
                }
            }
        })
    }

    /// Takes what the search graph made of the window from [`Tracker::next_crop`]. Without such a
    /// window this is [`Tracker::skip`].
    pub fn accept(&mut self, outputs: &SearchOutputs, captured_at: Timestamp) -> Report {
        let (Some(mut target), Some(pending)) = (self.target, self.pending.take()) else {
            return self.skip(captured_at);
        };
        self.clock = self.clock.at(captured_at);
        let now = self.clock.now;
        let before = self.after_silence(&target, now);
        let presence = if outputs.presence.is_nan() {
            0.0
        } else {
            outputs.presence.clamp(0.0, 1.0)
        };

        let found = self.find(&before, &target, &pending, outputs, presence);
        let (score, similarity) = found.map_or((0.0, 0.0), |found| {
            (found.candidate.score, found.similarity)
        });
        let claim = found
            .filter(|found| self.may_claim(found, presence, &target))
            .map(|found| found.box_in_image);
        let look = Look {
            score,
            presence,
            similarity,
        };
        self.looks_in_frame += 1;
        // Presence was calibrated where the target is expected.
        if self.looks_in_frame == 1 || claim.is_some() {
            self.last_look = look;
        }
        let event = Event::Look {
            presence,
            score,
            similarity,
            claim,
        };
        let c = &self.config;
        let after = before.next(event, now, target.trusted, &c.presence, &c.reclaim);

        target.template_due = false;
        match (&before, &after, &found) {
            (State::Lost { .. }, State::Tracking { .. }, Some(found)) => {
                target.jump_to(found.box_in_image, now, c);
            }
            (_, State::Tracking { .. }, Some(found)) => {
                target.follow(found, pending.expected, now, c);
            }
            (_, State::Tracking { .. } | State::Uncertain { .. }, _) => {
                target.drift(found.as_ref(), pending.expected, now, c);
            }
            (State::Lost { .. }, State::Lost { .. }, _) => {
                let is_first = u32::from(self.looks_in_frame == 1);
                target.lost_looks = target.lost_looks.saturating_add(is_first);
            }
            (_, State::Lost { .. } | State::Idle, _) => {
                target.lost_looks = 0;
            }
        }
        self.state = after;
        self.learn(&mut target, found.as_ref(), outputs, now);
        target.looked_at = now;
        let report = self.report(&target, target.box_in_image(), captured_at);
        self.target = Some(target);
        report
    }

    /// A frame went by without a look: dropped, or not worth the time. The box is the predicted
    /// one.
    pub fn skip(&mut self, captured_at: Timestamp) -> Report {
        self.pending = None;
        self.looks_in_frame = 0;
        let Some(mut target) = self.target else {
            return Report::idle(captured_at);
        };
        self.clock = self.clock.at(captured_at);
        let now = self.clock.now;
        self.state = self.after_silence(&target, now);
        target.template_due = false;
        let expected = target.expected(now, &self.config);
        self.target = Some(target);
        self.report(&target, expected, captured_at)
    }

    /// After [`Tracker::accept`]: the window of a new latest template in the same frame, if one is
    /// due. Its embedding must go to [`Tracker::accept_template`].
    pub fn template_wanted(&self) -> Option<CropWindow> {
        self.target
            .as_ref()
            .filter(|target| target.template_due)
            .map(|target| CropWindow::around(target.box_in_image(), self.template_context))
    }

    /// Takes the embedding of a template. The first one after [`Tracker::start`] becomes the
    /// identity of the target. Returns whether the template may be used: a later one must look like
    /// the target.
    pub fn accept_template(&mut self, embedding: &[f32]) -> bool {
        let Some(target) = self.target.as_mut() else {
            return false;
        };
        target.template_due = false;
        target.refreshed_at = self.clock.now;
        if !self.gallery.filled {
            self.gallery.fill(embedding);
            return true;
        }
        let c = &self.config.template;
        self.gallery.similarity(embedding, c) >= c.min_similarity
    }

    fn after_silence(&self, target: &Target, now: Timestamp) -> State {
        let event = Event::Silence {
            last_look: target.looked_at,
        };
        let c = &self.config;
        self.state
            .next(event, now, target.trusted, &c.presence, &c.reclaim)
    }

    /// A window around where the target should be, wider the longer it was not seen.
    fn look_at(&self, target: &Target, expected: BoxXywh, now: Timestamp) -> Pending {
        let c = &self.config.search;
        let mut window = CropWindow::around(expected, self.search_context * c.scale);
        let unseen = now.seconds_since(target.tracked_at) - 1e-3 * c.widen_after_millis as f32;
        let widening = (1.0 + c.widen_per_second * unseen.max(0.0)).min(c.max_widening);
        let longer_side = target.image_width_px.max(target.image_height_px);
        let limit = (c.max_side_of_image * longer_side).max(window.w_px);
        let side = (widening * window.w_px).min(limit);
        (window.w_px, window.h_px) = (side, side);
        Pending {
            window,
            expected,
            elsewhere: false,
        }
    }

    fn confirm(&self, claimed: BoxXywh) -> Pending {
        let factor = self.search_context * self.config.search.scale;
        Pending {
            window: CropWindow::around(claimed, factor),
            expected: claimed,
            elsewhere: false,
        }
    }

    /// The window of this look, if it is one that goes where the lost target was heading.
    fn ahead(&self, target: &Target, last_trusted: BoxXywh, now: Timestamp) -> Option<Pending> {
        let c = &self.config.search;
        let turn = target.lost_looks / c.sweep_every.max(1);
        if c.ahead_every == 0 || !(turn + 1).is_multiple_of(c.ahead_every) {
            return None;
        }
        self.on_course(target, last_trusted, now)
    }

    /// The window that is next beside the usual one: where the target was heading, once a frame, and the places of the sweep in
    /// turn.
    fn beside(
        &self,
        target: &Target,
        last_trusted: BoxXywh,
        now: Timestamp,
        lost_seconds: f32,
    ) -> Option<Pending> {
        let c = &self.config.search;
        let frames = target.lost_looks.saturating_sub(1);
        // Turns are counted through all frames; the first of this one, and the one that it is now.
        let first = frames.wrapping_mul(c.looks_beside);
        let turn = first.wrapping_add(self.looks_in_frame - 1);
        let near = self.look_at(target, target.sane(last_trusted, &self.config.shape), now);
        let sweeps = c.sweep_every > 0 && lost_seconds >= 1e-3 * c.sweep_after_millis as f32;
        // A parked target has nothing ahead.
        let ahead = self
            .on_course(target, last_trusted, now)
            .filter(|ahead| c.ahead_every > 0 && ahead.window != near.window);
        let Some(ahead) = ahead else {
            return sweeps.then(|| self.sweep_to(target, &near, turn));
        };
        if !sweeps {
            return (self.looks_in_frame == 1).then_some(ahead);
        }
        // A second look there would be at the same window: from then on the frame's turns are the sweep's.
        let was_ahead = turn / c.ahead_every > first / c.ahead_every;
        if turn % c.ahead_every == c.ahead_every - 1 && !was_ahead {
            return Some(ahead);
        }
        let looks_ahead = (first / c.ahead_every).min(frames) + u32::from(was_ahead);
        Some(self.sweep_to(target, &near, turn.wrapping_sub(looks_ahead)))
    }

    fn on_course(&self, target: &Target, last_trusted: BoxXywh, now: Timestamp) -> Option<Pending> {
        let c = &self.config.search;
        let (cx, cy) = target.course.after(now, c.ahead_at_most_seconds)?;
        let there = BoxXywh::from_center(cx, cy, last_trusted.w_px, last_trusted.h_px);
        Some(self.look_at(target, target.sane(there, &self.config.shape), now))
    }

    /// The window of this look, if it is one that goes elsewhere in the usual one's place.
    fn sweep(&self, target: &Target, near: &Pending, lost_seconds: f32) -> Option<Pending> {
        let c = &self.config.search;
        if c.sweep_every == 0
            || lost_seconds < 1e-3 * c.sweep_after_millis as f32
            || !target.lost_looks.is_multiple_of(c.sweep_every)
        {
            return None;
        }
        Some(self.sweep_to(target, near, target.lost_looks / c.sweep_every))
    }

    /// One place of a grid over the image, counted row by row, round and round.
    fn sweep_to(&self, target: &Target, near: &Pending, place: u32) -> Pending {
        let side = near.window.w_px;
        let step = side * (1.0 - self.config.search.sweep_overlap);
        // Both are at least 1, and at most a few thousand: the side is.
        let places = |image: f32| 1 + libm::ceilf((image - side).max(0.0) / step) as u32;
        let (columns, rows) = (
            places(target.image_width_px),
            places(target.image_height_px),
        );
        let place = place % columns.saturating_mul(rows).max(1);
        let centre = |index: u32, count: u32, image: f32| {
            if count < 2 {
                return 0.5 * image;
            }
            let first = 0.5 * side;
            first + (image - side) * index as f32 / (count - 1) as f32
        };
        let (cx, cy) = (
            centre(place % columns, columns, target.image_width_px),
            centre(place / columns, rows, target.image_height_px),
        );
        let (w, h) = (near.expected.w_px, near.expected.h_px);
        Pending {
            window: CropWindow::square(cx, cy, side),
            expected: BoxXywh::from_center(cx, cy, w, h),
            elsewhere: true,
        }
    }

    /// The candidate to act on. While lost, one that could be claimed goes before one that ranks
    /// higher.
    fn find(
        &mut self,
        before: &State,
        target: &Target,
        pending: &Pending,
        outputs: &SearchOutputs,
        presence: f32,
    ) -> Option<Found> {
        let is_lost = matches!(before, State::Lost { .. });
        let search_from_image = pending.window.crop_from_image(self.search_px);
        let expected = search_from_image.apply_box(&pending.expected);
        let c = &self.config.decode;
        let (cx_px, cy_px) = expected.center();
        let prior = Prior {
            width_px: expected.w_px,
            height_px: expected.h_px,
            window_weight: if is_lost {
                c.window_weight_lost
            } else {
                c.window_weight
            },
            motion: (!is_lost && !pending.elsewhere).then_some(MotionPrior {
                cx_px,
                cy_px,
                sigma_x_px: c.motion_sigma_sides * expected.w_px,
                sigma_y_px: c.motion_sigma_sides * expected.h_px,
            }),
        };
        let candidates = self.decoder.decode(outputs, &prior, c);
        let image_from_search = pending.window.image_from_crop(self.search_px);
        let mut best: Option<(bool, f32, Found)> = None;
        for candidate in candidates {
            let to =
                |reference: &[f32]| self.decoder.similarity(outputs, candidate.cell, reference);
            let similarity = self.gallery.mix(
                to(&self.gallery.first),
                to(&self.gallery.mean),
                &self.config.template,
            );
            let box_in_image = image_from_search.apply_box(&candidate.box_in_search.into());
            let found = Found {
                candidate,
                box_in_image: target.sane(box_in_image, &self.config.shape),
                similarity,
            };
            let claims = is_lost && self.may_claim(&found, presence, target);
            let rank = candidate.rank + self.config.decode.identity_weight * similarity.max(0.0);
            let better = best
                .as_ref()
                .is_none_or(|(claimed, top, _)| (claims, rank) > (*claimed, *top));
            if better {
                best = Some((claims, rank, found));
            }
        }
        best.map(|(_, _, found)| found)
    }

    fn may_claim(&self, found: &Found, presence: f32, target: &Target) -> bool {
        let c = &self.config.reclaim;
        let ratio = |a: f32, b: f32| (a / b).max(b / a);
        let (now, old) = (found.box_in_image, target.trusted);
        presence >= c.min_presence
            && found.candidate.score >= c.min_score
            && found.similarity >= c.min_similarity
            && ratio(now.w_px, old.w_px) <= c.max_side_ratio
            && ratio(now.h_px, old.h_px) <= c.max_side_ratio
    }

    /// Updates the gallery and decides whether a new template is due.
    fn learn(
        &mut self,
        target: &mut Target,
        found: Option<&Found>,
        outputs: &SearchOutputs,
        now: Timestamp,
    ) {
        let c = self.config.template;
        let look = self.last_look;
        let trusted = found.filter(|_| {
            self.state.phase() == Phase::Tracking
                && look.presence >= c.min_presence
                && look.score >= c.min_score
                && look.similarity >= c.min_similarity
                && target.inside() >= c.min_inside
        });
        let Some(found) = trusted else {
            target.trusted_since = None;
            return;
        };
        let memory_seconds = self.config.search.course_seconds;
        target
            .course
            .see((target.cx_px, target.cy_px), now, memory_seconds);
        let since = *target.trusted_since.get_or_insert(now);
        let millis_since = |earlier: Timestamp| now.micros_since(earlier) / 1000;
        if millis_since(since) < u64::from(c.trusted_for_millis) {
            return;
        }
        let dt = now.seconds_since(target.looked_at);
        let share = 1.0 - libm::expf(-dt / c.gallery_seconds);
        let copied =
            self.decoder
                .embedding_at(outputs, found.candidate.cell, &mut self.gallery.scratch);
        if copied {
            self.gallery.learn_scratch(share);
        }
        target.template_due = c.refresh_millis > 0
            && millis_since(target.refreshed_at) >= u64::from(c.refresh_millis);
    }

    fn report(&self, target: &Target, estimate: BoxXywh, captured_at: Timestamp) -> Report {
        let phase = self.state.phase();
        let box_in_image = match phase {
            Phase::Idle | Phase::Lost => None,
            Phase::Tracking | Phase::Uncertain => Some(self.visible(target, estimate)),
        };
        let since = self.state.since().unwrap_or(self.clock.now);
        Report {
            box_in_image,
            phase,
            score: self.last_look.score,
            presence: self.last_look.presence,
            similarity: self.last_look.similarity,
            captured_at,
            since: self.clock.in_source(since),
        }
    }

    fn visible(&self, target: &Target, estimate: BoxXywh) -> BoxXywh {
        let (width, height) = (target.image_width_px as u32, target.image_height_px as u32);
        match estimate.clip(width, height) {
            Some(part) if self.config.shape.clip_to_image => part,
            _ => estimate,
        }
    }
}
