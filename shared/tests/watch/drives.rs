//! Rendered drives, a simulated detector, watch mode, and what the metrics say of it.
//!
//! Seeds from [`REPORTED_FROM`] on are for figures; whoever tunes constants takes smaller ones
//! (`ROADHOUND_WATCH_SEED=1`). `ROADHOUND_WATCH_DRIVES=20` takes more drives than the two a region of an ordinary run,
//! `ROADHOUND_WATCH_CONFIG=FILE` other constants.

use std::collections::BTreeMap;
use std::env;

use roadhound_shared::frame::Timestamp;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::metrics::ScoreBox;
use roadhound_shared::metrics::multi::{Found, Judged, JudgingRule, MultiScore, Role, Truth};
use roadhound_shared::watch::{Detection, RoadUser, Watch, WatchConfig};
use roadhound_shared::world::{
    Class, ObjectTruth, Region, Scenario, Scratch, Sequence, WorldConfig,
};

use crate::detector::{Detector, Dice, Faults, NANO, NANO_WITH_LOOKS, Present};

/// Constants of watch mode were chosen on seeds below.
const REPORTED_FROM: u64 = 1000;
/// Less than this of somebody to be seen need not be found.
const COUNTED_FROM_SHARE: f32 = 0.25;
/// An identity is given this long to come back.
const RETURN_SECONDS: f32 = 1.0;

fn kind(class: Class) -> RoadUser {
    match class {
        Class::Car | Class::Van => RoadUser::Car,
        Class::Truck => RoadUser::Truck,
        Class::Bus => RoadUser::Bus,
        Class::Motorcycle => RoadUser::Motorcycle,
        Class::Bicycle => RoadUser::Bicycle,
        Class::Autorickshaw => RoadUser::AutoRickshaw,
        Class::Person => RoadUser::Person,
        Class::Animal => RoadUser::Animal,
        Class::Tractor | Class::Cart => RoadUser::Other,
    }
}

/// What is true on every frame.
struct Drive {
    fps: f32,
    size_px: (u32, u32),
    frames: Vec<Vec<ObjectTruth>>,
}

impl Drive {
    fn rendered(region: Region, scenario: Scenario, seed: u64, frames: u32) -> Self {
        let config = WorldConfig {
            frames,
            scenario,
            ..WorldConfig::of(region)
        };
        let size_px = (config.width_px, config.height_px);
        let sequence = Sequence::new(&config, seed, 0).unwrap();
        let mut scratch = Scratch::new(size_px.0, size_px.1);
        Self {
            fps: config.fps,
            size_px,
            frames: (0..frames)
                .map(|frame| sequence.annotate(frame, &mut scratch))
                .collect(),
        }
    }
}

/// Somebody whom the detector cannot see for a while: from a frame up to another.
#[derive(Clone, Copy, Debug)]
struct Gap {
    instance: u32,
    from: usize,
    to: usize,
}

fn in_plain_sight(o: &ObjectTruth) -> bool {
    let short = o.full_box.w_px.min(o.full_box.h_px);
    !o.ignore && !o.cut && o.visible_share >= 0.6 && short >= 14.0
}

/// One gap of a second for everybody who is in plain sight for three seconds and more, placed within by the dice.
fn gaps_of_a_second(drive: &Drive, seed: u64) -> Vec<Gap> {
    let second = drive.fps as usize;
    let mut spans: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    let mut best: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    for (frame, objects) in drive.frames.iter().enumerate() {
        for o in objects.iter().filter(|o| in_plain_sight(o)) {
            let span = spans.entry(o.instance).or_insert((frame, frame));
            *span = if span.1 + 1 >= frame {
                (span.0, frame)
            } else {
                (frame, frame)
            };
            let longest = best.entry(o.instance).or_insert(*span);
            if span.1 - span.0 > longest.1 - longest.0 {
                *longest = *span;
            }
        }
    }
    let mut dice = Dice::new(seed ^ 0x0067_6170);
    best.into_iter()
        .filter(|(_, (from, to))| to - from >= 3 * second)
        .map(|(instance, (from, to))| {
            let from = from + second + (dice.unit() * (to - from - 3 * second) as f32) as usize;
            Gap {
                instance,
                from,
                to: from + second,
            }
        })
        .collect()
}

