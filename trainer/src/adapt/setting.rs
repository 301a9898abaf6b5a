//! What all adaptations of one bundle share: its graphs, the unlabelled video and what was found on it, the samplers of both
//! domains, and the bench that networks are measured on.
//!
//! In: [`Sources`] and a configuration. Out: a [`Setting`], with the figures of the source's own network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use roadhound_shared::follow::Follower;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::propose::finder::Finder;

use super::batches::weak_of;
use super::clips::{self, Clip};
use super::config::{AdaptRun, Part};
use super::labelled::{self, Chosen};
use super::measure::{Bench, Measures};
use super::pseudo::{self, Candidate, Harvest, PseudoTrack};
use crate::augment::AugmentConfig;
use crate::batch::Batch;
use crate::config::SystemConfig;
use crate::data::{DataConfig, Dataset, PackConfig, PackKind, ReadConfig};
use crate::export::bundle::{self, BundleFiles};
use crate::export::interpret::OnnxNetwork;
use crate::export::propose::OnnxProposer;
use crate::export::unfold::{geometry_of_bundle, network_from_bundle};
use crate::gap::NEEDED_GROUPS;
use crate::gap::pictures::{Picture, PictureSet};
use crate::model::{ModelConfig, TrackerNet};
use crate::network::network_of;
use crate::outputs;
use crate::report::facts;
use crate::sampler::{Sampler, SamplerScratch, Split};
use crate::systems::System;
use crate::task::track::TrackTask;

/// Name of the pack of pseudo-tracks.
pub const PSEUDO: &str = "pseudo";
/// Added to the seed for the target's pairs.
const TARGET_SEED: u64 = 0x7467_7470;
/// The same for those of labelled tracks.
const LABELLED_SEED: u64 = 0x6c61_6265;

/// Where everything comes from and goes to.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Bundle of the source; it is not changed.
    pub bundle: PathBuf,
    /// Unlabelled video of the target.
    pub target: Vec<PathBuf>,
    /// Folder of the run.
    pub out: PathBuf,
    /// Checkpoint that the bundle was exported from.
    pub checkpoint: Option<PathBuf>,
    /// Another bundle, whose proposals say where pseudo-tracks may begin.
    pub proposals: Option<PathBuf>,
    /// Annotated sequences that are scored.
    pub score: Vec<PathBuf>,
    /// Labelled pack of the target, for the score alone.
    pub oracle: Option<PathBuf>,
}

/// Labelled tracks of the target that are learned from.
pub struct Few {
    /// Nothing but them.
    pub data: Arc<Dataset>,
    /// Which they are.
    pub chosen: Vec<Chosen>,
}

/// Labels of the target that choose nothing: what an oracle learns from, and what everybody is scored on.
pub struct Judge {
    /// All of the pack.
    pub data: Arc<Dataset>,
    /// Pairs that the oracle does not learn from.
    pub held_out: Vec<Batch>,
    /// Success of the bundle as it is on them.
    pub auc_before: f64,
}

/// See the module head.
pub struct Setting {
    /// Where everything comes from.
    pub sources: Sources,
    /// Sides of crops are the bundle's.
    pub run: AdaptRun,
    /// The bundle.
    pub files: BundleFiles,
    /// Its network's geometry.
    pub model: ModelConfig,
    /// Unlabelled video.
    pub clips: Vec<Clip>,
    /// What was found on it.
    pub harvest: Harvest,
    /// Labelled packs.
    pub source: Arc<Dataset>,
    /// Pseudo-tracks.
    pub target: Arc<Dataset>,
    /// Pairs of the source.
    pub held_out: Vec<Batch>,
    /// Figures of the bundle as it is.
    pub before: Measures,
    /// Where the part is on.
    pub few: Option<Few>,
    /// Where an oracle was asked for.
    pub judge: Option<Judge>,
}

