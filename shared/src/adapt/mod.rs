//! Normalisation that follows the camera, without a gradient: where the maps of a network lie elsewhere than they lay on
//! the source, chosen convolutions get a scale and a shift a channel, within bounds, and lose them again when presence
//! collapses.
//!
//! A folded network has no batch normalisation left whose statistics could be taken anew, so a convolution is put right by
//! what folding leaves: a scale and a shift of its sums, before they become bytes. The bundle says where every channel lay
//! on the source ([`SourceStatistics`]). Whoever runs the graphs samples the sums of a few cells of every look, counted in
//! deviations of the source ([`SAMPLE_ZERO`], [`SAMPLE_STEPS`]), so that a sample is a byte and no sample can lie further
//! away than a byte reaches.
//!
//! Enters: samples, the tracker's word on the frame, the time. Leaves: an [`Action`], and the [`Adjustment`]s to act by.
//! Nothing here reads a clock or knows a graph. What changes when is one table, [`State`].
//!
//! ```
//! use roadhound_shared::adapt::{Action, AdaptConfig, Adapter, Look, SAMPLE_STEPS, SAMPLE_ZERO};
//! use roadhound_shared::frame::Timestamp;
//! use roadhound_shared::tracker::Phase;
//!
//! let config = AdaptConfig::default();
//! let mut adapter = Adapter::new(config, &[1])?;
//! // One channel lies a deviation higher than on the source, for ten seconds.
//! let samples = [SAMPLE_ZERO + SAMPLE_STEPS as u8; 8];
//! let mut adjusted = false;
//! for frame in 0..300 {
//!     adapter.sample(0, &samples);
//!     let look = Look { at: Timestamp(frame * 33_333), phase: Phase::Tracking, presence: 0.99 };
//!     adjusted |= adapter.look(look) == Action::Adjust;
//! }
//! assert!(adjusted);
//! let found = adapter.adjustments(0)[0];
//! assert!(found.shift > 0.0 && found.shift <= config.max_shift);
//! # Ok::<(), roadhound_shared::limits::LimitError>(())
//! ```

mod config;
mod source;

use alloc::vec;
use alloc::vec::Vec;

use crate::frame::Timestamp;
use crate::tracker::Phase;

pub use config::AdaptConfig;
pub use source::{AdaptContract, LayerStatistics, MOST_LAYERS, SourceStatistics};

/// The byte of a sum that lies where the source's mean lay.
pub const SAMPLE_ZERO: u8 = 128;
/// Steps of a sample in one deviation of the source: a byte reaches 5.3 deviations either way.
pub const SAMPLE_STEPS: f32 = 24.0;

/// Time between two looks counts as this much at most: after a gap one sample is no more than one sample.
const LONGEST_STEP_SECONDS: f32 = 0.5;
/// Cells of one look that count: the sums of their squares fit into 32 bits.
const MOST_CELLS: usize = 1 << 16;
/// No deviation is taken for less, in deviations of the source: a channel that stands still has none.
const LEAST_DEVIATION: f32 = 1e-3;

/// What is done to a channel: a sum that lies `z` deviations of the source above its mean comes to lie at
/// `(z - shift) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adjustment {
    /// What its distance from the mean is multiplied by.
    pub scale: f32,
    /// What is taken off before, in deviations of the source.
    pub shift: f32,
}

impl Adjustment {
    /// Nothing is done.
    pub const NONE: Self = Self {
        scale: 1.0,
        shift: 0.0,
    };
}

/// What is done about the network's constants, in a word.
///
/// | from | to | when |
/// |---|---|---|
/// | any but Resting | Learning | Tracking, presence at least `learn_above_presence` |
/// | any but Resting | Frozen | anything else: what was found stays in force and nothing is added to it |
/// | Learning, Frozen | Resting | lost, or presence below `recover_below_presence` for `recover_after_seconds`, with constants that are not the source's: they go back, and everything is forgotten |
/// | Resting | Frozen | after `rest_seconds` |
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// Every look counts.
    Learning,
    /// Nobody knows what the camera shows.
    Frozen {
        /// Since when every look had too little presence, where it had.
        low_since: Option<Timestamp>,
    },
    /// The constants of the source are in force and stay so for a while.
    Resting {
        /// Since when.
        since: Timestamp,
    },
}

impl State {
    /// The name used in result files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Frozen { .. } => "frozen",
            Self::Resting { .. } => "resting",
        }
    }
}

/// What came of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// When it was taken.
    pub at: Timestamp,
    /// What is known about the target after it.
    pub phase: Phase,
    /// Presence in it, 0..1.
    pub presence: f32,
}

