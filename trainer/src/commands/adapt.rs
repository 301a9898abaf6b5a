//! `roadhound-train adapt`: a bundle, labelled packs of its source and unlabelled video of a target in; a bundle for the
//! target out, or the same one again where nothing speaks for the new one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use roadhound_shared::contract::Training;
use roadhound_shared::follow::Follower;
use roadhound_shared::metrics::RunScore;
use roadhound_shared::propose::finder::Finder;
use roadhound_trainer::adapt::batches::{Batches, Swap, weak_of};
use roadhound_trainer::adapt::clips::{self, Clip};
use roadhound_trainer::adapt::config::{AdaptRun, Part};
use roadhound_trainer::adapt::measure::{Bench, Choice, Measures};
use roadhound_trainer::adapt::pseudo::{self, Candidate, Harvest};
use roadhound_trainer::batch::{Batch, PrefetchConfig, Prefetcher};
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::SystemConfig;
use roadhound_trainer::data::layout::Layout;
use roadhound_trainer::data::{DataConfig, Dataset, PackConfig, PackKind, ReadConfig};
use roadhound_trainer::evaluate;
use roadhound_trainer::export::bundle::{self, BundleFiles, Card};
use roadhound_trainer::export::interpret::OnnxNetwork;
use roadhound_trainer::export::propose::OnnxProposer;
use roadhound_trainer::export::unfold::{geometry_of_bundle, network_from_bundle};
use roadhound_trainer::gap::NEEDED_GROUPS;
use roadhound_trainer::gap::pictures::{Picture, PictureSet};
use roadhound_trainer::model::{ModelConfig, TrackerNet};
use roadhound_trainer::outputs;
use roadhound_trainer::params::Snapshot;
use roadhound_trainer::report::panels::{self, Figure, Panel};
use roadhound_trainer::report::{self, facts};
use roadhound_trainer::sampler::{Pair, Sampler, SamplerScratch, Split};
use roadhound_trainer::systems::System;
use roadhound_trainer::task::Task;
use roadhound_trainer::task::adapt::{AdaptTask, Parts};
use roadhound_trainer::task::track::TrackTask;
use roadhound_trainer::train_loop::{Outcome, Run};

use super::quantise::quantise_follow;
use super::system::check_own;
use super::{STOP, VALIDATION_SEED, network_of, parse_threads, set_out};

/// Name of the pack of pseudo-tracks.
const PSEUDO: &str = "pseudo";
/// Added to the seed for the target's pairs.
const TARGET_SEED: u64 = 0x7467_7470;
/// Pairs of each domain that int8 graphs are calibrated on.
const CALIBRATION_PAIRS: u64 = 64;

#[derive(clap::Args)]
pub(crate) struct AdaptArguments {
    /// Bundle of the source; it is not changed.
    #[arg(long)]
    bundle: PathBuf,
    /// Unlabelled video of the target: folders of frames, or folders of such folders.
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    target: Vec<PathBuf>,
    /// Folder of the run; the bundle is written to its `bundle`.
    #[arg(long)]
    out: PathBuf,
    /// TOML file; every key has a default.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Folder of the source's labelled packs, instead of the configuration's.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Checkpoint that the bundle was exported from: its normalisation need not be measured anew.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Another bundle, whose proposals say where pseudo-tracks may begin.
    #[arg(long, value_name = "BUNDLE")]
    proposals: Option<PathBuf>,
    /// Parts that take part, instead of the configuration's.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Also adapt by each part alone, and tabulate.
    #[arg(long)]
    ablate: bool,
    /// Annotated sequences to score the bundles on, before and after; what they say chooses nothing.
    #[arg(long, num_args = 1.., value_name = "FOLDER")]
    score: Vec<PathBuf>,
    /// Pairs to learn from, instead of the configuration's.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pairs: Option<u64>,
    /// Everything random follows from it, instead of the configuration's.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads of the arithmetic, instead of the configuration's. They do not change the weights.
    #[arg(long, value_parser = parse_threads)]
    threads: Option<usize>,
    /// No int8 graphs.
    #[arg(long)]
    no_int8: bool,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
}

