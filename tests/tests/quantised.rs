//! Quantised graphs: the bytes of the trainer's interpreter are those of ONNX Runtime, in every tensor; and what is
//! malformed is refused in one line.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use prost::Message;
use roadhound_edge::infer::{self as edge_infer, TractNetwork};
use roadhound_edge::int8::Path as Kernels;
use roadhound_shared::contract::FollowContract;
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use roadhound_shared::quantised::QuantParams;
use roadhound_trainer::augment::AugmentConfig;
use roadhound_trainer::batch::Batch;
use roadhound_trainer::data::{DataConfig, Dataset};
use roadhound_trainer::evaluate::planar;
use roadhound_trainer::export::array::{Array, Value};
use roadhound_trainer::export::bundle::contract_of;
use roadhound_trainer::export::follow::{search_graph, template_graph};
use roadhound_trainer::export::interpret::{Graph, OnnxNetwork};
use roadhound_trainer::export::onnx::{ModelProto, types};
use roadhound_trainer::model::{ModelConfig, TrackerNet};
use roadhound_trainer::quantise::follow::{PairSamples, pixel_params, sources};
use roadhound_trainer::quantise::observe::Observer;
use roadhound_trainer::quantise::weights::Rounding;
use roadhound_trainer::quantise::{Corrections, Seen, Settings, quantised};
use roadhound_trainer::sampler::{Pair, Sampler, SamplerConfig, SamplerScratch, Split};
use system_tests::{bundle_folder, oracle_python, read_bundle, say, shared_data};

const PAIRS: u64 = 200;

/// Both graphs of one model, and what they were made for.
struct Int8 {
    contract: FollowContract,
    template: Vec<u8>,
    search: Vec<u8>,
}

fn shipped() -> Option<Int8> {
    let contract = read_bundle(&bundle_folder()).unwrap().manifest;
    let Some(files) = contract.int8_files() else {
        say("skipped: the shipped bundle has no int8 graphs");
        return None;
    };
    let read = |name: &str| std::fs::read(bundle_folder().join(name)).unwrap();
    Some(Int8 {
        template: read(files.template),
        search: read(files.search),
        contract: contract.follow,
    })
}

/// A small network of channel counts that no vector register likes, quantised on noise.
fn small() -> Int8 {
    let config = ModelConfig {
        stage_channels: vec![5, 7, 9],
        plain_convs: vec![0, 1, 0],
        residual_pairs: vec![1, 0, 1],
        feature_channels: 11,
        head_channels: 13,
        embedding: 3,
        template_px: 24,
        search_px: 40,
    };
    let net = TrackerNet::new(&config, 7, &Device::Cpu).unwrap();
    let contract = contract_of(&net).unwrap();
    let folded = net.folded().unwrap();
    let (template, search) = (template_graph(&folded, &[]), search_graph(&folded, &[]));
    let sources = sources(&template, &search, &contract).unwrap();
    let batch = Batch::noise(3, 6, config.template_px, config.search_px);
    let pairs: Vec<Pair> = (0..batch.len).map(|i| batch.pair(i)).collect();
    let samples = PairSamples {
        pairs: &pairs,
        contract: &contract,
    };
    let seen = Seen::watch(&sources, &samples, || {}).unwrap();
    let settings = Settings {
        observer: Observer::Percentile(99.9),
        rounding: Rounding::Largest,
        pixels: pixel_params(&contract.normalisation).unwrap(),
    };
    let graphs = quantised(&sources, &seen, &settings, &Corrections::new()).unwrap();
    let [template, search] = <[Vec<u8>; 2]>::try_from(graphs).unwrap();
    Int8 {
        contract,
        template,
        search,
    }
}

/// Template crop and search crop, planar and normalised.
type Crops = (Vec<f32>, Vec<f32>);

fn crops_of(pair: &Pair, contract: &FollowContract) -> Crops {
    let crop = |rgb: &[u8]| planar(rgb, &contract.normalisation);
    (crop(&pair.template_rgb), crop(&pair.search_rgb))
}

