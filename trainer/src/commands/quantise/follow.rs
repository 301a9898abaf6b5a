//! The two graphs that follow: pairs of crops in, boxes beside the truth and beside those of the f32 graphs out.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use roadhound_shared::contract::FollowContract;
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::metrics::{RunScore, success_area};
use roadhound_shared::tracker::TrackerConfig;
use roadhound_trainer::data::Dataset;
use roadhound_trainer::data::layout::Layout;
use roadhound_trainer::data::sequence::Run;
use roadhound_trainer::evaluate::{self, PairAnswer};
use roadhound_trainer::export::bundle::{self, BundleFiles};
use roadhound_trainer::export::interpret::OnnxNetwork;
use roadhound_trainer::quantise::follow::{PairSamples, pixel_params, sources};
use roadhound_trainer::quantise::observe::Observer;
use roadhound_trainer::quantise::report::{Figure, Figures, Report};
use roadhound_trainer::quantise::search::Search;
use roadhound_trainer::render;
use roadhound_trainer::sampler::{Pair, Sampler, SamplerScratch, Split};

use super::super::{load, sampler};
use super::{
    CALIBRATION_SEED, CHOICE_SEED, CORRECTION_SAMPLES, NOISE_SAMPLES, QuantiseArguments, Rendered,
    add_scores, in_turn, tell,
};

/// Two AUCs nearer than this are alike: on some hundreds of pairs a different rounding alone moves them as much.
const SAME_AUC: f64 = 0.002;

/// What ways are measured on.
struct Bench<'a> {
    contract: &'a FollowContract,
    tracker: &'a TrackerConfig,
    held_out: Vec<Pair>,
    clips: Vec<Run>,
    /// What the f32 graphs say about the held-out pairs.
    plain: Vec<PairAnswer>,
}

impl Bench<'_> {
    fn network(&self, graphs: &[Vec<u8>]) -> Result<OnnxNetwork> {
        let [template, search] = graphs else {
            anyhow::bail!("{} graphs, expected 2", graphs.len())
        };
        Ok(OnnxNetwork::new(template, search, self.contract)?)
    }

    fn answers(&self, network: &mut OnnxNetwork) -> Result<Vec<PairAnswer>> {
        let mut answers = Vec::with_capacity(self.held_out.len());
        let pairs = self.held_out.iter().map(Ok);
        evaluate::answer_pairs(network, self.contract, pairs, |_, a| answers.push(a))?;
        Ok(answers)
    }

    fn figures(
        &self,
        network: OnnxNetwork,
        answers: &[PairAnswer],
        is_quantised: bool,
    ) -> Result<Figures> {
        let (mut to_truth, mut to_plain, mut same, mut moved) = (vec![], vec![], vec![], vec![]);
        for ((pair, plain), answer) in self.held_out.iter().zip(&self.plain).zip(answers) {
            moved.push(f64::from((plain.presence - answer.presence).abs()));
            // Where there is no target, the highest of many low scores says nothing.
            if pair.present {
                let found = &answer.box_in_search;
                to_truth.push(f64::from(BoxXywh::from(pair.box_in_search).iou(found)));
                to_plain.push(f64::from(plain.box_in_search.iou(found)));
                same.push(f64::from(u8::from(plain.peak_cell == answer.peak_cell)));
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let (pair_auc, clip_auc) = (success_area(&to_truth), self.follow(network)?);
        let (same, overlap) = (mean(&same), mean(&to_plain));
        let against = |name, value| Figure::against_f32(name, is_quantised.then_some(value));
        let clips = clip_auc.map(|auc| Figure::new("success AUC, rendered clips", auc));
        Ok(Figures {
            merit: clip_auc.map_or(pair_auc, |clips| (clips + pair_auc) / 2.0),
            nearness: same * overlap,
            all: [Figure::new("success AUC, held-out pairs", pair_auc)]
                .into_iter()
                .chain(clips)
                .chain([
                    against("peak in the same cell", same),
                    against("overlap with the f32 box", overlap),
                    against("presence moved by", mean(&moved)),
                ])
                .collect(),
        })
    }

    fn follow(&self, network: OnnxNetwork) -> Result<Option<f64>> {
        if self.clips.is_empty() {
            return Ok(None);
        }
        let clips = self.clips.clone();
        let followed =
            evaluate::follow_runs(network, self.contract, self.tracker, clips, None, |_| {})?;
        let scores: Vec<RunScore> = followed.iter().map(|f| f.score).collect();
        Ok(Some(RunScore::mean(&scores).success_auc))
    }
}

/// What int8 graphs to follow with are made of and chosen by.
pub(super) struct Inputs<'a> {
    /// The bundle, for messages.
    pub(super) bundle: &'a Path,
    /// Ranges are taken from these.
    pub(super) calibration: Vec<Pair>,
    /// Ways are chosen by these.
    pub(super) held_out: Vec<Pair>,
    /// And by these.
    pub(super) clips: Vec<Run>,
    /// Observers to choose from.
    pub(super) observers: &'a [Observer],
    /// Shows how far it is.
    pub(super) bar: &'a dyn Fn(u64, &'static str) -> ProgressBar,
}

/// Gives the bundle int8 graphs to follow with; returns the report.
pub(super) fn quantise(
    arguments: &QuantiseArguments,
    rendered: &Rendered<'_>,
    files: &mut BundleFiles,
) -> Result<String> {
    let (calibration, held_out) = pairs(arguments, rendered)?;
    let inputs = Inputs {
        bundle: &arguments.bundle,
        calibration,
        held_out,
        clips: clips(rendered)?,
        observers: &arguments.observers,
        bar: &|steps, message| arguments.bar(steps, message),
    };
    quantise_by(inputs, files)
}

