//! The program as its user meets it: what it writes, and how it refuses.
#![allow(clippy::unwrap_used)]

mod common;

use roadhound_edge::drive::{Drive, DriveConfig};

use common::{
    bundle_that_knows, check_refused, check_refused_with, data, good_bundle, roadhound,
    write_images,
};

fn text(path: impl AsRef<std::path::Path>) -> &'static str {
    Box::leak(path.as_ref().display().to_string().into_boxed_str())
}

#[test]
fn track_writes_a_line_a_frame_and_says_when_the_target_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(folder.path().join(name));
    let bundle = good_bundle(folder.path());
    // Bright, dark for two thirds of a second, bright again: see the network in `common`.
    let frames = [vec![200u8; 8], vec![5; 20], vec![200; 8]].concat();
    let images = write_images(folder.path(), 96, &frames);
    let output = roadhound(&[
        "track",
        text(&images),
        "--init=30,31,24.5,25",
        "--model",
        text(&bundle),
        "--out",
        at("a.txt"),
        "--times",
        at("a.time"),
        "--jsonl",
        at("a.jsonl"),
        "--video",
        at("a.mp4"),
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let boxes: Vec<String> = std::fs::read_to_string(at("a.txt"))
        .unwrap()
        .lines()
        .map(String::from)
        .collect();
    assert_eq!(boxes.len(), frames.len());
    assert_eq!(boxes[0], "30.000,31.000,24.500,25.000");
    assert!(
        boxes[1..8].iter().all(|line| !line.contains("nan")),
        "{boxes:?}"
    );
    assert!(
        boxes[20..28].iter().all(|line| line == "nan,nan,nan,nan"),
        "{boxes:?}"
    );

    let times = std::fs::read_to_string(at("a.time")).unwrap();
    assert_eq!(
        times
            .lines()
            .filter(|line| line.parse::<f64>().unwrap() > 0.0)
            .count(),
        frames.len()
    );

    let lines: Vec<serde_json::Value> = std::fs::read_to_string(at("a.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), frames.len());
    assert_eq!(lines[3]["frame"], 3);
    assert_eq!(lines[3]["t_micros"], 100_000);
    assert_eq!(lines[3]["phase"], "tracking");
    assert_eq!(lines[3]["box"].as_array().unwrap().len(), 4);
    assert!(lines[25]["box"].is_null());
    assert_eq!(lines[25]["phase"], "lost");
    assert!(lines[25]["presence"].as_f64().unwrap() < 0.1);

    let mut video =
        roadhound_edge::source::open(at("a.mp4").as_ref(), &Default::default()).unwrap();
    let mut count = 0;
    while video.next_frame().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, frames.len());
}

#[test]
fn a_camera_that_shows_nothing_like_what_was_learned_is_told_by_time_and_no_box_changes_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let frames = [vec![200u8; 20], vec![5; 40], vec![200; 21]].concat();
    let images = write_images(folder.path(), 96, &frames);
    let knows = bundle_that_knows(folder.path(), 0.0);
    let tracked = |bundle: &std::path::Path, name: &str, option: &str| {
        let (boxes, jsonl) = (at(&format!("{name}.txt")), at(&format!("{name}.jsonl")));
        let output = roadhound(&[
            "track",
            text(&images),
            "--init=30,31,24.5,25",
            "--model",
            text(bundle),
            "--out",
            &boxes,
            "--jsonl",
            &jsonl,
            option,
        ]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<serde_json::Value> = std::fs::read_to_string(jsonl)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (std::fs::read_to_string(boxes).unwrap(), lines, said)
    };
    let (boxes, lines, said) = tracked(&knows, "knows", "--familiarity");
    assert!(
        said.contains("nothing like what was learned 1 time(s)"),
        "{said}"
    );
    // A look every 100 ms of 30 frames a second.
    let looked: Vec<usize> = (0..lines.len())
        .filter(|at| lines[*at].get("familiarity").is_some())
        .collect();
    assert_eq!(looked, (0..frames.len()).step_by(3).collect::<Vec<_>>());
    // Dark from frame 20 on: seen at 21, told 300 ms later, and taken back 300 ms after it was light again at 60.
    let health = |at: usize| lines[at]["familiarity"]["health"].as_str().unwrap();
    for (at, expected) in [
        (0, "familiar"),
        (27, "familiar"),
        (30, "unfamiliar"),
        (66, "unfamiliar"),
        (69, "familiar"),
    ] {
        assert_eq!(health(at), expected, "frame {at}");
    }
    let began = |at: &&usize| lines[**at]["familiarity"]["began"] == true;
    assert_eq!(looked.iter().filter(began).collect::<Vec<_>>(), [&30]);
    let distance = lines[30]["familiarity"]["distance"].as_f64().unwrap();
    assert!((distance - (5.0 - 50.0 / 255.0)).abs() < 1e-3, "{distance}");

    // Nobody looks who was not asked to.
    let (without, lines, said) = tracked(&knows, "unasked", "--no-refind");
    assert_eq!(without, boxes);
    assert!(lines.iter().all(|line| line.get("familiarity").is_none()));
    assert!(!said.contains("learned"), "{said}");
}

#[test]
fn a_bundle_whose_familiarity_says_something_else_than_its_probe_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle_that_knows(folder.path(), 0.01);
    let images = write_images(folder.path(), 64, &[200; 3]);
    check_refused(
        &[
            "track",
            text(&images),
            "--init",
            "8,8,24,24",
            "--model",
            text(&bundle),
            "--familiarity",
        ],
        &["knows: ", "error[1]"],
    );
    let simple = good_bundle(folder.path());
    check_refused(
        &[
            "track",
            text(&images),
            "--init=8,8,24,24",
            "--familiarity",
            "--model",
            text(&simple),
        ],
        &["bundle: this model has no table [familiarity]"],
    );
}

#[test]
fn a_model_that_does_not_know_its_source_does_not_adapt() {
    let folder = tempfile::tempdir().unwrap();
    let images = write_images(folder.path(), 96, &[200; 3]);
    let bundle = good_bundle(folder.path());
    let constants = folder.path().join("adapt.toml");
    let track = |more: &[&str]| {
        let mut arguments = vec!["track", text(&images), "--init=30,31,24.5,25"];
        arguments.extend(["--model", text(&bundle)]);
        arguments.extend(more);
        arguments
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let refused = |more: &[&str], said: &[&str]| {
        let arguments = track(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        check_refused(&arguments, said);
    };
    refused(&["--adapt"], &["bundle: this model has no table [adapt]"]);
    std::fs::write(&constants, "strength = 1.5\n").unwrap();
    refused(
        &["--adapt-config", text(&constants)],
        &["adapt.toml: adapt.strength: found 1.5, expected 0 to 1"],
    );
    std::fs::write(&constants, "strenght = 0.5\n").unwrap();
    refused(
        &["--adapt-config", text(&constants)],
        &["adapt.toml: line 1: unknown key 'strenght', did you mean 'strength'?"],
    );
}

#[test]
fn track_without_output_files_prints_the_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let images = write_images(folder.path(), 64, &[200; 3]);
    let output = roadhound(&[
        "track",
        text(&images),
        "--init",
        "-3,20,24,24",
        "--model",
        text(&bundle),
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 3);
    assert!(
        stdout.starts_with("-3.000,20.000,24.000,24.000\n"),
        "{stdout}"
    );
}

#[test]
fn two_threads_give_the_boxes_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let images = write_images(folder.path(), 64, &[200, 180, 160, 190]);
    let run = |threads| {
        roadhound(&[
            "track",
            text(&images),
            "--init=20,20,24,24",
            "--model",
            text(&bundle),
            "--threads",
            threads,
        ])
        .stdout
    };
    assert_eq!(run("1"), run("2"));
}

/// tract takes other kernels on other processors; what they compute must be the same.
#[test]
fn figures_do_not_depend_on_the_width_of_the_processors_registers() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("img");
    std::fs::create_dir(&images).unwrap();
    let mut drive = Drive::new(DriveConfig {
        width_px: 320,
        height_px: 180,
        frames: 300,
        ..DriveConfig::default()
    })
    .unwrap();
    let mut rgb = Vec::new();
    let mut init = String::new();
    for index in 0..12 {
        let target = drive.render(index, &mut rgb).box_in_image.unwrap();
        if index == 0 {
            init = format!(
                "--init={},{},{},{}",
                target.x_px, target.y_px, target.w_px, target.h_px
            );
        }
        let file = std::fs::File::create(images.join(format!("{index:02}.png"))).unwrap();
        let mut encoder = png::Encoder::new(file, 320, 180);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&rgb).unwrap();
    }
    let figures = |without: Option<&str>| {
        let out = folder.path().join("out.jsonl");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_roadhound"));
        match without {
            Some(feature) => command.env("TRACT_CPU_ISA", format!("-{feature}")),
            None => command.env_remove("TRACT_CPU_ISA"),
        };
        let arguments = [
            "track",
            text(&images),
            &init,
            "--jsonl",
            text(&out),
            "--quiet",
        ];
        assert!(command.args(arguments).status().unwrap().success());
        std::fs::read_to_string(out).unwrap()
    };
    // Where there is no AVX-512, both runs take the same kernels and are trivially alike.
    let native = figures(None);
    assert_eq!(native.lines().count(), 12);
    assert_eq!(figures(Some("avx512f")), native);
}

