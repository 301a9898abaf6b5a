//! Annotated images on disk, read lazily.
//!
//! In go folders as data sets are published; out come [`sequence::Sequence`]s for training and [`sequence::Run`]s for
//! evaluation. Opening a pack reads its tables; an image's header is read only where no table and no earlier frame of
//! the same video tells its size. Pixels are decoded one image at a time by [`store::ImageStore`], which keeps what fits.
//!
//! Every reader turns its data set's conventions into ours, boxes in pixels with the origin at the top-left corner of
//! the top-left pixel, and says in its head how: where pixels are counted from, whether the last one is inside, and what
//! the flags for occlusion, absence, crowds and the like become.
//!
//! | reader | data set | followed |
//! |---|---|---|
//! | [`boxes_csv`] | our own packs, still or video | yes |
//! | [`lasot`], [`got10k`], [`trackingnet`] | one object a clip | yes |
//! | [`mot`], [`kitti`], [`bdd100k`] | every road user of a clip | yes |
//! | [`coco`] | photographs; with the video extension, clips | with it |
//! | [`voc`], [`yolo`] | photographs | no |
//! | [`otb`] | evaluation clips | never trained on |
//!
//! ```no_run
//! use roadhound_trainer::data::{DataConfig, Dataset};
//! let dataset = Dataset::open(&DataConfig::default())?;
//! for pack in dataset.packs() {
//!     println!("{}: {} sequences", pack.name, pack.sequences.len());
//! }
//! # Ok::<(), roadhound_trainer::data::DataError>(())
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::metrics::multi::text::LineError;
use roadhound_shared::mix::finish;
use roadhound_shared::preprocess::PreprocessError;
use serde::{Deserialize, Serialize};

pub mod bdd100k;
pub mod boxes_csv;
pub mod classes;
pub(crate) mod clip;
pub mod coco;
pub mod got10k;
mod header;
pub(crate) mod ini;
mod json;
pub mod kitti;
pub mod lasot;
pub mod layout;
pub mod masks;
pub mod mot;
pub mod multi;
pub mod otb;
pub mod sequence;
pub mod sheet;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
pub mod trackingnet;
pub mod truth;
pub mod voc;
pub mod xml;
pub mod yolo;

use self::classes::ClassTable;
use self::sequence::{Annotation, Sequence};
use self::store::{ImageId, ImageStore, stored_size};

/// Why data could not be read. Every variant names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// What was being opened or listed.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// A line of a text file does not say what it should.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The text file.
        path: PathBuf,
        /// Counted from 1, as editors do.
        line: u64,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// An entry of a file refers to something that the file does not have. Found when all of it has been read, so there
    /// is no line.
    #[error("{}: {entry} {id}: {problem}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// What kind of entry.
        entry: &'static str,
        /// Which one.
        id: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// A folder is not laid out as its kind of pack is.
    #[error("{}: {reason}", path.display())]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// An image could not be decoded, or is no image.
    #[error("{}: not a readable image: {reason}", path.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// The decoder's words.
        reason: String,
    },
    /// A setting cannot be used.
    #[error("data configuration: {field} is {value}: {reason}")]
    Config {
        /// Path of the field.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// Why that does not work.
        reason: &'static str,
    },
    /// Nothing usable is left after splitting and filtering.
    #[error("no usable target in the {split} split of packs {packs:?}")]
    NoTargets {
        /// `training` or `validation`.
        split: &'static str,
        /// Names of the packs with a weight above zero.
        packs: Vec<String>,
    },
    /// The crop geometry was refused.
    #[error("cannot crop: {0}")]
    Crop(PreprocessError),
    /// Crops could not be given another manner.
    #[error("cannot restyle crops: {0}")]
    Restyle(String),
    /// A worker thread ended without saying why.
    #[error("worker {worker} of the prefetcher ended before batch {step} was made")]
    WorkerGone {
        /// Which thread, from 0.
        worker: usize,
        /// The batch that is missing.
        step: u64,
    },
}

