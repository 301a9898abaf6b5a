//! `roadhound.toml`: everything that `roadhound run` can be told, checked whole before anything starts.
//!
//! Enters: the text of the file. Leaves: a [`RunConfig`] with every default filled in, or one line that names the file,
//! the key and what would do; for a key that does not exist, also the one that was probably meant.
//! `packaging/roadhound.toml` is the documented sample.
//!
//! ```
//! use roadhound_edge::config::RunConfig;
//! let config = RunConfig::parse("[camera.v4l2]\ndevice = \"/dev/video0\"\n")?;
//! assert_eq!(config.model.threads, 1);
//! let error = RunConfig::parse("[camera.v4l2]\ndevise = \"/dev/video0\"\n").unwrap_err();
//! assert_eq!(error.to_string(), "line 2: unknown key 'devise', did you mean 'device'?");
//! # Ok::<(), roadhound_edge::config::ConfigError>(())
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use roadhound_shared::adapt::AdaptConfig;
use roadhound_shared::frame::PixelFormat;
use roadhound_shared::geometry::BoxXywh;
use serde::{Deserialize, Serialize};

use crate::bundle::Precision;
use crate::capture::Encoding;
use crate::capture::fault::FaultConfig;
use crate::capture::reconnect::RetryConfig;
use crate::capture::rendered::RenderedConfig;
use crate::capture::replay::ReplayConfig;
use crate::preview::PreviewConfig;
use crate::record::RecordingConfig;
use crate::run::manoeuvre::ManoeuvreConfig;

/// No configuration is longer than this.
const MAX_BYTES: u64 = 1 << 20;

/// Why a configuration is refused: one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of another type.
    #[error("{0}")]
    Form(String),
    /// A value that cannot be.
    #[error("{key}: {what}")]
    Value {
        /// Path of the key.
        key: &'static str,
        /// What is wrong and what would do.
        what: String,
    },
}

fn wrong(key: &'static str, what: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key,
        what: what.into(),
    }
}

/// A V4L2 device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct V4l2Config {
    /// Path of the device. A name below `/dev/v4l/by-id` survives replugging into another socket.
    pub device: PathBuf,
    /// Wanted width in pixels.
    pub width_px: u32,
    /// Wanted height in pixels.
    pub height_px: u32,
    /// Wanted frames per second.
    pub fps: f64,
    /// `"auto"`, `"yuyv"`, `"nv12"` or `"mjpeg"`: what the camera has to deliver.
    pub format: WantedFormat,
    /// Buffers that the driver fills in turn.
    pub buffers: u32,
}

impl Default for V4l2Config {
    fn default() -> Self {
        Self {
            device: "/dev/video0".into(),
            width_px: 1280,
            height_px: 720,
            fps: 30.0,
            format: WantedFormat::Auto,
            buffers: 4,
        }
    }
}

/// A camera by its number, on whatever system: the second backend, for a quick trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebcamConfig {
    /// Its number among the system's cameras, from 0.
    pub index: u32,
    /// Wanted width in pixels.
    pub width_px: u32,
    /// Wanted height in pixels.
    pub height_px: u32,
    /// Wanted frames per second.
    pub fps: u32,
    /// `"auto"`, `"yuyv"`, `"nv12"` or `"mjpeg"`: what the camera has to deliver.
    pub format: WantedFormat,
}

impl Default for WebcamConfig {
    fn default() -> Self {
        Self {
            index: 0,
            width_px: 640,
            height_px: 480,
            fps: 30,
            format: WantedFormat::Auto,
        }
    }
}

/// Which of the camera's formats to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WantedFormat {
    /// The cheapest that reaches the wanted size and rate.
    #[default]
    Auto,
    /// YUYV only.
    Yuyv,
    /// NV12 only.
    Nv12,
    /// MJPEG only.
    Mjpeg,
}

impl WantedFormat {
    /// The layout that is wanted and no other; `None` for any.
    pub fn encoding(self) -> Option<Encoding> {
        match self {
            Self::Auto => None,
            Self::Yuyv => Some(Encoding::Raw(PixelFormat::Yuyv)),
            Self::Nv12 => Some(Encoding::Raw(PixelFormat::Nv12)),
            Self::Mjpeg => Some(Encoding::Mjpeg),
        }
    }
}

