//! Evaluation clips: OTB-style folders and MOT-style folders with scored spans.
//!
//! In goes a folder of clips, each with an `img/` of frames and either `groundtruth_rect*.txt` (one box a frame: a
//! rectangle, or the eight numbers of a polygon as VOT has them, which becomes the rectangle about it) or `gt.txt` with
//! `sot_spans.csv` (several targets, frames and identities). Frames go by their numbers where every name is one, else by
//! name. Out come [`Run`]s, one a target, sorted by folder. These are never trained on.
//!
//! ```no_run
//! for run in roadhound_trainer::data::otb::load_runs("sequences".as_ref())? {
//!     println!("{}: {} frames, assisted: {}", run.name, run.frames.len(), run.assisted);
//! }
//! # Ok::<(), roadhound_trainer::data::DataError>(())
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roadhound_shared::geometry::BoxXywh;

use super::clip::folders;
use super::ini::Ini;
use super::sequence::Run;
use super::{DataError, LineProblem, checked_box, list_images, number, numbered_images};

const DEFAULT_FPS: f64 = 30.0;

/// Where a rectangle file puts the first pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The top-left pixel is (0, 0).
    Zero,
    /// The top-left pixel is (1, 1), as MATLAB counts: OTB.
    One,
}

/// All runs below `root`. A folder whose name starts with `otb_` counts pixels from one.
///
/// # Errors
/// Unreadable files and malformed lines; a rectangle file with another count of lines than there are images; a span that
/// leaves its clip.
pub fn load_runs(root: &Path) -> Result<Vec<Run>, DataError> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(root).map_err(DataError::io(root))? {
        let folder = entry.map_err(DataError::io(root))?.path();
        if folder.join("img").is_dir() {
            folders.push(folder);
        }
    }
    folders.sort();
    let mut runs = Vec::new();
    for folder in folders {
        runs.extend(load_folder(&folder)?);
    }
    Ok(runs)
}

/// Whether the folder has clips of this kind.
pub(crate) fn recognise(root: &Path) -> bool {
    folders(root).is_ok_and(|places| {
        places.iter().any(|place| {
            place.folder.join("img").is_dir()
                && (place.folder.join("sot_spans.csv").exists()
                    || rectangle_files(&place.folder).is_ok_and(|files| !files.is_empty()))
        })
    })
}

/// The runs of one clip.
///
/// # Errors
/// See [`load_runs`].
pub fn load_folder(folder: &Path) -> Result<Vec<Run>, DataError> {
    let clip = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let frames = frames_of(&folder.join("img"))?;
    let fps = frame_rate(&folder.join("seqinfo.ini"))?;
    let origin = if clip.starts_with("otb_") {
        Origin::One
    } else {
        Origin::Zero
    };
    let mut runs = Vec::new();

    let rectangles = rectangle_files(folder)?;
    for (index, path) in rectangles.iter().enumerate() {
        let text = std::fs::read_to_string(path).map_err(DataError::io(path))?;
        let truth = parse_rectangles(&text, origin)
            .map_err(|(line, problem)| DataError::line(path, line, problem))?;
        // Some clips of OTB begin or end elsewhere than their images: which image a box belongs to is then a guess.
        if truth.len() != frames.len() {
            let problem = LineProblem::EntryCount {
                found: truth.len(),
                expected: frames.len(),
                of: "the folder of images",
            };
            return Err(DataError::line(path, truth.len() as u64, problem));
        }
        let name = if rectangles.len() == 1 {
            clip.to_owned()
        } else {
            format!("{clip}_{}", index + 1)
        };
        runs.push(Run {
            name,
            frames: frames.clone(),
            truth,
            fps,
            assisted: false,
            class: None,
        });
    }

    let spans_path = folder.join("sot_spans.csv");
    if spans_path.exists() {
        let boxes = read_mot(&folder.join("gt.txt"))?;
        let text = std::fs::read_to_string(&spans_path).map_err(DataError::io(&spans_path))?;
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let at_line = |problem| DataError::line(&spans_path, index as u64 + 1, problem);
            if index == 0 {
                if line.trim() != "id,first_frame,last_frame" {
                    let expected = "id,first_frame,last_frame";
                    return Err(at_line(LineProblem::Header {
                        found: line.to_owned(),
                        expected,
                    }));
                }
                continue;
            }
            let [id, first, last] = parse_span(line).map_err(at_line)?;
            let Some(span) = (first as usize)
                .checked_sub(1)
                .and_then(|start| frames.get(start..last as usize))
            else {
                return Err(at_line(LineProblem::NoImage {
                    sequence: clip.to_owned(),
                    frame: last,
                }));
            };
            let at = |frame| boxes.get(&(frame, id));
            let truth = (first..=last)
                .map(|frame| Some(at(frame)?.box_in_image))
                .collect();
            let class = (first..=last).find_map(|frame| class_name(at(frame)?.class?));
            runs.push(Run {
                name: format!("{clip}_{id}"),
                frames: span.to_vec(),
                truth,
                fps,
                assisted: true,
                class: class.map(Arc::from),
            });
        }
    }
    Ok(runs)
}

