//! `roadhound watch` as its user meets it: every file that it writes is read again, and what cannot be is refused.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use roadhound_shared::metrics::multi::text::MotLine;

use common::{bundle_that_finds, check_refused, good_bundle, roadhound, write_squares};

const SCENE: &str = r#"
[[lines]]
name = "gate"
from_px = [0, 200]
to_px = [416, 200]
[[zones]]
name = "lane"
corners_px = [[0, 0], [416, 0], [416, 256], [0, 256]]
[headway]
zone = "lane"
focal_px = 400
height_m = 1.2
horizon_px = 100
own_speed_m_s = 10
"#;

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// A car that comes towards the camera, and from frame 20 on another one.
fn drive() -> Vec<Vec<(u32, u32)>> {
    let car = |frame: u32| (100, 72 + 2 * frame);
    let frames = (0..40).map(|frame| {
        let mut squares = vec![car(frame)];
        if frame >= 20 {
            squares.push((330, 120));
        }
        squares
    });
    frames.collect()
}

fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_output_tells_the_same_story_and_tells_it_again_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = text(bundle_that_finds(folder.path()));
    let images = text(write_squares(folder.path(), &drive()));
    let config = folder.path().join("watch.toml");
    std::fs::write(&config, SCENE).unwrap();
    let run = |name: &'static str| {
        let root = folder.path().to_owned();
        let at = move |ending: &str| root.join(format!("{name}.{ending}"));
        let files = ["txt", "jsonl", "json", "xml", "mp4", "time"].map(|e| text(at(e)));
        let output = roadhound(&[
            "watch",
            &images,
            "--model",
            &bundle,
            "--config",
            &text(&config),
            "--out",
            &files[0],
            "--jsonl",
            &files[1],
            "--coco",
            &files[2],
            "--cvat",
            &files[3],
            "--video",
            &files[4],
            "--times",
            &files[5],
        ]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        (at, String::from_utf8(output.stdout).unwrap())
    };
    let (at, said) = run("a");
    assert!(
        said.starts_with("40 frames, 2 road users; a look every 2.0 frames"),
        "{said}"
    );
    assert!(
        said.contains("line 'gate': 1 to the right, 0 to the left (car 1 and 0)"),
        "{said}"
    );

    let mot = std::fs::read_to_string(at("txt")).unwrap();
    let mot: Vec<MotLine> = mot.lines().map(|l| MotLine::parse(l).unwrap()).collect();
    let first: Vec<_> = mot.iter().filter(|line| line.identity == 1).collect();
    // Believed from the second look on, and on every frame after it.
    let frames: Vec<u32> = first.iter().map(|line| line.frame).collect();
    assert_eq!(frames, (frames[0]..=40).collect::<Vec<_>>());
    assert!(frames[0] <= 5, "{frames:?}");
    let middle = &first[10].box_in_image;
    assert!(
        (middle.x_px + middle.w_px / 2.0 - 100.0).abs() < 10.0,
        "{middle:?}"
    );

    let lines = json_lines(&at("jsonl"));
    assert_eq!(lines.len(), 40);
    assert!(lines.iter().step_by(2).all(|line| line["looked"] == true));
    assert!(
        lines
            .iter()
            .skip(1)
            .step_by(2)
            .all(|line| line["looked"] == false)
    );
    let users = |n: usize| lines[n]["users"].as_array().unwrap();
    assert_eq!(users(10)[0]["kind"], "car");
    assert_eq!(users(10)[0]["zones"][0], "lane");
    assert_eq!((users(10).len(), users(39).len()), (1, 2));
    assert_eq!(
        lines
            .iter()
            .map(|l| l["users"].as_array().unwrap().len())
            .sum::<usize>(),
        mot.len()
    );
    let crossings: Vec<_> = lines.iter().filter(|l| l["crossings"].is_array()).collect();
    assert_eq!(crossings.len(), 1);
    let crossing = &crossings[0]["crossings"][0];
    assert_eq!(
        (&crossing["line"], &crossing["id"]),
        (&"gate".into(), &1.into())
    );
    assert_eq!(crossing["direction"], "to-the-right");
    let ahead = &lines[30]["ahead"];
    let (far, soon) = (
        ahead["distance_m"].as_f64(),
        ahead["headway_seconds"].as_f64(),
    );
    assert!(
        (far.unwrap() / 10.0 - soon.unwrap()).abs() < 1e-5,
        "{ahead}"
    );

    let coco: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(at("json")).unwrap()).unwrap();
    assert_eq!(coco["annotations"].as_array().unwrap().len(), mot.len());
    assert_eq!(coco["images"][7]["file_name"], "0007.png");
    assert_eq!(coco["annotations"][0]["track_id"], 1);

    let xml = std::fs::read_to_string(at("xml")).unwrap();
    let document = roxmltree::Document::parse(&xml).unwrap();
    let tracks: Vec<_> = document
        .descendants()
        .filter(|n| n.has_tag_name("track"))
        .collect();
    assert_eq!(tracks.len(), 2);
    let boxes = document
        .descendants()
        .filter(|n| n.has_tag_name("box"))
        .count();
    assert!(boxes < mot.len() / 2, "{boxes} key frames of {}", mot.len());

    let times = std::fs::read_to_string(at("time")).unwrap();
    assert_eq!(
        times
            .lines()
            .filter(|l| l.parse::<f64>().unwrap() >= 0.0)
            .count(),
        40
    );
    let mut video = roadhound_edge::source::open(&at("mp4"), &Default::default()).unwrap();
    let mut count = 0;
    while video.next_frame().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 40);

    let (again, _) = run("b");
    for ending in ["txt", "jsonl", "json", "xml", "mp4"] {
        let bytes = |path: std::path::PathBuf| std::fs::read(path).unwrap();
        assert!(
            bytes(at(ending)) == bytes(again(ending)),
            "{ending} differs"
        );
    }
}

