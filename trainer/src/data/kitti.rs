//! KITTI tracking: in goes the folder of a split, out comes one sequence a drive, or one run an object.
//!
//! ```text
//! ROOT/label_02/0000.txt           frame id type truncated occluded alpha left top right bottom h w l x y z ry
//!      image_02/0000/000000.png    frame 0
//! ```
//! Frames and pixels are counted from 0. The corners are edges: the benchmark's own overlap takes `right - left` as the
//! width. `DontCare` (identity -1) becomes an ignore region. `occluded` 0 is fully visible, 1 and 2 are partly and largely
//! hidden, 3 and -1 are not known. Boxes are cut at the picture's border, which is what `truncated` tells. Drives run at
//! 10 frames a second. `list` may be a sequence map (`evaluate_tracking.seqmap`): its first column names drives. Clips of
//! this data set are evaluated on as well: a drive that is scored must not be trained on, under whatever name.

use std::path::{Path, PathBuf};

use super::classes::ClassTable;
use super::clip::{Place, clip_images, read_all, read_list, read_text};
use super::multi::{Recording, runs_of};
use super::sequence::{Annotation, Run, Sequence};
use super::{DataError, LineProblem, ReadConfig, checked_box, number};

const FPS: f64 = 10.0;
const LABELS: &str = "label_02";
const IMAGES: &str = "image_02";
/// Columns of a label; results have a score behind them.
const COLUMNS: usize = 17;

/// One sequence a drive, sorted by name.
///
/// # Errors
/// Missing folders, unreadable or malformed files, a box without an image.
pub fn read(
    folder: &Path,
    read: &ReadConfig,
    classes: &ClassTable<'_>,
) -> Result<Vec<Sequence>, DataError> {
    let read = read_all(drives(folder, read)?, |drive| {
        Ok(read_drive(&drive, classes)?.into_sequence(read.keep_every))
    })?;
    Ok(read.into_iter().flatten().collect())
}

/// One run an object, see [`runs_of`].
///
/// # Errors
/// See [`read`].
pub fn load_runs(root: &Path, classes: &ClassTable<'_>) -> Result<Vec<Run>, DataError> {
    let runs = read_all(drives(root, &ReadConfig::default())?, |drive| {
        let sequence = read_drive(&drive, classes)?.into_sequence(1);
        Ok(sequence.map(|sequence| runs_of(&sequence, FPS)))
    })?;
    Ok(runs.into_iter().flatten().flatten().collect())
}

/// Whether the folder is laid out so.
pub(crate) fn recognise(root: &Path) -> bool {
    root.join(LABELS).is_dir() && root.join(IMAGES).is_dir()
}

struct Drive {
    images: Place,
    labels: PathBuf,
}

fn drives(root: &Path, read: &ReadConfig) -> Result<Vec<Drive>, DataError> {
    let labels = root.join(read.labels.as_deref().unwrap_or(Path::new(LABELS)));
    let images = root.join(read.images.as_deref().unwrap_or(Path::new(IMAGES)));
    let drive = |name: String| Drive {
        labels: labels.join(format!("{name}.txt")),
        images: Place {
            folder: images.join(&name),
            name,
        },
    };
    if let Some(list) = &read.list {
        let names = read_list(&root.join(list))?;
        return Ok(names.into_iter().map(|(_, name)| drive(name)).collect());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&labels).map_err(DataError::io(&labels))? {
        let path = entry.map_err(DataError::io(&labels))?.path();
        if path.extension().is_some_and(|extension| extension == "txt")
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        return Err(DataError::Layout {
            path: labels,
            reason: "has no label files (.txt)",
        });
    }
    names.sort();
    Ok(names.into_iter().map(drive).collect())
}

fn read_drive(drive: &Drive, classes: &ClassTable<'_>) -> Result<Recording, DataError> {
    let text = read_text(&drive.labels)?;
    let images = clip_images(&drive.images.folder)?;
    let mut recording = Recording::new(drive.images.name.clone(), images, None);
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        parse_line(line, classes)
            .and_then(|(frame, mut annotation, named)| {
                if !named {
                    annotation.instance = recording.unnamed();
                }
                recording.add(frame, annotation)
            })
            .map_err(|problem| DataError::line(&drive.labels, index as u64 + 1, problem))?;
    }
    Ok(recording)
}

