//! Crops of both domains to a [`Restyler`], and how near what it makes comes to the target.
//!
//! In: a [`Setting`]. Out: the restyler, a report of its own in the folder `style` of the run, and a panel with the distances
//! of the source's crops to the target's, as they are, with the target's low frequencies and restyled, as the bundle's own
//! backbone sees them. Nothing of it needs a label of the target.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha8Rng;
use roadhound_shared::preprocess::{Border, CropScratch, CropWindow, crop_rgb8};

use super::swap::Restyler;
use crate::adapt::fourier::swap_low_frequencies;
use crate::adapt::setting::{Setting, drawn};
use crate::batch::Batch;
use crate::checkpoint::Checkpoint;
use crate::config::SystemConfig;
use crate::disentangle::pairs::batches;
use crate::evaluate;
use crate::gap::features::visiting_order;
use crate::gap::pictures::{Picture, PictureSet};
use crate::gap::{self, GapConfig, Table, shuffle};
use crate::labelled::sheet::sheet;
use crate::labelled::{Samples, Shape, Values};
use crate::model::{Pass, TrackerNet};
use crate::ops::images_from_bytes;
use crate::outputs;
use crate::report;
use crate::report::facts::{self, Facts};
use crate::report::panels::{self, Panel};
use crate::systems::System;
use crate::task::Task;
use crate::task::disentangle::{DisentangleNet, DisentangleTask};
use crate::task::track::{PIXEL_MEAN, PIXEL_SCALE};
use crate::train_loop::{Outcome, Run};

/// Name of the folder in the run's.
pub const FOLDER: &str = "style";
/// Crops of one image, at most.
const PER_IMAGE: usize = 4;
/// A recording with fewer crops says nothing of what its crops have in common.
const FEWEST_CROPS: usize = 4;
/// Every so many crops of a recording one is held out: one of the fewest.
const HELD_OUT_EVERY: usize = FEWEST_CROPS;
/// Batches that distances are measured on, at most.
const MEASURED: usize = 60;
/// Pairs on the sheet.
const SHOWN: usize = 12;
/// Added to the seed for what crops are drawn.
const STYLE_SEED: u64 = 0x7374_796c;

/// A crop and the recording that it is from.
struct Crop {
    rgb: Vec<u8>,
    recording: (bool, PathBuf),
}

/// Crops to learn from.
struct Crops {
    train: Samples,
    held_out: Samples,
    /// The classes that are recordings of the target.
    of_target: Vec<u32>,
}

impl Setting {
    fn shape_of_style(&self) -> Shape {
        let side = self.run.style.side_px;
        Shape {
            height: side,
            width: side,
            channels: 3,
        }
    }

    /// Learns, or goes on learning, what manners are; `None` where it was told to stop. What was learned before in this
    /// folder is not learned again.
    ///
    /// # Errors
    /// A domain of which no recording has enough objects; what cannot be read or written.
    pub fn restyler(&self, stop: &AtomicBool, quiet: bool) -> Result<Option<Restyler>> {
        let (style, shape) = (&self.run.style, self.shape_of_style());
        let run = style.learner(self.run.seed);
        let crops = self.samples_of_style()?;
        let (train, held_out) = (Arc::new(crops.train), Arc::new(crops.held_out));
        let config = run.train.of_samples(train.len(), 0.0);
        let mut task = DisentangleTask::new(&run, &train, held_out, Vec::new(), &Device::Cpu)?;
        let folder = self.sources.out.join(FOLDER);
        log::info!(
            "manners of {} recordings, {} crops, {} steps",
            train.class_count(),
            train.len(),
            config.steps()
        );
        let search = &self.files.manifest.files[self.files.manifest.f32_files().search];
        let training = Run {
            folder: folder.clone(),
            config: config.clone(),
            optim: run.optim.clone(),
            // A run does not go on from other crops.
            config_toml: format!(
                "# search graph {}, {} crops of {} recordings\n{}",
                search.sha256,
                train.len(),
                train.class_count(),
                run.to_toml()?
            ),
            stop,
            quiet,
        };
        std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        let here = std::env::current_dir().ok();
        let facts = Facts {
            system: System::Disentangle,
            samples_in_all: config.steps() * config.batch as u64,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: here.and_then(|folder| facts::commit(&folder)),
            seed: run.seed,
            config_sha256: run.hash()?,
            device: "cpu".to_owned(),
            parameters: task.params().parameter_count() as u64,
            ..Facts::default()
        };
        let facts = serde_json::to_vec_pretty(&facts)?;
        outputs::file(&folder.join(facts::FACTS_FILE), facts)?;
        let recordings = rows_of(&train, &crops.of_target);
        let (batch, seed) = (run.train.batch, run.seed);
        let outcome = training.train(&mut task, |step| Ok(batches(train, batch, seed, step)))?;
        if outcome == Outcome::Stopped {
            return Ok(None);
        }
        let learned = Checkpoint::load(&training.last())?.average;
        task.validate(&learned)?;
        panels::write(&folder, &task.panels(&folder)?)?;
        report::refresh(&folder)?;
        let net = DisentangleNet::new(&run, shape, &Device::Cpu)?;
        net.params().restore(&learned)?;
        let (side_px, strength) = (style.side_px, style.strength);
        Ok(Some(Restyler::new(net, side_px, strength, &recordings)?))
    }

