//! GOT-10k: in goes the folder of a split, out comes one sequence or run a clip.
//!
//! ```text
//! ROOT/list.txt                                  names of the clips, one a line
//!      GOT-10k_Train_000001/00000001.jpg         frame 1
//!                           groundtruth.txt      x,y,w,h of every frame
//!                           absence.label        1: the object is not in the picture
//!                           cover.label          0 to 8: how much of it can be seen, 8 is all
//!                           cut_by_image.label   1: the picture's border cuts it
//!                           meta_info.ini        anno_fps, object_class, resolution
//! ```
//! Boxes are counted from (1, 1), as the authors' toolkits do, so 1 is taken off; width and height stay. A frame is one
//! without the target where `absence` is 1, `cover` is 0 or the box has no area. It is occluded where `cover` is below 8;
//! where the border cuts the object as well, the border alone may be the reason, and occlusion counts as not annotated.
//! Without `list.txt`, every folder with a `groundtruth.txt` is a clip. The test split publishes first boxes only: it
//! trains nothing and cannot be scored here.

use std::path::Path;

use super::classes::ClassTable;
use super::clip::{
    Clip, Place, Target, clip_images, folders, read_all, read_flags, read_list, read_text,
};
use super::ini::Ini;
use super::otb::{Origin, parse_rectangles};
use super::sequence::{Run, Sequence};
use super::{DataError, LineProblem, ReadConfig};

const FPS: f64 = 10.0;
const TRUTH: &str = "groundtruth.txt";
/// The level of `cover.label` at which everything can be seen.
const FULLY_SEEN: u8 = 8;

/// One sequence a clip, in the order of the list.
///
/// # Errors
/// A folder without clips, unreadable or malformed files, truth without an image.
pub fn read(
    folder: &Path,
    read: &ReadConfig,
    classes: &ClassTable<'_>,
) -> Result<Vec<Sequence>, DataError> {
    let sequences = read_all(places(folder, read.list.as_deref())?, |place| {
        let clip = read_clip(place)?;
        Ok(clip.into_sequence(classes, read.keep_every))
    })?;
    Ok(sequences.into_iter().flatten().collect())
}

/// One run a clip, in the order of the list.
///
/// # Errors
/// See [`read`]; a clip whose truth does not cover its images.
pub fn load_runs(root: &Path) -> Result<Vec<Run>, DataError> {
    read_all(places(root, None)?, |place| read_clip(place)?.into_run())
}

/// Whether the folder is laid out so.
pub(crate) fn recognise(root: &Path) -> bool {
    places(root, None).is_ok_and(|places| places.iter().all(|place| is_clip(&place.folder)))
}

fn is_clip(folder: &Path) -> bool {
    folder.join(TRUTH).is_file() && !folder.join("img").is_dir()
}

fn places(root: &Path, list: Option<&Path>) -> Result<Vec<Place>, DataError> {
    let default_list = Path::new("list.txt");
    let list = root.join(list.unwrap_or(default_list));
    let places: Vec<Place> = if list.exists() {
        let names = read_list(&list)?;
        names
            .into_iter()
            .map(|(line, name)| {
                let folder = root.join(&name);
                match is_clip(&folder) {
                    true => Ok(Place { name, folder }),
                    false => Err(DataError::line(
                        &list,
                        line,
                        LineProblem::Missing("clip of this name"),
                    )),
                }
            })
            .collect::<Result<_, _>>()?
    } else if list.ends_with(default_list) {
        folders(root)?
            .into_iter()
            .filter(|place| is_clip(&place.folder))
            .collect()
    } else {
        return Err(DataError::io(&list)(std::io::ErrorKind::NotFound.into()));
    };
    if places.is_empty() {
        return Err(DataError::Layout {
            path: root.to_owned(),
            reason: "has no GOT-10k clips (folders with a groundtruth.txt and images)",
        });
    }
    Ok(places)
}

