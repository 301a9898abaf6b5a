//! Writes the seeds of every fuzz target to where cargo-fuzz looks for its corpus: `tests/fuzz/corpus/TARGET/seed-N`.
//!
//! What crashed once comes along, so that a fuzzer starts from all that is known.

use std::path::Path;

use anyhow::{Context, Result};
use system_tests::fuzz::TARGETS;
use system_tests::{say, workspace};

fn main() -> Result<()> {
    let fuzz = workspace().join("tests/fuzz");
    for target in TARGETS {
        let folder = fuzz.join("corpus").join(target.name);
        make(&folder)?;
        let mut inputs = (target.seeds)();
        let crashed = fuzz.join("regressions").join(target.name);
        for entry in crashed.read_dir().into_iter().flatten() {
            inputs.push(std::fs::read(entry?.path())?);
        }
        for (number, input) in inputs.iter().enumerate() {
            let path = folder.join(format!("seed-{number}"));
            std::fs::write(&path, input).with_context(|| format!("{}", path.display()))?;
        }
        say(&format!("{}: {} inputs", folder.display(), inputs.len()));
    }
    Ok(())
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))
}