    /// Crops of both domains, with recordings for classes.
    fn samples_of_style(&self) -> Result<Crops> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.run.seed.wrapping_add(STYLE_SEED));
        let learned = PictureSet {
            pictures: by_image(self.objects_of_target(|held_out| !held_out)),
            by_sequence: true,
        };
        let mut crops = self.crops_of(&self.bench().source, false, &mut rng)?;
        crops.extend(self.crops_of(&learned, true, &mut rng)?);
        let mut counts: BTreeMap<&(bool, PathBuf), usize> = BTreeMap::new();
        for crop in &crops {
            *counts.entry(&crop.recording).or_default() += 1;
        }
        counts.retain(|_, count| *count >= FEWEST_CROPS);
        for (is_target, of) in [(false, "the source"), (true, "the target")] {
            ensure!(
                counts.keys().any(|recording| recording.0 == is_target),
                "no manner can be learned of {of}: none of its recordings has {FEWEST_CROPS} objects"
            );
        }
        let classes: BTreeMap<&(bool, PathBuf), u32> = counts.into_keys().zip(0..).collect();
        let names = classes.keys().map(|(is_target, path)| {
            let of = if *is_target { "target" } else { "source" };
            format!("{of} {}", path.display())
        });
        let names: Vec<String> = names.collect();
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for crop in &crops {
            if let Some(class) = classes.get(&crop.recording) {
                values.extend_from_slice(&crop.rgb);
                labels.push(*class);
            }
        }
        let all = Samples::new(self.shape_of_style(), Values::Bytes(values), labels, names);
        let all = all.map_err(|reason| anyhow!("crops to learn manners from: {reason}"))?;
        let (train, held_out) = split(all.labels());
        let of_target = classes.iter().filter(|(recording, _)| recording.0);
        Ok(Crops {
            train: all.chosen(&train),
            held_out: all.chosen(&held_out),
            of_target: of_target.map(|(_, class)| *class).collect(),
        })
    }

    /// Crops about objects of a set, as a template or as a search crop is cut, that lie inside their frame.
    fn crops_of(
        &self,
        set: &PictureSet,
        is_target: bool,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Crop>> {
        let (style, contract) = (&self.run.style, &self.files.manifest.follow);
        let accepted = &self.run.data.target;
        let (mut scratch, mut crops) = (CropScratch::default(), Vec::new());
        for picture in visiting_order(set, rng) {
            if crops.len() >= style.crops {
                break;
            }
            let image = evaluate::open(&picture.path)?;
            let shown = || format!("{}", picture.path.display());
            let frame = evaluate::view(&image).with_context(shown)?;
            let (width_px, height_px) = (frame.width_px(), frame.height_px());
            let mut boxes = picture.boxes.clone();
            boxes.retain(|b| accepted.accepts(b, width_px, height_px));
            shuffle(&mut boxes, rng);
            for target in boxes.into_iter().take(PER_IMAGE) {
                // What lies outside the frame has no manner.
                let contexts = [contract.template_context(), contract.search_context()];
                let windows = contexts.map(|context| CropWindow::around(target, context));
                let inside = windows.iter().filter(|w| is_inside(w, width_px, height_px));
                let Some(window) = inside.choose(rng) else {
                    continue;
                };
                let mut rgb = vec![0; self.shape_of_style().len()];
                let side = style.side_px as u32;
                crop_rgb8(&frame, window, side, Border::Mean, &mut scratch, &mut rgb)
                    .with_context(shown)?;
                // Cut into clips, a recording of the target is still one; photographs of the source share a folder.
                let recording = match is_target {
                    true => picture.path.parent().unwrap_or(Path::new("")).to_owned(),
                    false => picture.group.to_string().into(),
                };
                crops.push(Crop {
                    rgb,
                    recording: (is_target, recording),
                });
            }
        }
        Ok(crops)
    }

    /// How near the source's crops come to the target's, as a table; beside it a sheet of crops in the run's folder.
    ///
    /// # Errors
    /// Pictures that cannot be read or written.
    pub fn panels_of_style(&self, restyler: &Restyler, out: &Path) -> Result<Vec<Panel>> {
        let net = self.network()?;
        let batch = self.run.train.batch;
        let count = MEASURED.min(self.run.select.source_batches * 2).max(1) as u64;
        // As they were cut, both: what training changes besides would be measured too.
        let sources = drawn(&self.source_sampler_as_cut()?, batch, count)?;
        let targets = drawn(&self.target_sampler(true)?, batch, count)?;
        let changed = |change: &dyn Fn(&mut Batch, &Batch) -> Result<()>| -> Result<Vec<Batch>> {
            let mut batches = sources.clone();
            for (source, target) in batches.iter_mut().zip(&targets) {
                change(source, target)?;
            }
            Ok(batches)
        };
        // Recordings take turns.
        let restyled = changed(&|source, _| {
            let all = (0..source.len).map(|pair| (pair, pair % restyler.recordings()));
            let all: Vec<(usize, usize)> = all.collect();
            Ok(restyler.restyle_pairs(source, &all)?)
        })?;
        let lit = changed(&|source, target| {
            let length = source.search_px * source.search_px * 3;
            let pairs = source.search_rgb.chunks_exact_mut(length);
            for (crop, of) in pairs.zip(target.search_rgb.chunks_exact(length)) {
                swap_low_frequencies(crop, of, source.search_px, self.run.adapt.fourier_reach);
            }
            Ok(())
        })?;
        let of_target = features(&net, &targets)?;
        let config = GapConfig {
            seed: self.run.seed,
            ..GapConfig::default()
        };
        let mut rows = Vec::new();
        for (name, batches) in [
            ("as they are", &sources),
            ("with the target's low frequencies", &lit),
            ("restyled", &restyled),
        ] {
            // Too few objects to compare leave the table out, not the run.
            let Ok(table) = Table::of("crops", &features(&net, batches)?, &of_target, &config)
            else {
                continue;
            };
            let figures = [
                &table.rows[0].proxy_a,
                &table.rows[0].mmd,
                &table.rows[0].frechet,
            ];
            let cells =
                figures.map(|figure| format!("{:.4} ± {:.4}", figure.mean, figure.deviation));
            rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
        }
        let named = [
            "source crops",
            "proxy-A distance",
            "MMD squared",
            "Frechet distance",
        ];
        let file = "restyled.png";
        let side = self.files.manifest.follow.search_px as usize;
        outputs::picture(
            &out.join(file),
            &sheet_of(&[&sources, &restyled, &lit, &targets], side),
        )?;
        Ok(vec![
            Panel::Table {
                title: "Crops of the source against those of the target".into(),
                columns: named.map(str::to_owned).to_vec(),
                rows,
                note: "Means of the bundle's features over search crops; means and deviations over halves that share no object. Every crop is changed here, of which training changes a share.".into(),
            },
            Panel::Picture {
                title: "In the target's manner".into(),
                file: file.into(),
                note: "Columns are pairs. Search crops of the source as they are cut; restyled after recordings of the target in turn; with the low frequencies of the target's crops in the last row.".into(),
            },
        ])
    }
}