/// What is wrong with one line of an annotation file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LineProblem {
    /// Too few or too many columns.
    #[error("{found} fields, expected {expected}")]
    FieldCount {
        /// Columns on the line.
        found: usize,
        /// Columns needed.
        expected: usize,
    },
    /// A column holds something else than the number it should.
    #[error("{field} is {text:?}, expected {expected}")]
    NotANumber {
        /// The column's name.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What should.
        expected: &'static str,
    },
    /// A box of no area, or of infinite or undefined size.
    #[error("box {x},{y},{w},{h} has no finite positive area")]
    EmptyBox {
        /// Left edge as written.
        x: f32,
        /// Top edge as written.
        y: f32,
        /// Width as written.
        w: f32,
        /// Height as written.
        h: f32,
    },
    /// The first line does not name the columns we read.
    #[error("header is {found:?}, expected {expected:?}")]
    Header {
        /// As written.
        found: String,
        /// As needed.
        expected: &'static str,
    },
    /// The line speaks of an image that is not in the folder.
    #[error("no image for sequence {sequence:?} frame {frame}")]
    NoImage {
        /// Name of the sequence.
        sequence: String,
        /// Number of the frame.
        frame: u32,
    },
    /// Two lines give the same object two boxes on one frame.
    #[error("instance {instance} has a second box on frame {frame}")]
    Repeated {
        /// The object.
        instance: u32,
        /// The frame.
        frame: u32,
    },
    /// A file with one entry a frame has another number of them than there are frames.
    #[error("{found} entries, {of} has {expected}")]
    EntryCount {
        /// Entries in this file.
        found: usize,
        /// Entries there should be.
        expected: usize,
        /// What they are counted against.
        of: &'static str,
    },
    /// A named part is missing.
    #[error("no {0}")]
    Missing(&'static str),
    /// A column of the line does not fit the format.
    #[error("column {column}: {reason}")]
    Column {
        /// Counted from 1.
        column: u64,
        /// The parser's words.
        reason: String,
    },
    /// A path in the file would leave the pack's folder.
    #[error("{0:?} leaves the folder of images")]
    Outside(String),
    /// A line of tracks does not say what it should.
    #[error(transparent)]
    Track(LineError),
    /// An object is in two places at once.
    #[error("identity {identity} is on this frame already")]
    Identity {
        /// Which.
        identity: i64,
    },
    /// A frame that the sequence does not have.
    #[error("frame {frame} of a sequence of {frames}")]
    BehindTheEnd {
        /// As written.
        frame: u32,
        /// Frames of the sequence.
        frames: u32,
    },
    /// The text is not UTF-8 or not a table.
    #[error("unreadable text: {0}")]
    Text(String),
}

impl From<PreprocessError> for DataError {
    fn from(reason: PreprocessError) -> Self {
        Self::Crop(reason)
    }
}

impl DataError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |reason| Self::Io {
            path: path.to_owned(),
            reason,
        }
    }

    pub(crate) fn line(path: &Path, line: u64, problem: LineProblem) -> Self {
        Self::Line {
            path: path.to_owned(),
            line,
            problem,
        }
    }
}

/// How a pack is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackKind {
    /// `boxes.csv` and `images/SEQUENCE.EXT`: unrelated photographs.
    Stills,
    /// `boxes.csv` and `images/SEQUENCE/FRAME.EXT`: identities are kept from frame to frame.
    Video,
    /// `img/NAME.EXT` and `labels/NAME.txt` with lines `class cx cy w h` in shares of the image: [`yolo`].
    Yolo,
    /// `CLASS/CLASS-N/groundtruth.txt` and `img/`: [`lasot`].
    Lasot,
    /// `CLIP/groundtruth.txt` beside its images, with `absence.label` and `cover.label`: [`got10k`].
    Got10k,
    /// `RECORDING/gt/gt.txt` and `img1/`: [`mot`].
    Mot,
    /// `label_02/DRIVE.txt` and `image_02/DRIVE/`: [`kitti`].
    Kitti,
    /// `TRAIN_0/anno/CLIP.txt` and `TRAIN_0/frames/CLIP/`: [`trackingnet`].
    #[serde(rename = "trackingnet")]
    TrackingNet,
    /// Scalabel JSON and `images/VIDEO/`: [`bdd100k`].
    Bdd100k,
    /// `Annotations/NAME.xml` and `JPEGImages/NAME.jpg`: [`voc`].
    Voc,
    /// One JSON file and `images/`: [`coco`].
    Coco,
}

