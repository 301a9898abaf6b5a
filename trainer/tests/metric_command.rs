//! `metric` as a program: what it leaves behind, and how it refuses.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output};

use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::export::package;
use roadhound_trainer::optim::AdamW;
use roadhound_trainer::params::Snapshot;

fn program(folder: &Path, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roadhound-train"))
        .args(words.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Two classes that the first column tells apart and the second hides.
fn write_table(folder: &Path) {
    let rows = (0..40).map(|i| {
        let class = i % 2;
        format!("{},{},{class}\n", class * 4 + i % 5, 7 * i % 31)
    });
    std::fs::write(folder.join("t.csv"), rows.collect::<String>()).unwrap();
}

const CONFIG: &str = "[data]\nroot = \".\"\n[data.train]\nkind = \"csv\"\npath = \"t.csv\"\n[evaluate]\nfolds = 4\nrepeats = 2\n";

#[test]
fn a_run_leaves_report_logs_and_a_model_that_passes_its_own_probe() {
    let folder = tempfile::tempdir().unwrap();
    write_table(folder.path());
    std::fs::write(folder.path().join("c.toml"), CONFIG).unwrap();
    // Twice: the second run replaces what the first has left.
    for _ in 0..2 {
        let output = program(folder.path(), "metric --config c.toml --out run --quiet");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    let run = folder.path().join("run");
    let html = std::fs::read_to_string(run.join("report.html")).unwrap();
    for part in [
        "Distance metric: run",
        "Learners",
        "itml",
        "Eigenvalues of M",
        "objective",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let losses = std::fs::read_to_string(run.join("losses.csv")).unwrap();
    assert_eq!(
        losses.matches("step,samples,objective").count(),
        1,
        "{losses}"
    );
    let packed = package::read(&run.join("model")).unwrap();
    assert!(
        packed.manifest.scores["accuracy_lmnn"] > 0.8,
        "{:?}",
        packed.manifest.scores
    );
    let m = String::from_utf8(packed.files["M.csv"].clone()).unwrap();
    let values: Vec<f64> = m
        .lines()
        .flat_map(|line| line.split(',').map(|v| v.parse().unwrap()))
        .collect();
    assert_eq!(values.len(), 4);
    assert_eq!(values[1], values[2], "symmetric");
    assert!(values[0] > values[3], "the first column counts: {values:?}");
}

#[test]
fn what_cannot_be_used_is_one_line_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write_table(folder.path());
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("missing.toml", &CONFIG.replace("t.csv", "none.csv"));
    write("key.toml", &format!("sed = 1\n{CONFIG}"));
    write("pairs.toml", &format!("pairs = \"t.csv\"\n{CONFIG}"));
    for (words, part) in [
        ("metric --config missing.toml --out o", "none.csv: "),
        (
            "metric --config key.toml --out o",
            "key.toml: line 1: unknown field `sed`",
        ),
        ("metric --config pairs.toml --out o", "t.csv:1: header is "),
        ("metric --config none.toml --out o", "none.toml: "),
    ] {
        let output = program(folder.path(), words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(part) && said.trim_end().lines().count() == 1,
            "{said}"
        );
        assert!(!folder.path().join("o").exists(), "{words}");
    }
}

#[test]
fn the_folder_of_another_run_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    write_table(folder.path());
    std::fs::write(folder.path().join("c.toml"), CONFIG).unwrap();
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let trained = Checkpoint {
        step: 7,
        weights: Snapshot::default(),
        average: Snapshot::default(),
        adam: AdamW::default(),
        other_adams: Vec::new(),
        config_toml: "seed = 1\n".into(),
    };
    trained.save(&run.join("last.safetensors")).unwrap();
    let files = ["config.toml", "facts.json", "losses.csv"].map(|name| run.join(name));
    for file in &files {
        std::fs::write(file, "a week of training").unwrap();
    }
    let output = program(folder.path(), "metric --config c.toml --out run --quiet");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("made with another configuration"), "{said}");
    for file in &files {
        let now = std::fs::read_to_string(file).unwrap();
        assert_eq!(now, "a week of training", "{}", file.display());
    }
    assert_eq!(std::fs::read_dir(&run).unwrap().count(), 4);
}
