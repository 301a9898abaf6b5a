//! Annotated images on disk, read lazily.
//!
//! In go folders (packs of stills, videos with identities, YOLO labels, OTB and MOT style evaluation clips); out come
//! [`sequence::Sequence`]s for training and [`sequence::Run`]s for evaluation. Reading a pack opens its tables and the
//! headers of its images; pixels are decoded one image at a time by [`store::ImageStore`], which keeps what fits.
//!
//! ```no_run
//! use roadhound_trainer::data::{DataConfig, Dataset};
//! let dataset = Dataset::open(&DataConfig::default())?;
//! for pack in dataset.packs() {
//!     println!("{}: {} sequences", pack.name, pack.sequences.len());
//! }
//! # Ok::<(), roadhound_trainer::data::DataError>(())
//! ```

use std::io;
use std::path::{Path, PathBuf};

use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::preprocess::PreprocessError;
use serde::{Deserialize, Serialize};

pub mod boxes_csv;
pub mod masks;
pub mod otb;
pub mod sequence;
pub mod sheet;
pub mod store;
pub mod truth;
pub mod yolo;

use self::sequence::Sequence;
use self::store::{ImageId, ImageStore};

/// Why data could not be read. Every variant names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being opened or listed.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
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
    Crop(#[from] PreprocessError),
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
    /// The text is not UTF-8 or not a table.
    #[error("unreadable text: {0}")]
    Text(String),
}

impl DataError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
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
    /// `img/NAME.EXT` and `labels/NAME.txt` with lines `class cx cy w h` in shares of the image.
    Yolo,
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

    fn ignores(&self, class: &str) -> bool {
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
    ignores: &dyn Fn(&str) -> bool,
) -> Result<Vec<Sequence>, DataError> {
    match kind {
        PackKind::Stills => boxes_csv::read(folder, boxes_csv::Layout::Stills, ignores),
        PackKind::Video => boxes_csv::read(folder, boxes_csv::Layout::Video, ignores),
        PackKind::Yolo => yolo::read(folder),
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
    /// Opens every pack: reads its tables and the headers of its images.
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
            let sequences = read_pack(&folder, pack.kind, &|class| config.ignores(class))?;
            for name in pack.held_out.iter().flatten() {
                if !sequences.iter().any(|sequence| &*sequence.name == name) {
                    return Err(DataError::Config {
                        field: "packs.held_out",
                        value: name.clone(),
                        reason: "is not a sequence of the pack",
                    });
                }
            }
            let sequences = sequences
                .into_iter()
                .map(|sequence| load(sequence, pack, config.held_out_share, &mut store))
                .collect::<Result<_, _>>()?;
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
) -> Result<LoadedSequence, DataError> {
    let scene_name = match pack
        .fixed_camera_prefixes
        .iter()
        .any(|prefix| sequence.name.starts_with(prefix.as_str()))
    {
        true => sequence
            .name
            .rsplit_once('_')
            .map_or(&*sequence.name, |(camera, _)| camera),
        false => &*sequence.name,
    };
    let scene = stable_hash(&[pack.name.as_bytes(), scene_name.as_bytes()]);
    let held_out = match &pack.held_out {
        Some(names) => names.iter().any(|name| **name == *sequence.name),
        None => unit_from_hash(scene) < f64::from(held_out_share),
    };
    let mut images = Vec::with_capacity(sequence.frames.len());
    for frame in &mut sequence.frames {
        let id = store.register(&frame.path)?;
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
    Ok(LoadedSequence {
        sequence,
        images,
        held_out,
        scene,
    })
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
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// The top 53 bits as a number in `[0, 1)`.
fn unit_from_hash(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// Image files directly inside `folder`, sorted by name.
pub(crate) fn list_images(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let path = entry.map_err(DataError::io(folder))?.path();
        let known = path
            .extension()
            .and_then(|e| e.to_str())
            .is_some_and(|extension| {
                ["jpg", "jpeg", "png"]
                    .iter()
                    .any(|known| extension.eq_ignore_ascii_case(known))
            });
        if known {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
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
        assert_eq!(
            stable_hash(&[b"pack", b"name"]),
            stable_hash(&[b"pack", b"name"])
        );
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