/// The frame, what is on it, and whether it has an identity.
fn parse_line(
    line: &str,
    classes: &ClassTable<'_>,
) -> Result<(u32, Annotation, bool), LineProblem> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if fields.len() < COLUMNS {
        return Err(LineProblem::FieldCount {
            found: fields.len(),
            expected: COLUMNS,
        });
    }
    let frame = number(fields[0], "frame", "a whole number")?;
    let id: i64 = number(fields[1], "track id", "a whole number")?;
    let instance = match id {
        -1 => None,
        id => Some(
            u32::try_from(id)
                .ok()
                .filter(|id| *id < 1 << 31)
                .ok_or_else(|| LineProblem::NotANumber {
                    field: "track id",
                    text: fields[1].to_owned(),
                    expected: "a whole number, or -1",
                })?,
        ),
    };
    let mut corners = [0.0_f32; 4];
    for (value, (text, field)) in corners
        .iter_mut()
        .zip(fields[6..].iter().zip(["left", "top", "right", "bottom"]))
    {
        *value = number(text, field, "a number")?;
    }
    let [left, top, right, bottom] = corners;
    let occluded: i32 = number(fields[4], "occluded", "-1 to 3")?;
    let class = classes.get(fields[2]);
    let annotation = Annotation {
        box_in_image: checked_box(left, top, right - left, bottom - top)?,
        instance: instance.unwrap_or_default(),
        ignore: class.ignore || fields[2] == "DontCare" || instance.is_none(),
        class: class.name,
        occluded: match occluded {
            0 => Some(false),
            1 | 2 => Some(true),
            _ => None,
        },
    };
    Ok((frame, annotation, instance.is_some()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::geometry::BoxXywh;

    use super::*;
    use crate::data::testing::write_files;
    use crate::data::{PackKind, read_pack};

    // As the first lines of the data set's first label file; the van's corners are rounded to what f32 holds exactly.
    const LABEL: &str = "\
0 -1 DontCare -1 -1 -10.000000 219.310000 188.490000 245.500000 218.560000 -1000.000000 -1000.000000 -1000.000000 -10.000000 -1.000000 -1.000000 -1.000000
0 -1 DontCare -1 -1 -10.000000 47.560000 195.280000 115.480000 221.480000 -1000.000000 -1000.000000 -1000.000000 -10.000000 -1.000000 -1.000000 -1.000000
0 0 Van 0 0 -1.793451 296.750000 161.750000 455.250000 292.375000 2.000000 1.823255 4.433886 -4.552284 1.858523 13.410495 -2.115488
0 1 Cyclist 0 1 -1.936993 737.619499 161.531951 931.112229 374.000000 1.739063 0.824591 1.785241 1.640400 1.675660 5.776261 -1.675458
1 2 Pedestrian 0 3 -2.523309 1106.137292 166.576807 1204.470628 323.876144 1.714062 0.767881 0.972283 6.301919 1.652419 8.455685 -1.900245
";

    fn files(label: &str) -> Vec<(&str, &str)> {
        vec![
            ("label_02/0000.txt", label),
            ("image_02/0000/000000.png", ""),
            ("image_02/0000/000001.png", ""),
            ("image_02/0000/000002.png", ""),
        ]
    }

    fn read_files(files: &[(&str, &str)], read: &ReadConfig) -> Result<Vec<Sequence>, String> {
        let folder = write_files(files);
        read_pack(folder.path(), PackKind::Kitti, read, &|_| false)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn corners_are_edges_and_dont_care_is_ignored() {
        let sequences = read_files(&files(LABEL), &ReadConfig::default()).unwrap();
        let frames = &sequences[0].frames;
        assert_eq!((&*sequences[0].name, frames.len()), ("0000", 3));
        let told: Vec<_> = frames[0]
            .annotations
            .iter()
            .map(|a| (&*a.class, a.ignore, a.occluded))
            .collect();
        assert_eq!(
            told,
            [
                ("dontcare", true, None),
                ("dontcare", true, None),
                ("van", false, Some(false)),
                ("cyclist", false, Some(true)),
            ]
        );
        assert_eq!(
            frames[0].annotations[2].box_in_image,
            BoxXywh::new(296.75, 161.75, 158.5, 130.625)
        );
        assert_ne!(
            frames[0].annotations[0].instance,
            frames[0].annotations[1].instance
        );
        assert_eq!(
            (
                &*frames[1].annotations[0].class,
                frames[1].annotations[0].occluded
            ),
            ("person", None)
        );
        assert!(frames[2].annotations.is_empty() && frames[2].number == 2);
    }

    #[test]
    fn a_sequence_map_chooses_drives_and_folders_can_be_elsewhere() {
        let all = [
            ("gt/0000.txt", ""),
            ("gt/0001.txt", LABEL),
            ("png/0001/000000.png", ""),
            ("png/0001/000001.png", ""),
            ("some.seqmap", "0001 empty 000000 000447\n"),
        ];
        let read = ReadConfig {
            labels: Some("gt".into()),
            images: Some("png".into()),
            list: Some("some.seqmap".into()),
            ..ReadConfig::default()
        };
        let sequences = read_files(&all, &read).unwrap();
        assert_eq!(
            sequences.iter().map(|s| &*s.name).collect::<Vec<_>>(),
            ["0001"]
        );
    }

    #[test]
    fn runs_leave_ignore_regions_out() {
        let mut all: Vec<(String, String)> = Vec::new();
        let mut label = String::new();
        for frame in 0..15 {
            all.push((format!("image_02/0004/{frame:06}.png"), String::new()));
            label += &format!(
                "{frame} 3 Car 0 0 -1.5 {} 100 {} 150 1 1 1 1 1 1 1\n",
                100 + frame,
                180 + frame
            );
            label += &format!("{frame} -1 DontCare -1 -1 -10 1 1 60 60 -1 -1 -1 -1 -1 -1 -1\n");
        }
        all.push(("label_02/0004.txt".into(), label));
        let all: Vec<_> = all
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        let folder = write_files(&all);
        assert!(recognise(folder.path()));
        let renames = Default::default();
        let runs = load_runs(folder.path(), &ClassTable::new(&renames, &|_| false)).unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!(
            (runs[0].name.as_str(), runs[0].fps, runs[0].frames.len()),
            ("0004_3", 10.0, 15)
        );
        assert_eq!(
            runs[0].truth[1],
            Some(BoxXywh::new(101.0, 100.0, 80.0, 50.0))
        );
    }

    #[test]
    fn malformed_lines_are_named() {
        for (bad, words) in [
            ("0 1 Car 0 0 -1.5 1 2 3 4", "10 fields, expected 17"),
            ("0 1 Car 0 0 -1.5 1 2 x 4 1 1 1 1 1 1 1", "right is \"x\""),
            (
                "0 1 Car 0 0 -1.5 10 2 3 4 1 1 1 1 1 1 1",
                "no finite positive area",
            ),
            (
                "0 -2 Car 0 0 -1.5 1 2 3 4 1 1 1 1 1 1 1",
                "track id is \"-2\"",
            ),
            (
                "0 9999999999 Car 0 0 -1.5 1 2 3 4 1 1 1 1 1 1 1",
                "track id is \"9999999999\"",
            ),
            (
                "0 1 Car 0 much -1.5 1 2 3 4 1 1 1 1 1 1 1",
                "occluded is \"much\"",
            ),
            (
                "9 1 Car 0 0 -1.5 1 2 3 4 1 1 1 1 1 1 1",
                "no image for sequence \"0000\" frame 9",
            ),
        ] {
            let label = format!("{LABEL}{bad}\n");
            let error = read_files(&files(&label), &ReadConfig::default()).unwrap_err();
            assert!(
                error.contains("0000.txt:6: ") && error.contains(words),
                "{words}: {error}"
            );
        }
        let error = read_files(
            &[("label_02/x.md", ""), ("image_02/a/0.png", "")],
            &ReadConfig::default(),
        )
        .unwrap_err();
        assert!(error.contains("label_02: has no label files"), "{error}");
    }
}
