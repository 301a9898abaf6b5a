//! `tune` and `report` as programs: what they leave behind, and how they refuse.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FRAMES: u32 = 7;

fn bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/models/roadhound-s")
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roadhound-train"))
        .args(arguments)
        .output()
        .unwrap()
}

/// A clip of a chequered thing that moves to the right over stripes.
fn write_clip(folder: &Path, speed_px: u32) {
    std::fs::create_dir_all(folder.join("img")).unwrap();
    let mut truth = String::new();
    for frame in 0..FRAMES {
        let (left, top) = (40 + frame * speed_px, 50);
        let image = image::RgbImage::from_fn(200, 150, |x, y| {
            let inside = (left..left + 40).contains(&x) && (top..top + 30).contains(&y);
            match inside {
                true if (x - left) / 8 % 2 == (y - top) / 8 % 2 => image::Rgb([200, 30, 30]),
                true => image::Rgb([240, 220, 60]),
                false => image::Rgb([(x / 9 * 20 % 90) as u8 + 60, 110, (y / 7 * 16 % 80) as u8]),
            }
        });
        image
            .save(folder.join(format!("img/{frame:04}.png")))
            .unwrap();
        truth += &format!("{left},{top},40,30\n");
    }
    std::fs::write(folder.join("groundtruth_rect.txt"), truth).unwrap();
}

fn tune(clips: &Path, out: &Path, more: &[&str]) -> Output {
    let bundle = bundle();
    let mut arguments = vec!["tune", "--model", bundle.to_str().unwrap()];
    arguments.extend(["--sequences", clips.to_str().unwrap()]);
    arguments.extend(["--out", out.to_str().unwrap(), "--trials", "3"]);
    arguments.extend(more);
    program(&arguments)
}

fn succeeded(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// The lines of `runs.csv` come in the order in which threads are done.
fn sorted(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_search_is_the_same_on_two_threads_and_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let clips = folder.path().join("clips");
    for (name, speed_px) in [("slow", 2), ("fast", 9)] {
        write_clip(&clips.join(name), speed_px);
    }
    let [one, two, killed] = ["one", "two", "killed"].map(|name| folder.path().join(name));
    succeeded(&tune(&clips, &one, &["--threads", "1"]));
    succeeded(&tune(&clips, &two, &["--threads", "2"]));

    // As a kill would leave it: half of the measurements, the last one torn.
    std::fs::create_dir(&killed).unwrap();
    std::fs::copy(one.join("settings.toml"), killed.join("settings.toml")).unwrap();
    let runs = std::fs::read_to_string(one.join("runs.csv")).unwrap();
    std::fs::write(killed.join("runs.csv"), &runs[..runs.len() / 2]).unwrap();
    succeeded(&tune(&clips, &killed, &["--threads", "2"]));

    for other in [&two, &killed] {
        for file in ["trials.csv", "best.toml", "tracker.toml"] {
            let text = |folder: &Path| std::fs::read_to_string(folder.join(file)).unwrap();
            assert_eq!(text(&one), text(other), "{file} in {}", other.display());
        }
        assert_eq!(
            sorted(&one.join("runs.csv")),
            sorted(&other.join("runs.csv"))
        );
    }

    // What comes out goes in where constants are taken.
    succeeded(&program(&[
        "evaluate",
        "--model",
        bundle().to_str().unwrap(),
        "--sequences",
        clips.to_str().unwrap(),
        "--tracker",
        one.join("best.toml").to_str().unwrap(),
    ]));

    let other_seed = tune(&clips, &one, &["--seed", "2"]);
    assert_eq!(other_seed.status.code(), Some(2));
    let said = String::from_utf8_lossy(&other_seed.stderr).into_owned();
    assert!(said.contains("made with other settings (seed)"), "{said}");
}

#[test]
fn evaluation_clips_are_never_tuned_on() {
    let folder = tempfile::tempdir().unwrap();
    write_clip(&folder.path().join("clips/otb_car4"), 3);
    let out = folder.path().join("out");
    let refused = tune(&folder.path().join("clips"), &out, &[]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("otb_car4 is an evaluation clip"), "{said}");
    assert!(!out.exists(), "nothing is begun");
}

#[test]
fn a_folder_without_a_run_has_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let refused = program(&["report", folder.path().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("not the folder of a run"), "{said}");
    std::fs::write(folder.path().join("config.toml"), "seed = 3\n").unwrap();
    succeeded(&program(&["report", folder.path().to_str().unwrap()]));
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>"));
}
