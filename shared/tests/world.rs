//! The rendered world: same seed, same bytes; truth that fits the picture; regions that differ.
#![allow(clippy::unwrap_used)]

use roadhound_shared::contract::sha256_hex;
use roadhound_shared::world::{
    Class, ObjectTruth, Region, Scenario, Scratch, Sequence, WorldConfig,
};

fn small(region: Region, frames: u32) -> WorldConfig {
    WorldConfig {
        width_px: 160,
        height_px: 96,
        frames,
        ..WorldConfig::of(region)
    }
}

/// Frames of one sequence, in the order asked for, by one set of buffers.
fn rendered(
    config: &WorldConfig,
    seed: u64,
    index: u32,
    frames: &[u32],
) -> Vec<(Vec<u8>, Vec<ObjectTruth>)> {
    let sequence = Sequence::new(config, seed, index).unwrap();
    let mut scratch = Scratch::new(config.width_px, config.height_px);
    frames
        .iter()
        .map(|&frame| {
            let mut rgb = Vec::new();
            let truth = sequence.render(frame, &mut scratch, &mut rgb);
            (rgb, truth)
        })
        .collect()
}

#[test]
fn a_frame_does_not_depend_on_what_was_rendered_before() {
    for region in [Region::Us, Region::India] {
        let config = small(region, 8);
        let forth = rendered(&config, 3, 1, &[0, 3, 7]);
        let back = rendered(&config, 3, 1, &[7, 3, 0]);
        assert!(forth[0] == back[2] && forth[1] == back[1] && forth[2] == back[0]);
        assert_ne!(forth[0].0, forth[2].0, "{region:?}: nothing moves");
    }
}

#[test]
fn seed_and_sequence_each_make_another_world() {
    let config = small(Region::India, 2);
    let first = rendered(&config, 3, 1, &[0]);
    assert_ne!(first, rendered(&config, 4, 1, &[0]));
    assert_ne!(first, rendered(&config, 3, 2, &[0]));
}

#[test]
fn a_small_frame_has_the_bytes_it_had_when_it_was_last_looked_at() {
    let frames = [Region::Us, Region::India].map(|region| {
        let (rgb, _) = rendered(&small(region, 4), 11, 0, &[2]).remove(0);
        sha256_hex(&rgb)
    });
    assert_eq!(frames, GOLDEN);
}

/// Change them when a picture is meant to change, after looking at it.
const GOLDEN: [&str; 2] = [
    "0c3447171082ff78fa6d6e65c8ea4d70213c34cda768f514156ef83d1972ed41",
    "2f035c8500c1baf70847f77f5008e6c0f89ec8adfc695d073c300a3738c3c586",
];

#[test]
fn boxes_lie_on_the_image_and_the_visible_part_in_the_full_one() {
    for region in [Region::Us, Region::India] {
        let config = small(region, 30);
        let mut seen = 0;
        for index in 0..4 {
            for (_, truth) in rendered(&config, 5, index, &[0, 15, 29]) {
                for o in truth {
                    let full = o.full_box;
                    assert!(full.x_px >= 0.0 && full.y_px >= 0.0, "{o:?}");
                    assert!(
                        full.x_px + full.w_px <= 160.0 && full.y_px + full.h_px <= 96.0,
                        "{o:?}"
                    );
                    assert!((0.0..=1.0).contains(&o.visible_share), "{o:?}");
                    assert_eq!(o.visible_box.is_some(), o.visible_share > 0.0, "{o:?}");
                    if let Some(part) = o.visible_box {
                        seen += 1;
                        let eps = 1e-3;
                        assert!(
                            part.x_px >= full.x_px - eps && part.y_px >= full.y_px - eps,
                            "{o:?}"
                        );
                        assert!(
                            part.x_px + part.w_px <= full.x_px + full.w_px + eps,
                            "{o:?}"
                        );
                        assert!(
                            part.y_px + part.h_px <= full.y_px + full.h_px + eps,
                            "{o:?}"
                        );
                        if o.visible_share == 1.0 {
                            assert_eq!(part, full);
                        }
                    }
                }
            }
        }
        assert!(seen > 40, "{region:?}: {seen} boxes");
    }
}

