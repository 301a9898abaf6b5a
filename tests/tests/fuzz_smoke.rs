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

use roadhound_shared::mix::SplitMix64;
use system_tests::fuzz::TARGETS;
use system_tests::workspace;

/// No input keeps a parser busy for longer, on a machine with neighbours.
const MOST_TIME: Duration = Duration::from_secs(10);

struct Dice(SplitMix64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0.next()
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// What breaks parsers: numbers at the edges of their types, the brackets of every format, lengths that lie.
const TOKENS: &[&[u8]] = &[
    b"0",
    b"-1",
    b"nan",
    b"inf",
    b"1e39",
    b"4294967296",
    b"-9223372036854775808",
    b"18446744073709551615",
    b",",
    b"\n",
    b"\0",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"<",
    b"</",
    b"&#x0;",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\xff\xd8",
    b"\xff\xc0",
    b"\xc3\x28",
    b"\xf0\x9f\x9a\x97",
    b"null",
    b"true",
    b"../",
    b":",
];

fn mutate(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + dice.below(4) {
        let at = dice
            .below(bytes.len() + 1)
            .min(bytes.len().saturating_sub(1));
        match dice.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            1 if !bytes.is_empty() => bytes[at] = dice.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let token = TOKENS[dice.below(TOKENS.len())];
                bytes.splice(at..at, token.iter().copied());
            }
            4 => {
                let token = TOKENS[dice.below(TOKENS.len())];
                let end = (at + token.len()).min(bytes.len());
                bytes.splice(at..end, token.iter().copied());
            }
            5 => {
                let end = (at + dice.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + dice.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
    bytes
}

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
    let seed = asked("ROADHOUND_FUZZ_SEED").unwrap_or(7);
    for target in targets() {
        let seeds = (target.seeds)();
        assert!(
            !seeds.is_empty() && seeds.iter().all(|seed| !seed.is_empty()),
            "{}: an empty seed",
            target.name
        );
        let started = Instant::now();
        let mut inputs: Vec<Vec<u8>> = seeds.clone();
        inputs.extend(regressions(target.name).into_iter().map(|(_, bytes)| bytes));
        let mut dice = Dice(SplitMix64(
            target.name.bytes().fold(seed, |hash: u64, byte| {
                hash.wrapping_mul(31).wrapping_add(u64::from(byte))
            }),
        ));
        let rounds = asked("ROADHOUND_FUZZ_ROUNDS").unwrap_or(target.smoke_rounds);
        for round in 0..rounds {
            inputs.push(mutate(&seeds[round % seeds.len()], &mut dice));
        }
        let count = inputs.len();
        for (index, input) in inputs.into_iter().enumerate() {
            let begun = Instant::now();
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
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
