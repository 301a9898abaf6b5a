//! The graph that finds road users: whole frames in, proposals beside the truth and beside those of the f32 graph out.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use roadhound_shared::preprocess::CropSize;
use roadhound_shared::propose::{ProposeContract, RoadUser};
use roadhound_trainer::augment::AugmentConfig;
use roadhound_trainer::config::TrackerRun;
use roadhound_trainer::data::Dataset;
use roadhound_trainer::export::bundle::{self, BundleFiles};
use roadhound_trainer::quantise::follow::pixel_params;
use roadhound_trainer::quantise::propose::{Bench, FrameSamples, sources};
use roadhound_trainer::quantise::report::Report;
use roadhound_trainer::quantise::search::Search;
use roadhound_trainer::sampler::{SamplerScratch, Split};
use roadhound_trainer::scenes::labels::PackLabels;
use roadhound_trainer::scenes::{SceneConfig, SceneSampler, SceneView};

use super::super::load;
use super::{
    CALIBRATION_SEED, CHOICE_SEED, CORRECTION_SAMPLES, NOISE_SAMPLES, QuantiseArguments, Rendered,
    add_scores, in_turn, tell,
};

/// Two merits nearer than this are alike: on a hundred frames a different rounding alone moves them as much.
const SAME_MERIT: f64 = 0.005;

/// Gives the bundle an int8 graph to find road users with; returns the report.
pub(super) fn quantise(
    arguments: &QuantiseArguments,
    rendered: &Rendered<'_>,
    files: &mut BundleFiles,
) -> Result<String> {
    let named = || format!("{}", arguments.bundle.display());
    let contract = files.manifest.propose.clone();
    let contract = contract.context("the bundle has no propose.onnx")?;
    let graph = files.propose.as_ref().map(|g| g.bytes.clone());
    let graph = graph.context("the bundle has no propose.onnx")?;
    let Frames {
        calibration,
        labelled,
        further,
    } = frames(arguments, rendered, &contract)?;
    log::info!(
        "{} frames to calibrate on; {} rendered and {} real held-out ones to choose by",
        calibration.len(),
        labelled.len(),
        further.len()
    );
    let samples = |frames| FrameSamples {
        frames,
        contract: &contract,
    };
    let (bench, f32) = Bench::new(&contract, &graph, &labelled, &further).with_context(named)?;
    tell(&f32);
    let found = Search {
        samples: &samples(&calibration),
        few: &samples(&calibration[..calibration.len().min(CORRECTION_SAMPLES)]),
        observers: &arguments.observers,
        pixels: pixel_params(&contract.normalisation)?,
        alike: SAME_MERIT,
        bar: &|steps, message| arguments.bar(steps, message),
    }
    .run(
        &|| sources(&graph, &contract).with_context(named),
        &|graphs| {
            let [graph] = graphs else {
                anyhow::bail!("{} graphs, expected 1", graphs.len())
            };
            bench.figures(graph)
        },
    )?;
    let held_out: Vec<SceneView> = in_turn(further.clone(), labelled.clone());
    let noise = found.noise(&samples(&held_out[..held_out.len().min(NOISE_SAMPLES)]))?;
    let conditions = format!(
        "Calibrated on {} whole frames, chosen by {} rendered frames, of which every road user is known, and {} real ones of held-out sequences; {} pairs of layers can be equalised.",
        calibration.len(),
        labelled.len(),
        further.len(),
        found.equalisable
    );
    let report = Report {
        name: &format!("{}, road users", files.manifest.name),
        conditions: &conditions,
        rule: &format!(
            "The highest mean of precision and recall is taken; within {SAME_MERIT}, the share of proposals that both have times their overlap decides. A proposal is in both where kind and box (IoU 0.5) are the same, at the score from which on the board reads them."
        ),
        f32: &f32,
        chosen: &found,
        graphs: &["propose"],
        noise: &noise,
        sizes: &[(graph.len(), found.graphs[0].len())],
    }
    .markdown();
    let figures = found.trial().figures.all.iter();
    let scores = figures.filter_map(|figure| {
        let name = match figure.name.as_str() {
            "AP50, rendered scenes" => "int8_propose_rendered_ap50",
            "recall at one false alarm a frame" => "int8_propose_rendered_recall_1fa",
            "proposals that both have" => "int8_propose_same",
            _ => return None,
        };
        Some((name, figure.value?))
    });
    add_scores(files, scores);
    log::info!("int8 graph for road users by {}", found.trial().name);
    let [graph] = <[Vec<u8>; 1]>::try_from(found.graphs)
        .map_err(|g| anyhow::anyhow!("{} graphs, expected 1", g.len()))?;
    bundle::set_propose_int8(files, graph)?;
    Ok(report)
}

/// Whole frames, letterboxed as the contract says.
struct Frames {
    /// Real and rendered.
    calibration: Vec<SceneView>,
    /// Rendered, every road user known.
    labelled: Vec<SceneView>,
    /// Real, of sequences that no training saw.
    further: Vec<SceneView>,
}

fn frames(
    arguments: &QuantiseArguments,
    rendered: &Rendered<'_>,
    contract: &ProposeContract,
) -> Result<Frames> {
    let run = load(&arguments.config, arguments.data.as_ref())?;
    let dataset = Arc::new(Dataset::open(&run.data)?);
    let input = contract.input_size();
    let (from_drives, from_packs) = arguments.shares();
    // Real frames are fed and compared; what is on them is not asked.
    let packs = whole_frames(&run, &dataset, &[], input, Split::Train, from_packs)?;
    let drives = |seed, count| match count {
        0 => Ok(Vec::new()),
        count => {
            let dataset = rendered.dataset(&run, seed)?;
            whole_frames(&run, &dataset, &RoadUser::ALL, input, Split::Train, count)
        }
    };
    let calibration = in_turn(packs, drives(CALIBRATION_SEED, from_drives)?);
    ensure!(
        !calibration.is_empty(),
        "--calibration 0: there is nothing to calibrate on"
    );
    let from_drives = match arguments.drives {
        0 => 0,
        _ => arguments.frames / 2,
    };
    let labelled = drives(CHOICE_SEED, from_drives)?;
    let count = arguments.frames - from_drives;
    let further = whole_frames(&run, &dataset, &[], input, Split::Validation, count)?;
    ensure!(
        !labelled.is_empty() || !further.is_empty(),
        "--frames 0: there is nothing to choose by"
    );
    Ok(Frames {
        calibration,
        labelled,
        further,
    })
}

/// Frames of a split, spread evenly, with the kinds that its packs box wherever they are.
fn whole_frames(
    run: &TrackerRun,
    dataset: &Arc<Dataset>,
    complete: &[RoadUser],
    input: CropSize,
    split: Split,
    count: usize,
) -> Result<Vec<SceneView>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let labels = dataset.packs().iter().map(|pack| PackLabels {
        pack: pack.name.clone(),
        complete: complete.to_vec(),
    });
    let config = SceneConfig {
        input_width_px: input.width_px,
        input_height_px: input.height_px,
        ..SceneConfig::default()
    };
    let scenes = SceneSampler::new(
        dataset.clone(),
        config,
        &labels.collect::<Vec<_>>(),
        AugmentConfig::none(),
        split,
        run.seed,
    )?;
    Ok(scenes.whole_frames(count, &mut SamplerScratch::default())?)
}