/// Where frames come from: exactly one of the tables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CameraConfig {
    /// A V4L2 camera; needs a program built with the feature `camera`.
    pub v4l2: Option<V4l2Config>,
    /// A camera by its number; needs a program built with the feature `webcam`.
    pub webcam: Option<WebcamConfig>,
    /// A recording, played at its own speed.
    pub replay: Option<ReplayConfig>,
    /// A rendered drive.
    pub rendered: Option<RenderedConfig>,
    /// How patient to be with a camera that fails.
    pub retry: RetryConfig,
    /// Faults on a plan, to try the program out.
    pub faults: FaultConfig,
    /// Write every frame down as it comes, for the bench. Not for MJPEG.
    pub dump: Option<PathBuf>,
}

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Folder of a model bundle; without it, the model built into the program.
    pub bundle: Option<PathBuf>,
    /// `"f32"` or `"int8"`; without it, int8 where the bundle has it.
    #[serde(with = "precision", skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Threads of the network.
    pub threads: u8,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            bundle: None,
            precision: None,
            threads: 1,
        }
    }
}

mod precision {
    use clap::ValueEnum;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Precision;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Precision>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value.and_then(|precision| precision.to_possible_value()) {
            Some(name) => to.serialize_str(name.get_name()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D>(from: D) -> Result<Option<Precision>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let name = String::deserialize(from)?;
        Precision::from_str(&name, false)
            .map(Some)
            .map_err(|_| D::Error::custom(format!("unknown precision '{name}': f32 or int8")))
    }
}

/// What to follow when nobody says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetConfig {
    /// `[x, y, w, h]` in pixels of the image, from the first frame on; without it and without `auto` nothing is followed
    /// until somebody says what.
    pub init: Option<[f32; 4]>,
    /// Follow whom a driver would watch, as soon as somebody is there. Needs a model that proposes.
    pub auto: bool,
    /// A target that was chosen so and is lost for longer is given up, and another is chosen; 0: never.
    pub auto_again_seconds: u32,
    /// Ask the model's proposals where a lost target could be, if it has any. Without it, with `auto` only: it takes memory.
    pub refind: Option<bool>,
}

impl Default for TargetConfig {
    fn default() -> Self {
        Self {
            init: None,
            auto: false,
            auto_again_seconds: 5,
            refind: None,
        }
    }
}

impl TargetConfig {
    /// The box, where there is one.
    pub fn initial(&self) -> Option<BoxXywh> {
        self.init.map(|[x, y, w, h]| BoxXywh::new(x, y, w, h))
    }

    /// Whether a lost target is looked for by proposals, where the model has them.
    pub fn refinds(&self) -> bool {
        self.refind.unwrap_or(self.auto)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if let Some(b) = self.initial()
            && !b.is_proper()
        {
            return Err(wrong("target.init", "expected [x, y, w, h] with an area"));
        }
        if self.auto && self.init.is_some() {
            return Err(wrong(
                "target.auto",
                "target.init says whom to follow already",
            ));
        }
        range(
            "target.auto_again_seconds",
            self.auto_again_seconds,
            0,
            3_600,
        )
    }
}

/// A file of lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinesConfig {
    /// The file; `"-"` is standard output. A file is appended to.
    pub path: PathBuf,
    /// Lines that may wait for a slow reader; more are dropped and counted.
    #[serde(default = "default_queue")]
    pub queue: u16,
}

/// Datagrams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UdpConfig {
    /// Address and port of whoever listens.
    pub to: SocketAddr,
    /// Lines that may wait; more are dropped and counted.
    #[serde(default = "default_queue")]
    pub queue: u16,
}

/// An MQTT broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// Name or address of the broker.
    pub host: String,
    /// Its port. The connection is not encrypted: keep the broker on the board or on a trusted network.
    #[serde(default = "default_mqtt_port")]
    pub port: u16,
    /// Topic of the lines. `TOPIC/status` holds `online` or `offline`, retained.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// How the broker knows this program; has to be unique at the broker.
    #[serde(default = "default_client")]
    pub client_id: String,
    /// User name.
    #[serde(default)]
    pub user: Option<String>,
    /// File whose first line is the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Send only changes of phase instead of every frame.
    #[serde(default)]
    pub changes_only: bool,
    /// Lines that may wait; more are dropped and counted.
    #[serde(default = "default_queue")]
    pub queue: u16,
}

