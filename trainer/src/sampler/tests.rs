#![allow(clippy::unwrap_used)]
use std::path::Path;

use proptest::prelude::*;

use rand::Rng;

use super::*;
use crate::data::{DataConfig, PackConfig, PackKind};

const RED: [u8; 3] = [250, 10, 10];

/// A pack whose images are grey with one red rectangle, exactly where the annotation says.
fn write_pack(root: &Path, name: &str, kind: PackKind, sequences: &[(&str, &[[u32; 4]])]) {
    let folder = root.join(name);
    let mut lines = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
    for (sequence, boxes) in sequences {
        for (frame, &[x, y, w, h]) in boxes.iter().enumerate() {
            let image = image::RgbImage::from_fn(240, 180, |px, py| {
                let inside = (x..x + w).contains(&px) && (y..y + h).contains(&py);
                image::Rgb(if inside { RED } else { [100, 110, 100] })
            });
            let path = match kind {
                PackKind::Video => folder.join(format!("images/{sequence}/{frame:05}.png")),
                _ => folder.join(format!("images/{sequence}.png")),
            };
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image.save(path).unwrap();
            lines += &format!("{sequence},{frame},4,car,{x},{y},{w},{h},-1\n");
        }
    }
    std::fs::write(folder.join("boxes.csv"), lines).unwrap();
}

fn pack(name: &str, kind: PackKind, weight: f32) -> PackConfig {
    let held_out = Some(vec![]);
    PackConfig {
        name: name.into(),
        kind,
        weight,
        path: None,
        held_out,
        fixed_camera_prefixes: vec![],
        read: Default::default(),
    }
}

fn write_packs(root: &Path) -> DataConfig {
    let frames: Vec<[u32; 4]> = (0..12)
        .map(|i| [40 + 6 * i, 60 + 2 * i, 40 + i, 30])
        .collect();
    let (near, far) = ([[20, 30, 60, 40]], [[150, 100, 36, 50]]);
    write_pack(
        root,
        "video",
        PackKind::Video,
        &[("a", &frames), ("b", &frames[..1])],
    );
    write_pack(
        root,
        "stills",
        PackKind::Stills,
        &[("c", &near), ("d", &far), ("e", &near)],
    );
    DataConfig {
        root: root.to_owned(),
        packs: vec![
            pack("video", PackKind::Video, 0.6),
            pack("stills", PackKind::Stills, 0.4),
        ],
        ..DataConfig::default()
    }
}

fn sampler(config: SamplerConfig, augment: AugmentConfig) -> (tempfile::TempDir, Sampler) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Arc::new(Dataset::open(&write_packs(folder.path())).unwrap());
    let sampler = Sampler::new(dataset, config, augment, Split::Train, 11).unwrap();
    (folder, sampler)
}

/// Edges of the red part of a crop, to a fraction of a pixel from how much of the border pixels is red.
fn red_box(pixels: &[u8], side: usize) -> Option<[f32; 4]> {
    let redness = |x: usize, y: usize| {
        let p = &pixels[(y * side + x) * 3..][..3];
        // The border is filled with the mean colour, itself a little red.
        ((f32::from(p[0]) - f32::from(p[1]) - 20.0) / 220.0).clamp(0.0, 1.0)
    };
    let red_columns: Vec<f32> = (0..side)
        .map(|x| (0..side).map(|y| redness(x, y)).fold(0.0, f32::max))
        .collect();
    let red_rows: Vec<f32> = (0..side)
        .map(|y| (0..side).map(|x| redness(x, y)).fold(0.0, f32::max))
        .collect();
    let span = |profile: &[f32]| {
        let first = profile.iter().position(|&red| red > 0.9)?;
        let last = profile.iter().rposition(|&red| red > 0.9)?;
        let before: f32 = profile[..first].iter().sum();
        let after: f32 = profile[last + 1..].iter().sum();
        Some((first as f32 - before, last as f32 + 1.0 + after))
    };
    let ((left, right), (top, bottom)) = (span(&red_columns)?, span(&red_rows)?);
    Some([left, top, right, bottom])
}

