//! A clip played through a V4L2 driver into the board's program, and the frames that it looked at through this machine's:
//! the results are the same.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use crate::clip::{Clip, Layout};
use crate::reach::{Session, fate, vivid_session};

/// What a frame was made of: none of it may depend on the machine.
const RESULTS: [&str; 5] = ["box", "score", "presence", "similarity", "phase"];

/// Number among those delivered, and time, of each frame that the camera of the board delivered.
fn delivered(session: &Session) -> Vec<u64> {
    let parse = |line: &str| line.split_once(' ').unwrap().1.parse().unwrap();
    session.read("dump.times").lines().map(parse).collect()
}

fn play(session: &Session, clip: &Clip) {
    session.write("frames", clip.frames.concat());
    session.write(
        "roadhound.toml",
        format!(
            "{}[camera]\ndump = \"dump\"\n[camera.v4l2]\ndevice = \"camera\"\nformat = \"{}\"\nwidth_px = {}\nheight_px = {}\n\
             [sinks.jsonl]\npath = \"track.jsonl\"\nqueue = 1000\n[metrics]\ntextfile = \"roadhound.prom\"\nevery_seconds = 1\n",
            clip.target(),
            clip.layout.name(),
            clip.width,
            clip.height
        ),
    );
    let job = format!(
        "prepare() {{ loop_camera {0}x{1}; }}\nload_vivid\n\
         ./feed_camera $output {2} {0} {1} frames {3} & feed=$!\n\
         wait_for ready 60\n\
         ./roadhound run --config roadhound.toml 2>run.log & run=$!\n\
         wait_for track.jsonl 60\necho yes >play\nwait_for done 60\n\
         kill -TERM $run\nwait $run\necho yes >stop\nwait $feed\n",
        clip.width,
        clip.height,
        clip.layout.fourcc(),
        clip.frame_millis
    );
    session.run(&job, 1_800);
}

/// What came out of the camera is what went in, byte for byte and in order. How many of the frames did.
fn check_pixels(clip: &Clip, dump: &[u8]) -> usize {
    let mut shown = 0;
    let mut seen = vec![false; clip.frames.len()];
    for (n, frame) in dump.chunks(clip.frames[0].len()).enumerate() {
        let ahead = clip.frames[shown..]
            .iter()
            .position(|played| played == frame);
        shown += ahead.unwrap_or_else(|| {
            panic!("frame {n} of the camera is none of those played after {shown}")
        });
        seen[shown] = true;
    }
    seen.iter().filter(|&&seen| seen).count()
}

/// Every line is about a frame, its time is the driver's, times only grow, and what was left out is told.
fn check_times(lines: &[Value], times: &[u64]) {
    let number = |line: &Value| {
        line["frame"]
            .as_u64()
            .unwrap_or_else(|| panic!("no frame came: {line}"))
    };
    let at = |line: &Value| line["t_micros"].as_u64().unwrap();
    let (first, started) = (times[number(&lines[0]) as usize], at(&lines[0]));
    for line in lines {
        let driver = times[number(line) as usize];
        assert_eq!(
            at(line) - started,
            driver - first,
            "the driver's time got lost: {line}"
        );
    }
    for pair in lines.windows(2) {
        let (before, line) = (&pair[0], &pair[1]);
        assert!(
            number(line) > number(before) && at(line) > at(before),
            "{line}"
        );
        assert_eq!(line["skipped"], number(line) - number(before) - 1, "{line}");
    }
}