impl PackKind {
    /// Keys of [`ReadConfig`] that a reader heeds; the others are refused, since they would do nothing.
    fn read_keys(self) -> &'static [&'static str] {
        match self {
            Self::Stills | Self::Video => &[],
            Self::Yolo => &["class_names", "classes", "images", "labels"],
            Self::Lasot | Self::Got10k | Self::Mot | Self::TrackingNet => {
                &["classes", "keep_every", "list"]
            }
            Self::Bdd100k | Self::Coco => &["classes", "images", "keep_every", "labels"],
            Self::Voc => &["classes", "corners", "images", "labels", "list"],
            Self::Kitti => &["classes", "images", "keep_every", "labels", "list"],
        }
    }
}

/// Where the parts of a pack are and how they are read, for readers whose data sets come in several shapes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadConfig {
    /// Labels, relative to the pack's folder, instead of where the kind of pack has them.
    pub labels: Option<PathBuf>,
    /// Images, relative to the pack's folder, instead of where the kind of pack has them.
    pub images: Option<PathBuf>,
    /// A text file, relative to the pack's folder: only the clips or images whose names it lists, one a line.
    pub list: Option<PathBuf>,
    /// Names of numbered classes, from 0.
    pub class_names: Vec<String>,
    /// Of a video, every n-th frame only: neighbours show nearly the same, and large data sets then fit into memory.
    pub keep_every: u32,
    /// How the corners of [`voc`] boxes are counted.
    pub corners: voc::Corners,
    /// Our class by the pack's own spelling, before [`classes::canonical`]; `"ignore"` makes ignore regions of a class.
    pub classes: BTreeMap<String, String>,
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self {
            labels: None,
            images: None,
            list: None,
            class_names: Vec::new(),
            classes: BTreeMap::new(),
            keep_every: 1,
            corners: voc::Corners::default(),
        }
    }
}

impl ReadConfig {
    /// The first key that is set although `kind` does not heed it.
    fn unused_key(&self, kind: PackKind) -> Option<&'static str> {
        [
            ("labels", self.labels.is_some()),
            ("images", self.images.is_some()),
            ("list", self.list.is_some()),
            ("class_names", !self.class_names.is_empty()),
            ("classes", !self.classes.is_empty()),
            ("keep_every", self.keep_every != 1),
            ("corners", self.corners != voc::Corners::default()),
        ]
        .into_iter()
        .find_map(|(key, set)| (set && !kind.read_keys().contains(&key)).then_some(key))
    }
}

/// One folder of training data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackConfig {
    /// Goes into object identities and messages.
    pub name: String,
    /// The folder's layout.
    pub kind: PackKind,
    /// Share of the pairs, relative to the other packs.
    pub weight: f32,
    /// Folder, relative to [`DataConfig::root`]; the pack's name where not given.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Sequences kept for validation, by name. Where not given, a hash of the name decides ([`DataConfig::held_out_share`]).
    #[serde(default)]
    pub held_out: Option<Vec<String>>,
    /// Stills whose name starts so come from fixed cameras: names equal up to the last `_` show one scene, may repeat a
    /// waiting vehicle, and therefore share a split and never serve as each other's negatives.
    #[serde(default)]
    pub fixed_camera_prefixes: Vec<String>,
    /// Where its parts are and how they are read.
    #[serde(default)]
    pub read: ReadConfig,
}

/// Which boxes may be followed. Measured in pixels of the image as held in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetFilter {
    /// Shorter side at least.
    pub min_side_px: f32,
    /// Area at least.
    pub min_area_px: f32,
    /// Longer over shorter side, below.
    pub max_aspect: f32,
    /// Share of the image's area, below.
    pub max_image_share: f32,
    /// Share of the box that lies on the image, at least.
    pub min_inside_share: f32,
}

