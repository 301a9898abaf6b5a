//! Recording, as a power cut, a full disk and a player meet it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::good_bundle;
use roadhound_edge::clock;
use roadhound_edge::record::segments::{Segment, list, paths};
use roadhound_edge::source::{Options, open};
use serde_json::Value;

struct Bench {
    folder: tempfile::TempDir,
    bundle: PathBuf,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Running {
    /// The program, or what was started by what started it.
    fn pid(&self) -> u32 {
        let own = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let mut children = children.unwrap_or_default();
        children.truncate(children.find(' ').unwrap_or(children.len()));
        children.parse().unwrap_or(own)
    }

    /// Nothing is ended, nothing is closed.
    fn kill(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let pid = self.pid().to_string();
            let _ = Command::new("kill").args(["-9", &pid]).status();
            let _ = self.0.wait();
        }
    }
}

impl Bench {
    /// A dump of noise, which JPEG cannot make small.
    fn new(width: usize, height: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bundle = good_bundle(folder.path());
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            150 + (state >> 26) as u8
        })
        .take(width * height * 4)
        .collect();
        std::fs::write(folder.path().join("a.grey"), noise).unwrap();
        Self { folder, bundle }
    }

    fn start(&self, raw: &str, recording: &str) -> Running {
        self.start_under(&[], raw, recording)
    }

    /// Started by another program, which is given as its first words.
    fn start_under(&self, words: &[&str], raw: &str, recording: &str) -> Running {
        let at = self.folder.path().display();
        let config = self.folder.path().join("roadhound.toml");
        let text = format!(
            "[model]\nbundle = \"{}\"\n[target]\ninit = [30.0, 31.0, 24.5, 25.0]\n\
             [camera]\nreplay = {{ path = \"{at}/a.grey\", raw = \"{raw}\", repeat = true }}\n\
             [watchdog]\nstage_silent_seconds = 120\n\
             [sinks.jsonl]\npath = \"{at}/track.jsonl\"\nqueue = 1000\n\
             [metrics]\ntextfile = \"{at}/roadhound.prom\"\nevery_seconds = 1\n[recording]\n{recording}",
            self.bundle.display()
        );
        std::fs::write(&config, text).unwrap();
        let program = [words, &[env!("CARGO_BIN_EXE_roadhound"), "run", "--config"]].concat();
        let child = Command::new(program[0])
            .args(&program[1..])
            .arg(config)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running(child)
    }

    fn lines(&self) -> usize {
        let text = std::fs::read_to_string(self.folder.path().join("track.jsonl"));
        text.unwrap_or_default().lines().count()
    }
}

fn stop(mut running: Running) -> (bool, String) {
    use std::io::Read;
    let pid = running.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-15", &pid])
            .status()
            .unwrap()
            .success()
    );
    let mut said = String::new();
    running
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    (running.0.wait().unwrap().success(), said)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Pictures that this program reads out of a segment; every one has to decode.
fn pictures(path: &Path) -> usize {
    let mut source = open(path, &Options::default()).unwrap();
    let mut pictures = 0;
    while source
        .next_frame()
        .unwrap_or_else(|e| panic!("{e}"))
        .is_some()
    {
        pictures += 1;
    }
    pictures
}

fn track(folder: &Path, segment: &Segment) -> Vec<Value> {
    let text = std::fs::read_to_string(&paths(folder, &segment.name)[1]).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A number that another content does not have.
fn content(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).unwrap().hash(&mut hasher);
    hasher.finish()
}

/// What kills cost.
struct Losses {
    worst_millis: u64,
    segments: usize,
    pictures: usize,
}

/// Kills a program that records, at moments that look random, and looks at what is left each time.
fn kill_often(kills: u32, under: &[&str]) -> Losses {
    let bench = Bench::new(96, 96);
    let video = bench.folder.path().join("video");
    let settings = format!(
        "folder = \"{}\"\nfps = 60.0\nsegment_seconds = 1\nsync_millis = 200\nfree_mib = 0\n",
        video.display()
    );
    let mut state = 7_u64;
    let (mut ended, mut worst_millis): (BTreeMap<PathBuf, u64>, u64) = (BTreeMap::new(), 0);
    for kill in 1..=kills {
        let before = list(&video).map_or(0, |all| all.len());
        let mut running = bench.start_under(under, "96x96:grey@60", &settings);
        until("a segment", || {
            if let Some(status) = running.0.try_wait().unwrap() {
                let mut said = String::new();
                std::io::Read::read_to_string(running.0.stderr.as_mut().unwrap(), &mut said)
                    .unwrap();
                panic!("kill {kill}: ended by itself, {status}: {said}");
            }
            list(&video).is_ok_and(|all| all.len() > before)
        });
        let seen_at = clock::monotonic();
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((state >> 33) % 1_500_000));
        let killed_at = clock::monotonic();
        running.kill();

        // Without anybody mending anything, every file opens.
        let all = list(&video).unwrap();
        for segment in &all {
            open(&paths(&video, &segment.name)[0], &Options::default()).unwrap();
        }
        // What was ended before is the same to the byte; at the end all of it is looked at again.
        let recent = if kill == kills { ended.len() } else { 12 };
        for (path, before) in ended.iter().rev().take(recent) {
            assert!(content(path) == *before, "{} changed", path.display());
        }
        // The next start ends the segment that was cut off.
        drop(
            bench
                .start(
                    "96x96:grey@60",
                    &settings.replace("fps = 60.0", "fps = 0.1"),
                )
                .mended(&video, &all),
        );
        let last = *list(&video)
            .unwrap()
            .iter()
            .rfind(|s| all.iter().any(|a| a.name.number == s.name.number))
            .unwrap();
        let lines = track(&video, &last);
        let found = pictures(&paths(&video, &last.name)[0]);
        let named: Vec<&Value> = lines
            .iter()
            .filter(|line| line["picture"].is_u64())
            .collect();
        assert!(
            found >= named.len(),
            "{found} pictures, {} named",
            named.len()
        );
        // A segment without a picture lost all since it was seen.
        let newest = named
            .last()
            .map_or(seen_at.0, |line| line["t_micros"].as_u64().unwrap());
        worst_millis = worst_millis.max(killed_at.0.saturating_sub(newest) / 1000);
        if kill % 25 == 0 {
            println!("{kill} kills: at most {worst_millis} ms lost so far");
        }
        for segment in list(&video).unwrap() {
            let path = paths(&video, &segment.name)[0].clone();
            if segment.name.number <= last.name.number && !ended.contains_key(&path) {
                let found = content(&path);
                ended.insert(path, found);
            }
        }
    }
    let all = list(&video).unwrap();
    let total: usize = ended.keys().map(|path| pictures(path)).sum();
    Losses {
        worst_millis,
        segments: all.len(),
        pictures: total,
    }
}

