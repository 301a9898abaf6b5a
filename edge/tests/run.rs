//! `roadhound run` as a service manager, a shell and a bad cable meet it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{
    bundle_that_finds, bundle_that_knows, check_refused, check_refused_with, good_bundle,
    roadhound, write_images, write_squares,
};
use serde_json::Value;

/// Nothing here takes longer, on a machine with neighbours.
const PATIENCE: Duration = Duration::from_secs(60);

struct Board {
    folder: tempfile::TempDir,
    bundle: PathBuf,
}

impl Board {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bundle = good_bundle(folder.path());
        Self { folder, bundle }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a configuration that uses the small model and follows a box from the first frame on. `{name}` stands for
    /// a file in the test's folder.
    fn config(&self, rest: &str) -> PathBuf {
        let folder = self.folder.path().display().to_string();
        let text = format!(
            "[model]\nbundle = \"{}\"\n[target]\ninit = [30.0, 31.0, 24.5, 25.0]\n{}",
            self.bundle.display(),
            rest.replace("{}", &folder)
        );
        let path = self.path("roadhound.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn start(&self, rest: &str) -> Running {
        Running::start(
            Command::new(env!("CARGO_BIN_EXE_roadhound")),
            &self.config(rest),
        )
    }

    /// Whole lines so far: whoever reads while somebody writes may see a part of the last one.
    fn lines(&self, name: &str) -> Vec<Value> {
        let mut text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A raw dump of grey pictures of 96x96, one brightness each.
    fn dump(&self, name: &str, levels: &[u8]) {
        let bytes: Vec<u8> = levels.iter().flat_map(|&v| vec![v; 96 * 96]).collect();
        std::fs::write(self.path(name), bytes).unwrap();
    }
}

struct Running(Child);

impl Running {
    fn start(mut command: Command, config: &Path) -> Self {
        let child = command
            .arg("run")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, signal: i32) {
        let done = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.0.id().to_string())
            .status()
            .unwrap();
        assert!(done.success());
    }

    fn wait(mut self) -> (ExitStatus, String) {
        let status = wait(&mut self.0);
        let mut stderr = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        (status, stderr)
    }

    /// What it says from now on. It can be stopped by [`Heard::stop`] then, and no longer by [`Running::stop`].
    fn heard(mut self) -> Heard {
        let stderr = BufReader::new(self.0.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let hears = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                hears.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Heard {
            running: self,
            said,
        }
    }

    fn stop(self) -> (ExitStatus, String) {
        self.signal(15);
        self.wait()
    }

    fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id()))
            .unwrap()
            .count()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that is listened to while it runs.
struct Heard {
    running: Running,
    said: Arc<Mutex<String>>,
}

impl Heard {
    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn count(&self, words: &str) -> usize {
        self.said().matches(words).count()
    }

