//! YOLO text labels: in goes a folder of images and one of labels, out comes one sequence a labelled image.
//!
//! ```text
//! ROOT/img/7.jpg          or images/7.jpg
//!      labels/7.txt       class cx cy w h
//!      classes.txt        car          names of the classes, one a line, from 0
//! ```
//! `read.images` and `read.labels` name other places (`images/train`, `labels/train`). Centre and size are shares of the
//! image's width and height, so headers are read, since pixels cannot be had without the size. A box may reach beyond
//! its image, as some published labels do: whether enough of it can be seen is for [`super::TargetFilter`] to say.
//!
//! Classes are numbers. Their names come from `read.class_names`, else from `classes.txt`, `obj.names` or the `names` of
//! `data.yaml` in the pack's folder; without any of these, the number is the name. The format knows no identities,
//! occlusion or ignore regions (`read.classes` can make one of a class); the instance is the line's place in its file.

use std::path::Path;

use super::classes::{Class, ClassTable};
use super::clip::{read_all_texts, read_text};
use super::sequence::{Annotation, Frame, Sequence};
use super::store::stored_size;
use super::{DataError, LineProblem, ReadConfig, checked_box, list_images, number};

const LABELS: &str = "labels";
const IMAGES: [&str; 2] = ["img", "images"];

/// Reads every image that has a non-empty label file, sorted by name.
///
/// # Errors
/// Unreadable folders, label files or image headers; malformed lines, by number.
pub fn read(
    folder: &Path,
    read: &ReadConfig,
    classes: &ClassTable<'_>,
) -> Result<Vec<Sequence>, DataError> {
    let labels = folder.join(read.labels.as_deref().unwrap_or(Path::new(LABELS)));
    let images = match &read.images {
        Some(given) => folder.join(given),
        None => {
            let [usual, other] = IMAGES.map(|name| folder.join(name));
            if usual.is_dir() || !other.is_dir() {
                usual
            } else {
                other
            }
        }
    };
    std::fs::read_dir(&labels).map_err(DataError::io(&labels))?;
    let names = match read.class_names.is_empty() {
        true => class_names(folder)?,
        false => Some(read.class_names.clone()),
    };
    let names: Option<Vec<Class>> =
        names.map(|names| names.iter().map(|name| classes.get(name)).collect());
    let sequences = read_all_texts(list_images(&images)?, |reader, image| {
        let Some(stem) = image
            .file_stem()
            .and_then(|stem| stem.to_str())
            .map(str::to_owned)
        else {
            return Ok(None);
        };
        let label = labels.join(format!("{stem}.txt"));
        let Some(text) = reader.read_if_there(&label)? else {
            return Ok(None);
        };
        if text.trim().is_empty() {
            return Ok(None);
        }
        let size_px = stored_size(&image)?;
        let mut annotations = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let annotation =
                parse_line(
                    line,
                    annotations.len() as u32,
                    size_px,
                    |number| match &names {
                        Some(names) => names.get(number as usize).cloned(),
                        None => Some(classes.get(&number.to_string())),
                    },
                )
                .map_err(|problem| DataError::line(&label, index as u64 + 1, problem))?;
            annotations.push(annotation);
        }
        Ok(Some(Sequence {
            name: stem.into(),
            frames: vec![Frame {
                path: image.into(),
                number: 0,
                size_px: Some(size_px),
                annotations,
            }],
            is_video: false,
            scene: None,
        }))
    })?;
    Ok(sequences.into_iter().flatten().collect())
}

fn parse_line(
    line: &str,
    instance: u32,
    (width_px, height_px): (u32, u32),
    class_of: impl Fn(u32) -> Option<Class>,
) -> Result<Annotation, LineProblem> {
    let mut words = line.split_whitespace();
    let fields: [&str; 5] = std::array::from_fn(|_| words.next().unwrap_or_default());
    // Nearly every line is right: words are counted only where one is not.
    if fields[4].is_empty() || words.next().is_some() {
        let found = line.split_whitespace().count();
        return Err(LineProblem::FieldCount { found, expected: 5 });
    }
    let class = class_of(number(fields[0], "class", "a whole number")?).ok_or_else(|| {
        LineProblem::NotANumber {
            field: "class",
            text: fields[0].to_owned(),
            expected: "the number of a named class",
        }
    })?;
    let mut share = [0.0_f32; 4];
    for (value, (text, field)) in share
        .iter_mut()
        .zip(fields[1..].iter().zip(["cx", "cy", "w", "h"]))
    {
        *value = number(text, field, "a share of the image")?;
    }
    let [cx, cy, w, h] = share;
    let (width_px, height_px) = (width_px as f32, height_px as f32);
    Ok(Annotation {
        box_in_image: checked_box(
            (cx - w / 2.0) * width_px,
            (cy - h / 2.0) * height_px,
            w * width_px,
            h * height_px,
        )?,
        instance,
        class: class.name,
        occluded: None,
        ignore: class.ignore,
    })
}