/// `ROADHOUND_KILLS` says how often.
#[test]
fn killed_at_any_moment_a_recording_loses_at_most_a_second_and_never_an_older_segment() {
    let kills: u32 = std::env::var("ROADHOUND_KILLS").map_or(10, |text| text.parse().unwrap());
    let lost = kill_often(kills, &[]);
    let (worst, segments, pictures) = (lost.worst_millis, lost.segments, lost.pictures);
    println!(
        "{kills} kills: at most {worst} ms lost, {segments} segments with {pictures} pictures, all of them open"
    );
    assert!(worst <= 1_000, "{worst} ms lost");
}

/// A file system's journal makes one program's sync wait for what others wrote: seconds, on a busy machine.
/// `ROADHOUND_SLOW_KILLS` says how often.
#[test]
fn killed_while_the_disk_takes_two_and_a_half_seconds_for_a_sync_a_recording_loses_no_more() {
    const STRACE: [&str; 8] = [
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync,fsync",
        "-e",
        "inject=fdatasync,fsync:delay_enter=2500000",
    ];
    let works = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    if !works.is_ok_and(|output| output.status.success()) {
        println!("passed over: no strace, or no right to trace");
        return;
    }
    let kills: u32 = std::env::var("ROADHOUND_SLOW_KILLS").map_or(3, |text| text.parse().unwrap());
    let lost = kill_often(kills, &STRACE);
    let (worst, pictures) = (lost.worst_millis, lost.pictures);
    println!("{kills} kills on a slow disk: at most {worst} ms lost, {pictures} pictures");
    assert!(worst <= 1_000, "{worst} ms lost");
}

impl Running {
    /// Waits until a program that was started on a folder has ended what it found there.
    fn mended(self, video: &Path, found: &[Segment]) -> Self {
        until("a new segment", || {
            list(video).is_ok_and(|all| {
                all.last().is_some_and(|last| {
                    found
                        .last()
                        .is_none_or(|f| last.name.number > f.name.number)
                })
            })
        });
        self
    }
}

#[test]
fn on_a_full_disk_the_oldest_goes_and_tracking_goes_on() {
    let bench = Bench::new(320, 240);
    let disk = bench.folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m", "none"])
        .arg(&disk)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("passed over: no right to mount a small disk");
        return;
    }
    let settings = format!(
        "folder = \"{}\"\nfps = 60.0\nsegment_seconds = 1\nfree_mib = 0\n",
        disk.display()
    );
    let running = bench.start("320x240:grey@60", &settings);
    let prom = bench.folder.path().join("roadhound.prom");
    until("segments to be deleted", || {
        std::fs::read_to_string(&prom).is_ok_and(|text| {
            text.lines().any(|line| {
                line.strip_prefix("roadhound_recorded_segments_total{fate=\"deleted\"} ")
                    .is_some_and(|n| n.parse::<u32>().unwrap() >= 3)
            })
        })
    });
    let before = bench.lines();
    until("frames to be tracked", || bench.lines() > before + 60);
    let (well, said) = stop(running);
    let all = list(&disk).unwrap();
    let read: Vec<usize> = all
        .iter()
        .map(|s| pictures(&paths(&disk, &s.name)[0]))
        .collect();
    let _ = Command::new("umount").arg(&disk).status();
    assert!(well, "{said}");
    println!(
        "{} segments on a disk of 3 MiB, with {read:?} pictures",
        all.len()
    );
    assert!(read.iter().sum::<usize>() > 10, "{read:?}");
}

#[test]
fn a_folder_that_cannot_be_made_is_one_line_and_status_2() {
    let bench = Bench::new(96, 96);
    let mut running = bench.start("96x96:grey@60", "folder = \"/proc/nothing/here\"\n");
    let status = running.0.wait().unwrap();
    assert_eq!(status.code(), Some(2));
    let mut said = String::new();
    std::io::Read::read_to_string(running.0.stderr.as_mut().unwrap(), &mut said).unwrap();
    assert!(said.contains("recording: /proc/nothing/here"), "{said}");
}