impl Setting {
    /// Opens everything, looks through the video, and measures the bundle as it is. Writes the pack of pseudo-tracks; `progress`
    /// hears of every clip.
    ///
    /// # Errors
    /// What cannot be read, by name; video on which nothing is found to learn from.
    pub fn open(sources: Sources, mut run: AdaptRun, progress: impl Fn() + Sync) -> Result<Self> {
        let files = bundle::read(&sources.bundle)?;
        let model = geometry_of_bundle(&sources.bundle)?;
        let follow = &files.manifest.follow;
        run.sampler.template_crop_px = model.template_px as u32;
        run.sampler.search_crop_px = model.search_px as u32;
        run.sampler.template_context = follow.template_context();
        run.sampler.search_context = follow.search_context();
        check_same(&sources.out, None, &run)?;
        let clips = clips::open(&sources.target, &run.clips)?;
        let frames: usize = clips.iter().map(|clip| clip.frames.len()).sum();
        let held_out = clips.iter().filter(|clip| clip.held_out).count();
        log::info!(
            "{} clips of unlabelled video, {held_out} held out, {frames} frames",
            clips.len()
        );
        let target = sources.target[0].display();
        ensure!(
            held_out > 0,
            "{target}: no clip can be held out to choose weights by, of {} in all: give longer recordings, more of them, or a smaller clips.frames or clips.held_out_every",
            clips.len()
        );
        let source = Arc::new(Dataset::open(&run.data)?);
        // What cannot be read is said before the video is looked through.
        let labelled = run.labelled.pack.as_ref();
        let labelled = labelled.filter(|_| run.adapt.has(Part::Labelled));
        let labelled = labelled.map(|pack| run.labelled.open(pack, &run.data, Some(Vec::new())));
        let labelled = labelled.transpose()?;
        let judging = sources.oracle.as_ref();
        let judging = judging.map(|pack| run.labelled.open(pack, &run.data, None));
        let judging = judging.transpose()?;
        let harvest = harvest(&sources, &run, &files, &clips, progress)?;
        log::info!("{}", harvest.line());
        let learned = |track: &PseudoTrack| !clips[track.from.clip].held_out;
        ensure!(
            harvest.tracks.iter().any(learned),
            "{target}: nothing to learn from in {} clips: {}",
            clips.len(),
            harvest.line()
        );
        ensure!(
            harvest.candidates.iter().any(|c| clips[c.clip].held_out),
            "{target}: nothing to choose weights by: no proposal on any of the {held_out} held-out clips; {}",
            harvest.line()
        );
        let head = head_of(&files, &clips, &harvest);
        check_same(&sources.out, Some(&head), &run)?;
        begin(&sources.out)?;
        let folder = sources.out.join(PSEUDO);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        }
        let held_out = pseudo::write_pack(&folder, &clips, &harvest.tracks)?;
        let target = DataConfig {
            root: sources.out.clone(),
            packs: vec![pack_of_tracks(held_out)],
            ..run.data.clone()
        };
        let target = Arc::new(Dataset::open(&target)?);
        let mut setting = Self {
            sources,
            run,
            files,
            model,
            clips,
            harvest,
            source,
            target,
            held_out: Vec::new(),
            before: Measures::default(),
            few: None,
            judge: None,
        };
        let held_out = setting.sampler(Split::Validation)?;
        let (batch, count) = (
            setting.run.train.batch,
            setting.run.select.source_batches as u64,
        );
        setting.held_out = drawn(&held_out, batch, count)?;
        setting.few = labelled.map(|data| setting.few(data)).transpose()?;
        let task = setting.track_task()?;
        setting.before = setting.measured_before(&task)?;
        setting.judge = judging.map(|data| setting.judge(data, &task)).transpose()?;
        Ok(setting)
    }

    /// The few labelled tracks; which they are is written down.
    fn few(&self, mut data: Dataset) -> Result<Few> {
        let labelled = &self.run.labelled;
        let chosen = labelled.few(&mut data, self.run.seed);
        let pack = labelled.pack.as_deref().unwrap_or(Path::new(""));
        ensure!(
            !chosen.is_empty(),
            "{}: no labelled track that can be followed",
            pack.display()
        );
        log::info!("{} labelled tracks of {}", chosen.len(), pack.display());
        outputs::file(
            &self.sources.out.join("labelled.csv"),
            labelled::csv(&chosen),
        )?;
        Ok(Few {
            data: Arc::new(data),
            chosen,
        })
    }

    fn judge(&self, data: Dataset, task: &TrackTask) -> Result<Judge> {
        let data = Arc::new(data);
        let held_out = self.labelled_sampler(&data, Split::Validation)?;
        let count = self.run.select.source_batches as u64;
        let held_out = drawn(&held_out, self.run.train.batch, count)?;
        let auc_before = task.auc_on(&task.net().params().snapshot()?, &held_out)?;
        Ok(Judge {
            data,
            held_out,
            auc_before,
        })
    }

    /// Of labelled tracks of the target.
    ///
    /// # Errors
    /// Packs without a target.
    pub fn labelled_sampler(&self, data: &Arc<Dataset>, split: Split) -> Result<Sampler> {
        let run = &self.run;
        let seed = split.seed_of(run.seed.wrapping_add(LABELLED_SEED));
        let (sampler, augment) = (run.sampler.clone(), run.augment.clone());
        Ok(Sampler::new(data.clone(), sampler, augment, split, seed)?)
    }

    /// Of the source.
    ///
    /// # Errors
    /// Packs without a target.
    pub fn sampler(&self, split: Split) -> Result<Sampler> {
        self.source_sampler(split, self.run.augment.clone())
    }

    /// Of the source's training split, pairs as they are cut.
    ///
    /// # Errors
    /// Packs without a target.
    pub fn source_sampler_as_cut(&self) -> Result<Sampler> {
        self.source_sampler(Split::Train, weak_of(&self.run.augment))
    }

    fn source_sampler(&self, split: Split, augment: AugmentConfig) -> Result<Sampler> {
        let run = &self.run;
        Ok(Sampler::new(
            self.source.clone(),
            run.sampler.clone(),
            augment,
            split,
            split.seed_of(run.seed),
        )?)
    }

    /// Of the target, changed or as it was cut.
    ///
    /// # Errors
    /// Pseudo-tracks that no pair can be made of.
    pub fn target_sampler(&self, is_weak: bool) -> Result<Sampler> {
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
    ///
    /// # Errors
    /// A checkpoint of another network.
    pub fn network(&self) -> Result<TrackerNet> {
        let (run, sources) = (&self.run, &self.sources);
        let Some(path) = &sources.checkpoint else {
            return network_from_bundle(&sources.bundle, &self.model, run.seed, &Device::Cpu);
        };
        let (net, ..) = network_of(path)?;
        ensure!(
            *net.config() == self.model,
            "{}: a network of another architecture than {}",
            path.display(),
            sources.bundle.display()
        );
        if let Some(c) = &self.files.manifest.calibration {
            net.scale_presence(c.scale as f32, c.bias as f32)?;
        }
        Ok(net)
    }

    /// The task that the source was trained by, its normalisation settled.
    ///
    /// # Errors
    /// As [`Setting::network`], and pictures that cannot be read.
    pub fn track_task(&self) -> Result<TrackTask> {
        let run = &self.run;
        let average = TrackerNet::new(&self.model, run.seed, &Device::Cpu)?;
        let (net, loss, precision) = (self.network()?, run.loss.clone(), run.compute.precision);
        let held_out = self.held_out.clone();
        let device = Device::Cpu;
        let task = TrackTask::new(net, average, loss, precision, run.seed, &device, held_out);
        if self.sources.checkpoint.is_none() {
            let (batch, count) = (run.train.batch, run.select.norm_batches);
            task.settle(&drawn(&self.sampler(Split::Train)?, batch, count)?)?;
        }
        Ok(task)
    }

    /// What networks are measured on.
    pub fn bench(&self) -> Bench {
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
                        BoxXywh::new(x, y, b.w_px / across, b.h_px / down)
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

    /// Objects of the target that domains are compared on; see [`Compared`].
    fn target_regions(&self) -> PictureSet {
        let (clips, tracks) = (&self.clips, &self.harvest.tracks);
        let pictures = match self.compared() {
            Compared::HeldOut => objects_of(clips, tracks, |held_out| held_out),
            Compared::All { .. } => objects_of(clips, tracks, |_| true),
            Compared::Nothing { .. } => Vec::new(),
        };
        PictureSet {
            pictures,
            by_sequence: true,
        }
    }

    /// On what distances of the domains are taken.
    pub fn compared(&self) -> Compared {
        Compared::of(&self.clips, &self.harvest.tracks)
    }

    /// Objects of pseudo-tracks, on the clips that are wanted: held out, or not. Groups are recordings.
    pub fn objects_of_target(&self, wanted: impl Fn(bool) -> bool) -> Vec<Picture> {
        objects_of(&self.clips, &self.harvest.tracks, wanted)
    }

    /// What else than its settings a run must not change.
    pub(super) fn origin(&self) -> String {
        head_of(&self.files, &self.clips, &self.harvest)
    }

    /// What the run's configuration is kept as: a run does not go on from another bundle, or on other video.
    pub(super) fn config_toml(&self, run: &AdaptRun) -> Result<String> {
        Ok(self.origin() + &run.to_toml()?)
    }

    fn measured_before(&self, task: &TrackTask) -> Result<Measures> {
        let graphs = &self.files.f32;
        let contract = &self.files.manifest.follow;
        let network = OnnxNetwork::new(&graphs.template, &graphs.search, contract)?;
        let mut found = self.bench().measure(network, contract)?;
        found.source_auc = task.held_out_auc(&task.net().params().snapshot()?)?;
        Ok(found)
    }
}

/// The first batches of a sampler.
///
/// # Errors
/// A picture that cannot be read.
pub fn drawn(sampler: &Sampler, batch: usize, count: u64) -> Result<Vec<Batch>> {
    let mut scratch = SamplerScratch::default();
    let batches = (0..count).map(|step| Batch::draw(sampler, step, batch, &mut scratch));
    Ok(batches.collect::<Result<_, _>>()?)
}

/// On which objects of the target its features are compared with the source's. Halves of a set never cut through a recording,
/// since a classifier would recognise the road instead of the domain, so several are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// On held-out clips.
    HeldOut,
    /// On all clips, those that are learned from as well: so few recordings have objects on held-out ones.
    All {
        /// How few.
        held_out: usize,
    },
    /// On none: so few recordings have objects at all.
    Nothing {
        /// How few.
        recordings: usize,
    },
}

