//! The page of `roadhound run`, as a browser, a person and an attacker meet it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::good_bundle;
use common::program::Program;
use serde_json::Value;

struct Board {
    folder: tempfile::TempDir,
    program: Program,
}

impl Board {
    /// A board that follows nothing and shows a bright picture.
    fn start(preview: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bundle: PathBuf = good_bundle(folder.path());
        let at = folder.path().display();
        std::fs::write(folder.path().join("a.grey"), vec![200; 96 * 96 * 10]).unwrap();
        std::fs::write(folder.path().join("token"), "0123456789abcdef\n").unwrap();
        let text = format!(
            "[model]\nbundle = \"{}\"\n[camera.replay]\npath = \"{at}/a.grey\"\nraw = \"96x96:grey@60\"\nrepeat = true\n\
             [sinks.jsonl]\npath = \"{at}/track.jsonl\"\nqueue = 1000\n[metrics]\ntextfile = \"{at}/roadhound.prom\"\nevery_seconds = 1\n\
             [preview]\nlisten = \"127.0.0.1:0\"\n{}",
            bundle.display(),
            preview.replace("{}", &at.to_string())
        );
        let program = Program::start(folder.path(), "roadhound", &text, drop);
        Self { folder, program }
    }

    fn address(&self) -> SocketAddr {
        self.program.address()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
    }

    /// Sends what is given and reads until the other side closes; status and all that came.
    fn raw(&self, request: &[u8]) -> (Option<u16>, Vec<u8>) {
        let mut stream = self.connect();
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let status = String::from_utf8_lossy(&answer)
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok());
        (status, answer)
    }

    fn get(&self, path: &str, headers: &str) -> (Option<u16>, Vec<u8>) {
        self.raw(
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
                .as_bytes(),
        )
    }

    fn post(&self, path: &str, body: &str) -> Option<u16> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body.as_bytes()].concat()).0
    }

    /// Whole lines of the track so far.
    fn lines(&self) -> impl Iterator<Item = Value> {
        let text = std::fs::read_to_string(self.folder.path().join("track.jsonl"));
        let mut text = text.unwrap_or_default();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        lines.into_iter()
    }

    fn last(&self) -> Option<Value> {
        self.lines().last()
    }

    fn metric(&self, name: &str) -> f64 {
        let text =
            std::fs::read_to_string(self.folder.path().join("roadhound.prom")).unwrap_or_default();
        let line = text.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        line.map_or(0.0, |line| {
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        })
    }

    fn tracked(&self) -> f64 {
        self.metric("roadhound_frames_total{fate=\"tracked\"}")
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `X-Track` and the JPEG.
fn picture(answer: &[u8]) -> (Value, &[u8]) {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let track = head
        .lines()
        .find_map(|line| line.strip_prefix("X-Track: "))
        .unwrap();
    (serde_json::from_str(track).unwrap(), &answer[end + 4..])
}

#[test]
fn a_box_drawn_on_the_page_is_followed_and_stop_ends_it() {
    let board = Board::start("");
    until("a picture", || board.get("/live.jpg", "").0 == Some(200));
    let (_, answer) = board.get("/live.jpg", "");
    let (track, jpeg) = picture(&answer);
    assert_eq!(track["phase"], "idle");
    assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
    let frame = track["frame"].as_u64().unwrap();
    assert_eq!(
        board.post("/hold", &format!("{{\"frame\": {frame}}}")),
        Some(204)
    );
    assert_eq!(
        board.post(
            "/follow",
            &format!("{{\"box\": [30, 31, 24.5, 25], \"frame\": {frame}}}")
        ),
        Some(204)
    );
    until("the target", || {
        board.last().is_some_and(|line| line["phase"] == "tracking")
    });
    let stop = || {
        assert_eq!(board.post("/stop", "{}"), Some(204));
        until("nothing to be followed", || {
            board.last().is_some_and(|line| line["phase"] == "idle")
        });
    };
    stop();
    let (_, answer) = board.get("/live.jpg", "");
    let frame = &picture(&answer).0["frame"];
    assert_eq!(
        board.post(
            "/follow",
            &format!("{{\"point\": [40, 50], \"frame\": {frame}}}")
        ),
        Some(204)
    );
    until("the thing at the point", || {
        board.last().is_some_and(|line| line["phase"] == "tracking")
    });
    stop();
    let (status, metrics) = board.get("/metrics", "");
    assert_eq!(status, Some(200));
    assert!(String::from_utf8_lossy(&metrics).contains("roadhound_captured_total"));
}

#[test]
fn without_the_token_nothing_is_shown_and_with_it_everything() {
    let board = Board::start("token_file = \"{}/token\"\n");
    for path in ["/live.jpg", "/state", "/metrics"] {
        assert_eq!(board.get(path, "").0, Some(401), "{path}");
        assert_eq!(
            board
                .get(path, "Authorization: Bearer 0123456789abcdeX\r\n")
                .0,
            Some(401),
            "{path}"
        );
    }
    assert_eq!(board.post("/stop", "{}"), Some(401));
    assert_eq!(
        board
            .get("/state", "Authorization: Bearer 0123456789abcdef\r\n")
            .0,
        Some(200)
    );
    assert_eq!(board.get("/", "").0, Some(200));
}

#[test]
fn whoever_attacks_the_page_is_refused_and_tracking_goes_on() {
    let board = Board::start("connections = 16\n");
    until("tracking figures", || board.tracked() > 60.0);
    let (files, memory) = (
        board.metric("roadhound_open_files"),
        board.metric("roadhound_memory_resident_bytes"),
    );

    for path in [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/page.js/../../Cargo.toml",
        "//etc/passwd",
    ] {
        assert_eq!(board.get(path, "").0, Some(404), "{path}");
    }
    assert_eq!(board.post("/follow", &"x".repeat(100_000)), Some(413));
    assert_eq!(board.post("/follow", "{\"box\": [1,2,3,4]"), Some(400));
    let (status, _) = board.get("/", &format!("X: {}\r\n", "x".repeat(20_000)));
    assert_eq!(status, Some(431));
    let mut state = 1_u32;
    for length in [1, 100, 5_000] {
        let garbage: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(length)
        .chain(*b"\r\n\r\n")
        .collect();
        let (status, _) = board.raw(&garbage);
        assert!(status.is_none_or(|status| status == 400), "{status:?}");
    }

    // Sixteen who never finish their request hold all places; ten thousand more come and are sent away.
    let slow: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = board.connect();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: lo").unwrap();
            stream
        })
        .collect();
    let frames_a_second = |work: &mut dyn FnMut()| {
        let (before, began) = (board.lines().count(), Instant::now());
        work();
        let seconds = began.elapsed().as_secs_f64();
        (board.lines().count() - before) as f64 / seconds
    };
    let calm = frames_a_second(&mut || std::thread::sleep(Duration::from_secs(3)));
    let (mut came, mut refused) = (0, 0);
    let attacked = frames_a_second(&mut || {
        let began = Instant::now();
        while came < 10_000 || began.elapsed() < Duration::from_secs(3) {
            came += 1;
            // The queue of the system may be full for a moment.
            let Ok(mut stream) =
                TcpStream::connect_timeout(&board.address(), Duration::from_secs(5))
            else {
                continue;
            };
            stream
                .set_read_timeout(Some(Duration::from_millis(5)))
                .unwrap();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            refused += u32::from(!matches!(stream.read(&mut [0; 16]), Ok(n) if n > 0));
        }
    });
    println!(
        "{came} connections, {refused} of them without an answer; {attacked:.1} frames a second tracked, {calm:.1} before"
    );
    assert!(refused > 0);
    // The attacker takes a whole core of this machine; a tracker that waited for the page would stand still.
    assert!(
        attacked > calm / 2.0,
        "{attacked} frames a second, {calm} before"
    );
    std::thread::sleep(Duration::from_millis(1_100));
    let (files_now, memory_now) = (
        board.metric("roadhound_open_files"),
        board.metric("roadhound_memory_resident_bytes"),
    );
    assert!(
        files_now <= files + 20.0,
        "{files_now} files, {files} before"
    );
    assert!(
        memory_now < memory + 16e6,
        "{memory_now} bytes, {memory} before"
    );
    // The slow ones are sent away, and there is room again.
    let patience = Instant::now();
    until("an answer", || board.get("/state", "").0 == Some(200));
    assert!(patience.elapsed() < Duration::from_secs(20));
    drop(slow);
}

