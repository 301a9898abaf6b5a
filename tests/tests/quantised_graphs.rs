//! Quantised graphs besides those that follow: the one that finds road users, and those of the learning systems. Their
//! bytes in the trainer are ONNX Runtime's, and the board's kernels of every path give the trainer's numbers.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use candle_core::Device;
use prost::Message;
use roadhound_edge::infer::{Int8, LoneGraph, TractProposer};
use roadhound_edge::int8::Path as Kernels;
use roadhound_shared::contract::TensorSpec;
use roadhound_shared::mix::SplitMix64;
use roadhound_shared::propose::{ProposalConfig, ProposeContract, ProposeSizes, RoadUsers};
use roadhound_trainer::augment::AugmentConfig;
use roadhound_trainer::data::{DataConfig, Dataset};
use roadhound_trainer::evaluate::planar;
use roadhound_trainer::export::array::{Array, Value};
use roadhound_trainer::export::interpret::Graph;
use roadhound_trainer::export::onnx::{GraphBuilder, GraphProto, ModelProto};
use roadhound_trainer::export::propose::{OnnxProposer, graph_of};
use roadhound_trainer::export::unfold::network_from_bundle;
use roadhound_trainer::labelled::{self, Samples as Labelled, Values};
use roadhound_trainer::model::ProposeNet;
use roadhound_trainer::model::propose::ProposeModelConfig;
use roadhound_trainer::model::stack::{Stack, StackConfig};
use roadhound_trainer::params::ParamBuilder;
use roadhound_trainer::quantise::chain::{self, Chain, ChainSamples};
use roadhound_trainer::quantise::follow::pixel_params;
use roadhound_trainer::quantise::observe::Observer;
use roadhound_trainer::quantise::propose::{FrameSamples, sources};
use roadhound_trainer::quantise::weights::Rounding;
use roadhound_trainer::quantise::{Corrections, Samples, Seen, Settings, quantised};
use roadhound_trainer::sampler::{SamplerScratch, Split};
use roadhound_trainer::scenes::labels::PackLabels;
use roadhound_trainer::scenes::{SceneConfig, SceneSampler, SceneView};
use system_tests::{bundle_folder, oracle_python, proposals, read_bundle, say, shared_data};

/// Frames that bytes are compared on.
const FRAMES: usize = 24;

fn settings(pixels: roadhound_shared::quantised::QuantParams) -> Settings {
    Settings {
        observer: Observer::Percentile(99.99),
        rounding: Rounding::Largest,
        pixels,
    }
}

fn graph_proto(bytes: &[u8]) -> GraphProto {
    ModelProto::decode(bytes).unwrap().graph.unwrap()
}

/// Compares every u8 tensor of the trainer's interpreter with ONNX Runtime's over several runs, and the outputs within
/// what different orders of f32 sums explain.
fn check_bytes(what: &str, bytes: &[u8], runs: &[Vec<Array>]) {
    let Some(python) = oracle_python() else {
        return;
    };
    let (graph, proto) = (Graph::parse(bytes).unwrap(), graph_proto(bytes));
    let names: Vec<&str> = proto.input.iter().map(|i| i.name.as_str()).collect();
    let ours = runs.iter().map(|inputs| {
        let named: Vec<(&str, Array)> = names.iter().copied().zip(inputs.iter().cloned()).collect();
        graph.run(&named).unwrap()
    });
    let ours: Vec<_> = ours.collect();
    let mut tensors: Vec<&String> = ours[0]
        .iter()
        .filter(|(_, value)| value.bytes().is_some())
        .map(|(name, _)| name)
        .collect();
    tensors.sort();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let floats = runs.iter().flatten().flat_map(Array::values);
    let floats: Vec<u8> = floats.flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(at("graph.onnx"), bytes).unwrap();
    std::fs::write(at("inputs"), floats).unwrap();
    let list: String = tensors.iter().map(|name| format!("{name}\n")).collect();
    std::fs::write(at("tensors"), list).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/graph_oracle.py");
    let done = std::process::Command::new(python)
        .arg(script)
        .args([at("graph.onnx"), at("inputs"), at("tensors"), at("out")])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let theirs = std::fs::read(at("out")).unwrap();
    let mut rest = theirs.as_slice();
    let (mut compared, mut furthest) = (0_u64, 0_f32);
    for (run, ours) in ours.iter().enumerate() {
        for name in &tensors {
            let found = ours[*name].bytes().unwrap().values();
            let (expected, after) = rest.split_at(found.len());
            rest = after;
            let differ = found.iter().zip(expected).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 0, "{what}, run {run}, {name}, of {}", found.len());
            compared += found.len() as u64;
        }
        for output in &proto.output {
            let found = ours[&output.name].floats().unwrap().values();
            let (expected, after) = rest.split_at(4 * found.len());
            rest = after;
            for (a, b) in found.iter().zip(expected.chunks_exact(4)) {
                let b = f32::from_le_bytes(b.try_into().unwrap());
                let off = (a - b).abs() / (1.0 + b.abs());
                assert!(
                    off <= 1e-4,
                    "{what}, run {run}, {}: {a} and {b}",
                    output.name
                );
                furthest = furthest.max(off);
            }
        }
    }
    assert!(rest.is_empty() && compared > 0, "{what}");
    say(&format!(
        "{what}: {} runs, {} tensors of each: {compared} bytes compared, 0 differ; outputs at most {furthest:.1e} apart",
        runs.len(),
        tensors.len()
    ));
}

