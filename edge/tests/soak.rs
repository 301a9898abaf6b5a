//! The whole program for as many frames as one likes: `ROADHOUND_SOAK_FRAMES=1000000` is the soak, less is a test.
//!
//! A rendered drive is played over and over, as fast as it is tracked, with the network that ships, every sink, the
//! recording and the page in use, and somebody at the page. Memory and files are looked at all the way.
//! `ROADHOUND_SOAK_NETWORK=tiny` takes the tests' small network instead, which is five times as fast.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::{BufRead, Read};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::program::{Program, ask, film};
use serde::Deserialize;

/// Frames of the drive; it begins anew behind the last.
const DRIVE_FRAMES: u32 = 240;
const SIZE_PX: (u32, u32) = (320, 180);
/// What the allocator may keep between the first tenth of the frames and the last: a leak of 4 bytes a frame is more.
const MOST_GROWN_BYTES: u64 = 4 << 20;

/// Of a line of the track, what is looked at.
#[derive(Deserialize)]
struct Line {
    frame: Option<u64>,
    t_micros: u64,
    since_micros: u64,
    skipped: u64,
    phase: String,
}

/// What everything writes to at once.
fn configuration(folder: &Path, target: [f32; 4], udp: SocketAddr) -> String {
    let at = folder.display();
    let (width, height) = SIZE_PX;
    let model = match std::env::var("ROADHOUND_SOAK_NETWORK").as_deref() {
        Ok("tiny") => format!(
            "[model]\nbundle = \"{}\"\n",
            common::good_bundle(folder).display()
        ),
        _ => String::new(),
    };
    format!(
        "{model}[camera.replay]\npath = \"{at}/drive.rgb\"\nraw = \"{width}x{height}:rgb@30\"\nlockstep = true\nrepeat = true\n\
         [camera.retry]\nstall_after_millis = 600000\n[target]\ninit = {target:?}\n\
         [sinks.jsonl]\npath = \"-\"\nqueue = 1000\n[sinks.csv]\npath = \"/dev/null\"\n[sinks.udp]\nto = \"{udp}\"\n\
         [metrics]\ntextfile = \"{at}/roadhound.prom\"\nevery_seconds = 1\n\
         [recording]\nfolder = \"{at}/video\"\nfps = 2.0\nsegment_seconds = 5\nplain_mib = 4\nevent_mib = 4\nfree_mib = 0\n\
         [preview]\nlisten = \"127.0.0.1:0\"\n[watchdog]\nstage_silent_seconds = 120\n"
    )
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Somebody at the page: looks, reads the figures, keeps moments, and points at the target again and again.
fn visit(
    address: SocketAddr,
    truths: &[Option<[f32; 4]>],
    stop: &AtomicBool,
    followed: &AtomicU64,
) {
    let mut round = 0_u64;
    while !stop.load(Relaxed) {
        round += 1;
        let Some(picture) = ask(address, "GET", "/live.jpg", "") else {
            continue;
        };
        let head = String::from_utf8_lossy(&picture[..picture.len().min(2048)]).into_owned();
        let track = head
            .lines()
            .find_map(|line| line.strip_prefix("X-Track: "))
            .and_then(|text| serde_json::from_str::<Line>(text).ok());
        match (round % 20, track.and_then(|line| line.frame)) {
            (5, Some(frame)) => {
                ask(address, "POST", "/hold", &format!("{{\"frame\": {frame}}}"));
                // Nothing is followed for a moment only: an idle tracker is no test.
                let Some(target) = truths[(frame % u64::from(DRIVE_FRAMES)) as usize] else {
                    continue;
                };
                ask(address, "POST", "/stop", "{}");
                let body = format!("{{\"box\": {target:?}, \"frame\": {frame}}}");
                let answer = ask(address, "POST", "/follow", &body).unwrap_or_default();
                followed.fetch_add(u64::from(answer.starts_with(b"HTTP/1.1 204")), Relaxed);
            }
            (10, _) => drop(ask(address, "POST", "/mark", "{}")),
            (15, _) => drop(ask(address, "GET", "/metrics", "")),
            _ => drop(ask(address, "GET", "/state", "")),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn memory_is_flat_and_time_only_grows_however_many_frames_there_are() {
    let frames: u64 =
        std::env::var("ROADHOUND_SOAK_FRAMES").map_or(1_500, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let truths = film(&folder.path().join("drive.rgb"), SIZE_PX, DRIVE_FRAMES);
    let target = truths[0].unwrap();
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    let text = configuration(folder.path(), target, listener.local_addr().unwrap());
    // What it says is worth reading.
    let mut board = Program::start(folder.path(), "roadhound", &text, |line| println!("{line}"));
    let (stop, followed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let visitor = std::thread::spawn({
        let (stop, followed, address) = (Arc::clone(&stop), Arc::clone(&followed), board.address());
        move || visit(address, &truths, &stop, &followed)
    });

    let mut lines = board.stdout();
    let (mut text, mut last): (String, Option<Line>) = (String::new(), None);
    let mut seen = 0_u64;
    let mut phases = std::collections::BTreeMap::<String, u64>::new();
    let mut samples: Vec<(u64, u64, usize)> = Vec::new();
    let began = Instant::now();
    while seen < frames {
        text.clear();
        assert!(lines.read_line(&mut text).unwrap() > 0, "the program ended");
        let line: Line = serde_json::from_str(&text).unwrap();
        let frame = line.frame.unwrap();
        if let Some(last) = &last {
            assert!(line.t_micros > last.t_micros, "time goes back: {text}");
            assert!(last.frame.unwrap() < frame, "frames go back: {text}");
        }
        assert!(
            line.since_micros <= line.t_micros,
            "a phase of the future: {text}"
        );
        assert_eq!(line.skipped, 0, "in lockstep nothing is skipped: {text}");
        *phases.entry(line.phase.clone()).or_default() += 1;
        seen = frame + 1;
        last = Some(line);
        // A hundred looks, and one more for every hundredth that was passed over.
        if seen * 100 / frames > samples.len() as u64 {
            samples.push((seen, board.memory_bytes("VmRSS"), board.open_files()));
            if samples.len() % 10 == 1 {
                let (_, bytes, files) = samples[samples.len() - 1];
                println!(
                    "after {seen} frames: {:.2} MiB resident, {files} files",
                    mib(bytes)
                );
            }
        }
    }
    let took = began.elapsed();
    stop.store(true, Relaxed);
    // The page is left before the program is, which waits for nobody.
    visitor.join().unwrap();
    board.signal("-15");
    let mut rest = Vec::new();
    lines.read_to_end(&mut rest).unwrap();
    assert!(board.ended_well());

    let at = |share: usize| samples[(samples.len() - 1) * share / 100];
    println!(
        "{seen} frames in {:.0} s, {:.0} a second; {} times pointed at; phases {phases:?}",
        took.as_secs_f64(),
        seen as f64 / took.as_secs_f64(),
        followed.load(Relaxed)
    );
    let most = |of: &[(u64, u64, usize)]| of.iter().map(|sample| sample.1).max().unwrap();
    let tenth = samples.len().div_ceil(10);
    let (early, late) = (
        most(&samples[..tenth]),
        most(&samples[samples.len() - tenth..]),
    );
    assert!(
        late < early + MOST_GROWN_BYTES,
        "{:.2} MiB at the end, {:.2} at the beginning",
        mib(late),
        mib(early)
    );
    assert!(at(100).2 <= at(0).2 + 8, "files stay open: {samples:?}");
    assert!(followed.load(Relaxed) > 0 || frames < 5_000);
    let of = |phase: &str| phases.get(phase).copied().unwrap_or_default();
    assert!(of("tracking") > frames / 10, "{phases:?}");
    assert!(of("idle") < frames / 50, "{phases:?}");
    // Every picture that is left opens.
    let video = folder.path().join("video");
    for segment in roadhound_edge::record::segments::list(&video).unwrap() {
        let [pictures, _] = roadhound_edge::record::segments::paths(&video, &segment.name);
        roadhound_edge::source::open(&pictures, &roadhound_edge::source::Options::default())
            .unwrap();
    }
}