/// So many files as this process may have at most.
fn raise_the_limit_of_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let raised = setrlimit(Resource::Nofile, most).is_ok();
    let now = if raised { limit.maximum } else { limit.current };
    now.unwrap_or(u64::MAX)
}

#[test]
fn ten_thousand_connections_at_once_cost_a_bounded_amount_and_tracking_goes_on() {
    const CONNECTIONS: usize = 10_000;
    const THREADS: usize = 100;
    // The board has what limit it had.
    let board = Board::start("connections = 16\n");
    if raise_the_limit_of_files() < CONNECTIONS as u64 + 100 {
        println!("passed over: no right to have {CONNECTIONS} files open");
        return;
    }
    until("tracking figures", || board.tracked() > 60.0);
    let address = board.address();
    let program = &board.program;
    let calm = {
        let (before, began) = (board.lines().count(), Instant::now());
        std::thread::sleep(Duration::from_secs(3));
        (board.lines().count() - before) as f64 / began.elapsed().as_secs_f64()
    };
    let (files, threads) = (program.open_files(), program.threads());
    let memory = program.memory_bytes("VmHWM");
    let (before, began) = (board.lines().count(), Instant::now());

    // Half of them say nothing, half ask for a picture and take none; all of them stay until the last has come.
    let everybody_is_there = std::sync::Barrier::new(THREADS + 1);
    let seen_enough = std::sync::Barrier::new(THREADS + 1);
    let (mut most_files, mut most_threads, mut attacked) = (files, threads, 0.0);
    let held = std::thread::scope(|scope| {
        let comers: Vec<_> = (0..THREADS)
            .map(|n| {
                let (everybody_is_there, seen_enough) = (&everybody_is_there, &seen_enough);
                let come = move || {
                    let mut held = Vec::new();
                    let end = Instant::now() + Duration::from_secs(120);
                    while held.len() < CONNECTIONS / THREADS && Instant::now() < end {
                        // The queue of the system may be full for a moment.
                        let Ok(mut stream) =
                            TcpStream::connect_timeout(&address, Duration::from_secs(5))
                        else {
                            continue;
                        };
                        if n % 2 == 0 {
                            let _ = stream
                                .write_all(b"GET /live.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n");
                        }
                        held.push(stream);
                    }
                    everybody_is_there.wait();
                    seen_enough.wait();
                    held.len()
                };
                let thread = std::thread::Builder::new().stack_size(128 << 10);
                thread.spawn_scoped(scope, come).unwrap()
            })
            .collect();
        let all_there = std::thread::Builder::new()
            .spawn_scoped(scope, || {
                everybody_is_there.wait();
            })
            .unwrap();
        let mut look = || {
            most_files = most_files.max(program.open_files());
            most_threads = most_threads.max(program.threads());
            std::thread::sleep(Duration::from_millis(20));
        };
        while !all_there.is_finished() {
            look();
        }
        // They are all there for as long as it takes to see that tracking goes on.
        let (then, at) = (board.lines().count(), Instant::now());
        while at.elapsed() < Duration::from_secs(2) {
            look();
        }
        assert!(board.lines().count() > then, "tracking stands still");
        attacked = (board.lines().count() - before) as f64 / began.elapsed().as_secs_f64();
        seen_enough.wait();
        comers
            .into_iter()
            .map(|comer| comer.join().unwrap())
            .sum::<usize>()
    });
    let grown = program.memory_bytes("VmHWM") - memory;
    println!(
        "{held} connections at once in {:.1} s: at most {most_files} files ({files} before), {most_threads} threads \
         ({threads} before), {:.1} MB more memory at the highest; {attacked:.1} frames a second tracked, {calm:.1} before",
        began.elapsed().as_secs_f64(),
        grown as f64 / 1e6
    );
    assert_eq!(held, CONNECTIONS);
    // Places, and a thread that has been accepted but not yet been counted or has been counted and not yet gone.
    assert!(most_files <= files + 20, "{most_files} files");
    assert!(most_threads <= threads + 20, "{most_threads} threads");
    assert!(grown < 16_000_000, "{grown} bytes");
    // The attacker takes a whole core of this machine; a tracker that waited for the page would stand still.
    assert!(attacked > calm / 2.0, "{attacked} frames a second, {calm}");
    until("an answer", || board.get("/state", "").0 == Some(200));
}

