//! Archives of numpy arrays: `numpy.savez` and `numpy.savez_compressed`.
//!
//! An archive is a zip file of `NAME.npy`; such a file is a magic number, a version, the length of a head, the head as a
//! Python dictionary (`{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 28, 28), }`), and the values. Bytes,
//! 32- and 64-bit floats and integers are read, little-endian and in C order, which is how numpy writes them on every
//! machine that this runs on. Samples have 2 to 4 dimensions: `[N, features]`, `[N, H, W]` or `[N, H, W, C]`.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use super::{LabelledError, MAX_VALUES, Samples, Shape, Values};

/// Longest head that is believed.
const MAX_HEAD: usize = 1 << 16;

/// Where Keras' data sets have their samples.
pub(super) fn images_name() -> String {
    "x_train".into()
}

/// Where Keras' data sets have their labels.
pub(super) fn labels_name() -> String {
    "y_train".into()
}

/// An array of numpy's.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its sizes.
    pub dims: Vec<usize>,
    /// Its values, the last index fastest.
    pub values: Numbers,
}

/// Values of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// `|u1` and `|b1`.
    Bytes(Vec<u8>),
    /// `<f4` and `<f8`.
    Floats(Vec<f32>),
    /// `|i1`, `<i2`, `<i4`, `<i8` and the unsigned ones.
    Integers(Vec<i64>),
}

/// Reads samples and labels by the names of their arrays.
///
/// # Errors
/// A file that is no archive, lacks an array, or whose arrays do not fit together.
pub fn read(path: &Path, images: &str, labels: &str) -> Result<Samples, LabelledError> {
    let file = File::open(path).map_err(LabelledError::io(path))?;
    let samples = ZipArchive::new(BufReader::new(file))
        .map_err(|error| format!("not an npz archive: {error}"))
        .and_then(|mut archive| {
            let samples = array_of(&mut archive, images)?;
            let labels_array = array_of(&mut archive, labels)?;
            join(samples, labels_array, labels)
        });
    samples.map_err(|reason| LabelledError::format(path, reason))
}

/// Reads samples by the name of their array; of labels nothing is asked, and all samples are of one class.
///
/// # Errors
/// As [`read`].
pub fn read_unlabelled(path: &Path, images: &str) -> Result<Samples, LabelledError> {
    let file = File::open(path).map_err(LabelledError::io(path))?;
    let samples = ZipArchive::new(BufReader::new(file))
        .map_err(|error| format!("not an npz archive: {error}"))
        .and_then(|mut archive| {
            let samples = array_of(&mut archive, images)?;
            let count = samples.dims.first().copied().unwrap_or_default();
            let labels = Array {
                dims: vec![count],
                values: Numbers::Bytes(vec![0; count]),
            };
            join(samples, labels, "labels")
        });
    samples.map_err(|reason| LabelledError::format(path, reason))
}

fn join(samples: Array, labels: Array, name: &str) -> Result<Samples, String> {
    let (height, width, channels) = match samples.dims[..] {
        [_, features] => (1, 1, features),
        [_, height, width] => (height, width, 1),
        [_, height, width, channels] => (height, width, channels),
        _ => {
            return Err(format!(
                "samples of shape {:?}, expected 2 to 4 sizes",
                samples.dims
            ));
        }
    };
    let numbers: Vec<i64> = match labels.values {
        Numbers::Bytes(values) => values.into_iter().map(i64::from).collect(),
        Numbers::Integers(values) => values,
        Numbers::Floats(_) => return Err(format!("array {name} holds floats, expected integers")),
    };
    let numbers: Result<Vec<u32>, _> = numbers
        .into_iter()
        .map(|label| {
            u32::try_from(label)
                .map_err(|_| format!("array {name} holds {label}, expected 0 or above"))
        })
        .collect();
    let values = match samples.values {
        Numbers::Bytes(values) => Values::Bytes(values),
        Numbers::Floats(values) => match values.iter().find(|v| !v.is_finite()) {
            Some(value) => return Err(format!("a sample holds {value}")),
            None => Values::Numbers(values),
        },
        Numbers::Integers(values) => Values::Numbers(values.iter().map(|v| *v as f32).collect()),
    };
    let shape = Shape {
        height,
        width,
        channels,
    };
    Samples::new(shape, values, numbers?, vec![])
}