/// The images in order.
fn frames_of(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let all = list_images(folder)?;
    // By name, 10 comes before 2.
    let numbered = numbered_images(folder)?;
    match numbered.len() == all.len() {
        true => Ok(numbered
            .iter()
            .map(|(_, path)| path.to_path_buf())
            .collect()),
        false => Ok(all),
    }
}

/// One box a line, fields apart by comma, tab or spaces: `x, y, w, h`, or the four corners of a polygon, of which the
/// rectangle about them is taken. `None` where a value is `nan` or the size is not positive.
///
/// # Errors
/// The line, from 1, and what is wrong with it: neither four fields nor eight, or a field that is no number.
pub fn parse_rectangles(
    text: &str,
    origin: Origin,
) -> Result<Vec<Option<BoxXywh>>, (u64, LineProblem)> {
    let mut truth = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        truth.push(parse_rectangle(line, origin).map_err(|problem| (index as u64 + 1, problem))?);
    }
    Ok(truth)
}

fn parse_rectangle(line: &str, origin: Origin) -> Result<Option<BoxXywh>, LineProblem> {
    let fields: Vec<&str> = line
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|field| !field.is_empty())
        .collect();
    let expected = "a number or nan";
    let values: [f32; 4] = match fields[..] {
        [x, y, w, h] => [
            number(x, "x", expected)?,
            number(y, "y", expected)?,
            number(w, "w", expected)?,
            number(h, "h", expected)?,
        ],
        [_, _, _, _, _, _, _, _] => {
            let corner = |at: usize| number::<f32>(fields[at], "corner", expected);
            let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
            for at in 0..8 {
                let value = corner(at)?;
                if value.is_nan() {
                    return Ok(None);
                }
                low[at % 2] = low[at % 2].min(value);
                high[at % 2] = high[at % 2].max(value);
            }
            [low[0], low[1], high[0] - low[0], high[1] - low[1]]
        }
        _ => {
            return Err(LineProblem::FieldCount {
                found: fields.len(),
                expected: 4,
            });
        }
    };
    let [x, y, w, h] = values;
    if values.iter().any(|v| v.is_nan()) || w <= 0.0 || h <= 0.0 {
        return Ok(None);
    }
    let first_px = match origin {
        Origin::Zero => 0.0,
        Origin::One => 1.0,
    };
    checked_box(x - first_px, y - first_px, w, h).map(Some)
}

fn parse_span(line: &str) -> Result<[u32; 3], LineProblem> {
    let fields: Vec<&str> = line.split(',').collect();
    if fields.len() != 3 {
        return Err(LineProblem::FieldCount {
            found: fields.len(),
            expected: 3,
        });
    }
    let expected = "a whole number";
    Ok([
        number(fields[0], "id", expected)?,
        number(fields[1], "first_frame", expected)?,
        number(fields[2], "last_frame", expected)?,
    ])
}