#[test]
fn the_box_fits_the_pixels_after_every_geometric_jitter() {
    let config = SamplerConfig {
        negative_share: 0.0,
        elsewhere_share: 0.0,
        ..SamplerConfig::default()
    };
    let (_folder, sampler) = sampler(config, AugmentConfig::none());
    let mut flipped = 0;
    for index in 0..150 {
        let plan = sampler.plan(0, index);
        let pair = sampler
            .draw(0, index, &mut SamplerScratch::default())
            .unwrap();
        flipped += u32::from(plan.flip);
        assert!(pair.present);
        for (pixels, side, expected) in [
            (&pair.search_rgb, 256, pair.box_in_search.to_array()),
            (
                &pair.template_rgb,
                128,
                plan.template.box_in_crop(128, plan.flip).to_array(),
            ),
        ] {
            let expected = expected.map(|edge| edge.clamp(0.0, side as f32));
            let found = red_box(pixels, side).unwrap();
            for (found, expected) in found.into_iter().zip(expected) {
                // Interpolation smears an enlarged edge over a source pixel, evenly to both sides.
                assert!(
                    (found - expected).abs() < 1.2,
                    "pair {index}, {side}: {found} instead of {expected}"
                );
            }
        }
    }
    assert!((40..110).contains(&flipped), "{flipped} of 150 flipped");
}

#[test]
fn what_is_pasted_beside_the_target_leaves_its_centre_visible() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_packs(folder.path());
    // One target that is blue: everything else that could be pasted is red.
    let blue = |x: u32, y: u32| (20..80).contains(&x) && (30..70).contains(&y);
    image::RgbImage::from_fn(240, 180, |x, y| {
        image::Rgb(if blue(x, y) {
            [10, 10, 250]
        } else {
            [100, 110, 100]
        })
    })
    .save(folder.path().join("stills/images/c.png"))
    .unwrap();
    let dataset = Arc::new(Dataset::open(&data).unwrap());
    let config = SamplerConfig {
        negative_share: 0.0,
        elsewhere_share: 0.0,
        ..SamplerConfig::default()
    };
    let mut augment = AugmentConfig::none();
    augment.distractor.share = 1.0;
    augment.distractor.size_px = [120.0, 160.0];
    let sampler = Sampler::new(dataset, config, augment, Split::Train, 11).unwrap();
    let target = sampler.packs[1].tracks[0].instance;
    let (mut looked_at, mut pasted) = (0, 0);
    for index in 0..1200 {
        if sampler.plan(0, index).instance != target {
            continue;
        }
        let pair = sampler.draw(0, index, &mut SamplerScratch::default());
        let pair = pair.unwrap();
        if !pair.present {
            continue;
        }
        let b = pair.box_in_search;
        let [x, y] = [
            (b.left_px + b.right_px) / 2.0,
            (b.top_px + b.bottom_px) / 2.0,
        ];
        let at = (y as usize * 256 + x as usize) * 3;
        let centre = &pair.search_rgb[at..at + 3];
        assert!(
            centre[2] > 200 && centre[0] < 60,
            "pair {index}: {centre:?}"
        );
        looked_at += 1;
        let is_red = |p: &[u8]| p[0] > 200 && p[2] < 60;
        pasted += u32::from(pair.search_rgb.chunks_exact(3).any(is_red));
    }
    assert!(
        looked_at > 60 && pasted * 2 > looked_at,
        "{pasted} of {looked_at}"
    );
}

#[test]
fn a_pair_depends_on_its_seed_epoch_and_index_alone() {
    let (_folder, sampler) = sampler(SamplerConfig::default(), AugmentConfig::default());
    let mut warm = SamplerScratch::default();
    let forwards: Vec<_> = (0..24)
        .map(|index| sampler.draw(1, index, &mut warm).unwrap())
        .collect();
    for index in (0..24).rev() {
        let again = sampler
            .draw(1, index, &mut SamplerScratch::default())
            .unwrap();
        assert_eq!(again, forwards[index as usize], "pair {index}");
    }
    assert_ne!(sampler.draw(2, 0, &mut warm).unwrap(), forwards[0]);
    assert_ne!(forwards[0], forwards[1]);
}