fn default_queue() -> u16 {
    64
}

fn default_mqtt_port() -> u16 {
    1883
}

fn default_topic() -> String {
    "roadhound".into()
}

fn default_client() -> String {
    "roadhound".into()
}

/// Figures in Prometheus' text format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// File that is replaced every `every_seconds`, for node_exporter's textfile collector.
    pub textfile: PathBuf,
    /// How often.
    #[serde(default = "default_every_seconds")]
    pub every_seconds: u32,
}

fn default_every_seconds() -> u32 {
    5
}

/// Where results go. Each is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SinksConfig {
    /// One JSON object a line and frame.
    pub jsonl: Option<LinesConfig>,
    /// One line of values a frame.
    pub csv: Option<LinesConfig>,
    /// One JSON object a datagram and frame.
    pub udp: Option<UdpConfig>,
    /// One JSON object a message and frame.
    pub mqtt: Option<MqttConfig>,
}

/// When the program takes itself for stuck.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchdogConfig {
    /// A thread that captures or tracks and is silent for longer than this ends the program with status 5.
    pub stage_silent_seconds: u32,
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        Self {
            stage_silent_seconds: 10,
        }
    }
}

/// Reads a small file whole. Its length is not asked for: a device has none, and gives bytes for ever.
pub(crate) fn read_text(path: &Path, most_bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(most_bytes + 1)
        .read_to_string(&mut text)?;
    if read as u64 > most_bytes {
        let why = format!("longer than the {most_bytes} bytes that are read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// Reads the constants of the table `[adapt]` from a file of their own.
///
/// # Errors
/// The file and the first thing in it that cannot be.
pub fn read_adapt(path: &Path) -> Result<AdaptConfig, String> {
    let at = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = read_text(path, MAX_BYTES).map_err(|e| at(&e))?;
    let config: AdaptConfig = toml::from_str(&text).map_err(|e| at(&explain(&text, &e)))?;
    config.validate().map_err(|e| at(&e))?;
    Ok(config)
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Where frames come from.
    pub camera: CameraConfig,
    /// The network.
    pub model: ModelConfig,
    /// What to follow when nobody says.
    pub target: TargetConfig,
    /// How the network's normalisation follows the camera; without it, it does not.
    pub adapt: Option<AdaptConfig>,
    /// Where results go.
    pub sinks: SinksConfig,
    /// Pictures and track on the board's disk.
    pub recording: Option<RecordingConfig>,
    /// A page to look at, and to say what to follow.
    pub preview: Option<PreviewConfig>,
    /// An accelerometer, whose hard manoeuvres the recording keeps.
    pub manoeuvre: Option<ManoeuvreConfig>,
    /// Figures about the program itself.
    pub metrics: Option<MetricsConfig>,
    /// When the program takes itself for stuck.
    pub watchdog: WatchdogConfig,
}

impl RunConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file and the first thing in it that cannot be.
    pub fn read(path: &Path) -> Result<Self, String> {
        let at = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = read_text(path, MAX_BYTES).map_err(|e| at(&e))?;
        Self::parse(&text).map_err(|e| at(&e))
    }

    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|e| explain(text, &e))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks ranges, and what has to agree.
    ///
    /// # Errors
    /// The first key that cannot be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.camera.validate()?;
        if !(1..=64).contains(&self.model.threads) {
            let threads = self.model.threads;
            return Err(wrong(
                "model.threads",
                format!("{threads}, expected 1 to 64"),
            ));
        }
        self.target.validate()?;
        if let Some(adapt) = &self.adapt {
            adapt
                .validate()
                .map_err(|e| ConfigError::Form(e.to_string()))?;
        }
        self.sinks.validate()?;
        if let Some(preview) = &self.preview {
            validate_preview(preview)?;
        }
        if let Some(recording) = &self.recording {
            validate_recording(recording)?;
        }
        if let Some(manoeuvre) = &self.manoeuvre
            && !(0.1..=4.0).contains(&manoeuvre.hard_g)
        {
            return Err(wrong(
                "manoeuvre.hard_g",
                format!("{}, expected 0.1 to 4", manoeuvre.hard_g),
            ));
        }
        if let Some(metrics) = &self.metrics {
            range("metrics.every_seconds", metrics.every_seconds, 1, 3_600)?;
        }
        range(
            "watchdog.stage_silent_seconds",
            self.watchdog.stage_silent_seconds,
            1,
            3_600,
        )
    }
}