/// Names of the classes, from the first file that has them.
fn class_names(folder: &Path) -> Result<Option<Vec<String>>, DataError> {
    for list in ["classes.txt", "obj.names"] {
        let path = folder.join(list);
        if path.exists() {
            let text = read_text(&path)?;
            let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
            return Ok(Some(names.map(str::to_owned).collect()));
        }
    }
    let path = folder.join("data.yaml");
    match path.exists() {
        true => names_in_yaml(&read_text(&path)?)
            .map(Some)
            .map_err(|(line, problem)| DataError::line(&path, line, problem)),
        false => Ok(None),
    }
}

/// The `names` of a `data.yaml`: `[car, bus]`, a list of `- car`, or a table of `0: car`. No more of YAML is needed.
fn names_in_yaml(text: &str) -> Result<Vec<String>, (u64, LineProblem)> {
    let plain = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    let mut lines = text.lines().enumerate().map(|(index, line)| {
        (
            index as u64 + 1,
            line.split(" #").next().unwrap_or_default(),
        )
    });
    let Some((first, head)) =
        lines.find_map(|(at, line)| Some((at, line.strip_prefix("names:")?.trim())))
    else {
        return Err((1, LineProblem::Missing("key 'names'")));
    };
    if let Some(open) = head.strip_prefix('[') {
        let Some(inner) = open.strip_suffix(']') else {
            return Err((
                first,
                LineProblem::Missing("closing bracket on the line of 'names'"),
            ));
        };
        return Ok(inner
            .split(',')
            .map(plain)
            .filter(|name| !name.is_empty())
            .collect());
    }
    let mut names = Vec::new();
    for (at, line) in lines {
        let entry = line.trim();
        if entry.is_empty() || entry.starts_with('#') {
            continue;
        }
        if let Some(name) = entry.strip_prefix("- ") {
            names.push(plain(name));
            continue;
        }
        if !line.starts_with([' ', '\t']) {
            break;
        }
        let Some((key, name)) = entry.split_once(':') else {
            return Err((
                at,
                LineProblem::Missing("'- NAME' or 'NUMBER: NAME' on this line"),
            ));
        };
        let key: usize = number(key, "class", "a whole number").map_err(|problem| (at, problem))?;
        if key != names.len() {
            return Err((
                at,
                LineProblem::NotANumber {
                    field: "class",
                    text: key.to_string(),
                    expected: "the number after the line above's, from 0",
                },
            ));
        }
        names.push(plain(name));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::testing::write_files;
    use crate::data::{PackKind, read_pack};

    fn read_label(text: &str) -> Result<Vec<Sequence>, String> {
        read_label_with(text, &[], &ReadConfig::default())
    }

    fn read_label_with(
        text: &str,
        files: &[(&str, &str)],
        config: &ReadConfig,
    ) -> Result<Vec<Sequence>, String> {
        let folder = write_files(files);
        std::fs::create_dir(folder.path().join("img")).unwrap();
        std::fs::create_dir(folder.path().join("labels")).unwrap();
        image::RgbImage::new(200, 100)
            .save(folder.path().join("img/7.png"))
            .unwrap();
        image::RgbImage::new(200, 100)
            .save(folder.path().join("img/unlabelled.png"))
            .unwrap();
        std::fs::write(folder.path().join("labels/7.txt"), text).unwrap();
        read_pack(folder.path(), PackKind::Yolo, config, &|class| {
            class == "ignore"
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn shares_become_pixels_of_the_image() {
        let sequences = read_label("0 0.5 0.5 0.25 0.5\n\n3 0.25 0.75 0.5 0.5\n").unwrap();
        assert_eq!(sequences.len(), 1);
        let boxes: Vec<_> = sequences[0].frames[0]
            .annotations
            .iter()
            .map(|a| a.box_in_image)
            .collect();
        assert_eq!(
            (boxes[0].x_px, boxes[0].y_px, boxes[0].w_px, boxes[0].h_px),
            (75.0, 25.0, 50.0, 50.0)
        );
        assert_eq!(
            (boxes[1].x_px, boxes[1].y_px, boxes[1].w_px, boxes[1].h_px),
            (0.0, 50.0, 100.0, 50.0)
        );
        assert_eq!(sequences[0].frames[0].annotations[1].instance, 1);
    }

    #[test]
    fn malformed_lines_are_named_by_file_and_number() {
        for (bad, words) in [
            ("0 0.5 0.5 0.2", "4 fields, expected 5"),
            ("car 0.5 0.5 0.2 0.2", "class is \"car\""),
            ("0 0.5 0.5 0.2 0", "no finite positive area"),
            ("0 0.5 0.5 nan 0.2", "no finite positive area"),
        ] {
            let error = read_label(&format!("0 0.5 0.5 0.2 0.2\n{bad}\n")).unwrap_err();
            assert!(
                error.contains("7.txt:2: ") && error.contains(words),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn an_image_without_labels_is_left_out() {
        assert!(read_label("\n").unwrap().is_empty());
    }

    #[test]
    fn numbers_get_their_names_from_the_first_file_that_has_them() {
        let label = "2 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n";
        let names = |files: &[(&str, &str)], config: &ReadConfig| -> Vec<String> {
            let sequences = read_label_with(label, files, config).unwrap();
            sequences[0].frames[0]
                .annotations
                .iter()
                .map(|a| a.class.to_string())
                .collect()
        };
        let plain = ReadConfig::default();
        assert_eq!(names(&[], &plain), ["2", "0"]);
        for file in [
            ("classes.txt", "Car\nbus\nautorickshaw\n"),
            ("obj.names", "car\r\nbus\r\nAuto Rickshaw\r\n"),
            (
                "data.yaml",
                "train: images/train  # here\nnc: 3\nnames: ['car', \"bus\", autorickshaw]\n",
            ),
            ("data.yaml", "names:\n- car\n- bus\n- auto\nnc: 3\n"),
            (
                "data.yaml",
                "names:\n  # vehicles\n  0: car\n  1: bus\n  2: autorickshaw\ntrain: x\n",
            ),
        ] {
            assert_eq!(names(&[file], &plain), ["auto_rickshaw", "car"], "{file:?}");
        }
        let configured = ReadConfig {
            class_names: vec!["a".into(), "b".into(), "sign".into()],
            classes: [("sign".to_owned(), "ignore".to_owned())].into(),
            ..ReadConfig::default()
        };
        assert_eq!(names(&[("classes.txt", "x")], &configured), ["ignore", "a"]);
        assert!(
            read_label_with(label, &[], &configured).unwrap()[0].frames[0].annotations[0].ignore
        );
    }

    #[test]
    fn a_number_without_a_name_and_a_broken_list_are_told() {
        let label = "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n";
        for (file, words) in [
            (
                ("classes.txt", "car\n"),
                "7.txt:2: class is \"1\", expected the number of a named class",
            ),
            (("data.yaml", "nc: 3\n"), "data.yaml:1: no key 'names'"),
            (
                ("data.yaml", "nc: 3\nnames: [car,\n  bus]\n"),
                "data.yaml:2: no closing bracket",
            ),
            (
                ("data.yaml", "names:\n  0: car\n  2: bus\n"),
                "data.yaml:3: class is \"2\"",
            ),
            (
                ("data.yaml", "names:\n  0: car\n  x: bus\n"),
                "data.yaml:3: class is \"x\"",
            ),
            (("data.yaml", "names:\n  car\n"), "data.yaml:2: no '- NAME'"),
        ] {
            let error = read_label_with(label, &[file], &ReadConfig::default()).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn folders_may_have_other_names() {
        let folder = write_files(&[
            ("labels/train/1.txt", "0 0.5 0.5 0.5 0.5\n"),
            ("images/train/x.txt", ""),
        ]);
        image::RgbImage::new(64, 32)
            .save(folder.path().join("images/train/1.png"))
            .unwrap();
        let config = ReadConfig {
            labels: Some("labels/train".into()),
            images: Some("images/train".into()),
            ..ReadConfig::default()
        };
        let sequences = read_pack(folder.path(), PackKind::Yolo, &config, &|_| false).unwrap();
        assert_eq!(
            (sequences.len(), sequences[0].frames[0].size_px),
            (1, Some((64, 32)))
        );
    }
}
