//! Pascal VOC XML, one file an image: in goes the folder, out comes one sequence an image.
//!
//! ```text
//! ROOT/Annotations/frontFar/BLR-2018-03-22_17-39-26_2_frontFar/000150_r.xml
//!      JPEGImages/frontFar/BLR-2018-03-22_17-39-26_2_frontFar/000150_r.jpg
//!      train.txt          frontFar/BLR-2018-03-22_17-39-26_2_frontFar/000150_r, one a line
//! ```
//! So lie the files of the India Driving Dataset; Pascal's own have no folders inside, and their lists in
//! `ImageSets/Main`. `list` names one; without it every `.xml` is read. Images of one inner folder are one drive: they
//! share a split and are never each other's negatives.
//!
//! `read.corners` tells how the corners of `bndbox` are counted. Pascal: the first pixel is (1, 1) and the last one is
//! inside, so `xmin - 1` and a width of `xmax - xmin + 1` (`"inclusive_from_one"`, the default). Files made by most
//! labelling programs, IDD's among them, put edges on a scale that starts at 0 (`"edges_from_zero"`).
//!
//! `difficult` objects become ignore regions; `occluded` is taken over where it stands; `truncated` and `pose` need no
//! mark, and the boxes of `part`s are not the object's. An image without objects is left out.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::classes::ClassTable;
use super::clip::{read_all_texts, read_list};
use super::json::inside;
use super::sequence::{Annotation, Frame, Sequence};
use super::xml::{Element, Tree};
use super::{DataError, LineProblem, ReadConfig, checked_box, number};

const LABELS: &str = "Annotations";
const IMAGES: &str = "JPEGImages";
/// Folders in folders, as deep as anybody has them.
const MAX_DEPTH: usize = 8;

/// How corners are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corners {
    /// Pixels, the first is 1, the last one is inside: Pascal.
    #[default]
    InclusiveFromOne,
    /// Edges between pixels, the first is 0.
    EdgesFromZero,
}

/// One sequence an image, in the order of the list, else sorted by name.
///
/// # Errors
/// Missing folders, unreadable or malformed files, by line; a label without an image.
pub fn read(
    folder: &Path,
    read: &ReadConfig,
    classes: &ClassTable<'_>,
) -> Result<Vec<Sequence>, DataError> {
    let labels = folder.join(read.labels.as_deref().unwrap_or(Path::new(LABELS)));
    let images = folder.join(read.images.as_deref().unwrap_or(Path::new(IMAGES)));
    let names = match &read.list {
        Some(list) => {
            let list = folder.join(list);
            let at_line = |line, problem| DataError::line(&list, line, problem);
            read_list(&list)?
                .into_iter()
                .map(|(line, name)| {
                    inside(&labels, &name)
                        .map(|_| name)
                        .map_err(|problem| at_line(line, problem))
                })
                .collect::<Result<_, _>>()?
        }
        None => {
            let mut names = Vec::new();
            find_labels(&labels, "", MAX_DEPTH, &mut names)?;
            names.sort();
            names
        }
    };
    if names.is_empty() {
        return Err(DataError::Layout {
            path: labels,
            reason: "has no label files (.xml)",
        });
    }
    let found = Images::beside(&images, &names)?;
    let sequences = read_all_texts(names, |reader, name| {
        let path = labels.join(format!("{name}.xml"));
        let Label {
            size_px,
            annotations,
        } = parse(&path, reader.read(&path)?, read.corners, classes)?;
        if annotations.is_empty() {
            return Ok(None);
        }
        let Some(image) = found.of(&name) else {
            let problem = LineProblem::NoImage {
                sequence: name,
                frame: 0,
            };
            return Err(DataError::line(&path, 1, problem));
        };
        Ok(Some(Sequence {
            scene: name.rsplit_once('/').map(|(drive, _)| drive.into()),
            name: name.into(),
            frames: vec![Frame {
                path: image.into(),
                number: 0,
                size_px,
                annotations,
            }],
            is_video: false,
        }))
    })?;
    Ok(sequences.into_iter().flatten().collect())
}