fn validate_preview(preview: &PreviewConfig) -> Result<(), ConfigError> {
    if !preview.listen.ip().is_loopback() && preview.token_file.is_none() {
        return Err(wrong(
            "preview.token_file",
            format!("is missing: others can reach {}", preview.listen),
        ));
    }
    rate("preview.fps", preview.fps)?;
    range("preview.quality", preview.quality.into(), 1, 100)?;
    range("preview.connections", preview.connections.into(), 1, 1024)
}

fn validate_recording(recording: &RecordingConfig) -> Result<(), ConfigError> {
    if recording.folder.as_os_str().is_empty() {
        return Err(wrong("recording.folder", "is empty"));
    }
    rate("recording.fps", recording.fps)?;
    range("recording.quality", recording.quality.into(), 1, 100)?;
    range(
        "recording.segment_seconds",
        recording.segment_seconds,
        1,
        3_600,
    )?;
    range("recording.event_seconds", recording.event_seconds, 0, 3_600)?;
    range("recording.sync_millis", recording.sync_millis, 50, 60_000)
}

fn range(key: &'static str, found: u32, least: u32, most: u32) -> Result<(), ConfigError> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(wrong(key, format!("{found}, expected {least} to {most}")))
    }
}

fn rate(key: &'static str, found: f64) -> Result<(), ConfigError> {
    rate_within(key, found, 0.1, 1000.0)
}

fn rate_within(key: &'static str, found: f64, least: f64, most: f64) -> Result<(), ConfigError> {
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(wrong(key, format!("{found}, expected {least} to {most}")))
    }
}

impl CameraConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let kinds = [
            self.v4l2.is_some(),
            self.webcam.is_some(),
            self.replay.is_some(),
            self.rendered.is_some(),
        ];
        match kinds.iter().filter(|&&there| there).count() {
            1 => {}
            0 => {
                return Err(wrong(
                    "camera",
                    "no source of frames: add [camera.v4l2], [camera.webcam], [camera.replay] or [camera.rendered]",
                ));
            }
            _ => {
                return Err(wrong(
                    "camera",
                    "more than one of v4l2, webcam, replay and rendered: keep one",
                ));
            }
        }
        if let Some(v4l2) = &self.v4l2 {
            range("camera.v4l2.width_px", v4l2.width_px, 16, 8192)?;
            range("camera.v4l2.height_px", v4l2.height_px, 16, 8192)?;
            rate("camera.v4l2.fps", v4l2.fps)?;
            range("camera.v4l2.buffers", v4l2.buffers, 2, 32)?;
        }
        if let Some(webcam) = &self.webcam {
            range("camera.webcam.width_px", webcam.width_px, 16, 8192)?;
            range("camera.webcam.height_px", webcam.height_px, 16, 8192)?;
            range("camera.webcam.fps", webcam.fps, 1, 1000)?;
        }
        if let Some(replay) = &self.replay {
            if replay.path.as_os_str().is_empty() {
                return Err(wrong("camera.replay.path", "is empty"));
            }
            if let Err(e) = replay.options() {
                return Err(ConfigError::Form(e.to_string()));
            }
        }
        if let Some(rendered) = &self.rendered {
            range("camera.rendered.width_px", rendered.width_px, 32, 4096)?;
            range("camera.rendered.height_px", rendered.height_px, 32, 4096)?;
            // What the world can be rendered at.
            rate_within("camera.rendered.fps", rendered.fps.into(), 1.0, 240.0)?;
        }
        let retry = &self.retry;
        range("camera.retry.first_millis", retry.first_millis, 1, 60_000)?;
        range(
            "camera.retry.longest_millis",
            retry.longest_millis,
            retry.first_millis,
            600_000,
        )?;
        range(
            "camera.retry.stall_after_millis",
            retry.stall_after_millis,
            50,
            600_000,
        )?;
        range(
            "camera.retry.corrupt_in_row",
            retry.corrupt_in_row,
            1,
            100_000,
        )?;
        if self.faults.every_frames > 0 && self.faults.kinds.is_empty() {
            return Err(wrong(
                "camera.faults.kinds",
                "is empty, expected some of unplug, io, corrupt, stall, format",
            ));
        }
        Ok(())
    }
}

