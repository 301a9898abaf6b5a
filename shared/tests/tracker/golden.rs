//! Scripted drives against committed traces: any change of behaviour shows as a diff.
//!
//! `ROADHOUND_BLESS=1 cargo test -p roadhound-shared golden` writes the traces anew; explain the
//! diff in the commit. All arithmetic goes through `libm`, so the text is the same on x86 and ARM.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::tracker::Report;

use crate::script::{FRAME_MICROS, Object, Script, TARGET, car};

/// One line a frame.
struct Trace {
    script: Script,
    text: String,
}

impl Trace {
    fn new() -> Self {
        let text =
            "# ms phase since_ms x,y,w,h score presence similarity window_cx,cy,side template\n";
        Self {
            script: Script::new(),
            text: text.to_owned(),
        }
    }

    fn look(&mut self, micros: u64, presence: f32, objects: &[Object]) {
        let report = self.script.look_after(micros, presence, objects);
        let window = self.script.window;
        let wanted = self.script.tracker.template_wanted().is_some();
        if wanted {
            self.script.tracker.accept_template(&TARGET);
        }
        let place = format!("{:.2},{:.2},{:.2}", window.cx_px, window.cy_px, window.w_px);
        self.line(&report, &place, if wanted { "new" } else { "-" });
    }

    fn skip(&mut self, micros: u64) {
        let report = self.script.skip(micros);
        self.line(&report, "-", "-");
    }

    fn line(&mut self, report: &Report, window: &str, template: &str) {
        let place = report.box_in_image.map_or_else(
            || "nan,nan,nan,nan".to_owned(),
            |b| format!("{:.2},{:.2},{:.2},{:.2}", b.x_px, b.y_px, b.w_px, b.h_px),
        );
        writeln!(
            self.text,
            "{} {} {} {place} {:.3} {:.3} {:.3} {window} {template}",
            report.captured_at.0 / 1000,
            report.phase.name(),
            report.since.0 / 1000,
            report.score,
            report.presence,
            report.similarity,
        )
        .unwrap();
    }

    #[track_caller]
    fn check(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(name);
        if env::var_os("ROADHOUND_BLESS").is_some_and(|v| v == "1") {
            fs::write(&path, &self.text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        for (number, (found, expected)) in self.text.lines().zip(expected.lines()).enumerate() {
            assert_eq!(found, expected, "{name}, line {}", number + 1);
        }
        assert_eq!(
            self.text.lines().count(),
            expected.lines().count(),
            "{name}"
        );
    }
}

/// Drives to the right, comes closer, and weaves a little.
fn path(step: u32) -> BoxXywh {
    let t = step as f32;
    let weave = [0.0, 2.0, 3.0, 2.0, 0.0, -2.0, -3.0, -2.0][step as usize % 8];
    let (cx, cy) = car().center();
    BoxXywh::from_center(
        cx + 3.0 * t,
        cy + 0.5 * t + weave,
        80.0 + 0.6 * t,
        80.0 + 0.3 * t,
    )
}

#[test]
fn golden_occlusion_and_return() {
    let mut trace = Trace::new();
    let stranger = Object::stranger(BoxXywh::new(760.0, 330.0, 90.0, 90.0));
    for step in 1..=30 {
        trace.look(FRAME_MICROS, 0.95, &[Object::target(path(step)), stranger]);
    }
    for (step, presence) in (31..).zip([0.7, 0.42, 0.35, 0.25, 0.2, 0.15, 0.12]) {
        let fading = Object {
            score: presence,
            ..Object::target(path(step))
        };
        trace.look(FRAME_MICROS, presence, &[fading, stranger]);
    }
    // The network takes the stranger for the target: only its embedding gives it away.
    for _ in 0..30 {
        trace.look(FRAME_MICROS, 0.8, &[stranger]);
    }
    for step in 68..=90 {
        trace.look(FRAME_MICROS, 0.95, &[Object::target(path(step)), stranger]);
    }
    trace.check("occlusion.trace");
}

#[test]
fn golden_dropped_frames_and_a_leap() {
    let mut trace = Trace::new();
    let mut step = 0;
    for (number, frames) in [1, 1, 2, 1, 5, 1, 1, 3, 1, 1, 1, 8, 1, 1, 2, 2, 1, 1]
        .into_iter()
        .enumerate()
    {
        step += frames;
        let micros = FRAME_MICROS * u64::from(frames);
        if number % 5 == 4 {
            trace.skip(micros);
        } else {
            trace.look(micros, 0.9, &[Object::target(path(step))]);
        }
    }
    // The camera hangs for two seconds, and the target is at the other end of the image.
    let leapt = path(step).translated(-450.0, -150.0);
    trace.look(2_000_000, 0.2, &[Object::target(leapt)]);
    for _ in 0..60 {
        trace.look(FRAME_MICROS, 0.9, &[Object::target(leapt)]);
    }
    trace.check("dropped_frames.trace");
}
