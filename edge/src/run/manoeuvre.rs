//! Hard manoeuvres, as the board's accelerometer feels them: hard braking, a swerve, a blow.
//!
//! Enters: samples of an industrial-I/O device (`/sys/bus/iio/devices/iio:deviceN`, as the kernel's drivers for such chips
//! provide it). Leaves: the moment at which a manoeuvre begins, for the recording to keep. [`Feeling`] decides, without a
//! clock or a file; [`Sensor`] reads the device in a thread of its own.
//!
//! How the board is mounted does not matter. What is felt over seconds is gravity; what is felt besides, across gravity and
//! for longer than a bump in the road, is what the car does. A blow is known by its strength, in any direction.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use roadhound_shared::frame::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;

const G_IN_METRES_PER_SECOND2: f32 = 9.80665;
/// Gravity is what is felt over this time; a curve of a motorway is part of it.
const GRAVITY_SECONDS: f32 = 5.0;
/// A bump is over in less than this; braking is not.
const BUMP_SECONDS: f32 = 0.2;
/// A blow is this many times as strong as a hard manoeuvre.
const BLOW: f32 = 5.0;
/// One manoeuvre ends this long after it was last felt.
const CALM_MICROS: u64 = 2_000_000;
/// Gravity has to be known before anything can differ from it.
const SETTLING_MICROS: u64 = 2_000_000;
/// Longer pauses between samples are another journey.
const MOST_STEP_SECONDS: f32 = 1.0;
const MOST_SAMPLE: f32 = 1e4;
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Which accelerometer, and what counts as hard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ManoeuvreConfig {
    /// Folder of the device.
    pub device: PathBuf,
    /// Acceleration across gravity, in multiples of it, that is hard: 0.4 is braking that throws things about.
    pub hard_g: f32,
}

impl Default for ManoeuvreConfig {
    fn default() -> Self {
        Self {
            device: "/sys/bus/iio/devices/iio:device0".into(),
            hard_g: 0.4,
        }
    }
}

/// Decides. In: accelerations and their times. Out: whether a manoeuvre begins.
#[derive(Clone, Debug)]
pub struct Feeling {
    hard: f32,
    began_at: Option<Timestamp>,
    last_at: Timestamp,
    gravity: [f32; 3],
    /// What is felt besides, without bumps.
    smooth: [f32; 3],
    felt_at: Option<Timestamp>,
}

fn length(v: [f32; 3]) -> f32 {
    v.iter().map(|a| a * a).sum::<f32>().sqrt()
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Feeling {
    /// Has felt nothing yet.
    pub fn new(hard_g: f32) -> Self {
        Self {
            hard: hard_g * G_IN_METRES_PER_SECOND2,
            began_at: None,
            last_at: Timestamp(0),
            gravity: [0.0; 3],
            smooth: [0.0; 3],
            felt_at: None,
        }
    }

    /// Takes one sample in metres per second squared; whether a manoeuvre begins with it.
    pub fn feel(&mut self, sample: [f32; 3], at: Timestamp) -> bool {
        // No car feels that, nor does a chip.
        if !sample.iter().all(|value| value.abs() < MOST_SAMPLE) {
            return false;
        }
        let step_seconds = at.micros_since(self.last_at) as f32 / 1e6;
        self.last_at = at;
        let Some(began_at) = self.began_at.filter(|_| step_seconds < MOST_STEP_SECONDS) else {
            (self.began_at, self.gravity, self.smooth) = (Some(at), sample, [0.0; 3]);
            return false;
        };
        let besides: [f32; 3] = std::array::from_fn(|i| sample[i] - self.gravity[i]);
        let up = self.gravity.map(|a| a / length(self.gravity).max(1e-3));
        let along = dot(besides, up);
        let across: [f32; 3] = std::array::from_fn(|i| besides[i] - along * up[i]);
        let share = |seconds: f32| 1.0 - (-step_seconds / seconds).exp();
        let (fast, slow) = (share(BUMP_SECONDS), share(GRAVITY_SECONDS));
        for i in 0..3 {
            self.smooth[i] += fast * (across[i] - self.smooth[i]);
            self.gravity[i] += slow * (sample[i] - self.gravity[i]);
        }
        let settled = at.micros_since(began_at) >= SETTLING_MICROS;
        let hard = length(self.smooth) > self.hard || length(besides) > BLOW * self.hard;
        if !settled || !hard {
            return false;
        }
        let before = self.felt_at.replace(at);
        before.is_none_or(|before| at.micros_since(before) > CALM_MICROS)
    }
}

/// An accelerometer's files.
struct Device {
    raw: [PathBuf; 3],
    scale: [f32; 3],
    offset: [f32; 3],
}

fn number(path: &Path) -> io::Result<f32> {
    let text = std::fs::read_to_string(path)?;
    let value = text
        .trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("'{}'", text.trim())))?;
    Ok(value)
}