impl AdaptArguments {
    /// Where the bundle goes.
    fn bundle_out(&self) -> PathBuf {
        self.out.join("bundle")
    }
}

/// Everything that adaptations by different parts share.
struct World<'a> {
    arguments: &'a AdaptArguments,
    run: AdaptRun,
    files: BundleFiles,
    model: ModelConfig,
    clips: Vec<Clip>,
    harvest: Harvest,
    source: Arc<Dataset>,
    target: Arc<Dataset>,
    held_out: Vec<Batch>,
    before: Measures,
}

/// What an adaptation came to.
struct Adapted {
    name: String,
    measures: Measures,
    choice: Choice,
    /// What is kept: the source's where nothing better was found.
    kept: TrackerNet,
    scores: Vec<f64>,
}

pub(crate) fn adapt(arguments: &AdaptArguments) -> Result<()> {
    let run = run_of(arguments)?;
    check_own(&arguments.out, System::Adapt)?;
    for bundle in [Some(&arguments.bundle), arguments.proposals.as_ref()] {
        let same =
            bundle.map(|bundle| (bundle.canonicalize(), arguments.bundle_out().canonicalize()));
        if let Some((Ok(bundle), Ok(out))) = same
            && bundle == out
        {
            bail!(
                "{}: would be written over; give --out another folder",
                bundle.display()
            );
        }
    }
    set_out(run.compute.threads)?;
    let mut world = World::open(arguments, run)?;
    world.before = world.measured_before()?;
    let scored_before = world.scores(&world.network()?)?;
    let mut rows = vec![world.row("source", "-", &world.before, &scored_before)];

    let parts = world.run.adapt.parts.clone();
    let Some(adapted) = world.adapted(&parts, &arguments.out)? else {
        log::info!("stopped; the same command goes on");
        return Ok(());
    };
    rows.push(world.row_of(&adapted));
    if arguments.ablate {
        for part in Part::ALL {
            let out = arguments.out.join("parts").join(part.name());
            let Some(alone) = world.adapted(&[part].into(), &out)? else {
                return Ok(());
            };
            rows.push(world.row_of(&alone));
        }
    }
    let csv: String = std::iter::once(world.head())
        .chain(rows.iter().cloned())
        .map(|row| row.join(",") + "\n")
        .collect();
    outputs::file(&arguments.out.join("ablation.csv"), csv)?;
    let shown = world.panels(&adapted, &scored_before, &rows);
    panels::write(&arguments.out, &shown)?;
    report::refresh(&arguments.out)?;
    print(&world.head(), &rows, adapted.choice);
    world.write(adapted)
}

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
fn print(head: &[String], rows: &[Vec<String>], choice: Choice) {
    for row in std::iter::once(head).chain(rows.iter().map(Vec::as_slice)) {
        let line = row
            .iter()
            .skip(1)
            .fold(format!("{:<28}", row[0]), |mut line, field| {
                let _ = write!(line, " {field:>16}");
                line
            });
        println!("{line}");
    }
    println!("{}", choice.sentence());
}

fn run_of(arguments: &AdaptArguments) -> Result<AdaptRun> {
    let mut run = match &arguments.config {
        Some(path) => AdaptRun::load(path)?,
        None => AdaptRun::default(),
    };
    if let Some(root) = &arguments.data {
        run.data.root.clone_from(root);
    }
    if !arguments.parts.is_empty() {
        run.adapt.parts = arguments.parts.iter().copied().collect();
    }
    run.train.pairs = arguments.pairs.unwrap_or(run.train.pairs);
    run.seed = arguments.seed.unwrap_or(run.seed);
    run.compute.threads = arguments.threads.unwrap_or(run.compute.threads);
    run.validate()?;
    Ok(run)
}

