//! What stuck sinks cost the tracker: two programs that differ in their sinks alone.
//!
//! With a camera's pace both run side by side, and what counts is how many of the frames were tracked. As fast as it goes
//! they run in turn, in pairs of slices, by three clocks. `ROADHOUND_SINK_PAIRS` says how many pairs, and
//! `ROADHOUND_SINK_SECONDS` how long the camera plays; the figures are printed. On a busy machine the pairs decide little:
//! `chrt -f 1` before the test, which a superuser may, keeps neighbours out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::program::{PATIENCE, Program, film};

const SIZE_PX: (u32, u32) = (320, 180);
const DRIVE_FRAMES: u32 = 60;
/// One program runs for this long while the other is stopped.
const SLICE: Duration = Duration::from_millis(250);
/// What sinks may cost.
const MOST: f64 = 0.03;
/// Pictures are asked for and not taken by so many.
const BROWSERS: usize = 8;

struct Board {
    program: Program,
    /// The thread that tracks.
    thread: String,
    stuck: Vec<TcpStream>,
}

/// What the kernel says about a thread, and how many frames it has tracked.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    frames: f64,
    ran_nanos: u64,
    /// Ready to run while the processor did something else.
    waited_nanos: u64,
}

/// Frames a second of wall time, of wall time without what neighbours took, and of processor time.
#[derive(Clone, Copy)]
struct Rates([f64; 3]);

impl Board {
    /// `camera` is what the replay is told about its pace.
    fn start(folder: &Path, name: &str, camera: &str, target: [f32; 4], sinks: &str) -> Self {
        let (at, (width, height)) = (folder.display(), SIZE_PX);
        let text = format!(
            "[camera.replay]\npath = \"{at}/drive.rgb\"\nraw = \"{width}x{height}:rgb@30\"\nrepeat = true\n{camera}\
             [target]\ninit = {target:?}\n[preview]\nlisten = \"127.0.0.1:0\"\n[watchdog]\nstage_silent_seconds = 600\n{sinks}"
        );
        // Nobody reads the pipe that is its standard output, and it is not closed either.
        let program = Program::start(folder, name, &text, drop);
        // A thread gives itself its name.
        let end = Instant::now() + PATIENCE;
        let thread = loop {
            let threads = std::fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap();
            let tracking = threads
                .map(|entry| entry.unwrap().path().display().to_string())
                .find(|path| {
                    std::fs::read_to_string(format!("{path}/comm"))
                        .is_ok_and(|name| name.trim() == "tracking")
                });
            if let Some(thread) = tracking {
                break thread;
            }
            assert!(Instant::now() < end, "no thread that tracks");
            std::thread::sleep(Duration::from_millis(5));
        };
        Self {
            program,
            thread,
            stuck: Vec::new(),
        }
    }

