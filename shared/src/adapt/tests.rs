#![allow(clippy::unwrap_used)]
use alloc::string::ToString;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::mix::SplitMix64;

const FPS: u64 = 30;

fn at(frame: u64) -> Timestamp {
    Timestamp(frame * 1_000_000 / FPS)
}

fn tracked(frame: u64) -> Look {
    Look {
        at: at(frame),
        phase: Phase::Tracking,
        presence: 0.95,
    }
}

fn adapter(channels: &[usize]) -> Adapter {
    Adapter::new(AdaptConfig::default(), channels).unwrap()
}

/// Cells of two channels about these means, with these deviations, in deviations of the source.
fn cells(seed: u64, means: [f32; 2], deviations: [f32; 2]) -> Vec<u8> {
    let mut stream = SplitMix64(seed);
    let mut next = |mean: f32, deviation: f32| {
        // A uniform number of deviation 1.
        let uniform = (stream.next() >> 40) as f32 / (1u64 << 24) as f32;
        let z = mean + deviation * (uniform - 0.5) * libm::sqrtf(12.0);
        (z * SAMPLE_STEPS + f32::from(SAMPLE_ZERO)).clamp(0.0, 255.0) as u8
    };
    (0..64)
        .flat_map(|_| [0, 1].map(|c| next(means[c], deviations[c])))
        .collect()
}

fn run(
    adapter: &mut Adapter,
    frames: core::ops::Range<u64>,
    look: impl Fn(u64) -> Look,
) -> Vec<Action> {
    frames
        .map(|frame| {
            adapter.sample(0, &cells(frame, [0.8, -0.4], [1.3, 0.7]));
            adapter.look(look(frame))
        })
        .collect()
}

#[test]
fn what_lies_elsewhere_is_brought_back_by_strength() {
    let config = AdaptConfig {
        strength: 1.0,
        max_shift: 2.0,
        max_scale: 3.0,
        ..AdaptConfig::default()
    };
    let mut adapter = Adapter::new(config, &[2]).unwrap();
    let actions = run(&mut adapter, 0..900, tracked);
    assert!(actions.contains(&Action::Adjust));
    let found = adapter.adjustments(0);
    for (found, (shift, deviation)) in found.iter().zip([(0.8, 1.3), (-0.4, 0.7)]) {
        assert!((found.shift - shift).abs() < 0.05, "{found:?}");
        assert!((found.scale - 1.0 / deviation).abs() < 0.05, "{found:?}");
    }
    assert_eq!(adapter.adapted().state, State::Learning);
    assert_eq!(adapter.adapted().recoveries, 0);
}

#[test]
fn the_source_itself_changes_nothing() {
    let mut adapter = adapter(&[2]);
    for frame in 0..900 {
        adapter.sample(0, &cells(frame, [0.0; 2], [1.0; 2]));
        assert_eq!(adapter.look(tracked(frame)), Action::Keep);
    }
    assert_eq!(adapter.adjustments(0), [Adjustment::NONE; 2]);
}

#[test]
fn what_is_learned_depends_on_time_and_not_on_the_number_of_frames() {
    let learned = |every: u64| {
        let config = AdaptConfig {
            max_shift: 4.0,
            ..AdaptConfig::default()
        };
        let mut adapter = Adapter::new(config, &[1]).unwrap();
        for frame in (0..60).step_by(every as usize) {
            adapter.sample(0, &[SAMPLE_ZERO + 48; 4]);
            adapter.look(tracked(frame));
        }
        adapter.layers[0].moments[0].mean
    };
    let (often, seldom) = (learned(1), learned(4));
    assert!((often - seldom).abs() < 0.1 * often, "{often} and {seldom}");
}

#[test]
fn nothing_is_learned_while_nobody_knows_what_is_seen() {
    for look in [
        |frame| Look {
            phase: Phase::Uncertain,
            ..tracked(frame)
        },
        |frame| Look {
            presence: 0.5,
            ..tracked(frame)
        },
        |frame| Look {
            presence: f32::NAN,
            ..tracked(frame)
        },
        |frame| Look {
            phase: Phase::Idle,
            ..tracked(frame)
        },
    ] {
        let mut adapter = adapter(&[2]);
        let actions = run(&mut adapter, 0..300, look);
        assert!(actions.iter().all(|a| *a == Action::Keep));
        assert!(matches!(adapter.adapted().state, State::Frozen { .. }));
    }
}