fn array_of(archive: &mut ZipArchive<impl Read + Seek>, name: &str) -> Result<Array, String> {
    let file = format!("{name}.npy");
    let found = archive.index_for_name(&file).ok_or_else(|| {
        let names = archive.file_names().filter_map(Result::ok);
        let there: Vec<String> = names
            .filter_map(|n| Some(n.strip_suffix(".npy")?.to_owned()))
            .take(12)
            .collect();
        format!("no array {name:?}, it has {there:?}")
    })?;
    // As stored: this build of the archive's crate knows no compression, and numpy uses one of two.
    let entry = archive
        .by_index_raw(found)
        .map_err(|error| error.to_string())?;
    let array = match entry.compression() {
        CompressionMethod::Stored => parse(entry),
        CompressionMethod::DEFLATE => parse(DeflateDecoder::new(entry)),
        other => Err(format!(
            "compressed by {other}, expected deflate or nothing"
        )),
    };
    array.map_err(|reason| format!("array {name}: {reason}"))
}

/// Reads one `.npy` file.
///
/// # Errors
/// The reason alone.
pub fn parse(mut bytes: impl Read) -> Result<Array, String> {
    let mut exactly = |to: &mut [u8]| {
        bytes
            .read_exact(to)
            .map_err(|error| format!("ends within its head: {error}"))
    };
    let mut magic = [0u8; 8];
    exactly(&mut magic)?;
    if magic[..6] != *b"\x93NUMPY" {
        return Err("not an npy file".into());
    }
    let length = match magic[6] {
        1 => {
            let mut length = [0u8; 2];
            exactly(&mut length)?;
            usize::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0u8; 4];
            exactly(&mut length)?;
            u32::from_le_bytes(length) as usize
        }
        version => return Err(format!("version {version}, expected 1 to 3")),
    };
    if length > MAX_HEAD {
        return Err(format!(
            "a head of {length} bytes, expected at most {MAX_HEAD}"
        ));
    }
    let mut head = vec![0u8; length];
    exactly(&mut head)?;
    let head = String::from_utf8_lossy(&head);
    let head = Head::parse(&head)?;
    let volume = head
        .dims
        .iter()
        .try_fold(1u64, |product, size| product.checked_mul(*size as u64))
        .filter(|volume| *volume <= MAX_VALUES)
        .ok_or_else(|| {
            format!(
                "shape {:?}, expected at most {MAX_VALUES} values",
                head.dims
            )
        })?;
    let wanted = volume * head.width as u64;
    let mut raw = Vec::new();
    bytes
        .take(wanted + 1)
        .read_to_end(&mut raw)
        .map_err(|error| error.to_string())?;
    if raw.len() as u64 != wanted {
        return Err(format!(
            "{} bytes of values{}, shape {:?} of {} needs {wanted}",
            raw.len(),
            if raw.len() as u64 > wanted {
                " or more"
            } else {
                ""
            },
            head.dims,
            head.descr
        ));
    }
    Ok(Array {
        values: head.numbers(raw),
        dims: head.dims,
    })
}

/// How the values of a file are to be read.
struct Head {
    descr: String,
    kind: char,
    width: usize,
    dims: Vec<usize>,
}

impl Head {
    fn parse(text: &str) -> Result<Self, String> {
        let after = |key: &str| {
            let at = text.find(&format!("'{key}'"))?;
            let rest = &text[at + key.len() + 2..];
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        };
        let missing = |key: &str| format!("its head has no {key}");
        let descr = after("descr")
            .and_then(|rest| rest.strip_prefix('\'')?.split('\'').next())
            .ok_or_else(|| missing("plain descr"))?
            .to_owned();
        if !after("fortran_order").is_some_and(|rest| rest.starts_with("False")) {
            return Err("not in C order".into());
        }
        let shape = after("shape")
            .and_then(|rest| rest.strip_prefix('(')?.split_once(')'))
            .ok_or_else(|| missing("shape"))?
            .0;
        let dims: Result<Vec<usize>, _> = shape
            .split(',')
            .map(str::trim)
            .filter(|size| !size.is_empty())
            .map(str::parse)
            .collect();
        let dims = dims.map_err(|_| format!("shape ({shape}) is not a list of sizes"))?;
        let (kind, width) = match descr.as_str() {
            "|u1" | "|b1" => ('u', 1),
            "|i1" => ('i', 1),
            "<i2" => ('i', 2),
            "<i4" => ('i', 4),
            "<i8" => ('i', 8),
            "<u2" => ('u', 2),
            "<u4" => ('u', 4),
            "<u8" => ('u', 8),
            "<f4" => ('f', 4),
            "<f8" => ('f', 8),
            _ => {
                return Err(format!(
                    "values of type {descr:?}, expected bytes, floats or integers"
                ));
            }
        };
        Ok(Self {
            descr,
            kind,
            width,
            dims,
        })
    }