/// Numbers of samples to learn from and to hold out, some of every class: crops come in turns of recordings, so that one
/// crop in so many of all could be all of one recording's.
fn split(labels: &[u32]) -> (Vec<usize>, Vec<usize>) {
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    (0..labels.len()).partition(|at| {
        let seen = seen.entry(labels[*at]).or_default();
        *seen += 1;
        !seen.is_multiple_of(HELD_OUT_EVERY)
    })
}

fn is_inside(window: &CropWindow, width_px: u32, height_px: u32) -> bool {
    let inside = |centre: f32, side: f32, all: u32| {
        centre >= side / 2.0 && centre + side / 2.0 <= all as f32
    };
    inside(window.cx_px, window.w_px, width_px) && inside(window.cy_px, window.h_px, height_px)
}

/// All objects of an image together, so that it is decoded once.
fn by_image(objects: Vec<Picture>) -> Vec<Picture> {
    let mut images: BTreeMap<PathBuf, Picture> = BTreeMap::new();
    for mut object in objects {
        match images.get_mut(&object.path) {
            Some(image) => image.boxes.append(&mut object.boxes),
            None => {
                images.insert(object.path.clone(), object);
            }
        }
    }
    images.into_values().collect()
}

/// Mean features of search crops, grouped by the object on their templates.
fn features(net: &TrackerNet, batches: &[Batch]) -> Result<gap::Samples> {
    let mut rows = Vec::new();
    for batch in batches {
        let shape = (batch.len, batch.search_px, batch.search_px, 3);
        let crops = &batch.search_rgb;
        let crops = images_from_bytes(crops, shape, PIXEL_MEAN, PIXEL_SCALE, &Device::Cpu)?;
        let features: Tensor = net.features(&crops, Pass::Eval)?.mean((1, 2))?;
        for (row, instance) in features.to_vec2::<f32>()?.iter().zip(&batch.instance) {
            let group = (*instance ^ (*instance >> 32)) as u32;
            rows.push((row.iter().map(|v| f64::from(*v)).collect(), group));
        }
    }
    Ok(gap::Samples::new(rows))
}