/// What the network's constants have to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// What they are.
    Keep,
    /// What [`Adapter::adjustments`] says now.
    Adjust,
    /// Those of the source, which is what [`Adapter::adjustments`] says now.
    Restore,
}

/// What a line of results says about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adapted {
    /// What it does.
    pub state: State,
    /// Root mean square of all shifts in force, in deviations of the source.
    pub shift: f32,
    /// Root mean square of all logarithms of scales in force.
    pub log_scale: f32,
    /// How often the constants were changed.
    pub changes: u64,
    /// How often they went back to the source's.
    pub recoveries: u64,
}

/// Moments of one channel, in deviations of the source.
#[derive(Debug, Clone, Copy)]
struct Moments {
    mean: f32,
    square: f32,
}

/// Those of the source itself.
const OF_SOURCE: Moments = Moments {
    mean: 0.0,
    square: 1.0,
};

#[derive(Debug, Clone)]
struct Layer {
    moments: Vec<Moments>,
    /// Of the look that is under way.
    fresh: Vec<Moments>,
    has_fresh: bool,
    /// Of bytes of that look, exactly.
    sums: Vec<i32>,
    squares: Vec<i32>,
    adjustments: Vec<Adjustment>,
}

/// The state machine. Owns every number; allocates when it is made and never again.
#[derive(Debug, Clone)]
pub struct Adapter {
    config: AdaptConfig,
    state: State,
    layers: Vec<Layer>,
    last_look: Option<Timestamp>,
    last_change: Option<Timestamp>,
    /// The constants in force are not the source's.
    is_adjusted: bool,
    adapted: Adapted,
}

