//! Samples with labels: what the learning systems beside the tracker are taught from.
//!
//! In go files as such data are published; out come [`Samples`], rows of one shape with a class each. Bytes stay bytes
//! until a row is asked for, so that MNIST takes 47 MB and not 188.
//!
//! | `kind` | file | shape of a sample |
//! |---|---|---|
//! | `idx` ([`idx`]) | MNIST's and USPS's own format, gzip or plain | height x width x 1 |
//! | `npz` ([`npz`]) | arrays of numpy, stored or deflated | as the array's |
//! | `csv` ([`table`]) | one row of numbers a sample, the class in one column | 1 x 1 x columns |
//! | `folder` ([`folder`]) | `CLASS/*.png` or `.jpg` | height x width x 1 or 3 |
//! | `mosaic` ([`folder`]) | one picture of equal tiles, and a byte of class a tile | side x side x 1 or 3 |
//!
//! [`plain`] reads any of them without labels, by the name of the file.
//!
//! ```
//! use roadhound_trainer::labelled::table;
//! let samples = table::parse("a.csv".as_ref(), b"5.1,3.5,rose\n4.9,3.0,lily\n", &table::TableConfig::default())?;
//! assert_eq!((samples.len(), samples.row(1)), (2, vec![4.9, 3.0]));
//! assert_eq!(samples.class_name(samples.labels()[0]), "rose");
//! # Ok::<(), roadhound_trainer::labelled::LabelledError>(())
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub mod folder;
pub mod idx;
pub mod neighbours;
pub mod npz;
pub mod plain;
pub mod resize;
pub mod sheet;
pub mod table;
pub mod warp;

/// Values of all samples together, at most: 4 GiB of bytes.
pub const MAX_VALUES: u64 = 1 << 32;
/// Classes at most: labels are small numbers, and a table of counts is made of them.
pub const MAX_CLASSES: usize = 1 << 16;

/// Why samples could not be read. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum LabelledError {
    /// The operating system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// What was being opened or listed.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A line of a text file is not what it should be.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A picture that cannot be decoded.
    #[error(transparent)]
    Picture(#[from] crate::data::DataError),
}

impl LabelledError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |reason| Self::Io {
            path: path.to_owned(),
            reason,
        }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// Sides of one sample; a row of plain numbers is 1 x 1 x its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Rows of a picture.
    pub height: usize,
    /// Columns of a picture.
    pub width: usize,
    /// Values of a pixel.
    pub channels: usize,
}

impl Shape {
    /// Values of one sample.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether a sample has no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether values have neighbours in both directions: what a convolution takes.
    pub fn is_map(&self) -> bool {
        self.height > 1 && self.width > 1
    }

    /// Whether a sample can be drawn.
    pub fn is_picture(&self) -> bool {
        self.is_map() && matches!(self.channels, 1 | 3)
    }
}

/// Values row after row.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of pictures; a value is `byte / 255`.
    Bytes(Vec<u8>),
    /// Of anything else.
    Numbers(Vec<f32>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Numbers(values) => values.len(),
        }
    }
}

/// Samples of one shape, with their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    shape: Shape,
    values: Values,
    labels: Vec<u32>,
    classes: Vec<String>,
}

