//! The same network on candle, in the trainer's interpreter, on tract and in ONNX Runtime: the same crops, the same
//! answers. Interpreter and tract agree to the bit, the others within the tolerances of the issue.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use candle_core::Device;
use roadhound_edge::drive::{Drive, DriveConfig};
use roadhound_edge::infer::{Int8, TractNetwork, TractProposer};
use roadhound_edge::int8::Path as Kernels;
use roadhound_shared::contract::FollowContract;
use roadhound_shared::frame::FrameView;
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use roadhound_shared::preprocess::{
    Border, CropScratch, CropWindow, crop_tensor, crop_tensor_sized,
};
use roadhound_shared::propose::probe::probe_frame;
use roadhound_shared::propose::{ProposalConfig, ProposeContract, ProposeOutputs, ProposeSizes};
use roadhound_trainer::augment::AugmentConfig;
use roadhound_trainer::data::{DataConfig, Dataset};
use roadhound_trainer::export::bundle::graphs_of;
use roadhound_trainer::export::interpret::OnnxNetwork;
use roadhound_trainer::export::propose::{CandleProposer, OnnxProposer, graph_of};
use roadhound_trainer::export::unfold::network_from_bundle;
use roadhound_trainer::model::propose::{ProposeModelConfig, ProposeNet};
use roadhound_trainer::model::{ModelConfig, TrackerNet};
use roadhound_trainer::network::CandleNetwork;
use roadhound_trainer::sampler::{Sampler, SamplerConfig, SamplerScratch, Split};
use system_tests::{bundle_folder, oracle_python, proposals, read_bundle, say, shared_data};

/// What the issue asks for: scores within 1e-4, boxes within 0.05 px.
const SCORE_TOLERANCE: f32 = 1e-4;
const BOX_TOLERANCE_PX: f32 = 0.05;
const PAIRS: u64 = 200;

/// One template crop and one search crop, planar and normalised.
struct CropPair {
    template: Vec<f32>,
    search: Vec<f32>,
}

/// What both graphs say about one pair.
type Answer = (TemplateOutputs, SearchOutputs);

/// Crops of held-out training images, without augmentation.
fn real_crops(contract: &FollowContract) -> Option<Vec<CropPair>> {
    let root = shared_data("data/train")?;
    let dataset = Arc::new(
        Dataset::open(&DataConfig {
            root,
            ..DataConfig::default()
        })
        .unwrap(),
    );
    let sampler = Sampler::new(
        dataset,
        SamplerConfig::default(),
        AugmentConfig::none(),
        Split::Validation,
        5,
    )
    .unwrap();
    let mut scratch = SamplerScratch::default();
    let planar = |rgb: &[u8]| -> Vec<f32> {
        let n = &contract.normalisation;
        let channel = |c: usize| {
            rgb.chunks_exact(3)
                .map(move |p| (f32::from(p[c]) - n.mean[c]) * n.scale[c])
        };
        (0..3).flat_map(channel).collect()
    };
    let pairs = (0..PAIRS).map(|i| {
        let pair = sampler.draw(0, i, &mut scratch).unwrap();
        CropPair {
            template: planar(&pair.template_rgb),
            search: planar(&pair.search_rgb),
        }
    });
    Some(pairs.collect())
}

/// Crops of a rendered drive, for checkouts without real images.
fn rendered_crops(contract: &FollowContract, count: u32) -> Vec<CropPair> {
    let mut drive = Drive::new(DriveConfig::default()).unwrap();
    let mut scratch = CropScratch::default();
    let mut rgb = Vec::new();
    let mut pairs = Vec::new();
    for index in 0..count {
        let truth = drive.render(index, &mut rgb);
        let frame =
            FrameView::rgb8(drive.config().width_px, drive.config().height_px, &rgb).unwrap();
        let mut crop = |context: f32, px: u32| {
            let mut out = vec![0.0; 3 * (px * px) as usize];
            let window = CropWindow::around(truth.box_in_image.unwrap(), context);
            crop_tensor(
                &frame,
                &window,
                px,
                Border::Mean,
                &contract.normalisation,
                &mut scratch,
                &mut out,
            )
            .unwrap();
            out
        };
        pairs.push(CropPair {
            template: crop(contract.template_context(), contract.template_px),
            search: crop(contract.search_context(), contract.search_px),
        });
    }
    pairs
}