#[test]
fn unknown_flag_and_missing_box_are_refused() {
    check_refused(
        &["track", "clip.mp4", "--init=1,2,3,4", "--colour"],
        &["--colour"],
    );
    check_refused(&["track", "clip.mp4"], &["--init"]);
    check_refused(
        &["track", "clip.mp4", "--init=1,2,3"],
        &["--init", "four numbers"],
    );
    check_refused(
        &["track", "clip.mp4", "--init=1,2,nan,4"],
        &["--init", "four numbers"],
    );
    check_refused(
        &["track", "a", "--init=1,2,3,4", "--threads", "0"],
        &["--threads"],
    );
    check_refused(&["chase"], &["chase"]);
}

#[test]
fn missing_source_and_unknown_kind_are_refused() {
    check_refused(
        &["track", "no/such.mp4", "--init=1,2,3,4"],
        &["no/such.mp4", "No such file"],
    );
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes.txt");
    std::fs::write(&notes, "hello").unwrap();
    check_refused(
        &["track", text(&notes), "--init=1,2,3,4"],
        &["notes.txt", "not a folder of images"],
    );
}

#[test]
fn empty_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    check_refused(
        &["track", text(folder.path()), "--init=1,2,3,4"],
        &[text(folder.path()), "no .jpg"],
    );
}