/// Runs the frames of these numbers through the program of this machine, at the times that they have on the board.
fn here(
    session: &Session,
    clip: &Clip,
    dump: &[u8],
    times: &[u64],
    numbers: &[usize],
) -> Vec<Value> {
    let bytes = clip.frames[0].len();
    let (mut looked, mut looked_times) = (Vec::new(), String::new());
    for (n, &number) in numbers.iter().enumerate() {
        looked.extend_from_slice(&dump[number * bytes..][..bytes]);
        writeln!(looked_times, "{n} {}", times[number]).unwrap();
    }
    session.write("looked", looked);
    session.write("looked.times", looked_times);
    session.write(
        "here.toml",
        format!(
            "{}[camera.replay]\npath = \"looked\"\nraw = \"{}@10\"\nlockstep = true\n\
             [sinks.jsonl]\npath = \"here.jsonl\"\nqueue = 1000\n",
            clip.target(),
            clip.raw()
        ),
    );
    let output = Command::new(env!("CARGO_BIN_EXE_roadhound"))
        .args(["run", "--config", "here.toml"])
        .current_dir(session.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    session.lines("here.jsonl")
}

fn check_clip(session: &Session, clip: &Clip) {
    play(session, clip);
    let dump = std::fs::read(session.path("dump")).unwrap();
    let times = delivered(session);
    assert_eq!(dump.len(), times.len() * clip.frames[0].len());
    let seen = check_pixels(clip, &dump);

    let lines = session.lines("track.jsonl");
    assert!(lines.len() >= 10, "{} frames were looked at", lines.len());
    check_times(&lines, &times);

    // Each frame was looked at, replaced by a newer one, or waits to be.
    let prom = session.read("roadhound.prom");
    let fates = ["tracked", "stale", "no_buffer"].map(|name| fate(&prom, name));
    let waits = times.len() as f64 - fates.iter().sum::<f64>();
    assert!((0.0..=1.0).contains(&waits), "of {}\n{prom}", times.len());
    assert_eq!(fates[0] as usize, lines.len());
    let lost = fate(&prom, "lost_by_driver");
    assert!(
        lost > 0.0,
        "the driver was told to drop half of all frames\n{prom}"
    );

    let numbers: Vec<usize> = lines
        .iter()
        .map(|line| line["frame"].as_u64().unwrap() as usize)
        .collect();
    let here = here(session, clip, &dump, &times, &numbers);
    assert_eq!(here.len(), lines.len());
    let mut differ = Vec::new();
    for (n, (board, here)) in lines.iter().zip(&here).enumerate() {
        for key in RESULTS.into_iter().filter(|&key| board[key] != here[key]) {
            differ.push(format!(
                "{n} {key}: {} there, {} here",
                board[key], here[key]
            ));
        }
    }
    let phases = ["tracking", "uncertain", "lost"].map(|phase| {
        let lines = lines.iter().filter(|line| line["phase"] == phase);
        format!("{} {phase}", lines.count())
    });
    println!(
        "{} {}: {} frames played, {seen} of them among {} delivered, {} looked at ({}), {lost} lost by the driver, {:?} replaced by newer ones",
        clip.name,
        clip.raw(),
        clip.frames.len(),
        times.len(),
        lines.len(),
        phases.join(", "),
        fates[1]
    );
    assert!(
        differ.is_empty(),
        "{} values differ:\n{}",
        differ.len(),
        differ.join("\n")
    );
    assert_eq!(lines.last().unwrap()["phase"], "tracking");
}

fn check_drive(layout: Layout, width: usize, height: usize) {
    if let Some(session) = vivid_session() {
        check_clip(&session, &Clip::drive(layout, width, height));
    }
}

fn check_real(layout: Layout, width: usize, height: usize) {
    if let Some(session) = vivid_session()
        && let Some(clip) = Clip::real(layout, width, height)
    {
        check_clip(&session, &clip);
    }
}

#[test]
fn a_rendered_drive_in_yuyv_gives_the_boxes_of_this_machine() {
    check_drive(Layout::Yuyv, 640, 480);
}

#[test]
fn a_rendered_drive_in_nv12_and_hd_gives_the_boxes_of_this_machine() {
    check_drive(Layout::Nv12, 1280, 720);
}

#[test]
fn a_real_clip_in_nv12_gives_the_boxes_of_this_machine() {
    check_real(Layout::Nv12, 640, 480);
}

#[test]
fn a_real_clip_in_yuyv_and_hd_gives_the_boxes_of_this_machine() {
    check_real(Layout::Yuyv, 1280, 720);
}