fn real_crops(contract: &FollowContract) -> Option<Vec<Crops>> {
    let root = shared_data("data/train")?;
    let data = DataConfig {
        root,
        ..DataConfig::default()
    };
    let dataset = Arc::new(Dataset::open(&data).unwrap());
    let (config, augment) = (SamplerConfig::default(), AugmentConfig::none());
    let sampler = Sampler::new(dataset, config, augment, Split::Validation, 5).unwrap();
    let mut scratch = SamplerScratch::default();
    let pairs = (0..PAIRS).map(|i| sampler.draw(0, i, &mut scratch).unwrap());
    Some(pairs.map(|pair| crops_of(&pair, contract)).collect())
}

fn noise_crops(contract: &FollowContract, count: usize) -> Vec<Crops> {
    let (t, s) = (contract.template_px as usize, contract.search_px as usize);
    let batch = Batch::noise(11, count, t, s);
    (0..count)
        .map(|i| crops_of(&batch.pair(i), contract))
        .collect()
}

/// Every value of both graphs for one pair, the search graph fed with the features of this pair and of the last.
fn run_pair(
    graphs: &[Graph; 2],
    contract: &FollowContract,
    (template, search): &Crops,
    latest: &mut Option<Array>,
) -> [BTreeMap<String, Value>; 2] {
    let t = &contract.tensors;
    let array =
        |shape: &[usize], values: &[f32]| Array::new(shape.to_vec(), values.to_vec()).unwrap();
    let first = graphs[0]
        .run(&[(&t.template.name, array(&t.template.shape, template))])
        .unwrap();
    let features = first[&t.features.name].floats().unwrap().clone();
    let second = graphs[1]
        .run(&[
            (&t.search.name, array(&t.search.shape, search)),
            (&t.template_first.name, features.clone()),
            (
                &t.template_latest.name,
                latest.clone().unwrap_or_else(|| features.clone()),
            ),
        ])
        .unwrap();
    *latest = Some(features);
    [first, second].map(|values| values.into_iter().collect())
}

/// Compares every u8 tensor of the trainer's interpreter with ONNX Runtime's, and the final outputs within what
/// different orders of f32 sums explain.
fn check_bytes(model: &Int8, crops: &[Crops], python: &Path) {
    let graphs = [&model.template, &model.search].map(|bytes| Graph::parse(bytes).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("template.int8.onnx"), &model.template).unwrap();
    std::fs::write(at("search.int8.onnx"), &model.search).unwrap();
    let floats = crops.iter().flat_map(|(t, s)| t.iter().chain(s));
    std::fs::write(
        at("crops"),
        floats.flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>(),
    )
    .unwrap();

    let ours: Vec<_> = {
        let mut latest = None;
        let run = |pair| run_pair(&graphs, &model.contract, pair, &mut latest);
        crops.iter().map(run).collect()
    };
    let names = ["template", "search"];
    let tensors: Vec<(usize, &String)> = (0..2)
        .flat_map(|g| ours[0][g].iter().map(move |(name, value)| (g, name, value)))
        .filter(|(_, _, value)| value.bytes().is_some())
        .map(|(g, name, _)| (g, name))
        .collect();
    let list: String = tensors
        .iter()
        .map(|(g, name)| format!("{} {name}\n", names[*g]))
        .collect();
    std::fs::write(at("tensors"), list).unwrap();
    let done = std::process::Command::new(python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/quantised_oracle.py"
        ))
        .args([folder.path(), &at("crops"), &at("tensors"), &at("out")])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let theirs = std::fs::read(at("out")).unwrap();
    let mut rest = theirs.as_slice();
    let (mut compared, mut furthest) = (0u64, 0f32);
    for (pair, ours) in ours.iter().enumerate() {
        for (graph, name) in &tensors {
            let found = ours[*graph][*name].bytes().unwrap().values();
            let (expected, after) = rest.split_at(found.len());
            rest = after;
            let differ = found.iter().zip(expected).filter(|(a, b)| a != b).count();
            assert_eq!(
                differ,
                0,
                "pair {pair}, {} {name}: {differ} of {} bytes",
                names[*graph],
                found.len()
            );
            compared += found.len() as u64;
        }
        let t = &model.contract.tensors;
        for spec in [&t.score, &t.box_ltrb_px, &t.presence, &t.embedding] {
            let found = ours[1][&spec.name].floats().unwrap().values();
            let (expected, after) = rest.split_at(4 * found.len());
            rest = after;
            for (a, b) in found.iter().zip(expected.chunks_exact(4)) {
                let b = f32::from_le_bytes(b.try_into().unwrap());
                let off = (a - b).abs() / (1.0 + b.abs());
                assert!(off <= 1e-4, "pair {pair}, {}: {a} and {b}", spec.name);
                furthest = furthest.max(off);
            }
        }
    }
    assert!(rest.is_empty());
    say(&format!(
        "{} pairs, {} tensors of each: {compared} bytes compared, 0 differ; outputs at most {furthest:.1e} apart",
        crops.len(),
        tensors.len()
    ));
}