#[test]
fn shares_of_contents_are_met() {
    let (_folder, sampler) = sampler(SamplerConfig::default(), AugmentConfig::none());
    let n = 4000;
    let plans: Vec<_> = (0..n).map(|index| sampler.plan(0, index)).collect();
    let share = |pick: &dyn Fn(&PairPlan) -> bool| {
        plans.iter().filter(|plan| pick(plan)).count() as f32 / n as f32
    };
    let config = sampler.config();
    let absent = share(&|p| p.content != Content::Target);
    // Four standard deviations of the largest share over 4000 draws.
    let close = |found: f32, wanted: f32| (found - wanted).abs() < 0.032;
    assert!(
        close(absent, config.negative_share + config.elsewhere_share),
        "{absent} absent"
    );
    assert!(close(
        share(&|p| p.latest == Latest::Identical),
        config.identical_latest_share
    ));
    let misaligned = share(&|p| matches!(p.latest, Latest::Misaligned(_)));
    assert!(close(
        misaligned,
        (1.0 - config.identical_latest_share) * config.misaligned_latest_share
    ));
    assert!(close(share(&|p| p.flip), 0.5));
    let wide = share(&|p| {
        p.content == Content::Target && {
            let b = p.search.box_in_crop(256, false);
            ((b.left_px + b.right_px) / 2.0 - 128.0).abs() > 64.0
        }
    });
    assert!(
        close(wide, 0.82 * config.wide_shift_share / 3.0),
        "{wide} of the shifts are wide"
    );
}

#[test]
fn packs_are_drawn_by_weight_and_empty_ones_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = write_packs(folder.path());
    write_pack(
        folder.path(),
        "tiny",
        PackKind::Stills,
        &[("f", &[[5, 5, 10, 10]])],
    );
    config.packs.push(pack("tiny", PackKind::Stills, 5.0));
    let dataset = Arc::new(Dataset::open(&config).unwrap());
    let make = |split| {
        Sampler::new(
            dataset.clone(),
            SamplerConfig::default(),
            AugmentConfig::none(),
            split,
            1,
        )
    };
    let sampler = make(Split::Train).unwrap();
    assert_eq!(sampler.track_count(), 5);
    let video: Vec<_> = sampler.packs[0]
        .tracks
        .iter()
        .map(|track| track.instance)
        .collect();
    let from_video = (0..2000)
        .filter(|&i| video.contains(&sampler.plan(0, i).instance))
        .count();
    assert!(
        (1100..1300).contains(&from_video),
        "{from_video} of 2000 at a weight of 0.6"
    );
    let error = make(Split::Validation).unwrap_err().to_string();
    assert!(
        error.contains("no usable target in the validation split"),
        "{error}"
    );
}

#[test]
fn splits_share_no_object() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = write_packs(folder.path());
    config.packs[0].held_out = Some(vec!["b".into()]);
    config.packs[1].held_out = Some(vec!["d".into()]);
    let dataset = Arc::new(Dataset::open(&config).unwrap());
    let instances = |split| {
        let sampler = Sampler::new(
            dataset.clone(),
            SamplerConfig::default(),
            AugmentConfig::none(),
            split,
            1,
        )
        .unwrap();
        sampler
            .packs
            .iter()
            .flat_map(|p| &p.tracks)
            .map(|t| t.instance)
            .collect::<Vec<_>>()
    };
    let (train, validation) = (instances(Split::Train), instances(Split::Validation));
    assert_eq!((train.len(), validation.len()), (3, 2));
    assert!(validation.iter().all(|instance| !train.contains(instance)));
    config.packs[0].held_out = Some(vec!["nowhere".into()]);
    assert!(
        Dataset::open(&config)
            .unwrap_err()
            .to_string()
            .contains("nowhere")
    );
}

#[test]
fn negatives_never_show_the_target_and_elsewhere_never_touches_it() {
    let config = SamplerConfig {
        negative_share: 0.5,
        elsewhere_share: 0.5,
        ..SamplerConfig::default()
    };
    let (_folder, sampler) = sampler(config, AugmentConfig::default());
    let mut elsewhere = 0;
    for index in 0..300 {
        let plan = sampler.plan(0, index);
        match plan.content {
            Content::Target => panic!("pair {index} shows its target"),
            Content::OtherInstance => assert_ne!(plan.search.image, plan.template.image),
            Content::Rival | Content::Hidden => {
                panic!("pair {index}: nothing is annotated for that")
            }
            Content::Elsewhere => {
                elsewhere += 1;
                let b = plan.search.box_in_crop(256, plan.flip);
                assert!(
                    b.right_px <= 0.1
                        || b.left_px >= 255.9
                        || b.bottom_px <= 0.1
                        || b.top_px >= 255.9,
                    "{b:?}"
                );
            }
        }
        if index % 10 == 0 {
            assert!(
                !sampler
                    .draw(0, index, &mut SamplerScratch::default())
                    .unwrap()
                    .present
            );
        }
    }
    assert!(elsewhere > 0);
}