fn read_clip(place: Place) -> Result<Clip, DataError> {
    let at = |name: &str| place.folder.join(name);
    let truth_path = at(TRUTH);
    let text = read_text(&truth_path)?;
    let boxes = parse_rectangles(&text, Origin::One)
        .map_err(|(line, problem)| DataError::line(&truth_path, line, problem))?;
    let frames = boxes.len();
    let flags = |name: &str, field, says, most: u8, otherwise: u8| match at(name).exists() {
        true => read_flags(&at(name), field, says, most, frames),
        false => Ok(vec![otherwise; frames]),
    };
    let has_cover = at("cover.label").exists();
    let absent = flags("absence.label", "absence", "0 or 1", 1, 0)?;
    let cover = flags("cover.label", "cover", "0 to 8", FULLY_SEEN, FULLY_SEEN)?;
    let cut = flags("cut_by_image.label", "cut_by_image", "0 or 1", 1, 0)?;
    let targets = boxes
        .into_iter()
        .enumerate()
        .map(|(i, box_in_image)| Target {
            box_in_image: box_in_image.filter(|_| absent[i] == 0 && cover[i] > 0),
            occluded: match cover[i] {
                _ if !has_cover => None,
                FULLY_SEEN => Some(false),
                _ if cut[i] == 1 => None,
                _ => Some(true),
            },
        })
        .collect();
    let meta = match at("meta_info.ini") {
        path if path.exists() => Some(Ini::read(&path)?),
        _ => None,
    };
    let (fps, size_px) = match &meta {
        Some(meta) => (
            meta.rate("anno_fps")?.unwrap_or(FPS),
            meta.size("resolution")?,
        ),
        None => (FPS, None),
    };
    let class = meta
        .as_ref()
        .and_then(|meta| meta.text("object_class"))
        .unwrap_or("object");
    let clip = Clip {
        scene: None,
        class: class.to_owned(),
        images: clip_images(&place.folder)?,
        name: place.name,
        targets,
        fps,
        size_px,
        truth_path,
    };
    clip.check_images(1)?;
    Ok(clip)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::geometry::BoxXywh;

    use super::*;
    use crate::data::testing::write_files;
    use crate::data::{PackKind, read_pack};

    const CLIP: &[(&str, &str)] = &[
        ("list.txt", "GOT-10k_Val_000001\n"),
        (
            "GOT-10k_Val_000001/groundtruth.txt",
            "347.0000,443.0000,429.0000,272.0000\n348.5000,443.0000,429.0000,272.0000\n1.0,1.0,9.0,9.0\n350,440,420,270\n",
        ),
        ("GOT-10k_Val_000001/absence.label", "0\n0\n1\n0\n"),
        ("GOT-10k_Val_000001/cover.label", "8\n5\n0\n6\n"),
        ("GOT-10k_Val_000001/cut_by_image.label", "0\n0\n0\n1\n"),
        (
            "GOT-10k_Val_000001/meta_info.ini",
            "[METAINFO]\nurl: https://youtu.be/b0ZnfLI8YPw\nbegin: 00:00:13\nend: 00:00:24\nanno_fps: 10Hz\nobject_class: motorbike\nmotion_class: driving\nresolution: (1920, 1080)\n",
        ),
        ("GOT-10k_Val_000001/00000001.jpg", ""),
        ("GOT-10k_Val_000001/00000002.jpg", ""),
        ("GOT-10k_Val_000001/00000003.jpg", ""),
        ("GOT-10k_Val_000001/00000004.jpg", ""),
    ];

    fn changed(path: &str, text: &'static str) -> Vec<(&'static str, &'static str)> {
        let path = format!("GOT-10k_Val_000001/{path}");
        let mut files = CLIP.to_vec();
        files.iter_mut().find(|(name, _)| *name == path).unwrap().1 = text;
        files
    }

    fn read_files(files: &[(&str, &str)]) -> Result<Vec<Sequence>, String> {
        let folder = write_files(files);
        read_pack(
            folder.path(),
            PackKind::Got10k,
            &ReadConfig::default(),
            &|_| false,
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn flags_become_absence_and_occlusion() {
        let sequences = read_files(CLIP).unwrap();
        let s = &sequences[0];
        assert_eq!(&*s.name, "GOT-10k_Val_000001");
        let told: Vec<Option<(BoxXywh, Option<bool>)>> = s
            .frames
            .iter()
            .map(|f| f.annotations.first().map(|a| (a.box_in_image, a.occluded)))
            .collect();
        assert_eq!(
            told,
            [
                Some((BoxXywh::new(346.0, 442.0, 429.0, 272.0), Some(false))),
                Some((BoxXywh::new(347.5, 442.0, 429.0, 272.0), Some(true))),
                None,
                Some((BoxXywh::new(349.0, 439.0, 420.0, 270.0), None)),
            ]
        );
        assert_eq!(&*s.frames[0].annotations[0].class, "motorcycle");
        assert!(
            s.frames.iter().all(|f| f.size_px == Some((1920, 1080))),
            "no image is opened for its size"
        );
    }

    #[test]
    fn a_run_has_the_annotated_rate_and_the_absent_frame() {
        let folder = write_files(CLIP);
        let runs = load_runs(folder.path()).unwrap();
        assert_eq!((runs.len(), runs[0].fps), (1, 10.0));
        assert_eq!(runs[0].truth[2], None);
        assert!(recognise(folder.path()));
    }

    #[test]
    fn without_labels_and_list_every_box_counts() {
        let mut files = CLIP.to_vec();
        files.retain(|(name, _)| {
            !name.ends_with(".label") && !name.ends_with("list.txt") && !name.ends_with(".ini")
        });
        let sequences = read_files(&files).unwrap();
        assert!(sequences[0].frames.iter().all(|f| f.annotations.len() == 1));
        assert_eq!(sequences[0].frames[1].annotations[0].occluded, None);
        assert_eq!(&*sequences[0].frames[0].annotations[0].class, "object");
    }

    #[test]
    fn malformed_files_are_named_by_line() {
        for (files, words) in [
            (
                changed("groundtruth.txt", "1,2,3,4\n1,2,3,4\n1;2;3;4\n1,2,3,4\n"),
                "groundtruth.txt:3: 1 fields",
            ),
            (
                changed("absence.label", "0\n0\nmaybe\n0\n"),
                "absence.label:3: absence is \"maybe\"",
            ),
            (
                changed("cover.label", "8\n9\n8\n8\n"),
                "cover.label:2: cover is \"9\", expected 0 to 8",
            ),
            (
                changed("cut_by_image.label", "0\n0\n"),
                "cut_by_image.label:2: 2 entries, groundtruth.txt has 4",
            ),
            (
                changed("meta_info.ini", "[METAINFO]\nanno_fps: none\n"),
                "meta_info.ini:2: anno_fps",
            ),
        ] {
            let error = read_files(&files).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        let mut files = CLIP.to_vec();
        files[0].1 = "GOT-10k_Val_000001\nGOT-10k_Val_000002\n";
        let error = read_files(&files).unwrap_err();
        assert!(
            error.contains("list.txt:2: no clip of this name"),
            "{error}"
        );
    }

    #[test]
    fn a_test_split_cannot_be_scored() {
        let mut files = CLIP.to_vec();
        files.retain(|(name, _)| !name.ends_with(".label"));
        files[1].1 = "347,443,429,272\n";
        let error = load_runs(write_files(&files).path())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("groundtruth.txt:1: 1 entries, the folder of images has 4"),
            "{error}"
        );
    }
}
