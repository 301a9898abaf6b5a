//! What stuck sinks cost the tracker: two programs that differ in their sinks alone, measured in turn.
//!
//! `ROADHOUND_SINK_PAIRS` says how many pairs of slices; the figures are printed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use roadhound_edge::drive::{Drive, DriveConfig};

const SIZE_PX: (u32, u32) = (320, 180);
const DRIVE_FRAMES: u32 = 60;
/// One program runs for this long while the other is stopped.
const SLICE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

struct Board {
    child: Child,
    address: SocketAddr,
    /// The thread that tracks.
    thread: String,
    stuck: Vec<TcpStream>,
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

fn film(path: &Path) -> [f32; 4] {
    let mut drive = Drive::new(DriveConfig {
        width_px: SIZE_PX.0,
        height_px: SIZE_PX.1,
        frames: DRIVE_FRAMES,
        ..DriveConfig::default()
    })
    .unwrap();
    let (mut all, mut rgb, mut target) = (Vec::new(), Vec::new(), None);
    for n in 0..DRIVE_FRAMES {
        let truth = drive.render(n, &mut rgb);
        target = target.or(truth.box_in_image);
        all.extend_from_slice(&rgb);
    }
    std::fs::write(path, all).unwrap();
    let b = target.unwrap();
    [b.x_px, b.y_px, b.w_px, b.h_px]
}

impl Board {
    fn start(folder: &Path, name: &str, target: [f32; 4], sinks: &str) -> Self {
        let config = folder.join(format!("{name}.toml"));
        let (at, (width, height)) = (folder.display(), SIZE_PX);
        let text = format!(
            "[camera.replay]\npath = \"{at}/drive.rgb\"\nraw = \"{width}x{height}:rgb@30\"\nlockstep = true\nrepeat = true\n\
             [target]\ninit = {target:?}\n[preview]\nlisten = \"127.0.0.1:0\"\n[watchdog]\nstage_silent_seconds = 600\n{sinks}"
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_roadhound"))
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            // Nobody reads this pipe, and it is not closed either.
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = said
            .find_map(|line| {
                let line = line.unwrap();
                Some(
                    line.split_once("http://")?
                        .1
                        .trim_end_matches('/')
                        .parse()
                        .unwrap(),
                )
            })
            .unwrap();
        std::thread::spawn(move || said.for_each(drop));
        // A thread gives itself its name.
        let end = Instant::now() + PATIENCE;
        let thread = loop {
            let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
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
            child,
            address,
            thread,
            stuck: Vec::new(),
        }
    }

    fn ask(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Browsers that ask for pictures and take none.
    fn get_stuck(&mut self, browsers: usize) {
        self.stuck = (0..browsers)
            .map(|_| {
                let mut stream = TcpStream::connect(self.address).unwrap();
                write!(stream, "GET /live.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                stream
            })
            .collect();
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.ask("/metrics");
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn look(&self) -> Look {
        let frames = self.metric("roadhound_frames_total{fate=\"tracked\"}");
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
        self.signal("-CONT");
        self.get_stuck(browsers);
        let before = self.look();
        std::thread::sleep(SLICE);
        let after = self.look();
        self.signal("-STOP");
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

#[test]
fn sinks_that_are_stuck_or_dead_and_browsers_that_take_nothing_leave_the_rate_within_three_per_cent()
 {
    let pairs: usize =
        std::env::var("ROADHOUND_SINK_PAIRS").map_or(15, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let target = film(&at.join("drive.rgb"));
    // A pipe that nobody ever opens at the other end; an address that nobody has (RFC 5737), of a listener and of a broker.
    let pipe = at.join("pipe.csv");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let mut dead = format!(
        "[sinks.jsonl]\npath = \"-\"\nqueue = 4\n[sinks.csv]\npath = \"{}\"\nqueue = 4\n[sinks.udp]\nto = \"192.0.2.1:9\"\n",
        pipe.display()
    );
    if cfg!(feature = "mqtt") {
        dead.push_str("[sinks.mqtt]\nhost = \"192.0.2.1\"\n");
    }
    let mut free = Board::start(at, "free", target, "");
    free.signal("-STOP");
    let mut stuck = Board::start(at, "stuck", target, &dead);
    stuck.signal("-STOP");
    // Warm caches, and full pipes and queues.
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
            (a, stuck.slice(8))
        } else {
            let b = stuck.slice(8);
            (free.slice(0), b)
        };
        for kind in 0..3 {
            rates[kind][0].push(a.0[kind]);
            rates[kind][1].push(b.0[kind]);
            ratios[kind].push(b.0[kind] / a.0[kind]);
        }
    }
    stuck.signal("-CONT");
    for sink in ["jsonl", "csv"] {
        let dropped = stuck.metric(&format!(
            "roadhound_sink_events_total{{sink=\"{sink}\",fate=\"dropped\"}}"
        ));
        assert!(dropped > 100.0, "{sink} is not stuck: {dropped} dropped");
    }
    let names = [
        "wall time",
        "wall time without neighbours",
        "processor time",
    ];
    for (kind, name) in names.iter().enumerate() {
        let [a, b] = [0, 1].map(|board| median(rates[kind][board].clone()));
        let (low, high) = interval(&ratios[kind]);
        println!(
            "{pairs} pairs, medians: {a:.1} frames a second of {name} without sinks, {b:.1} with stuck ones; \
             in a pair {:.4} of it, 95 % interval {low:.4} to {high:.4}",
            median(ratios[kind].clone())
        );
    }
    let own = median(ratios[2].clone());
    assert!(
        (own - 1.0).abs() < 0.03,
        "{own} of the frames a second of processor time"
    );
    // A tracker that waited for a sink would lose time that is neither its own nor its neighbours'. On a busy machine that
    // time is noise as well; what the interval leaves open is not held against it.
    let (_, high) = interval(&ratios[1]);
    assert!(high > 0.97, "at most {high} of the rate without sinks");
}