impl<'a> World<'a> {
    fn open(arguments: &'a AdaptArguments, mut run: AdaptRun) -> Result<Self> {
        let files = bundle::read(&arguments.bundle)?;
        let model = geometry_of_bundle(&arguments.bundle)?;
        run.sampler.template_crop_px = model.template_px as u32;
        run.sampler.search_crop_px = model.search_px as u32;
        let clips = clips::open(&arguments.target, &run.clips)?;
        let frames: usize = clips.iter().map(|clip| clip.frames.len()).sum();
        log::info!("{} clips of unlabelled video, {frames} frames", clips.len());
        let source = Arc::new(Dataset::open(&run.data)?);
        let harvest = harvest(arguments, &run, &files, &clips)?;
        log::info!("{}", harvest.line());
        begin(&arguments.out)?;
        let folder = arguments.out.join(PSEUDO);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        }
        let learned = |track: &pseudo::PseudoTrack| !clips[track.from.clip].held_out;
        ensure!(
            harvest.tracks.iter().any(learned),
            "{}: nothing to learn from in {} clips: {}",
            arguments.target[0].display(),
            clips.len(),
            harvest.line()
        );
        let held_out = pseudo::write_pack(&folder, &clips, &harvest.tracks)?;
        let target = DataConfig {
            root: arguments.out.clone(),
            packs: vec![PackConfig {
                name: PSEUDO.into(),
                kind: PackKind::Video,
                weight: 1.0,
                path: None,
                held_out: Some(held_out),
                fixed_camera_prefixes: Vec::new(),
                read: ReadConfig::default(),
            }],
            ..run.data.clone()
        };
        let target = Arc::new(Dataset::open(&target)?);
        let mut world = Self {
            arguments,
            run,
            files,
            model,
            clips,
            harvest,
            source,
            target,
            held_out: Vec::new(),
            before: Measures::default(),
        };
        let held_out = world.sampler(Split::Validation)?;
        let (batch, count) = (
            world.run.train.batch,
            world.run.select.source_batches as u64,
        );
        world.held_out = drawn(&held_out, batch, count)?;
        Ok(world)
    }

    /// Of the source.
    fn sampler(&self, split: Split) -> Result<Sampler> {
        let run = &self.run;
        let seed = match split {
            Split::Train => run.seed,
            Split::Validation => run.seed.wrapping_add(VALIDATION_SEED),
        };
        let (sampler, augment) = (run.sampler.clone(), run.augment.clone());
        Ok(Sampler::new(
            self.source.clone(),
            sampler,
            augment,
            split,
            seed,
        )?)
    }

    /// Of the target, changed or as it was cut.
    fn target_sampler(&self, is_weak: bool) -> Result<Sampler> {
        let run = &self.run;
        let augment = match is_weak {
            true => weak_of(&run.augment),
            false => run.augment.clone(),
        };
        let (data, sampler) = (self.target.clone(), run.sampler.clone());
        let seed = run.seed.wrapping_add(TARGET_SEED);
        Ok(Sampler::new(data, sampler, augment, Split::Train, seed)?)
    }

    /// The bundle's network, to be trained.
    fn network(&self) -> Result<TrackerNet> {
        let (run, arguments) = (&self.run, self.arguments);
        let Some(path) = &arguments.checkpoint else {
            return network_from_bundle(&arguments.bundle, &self.model, run.seed, &Device::Cpu);
        };
        let (net, ..) = network_of(path)?;
        ensure!(
            *net.config() == self.model,
            "{}: a network of another architecture than {}",
            path.display(),
            arguments.bundle.display()
        );
        if let Some(c) = &self.files.manifest.calibration {
            net.scale_presence(c.scale as f32, c.bias as f32)?;
        }
        Ok(net)
    }

    fn track_task(&self) -> Result<TrackTask> {
        let run = &self.run;
        let average = TrackerNet::new(&self.model, run.seed, &Device::Cpu)?;
        let (net, loss, precision) = (self.network()?, run.loss.clone(), run.compute.precision);
        let held_out = self.held_out.clone();
        let device = Device::Cpu;
        let task = TrackTask::new(net, average, loss, precision, run.seed, &device, held_out);
        if self.arguments.checkpoint.is_none() {
            let (batch, count) = (run.train.batch, run.select.norm_batches);
            task.settle(&drawn(&self.sampler(Split::Train)?, batch, count)?)?;
        }
        Ok(task)
    }

    fn bench(&self) -> Bench {
        let mut source = PictureSet {
            by_sequence: true,
            ..PictureSet::default()
        };
        let mut group = 0;
        for pack in self.source.packs() {
            for loaded in &pack.sequences {
                for (frame, image) in loaded.sequence.frames.iter().zip(&loaded.images) {
                    let [across, down] = self.source.store().loaded_from_stored(*image);
                    let boxes = frame.annotations.iter().filter(|a| !a.ignore).map(|a| {
                        let b = a.box_in_image;
                        let (x, y) = (b.x_px / across, b.y_px / down);
                        roadhound_shared::geometry::BoxXywh::new(
                            x,
                            y,
                            b.w_px / across,
                            b.h_px / down,
                        )
                    });
                    source.pictures.push(Picture {
                        path: frame.path.to_path_buf(),
                        group,
                        boxes: boxes.collect(),
                    });
                }
                group += 1;
            }
        }
        source.pictures.retain(|picture| !picture.boxes.is_empty());
        let seeds: Vec<Candidate> = self
            .harvest
            .candidates
            .iter()
            .filter(|c| self.clips[c.clip].held_out)
            .cloned()
            .collect();
        let step = seeds.len().div_ceil(self.run.select.seeds).max(1);
        Bench {
            clips: self.clips.clone(),
            seeds: seeds.into_iter().step_by(step).collect(),
            source,
            target: self.target_regions(),
            tracker: self.files.manifest.tracker,
            regions: self.run.select.regions,
            seed: self.run.seed,
        }
    }

    /// Objects on held-out clips, or on all where there are too few of these.
    fn target_regions(&self) -> PictureSet {
        let pictures = |held_out_only: bool| -> Vec<Picture> {
            let tracks = self.harvest.tracks.iter();
            let wanted = tracks.filter(|t| !held_out_only || self.clips[t.from.clip].held_out);
            wanted
                .flat_map(|track| {
                    let clip = &self.clips[track.from.clip];
                    let frames = clip.frames[track.agreed.first..].iter();
                    frames
                        .zip(&track.agreed.boxes)
                        .map(|((path, _), b)| Picture {
                            path: path.clone(),
                            group: track.from.clip as u32,
                            boxes: vec![*b],
                        })
                })
                .collect()
        };
        let held_out = pictures(true);
        let groups: BTreeSet<u32> = held_out.iter().map(|p| p.group).collect();
        PictureSet {
            pictures: match groups.len() >= NEEDED_GROUPS {
                true => held_out,
                false => pictures(false),
            },
            by_sequence: true,
        }
    }

    fn measured_before(&self) -> Result<Measures> {
        let graphs = &self.files.f32;
        let contract = &self.files.manifest.follow;
        let network = OnnxNetwork::new(&graphs.template, &graphs.search, contract)?;
        let mut found = self.bench().measure(network, contract)?;
        let mut task = self.track_task()?;
        let weights = task.params().snapshot()?;
        let figures = task.validate(&weights)?;
        let auc = figures.iter().find(|(name, _)| *name == "auc");
        found.source_auc = auc.context("a validation without its figures")?.1;
        Ok(found)
    }

    /// Success AUC on each of the annotated folders.
    fn scores(&self, net: &TrackerNet) -> Result<Vec<f64>> {
        let tracker = &self.files.manifest.tracker;
        let folders = self.arguments.score.iter();
        folders
            .map(|folder| {
                let runs = Layout::Auto.load_runs(folder)?;
                ensure!(!runs.is_empty(), "{}: no runs to follow", folder.display());
                let (network, contract) = bundle::graphs_of(net)?;
                let followed =
                    evaluate::follow_runs(network, &contract, tracker, runs, None, |_| ())?;
                let scores: Vec<RunScore> = followed.iter().map(|f| f.score).collect();
                Ok(RunScore::mean(&scores).success_auc)
            })
            .collect()
    }

    /// Adapts by these parts in the folder `out`; `None` where Ctrl-C ended it.
    fn adapted(&self, parts: &BTreeSet<Part>, out: &Path) -> Result<Option<Adapted>> {
        let mut run = self.run.clone();
        run.adapt.parts.clone_from(parts);
        let track = self.track_task()?;
        let born = || TrackerNet::new(&self.model, run.seed, &Device::Cpu);
        let weak = self.target_sampler(true)?;
        let for_norm = match run.adapt.has(Part::Adabn) {
            true => drawn(&weak, run.train.batch, run.select.norm_batches)?,
            false => Vec::new(),
        };
        self.leave_facts(out, &run, track.net())?;
        let parts = Parts {
            track,
            others: [born()?, born()?],
            config: run.adapt.clone(),
            select: run.select.clone(),
            steps: run.train.steps(),
            bench: self.bench(),
            before: self.before,
            target: for_norm,
            seed: run.seed,
        };
        let mut task = AdaptTask::new(parts, &Device::Cpu)?;
        let mut candidates: Vec<Snapshot> = Vec::new();
        if run.adapt.learns() {
            let batches = Arc::new(Batches {
                source: self.sampler(Split::Train)?,
                weak,
                strong: self.target_sampler(false)?,
                swap: run.adapt.has(Part::Fourier).then_some(Swap {
                    share: run.adapt.fourier_share,
                    reach: run.adapt.fourier_reach,
                }),
                seed: run.seed,
            });
            let prefetch = PrefetchConfig {
                batch_size: run.train.batch,
                workers: run.compute.workers,
                ..PrefetchConfig::default()
            };
            let search = &self.files.manifest.files[self.files.manifest.f32_files().search];
            let loop_run = Run {
                folder: out.to_owned(),
                config: run.train.clone(),
                optim: run.optim.clone(),
                // A run does not go on from another bundle, or on other video.
                config_toml: format!(
                    "# search graph {}, {} clips, {}\n{}",
                    search.sha256,
                    self.clips.len(),
                    self.harvest.line(),
                    run.to_toml()?
                ),
                stop: &STOP,
                quiet: self.arguments.quiet,
            };
            let outcome = loop_run.train(&mut task, |step| {
                let batches = Prefetcher::new(batches, &prefetch, step)?;
                Ok(batches.map(|batch| batch.map_err(anyhow::Error::from)))
            })?;
            if outcome == Outcome::Stopped {
                return Ok(None);
            }
            for name in ["best.safetensors", "last.safetensors"] {
                candidates.push(Checkpoint::load(&out.join(name))?.average);
            }
            candidates.dedup();
        } else {
            std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
            outputs::file(&out.join("config.toml"), run.to_toml()?)?;
            candidates.push(task.snapshot()?);
        }
        let mut measured = Vec::with_capacity(candidates.len());
        for candidate in &candidates {
            measured.push(task.measure(candidate)?);
        }
        let choice = Choice::of(&self.before, &measured, run.select.most_source_loss);
        let (kept, measures) = match choice {
            Choice::Candidate(number) => {
                let kept = born()?;
                let found = task.candidate(&candidates[number])?.params().snapshot()?;
                kept.params().restore(&found)?;
                (kept, measured[number])
            }
            _ => (self.network()?, measured.pop().unwrap_or_default()),
        };
        let names: Vec<&str> = run.adapt.parts.iter().map(|part| part.name()).collect();
        let name = names.join("+");
        log::info!("{name}: {}", choice.sentence());
        Ok(Some(Adapted {
            name,
            measures,
            choice,
            scores: self.scores(&kept)?,
            kept,
        }))
    }

    fn leave_facts(&self, out: &Path, run: &AdaptRun, net: &TrackerNet) -> Result<()> {
        let mut data = facts::count(&self.source);
        data.extend(facts::count(&self.target));
        let here = std::env::current_dir().ok();
        let facts = facts::Facts {
            samples_in_all: 0,
            system: System::Adapt,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: here.and_then(|folder| facts::commit(&folder)),
            seed: run.seed,
            config_sha256: run.hash()?,
            started_from: Some(self.arguments.bundle.display().to_string()),
            device: "cpu".to_owned(),
            parameters: net.parameter_count() as u64,
            macs_per_frame: net.macs_per_frame(),
            data,
        };
        std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
        outputs::file(
            &out.join(facts::FACTS_FILE),
            serde_json::to_vec_pretty(&facts)?,
        )
    }

    fn head(&self) -> Vec<String> {
        let fixed = [
            "parts",
            "kept",
            "agreement",
            "presence",
            "entropy",
            "proxy_a",
            "mmd",
            "source_auc",
        ];
        let scored = self.arguments.score.iter().map(|folder| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            format!("auc_{name}")
        });
        fixed
            .iter()
            .map(|name| (*name).to_owned())
            .chain(scored)
            .collect()
    }

    fn row(&self, name: &str, kept: &str, m: &Measures, scores: &[f64]) -> Vec<String> {
        let optional = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.4}"));
        let mut row = vec![name.to_owned(), kept.to_owned()];
        row.extend([m.agreement, m.presence, m.entropy].map(|v| format!("{v:.4}")));
        row.extend([
            optional(m.proxy_a),
            optional(m.mmd),
            format!("{:.4}", m.source_auc),
        ]);
        row.extend(scores.iter().map(|v| format!("{v:.4}")));
        row
    }

    fn row_of(&self, adapted: &Adapted) -> Vec<String> {
        let kept = match adapted.choice {
            Choice::Candidate(_) => "adapted",
            Choice::SourceWasLost | Choice::EverythingWorse => "source",
        };
        self.row(&adapted.name, kept, &adapted.measures, &adapted.scores)
    }

    fn panels(&self, adapted: &Adapted, scored: &[f64], rows: &[Vec<String>]) -> Vec<Panel> {
        let figures = |m: &Measures, scores: &[f64]| {
            let mut figures = vec![
                Figure::new("agreement back and forth", m.agreement),
                Figure::new("presence", m.presence),
                Figure::new("entropy of presence, nats", m.entropy),
                Figure::new("proxy-A distance of regions", m.proxy_a.unwrap_or(f64::NAN)),
                Figure::new("MMD squared of regions", m.mmd.unwrap_or(f64::NAN)),
                Figure::new("error on the source, 1 - AUC", 1.0 - m.source_auc),
            ];
            for (folder, score) in self.arguments.score.iter().zip(scores) {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                figures.push(Figure::new(format!("AUC on {name} (score only)"), *score));
            }
            figures
        };
        let refused = self.harvest.refused.iter();
        let refused = refused.map(|(r, count)| vec![r.name().to_owned(), count.to_string()]);
        vec![
            Panel::figures("Before", figures(&self.before, scored)),
            Panel::figures("After", figures(&adapted.measures, &adapted.scores)),
            Panel::Table {
                title: "Pseudo-tracks".into(),
                columns: vec!["proposals that became none".into(), "count".into()],
                rows: refused.collect(),
                note: format!("{} clips: {}.", self.clips.len(), self.harvest.line()),
            },
            Panel::Table {
                title: "Parts".into(),
                columns: self.head(),
                rows: rows.to_vec(),
                note: format!(
                    "{} Figures of adapted weights stand in a row even where they were not kept; scores are those of what was kept.",
                    adapted.choice.sentence()
                ),
            },
        ]
    }

    /// Writes the bundle: new graphs, or the source's files as they are.
    fn write(self, adapted: Adapted) -> Result<()> {
        let out = self.arguments.bundle_out();
        // That of an earlier run: the folder is a run's own, see `check_own`.
        if out.exists() {
            std::fs::remove_dir_all(&out).with_context(|| format!("{}", out.display()))?;
        }
        if !matches!(adapted.choice, Choice::Candidate(_)) {
            return copied(&self.arguments.bundle, &out);
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
        bundle::write(adapted.kept, card, &out)?;
        if !self.arguments.no_int8 {
            let mut pairs = Vec::new();
            let mut scratch = SamplerScratch::default();
            let (source, target) = (self.sampler(Split::Train)?, self.target_sampler(true)?);
            for number in 0..CALIBRATION_PAIRS {
                pairs.push(source.draw_number(number, &mut scratch)?);
                pairs.push(target.draw_number(number, &mut scratch)?);
            }
            let held_out = self.held_out.iter();
            let held_out: Vec<Pair> = held_out
                .flat_map(|batch| (0..batch.len).map(|i| batch.pair(i)))
                .collect();
            quantise_follow(&out, pairs, held_out, self.arguments.quiet)?;
        }
        bundle::carry_others(self.files, &out)?;
        log::info!("{}: written", out.display());
        Ok(())
    }
}