#[test]
fn ignore_regions_are_no_target_and_prove_no_absence() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_packs(folder.path());
    // Everything on `e` is one ignore region; `c` and `d` stay as they are.
    let csv = folder.path().join("stills/boxes.csv");
    let text = std::fs::read_to_string(&csv).unwrap() + "e,0,9,vehicle_group,0,0,240,180,-1\n";
    std::fs::write(csv, text).unwrap();
    let dataset = Arc::new(Dataset::open(&config).unwrap());
    let ignored = dataset.packs()[1].sequences[2].images[0];
    let config = SamplerConfig {
        negative_share: 0.6,
        elsewhere_share: 0.4,
        ..SamplerConfig::default()
    };
    let sampler = Sampler::new(dataset, config, AugmentConfig::none(), Split::Train, 1).unwrap();
    assert_eq!(sampler.track_count(), 5);
    for index in 0..400 {
        let plan = sampler.plan(0, index);
        assert!(
            plan.content == Content::Target || plan.search.image != ignored,
            "pair {index}"
        );
    }
}

#[test]
fn frame_gaps_grow_with_progress() {
    let config = SamplerConfig {
        gap_at_start: 0.0,
        gap_ramp_pairs: 20_000,
        ..SamplerConfig::default()
    };
    let (_folder, sampler) = sampler(config, AugmentConfig::none());
    let first_image = sampler.packs[0].tracks[0].appearances[0].image.index();
    let widest = |epoch| {
        let gap = |i| {
            let plan = sampler.plan(epoch, i);
            let in_long_track =
                plan.template.image.index() < first_image + 12 && plan.content == Content::Target;
            if in_long_track {
                plan.search
                    .image
                    .index()
                    .abs_diff(plan.template.image.index())
            } else {
                0
            }
        };
        (0..500).map(gap).max().unwrap()
    };
    assert_eq!(widest(0), 2);
    assert!(widest(1) >= 10, "{}", widest(1));
}

#[test]
fn pasting_and_occluding_leave_the_box_where_it_was() {
    let config = SamplerConfig {
        negative_share: 0.0,
        elsewhere_share: 0.0,
        ..SamplerConfig::default()
    };
    let mut augment = AugmentConfig::none();
    augment.paste.share = 1.0;
    let (_folder, pasted) = sampler(config.clone(), augment);
    let (_folder2, plain) = sampler(config, AugmentConfig::none());
    let mut scratch = SamplerScratch::default();
    for index in 0..60 {
        // The plan does not depend on augmentation, so both show the same target in the same place.
        let (a, b) = (
            pasted.draw(0, index, &mut scratch).unwrap(),
            plain.draw(0, index, &mut scratch).unwrap(),
        );
        assert_eq!((a.box_in_search, a.present), (b.box_in_search, b.present));
        let [l, t, r, bottom] = a.box_in_search.to_array();
        let (cx, cy) = (((l + r) / 2.0) as usize, ((t + bottom) / 2.0) as usize);
        let at = (cy * 256 + cx) * 3;
        assert_eq!(
            a.search_rgb[at..at + 3],
            b.search_rgb[at..at + 3],
            "the target's middle survives the paste"
        );
    }
}

#[test]
fn a_target_hidden_almost_wholly_is_absent() {
    let config = SamplerConfig {
        negative_share: 0.0,
        elsewhere_share: 0.0,
        ..SamplerConfig::default()
    };
    let mut augment = AugmentConfig::none();
    augment.occluder.absent_share = 1.0;
    let (_folder, sampler) = sampler(config, augment);
    for index in 0..40 {
        let pair = sampler
            .draw(0, index, &mut SamplerScratch::default())
            .unwrap();
        assert!(!pair.present);
    }
}