/// What a network says about a pair; the latest template is the previous pair's.
fn answers<N: FollowNetwork>(
    network: &mut N,
    contract: &FollowContract,
    pairs: &[CropPair],
) -> Vec<Answer> {
    let mut latest: Option<Vec<f32>> = None;
    pairs
        .iter()
        .map(|pair| {
            let mut template = TemplateOutputs::for_contract(contract);
            let mut search = SearchOutputs::for_contract(contract);
            network.template(&pair.template, &mut template).unwrap();
            let second = latest.take().unwrap_or_else(|| template.features.clone());
            network
                .search(&pair.search, &template.features, &second, &mut search)
                .unwrap();
            latest = Some(template.features.clone());
            (template, search)
        })
        .collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

fn check_same(what: &str, ours: &[Answer], theirs: &[Answer]) {
    assert_eq!(ours.len(), theirs.len());
    let (mut score, mut boxes, mut presence, mut identity) = (0f32, 0f32, 0f32, 0f32);
    for ((ta, sa), (tb, sb)) in ours.iter().zip(theirs) {
        score = score.max(furthest(&sa.score, &sb.score));
        boxes = boxes.max(furthest(&sa.box_ltrb_px, &sb.box_ltrb_px));
        presence = presence.max((sa.presence - sb.presence).abs());
        identity = identity
            .max(furthest(&sa.embedding, &sb.embedding))
            .max(furthest(&ta.embedding, &tb.embedding));
    }
    say(&format!(
        "{what}: {} pairs, furthest apart: score {score:.2e}, box {boxes:.2e} px, presence {presence:.2e}, identity {identity:.2e}",
        ours.len()
    ));
    assert!(
        score <= SCORE_TOLERANCE && presence <= SCORE_TOLERANCE && identity <= 1e-3,
        "{what}"
    );
    assert!(boxes <= BOX_TOLERANCE_PX, "{what}: {boxes} px");
}

fn trainer_and_tract(pairs: &[CropPair]) -> (Vec<Answer>, Vec<Answer>) {
    let bundle = read_bundle(&bundle_folder()).unwrap();
    let contract = &bundle.manifest.follow;
    let mut trainer = OnnxNetwork::new(&bundle.template, &bundle.search, contract).unwrap();
    let mut tract = TractNetwork::load(contract, &bundle.template, &bundle.search, 1).unwrap();
    (
        answers(&mut trainer, contract, pairs),
        answers(&mut tract, contract, pairs),
    )
}

/// Every value of every map, so that a failure names the first one that differs.
fn check_equal(ours: &[Answer], theirs: &[Answer]) {
    assert_eq!(ours.len(), theirs.len());
    let same = |what: &str, pair: usize, a: &[f32], b: &[f32]| {
        let differ = a.iter().zip(b).filter(|(a, b)| a != b).count();
        assert!(
            differ == 0 && a.len() == b.len(),
            "{what} of pair {pair}: {differ} of {} values differ, by at most {:e}",
            a.len(),
            furthest(a, b)
        );
    };
    for (pair, ((ta, sa), (tb, sb))) in ours.iter().zip(theirs).enumerate() {
        same("features", pair, &ta.features, &tb.features);
        same(
            "identity of the template",
            pair,
            &ta.embedding,
            &tb.embedding,
        );
        same("score", pair, &sa.score, &sb.score);
        same("boxes", pair, &sa.box_ltrb_px, &sb.box_ltrb_px);
        same("presence", pair, &[sa.presence], &[sb.presence]);
        same("identity", pair, &sa.embedding, &sb.embedding);
    }
}

#[test]
fn trainer_and_tract_agree_to_the_bit_on_rendered_crops() {
    let contract = read_bundle(&bundle_folder()).unwrap().manifest.follow;
    let (trainer, tract) = trainer_and_tract(&rendered_crops(&contract, 8));
    check_equal(&trainer, &tract);
}

#[test]
fn tract_gives_the_same_bits_on_several_threads() {
    let bundle = read_bundle(&bundle_folder()).unwrap();
    let contract = &bundle.manifest.follow;
    let pairs = rendered_crops(contract, 2);
    let on = |threads: usize| {
        let network = TractNetwork::load(contract, &bundle.template, &bundle.search, threads);
        answers(&mut network.unwrap(), contract, &pairs)
    };
    check_equal(&on(1), &on(3));
}

#[test]
fn a_network_on_candle_and_its_exported_graphs_agree() {
    let net = TrackerNet::new(&ModelConfig::default(), 11, &Device::Cpu).unwrap();
    let (mut graphs, contract) = graphs_of(&net).unwrap();
    let pairs = rendered_crops(&contract, 4);
    let exported = answers(&mut graphs, &contract, &pairs);
    let candle = answers(
        &mut CandleNetwork::new(net, &Device::Cpu),
        &contract,
        &pairs,
    );
    check_same("candle against its export", &candle, &exported);
}

#[test]
fn trainer_tract_and_onnx_runtime_agree_on_two_hundred_real_crops() {
    let bundle = read_bundle(&bundle_folder()).unwrap();
    let contract = &bundle.manifest.follow;
    let Some(pairs) = real_crops(contract) else {
        return;
    };
    let (trainer, tract) = trainer_and_tract(&pairs);
    check_equal(&trainer, &tract);

    let Some(python) = oracle_python() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (crops, out) = (
        folder.path().join("crops.f32"),
        folder.path().join("answers.f32"),
    );
    let bytes: Vec<u8> = pairs
        .iter()
        .flat_map(|p| p.template.iter().chain(&p.search))
        .flat_map(|v| v.to_le_bytes())
        .collect();
    std::fs::write(&crops, bytes).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/onnxruntime_oracle.py");
    let done = std::process::Command::new(python)
        .arg(script)
        .arg(bundle_folder())
        .args([&crops, &out])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let mut values = std::fs::read(&out)
        .unwrap()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect::<Vec<_>>()
        .into_iter();
    let mut take = |out: &mut [f32]| out.iter_mut().for_each(|v| *v = values.next().unwrap());
    let runtime: Vec<_> = pairs
        .iter()
        .map(|_| {
            let mut template = TemplateOutputs::for_contract(contract);
            let mut search = SearchOutputs::for_contract(contract);
            let mut presence = [0.0];
            take(&mut template.features);
            take(&mut template.embedding);
            take(&mut search.score);
            take(&mut search.box_ltrb_px);
            take(&mut presence);
            take(&mut search.embedding);
            search.presence = presence[0];
            (template, search)
        })
        .collect();
    check_same("trainer and tract against ONNX Runtime", &tract, &runtime);
}

/// Whole frames as `propose.onnx` reads them: a probe, and a rendered drive.
fn frames(contract: &ProposeContract, count: u32) -> Vec<Vec<f32>> {
    let mut drive = Drive::new(DriveConfig::default()).unwrap();
    let (width_px, height_px) = (drive.config().width_px, drive.config().height_px);
    let (mut scratch, mut rgb) = (CropScratch::default(), Vec::new());
    let size = contract.input_size();
    let mut frames = vec![probe_frame(4, contract)];
    for index in 0..count {
        drive.render(index * 20, &mut rgb);
        let mut out = vec![0.0; contract.tensors.frame.len()];
        crop_tensor_sized(
            &FrameView::rgb8(width_px, height_px, &rgb).unwrap(),
            &CropWindow::letterbox(width_px, height_px, size),
            size,
            Border::Mean,
            &contract.normalisation,
            &mut scratch,
            &mut out,
        )
        .unwrap();
        frames.push(out);
    }
    frames
}

fn check_proposals(what: &str, ours: &[ProposeOutputs], theirs: &[ProposeOutputs]) {
    assert_eq!(ours.len(), theirs.len());
    let worst = |values: fn(&ProposeOutputs) -> &[f32]| {
        let pairs = ours.iter().zip(theirs);
        pairs
            .map(|(a, b)| furthest(values(a), values(b)))
            .fold(0.0, f32::max)
    };
    let (score, boxes) = (worst(|o| &o.score), worst(|o| &o.box_ltrb_px));
    let embedding = worst(|o| &o.embedding);
    say(&format!(
        "{what}: {} frames, furthest apart: score {score:.2e}, box {boxes:.2e} px, embedding {embedding:.2e}",
        ours.len()
    ));
    assert!(score <= SCORE_TOLERANCE && embedding <= 1e-3, "{what}");
    assert!(boxes <= BOX_TOLERANCE_PX, "{what}: {boxes} px");
}

/// A head that nobody trained, on the shipped backbone: its maps differ at every cell all the same.
#[test]
fn the_graph_that_proposes_says_the_same_on_candle_interpreter_tract_and_onnx_runtime() {
    let config = ProposeModelConfig::default();
    let backbone =
        network_from_bundle(&bundle_folder(), &config.backbone, 1, &Device::Cpu).unwrap();
    let input = ProposeSizes::default().input;
    let net = ProposeNet::new(&config, input, backbone, 3, &Device::Cpu).unwrap();
    let (contract, graph) =
        graph_of(&net, ProposalConfig::default(), Default::default(), "none").unwrap();
    let frames = frames(&contract, 3);

    let mut interpreter = OnnxProposer::new(&graph.bytes, &contract).unwrap();
    let interpreted = proposals(&mut interpreter, &contract, &frames).unwrap();
    let spread = |values: &[f32]| {
        let most = values.iter().copied().fold(f32::MIN, f32::max);
        most - values.iter().copied().fold(f32::MAX, f32::min)
    };
    assert!(spread(&interpreted[1].score) > 1e-3 && spread(&interpreted[1].embedding) > 0.1);

    let mut candle = CandleProposer::new(&net, &contract, &Device::Cpu);
    let on_candle = proposals(&mut candle, &contract, &frames).unwrap();
    check_proposals("candle against its export", &on_candle, &interpreted);

    let kernels = Int8::Kernels(Kernels::detect());
    let tract = |threads: usize| {
        let mut network = TractProposer::load(&contract, &graph.bytes, threads, kernels).unwrap();
        proposals(&mut network, &contract, &frames).unwrap()
    };
    let on_tract = tract(1);
    assert!(
        on_tract == interpreted,
        "interpreter and tract differ in some bit"
    );
    assert!(tract(2) == on_tract, "tract differs on two threads");

    let Some(python) = oracle_python() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bytes: Vec<u8> = frames
        .iter()
        .flatten()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    std::fs::write(at("frames.f32"), bytes).unwrap();
    std::fs::write(at("propose.onnx"), &graph.bytes).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/propose_oracle.py");
    let done = std::process::Command::new(python)
        .arg(script)
        .args([at("propose.onnx"), at("frames.f32"), at("out.f32")])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let bytes = std::fs::read(at("out.f32")).unwrap();
    let mut values = bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    let mut runtime = Vec::new();
    for _ in &frames {
        let mut out = ProposeOutputs::for_contract(&contract);
        for buffer in [&mut out.score, &mut out.box_ltrb_px, &mut out.embedding] {
            buffer.iter_mut().for_each(|v| *v = values.next().unwrap());
        }
        runtime.push(out);
    }
    check_proposals("tract against ONNX Runtime", &on_tract, &runtime);
}
