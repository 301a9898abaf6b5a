//! What a run counts, and the machine it runs on: the figures of `/metrics`, in Prometheus' text format.
//!
//! Enters: every [`TrackEvent`], counters of the stages, `/proc` and `/sys`. Leaves: text. Memory is fixed: latencies
//! are kept as a histogram for ever and one by one for the last [`WINDOW`] frames, which percentiles are taken from.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use roadhound_shared::frame::Timestamp;
use roadhound_shared::tracker::Phase;

use super::event::TrackEvent;
use crate::capture::Cause;
use crate::capture::stage::CaptureStats;
use roadhound_shared::adapt::{Adapted, State};

use crate::familiarity::Looked;
use crate::record::RecordStats;

/// Frames that percentiles and the rate are taken from: half a minute at 30 frames a second.
pub const WINDOW: usize = 1024;

/// Upper ends of the histogram's buckets, in milliseconds.
const BUCKETS_MILLIS: [u32; 10] = [5, 10, 20, 33, 50, 66, 100, 200, 500, 1000];

const PHASES: [Phase; 4] = [Phase::Idle, Phase::Tracking, Phase::Uncertain, Phase::Lost];

/// Counts and the last frames' times.
#[derive(Debug)]
pub struct RunStats(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    tracked: u64,
    skipped: u64,
    undecodable: u64,
    times_lost: u64,
    marks: u64,
    manoeuvres: u64,
    phase: Phase,
    presence: f32,
    /// The last look at what the camera shows; none where the bundle does not know.
    familiarity: Option<Looked>,
    times_unfamiliar: u64,
    /// What became of normalisation; none where it does not follow the camera.
    adapted: Option<Adapted>,
    /// Latency of each of the last frames in microseconds; a ring.
    latency_micros: Vec<u32>,
    /// When they were taken; a ring beside the other.
    captured_at: Vec<Timestamp>,
    next: usize,
    buckets: [u64; BUCKETS_MILLIS.len()],
    latency_sum_micros: u64,
    scratch: Vec<u32>,
}

impl Default for RunStats {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            tracked: 0,
            skipped: 0,
            undecodable: 0,
            times_lost: 0,
            marks: 0,
            manoeuvres: 0,
            phase: Phase::Idle,
            presence: 0.0,
            familiarity: None,
            times_unfamiliar: 0,
            adapted: None,
            latency_micros: Vec::with_capacity(WINDOW),
            captured_at: Vec::with_capacity(WINDOW),
            next: 0,
            buckets: [0; BUCKETS_MILLIS.len()],
            latency_sum_micros: 0,
            scratch: Vec::with_capacity(WINDOW),
        }))
    }
}

/// The figures that people look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Figures {
    /// Frames that were looked at.
    pub tracked: u64,
    /// Looked-at frames per second over the window, by the frames' own times.
    pub fps: f64,
    /// Median latency over the window.
    pub latency_p50_ms: f64,
    /// 90th percentile.
    pub latency_p90_ms: f64,
    /// 99th percentile.
    pub latency_p99_ms: f64,
}

impl RunStats {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an event.
    pub fn record(&self, event: &TrackEvent, undecodable: u64) {
        let mut inner = self.lock();
        let s = &mut *inner;
        let phase = event.report.phase;
        s.times_lost += u64::from(phase == Phase::Lost && s.phase != Phase::Lost);
        s.phase = phase;
        s.presence = event.report.presence;
        s.undecodable = undecodable;
        s.marks += u64::from(event.mark);
        s.manoeuvres += u64::from(event.manoeuvre);
        if let Some(looked) = event.familiarity {
            s.familiarity = Some(looked);
            s.times_unfamiliar += u64::from(looked.is_new);
        }
        s.adapted = event.adapted;
        if event.frame.is_none() {
            return;
        }
        s.tracked += 1;
        s.skipped += event.skipped;
        let micros = u32::try_from(event.latency_micros).unwrap_or(u32::MAX);
        s.latency_sum_micros += u64::from(micros);
        for (count, end) in s.buckets.iter_mut().zip(BUCKETS_MILLIS) {
            *count += u64::from(micros <= end * 1000);
        }
        if s.latency_micros.len() < WINDOW {
            s.latency_micros.push(micros);
            s.captured_at.push(event.report.captured_at);
        } else {
            s.latency_micros[s.next] = micros;
            s.captured_at[s.next] = event.report.captured_at;
        }
        s.next = (s.next + 1) % WINDOW;
    }