#[test]
fn occluders_hide_no_more_than_the_share_asked_for() {
    let (_folder, sampler) = sampler(SamplerConfig::default(), AugmentConfig::none());
    let scene = sampler.packs[0].tracks[0].scene;
    let target = BoxLtrb {
        left_px: 90.0,
        top_px: 100.0,
        right_px: 170.0,
        bottom_px: 150.0,
    };
    let blue = [1, 2, 254]; // on no image, so every other pixel of the box is hidden
    for index in 0..60 {
        let mut crop = Crop::filled(256, [100, 110, 100]);
        cover(&mut crop, &target, Fill::Colour(blue));
        let mut rng = sample_rng(9, 9, index);
        sampler
            .occlude(
                &mut crop,
                &target,
                0.4,
                scene,
                &mut rng,
                &mut SamplerScratch::default(),
            )
            .unwrap();
        let seen = crop.pixels().chunks(3).filter(|p| *p == blue).count() as f32 / (80.0 * 50.0);
        // Where the colour drawn was the box's own, nothing looks hidden; edges round to whole pixels.
        assert!(
            (0.58..0.62).contains(&seen) || seen > 0.99,
            "{seen} of the box left"
        );
    }
}

/// Two cars and a bus on one image, the target alone on another, and a car of another scene.
fn write_street(root: &Path) -> DataConfig {
    write_pack(
        root,
        "street",
        PackKind::Stills,
        &[("a", &[[20, 20, 40, 30]]), ("b", &[[100, 60, 40, 40]])],
    );
    let csv = root.join("street/boxes.csv");
    let more = "a,0,5,car,180,130,44,30,-1\na,0,6,bus,20,130,44,30,-1\n";
    let text = std::fs::read_to_string(&csv).unwrap() + more;
    std::fs::write(csv, text).unwrap();
    DataConfig {
        root: root.to_owned(),
        packs: vec![pack("street", PackKind::Stills, 1.0)],
        ..DataConfig::default()
    }
}

fn sampler_of(data: &DataConfig, config: SamplerConfig, augment: AugmentConfig) -> Sampler {
    let dataset = Arc::new(Dataset::open(data).unwrap());
    Sampler::new(dataset, config, augment, Split::Train, 11).unwrap()
}

#[test]
fn rivals_are_of_the_targets_class_and_frame_and_negatives_with_them_do_not_show_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let config = SamplerConfig {
        negative_share: 1.0,
        elsewhere_share: 0.0,
        rival: RivalConfig {
            negative_share: 1.0,
            paste_share: 1.0,
            ..RivalConfig::default()
        },
        ..SamplerConfig::default()
    };
    let sampler = sampler_of(&write_street(folder.path()), config, AugmentConfig::none());
    let (mut hard, mut pasted) = (0, 0);
    for index in 0..400 {
        let plan = sampler.plan(0, index);
        let own = plan.template.box_in_image;
        let is_car = own.w_px == 40.0 || own.x_px == 180.0;
        let on_a = own.x_px != 100.0;
        if plan.content == Content::Rival {
            hard += 1;
            assert!(is_car && on_a, "pair {index} has no rival");
            assert_eq!(plan.search.image, plan.template.image);
            assert!(
                plan.search.window.to_box().intersection(&own).is_none(),
                "pair {index}"
            );
            let pair = sampler
                .draw(0, index, &mut SamplerScratch::default())
                .unwrap();
            assert!(!pair.present);
        }
        if let (Some(rival), true) = (plan.rival, on_a && is_car) {
            pasted += 1;
            assert_eq!(rival.image, plan.template.image);
            assert!(
                rival.box_in_image != own && rival.box_in_image.y_px != 130.0 || own.y_px != 130.0
            );
        }
        assert!(is_car || plan.rival.is_none(), "there is no other bus");
    }
    assert!(hard > 100 && pasted > 150, "{hard} hard, {pasted} to paste");
}

