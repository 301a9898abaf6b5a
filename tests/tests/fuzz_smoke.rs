//! The fuzz targets without a fuzzer: seeds, every input that once crashed, and seeded mutations of both.
//!
//! The same bytes on every run and machine. What libFuzzer finds is put under `tests/fuzz/regressions/TARGET/` and is
//! replayed here for ever. A longer session, of one target and with other mutations:
//!
//! ```sh
//! ROADHOUND_FUZZ_TARGET=onnx_int8 ROADHOUND_FUZZ_ROUNDS=100000 ROADHOUND_FUZZ_SEED=2 \
//!     cargo test --release -p system-tests --test fuzz_smoke no_target -- --nocapture
//! ```
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use system_tests::fuzz::TARGETS;
use system_tests::fuzz::mutate::{Dice, mutate};
use system_tests::workspace;

/// No input keeps a parser busy for longer, on a machine with neighbours.
const MOST_TIME: Duration = Duration::from_secs(10);

fn regressions(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = workspace().join("tests/fuzz/regressions").join(target);
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

/// A number from the environment.
fn asked<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{variable}={text} is no number");
    number
}

#[test]
fn no_target_panics_or_hangs_on_seeds_regressions_and_mutations() {
    let only = std::env::var("ROADHOUND_FUZZ_TARGET").ok();
    let targets = || {
        let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
        TARGETS.iter().filter(move |target| wanted(target.name))
    };
    assert!(targets().count() > 0, "no target is named {only:?}");
    let seed: u64 = asked("ROADHOUND_FUZZ_SEED").unwrap_or(7);
    for target in targets() {
        let seeds = (target.seeds)();
        assert!(
            !seeds.is_empty() && seeds.iter().all(|seed| !seed.is_empty()),
            "{}: an empty seed",
            target.name
        );
        let started = Instant::now();
        let crashed = regressions(target.name).into_iter().map(|(_, bytes)| bytes);
        let known: Vec<Vec<u8>> = seeds.into_iter().chain(crashed).collect();
        let mut inputs = known.clone();
        let mut dice = Dice::of(target.name, seed);
        let rounds = asked("ROADHOUND_FUZZ_ROUNDS").unwrap_or(target.smoke_rounds);
        for _ in 0..rounds {
            inputs.push(mutate(&known, &mut dice));
        }
        let count = inputs.len();
        for (index, input) in inputs.into_iter().enumerate() {
            let begun = Instant::now();
            let outcome = std::panic::catch_unwind(|| target.feed(&input));
            let took = begun.elapsed();
            if outcome.is_err() || took > MOST_TIME {
                let kept = std::env::temp_dir().join(format!("fuzz-{}-{index}", target.name));
                std::fs::write(&kept, &input).unwrap();
                panic!(
                    "{}: input {index} after {took:?}, kept as {}",
                    target.name,
                    kept.display()
                );
            }
        }
        eprintln!(
            "{}: {count} inputs in {:.2} s",
            target.name,
            started.elapsed().as_secs_f64()
        );
    }
}

#[test]
fn seeds_of_graphs_can_be_loaded() {
    let loaded = system_tests::fuzz::load_seeds();
    assert_eq!(loaded, Ok(()));
}

#[test]
fn every_target_has_its_fuzzer() {
    let folder = workspace().join("tests/fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{}\"", target.name)),
            "{}",
            target.name
        );
        let main = std::fs::read_to_string(folder.join(format!("fuzz_targets/{}.rs", target.name)))
            .unwrap();
        assert!(
            main.contains(&format!("\"{}\"", target.name)),
            "{}",
            target.name
        );
    }
    assert_eq!(
        std::fs::read_dir(folder.join("fuzz_targets"))
            .unwrap()
            .count(),
        TARGETS.len()
    );
}
