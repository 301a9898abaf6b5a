//! Pictures as they lie on disk: a folder a class, or one picture of many tiles.
//!
//! In: `FOLDER/CLASS/*.png|jpg|jpeg`, classes and files in the order of their names; or a picture of equal tiles, rows from
//! the top, with a file that holds one byte of class a tile (tiles behind the last byte are not looked at). Out: samples
//! of one size, grey or colours.

use std::path::{Path, PathBuf};

use image::DynamicImage;
use image::imageops::FilterType;

use super::{LabelledError, MAX_CLASSES, MAX_VALUES, Samples, Shape, Values};
use crate::data::store;

/// Largest side that pictures are brought to.
const MAX_SIDE_PX: u32 = 4096;

/// One value a pixel.
pub(super) fn grey() -> usize {
    1
}

/// Three values a pixel.
pub(crate) fn colours() -> usize {
    3
}

/// Reads a folder of folders of pictures; see the module head.
///
/// # Errors
/// Folders and pictures that cannot be read, no class or no picture, pictures of different sizes.
pub fn read(
    folder: &Path,
    side_px: Option<u32>,
    channels: usize,
) -> Result<Samples, LabelledError> {
    let wrong = |path: &Path, reason: String| LabelledError::format(path, reason);
    if let Some(side) = side_px.filter(|side| !(1..=MAX_SIDE_PX).contains(side)) {
        return Err(wrong(
            folder,
            format!("side_px is {side}, expected 1 to {MAX_SIDE_PX}"),
        ));
    }
    let mut classes = Vec::new();
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    let mut size: Option<(u32, u32)> = None;
    for class in listed(folder)?.into_iter().filter(|path| path.is_dir()) {
        let pictures = listed(&class)?.into_iter().filter(|path| is_picture(path));
        for path in pictures {
            let mut picture = store::open(&path)?;
            if let Some(side) = side_px {
                picture = picture.resize_exact(side, side, FilterType::Triangle);
            }
            let found = (picture.width(), picture.height());
            let expected = *size.get_or_insert(found);
            if found != expected {
                return Err(wrong(
                    &path,
                    format!(
                        "{}x{} px, the first picture has {}x{}; side_px brings all to one size",
                        found.0, found.1, expected.0, expected.1
                    ),
                ));
            }
            values.extend(pixels(&picture, channels).map_err(|reason| wrong(folder, reason))?);
            labels.push(classes.len() as u32);
            if values.len() as u64 > MAX_VALUES {
                return Err(wrong(folder, format!("more than {MAX_VALUES} values")));
            }
        }
        classes.push(
            class
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        );
        if classes.len() > MAX_CLASSES {
            return Err(wrong(folder, format!("more than {MAX_CLASSES} classes")));
        }
    }
    if classes.is_empty() {
        return Err(wrong(folder, "no folders: expected one a class".into()));
    }
    let (width, height) = size.unwrap_or_default();
    let shape = Shape {
        height: height as usize,
        width: width as usize,
        channels,
    };
    Samples::new(shape, Values::Bytes(values), labels, classes)
        .map_err(|reason| wrong(folder, reason))
}

/// Reads the tiles of one picture; see the module head.
///
/// # Errors
/// Files that cannot be read, a picture whose sides are no multiples of the tile's, more labels than tiles.
pub fn read_mosaic(
    picture: &Path,
    labels: &Path,
    tile_px: u32,
    channels: usize,
) -> Result<Samples, LabelledError> {
    let wrong = |path: &Path, reason: String| LabelledError::format(path, reason);
    let classes = std::fs::read(labels).map_err(LabelledError::io(labels))?;
    let mosaic = store::open(picture)?;
    let (width, height) = (mosaic.width(), mosaic.height());
    if tile_px == 0 || width % tile_px != 0 || height % tile_px != 0 {
        return Err(wrong(
            picture,
            format!("{width}x{height} px, expected multiples of {tile_px}"),
        ));
    }
    let columns = (width / tile_px) as usize;
    let tiles = columns * (height / tile_px) as usize;
    if classes.len() > tiles {
        return Err(wrong(
            labels,
            format!(
                "{} labels, {} has {tiles} tiles",
                classes.len(),
                picture.display()
            ),
        ));
    }
    let bytes = pixels(&mosaic, channels).map_err(|reason| wrong(picture, reason))?;
    let (side, row) = (tile_px as usize, width as usize * channels);
    let mut values = Vec::with_capacity(classes.len() * side * side * channels);
    for tile in 0..classes.len() {
        let (top, left) = (tile / columns * side, tile % columns * side);
        for line in top..top + side {
            values.extend_from_slice(&bytes[line * row + left * channels..][..side * channels]);
        }
    }
    let shape = Shape {
        height: side,
        width: side,
        channels,
    };
    let numbers = classes.into_iter().map(u32::from).collect();
    Samples::new(shape, Values::Bytes(values), numbers, vec![])
        .map_err(|reason| wrong(labels, reason))
}