#[test]
fn balance_draws_the_rare_class_as_often_as_the_common_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = write_street(folder.path());
    let buses = |class: f32| {
        let balance = BalanceConfig {
            class,
            size: 0.0,
            sequence: 0.0,
        };
        let config = SamplerConfig {
            balance,
            ..SamplerConfig::default()
        };
        let sampler = sampler_of(&data, config, AugmentConfig::none());
        let is_bus = |i: &u64| {
            let b = sampler.plan(0, *i).template.box_in_image;
            b.x_px == 20.0 && b.y_px == 130.0
        };
        (0..2000).filter(is_bus).count()
    };
    // One of four tracks; half of the draws. Four standard deviations are 80.
    assert!((420..580).contains(&buses(0.0)), "{}", buses(0.0));
    assert!((910..1090).contains(&buses(1.0)), "{}", buses(1.0));
}

#[test]
fn frames_on_which_the_target_is_hidden_are_searched_as_absent_and_never_serve_as_templates() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = write_packs(folder.path());
    data.packs.truncate(1);
    let mut text =
        String::from("sequence,frame,instance,full_x,full_y,full_w,full_h,visible_share\n");
    for frame in 4..8 {
        text += &format!(
            "a,{frame},4,{},{},40,30,0.03\n",
            40 + 6 * frame,
            60 + 2 * frame
        );
    }
    text += "a,8,4,90,76,40,30,0.4\n";
    std::fs::write(folder.path().join("video/truth.csv"), text).unwrap();
    let config = SamplerConfig {
        negative_share: 0.0,
        elsewhere_share: 0.0,
        hidden_share: 0.5,
        ..SamplerConfig::default()
    };
    let sampler = sampler_of(&data, config, AugmentConfig::none());
    let track = &sampler.packs[0].tracks[0];
    assert_eq!((track.appearances.len(), track.hidden.len()), (8, 4));
    let hidden: Vec<_> = track.hidden.iter().map(|a| a.image).collect();
    let mut seen = 0;
    for index in 0..200 {
        let plan = sampler.plan(0, index);
        assert!(!hidden.contains(&plan.template.image), "pair {index}");
        assert_eq!(
            plan.content == Content::Hidden,
            hidden.contains(&plan.search.image)
        );
        if plan.content == Content::Hidden {
            seen += 1;
            let pair = sampler
                .draw(0, index, &mut SamplerScratch::default())
                .unwrap();
            assert!(!pair.present);
        }
    }
    // The other track of the pack has no hidden frames.
    assert!((25..80).contains(&seen), "{seen} of 200");
}

#[test]
fn boxes_of_hidden_targets_shrink_with_images_that_are_kept_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = write_packs(folder.path());
    data.packs.truncate(1);
    // 240x180 becomes 101x76: not the same factor across and down.
    data.max_side_px = 101;
    data.target.min_side_px = 4.0;
    data.target.min_area_px = 16.0;
    let text = "sequence,frame,instance,full_x,full_y,full_w,full_h,visible_share\n\
                a,4,4,64,68,44,30,0.03\n";
    std::fs::write(folder.path().join("video/truth.csv"), text).unwrap();
    let sampler = sampler_of(&data, SamplerConfig::default(), AugmentConfig::none());
    let track = &sampler.packs[0].tracks[0];
    let [hidden] = track.hidden[..] else {
        panic!("{} hidden frames", track.hidden.len());
    };
    let (across, down) = (101.0 / 240.0, 76.0 / 180.0);
    let found = hidden.box_in_image;
    let expected = BoxXywh::new(64.0 * across, 68.0 * down, 44.0 * across, 30.0 * down);
    let off = |a: f32, b: f32| (a - b).abs() > 1e-3;
    assert!(
        !off(found.x_px, expected.x_px)
            && !off(found.y_px, expected.y_px)
            && !off(found.w_px, expected.w_px)
            && !off(found.h_px, expected.h_px),
        "{found:?}, expected {expected:?}"
    );
    // The same place on the image as the box that was annotated for the same frame, had it been seen.
    let before = track.appearances[3].box_in_image;
    let after = track.appearances[4].box_in_image;
    let between = (before.x_px + after.x_px) / 2.0;
    assert!((found.x_px - between).abs() < 1.0, "{found:?} {between}");
}

