//! How well road users are found: average precision by kind, and recall at a given number of false alarms.
//!
//! In: frames with what was found and what is there. Out: plain numbers. A pack that does not box a kind cannot say that
//! such a one was found in vain: where a frame is not complete for a kind, nothing of that kind is a false alarm, and
//! neither is what lies on an ignored object.
//!
//! ```
//! use roadhound_shared::geometry::BoxXywh;
//! use roadhound_shared::propose::{RoadUser, RoadUsers};
//! use roadhound_trainer::detection::{Found, FoundFrame, There, average_precision};
//! let car = BoxXywh::new(10.0, 10.0, 40.0, 30.0);
//! let frame = FoundFrame {
//!     found: vec![Found { kind: RoadUser::Car, score: 0.9, box_in_view: car }],
//!     there: vec![There { kinds: RoadUsers::of(&[RoadUser::Car]), box_in_view: car, is_target: true }],
//!     complete: RoadUsers::ALL,
//! };
//! assert_eq!(average_precision(&[frame], RoadUser::Car, 0.5), Some(1.0));
//! ```

use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::propose::{Proposal, RoadUser, RoadUsers};

use crate::scenes::labels::unsaid_within;
use crate::scenes::{SceneView, Standing};

/// A proposal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// What it is said to be.
    pub kind: RoadUser,
    /// How surely.
    pub score: f32,
    /// Where.
    pub box_in_view: BoxXywh,
}

/// An annotated object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct There {
    /// What it may be.
    pub kinds: RoadUsers,
    /// Where.
    pub box_in_view: BoxXywh,
    /// To be found, rather than ignored.
    pub is_target: bool,
}

/// A frame.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundFrame {
    /// Proposals.
    pub found: Vec<Found>,
    /// Annotations.
    pub there: Vec<There>,
    /// Kinds that are boxed wherever they are.
    pub complete: RoadUsers,
}

/// A proposal overlaps the object it speaks of at least so much.
pub const LEAST_IOU: f32 = 0.5;
/// False alarms a frame at which recall is told.
pub const FALSE_ALARMS: f64 = 1.0;
/// Proposals from this score on have a place on the precision-recall curve.
pub const LEAST_SCORE: f32 = 0.02;

impl FoundFrame {
    /// What was found in a view.
    pub fn of(view: &SceneView, found: &[Proposal]) -> Self {
        let found = found.iter().map(|proposal| Found {
            kind: proposal.class,
            score: proposal.score,
            box_in_view: proposal.box_in_input.into(),
        });
        let there = view.objects.iter().map(|object| There {
            kinds: object.kinds,
            box_in_view: object.box_in_view.into(),
            is_target: object.standing == Standing::Target,
        });
        Self {
            found: found.collect(),
            there: there.collect(),
            complete: view.complete,
        }
    }
}

/// Average precision of every kind that there are targets of.
pub fn average_precisions(frames: &[FoundFrame], least_iou: f32) -> Vec<(RoadUser, f64)> {
    let of = |kind| Some((kind, average_precision(frames, kind, least_iou)?));
    RoadUser::ALL.into_iter().filter_map(of).collect()
}

/// The mean of [`average_precisions`].
pub fn mean_average_precision(frames: &[FoundFrame], least_iou: f32) -> f64 {
    let by_kind = average_precisions(frames, least_iou);
    by_kind.iter().map(|(_, ap)| ap).sum::<f64>() / by_kind.len().max(1) as f64
}

/// What an annotated object is to a question.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// To be found.
    Wanted,
    /// Whoever finds it is neither right nor wrong.
    Neutral,
    /// Whoever takes it for something else is wrong.
    Other,
}

/// Share of a proposal that lies on an ignored region and makes it neutral.
const ON_IGNORED: f32 = 0.5;