impl Samples {
    /// Joins values and labels; `classes` names the labels, and is counted up to the highest where it is empty.
    ///
    /// # Errors
    /// What does not fit together, as a reason for [`LabelledError::Format`].
    pub fn new(
        shape: Shape,
        values: Values,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Self, String> {
        if shape.is_empty() || labels.is_empty() {
            return Err("no samples".into());
        }
        if values.len() != shape.len() * labels.len() {
            return Err(format!(
                "{} values and {} labels, expected {} values a sample",
                values.len(),
                labels.len(),
                shape.len()
            ));
        }
        let highest = labels.iter().copied().max().unwrap_or(0) as usize;
        if highest >= MAX_CLASSES {
            return Err(format!("label {highest}, expected below {MAX_CLASSES}"));
        }
        let classes = match classes.is_empty() {
            true => (0..=highest).map(|label| label.to_string()).collect(),
            false => classes,
        };
        if highest >= classes.len() {
            return Err(format!("label {highest} of {} classes", classes.len()));
        }
        Ok(Self {
            shape,
            values,
            labels,
            classes,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Never: samples without one are refused.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Sides of every sample.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether values are bytes of pictures.
    pub fn is_bytes(&self) -> bool {
        matches!(self.values, Values::Bytes(_))
    }

    /// The class of every sample.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Classes that are known, whether or not a sample has them.
    pub fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// What a class is called.
    pub fn class_name(&self, label: u32) -> &str {
        self.classes.get(label as usize).map_or("?", String::as_str)
    }

    /// The same samples with the numbers that `known` has for the names of their classes. Readers number the classes that they
    /// find: a second file in which one is missing has other numbers for those behind it.
    ///
    /// # Errors
    /// A class that `known` does not have; the reason.
    pub fn in_classes_of(mut self, known: &Self) -> Result<Self, String> {
        if self.classes == known.classes {
            return Ok(self);
        }
        let numbers = self.classes.iter().map(|name| {
            let number = known.classes.iter().position(|class| class == name);
            number.map(|number| number as u32)
        });
        let numbers: Vec<Option<u32>> = numbers.collect();
        for label in &mut self.labels {
            *label = numbers[*label as usize].ok_or_else(|| {
                let name = &self.classes[*label as usize];
                format!("class {name:?}, which is none of those that are learned from")
            })?;
        }
        self.classes.clone_from(&known.classes);
        Ok(self)
    }

    /// The values of one sample; pictures have them between 0 and 1, rows of pixels, channels together.
    pub fn row(&self, index: usize) -> Vec<f32> {
        let mut row = Vec::with_capacity(self.shape.len());
        self.push_row(index, &mut row);
        row
    }

    /// The values of some samples, one after the other.
    pub fn rows(&self, indices: impl IntoIterator<Item = usize>) -> Vec<f32> {
        let mut rows = Vec::new();
        for index in indices {
            self.push_row(index, &mut rows);
        }
        rows
    }

    fn push_row(&self, index: usize, rows: &mut Vec<f32>) {
        let span = index * self.shape.len()..(index + 1) * self.shape.len();
        match &self.values {
            Values::Bytes(values) => {
                rows.extend(values[span].iter().map(|v| f32::from(*v) / 255.0));
            }
            Values::Numbers(values) => rows.extend_from_slice(&values[span]),
        }
    }

    /// The samples of these numbers, in this order.
    #[must_use]
    pub fn chosen(&self, indices: &[usize]) -> Self {
        let length = self.shape.len();
        let spans = || indices.iter().map(|i| i * length..(i + 1) * length);
        Self {
            shape: self.shape,
            values: match &self.values {
                Values::Bytes(values) => {
                    Values::Bytes(spans().flat_map(|s| &values[s]).copied().collect())
                }
                Values::Numbers(values) => {
                    Values::Numbers(spans().flat_map(|s| &values[s]).copied().collect())
                }
            },
            labels: indices.iter().map(|i| self.labels[*i]).collect(),
            classes: self.classes.clone(),
        }
    }

    /// These samples and `others` behind them, whatever their classes, as one more class of this name.
    ///
    /// # Errors
    /// Samples of another shape, or of numbers where these are of bytes; the reason.
    pub fn joined(mut self, others: &Self, name: &str) -> Result<Self, String> {
        if self.shape != others.shape {
            return Err(format!(
                "samples of {:?} cannot be put among samples of {:?}",
                others.shape, self.shape
            ));
        }
        match (&mut self.values, &others.values) {
            (Values::Bytes(own), Values::Bytes(theirs)) => own.extend_from_slice(theirs),
            (Values::Numbers(own), Values::Numbers(theirs)) => own.extend_from_slice(theirs),
            _ => return Err("bytes cannot be put among other numbers".into()),
        }
        let class = self.classes.len() as u32;
        self.labels.extend(std::iter::repeat_n(class, others.len()));
        self.classes.push(name.to_owned());
        Ok(self)
    }

    /// Numbers of the samples that are of one of `classes`; of all where the list is empty.
    pub fn of_classes(&self, classes: &[u32]) -> Vec<usize> {
        let wanted = |label: &u32| classes.is_empty() || classes.contains(label);
        (0..self.len())
            .filter(|i| wanted(&self.labels[*i]))
            .collect()
    }

    /// Numbers of the samples, by class.
    pub fn by_class(&self) -> Vec<Vec<usize>> {
        let mut groups = vec![Vec::new(); self.class_count()];
        for (index, label) in self.labels.iter().enumerate() {
            groups[*label as usize].push(index);
        }
        groups
    }
}

/// Where samples come from. Paths are relative to [`LabelledConfig::root`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// See [`idx`].
    Idx {
        /// Three-dimensional file of bytes.
        images: PathBuf,
        /// One-dimensional file of bytes.
        labels: PathBuf,
    },
    /// See [`npz`].
    Npz {
        /// The archive.
        path: PathBuf,
        /// Name of the array of samples.
        #[serde(default = "npz::images_name")]
        images: String,
        /// Name of the array of labels.
        #[serde(default = "npz::labels_name")]
        labels: String,
    },
    /// See [`table`].
    Csv {
        /// The table.
        path: PathBuf,
        /// Which column holds the class.
        #[serde(default)]
        label: table::LabelColumn,
        /// Whether the first line names the columns.
        #[serde(default)]
        header: bool,
    },
    /// See [`folder::read`].
    Folder {
        /// The folder of folders.
        path: PathBuf,
        /// Every picture is brought to this many pixels a side; where not given, all must be of one size.
        #[serde(default)]
        side_px: Option<u32>,
        /// Values of a pixel: 1 for grey, 3 for colours.
        #[serde(default = "folder::grey")]
        channels: usize,
    },
    /// See [`folder::read_mosaic`].
    Mosaic {
        /// The picture.
        picture: PathBuf,
        /// A byte a tile.
        labels: PathBuf,
        /// Side of a tile.
        tile_px: u32,
        /// Values of a pixel: 1 for grey, 3 for colours.
        #[serde(default = "folder::colours")]
        channels: usize,
    },
}

/// What is learned from, and what is held out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledConfig {
    /// Folder that every path is relative to.
    #[serde(default = "default_root")]
    pub root: PathBuf,
    /// Samples to learn from.
    pub train: Source,
    /// Samples to score on, where the data set has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Source>,
    /// Of the training samples, only so many from the first; 0 for all.
    #[serde(default)]
    pub first: usize,
}

fn default_root() -> PathBuf {
    PathBuf::from("../shared/data/classic")
}

impl LabelledConfig {
    /// A table below the default root, its classes in the last column.
    pub fn table(path: &str) -> Self {
        Self::of(
            Source::Csv {
                path: path.into(),
                label: table::LabelColumn::default(),
                header: false,
            },
            None,
        )
    }

    /// MNIST below the default root, by the names that it is published under.
    pub fn mnist() -> Self {
        let part = |name: &str| Source::Idx {
            images: format!("mnist/{name}-images-idx3-ubyte.gz").into(),
            labels: format!("mnist/{name}-labels-idx1-ubyte.gz").into(),
        };
        Self::of(part("train"), Some(part("t10k")))
    }

    fn of(train: Source, test: Option<Source>) -> Self {
        Self {
            root: default_root(),
            train,
            test,
            first: 0,
        }
    }

    /// Reads the samples to learn from.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn open_train(&self) -> Result<Samples, LabelledError> {
        let samples = self.train.open(&self.root)?;
        match self.first {
            0 => Ok(samples),
            first => {
                let kept: Vec<usize> = (0..samples.len().min(first)).collect();
                Ok(samples.chosen(&kept))
            }
        }
    }

    /// Reads the samples to score on, where there are any, in the classes of those that are learned from.
    ///
    /// # Errors
    /// Those of the reader; a class that `train` does not have.
    pub fn open_test(&self, train: &Samples) -> Result<Option<Samples>, LabelledError> {
        let (Some(source), Some(samples)) = (&self.test, self.open_test_alone()?) else {
            return Ok(None);
        };
        let samples = samples.in_classes_of(train);
        samples
            .map(Some)
            .map_err(|reason| LabelledError::format(&self.root.join(source.path()), reason))
    }

    /// Reads the samples to score on where classes do not matter.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn open_test_alone(&self) -> Result<Option<Samples>, LabelledError> {
        let source = self.test.as_ref();
        source.map(|source| source.open(&self.root)).transpose()
    }
}

