//! A set of images to be measured: a training pack of any layout, or any folder of pictures.
//!
//! In: folders. Out: a [`PictureSet`] of paths, boxes and groups; no pixel is read.

use std::path::{Path, PathBuf};

use roadhound_shared::geometry::BoxXywh;

use super::NEEDED_GROUPS;
use crate::data::sequence::Frame;
use crate::data::{
    DataConfig, DataError, PackKind, ReadConfig, list_folders, list_images, read_pack,
};

/// One image.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Its file.
    pub path: PathBuf,
    /// Equal for images that may show the same scene.
    pub group: u32,
    /// Annotated objects, in pixels of the image.
    pub boxes: Vec<BoxXywh>,
}

/// One side of the comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PictureSet {
    /// Its images.
    pub pictures: Vec<Picture>,
    /// Whether groups are sequences; otherwise there are too few of them, and every image is a group of its own.
    pub by_sequence: bool,
}

impl PictureSet {
    /// Reads the tables of `folders` and lists their images. A folder with `boxes.csv`, or with `img` and `labels`, is
    /// a training pack; any other one, and one whose table has no rows, is searched for pictures without boxes: in
    /// `img` or `images` if it has them, and in the folders directly below.
    ///
    /// # Errors
    /// The first file or line that cannot be read. A folder without pictures adds none.
    pub fn open(folders: &[PathBuf]) -> Result<Self, DataError> {
        let mut sequences: Vec<Vec<Picture>> = Vec::new();
        for folder in folders {
            match kind(folder)? {
                Some(kind) => {
                    let found = annotated(folder, kind)?;
                    // A table without rows says that nothing is annotated, not that there is nothing to see.
                    let found = if found.is_empty() {
                        plain(folder)?
                    } else {
                        found
                    };
                    sequences.extend(found);
                }
                None => sequences.extend(plain(folder)?),
            }
        }
        sequences.retain(|sequence| !sequence.is_empty());
        let by_sequence = sequences.len() >= 2 * NEEDED_GROUPS;
        let mut pictures: Vec<Picture> = Vec::new();
        for (index, sequence) in sequences.into_iter().enumerate() {
            for picture in sequence {
                let group = if by_sequence { index } else { pictures.len() };
                pictures.push(Picture {
                    group: group as u32,
                    ..picture
                });
            }
        }
        Ok(Self {
            pictures,
            by_sequence,
        })
    }
}

/// The layout of a training pack; `None` for other folders.
fn kind(folder: &Path) -> Result<Option<PackKind>, DataError> {
    if folder.join("boxes.csv").is_file() {
        let images = folder.join("images");
        let entries = std::fs::read_dir(&images).map_err(DataError::io(&images))?;
        for entry in entries {
            if entry.map_err(DataError::io(&images))?.path().is_dir() {
                return Ok(Some(PackKind::Video));
            }
        }
        return Ok(Some(PackKind::Stills));
    }
    let yolo = folder.join("img").is_dir() && folder.join("labels").is_dir();
    Ok(yolo.then_some(PackKind::Yolo))
}

fn annotated(folder: &Path, kind: PackKind) -> Result<Vec<Vec<Picture>>, DataError> {
    let config = DataConfig::default();
    let sequences = read_pack(folder, kind, &ReadConfig::default(), &|class| {
        config.ignores(class)
    })?;
    let picture = |frame: &Frame| Picture {
        path: frame.path.to_path_buf(),
        group: 0,
        boxes: frame
            .annotations
            .iter()
            .filter(|a| !a.ignore)
            .map(|a| a.box_in_image)
            .collect(),
    };
    let pictures = sequences
        .iter()
        .map(|s| s.frames.iter().map(picture).collect());
    Ok(pictures.collect())
}

/// Every picture of the folder is a sequence of its own, those of a folder below are one together.
fn plain(outer: &Path) -> Result<Vec<Vec<Picture>>, DataError> {
    let inner = ["img", "images"].map(|name| outer.join(name));
    let inner = inner.iter().find(|inner| inner.is_dir());
    let folder = inner.map_or(outer, |inner| inner.as_path());
    let picture = |path: PathBuf| Picture {
        path,
        group: 0,
        boxes: Vec::new(),
    };
    let alone = list_images(folder)?
        .into_iter()
        .map(|path| vec![picture(path)]);
    let mut sequences: Vec<Vec<Picture>> = alone.collect();
    for folder in list_folders(folder)? {
        let inner = folder.join("img");
        let images = list_images(if inner.is_dir() { &inner } else { &folder })?;
        sequences.push(images.into_iter().map(picture).collect());
    }
    Ok(sequences)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::new(64, 48).save(path).unwrap();
    }

    fn groups(set: &PictureSet) -> Vec<u32> {
        set.pictures.iter().map(|p| p.group).collect()
    }

    #[test]
    fn a_pack_of_videos_gives_boxes_and_one_group_a_video() {
        let folder = tempfile::tempdir().unwrap();
        let mut csv = "sequence,frame,instance,class,x,y,w,h,occluded\n".to_owned();
        for video in 0..8 {
            for frame in 0..2 {
                touch(
                    &folder
                        .path()
                        .join(format!("images/v{video}/{frame:05}.png")),
                );
                csv += &format!("v{video},{frame},1,car,4,5,20,10,-1\n");
            }
            csv += &format!("v{video},0,2,ignore,0,0,9,9,-1\n");
        }
        std::fs::write(folder.path().join("boxes.csv"), csv).unwrap();
        let set = PictureSet::open(&[folder.path().to_owned()]).unwrap();
        assert!(set.by_sequence);
        assert_eq!(groups(&set)[..4], [0, 0, 1, 1]);
        assert!(
            set.pictures
                .iter()
                .all(|p| p.boxes == [BoxXywh::new(4.0, 5.0, 20.0, 10.0)])
        );
    }

    #[test]
    fn a_plain_folder_gives_pictures_without_boxes() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.jpg", "clip/0.png", "clip/1.png"] {
            touch(&folder.path().join("img").join(name));
        }
        let set = PictureSet::open(&[folder.path().to_owned()]).unwrap();
        assert_eq!(set.pictures.len(), 4);
        assert!(set.pictures.iter().all(|p| p.boxes.is_empty()));
        // Three sequences are too few to keep apart.
        assert!(!set.by_sequence);
        assert_eq!(groups(&set), [0, 1, 2, 3]);
        let twice = PictureSet::open(&[folder.path().to_owned(), folder.path().to_owned()]);
        assert_eq!(twice.unwrap().pictures.len(), 8);
    }

    #[test]
    fn a_pack_whose_table_has_no_rows_gives_its_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let head = "sequence,frame,instance,class,x,y,w,h,occluded\n";
        std::fs::write(folder.path().join("boxes.csv"), head).unwrap();
        for name in ["a.png", "b.jpg"] {
            touch(&folder.path().join("images").join(name));
        }
        let set = PictureSet::open(&[folder.path().to_owned()]).unwrap();
        assert_eq!(set.pictures.len(), 2);
        assert!(set.pictures.iter().all(|p| p.boxes.is_empty()));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = PictureSet::open(&["/no/such/folder".into()]).unwrap_err();
        assert!(
            error.to_string().starts_with("/no/such/folder: "),
            "{error}"
        );
    }
}