// ---- road users

/// The quantised graph that finds road users: the shipped one, or a head that has learned nothing on the shipped backbone.
fn propose_int8(frames: impl Fn(&ProposeContract) -> Vec<SceneView>) -> (ProposeContract, Vec<u8>) {
    let manifest = read_bundle(&bundle_folder()).unwrap().manifest;
    if let Some(contract) = manifest.propose
        && let Some(files) = contract.int8_files()
    {
        let bytes = std::fs::read(bundle_folder().join(files.graph)).unwrap();
        return (contract, bytes);
    }
    let config = ProposeModelConfig::default();
    let backbone =
        network_from_bundle(&bundle_folder(), &config.backbone, 1, &Device::Cpu).unwrap();
    let input = ProposeSizes::default().input;
    let net = ProposeNet::new(&config, input, backbone, 3, &Device::Cpu).unwrap();
    let decode = ProposalConfig::default();
    let (contract, graph) = graph_of(&net, decode, Default::default(), "none").unwrap();
    let sources = sources(&graph.bytes, &contract).unwrap();
    let frames = frames(&contract);
    let samples = FrameSamples {
        frames: &frames[..frames.len().min(6)],
        contract: &contract,
    };
    let seen = Seen::watch(&sources, &samples, || {}).unwrap();
    let settings = settings(pixel_params(&contract.normalisation).unwrap());
    let mut graphs = quantised(&sources, &seen, &settings, &Corrections::new()).unwrap();
    (contract, graphs.remove(0))
}

/// Whole frames of the training packs, letterboxed; without those, noise.
fn frames(contract: &ProposeContract) -> Vec<SceneView> {
    let input = contract.input_size();
    let Some(root) = shared_data("data/train") else {
        let mut dice = SplitMix64(5);
        let len = 3 * input.width_px as usize * input.height_px as usize;
        let frame = |_| SceneView {
            rgb: (0..len).map(|_| (dice.next() >> 56) as u8).collect(),
            objects: vec![],
            complete: RoadUsers::NONE,
        };
        return (0..4).map(frame).collect();
    };
    let data = DataConfig {
        root,
        ..DataConfig::default()
    };
    let dataset = Arc::new(Dataset::open(&data).unwrap());
    let labels = dataset.packs().iter().map(|pack| PackLabels {
        pack: pack.name.clone(),
        complete: vec![],
    });
    let labels: Vec<PackLabels> = labels.collect();
    let config = SceneConfig {
        input_width_px: input.width_px,
        input_height_px: input.height_px,
        ..SceneConfig::default()
    };
    let none = AugmentConfig::none();
    let scenes = SceneSampler::new(dataset, config, &labels, none, Split::Validation, 5).unwrap();
    let scratch = &mut SamplerScratch::default();
    scenes.whole_frames(FRAMES, scratch).unwrap()
}

#[test]
fn the_graph_that_finds_road_users_has_the_bytes_of_onnx_runtime_on_real_frames() {
    let (contract, bytes) = propose_int8(frames);
    let input = |view: &SceneView| {
        let values = planar(&view.rgb, &contract.normalisation);
        vec![Array::new(contract.tensors.frame.shape.clone(), values).unwrap()]
    };
    let runs: Vec<Vec<Array>> = frames(&contract).iter().map(input).collect();
    check_bytes("road users", &bytes, &runs);
}