    /// Rate and percentiles.
    pub fn figures(&self) -> Figures {
        let mut inner = self.lock();
        let s = &mut *inner;
        s.scratch.clone_from(&s.latency_micros);
        s.scratch.sort_unstable();
        let at = |share: f64| {
            let last = s.scratch.len().saturating_sub(1) as f64;
            let micros = s.scratch.get((last * share).round() as usize);
            micros.map_or(0.0, |&micros| f64::from(micros) / 1e3)
        };
        let first = s.captured_at.iter().min();
        let last = s.captured_at.iter().max();
        let span = first.zip(last).map_or(0, |(a, b)| b.micros_since(*a));
        let steps = s.captured_at.len().saturating_sub(1) as f64;
        Figures {
            tracked: s.tracked,
            fps: if span > 0 {
                steps * 1e6 / span as f64
            } else {
                0.0
            },
            latency_p50_ms: at(0.5),
            latency_p90_ms: at(0.9),
            latency_p99_ms: at(0.99),
        }
    }

    /// Everything, as Prometheus reads it.
    pub fn prometheus(
        &self,
        capture: &CaptureStats,
        sinks: &[SinkFigures],
        recording: Option<&RecordStats>,
        machine: &Machine,
    ) -> String {
        let figures = self.figures();
        let inner = self.lock();
        let mut text = String::with_capacity(4096);
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(
                text,
                "# HELP roadhound_{name} {help}\n# TYPE roadhound_{name} {kind}"
            );
        };
        let t = &mut text;

        head(
            t,
            "frames_total",
            "counter",
            "Frames by what became of them.",
        );
        for (fate, count) in [
            ("tracked", inner.tracked),
            ("stale", capture.stale.load(Relaxed)),
            ("no_buffer", capture.no_buffer.load(Relaxed)),
            ("lost_by_driver", capture.lost_by_driver.load(Relaxed)),
            ("corrupt", capture.corrupt.load(Relaxed)),
            ("undecodable", inner.undecodable),
        ] {
            let _ = writeln!(t, "roadhound_frames_total{{fate=\"{fate}\"}} {count}");
        }
        head(
            t,
            "captured_total",
            "counter",
            "Good frames that the camera delivered.",
        );
        let _ = writeln!(
            t,
            "roadhound_captured_total {}",
            capture.captured.load(Relaxed)
        );

        head(
            t,
            "fps",
            "gauge",
            "Frames per second that were looked at, over the last half minute.",
        );
        let _ = writeln!(t, "roadhound_fps {:.3}", figures.fps);

        head(
            t,
            "latency_seconds",
            "histogram",
            "From the start of exposure to the result.",
        );
        for (end, count) in BUCKETS_MILLIS.iter().zip(inner.buckets) {
            let end = f64::from(*end) / 1e3;
            let _ = writeln!(
                t,
                "roadhound_latency_seconds_bucket{{le=\"{end}\"}} {count}"
            );
        }
        let _ = writeln!(
            t,
            "roadhound_latency_seconds_bucket{{le=\"+Inf\"}} {}",
            inner.tracked
        );
        let _ = writeln!(
            t,
            "roadhound_latency_seconds_sum {:.6}",
            inner.latency_sum_micros as f64 / 1e6
        );
        let _ = writeln!(t, "roadhound_latency_seconds_count {}", inner.tracked);

        head(
            t,
            "latency_recent_seconds",
            "gauge",
            "Percentiles of the latency over the last half minute.",
        );
        for (quantile, ms) in [
            ("0.5", figures.latency_p50_ms),
            ("0.9", figures.latency_p90_ms),
            ("0.99", figures.latency_p99_ms),
        ] {
            let _ = writeln!(
                t,
                "roadhound_latency_recent_seconds{{quantile=\"{quantile}\"}} {:.6}",
                ms / 1e3
            );
        }

        head(
            t,
            "phase",
            "gauge",
            "1 for the phase that the tracker is in.",
        );
        for phase in PHASES {
            let is = u8::from(inner.phase == phase);
            let _ = writeln!(t, "roadhound_phase{{phase=\"{}\"}} {is}", phase.name());
        }
        head(
            t,
            "presence",
            "gauge",
            "Presence of the target in the last look, 0 to 1.",
        );
        let _ = writeln!(t, "roadhound_presence {:.4}", inner.presence);
        head(
            t,
            "times_lost_total",
            "counter",
            "How often the target was lost.",
        );
        let _ = writeln!(t, "roadhound_times_lost_total {}", inner.times_lost);
        head(
            t,
            "marks_total",
            "counter",
            "Moments that a user asked to keep.",
        );
        let _ = writeln!(t, "roadhound_marks_total {}", inner.marks);
        head(
            t,
            "manoeuvres_total",
            "counter",
            "Hard manoeuvres that the accelerometer felt.",
        );
        let _ = writeln!(t, "roadhound_manoeuvres_total {}", inner.manoeuvres);