impl Compared {
    fn of(clips: &[Clip], tracks: &[PseudoTrack]) -> Self {
        let recordings = |wanted: &dyn Fn(bool) -> bool| {
            let objects = objects_of(clips, tracks, wanted);
            let groups: BTreeSet<u32> = objects.iter().map(|p| p.group).collect();
            groups.len()
        };
        let held_out = recordings(&|held_out| held_out);
        if held_out >= NEEDED_GROUPS {
            return Self::HeldOut;
        }
        match recordings(&|_| true) {
            recordings if recordings < NEEDED_GROUPS => Self::Nothing { recordings },
            _ => Self::All { held_out },
        }
    }

    /// For a report.
    pub fn sentence(self) -> String {
        match self {
            Self::HeldOut => {
                "Distances of the domains are those of objects on held-out clips.".into()
            }
            Self::All { held_out } => format!(
                "Distances of the domains are those of objects on all clips, the ones that are learned from included: only {held_out} recordings have objects on held-out clips, and {NEEDED_GROUPS} are needed."
            ),
            Self::Nothing { recordings } => format!(
                "Distances of the domains were not taken: only {recordings} recordings of the target have objects, and {NEEDED_GROUPS} are needed."
            ),
        }
    }
}

/// Objects of pseudo-tracks, on the clips that are wanted: held out, or not. Groups are recordings.
fn objects_of(
    clips: &[Clip],
    tracks: &[PseudoTrack],
    wanted: impl Fn(bool) -> bool,
) -> Vec<Picture> {
    let names: BTreeSet<&str> = clips.iter().map(|clip| clip.recording.as_str()).collect();
    let groups: BTreeMap<&str, u32> = names.into_iter().zip(0..).collect();
    let tracks = tracks.iter();
    let tracks = tracks.filter(|track| wanted(clips[track.from.clip].held_out));
    tracks
        .flat_map(|track| {
            let clip = &clips[track.from.clip];
            let group = groups[clip.recording.as_str()];
            let frames = clip.frames[track.agreed.first..].iter();
            frames
                .zip(&track.agreed.boxes)
                .map(move |((path, _), b)| Picture {
                    path: path.clone(),
                    group,
                    boxes: vec![*b],
                })
        })
        .collect()
}

