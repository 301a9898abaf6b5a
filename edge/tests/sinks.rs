//! What stuck sinks cost the tracker: two programs that differ in their sinks alone run side by side at a camera's pace, and
//! what counts is how many of the frames were tracked. How much time a frame takes as fast as it goes is compared in
//! `benches/sinks.rs`. `ROADHOUND_SINK_SECONDS` says how long the camera plays; the figures are printed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::program::{PATIENCE, film};
use common::stuck::{
    BROWSERS, Board, DRIVE_FRAMES, MOST, SIZE_PX, check_that_they_stayed_stuck, dead_sinks,
    from_environment, until_they_are_stuck,
};

/// Two programs are compared that need the machine to themselves: the tests of this file take turns.
static ALONE: Mutex<()> = Mutex::new(());
/// A neighbour that comes and goes can spoil one comparison; sinks that cost something spoil each.
const ATTEMPTS: usize = 3;

#[test]
fn at_the_pace_of_a_camera_as_many_frames_are_tracked_with_stuck_sinks_as_without_any() {
    let _turn = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds: u64 = from_environment("ROADHOUND_SINK_SECONDS", 8);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let target = film(&at.join("drive.rgb"), SIZE_PX, DRIVE_FRAMES)[0].unwrap();
    let free = Board::start(at, "free", "", target, "");
    let mut stuck = Board::start(at, "stuck", "", target, &dead_sinks(at));
    let full = until_they_are_stuck(&stuck);
    let mut said = Vec::new();
    for _ in 0..ATTEMPTS {
        let before = [&free, &stuck].map(Board::tracked);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            stuck.get_stuck(BROWSERS);
            std::thread::sleep(Duration::from_millis(500));
        }
        let played = 30.0 * began.elapsed().as_secs_f64();
        let [a, b] =
            [(&free, before[0]), (&stuck, before[1])].map(|(board, n)| board.tracked() - n);
        check_that_they_stayed_stuck(&stuck, full);
        println!(
            "of {played:.0} frames at 30 a second {a} were tracked without sinks and {b} with stuck ones: {:.4} of them",
            b / a
        );
        if a <= 0.9 * played {
            said.push(format!("{a} of {played:.0} frames: too busy to tell"));
        } else if (b / a - 1.0).abs() >= MOST {
            said.push(format!("{b} frames, {a} without sinks"));
        } else {
            return;
        }
    }
    panic!("{}", said.join("; "));
}

#[test]
fn as_fast_as_it_goes_frames_are_tracked_on_while_sinks_and_browsers_take_nothing() {
    let _turn = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let target = film(&at.join("drive.rgb"), SIZE_PX, DRIVE_FRAMES)[0].unwrap();
    let mut stuck = Board::start(at, "stuck", "lockstep = true\n", target, &dead_sinks(at));
    let full = until_they_are_stuck(&stuck);
    stuck.get_stuck(BROWSERS);
    let before = stuck.tracked();
    let end = Instant::now() + PATIENCE;
    // Many times what any queue holds.
    while stuck.tracked() - before < 500.0 {
        assert!(
            Instant::now() < end,
            "{} frames in {PATIENCE:?}",
            stuck.tracked() - before
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    check_that_they_stayed_stuck(&stuck, full);
}
