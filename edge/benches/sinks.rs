//! How much slower the tracker is with sinks that are stuck or dead and browsers that take nothing, as fast as it goes.
//!
//! ```sh
//! cargo bench --workspace --bench sinks                  # 60 pairs of slices
//! cargo bench --workspace --bench sinks -- --pairs 200   # a machine with neighbours decides little with fewer
//! ```
//! Two programs that differ in their sinks alone run in turn, in pairs of slices, by three clocks; the medians and the
//! interval of the ratio in a pair are printed. Exit status 1 where the interval by processor time, or by wall time without
//! what neighbours took, leaves room for a loss of more than three per cent: that is to say also where it decides nothing.
//! `chrt -f 1` before the command, which a superuser may, keeps neighbours out.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::program::{PATIENCE, film};
use common::stuck::{
    BROWSERS, Board, DRIVE_FRAMES, MOST, SIZE_PX, check_that_they_stayed_stuck, dead_sinks,
    until_they_are_stuck,
};

/// One program runs for this long while the other is stopped.
const SLICE: Duration = Duration::from_millis(250);

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

/// A program that runs in slices.
struct Sliced {
    board: Board,
    /// The thread that tracks.
    thread: String,
}

impl Sliced {
    fn start(folder: &Path, name: &str, target: [f32; 4], sinks: &str) -> Self {
        let board = Board::start(folder, name, "lockstep = true\n", target, sinks);
        // A thread gives itself its name.
        let end = Instant::now() + PATIENCE;
        let thread = loop {
            let threads = std::fs::read_dir(format!("/proc/{}/task", board.program.pid())).unwrap();
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
        Self { board, thread }
    }

    fn look(&self) -> Look {
        let frames = self.board.tracked();
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
        self.board.program.signal("-CONT");
        self.board.get_stuck(browsers);
        let before = self.look();
        std::thread::sleep(SLICE);
        let after = self.look();
        self.board.program.signal("-STOP");
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

/// The number after `--pairs`.
fn pairs() -> usize {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|word| word == "--pairs");
    at.map_or(60, |at| arguments[at + 1].parse().unwrap())
}

fn main() -> ExitCode {
    let pairs = pairs();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let target = film(&at.join("drive.rgb"), SIZE_PX, DRIVE_FRAMES)[0].unwrap();
    let mut free = Sliced::start(at, "free", target, "");
    free.board.program.signal("-STOP");
    let mut stuck = Sliced::start(at, "stuck", target, &dead_sinks(at));
    let full = until_they_are_stuck(&stuck.board);
    stuck.board.program.signal("-STOP");
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
    stuck.board.program.signal("-CONT");
    check_that_they_stayed_stuck(&stuck.board, full);
    let names = [
        "wall time",
        "wall time without neighbours",
        "processor time",
    ];
    let mut within = [false; 3];
    for (kind, name) in names.iter().enumerate() {
        let [a, b] = [0, 1].map(|board| median(rates[kind][board].clone()));
        let (low, high) = interval(&ratios[kind]);
        within[kind] = low > 1.0 - MOST;
        let says = match (within[kind], high > 1.0 - MOST) {
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
    // A tracker that waited for a sink would lose time that is neither its own nor its neighbours'.
    ExitCode::from(u8::from(!(within[1] && within[2])))
}