#[test]
fn looks_are_as_rare_as_they_were_asked_for_and_lines_go_to_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = text(bundle_that_finds(folder.path()));
    let images = text(write_squares(folder.path(), &drive()));
    let jsonl = folder.path().join("a.jsonl");
    let output = roadhound(&[
        "watch",
        &images,
        "--model",
        &bundle,
        "--every",
        "5",
        "--quiet",
        "--jsonl",
        &text(&jsonl),
    ]);
    assert!(output.status.success() && output.stdout.is_empty());
    for (n, line) in json_lines(&jsonl).iter().enumerate() {
        assert_eq!(line["looked"], n % 5 == 0, "{n}");
    }
    let output = roadhound(&["watch", &images, "--model", &bundle]);
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.lines().count() > 40);
    for line in lines.lines() {
        MotLine::parse(line).unwrap();
    }
}

#[test]
fn what_cannot_be_watched_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(folder.path().join(name));
    let bundle = text(bundle_that_finds(folder.path()));
    let follows = text(good_bundle(folder.path()));
    let images = text(write_squares(folder.path(), &drive()[..3]));
    std::fs::write(at("bad.toml"), "[watch.scroe]\n").unwrap();
    let watch = |more: &[&str], words: &[&str]| {
        check_refused(&[&["watch"], more].concat(), words);
    };
    watch(&[&at("none.mp4"), "--model", &bundle], &["none.mp4"]);
    watch(
        &[&images, "--model", &follows],
        &["bundle", "no table [propose]"],
    );
    let bad = at("bad.toml");
    watch(
        &[&images, "--model", &bundle, "--config", &bad],
        &["bad.toml: line 1: unknown key 'scroe', did you mean 'score'?"],
    );
    watch(&[&images, "--model", &bundle, "--every", "0"], &["--every"]);
    watch(
        &[&images, "--model", &bundle, "--budget", "-1"],
        &["--budget"],
    );
    let nowhere = at("no/such/folder.json");
    watch(
        &[&images, "--model", &bundle, "--coco", &nowhere],
        &["folder.json"],
    );
    std::fs::write(at("watch.toml"), SCENE).unwrap();
    let (config, lines) = (at("watch.toml"), at("lines"));
    let out = |more: &[&str], words: &[&str]| {
        watch(&[&[&images[..], "--model", &bundle], more].concat(), words);
    };
    out(
        &["--config", &config, "--jsonl", &config],
        &["watch.toml: --jsonl and --config are the same file"],
    );
    out(
        &["--out", &lines, "--coco", &lines],
        &["lines: --coco and --out are the same file"],
    );
    assert_eq!(std::fs::read_to_string(&config).unwrap(), SCENE);
    assert!(!Path::new(&lines).exists());
    std::fs::write(at("finds/propose.onnx"), "something else").unwrap();
    watch(&[&images, "--model", &bundle], &["propose.onnx"]);
}

#[test]
fn what_was_seen_before_the_source_broke_is_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = text(bundle_that_finds(folder.path()));
    let images = write_squares(folder.path(), &drive()[..12]);
    std::fs::write(images.join("0009.png"), "no picture").unwrap();
    let (mot, coco) = (folder.path().join("a.txt"), folder.path().join("a.json"));
    check_refused(
        &[
            "watch",
            &text(&images),
            "--model",
            &bundle,
            "--out",
            &text(&mot),
            "--coco",
            &text(&coco),
        ],
        &["0009.png"],
    );
    let lines = std::fs::read_to_string(mot).unwrap();
    assert!(lines.lines().last().unwrap().starts_with("9,1,"), "{lines}");
    let read: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(coco).unwrap()).unwrap();
    assert_eq!(read["images"].as_array().unwrap().len(), 9);
}
