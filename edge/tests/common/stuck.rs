//! `roadhound run` on a replay, with sinks and browsers that take nothing: for the test and the benchmark of what they cost.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::program::{PATIENCE, Program};

/// Of the drive that is played.
pub const SIZE_PX: (u32, u32) = (320, 180);
/// After so many it begins anew.
pub const DRIVE_FRAMES: u32 = 60;
/// What sinks may cost.
pub const MOST: f64 = 0.03;
/// Pictures are asked for and not taken by so many.
pub const BROWSERS: usize = 8;

/// A program, and who is connected to it.
pub struct Board {
    pub program: Program,
    stuck: Vec<TcpStream>,
}

impl Board {
    /// `camera` is what the replay is told about its pace.
    pub fn start(folder: &Path, name: &str, camera: &str, target: [f32; 4], sinks: &str) -> Self {
        let (at, (width, height)) = (folder.display(), SIZE_PX);
        let text = format!(
            "[camera.replay]\npath = \"{at}/drive.rgb\"\nraw = \"{width}x{height}:rgb@30\"\nrepeat = true\n{camera}\
             [target]\ninit = {target:?}\n[preview]\nlisten = \"127.0.0.1:0\"\n[watchdog]\nstage_silent_seconds = 600\n{sinks}"
        );
        // Nobody reads the pipe that is its standard output, and it is not closed either.
        let program = Program::start(folder, name, &text, drop);
        Self {
            program,
            stuck: Vec::new(),
        }
    }

    /// Browsers that ask for pictures and take none.
    pub fn get_stuck(&mut self, browsers: usize) {
        self.stuck = (0..browsers)
            .map(|_| {
                let mut stream = TcpStream::connect(self.program.address()).unwrap();
                write!(stream, "GET /live.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                stream
            })
            .collect();
    }

    /// Frames until now.
    pub fn tracked(&self) -> f64 {
        self.program
            .metric("roadhound_frames_total{fate=\"tracked\"}")
    }
}

/// Sinks that take nothing. A pipe that nobody ever opens at the other end; an address that nobody has (RFC 5737), of a
/// listener and of a broker.
pub fn dead_sinks(folder: &Path) -> String {
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
pub fn until_they_are_stuck(board: &Board) -> [f64; 2] {
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

/// Panics where a sink has taken everything since.
pub fn check_that_they_stayed_stuck(board: &Board, before: [f64; 2]) {
    let after = dropped(board);
    let more = after
        .iter()
        .zip(before)
        .all(|(after, before)| *after > before);
    assert!(more, "not stuck: {after:?} dropped, {before:?} before");
}

/// A number of the run, by the name of a variable.
pub fn from_environment<T: std::str::FromStr<Err: std::fmt::Debug>>(name: &str, otherwise: T) -> T {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}
