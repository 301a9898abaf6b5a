//! How well a trained network tells frames with a fault from frames without, and whether it would alarm on clips.
//!
//! In: a network and [`Statistics`]. Out: thresholds from frames held out, ROC against each fault, and for each clip the
//! largest distance and the alarms that the board's own state machine would raise.

use anyhow::Result;
use candle_core::Tensor;
use roadhound_shared::familiarity::{AlarmConfig, FamiliarityWatch};
use roadhound_shared::frame::Timestamp;

use super::config::ThresholdConfig;
use super::measure::{Errors, PARTS, Statistics};
use crate::labelled::Samples;
use crate::model::Pass;
use crate::report::panels::NamedPoints;
use crate::task::autoencoder::AutoencoderNet;
use crate::task::track::rank_auc;

const EVALUATION_BATCH: usize = 100;

/// Codes and errors of samples.
///
/// # Errors
/// If an operator fails.
pub fn look(net: &AutoencoderNet, samples: &Samples) -> Result<(Vec<Vec<f32>>, Vec<Errors>)> {
    let shape = samples.shape();
    let (mut codes, mut errors) = (Vec::new(), Vec::new());
    for start in (0..samples.len()).step_by(EVALUATION_BATCH) {
        let end = samples.len().min(start + EVALUATION_BATCH);
        let rows = samples.rows(start..end);
        let x = Tensor::from_slice(&rows, (end - start, shape.len()), net.device())?;
        let code = net.code_of(&net.encoder().forward(&x, Pass::Eval)?)?;
        let decoded = net.decode(&code)?.to_vec2::<f32>()?;
        codes.extend(code.to_vec2::<f32>()?);
        let pairs = rows.chunks_exact(shape.len()).zip(&decoded);
        errors.extend(pairs.map(|(x, y)| Errors::of(x, y, shape)));
    }
    Ok((codes, errors))
}

/// [Parts](Statistics::parts) of the distances of samples.
///
/// # Errors
/// If an operator fails.
pub fn parts(
    net: &AutoencoderNet,
    statistics: &Statistics,
    samples: &Samples,
) -> Result<Vec<[f32; PARTS]>> {
    let (codes, errors) = look(net, samples)?;
    let pairs = codes.iter().zip(&errors);
    Ok(pairs
        .map(|(code, errors)| statistics.parts(code, errors))
        .collect())
}

/// The distance that each has: the largest part.
pub fn largest(parts: &[[f32; PARTS]]) -> Vec<f32> {
    let largest = |parts: &[f32; PARTS]| parts.iter().copied().fold(f32::MIN, f32::max);
    parts.iter().map(largest).collect()
}

/// Distances of samples.
///
/// # Errors
/// If an operator fails.
pub fn distances(
    net: &AutoencoderNet,
    statistics: &Statistics,
    samples: &Samples,
) -> Result<Vec<f32>> {
    Ok(largest(&parts(net, statistics, samples)?))
}

/// What each part would tell by itself, at the same threshold.
pub fn told_by_part(
    faulted: &[[f32; PARTS]],
    normal: &[[f32; PARTS]],
    alarm: &AlarmConfig,
) -> [Told; PARTS] {
    std::array::from_fn(|part| {
        let of = |all: &[[f32; PARTS]]| -> Vec<f32> { all.iter().map(|p| p[part]).collect() };
        told(&of(faulted), &of(normal), alarm)
    })
}

/// The value below which this share of the values lies.
pub fn quantile(values: &[f32], share: f64) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * share).ceil() as usize)
        .copied()
        .unwrap_or(f32::NAN)
}

/// The value below which this share of the frames of all sources lies, where every source weighs the same.
fn quantile_of_sources(by_source: &[Vec<f32>], share: f64) -> f32 {
    let mut weighed: Vec<(f32, f64)> = Vec::new();
    let sources = by_source.iter().filter(|values| !values.is_empty());
    let count = sources.clone().count() as f64;
    for values in sources {
        let weight = 1.0 / (count * values.len() as f64);
        weighed.extend(values.iter().map(|value| (*value, weight)));
    }
    weighed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut below = 0.0;
    let found = weighed.iter().find(|(_, weight)| {
        below += weight;
        below >= share - 1e-9
    });
    found.or(weighed.last()).map_or(0.0, |(value, _)| *value)
}

/// Thresholds from distances of frames held out, every source weighing the same. Not from the source that lies furthest:
/// one drive out of a tunnel, blinded itself, would speak for all.
pub fn alarm(by_source: &[Vec<f32>], config: &ThresholdConfig) -> AlarmConfig {
    let usual = quantile_of_sources(by_source, config.quantile);
    let above = usual * config.margin as f32;
    AlarmConfig {
        distance_above: above,
        clear_below: above * config.clear_share as f32,
        every_millis: config.every_millis,
        after_millis: config.after_millis,
        clear_after_millis: config.clear_after_millis,
    }
}

/// How one fault is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Area under the ROC.
    pub auc: f64,
    /// Share beyond the upper threshold.
    pub caught: f64,
    /// Share of frames without a fault beyond it.
    pub false_alarms: f64,
}

/// Distances with a fault against distances without.
pub fn told(faulted: &[f32], normal: &[f32], alarm: &AlarmConfig) -> Told {
    let numbers = |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
    let beyond = |values: &[f32]| {
        let count = values.iter().filter(|v| **v > alarm.distance_above).count();
        count as f64 / values.len().max(1) as f64
    };
    Told {
        auc: rank_auc(&numbers(faulted), &numbers(normal)),
        caught: beyond(faulted),
        false_alarms: beyond(normal),
    }
}

