//! Which data set a folder of evaluation clips is.
//!
//! In goes a folder, and a name where it cannot be told by looking; out come [`Run`]s, one a target.
//!
//! ```no_run
//! use roadhound_trainer::data::layout::Layout;
//! for run in Layout::Auto.load_runs("KITTI/training".as_ref())? {
//!     println!("{}: {} frames", run.name, run.frames.len());
//! }
//! # Ok::<(), roadhound_trainer::data::DataError>(())
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;

use super::classes::ClassTable;
use super::sequence::Run;
use super::{DataError, bdd100k, coco, got10k, kitti, lasot, mot, otb, trackingnet};

/// How a folder of evaluation clips is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Told by the files that are there.
    Auto,
    /// `CLIP/img/` with `groundtruth_rect.txt`, or `gt.txt` with `sot_spans.csv`.
    Otb,
    /// `CLASS/CLIP/img/` with `groundtruth.txt`.
    Lasot,
    /// `CLIP/` with images and `groundtruth.txt`.
    Got10k,
    /// `CLIP/gt/gt.txt` with `img1/`.
    Mot,
    /// `label_02/` with `image_02/`.
    Kitti,
    /// `anno/` with `frames/`, in one chunk or several.
    Trackingnet,
    /// `labels/` of Scalabel JSON with `images/`.
    Bdd100k,
    /// `annotations.json` with `images/`.
    Coco,
}

impl Layout {
    /// The layout that the files of a folder speak for; OTB where none does, whose reader then says what is missing.
    pub fn recognise(root: &Path) -> Self {
        // The more particular first: each asks for files that the ones behind it do without.
        if kitti::recognise(root) {
            Self::Kitti
        } else if trackingnet::recognise(root) {
            Self::Trackingnet
        } else if coco::recognise(root) {
            Self::Coco
        } else if bdd100k::recognise(root) {
            Self::Bdd100k
        } else if otb::recognise(root) {
            Self::Otb
        } else if mot::recognise(root) {
            Self::Mot
        } else if lasot::recognise(root) {
            Self::Lasot
        } else if got10k::recognise(root) {
            Self::Got10k
        } else {
            Self::Otb
        }
    }

    /// All runs below `root`.
    ///
    /// # Errors
    /// Unreadable files and malformed lines.
    pub fn load_runs(self, root: &Path) -> Result<Vec<Run>, DataError> {
        let renames = BTreeMap::new();
        let classes = ClassTable::new(&renames, &|class| class == "ignore");
        match self {
            Self::Auto => Self::recognise(root).load_runs(root),
            Self::Otb => otb::load_runs(root),
            Self::Lasot => lasot::load_runs(root),
            Self::Got10k => got10k::load_runs(root),
            Self::Mot => mot::load_runs(root, &classes),
            Self::Kitti => kitti::load_runs(root, &classes),
            Self::Trackingnet => trackingnet::load_runs(root),
            Self::Bdd100k => bdd100k::load_runs(root, &classes),
            Self::Coco => coco::load_runs(root, &classes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::write_files;

    #[test]
    fn layouts_are_told_apart_by_their_files() {
        for (files, expected) in [
            (
                &["car4/img/0001.jpg", "car4/groundtruth_rect.txt"][..],
                Layout::Otb,
            ),
            (
                &[
                    "kerala/img/0001.jpg",
                    "kerala/gt.txt",
                    "kerala/sot_spans.csv",
                ],
                Layout::Otb,
            ),
            (
                &["car/car-1/img/00000001.jpg", "car/car-1/groundtruth.txt"],
                Layout::Lasot,
            ),
            (
                &["car-1/img/00000001.jpg", "car-1/groundtruth.txt"],
                Layout::Lasot,
            ),
            (
                &["list.txt", "a/00000001.jpg", "a/groundtruth.txt"],
                Layout::Got10k,
            ),
            (
                &["MOT17-02/gt/gt.txt", "MOT17-02/img1/000001.jpg"],
                Layout::Mot,
            ),
            (
                &["label_02/0000.txt", "image_02/0000/000000.png"],
                Layout::Kitti,
            ),
            (
                &["TEST/anno/a.txt", "TEST/frames/a/0.jpg"],
                Layout::Trackingnet,
            ),
            (
                &[
                    "labels/box_track_20/val/v.json",
                    "images/track/val/v/v-1.jpg",
                ],
                Layout::Bdd100k,
            ),
            (&["annotations.json", "images/a.jpg"], Layout::Coco),
        ] {
            let written: Vec<_> = files
                .iter()
                .map(|name| (*name, if *name == "list.txt" { "a\n" } else { "" }))
                .collect();
            let folder = write_files(&written);
            assert_eq!(Layout::recognise(folder.path()), expected, "{files:?}");
        }
    }
}