impl Default for TargetFilter {
    fn default() -> Self {
        Self {
            min_side_px: 12.0,
            min_area_px: 360.0,
            max_aspect: 5.0,
            max_image_share: 0.6,
            min_inside_share: 0.7,
        }
    }
}

impl TargetFilter {
    /// Whether a box on an image of this size is worth following.
    pub fn accepts(&self, target: &BoxXywh, width_px: u32, height_px: u32) -> bool {
        let (w, h) = (target.w_px, target.h_px);
        w.min(h) >= self.min_side_px
            && w * h >= self.min_area_px
            && w.max(h) < self.max_aspect * w.min(h)
            && w * h < self.max_image_share * width_px as f32 * height_px as f32
            && target
                .clip(width_px, height_px)
                .is_some_and(|seen| seen.area() >= self.min_inside_share * w * h)
    }
}

/// Where the training data is and how much of it stays in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folder that holds the packs.
    pub root: PathBuf,
    /// The packs to draw from.
    pub packs: Vec<PackConfig>,
    /// Decoded images kept, in MiB.
    pub cache_mib: u32,
    /// Images with a longer side are shrunk to it on load, their boxes with them.
    pub max_side_px: u32,
    /// Share of the sequences kept for validation where a pack does not list them.
    pub held_out_share: f32,
    /// Classes that mark ignore regions; `*_group` matches every name that ends in `_group`.
    pub ignore_classes: Vec<String>,
    /// Which boxes may be followed.
    pub target: TargetFilter,
}

impl Default for DataConfig {
    fn default() -> Self {
        let pack = |name: &str, kind, weight| PackConfig {
            name: name.into(),
            kind,
            weight,
            path: None,
            held_out: None,
            fixed_camera_prefixes: Vec::new(),
            read: ReadConfig::default(),
        };
        let mut davis = pack("vid_davis16val", PackKind::Video, 0.25);
        davis.held_out = Some(
            ["drift-chicane", "cows", "scooter-black", "bmx-trees"]
                .map(String::from)
                .to_vec(),
        );
        let mut mix = pack("in_traffic_mix", PackKind::Stills, 0.20);
        mix.fixed_camera_prefixes = vec!["in_cam_".into()];
        Self {
            root: "../shared/data/train".into(),
            packs: vec![
                davis,
                pack("bd_dhaka_road", PackKind::Stills, 0.22),
                mix,
                pack("in_autorickshaw_web", PackKind::Yolo, 0.08),
                pack("syn_carla", PackKind::Stills, 0.04),
                pack("in_idd_lite", PackKind::Stills, 0.04),
            ],
            cache_mib: 1536,
            max_side_px: 560,
            held_out_share: 0.05,
            ignore_classes: vec!["ignore".into(), "*_group".into()],
            target: TargetFilter::default(),
        }
    }
}

impl DataConfig {
    /// Checks what the types cannot: ranges and references between fields.
    ///
    /// # Errors
    /// [`DataError::Config`] with the first field that cannot be used.
    pub fn validate(&self) -> Result<(), DataError> {
        let refuse = |field, value: String, reason| {
            Err(DataError::Config {
                field,
                value,
                reason,
            })
        };
        if self.packs.is_empty() {
            return refuse("packs", "[]".into(), "there is nothing to draw from");
        }
        for (index, pack) in self.packs.iter().enumerate() {
            if !(pack.weight.is_finite() && pack.weight >= 0.0) {
                return refuse(
                    "packs.weight",
                    pack.weight.to_string(),
                    "must be finite and not negative",
                );
            }
            if self.packs[..index]
                .iter()
                .any(|earlier| earlier.name == pack.name)
            {
                return refuse("packs.name", pack.name.clone(), "appears twice");
            }
            if let Some(key) = pack.read.unused_key(pack.kind) {
                let value = format!("{key} of {}", pack.name);
                return refuse("packs.read", value, "does nothing for this kind of pack");
            }
            if pack.read.keep_every == 0 {
                return refuse("packs.read.keep_every", "0".into(), "must be at least 1");
            }
        }
        if !self.packs.iter().any(|pack| pack.weight > 0.0) {
            return refuse(
                "packs.weight",
                "0".into(),
                "at least one pack needs a weight above zero",
            );
        }
        if self.max_side_px < 32 {
            return refuse(
                "max_side_px",
                self.max_side_px.to_string(),
                "must be at least 32",
            );
        }
        if !(0.0..1.0).contains(&self.held_out_share) {
            return refuse(
                "held_out_share",
                self.held_out_share.to_string(),
                "must be in [0, 1)",
            );
        }
        Ok(())
    }