fn pixels(picture: &DynamicImage, channels: usize) -> Result<Vec<u8>, String> {
    match channels {
        1 => Ok(picture.to_luma8().into_raw()),
        3 => Ok(picture.to_rgb8().into_raw()),
        other => Err(format!("channels is {other}, expected 1 or 3")),
    }
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    matches!(ending.as_deref(), Some("png" | "jpg" | "jpeg"))
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, LabelledError> {
    let entries = std::fs::read_dir(folder).map_err(LabelledError::io(folder))?;
    let mut paths = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(LabelledError::io(folder))?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use image::{Rgb, RgbImage};

    use super::*;

    fn said(error: &LabelledError, folder: &Path) -> String {
        let prefix = format!("{}/", folder.display());
        error.to_string().replace(&prefix, "")
    }

    #[test]
    fn a_folder_a_class_in_the_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (class, file, red) in [
            ("cat", "2.png", 10),
            ("cat", "1.png", 20),
            ("ant", "x.PNG", 30),
        ] {
            std::fs::create_dir_all(root.join(class)).unwrap();
            let mut bytes = std::io::Cursor::new(Vec::new());
            RgbImage::from_pixel(3, 2, Rgb([red, 0, 0]))
                .write_to(&mut bytes, image::ImageFormat::Png)
                .unwrap();
            std::fs::write(root.join(class).join(file), bytes.into_inner()).unwrap();
        }
        std::fs::write(root.join("notes.txt"), "not a class").unwrap();
        std::fs::write(root.join("cat/notes.txt"), "not a picture").unwrap();
        let samples = read(root, None, 3).unwrap();
        assert_eq!(samples.labels(), [0, 1, 1]);
        assert_eq!(samples.class_name(1), "cat");
        let reds: Vec<f32> = (0..3).map(|i| samples.row(i)[0] * 255.0).collect();
        assert_eq!(reds, [30.0, 20.0, 10.0]);
        assert_eq!(read(root, Some(4), 1).unwrap().shape().len(), 16);

        RgbImage::new(5, 5).save(root.join("cat/3.png")).unwrap();
        let error = read(root, None, 3).unwrap_err();
        assert_eq!(
            said(&error, root),
            "cat/3.png: 5x5 px, the first picture has 3x2; side_px brings all to one size"
        );
        std::fs::write(root.join("cat/3.png"), b"\x89PNG").unwrap();
        let error = said(&read(root, None, 3).unwrap_err(), root);
        assert!(error.starts_with("cat/3.png: "), "{error}");
    }

    #[test]
    fn tiles_are_read_by_rows_and_those_without_a_label_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (picture, labels) = (folder.path().join("m.png"), folder.path().join("l.bin"));
        RgbImage::from_fn(6, 4, |x, y| {
            Rgb([(x / 2 + 3 * (y / 2)) as u8, x as u8, y as u8])
        })
        .save(&picture)
        .unwrap();
        std::fs::write(&labels, [4, 4, 9, 0, 1]).unwrap();
        let samples = read_mosaic(&picture, &labels, 2, 3).unwrap();
        assert_eq!((samples.len(), samples.labels()), (5, &[4, 4, 9, 0, 1][..]));
        let last: Vec<f32> = samples.row(4).iter().map(|v| (v * 255.0).round()).collect();
        // The fifth tile is the second of the second row.
        assert_eq!(last, [4., 2., 2., 4., 3., 2., 4., 2., 3., 4., 3., 3.]);

        std::fs::write(&labels, [0; 7]).unwrap();
        let error = read_mosaic(&picture, &labels, 2, 3).unwrap_err();
        assert_eq!(
            said(&error, folder.path()),
            "l.bin: 7 labels, m.png has 6 tiles"
        );
        let error = read_mosaic(&picture, &labels, 4, 3).unwrap_err();
        assert_eq!(
            said(&error, folder.path()),
            "m.png: 6x4 px, expected multiples of 4"
        );
    }

    #[test]
    fn a_folder_without_classes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path(), None, 1).unwrap_err().to_string();
        assert!(
            error.ends_with(": no folders: expected one a class"),
            "{error}"
        );
        std::fs::create_dir(folder.path().join("a")).unwrap();
        let error = read(folder.path(), None, 1).unwrap_err().to_string();
        assert!(error.ends_with(": no samples"), "{error}");
    }
}
