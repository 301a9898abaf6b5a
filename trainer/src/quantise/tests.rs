//! The quantiser on small networks: what becomes of each node, and how near the result is.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::follow::{PairSamples, pixel_params, sources};
use super::observe::Observer;
use super::source::Source;
use super::weights::Rounding;
use super::*;
use crate::batch::Batch;
use crate::export::bundle::contract_of;
use crate::export::follow::{search_graph, template_graph};
use crate::model::{ModelConfig, Pass, TrackerNet};
use crate::ops::{Precision, images_from_bytes};
use crate::params::lock;
use crate::sampler::Pair;
use crate::task::track::{PIXEL_MEAN, PIXEL_SCALE};
use roadhound_shared::contract::FollowContract;

fn config() -> ModelConfig {
    ModelConfig {
        stage_channels: vec![6, 8],
        plain_convs: vec![0, 1],
        residual_pairs: vec![0, 1],
        feature_channels: 8,
        head_channels: 8,
        embedding: 4,
        template_px: 16,
        search_px: 32,
    }
}

/// A network whose normalisations say something, as after training.
fn net(config: &ModelConfig) -> TrackerNet {
    let net = TrackerNet::new(config, 5, &Device::Cpu).unwrap();
    for (k, (name, var)) in net.params().vars.iter().enumerate() {
        if name.ends_with(".gamma") || name.ends_with(".beta") {
            let start = if name.ends_with(".gamma") { 0.8 } else { -0.1 };
            let values = (0..var.elem_count()).map(|i| start + 0.1 * ((i * 7 + k) % 5) as f32);
            var.set(&Tensor::from_iter(values, &Device::Cpu).unwrap())
                .unwrap();
        }
    }
    for (k, stats) in net.params().stats.values().enumerate() {
        let mut stats = lock(stats);
        for (i, v) in stats.variance.iter_mut().enumerate() {
            *v = 0.5 + 0.2 * ((i + k) % 4) as f32;
        }
    }
    net
}

struct Fixture {
    net: TrackerNet,
    contract: FollowContract,
    graphs: [Vec<u8>; 2],
    batch: Batch,
    pairs: Vec<Pair>,
}

fn fixture() -> Fixture {
    let batch = Batch::noise(3, 8, config().template_px, config().search_px);
    fixture_of(net(&config()), batch)
}

fn fixture_of(net: TrackerNet, batch: Batch) -> Fixture {
    let contract = contract_of(&net).unwrap();
    let folded = net.folded().unwrap();
    Fixture {
        graphs: [template_graph(&folded, &[]), search_graph(&folded, &[])],
        pairs: (0..batch.len).map(|i| batch.pair(i)).collect(),
        batch,
        net,
        contract,
    }
}

impl Fixture {
    fn sources(&self) -> Vec<Source> {
        sources(&self.graphs[0], &self.graphs[1], &self.contract).unwrap()
    }

    fn samples(&self) -> PairSamples<'_> {
        PairSamples {
            pairs: &self.pairs,
            contract: &self.contract,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            observer: Observer::Percentile(100.0),
            rounding: Rounding::Largest,
            pixels: pixel_params(&self.contract.normalisation).unwrap(),
        }
    }

    /// Crops of the whole batch as the network takes them.
    fn images(&self, rgb: &[u8], px: usize) -> Tensor {
        let shape = (self.batch.len, px, px, 3);
        images_from_bytes(rgb, shape, PIXEL_MEAN, PIXEL_SCALE, &Device::Cpu).unwrap()
    }

    /// An output of the search graph for every pair.
    fn outputs(&self, graphs: &[Vec<u8>], name: &str) -> Vec<f32> {
        let graphs = parsed(graphs).unwrap();
        let mut found = Vec::new();
        for index in 0..self.pairs.len() {
            let mut run = |at: usize, inputs: &[(&str, Array)]| {
                let values = graphs[at].run(inputs)?;
                if let Some(array) = values.get(name).and_then(Value::floats).filter(|_| at == 1) {
                    found.extend_from_slice(array.values());
                }
                Ok(values)
            };
            self.samples().forward(index, &mut run).unwrap();
        }
        found
    }
}

