//! `propose` as a program: the weights of an interrupted run, the bundle that it leaves, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use roadhound_trainer::checkpoint::Checkpoint;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/models/roadhound-s")
}

/// A pack of one video and one held-out video, a red thing that drives through both.
fn write_pack(root: &Path) {
    let mut table = String::from("sequence,frame,instance,class,x,y,w,h,occluded\n");
    for video in ["drive", "later"] {
        let images = root.join("drives/images").join(video);
        std::fs::create_dir_all(&images).unwrap();
        for i in 0..6_u32 {
            let left = 20 + 9 * i;
            let picture = image::RgbImage::from_fn(160, 96, |x, y| {
                let inside = (left..left + 44).contains(&x) && (40..70).contains(&y);
                match inside {
                    true => image::Rgb([220, 30, 30]),
                    false => image::Rgb([90, (x / 2) as u8 + 60, (y / 7 * 16 % 80) as u8]),
                }
            });
            picture.save(images.join(format!("{i}.png"))).unwrap();
            table += &format!("{video},{i},1,car,{left},40,44,30,0\n");
        }
    }
    std::fs::write(root.join("drives/boxes.csv"), table).unwrap();
    let config = r#"
        [model]
        head_channels = 8
        embedding = 4
        [scenes]
        input_width_px = 96
        input_height_px = 64
        [train]
        batch = 2
        checkpoint_every = 1
        [validation]
        frames = 3
        batches = 1
        [[data.packs]]
        name = "drives"
        kind = "video"
        weight = 1.0
        held_out = ["later"]
        [[labels]]
        pack = "drives"
        complete = ["car", "bus"]
    "#;
    std::fs::write(root.join("run.toml"), config).unwrap();
}

fn train(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roadhound-train"))
        .args(arguments)
        .output()
        .unwrap()
}

fn propose(root: &Path, config: &str, out: &str) -> Output {
    propose_from(root, config, out, &[])
}

fn propose_from(root: &Path, config: &str, out: &str, more: &[&str]) -> Output {
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (config, data) = (text(root.join(config)), text(root.to_owned()));
    let (backbone, out) = (text(shipped()), text(root.join(out)));
    let fixed = ["propose", "--config", &config, "--data", &data, "--quiet"];
    let folders = ["--backbone", &backbone, "--out", &out, "--scenes", "6"];
    train(&[&fixed[..], &folders, more].concat())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_run_leaves_a_report_goes_on_to_the_same_weights_and_becomes_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_pack(root);
    let whole = propose(root, "run.toml", "whole");
    assert!(whole.status.success(), "{}", said(&whole));
    for name in [
        "config.toml",
        "facts.json",
        "report.html",
        "samples.jpg",
        "found.jpg",
    ] {
        assert!(root.join("whole").join(name).is_file(), "{name}");
    }
    let figures = std::fs::read_to_string(root.join("whole/validation.csv")).unwrap();
    let header = "step,pairs,ap50,recall_1fa,identity_top1,ap50_car\n3,6,";
    assert!(figures.starts_with(header), "{figures}");

    // The same from the start again, and once more in a folder that has it all: nothing is left to do.
    let weights = |run: &str| Checkpoint::load(&root.join(run).join("last.safetensors")).unwrap();
    assert!(propose(root, "run.toml", "again").status.success());
    assert!(weights("whole") == weights("again"));
    let done = propose(root, "run.toml", "again");
    assert!(done.status.success());
    assert!(!said(&done).contains("no report"), "{}", said(&done));
    assert!(weights("whole") == weights("again"));

    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (checkpoint, out) = (
        text(root.join("whole/last.safetensors")),
        root.join("bundle"),
    );
    let bundle = text(shipped());
    let export = |more: &[&str]| {
        let out = text(out.clone());
        let fixed = ["export", "--checkpoint", &checkpoint, "--out", &out];
        train(&[&fixed[..], more].concat())
    };
    let done = export(&["--bundle", &bundle, "--score", "propose_ap50=0.5"]);
    assert!(done.status.success(), "{}", said(&done));
    let manifest = std::fs::read_to_string(out.join("bundle.toml")).unwrap();
    for line in [
        "[propose]",
        "input_width_px = 96",
        "pairs_seen = 6",
        "propose_ap50 = 0.5",
    ] {
        assert!(manifest.contains(line), "{line} is not in\n{manifest}");
    }
    for name in ["propose.onnx", "probe.propose.json", "search.onnx"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let unfit = export(&["--bundle", &bundle, "--name", "other"]);
    assert_eq!(unfit.status.code(), Some(2), "{}", said(&unfit));
}

#[test]
fn a_run_that_starts_from_a_checkpoint_has_its_weights_and_a_new_optimiser() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_pack(root);
    assert!(propose(root, "run.toml", "first").status.success());
    let config = std::fs::read_to_string(root.join("run.toml")).unwrap();
    // Steps too small to move a weight, and normalisation held constant.
    let still = config.replace(
        "[train]",
        "[optim]\nlearning_rate = 1e-20\n[train]\nfreeze_norm_share = 1.0\n",
    );
    std::fs::write(root.join("still.toml"), still).unwrap();
    let first = root.join("first/last.safetensors");
    let init = ["--init", first.to_str().unwrap()];
    let second = propose_from(root, "still.toml", "second", &init);
    assert!(second.status.success(), "{}", said(&second));
    assert!(said(&second).contains("starts from"), "{}", said(&second));
    let weights = |run: &str| Checkpoint::load(&root.join(run).join("last.safetensors")).unwrap();
    let (first, second) = (weights("first"), weights("second"));
    assert!(second.weights == first.average);
    assert_eq!((second.step, second.adam.updates), (3, 3));
    // Gone on with, it needs the checkpoint no more.
    let again = propose_from(
        root,
        "still.toml",
        "second",
        &["--init", "gone.safetensors"],
    );
    assert!(again.status.success(), "{}", said(&again));
    let missing = propose_from(root, "still.toml", "third", &["--init", "gone.safetensors"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        said(&missing).contains("gone.safetensors: "),
        "{}",
        said(&missing)
    );
}

#[test]
fn a_pack_without_labels_and_another_backbone_are_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_pack(root);
    let config = std::fs::read_to_string(root.join("run.toml")).unwrap();
    let (unlabelled, _) = config.split_once("[[labels]]").unwrap();
    std::fs::write(root.join("unlabelled.toml"), unlabelled).unwrap();
    let other = format!("backbone_sha256 = \"feed\"\n{config}");
    std::fs::write(root.join("other.toml"), other).unwrap();
    for (config, expected) in [
        ("unlabelled.toml", "labels.pack is drives: is missing"),
        ("other.toml", "backbone_sha256 is feed"),
    ] {
        let output = propose(root, config, "out");
        assert_eq!(output.status.code(), Some(2));
        let said = said(&output);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!root.join("out").exists());
    }
}
