//! YOLO text labels: in goes a folder with `img/` and `labels/`, out comes one sequence a labelled image.
//!
//! A line is `class cx cy w h`, centre and size in shares of the image's width and height. Image headers are read,
//! since pixels cannot be had without the size. A box may reach beyond its image, as some published labels do: whether
//! enough of it can be seen is for [`super::TargetFilter`] to say.

use std::path::Path;
use std::sync::Arc;

use super::sequence::{Annotation, Frame, Sequence};
use super::store::stored_size;
use super::{DataError, LineProblem, checked_box, list_images, number};

/// Reads every image of `folder/img` that has a non-empty label file. The instance is the line's place in its file.
///
/// # Errors
/// Unreadable folders, label files or image headers; malformed lines, by number.
pub fn read(folder: &Path) -> Result<Vec<Sequence>, DataError> {
    let labels = folder.join("labels");
    std::fs::read_dir(&labels).map_err(DataError::io(&labels))?;
    let mut sequences = Vec::new();
    for image in list_images(&folder.join("img"))? {
        let Some(stem) = image
            .file_stem()
            .and_then(|stem| stem.to_str())
            .map(str::to_owned)
        else {
            continue;
        };
        let label = labels.join(format!("{stem}.txt"));
        if !label.exists() {
            continue;
        }
        let text = std::fs::read_to_string(&label).map_err(DataError::io(&label))?;
        let (width_px, height_px) = stored_size(&image)?;
        let mut annotations = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let annotation = parse_line(
                line,
                annotations.len() as u32,
                [width_px as f32, height_px as f32],
            )
            .map_err(|problem| DataError::line(&label, index as u64 + 1, problem))?;
            annotations.push(annotation);
        }
        if !annotations.is_empty() {
            sequences.push(Sequence {
                name: stem.into(),
                frames: vec![Frame {
                    path: image,
                    number: 0,
                    annotations,
                }],
            });
        }
    }
    Ok(sequences)
}

fn parse_line(line: &str, instance: u32, size_px: [f32; 2]) -> Result<Annotation, LineProblem> {
    let fields: [&str; 5] = match line.split_whitespace().collect::<Vec<_>>().try_into() {
        Ok(fields) => fields,
        Err(fields) => {
            return Err(LineProblem::FieldCount {
                found: fields.len(),
                expected: 5,
            });
        }
    };
    let class: u32 = number(fields[0], "class", "a whole number")?;
    let mut share = [0.0_f32; 4];
    for (value, (text, field)) in share
        .iter_mut()
        .zip(fields[1..].iter().zip(["cx", "cy", "w", "h"]))
    {
        *value = number(text, field, "a share of the image")?;
    }
    let [cx, cy, w, h] = share;
    let [width_px, height_px] = size_px;
    Ok(Annotation {
        box_in_image: checked_box(
            (cx - w / 2.0) * width_px,
            (cy - h / 2.0) * height_px,
            w * width_px,
            h * height_px,
        )?,
        instance,
        class: Arc::from(class.to_string()),
        occluded: None,
        ignore: false,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read_label(text: &str) -> Result<Vec<Sequence>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("img")).unwrap();
        std::fs::create_dir(folder.path().join("labels")).unwrap();
        image::RgbImage::new(200, 100)
            .save(folder.path().join("img/7.png"))
            .unwrap();
        image::RgbImage::new(200, 100)
            .save(folder.path().join("img/unlabelled.png"))
            .unwrap();
        std::fs::write(folder.path().join("labels/7.txt"), text).unwrap();
        read(folder.path()).map_err(|error| error.to_string())
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
}
