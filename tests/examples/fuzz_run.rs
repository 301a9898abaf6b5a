//! Feeds millions of mutations to the fuzz targets, on stable and without coverage: `fuzz_run [INPUTS [TARGET...]]`.
//!
//! Targets take turns of a second until each has had its share of the INPUTS (ten million by itself): the same number for a
//! slow one as for a fast one. Without names, those of the board: its configuration, what cameras deliver, requests,
//! commands, and what a power cut leaves. An input that panics or takes ten seconds ends the run with status 1 and is kept.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use system_tests::fuzz::mutate::{Dice, mutate};
use system_tests::fuzz::{Target, find};
use system_tests::say;

/// What strangers can hand to a board.
const OF_THE_BOARD: &[&str] = &[
    "board_config",
    "live_frame",
    "jpeg",
    "avi",
    "recording",
    "http",
    "control",
];
const TURN: Duration = Duration::from_secs(1);
const MOST_TIME: Duration = Duration::from_secs(10);
/// How often to say how far it is.
const EVERY: Duration = Duration::from_secs(60);

struct Run {
    target: &'static Target,
    seeds: Vec<Vec<u8>>,
    dice: Dice,
    inputs: u64,
    took: Duration,
}

impl Run {
    fn turn(&mut self, most: u64) -> Result<u64> {
        let (began, before) = (Instant::now(), self.inputs);
        while began.elapsed() < TURN && self.inputs - before < most {
            let input = mutate(&self.seeds, &mut self.dice);
            let begun = Instant::now();
            let outcome = std::panic::catch_unwind(|| self.target.feed(&input));
            let took = begun.elapsed();
            if outcome.is_err() || took > MOST_TIME {
                let (name, count) = (self.target.name, self.inputs);
                let kept = std::env::temp_dir().join(format!("fuzz-{name}-{count}"));
                std::fs::write(&kept, &input).with_context(|| format!("{}", kept.display()))?;
                bail!(
                    "{name}: input {count} after {took:?}, kept as {}",
                    kept.display()
                );
            }
            self.inputs += 1;
        }
        self.took += began.elapsed();
        Ok(self.inputs - before)
    }

    fn line(&self) -> String {
        let seconds = self.took.as_secs_f64();
        format!(
            "{:>14}: {:>9} inputs in {seconds:>7.1} s, {:.0} a second",
            self.target.name,
            self.inputs,
            self.inputs as f64 / seconds.max(1e-9)
        )
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let wanted: u64 = match arguments.next() {
        Some(text) => text
            .parse()
            .with_context(|| format!("'{text}' is no count"))?,
        None => 10_000_000,
    };
    let names: Vec<String> = arguments.collect();
    let names = match names.is_empty() {
        true => OF_THE_BOARD.iter().map(ToString::to_string).collect(),
        false => names,
    };
    let mut runs = names
        .iter()
        .map(|name| {
            let target = find(name).with_context(|| format!("no target '{name}'"))?;
            Ok(Run {
                target,
                seeds: (target.seeds)(),
                // Not the mutations of the test.
                dice: Dice::of(name, 1),
                inputs: 0,
                took: Duration::ZERO,
            })
        })
        .collect::<Result<Vec<Run>>>()?;
    let share = wanted.div_ceil(runs.len() as u64);
    let (began, mut said_at, mut done) = (Instant::now(), Instant::now(), 0);
    while runs.iter().any(|run| run.inputs < share) {
        for run in &mut runs {
            done += run.turn(share - run.inputs)?;
        }
        if said_at.elapsed() > EVERY {
            said_at = Instant::now();
            runs.iter().for_each(|run| say(&run.line()));
            say(&format!(
                "{done} inputs in {:.0} s",
                began.elapsed().as_secs_f64()
            ));
        }
    }
    runs.iter().for_each(|run| say(&run.line()));
    say(&format!(
        "{done} inputs in {:.0} s, no panic",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(&format!("{e:#}"));
            ExitCode::FAILURE
        }
    }
}