#[test]
fn box_without_area_or_outside_the_picture_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let images = write_images(folder.path(), 64, &[200; 2]);
    let out = folder.path().join("out.txt");
    for init in [
        "--init=10,10,0,20",
        "--init=10,10,20,-4",
        "--init=500,10,20,20",
        "--init=-90,10,20,20",
    ] {
        check_refused(
            &[
                "track",
                text(&images),
                init,
                "--model",
                text(&bundle),
                "--out",
                text(&out),
            ],
            &[text(&images), "area"],
        );
        assert!(!out.exists(), "{init} must not leave a result file");
    }
}

#[test]
fn truncated_jpeg_keeps_the_frames_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let images = folder.path().join("img");
    std::fs::create_dir(&images).unwrap();
    let jpeg = std::fs::read(data("one.jpg")).unwrap();
    for name in ["0.jpg", "1.jpg"] {
        std::fs::write(images.join(name), &jpeg).unwrap();
    }
    std::fs::write(images.join("2.jpg"), &jpeg[..jpeg.len() * 2 / 3]).unwrap();
    let (out, video) = (folder.path().join("out.txt"), folder.path().join("out.mp4"));
    check_refused(
        &[
            "track",
            text(&images),
            "--init=20,10,24,24",
            "--model",
            text(&bundle),
            "--out",
            text(&out),
            "--video",
            text(&video),
        ],
        &["2.jpg", "broken JPEG"],
    );
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 2);
    let mut video = roadhound_edge::source::open(&video, &Default::default()).unwrap();
    assert!(video.next_frame().unwrap().is_some() && video.next_frame().unwrap().is_some());
    assert!(video.next_frame().unwrap().is_none());
}

#[test]
fn truncated_videos_are_refused_wherever_they_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    for (name, kept) in [
        ("walk_bframes.mp4", 0.9),
        ("walk_bframes.mp4", 0.3),
        ("walk_mjpeg.avi", 0.5),
        ("walk_mjpeg.avi", 0.01),
    ] {
        let bytes = std::fs::read(data(name)).unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes[..(bytes.len() as f64 * kept) as usize]).unwrap();
        check_refused(
            &[
                "track",
                text(&path),
                "--init=10,24,16,16",
                "--model",
                text(&bundle),
                "--out",
                text(folder.path().join("o.txt")),
            ],
            &[name, "truncated"],
        );
    }
    let kept = std::fs::read_to_string(folder.path().join("o.txt")).unwrap();
    assert!(
        kept.lines().count() > 5,
        "half an AVI has frames to keep: {kept}"
    );
}

#[test]
fn videos_of_other_kinds_are_refused_by_name() {
    check_refused(
        &["track", text(data("mpeg4.mp4")), "--init=1,2,3,4"],
        &["mpeg4.mp4", "no H.264 video"],
    );
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    check_refused(
        &[
            "track",
            text(data("interlaced.mp4")),
            "--init=10,24,16,16",
            "--model",
            text(&bundle),
        ],
        &["interlaced.mp4", "frame 0", "interlace"],
    );
}