/// The pack of pseudo-tracks. A recording is one scene, however many clips it was cut into: the same car may be in several of
/// them, and none of its own looks shows that it is absent.
fn pack_of_tracks(held_out: Vec<String>) -> PackConfig {
    PackConfig {
        name: PSEUDO.into(),
        kind: PackKind::Video,
        weight: 1.0,
        path: None,
        held_out: Some(held_out),
        fixed_camera_prefixes: vec![clips::RECORDING.into()],
        read: ReadConfig::default(),
    }
}

/// What else than its settings a run must not change: a line above them.
fn head_of(files: &BundleFiles, clips: &[Clip], harvest: &Harvest) -> String {
    let search = &files.manifest.files[files.manifest.f32_files().search];
    format!(
        "# search graph {}, {} clips, {}\n",
        search.sha256,
        clips.len(),
        harvest.line()
    )
}

/// Refuses the folder of another adaptation, before anything in it is touched: one with other settings, or, once it is known,
/// of another bundle or other video.
pub(super) fn check_same(out: &Path, head: Option<&str>, run: &AdaptRun) -> Result<()> {
    let path = out.join("config.toml");
    let found = match std::fs::read_to_string(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    };
    let end = match found.starts_with('#') {
        true => found.find('\n').map_or(found.len(), |at| at + 1),
        false => 0,
    };
    let (line, settings) = found.split_at(end);
    if settings != run.to_toml()? {
        bail!(
            "{}: made with another configuration; give --out another folder",
            path.display()
        );
    }
    if head.is_some_and(|head| head != line) {
        bail!(
            "{}: made of another bundle or other video; give --out another folder",
            path.display()
        );
    }
    Ok(())
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
    sources: &Sources,
    run: &AdaptRun,
    files: &BundleFiles,
    clips: &[Clip],
    progress: impl Fn() + Sync,
) -> Result<Harvest> {
    let other = sources.proposals.as_deref().map(bundle::read).transpose()?;
    let proposing = other.as_ref().unwrap_or(files);
    let (Some(contract), Some(graph)) = (&proposing.manifest.propose, &proposing.propose) else {
        let from = sources.proposals.as_ref().unwrap_or(&sources.bundle);
        bail!(
            "{}: the bundle has no propose.onnx, which says where pseudo-tracks may begin; --proposals names another bundle",
            from.display()
        )
    };
    let follow = &files.manifest.follow;
    let networks = || {
        let finder = Finder::new(OnnxProposer::new(&graph.bytes, contract)?, contract.clone())?;
        let network = OnnxNetwork::new(&files.f32.template, &files.f32.search, follow)?;
        let follower = Follower::new(network, follow.clone(), files.manifest.tracker)?;
        Ok((finder, follower))
    };
    let fit = &run.data.target;
    pseudo::harvest(clips, networks, fit, &run.pseudo, progress)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use roadhound_shared::frame::Timestamp;
    use roadhound_shared::propose::RoadUser;

    use super::*;
    use crate::adapt::pseudo::Agreed;
    use crate::sampler::{Content, SamplerConfig};

    /// A track over all of a clip.
    fn track(clips: &[Clip], clip: usize) -> PseudoTrack {
        let b = BoxXywh::new(40.0, 40.0, 44.0, 32.0);
        PseudoTrack {
            from: Candidate {
                clip,
                box_in_image: b,
                kind: RoadUser::Car,
            },
            agreed: Agreed {
                first: 0,
                boxes: vec![b; clips[clip].frames.len()],
                confidence: 1.0,
            },
        }
    }

    #[test]
    fn clips_of_one_recording_share_a_scene_and_none_shows_that_another_ones_object_is_absent() {
        let root = tempfile::tempdir().unwrap();
        let video = root.path().join("drives/monday");
        std::fs::create_dir_all(&video).unwrap();
        for frame in 0..60 {
            let picture = image::RgbImage::from_pixel(160, 120, image::Rgb([90, 99, 105]));
            picture.save(video.join(format!("{frame}.png"))).unwrap();
        }
        let clips = clips::open(
            &[root.path().join("drives")],
            &crate::adapt::clips::ClipConfig::default(),
        )
        .unwrap();
        assert_eq!(clips.len(), 3);
        let tracks: Vec<PseudoTrack> = (0..3).map(|clip| track(&clips, clip)).collect();
        let folder = root.path().join(PSEUDO);
        let held_out = pseudo::write_pack(&folder, &clips, &tracks).unwrap();
        let data = Dataset::open(&DataConfig {
            root: root.path().to_owned(),
            packs: vec![pack_of_tracks(held_out)],
            ..DataConfig::default()
        });
        let data = Arc::new(data.unwrap());
        let sequences = &data.packs()[0].sequences;
        let scenes: BTreeSet<u64> = sequences.iter().map(|s| s.scene).collect();
        assert_eq!((sequences.len(), scenes.len()), (3, 1));
        let config = SamplerConfig {
            negative_share: 0.5,
            ..SamplerConfig::default()
        };
        let augment = AugmentConfig::default();
        let sampler = Sampler::new(data, config, augment, Split::Train, 3).unwrap();
        let others = (0..500)
            .map(|pair| sampler.plan(0, pair))
            .filter(|plan| plan.content == Content::OtherInstance || plan.rival.is_some());
        assert_eq!(others.count(), 0);
        let groups: BTreeSet<u32> = objects_of(&clips, &tracks, |_| true)
            .iter()
            .map(|object| object.group)
            .collect();
        assert_eq!(groups.len(), 1);
    }

    #[test]
    fn domains_are_compared_on_held_out_recordings_on_all_or_not_at_all() {
        // Recordings of two clips each, the second one of which may be held out.
        let compared = |recordings: usize, held_out: usize| {
            let mut clips = Vec::new();
            for number in 0..recordings {
                for part in 0..2 {
                    clips.push(Clip {
                        name: format!("v0.{number}_{part:04}"),
                        recording: format!("v0.{number}"),
                        frames: vec![(PathBuf::from("a.png"), Timestamp(0)); 2],
                        held_out: part == 1 && number < held_out,
                    });
                }
            }
            let tracks: Vec<PseudoTrack> = (0..clips.len()).map(|c| track(&clips, c)).collect();
            Compared::of(&clips, &tracks)
        };
        assert_eq!(compared(5, 4), Compared::HeldOut);
        assert_eq!(compared(4, 3), Compared::All { held_out: 3 });
        assert_eq!(compared(3, 3), Compared::Nothing { recordings: 3 });
        assert!(compared(4, 3).sentence().contains("learned from included"));
        assert!(compared(3, 3).sentence().contains("only 3 recordings"));
    }

    #[test]
    fn the_folder_of_another_adaptation_is_refused_by_the_file_that_says_so() {
        let out = tempfile::tempdir().unwrap();
        let run = AdaptRun::default();
        let refused = |head: Option<&str>, run: &AdaptRun| {
            let said = check_same(out.path(), head, run);
            said.err().map(|error| error.to_string())
        };
        assert_eq!(refused(Some("# a\n"), &run), None);
        let text = format!("# a\n{}", run.to_toml().unwrap());
        std::fs::write(out.path().join("config.toml"), text).unwrap();
        assert_eq!(refused(None, &run), None);
        assert_eq!(refused(Some("# a\n"), &run), None);
        let other = AdaptRun {
            seed: 2,
            ..run.clone()
        };
        assert!(
            refused(None, &other)
                .unwrap()
                .contains("another configuration")
        );
        let said = refused(Some("# b\n"), &run).unwrap();
        assert!(
            said.contains("config.toml: made of another bundle or other video"),
            "{said}"
        );
    }
}