    pub(crate) fn ignores(&self, class: &str) -> bool {
        self.ignore_classes
            .iter()
            .any(|pattern| match pattern.strip_prefix('*') {
                Some(ending) => class.ends_with(ending),
                None => class == pattern,
            })
    }
}

/// Reads one pack's tables, whatever its layout. No image is decoded.
///
/// `ignores` tells which class names mark ignore regions.
///
/// # Errors
/// The first unreadable file or malformed line.
pub fn read_pack(
    folder: &Path,
    kind: PackKind,
    read: &ReadConfig,
    ignores: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<Sequence>, DataError> {
    let classes = ClassTable::new(&read.classes, ignores);
    match kind {
        PackKind::Stills => boxes_csv::read(folder, boxes_csv::Layout::Stills, ignores),
        PackKind::Video => boxes_csv::read(folder, boxes_csv::Layout::Video, ignores),
        PackKind::Yolo => yolo::read(folder, read, &classes),
        PackKind::Lasot => lasot::read(folder, read, &classes),
        PackKind::Got10k => got10k::read(folder, read, &classes),
        PackKind::Mot => mot::read(folder, read, &classes),
        PackKind::Kitti => kitti::read(folder, read, &classes),
        PackKind::TrackingNet => trackingnet::read(folder, read, &classes),
        PackKind::Bdd100k => bdd100k::read(folder, read, &classes),
        PackKind::Voc => voc::read(folder, read, &classes),
        PackKind::Coco => coco::read(folder, read, &classes),
    }
}

/// One opened pack.
#[derive(Debug)]
pub struct Pack {
    /// As configured.
    pub name: String,
    /// As configured.
    pub weight: f32,
    /// In the order of their names.
    pub sequences: Vec<LoadedSequence>,
}

/// A sequence whose boxes are in pixels of the images as [`ImageStore`] returns them.
#[derive(Debug)]
pub struct LoadedSequence {
    /// What the reader found; boxes rescaled where images are shrunk on load.
    pub sequence: Sequence,
    /// One per frame.
    pub images: Vec<ImageId>,
    /// Kept for validation.
    pub held_out: bool,
    /// Equal for sequences that may show the same physical objects.
    pub scene: u64,
}

/// All packs of a configuration and the store of their images. Shared by all workers.
#[derive(Debug)]
pub struct Dataset {
    packs: Vec<Pack>,
    store: ImageStore,
    target: TargetFilter,
}

impl Dataset {
    /// Opens every pack: reads its tables, and the headers of images whose size nothing else tells.
    ///
    /// # Errors
    /// Any configuration, file or line that cannot be used; nothing is skipped silently.
    pub fn open(config: &DataConfig) -> Result<Self, DataError> {
        config.validate()?;
        let mut store = ImageStore::new(u64::from(config.cache_mib) << 20, config.max_side_px);
        let mut packs = Vec::with_capacity(config.packs.len());
        for pack in &config.packs {
            let folder = config
                .root
                .join(pack.path.as_deref().unwrap_or(Path::new(&pack.name)));
            let mut sequences = read_pack(&folder, pack.kind, &pack.read, &|class| {
                config.ignores(class)
            })?;
            for name in pack.held_out.iter().flatten() {
                if !sequences.iter().any(|sequence| &*sequence.name == name) {
                    return Err(DataError::Config {
                        field: "packs.held_out",
                        value: name.clone(),
                        reason: "is not a sequence of the pack",
                    });
                }
            }
            read_sizes(&mut sequences)?;
            let sequences = sequences
                .into_iter()
                .map(|sequence| load(sequence, pack, config.held_out_share, &mut store))
                .collect();
            packs.push(Pack {
                name: pack.name.clone(),
                weight: pack.weight,
                sequences,
            });
        }
        Ok(Self {
            packs,
            store,
            target: config.target.clone(),
        })
    }

    /// Leaves out every object, box by box, that `keep` does not want; it is given the pack's place, the sequence and the
    /// box. Ignore regions stay, and so do pictures: of what is left out nothing is known.
    pub fn keep_objects(&mut self, keep: impl Fn(usize, &LoadedSequence, &Annotation) -> bool) {
        for (place, pack) in self.packs.iter_mut().enumerate() {
            for loaded in &mut pack.sequences {
                let kept: Vec<Vec<Annotation>> = loaded
                    .sequence
                    .frames
                    .iter()
                    .map(|frame| {
                        let kept = frame.annotations.iter();
                        let kept = kept.filter(|a| a.ignore || keep(place, loaded, a));
                        kept.cloned().collect()
                    })
                    .collect();
                for (frame, kept) in loaded.sequence.frames.iter_mut().zip(kept) {
                    frame.annotations = kept;
                }
            }
        }
    }

    /// In configured order.
    pub fn packs(&self) -> &[Pack] {
        &self.packs
    }

    /// The decoded images.
    pub fn store(&self) -> &ImageStore {
        &self.store
    }

    /// Which boxes may be followed.
    pub fn target_filter(&self) -> &TargetFilter {
        &self.target
    }
}

fn load(
    mut sequence: Sequence,
    pack: &PackConfig,
    held_out_share: f32,
    store: &mut ImageStore,
) -> LoadedSequence {
    let own_scene = sequence.scene.as_deref().unwrap_or(&sequence.name);
    let scene_name = match pack
        .fixed_camera_prefixes
        .iter()
        .any(|prefix| sequence.name.starts_with(prefix.as_str()))
    {
        true => sequence
            .name
            .rsplit_once('_')
            .map_or(&*sequence.name, |(camera, _)| camera),
        false => own_scene,
    };
    let scene = stable_hash(&[pack.name.as_bytes(), scene_name.as_bytes()]);
    let held_out = match &pack.held_out {
        Some(names) => names.iter().any(|name| **name == *sequence.name),
        None => unit_from_hash(scene) < f64::from(held_out_share),
    };
    let mut images = Vec::with_capacity(sequence.frames.len());
    for frame in &mut sequence.frames {
        let id = store.register_sized(&frame.path, frame.size_px.unwrap_or_default());
        let loaded_from_stored = store.loaded_from_stored(id);
        for annotation in &mut frame.annotations {
            let b = &mut annotation.box_in_image;
            *b = BoxXywh {
                x_px: b.x_px * loaded_from_stored[0],
                y_px: b.y_px * loaded_from_stored[1],
                w_px: b.w_px * loaded_from_stored[0],
                h_px: b.h_px * loaded_from_stored[1],
            };
        }
        images.push(id);
    }
    LoadedSequence {
        sequence,
        images,
        held_out,
        scene,
    }
}

/// Fills in what size every image has: as annotated, as the first image of its video, or as its header says.
fn read_sizes(sequences: &mut [Sequence]) -> Result<(), DataError> {
    let read: Vec<Result<(), DataError>> = sequences
        .par_iter_mut()
        .map(|sequence| {
            let mut first = None;
            for frame in &mut sequence.frames {
                let size = match (frame.size_px, first) {
                    (Some(known), _) => known,
                    (None, Some(first)) if sequence.is_video => first,
                    (None, _) => stored_size(&frame.path)?,
                };
                first.get_or_insert(size);
                frame.size_px = Some(size);
            }
            Ok(())
        })
        .collect();
    read.into_iter().collect()
}

/// A hash that is the same on every machine and in every version: splits and identities rest on it. The parts are
/// kept apart, so `["ab", "c"]` and `["a", "bc"]` differ. FNV-1a, finished as in splitmix64 for even high bits.
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for part in parts {
        (part.len() as u64)
            .to_le_bytes()
            .into_iter()
            .for_each(&mut eat);
        part.iter().copied().for_each(&mut eat);
    }
    finish(hash)
}