/// The class of a number: COCO's index, but 9 is an auto-rickshaw and 10 a cart.
fn class_name(number: u32) -> Option<&'static str> {
    Some(match number {
        0 => "person",
        1 => "bicycle",
        2 => "car",
        3 => "motorcycle",
        5 => "bus",
        7 => "truck",
        9 => "autorickshaw",
        10 => "cart",
        14..=23 => "animal",
        _ => return None,
    })
}

/// What a line says.
struct Told {
    /// Frame and identity.
    key: (u32, u32),
    box_in_image: BoxXywh,
    class: Option<u32>,
}

/// `frame,id,x,y,w,h,flag,class,visibility` by frame and identity.
fn read_mot(path: &Path) -> Result<HashMap<(u32, u32), Told>, DataError> {
    let text = std::fs::read_to_string(path).map_err(DataError::io(path))?;
    let mut boxes = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let parsed =
            parse_mot(line).map_err(|problem| DataError::line(path, index as u64 + 1, problem))?;
        boxes.insert(parsed.key, parsed);
    }
    Ok(boxes)
}

fn parse_mot(line: &str) -> Result<Told, LineProblem> {
    let fields: Vec<&str> = line.split(',').collect();
    if fields.len() < 6 {
        return Err(LineProblem::FieldCount {
            found: fields.len(),
            expected: 9,
        });
    }
    let key = (
        number(fields[0], "frame", "a whole number")?,
        number(fields[1], "id", "a whole number")?,
    );
    let mut values = [0.0_f32; 4];
    for (value, (text, field)) in values
        .iter_mut()
        .zip(fields[2..].iter().zip(["x", "y", "w", "h"]))
    {
        *value = number(text, field, "a number")?;
    }
    Ok(Told {
        key,
        box_in_image: checked_box(values[0], values[1], values[2], values[3])?,
        // A class that is no number is none that we know.
        class: fields.get(7).and_then(|class| class.trim().parse().ok()),
    })
}

/// The `frameRate` of a `seqinfo.ini`, where there is one.
/// What `seqinfo.ini` says, or the usual rate where there is none.
pub(crate) fn frame_rate(path: &Path) -> Result<f64, DataError> {
    if !path.exists() {
        return Ok(DEFAULT_FPS);
    }
    Ok(Ini::read(path)?.rate("frameRate")?.unwrap_or(DEFAULT_FPS))
}

