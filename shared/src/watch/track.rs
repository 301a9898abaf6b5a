//! One road user: where, how fast, what it looks like, what it is.
//!
//! In: time, the camera's motion, detections taken for it. Out: where it should be, and how far a detection lies from
//! that. Every axis is an [`AxisFilter`]; the numbers of looks and classes have their room from the start.

use alloc::vec;
use alloc::vec::Vec;

use super::config::{MotionConfig, WatchConfig};
use super::life::Life;
use super::looks::Looks;
use super::{Detection, KINDS, RoadUser};
use crate::frame::Timestamp;
use crate::geometry::{Affine2, BoxXywh};
use crate::tracker::{AxisFilter, AxisNoise};

/// Logarithms of sides are kept within e to this, either way: a box of a tenth of a pixel, or of a million.
const MAX_LOG_SIDE: f32 = 14.0;

/// A place for one road user, taken or free.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// `None` where the place is free.
    pub(super) life: Option<Life>,
    /// Given when it is believed.
    pub(super) identity: Option<u32>,
    /// Centre and logarithms of the sides.
    axes: [AxisFilter; 4],
    pub(super) last_seen: Timestamp,
    pub(super) score: f32,
    /// How much speaks for each class.
    votes: [f32; KINDS],
    /// At unit norm, or a point of the learned distance; nothing but zeros where nobody told.
    looks: Vec<f32>,
    pub(super) has_looks: bool,
    /// Where it should be now: kept, since every pair asks.
    pub(super) expected: BoxXywh,
    noise: [AxisNoise; 4],
    /// One over the variance of a detection about each axis, kept as well.
    certainty: [f32; 4],
    pub(super) found: Option<usize>,
}

impl Track {
    pub(super) fn free(looks: usize) -> Self {
        let noise = AxisNoise {
            acceleration: 1.0,
            measurement: 1.0,
            max_rate: 1.0,
            decay_seconds: 1.0,
        };
        Self {
            life: None,
            identity: None,
            axes: [AxisFilter::new(0.0, &noise); 4],
            last_seen: Timestamp(0),
            score: 0.0,
            votes: [0.0; KINDS],
            looks: vec![0.0; looks],
            has_looks: false,
            expected: BoxXywh::default(),
            noise: [noise; 4],
            certainty: [0.0; 4],
            found: None,
        }
    }

    /// Takes the place for somebody new, who may be believed at once.
    pub(super) fn start(
        &mut self,
        d: &Detection<'_>,
        looks: Option<Looks<'_>>,
        at: usize,
        now: Timestamp,
        believed: bool,
        c: &WatchConfig,
    ) {
        let b = &d.box_in_image;
        self.noise = noises(side_px(b), 1.0, &c.motion);
        let measured = measured(b);
        for ((axis, value), noise) in self.axes.iter_mut().zip(measured).zip(&self.noise) {
            *axis = AxisFilter::new(value, noise);
        }
        self.life = Some(if believed {
            Life::Seen { since: now }
        } else {
            Life::Tentative { since: now }
        });
        self.identity = None;
        self.last_seen = now;
        self.score = d.score;
        self.votes = [0.0; KINDS];
        self.votes[d.kind as usize] = d.score;
        self.has_looks = false;
        self.learn_looks(looks, 1.0);
        self.found = Some(at);
        self.settle();
    }

    /// Whether it is believed.
    pub(super) fn is_believed(&self) -> bool {
        !matches!(self.life, None | Some(Life::Tentative { .. }))
    }

    pub(super) fn kind(&self) -> RoadUser {
        let mut best = 0;
        for (kind, votes) in self.votes.iter().enumerate() {
            if *votes > self.votes[best] {
                best = kind;
            }
        }
        RoadUser::ALL[best]
    }

    /// Computes what is kept.
    fn settle(&mut self) {
        self.expected = self.box_now();
        for ((certainty, axis), noise) in self.certainty.iter_mut().zip(&self.axes).zip(&self.noise)
        {
            *certainty = 1.0 / axis.detection_variance(noise);
        }
    }

    fn box_now(&self) -> BoxXywh {
        let [x, y, w, h] = &self.axes;
        let side =
            |axis: &AxisFilter| libm::expf(axis.position().clamp(-MAX_LOG_SIDE, MAX_LOG_SIDE));
        BoxXywh::from_center(x.position(), y.position(), side(w), side(h))
    }

    /// Lets time pass. The speed of somebody who is not seen fades.
    pub(super) fn pass(&mut self, dt_seconds: f32, motion: &MotionConfig) {
        let seen = !matches!(self.life, Some(Life::Hidden { .. } | Life::Lost { .. }));
        self.noise = noises(side_px(&self.expected), 1.0, motion);
        for (axis, noise) in self.axes.iter_mut().zip(&self.noise) {
            axis.drift(dt_seconds, seen, noise);
        }
        self.found = None;
        self.settle();
    }

