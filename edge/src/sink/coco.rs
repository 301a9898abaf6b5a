//! COCO-style JSON with tracks: `videos`, `images`, `categories`, and `annotations` that carry a `track_id`.
//!
//! In: [`Recorded`]. Out: one JSON object, as COCO, TAO and MMTracking's CocoVID read it: boxes are `[x, y, w, h]` in
//! pixels, ids count from 1. Where frames are files by themselves, `file_name` is theirs; frames of a video are called as
//! `ffmpeg -i VIDEO %06d.jpg` would call them.

use std::io::Write;

use roadhound_shared::propose::RoadUser;
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::recorded::{Recorded, Shown};

#[derive(Serialize)]
struct Document<'a> {
    info: Info,
    videos: [Video<'a>; 1],
    categories: Vec<Category>,
    #[serde(serialize_with = "images")]
    images: &'a Recorded,
    #[serde(serialize_with = "annotations")]
    annotations: &'a Recorded,
}

#[derive(Serialize)]
struct Info {
    description: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Video<'a> {
    id: u32,
    name: &'a str,
    width: u32,
    height: u32,
    fps: f64,
}

#[derive(Serialize)]
struct Category {
    id: u32,
    name: &'static str,
    supercategory: &'static str,
}

#[derive(Serialize)]
struct Image {
    id: u64,
    video_id: u32,
    frame_id: u64,
    file_name: String,
    width: u32,
    height: u32,
    seconds: f64,
}

#[derive(Serialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    video_id: u32,
    category_id: u32,
    track_id: u32,
    bbox: [f32; 4],
    area: f32,
    iscrowd: u8,
    score: f32,
}

fn category_id(kind: RoadUser) -> u32 {
    kind as u32 + 1
}

fn images<S: Serializer>(recorded: &&Recorded, to: S) -> Result<S::Ok, S::Error> {
    let mut list = to.serialize_seq(Some(recorded.frames.len()))?;
    for (frame_id, (micros, file)) in (0_u64..).zip(&recorded.frames) {
        let id = frame_id + 1;
        list.serialize_element(&Image {
            id,
            video_id: 1,
            frame_id,
            file_name: file.clone().unwrap_or_else(|| format!("{id:06}.jpg")),
            width: recorded.width_px,
            height: recorded.height_px,
            seconds: *micros as f64 / 1e6,
        })?;
    }
    list.end()
}

fn annotations<S: Serializer>(recorded: &&Recorded, to: S) -> Result<S::Ok, S::Error> {
    let mut list = to.serialize_seq(Some(recorded.shown.len()))?;
    for (id, shown) in (1_u64..).zip(&recorded.shown) {
        let Shown {
            frame,
            identity,
            kind,
            score,
            box_in_image: b,
        } = *shown;
        list.serialize_element(&Annotation {
            id,
            image_id: u64::from(frame) + 1,
            video_id: 1,
            category_id: category_id(kind),
            track_id: identity,
            bbox: [b.x_px, b.y_px, b.w_px, b.h_px],
            area: b.area(),
            iscrowd: 0,
            score,
        })?;
    }
    list.end()
}

/// Writes the object.
///
/// # Errors
/// Those of the writer.
pub fn write(recorded: &Recorded, out: &mut dyn Write) -> std::io::Result<()> {
    let category = |kind: RoadUser| Category {
        id: category_id(kind),
        name: kind.name(),
        supercategory: match kind {
            RoadUser::Person => "person",
            RoadUser::Animal => "animal",
            _ => "vehicle",
        },
    };
    let document = Document {
        info: Info {
            description: "road users followed by roadhound watch",
            version: env!("CARGO_PKG_VERSION"),
        },
        videos: [Video {
            id: 1,
            name: &recorded.name,
            width: recorded.width_px,
            height: recorded.height_px,
            fps: recorded.fps,
        }],
        categories: RoadUser::ALL.into_iter().map(category).collect(),
        images: recorded,
        annotations: recorded,
    };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::recorded::testing;
    use super::*;

    #[test]
    fn what_is_written_holds_together_for_a_reader() {
        let mut recorded = testing();
        recorded.frames[2].1 = Some("night/0002.png".into());
        let mut bytes = Vec::new();
        write(&recorded, &mut bytes).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let list = |key: &str| read[key].as_array().unwrap().clone();
        let images = list("images");
        assert_eq!(images.len(), 10);
        assert_eq!(
            (&images[0]["file_name"], &images[0]["id"]),
            (&"000001.jpg".into(), &1.into())
        );
        assert_eq!(images[2]["file_name"], "night/0002.png");
        assert_eq!(read["videos"][0]["name"], "a & b.mp4");
        let annotations = list("annotations");
        assert_eq!(annotations.len(), recorded.shown.len());
        for (n, (annotation, shown)) in annotations.iter().zip(&recorded.shown).enumerate() {
            assert_eq!(annotation["id"], n + 1);
            let image = images
                .iter()
                .find(|i| i["id"] == annotation["image_id"])
                .unwrap();
            assert_eq!(image["frame_id"], shown.frame);
            assert_eq!(annotation["track_id"], shown.identity);
            let categories = list("categories");
            let category = categories
                .iter()
                .find(|c| c["id"] == annotation["category_id"])
                .unwrap();
            assert_eq!(category["name"], shown.kind.name());
            assert_eq!(annotation["bbox"][0], f64::from(shown.box_in_image.x_px));
            assert_eq!(annotation["area"], 1200.0);
        }
    }

    #[test]
    fn a_source_with_nobody_on_it_is_an_object_as_well() {
        let mut bytes = Vec::new();
        write(&Recorded::default(), &mut bytes).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read["annotations"].as_array().unwrap().len(), 0);
    }
}