/// Area under the precision-recall curve, precision made monotone (Pascal VOC 2010); `None` where no target is of that
/// kind.
pub fn average_precision(frames: &[FoundFrame], kind: RoadUser, least_iou: f32) -> Option<f64> {
    let role = |there: &There| match there.is_target && there.kinds.only() == Some(kind) {
        true => Role::Wanted,
        false if there.kinds.has(kind) || unsaid_within(there.kinds).has(kind) => Role::Neutral,
        false => Role::Other,
    };
    let (hits, wanted) = hits(frames, &|found| found.kind == kind, &role, least_iou);
    if wanted == 0 {
        return None;
    }
    let mut right = 0_u32;
    let mut curve: Vec<(f64, f64)> = Vec::with_capacity(hits.len());
    for (at, hit) in hits.iter().enumerate() {
        right += u32::from(*hit);
        curve.push((
            f64::from(right) / wanted as f64,
            f64::from(right) / (at + 1) as f64,
        ));
    }
    let (mut area, mut best, mut upper) = (0.0, 0.0_f64, None);
    for (recall, precision) in curve.into_iter().rev() {
        if let Some(upper) = upper {
            area += (upper - recall) * best;
        }
        best = best.max(precision);
        upper = Some(recall);
    }
    Some(area + upper.unwrap_or(0.0) * best)
}

/// Share of the targets, whatever they are called, that are found before there are more than `per_frame` false alarms a
/// frame.
pub fn recall_at_false_alarms(frames: &[FoundFrame], per_frame: f64, least_iou: f32) -> f64 {
    let role = |there: &There| match there.is_target {
        true => Role::Wanted,
        false => Role::Neutral,
    };
    let (hits, wanted) = hits(frames, &|_| true, &role, least_iou);
    let allowed = per_frame * frames.len() as f64;
    let (mut right, mut wrong) = (0_u32, 0_u32);
    for hit in hits {
        match hit {
            true => right += 1,
            false => wrong += 1,
        }
        if f64::from(wrong) > allowed {
            break;
        }
    }
    f64::from(right) / wanted.max(1) as f64
}

