//! MOTChallenge: in goes the folder of a split, out comes one sequence a recording, or one run an object.
//!
//! ```text
//! ROOT/MOT17-02-FRCNN/seqinfo.ini        imDir, frameRate, imWidth, imHeight
//!                     gt/gt.txt          frame,id,left,top,width,height,flag,class,visibility
//!                     img1/000001.jpg    frame 1
//! ```
//! Frames, identities and pixels are counted from 1, as the benchmark's instructions say, so 1 is taken off left and
//! top. `flag` 0 means that a box is not to be judged; it becomes an ignore region, as do distractors, occluders,
//! reflections and crowds by class. `visibility` is the share that can be seen: below 0.9 something hides the object, at
//! 0 there is nothing to follow and the frame is one without it; below 0 it is not annotated. A line of ten fields is
//! MOT15's: a pedestrian of unknown visibility, with a place in the world instead of the last two. MOT17 has every
//! recording three times, once for each detector (`-DPM`, `-FRCNN`, `-SDP`), with the same images and truth: the first
//! by name is read. `list` may be a sequence map; its header line `name` is passed over.

use std::collections::BTreeSet;
use std::path::Path;

use super::classes::ClassTable;
use super::clip::{Place, clip_images, folders, read_all, read_list, read_text};
use super::ini::Ini;
use super::multi::{Recording, runs_of};
use super::sequence::{Annotation, Run, Sequence};
use super::{DataError, LineProblem, ReadConfig, checked_box, number};

const FPS: f64 = 30.0;
const TRUTH: &str = "gt/gt.txt";
const DETECTORS: [&str; 3] = ["-DPM", "-FRCNN", "-SDP"];
/// Shares are estimates from the boxes' overlap; a neighbour that touches hides nothing worth the name.
const OCCLUDED_BELOW: f32 = 0.9;
/// The class that pedestrians have, and that MOT15 leaves out.
const PEDESTRIAN: i32 = 1;
/// Class names from 1, as the benchmark numbers them, and whether a class only marks what is not judged.
const CLASSES: [(&str, bool); 13] = [
    ("pedestrian", false),
    ("person on vehicle", false),
    ("car", false),
    ("bicycle", false),
    ("motorbike", false),
    ("non-motorized vehicle", false),
    ("static person", false),
    ("distractor", true),
    ("occluder", true),
    ("occluder on the ground", true),
    ("occluder full", true),
    ("reflection", true),
    ("crowd", true),
];

/// One sequence a recording, sorted by name.
///
/// # Errors
/// A folder without recordings, unreadable or malformed files, a box without an image.
pub fn read(
    folder: &Path,
    read: &ReadConfig,
    classes: &ClassTable<'_>,
) -> Result<Vec<Sequence>, DataError> {
    let read = read_all(places(folder, read.list.as_deref())?, |place| {
        let (recording, _) = read_recording(&place, classes)?;
        Ok(recording.into_sequence(read.keep_every))
    })?;
    Ok(read.into_iter().flatten().collect())
}

/// One run an object, see [`runs_of`].
///
/// # Errors
/// See [`read`].
pub fn load_runs(root: &Path, classes: &ClassTable<'_>) -> Result<Vec<Run>, DataError> {
    let runs = read_all(places(root, None)?, |place| {
        let (recording, fps) = read_recording(&place, classes)?;
        Ok(recording
            .into_sequence(1)
            .map(|sequence| runs_of(&sequence, fps)))
    })?;
    Ok(runs.into_iter().flatten().flatten().collect())
}

/// Whether the folder is laid out so.
pub(crate) fn recognise(root: &Path) -> bool {
    places(root, None).is_ok()
}

fn places(root: &Path, list: Option<&Path>) -> Result<Vec<Place>, DataError> {
    if let Some(list) = list {
        let list = root.join(list);
        let names = read_list(&list)?;
        return names
            .into_iter()
            .filter(|(line, name)| !(*line == 1 && name == "name"))
            .map(|(line, name)| {
                let folder = root.join(&name);
                match folder.join(TRUTH).is_file() {
                    true => Ok(Place { name, folder }),
                    false => Err(DataError::line(
                        &list,
                        line,
                        LineProblem::Missing("recording of this name"),
                    )),
                }
            })
            .collect();
    }
    let mut seen = BTreeSet::new();
    let places: Vec<Place> = folders(root)?
        .into_iter()
        .filter(|place| place.folder.join(TRUTH).is_file())
        .filter(|place| {
            let detector = DETECTORS
                .iter()
                .find_map(|ending| place.name.strip_suffix(ending));
            detector.is_none_or(|recording| seen.insert(recording.to_owned()))
        })
        .collect();
    if places.is_empty() {
        return Err(DataError::Layout {
            path: root.to_owned(),
            reason: "has no MOTChallenge recordings (gt/gt.txt beside the images)",
        });
    }
    Ok(places)
}

