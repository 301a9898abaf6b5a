//! The bundle that an adaptation leaves: new graphs where they were taken, or the source's files as they are.

use std::path::Path;

use anyhow::{Context, Result};
use roadhound_shared::contract::Training;

use super::attempt::Adapted;
use super::measure::Choice;
use super::setting::{PSEUDO, Setting};
use crate::config::SystemConfig;
use crate::export::bundle::{self, Card};
use crate::sampler::{Pair, SamplerScratch, Split};

/// Pairs of each domain that int8 graphs are calibrated on.
const CALIBRATION_PAIRS: u64 = 64;

/// Pairs to quantise graphs by.
pub struct Calibration {
    /// Ranges are taken from these, of both domains.
    pub pairs: Vec<Pair>,
    /// And ways are chosen by these, of the source.
    pub held_out: Vec<Pair>,
}

impl Setting {
    /// Writes the bundle: new graphs, or the source's files as they are.
    /// `quantise` is given the folder of the f32 bundle to add int8 graphs to it.
    ///
    /// # Errors
    /// The file system's, and those of `quantise`.
    pub fn deliver(
        self,
        adapted: Adapted,
        out: &Path,
        quantise: Option<impl FnOnce(&Path, Calibration) -> Result<()>>,
    ) -> Result<()> {
        // That of an earlier run: the folder is a run's own, see `check_own`.
        if out.exists() {
            std::fs::remove_dir_all(out).with_context(|| format!("{}", out.display()))?;
        }
        if !matches!(adapted.choice, Choice::Candidate(_)) {
            return copied(&self.sources.bundle, out);
        }
        let from = &self.files.manifest;
        let mut data = from.training.data.clone();
        let packs = self.run.data.packs.iter().map(|pack| pack.name.clone());
        data.extend(packs.chain([PSEUDO.to_owned()]));
        data.sort();
        data.dedup();
        let m = adapted.measures;
        let card = Card {
            name: format!("{}-adapted", from.name),
            version: from.version.clone(),
            licence: from.licence.clone(),
            tracker: from.tracker,
            training: Training {
                commit: from.training.commit.clone(),
                config_sha256: self.run.hash()?,
                data,
                pairs_seen: from.training.pairs_seen + 2 * self.run.train.pairs,
            },
            scores: [
                ("adapt_agreement_before", self.before.agreement),
                ("adapt_agreement", m.agreement),
                ("adapt_source_auc_before", self.before.source_auc),
                ("adapt_source_auc", m.source_auc),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
            calibration: None,
        };
        bundle::write(adapted.kept, card, out)?;
        if let Some(quantise) = quantise {
            quantise(out, self.calibration()?)?;
        }
        bundle::carry_others(self.files, out)?;
        log::info!("{}: written", out.display());
        Ok(())
    }

    fn calibration(&self) -> Result<Calibration> {
        let mut pairs = Vec::new();
        let mut scratch = SamplerScratch::default();
        let (source, target) = (self.sampler(Split::Train)?, self.target_sampler(true)?);
        for number in 0..CALIBRATION_PAIRS {
            pairs.push(source.draw_number(number, &mut scratch)?);
            pairs.push(target.draw_number(number, &mut scratch)?);
        }
        let held_out = self.held_out.iter();
        let held_out = held_out.flat_map(|batch| (0..batch.len).map(|i| batch.pair(i)));
        Ok(Calibration {
            pairs,
            held_out: held_out.collect(),
        })
    }
}

/// Every file of a bundle, to the byte.
fn copied(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("{}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("{}", from.display()))? {
        let path = entry.with_context(|| format!("{}", from.display()))?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            std::fs::copy(&path, to.join(name)).with_context(|| format!("{}", path.display()))?;
        }
    }
    log::info!("{}: the source bundle, unchanged", to.display());
    Ok(())
}