#[test]
fn trainer_and_onnx_runtime_give_the_same_bytes_on_two_hundred_real_crops() {
    let Some(model) = shipped() else { return };
    let Some(crops) = real_crops(&model.contract) else {
        return;
    };
    if let Some(python) = oracle_python() {
        check_bytes(&model, &crops, &python);
    }
}

#[test]
fn trainer_and_onnx_runtime_give_the_same_bytes_for_a_network_of_odd_sizes() {
    let model = small();
    if let Some(python) = oracle_python() {
        check_bytes(&model, &noise_crops(&model.contract, 12), &python);
    }
}

/// Compares the board's kernels, on every path that this processor has, with the trainer's interpreter, whose bytes are
/// ONNX Runtime's: the features to the bit, what follows from bytes in f32 within `tolerance`.
fn check_kernels(model: &Int8, crops: &[Crops], tolerance: f32) {
    let contract = &model.contract;
    fn answers<N: FollowNetwork>(
        network: &mut N,
        contract: &FollowContract,
        crops: &[Crops],
    ) -> Vec<Vec<f32>> {
        let mut latest = None;
        let pairs = crops.iter();
        pairs
            .map(|pair| answer(network, contract, pair, &mut latest))
            .collect()
    }
    fn answer<N: FollowNetwork>(
        network: &mut N,
        contract: &FollowContract,
        (template, search): &Crops,
        latest: &mut Option<Vec<f32>>,
    ) -> Vec<f32> {
        let mut t = TemplateOutputs::for_contract(contract);
        let mut s = SearchOutputs::for_contract(contract);
        network.template(template, &mut t).unwrap();
        let before = latest.take().unwrap_or_else(|| t.features.clone());
        network
            .search(search, &t.features, &before, &mut s)
            .unwrap();
        let mut all = t.features.clone();
        *latest = Some(t.features);
        all.extend(t.embedding);
        all.extend(s.score);
        all.extend(s.box_ltrb_px);
        all.push(s.presence);
        all.extend(s.embedding);
        all
    }
    let mut trainer = OnnxNetwork::new(&model.template, &model.search, contract).unwrap();
    let expected = answers(&mut trainer, contract, crops);
    for path in Kernels::available() {
        // The reference takes a second for a pair of the shipped model.
        let most = if path == Kernels::Scalar {
            20
        } else {
            crops.len()
        };
        for threads in [1, 2] {
            let int8 = edge_infer::Int8::Kernels(path);
            let (t, s) = (&model.template, &model.search);
            let mut board = TractNetwork::load_with(contract, t, s, threads, int8).unwrap();
            let most = most.min(crops.len());
            let found = answers(&mut board, contract, &crops[..most]);
            for (pair, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let (features, tail) = found.split_at(contract.features_len());
                let (same, other) = expected.split_at(contract.features_len());
                assert_eq!(
                    features, same,
                    "features of pair {pair} on {path}, {threads} thread(s)"
                );
                for (a, b) in tail.iter().zip(other) {
                    assert!(
                        (a - b).abs() <= tolerance,
                        "pair {pair} on {path}, {threads} thread(s): {a} and {b}"
                    );
                }
            }
            say(&format!(
                "{path}, {threads} thread(s): {most} pairs, all outputs alike"
            ));
        }
    }
}

#[test]
fn the_kernels_of_every_path_and_the_trainer_give_the_same_bits_on_two_hundred_real_crops() {
    let Some(model) = shipped() else { return };
    let crops = real_crops(&model.contract).unwrap_or_else(|| noise_crops(&model.contract, 8));
    check_kernels(&model, &crops, 0.0);
}

#[test]
fn the_kernels_of_every_path_and_the_trainer_agree_on_a_network_of_odd_sizes() {
    let model = small();
    // The f32 sums of its heads, over 13 channels, have another order in the trainer than in tract.
    check_kernels(&model, &noise_crops(&model.contract, 12), 1e-6);
}