/// Products of all quantised convolutions of a graph.
fn products(bytes: &[u8], inputs: &[(&str, Array)]) -> u64 {
    let proto = graph_proto(bytes);
    let values = Graph::parse(bytes).unwrap().run(inputs).unwrap();
    let convs = proto.node.iter().filter(|n| n.op_type == "QLinearConv");
    let of = |node: &roadhound_trainer::export::onnx::NodeProto| {
        let weights = proto.initializer.iter().find(|t| t.name == node.input[3]);
        let depth: i64 = weights.unwrap().dims[1..].iter().product();
        values[&node.output[0]].shape().iter().product::<usize>() as u64 * depth as u64
    };
    convs.map(of).sum()
}

#[test]
fn the_kernels_of_every_path_find_road_users_as_the_trainer_does_and_leave_nothing_to_tract() {
    let (contract, bytes) = propose_int8(frames);
    let frames: Vec<Vec<f32>> = frames(&contract)
        .iter()
        .map(|view| planar(&view.rgb, &contract.normalisation))
        .collect();
    let mut trainer = OnnxProposer::new(&bytes, &contract).unwrap();
    let expected = proposals(&mut trainer, &contract, &frames).unwrap();
    let tensor = &contract.tensors.frame;
    let first = Array::new(tensor.shape.clone(), frames[0].clone()).unwrap();
    let products = products(&bytes, &[(&tensor.name, first)]);
    for path in Kernels::available() {
        // The reference takes seconds for a frame.
        let most = if path == Kernels::Scalar {
            2
        } else {
            frames.len()
        };
        let most = most.min(frames.len());
        for threads in [1, 2] {
            let int8 = Int8::Kernels(path);
            let mut board = TractProposer::load(&contract, &bytes, threads, int8).unwrap();
            assert_eq!(board.int8_products(), products, "left to tract on {path}");
            let found = proposals(&mut board, &contract, &frames[..most]).unwrap();
            for (frame, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(
                    found == expected,
                    "frame {frame} on {path}, {threads} thread(s)"
                );
            }
            say(&format!(
                "{path}, {threads} thread(s): {most} frames of {:.2} G products, all outputs alike",
                products as f64 / 1e9
            ));
        }
    }
}

// ---- learning systems

/// Pictures of smooth shapes, as bytes.
fn pictures(count: usize, shape: labelled::Shape) -> Labelled {
    let mut dice = SplitMix64(9);
    let mut bytes = Vec::new();
    for _ in 0..count {
        let mut draw = || (dice.next() >> 40) as f32 / (1 << 24) as f32;
        let (a, b, c) = (1.0 + 3.0 * draw(), 1.0 + 3.0 * draw(), 6.0 * draw());
        for k in 0..shape.len() {
            let pixel = k / shape.channels;
            let (y, x) = (pixel / shape.width, pixel % shape.width);
            let wave = (a * x as f32 / 4.0 + b * y as f32 / 4.0 + c + k as f32 * 0.01).sin();
            bytes.push((127.5 + 127.5 * wave).round() as u8);
        }
    }
    Labelled::new(shape, Values::Bytes(bytes), vec![0; count], vec![]).unwrap()
}

/// A stack as a graph from `from` to `to`, with a ReLU or a sigmoid at the end as an autoencoder's halves have.
fn written(stack: &Stack, from: &str, to: &str) -> Vec<u8> {
    let mut g = GraphBuilder::new(to);
    g.input(from, &stack.onnx_input());
    let y = stack.write(&mut g, from).unwrap();
    let y = match to {
        "picture" => g.node("Sigmoid", &[&y], vec![]),
        _ => y,
    };
    g.output(to, &y, &stack.onnx_output());
    g.finish(&[])
}