impl Adapter {
    /// For layers with so many channels each; the constants in force are the source's.
    ///
    /// # Errors
    /// The first constant that cannot be.
    pub fn new(config: AdaptConfig, channels: &[usize]) -> Result<Self, crate::limits::LimitError> {
        config.validate()?;
        let layer = |&channels: &usize| Layer {
            moments: vec![OF_SOURCE; channels],
            fresh: vec![OF_SOURCE; channels],
            has_fresh: false,
            sums: vec![0; channels],
            squares: vec![0; channels],
            adjustments: vec![Adjustment::NONE; channels],
        };
        let state = State::Frozen { low_since: None };
        Ok(Self {
            config,
            state,
            layers: channels.iter().map(layer).collect(),
            last_look: None,
            last_change: None,
            is_adjusted: false,
            adapted: Adapted {
                state,
                shift: 0.0,
                log_scale: 0.0,
                changes: 0,
                recoveries: 0,
            },
        })
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// What the look that is under way saw of a layer: cell by cell, a byte a channel. The last word before
    /// [`Adapter::look`] counts; bytes that are no whole cell, and layers that there are not, are left out.
    pub fn sample(&mut self, layer: usize, cells: &[u8]) {
        let Some(layer) = self.layers.get_mut(layer) else {
            return;
        };
        let channels = layer.moments.len();
        let count = cells.len().checked_div(channels).unwrap_or(0);
        layer.has_fresh = count > 0;
        if !layer.has_fresh {
            return;
        }
        // Sums of bytes are exact, so that their order does not matter.
        layer.sums.fill(0);
        layer.squares.fill(0);
        let zero = i32::from(SAMPLE_ZERO);
        for cell in cells.chunks_exact(channels).take(MOST_CELLS) {
            let sums = layer.sums.iter_mut().zip(&mut layer.squares);
            for ((sum, squares), byte) in sums.zip(cell) {
                let steps = i32::from(*byte) - zero;
                *sum += steps;
                *squares += steps * steps;
            }
        }
        let one = 1.0 / (count.min(MOST_CELLS) as f32 * SAMPLE_STEPS);
        let sums = layer.sums.iter().zip(&layer.squares);
        for (fresh, (sum, squares)) in layer.fresh.iter_mut().zip(sums) {
            *fresh = Moments {
                mean: *sum as f32 * one,
                square: *squares as f32 * one / SAMPLE_STEPS,
            };
        }
    }

    /// A look is over: whether its samples count, and what becomes of the constants.
    pub fn look(&mut self, look: Look) -> Action {
        let Look {
            at,
            phase,
            presence,
        } = look;
        let seconds = self.last_look.map_or(0.0, |last| at.seconds_since(last));
        self.last_look = Some(at);
        let config = self.config;
        // `>=` is false where presence is no number.
        let trusted = phase == Phase::Tracking && presence >= config.learn_above_presence;
        let low_since = match self.state {
            _ if presence >= config.recover_below_presence => None,
            State::Frozen {
                low_since: Some(since),
            } => Some(since),
            State::Learning | State::Frozen { .. } | State::Resting { .. } => Some(at),
        };
        let collapsed = phase == Phase::Lost
            || low_since
                .is_some_and(|since| at.seconds_since(since) >= config.recover_after_seconds);
        let action = match self.state {
            State::Resting { since } if at.seconds_since(since) < config.rest_seconds => {
                Action::Keep
            }
            State::Learning | State::Frozen { .. } | State::Resting { .. } => {
                if phase != Phase::Idle && collapsed && self.is_adjusted {
                    self.go_back(at);
                    Action::Restore
                } else if trusted {
                    self.state = State::Learning;
                    self.learn(seconds.clamp(0.0, LONGEST_STEP_SECONDS));
                    self.adjust(at)
                } else {
                    self.state = State::Frozen {
                        low_since: low_since.filter(|_| phase != Phase::Idle),
                    };
                    Action::Keep
                }
            }
        };
        for layer in &mut self.layers {
            layer.has_fresh = false;
        }
        self.adapted.state = self.state;
        action
    }

    /// What is to be done to the channels of a layer; nothing for a layer that there is not.
    pub fn adjustments(&self, layer: usize) -> &[Adjustment] {
        let layer = self.layers.get(layer);
        layer.map_or(&[], |layer| layer.adjustments.as_slice())
    }

    /// What a line of results says about it.
    pub fn adapted(&self) -> Adapted {
        self.adapted
    }

    fn go_back(&mut self, at: Timestamp) {
        self.state = State::Resting { since: at };
        for layer in &mut self.layers {
            layer.moments.fill(OF_SOURCE);
            layer.adjustments.fill(Adjustment::NONE);
        }
        self.is_adjusted = false;
        self.last_change = Some(at);
        self.adapted.changes += 1;
        self.adapted.recoveries += 1;
        (self.adapted.shift, self.adapted.log_scale) = (0.0, 0.0);
    }

    /// Exponential means, by time.
    fn learn(&mut self, seconds: f32) {
        let share = 1.0 - libm::expf(-seconds / self.config.memory_seconds);
        for layer in self.layers.iter_mut().filter(|layer| layer.has_fresh) {
            for (kept, fresh) in layer.moments.iter_mut().zip(&layer.fresh) {
                kept.mean += share * (fresh.mean - kept.mean);
                kept.square += share * (fresh.square - kept.square);
            }
        }
    }

    /// The adjustments anew, where it is time for that and they would change by more than noise.
    fn adjust(&mut self, at: Timestamp) -> Action {
        let first = *self.last_change.get_or_insert(at);
        if at.seconds_since(first) < self.config.change_every_seconds {
            return Action::Keep;
        }
        let config = &self.config;
        let (mut moved, mut channels) = (0.0f32, 0usize);
        for layer in &self.layers {
            for (moments, now) in layer.moments.iter().zip(&layer.adjustments) {
                let wanted = wanted(config, moments);
                let by = wanted.shift - now.shift;
                let scaled = libm::logf(wanted.scale) - libm::logf(now.scale);
                moved += by * by + scaled * scaled;
                channels += 1;
            }
        }
        if channels == 0 || libm::sqrtf(moved / channels as f32) < config.least_change {
            return Action::Keep;
        }
        let (mut shifts, mut scales) = (0.0f32, 0.0f32);
        for layer in &mut self.layers {
            for (moments, now) in layer.moments.iter().zip(&mut layer.adjustments) {
                *now = wanted(config, moments);
                shifts += now.shift * now.shift;
                let log = libm::logf(now.scale);
                scales += log * log;
            }
        }
        self.adapted.shift = libm::sqrtf(shifts / channels as f32);
        self.adapted.log_scale = libm::sqrtf(scales / channels as f32);
        self.adapted.changes += 1;
        self.last_change = Some(at);
        self.is_adjusted = true;
        Action::Adjust
    }
}

/// What would put a channel back where the source's lay, as far as `strength` and the bounds let it.
fn wanted(config: &AdaptConfig, moments: &Moments) -> Adjustment {
    let variance = moments.square - moments.mean * moments.mean;
    let deviation = libm::sqrtf(variance.max(0.0)).max(LEAST_DEVIATION);
    let most = libm::logf(config.max_scale);
    // A channel that stands still tells nothing about its scale: the bound is what it gets.
    let log_scale = (-config.strength * libm::logf(deviation)).clamp(-most, most);
    Adjustment {
        scale: libm::expf(log_scale).clamp(1.0 / config.max_scale, config.max_scale),
        shift: (config.strength * moments.mean).clamp(-config.max_shift, config.max_shift),
    }
}

#[cfg(test)]
mod tests;