#[test]
fn frames_annotated_as_occluded_are_searched_more_often_and_still_show_their_target() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = write_packs(folder.path());
    data.packs.truncate(1);
    let csv = folder.path().join("video/boxes.csv");
    let text = std::fs::read_to_string(&csv).unwrap();
    let text = text.replace("a,11,4,car,106,82,51,30,-1", "a,11,4,car,106,82,51,30,1");
    std::fs::write(csv, text).unwrap();
    let searched = |occluded_share: f32| {
        let config = SamplerConfig {
            negative_share: 0.0,
            elsewhere_share: 0.0,
            occluded_share,
            ..SamplerConfig::default()
        };
        let sampler = sampler_of(&data, config, AugmentConfig::none());
        let last = sampler.packs[0].tracks[0].appearances[11].image;
        (0..400)
            .map(|index| sampler.plan(0, index))
            .filter(|plan| plan.search.image == last && plan.content == Content::Target)
            .count()
    };
    let (without, with) = (searched(0.0), searched(0.6));
    assert!(with > 2 * without + 40, "{with} with, {without} without");
}

#[test]
fn all_crops_of_a_pair_share_their_weather() {
    let mut augment = AugmentConfig::none();
    augment.night.share = 1.0;
    augment.night.lamps = [0, 0];
    augment.night.gain = [0.3, 0.3];
    let (_folder, dark) = sampler(SamplerConfig::default(), augment);
    let (_folder2, clear) = sampler(SamplerConfig::default(), AugmentConfig::none());
    let mean = |rgb: &[u8]| rgb.iter().map(|v| f32::from(*v)).sum::<f32>() / rgb.len() as f32;
    let mut scratch = SamplerScratch::default();
    for index in 0..20 {
        let (a, b) = (
            dark.draw(0, index, &mut scratch).unwrap(),
            clear.draw(0, index, &mut scratch).unwrap(),
        );
        for (dark, clear) in [
            (&a.template_rgb, &b.template_rgb),
            (&a.template_latest_rgb, &b.template_latest_rgb),
            (&a.search_rgb, &b.search_rgb),
        ] {
            let left = mean(dark) / mean(clear);
            assert!(
                (0.15..0.4).contains(&left),
                "pair {index}: {left} of the light"
            );
        }
    }
}

#[test]
fn pieces_cut_out_leave_at_least_half_of_the_object() {
    let object = BoxLtrb {
        left_px: 40.0,
        top_px: 40.0,
        right_px: 88.0,
        bottom_px: 88.0,
    };
    let config = crate::augment::CutOutConfig {
        pieces: [1, 1],
        side: [0.3, 1.0],
        ..Default::default()
    };
    let mut wiped = 0;
    for seed in 0..200 {
        let mut crop = Crop::filled(128, [100; 3]);
        cover(&mut crop, &object, Fill::Colour([1, 2, 254]));
        let before = crop.clone();
        cut_out(&mut crop, &object, &config, &mut sample_rng(seed, 0, 0));
        let left = crop
            .pixels()
            .chunks(3)
            .filter(|p| *p == [1, 2, 254])
            .count() as f32;
        wiped += usize::from(crop != before);
        assert!(
            left >= 0.49 * 48.0 * 48.0,
            "seed {seed}: {left} pixels left"
        );
    }
    assert!(wiped > 50, "{wiped} of 200 changed");
}

#[test]
fn some_search_crops_show_their_target_far_from_the_middle_as_after_a_re_detection() {
    let (_folder, sampler) = sampler(SamplerConfig::default(), AugmentConfig::none());
    let far = (0..2000)
        .map(|index| sampler.plan(0, index))
        .filter(|plan| plan.content == Content::Target)
        .map(|plan| plan.search.box_in_crop(256, false))
        .filter(|b| {
            let off = |from: f32, to: f32| ((from + to) / 2.0 - 128.0).abs();
            off(b.left_px, b.right_px).max(off(b.top_px, b.bottom_px)) > 72.0
        })
        .count();
    // A wide shift in three of ten, beyond 72 of 96 px in either direction in seven of sixteen of those.
    assert!((140..290).contains(&far), "{far} of 2000");
}

