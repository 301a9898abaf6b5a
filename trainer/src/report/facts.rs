//! What does not change while a run goes on: which program, which seed, which data.
//!
//! In: the resolved configuration and the opened data. Out: [`Facts`], kept as `facts.json` in the run's folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, LoadedSequence};
use crate::systems::System;

/// File of the facts in a run's folder.
pub const FACTS_FILE: &str = "facts.json";

/// Facts of a run. Keys that a file lacks, or has beyond these, are no error: reports of older and newer runs are
/// compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// What is trained.
    pub system: System,
    /// Version of the program.
    pub version: String,
    /// Commit of its source, where that is known.
    pub commit: Option<String>,
    /// Everything random follows from it.
    pub seed: u64,
    /// SHA-256 of the resolved configuration.
    pub config_sha256: String,
    /// The checkpoint whose weights the run started from.
    pub started_from: Option<String>,
    /// What computes.
    pub device: String,
    /// Trained values of the network.
    pub parameters: u64,
    /// Multiply-accumulates a followed frame.
    pub macs_per_frame: u64,
    /// Samples that the run sees in all, where that follows from the data; 0 elsewhere.
    pub samples_in_all: u64,
    /// What is learned from and validated on.
    pub data: Vec<DataCount>,
}

/// One split of one pack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataCount {
    /// Name of the pack.
    pub pack: String,
    /// `train` or `held out`.
    pub split: String,
    /// Share of the training pairs that the pack is meant to give.
    pub pair_share: f64,
    /// Videos and stills.
    pub sequences: u64,
    /// Images.
    pub images: u64,
    /// Boxes of objects.
    pub boxes: u64,
    /// Boxes that only say that something is there.
    pub ignore_regions: u64,
    /// Different objects.
    pub instances: u64,
    /// Those of them that are seen on two images or more.
    pub tracks: u64,
    /// Boxes by class.
    pub classes: BTreeMap<String, u64>,
}

/// Counts what the packs hold, train split first; splits without a sequence are left out.
pub fn count(dataset: &Dataset) -> Vec<DataCount> {
    let weights: f64 = dataset.packs().iter().map(|p| f64::from(p.weight)).sum();
    let mut counts = Vec::new();
    for (held_out, split) in [(false, "train"), (true, "held out")] {
        for pack in dataset.packs() {
            let sequences = pack.sequences.iter().filter(|s| s.held_out == held_out);
            let mut sum = DataCount {
                pack: pack.name.clone(),
                split: split.to_owned(),
                pair_share: f64::from(pack.weight) / weights.max(f64::MIN_POSITIVE),
                ..DataCount::default()
            };
            sequences.for_each(|loaded| add(&mut sum, loaded));
            if sum.sequences > 0 {
                counts.push(sum);
            }
        }
    }
    counts
}

fn add(sum: &mut DataCount, loaded: &LoadedSequence) {
    sum.sequences += 1;
    let (mut once, mut again) = (BTreeSet::new(), BTreeSet::new());
    for frame in &loaded.sequence.frames {
        sum.images += 1;
        for annotation in &frame.annotations {
            if annotation.ignore {
                sum.ignore_regions += 1;
                continue;
            }
            sum.boxes += 1;
            *sum.classes.entry(annotation.class.to_string()).or_default() += 1;
            if !once.insert(annotation.instance) {
                again.insert(annotation.instance);
            }
        }
    }
    sum.instances += once.len() as u64;
    sum.tracks += again.len() as u64;
}

/// The commit of the program's source: what `ROADHOUND_COMMIT` said when it was built, else what is checked out at or
/// above `folder`, which is the same unless the program was built from something else.
pub fn commit(folder: &Path) -> Option<String> {
    if let Some(built_from) = option_env!("ROADHOUND_COMMIT") {
        return Some(built_from.to_owned());
    }
    folder
        .ancestors()
        .find_map(|above| checked_out(&above.join(".git")))
}