/// Names of the labels below `folder`, without extension, folders joined by `/`.
fn find_labels(
    folder: &Path,
    prefix: &str,
    depth: usize,
    names: &mut Vec<String>,
) -> Result<(), DataError> {
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(stem) = name.strip_suffix(".xml") {
            names.push(format!("{prefix}{stem}"));
        } else if depth > 0 && entry.path().is_dir() {
            find_labels(&entry.path(), &format!("{prefix}{name}/"), depth - 1, names)?;
        }
    }
    Ok(())
}

/// The images that may belong to labels: folders are listed once, which takes a tenth of the time of asking for every
/// file.
struct Images<'a> {
    folder: &'a Path,
    /// By inner folder, each ends in `/` or is empty: what is in it.
    names: HashMap<String, HashSet<String>>,
}

impl<'a> Images<'a> {
    fn beside(folder: &'a Path, labels: &[String]) -> Result<Self, DataError> {
        let mut names = HashMap::new();
        for label in labels {
            let inner = &label[..label.rfind('/').map_or(0, |at| at + 1)];
            if !names.contains_key(inner) {
                names.insert(inner.to_owned(), files_in(&folder.join(inner))?);
            }
        }
        Ok(Self { folder, names })
    }

    fn of(&self, label: &str) -> Option<PathBuf> {
        let (inner, stem) = label.split_at(label.rfind('/').map_or(0, |at| at + 1));
        let there = self.names.get(inner)?;
        let mut file = String::with_capacity(stem.len() + 5);
        ["jpg", "png", "jpeg", "JPG"].iter().find_map(|extension| {
            file.clear();
            file.extend([stem, ".", extension]);
            there.contains(&file).then(|| {
                let mut path = self.folder.join(inner);
                path.push(&file);
                path
            })
        })
    }
}