impl Device {
    /// Finds the files; what one axis does not have of its own is that of all.
    fn open(folder: &Path) -> io::Result<Self> {
        let of = |axis: char, what: &str| {
            number(&folder.join(format!("in_accel_{axis}_{what}")))
                .or_else(|_| number(&folder.join(format!("in_accel_{what}"))))
        };
        let axes = ['x', 'y', 'z'];
        let mut device = Self {
            raw: axes.map(|axis| folder.join(format!("in_accel_{axis}_raw"))),
            scale: [0.0; 3],
            offset: [0.0; 3],
        };
        for (i, axis) in axes.into_iter().enumerate() {
            device.scale[i] = of(axis, "scale")?;
            device.offset[i] = of(axis, "offset").unwrap_or(0.0);
        }
        device.read()?;
        Ok(device)
    }

    fn read(&self) -> io::Result<[f32; 3]> {
        let mut sample = [0.0; 3];
        for (i, path) in self.raw.iter().enumerate() {
            sample[i] = (number(path)? + self.offset[i]) * self.scale[i];
        }
        Ok(sample)
    }
}

/// The thread that reads the device; ends when this is dropped.
pub struct Sensor {
    stop: Arc<AtomicBool>,
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

impl Sensor {
    /// Starts to read. A device that is not there, or goes away, is looked for every second.
    ///
    /// # Errors
    /// No thread.
    pub fn start(
        config: ManoeuvreConfig,
        mut hard: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let read = move || {
            let mut feeling = Feeling::new(config.hard_g);
            let (mut device, mut complained) = (None, false);
            while !stopped.load(Relaxed) {
                let sample = match &device {
                    None => Device::open(&config.device).map(|opened| {
                        log::info!("{}: accelerometer found", config.device.display());
                        complained = false;
                        device = Some(opened);
                        None
                    }),
                    Some(device) => device.read().map(Some),
                };
                match sample {
                    Ok(sample) => {
                        if sample.is_some_and(|sample| feeling.feel(sample, clock::monotonic())) {
                            log::info!("hard manoeuvre");
                            hard();
                        }
                        std::thread::sleep(SAMPLE_EVERY);
                    }
                    Err(e) => {
                        if !complained {
                            log::warn!("{}: no accelerometer: {e}", config.device.display());
                        }
                        (device, complained) = (None, true);
                        std::thread::sleep(RETRY_EVERY);
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("manoeuvre".into())
            .spawn(read)?;
        Ok(Self { stop })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Times in seconds at which manoeuvres begin in a minute's drive; `felt` is what the car does at a time, in g.
    fn begin(mounted: [f32; 3], felt: impl Fn(f32) -> [f32; 3]) -> Vec<f32> {
        let mut feeling = Feeling::new(0.4);
        (0..3000)
            .filter_map(|n| {
                let seconds = n as f32 / 50.0;
                let felt = felt(seconds);
                let sample =
                    std::array::from_fn(|i| (mounted[i] + felt[i]) * G_IN_METRES_PER_SECOND2);
                feeling
                    .feel(sample, Timestamp((seconds * 1e6) as u64))
                    .then_some(seconds)
            })
            .collect()
    }

    const UPRIGHT: [f32; 3] = [0.0, 0.0, 1.0];

    fn within(seconds: f32, from: f32, length: f32) -> f32 {
        f32::from(u8::from((from..from + length).contains(&seconds)))
    }

    #[test]
    fn hard_braking_is_felt_once_however_the_board_is_mounted() {
        let tilted = [0.6, 0.0, 0.8];
        // Forward is across gravity in both.
        for (mounted, forward) in [(UPRIGHT, [1.0, 0.0, 0.0]), (tilted, [0.8, 0.0, -0.6])] {
            let found = begin(mounted, |s| {
                forward.map(|a| -0.6 * within(s, 20.0, 1.5) * a)
            });
            assert_eq!(found.len(), 1, "{found:?}");
            assert!((20.0..20.5).contains(&found[0]), "{found:?}");
        }
    }

    #[test]
    fn bumps_gentle_braking_and_long_curves_are_nothing() {
        for (name, felt) in [
            ("speed bump", [0.0, 0.0, 1.2]),
            ("gentle braking", [0.25, 0.0, 0.0]),
            ("curve", [0.0, 0.3, 0.0]),
        ] {
            let length = if name == "speed bump" { 0.3 } else { 8.0 };
            let found = begin(UPRIGHT, |s| felt.map(|a| a * within(s, 20.0, length)));
            assert!(found.is_empty(), "{name}: {found:?}");
        }
        // A pothole shakes the board sideways too, and is over at once.
        let found = begin(UPRIGHT, |s| {
            [0.9, 0.0, 0.9].map(|a| a * within(s, 20.0, 0.06))
        });
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_blow_is_felt_at_once_and_two_manoeuvres_are_two() {
        let found = begin(UPRIGHT, |s| [0.0, 0.0, -3.0 * within(s, 30.0, 0.04)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!((30.0..30.05).contains(&found[0]), "{found:?}");
        let found = begin(UPRIGHT, |s| {
            [
                0.7 * (within(s, 20.0, 1.0) + within(s, 40.0, 1.0)),
                0.0,
                0.0,
            ]
        });
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_device_is_found_late_read_with_its_scale_and_told_of_when_it_brakes() {
        let folder = tempfile::tempdir().unwrap();
        let felt = Arc::new(AtomicBool::new(false));
        let config = ManoeuvreConfig {
            device: folder.path().to_owned(),
            ..ManoeuvreConfig::default()
        };
        let told = Arc::clone(&felt);
        let sensor = Sensor::start(config, move || told.store(true, Relaxed)).unwrap();
        let write = |name: &str, text: &str| {
            // As the kernel: a file is there whole.
            let path = folder.path().join(name);
            std::fs::write(path.with_extension("new"), text).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        };
        write("in_accel_scale", "0.01\n");
        write("in_accel_x_raw", "0\n");
        write("in_accel_y_raw", "0\n");
        write("in_accel_z_raw", "981\n");
        std::thread::sleep(Duration::from_millis(3_500));
        assert!(!felt.load(Relaxed));
        write("in_accel_x_raw", "-700\n");
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !felt.load(Relaxed) && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(felt.load(Relaxed));
        drop(sensor);
    }

    proptest! {
        #[test]
        fn any_samples_and_times_are_taken(samples in prop::collection::vec((any::<[f32; 3]>(), any::<u64>()), 0..50)) {
            let mut feeling = Feeling::new(0.4);
            for (sample, at) in samples {
                feeling.feel(sample, Timestamp(at));
            }
            prop_assert!(feeling.gravity.iter().all(|a| !a.is_nan()));
        }
    }
}
