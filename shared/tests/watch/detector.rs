//! A detector that is simulated: it sees what is true, with the faults that small detectors have. Nothing in it was
//! fitted to watch mode, nor to a real detector: its figures are a guess (recall about 0.9 on what is big enough, edges off by
//! four per cent of a side, a false alarm or two a frame).

use std::collections::BTreeMap;

use roadhound_shared::geometry::{BoxLtrb, BoxXywh};
use roadhound_shared::mix::SplitMix64;
use roadhound_shared::watch::{Detection, RoadUser};

/// Random numbers by seed.
pub(crate) struct Dice(SplitMix64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64(seed))
    }

    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next() >> 40) as f32 / (1 << 24) as f32
    }

    pub(crate) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Standard normal, as near as twelve dice come.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}

/// A road user that is there to be seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Present {
    pub(crate) instance: u32,
    pub(crate) kind: RoadUser,
    pub(crate) full_box: BoxXywh,
    pub(crate) visible_box: BoxXywh,
    pub(crate) visible_share: f32,
}

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Share of frames on which somebody in plain sight is missed, each frame by itself.
    pub(crate) missed: f32,
    /// How often somebody is missed for longer, a second; and for how long on average.
    pub(crate) blinks_per_second: f32,
    pub(crate) blink_seconds: f32,
    /// Standard deviation of an edge, in sides; half of its variance lasts for some frames.
    pub(crate) edge_sides: f32,
    /// False alarms that begin, a second, and how long they last on average.
    pub(crate) ghosts_per_second: f32,
    pub(crate) ghost_seconds: f32,
    /// Share of wrong classes.
    pub(crate) wrong_kind: f32,
    /// Numbers of an embedding; 0 for none.
    pub(crate) embedding: usize,
    /// Noise of an embedding, against its length.
    pub(crate) looks_noise: f32,
}

pub(crate) const NANO: Faults = Faults {
    missed: 0.05,
    blinks_per_second: 0.4,
    blink_seconds: 0.15,
    edge_sides: 0.042,
    ghosts_per_second: 9.0,
    ghost_seconds: 0.15,
    wrong_kind: 0.03,
    embedding: 0,
    looks_noise: 0.6,
};

pub(crate) const NANO_WITH_LOOKS: Faults = Faults {
    embedding: 32,
    ..NANO
};

/// What it says.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) box_in_image: BoxXywh,
    pub(crate) score: f32,
    pub(crate) kind: RoadUser,
    pub(crate) embedding: Vec<f32>,
}

impl Said {
    pub(crate) fn as_detection(&self) -> Detection<'_> {
        Detection {
            box_in_image: self.box_in_image,
            score: self.score,
            kind: self.kind,
            embedding: &self.embedding,
        }
    }
}

#[derive(Default)]
struct Mood {
    lasting: [f32; 4],
    blind_seconds: f32,
}

struct Ghost {
    box_in_image: BoxXywh,
    score: f32,
    left_seconds: f32,
}

pub(crate) struct Detector {
    faults: Faults,
    seed: u64,
    dice: Dice,
    moods: BTreeMap<u32, Mood>,
    ghosts: Vec<Ghost>,
}