/// Whether each proposal that counts is right, the surest first; and how many targets there are.
fn hits(
    frames: &[FoundFrame],
    is_asked: &dyn Fn(&Found) -> bool,
    role: &dyn Fn(&There) -> Role,
    least_iou: f32,
) -> (Vec<bool>, usize) {
    let mut order: Vec<(usize, usize)> = frames
        .iter()
        .enumerate()
        .flat_map(|(at, frame)| (0..frame.found.len()).map(move |k| (at, k)))
        .filter(|&(at, k)| is_asked(&frames[at].found[k]))
        .collect();
    let score = |&(at, k): &(usize, usize)| frames[at].found[k].score;
    order.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let mut is_taken: Vec<Vec<bool>> = frames.iter().map(|f| vec![false; f.there.len()]).collect();
    let mut hits = Vec::new();
    for (at, k) in order {
        let frame = &frames[at];
        let found = &frame.found[k];
        let best = frame
            .there
            .iter()
            .enumerate()
            .filter(|(other, there)| role(there) == Role::Wanted && !is_taken[at][*other])
            .map(|(other, there)| (other, found.box_in_view.iou(&there.box_in_view)))
            .filter(|(_, iou)| *iou >= least_iou)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((other, _)) = best {
            is_taken[at][other] = true;
            hits.push(true);
            continue;
        }
        let is_on = |there: &There| {
            let shared = found.box_in_view.intersection(&there.box_in_view);
            let shared = shared.map_or(0.0, |b| b.area());
            found.box_in_view.iou(&there.box_in_view) >= least_iou
                || shared >= ON_IGNORED * found.box_in_view.area()
        };
        let mut neutral = frame
            .there
            .iter()
            .filter(|there| role(there) == Role::Neutral);
        if frame.complete.has(found.kind) && !neutral.any(is_on) {
            hits.push(false);
        }
    }
    let wanted = frames.iter().flat_map(|frame| &frame.there);
    let wanted = wanted.filter(|there| role(there) == Role::Wanted).count();
    (hits, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use RoadUser::{Bus, Car, Motorcycle, Person};

    fn at(x: f32) -> BoxXywh {
        BoxXywh::new(x, 10.0, 20.0, 20.0)
    }

    fn found(kind: RoadUser, score: f32, x: f32) -> Found {
        Found {
            kind,
            score,
            box_in_view: at(x),
        }
    }

    fn there(kinds: &[RoadUser], x: f32) -> There {
        There {
            kinds: RoadUsers::of(kinds),
            box_in_view: at(x),
            is_target: true,
        }
    }

    fn frame(found: Vec<Found>, there: Vec<There>) -> FoundFrame {
        FoundFrame {
            found,
            there,
            complete: RoadUsers::ALL,
        }
    }

    #[test]
    fn average_precision_agrees_with_the_curve_by_hand() {
        // Right, wrong, right, right of four targets: recall 1/4, 1/4, 2/4, 3/4 at precision 1, 1/2, 2/3, 3/4.
        let frames = [frame(
            vec![
                found(Car, 0.9, 0.0),
                found(Car, 0.8, 500.0),
                found(Car, 0.7, 100.0),
                found(Car, 0.6, 200.0),
            ],
            [0.0, 100.0, 200.0, 300.0].map(|x| there(&[Car], x)).into(),
        )];
        let by_hand = 0.25 * 1.0 + 0.25 * 0.75 + 0.25 * 0.75;
        let ap = average_precision(&frames, Car, 0.5);
        assert!((ap.unwrap_or(0.0) - by_hand).abs() < 1e-12, "{ap:?}");
        assert_eq!(average_precision(&frames, Bus, 0.5), None);
    }

    #[test]
    fn an_object_found_twice_is_a_false_alarm_the_second_time() {
        let frames = [frame(
            vec![found(Car, 0.9, 0.0), found(Car, 0.95, 2.0)],
            vec![there(&[Car], 0.0), there(&[Car], 300.0)],
        )];
        assert_eq!(average_precision(&frames, Car, 0.5), Some(0.5));
        assert_eq!(recall_at_false_alarms(&frames, 0.0, 0.5), 0.5);
    }

    #[test]
    fn what_lies_on_ignored_or_ambiguous_objects_or_is_not_labelled_is_no_false_alarm() {
        let crowd = There {
            is_target: false,
            box_in_view: BoxXywh::new(400.0, 0.0, 200.0, 100.0),
            ..there(&[Person], 0.0)
        };
        let there = vec![
            there(&[Car], 0.0),
            there(&[Car, Bus], 100.0),
            there(&[Motorcycle], 200.0),
            crowd,
        ];
        let found = vec![
            found(Car, 0.99, 100.0),
            found(Car, 0.9, 0.0),
            found(Person, 0.9, 450.0),
            found(Person, 0.8, 200.0),
        ];
        let frames = [frame(found, there)];
        assert_eq!(average_precision(&frames, Car, 0.5), Some(1.0));
        let persons = hits(&frames, &|f| f.kind == Person, &|_| Role::Other, 0.5).0;
        assert_eq!(persons, [false, false], "but for their surroundings");
        let (persons, _) = hits(
            &frames,
            &|f| f.kind == Person,
            &|t| match t.kinds.has(Person) || unsaid_within(t.kinds).has(Person) {
                true => Role::Neutral,
                false => Role::Other,
            },
            0.5,
        );
        assert!(persons.is_empty());
        let silent = FoundFrame {
            complete: RoadUsers::of(&[Car]),
            ..frames[0].clone()
        };
        let (all, _) = hits(&[silent], &|f| f.kind == Person, &|_| Role::Other, 0.5);
        assert!(all.is_empty(), "nobody boxes persons there");
    }

    #[test]
    fn recall_stops_where_there_are_too_many_false_alarms() {
        let frames = [
            frame(
                vec![found(Car, 0.9, 0.0), found(Bus, 0.8, 900.0)],
                vec![there(&[Car], 0.0)],
            ),
            frame(
                vec![
                    found(Car, 0.7, 800.0),
                    found(Car, 0.6, 900.0),
                    // Called by another name, and found all the same.
                    found(Bus, 0.5, 0.0),
                ],
                vec![there(&[Car], 0.0)],
            ),
        ];
        assert_eq!(recall_at_false_alarms(&frames, 1.0, 0.5), 0.5);
        assert_eq!(recall_at_false_alarms(&frames, 1.5, 0.5), 1.0);
        assert_eq!(recall_at_false_alarms(&[], 1.0, 0.5), 0.0);
    }
}
