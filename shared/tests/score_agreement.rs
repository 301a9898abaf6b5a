//! Every figure of `tools/score.py`, on the real sequences, from our own metrics.
//!
//! Needs `../shared` beside the workspace (or `ROADHOUND_SHARED`) and `python3`; without them it says so and passes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use roadhound_shared::metrics::{Convention, RunScore, ScoreBox};

/// Prints each run as a line `name,assisted` and a line `x,y,w,h` or `nan` for each frame.
const DUMP_TRUTH: &str = "
import sys
sys.path.insert(0, sys.argv[1])
from sequences import load_runs
for run in load_runs(sys.argv[2]):
    print('run', run.name, int(run.assisted), sep=',')
    for box in run.truth:
        print('nan' if box is None else ','.join(repr(float(v)) for v in box))
";

struct Run {
    name: String,
    is_assisted: bool,
    truth: Vec<Option<ScoreBox>>,
}

fn parse_box(line: &str) -> Option<ScoreBox> {
    let values: Vec<f64> = line
        .split(',')
        .map(|value| value.parse().unwrap())
        .collect();
    match values[..] {
        [x, y, w, h] if !values.iter().any(|v| v.is_nan()) => Some(ScoreBox::new(x, y, w, h)),
        _ => None,
    }
}

fn shared_folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = std::env::var_os("ROADHOUND_SHARED").map_or_else(beside, PathBuf::from);
    folder.join("tools/score.py").is_file().then_some(folder)
}

fn load_runs(shared: &Path) -> Vec<Run> {
    let output = Command::new("python3")
        .args(["-B", "-c", DUMP_TRUTH])
        .args([shared.join("tools"), shared.join("data/sequences")])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut runs: Vec<Run> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        if let Some(head) = line.strip_prefix("run,") {
            let (name, assisted) = head.split_once(',').unwrap();
            runs.push(Run {
                name: name.to_owned(),
                is_assisted: assisted == "1",
                truth: Vec::new(),
            });
        } else {
            runs.last_mut().unwrap().truth.push(parse_box(line));
        }
    }
    runs
}

/// A result file of a tracker that is `error` times the target's size off, and sometimes finds nothing.
fn invent_results(
    truth: &[Option<ScoreBox>],
    error: f64,
    random: &mut impl FnMut() -> f64,
) -> String {
    let mut last = ScoreBox::new(10.0, 10.0, 50.0, 50.0);
    let mut text = String::new();
    for truth in truth {
        last = truth.unwrap_or(last);
        let mut jitter = |size: f64| (random() + random() - 1.0) * error * size;
        let (dx, dy) = (jitter(last.w_px), jitter(last.h_px));
        let (w, h) = (
            (last.w_px + jitter(last.w_px)).max(0.0),
            (last.h_px + jitter(last.h_px)).max(0.0),
        );
        if random() < 0.1 {
            text += "nan,nan,nan,nan\n";
        } else if random() < 0.05 {
            // The truth itself: overlap one, distance zero, at the very ends of the thresholds.
            text += &format!("{},{},{},{}\n", last.x_px, last.y_px, last.w_px, last.h_px);
        } else {
            text += &format!(
                "{:.3},{:.3},{w:.3},{h:.3}\n",
                last.x_px + dx,
                last.y_px + dy
            );
        }
    }
    text
}

#[test]
fn every_figure_agrees_with_the_neutral_scorer_to_a_millionth() {
    let Some(shared) = shared_folder() else {
        eprintln!("skipped: no ../shared/tools/score.py beside the workspace");
        return;
    };
    if !Command::new("python3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        eprintln!("skipped: no python3");
        return;
    }
    let runs = load_runs(&shared);
    assert!(
        runs.len() > 10 && runs.iter().any(|run| run.truth[1..].contains(&None)),
        "the sequences are all there"
    );

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("score_agreement_{}", std::process::id()));
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut expected = BTreeMap::new();
    let mut command = Command::new("python3");
    command
        .arg("-B")
        .arg(shared.join("tools/score.py"))
        .arg(shared.join("data/sequences"));
    for (tracker, error) in [("near", 0.1), ("middling", 0.4), ("far", 1.5)] {
        let results = folder.join(tracker);
        fs::create_dir_all(&results).unwrap();
        let mut scores: BTreeMap<&str, Vec<RunScore>> = BTreeMap::new();
        for run in &runs {
            let text = invent_results(&run.truth, error, &mut random);
            fs::write(results.join(format!("{}.txt", run.name)), &text).unwrap();
            let found: Vec<_> = text.lines().map(parse_box).collect();
            let score = RunScore::of(&run.truth, &found, &Convention::default()).unwrap();
            expected.insert((tracker.to_owned(), run.name.clone()), score);
            scores
                .entry(if run.is_assisted {
                    "assisted"
                } else {
                    "genuine"
                })
                .or_default()
                .push(score);
        }
        for (group, scores) in scores {
            let name = format!("MEAN {group} ({})", scores.len());
            expected.insert((tracker.to_owned(), name), RunScore::mean(&scores));
        }
        command.arg(&results);
    }
    let table = folder.join("scores.csv");
    let output = command.arg("--csv").arg(&table).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let text = fs::read_to_string(&table).unwrap();
    let mut lines = text.lines();
    let columns: Vec<_> = lines.next().unwrap().split(',').collect();
    let mut compared = 0;
    for line in lines {
        let row: BTreeMap<_, _> = columns.iter().copied().zip(line.split(',')).collect();
        let ours = expected
            .remove(&(row["tracker"].to_owned(), row["run"].to_owned()))
            .unwrap();
        for (column, ours) in [
            ("frames", ours.frames as f64),
            ("auc", ours.success_auc),
            ("ao", ours.average_overlap),
            ("sr50", ours.success_50),
            ("sr75", ours.success_75),
            ("p20", ours.precision_20px),
            ("np20", ours.normalised_precision_20),
            ("absent", ours.absent as f64),
            ("false_alarm", ours.false_alarms as f64),
        ] {
            let theirs: f64 = row[column].parse().unwrap();
            assert!(
                (ours - theirs).abs() < 1e-6,
                "{} {column}: {ours}, score.py {theirs}",
                row["run"]
            );
            compared += 1;
        }
    }
    assert!(
        expected.is_empty(),
        "score.py left out {:?}",
        expected.keys()
    );
    eprintln!("{compared} figures agree");
    fs::remove_dir_all(&folder).unwrap();
}