#[test]
fn raw_dump_needs_its_size_and_whole_frames() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let dump = folder.path().join("a.nv12");
    std::fs::write(&dump, vec![150u8; 64 * 64 * 3 / 2 * 2 + 7]).unwrap();
    let out = folder.path().join("o.txt");
    check_refused(
        &["track", text(&dump), "--init=20,20,24,24"],
        &["a.nv12", "--raw"],
    );
    check_refused(
        &[
            "track",
            text(&dump),
            "--init=20,20,24,24",
            "--raw",
            "63x64",
            "--model",
            text(&bundle),
        ],
        &["a.nv12", "even"],
    );
    check_refused(
        &[
            "track",
            text(&dump),
            "--init=20,20,24,24",
            "--raw",
            "64x64@10",
            "--model",
            text(&bundle),
            "--out",
            text(&out),
        ],
        &["a.nv12", "truncated", "frame 2"],
    );
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 2);
}

#[test]
fn full_disk_has_a_status_of_its_own() {
    if !std::path::Path::new("/dev/full").exists() {
        eprintln!("skipped: no /dev/full here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let images = write_images(folder.path(), 64, &[200; 2]);
    check_refused_with(
        4,
        &[
            "track",
            text(&images),
            "--init=20,20,24,24",
            "--model",
            text(&bundle),
            "--out",
            "/dev/full",
        ],
        &["/dev/full", "No space left"],
    );
}

#[test]
fn output_in_a_missing_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let images = write_images(folder.path(), 64, &[200; 2]);
    for flag in ["--out", "--times", "--jsonl", "--video"] {
        check_refused(
            &[
                "track",
                text(&images),
                "--init=20,20,24,24",
                "--model",
                text(&bundle),
                flag,
                "no/such/folder/f",
            ],
            &["no/such/folder/f", "No such file"],
        );
    }
}

#[test]
fn nothing_that_is_read_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let images = write_images(folder.path(), 64, &[200; 2]);
    let picture = std::fs::read_dir(&images).unwrap().next().unwrap();
    let picture = picture.unwrap().path();
    let manifest = bundle.join("bundle.toml");
    let lines = folder.path().join("lines.txt");
    let track = |more: &[&str], words: &[&str]| {
        let given = ["track", text(&images), "--init=20,20,24,24", "--model"];
        check_refused(&[&given[..], &[text(&bundle)], more].concat(), words);
    };
    for (file, other) in [(&picture, "the source"), (&manifest, "a file of the model")] {
        let before = std::fs::read(file).unwrap();
        for flag in ["--out", "--times", "--jsonl", "--video"] {
            let said = format!("{flag} and {other} are the same file");
            track(&[flag, text(file)], &[text(file), &said]);
        }
        assert_eq!(std::fs::read(file).unwrap(), before);
    }
    let same = ["--out", text(&lines), "--jsonl", text(&lines)];
    track(&same, &["lines.txt: --jsonl and --out are the same file"]);
    assert!(!lines.exists());
}

#[test]
fn bench_prints_every_stage_and_readable_json() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let output = roadhound(&[
        "bench",
        "--model",
        text(&bundle),
        "--frames",
        "10",
        "--json",
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for stage in [
        "preprocess",
        "search",
        "decode_and_tracker",
        "total",
        "template",
    ] {
        let median = figures[stage]["median_millis"].as_f64().unwrap();
        let p99 = figures[stage]["p99_millis"].as_f64().unwrap();
        assert!(0.0 < median && median <= p99, "{stage}: {median} {p99}");
    }
    let total = figures["total"]["median_millis"].as_f64().unwrap();
    assert!(figures["search"]["median_millis"].as_f64().unwrap() < total);
}

#[test]
fn demo_leaves_a_video_and_result_files() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = good_bundle(folder.path());
    let results = folder.path().join("results");
    let output = roadhound(&[
        "demo",
        "--model",
        text(&bundle),
        "--folder",
        text(&results),
        "--frames",
        "100",
        "--quiet",
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("success AUC") && said.contains("ms a frame") && said.contains("drive.mp4"),
        "{said}"
    );
    for name in ["boxes.txt", "truth.txt", "frames.jsonl"] {
        assert_eq!(
            std::fs::read_to_string(results.join(name))
                .unwrap()
                .lines()
                .count(),
            100,
            "{name}"
        );
    }
    let truth = std::fs::read_to_string(results.join("truth.txt")).unwrap();
    let absent = truth.lines().filter(|line| line.starts_with("nan")).count();
    assert!(
        (12..32).contains(&absent),
        "two seconds of ten are without the target, give or take: {absent} frames"
    );
    assert!(std::fs::metadata(results.join("drive.mp4")).unwrap().len() > 50_000);
}

#[test]
fn help_and_version_are_no_failures() {
    for args in [&["--help"][..], &["--version"], &["track", "--help"]] {
        let output = roadhound(args);
        assert!(
            output.status.success() && !output.stdout.is_empty(),
            "{args:?}"
        );
    }
}
