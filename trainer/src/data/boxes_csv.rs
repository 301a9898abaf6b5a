//! Packs with a `boxes.csv`: in goes the folder, out come sequences sorted by name.
//!
//! ```text
//! sequence,frame,instance,class,x,y,w,h,occluded
//! cows,12,1,animal,61.9,35.6,186.5,151.9,0
//! ```
//! Boxes are pixels of the stored image; `occluded` is 0, 1, or -1 where it is not annotated. Classes are spelled as the
//! pack likes: [`super::classes`] has our names, `read.classes` goes before. Stills live in
//! `images/SEQUENCE.EXT`; videos in `images/SEQUENCE/FRAME.EXT`, the frame number with any number of leading zeros.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::classes::ClassTable;
use super::sequence::{Annotation, Frame, Sequence};
use super::{DataError, LineProblem, checked_box, list_images, number};

const HEADER: &str = "sequence,frame,instance,class,x,y,w,h,occluded";

/// Where the images of a sequence are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One image a sequence, named after it.
    Stills,
    /// A folder of numbered images a sequence.
    Video,
}

struct Row {
    sequence: String,
    frame: u32,
    annotation: Annotation,
}

/// Reads `folder/boxes.csv` and finds the image of every row. Images without a row are left out: nothing is known
/// about them.
///
/// # Errors
/// Unreadable files; lines with missing or malformed fields, empty boxes, repeated objects or no image, by number.
pub fn read(
    folder: &Path,
    layout: Layout,
    classes: &ClassTable<'_>,
) -> Result<Vec<Sequence>, DataError> {
    let path = folder.join("boxes.csv");
    let text = std::fs::read(&path).map_err(DataError::io(&path))?;
    let mut images = ImageFinder::new(folder.join("images"), layout);
    let mut sequences: BTreeMap<String, BTreeMap<u32, Frame>> = BTreeMap::new();

    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_slice());
    for (index, record) in reader.records().enumerate() {
        let record = record.map_err(|error| {
            let line = error
                .position()
                .map_or(index as u64 + 1, csv::Position::line);
            DataError::line(&path, line, LineProblem::Text(error.to_string()))
        })?;
        let line = record
            .position()
            .map_or(index as u64 + 1, csv::Position::line);
        let at_line = |problem| DataError::line(&path, line, problem);
        if index == 0 {
            let found = record.iter().collect::<Vec<_>>().join(",");
            if found.trim_start_matches('\u{feff}') != HEADER {
                return Err(at_line(LineProblem::Header {
                    found,
                    expected: HEADER,
                }));
            }
            continue;
        }
        let row = parse_row(&record, classes).map_err(at_line)?;
        let frames = sequences.entry(row.sequence.clone()).or_default();
        let frame = match frames.entry(row.frame) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let image = images.find(&row.sequence, row.frame)?;
                let Some(path) = image else {
                    return Err(at_line(LineProblem::NoImage {
                        sequence: row.sequence,
                        frame: row.frame,
                    }));
                };
                new.insert(Frame {
                    path: path.into(),
                    number: row.frame,
                    size_px: None,
                    annotations: Vec::new(),
                })
            }
        };
        if frame
            .annotations
            .iter()
            .any(|other| other.instance == row.annotation.instance)
        {
            return Err(at_line(LineProblem::Repeated {
                instance: row.annotation.instance,
                frame: row.frame,
            }));
        }
        frame.annotations.push(row.annotation);
    }
    Ok(sequences
        .into_iter()
        .map(|(name, frames)| Sequence {
            name: name.into(),
            frames: frames.into_values().collect(),
            is_video: layout == Layout::Video,
            scene: None,
        })
        .collect())
}

