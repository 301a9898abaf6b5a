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

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::mix::finish;

pub mod bdd100k;
pub mod boxes_csv;
pub mod classes;
pub(crate) mod clip;
pub mod coco;
mod config;
mod error;
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

pub use self::config::{DataConfig, PackConfig, PackKind, ReadConfig, TargetFilter};
pub use self::error::{DataError, LineProblem};

use self::classes::ClassTable;
use self::sequence::{Annotation, Sequence};
use self::store::{ImageId, ImageStore, stored_size};

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
        PackKind::Stills => boxes_csv::read(folder, boxes_csv::Layout::Stills, &classes),
        PackKind::Video => boxes_csv::read(folder, boxes_csv::Layout::Video, &classes),
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
                let is_of = |sequence| is_called(sequence, pack, name);
                if !sequences.iter().any(is_of) {
                    return Err(DataError::Config {
                        field: "packs.held_out",
                        value: name.clone(),
                        reason: "is neither a sequence of the pack nor a scene",
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

/// The name of what the sequence shows: others that show it too share a split.
fn scene_name<'a>(sequence: &'a Sequence, pack: &PackConfig) -> &'a str {
    let name = &*sequence.name;
    let mut prefixes = pack.fixed_camera_prefixes.iter();
    match prefixes.any(|prefix| name.starts_with(prefix.as_str())) {
        true => name.rsplit_once('_').map_or(name, |(scene, _)| scene),
        false => sequence.scene.as_deref().unwrap_or(name),
    }
}

/// Whether a name in a list is this sequence's, or its scene's.
fn is_called(sequence: &Sequence, pack: &PackConfig, name: &str) -> bool {
    *sequence.name == *name || scene_name(sequence, pack) == name
}

fn load(
    mut sequence: Sequence,
    pack: &PackConfig,
    held_out_share: f32,
    store: &mut ImageStore,
) -> LoadedSequence {
    let scene = scene_name(&sequence, pack);
    let scene = stable_hash(&[pack.name.as_bytes(), scene.as_bytes()]);
    let held_out = match &pack.held_out {
        Some(names) => names.iter().any(|name| is_called(&sequence, pack, name)),
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
    fn nothing_of_a_default_scene_is_on_both_sides_of_the_split() {
        let Some(shared) = shared_folder() else {
            return;
        };
        let config = DataConfig {
            root: shared.join("data/train"),
            ..DataConfig::default()
        };
        let dataset = Dataset::open(&config).unwrap();
        for pack in dataset.packs() {
            let names_of = |held_out| {
                let sequences = pack.sequences.iter();
                let split = sequences.filter(move |s| s.held_out == held_out);
                split.map(|s| (s.scene, &*s.sequence.name))
            };
            for (scene, name) in names_of(true) {
                for (other_scene, other) in names_of(false) {
                    assert_ne!(scene, other_scene, "{name} and {other}");
                    let [a, b] = [name, other].map(|n| n.rsplit_once('_').map_or(n, |(a, _)| a));
                    // Photographs that have nothing to do with each other are numbered alike.
                    let alone = ["bd", "in_web_00"].contains(&a);
                    assert!(a != b || alone, "{name} and {other}");
                }
            }
        }
    }

    #[test]
    fn a_scene_is_held_out_by_its_name_and_a_name_that_nobody_has_is_refused() {
        let lines: String = ["town_a_1", "town_a_2", "town_b_1"]
            .map(|name| format!("{name},0,0,car,1,2,30,40,-1\n"))
            .concat();
        let boxes = format!("sequence,frame,instance,class,x,y,w,h,occluded\n{lines}");
        let folder = testing::write_files(&[("boxes.csv", &boxes)]);
        let images = folder.path().join("images");
        std::fs::create_dir(&images).unwrap();
        for name in ["town_a_1", "town_a_2", "town_b_1"] {
            let picture = image::RgbImage::new(64, 64);
            picture.save(images.join(format!("{name}.png"))).unwrap();
        }
        let mut config = testing::config_of(folder.path(), PackKind::Stills, ReadConfig::default());
        config.packs[0].fixed_camera_prefixes = vec!["town_".into()];
        config.packs[0].held_out = Some(vec!["town_a".into()]);
        let dataset = testing::open(&config);
        let sequences = &dataset.packs()[0].sequences;
        assert_eq!(
            sequences.iter().map(|s| s.held_out).collect::<Vec<_>>(),
            [true, true, false]
        );
        config.packs[0].held_out = Some(vec!["town_c".into()]);
        let error = Dataset::open(&config).unwrap_err().to_string();
        assert!(error.contains("packs.held_out is town_c"), "{error}");
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