/// Share of the variance that is noise.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let mean = expected.iter().map(|v| f64::from(*v)).sum::<f64>() / expected.len() as f64;
    let noise: f64 = found
        .iter()
        .zip(expected)
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum();
    let signal: f64 = expected
        .iter()
        .map(|v| (f64::from(*v) - mean).powi(2))
        .sum();
    noise / signal
}

fn operators(bytes: &[u8]) -> BTreeMap<String, usize> {
    use prost::Message;
    let model = crate::export::onnx::ModelProto::decode(bytes).unwrap();
    let mut count = BTreeMap::new();
    for node in model.graph.unwrap().node {
        *count.entry(node.op_type).or_default() += 1;
    }
    count
}

#[test]
fn every_layer_with_a_relu_is_quantised_and_the_heads_stay_in_f32() {
    let f = fixture();
    let seen = Seen::watch(&f.sources(), &f.samples(), || {}).unwrap();
    let graphs = quantised(&f.sources(), &seen, &f.settings(), &Corrections::new()).unwrap();
    let search = operators(&graphs[1]);
    let of = |op: &str| search.get(op).copied().unwrap_or_default();
    // Two stages, one plain, two of the residual pair, neck, mix, two of the trunk, one of the identity head.
    assert_eq!(of("QLinearConv"), 2 + 1 + 2 + 1 + 1 + 2 + 1);
    assert_eq!((of("QLinearAdd"), of("QLinearMatMul")), (1, 1));
    // Score, boxes, presence, identity.
    assert_eq!((of("Conv"), of("Relu")), (4, 0));
    // The crop and the mixed templates; the trunk for the heads and the hidden layer of the identity.
    assert_eq!((of("QuantizeLinear"), of("DequantizeLinear")), (2, 2));
    // The affine map of the correlation is in the weights, the template mix is not.
    assert_eq!(operators(&f.graphs[1])["Mul"] - of("Mul"), 1);
    let template = operators(&graphs[0]);
    assert_eq!(template["QLinearConv"], 2 + 1 + 2 + 1 + 1);
    assert_eq!(template["Conv"], 1);
}

#[test]
fn eight_bits_are_near_what_f32_says() {
    let f = fixture();
    let seen = Seen::watch(&f.sources(), &f.samples(), || {}).unwrap();
    let graphs = quantised(&f.sources(), &seen, &f.settings(), &Corrections::new()).unwrap();
    for name in ["score", "box", "embedding"] {
        let error = relative_error(&f.outputs(&graphs, name), &f.outputs(&f.graphs, name));
        assert!(error < 0.02 && error > 0.0, "{name}: {error}");
    }
}

#[test]
fn values_that_are_the_same_function_share_their_numbers() {
    let f = fixture();
    let sources = f.sources();
    let seen = Seen::watch(&sources, &f.samples(), || {}).unwrap();
    let layers = compare::layers(&sources, &seen, &f.settings()).unwrap();
    let of = |graph: usize| layers.iter().filter(move |l| l.graph == graph);
    let shared = of(0).filter(|a| of(1).any(|b| a.key == b.key)).count();
    // All of the backbone and the neck; not the identity head, which sees the middle of the template only.
    assert_eq!(shared, 2 + 1 + 3 + 1 + 1);
    for a in of(0) {
        for b in of(1).filter(|b| b.key == a.key) {
            assert_eq!(a.params, b.params);
        }
    }
    // A mix of features has the bytes of features.
    let features = of(0).find(|l| l.shape == [1, 8, 4, 4] && l.relu && l.value != "template");
    let mixed = of(1)
        .find(|l| l.operator == "QuantizeLinear" && l.shape.len() == 2)
        .unwrap();
    assert!(features.is_some() && of(0).any(|l| l.params == mixed.params));
}