/// Names in a folder; none where there is no such folder.
fn files_in(folder: &Path) -> Result<HashSet<String>, DataError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(DataError::io(folder)(error)),
    };
    let mut names = HashSet::new();
    for entry in entries {
        let entry = entry.map_err(DataError::io(folder))?;
        let kind = entry.file_type().map_err(DataError::io(folder))?;
        // A link may lead nowhere.
        if !kind.is_symlink() || entry.path().exists() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

/// What one file says.
struct Label {
    /// Where it is written.
    size_px: Option<(u32, u32)>,
    annotations: Vec<Annotation>,
}

fn parse(
    path: &Path,
    text: &str,
    corners: Corners,
    classes: &ClassTable<'_>,
) -> Result<Label, DataError> {
    let tree = Tree::parse(text).map_err(|error| {
        let pos = error.pos();
        let problem = LineProblem::Column {
            column: u64::from(pos.col),
            // Its own words end in the position.
            reason: error
                .to_string()
                .rsplit_once(" at ")
                .map_or_else(|| error.to_string(), |(words, _)| words.to_owned()),
        };
        DataError::line(path, u64::from(pos.row), problem)
    })?;
    let at = |node: Element, problem| DataError::line(path, tree.line(node), problem);
    let root = tree.root();
    if tree.name(root) != "annotation" {
        return Err(at(
            root,
            LineProblem::Missing("<annotation> around everything"),
        ));
    }
    let size_px = match tree.child(root, "size") {
        Some(size) => {
            let side = |name: &'static str| match tree.child(size, name) {
                Some(node) => number(tree.text(node), name, "a whole number")
                    .map_err(|problem| at(node, problem)),
                None => Ok(0_u32),
            };
            Some((side("width")?, side("height")?)).filter(|(w, h)| *w > 0 && *h > 0)
        }
        None => None,
    };
    let mut annotations: Vec<Annotation> = Vec::new();
    for object in tree
        .children(root)
        .filter(|node| tree.name(*node) == "object")
    {
        let missing = |what| at(object, LineProblem::Missing(what));
        let class = tree
            .child(object, "name")
            .ok_or_else(|| missing("<name> in this object"))?;
        let class = classes.get(tree.text(class));
        let bndbox = tree
            .child(object, "bndbox")
            .ok_or_else(|| missing("<bndbox> in this object"))?;
        let corner = |name: &'static str| match tree.child(bndbox, name) {
            Some(node) => number::<f32>(tree.text(node), name, "a number")
                .map_err(|problem| at(node, problem)),
            None => Err(at(
                bndbox,
                LineProblem::Missing("xmin, ymin, xmax or ymax in this <bndbox>"),
            )),
        };
        let [left, top, right, bottom] = [
            corner("xmin")?,
            corner("ymin")?,
            corner("xmax")?,
            corner("ymax")?,
        ];
        let box_in_image = match corners {
            Corners::InclusiveFromOne => checked_box(
                left - 1.0,
                top - 1.0,
                right - left + 1.0,
                bottom - top + 1.0,
            ),
            Corners::EdgesFromZero => checked_box(left, top, right - left, bottom - top),
        }
        .map_err(|problem| at(bndbox, problem))?;
        let flag = |name| {
            tree.child(object, name)
                .map(|node| matches!(tree.text(node), "1" | "true" | "True"))
        };
        annotations.push(Annotation {
            box_in_image,
            instance: annotations.len() as u32,
            ignore: class.ignore || flag("difficult") == Some(true),
            class: class.name,
            occluded: flag("occluded"),
        });
    }
    Ok(Label {
        size_px,
        annotations,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::geometry::BoxXywh;

    use super::*;
    use crate::data::testing::{config_of, open, write_files};
    use crate::data::{PackKind, read_pack};

    const PASCAL: &str = "\
<annotation>
	<folder>VOC2012</folder>
	<filename>2007_000027.jpg</filename>
	<size>
		<width>486</width>
		<height>500</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>person</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<occluded>1</occluded>
		<part>
			<name>head</name>
			<bndbox><xmin>209</xmin><ymin>108</ymin><xmax>290</xmax><ymax>187</ymax></bndbox>
		</part>
		<bndbox>
			<xmin>174</xmin>
			<ymin>101</ymin>
			<xmax>349</xmax>
			<ymax>351</ymax>
		</bndbox>
	</object>
	<object>
		<name>motorbike</name>
		<difficult>1</difficult>
		<bndbox><xmax>20.5</xmax><xmin>1</xmin><ymin>1</ymin><ymax>10</ymax></bndbox>
	</object>
</annotation>
";
    // As IDD writes them: no declaration, no difficult, no truncated.
    const IDD: &str = "<annotation><filename>000150_r.jpg</filename><folder>x</folder><size><width>1920</width><height>1080</height></size>
<object><name>autorickshaw</name><bndbox><xmin>0</xmin><ymin>549</ymin><xmax>153</xmax><ymax>1080</ymax></bndbox></object>
<object><name>vehicle fallback</name><bndbox><xmin>10</xmin><ymin>5</ymin><xmax>15</xmax><ymax>10</ymax></bndbox></object></annotation>";

    fn pascal(xml: &str) -> Vec<(&str, &str)> {
        vec![
            ("Annotations/2007_000027.xml", xml),
            ("JPEGImages/2007_000027.jpg", ""),
        ]
    }

    fn read_files(files: &[(&str, &str)], read: &ReadConfig) -> Result<Vec<Sequence>, String> {
        let folder = write_files(files);
        read_pack(folder.path(), PackKind::Voc, read, &|_| false).map_err(|error| error.to_string())
    }

    #[test]
    fn corners_are_inclusive_from_one_and_parts_are_not_the_object() {
        let sequences = read_files(&pascal(PASCAL), &ReadConfig::default()).unwrap();
        let frame = &sequences[0].frames[0];
        assert_eq!(
            (&*sequences[0].name, frame.size_px),
            ("2007_000027", Some((486, 500)))
        );
        let [person, motorcycle] = &frame.annotations[..] else {
            panic!("two objects")
        };
        assert_eq!(
            person.box_in_image,
            BoxXywh::new(173.0, 100.0, 176.0, 251.0)
        );
        assert_eq!(
            (&*person.class, person.occluded, person.ignore),
            ("person", Some(true), false)
        );
        assert_eq!(motorcycle.box_in_image, BoxXywh::new(0.0, 0.0, 20.5, 10.0));
        assert_eq!(
            (&*motorcycle.class, motorcycle.occluded, motorcycle.ignore),
            ("motorcycle", None, true)
        );
    }

    #[test]
    fn drives_of_idd_are_scenes_and_lists_choose() {
        let files = [
            ("Annotations/frontFar/BLR-1/000150_r.xml", IDD),
            ("Annotations/frontFar/BLR-1/000180_r.xml", IDD),
            ("Annotations/frontFar/HYD-2/000001_r.xml", IDD),
            ("JPEGImages/frontFar/BLR-1/000150_r.jpg", ""),
            ("JPEGImages/frontFar/BLR-1/000180_r.png", ""),
            ("JPEGImages/frontFar/HYD-2/000001_r.jpg", ""),
            (
                "train.txt",
                "frontFar/BLR-1/000180_r\nfrontFar/BLR-1/000150_r\n",
            ),
        ];
        let read = ReadConfig {
            list: Some("train.txt".into()),
            corners: Corners::EdgesFromZero,
            ..ReadConfig::default()
        };
        let listed = read_files(&files, &read).unwrap();
        assert_eq!(
            listed
                .iter()
                .map(|s| (&*s.name, s.scene.as_deref()))
                .collect::<Vec<_>>(),
            [
                ("frontFar/BLR-1/000180_r", Some("frontFar/BLR-1")),
                ("frontFar/BLR-1/000150_r", Some("frontFar/BLR-1"))
            ]
        );
        let rickshaw = &listed[0].frames[0].annotations[0];
        assert_eq!(
            rickshaw.box_in_image,
            BoxXywh::new(0.0, 549.0, 153.0, 531.0)
        );
        assert_eq!(&*rickshaw.class, "auto_rickshaw");
        assert_eq!(&*listed[0].frames[0].annotations[1].class, "other_vehicle");
        let folder = write_files(&files);
        let dataset = open(&config_of(
            folder.path(),
            PackKind::Voc,
            ReadConfig::default(),
        ));
        let scenes: Vec<u64> = dataset.packs()[0]
            .sequences
            .iter()
            .map(|s| s.scene)
            .collect();
        assert!(scenes.len() == 3 && scenes[0] == scenes[1] && scenes[1] != scenes[2]);
    }

    #[test]
    fn malformed_files_are_named_by_line() {
        for (from, to, words) in [
            (
                "<ymin>101</ymin>",
                "<ymin>10l</ymin>",
                "2007_000027.xml:22: ymin is \"10l\"",
            ),
            (
                "<xmax>349</xmax>",
                "",
                "2007_000027.xml:20: no xmin, ymin, xmax or ymax",
            ),
            (
                "<xmax>349</xmax>",
                "<xmax>100</xmax>",
                "2007_000027.xml:20: box 173,100,-73,251 has no finite",
            ),
            (
                "<name>motorbike</name>",
                "",
                "2007_000027.xml:27: no <name>",
            ),
            ("</part>", "</parts>", "2007_000027.xml:19: column "),
            (
                "<width>486</width>",
                "<width>wide</width>",
                "2007_000027.xml:5: width is \"wide\"",
            ),
            ("<annotation>", "<annotations>", "column "),
        ] {
            let xml = PASCAL.replacen(from, to, 1);
            let error = read_files(&pascal(&xml), &ReadConfig::default()).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        let other = read_files(&pascal("<html></html>"), &ReadConfig::default()).unwrap_err();
        assert!(
            other.contains("2007_000027.xml:1: no <annotation>"),
            "{other}"
        );
        let empty = read_files(&pascal(""), &ReadConfig::default()).unwrap_err();
        assert!(empty.contains("2007_000027.xml:1: column "), "{empty}");
    }

    #[test]
    fn missing_images_and_names_that_leave_the_folder_are_told() {
        let error = read_files(&pascal(PASCAL)[..1], &ReadConfig::default()).unwrap_err();
        assert!(
            error.contains("2007_000027.xml:1: no image for sequence"),
            "{error}"
        );
        let mut files = pascal(PASCAL);
        files.push(("list.txt", "2007_000027\n../2007_000027\n"));
        let read = ReadConfig {
            list: Some("list.txt".into()),
            ..ReadConfig::default()
        };
        let error = read_files(&files, &read).unwrap_err();
        assert!(
            error.contains("list.txt:2: \"../2007_000027\" leaves the folder"),
            "{error}"
        );
    }

    #[test]
    fn an_image_without_objects_is_left_out() {
        let files = pascal("<annotation><filename>a.jpg</filename></annotation>");
        assert!(
            read_files(&files, &ReadConfig::default())
                .unwrap()
                .is_empty()
        );
    }
}
