//! The bundle that an adaptation leaves: new graphs where they were taken, or the source's files as they are. It is made beside
//! its place, where quantising takes its minutes, and takes the place of an earlier one in a step.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result};
use roadhound_shared::contract::{BundleManifest, MANIFEST_FILE, Training};

use super::attempt::Adapted;
use super::config::{AdaptRun, Part};
use super::measure::Choice;
use super::setting::{PSEUDO, Setting};
use crate::config::SystemConfig;
use crate::export::bundle::{self, Card};
use crate::outputs;
use crate::sampler::{Pair, SamplerScratch, Split};

/// Pairs of each domain that int8 graphs are calibrated on.
const CALIBRATION_PAIRS: u64 = 64;

/// What `quantise` says of int8 graphs, for people.
const QUANTISATION: &str = "QUANTISATION.md";

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
        if !matches!(adapted.choice, Choice::Candidate(_)) {
            put(&files_of(&self.sources.bundle)?, out)?;
            log::info!("{}: the source bundle, unchanged", out.display());
            return Ok(());
        }
        let from = &self.files.manifest;
        let m = adapted.measures;
        let scores = [
            ("adapt_agreement_before", self.before.agreement),
            ("adapt_agreement", m.agreement),
            ("adapt_source_auc_before", Some(self.before.source_auc)),
            ("adapt_source_auc", Some(m.source_auc)),
        ];
        let scores = scores.into_iter();
        let card = Card {
            name: format!("{}-adapted", from.name),
            version: from.version.clone(),
            licence: from.licence.clone(),
            tracker: from.tracker,
            training: training_of(&from.training, &self.run, adapted.pairs_seen)?,
            scores: scores
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect(),
            calibration: None,
        };
        in_one_step(out, |fresh| {
            bundle::write(adapted.kept, card, fresh)?;
            if let Some(quantise) = quantise {
                quantise(fresh, self.calibration()?)?;
            }
            bundle::carry_others(self.files, fresh)
        })?;
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

/// What the card says of the data: that of the source's network, what the parts saw, and the pairs that were learned from.
fn training_of(from: &Training, run: &AdaptRun, pairs: u64) -> Result<Training> {
    let mut data: BTreeSet<String> = from.data.iter().cloned().collect();
    if run.adapt.learns() {
        data.extend(run.data.packs.iter().map(|pack| pack.name.clone()));
    }
    if run.adapt.parts.iter().any(|part| *part != Part::Labelled) {
        data.insert(PSEUDO.to_owned());
    }
    let labelled = run.labelled.pack.as_ref();
    if let Some(pack) = labelled.filter(|_| run.adapt.has(Part::Labelled)) {
        let name = pack.file_name().unwrap_or(pack.as_os_str());
        data.insert(name.to_string_lossy().into_owned());
    }
    Ok(Training {
        commit: from.commit.clone(),
        config_sha256: run.hash()?,
        data: data.into_iter().collect(),
        pairs_seen: from.pairs_seen + pairs,
    })
}

/// Makes a bundle beside `out` and puts it there once it is whole; an error on the way leaves what is at `out` as it is.
fn in_one_step(out: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut name = OsString::from(out.file_name().unwrap_or_default());
    name.push(".partial");
    let fresh = out.with_file_name(name);
    // What a run that was cut off left there.
    let remove = || match std::fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}", fresh.display()))
        }
        _ => Ok(()),
    };
    remove()?;
    let made = make(&fresh).and_then(|()| put(&files_of(&fresh)?, out));
    // The first error is the one to tell.
    made.and(remove())
}

/// Every file in a folder, by name.
fn files_of(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry
            .with_context(|| format!("{}", folder.display()))?
            .path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            let bytes = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
            files.insert(name.to_string_lossy().into_owned(), bytes);
        }
    }
    Ok(files)
}

