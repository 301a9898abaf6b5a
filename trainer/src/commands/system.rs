//! What the commands of the learning systems have in common.

use std::path::Path;

use anyhow::{Context, Result};
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::outputs;
use roadhound_trainer::report::facts::{FACTS_FILE, Facts, commit};
use roadhound_trainer::systems::System;

/// Where the saved model lies in a run's folder.
pub(super) const MODEL_FOLDER: &str = "model";

/// Writes what is known before a run starts: `config.toml` and `facts.json`.
pub(super) fn begin(
    out: &Path,
    system: System,
    run: &impl SystemConfig,
    seed: u64,
    parameters: u64,
) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
    outputs::file(&out.join("config.toml"), run.to_toml()?)?;
    let here = std::env::current_dir().ok();
    let facts = Facts {
        system,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: here.and_then(|folder| commit(&folder)),
        seed,
        config_sha256: run.hash()?,
        device: "cpu".into(),
        parameters,
        ..Facts::default()
    };
    outputs::file(&out.join(FACTS_FILE), serde_json::to_vec_pretty(&facts)?)
}