fn drawn(sampler: &Sampler, batch: usize, count: u64) -> Result<Vec<Batch>> {
    let mut scratch = SamplerScratch::default();
    let batches = (0..count).map(|step| Batch::draw(sampler, step, batch, &mut scratch));
    Ok(batches.collect::<Result<_, _>>()?)
}

/// Marks the folder as that of an adaptation, so that one that was cut off may go on.
fn begin(out: &Path) -> Result<()> {
    let path = out.join(facts::FACTS_FILE);
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
    let facts = facts::Facts {
        system: System::Adapt,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..facts::Facts::default()
    };
    outputs::file(&path, serde_json::to_vec_pretty(&facts)?)
}

/// Follows what the bundle, or another one, proposes on every clip.
fn harvest(
    arguments: &AdaptArguments,
    run: &AdaptRun,
    files: &BundleFiles,
    clips: &[Clip],
) -> Result<Harvest> {
    let other = arguments
        .proposals
        .as_deref()
        .map(bundle::read)
        .transpose()?;
    let proposing = other.as_ref().unwrap_or(files);
    let (Some(contract), Some(graph)) = (&proposing.manifest.propose, &proposing.propose) else {
        let from = arguments.proposals.as_ref().unwrap_or(&arguments.bundle);
        bail!(
            "{}: the bundle has no propose.onnx, which says where pseudo-tracks may begin; --proposals names another bundle",
            from.display()
        )
    };
    let follow = &files.manifest.follow;
    let bar = match arguments.quiet {
        true => indicatif::ProgressBar::hidden(),
        false => indicatif::ProgressBar::new(clips.len() as u64).with_message("clips"),
    };
    let networks = || {
        let finder = Finder::new(OnnxProposer::new(&graph.bytes, contract)?, contract.clone())?;
        let network = OnnxNetwork::new(&files.f32.template, &files.f32.search, follow)?;
        let follower = Follower::new(network, follow.clone(), files.manifest.tracker)?;
        Ok((finder, follower))
    };
    let fit = &run.data.target;
    let found = pseudo::harvest(clips, networks, fit, &run.pseudo, || bar.inc(1))?;
    bar.finish_and_clear();
    Ok(found)
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