/// The top 53 bits as a number in `[0, 1)`.
fn unit_from_hash(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// Image files directly inside `folder`, sorted by name.
pub(crate) fn list_images(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let name = entry.map_err(DataError::io(folder))?.file_name();
        let known = Path::new(&name)
            .extension()
            .and_then(|e| e.to_str())
            .is_some_and(|extension| {
                ["jpg", "jpeg", "png"]
                    .iter()
                    .any(|known| extension.eq_ignore_ascii_case(known))
            });
        if known {
            names.push(name);
        }
    }
    // Names compare as bytes, paths part by part: a third of the time to open a large pack.
    names.sort();
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// Folders directly inside `folder`, sorted by name.
pub(crate) fn list_folders(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let path = entry.map_err(DataError::io(folder))?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Images whose name is a number, by number. Names need not have leading zeros.
pub(crate) fn numbered_images(folder: &Path) -> Result<Vec<(u32, Arc<Path>)>, DataError> {
    let mut images: Vec<(u32, Arc<Path>)> = list_images(folder)?
        .into_iter()
        .filter_map(|path| {
            let number = path.file_stem()?.to_str()?.parse().ok()?;
            Some((number, path.into()))
        })
        .collect();
    // Stable: of two files with one number, the first by name stays.
    images.sort_by_key(|(number, _)| *number);
    images.dedup_by_key(|(number, _)| *number);
    Ok(images)
}

/// Parses one column, or says which one is wrong.
pub(crate) fn number<T: std::str::FromStr>(
    text: &str,
    field: &'static str,
    expected: &'static str,
) -> Result<T, LineProblem> {
    text.trim().parse().map_err(|_| LineProblem::NotANumber {
        field,
        text: text.to_owned(),
        expected,
    })
}

/// A box of finite position and positive finite size.
pub(crate) fn checked_box(x: f32, y: f32, w: f32, h: f32) -> Result<BoxXywh, LineProblem> {
    if [x, y, w, h].iter().all(|v| v.is_finite()) && w > 0.0 && h > 0.0 {
        Ok(BoxXywh {
            x_px: x,
            y_px: y,
            w_px: w,
            h_px: h,
        })
    } else {
        Err(LineProblem::EmptyBox { x, y, w, h })
    }
}

/// `../shared` seen from the workspace root, or `ROADHOUND_SHARED`; `None` with a printed reason where absent.
#[cfg(test)]
pub(crate) fn shared_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("ROADHOUND_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    if folder.join("data/train").is_dir() {
        return Some(folder);
    }
    eprintln!(
        "skipped: no data below {} (set ROADHOUND_SHARED)",
        folder.display()
    );
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stable_hash_keeps_its_value_across_versions() {
        assert_eq!(stable_hash(&[b"pack", b"name"]), 0xb297_7190_b6fc_156a);
        assert_ne!(
            stable_hash(&[b"pa", b"ckname"]),
            stable_hash(&[b"pack", b"name"])
        );
        let share = (0..10_000)
            .filter(|i: &u32| unit_from_hash(stable_hash(&[&i.to_le_bytes()])) < 0.05)
            .count();
        assert!(
            (400..600).contains(&share),
            "{share} of 10000 held out at 5 %"
        );
    }

    #[test]
    fn group_pattern_matches_endings_only() {
        let config = DataConfig::default();
        assert!(
            config.ignores("ignore")
                && config.ignores("vehicle_group")
                && config.ignores("person_group")
        );
        assert!(
            !config.ignores("ignored")
                && !config.ignores("group_of_cars")
                && !config.ignores("car")
        );
    }

    #[test]
    fn configuration_round_trips_and_refuses_unknown_fields() {
        let config = DataConfig::default();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<DataConfig>(&text).unwrap(), config);
        let error = toml::from_str::<DataConfig>("cache_mb = 3")
            .unwrap_err()
            .to_string();
        assert!(error.contains("cache_mb"), "{error}");
    }

    #[test]
    fn every_kind_of_pack_has_a_name_and_reading_keys_that_do_nothing_are_refused() {
        let parse = |kind: &str, key: &str| {
            let text = format!(
                "[[packs]]\nname = \"p\"\nkind = \"{kind}\"\nweight = 1.0\nread = {{ {key} }}\n"
            );
            toml::from_str::<DataConfig>(&text)
                .map_err(|e| e.to_string())
                .and_then(|config| config.validate().map_err(|e| e.to_string()))
        };
        let kinds = [
            "stills",
            "video",
            "yolo",
            "lasot",
            "got10k",
            "mot",
            "kitti",
            "trackingnet",
            "bdd100k",
            "voc",
            "coco",
        ];
        for kind in kinds {
            parse(kind, "").unwrap();
        }
        parse("voc", "corners = \"edges_from_zero\", list = \"train.txt\"").unwrap();
        parse(
            "bdd100k",
            "keep_every = 3, classes = { rider = \"cyclist\" }",
        )
        .unwrap();
        let error = parse("lasot", "labels = \"x\"").unwrap_err();
        assert!(
            error.contains("labels of p") && error.contains("does nothing"),
            "{error}"
        );
        assert!(
            parse("lasot", "keep_every = 0")
                .unwrap_err()
                .contains("keep_every")
        );
        assert!(parse("lasot", "stride = 2").unwrap_err().contains("stride"));
    }

    #[test]
    fn impossible_settings_are_named() {
        let mut config = DataConfig::default();
        config.packs[1].weight = -1.0;
        assert!(config.validate().unwrap_err().to_string().contains("-1"));
        let config = DataConfig {
            held_out_share: 1.0,
            ..DataConfig::default()
        };
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .contains("held_out_share")
        );
    }

    #[test]
    fn target_filter_draws_the_line_where_the_recipe_did() {
        let filter = TargetFilter::default();
        let accepts = |w, h| {
            filter.accepts(
                &BoxXywh {
                    x_px: 0.0,
                    y_px: 0.0,
                    w_px: w,
                    h_px: h,
                },
                400,
                300,
            )
        };
        assert!(accepts(12.0, 30.0) && accepts(59.0, 12.0) && accepts(300.0, 200.0));
        assert!(!accepts(11.9, 40.0), "too narrow");
        assert!(!accepts(18.0, 19.0), "too small");
        assert!(!accepts(60.0, 12.0), "too long");
        assert!(!accepts(390.0, 190.0), "fills the image");
        let at = |x_px| filter.accepts(&BoxXywh::new(x_px, 0.0, 100.0, 50.0), 400, 300);
        assert!(
            at(-20.0) && at(320.0) && !at(-40.0) && !at(340.0) && !at(1e9),
            "beyond the border"
        );
    }

    #[test]
    fn every_pack_of_the_default_configuration_opens() {
        let Some(shared) = shared_folder() else {
            return;
        };
        let config = DataConfig {
            root: shared.join("data/train"),
            ..DataConfig::default()
        };
        let dataset = Dataset::open(&config).unwrap();
        let count = |name: &str| {
            let pack = dataset
                .packs()
                .iter()
                .find(|pack| pack.name == name)
                .unwrap();
            let boxes = pack
                .sequences
                .iter()
                .flat_map(|s| &s.sequence.frames)
                .map(|f| f.annotations.len())
                .sum::<usize>();
            (
                pack.sequences.len(),
                pack.sequences.iter().map(|s| s.images.len()).sum::<usize>(),
                boxes,
            )
        };
        assert_eq!(count("vid_davis16val"), (20, 560, 560));
        assert_eq!(count("bd_dhaka_road"), (650, 650, 5361));
        assert_eq!(count("in_traffic_mix").2, 2564);
        assert_eq!(count("in_idd_lite").2, 3719);
        assert_eq!(count("syn_carla").2, 406);
        assert_eq!(count("in_autorickshaw_web").0, 300);
        for pack in dataset.packs() {
            let held = pack.sequences.iter().filter(|s| s.held_out).count();
            assert!(
                held > 0 && held * 4 < pack.sequences.len() + 4,
                "{}: {held} held out",
                pack.name
            );
        }
    }
}