    /// Has the configuration read again, and waits until the words are said once more.
    fn reload(&self, words: &str) {
        let before = self.count(words);
        self.running.signal(1);
        let end = Instant::now() + PATIENCE;
        while self.count(words) == before {
            assert!(Instant::now() < end, "never '{words}': {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it, which has to go well.
    fn stop(mut self) -> String {
        self.running.signal(15);
        let status = wait(&mut self.running.0);
        assert!(status.success(), "{status}: {}", self.said());
        self.said()
    }
}

/// A port that nobody listens on.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The status with which the page answers, if it does.
fn page(at: SocketAddr, token: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request =
        format!("GET /state HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn wait(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < end, "still running");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn metric(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
}

const BRIGHT_DARK_BRIGHT: [u8; 40] = {
    let mut levels = [200; 40];
    let mut at = 8;
    while at < 28 {
        levels[at] = 5;
        at += 1;
    }
    levels
};

#[test]
fn a_recording_in_lockstep_gives_the_boxes_of_track_to_the_bit() {
    let board = Board::new();
    let images = write_images(board.folder.path(), 96, &BRIGHT_DARK_BRIGHT);
    let tracked = board.path("track.jsonl");
    let output = roadhound(&[
        "track",
        images.to_str().unwrap(),
        "--init=30,31,24.5,25",
        "--model",
        board.bundle.to_str().unwrap(),
        "--jsonl",
        tracked.to_str().unwrap(),
    ]);
    assert!(output.status.success());
    let running = board.start(
        "[camera.replay]\npath = \"{}/img\"\nlockstep = true\n[sinks.jsonl]\npath = \"{}/run.jsonl\"\nqueue = 1000\n",
    );
    let (status, stderr) = running.wait();
    assert!(status.success(), "{stderr}");
    let (track, run) = (board.lines("track.jsonl"), board.lines("run.jsonl"));
    assert_eq!(track.len(), 40);
    assert_eq!(run.len(), 40);
    // `track` reports the box as given for the first frame, `run` the tracker's own.
    for (a, b) in track.iter().zip(&run).skip(1) {
        for key in ["frame", "box", "score", "presence", "similarity", "phase"] {
            assert_eq!(a[key], b[key], "{key} of {a} and {b}");
        }
    }
    assert!(run.iter().any(|line| line["phase"] == "lost"));
    let step =
        |a: &Value, b: &Value| b["t_micros"].as_u64().unwrap() - a["t_micros"].as_u64().unwrap();
    assert_eq!(step(&track[0], &track[39]), step(&run[0], &run[39]));
}

#[test]
fn sigterm_ends_the_program_with_status_0_and_whole_lines() {
    let board = Board::new();
    board.dump("a.grey", &[200; 30]);
    let running = board.start(
        "[camera.replay]\npath = \"{}/a.grey\"\nraw = \"96x96@100\"\nrepeat = true\n\
         [sinks.jsonl]\npath = \"{}/a.jsonl\"\n[sinks.csv]\npath = \"{}/a.csv\"\n",
    );
    until("lines", || board.lines("a.jsonl").len() > 50);
    let (status, stderr) = running.stop();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let lines = board.lines("a.jsonl");
    let numbers: Vec<u64> = lines.iter().map(|l| l["frame"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    let skipped: u64 = lines.iter().map(|l| l["skipped"].as_u64().unwrap()).sum();
    assert_eq!(skipped + lines.len() as u64, numbers.last().unwrap() + 1);
    let csv = std::fs::read_to_string(board.path("a.csv")).unwrap();
    assert!(csv.ends_with('\n') && csv.lines().count() > 50);
    let text = std::fs::read_to_string(board.path("a.jsonl")).unwrap();
    assert!(text.ends_with("}\n"));
}

#[test]
fn systemd_hears_that_the_program_is_ready_alive_reloading_and_stopping() {
    let board = Board::new();
    board.dump("a.grey", &[200; 30]);
    let manager = UnixDatagram::bind(board.path("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let camera = "[camera.replay]\npath = \"{}/a.grey\"\nraw = \"96x96@100\"\nrepeat = true\n";
    let config = board.config(camera);
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadhound"));
    command
        .env("NOTIFY_SOCKET", board.path("notify"))
        .env("WATCHDOG_USEC", "300000");
    let running = Running::start(command, &config);
    let mut heard = Vec::new();
    let mut hear = |what: &str| {
        let mut buffer = [0; 256];
        loop {
            let n = manager.recv(&mut buffer).unwrap();
            heard.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
            if heard.last().unwrap().starts_with(what) {
                return;
            }
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    board.config(&format!(
        "{camera}[sinks.jsonl]\npath = \"{{}}/late.jsonl\"\n"
    ));
    running.signal(1);
    hear("RELOADING=1");
    hear("READY=1");
    until("the new sink writes", || {
        !board.lines("late.jsonl").is_empty()
    });
    running.signal(15);
    hear("STOPPING=1");
    let (status, stderr) = running.wait();
    assert!(status.success(), "{stderr}");
}

#[test]
fn a_reload_with_a_mistake_changes_nothing_and_one_without_keeps_the_target() {
    let board = Board::new();
    board.dump("a.grey", &[200; 30]);
    let good = "[camera.replay]\npath = \"{}/a.grey\"\nraw = \"96x96@100\"\nrepeat = true\n[sinks.jsonl]\npath = \"{}/a.jsonl\"\n";
    let running = board.start(good);
    until("lines", || board.lines("a.jsonl").len() > 10);
    board.config(&format!("{good}[sinks.mqqt]\nhost = \"x\"\n"));
    running.signal(1);
    let before = board.lines("a.jsonl").len();
    until("it goes on", || board.lines("a.jsonl").len() > before + 30);
    board.config(&good.replace("a.jsonl", "b.jsonl"));
    running.signal(1);
    until("the other file", || board.lines("b.jsonl").len() > 10);
    let (status, stderr) = running.stop();
    assert!(status.success());
    assert!(
        stderr.contains("unknown key 'mqqt', did you mean 'mqtt'?; going on as before"),
        "{stderr}"
    );
    let lines = board.lines("b.jsonl");
    assert!(
        lines.iter().all(|line| line["phase"] == "tracking"),
        "{:?}",
        lines[0]
    );
    let since = |line: &Value| line["since_micros"].as_u64().unwrap();
    assert_eq!(since(&lines[0]), since(&board.lines("a.jsonl")[0]));
}

#[test]
fn a_reload_with_a_camera_that_cannot_be_used_leaves_the_one_that_runs() {
    let board = Board::new();
    board.dump("a.grey", &[200; 30]);
    let sinks = "[sinks.jsonl]\npath = \"{}/a.jsonl\"\n";
    let camera = "[camera.replay]\npath = \"{}/a.grey\"\nraw = \"96x96@100\"\nrepeat = true\n";
    let running = board.start(&format!("{camera}{sinks}")).heard();
    until("lines", || board.lines("a.jsonl").len() > 10);
    let gone = "[camera.v4l2]\ndevice = \"/dev/no-such-camera\"\n[camera.retry]\ngive_up_after_seconds = 1\n";
    let of_v4l2 = match cfg!(feature = "camera") {
        true => "(gone), giving up; going on with the camera of before",
        false => "without the feature `camera`; going on as before",
    };
    for (camera, said) in [
        (gone, of_v4l2),
        (
            "[camera.replay]\npath = \"{}/none.grey\"\n",
            "none.grey: No such file or directory (os error 2); going on as before",
        ),
        (
            "[camera.rendered]\nfps = 0.5\n",
            "camera.rendered.fps: 0.5, expected 1 to 240; going on as before",
        ),
        // Only whoever opens it knows.
        (
            "[camera.replay]\npath = \"{}/roadhound.toml\"\n",
            "; going on with the camera of before",
        ),
        (
            "[camera]\ndump = \"/dev/full\"\n[camera.replay]\npath = \"{}/a.grey\"\nraw = \"96x96\"\n",
            "; going on with the camera of before",
        ),
    ] {
        board.config(&format!("{camera}{sinks}"));
        running.reload(said);
        let before = board.lines("a.jsonl").len();
        until("it goes on", || board.lines("a.jsonl").len() > before + 30);
    }
    // A camera that works is taken.
    let other = camera.replace("@100", "@50");
    board.config(&format!("{other}{sinks}"));
    running.reload("96x96 grey at 50");
    let said = running.stop();
    assert!(said.contains("not a folder of images"), "{said}");
    if !cfg!(feature = "webcam") {
        board.config("[camera.webcam]\n");
        let at = board.path("roadhound.toml");
        check_refused(
            &["run", "--check", "--config", at.to_str().unwrap()],
            &["camera.webcam", "without the feature `webcam`"],
        );
    }
}

#[test]
fn a_reload_with_a_page_or_a_recording_that_cannot_be_had_leaves_those_that_work() {
    let board = Board::new();
    board.dump("a.grey", &[200; 30]);
    let (ours, taken) = (free_port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let config = |page: SocketAddr, folder: &str| {
        format!(
            "[camera.replay]\npath = \"{{}}/a.grey\"\nraw = \"96x96@100\"\nrepeat = true\n\
             [preview]\nlisten = \"{page}\"\n[recording]\nfolder = \"{folder}\"\nfree_mib = 0\n"
        )
    };
    let good = config(ours, "{}/video");
    let running = board.start(&good).heard();
    let segments = || std::fs::read_dir(board.path("video")).map_or(0, Iterator::count);
    until("a segment and its track", || segments() == 2);
    until("the page", || page(ours, "") == Some(200));
    board.config(&config(taken.local_addr().unwrap(), "/proc/nothing/here"));
    running.reload("read again");
    until("the page again", || page(ours, "") == Some(200));
    until("the next segment", || segments() == 4);
    // Nothing has changed for a file that says what runs.
    board.config(&good);
    running.reload("read again");
    let said = running.stop();
    assert_eq!(segments(), 4, "{said}");
    let refused: Vec<&str> = said.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(refused.len(), 2, "{said}");
    for (line, what) in refused
        .iter()
        .zip(["preview: 127.0.0.1:", "recording: /proc/nothing"])
    {
        assert!(line.contains(what), "{said}");
        assert!(line.ends_with("going on as before"), "{said}");
    }
}

#[test]
fn a_reload_takes_up_a_new_token_and_leaves_the_camera_alone() {
    let board = Board::new();
    board.dump("a.grey", &[200; 30]);
    let ours = free_port();
    let (old, new) = ("0123456789abcdef", "fedcba9876543210");
    std::fs::write(board.path("token"), old).unwrap();
    let running = board
        .start(&format!(
            "[camera.replay]\npath = \"{{}}/a.grey\"\nraw = \"96x96@100\"\nrepeat = true\n\
             [preview]\nlisten = \"{ours}\"\ntoken_file = \"{{}}/token\"\n"
        ))
        .heard();
    until("the page", || page(ours, old) == Some(200));
    std::fs::write(board.path("token"), new).unwrap();
    assert_eq!(page(ours, new), Some(401));
    running.reload("read again");
    assert_eq!((page(ours, old), page(ours, new)), (Some(401), Some(200)));
    let said = running.stop();
    assert_eq!(said.matches("a.grey: open").count(), 1, "{said}");
}

/// A broker that only listens to how it is greeted.
#[cfg(feature = "mqtt")]
#[test]
fn a_reload_takes_up_a_new_password() {
    let board = Board::new();
    board.dump("a.grey", &[200; 30]);
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let greeted_with = |password: &str| {
        until(password, || {
            let (mut stream, _) = broker.accept().unwrap();
            let mut greeting = [0; 512];
            let read = stream.read(&mut greeting).unwrap_or(0);
            String::from_utf8_lossy(&greeting[..read]).contains(password)
        });
    };
    std::fs::write(board.path("password"), "open sesame\n").unwrap();
    let port = broker.local_addr().unwrap().port();
    let running = board
        .start(&format!(
            "[camera.replay]\npath = \"{{}}/a.grey\"\nraw = \"96x96@100\"\nrepeat = true\n\
             [sinks.mqtt]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"a\"\npassword_file = \"{{}}/password\"\n"
        ))
        .heard();
    greeted_with("open sesame");
    std::fs::write(board.path("password"), "shut sesame\n").unwrap();
    running.reload("read again");
    greeted_with("shut sesame");
    running.stop();
}

#[test]
fn a_reload_goes_on_in_the_same_dump_and_refuses_frames_of_another_layout_for_it() {
    let board = Board::new();
    board.dump("a.grey", &[200; 30]);
    let config = |raw: &str, rest: &str| {
        format!(
            "[camera]\ndump = \"{{}}/d.grey\"\n\
             replay = {{ path = \"{{}}/a.grey\", raw = \"{raw}\", repeat = true }}\n{rest}"
        )
    };
    let frames = || {
        let times = std::fs::read_to_string(board.path("d.grey.times"));
        times.map_or(0, |text| text.lines().count())
    };
    let running = board.start(&config("96x96@100", "")).heard();
    until("frames", || frames() > 100);
    let before = frames();
    board.config(&config("96x96@50", "[camera.retry]\nfirst_millis = 20\n"));
    running.reload("grey at 50");
    assert!(frames() >= before, "{} frames, {before} before", frames());
    until("more frames", || frames() > before + 30);
    let before = frames();
    board.config(&config("48x48@50", ""));
    running
        .reload("delivers 48x48 grey, and it holds 96x96 grey; name another file; going on with");
    until("more frames", || frames() > before + 30);
    running.stop();
    let bytes = std::fs::metadata(board.path("d.grey")).unwrap().len();
    assert_eq!(bytes, frames() as u64 * 96 * 96);
}

#[test]
fn time_goes_on_from_a_recording_that_ran_ahead_of_the_clock_to_the_next_camera() {
    let board = Board::new();
    board.dump("a.grey", &[200; 30]);
    let sinks = "[sinks.jsonl]\npath = \"{}/a.jsonl\"\nqueue = 1000\n";
    let camera = |rest: &str| {
        format!("[camera.replay]\npath = \"{{}}/a.grey\"\nrepeat = true\n{rest}{sinks}")
    };
    let running = board
        .start(&camera("raw = \"96x96@1\"\nlockstep = true\n"))
        .heard();
    until("a minute", || board.lines("a.jsonl").len() > 60);
    board.config(&camera("raw = \"96x96@100\"\n"));
    running.reload("read again");
    let before = board.lines("a.jsonl").len();
    until("more lines", || board.lines("a.jsonl").len() > before + 50);
    running.stop();
    let lines = board.lines("a.jsonl");
    let at = |line: &Value| line["t_micros"].as_u64().unwrap();
    assert!(lines.windows(2).all(|pair| at(&pair[0]) < at(&pair[1])));
    // Frames are as old as they are, whatever their stamps say.
    let latency = lines.last().unwrap()["latency_ms"].as_f64().unwrap();
    assert!(latency > 0.0, "{latency} ms");
}

#[test]
fn the_last_figures_count_what_the_sinks_wrote() {
    let board = Board::new();
    let images = write_images(board.folder.path(), 96, &BRIGHT_DARK_BRIGHT);
    let running = board.start(&format!(
        "[camera.replay]\npath = \"{}\"\nlockstep = true\n[sinks.jsonl]\npath = \"{{}}/a.jsonl\"\nqueue = 1000\n\
         [metrics]\ntextfile = \"{{}}/a.prom\"\n",
        images.display()
    ));
    let (status, stderr) = running.wait();
    assert!(status.success(), "{stderr}");
    let text = std::fs::read_to_string(board.path("a.prom")).unwrap();
    let written = metric(
        &text,
        "roadhound_sink_events_total{sink=\"jsonl\",fate=\"written\"}",
    );
    assert_eq!(written, board.lines("a.jsonl").len() as f64);
    assert_eq!(written, 40.0);
}

#[test]
fn a_board_chooses_whom_to_follow_once_somebody_is_there_and_a_model_that_cannot_is_refused() {
    let board = Board::new();
    // Nobody for ten frames; then a car to the left.
    let drive: Vec<Vec<(u32, u32)>> = (0..30)
        .map(|frame| if frame < 10 { vec![] } else { vec![(136, 120)] })
        .collect();
    write_squares(board.folder.path(), &drive);
    let config = |bundle: &Path| {
        let folder = board.folder.path().display();
        let text = format!(
            "[model]\nbundle = \"{}\"\n[target]\nauto = true\n[camera.replay]\npath = \"{folder}/img\"\n\
             lockstep = true\n[sinks.jsonl]\npath = \"{folder}/run.jsonl\"\nqueue = 1000\n",
            bundle.display()
        );
        let path = board.path("auto.toml");
        std::fs::write(&path, text).unwrap();
        path
    };
    let at = config(&bundle_that_finds(board.folder.path()));
    let (status, said) = Running::start(Command::new(env!("CARGO_BIN_EXE_roadhound")), &at).wait();
    assert!(status.success(), "{said}");
    let lines = board.lines("run.jsonl");
    assert_eq!(lines.len(), 30);
    let first = lines
        .iter()
        .position(|line| line["phase"] == "tracking")
        .unwrap();
    // The board looks five times a second; this recording has 30 frames in one.
    assert!((10..=16).contains(&first), "from frame {first} on");
    assert!(
        lines[..first]
            .iter()
            .all(|line| line["phase"] == "idle" && line["box"].is_null())
    );
    let number = |at: usize| lines[first]["box"][at].as_f64().unwrap();
    assert!(
        (number(0) + number(2) / 2.0 - 136.0).abs() < 16.0,
        "{}",
        lines[first]
    );

    let at = config(&board.bundle);
    check_refused(
        &["run", "--config", at.to_str().unwrap()],
        &["finds no road users by itself"],
    );
}

#[test]
fn a_mistake_in_the_configuration_is_one_line_and_status_2() {
    let board = Board::new();
    let at = board.path("roadhound.toml");
    let at = at.to_str().unwrap();
    for (rest, words) in [
        (
            "[camera.rendered]\nsede = 1\n",
            &["roadhound.toml: line 6: unknown key 'sede', did you mean 'seed'?"][..],
        ),
        ("", &["camera: no source of frames"]),
        (
            "[camera.rendered]\n[sinks.csv]\npath = \"/nowhere/at/all.csv\"\n",
            &["sinks.csv.path: no folder /nowhere/at"],
        ),
        (
            "[camera.rendered]\n[metrics]\ntextfile = \"{}\"\n",
            &["metrics.textfile: ", "is a folder"],
        ),
        // What is read must not be written over.
        (
            "[camera]\ndump = \"{}/./roadhound.toml\"\n[camera.replay]\npath = \"{}/roadhound.toml\"\n",
            &["camera.dump: ", "roadhound.toml is camera.replay.path too"],
        ),
        (
            "[camera.rendered]\n[sinks.csv]\npath = \"{}/a\"\n[metrics]\ntextfile = \"{}/a\"\n",
            &["metrics.textfile: ", "/a is sinks.csv.path too"],
        ),
        (
            "[camera.rendered]\n[sinks.jsonl]\npath = \"{}/roadhound.toml\"\n",
            &[
                "sinks.jsonl.path: ",
                "roadhound.toml is this configuration too",
            ],
        ),
        (
            "[camera.rendered]\n[preview]\ntoken_file = \"/dev/zero\"\n",
            &["preview.token_file: /dev/zero: longer than the 4096 bytes"],
        ),
        (
            "[camera.replay]\npath = \"/nowhere.avi\"\n",
            &["/nowhere.avi", "No such file"],
        ),
        (
            "[camera.replay]\npath = \"{}/roadhound.toml\"\n",
            &["roadhound.toml: not a folder of images"],
        ),
    ] {
        board.config(rest);
        let output = roadhound(&["run", "--config", at]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let last = stderr.lines().last().unwrap();
        assert!(last.starts_with("roadhound: "), "{stderr}");
        for word in words {
            assert!(last.contains(word), "no '{word}' in {stderr}");
        }
    }
    board.config("[camera.rendered]\nsede = 1\n");
    check_refused(
        &["run", "--check", "--config", at],
        &["did you mean 'seed'?"],
    );
    check_refused(
        &["run", "--config", "/dev/zero"],
        &["/dev/zero: longer than the 1048576 bytes"],
    );
    check_refused(
        &["run", "--config", "/nowhere.toml"],
        &["/nowhere.toml", "No such file"],
    );
    board.config("[camera.rendered]\n");
    assert!(
        roadhound(&["run", "--check", "--config", at])
            .status
            .success()
    );
    if !cfg!(feature = "camera") {
        board.config("[camera.v4l2]\n");
        check_refused_with(
            2,
            &["run", "--config", at],
            &["camera.v4l2", "without the feature `camera`"],
        );
    }
}

#[test]
fn every_kind_of_fault_is_survived_and_the_target_is_found_again() {
    let board = Board::new();
    board.dump("a.grey", &[200; 60]);
    let running = board.start(
        "[camera]\nreplay = { path = \"{}/a.grey\", raw = \"96x96@200\", repeat = true }\n\
         [camera.faults]\nevery_frames = 60\nkinds = [\"unplug\", \"io\", \"corrupt\", \"stall\", \"format\"]\nunplugged_millis = 2200\nstall_millis = 900\n\
         [camera.retry]\nfirst_millis = 10\nlongest_millis = 100\nstall_after_millis = 600\n\
         [sinks.jsonl]\npath = \"{}/a.jsonl\"\n[metrics]\ntextfile = \"{}/a.prom\"\nevery_seconds = 1\n",
    );
    let prom = || std::fs::read_to_string(board.path("a.prom")).unwrap_or_default();
    until("all kinds twice, and the camera open again", || {
        prom().contains("cause=\"format\"} 2")
            && metric(&prom(), "roadhound_reconnects_total") >= 8.0
    });
    let (status, stderr) = running.stop();
    assert!(status.success(), "{stderr}");
    let text = prom();
    for cause in ["gone", "io", "stalled", "format"] {
        let closed = metric(
            &text,
            &format!("roadhound_camera_closed_total{{cause=\"{cause}\"}}"),
        );
        assert!(closed >= 2.0, "{cause} {closed}");
    }
    assert!(metric(&text, "roadhound_frames_total{fate=\"corrupt\"}") >= 6.0);
    assert!(metric(&text, "roadhound_reconnects_total") >= 8.0);
    let lines = board.lines("a.jsonl");
    // The unplugged camera made the target lost by time, without a frame, and frames brought it back.
    let lost: Vec<usize> = (0..lines.len())
        .filter(|&i| lines[i]["phase"] == "lost" && lines[i]["frame"].is_null())
        .collect();
    assert!(lost.len() >= 2, "{} silences", lost.len());
    for at in lost {
        assert!(lines[at]["box"].is_null());
        let back = lines[at..].iter().find(|line| line["phase"] == "tracking");
        if let Some(back) = back {
            let first = lines[at..]
                .iter()
                .find(|line| !line["frame"].is_null())
                .unwrap();
            let millis =
                (back["t_micros"].as_u64().unwrap() - first["t_micros"].as_u64().unwrap()) / 1000;
            assert!(
                millis < 1000,
                "found again {millis} ms after frames returned"
            );
        }
    }
}

#[test]
fn a_covered_camera_shows_in_metrics_and_results_and_only_where_the_bundle_knows() {
    let mut board = Board::new();
    // 0.6 s of light, 0.8 of dark.
    board.dump("a.grey", &[vec![200; 120], vec![5; 160]].concat());
    let rest = "[camera]\nreplay = { path = \"{}/a.grey\", raw = \"96x96@200\", repeat = true }\n\
         [sinks.jsonl]\npath = \"{}/a.jsonl\"\n[metrics]\ntextfile = \"{}/a.prom\"\nevery_seconds = 1\n";
    let prom = |board: &Board| std::fs::read_to_string(board.path("a.prom")).unwrap_or_default();
    let running = board.start(rest);
    until("some frames", || {
        prom(&board).contains("roadhound_frames_total")
    });
    let (status, stderr) = running.stop();
    assert!(status.success(), "{stderr}");
    assert!(
        !prom(&board).contains("unfamiliar"),
        "nobody looks without the graph"
    );
    std::fs::remove_file(board.path("a.jsonl")).unwrap();

    board.bundle = bundle_that_knows(board.folder.path(), 0.0);
    let running = board.start(rest);
    until("two alarms", || {
        prom(&board).contains("unfamiliar_total")
            && metric(&prom(&board), "roadhound_unfamiliar_total") >= 2.0
    });
    let (status, stderr) = running.stop();
    assert!(status.success(), "{stderr}");
    assert!(stderr.contains("is the lens covered"), "{stderr}");
    let distance = metric(&prom(&board), "roadhound_familiarity_distance");
    assert!((0.0..=5.0).contains(&distance), "{distance}");
    let lines = board.lines("a.jsonl");
    let looks: Vec<&Value> = lines
        .iter()
        .filter(|l| !l["familiarity"].is_null())
        .collect();
    // Ten a second at most, whatever the rate of frames.
    let at = |line: &Value| line["t_micros"].as_u64().unwrap();
    let micros = at(lines.last().unwrap()) - at(&lines[0]);
    assert!(
        looks.len() as u64 <= micros / 100_000 + 1,
        "{} in {micros} us",
        looks.len()
    );
    for health in ["familiar", "unfamiliar"] {
        let is = |l: &&&Value| l["familiarity"]["health"] == health;
        assert!(looks.iter().filter(is).count() > 2, "{health}");
    }
}

#[test]
fn a_hundred_unplugs_leave_nothing_open_and_the_target_tracked() {
    let board = Board::new();
    board.dump("a.grey", &[200; 60]);
    let running = board.start(
        "[camera]\nreplay = { path = \"{}/a.grey\", raw = \"96x96@500\", repeat = true }\n\
         [camera.faults]\nevery_frames = 20\nunplugged_millis = 5\n\
         [camera.retry]\nfirst_millis = 1\nlongest_millis = 20\n\
         [sinks.jsonl]\npath = \"{}/a.jsonl\"\n[metrics]\ntextfile = \"{}/a.prom\"\nevery_seconds = 1\n",
    );
    let prom = || std::fs::read_to_string(board.path("a.prom")).unwrap_or_default();
    until("the first", || {
        prom().contains("roadhound_reconnects_total")
    });
    let (memory, files) = (
        metric(&prom(), "roadhound_memory_resident_bytes"),
        running.open_files(),
    );
    until("a hundred", || {
        prom().contains("reconnects") && metric(&prom(), "roadhound_reconnects_total") >= 100.0
    });
    let grown = metric(&prom(), "roadhound_memory_resident_bytes") - memory;
    assert!(grown < 4e6, "{grown} bytes more");
    assert!(
        running.open_files() <= files + 1,
        "{} open, before {files}",
        running.open_files()
    );
    let (status, stderr) = running.stop();
    assert!(status.success(), "{stderr}");
    let lines = board.lines("a.jsonl");
    assert_eq!(lines.last().unwrap()["phase"], "tracking");
}

#[test]
fn a_camera_that_stays_away_ends_the_program_with_status_3() {
    let board = Board::new();
    board.dump("a.grey", &[200; 60]);
    let running = board.start(
        "[camera]\nreplay = { path = \"{}/a.grey\", raw = \"96x96@200\", repeat = true }\n\
         [camera.faults]\nevery_frames = 20\nunplugged_millis = 1000000\n\
         [camera.retry]\ngive_up_after_seconds = 1\n",
    );
    let (status, stderr) = running.wait();
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("a.grey: no frames for too long (gone), giving up"),
        "{stderr}"
    );
}

#[test]
fn a_stage_that_hangs_ends_the_program_with_status_5() {
    let board = Board::new();
    // Opening a pipe that nobody writes to hangs, as a driver may.
    let pipe = board.path("pipe.grey");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let running = board.start(
        "[camera]\nreplay = { path = \"{}/pipe.grey\", raw = \"96x96\" }\n[watchdog]\nstage_silent_seconds = 1\n",
    );
    let (status, stderr) = running.wait();
    assert_eq!(status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("capture: no sign of life"), "{stderr}");
}

#[test]
fn sinks_that_are_stuck_or_dead_do_not_slow_the_tracker_down() {
    let board = Board::new();
    board.dump("a.grey", &[200; 60]);
    assert!(
        Command::new("mkfifo")
            .arg(board.path("pipe.csv"))
            .status()
            .unwrap()
            .success()
    );
    let camera = "[camera]\nreplay = { path = \"{}/a.grey\", raw = \"96x96@30\", repeat = true }\n\
                  [metrics]\nevery_seconds = 1\ntextfile = ";
    // 192.0.2.1 is reserved for documentation: packets to it go nowhere.
    let mut dead =
        "[sinks.jsonl]\npath = \"-\"\nqueue = 4\n[sinks.csv]\npath = \"{}/pipe.csv\"\nqueue = 4\n\
                    [sinks.udp]\nto = \"192.0.2.1:9\"\n"
            .to_owned();
    if cfg!(feature = "mqtt") {
        dead.push_str("[sinks.mqtt]\nhost = \"192.0.2.1\"\n");
    }
    // Beside each other, so that a busy machine is as unfair to one as to the other.
    let running: Vec<Running> = [("free", ""), ("stuck", dead.as_str())]
        .map(|(name, sinks)| {
            let config = board.config(&format!("{camera}\"{{}}/{name}.prom\"\n{sinks}"));
            let own = board.path(&format!("{name}.toml"));
            std::fs::rename(config, &own).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_roadhound"));
            // Nobody reads this pipe, and it is not closed either. It holds some 200 lines.
            command.stdout(Stdio::piped());
            Running::start(command, &own)
        })
        .into();
    let prom = |name: &str| {
        std::fs::read_to_string(board.path(&format!("{name}.prom"))).unwrap_or_default()
    };
    let tracked = |name: &str| {
        let text = prom(name);
        text.contains("captured_total")
            && metric(&text, "roadhound_frames_total{fate=\"tracked\"}") > 400.0
    };
    until("enough frames", || tracked("free") && tracked("stuck"));
    let (free, stuck) = (prom("free"), prom("stuck"));
    for running in running {
        let stopping = Instant::now();
        let (status, stderr) = running.stop();
        assert!(status.success(), "{stderr}");
        assert!(stopping.elapsed() < Duration::from_secs(10));
    }
    for sink in ["jsonl", "csv"] {
        let name = format!("roadhound_sink_events_total{{sink=\"{sink}\",fate=\"dropped\"}}");
        assert!(
            metric(&stuck, &name) > 50.0,
            "{sink} is not stuck:\n{stuck}"
        );
    }
    let fps = |text: &str| metric(text, "roadhound_fps");
    let (free, stuck) = (fps(&free), fps(&stuck));
    println!("{free:.2} fps without sinks, {stuck:.2} with sinks that are stuck or dead");
    assert!(
        (stuck / free - 1.0).abs() < 0.03,
        "{free} fps without, {stuck} with"
    );
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let board = Board::new();
    board.dump("a.grey", &[200; 60]);
    let running = board.start(
        "[camera]\nreplay = { path = \"{}/a.grey\", raw = \"96x96@200\", repeat = true }\n\
         [sinks.jsonl]\npath = \"/dev/full\"\n[sinks.csv]\npath = \"{}/a.csv\"\n",
    );
    let csv = || std::fs::read_to_string(board.path("a.csv")).unwrap_or_default();
    until("lines", || csv().lines().count() > 300);
    let (status, stderr) = running.stop();
    assert!(status.success(), "{stderr}");
    let complaints = stderr
        .lines()
        .filter(|line| line.contains("No space left"))
        .count();
    assert_eq!(complaints, 1, "{stderr}");
}

#[test]
fn a_disk_that_takes_half_a_line_is_left_with_whole_ones() {
    let board = Board::new();
    board.dump("a.grey", &[200; 60]);
    let config = board.config(
        "[camera]\nreplay = { path = \"{}/a.grey\", raw = \"96x96@200\", repeat = true }\n\
         [sinks.jsonl]\npath = \"{}/a.jsonl\"\n[sinks.csv]\npath = \"{}/a.csv\"\n",
    );
    // No file may become longer than some tens of KiB: what does not fit of a line is refused as on a full disk.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_roadhound"),
    ]);
    let running = Running::start(command, &config).heard();
    for sink in ["jsonl", "csv"] {
        let refused = format!("{sink}: cannot be written: ");
        until("no room", || running.count(&refused) > 0);
    }
    running.stop();
    let text = std::fs::read_to_string(board.path("a.jsonl")).unwrap();
    assert!(text.ends_with("}\n") && board.lines("a.jsonl").len() > 20);
    let text = std::fs::read_to_string(board.path("a.csv")).unwrap();
    let columns = |line: &str| line.split(',').count();
    let expected = columns(text.lines().next().unwrap());
    assert!(text.ends_with('\n') && text.lines().all(|line| columns(line) == expected));
}

#[test]
fn standard_output_carries_one_object_a_frame() {
    let board = Board::new();
    board.dump("a.grey", &[200; 30]);
    let config = board.config(
        "[camera.replay]\npath = \"{}/a.grey\"\nraw = \"96x96@100\"\nlockstep = true\n[sinks.jsonl]\npath = \"-\"\n",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadhound"));
    command.stdout(Stdio::piped());
    let mut running = Running::start(command, &config);
    let stdout = BufReader::new(running.0.stdout.take().unwrap());
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert!(running.wait().0.success());
    assert_eq!(lines.len(), 30);
    assert!(
        lines
            .iter()
            .all(|line| line["image"] == serde_json::json!([96, 96]))
    );
}

#[cfg(feature = "camera")]
#[test]
fn a_camera_that_was_never_there_is_given_up_with_status_3() {
    let board = Board::new();
    let running = board.start(
        "[camera.v4l2]\ndevice = \"/dev/no-such-camera\"\n[camera.retry]\ngive_up_after_seconds = 1\n",
    );
    let (status, stderr) = running.wait();
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("/dev/no-such-camera: no frames for too long (gone)"),
        "{stderr}"
    );
}