#[test]
fn a_box_follows_its_object_without_jumps() {
    let config = small(Region::Us, 20);
    let frames: Vec<u32> = (0..20).collect();
    let mut steps = 0;
    for index in 0..3 {
        let truths = rendered(&config, 9, index, &frames);
        for pair in truths.windows(2) {
            for now in pair[1].1.iter().filter(|o| !o.cut && !o.ignore) {
                let Some(before) = pair[0].1.iter().find(|o| o.instance == now.instance) else {
                    continue;
                };
                assert_eq!(before.class, now.class);
                if !before.cut && !before.ignore {
                    steps += 1;
                    let iou = before.full_box.iou(&now.full_box);
                    assert!(iou > 0.3, "{index}: {before:?} then {now:?}");
                }
            }
        }
    }
    assert!(steps > 100, "{steps}");
}

#[test]
fn india_has_autorickshaws_and_more_two_wheelers_than_the_us() {
    let count = |region, wanted: &[Class]| -> usize {
        let config = small(region, 2);
        (0..6)
            .flat_map(|index| rendered(&config, 2, index, &[0]).remove(0).1)
            .filter(|o| wanted.contains(&o.class))
            .count()
    };
    assert_eq!(count(Region::Us, &[Class::Autorickshaw]), 0);
    assert!(count(Region::India, &[Class::Autorickshaw]) > 0);
    let two = [Class::Motorcycle, Class::Bicycle];
    assert!(count(Region::India, &two) > 2 * count(Region::Us, &two));
}

#[test]
fn the_target_of_an_occlusion_is_seen_then_hidden_for_about_two_seconds_then_seen_again() {
    for region in [Region::Us, Region::India] {
        for index in 0..4 {
            let config = WorldConfig {
                width_px: 320,
                height_px: 180,
                fps: 10.0,
                scenario: Scenario::Occlusion,
                ..small(region, 80)
            };
            let sequence = Sequence::new(&config, 5, index).unwrap();
            let target = sequence.target().unwrap();
            let frames: Vec<u32> = (0..80).collect();
            let present: Vec<bool> = rendered(&config, 5, index, &frames)
                .iter()
                .map(|(_, truth)| truth.iter().any(|o| o.instance == target && !o.absent))
                .collect();
            let first = present.iter().position(|p| !p).unwrap();
            let gone = present[first..].iter().position(|p| *p).unwrap();
            assert!(first > 10, "{region:?} {index}: hidden from frame {first}");
            assert!(
                (12..=32).contains(&gone),
                "{region:?} {index}: hidden for {gone} frames"
            );
        }
    }
}

#[test]
fn worlds_out_of_range_are_refused_by_field_and_value() {
    let mut config = small(Region::Us, 4);
    config.place.lanes = [3, 2];
    let error = Sequence::new(&config, 0, 0).err().unwrap().to_string();
    assert!(error.contains("place.lanes is 3"), "{error}");
    let mut config = small(Region::Us, 4);
    config.conditions.night = f32::NAN;
    let error = Sequence::new(&config, 0, 0).err().unwrap().to_string();
    assert!(error.contains("conditions.night is NaN"), "{error}");
    let refused = |change: &dyn Fn(&mut WorldConfig), words: &str| {
        let mut config = small(Region::India, 4);
        change(&mut config);
        let error = Sequence::new(&config, 0, 0).err().map(|e| e.to_string());
        assert!(
            error.as_ref().is_some_and(|e| e.contains(words)),
            "{error:?}"
        );
    };
    refused(&|c| c.place.mix.sedan = f32::NAN, "place.mix.sedan is NaN");
    refused(&|c| c.place.mix.cart = -1.0, "place.mix.cart is -1");
    refused(&|c| c.place.mix.suv = f32::INFINITY, "place.mix.suv is inf");
    refused(
        &|c| c.place.haze_warmth = f32::NAN,
        "place.haze_warmth is NaN",
    );
    let nobody = &|c: &mut WorldConfig| {
        let text = toml::to_string(&c.place.mix).unwrap();
        let zeros: Vec<String> = text
            .lines()
            .map(|line| format!("{} = 0.0", line.split(' ').next().unwrap()))
            .collect();
        c.place.mix = toml::from_str(&zeros.join("\n")).unwrap();
    };
    refused(nobody, "place.mix is 0, expected a sum above 0");
}

#[test]
fn a_world_is_written_and_read_as_toml_and_refuses_unknown_keys() {
    let config = WorldConfig::of(Region::India);
    let text = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<WorldConfig>(&text).unwrap(), config);
    let error = toml::from_str::<WorldConfig>(&format!("gravity = 1\n{text}")).unwrap_err();
    assert!(error.to_string().contains("gravity"), "{error}");
}
