//! The tables of a training pack.

use std::fmt::Write;
use std::path::Path;

use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::world::{ObjectTruth, WorldConfig};

use super::{RenderError, write_whole};

const BOXES_HEADER: &str = "sequence,frame,instance,class,x,y,w,h,occluded\n";
const TRUTH_HEADER: &str = "sequence,frame,time_s,instance,class,full_x,full_y,full_w,full_h,visible_x,visible_y,visible_w,visible_h,visible_share,cut,ignore,occluded,absent\n";

/// Lines of one sequence.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) boxes: String,
    pub(super) truth: String,
    pub(super) rows: u64,
}

fn fields(b: &BoxXywh) -> String {
    format!("{:.2},{:.2},{:.2},{:.2}", b.x_px, b.y_px, b.w_px, b.h_px)
}

/// Everything that is seen goes into `boxes.csv`, what is too small as `ignore`; the hidden only into `truth.csv`.
pub(super) fn tables(name: &str, world: &WorldConfig, frames: &[Vec<ObjectTruth>]) -> Tables {
    let mut tables = Tables::default();
    for (frame, objects) in frames.iter().enumerate() {
        let time_s = frame as f32 / world.fps;
        for o in objects {
            let full = fields(&o.full_box);
            let visible = o
                .visible_box
                .as_ref()
                .map_or_else(|| "nan,nan,nan,nan".to_owned(), fields);
            // Writing to a string cannot fail.
            let _ = writeln!(
                tables.truth,
                "{name},{frame},{time_s:.4},{},{},{full},{visible},{:.4},{},{},{},{}",
                o.instance,
                o.class.name(),
                o.visible_share,
                u8::from(o.cut),
                u8::from(o.ignore),
                u8::from(o.occluded),
                u8::from(o.absent)
            );
            if o.absent {
                continue;
            }
            let class = if o.ignore { "ignore" } else { o.class.name() };
            let _ = writeln!(
                tables.boxes,
                "{name},{frame},{},{class},{full},{}",
                o.instance,
                u8::from(o.occluded)
            );
            tables.rows += 1;
        }
    }
    tables
}

pub(super) fn write_tables<'a>(
    folder: &Path,
    sequences: impl Iterator<Item = &'a Tables>,
) -> Result<(), RenderError> {
    let (mut boxes, mut truth) = (BOXES_HEADER.to_owned(), TRUTH_HEADER.to_owned());
    for tables in sequences {
        boxes.push_str(&tables.boxes);
        truth.push_str(&tables.truth);
    }
    write_whole(folder, [("truth.csv", truth), ("boxes.csv", boxes)])
}