#[test]
fn what_was_found_stays_while_it_is_frozen() {
    let mut adapter = adapter(&[2]);
    run(&mut adapter, 0..300, tracked);
    let found = adapter.adjustments(0).to_vec();
    assert_ne!(found, [Adjustment::NONE; 2]);
    let unsure = |frame| Look {
        presence: 0.5,
        ..tracked(frame)
    };
    let actions = run(&mut adapter, 300..600, unsure);
    assert!(actions.iter().all(|a| *a == Action::Keep));
    assert_eq!(adapter.adjustments(0), found);
}

#[test]
fn a_collapse_of_presence_brings_the_source_back_and_a_rest() {
    let mut adapter = adapter(&[2]);
    run(&mut adapter, 0..300, tracked);
    let low = |frame| Look {
        presence: 0.1,
        ..tracked(frame)
    };
    // Half a second of it, and not before.
    let actions = run(&mut adapter, 300..316, low);
    let restored = actions.iter().position(|a| *a == Action::Restore);
    assert_eq!(restored, Some(15));
    assert_eq!(adapter.adjustments(0), [Adjustment::NONE; 2]);
    // Ten seconds of rest, then it learns again from nothing.
    let actions = run(&mut adapter, 316..610, tracked);
    assert!(actions.iter().all(|a| *a == Action::Keep));
    assert_eq!(adapter.adapted().state.name(), "resting");
    let actions = run(&mut adapter, 610..900, tracked);
    assert!(actions.contains(&Action::Adjust));
    assert_eq!(adapter.adapted().recoveries, 1);
}

#[test]
fn a_moment_of_low_presence_is_no_collapse() {
    let mut adapter = adapter(&[2]);
    let flickers = |frame| Look {
        presence: if frame % 10 < 8 { 0.1 } else { 0.9 },
        ..tracked(frame)
    };
    let actions = run(&mut adapter, 0..600, flickers);
    assert!(!actions.contains(&Action::Restore));
}

#[test]
fn a_lost_target_brings_the_source_back_at_once_and_only_once() {
    let mut adapter = adapter(&[2]);
    run(&mut adapter, 0..300, tracked);
    let lost = |frame| Look {
        phase: Phase::Lost,
        ..tracked(frame)
    };
    let actions = run(&mut adapter, 300..900, lost);
    assert_eq!(actions[0], Action::Restore);
    assert!(actions[1..].iter().all(|a| *a == Action::Keep));
}

#[test]
fn a_target_that_was_lost_before_anything_changed_needs_no_recovery() {
    let mut adapter = adapter(&[2]);
    let lost = |frame| Look {
        phase: Phase::Lost,
        presence: 0.0,
        ..tracked(frame)
    };
    let actions = run(&mut adapter, 0..300, lost);
    assert!(actions.iter().all(|a| *a == Action::Keep));
    assert_eq!(adapter.adapted().recoveries, 0);
}

#[test]
fn a_channel_that_stands_still_or_is_saturated_gets_the_bound() {
    let mut adapter = adapter(&[2]);
    for frame in 0..900 {
        adapter.sample(0, &[SAMPLE_ZERO, 255].repeat(16));
        adapter.look(tracked(frame));
    }
    let [still, full] = adapter.adjustments(0) else {
        panic!("two channels");
    };
    let config = AdaptConfig::default();
    assert_eq!((still.shift, still.scale), (0.0, config.max_scale));
    assert_eq!(
        (full.shift, full.scale),
        (config.max_shift, config.max_scale)
    );
}

#[test]
fn constants_that_cannot_be_are_refused_by_name() {
    let refused = |config: AdaptConfig| config.validate().unwrap_err().to_string();
    let config = AdaptConfig {
        max_scale: 0.5,
        ..AdaptConfig::default()
    };
    assert_eq!(
        refused(config),
        "adapt.max_scale: found 0.5, expected 1 to 4"
    );
    let config = AdaptConfig {
        recover_below_presence: 0.9,
        ..AdaptConfig::default()
    };
    assert!(
        refused(config)
            .starts_with("adapt.recover_below_presence is 0.9, above adapt.learn_above_presence")
    );
    assert!(AdaptConfig::default().validate().is_ok());
}

