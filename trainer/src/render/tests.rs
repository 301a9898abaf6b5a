#![allow(clippy::unwrap_used)]
use std::path::Path;

use roadhound_shared::world::{Region, Scenario, WorldConfig};

use super::*;
use crate::data::{PackKind, ReadConfig, otb, read_pack};

fn job(out: &Path, layout: Layout, threads: usize) -> RenderJob {
    RenderJob {
        world: WorldConfig {
            width_px: 160,
            height_px: 96,
            frames: 6,
            ..WorldConfig::of(Region::India)
        },
        seed: 5,
        sequences: 3,
        threads,
        out: out.to_owned(),
        layout,
        sheet_cells: 0,
    }
}

/// Every file below a folder with its bytes, sorted.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path.strip_prefix(folder).unwrap().to_owned(), bytes));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_same_seed_writes_the_same_bytes_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    for layout in [Layout::Pack, Layout::Sequences] {
        let [one, three] = [1, 3].map(|threads| {
            let out = folder.path().join(format!("{layout:?}{threads}"));
            job(&out, layout, threads).run(|_| ()).unwrap();
            files(&out)
        });
        assert!(one.len() > 18, "{} files", one.len());
        assert!(one == three, "{layout:?}: threads changed the files");
    }
}

#[test]
fn a_rendered_pack_reads_as_a_video_pack() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("pack");
    let mut counted = 0;
    let done = job(&out, Layout::Pack, 2).run(|n| counted += n).unwrap();
    let read = read_pack(&out, PackKind::Video, &ReadConfig::default(), &|_| false).unwrap();
    let boxes: usize = read
        .iter()
        .flat_map(|s| &s.frames)
        .map(|f| f.annotations.len())
        .sum();
    assert_eq!((counted, done.frames), (18, 18));
    assert_eq!(boxes as u64, done.boxes);
    assert!(
        read.len() == 3 && boxes > 30,
        "{} sequences, {boxes} boxes",
        read.len()
    );
}

#[test]
fn a_scene_with_an_occlusion_reads_as_a_run_that_loses_its_target_and_sees_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("clips");
    let mut job = job(&out, Layout::Sequences, 2);
    job.world = WorldConfig {
        width_px: 320,
        height_px: 180,
        fps: 10.0,
        frames: 80,
        scenario: Scenario::Occlusion,
        ..WorldConfig::of(Region::Us)
    };
    job.run(|_| ()).unwrap();
    let runs = otb::load_runs(&out).unwrap();
    assert_eq!(runs.len(), 3);
    for run in &runs {
        let present: Vec<bool> = run.truth.iter().map(Option::is_some).collect();
        let hidden = present.iter().filter(|p| !**p).count();
        assert!(present[0] && present[present.len() - 1], "{}", run.name);
        // Two seconds at ten frames a second, give or take what the models' sizes do.
        assert!(
            (12..=34).contains(&hidden),
            "{}: hidden on {hidden} frames",
            run.name
        );
    }
}

#[test]
fn a_folder_in_use_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kept.txt"), b"").unwrap();
    let error = job(folder.path(), Layout::Pack, 1)
        .run(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not empty") && error.contains(folder.path().to_str().unwrap()),
        "{error}"
    );
}

#[test]
fn counts_and_worlds_out_of_range_are_refused_with_the_value() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = job(&folder.path().join("a"), Layout::Pack, 1);
    wrong.sequences = 0;
    assert_eq!(
        wrong.run(|_| ()).unwrap_err().to_string(),
        "sequences is 0, expected 1 to 100000"
    );
    wrong.sequences = 1;
    wrong.world.width_px = 7;
    let error = wrong.run(|_| ()).unwrap_err().to_string();
    assert!(error.contains("width_px is 7"), "{error}");
}

#[test]
fn where_a_table_cannot_be_written_there_is_nothing_that_reads_as_a_pack_or_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let world = WorldConfig {
        frames: 1,
        ..job(folder.path(), Layout::Pack, 1).world
    };
    // A folder is in the way of the table.
    let pack = folder.path().join("pack");
    std::fs::create_dir_all(pack.join("truth.csv")).unwrap();
    let tables = pack::tables("a", &world, &[vec![]]);
    pack::write_tables(&pack, [&tables].into_iter()).unwrap_err();
    assert!(!pack.join("boxes.csv").exists());
    let clip = folder.path().join("clip");
    std::fs::create_dir_all(clip.join("seqinfo.ini")).unwrap();
    let job = RenderJob {
        world: world.clone(),
        ..job(folder.path(), Layout::Sequences, 1)
    };
    let sequence = Sequence::new(&world, 5, 0).unwrap();
    clips::write(&clip, "clip", &job, &sequence, &[vec![]])
        .err()
        .unwrap();
    assert!(!clip.join("sot_spans.csv").exists() && !clip.join("gt.txt").exists());
    let left = files(folder.path());
    assert!(left.is_empty(), "{left:?}");
}
