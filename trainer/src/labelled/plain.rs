//! Samples without labels, from any of the files that labelled ones come in: for whoever only looks at values.
//!
//! In: a path, by whose form the reader is chosen. Out: [`Samples`], all of one class where the file names none.
//!
//! | path | read as |
//! |---|---|
//! | a folder | `CLASS/*.png` or `.jpg` |
//! | `*.npz` | one array of numpy's |
//! | `*.csv` | rows of numbers, the class in the last column |
//! | anything else | idx of rank 3, gzip or plain |

use std::path::Path;

use super::{LabelledError, Samples, Shape, Values, folder, idx, npz, table};

/// How a file is read where its form leaves that open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainConfig {
    /// Array of an npz archive.
    pub array: String,
    /// Side and channels that pictures of a folder are brought to; as they are, and grey, where not given.
    pub pictures: Option<Shape>,
}

impl Default for PlainConfig {
    fn default() -> Self {
        Self {
            array: npz::images_name(),
            pictures: None,
        }
    }
}

/// Reads all samples.
///
/// # Errors
/// Those of the reader, with the path.
pub fn open(path: &Path, config: &PlainConfig) -> Result<Samples, LabelledError> {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    if path.is_dir() {
        let square = config.pictures.filter(|shape| shape.height == shape.width);
        let side_px = square.and_then(|shape| u32::try_from(shape.height).ok());
        let channels = config.pictures.map_or(1, |shape| shape.channels);
        return folder::read(path, side_px, channels);
    }
    match ending.to_ascii_lowercase().as_str() {
        "npz" => npz::read_unlabelled(path, &config.array),
        "csv" => table::read(path, &table::TableConfig::default()),
        _ => {
            let pictures = idx::read_array::<3>(path)?;
            let &[count, height, width] = &pictures.dims[..] else {
                return Err(LabelledError::format(path, "not of rank 3"));
            };
            let shape = Shape {
                height,
                width,
                channels: 1,
            };
            Samples::new(
                shape,
                Values::Bytes(pictures.values),
                vec![0; count],
                vec![],
            )
            .map_err(|reason| LabelledError::format(path, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_form_of_a_path_says_how_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.csv"), "1,2,rose\n3,4,lily\n").unwrap();
        let idx: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 9, 8, 7, 6];
        std::fs::write(at("images"), idx).unwrap();
        let read = |name: &str| open(&at(name), &PlainConfig::default());
        assert_eq!(read("a.csv").unwrap().row(1), [3.0, 4.0]);
        let pictures = read("images").unwrap();
        assert!(pictures.is_bytes());
        assert_eq!(pictures.row(1), [7.0 / 255.0, 6.0 / 255.0]);
        for (name, content) in [("b.npz", "no"), ("b.csv", "1,x,rose\n"), ("b", "no")] {
            std::fs::write(at(name), content).unwrap();
            let said = read(name).unwrap_err().to_string();
            assert!(said.contains(name) && !said.contains('\n'), "{said}");
        }
        assert!(read("missing").is_err());
    }
}