/// What a distorted model says, which must be no panic.
fn say_or_run(model: &Int8, template: &[u8], search: &[u8]) -> Option<String> {
    let contract = &model.contract;
    let network = OnnxNetwork::new(template, search, contract);
    let trainer = network
        .map_err(|e| e.to_string())
        .and_then(|mut n| run_once(&mut n, contract));
    // Whatever the edge makes of it, it has to say so.
    if let Err(line) = TractNetwork::load(contract, template, search, 1) {
        assert!(!line.to_string().contains('\n'), "{line}");
    }
    trainer
        .err()
        .inspect(|line| assert!(!line.contains('\n'), "{line}"))
}

fn run_once<N: FollowNetwork>(network: &mut N, contract: &FollowContract) -> Result<(), String> {
    let mut template = TemplateOutputs::for_contract(contract);
    let mut search = SearchOutputs::for_contract(contract);
    let (t, s) = (
        vec![0.3; contract.template_len()],
        vec![-0.4; contract.search_len()],
    );
    network
        .template(&t, &mut template)
        .map_err(|e| e.to_string())?;
    let features = &template.features;
    network
        .search(&s, features, features, &mut search)
        .map_err(|e| e.to_string())
}

#[test]
fn every_scale_and_zero_point_that_makes_no_sense_is_refused_in_one_line() {
    let model = small();
    assert_eq!(say_or_run(&model, &model.template, &model.search), None);
    let proto = ModelProto::decode(model.search.as_slice()).unwrap();
    let graph = proto.graph.as_ref().unwrap();
    // Where scales and zero points stand among the inputs of each operator.
    let places = |op: &str| -> &[usize] {
        match op {
            "QuantizeLinear" | "DequantizeLinear" => &[1, 2],
            "QLinearConv" => &[1, 2, 4, 5, 6, 7],
            "QLinearMatMul" | "QLinearAdd" => &[1, 2, 4, 5, 6, 7],
            _ => &[],
        }
    };
    let mut tried = 0;
    for (at, node) in graph.node.iter().enumerate() {
        for place in places(&node.op_type) {
            let name = &node.input[*place];
            let constant = graph
                .initializer
                .iter()
                .position(|t| t.name == *name)
                .unwrap();
            let is_scale = graph.initializer[constant].data_type == types::FLOAT;
            let mut damaged = Vec::new();
            let values: &[f32] = if is_scale {
                &[0.0, f32::NAN, f32::INFINITY, 3e38, -1.0]
            } else {
                &[]
            };
            for value in values {
                let mut proto = proto.clone();
                let tensor = &mut proto.graph.as_mut().unwrap().initializer[constant];
                tensor.raw_data[..4].copy_from_slice(&value.to_le_bytes());
                damaged.push((format!("{value}"), proto));
            }
            for what in ["missing", "unnamed", "of another type", "of another shape"] {
                let mut proto = proto.clone();
                let graph = proto.graph.as_mut().unwrap();
                match what {
                    "missing" => graph.node[at].input.truncate(*place),
                    "unnamed" => graph.node[at].input[*place].clear(),
                    "of another type" => graph.initializer[constant].data_type = types::INT32,
                    _ => {
                        let tensor = &mut graph.initializer[constant];
                        tensor.dims = vec![tensor.raw_data.len() as i64 + 2];
                    }
                }
                damaged.push((what.to_owned(), proto));
            }
            for (what, proto) in damaged {
                let line = say_or_run(&model, &model.template, &proto.encode_to_vec());
                let case = format!("{} {}: input {place} {what}", node.op_type, node.name);
                assert!(line.is_some(), "{case} was accepted");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn a_byte_of_a_crop_is_its_pixel() {
    let Some(model) = shipped() else { return };
    let params = pixel_params(&model.contract.normalisation).unwrap();
    let expected = QuantParams::new(1.0 / 58.0, 114).unwrap();
    assert_eq!(params.zero_point(), expected.zero_point());
    let pixels: Vec<u8> = (0..=255).flat_map(|v| [v; 3]).collect();
    for (pixel, value) in pixels
        .iter()
        .step_by(3)
        .zip(planar(&pixels, &model.contract.normalisation))
    {
        assert_eq!(params.quantise(value), *pixel);
    }
}