/// Puts a bundle in the place of an earlier one, of which nothing stays that its manifest lists, nor what was said of its graphs.
fn put(files: &BTreeMap<String, Vec<u8>>, out: &Path) -> Result<()> {
    let earlier = std::fs::read_to_string(out.join(MANIFEST_FILE)).ok();
    let earlier = earlier.and_then(|text| BundleManifest::parse(&text).ok());
    let contents = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    outputs::folder(out, MANIFEST_FILE, contents)?;
    let listed = earlier
        .into_iter()
        .flat_map(|manifest| manifest.files.into_keys());
    let listed = listed.chain([QUANTISATION.to_owned()]);
    for stale in listed.filter(|name| !files.contains_key(name)) {
        let path = out.join(stale);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use anyhow::bail;

    use super::*;

    fn shipped() -> BTreeMap<String, Vec<u8>> {
        files_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/models/roadhound-s")).unwrap()
    }

    #[test]
    fn an_error_on_the_way_leaves_the_earlier_bundle_to_the_byte_and_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("bundle");
        put(&shipped(), &out).unwrap();
        let said = in_one_step(&out, |fresh| {
            assert_ne!(fresh, out);
            std::fs::create_dir_all(fresh)?;
            std::fs::write(fresh.join(MANIFEST_FILE), "half")?;
            bail!("no space left")
        });
        assert_eq!(said.unwrap_err().to_string(), "no space left");
        assert_eq!(files_of(&out).unwrap(), shipped());
        // What was made stays until the next one is made, and is in nobody's way.
        let done = in_one_step(&out, |fresh| {
            assert!(!fresh.exists());
            std::fs::create_dir_all(fresh)?;
            Ok(std::fs::write(fresh.join(MANIFEST_FILE), "whole")?)
        });
        done.unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn graphs_that_the_new_bundle_has_not_do_not_stay_and_notes_do() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("bundle");
        put(&shipped(), &out).unwrap();
        std::fs::write(out.join("notes.md"), "mine").unwrap();
        std::fs::write(out.join(QUANTISATION), "of the int8 graphs").unwrap();
        let mut fewer = shipped();
        assert!(fewer.remove("search.int8.onnx").is_some());
        fewer.remove(QUANTISATION);
        put(&fewer, &out).unwrap();
        assert!(!out.join("search.int8.onnx").exists());
        assert!(!out.join(QUANTISATION).exists());
        assert_eq!(
            std::fs::read_to_string(out.join("notes.md")).unwrap(),
            "mine"
        );
    }

    #[test]
    fn the_card_names_what_the_parts_saw_and_counts_what_they_learned_from() {
        let from = Training {
            commit: "c".into(),
            config_sha256: String::new(),
            data: vec!["source".into()],
            pairs_seen: 100,
        };
        let of = |parts: &[Part]| {
            let mut run = AdaptRun::default();
            run.adapt.parts = parts.iter().copied().collect();
            run.data.packs.truncate(1);
            run.data.packs[0].name = "pack".into();
            run.labelled.pack = Some("sets/dusk".into());
            let pairs = run.adapt.pairs_a_step(8);
            let training = training_of(&from, &run, 10 * pairs).unwrap();
            (training.data.join(" "), training.pairs_seen)
        };
        let is = |data: &str, pairs| (data.to_owned(), pairs);
        // Normalisation moves without learning; of fourier and style the target gives the light alone.
        assert_eq!(of(&[Part::Adabn]), is("pseudo source", 100));
        assert_eq!(of(&[Part::Fourier]), is("pack pseudo source", 180));
        assert_eq!(of(&[Part::Style]), is("pack pseudo source", 180));
        assert_eq!(of(&[Part::Region]), is("pack pseudo source", 260));
        assert_eq!(of(&[Part::Labelled]), is("dusk pack source", 220));
        assert_eq!(
            of(&[Part::Teacher, Part::Labelled]),
            is("dusk pack pseudo source", 300)
        );
    }
}