/// Gaps that the world itself makes: nothing to be seen of somebody for 0.8 to 2.5 seconds, in plain sight before and
/// after.
fn natural_gaps(drive: &Drive) -> Vec<Gap> {
    let mut last: BTreeMap<u32, usize> = BTreeMap::new();
    let mut any: BTreeMap<u32, usize> = BTreeMap::new();
    let mut gaps = Vec::new();
    for (frame, objects) in drive.frames.iter().enumerate() {
        for o in objects {
            if !o.absent {
                if let Some(&from) = any.get(&o.instance) {
                    let hidden = (frame - from) as f32 / drive.fps;
                    let seen_before = last
                        .get(&o.instance)
                        .is_some_and(|l| from - l < drive.fps as usize);
                    if (0.8..=2.5).contains(&hidden) && seen_before {
                        gaps.push(Gap {
                            instance: o.instance,
                            from: from + 1,
                            to: frame,
                        });
                    }
                }
                any.insert(o.instance, frame);
            }
            if in_plain_sight(o) {
                last.insert(o.instance, frame);
            }
        }
    }
    gaps
}

/// What watch mode made of a drive.
struct Watched {
    score: MultiScore,
    /// Gaps before which somebody had an identity, and those after which it was the same.
    gaps: usize,
    survived: usize,
}