    /// Goes with the camera. `scale` is that of the map.
    pub(super) fn carry(&mut self, now_from_last: &Affine2, scale: f32) {
        let [x, y, w, h] = &mut self.axes;
        let place = now_from_last.apply((x.position(), y.position()));
        let speed = now_from_last.turn((x.rate(), y.rate()));
        x.carry(place.0, speed.0, scale, &self.noise[0]);
        y.carry(place.1, speed.1, scale, &self.noise[1]);
        let growth = libm::logf(scale);
        for (axis, noise) in [(w, &self.noise[2]), (h, &self.noise[3])] {
            axis.carry(axis.position() + growth, axis.rate(), 1.0, noise);
        }
        self.settle();
    }

    /// Squared Mahalanobis distances of detections, four degrees of freedom, over the gate: 1 is at it. `places` are what
    /// the detections measure, axis by axis.
    pub(super) fn shares_of_gate(&self, places: &[Vec<f32>; 4], gate: f32, out: &mut Vec<f32>) {
        let positions = self.axes.map(|axis| axis.position());
        let off = |k: usize, value: f32| {
            let residual = value - positions[k];
            residual * residual * self.certainty[k]
        };
        let [x, y, w, h] = places;
        out.clear();
        out.resize(x.len(), 0.0);
        // Slices of one length, written in place: several at once.
        let places = x.iter().zip(y).zip(w.iter().zip(h));
        for (share, ((x, y), (w, h))) in out.iter_mut().zip(places) {
            *share = ((off(0, *x) + off(1, *y)) + (off(2, *w) + off(3, *h))) / gate;
        }
    }

    /// How much it looks like a detection; `None` where it is not known what it looks like.
    pub(super) fn likeness(&self, looks: &Looks<'_>) -> Option<f32> {
        self.has_looks.then(|| looks.likeness(&self.looks))
    }

    /// Takes a detection for it.
    pub(super) fn see(
        &mut self,
        d: &Detection<'_>,
        looks: Option<Looks<'_>>,
        at: usize,
        now: Timestamp,
        weak: bool,
        c: &WatchConfig,
    ) {
        let b = &d.box_in_image;
        let doubt = if weak {
            c.motion.weak_noise_factor
        } else {
            1.0
        };
        let noise = noises(side_px(&self.expected), doubt, &c.motion);
        for ((axis, value), noise) in self.axes.iter_mut().zip(measured(b)).zip(&noise) {
            axis.correct(value, noise);
        }
        if !weak {
            let passed = now.seconds_since(self.last_seen);
            let news = 1.0 - libm::expf(-passed / c.cost.looks_seconds);
            self.learn_looks(looks, news);
            // What it was called long ago counts less.
            for votes in &mut self.votes {
                *votes *= 0.98;
            }
            self.votes[d.kind as usize] += d.score;
        }
        self.last_seen = now;
        self.score = d.score;
        self.found = Some(at);
        self.settle();
    }

    fn learn_looks(&mut self, looks: Option<Looks<'_>>, news: f32) {
        let Some(looks) = looks else { return };
        let news = if self.has_looks { news } else { 1.0 };
        looks.teach(&mut self.looks, news);
        self.has_looks = true;
    }
}

/// A detection as it is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) values: [f32; 4],
}

impl Measured {
    pub(super) fn of(d: &Detection<'_>) -> Self {
        Self {
            values: measured(&d.box_in_image),
        }
    }
}

fn measured(b: &BoxXywh) -> [f32; 4] {
    let (cx, cy) = b.center();
    [cx, cy, libm::logf(b.w_px), libm::logf(b.h_px)]
}

fn side_px(b: &BoxXywh) -> f32 {
    libm::sqrtf(b.w_px * b.h_px).clamp(0.1, 1e6)
}

fn noises(side_px: f32, doubt: f32, m: &MotionConfig) -> [AxisNoise; 4] {
    let centre = AxisNoise {
        acceleration: m.speed_change_sides * side_px,
        measurement: m.centre_noise_sides * side_px * doubt,
        max_rate: m.max_speed_sides_per_second * side_px,
        decay_seconds: m.decay_seconds,
    };
    let size = AxisNoise {
        acceleration: m.growth_change,
        measurement: m.log_size_noise * doubt,
        max_rate: m.max_log_size_rate,
        decay_seconds: m.decay_seconds,
    };
    [centre, centre, size, size]
}