    fn numbers(&self, raw: Vec<u8>) -> Numbers {
        let wide = |chunk: &[u8]| {
            let mut bytes = [0u8; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            bytes
        };
        let chunks = raw.chunks_exact(self.width);
        match (self.kind, self.width) {
            ('u', 1) => Numbers::Bytes(raw),
            ('f', 4) => Numbers::Floats(
                chunks
                    .map(|c| f32::from_bits(u64::from_le_bytes(wide(c)) as u32))
                    .collect(),
            ),
            ('f', _) => {
                Numbers::Floats(chunks.map(|c| f64::from_le_bytes(wide(c)) as f32).collect())
            }
            ('i', width) => {
                let unused = 64 - 8 * width as u32;
                let signed = |c| i64::from_le_bytes(wide(c)) << unused >> unused;
                Numbers::Integers(chunks.map(signed).collect())
            }
            _ => Numbers::Integers(chunks.map(|c| i64::from_le_bytes(wide(c))).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
        let head =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((head.len() as u16).to_le_bytes());
        bytes.extend(head.as_bytes());
        bytes.extend_from_slice(values);
        bytes
    }

    fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            let options = zip::write::SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored);
            writer.start_file(format!("{name}.npy"), options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn read_bytes(bytes: &[u8]) -> Result<Samples, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        std::fs::write(&path, bytes).unwrap();
        read(&path, "x_train", "y_train").map_err(|e| {
            e.to_string()
                .replace(&format!("{}/", folder.path().display()), "")
        })
    }

    #[test]
    fn what_numpy_stored_and_what_it_deflated_are_the_same_samples() {
        let stored = read_bytes(include_bytes!("../../tests/data/two_pictures_stored.npz"));
        let deflated = read_bytes(include_bytes!("../../tests/data/two_pictures_deflated.npz"));
        let stored = stored.unwrap();
        assert_eq!(stored, deflated.unwrap());
        assert_eq!(
            (stored.labels(), stored.row(1)),
            (&[1, 0][..], vec![0.4, 1.0])
        );
    }

    #[test]
    fn floats_and_narrow_negative_integers_keep_their_values() {
        let floats = parse(
            &npy(
                "<f8",
                "2",
                &[0.5f64.to_le_bytes(), (-2.0f64).to_le_bytes()].concat(),
            )[..],
        );
        assert_eq!(floats.unwrap().values, Numbers::Floats(vec![0.5, -2.0]));
        let shorts = parse(&npy("<i2", "2", &[0xfe, 0xff, 3, 0])[..]);
        assert_eq!(shorts.unwrap().values, Numbers::Integers(vec![-2, 3]));
    }

    #[test]
    fn malformed_archives_are_named_with_what_is_wrong() {
        let with = |x: Vec<u8>, y: Vec<u8>| {
            let entries = [("x_train", x), ("y_train", y)];
            read_bytes(&archive(&entries)).unwrap_err()
        };
        let labels = || npy("|u1", "1", &[0]);
        let cases = [
            (
                npy("|u1", "1, 3", &[1, 2]),
                labels(),
                "a.npz: array x_train: 2 bytes of values, shape [1, 3] of |u1 needs 3",
            ),
            (
                npy(">f4", "1, 1", &[0; 4]),
                labels(),
                "a.npz: array x_train: values of type \">f4\", expected bytes, floats or integers",
            ),
            (
                npy("<f4", "1, 1", &f32::NAN.to_le_bytes()),
                labels(),
                "a.npz: a sample holds NaN",
            ),
            (
                npy("|u1", "1, 1", &[1]),
                npy("<i4", "1", &[0xff; 4]),
                "a.npz: array y_train holds -1, expected 0 or above",
            ),
            (
                npy("|u1", "1", &[1]),
                labels(),
                "a.npz: samples of shape [1], expected 2 to 4 sizes",
            ),
            (
                npy("|u1", "4294967295, 4294967295, 2", &[]),
                labels(),
                "a.npz: array x_train: shape [4294967295, 4294967295, 2], expected at most 4294967296 values",
            ),
            (
                b"PK".to_vec(),
                labels(),
                "a.npz: array x_train: ends within its head: failed to fill whole buffer",
            ),
        ];
        for (x, y, said) in cases {
            assert_eq!(with(x, y), said);
        }
        let other = archive(&[("a", labels())]);
        assert_eq!(
            read_bytes(&other).unwrap_err(),
            "a.npz: no array \"x_train\", it has [\"a\"]"
        );
        assert!(
            read_bytes(b"nothing")
                .unwrap_err()
                .starts_with("a.npz: not an npz archive: ")
        );
    }
}