#[test]
fn an_encoder_and_its_decoder_are_quantised_together_and_run_everywhere() {
    let device = &Device::Cpu;
    for (channels, widths, colours) in [(vec![6, 10], vec![20], 3), (vec![], vec![24, 12], 1)] {
        let shape = labelled::Shape {
            height: 12,
            width: 12,
            channels: colours,
        };
        let what = format!("convolutions {channels:?}, dense layers {widths:?}");
        let config = StackConfig {
            channels,
            widths,
            ..StackConfig::default()
        };
        let mut builder = ParamBuilder::new(3, device);
        let b = &mut builder;
        let encoder = Stack::encoder(b, "e", shape, &config, 5, true).unwrap();
        let decoder = Stack::decoder(b, "d", 5, &config, shape).unwrap();
        let plain = [
            written(&encoder, "x", "code"),
            written(&decoder, "code", "picture"),
        ];
        let named = ["encoder", "decoder"].map(String::from);
        let chain = Chain::new(named.into_iter().zip(plain.clone()).collect()).unwrap();
        let samples = pictures(60, shape);
        let sources = chain.sources(&samples).unwrap();
        let (even, odd): (Vec<usize>, Vec<usize>) = (0..60).partition(|k| k % 2 == 0);
        let some = |chosen| ChainSamples {
            chain: &chain,
            samples: &samples,
            chosen,
        };
        let seen = Seen::watch(&sources, &some(&even), || {}).unwrap();
        let settings = settings(chain::pixel_params().unwrap());
        let graphs = quantised(&sources, &seen, &settings, &Corrections::new()).unwrap();

        // What each graph is fed with on samples that it was not calibrated on.
        let (mut runs, parsed) = ([vec![], vec![]], graphs.iter().map(|g| Graph::parse(g)));
        let parsed: Vec<Graph> = parsed.collect::<Result<_, _>>().unwrap();
        let mut given: [Vec<Vec<f32>>; 2] = [vec![], vec![]];
        for index in 0..odd.len() {
            some(&odd)
                .forward(index, &mut |at, inputs| {
                    let values = parsed[at].run(inputs)?;
                    runs[at].push(inputs.iter().map(|(_, array)| array.clone()).collect());
                    let output = ["code", "picture"][at];
                    let Some(Value::Floats(array)) = values.get(output) else {
                        panic!("no {output}")
                    };
                    given[at].push(array.values().to_vec());
                    Ok(values)
                })
                .unwrap();
        }
        for at in 0..2 {
            let name = format!("{} of {what}", ["encoder", "decoder"][at]);
            check_bytes(&name, &graphs[at], &runs[at]);
            // The board's kernels, with stock tract for what they leave.
            let proto = graph_proto(&graphs[at]);
            let spec = |name: &str, shape: Vec<usize>| TensorSpec {
                name: name.to_owned(),
                shape,
            };
            let stack = [&encoder, &decoder][at];
            let input = spec(&proto.input[0].name, stack.onnx_input());
            let output = spec(&proto.output[0].name, stack.onnx_output());
            let mut board = LoneGraph::load(&name, &graphs[at], &[&input], &[&output]).unwrap();
            let (mut signal, mut noise) = (0.0, 0.0);
            let reference = Graph::parse(&plain[at]).unwrap();
            for (inputs, expected) in runs[at].iter().zip(&given[at]) {
                let inputs: &Vec<Array> = inputs;
                let mut found = vec![0.0; expected.len()];
                board.run(&[inputs[0].values()], &mut [&mut found]).unwrap();
                for (a, b) in found.iter().zip(expected) {
                    assert!(
                        (a - b).abs() <= 1e-5 * (1.0 + b.abs()),
                        "{name}: {a} and {b}"
                    );
                }
                let f32 = reference.run(&[(&input.name, inputs[0].clone())]).unwrap();
                for (a, b) in expected
                    .iter()
                    .zip(f32[&output.name].floats().unwrap().values())
                {
                    signal += f64::from(*b).powi(2);
                    noise += f64::from(a - b).powi(2);
                }
            }
            // Eight bits of each of a handful of layers: some thousandths.
            let share = noise / signal;
            say(&format!("{name}: noise {share:.1e} of the signal"));
            assert!(share > 0.0 && share < 0.01, "{name}: {share}");
        }
    }
}

#[test]
fn graphs_and_samples_that_do_not_belong_together_are_refused_in_one_line() {
    let mut g = GraphBuilder::new("g");
    g.input("x", &[1, 3, 12, 12]);
    let y = g.node("Gemm", &["x"], vec![]);
    g.output("y", &y, &[1, 4]);
    let unknown = g.finish(&[]);
    let shape = labelled::Shape {
        height: 12,
        width: 10,
        channels: 3,
    };
    let samples = pictures(2, shape);
    let said = |bytes: &[u8], samples: &Labelled| {
        let chain = Chain::new(vec![("g.onnx".to_owned(), bytes.to_vec())]);
        let error = chain
            .and_then(|chain| chain.sources(samples))
            .err()
            .unwrap();
        let line = format!("{error:#}");
        assert!(!line.contains('\n'), "{line}");
        line
    };
    let line = said(b"no graph", &samples);
    assert!(line.starts_with("g.onnx: not an ONNX model"), "{line}");
    let line = said(&unknown, &samples);
    let expected = "g.onnx: input x takes [1, 3, 12, 12], a sample has 12 x 10 x 3 values";
    assert_eq!(line, expected);
    let fitting = pictures(2, labelled::Shape { width: 12, ..shape });
    let line = said(&unknown, &fitting);
    assert!(line.contains("operator Gemm is not known"), "{line}");
}
