//! `roadhound run` as a child process: started, its page found, looked at from outside, killed when it is dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use roadhound_edge::drive::{Drive, DriveConfig};

/// Nothing is silent for longer, on a machine with neighbours.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A program with a page.
pub struct Program {
    child: Child,
    address: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Writes a configuration, which has to have a page, as `NAME.toml`, and starts a program on it. What it says on
    /// standard error once the page is there goes to `said`. Nobody reads its standard output yet, and nobody closes it.
    pub fn start(
        folder: &Path,
        name: &str,
        text: &str,
        mut said: impl FnMut(String) + Send + 'static,
    ) -> Self {
        let config = folder.join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_roadhound"))
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut before = Vec::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line.split_once("http://").map(|(_, rest)| {
                let text = rest.trim_end_matches('/');
                text.parse().unwrap()
            });
            before.push(line);
            address
        });
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("no page: {before:?}");
        };
        // What it says later has to go somewhere.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(&mut said));
        Self { child, address }
    }

    /// Where its page is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its standard output, once.
    pub fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.stdout.take().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let done = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for its end; whether that was a good one.
    pub fn ended_well(&mut self) -> bool {
        self.child.wait().unwrap().success()
    }

    /// A line of `/proc/PID/status` that counts KiB, in bytes: `VmRSS`, or `VmHWM` for the most there ever was.
    pub fn memory_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    pub fn open_files(&self) -> usize {
        self.entries("fd")
    }

    pub fn threads(&self) -> usize {
        self.entries("task")
    }

    fn entries(&self, folder: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{folder}", self.pid()))
            .unwrap()
            .count()
    }

    /// One request without a body.
    pub fn get(&self, path: &str) -> Option<String> {
        let answer = ask(self.address, "GET", path, "")?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A figure, from the page; `name` is everything before the value.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

/// One request; what came back, or nothing.
pub fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(answer)
}

/// Writes a rendered drive as a raw dump of RGB; where the target is in each of its frames.
pub fn film(path: &Path, (width_px, height_px): (u32, u32), frames: u32) -> Vec<Option<[f32; 4]>> {
    let mut drive = Drive::new(DriveConfig {
        width_px,
        height_px,
        frames,
        ..DriveConfig::default()
    })
    .unwrap();
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut rgb = Vec::new();
    let truths = (0..frames)
        .map(|n| {
            let truth = drive.render(n, &mut rgb);
            file.write_all(&rgb).unwrap();
            let b = truth.box_in_image?;
            Some([b.x_px, b.y_px, b.w_px, b.h_px])
        })
        .collect();
    file.flush().unwrap();
    truths
}