fn read_recording(place: &Place, classes: &ClassTable<'_>) -> Result<(Recording, f64), DataError> {
    let info = match place.folder.join("seqinfo.ini") {
        path if path.exists() => Some(Ini::read(&path)?),
        _ => None,
    };
    let (mut fps, mut size_px, mut folder) = (FPS, None, "img1");
    if let Some(info) = &info {
        fps = info.rate("frameRate")?.unwrap_or(FPS);
        size_px = info
            .whole("imWidth")?
            .zip(info.whole("imHeight")?)
            .filter(|(w, h)| *w > 0 && *h > 0);
        folder = info.text("imDir").unwrap_or(folder);
    }
    let images = clip_images(&place.folder.join(folder))?;
    let mut recording = Recording::new(place.name.clone(), images, size_px);
    let path = place.folder.join(TRUTH);
    for (index, line) in read_text(&path)?.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        parse_line(line, classes)
            .and_then(|parsed| match parsed {
                Some((frame, annotation)) => recording.add(frame, annotation),
                None => Ok(()),
            })
            .map_err(|problem| DataError::line(&path, index as u64 + 1, problem))?;
    }
    Ok((recording, fps))
}

/// `None` for an object of which nothing can be seen.
fn parse_line(
    line: &str,
    classes: &ClassTable<'_>,
) -> Result<Option<(u32, Annotation)>, LineProblem> {
    let mut fields = [""; 9];
    let mut found = 0;
    for field in line.split(',') {
        if let Some(place) = fields.get_mut(found) {
            *place = field;
        }
        found += 1;
    }
    if found < 7 {
        return Err(LineProblem::FieldCount { found, expected: 9 });
    }
    // A line of MOT15 has ten: where the others have class and visibility it has a place in the world, or -1.
    if found > 9 {
        [fields[7], fields[8]] = [""; 2];
    }
    let frame = number(fields[0], "frame", "a whole number")?;
    let instance = number(fields[1], "id", "a whole number")?;
    let box_in_image = checked_box(
        number::<f32>(fields[2], "left", "a number")? - 1.0,
        number::<f32>(fields[3], "top", "a number")? - 1.0,
        number(fields[4], "width", "a number")?,
        number(fields[5], "height", "a number")?,
    )?;
    let flag: f32 = number(fields[6], "flag", "0 or 1")?;
    let class = match fields[7].trim() {
        "" => PEDESTRIAN,
        text => match number(text, "class", "a whole number")? {
            -1 => PEDESTRIAN,
            class => class,
        },
    };
    let Some((name, unjudged)) = class
        .checked_sub(1)
        .and_then(|at| usize::try_from(at).ok())
        .and_then(|at| CLASSES.get(at))
    else {
        return Err(LineProblem::NotANumber {
            field: "class",
            text: fields[7].to_owned(),
            expected: "1 to 13",
        });
    };
    let visibility: f32 = match fields[8].trim() {
        "" => -1.0,
        text => number(text, "visibility", "a share, or -1")?,
    };
    if visibility == 0.0 {
        return Ok(None);
    }
    let class = classes.get(name);
    Ok(Some((
        frame,
        Annotation {
            box_in_image,
            instance,
            ignore: flag == 0.0 || *unjudged || class.ignore,
            class: class.name,
            occluded: (visibility >= 0.0).then_some(visibility < OCCLUDED_BELOW),
        },
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::geometry::BoxXywh;

    use super::*;
    use crate::data::testing::write_files;
    use crate::data::{PackKind, read_pack};

    const INFO: &str = "[Sequence]\nname=MOT17-02-DPM\nimDir=img1\nframeRate=25\nseqLength=2\nimWidth=1920\nimHeight=1080\nimExt=.jpg\n";
    const GT: &str = "1,1,912,484,97,109,0,7,1\n1,2,1338,418,167,379,1,1,0.5\n2,2,1342,417,168,380,1,1,1\n2,3,1,1,50,60,1,1,0\n2,4,5,5,90,90,1,8,0.7\n";

    fn files<'a>(info: &'a str, gt: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("MOT17-02-DPM/seqinfo.ini", info),
            ("MOT17-02-DPM/gt/gt.txt", gt),
            ("MOT17-02-DPM/img1/000001.jpg", ""),
            ("MOT17-02-DPM/img1/000002.jpg", ""),
        ]
    }

    fn read_files(files: &[(&str, &str)]) -> Result<Vec<Sequence>, String> {
        let folder = write_files(files);
        read_pack(
            folder.path(),
            PackKind::Mot,
            &ReadConfig::default(),
            &|_| false,
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn flags_classes_and_visibility_become_ours() {
        let sequences = read_files(&files(INFO, GT)).unwrap();
        let frames = &sequences[0].frames;
        let told = |frame: usize| -> Vec<(u32, &str, bool, Option<bool>)> {
            frames[frame]
                .annotations
                .iter()
                .map(|a| (a.instance, &*a.class, a.ignore, a.occluded))
                .collect()
        };
        assert_eq!(
            told(0),
            [
                (1, "person", true, Some(false)),
                (2, "person", false, Some(true))
            ]
        );
        assert_eq!(
            told(1),
            [
                (2, "person", false, Some(false)),
                (4, "distractor", true, Some(true))
            ],
            "the object of visibility 0 is not there"
        );
        assert_eq!(
            frames[0].annotations[1].box_in_image,
            BoxXywh::new(1337.0, 417.0, 167.0, 379.0)
        );
        assert_eq!(frames[1].size_px, Some((1920, 1080)));
    }

    #[test]
    fn lines_of_mot15_are_pedestrians_of_unknown_visibility() {
        let sequences =
            read_files(&files("", "1,1,1691.97,381.05,152.23,352.62,1,-1,-1,-1\n")).unwrap();
        let a = &sequences[0].frames[0].annotations[0];
        assert_eq!((&*a.class, a.ignore, a.occluded), ("person", false, None));
        assert!(sequences[0].frames[1].annotations.is_empty());
        // Where the place in the world is known, it is no class and no visibility.
        for place in ["-14.069,-10.118,0", "3,0,0"] {
            let line = format!("1,19,499,158,31.03,75.17,1,{place}\n");
            let sequences = read_files(&files("", &line)).unwrap();
            let a = &sequences[0].frames[0].annotations[0];
            assert_eq!((&*a.class, a.ignore, a.occluded), ("person", false, None));
        }
    }

    #[test]
    fn of_one_recording_per_detector_one_is_read() {
        let mut all = files(INFO, GT);
        all.extend([
            ("MOT17-02-FRCNN/gt/gt.txt", GT),
            ("MOT17-02-FRCNN/img1/000001.jpg", ""),
            ("MOT20-01/gt/gt.txt", "1,1,5,5,9,9,1,1,1\n"),
            ("MOT20-01/img1/000001.jpg", ""),
            ("notes/readme.txt", ""),
        ]);
        let names: Vec<_> = read_files(&all)
            .unwrap()
            .iter()
            .map(|s| s.name.to_string())
            .collect();
        assert_eq!(names, ["MOT17-02-DPM", "MOT20-01"]);
    }

    #[test]
    fn every_object_seen_long_enough_is_a_run() {
        let mut gt = String::new();
        let mut all = vec![("a/seqinfo.ini".to_owned(), INFO.to_owned())];
        for frame in 1..=12 {
            all.push((format!("a/img1/{frame:06}.jpg"), String::new()));
            gt += &format!(
                "{frame},5,{},40,30,60,1,1,1\n{frame},6,9,9,30,60,0,1,1\n",
                10 + frame
            );
        }
        all.push(("a/gt/gt.txt".to_owned(), gt));
        let all: Vec<_> = all
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        let folder = write_files(&all);
        let renames = Default::default();
        let runs = load_runs(folder.path(), &ClassTable::new(&renames, &|_| false)).unwrap();
        assert_eq!(
            runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>(),
            ["a_5"]
        );
        assert_eq!((runs[0].fps, runs[0].truth.len()), (25.0, 12));
        assert_eq!(runs[0].truth[0], Some(BoxXywh::new(10.0, 39.0, 30.0, 60.0)));
    }

    #[test]
    fn malformed_files_are_named_by_line() {
        for (info, bad, words) in [
            (INFO, "1,1,5,5,9,9", "gt.txt:2: 6 fields, expected 9"),
            (INFO, "1,x,5,5,9,9,1,1,1", "gt.txt:2: id is \"x\""),
            (
                INFO,
                "1,1,5,5,0,9,1,1,1",
                "gt.txt:2: box 4,4,0,9 has no finite positive area",
            ),
            (INFO, "1,1,5,5,9,9,1,14,1", "gt.txt:2: class is \"14\""),
            (
                INFO,
                "1,1,5,5,9,9,1,-2147483648,1",
                "gt.txt:2: class is \"-2147483648\"",
            ),
            (
                INFO,
                "1,9,5,5,9,9,1,1,1",
                "gt.txt:2: instance 9 has a second box on frame 1",
            ),
            (
                INFO,
                "3,1,5,5,9,9,1,1,1",
                "gt.txt:2: no image for sequence \"MOT17-02-DPM\" frame 3",
            ),
            (
                "[Sequence]\nframeRate=0\n",
                "",
                "seqinfo.ini:2: frameRate is \"0\"",
            ),
            (
                "imWidth=wide\nimHeight=2\n",
                "",
                "seqinfo.ini:1: imWidth is \"wide\"",
            ),
        ] {
            let gt = format!("1,9,5,5,9,9,1,1,1\n{bad}\n");
            let error = read_files(&files(info, &gt)).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        let error = read_files(&[("a/img/1.jpg", "")]).unwrap_err();
        assert!(error.contains("has no MOTChallenge recordings"), "{error}");
    }
}
