//! Evaluation clips: boxes as MOTChallenge lines, and which tracks are followed one by one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use roadhound_shared::world::{Class, ObjectTruth, Scenario, Sequence};

use super::pack::Tables;
use super::{RenderError, RenderJob, write_whole};

/// Most tracks of a clip that are followed.
const MOST_TRACKS: usize = 3;
/// A track starts where its shorter side is at least this.
const START_SIDE_PX: f32 = 18.0;
/// A track starts where at least this share is visible.
const START_VISIBLE_SHARE: f32 = 0.9;
/// Shortest track, in seconds.
const SHORTEST_TRACK_S: f32 = 1.5;

/// COCO's index, as the other clips have it; 9 is the auto-rickshaw there, 10 stands for carts.
fn class_index(class: Class) -> u32 {
    match class {
        Class::Person => 0,
        Class::Bicycle => 1,
        Class::Car | Class::Van => 2,
        Class::Motorcycle => 3,
        Class::Bus => 5,
        Class::Truck | Class::Tractor => 7,
        Class::Autorickshaw => 9,
        Class::Cart => 10,
        Class::Animal => 19,
    }
}

/// First and last frame (from 0) of every track worth following: from a clear view to the last sight.
fn spans(frames: &[Vec<ObjectTruth>], fps: f32, target: Option<u32>) -> Vec<(u32, usize, usize)> {
    let mut found: BTreeMap<u32, (usize, usize, usize)> = BTreeMap::new();
    for (frame, objects) in frames.iter().enumerate() {
        for o in objects.iter().filter(|o| !o.absent && !o.ignore) {
            let side = o.full_box.w_px.min(o.full_box.h_px);
            // The target of a scenario is followed however small it is.
            let large = side >= START_SIDE_PX || target == Some(o.instance);
            let clear = large && o.visible_share >= START_VISIBLE_SHARE && !o.cut;
            match found.get_mut(&o.instance) {
                Some(span) => {
                    span.1 = frame;
                    span.2 += 1;
                }
                None if clear => {
                    found.insert(o.instance, (frame, frame, 1));
                }
                None => {}
            }
        }
    }
    let mut spans: Vec<(u32, usize, usize, usize)> = found
        .into_iter()
        .map(|(id, (first, last, seen))| (id, first, last, seen))
        .filter(|&(id, first, last, seen)| match target {
            Some(target) => id == target,
            None => (last - first) as f32 >= SHORTEST_TRACK_S * fps && seen * 2 > last - first,
        })
        .collect();
    // The longest first; among equals the lower identity, so that the choice is one.
    spans.sort_by_key(|&(id, _, _, seen)| (std::cmp::Reverse(seen), id));
    spans.truncate(MOST_TRACKS);
    spans.sort_unstable();
    spans
        .into_iter()
        .map(|(id, first, last, _)| (id, first, last))
        .collect()
}

pub(super) fn write(
    folder: &Path,
    name: &str,
    job: &RenderJob,
    sequence: &Sequence,
    frames: &[Vec<ObjectTruth>],
) -> Result<Tables, RenderError> {
    let mut rows = 0;
    let mut gt = String::new();
    for (frame, objects) in frames.iter().enumerate() {
        for o in objects.iter().filter(|o| !o.absent) {
            let b = &o.full_box;
            // Writing to a string cannot fail.
            let _ = writeln!(
                gt,
                "{},{},{:.2},{:.2},{:.2},{:.2},{},{},{:.3}",
                frame + 1,
                o.instance,
                b.x_px,
                b.y_px,
                b.w_px,
                b.h_px,
                u8::from(!o.ignore),
                class_index(o.class),
                o.visible_share
            );
            rows += 1;
        }
    }
    let target = match job.world.scenario {
        Scenario::Drive => None,
        Scenario::Occlusion => sequence.target(),
    };
    let mut spans_csv = "id,first_frame,last_frame\n".to_owned();
    for (id, first, last) in spans(frames, job.world.fps, target) {
        let _ = writeln!(spans_csv, "{id},{},{}", first + 1, last + 1);
    }
    let info = format!(
        "[Sequence]\nname={name}\nimDir=img\nframeRate={}\nseqLength={}\nimWidth={}\nimHeight={}\nimExt=.jpg\n",
        job.world.fps, job.world.frames, job.world.width_px, job.world.height_px
    );
    let files = [
        ("seqinfo.ini", info),
        ("gt.txt", gt),
        ("sot_spans.csv", spans_csv),
    ];
    write_whole(folder, files)?;
    Ok(Tables {
        rows,
        ..Tables::default()
    })
}