#[test]
fn in_a_browser_a_box_is_drawn_and_a_thing_tapped_and_both_are_followed_on_a_desk_and_on_a_phone() {
    let chromium = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| {
            Command::new(name)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|s| s.success())
        });
    let Some(chromium) = chromium else {
        println!("passed over: no Chromium");
        return;
    };
    let board = Board::start("");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/preview_browser.py");
    let pictures = std::env::var_os("ROADHOUND_SCREENSHOTS")
        .map_or_else(|| board.folder.path().to_owned(), PathBuf::from);
    for (name, width, height) in [("desk", "1024", "900"), ("phone", "390", "844")] {
        let before = board.lines().count();
        let output = Command::new("python3")
            .arg(script)
            .args([
                chromium,
                &format!("http://localhost:{}/", board.address().port()),
            ])
            .arg(pictures.join(format!("preview-{name}.png")))
            .args([width, height])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{name}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        // What was drawn is what the tracker began with, and what the page showed is what the tracker said.
        let lines: Vec<Value> = board.lines().skip(before).collect();
        let mut targets = lines
            .chunk_by(|a, b| (a["phase"] == "idle") == (b["phase"] == "idle"))
            .filter(|lines| lines[0]["phase"] == "tracking")
            .map(|lines| {
                let boxes = lines.iter().filter(|line| line["box"].is_array());
                boxes
                    .map(|line| serde_json::from_value(line["box"].clone()).unwrap())
                    .collect()
            });
        let boxes: Vec<[f32; 4]> = targets.next().unwrap();
        // What was tapped is about the point, and more than the few pixels that a finger trembles.
        let [x, y, w, h] = targets.next().unwrap()[0];
        let about = x < 42.0 && x + w > 42.0 && y < 43.5 && y + h > 43.5 && w.min(h) > 6.0;
        assert!(about, "{name}: tapped at 42,43.5 and got {x},{y},{w},{h}");
        let near = boxes[0]
            .iter()
            .zip([30.0, 31.0, 24.0, 25.0])
            .all(|(a, b)| (a - b).abs() < 4.0);
        assert!(near, "{name}: {:?}", boxes[0]);
        let shown: [f32; 4] = serde_json::from_str(said.trim()).unwrap();
        assert!(boxes.contains(&shown), "{name}: {shown:?}");
    }
}