fn parse_row(record: &csv::StringRecord, classes: &ClassTable<'_>) -> Result<Row, LineProblem> {
    let fields: [&str; 9] = match record.iter().collect::<Vec<_>>().try_into() {
        Ok(fields) => fields,
        Err(fields) => {
            return Err(LineProblem::FieldCount {
                found: fields.len(),
                expected: 9,
            });
        }
    };
    let [sequence, frame, instance, class, x, y, w, h, occluded] = fields;
    let class = classes.get(class);
    let box_in_image = checked_box(
        number(x, "x", "a number")?,
        number(y, "y", "a number")?,
        number(w, "w", "a number")?,
        number(h, "h", "a number")?,
    )?;
    let occluded = match occluded.trim() {
        "-1" => None,
        "0" => Some(false),
        "1" => Some(true),
        other => {
            return Err(LineProblem::NotANumber {
                field: "occluded",
                text: other.to_owned(),
                expected: "-1, 0 or 1",
            });
        }
    };
    Ok(Row {
        sequence: sequence.to_owned(),
        frame: number(frame, "frame", "a whole number")?,
        annotation: Annotation {
            box_in_image,
            instance: number(instance, "instance", "a whole number")?,
            ignore: class.ignore,
            class: class.name,
            occluded,
        },
    })
}

/// Lists each folder once, when the first row asks for it.
struct ImageFinder {
    folder: PathBuf,
    layout: Layout,
    stills: Option<HashMap<String, PathBuf>>,
    videos: HashMap<String, HashMap<u32, PathBuf>>,
}

impl ImageFinder {
    fn new(folder: PathBuf, layout: Layout) -> Self {
        Self {
            folder,
            layout,
            stills: None,
            videos: HashMap::new(),
        }
    }

    fn find(&mut self, sequence: &str, frame: u32) -> Result<Option<PathBuf>, DataError> {
        match self.layout {
            Layout::Stills => {
                if self.stills.is_none() {
                    self.stills = Some(by_stem(&self.folder, |stem| Some(stem.to_owned()))?);
                }
                Ok(self
                    .stills
                    .as_ref()
                    .and_then(|stills| stills.get(sequence))
                    .cloned())
            }
            Layout::Video => {
                // A name such as `../x` would leave the pack.
                if sequence.is_empty()
                    || sequence.contains(['/', '\\'])
                    || sequence.starts_with('.')
                {
                    return Ok(None);
                }
                if !self.videos.contains_key(sequence) {
                    let folder = self.folder.join(sequence);
                    let frames = match folder.is_dir() {
                        true => by_stem(&folder, |stem| stem.parse().ok())?,
                        false => HashMap::new(),
                    };
                    self.videos.insert(sequence.to_owned(), frames);
                }
                Ok(self
                    .videos
                    .get(sequence)
                    .and_then(|frames| frames.get(&frame))
                    .cloned())
            }
        }
    }
}