/// The commit that a `.git` folder, or the file that a linked work tree has in its place, points to.
fn checked_out(git: &Path) -> Option<String> {
    let git = match std::fs::read_to_string(git) {
        Ok(link) => git.parent()?.join(link.trim().strip_prefix("gitdir: ")?),
        Err(_) => git.to_owned(),
    };
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(name) = head.trim().strip_prefix("ref: ") else {
        return short_hash(head.trim());
    };
    // Branches of a linked work tree live in the folder of the first one.
    let common = std::fs::read_to_string(git.join("commondir"))
        .map_or_else(|_| git.clone(), |path| git.join(path.trim()));
    if let Ok(hash) = std::fs::read_to_string(common.join(name)) {
        return short_hash(hash.trim());
    }
    let packed = std::fs::read_to_string(common.join("packed-refs")).ok()?;
    let (hash, _) = packed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, packed_name)| *packed_name == name)?;
    short_hash(hash)
}

/// The first twelve digits of a hash; `None` for anything else.
fn short_hash(text: &str) -> Option<String> {
    let is_hash = text.len() >= 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then(|| text[..12].to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::{DataConfig, PackConfig, PackKind};

    #[test]
    fn boxes_objects_and_tracks_are_counted_per_pack_and_split() {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
        for name in ["first", "second"] {
            let images = folder.path().join("clips/images").join(name);
            std::fs::create_dir_all(&images).unwrap();
            for frame in 0..3 {
                image::RgbImage::new(64, 48)
                    .save(images.join(format!("{frame:05}.png")))
                    .unwrap();
                lines += &format!("{name},{frame},1,car,10,10,20,20,0\n");
            }
        }
        lines += "first,1,2,person,30,10,10,20,0\nfirst,2,3,ignore,0,0,5,5,0\n";
        std::fs::write(folder.path().join("clips/boxes.csv"), lines).unwrap();
        let pack = PackConfig {
            name: "clips".into(),
            kind: PackKind::Video,
            weight: 0.5,
            path: None,
            held_out: Some(vec!["second".into()]),
            fixed_camera_prefixes: vec![],
            read: Default::default(),
        };
        let config = DataConfig {
            root: folder.path().into(),
            packs: vec![pack],
            ..DataConfig::default()
        };
        let counts = count(&Dataset::open(&config).unwrap());
        let expected = DataCount {
            pack: "clips".into(),
            split: "train".into(),
            pair_share: 1.0,
            sequences: 1,
            images: 3,
            boxes: 4,
            ignore_regions: 1,
            instances: 2,
            tracks: 1,
            classes: [("car".to_owned(), 3), ("person".to_owned(), 1)].into(),
        };
        assert_eq!(counts.len(), 2);
        assert_eq!(counts[0], expected);
        assert_eq!(
            (counts[1].split.as_str(), counts[1].boxes, counts[1].tracks),
            ("held out", 3, 1)
        );
    }

    #[test]
    fn the_commit_is_found_loose_packed_detached_and_from_a_linked_work_tree() {
        let folder = tempfile::tempdir().unwrap();
        let git = folder.path().join("repo/.git");
        let below = folder.path().join("repo/configs");
        std::fs::create_dir_all(git.join("refs/heads")).unwrap();
        std::fs::create_dir_all(&below).unwrap();
        let hash = |digit: &str| digit.repeat(40);
        let found = |at: &Path| at.ancestors().find_map(|a| checked_out(&a.join(".git")));

        std::fs::write(git.join("HEAD"), hash("a")).unwrap();
        assert_eq!(found(&below), Some("a".repeat(12)));
        std::fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::write(
            git.join("packed-refs"),
            format!("# pack-refs\n{} refs/heads/main\n", hash("b")),
        )
        .unwrap();
        assert_eq!(found(&below), Some("b".repeat(12)));
        std::fs::write(git.join("refs/heads/main"), hash("c")).unwrap();
        assert_eq!(found(&below), Some("c".repeat(12)));

        let linked = git.join("worktrees/side");
        let tree = folder.path().join("side");
        std::fs::create_dir_all(&linked).unwrap();
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join(".git"), format!("gitdir: {}\n", linked.display())).unwrap();
        std::fs::write(linked.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::write(linked.join("commondir"), "../..\n").unwrap();
        assert_eq!(found(&tree), Some("c".repeat(12)));

        std::fs::write(git.join("HEAD"), "nonsense").unwrap();
        assert_eq!(checked_out(&git), None);
    }
}