#[test]
fn equalised_layers_compute_the_same_function() {
    let f = fixture();
    let mut equal = f.sources();
    let seen = Seen::watch(&equal, &f.samples(), || {}).unwrap();
    let pairs = equalise::equalise(&mut equal, &seen);
    assert!(pairs >= 4, "{pairs}");
    let graphs: Vec<Vec<u8>> = equal.iter().map(Source::to_bytes).collect();
    assert_ne!(graphs[1], f.graphs[1]);
    for name in ["score", "box", "embedding"] {
        let error = relative_error(&f.outputs(&graphs, name), &f.outputs(&f.graphs, name));
        assert!(error < 1e-9, "{name}: {error}");
    }
    // Tied weights stay tied.
    let seen = Seen::watch(&equal, &f.samples(), || {}).unwrap();
    let layers = compare::layers(&equal, &seen, &f.settings()).unwrap();
    let of = |graph: usize| layers.iter().filter(move |l| l.graph == graph);
    assert_eq!(
        of(0).filter(|a| of(1).any(|b| a.key == b.key)).count(),
        2 + 1 + 3 + 1 + 1
    );
}

#[test]
fn corrected_biases_bring_the_means_back() {
    let f = fixture();
    let sources = f.sources();
    let seen = Seen::watch(&sources, &f.samples(), || {}).unwrap();
    let settings = f.settings();
    let layers = compare::layers(&sources, &seen, &settings).unwrap();
    let found =
        correct::corrections(&sources, &seen, &settings, &layers, &f.samples(), || {}).unwrap();
    let last = layers
        .iter()
        .rfind(|l| l.operator == "QLinearConv" && l.graph == 1)
        .unwrap();
    let shift = |corrections: &Corrections| -> f64 {
        let graphs = quantised(&sources, &seen, &settings, corrections).unwrap();
        let plain = parsed(&sources.iter().map(Source::to_bytes).collect::<Vec<_>>()).unwrap();
        let graphs = parsed(&graphs).unwrap();
        let mut sums = vec![0.0; last.shape[1]];
        compare::side_by_side(&plain, &graphs, &f.samples(), |graph, numbers, bytes| {
            if graph == 1 {
                let numbers = numbers[&last.value].floats().unwrap().values();
                let bytes = bytes[&last.value].bytes().unwrap().values();
                let area = bytes.len() / sums.len();
                for (at, (n, b)) in numbers.iter().zip(bytes).enumerate() {
                    sums[at / area] += f64::from(last.params.dequantise(*b) - n);
                }
            }
            Ok(())
        })
        .unwrap();
        sums.iter().map(|s| s * s).sum()
    };
    let (before, after) = (shift(&Corrections::new()), shift(&found));
    assert!(after < 0.5 * before, "{after} after, {before} before");
}

#[test]
fn noise_is_measured_in_every_layer() {
    let f = fixture();
    let sources = f.sources();
    let seen = Seen::watch(&sources, &f.samples(), || {}).unwrap();
    let layers = compare::layers(&sources, &seen, &f.settings()).unwrap();
    let graphs = quantised(&sources, &seen, &f.settings(), &Corrections::new()).unwrap();
    let noise = compare::noise(&sources, &graphs, &layers, &f.samples()).unwrap();
    for (layer, noise) in layers.iter().zip(&noise) {
        assert!(noise.count > 0, "{} was not found", layer.value);
        let decibels = noise.decibels();
        assert!(decibels > 12.0, "{}: {decibels} dB", layer.value);
        // A byte of a crop is its pixel: nothing is lost, and black and white are ends of the range.
        let is_crop = layer.params == f.settings().pixels;
        assert_eq!(is_crop, noise.noise == 0.0, "{}", layer.value);
        assert!(
            is_crop || noise.saturation() < 0.05,
            "{}: {}",
            layer.value,
            noise.saturation()
        );
    }
}

