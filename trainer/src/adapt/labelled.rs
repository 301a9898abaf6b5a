//! Labelled tracks of the target: a few to learn from, or all of them, to say what labels would be worth.
//!
//! In: a pack of any layout. Out: the [`Dataset`] of it, and which of its objects were chosen. The same seed chooses the same
//! objects, whatever order the pack has them in; more of them hold the fewer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, in_range};
use crate::data::{DataConfig, DataError, Dataset, PackConfig, PackKind, ReadConfig, stable_hash};

/// Name of the pack in logs and facts.
const NAME: &str = "labelled";

/// A few labelled tracks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelledConfig {
    /// Folder of the pack; without it there are none.
    pub pack: Option<PathBuf>,
    /// The folder's layout, and that of `--oracle`.
    pub kind: PackKind,
    /// How many tracks are learned from; of photographs, objects.
    pub tracks: usize,
    /// Where the pack's parts are and how they are read.
    pub read: ReadConfig,
}

impl Default for LabelledConfig {
    fn default() -> Self {
        Self {
            pack: None,
            kind: PackKind::Video,
            tracks: 20,
            read: ReadConfig::default(),
        }
    }
}

impl LabelledConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("labelled.tracks", self.tracks as f64, 1.0, 1e6)
    }

    /// All of a pack; `held_out` as in [`PackConfig`].
    ///
    /// # Errors
    /// Files and lines that cannot be read.
    pub fn open(
        &self,
        folder: &Path,
        data: &DataConfig,
        held_out: Option<Vec<String>>,
    ) -> Result<Dataset, DataError> {
        Dataset::open(&DataConfig {
            root: folder.to_owned(),
            packs: vec![PackConfig {
                name: NAME.into(),
                kind: self.kind,
                weight: 1.0,
                path: Some(PathBuf::from(".")),
                held_out,
                fixed_camera_prefixes: Vec::new(),
                read: self.read.clone(),
            }],
            ..data.clone()
        })
    }

    /// Leaves a few objects of a dataset that are worth following.
    pub fn few(&self, data: &mut Dataset, seed: u64) -> Vec<Chosen> {
        let mut found: BTreeMap<(String, u32), Chosen> = BTreeMap::new();
        for loaded in data.packs().iter().flat_map(|pack| &pack.sequences) {
            for (frame, image) in loaded.sequence.frames.iter().zip(&loaded.images) {
                let (width_px, height_px) = data.store().loaded_size_px(*image);
                let fit = data.target_filter();
                let worth = frame
                    .annotations
                    .iter()
                    .filter(|a| !a.ignore && fit.accepts(&a.box_in_image, width_px, height_px));
                for a in worth {
                    let key = (loaded.sequence.name.to_string(), a.instance);
                    let chosen = found.entry(key.clone()).or_insert_with(|| Chosen {
                        sequence: key.0,
                        instance: a.instance,
                        class: a.class.to_string(),
                        boxes: 0,
                        is_video: loaded.sequence.is_video,
                    });
                    chosen.boxes += 1;
                }
            }
        }
        // What a video shows once only is no track.
        let mut all: Vec<Chosen> = found
            .into_values()
            .filter(|c| c.boxes > 1 || !c.is_video)
            .collect();
        all.sort_by_cached_key(|chosen| {
            let (seed, instance) = (seed.to_le_bytes(), chosen.instance.to_le_bytes());
            stable_hash(&[&seed, chosen.sequence.as_bytes(), &instance])
        });
        all.truncate(self.tracks);
        let kept: BTreeSet<(&str, u32)> = all.iter().map(|c| (&*c.sequence, c.instance)).collect();
        data.keep_objects(|_, loaded, a| kept.contains(&(&*loaded.sequence.name, a.instance)));
        all
    }
}

/// An object that is learned from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Where it is.
    pub sequence: String,
    /// Who it is.
    pub instance: u32,
    /// What it is.
    pub class: String,
    /// On how many pictures.
    pub boxes: usize,
    /// Of one recording.
    is_video: bool,
}

/// As a table.
pub fn csv(chosen: &[Chosen]) -> String {
    let mut text = String::from("sequence,instance,class,boxes\n");
    for c in chosen {
        let _ = writeln!(
            text,
            "{},{},{},{}",
            c.sequence, c.instance, c.class, c.boxes
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Three videos of three frames with three objects each, one of which is seen once and one of which is tiny.
    fn pack() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let mut table = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
        for video in ["a", "b", "c"] {
            let folder = root.path().join("images").join(video);
            std::fs::create_dir_all(&folder).unwrap();
            for frame in 0..3 {
                let picture = image::RgbImage::new(160, 120);
                picture.save(folder.join(format!("{frame}.png"))).unwrap();
                table += &format!("{video},{frame},1,car,10,10,40,30,0\n");
                table += &format!("{video},{frame},2,bus,60,10,50,40,0\n");
                table += &format!("{video},{frame},3,car,5,5,4,4,0\n");
                table += &format!("{video},{frame},9,ignore,100,80,30,30,0\n");
            }
            table += &format!("{video},0,4,person,60,60,20,40,0\n");
        }
        std::fs::write(root.path().join("boxes.csv"), table).unwrap();
        root
    }

    fn few(root: &Path, tracks: usize, seed: u64) -> (Vec<Chosen>, Dataset) {
        let config = LabelledConfig {
            tracks,
            ..LabelledConfig::default()
        };
        let mut data = config
            .open(root, &DataConfig::default(), Some(Vec::new()))
            .unwrap();
        let chosen = config.few(&mut data, seed);
        (chosen, data)
    }

    #[test]
    fn as_many_tracks_are_left_as_were_asked_for_and_ignore_regions_stay() {
        let root = pack();
        let (chosen, data) = few(root.path(), 2, 5);
        assert_eq!(chosen.len(), 2);
        assert!(
            chosen.iter().all(|c| c.boxes == 3 && c.instance < 3),
            "{chosen:?}"
        );
        let sequences = data.packs().iter().flat_map(|p| &p.sequences);
        let left = sequences
            .flat_map(|s| &s.sequence.frames)
            .flat_map(|f| &f.annotations);
        let (ignored, objects): (Vec<_>, Vec<_>) = left.partition(|a| a.ignore);
        assert_eq!((ignored.len(), objects.len()), (9, 6));
        assert!(csv(&chosen).lines().count() == 3);
    }

    #[test]
    fn the_same_seed_chooses_the_same_and_more_tracks_hold_the_fewer() {
        let root = pack();
        let (two, _) = few(root.path(), 2, 5);
        assert_eq!(few(root.path(), 2, 5).0, two);
        assert_eq!(few(root.path(), 4, 5).0[..2], two[..]);
        let seeds: BTreeSet<String> = (0..8)
            .map(|seed| csv(&few(root.path(), 2, seed).0))
            .collect();
        assert!(seeds.len() > 1);
        // There are six in all.
        assert_eq!(few(root.path(), 50, 5).0.len(), 6);
    }
}