impl Source {
    /// The file or folder that says of which classes samples are.
    pub fn path(&self) -> &Path {
        match self {
            Self::Idx { labels, .. } | Self::Mosaic { labels, .. } => labels,
            Self::Npz { path, .. } | Self::Csv { path, .. } | Self::Folder { path, .. } => path,
        }
    }

    /// Reads all samples.
    ///
    /// # Errors
    /// Files that cannot be read, or are not what they should be, by name.
    pub fn open(&self, root: &Path) -> Result<Samples, LabelledError> {
        match self {
            Self::Idx { images, labels } => idx::read(&root.join(images), &root.join(labels)),
            Self::Npz {
                path,
                images,
                labels,
            } => npz::read(&root.join(path), images, labels),
            Self::Csv {
                path,
                label,
                header,
            } => table::read(
                &root.join(path),
                &table::TableConfig {
                    label: label.clone(),
                    header: *header,
                },
            ),
            Self::Folder {
                path,
                side_px,
                channels,
            } => folder::read(&root.join(path), *side_px, *channels),
            Self::Mosaic {
                picture,
                labels,
                tile_px,
                channels,
            } => folder::read_mosaic(&root.join(picture), &root.join(labels), *tile_px, *channels),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn four() -> Samples {
        let shape = Shape {
            height: 1,
            width: 2,
            channels: 1,
        };
        let bytes = vec![0, 51, 102, 153, 204, 255, 1, 2];
        Samples::new(shape, Values::Bytes(bytes), vec![1, 0, 1, 2], vec![]).unwrap()
    }

    #[test]
    fn bytes_are_shares_of_one_and_chosen_samples_keep_their_classes() {
        let samples = four();
        assert_eq!(samples.row(1), [0.4, 0.6]);
        assert_eq!(samples.of_classes(&[1, 2]), [0, 2, 3]);
        assert_eq!(samples.by_class(), [vec![1], vec![0, 2], vec![3]]);
        let chosen = samples.chosen(&[3, 0]);
        assert_eq!(chosen.labels(), [2, 1]);
        assert_eq!(chosen.rows([1, 0])[..2], samples.row(0)[..]);
    }

    #[test]
    fn samples_that_do_not_belong_become_a_class_of_their_own() {
        let joined = four().joined(&four().chosen(&[1, 2]), "outlier").unwrap();
        assert_eq!(joined.labels(), [1, 0, 1, 2, 3, 3]);
        assert_eq!(joined.class_name(3), "outlier");
        assert_eq!(joined.row(4), four().row(1));
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 1,
        };
        let other = Samples::new(shape, Values::Bytes(vec![1]), vec![0], vec![]).unwrap();
        assert!(
            four()
                .joined(&other, "x")
                .unwrap_err()
                .contains("cannot be put")
        );
    }

    #[test]
    fn a_second_file_that_lacks_a_class_has_the_numbers_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.csv"), "1,lily\n2,rose\n3,tulip\n").unwrap();
        let config = |test: &str| {
            std::fs::write(folder.path().join("test.csv"), test).unwrap();
            LabelledConfig {
                root: folder.path().to_owned(),
                test: LabelledConfig::table("test.csv").train.into(),
                ..LabelledConfig::table("train.csv")
            }
        };
        let lacking = config("4,tulip\n5,lily\n");
        let train = lacking.open_train().unwrap();
        let alone = lacking.open_test_alone().unwrap().unwrap();
        assert_eq!(alone.labels(), [1, 0]);
        let test = lacking.open_test(&train).unwrap().unwrap();
        assert_eq!((test.labels(), test.class_count()), (&[2, 0][..], 3));
        assert_eq!(test.class_name(2), "tulip");
        let said = config("4,daisy\n").open_test(&train).unwrap_err();
        let said = said.to_string();
        assert!(
            said.ends_with(
                "test.csv: class \"daisy\", which is none of those that are learned from"
            ),
            "{said}"
        );
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let shape = four().shape();
        let new = |bytes, labels, classes: &[&str]| {
            let classes = classes.iter().map(|c| (*c).to_owned()).collect();
            Samples::new(shape, Values::Bytes(bytes), labels, classes).unwrap_err()
        };
        assert_eq!(new(vec![], vec![], &[]), "no samples");
        assert_eq!(
            new(vec![0; 3], vec![0, 1], &[]),
            "3 values and 2 labels, expected 2 values a sample"
        );
        assert_eq!(new(vec![0; 2], vec![1], &["a"]), "label 1 of 1 classes");
        assert_eq!(
            new(vec![0; 2], vec![70_000], &[]),
            "label 70000, expected below 65536"
        );
    }

    #[test]
    fn a_source_is_a_table_with_a_kind_and_unknown_keys_are_refused() {
        let parse = |text: &str| toml::from_str::<LabelledConfig>(text);
        let config =
            parse("root = \"r\"\n[train]\nkind = \"csv\"\npath = \"a.csv\"\nlabel = 0\n").unwrap();
        let Source::Csv { label, header, .. } = &config.train else {
            panic!("{config:?}")
        };
        assert_eq!((label, *header), (&table::LabelColumn::Number(0), false));
        let error = parse("[train]\nkind = \"csv\"\npath = \"a.csv\"\nlable = 0\n").unwrap_err();
        assert!(error.to_string().contains("lable"), "{error}");
        let text = toml::to_string(&LabelledConfig::mnist()).unwrap();
        assert_eq!(parse(&text).unwrap(), LabelledConfig::mnist());
    }
}
