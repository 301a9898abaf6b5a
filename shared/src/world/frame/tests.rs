//! The truth about objects, against a count of every sample of the buffer.
#![allow(clippy::unwrap_used)]

use alloc::vec::Vec;

use super::super::raster::{SAMPLE_AT, SAMPLES};
use super::super::{Region, WorldConfig};
use super::*;

/// Half the side of a sample: they are quarters of a pixel.
const HALF_SAMPLE_PX: f32 = 0.125;

/// Looks at every sample of the image on its own: how many show the object, and the box about them.
fn counted(scratch: &Scratch, object: u32) -> (u32, Option<BoxXywh>) {
    let buffer = &scratch.buffer;
    let (mut samples, mut low, mut high) = (0, [f32::MAX; 2], [f32::MIN; 2]);
    for (at, pixel) in buffer.front.iter().enumerate() {
        for s in 0..SAMPLES {
            let shown = &buffer.shown[pixel[s] as usize];
            if pixel[s] == 0 || scratch.instances[shown.instance as usize].object != object {
                continue;
            }
            samples += 1;
            let pixel = [at % buffer.width, at / buffer.width];
            for k in 0..2 {
                let middle = pixel[k] as f32 + SAMPLE_AT[s][k];
                low[k] = low[k].min(middle - HALF_SAMPLE_PX);
                high[k] = high[k].max(middle + HALF_SAMPLE_PX);
            }
        }
    }
    let b = BoxXywh::new(low[0], low[1], high[0] - low[0], high[1] - low[1]);
    (samples, (samples > 0).then_some(b))
}

fn worlds() -> impl Iterator<Item = (WorldConfig, u32)> {
    [Region::Us, Region::India].into_iter().flat_map(|region| {
        let config = WorldConfig {
            width_px: 160,
            height_px: 96,
            frames: 30,
            ..WorldConfig::of(region)
        };
        (0..3).map(move |index| (config.clone(), index))
    })
}

/// Every object that reaches into the image, with its mark in the buffer.
fn marked(truth: Vec<ObjectTruth>, scratch: &Scratch) -> Vec<(u32, ObjectTruth)> {
    let marks = (1..scratch.full.len() as u32).filter(|&o| scratch.full[o as usize].samples > 0);
    assert_eq!(marks.clone().count(), truth.len());
    marks.zip(truth).collect()
}

#[test]
fn visible_boxes_and_shares_are_those_of_the_samples_that_show_the_object() {
    let (mut whole, mut partly, mut hidden) = (0, 0, 0);
    for (config, index) in worlds() {
        let sequence = Sequence::new(&config, 21, index).unwrap();
        let mut scratch = Scratch::new(config.width_px, config.height_px);
        for frame in [0, 14, 29] {
            let truth = sequence.render(frame, &mut scratch, &mut Vec::new());
            for (object, told) in marked(truth, &scratch) {
                let (samples, visible_box) = counted(&scratch, object);
                let all = scratch.full[object as usize].samples;
                assert_eq!(told.visible_box, visible_box, "{told:?}");
                assert_eq!(told.visible_share, samples as f32 / all as f32, "{told:?}");
                match told.visible_share {
                    0.0 => hidden += 1,
                    1.0 => whole += 1,
                    _ => partly += 1,
                }
            }
        }
    }
    assert!(
        whole > 30 && partly > 60 && hidden > 10,
        "{whole} seen whole, {partly} partly, {hidden} not at all"
    );
}

#[test]
fn full_boxes_are_those_of_the_object_alone_in_the_world() {
    let (mut behind, mut in_front) = (0, 0);
    for (config, index) in worlds() {
        let mut sequence = Sequence::new(&config, 21, index).unwrap();
        let mut scratch = Scratch::new(config.width_px, config.height_px);
        let truth = sequence.render(14, &mut scratch, &mut Vec::new());
        let told: Vec<(u32, ObjectTruth)> = marked(truth, &scratch)
            .into_iter()
            .map(|(object, told)| (scratch.full[object as usize].samples, told))
            .collect();
        let present: Vec<bool> = sequence.agents.iter().map(|a| a.states[14].here).collect();
        for (all, told) in told {
            for (agent, here) in present.iter().enumerate().skip(1) {
                sequence.agents[agent].states[14].here = *here && agent as u32 == told.instance;
            }
            let view = sequence.view(14);
            scratch.buffer.clear();
            scratch.instances.truncate(1);
            scratch.full.truncate(1);
            sequence.draw_agents(14, &view, &mut scratch, &mut vec![0]);
            let (samples, full_box) = counted(&scratch, 1);
            assert_eq!(full_box, Some(told.full_box), "{told:?}");
            assert_eq!(samples, all, "{told:?}");
            if told.visible_share < 1.0 {
                behind += 1;
            } else {
                in_front += 1;
            }
        }
    }
    assert!(behind > 20 && in_front > 10, "{behind} and {in_front}");
}

#[test]
fn annotation_without_the_picture_is_that_of_the_picture() {
    for (config, index) in worlds() {
        let sequence = Sequence::new(&config, 21, index).unwrap();
        let mut scratch = Scratch::new(config.width_px, config.height_px);
        for frame in [3, 29] {
            let told = sequence.render(frame, &mut scratch, &mut Vec::new());
            assert_eq!(sequence.annotate(frame, &mut scratch), told);
        }
    }
}

#[test]
fn the_shutter_is_open_for_as_long_however_many_frames_are_left_out() {
    for region in [Region::Us, Region::India] {
        for index in 0..4 {
            let open_s = |fps| {
                let config = WorldConfig {
                    width_px: 160,
                    height_px: 96,
                    frames: 2,
                    fps,
                    ..WorldConfig::of(region)
                };
                let sequence = Sequence::new(&config, 21, index).unwrap();
                let view = sequence.view(0);
                let [at, later] = [&view.camera, &view.later].map(|camera| camera.at);
                // What the camera does meanwhile fits: nobody drives faster than 60 m/s.
                let moved = sub(at, later);
                assert!(dot(moved, moved) <= (60.0 * view.open_s + 0.05).powi(2));
                view.open_s
            };
            let own = open_s(30.0);
            for fps in [1.0, 10.0] {
                assert!((open_s(fps) - own).abs() < 1e-6, "{fps}: {}", open_s(fps));
            }
            // A faster camera cannot expose for longer than a frame lasts.
            assert!(open_s(120.0) <= 1.0 / 120.0);
        }
    }
}