#[test]
fn statistics_that_cannot_be_are_refused_by_layer() {
    let good = SourceStatistics {
        crops: 3,
        layers: [0, 1]
            .map(|i| LayerStatistics {
                tensor: alloc::format!("relu{i}"),
                mean: alloc::vec![0.5, -1.0],
                deviation: alloc::vec![1.0, 2.0],
            })
            .to_vec(),
    };
    assert!(good.validate().is_ok());
    let spoil = |what: &dyn Fn(&mut LayerStatistics)| {
        let mut bad = good.clone();
        what(&mut bad.layers[1]);
        bad.validate().unwrap_err().to_string()
    };
    for (said, key) in [
        (spoil(&|l| l.deviation[1] = 0.0), "layers.1.deviation"),
        (spoil(&|l| l.deviation[1] = f32::NAN), "layers.1.deviation"),
        (spoil(&|l| l.deviation.truncate(1)), "layers.1.deviation"),
        (spoil(&|l| l.mean[0] = f32::INFINITY), "layers.1.mean"),
        (spoil(&|l| l.mean.clear()), "layers.1.mean"),
        (spoil(&|l| l.tensor = "relu0".into()), "layers.1.tensor"),
    ] {
        assert!(said.starts_with(key), "{said}");
    }
}

fn phases() -> impl Strategy<Value = Phase> {
    prop_oneof![
        6 => Just(Phase::Tracking),
        1 => Just(Phase::Uncertain),
        1 => Just(Phase::Lost),
        1 => Just(Phase::Idle),
    ]
}

proptest! {
    #[test]
    fn adjustments_stay_within_their_bounds_whatever_comes(
        looks in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..40), phases(), prop_oneof![-1.0f32..2.0, Just(f32::NAN)], 0u64..3_000_000),
            1..120,
        ),
        strength in 0.0f32..=1.0, max_scale in 1.0f32..=4.0, max_shift in 0.0f32..=4.0, least_change in 0.0f32..0.1,
    ) {
        let config = AdaptConfig { strength, max_scale, max_shift, least_change, ..AdaptConfig::default() };
        let mut adapter = Adapter::new(config, &[3, 5]).unwrap();
        let mut again = adapter.clone();
        let mut now = 0;
        for (bytes, phase, presence, micros) in &looks {
            now += micros;
            let look = Look { at: Timestamp(now), phase: *phase, presence: *presence };
            let act = |adapter: &mut Adapter| {
                adapter.sample(0, bytes);
                adapter.sample(1, bytes);
                adapter.sample(2, bytes);
                adapter.look(look)
            };
            let action = act(&mut adapter);
            prop_assert_eq!(action, act(&mut again), "the same input, another action");
            for layer in 0..2 {
                prop_assert_eq!(adapter.adjustments(layer), again.adjustments(layer));
                for found in adapter.adjustments(layer) {
                    prop_assert!(found.scale >= 1.0 / max_scale && found.scale <= max_scale, "{:?}", found);
                    prop_assert!(found.shift.abs() <= max_shift, "{:?}", found);
                    if action == Action::Restore {
                        prop_assert_eq!(*found, Adjustment::NONE);
                    }
                }
            }
            let told = adapter.adapted();
            prop_assert!(told.shift.is_finite() && told.log_scale.is_finite());
            prop_assert!(told.recoveries <= told.changes);
        }
    }

    #[test]
    fn constants_change_no_more_often_than_they_may(
        steps in prop::collection::vec((any::<u8>(), 1_000u64..400_000), 1..200),
    ) {
        let config = AdaptConfig { least_change: 0.0, ..AdaptConfig::default() };
        let mut adapter = Adapter::new(config, &[1]).unwrap();
        let (mut now, mut last) = (0, None);
        for (byte, micros) in steps {
            now += micros;
            adapter.sample(0, &[byte; 4]);
            let look = Look { at: Timestamp(now), phase: Phase::Tracking, presence: 1.0 };
            if adapter.look(look) == Action::Adjust {
                let since = last.map_or(f32::MAX, |last| Timestamp(now).seconds_since(last));
                prop_assert!(since >= config.change_every_seconds);
                last = Some(Timestamp(now));
            }
        }
    }
}
