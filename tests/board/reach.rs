//! Boards, and how a script gets there and its results back.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::Value;

/// A TOML file about a board.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Board {
    pub(crate) name: String,
    reach: Reach,
    /// The kernel's `vivid` can be loaded there, by the user that the script runs as.
    vivid: Option<Vivid>,
    /// `[camera]` of the configuration, for a board with a camera of its own.
    pub(crate) camera: Option<toml::Table>,
    /// `[target]` of the configuration, for what that camera looks at.
    pub(crate) target: Option<toml::Table>,
    pub(crate) budget: Budget,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vivid {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Reach {
    Emulated {
        processor: String,
        cores: u32,
        memory_mib: u32,
    },
    Ssh {
        to: String,
        folder: String,
        #[serde(default = "ssh_port")]
        port: u16,
    },
}

fn ssh_port() -> u16 {
    22
}

/// What a board has to reach.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    /// How long it is watched.
    pub(crate) seconds: u32,
    /// Frames a second that were looked at, at least.
    pub(crate) fps: f64,
    /// From the start of exposure to the result, at most.
    pub(crate) latency_p99_ms: f64,
    /// Memory of the program, at most.
    pub(crate) resident_mib: f64,
    /// Share of the camera's frames that nobody looked at, at most.
    pub(crate) dropped_share: f64,
    /// From the start of the program to the first result, without the time until the camera's first frame, at most.
    pub(crate) first_tracked_ms: f64,
}

/// There is one board, whatever the number of tests.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The board during one test, and the folder that travels.
pub(crate) struct Session {
    pub(crate) board: Board,
    firmware: PathBuf,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The board that the environment names; `None`, and the reason on standard output, without one.
pub(crate) fn session() -> Option<Session> {
    let (Some(file), Some(firmware)) = (
        std::env::var_os("ROADHOUND_BOARD"),
        std::env::var_os("ROADHOUND_FIRMWARE"),
    ) else {
        println!("passed over: no board (scripts/board-test.sh has one)");
        return None;
    };
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file:?}: {e}"));
    let board: Board = toml::from_str(&text).unwrap_or_else(|e| panic!("{file:?}: {e}"));
    assert!(
        board.vivid.is_some() || board.camera.is_some(),
        "{file:?}: neither [vivid] nor [camera]"
    );
    Some(Session {
        board,
        firmware: firmware.into(),
        folder: tempfile::tempdir().unwrap(),
        _turn: ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner),
    })
}

/// As [`session`], where frames can be played into the camera.
pub(crate) fn vivid_session() -> Option<Session> {
    let session = session()?;
    if session.board.vivid.is_none() {
        println!("passed over: {} has no [vivid]", session.board.name);
        return None;
    }
    Some(session)
}

impl Session {
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// What is in a file; nothing, where there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// Runs a script on the board, in the folder of this session, and fails the test where the script fails.
    pub(crate) fn run(&self, job: &str, seconds: u32) {
        for name in ["roadhound", "feed_camera"] {
            let from = self.firmware.join(name);
            if from.exists() {
                std::fs::copy(from, self.path(name)).unwrap();
            }
        }
        let helpers = repository().join("tests/board/vivid.sh");
        std::fs::copy(helpers, self.path("vivid.sh")).unwrap();
        self.write("job.sh", format!("set -e\n. ./vivid.sh\n{job}"));
        let status = match &self.board.reach {
            Reach::Emulated {
                processor,
                cores,
                memory_mib,
            } => {
                let image = std::env::var_os("ROADHOUND_BOARD_IMAGE")
                    .expect("ROADHOUND_BOARD_IMAGE, which board-test.sh sets");
                Command::new(repository().join("tests/board/boot.sh"))
                    .arg(image)
                    .arg(self.folder())
                    .arg(seconds.to_string())
                    .args([processor, &cores.to_string(), &memory_mib.to_string()])
                    .status()
                    .unwrap()
            }
            Reach::Ssh { to, folder, port } => self.run_by_ssh(to, *port, folder, seconds),
        };
        assert!(
            status.success(),
            "{}: {status}\n{}\n{}\n{}",
            self.board.name,
            self.read("job.log"),
            self.read("run.log"),
            self.read("serial.log")
        );
    }

    fn run_by_ssh(&self, to: &str, port: u16, folder: &str, seconds: u32) -> ExitStatus {
        // Folders are copied as a stream: a board may have no sftp.
        let script = r#"
            set -eu
            tar -C "$1" -cf - . | ssh -o BatchMode=yes -p "$5" "$2" "rm -rf '$3' && mkdir -p '$3' && tar -C '$3' -xf -"
            set +e
            ssh -n -o BatchMode=yes -p "$5" "$2" "cd '$3' && timeout $4 sh ./job.sh >job.log 2>&1"
            status=$?
            set -e
            ssh -n -o BatchMode=yes -p "$5" "$2" "cd '$3' && rm -f roadhound feed_camera frames camera && tar -cf - ." | tar -C "$1" -xf -
            exit $status
        "#;
        Command::new("bash")
            .args(["-c", script, "bash"])
            .arg(self.folder())
            .args([to, folder, &seconds.to_string(), &port.to_string()])
            .status()
            .unwrap()
    }
}

/// A figure of the program's metrics.
pub(crate) fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// What became of frames.
pub(crate) fn fate(text: &str, fate: &str) -> f64 {
    metric(text, &format!("roadhound_frames_total{{fate=\"{fate}\"}}"))
}