fn by_stem<K: std::hash::Hash + Eq>(
    folder: &Path,
    key: impl Fn(&str) -> Option<K>,
) -> Result<HashMap<K, PathBuf>, DataError> {
    let files = list_images(folder)?;
    Ok(files
        .into_iter()
        .filter_map(|path| Some((key(path.file_stem()?.to_str()?)?, path)))
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::data::{PackKind, ReadConfig, read_pack};

    fn read_as(folder: &Path, layout: Layout) -> Result<Vec<Sequence>, String> {
        let kind = match layout {
            Layout::Stills => PackKind::Stills,
            Layout::Video => PackKind::Video,
        };
        let read = ReadConfig {
            classes: [("lorry".to_owned(), "truck".to_owned())].into(),
            ..ReadConfig::default()
        };
        read_pack(folder, kind, &read, &|class| class == "ignore").map_err(|e| e.to_string())
    }

    fn read_text(layout: Layout, images: &[&str], lines: &str) -> Result<Vec<Sequence>, String> {
        let folder = tempfile::tempdir().unwrap();
        for image in images {
            let path = folder.path().join("images").join(image);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        std::fs::write(
            folder.path().join("boxes.csv"),
            format!("{HEADER}\n{lines}"),
        )
        .unwrap();
        read_as(folder.path(), layout)
    }

    #[test]
    fn classes_have_our_names_however_a_pack_spells_them() {
        let lines =
            "a,0,0,autorickshaw,1,2,30,40,-1\na,0,1,Motor,1,2,30,40,-1\na,0,2,lorry,1,2,30,40,-1\n";
        let sequences = read_text(Layout::Stills, &["a.jpg"], lines).unwrap();
        let annotations = &sequences[0].frames[0].annotations;
        let classes: Vec<&str> = annotations.iter().map(|a| &*a.class).collect();
        assert_eq!(classes, ["auto_rickshaw", "motorcycle", "truck"]);
    }

    #[test]
    fn stills_become_sequences_of_one_frame() {
        let lines = "b,0,0,car,1,2,30,40,-1\na,0,0,ignore,1,2,30,40,1\nb,0,1,bus,5.5,6,7,8,0\n";
        let sequences =
            read_text(Layout::Stills, &["a.jpg", "b.png", "unlabelled.jpg"], lines).unwrap();
        assert_eq!(
            sequences.iter().map(|s| &*s.name).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert!(sequences[0].frames[0].annotations[0].ignore);
        assert_eq!(sequences[0].frames[0].annotations[0].occluded, Some(true));
        let bus = &sequences[1].frames[0].annotations[1];
        assert_eq!(
            (&*bus.class, bus.instance, bus.occluded, bus.ignore),
            ("bus", 1, Some(false), false)
        );
        assert_eq!(
            bus.box_in_image,
            BoxXywh {
                x_px: 5.5,
                y_px: 6.0,
                w_px: 7.0,
                h_px: 8.0
            }
        );
    }
    use roadhound_shared::geometry::BoxXywh;

    #[test]
    fn video_frames_are_found_by_number_and_sorted() {
        let lines = "v,12,1,car,1,2,30,40,0\nv,3,1,car,1,2,30,40,0\n";
        let sequences = read_text(Layout::Video, &["v/00003.jpg", "v/000012.png"], lines).unwrap();
        assert_eq!(
            sequences[0]
                .frames
                .iter()
                .map(|f| f.number)
                .collect::<Vec<_>>(),
            [3, 12]
        );
        assert!(sequences[0].frames[1].path.ends_with("v/000012.png"));
    }

    #[test]
    fn malformed_lines_are_named_by_file_and_number() {
        let good = "a,0,0,car,1,2,30,40,-1\n";
        for (bad, words) in [
            ("a,0,1,car,1,2,30,40", "8 fields, expected 9"),
            ("a,0,1,car,1,two,30,40,-1", "y is \"two\""),
            ("a,x,1,car,1,2,30,40,-1", "frame is \"x\""),
            ("a,0,-1,car,1,2,30,40,-1", "instance is \"-1\""),
            ("a,0,1,car,1,2,0,40,-1", "no finite positive area"),
            ("a,0,1,car,nan,2,3,40,-1", "no finite positive area"),
            ("a,0,1,car,1,2,3,40,7", "occluded is \"7\""),
            (
                "c,0,1,car,1,2,3,40,-1",
                "no image for sequence \"c\" frame 0",
            ),
            ("a,0,0,car,1,2,3,40,-1", "instance 0 has a second box"),
        ] {
            let error =
                read_text(Layout::Stills, &["a.jpg"], &format!("{good}{bad}\n")).unwrap_err();
            assert!(
                error.contains("boxes.csv:3: ") && error.contains(words),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn another_header_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("boxes.csv"), "sequence,frame,x,y,w,h\n").unwrap();
        let error = read_as(folder.path(), Layout::Stills).unwrap_err();
        assert!(error.contains("boxes.csv:1: header is"), "{error}");
    }

    #[test]
    fn a_sequence_name_cannot_leave_the_pack() {
        let error = read_text(
            Layout::Video,
            &["v/0.jpg"],
            "../images/v,0,0,car,1,2,3,4,-1\n",
        )
        .unwrap_err();
        assert!(error.contains("no image for sequence"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_give_sequences_or_an_error_never_a_panic(lines in proptest::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let mut text = format!("{HEADER}\na,0,0,car,1,2,30,40,-1\n").into_bytes();
            text.extend_from_slice(&lines);
            std::fs::create_dir(folder.path().join("images")).unwrap();
            std::fs::write(folder.path().join("images/a.jpg"), b"").unwrap();
            std::fs::write(folder.path().join("boxes.csv"), text).unwrap();
            if let Err(error) = read_as(folder.path(), Layout::Stills) {
                prop_assert!(error.contains("boxes.csv:"), "{}", error);
            }
        }
    }
}