fn watch(
    drive: &Drive,
    faults: Faults,
    seed: u64,
    every: usize,
    gaps: &[Gap],
    enforced: bool,
) -> Watched {
    let mut config = config();
    config.room.embedding = faults.embedding as u32;
    let mut watch = Watch::new(config, drive.size_px.0, drive.size_px.1).unwrap();
    let mut detector = Detector::new(faults, seed);
    let mut judged = Judged::new(JudgingRule::default());
    let hidden = |o: &ObjectTruth, frame: usize| {
        enforced
            && gaps
                .iter()
                .any(|g| g.instance == o.instance && (g.from..g.to).contains(&frame))
    };
    // By instance: the frames on which it was matched, and with whom.
    let mut matched: BTreeMap<u32, Vec<(usize, u32)>> = BTreeMap::new();
    for (frame, objects) in drive.frames.iter().enumerate() {
        let now = Timestamp::of_frame(frame as u64, f64::from(drive.fps));
        let reports = if frame % every == 0 {
            let there: Vec<Present> = objects
                .iter()
                .filter(|o| !hidden(o, frame))
                .filter_map(|o| {
                    Some(Present {
                        instance: o.instance,
                        kind: kind(o.class),
                        full_box: o.full_box,
                        visible_box: o.visible_box?,
                        visible_share: o.visible_share,
                    })
                })
                .collect();
            let said = detector.look(every as f32 / drive.fps, drive.size_px, &there);
            let detections: Vec<Detection<'_>> = said.iter().map(|s| s.as_detection()).collect();
            watch.look(now, None, &detections).unwrap()
        } else {
            watch.coast(now, None)
        };
        let truth: Vec<Truth> = objects
            .iter()
            .map(|o| Truth {
                identity: i64::from(o.instance),
                box_in_image: ScoreBox::from(o.full_box),
                role: if o.ignore || o.visible_share < COUNTED_FROM_SHARE || hidden(o, frame) {
                    Role::Spared
                } else {
                    Role::Counted
                },
            })
            .collect();
        let size = drive.size_px;
        let found: Vec<(u32, BoxXywh)> = reports
            .iter()
            .filter(|r| r.sight.is_shown())
            .filter_map(|r| Some((r.identity, r.box_in_image.clip(size.0, size.1)?)))
            .collect();
        for o in objects.iter().filter(|o| !o.absent && !hidden(o, frame)) {
            let best = found
                .iter()
                .map(|(identity, b)| (b.iou(&o.full_box), *identity))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((iou, identity)) = best
                && iou >= 0.5
            {
                matched
                    .entry(o.instance)
                    .or_default()
                    .push((frame, identity));
            }
        }
        let found: Vec<Found> = found
            .into_iter()
            .map(|(identity, b)| Found {
                identity: i64::from(identity),
                box_in_image: ScoreBox::from(b),
            })
            .collect();
        judged.add_frame(&truth, &found).unwrap();
    }
    let (mut cases, mut survived) = (0, 0);
    for gap in gaps {
        let frames = matched.get(&gap.instance).map_or(&[][..], Vec::as_slice);
        let near = (0.3 * drive.fps) as usize;
        let before = frames
            .iter()
            .rev()
            .find(|(frame, _)| *frame < gap.from && frame + near >= gap.from);
        let Some((_, before)) = before else { continue };
        cases += 1;
        let end = gap.to + (RETURN_SECONDS * drive.fps) as usize;
        let after: Vec<u32> = frames
            .iter()
            .filter(|(frame, _)| (gap.to..end).contains(frame))
            .map(|(_, identity)| *identity)
            .collect();
        let same = after.iter().filter(|identity| *identity == before).count();
        survived += usize::from(2 * same > after.len());
    }
    Watched {
        score: MultiScore::of(&judged),
        gaps: cases,
        survived,
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

fn config() -> WatchConfig {
    env::var_os("ROADHOUND_WATCH_CONFIG").map_or_else(WatchConfig::default, |path| {
        toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    })
}

/// Figures of several drives.
#[derive(Default)]
struct Total {
    scores: Vec<MultiScore>,
    gaps: usize,
    survived: usize,
}

impl Total {
    fn add(&mut self, watched: Watched) {
        self.scores.push(watched.score);
        self.gaps += watched.gaps;
        self.survived += watched.survived;
    }

    fn share(&self) -> f64 {
        self.survived as f64 / self.gaps.max(1) as f64
    }

    fn line(&self, name: &str) -> MultiScore {
        let all = MultiScore::combined(&self.scores);
        println!(
            "{name:<34} HOTA {:5.2} DetA {:5.2} AssA {:5.2} LocA {:5.2} MOTA {:5.2} IDF1 {:5.2} switches {:4} of {:6} boxes; {} of {} gaps survived ({:.1} %)",
            100.0 * all.hota.hota(),
            100.0 * all.hota.detection(),
            100.0 * all.hota.association(),
            100.0 * all.hota.localisation(),
            100.0 * all.clear.accuracy(),
            100.0 * all.identity.f1(),
            all.clear.switches,
            all.truth_boxes,
            self.survived,
            self.gaps,
            100.0 * self.share()
        );
        all
    }
}

fn drives(region: Region, scenario: Scenario, frames: u32, count: u64) -> Vec<(u64, Drive)> {
    let first = number("ROADHOUND_WATCH_SEED", REPORTED_FROM);
    (first..first + count)
        .map(|seed| (seed, Drive::rendered(region, scenario, seed, frames)))
        .collect()
}

#[test]
fn on_rendered_drives_identities_last() {
    let count = number("ROADHOUND_WATCH_DRIVES", 2);
    for region in [Region::Us, Region::India] {
        let drives = drives(region, Scenario::Drive, 240, count);
        for (name, faults) in [("boxes alone", NANO), ("with embeddings", NANO_WITH_LOOKS)] {
            let (mut plain, mut gaps, mut sparse) =
                (Total::default(), Total::default(), Total::default());
            for (seed, drive) in &drives {
                let natural = natural_gaps(drive);
                let enforced = gaps_of_a_second(drive, *seed);
                plain.add(watch(drive, faults, *seed, 1, &natural, false));
                gaps.add(watch(drive, faults, *seed, 1, &enforced, true));
                sparse.add(watch(drive, faults, *seed, 3, &natural, false));
            }
            let region = region.name();
            let all = plain.line(&format!("{region}, {name}"));
            gaps.line(&format!("{region}, {name}, hidden 1 s"));
            sparse.line(&format!("{region}, {name}, every 3rd frame"));
            // With embeddings, as the product has them: the aims of watch mode. Boxes alone reached 69.99 on the US drives, so
            // there are floors only, which whoever breaks something falls far below; two drives a region differ by some points
            // from seed to seed.
            let [hota, survival] = match name {
                "with embeddings" => [0.70, 0.80],
                _ => [0.65, 0.75],
            };
            assert!(all.hota.hota() >= hota, "HOTA {}", all.hota.hota());
            assert!(all.identity.f1() >= 0.80, "IDF1 {}", all.identity.f1());
            assert!(
                gaps.share() >= survival,
                "{} of {}",
                gaps.survived,
                gaps.gaps
            );
        }
    }
}