impl Detector {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            seed,
            dice: Dice::new(seed),
            moods: BTreeMap::new(),
            ghosts: Vec::new(),
        }
    }

    /// One frame, `dt` seconds after the last. Best scores first, as detectors sort.
    pub(crate) fn look(&mut self, dt: f32, size_px: (u32, u32), there: &[Present]) -> Vec<Said> {
        let mut said = Vec::new();
        for object in there {
            said.extend(self.see(dt, object));
        }
        self.haunt(dt, size_px, &mut said);
        said.sort_by(|a, b| b.score.total_cmp(&a.score));
        said
    }

    fn see(&mut self, dt: f32, o: &Present) -> Option<Said> {
        let f = self.faults;
        let dice = &mut self.dice;
        let mood = self.moods.entry(o.instance).or_default();
        let kept = (-dt / 0.3).exp();
        let sigma = f.edge_sides * 0.5_f32.sqrt();
        for lasting in &mut mood.lasting {
            *lasting = kept * *lasting + (1.0 - kept * kept).sqrt() * sigma * dice.normal();
        }
        mood.blind_seconds -= dt;
        if dice.unit() < f.blinks_per_second * dt {
            mood.blind_seconds = -f.blink_seconds * dice.unit().max(1e-6).ln();
        }
        let short = o.full_box.w_px.min(o.full_box.h_px);
        let big = ((short - 6.0) / 14.0).clamp(0.0, 1.0);
        let open = (o.visible_share / 0.7).min(1.0);
        let score = (0.3 + 0.6 * big) * (0.35 + 0.65 * open) + 0.06 * dice.normal();
        let noticed = (score / 0.35).clamp(0.0, 1.0) * (1.0 - f.missed);
        let missed = dice.unit() >= noticed;
        // Drawn in any case, so that what happens to one does not change the others.
        let mut noise = [0.0; 4];
        for (noise, lasting) in noise.iter_mut().zip(mood.lasting) {
            *noise = lasting + sigma * dice.normal();
        }
        let wrong = dice.unit() < f.wrong_kind;
        let other = RoadUser::ALL[(dice.unit() * 9.0) as usize % 9];
        if missed || mood.blind_seconds > 0.0 || o.visible_share < 0.08 {
            return None;
        }
        // Of somebody half hidden, the box ends somewhere between what is seen and what is there.
        let (full, visible) = (BoxLtrb::from(o.full_box), BoxLtrb::from(o.visible_box));
        let mut edges = [0.0; 4];
        for (k, edge) in edges.iter_mut().enumerate() {
            let side = if k % 2 == 0 {
                o.full_box.w_px
            } else {
                o.full_box.h_px
            };
            *edge = 0.5 * (full.to_array()[k] + visible.to_array()[k]) + noise[k] * side;
        }
        let box_in_image = BoxXywh::from(BoxLtrb::new(edges[0], edges[1], edges[2], edges[3]));
        box_in_image.is_proper().then(|| Said {
            box_in_image,
            score: score.clamp(0.05, 0.99),
            kind: if wrong { other } else { o.kind },
            embedding: self.looks(o),
        })
    }

    /// Those of a kind look somewhat alike.
    fn looks(&mut self, o: &Present) -> Vec<f32> {
        let n = self.faults.embedding;
        let mut own = Dice::new(self.seed ^ (u64::from(o.instance) << 20));
        let mut common = Dice::new(0x6b69_6e64 ^ ((o.kind as u64) << 40));
        let doubt = self.faults.looks_noise * if o.visible_share < 0.6 { 1.7 } else { 1.0 };
        (0..n)
            .map(|_| own.normal() + 0.7 * common.normal() + doubt * self.dice.normal())
            .collect()
    }

    fn haunt(&mut self, dt: f32, (width, height): (u32, u32), said: &mut Vec<Said>) {
        let f = self.faults;
        let dice = &mut self.dice;
        if dice.unit() < f.ghosts_per_second * dt {
            let w_px = dice.range(8.0, 60.0);
            let h_px = w_px * dice.range(0.5, 2.0);
            self.ghosts.push(Ghost {
                box_in_image: BoxXywh::from_center(
                    dice.range(0.0, width as f32),
                    dice.range(0.3, 0.9) * height as f32,
                    w_px,
                    h_px,
                ),
                score: dice.range(0.1, 0.6),
                left_seconds: -f.ghost_seconds * dice.unit().max(1e-6).ln(),
            });
        }
        for ghost in &mut self.ghosts {
            ghost.left_seconds -= dt;
            let b = &ghost.box_in_image;
            let (dx, dy) = (0.05 * b.w_px * dice.normal(), 0.05 * b.h_px * dice.normal());
            let embedding = (0..f.embedding).map(|_| dice.normal()).collect();
            said.push(Said {
                box_in_image: b.translated(dx, dy),
                score: (ghost.score + 0.06 * dice.normal()).clamp(0.02, 0.99),
                kind: RoadUser::ALL[(dice.unit() * 9.0) as usize % 9],
                embedding,
            });
        }
        self.ghosts.retain(|ghost| ghost.left_seconds > 0.0);
    }
}