fn rectangle_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let path = entry.map_err(DataError::io(folder))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with("groundtruth_rect") && name.ends_with(".txt") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::data::shared_folder;

    fn px(x: f32, y: f32, w: f32, h: f32) -> Option<BoxXywh> {
        Some(BoxXywh {
            x_px: x,
            y_px: y,
            w_px: w,
            h_px: h,
        })
    }

    #[test]
    fn separators_may_be_commas_tabs_or_spaces() {
        let text = "10,20,30,40\n10\t20\t30\t40\r\n 10  20 30 40 \n10, 20, 30, 40\n\n";
        assert_eq!(
            parse_rectangles(text, Origin::Zero).unwrap(),
            vec![px(10.0, 20.0, 30.0, 40.0); 4]
        );
        assert_eq!(
            parse_rectangles("10,20,30,40", Origin::One).unwrap(),
            [px(9.0, 19.0, 30.0, 40.0)]
        );
    }

    #[test]
    fn nan_and_empty_rectangles_mean_absent() {
        let truth = parse_rectangles(
            "nan,nan,nan,nan\n0,0,0,0\n1,2,3,4\nNaN NaN NaN NaN\n",
            Origin::One,
        )
        .unwrap();
        assert_eq!(truth, [None, None, px(0.0, 1.0, 3.0, 4.0), None]);
    }

    #[test]
    fn malformed_rectangles_are_named_by_line() {
        let (line, problem) = parse_rectangles("1,2,3,4\n1,2,3\n", Origin::Zero).unwrap_err();
        assert_eq!(
            (line, problem),
            (
                2,
                LineProblem::FieldCount {
                    found: 3,
                    expected: 4
                }
            )
        );
        let (line, problem) = parse_rectangles("\n1,2,wide,4\n", Origin::Zero).unwrap_err();
        assert!(line == 2 && problem.to_string().contains("w is \"wide\""));
        assert!(parse_rectangles("inf,2,3,4", Origin::Zero).is_err());
    }

    #[test]
    fn a_polygon_becomes_the_rectangle_about_it_and_other_counts_are_refused() {
        let text = "30,20,60,25,55,70,28,60\n1,1,nan,1,2,2,1,2\n";
        assert_eq!(
            parse_rectangles(text, Origin::Zero).unwrap(),
            [px(28.0, 20.0, 32.0, 50.0), None]
        );
        assert_eq!(
            parse_rectangles("30,20,60,25,55,70,28,60", Origin::One).unwrap(),
            [px(27.0, 19.0, 32.0, 50.0)]
        );
        for line in ["1,2,3,4,5", "1,2,3,4,5,6,7", "1,2,3,4,5,6,7,8,9"] {
            let (_, problem) = parse_rectangles(line, Origin::Zero).unwrap_err();
            let found = line.split(',').count();
            assert!(problem.to_string().contains(&format!("{found} fields")));
        }
    }

    fn rectangles_folder(images: &[&str], boxes: usize) -> Result<Vec<Run>, String> {
        let folder = tempfile::tempdir().unwrap();
        let clip = folder.path().join("clip");
        std::fs::create_dir_all(clip.join("img")).unwrap();
        for image in images {
            std::fs::write(clip.join("img").join(image), b"").unwrap();
        }
        let lines = "1,2,3,4\n".repeat(boxes);
        std::fs::write(clip.join("groundtruth_rect.txt"), lines).unwrap();
        load_runs(folder.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn frames_go_by_number_where_every_name_is_one() {
        let ends_with = |images: &[&str], order: &[&str]| {
            let runs = rectangles_folder(images, images.len()).unwrap();
            let frames = &runs[0].frames;
            frames
                .iter()
                .zip(order)
                .all(|(path, name)| path.ends_with(name))
        };
        assert!(ends_with(
            &["10.jpg", "1.jpg", "2.jpg"],
            &["1.jpg", "2.jpg", "10.jpg"]
        ));
        assert!(ends_with(
            &["b.jpg", "a10.jpg", "2.jpg"],
            &["2.jpg", "a10.jpg", "b.jpg"]
        ));
    }

    #[test]
    fn a_file_with_another_count_of_boxes_than_there_are_images_is_refused_by_name() {
        for boxes in [2, 4] {
            let error = rectangles_folder(&["1.jpg", "2.jpg", "3.jpg"], boxes).unwrap_err();
            let words = format!("{boxes} entries, the folder of images has 3");
            assert!(
                error.contains("groundtruth_rect.txt:") && error.contains(&words),
                "{error}"
            );
        }
    }

    fn mot_folder(gt: &str, spans: &str) -> Result<Vec<Run>, String> {
        let folder = tempfile::tempdir().unwrap();
        let clip = folder.path().join("clip");
        std::fs::create_dir_all(clip.join("img")).unwrap();
        for frame in 1..=4 {
            std::fs::write(clip.join(format!("img/{frame:06}.jpg")), b"").unwrap();
        }
        std::fs::write(clip.join("gt.txt"), gt).unwrap();
        std::fs::write(clip.join("sot_spans.csv"), spans).unwrap();
        std::fs::write(clip.join("seqinfo.ini"), "[Sequence]\nframeRate=10\n").unwrap();
        load_runs(folder.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn spans_cut_one_target_out_of_a_mot_file() {
        let gt = "2,1,5,6,7,8,1,2,1.0\n2,9,1,1,1,1,1,2,1.0\n4,1,9,9,9,9,1,2,1.0\n";
        let runs = mot_folder(gt, "id,first_frame,last_frame\n1,2,4\n").unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!(
            (runs[0].name.as_str(), runs[0].fps, runs[0].assisted),
            ("clip_1", 10.0, true)
        );
        assert_eq!(
            runs[0].truth,
            [px(5.0, 6.0, 7.0, 8.0), None, px(9.0, 9.0, 9.0, 9.0)]
        );
        assert!(runs[0].frames[0].ends_with("img/000002.jpg") && runs[0].frames.len() == 3);
    }

    #[test]
    fn malformed_mot_and_span_lines_are_named_by_file_and_number() {
        let gt = "1,1,5,6,7,8,1,2,1.0\n";
        let header = "id,first_frame,last_frame\n";
        for (gt, spans, words) in [
            (
                format!("{gt}1,x,5,6,7,8,1,2,1"),
                format!("{header}1,1,1\n"),
                "gt.txt:2: id is \"x\"",
            ),
            (
                format!("{gt}1,2,5,6"),
                format!("{header}1,1,1\n"),
                "gt.txt:2: 4 fields",
            ),
            (
                gt.into(),
                format!("{header}1,1,5\n"),
                "sot_spans.csv:2: no image",
            ),
            (
                gt.into(),
                format!("{header}1,0,2\n"),
                "sot_spans.csv:2: no image",
            ),
            (
                gt.into(),
                format!("{header}1,1\n"),
                "sot_spans.csv:2: 2 fields",
            ),
            (gt.into(), "1,1,1\n".into(), "sot_spans.csv:1: header"),
        ] {
            let error = mot_folder(&gt, &spans).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn evaluation_clips_read_as_the_reference_reader_does() {
        let Some(shared) = shared_folder() else {
            return;
        };
        let runs = load_runs(&shared.join("data/sequences")).unwrap();
        let found: Vec<_> = runs
            .iter()
            .map(|run| {
                (
                    run.name.as_str(),
                    run.frames.len(),
                    run.truth.iter().flatten().count(),
                    run.assisted,
                )
            })
            .collect();
        assert_eq!(found, REFERENCE);
        let car4 = runs.iter().find(|run| run.name == "otb_car4").unwrap();
        assert_eq!(car4.truth[0], px(69.0, 50.0, 107.0, 87.0));
        assert!(
            runs.iter()
                .all(|run| run.truth[0].is_some() && run.truth.len() == run.frames.len())
        );
    }

    // Printed by tools/sequences.py: name, frames, boxes, assisted.
    const REFERENCE: &[(&str, usize, usize, bool)] = &[
        ("eu_kitti_raw_queue_1", 62, 62, true),
        ("eu_kitti_raw_queue_2", 36, 36, true),
        ("in_kerala_a_1", 60, 60, true),
        ("in_kerala_a_2", 101, 101, true),
        ("in_kerala_a_3", 56, 56, true),
        ("in_kerala_a_4", 49, 49, true),
        ("in_kerala_a_5", 27, 27, true),
        ("in_kerala_b_1", 126, 126, true),
        ("otb_car4", 420, 420, false),
        ("otb_carscale", 252, 252, false),
        ("otb_jogging_1", 307, 307, false),
        ("otb_jogging_2", 307, 307, false),
        ("tld_pedestrian1", 140, 140, false),
        ("tld_pedestrian3", 184, 156, false),
        ("tlp_carchase1", 300, 300, false),
        ("tlp_motorcyclechase", 300, 300, false),
        ("us_carnd_test_1", 38, 38, true),
        ("us_carnd_test_2", 38, 38, true),
        ("us_i280_highway_1", 189, 189, true),
        ("us_i280_highway_2", 221, 221, true),
        ("us_i280_highway_3", 221, 221, true),
        ("us_i280_highway_4", 221, 221, true),
        ("us_i280_highway_5", 97, 97, true),
        ("us_i280_highway_6", 46, 46, true),
    ];

    proptest! {
        #[test]
        fn any_text_gives_boxes_or_a_line_number_never_a_panic(text in "[ -~\n\t]{0,120}") {
            match parse_rectangles(&text, Origin::One) {
                Ok(truth) => prop_assert!(truth.len() <= text.lines().count()),
                Err((line, _)) => prop_assert!(line >= 1 && line <= text.lines().count() as u64),
            }
        }
    }
}