impl SinksConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for (key, lines) in [("sinks.jsonl", &self.jsonl), ("sinks.csv", &self.csv)] {
            if let Some(lines) = lines {
                if lines.path.as_os_str().is_empty() {
                    return Err(wrong(key, "path is empty"));
                }
                range(key, u32::from(lines.queue), 1, 65_535)?;
            }
        }
        if let Some((a, b)) = self.jsonl.as_ref().zip(self.csv.as_ref())
            && a.path == b.path
        {
            return Err(wrong("sinks.csv", "has the path of sinks.jsonl"));
        }
        if let Some(udp) = &self.udp {
            range("sinks.udp.queue", u32::from(udp.queue), 1, 65_535)?;
            if udp.to.port() == 0 {
                return Err(wrong("sinks.udp.to", "port 0 reaches nobody"));
            }
        }
        if let Some(mqtt) = &self.mqtt {
            range("sinks.mqtt.queue", u32::from(mqtt.queue), 1, 65_535)?;
            range("sinks.mqtt.port", u32::from(mqtt.port), 1, 65_535)?;
            if mqtt.host.trim().is_empty() {
                return Err(wrong("sinks.mqtt.host", "is empty"));
            }
            let fits = !mqtt.topic.is_empty()
                && mqtt.topic.len() <= 1024
                && !mqtt.topic.contains(['+', '#', '\0']);
            if !fits {
                return Err(wrong(
                    "sinks.mqtt.topic",
                    "expected 1 to 1024 bytes without '+' and '#'",
                ));
            }
            if mqtt.client_id.trim().is_empty() || mqtt.client_id.len() > 256 {
                return Err(wrong("sinks.mqtt.client_id", "expected 1 to 256 bytes"));
            }
            if mqtt.password_file.is_some() && mqtt.user.is_none() {
                return Err(wrong("sinks.mqtt.user", "a password needs a user"));
            }
        }
        Ok(())
    }
}

/// What TOML says, on one line, with the key that was probably meant.
pub(crate) fn explain(text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|before| format!("line {}: ", before.matches('\n').count() + 1))
        .unwrap_or_default();
    let message = error.message();
    let said = match unknown_word(message) {
        Some((what, found, known)) => match closest(found, &known) {
            Some(meant) => format!("unknown {what} '{found}', did you mean '{meant}'?"),
            None => format!(
                "unknown {what} '{found}', expected one of {}",
                known.join(", ")
            ),
        },
        None => message
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace('`', "'"),
    };
    ConfigError::Form(format!("{line}{said}"))
}

/// Takes serde's words for an unknown field or variant apart: which of the two, the word, and those that exist.
fn unknown_word(message: &str) -> Option<(&'static str, &str, Vec<&str>)> {
    let [field, variant] = ["unknown field ", "unknown variant "].map(|p| message.strip_prefix(p));
    let what = if field.is_some() { "key" } else { "value" };
    let mut quoted = field.or(variant)?.split('`').skip(1).step_by(2);
    let found = quoted.next()?;
    Some((what, found, quoted.collect()))
}