        if let Some(looked) = inner.familiarity {
            head(
                t,
                "unfamiliar",
                "gauge",
                "1 while the camera shows nothing like what was learned.",
            );
            let alarm = u8::from(looked.health.is_alarm());
            let _ = writeln!(t, "roadhound_unfamiliar {alarm}");
            head(t, "unfamiliar_total", "counter", "How often that began.");
            let _ = writeln!(t, "roadhound_unfamiliar_total {}", inner.times_unfamiliar);
            head(
                t,
                "familiarity_distance",
                "gauge",
                "How far the last frame that was looked at lies from what was learned.",
            );
            let distance = looked.look.distance;
            let _ = writeln!(t, "roadhound_familiarity_distance {distance:.4}");
        }

        if let Some(adapted) = inner.adapted {
            head(
                t,
                "adapt_learning",
                "gauge",
                "1 while normalisation follows what the camera shows.",
            );
            let learning = u8::from(adapted.state == State::Learning);
            let _ = writeln!(t, "roadhound_adapt_learning {learning}");
            head(
                t,
                "adapt_shift",
                "gauge",
                "Root mean square of the shifts in force, in deviations of the source.",
            );
            let _ = writeln!(t, "roadhound_adapt_shift {:.4}", adapted.shift);
            head(
                t,
                "adapt_changes_total",
                "counter",
                "How often constants of normalisation were changed.",
            );
            let _ = writeln!(t, "roadhound_adapt_changes_total {}", adapted.changes);
            head(
                t,
                "adapt_recoveries_total",
                "counter",
                "How often they went back to the source's.",
            );
            let _ = writeln!(t, "roadhound_adapt_recoveries_total {}", adapted.recoveries);
        }

        head(t, "camera_open", "gauge", "1 while the camera is open.");
        let _ = writeln!(
            t,
            "roadhound_camera_open {}",
            u8::from(capture.is_open.load(Relaxed))
        );
        head(
            t,
            "reconnects_total",
            "counter",
            "Times the camera was opened again.",
        );
        let _ = writeln!(
            t,
            "roadhound_reconnects_total {}",
            capture.reopened.load(Relaxed)
        );
        head(
            t,
            "camera_closed_total",
            "counter",
            "Times an open camera was closed, by cause.",
        );
        for cause in Cause::ALL {
            let count = capture.closed[cause.index()].load(Relaxed);
            let _ = writeln!(
                t,
                "roadhound_camera_closed_total{{cause=\"{}\"}} {count}",
                cause.name()
            );
        }

        if !sinks.is_empty() {
            head(
                t,
                "sink_events_total",
                "counter",
                "Events by sink and what became of them.",
            );
            for s in sinks {
                let _ = writeln!(
                    t,
                    "roadhound_sink_events_total{{sink=\"{}\",fate=\"written\"}} {}",
                    s.name, s.written
                );
                let _ = writeln!(
                    t,
                    "roadhound_sink_events_total{{sink=\"{}\",fate=\"dropped\"}} {}",
                    s.name, s.dropped
                );
            }
            head(
                t,
                "sink_errors_total",
                "counter",
                "Failures to open or write a sink.",
            );
            for s in sinks {
                let _ = writeln!(
                    t,
                    "roadhound_sink_errors_total{{sink=\"{}\"}} {}",
                    s.name, s.errors
                );
            }
        }
        if let Some(r) = recording {
            head(
                t,
                "recorded_pictures_total",
                "counter",
                "Pictures by what became of them.",
            );
            for (fate, count) in [("written", &r.pictures), ("dropped", &r.dropped)] {
                let count = count.load(Relaxed);
                let _ = writeln!(
                    t,
                    "roadhound_recorded_pictures_total{{fate=\"{fate}\"}} {count}"
                );
            }
            head(
                t,
                "recorded_segments_total",
                "counter",
                "Segments by what became of them.",
            );
            for (fate, count) in [("begun", &r.segments), ("deleted", &r.deleted)] {
                let count = count.load(Relaxed);
                let _ = writeln!(
                    t,
                    "roadhound_recorded_segments_total{{fate=\"{fate}\"}} {count}"
                );
            }
            head(
                t,
                "recording_errors_total",
                "counter",
                "Failures to record.",
            );
            let _ = writeln!(
                t,
                "roadhound_recording_errors_total {}",
                r.errors.load(Relaxed)
            );
            for (name, what, micros) in [
                (
                    "recording_behind_seconds",
                    "What a power cut would cost now.",
                    &r.behind_micros,
                ),
                (
                    "recording_slowest_sync_seconds",
                    "The longest that the disk took for the last pictures.",
                    &r.slowest_sync_micros,
                ),
            ] {
                head(t, name, "gauge", what);
                let seconds = micros.load(Relaxed) as f64 / 1e6;
                let _ = writeln!(t, "roadhound_{name} {seconds}");
            }
        }
        if let Some(bytes) = machine.resident_bytes {
            head(
                t,
                "memory_resident_bytes",
                "gauge",
                "Resident memory of the program.",
            );
            let _ = writeln!(t, "roadhound_memory_resident_bytes {bytes}");
        }
        if let Some(files) = machine.open_files {
            head(
                t,
                "open_files",
                "gauge",
                "Open file descriptors of the program.",
            );
            let _ = writeln!(t, "roadhound_open_files {files}");
        }
        if let Some(celsius) = machine.hottest_celsius {
            head(
                t,
                "temperature_celsius",
                "gauge",
                "The hottest of the board's thermal zones.",
            );
            let _ = writeln!(t, "roadhound_temperature_celsius {celsius:.1}");
        }
        text
    }
}