/// The ranges of training are those of a batch that is rounded already, so values are rounded at other places than in the
/// graph. The error is as large, though, and the part of it that rounded weights make is the same.
#[test]
fn training_in_eight_bits_computes_what_the_quantised_graph_computes() {
    let config = ModelConfig {
        template_px: 32,
        ..config()
    };
    let mut batch = Batch::noise(3, 8, 32, 32);
    batch.template_rgb = batch.search_rgb.clone();
    batch.template_latest_rgb = batch.search_rgb.clone();
    let f = fixture_of(net(&config), batch);
    let settings = Settings {
        observer: crate::ops::BATCH_RANGE,
        ..f.settings()
    };
    let seen = Seen::watch(&f.sources(), &f.samples(), || {}).unwrap();
    let graphs = quantised(&f.sources(), &seen, &settings, &Corrections::new()).unwrap();
    let expected = f.outputs(&graphs, "score");
    let plain = f.outputs(&f.graphs, "score");
    let score = |pass: Pass| -> Vec<f32> {
        let features = |rgb: &[u8]| f.net.features(&f.images(rgb, 32), pass).unwrap();
        let first = features(&f.batch.template_rgb);
        let latest = features(&f.batch.template_latest_rgb);
        let template = f.net.mix_templates(&first, &latest).unwrap();
        let search = features(&f.batch.search_rgb);
        let maps = f.net.heads(&template, &search, pass).unwrap();
        let score = crate::model::net::sigmoid(&maps.score_logits).unwrap();
        score.flatten_all().unwrap().to_vec1().unwrap()
    };
    let trained = score(Pass::TrainQuantised {
        precision: Precision::F32,
    });
    assert!(relative_error(&score(Pass::Eval), &plain) < 1e-8);
    let error = |found: &[f32]| -> Vec<f64> {
        let pairs = found.iter().zip(&plain);
        pairs.map(|(a, b)| f64::from(a - b)).collect()
    };
    let (ours, graph) = (error(&trained), error(&expected));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let power = dot(&ours, &ours) / dot(&graph, &graph);
    assert!((0.4..2.5).contains(&power), "{power} of the graph's error");
    let alike = dot(&ours, &graph) / (dot(&ours, &ours) * dot(&graph, &graph)).sqrt();
    assert!(alike > 0.25, "the errors are alike by {alike}");
}

#[test]
fn gradients_in_eight_bits_point_where_those_in_f32_do() {
    let f = fixture();
    let gradients = |pass: Pass| {
        let features = |rgb: &[u8], px| f.net.features(&f.images(rgb, px), pass).unwrap();
        let template = features(&f.batch.template_rgb, 16);
        let search = features(&f.batch.search_rgb, 32);
        let maps = f.net.heads(&template, &search, pass).unwrap();
        let loss = (maps.score_logits.sqr().unwrap().mean_all().unwrap()
            + maps.presence_logits.sqr().unwrap().mean_all().unwrap())
        .unwrap();
        loss.backward().unwrap()
    };
    let precision = Precision::F32;
    let rounded = gradients(Pass::TrainQuantised { precision });
    let plain = gradients(Pass::TrainFrozen { precision });
    let mut compared = 0;
    for (name, var) in &f.net.params().vars {
        let Some(plain) = plain.get(var) else {
            continue;
        };
        let rounded = rounded
            .get(var)
            .unwrap_or_else(|| panic!("{name} has no gradient"));
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (a, b) = (values(rounded), values(plain));
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        if dot(&b, &b) < 1e-12 {
            continue;
        }
        let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        assert!(cosine > 0.9, "{name}: {cosine}");
        compared += 1;
    }
    assert!(compared > 8, "{compared}");
}

#[test]
fn a_graph_that_is_quantised_already_is_refused() {
    let f = fixture();
    let seen = Seen::watch(&f.sources(), &f.samples(), || {}).unwrap();
    let graphs = quantised(&f.sources(), &seen, &f.settings(), &Corrections::new()).unwrap();
    let Err(error) = sources(&graphs[0], &graphs[1], &f.contract) else {
        panic!("accepted")
    };
    assert!(
        format!("{error:#}").ends_with("the graph is quantised already"),
        "{error:#}"
    );
}