/// The word with the fewest edits, where those are few enough to be a slip.
pub(crate) fn closest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|&word| (edits(found, word), word))
        .min()
        .filter(|&(edits, word)| {
            let shorter = found.chars().count().min(word.chars().count());
            edits <= 1 + shorter / 4 && edits < shorter
        })
        .map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours from one word to another (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    // A key that long is no slip, and the table below is quadratic.
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let at = |i: usize, j: usize| table[i * width + j];
                let replaced = at(i - 1, j - 1) + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(at(i - 1, j) + 1).min(at(i, j - 1) + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(at(i - 2, j - 2) + 1);
                }
                best
            };
        }
    }
    table[table.len() - 1]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const CAMERA: &str = "[camera.rendered]\nseed = 3\n";

    fn refused(text: &str) -> String {
        let error = RunConfig::parse(text).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn the_documented_sample_is_valid() {
        let sample = include_str!("../../packaging/roadhound.toml");
        RunConfig::parse(sample).unwrap();
    }

    /// Every commented-out setting of the sample exists and holds its own default or a valid value.
    #[test]
    fn the_sample_with_every_comment_taken_out_is_valid_but_for_having_four_cameras() {
        let sample = include_str!("../../packaging/roadhound.toml");
        let all: String = sample
            .lines()
            .map(|line| line.strip_prefix("#:").unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(refused(&all).contains("more than one of v4l2, webcam, replay and rendered"));
        let table: toml::Table = toml::from_str(&all).unwrap();
        let missing = |names: &[&str], at: &str| {
            let mut table = &table;
            for part in at.split('.').filter(|part| !part.is_empty()) {
                table = table[part].as_table().unwrap();
            }
            names
                .iter()
                .filter(|name| !table.contains_key(**name))
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let none: Vec<String> = Vec::new();
        assert_eq!(
            missing(
                &[
                    "camera",
                    "model",
                    "target",
                    "sinks",
                    "recording",
                    "preview",
                    "manoeuvre",
                    "metrics",
                    "watchdog"
                ],
                ""
            ),
            none
        );
        assert_eq!(missing(&["jsonl", "csv", "udp", "mqtt"], "sinks"), none);
        assert_eq!(
            missing(
                &[
                    "v4l2", "webcam", "replay", "rendered", "retry", "faults", "dump"
                ],
                "camera"
            ),
            none
        );
    }

    #[test]
    fn whom_to_follow_is_said_once_and_a_lost_one_is_looked_for_where_the_board_chose_it() {
        let target = |text: &str| {
            let config = RunConfig::parse(&format!("{CAMERA}[target]\n{text}")).unwrap();
            (config.target.auto, config.target.refinds())
        };
        assert_eq!(target(""), (false, false));
        assert_eq!(target("auto = true\n"), (true, true));
        assert_eq!(target("auto = true\nrefind = false\n"), (true, false));
        assert_eq!(
            target("init = [1, 2, 3, 4]\nrefind = true\n"),
            (false, true)
        );
        for (text, said) in [
            (
                "init = [1, 2, 3, 4]\nauto = true\n",
                "target.auto: target.init says whom",
            ),
            ("auto_again_seconds = 4000\n", "target.auto_again_seconds: "),
            ("autp = true\n", "unknown key 'autp', did you mean 'auto'?"),
        ] {
            let found = refused(&format!("{CAMERA}[target]\n{text}"));
            assert!(found.contains(said), "{found}");
        }
    }

    #[test]
    fn a_slip_in_a_key_is_refused_with_its_line_and_the_key_that_was_meant() {
        for (text, meant) in [
            (
                "[camera.renderd]\n",
                "line 1: unknown key 'renderd', did you mean 'rendered'?",
            ),
            (
                "[camera.rendered]\nsede = 1\n",
                "line 2: unknown key 'sede', did you mean 'seed'?",
            ),
            (
                "[camera.v4l2]\nwidht_px = 640\n",
                "line 2: unknown key 'widht_px', did you mean 'width_px'?",
            ),
            (
                "[camera.v4l2]\nformat = \"mjepg\"\n",
                "did you mean 'mjpeg'?",
            ),
            ("[sinks.mqqt]\n", "did you mean 'mqtt'?"),
            ("[tarrget]\n", "did you mean 'target'?"),
        ] {
            let error = refused(text);
            assert!(error.contains(meant), "{error}");
        }
    }

    #[test]
    fn a_key_that_resembles_nothing_is_refused_with_those_that_exist() {
        let error = refused("[target]\nbackpropagation = 1\n");
        assert!(
            error.ends_with("unknown key 'backpropagation', expected one of init, auto, auto_again_seconds, refind"),
            "{error}"
        );
    }

    #[test]
    fn values_that_cannot_be_are_refused_by_key() {
        for (text, key) in [
            ("", "camera: no source of frames"),
            (
                "[camera.webcam]\nfps = 0\n",
                "camera.webcam.fps: 0, expected 1 to 1000",
            ),
            (
                "[camera.rendered]\n[camera.v4l2]\n",
                "camera: more than one",
            ),
            ("[camera.v4l2]\nfps = nan\n", "camera.v4l2.fps"),
            (
                "[camera.v4l2]\nbuffers = 1\n",
                "camera.v4l2.buffers: 1, expected 2 to 32",
            ),
            (
                "[camera.rendered]\nwidth_px = 5000\n",
                "camera.rendered.width_px",
            ),
            (
                "[camera.rendered]\nfps = 0.5\n",
                "camera.rendered.fps: 0.5, expected 1 to 240",
            ),
            (
                "[camera.rendered]\nfps = 241\n",
                "camera.rendered.fps: 241, expected 1 to 240",
            ),
            (
                "[camera.replay]\npath = \"a.yuyv\"\nraw = \"4\"\n",
                "camera.replay.raw",
            ),
            (
                "[camera.replay]\npath = \"a.yuyv\"\nfps = -1.0\n",
                "camera.replay.fps",
            ),
            (
                "[camera.rendered]\n[camera.retry]\nfirst_millis = 0\n",
                "camera.retry.first_millis",
            ),
            (
                "[camera.rendered]\n[camera.retry]\nfirst_millis = 900\n",
                "camera.retry.longest_millis",
            ),
            ("[camera.rendered]\n[model]\nthreads = 0\n", "model.threads"),
            (
                "[camera.rendered]\n[model]\nprecision = \"f16\"\n",
                "unknown precision 'f16'",
            ),
            (
                "[camera.rendered]\n[target]\ninit = [0, 0, -4, 4]\n",
                "target.init",
            ),
            (
                "[camera.rendered]\n[sinks.mqtt]\nhost = \"\"\n",
                "sinks.mqtt.host",
            ),
            (
                "[camera.rendered]\n[sinks.mqtt]\nhost = \"a\"\ntopic = \"a/#\"\n",
                "sinks.mqtt.topic",
            ),
            (
                "[camera.rendered]\n[sinks.mqtt]\nhost = \"a\"\nport = 0\n",
                "sinks.mqtt.port: 0, expected 1 to 65535",
            ),
            (
                "[camera.rendered]\n[sinks.udp]\nto = \"nowhere\"\n",
                "line 3",
            ),
            (
                "[camera.rendered]\n[preview]\nlisten = \"0.0.0.0:80\"\n",
                "preview.token_file: is missing: others can reach 0.0.0.0:80",
            ),
            (
                "[camera.rendered]\n[recording]\nfolder = \"a\"\nquality = 0\n",
                "recording.quality: 0, expected 1 to 100",
            ),
            (
                "[camera.rendered]\n[manoeuvre]\nhard_g = 0\n",
                "manoeuvre.hard_g: 0, expected 0.1 to 4",
            ),
            (
                "[camera.rendered]\n[watchdog]\nstage_silent_seconds = 0\n",
                "watchdog",
            ),
        ] {
            let error = refused(text);
            assert!(error.contains(key), "{text:?} gives {error}");
        }
    }

    #[test]
    fn every_rate_of_a_rendered_drive_that_is_accepted_can_be_rendered() {
        use crate::capture::{Opener, rendered::Rendered};
        for fps in [1, 30, 240] {
            let text = format!("[camera.rendered]\nwidth_px = 64\nheight_px = 48\nfps = {fps}\n");
            let rendered = RunConfig::parse(&text).unwrap().camera.rendered.unwrap();
            assert!(Rendered::new(rendered).open().is_ok(), "{fps}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_as_the_same() {
        let config = RunConfig::parse(CAMERA).unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(RunConfig::parse(&text).unwrap(), config);
    }

    #[test]
    fn edits_count_slips() {
        for (a, b, n) in [
            ("", "", 0),
            ("a", "", 1),
            ("widht", "width", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(a, b), n, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn edits_are_a_distance(a in "[ab_]{0,8}", b in "[ab_]{0,8}") {
            prop_assert_eq!(edits(&a, &b), edits(&b, &a));
            prop_assert_eq!(edits(&a, &b) == 0, a == b);
            prop_assert!(edits(&a, &b) <= a.len().max(b.len()));
        }

        #[test]
        fn any_text_is_a_configuration_or_one_line(text in "\\PC{0,200}") {
            if let Err(e) = RunConfig::parse(&text) {
                prop_assert!(!e.to_string().contains('\n'));
            }
        }
    }
}
