//! `track --auto` and `--select`: whom it follows, from when on, and what it says where nobody is there.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{bundle_that_finds, check_refused, good_bundle, roadhound, write_squares};

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// Nobody for three frames, then one car to the left, later one to the right as well.
fn drive() -> Vec<Vec<(u32, u32)>> {
    let frames = (0..16).map(|frame| match frame {
        0..3 => vec![],
        3..8 => vec![(136, 120)],
        _ => vec![(136, 120), (300, 120)],
    });
    frames.collect()
}

/// The first frame with a box, and the middle of that box.
fn first_box(output: &[u8]) -> (usize, f32) {
    let lines = String::from_utf8_lossy(output).into_owned();
    let boxes: Vec<Vec<f32>> = lines
        .lines()
        .map(|line| line.split(',').map(|v| v.parse().unwrap()).collect())
        .collect();
    assert_eq!(boxes.len(), 16);
    let first = boxes.iter().position(|b| !b[0].is_nan()).unwrap();
    (first, boxes[first][0] + boxes[first][2] / 2.0)
}

#[test]
fn whoever_is_meant_is_followed_from_the_frame_on_which_they_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = text(bundle_that_finds(folder.path()));
    let images = text(write_squares(folder.path(), &drive()));
    let track = |whom: &[&str]| {
        let output = roadhound(&[&["track", &images, "--model", &bundle], whom].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{whom:?}: {said}");
        first_box(&output.stdout)
    };
    for (whom, frame, middle) in [
        (&["--auto"][..], 3, 136.0),
        (&["--select", "1"], 3, 136.0),
        (&["--select", "car"], 3, 136.0),
        // The second one comes five frames later.
        (&["--select", "car:2"], 8, 300.0),
        (&["--auto", "--no-refind"], 3, 136.0),
    ] {
        let (first, found) = track(whom);
        assert_eq!(first, frame, "{whom:?}");
        assert!((found - middle).abs() < 16.0, "{whom:?}: {found}");
    }
    // An identity is there when `watch` believes it.
    let watched = roadhound(&["watch", &images, "--model", &bundle]);
    let lines = String::from_utf8(watched.stdout).unwrap();
    for identity in [1, 2] {
        let its = |line: &&str| line.split(',').nth(1) == Some(&identity.to_string());
        let first = lines.lines().find(its).unwrap();
        let fields: Vec<f32> = first.split(',').map(|v| v.parse().unwrap()).collect();
        let (frame, middle) = track(&["--select", &format!("id:{identity}")]);
        assert_eq!(frame + 1, fields[0] as usize);
        assert!((fields[2] + fields[4] / 2.0 - middle).abs() < 0.1);
    }
}

#[test]
fn a_point_is_a_road_user_where_there_is_one_and_whatever_is_there_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = text(bundle_that_finds(folder.path()));
    let follows = text(good_bundle(folder.path()));
    let images = text(write_squares(folder.path(), &vec![vec![(136, 120)]; 16]));
    for model in [&bundle, &follows] {
        let output = roadhound(&["track", &images, "--model", model, "--select", "140,124"]);
        let (frame, middle) = first_box(&output.stdout);
        assert_eq!(frame, 0);
        assert!((middle - 138.0).abs() < 20.0, "{middle}");
    }
}

#[test]
fn what_cannot_be_selected_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = text(bundle_that_finds(folder.path()));
    let follows = text(good_bundle(folder.path()));
    let images = text(write_squares(folder.path(), &drive()));
    let track = |more: &[&str], words: &[&str]| {
        check_refused(&[&["track", &images], more].concat(), words);
    };
    track(&["--model", &follows, "--auto"], &["no table [propose]"]);
    track(
        &["--model", &bundle, "--select", "bus"],
        &["img: nobody to follow on 16 frames (--select bus:1)"],
    );
    track(
        &["--select", "cra"],
        &["no kind 'cra', did you mean 'car'?"],
    );
    track(&["--auto", "--select", "car"], &["--auto", "--select"]);
    track(&["--model", &bundle], &["--init", "--select", "--auto"]);
}