    /// Browsers that ask for pictures and take none.
    fn get_stuck(&mut self, browsers: usize) {
        self.stuck = (0..browsers)
            .map(|_| {
                let mut stream = TcpStream::connect(self.program.address()).unwrap();
                write!(stream, "GET /live.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                stream
            })
            .collect();
    }

    fn tracked(&self) -> f64 {
        self.program
            .metric("roadhound_frames_total{fate=\"tracked\"}")
    }

    fn look(&self) -> Look {
        let frames = self.tracked();
        let stat = std::fs::read_to_string(format!("{}/schedstat", self.thread)).unwrap();
        let mut numbers = stat
            .split_whitespace()
            .map(|word| word.parse::<u64>().unwrap());
        Look {
            at: Instant::now(),
            frames,
            ran_nanos: numbers.next().unwrap(),
            waited_nanos: numbers.next().unwrap(),
        }
    }

    /// Runs for a slice, and is stopped again.
    fn slice(&mut self, browsers: usize) -> Rates {
        self.program.signal("-CONT");
        self.get_stuck(browsers);
        let before = self.look();
        std::thread::sleep(SLICE);
        let after = self.look();
        self.program.signal("-STOP");
        let frames = after.frames - before.frames;
        let wall = (after.at - before.at).as_secs_f64();
        let waited = (after.waited_nanos - before.waited_nanos) as f64 / 1e9;
        let ran = (after.ran_nanos - before.ran_nanos) as f64 / 1e9;
        Rates([wall, wall - waited, ran].map(|seconds| frames / seconds))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// 95 % interval of the median, by order statistics: it assumes nothing about how the values are spread.
fn interval(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let half = 0.98 * (n as f64).sqrt();
    let middle = n as f64 / 2.0;
    let at = |rank: f64| sorted[(rank.max(0.0) as usize).min(n - 1)];
    (at(middle - half), at((middle + half).ceil()))
}

/// Sinks that take nothing. A pipe that nobody ever opens at the other end; an address that nobody has (RFC 5737), of a
/// listener and of a broker.
fn dead_sinks(folder: &Path) -> String {
    let pipe = folder.join("pipe.csv");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let mut dead = format!(
        "[sinks.jsonl]\npath = \"-\"\nqueue = 4\n[sinks.csv]\npath = \"{}\"\nqueue = 4\n[sinks.udp]\nto = \"192.0.2.1:9\"\n",
        pipe.display()
    );
    if cfg!(feature = "mqtt") {
        dead.push_str("[sinks.mqtt]\nhost = \"192.0.2.1\"\n");
    }
    dead
}

/// What the two sinks of which that can be told have dropped.
fn dropped(board: &Board) -> [f64; 2] {
    ["jsonl", "csv"].map(|sink| {
        board.program.metric(&format!(
            "roadhound_sink_events_total{{sink=\"{sink}\",fate=\"dropped\"}}"
        ))
    })
}

/// Waits until pipes and queues are full.
fn until_they_are_stuck(board: &Board) -> [f64; 2] {
    let end = Instant::now() + PATIENCE;
    loop {
        let dropped = dropped(board);
        if dropped.iter().all(|&dropped| dropped > 0.0) {
            return dropped;
        }
        assert!(Instant::now() < end, "not stuck: {dropped:?} dropped");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn check_that_they_stayed_stuck(board: &Board, before: [f64; 2]) {
    let after = dropped(board);
    let more = after
        .iter()
        .zip(before)
        .all(|(after, before)| *after > before);
    assert!(more, "not stuck: {after:?} dropped, {before:?} before");
}

fn from_environment<T: std::str::FromStr<Err: std::fmt::Debug>>(name: &str, otherwise: T) -> T {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn at_the_pace_of_a_camera_as_many_frames_are_tracked_with_stuck_sinks_as_without_any() {
    let seconds: u64 = from_environment("ROADHOUND_SINK_SECONDS", 8);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let target = film(&at.join("drive.rgb"), SIZE_PX, DRIVE_FRAMES)[0].unwrap();
    let free = Board::start(at, "free", "", target, "");
    let mut stuck = Board::start(at, "stuck", "", target, &dead_sinks(at));
    let full = until_they_are_stuck(&stuck);
    let before = [&free, &stuck].map(Board::tracked);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        stuck.get_stuck(BROWSERS);
        std::thread::sleep(Duration::from_millis(500));
    }
    let played = 30.0 * began.elapsed().as_secs_f64();
    let [a, b] = [(&free, before[0]), (&stuck, before[1])].map(|(board, n)| board.tracked() - n);
    check_that_they_stayed_stuck(&stuck, full);
    println!(
        "of {played:.0} frames at 30 a second {a} were tracked without sinks and {b} with stuck ones: {:.4} of them",
        b / a
    );
    assert!(a > 0.9 * played, "{a} of {played} frames: too busy to tell");
    assert!((b / a - 1.0).abs() < MOST, "{b} frames, {a} without sinks");
}

#[test]
fn as_fast_as_it_goes_sinks_that_are_stuck_or_dead_and_browsers_that_take_nothing_leave_the_rate_within_three_per_cent()
 {
    let pairs: usize = from_environment("ROADHOUND_SINK_PAIRS", 30);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let target = film(&at.join("drive.rgb"), SIZE_PX, DRIVE_FRAMES)[0].unwrap();
    let fast = "lockstep = true\n";
    let mut free = Board::start(at, "free", fast, target, "");
    free.program.signal("-STOP");
    let mut stuck = Board::start(at, "stuck", fast, target, &dead_sinks(at));
    let full = until_they_are_stuck(&stuck);
    stuck.program.signal("-STOP");
    // Warm caches.
    for _ in 0..3 {
        free.slice(0);
        stuck.slice(0);
    }
    let mut rates: [[Vec<f64>; 2]; 3] = Default::default();
    let mut ratios: [Vec<f64>; 3] = Default::default();
    for pair in 0..pairs {
        // Who is first takes turns, so that what drifts is as unfair to one as to the other.
        let (a, b) = if pair % 2 == 0 {
            let a = free.slice(0);
            (a, stuck.slice(BROWSERS))
        } else {
            let b = stuck.slice(BROWSERS);
            (free.slice(0), b)
        };
        for kind in 0..3 {
            rates[kind][0].push(a.0[kind]);
            rates[kind][1].push(b.0[kind]);
            ratios[kind].push(b.0[kind] / a.0[kind]);
        }
    }
    stuck.program.signal("-CONT");
    check_that_they_stayed_stuck(&stuck, full);
    let names = [
        "wall time",
        "wall time without neighbours",
        "processor time",
    ];
    for (kind, name) in names.iter().enumerate() {
        let [a, b] = [0, 1].map(|board| median(rates[kind][board].clone()));
        let (low, high) = interval(&ratios[kind]);
        let says = match (low > 1.0 - MOST, high > 1.0 - MOST) {
            (true, _) => "within three per cent",
            (false, true) => "not decided",
            (false, false) => "more than three per cent lost",
        };
        println!(
            "{pairs} pairs, medians: {a:.1} frames a second of {name} without sinks, {b:.1} with stuck ones; \
             in a pair {:.4} of it, 95 % interval {low:.4} to {high:.4}: {says}",
            median(ratios[kind].clone())
        );
    }
    let own = median(ratios[2].clone());
    assert!(
        (own - 1.0).abs() < MOST,
        "{own} of the frames a second of processor time"
    );
    // A tracker that waited for a sink would lose time that is neither its own nor its neighbours'. On a busy machine that
    // time is noise as well: where the interval is too wide to decide, it is only not refuted.
    let (low, high) = interval(&ratios[1]);
    let least = if high - low < MOST { low } else { high };
    assert!(
        least > 1.0 - MOST,
        "{low} to {high} of the rate without sinks"
    );
}