/// The same, whatever its inputs come from.
pub(super) fn quantise_by(inputs: Inputs<'_>, files: &mut BundleFiles) -> Result<String> {
    let Inputs {
        bundle: folder,
        calibration,
        held_out,
        clips,
        observers,
        bar,
    } = inputs;
    let named = || format!("{}", folder.display());
    let (contract, tracker) = (files.manifest.follow.clone(), files.manifest.tracker);
    log::info!(
        "{} pairs to calibrate on; {} held-out pairs and {} rendered clips to choose by",
        calibration.len(),
        held_out.len(),
        clips.len()
    );
    let samples = |pairs| PairSamples {
        pairs,
        contract: &contract,
    };
    let mut bench = Bench {
        contract: &contract,
        tracker: &tracker,
        held_out,
        clips,
        plain: Vec::new(),
    };
    let f32_graphs = [files.f32.template.clone(), files.f32.search.clone()];
    let mut network = bench.network(&f32_graphs).with_context(named)?;
    bench.plain = bench.answers(&mut network)?;
    let f32 = bench.figures(network, &bench.plain, false)?;
    tell(&f32);
    let found = Search {
        samples: &samples(&calibration),
        few: &samples(&calibration[..calibration.len().min(CORRECTION_SAMPLES)]),
        observers,
        pixels: pixel_params(&contract.normalisation)?,
        alike: SAME_AUC,
        bar,
    }
    .run(
        &|| sources(&f32_graphs[0], &f32_graphs[1], &contract).with_context(named),
        &|graphs| {
            let mut network = bench.network(graphs)?;
            let answers = bench.answers(&mut network)?;
            bench.figures(network, &answers, true)
        },
    )?;
    let on = &bench.held_out[..bench.held_out.len().min(NOISE_SAMPLES)];
    let noise = found.noise(&samples(on))?;
    let sizes: Vec<(usize, usize)> = f32_graphs
        .iter()
        .zip(&found.graphs)
        .map(|(a, b)| (a.len(), b.len()))
        .collect();
    let conditions = format!(
        "Calibrated on {} pairs of crops, chosen by {} held-out pairs and {} rendered clips; {} pairs of layers can be equalised.",
        calibration.len(),
        bench.held_out.len(),
        bench.clips.len(),
        found.equalisable
    );
    let report = Report {
        name: &files.manifest.name,
        conditions: &conditions,
        rule: &format!(
            "The highest AUC (mean of both) is taken; within {SAME_AUC}, same peak times overlap decides."
        ),
        f32: &f32,
        chosen: &found,
        graphs: &["template", "search"],
        noise: &noise,
        sizes: &sizes,
    }
    .markdown();
    let figures = &found.trial().figures;
    let scores = figures.all.iter().filter_map(|figure| {
        let name = match figure.name.as_str() {
            "success AUC, held-out pairs" => "int8_validation_pair_auc",
            "success AUC, rendered clips" => "int8_rendered_auc",
            "peak in the same cell" => "int8_same_peak",
            _ => return None,
        };
        Some((name, figure.value?))
    });
    add_scores(files, scores);
    log::info!("int8 graphs to follow with by {}", found.trial().name);
    let graphs = <[Vec<u8>; 2]>::try_from(found.graphs)
        .map_err(|g| anyhow::anyhow!("{} graphs, expected 2", g.len()))?;
    bundle::set_int8(files, graphs)?;
    Ok(report)
}

fn clips(rendered: &Rendered<'_>) -> Result<Vec<Run>> {
    let mut clips = Vec::new();
    for folder in rendered.drives(render::Layout::Sequences, CHOICE_SEED)? {
        clips.extend(Layout::Auto.load_runs(&folder)?);
    }
    Ok(clips)
}

/// Pairs to calibrate on, real and rendered, and pairs that no training saw.
fn pairs(arguments: &QuantiseArguments, rendered: &Rendered<'_>) -> Result<(Vec<Pair>, Vec<Pair>)> {
    let run = load(&arguments.config, arguments.data.as_ref())?;
    let dataset = Arc::new(Dataset::open(&run.data)?);
    let train = sampler(&run, &dataset, Split::Train)?;
    let (from_drives, from_packs) = arguments.shares();
    let real = drawn(&train, from_packs as u64)?;
    let later = match from_drives {
        0 => Vec::new(),
        count => {
            let drives = Sampler::new(
                rendered.dataset(&run, CALIBRATION_SEED)?,
                run.sampler.clone(),
                run.augment.clone(),
                Split::Train,
                CALIBRATION_SEED,
            )?;
            drawn(&drives, count as u64)?
        }
    };
    let calibration = in_turn(real, later);
    ensure!(
        !calibration.is_empty(),
        "--calibration 0: there is nothing to calibrate on"
    );
    let held_out = sampler(&run, &dataset, Split::Validation)?;
    let held_out = drawn(&held_out, arguments.pairs)?;
    ensure!(
        !held_out.is_empty(),
        "--pairs 0: there is nothing to choose by"
    );
    Ok((calibration, held_out))
}

pub(in crate::commands) fn drawn(sampler: &Sampler, count: u64) -> Result<Vec<Pair>> {
    let mut scratch = SamplerScratch::default();
    let pairs = (0..count).map(|number| Ok(sampler.draw_number(number, &mut scratch)?));
    pairs.collect()
}