/// Points of the ROC.
pub fn roc(name: &str, faulted: &[f32], normal: &[f32]) -> NamedPoints {
    let mut all: Vec<(f32, bool)> = faulted
        .iter()
        .map(|d| (*d, true))
        .chain(normal.iter().map(|d| (*d, false)))
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut caught, mut wrong) = (0u32, 0u32);
    let mut points = vec![(0.0, 0.0)];
    for (_, is_fault) in all {
        match is_fault {
            true => caught += 1,
            false => wrong += 1,
        }
        points.push((
            f64::from(wrong) / normal.len().max(1) as f64,
            f64::from(caught) / faulted.len().max(1) as f64,
        ));
    }
    NamedPoints {
        name: name.to_owned(),
        points,
    }
}

/// What the board would do on a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct OnClip {
    /// How long it is.
    pub seconds: f64,
    /// Alarms that begin.
    pub alarms: u32,
    /// When the first of them does.
    pub first_seconds: Option<f64>,
    /// The middle of the distances.
    pub median: f32,
    /// The largest of them.
    pub largest: f32,
    /// Share of the looks beyond the upper threshold.
    pub beyond: f64,
}

/// Runs the board's state machine over the distances of a clip, which are `micros` apart.
pub fn on_clip(distances: &[f32], micros: u64, alarm: &AlarmConfig) -> OnClip {
    let mut watch = FamiliarityWatch::new(*alarm);
    let (mut alarms, mut first_seconds) = (0, None);
    for (at, distance) in (0..).map(|k| Timestamp(k * micros)).zip(distances) {
        if !watch.is_due(at) {
            continue;
        }
        let before = watch.health();
        let after = watch.accept(*distance, at);
        if after.is_alarm() && !before.is_alarm() {
            alarms += 1;
            first_seconds = first_seconds.or(Some(at.0 as f64 / 1e6));
        }
    }
    let beyond = distances
        .iter()
        .filter(|d| **d > alarm.distance_above)
        .count();
    OnClip {
        seconds: (distances.len() as u64 * micros) as f64 / 1e6,
        alarms,
        first_seconds,
        median: quantile(distances, 0.5),
        largest: distances.iter().copied().fold(0.0, f32::max),
        beyond: beyond as f64 / distances.len().max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: ThresholdConfig = ThresholdConfig {
        reach: 0.99,
        quantile: 0.9,
        margin: 2.0,
        clear_share: 0.5,
        every_millis: 1000,
        after_millis: 2000,
        clear_after_millis: 2000,
    };

    #[test]
    fn thresholds_come_from_all_sources_alike_and_one_bad_drive_does_not_move_them() {
        let near: Vec<f32> = (1..=11).map(|v| v as f32 * 0.1).collect();
        let mut far: Vec<f32> = (1..=110).map(|v| v as f32 * 0.02).collect();
        let found = alarm(&[near.clone(), vec![], far.clone()], &CONFIG);
        // A fifth of the many lies beyond 1.76, and none of the few: a tenth of both.
        assert!(
            (found.distance_above - 2.0 * 1.76).abs() < 1e-4,
            "{found:?}"
        );
        assert!((found.clear_below - 1.76).abs() < 1e-4);
        for value in &mut far[100..] {
            *value = 50.0;
        }
        assert_eq!(alarm(&[near.clone(), far], &CONFIG), found);
        assert_eq!(quantile(&near, 1.0), 1.1);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn areas_and_shares_are_those_of_the_counts() {
        let alarm = alarm(&[vec![1.0]], &CONFIG);
        let found = told(&[3.0, 1.5, 9.0, 2.5], &[1.0, 2.0], &alarm);
        // Of eight pairs the fault at 1.5 loses one.
        assert_eq!(
            found,
            Told {
                auc: 0.875,
                caught: 0.75,
                false_alarms: 0.0
            }
        );
        let curve = roc("x", &[3.0, 1.5], &[1.0, 2.0]).points;
        assert_eq!(
            curve,
            [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]
        );
    }

    #[test]
    fn each_part_is_told_by_itself_and_the_distance_is_the_largest() {
        let alarm = alarm(&[vec![1.0]], &CONFIG);
        let normal = [[0.5, 0.1, 0.0, 1.0], [0.4, 0.3, -2.0, 0.2]];
        let faulted = [[0.1, 9.0, -1.0, 1.1], [0.6, 1.0, -3.0, 2.5]];
        assert_eq!(largest(&faulted), [9.0, 2.5]);
        let found = told_by_part(&faulted, &normal, &alarm);
        let areas = found.each_ref().map(|told| told.auc);
        assert_eq!(areas, [0.5, 1.0, 0.25, 1.0]);
        let caught = found.map(|told| told.caught);
        assert_eq!(caught, [0.0, 0.5, 0.0, 0.5]);
    }

    #[test]
    fn a_clip_alarms_only_where_the_board_would() {
        let alarm = alarm(&[vec![1.0]], &CONFIG);
        // A look a second: half of the frames are not looked at.
        let blink = [1.0, 9.0, 1.0, 9.0, 1.0, 9.0, 1.0, 9.0];
        assert_eq!(on_clip(&blink, 500_000, &alarm).alarms, 0);
        let covered = [1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0];
        let found = on_clip(&covered, 500_000, &alarm);
        assert_eq!((found.alarms, found.largest, found.beyond), (1, 9.0, 0.75));
        assert_eq!((found.seconds, found.first_seconds), (4.0, Some(3.0)));
    }
}