/// Samples of each of these classes.
fn rows_of(samples: &Samples, classes: &[u32]) -> Vec<Vec<Vec<f32>>> {
    let by_class = samples.by_class();
    let of = classes
        .iter()
        .filter_map(|class| by_class.get(*class as usize));
    of.filter(|indices| !indices.is_empty())
        .map(|indices| indices.iter().map(|index| samples.row(*index)).collect())
        .collect()
}

/// A row of search crops for each of `rows`.
fn sheet_of(rows: &[&[Batch]], side: usize) -> image::RgbImage {
    let length = side * side * 3;
    let row = |batches: &&[Batch]| -> Vec<Vec<f32>> {
        let crops = batches
            .iter()
            .flat_map(|b| b.search_rgb.chunks_exact(length));
        let unit = |crop: &[u8]| crop.iter().map(|v| f32::from(*v) / 255.0).collect();
        crops.take(SHOWN).map(unit).collect()
    };
    let rows: Vec<Vec<Vec<f32>>> = rows.iter().map(row).collect();
    let shape = Shape {
        height: side,
        width: side,
        channels: 3,
    };
    sheet(&rows, shape)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::Rng;

    use super::*;
    use crate::adapt::style::StyleConfig;
    use crate::model::stack::StackConfig;
    use crate::optim::AdamW;

    const SIDE: usize = 16;

    /// Squares somewhere on a ground; of the first two recordings the ground is green, of the others it is dark and blue.
    fn crops(seed: u64) -> Samples {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for number in 0..80 {
            let recording = number % 4;
            let ground = match recording < 2 {
                true => [120, 180 + 20 * recording as u8, 110],
                false => [20, 40, 60 + 20 * recording as u8],
            };
            let (left, top) = (rng.random_range(1..9), rng.random_range(1..9));
            for at in 0..SIDE * SIDE {
                let (x, y) = (at % SIDE, at / SIDE);
                let inside = (left..left + 6).contains(&x) && (top..top + 6).contains(&y);
                values.extend(if inside { [230, 30, 30] } else { ground });
            }
            labels.push(recording as u32);
        }
        let shape = Shape {
            height: SIDE,
            width: SIDE,
            channels: 3,
        };
        Samples::new(shape, Values::Bytes(values), labels, Vec::new()).unwrap()
    }

    #[test]
    fn some_crops_of_every_recording_are_held_out_and_most_are_learned_from() {
        // Four recordings in turn: one crop in four of all would be all of the last one's.
        let labels: Vec<u32> = (0..40).map(|at| at % 4).chain([4; 4]).collect();
        let (train, held_out) = split(&labels);
        let of = |numbers: &[usize], class: u32| {
            let wanted = |at: &&usize| labels[**at] == class;
            numbers.iter().filter(wanted).count()
        };
        assert!((0..4).all(|class| (of(&train, class), of(&held_out, class)) == (8, 2)));
        assert_eq!((of(&train, 4), of(&held_out, 4)), (3, 1));
    }

    #[test]
    fn objects_of_one_image_come_together() {
        let object = |path: &str, x: f32| Picture {
            path: path.into(),
            group: 3,
            boxes: vec![roadhound_shared::geometry::BoxXywh::new(x, 0.0, 9.0, 9.0)],
        };
        let images = by_image(vec![object("b", 1.0), object("a", 2.0), object("b", 3.0)]);
        let boxes: Vec<Vec<f32>> = images
            .iter()
            .map(|i| i.boxes.iter().map(|b| b.x_px).collect())
            .collect();
        assert_eq!(boxes, [vec![2.0], vec![1.0, 3.0]]);
    }

    #[test]
    fn what_recordings_have_in_common_is_learned_and_put_on_others_whose_objects_stay_in_their_places()
     {
        let style = StyleConfig {
            side_px: SIDE,
            class_code: 4,
            rest_code: 8,
            divergence: 0.3,
            network: StackConfig {
                channels: vec![8, 16],
                widths: vec![32],
                ..StackConfig::default()
            },
            ..StyleConfig::default()
        };
        let (run, all) = (style.learner(1), Arc::new(crops(1)));
        let task = DisentangleTask::new(&run, &all, all.clone(), Vec::new(), &Device::Cpu).unwrap();
        let players = task.players();
        let mut adams = vec![AdamW::default(); players.len()];
        let steps = batches(all.clone(), 16, 1, 0).zip(0..).take(400);
        for (batch, step) in steps {
            let batch = batch.unwrap();
            for (number, player) in players.iter().enumerate() {
                let loss = task.turn(number, &batch, step).unwrap().loss;
                let gradients = loss.total.backward().unwrap();
                let adam = &mut adams[number];
                adam.step(&player.params, &gradients, 3e-3, &run.optim)
                    .unwrap();
            }
        }
        let net = DisentangleNet::new(&run, all.shape(), &Device::Cpu).unwrap();
        net.params()
            .restore(&task.params().snapshot().unwrap())
            .unwrap();
        let restyler = Restyler::new(net, SIDE, 1.0, &rows_of(&all, &[2, 3])).unwrap();
        let bytes = |wanted: fn(u32) -> bool| -> Vec<u8> {
            let of = (0..all.len()).filter(|i| wanted(all.labels()[*i]));
            all.rows(of)
                .iter()
                .map(|v| (v * 255.0).round() as u8)
                .collect()
        };
        let (source, target) = (bytes(|r| r < 2), bytes(|r| r >= 2));
        let mut restyled = source.clone();
        let turns: Vec<usize> = (0..source.len() / (SIDE * SIDE * 3))
            .map(|i| i % 2)
            .collect();
        restyler.restyle(&mut restyled, SIDE, &turns).unwrap();
        // Distances of the ground, and of objects from what they were, in grey levels.
        let is_object = |pixel: &[u8]| pixel[0] > 200 && pixel[1] < 60;
        let apart = |a: &[u8], b: &[u8]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(a.abs_diff(*b)))
                .sum::<f64>()
                / 3.0
        };
        let (mut before, mut after, mut ground, mut moved, mut objects) = (0.0, 0.0, 0, 0.0, 0);
        let pixels = source
            .chunks_exact(3)
            .zip(restyled.chunks_exact(3))
            .zip(target.chunks_exact(3));
        for ((old, new), of) in pixels {
            if is_object(old) {
                moved += apart(new, old);
                objects += 1;
            } else if !is_object(of) {
                before += apart(old, of);
                after += apart(new, of);
                ground += 1;
            }
        }
        let (before, after) = (before / f64::from(ground), after / f64::from(ground));
        let moved = moved / f64::from(objects);
        assert!(before > 80.0, "{before}");
        assert!(after < 0.35 * before, "{before} to {after}");
        assert!(
            moved < 0.5 * before,
            "objects moved by {moved}, the ground by {before}"
        );
    }
}
