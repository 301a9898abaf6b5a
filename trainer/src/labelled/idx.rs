//! The idx format of MNIST and USPS, plain or gzipped.
//!
//! ```text
//! 00 00 TYPE RANK   then RANK big-endian 32-bit sizes   then the values, the last index fastest
//! ```
//! Bytes (`08`) are read, which is what every published set has: images of rank 3, labels of rank 1. A file holds as many
//! values as its head says, no more and no fewer.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::{LabelledError, MAX_VALUES, Samples, Shape, Values};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const UNSIGNED_BYTE: u8 = 8;

/// An array of bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its sizes.
    pub dims: Vec<usize>,
    /// Its values, the last index fastest.
    pub values: Vec<u8>,
}

/// Reads images and their labels.
///
/// # Errors
/// Files that cannot be read, are no idx files of rank 3 and 1, or do not hold the same number of samples.
pub fn read(images: &Path, labels: &Path) -> Result<Samples, LabelledError> {
    let pictures = read_array::<3>(images)?;
    let classes = read_array::<1>(labels)?;
    let (&[count, height, width], &[labelled]) = (&pictures.dims[..], &classes.dims[..]) else {
        return Err(LabelledError::format(images, "not of rank 3"));
    };
    if count != labelled {
        return Err(LabelledError::format(
            labels,
            format!("{labelled} labels, {} has {count} images", images.display()),
        ));
    }
    let shape = Shape {
        height,
        width,
        channels: 1,
    };
    let numbers = classes.values.into_iter().map(u32::from).collect();
    Samples::new(shape, Values::Bytes(pictures.values), numbers, vec![])
        .map_err(|reason| LabelledError::format(images, reason))
}

/// Reads one file of a known rank.
///
/// # Errors
/// Those of [`read`].
pub fn read_array<const RANK: usize>(path: &Path) -> Result<Array, LabelledError> {
    let file = File::open(path).map_err(LabelledError::io(path))?;
    let mut reader = BufReader::new(file);
    let start = std::io::BufRead::fill_buf(&mut reader).map_err(LabelledError::io(path))?;
    let array = match start.starts_with(&GZIP) {
        true => parse::<RANK>(MultiGzDecoder::new(reader)),
        false => parse::<RANK>(reader),
    };
    array.map_err(|reason| LabelledError::format(path, reason))
}

/// Reads what a file holds, after decompression.
///
/// # Errors
/// The reason alone.
pub fn parse<const RANK: usize>(mut bytes: impl Read) -> Result<Array, String> {
    let mut head = [0u8; 4];
    exactly(&mut bytes, &mut head)?;
    let [zero, also_zero, kind, rank] = head;
    if (zero, also_zero) != (0, 0) {
        return Err("not an idx file".into());
    }
    if kind != UNSIGNED_BYTE {
        return Err(format!("values of type {kind:#04x}, expected bytes (0x08)"));
    }
    if usize::from(rank) != RANK {
        return Err(format!("rank {rank}, expected {RANK}"));
    }
    let mut dims = Vec::with_capacity(RANK);
    for _ in 0..RANK {
        let mut size = [0u8; 4];
        exactly(&mut bytes, &mut size)?;
        dims.push(u32::from_be_bytes(size));
    }
    let expected = dims
        .iter()
        .try_fold(1u64, |product, size| product.checked_mul(u64::from(*size)));
    let Some(expected) = expected.filter(|volume| *volume <= MAX_VALUES) else {
        return Err(format!(
            "sizes {dims:?}, expected at most {MAX_VALUES} values"
        ));
    };
    // Memory grows with what is there, not with what the head promises; one byte more shows what is too long.
    let mut values = Vec::new();
    bytes
        .take(expected + 1)
        .read_to_end(&mut values)
        .map_err(|error| error.to_string())?;
    match (values.len() as u64).cmp(&expected) {
        std::cmp::Ordering::Equal => Ok(Array {
            dims: dims.into_iter().map(|size| size as usize).collect(),
            values,
        }),
        std::cmp::Ordering::Less => Err(format!(
            "ends after {} of the {expected} values that its head promises",
            values.len()
        )),
        std::cmp::Ordering::Greater => Err(format!(
            "goes on behind the {expected} values that its head promises"
        )),
    }
}

fn exactly(bytes: &mut impl Read, to: &mut [u8]) -> Result<(), String> {
    bytes.read_exact(to).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "ends within its head".to_owned(),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn file(dims: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        bytes.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
        bytes.extend_from_slice(values);
        bytes
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn read_two(images: &[u8], labels: &[u8]) -> Result<Samples, String> {
        let folder = tempfile::tempdir().unwrap();
        let (i, l) = (folder.path().join("images"), folder.path().join("labels"));
        std::fs::write(&i, images).unwrap();
        std::fs::write(&l, labels).unwrap();
        read(&i, &l).map_err(|e| {
            let text = e.to_string();
            text.replace(&*folder.path().to_string_lossy(), "")
        })
    }

    #[test]
    fn plain_and_gzipped_files_give_the_same_samples() {
        let images = file(&[2, 2, 3], &[0, 51, 102, 153, 204, 255, 5, 4, 3, 2, 1, 0]);
        let labels = file(&[2], &[7, 3]);
        let plain = read_two(&images, &labels).unwrap();
        let zipped = read_two(&gzipped(&images), &gzipped(&labels)).unwrap();
        assert_eq!(plain, zipped);
        assert_eq!((plain.shape().height, plain.shape().width), (2, 3));
        assert_eq!(plain.labels(), [7, 3]);
        assert_eq!(plain.row(0)[..3], [0.0, 0.2, 0.4]);
    }

    #[test]
    fn malformed_files_are_named_with_what_is_wrong() {
        let images = file(&[1, 1, 2], &[1, 2]);
        let labels = file(&[1], &[0]);
        for (images, labels, said) in [
            (vec![0, 0], labels.clone(), "/images: ends within its head"),
            (b"PNG!".to_vec(), labels.clone(), "/images: not an idx file"),
            (
                [&[0, 0, 0x0d, 3], &images[4..]].concat(),
                labels.clone(),
                "/images: values of type 0x0d, expected bytes (0x08)",
            ),
            (
                labels.clone(),
                labels.clone(),
                "/images: rank 1, expected 3",
            ),
            (
                images[..images.len() - 1].to_vec(),
                labels.clone(),
                "/images: ends after 1 of the 2 values that its head promises",
            ),
            (
                [&images[..], &[9]].concat(),
                labels.clone(),
                "/images: goes on behind the 2 values that its head promises",
            ),
            (
                file(&[u32::MAX; 3], &[]),
                labels.clone(),
                "/images: sizes [4294967295, 4294967295, 4294967295], expected at most 4294967296 values",
            ),
            (
                images.clone(),
                file(&[2], &[0, 1]),
                "/labels: 2 labels, /images has 1 images",
            ),
            (
                file(&[0, 1, 1], &[]),
                file(&[0], &[]),
                "/images: no samples",
            ),
        ] {
            assert_eq!(read_two(&images, &labels).unwrap_err(), said);
        }
        let torn = gzipped(&images);
        let error = read_two(&torn[..torn.len() - 9], &labels).unwrap_err();
        assert!(error.starts_with("/images: "), "{error}");
    }
}