#[test]
fn an_object_in_front_hides_some_of_the_target_and_no_more_than_asked_for() {
    let (_folder, sampler) = sampler(SamplerConfig::default(), AugmentConfig::none());
    let other = sampler.packs[1].tracks[0].appearances[0];
    let target = BoxLtrb {
        left_px: 90.0,
        top_px: 100.0,
        right_px: 170.0,
        bottom_px: 150.0,
    };
    let blue = [1, 2, 254];
    for index in 0..60 {
        let mut crop = Crop::filled(256, [100, 110, 100]);
        cover(&mut crop, &target, Fill::Colour(blue));
        let mut rng = sample_rng(9, 9, index);
        let scratch = &mut SamplerScratch::default();
        sampler
            .occlude_with_object(&mut crop, &target, 0.4, other, &mut rng, scratch)
            .unwrap();
        let seen = crop.pixels().chunks(3).filter(|p| *p == blue).count() as f32 / (80.0 * 50.0);
        // Soft outlines and whole pixels take up to three columns more on one side.
        assert!((0.55..0.95).contains(&seen), "{seen} of the box left");
    }
}

#[test]
fn configuration_round_trips_and_refuses_what_cannot_be_drawn() {
    let config = SamplerConfig::default();
    assert_eq!(
        toml::from_str::<SamplerConfig>(&toml::to_string(&config).unwrap()).unwrap(),
        config
    );
    assert!(toml::from_str::<SamplerConfig>("negatives = 0.1").is_err());
    let config = SamplerConfig {
        negative_share: 0.8,
        elsewhere_share: 0.3,
        ..SamplerConfig::default()
    };
    assert!(
        config
            .validate()
            .unwrap_err()
            .to_string()
            .contains("negative_share + elsewhere_share")
    );
    let config = SamplerConfig {
        pairs_per_epoch: 0,
        ..SamplerConfig::default()
    };
    assert!(config.validate().is_err());
}

#[test]
fn a_real_pack_gives_pairs_of_the_promised_sizes() {
    let Some(shared) = crate::data::shared_folder() else {
        return;
    };
    let config = DataConfig {
        root: shared.join("data/train"),
        ..DataConfig::default()
    };
    let dataset = Arc::new(Dataset::open(&config).unwrap());
    for split in [Split::Train, Split::Validation] {
        let sampler = Sampler::new(
            dataset.clone(),
            SamplerConfig::default(),
            AugmentConfig::default(),
            split,
            1,
        )
        .unwrap();
        let mut scratch = SamplerScratch::default();
        let pairs: Vec<_> = (0..48)
            .map(|index| sampler.draw(0, index, &mut scratch).unwrap())
            .collect();
        for pair in &pairs {
            assert_eq!(
                (pair.template_rgb.len(), pair.search_rgb.len()),
                (128 * 128 * 3, 256 * 256 * 3)
            );
            assert_eq!(
                pair.has_distinct_latest,
                pair.template_rgb != pair.template_latest_rgb
            );
            assert!(!pair.present || holds_centre(&pair.box_in_search, 256));
        }
        let present = pairs.iter().filter(|pair| pair.present).count();
        assert!((30..=46).contains(&present), "{present} of 48 present");
    }
}

proptest! {
    #[test]
    fn streams_of_different_pairs_differ(a in any::<[u64; 3]>(), b in any::<[u64; 3]>()) {
        let first = |k: [u64; 3]| sample_rng(k[0], k[1], k[2]).random::<u128>();
        prop_assert_eq!(first(a) == first(b), a == b);
    }

    #[test]
    fn mirrored_boxes_mirror_back(x in -50.0_f32..200.0, y in -50.0_f32..200.0, w in 5.0_f32..80.0, h in 5.0_f32..80.0) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("i.png");
        image::RgbImage::new(4, 4).save(&path).unwrap();
        let image = crate::data::store::ImageStore::new(0, 560).register(&path).unwrap();
        let box_in_image = BoxXywh { x_px: x, y_px: y, w_px: w, h_px: h };
        let view = View { image, box_in_image, window: CropWindow::square(60.0, 50.0, 90.0) };
        let (straight, mirrored) = (view.box_in_crop(256, false), view.box_in_crop(256, true));
        prop_assert!((straight.left_px + mirrored.right_px - 256.0).abs() < 1e-2);
        prop_assert!((straight.right_px + mirrored.left_px - 256.0).abs() < 1e-2);
        prop_assert_eq!((straight.top_px, straight.bottom_px), (mirrored.top_px, mirrored.bottom_px));
        let back = view.window.image_from_crop(256).apply_box(&straight.into());
        prop_assert!((back.x_px - x).abs() < 1e-2 && (back.w_px - w).abs() < 1e-2);
    }
}