/// What one sink counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkFigures {
    /// Its name.
    pub name: &'static str,
    /// Events that were written.
    pub written: u64,
    /// Events that were not.
    pub dropped: u64,
    /// Failures.
    pub errors: u64,
}

/// What the kernel says about this process and this board; nothing where it does not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_files: Option<u64>,
    /// The hottest thermal zone.
    pub hottest_celsius: Option<f64>,
}

impl Machine {
    /// Looks.
    pub fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let zones = std::fs::read_dir("/sys/class/thermal")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("thermal_zone"))
            .filter_map(|e| std::fs::read_to_string(e.path().join("temp")).ok())
            .filter_map(|text| celsius(&text));
        Self {
            resident_bytes: resident(&status),
            // The listing itself holds one.
            open_files: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| (files.count() as u64).saturating_sub(1)),
            hottest_celsius: zones.max_by(f64::total_cmp),
        }
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn celsius(text: &str) -> Option<f64> {
    let millis: f64 = text.trim().parse().ok()?;
    (-100_000.0..=200_000.0)
        .contains(&millis)
        .then_some(millis / 1e3)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::run::event::testing::event;

    #[test]
    fn percentiles_and_rate_are_those_of_the_last_frames() {
        let stats = RunStats::default();
        for n in 0..3000 {
            let latency_micros = if n < 1500 { 900_000 } else { 1000 * (n % 100) };
            stats.record(
                &TrackEvent {
                    latency_micros,
                    ..event(n)
                },
                0,
            );
        }
        let figures = stats.figures();
        assert_eq!(figures.tracked, 3000);
        assert!((figures.fps - 30.0).abs() < 0.01, "{figures:?}");
        assert!((figures.latency_p50_ms - 50.0).abs() <= 2.0, "{figures:?}");
        assert!((figures.latency_p99_ms - 98.0).abs() <= 1.0, "{figures:?}");
    }

    /// The format of https://prometheus.io/docs/instrumenting/exposition_formats, as far as it is used here.
    #[test]
    fn every_line_is_a_comment_or_a_sample_of_a_declared_metric() {
        let stats = RunStats::default();
        (0..10).for_each(|n| stats.record(&event(n), 0));
        let sinks = [SinkFigures {
            name: "udp",
            written: 9,
            dropped: 1,
            errors: 0,
        }];
        let machine = Machine {
            hottest_celsius: Some(61.0),
            ..Machine::read()
        };
        let recording = RecordStats::default();
        let text = stats.prometheus(&CaptureStats::default(), &sinks, Some(&recording), &machine);
        let mut declared: Vec<String> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(!declared.contains(&name.to_owned()), "{name} twice");
                declared.push(name.to_owned());
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                let name = series.split('{').next().unwrap();
                let base = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end))
                    .filter(|base| declared.iter().any(|d| d == base))
                    .unwrap_or(name);
                assert!(declared.iter().any(|d| d == base), "{line} is not declared");
            }
        }
        assert!(
            text.contains("roadhound_phase{phase=\"tracking\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("roadhound_latency_seconds_bucket{le=\"0.02\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains("roadhound_latency_seconds_bucket{le=\"0.033\"} 10\n"),
            "{text}"
        );
        assert!(
            text.contains("roadhound_temperature_celsius 61.0\n"),
            "{text}"
        );
        assert!(text.contains("roadhound_memory_resident_bytes "), "{text}");
    }

    #[test]
    fn what_the_kernel_says_is_read_or_left_out() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12 * 1024));
        assert_eq!(resident("VmRSS:\t many kB\n"), None);
        assert_eq!(celsius("48312\n"), Some(48.312));
        assert_eq!(celsius("nonsense"), None);
        assert_eq!(celsius("-274000"), None);
    }
}
