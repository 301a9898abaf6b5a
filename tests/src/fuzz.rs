//! What the fuzzers call: every parser of the project behind one signature, with seeds in the real formats.
//!
//! Enters: any bytes. Leaves: nothing, unless something panicked, hung or broke a promise that a target states. The
//! targets under `tests/fuzz` hand these functions to libFuzzer; `tests/tests/fuzz_smoke.rs` feeds them the seeds, every
//! input that once crashed, and some thousands of mutations, without a nightly compiler.
//!
//! [`mutate`] makes inputs out of seeds; `examples/fuzz_run.rs` makes millions.
//!
//! Readers of folders take several files in one input, apart by zero bytes, in the order of their seeds.

mod board;
mod graphs;
pub mod mutate;
#[path = "../../edge/tests/common/panics.rs"]
mod panics;

use std::path::Path;

pub use graphs::load_seeds;
use roadhound_edge::capture::dump::Times;
use roadhound_edge::config::RunConfig;
use roadhound_edge::infer::TractNetwork;
use roadhound_edge::source::{Options, RawLayout, open};
use roadhound_edge::watch::config::WatchFile;
use roadhound_shared::contract::{BundleManifest, FollowContract, FollowSizes, sha256_hex};
use roadhound_shared::frame::{FrameView, PixelFormat, Timestamp};
use roadhound_shared::geometry::BoxXywh;
use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};
use roadhound_shared::preprocess::{
    Border, CropScratch, CropWindow, Normalisation, crop_rgb8, crop_tensor,
};
use roadhound_shared::tracker::{Tracker, TrackerConfig};
use roadhound_shared::world::{Region, WorldConfig};
use roadhound_trainer::adapt::config::AdaptRun;
use roadhound_trainer::autoencoder::AutoencoderRun;
use roadhound_trainer::checkpoint::Checkpoint;
use roadhound_trainer::config::{SystemConfig, TrackerRun};
use roadhound_trainer::dann::DannRun;
use roadhound_trainer::data::layout::Layout;
use roadhound_trainer::data::store::ImageStore;
use roadhound_trainer::data::{PackKind, ReadConfig, read_pack, truth as truth_table};
use roadhound_trainer::disentangle::DisentangleRun;
use roadhound_trainer::export::interpret::{Graph, OnnxNetwork};
use roadhound_trainer::export::onnx::{Attribute, GraphBuilder};
use roadhound_trainer::export::package;
use roadhound_trainer::familiarity::FamiliarityRun;
use roadhound_trainer::gan::GanRun;
use roadhound_trainer::labelled::{
    LabelledError, Samples, Shape, Values, folder, idx as idx_format, npz as npz_format, table,
};
use roadhound_trainer::many::{self, ManyRules};
use roadhound_trainer::metric::MetricRun;
use roadhound_trainer::metric::pairs::PairSets;
use roadhound_trainer::propose::ProposeRun;
use roadhound_trainer::quantise::chain::{Chain, ChainSamples, pixel_params};
use roadhound_trainer::quantise::equalise::equalise;
use roadhound_trainer::quantise::observe::Observer;
use roadhound_trainer::quantise::weights::Rounding;
use roadhound_trainer::quantise::{Corrections, Seen, Settings, quantised};
use roadhound_trainer::report::page_of;
use roadhound_trainer::siamese::SiameseRun;
use roadhound_trainer::tune::space::Space;

/// One thing to fuzz.
pub struct Target {
    /// Name of its file under `tests/fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mutations in the fast test: fewer where one takes long.
    pub smoke_rounds: usize,
}

impl Target {
    /// Hands it an input. Panics of our own code count where a reader of somebody else's files was in the middle of it, and the
    /// guard around that has made an error of them.
    pub fn feed(&self, data: &[u8]) {
        let ((), places) = panics::of_ours(|| (self.run)(data));
        assert!(places.is_empty(), "caught, but ours: {places:?}");
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("manifest", manifest, manifest_seeds, 300),
    target("probe", graphs::probe, graphs::probe_seeds, 300),
    target(
        "adaptation",
        graphs::adaptation,
        graphs::adaptation_seeds,
        300,
    ),
    target("onnx_edge", onnx_edge, onnx_seeds, 40),
    target("onnx_trainer", onnx_trainer, onnx_seeds, 60),
    target("onnx_int8", onnx_int8, int8_seeds, 60),
    target(
        "onnx_propose",
        graphs::onnx_propose,
        graphs::onnx_propose_seeds,
        60,
    ),
    target(
        "onnx_familiarity",
        graphs::onnx_familiarity,
        graphs::onnx_familiarity_seeds,
        60,
    ),
    target("quantise", quantise, quantise_seeds, 60),
    target("configuration", configuration, configuration_seeds, 300),
    target("board_config", board_config, board_config_seeds, 300),
    target("watch_config", watch_config, watch_config_seeds, 300),
    target("dump_times", dump_times, dump_times_seeds, 200),
    target(
        "live_frame",
        board::live_frame,
        board::live_frame_seeds,
        300,
    ),
    target("control", board::control, board::control_seeds, 300),
    target("http", board::http, board::http_seeds, 300),
    target("recording", board::recording, board::recording_seeds, 150),
    target("checkpoint", checkpoint, checkpoint_seeds, 200),
    target("raw_dump", raw_dump, raw_seeds, 200),
    target("avi", avi, avi_seeds, 60),
    target("mp4", mp4, mp4_seeds, 40),
    target("jpeg", jpeg, jpeg_seeds, 150),
    target("png", png, png_seeds, 150),
    target("stored_image", stored_image, image_seeds, 150),
    target("boxes_csv", boxes_csv, boxes_seeds, 200),
    target("otb", otb, otb_seeds, 200),
    target("yolo", yolo, yolo_seeds, 200),
    target("lasot", lasot, lasot_seeds, 200),
    target("got10k", got10k, got10k_seeds, 200),
    target("trackingnet", trackingnet, trackingnet_seeds, 200),
    target("mot", mot, mot_seeds, 200),
    target("kitti", kitti, kitti_seeds, 200),
    target("bdd100k", bdd100k, bdd100k_seeds, 200),
    target("voc", voc, voc_seeds, 200),
    target("coco", coco, coco_seeds, 200),
    target("results", results, results_seeds, 100),
    target("truth", truth, truth_seeds, 200),
    target("idx", idx, idx_seeds, 200),
    target("npz", npz, npz_seeds, 200),
    target("samples_csv", samples_csv, samples_csv_seeds, 200),
    target("mosaic", mosaic, mosaic_seeds, 150),
    target("metric_pairs", metric_pairs, metric_pairs_seeds, 200),
    target("model", model, model_seeds, 150),
    target("world", world, world_seeds, 200),
    target("search_space", search_space, search_space_seeds, 300),
    target("report", report, report_seeds, 200),
    target("tracker", tracker, number_seeds, 200),
    target("crop", crop, number_seeds, 200),
];

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    smoke_rounds: usize,
) -> Target {
    Target {
        name,
        run,
        seeds,
        smoke_rounds,
    }
}

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

// ---- bundles

/// What is accepted can be written, and read again as the same.
fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = TrackerConfig::default()
        .overridden(text)
        .map(|config| config.validate());
    if let Ok(manifest) = BundleManifest::parse(text) {
        let written = manifest.to_toml();
        assert!(written.is_ok(), "accepted but not writable: {written:?}");
        assert!(written.is_ok_and(|text| BundleManifest::parse(&text).is_ok()));
    }
}

fn shipped(name: &str) -> Vec<u8> {
    std::fs::read(crate::bundle_folder().join(name)).unwrap_or_default()
}

fn manifest_seeds() -> Vec<Vec<u8>> {
    vec![
        shipped("bundle.toml"),
        b"[presence]\nlost_below = 0.3\n".to_vec(),
    ]
}

/// A network of zeros.
struct Zeros;

impl FollowNetwork for Zeros {
    type Error = std::convert::Infallible;

    fn template(&mut self, _: &[f32], _: &mut TemplateOutputs) -> Result<(), Self::Error> {
        Ok(())
    }

    fn search(
        &mut self,
        _: &[f32],
        _: &[f32],
        _: &[f32],
        _: &mut SearchOutputs,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A small network: a few cells, so that a run takes microseconds.
fn contract() -> Option<FollowContract> {
    FollowContract::new(FollowSizes {
        template_px: 32,
        search_px: 64,
        stride_px: 16,
        object_px: 16,
        feature_channels: 2,
        embedding_size: 3,
    })
    .ok()
}

fn onnx_edge(data: &[u8]) {
    let Some(contract) = contract() else { return };
    if let Ok(mut network) = TractNetwork::load(&contract, data, data, 1) {
        run_once(&mut network, &contract);
    }
}

fn onnx_trainer(data: &[u8]) {
    let Some(contract) = contract() else { return };
    if let Ok(mut network) = OnnxNetwork::new(data, data, &contract) {
        run_once(&mut network, &contract);
    }
}

fn run_once(network: &mut impl FollowNetwork, contract: &FollowContract) {
    let mut template = TemplateOutputs::for_contract(contract);
    let mut search = SearchOutputs::for_contract(contract);
    let _ = network.template(&vec![0.5; contract.template_len()], &mut template);
    let features = vec![0.5; contract.features_len()];
    let _ = network.search(
        &vec![0.5; contract.search_len()],
        &features,
        &features,
        &mut search,
    );
}

/// Graphs of the contract with one operator each: their messages are short enough for mutations to matter.
fn onnx_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for operator in ["Relu", "Add", "Transpose", "Reshape"] {
        let mut graph = GraphBuilder::new("seed");
        graph.input("template", &[1, 3, 32, 32]);
        let constant = graph.floats(&[1], &[0.5]);
        let shape = graph.ints(&[1, 3, 1024]);
        let inputs: &[&str] = match operator {
            "Add" => &["template", &constant],
            "Reshape" => &["template", &shape],
            _ => &["template"],
        };
        let result = graph.node(operator, inputs, vec![]);
        graph.output("features", &result, &[1, 3, 32, 32]);
        seeds.push(graph.finish(&[]));
    }
    seeds
}

/// Quantised graphs, on both sides: scales, zero points and shapes that make no sense are an error of one line.
fn onnx_int8(data: &[u8]) {
    let Some(contract) = contract() else { return };
    match OnnxNetwork::new(data, data, &contract) {
        Ok(mut network) => run_once(&mut network, &contract),
        Err(line) => assert!(!line.to_string().contains('\n'), "{line}"),
    }
    match TractNetwork::load(&contract, data, data, 1) {
        Ok(mut network) => run_once(&mut network, &contract),
        Err(line) => assert!(!line.to_string().contains('\n'), "{line}"),
    }
}

/// Any graph can be handed to the quantiser: what it makes of it can be read, or the reason why not is one line.
fn quantise(data: &[u8]) {
    /// Of the first input: more takes longer and shows no more.
    const MOST_VALUES: usize = 4096;
    let graph = vec![("graph.onnx".to_owned(), data.to_vec())];
    let Ok(chain) = Chain::new(graph) else { return };
    let shape = chain.pictures().unwrap_or(Shape {
        height: 1,
        width: 1,
        channels: 6,
    });
    let values = shape.height.checked_mul(shape.width);
    let values = values.and_then(|n| n.checked_mul(shape.channels));
    let Some(values @ 1..=MOST_VALUES) = values else {
        return;
    };
    let bytes = (0..2 * values).map(|k| (k * 37 % 256) as u8);
    let samples = Samples::new(shape, Values::Bytes(bytes.collect()), vec![0; 2], vec![]);
    let Ok(samples) = samples else { return };
    let made = chain.sources(&samples).and_then(|sources| {
        let settings = Settings {
            observer: Observer::Mse,
            rounding: Rounding::LeastSquares,
            pixels: pixel_params()?,
        };
        let chosen = ChainSamples {
            chain: &chain,
            samples: &samples,
            chosen: &[0, 1],
        };
        let mut equal = chain.sources(&samples)?;
        let seen = Seen::watch(&sources, &chosen, || {})?;
        equalise(&mut equal, &seen);
        quantised(&sources, &seen, &settings, &Corrections::new())
    });
    match made {
        Ok(graphs) => {
            let again = graphs.iter().map(|bytes| Graph::parse(bytes));
            let again = again.collect::<Result<Vec<_>, _>>();
            assert!(again.is_ok(), "what was written cannot be read");
        }
        Err(error) => {
            let line = format!("{error:#}");
            assert!(!line.contains('\n'), "{line}");
        }
    }
}

/// Graphs with everything that is lowered: dense layers on a map and on rows, and a ReLU after shuffled pixels.
fn quantise_seeds() -> Vec<Vec<u8>> {
    let numbers = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|k| (k * 7 % 11) as f32 / 8.0 - 0.6)
            .collect()
    };
    let conv = |g: &mut GraphBuilder, x: &str, to: usize, from: usize| {
        let weights = g.floats(&[to, from, 3, 3], &numbers(to * from * 9));
        let bias = g.floats(&[to], &numbers(to));
        let attributes = vec![
            Attribute::Ints("kernel_shape", &[3, 3]),
            Attribute::Ints("strides", &[1, 1]),
            Attribute::Ints("pads", &[1, 1, 1, 1]),
        ];
        g.node("Conv", &[x, &weights, &bias], attributes)
    };
    let dense = |g: &mut GraphBuilder, x: &str, from: usize, to: usize| {
        let weights = g.floats(&[from, to], &numbers(from * to));
        let bias = g.floats(&[1, to], &numbers(to));
        let product = g.node("MatMul", &[x, &weights], vec![]);
        g.node("Add", &[&product, &bias], vec![])
    };
    let reshape = |g: &mut GraphBuilder, x: &str, sizes: &[i64]| {
        let sizes = g.ints(sizes);
        g.node("Reshape", &[x, &sizes], vec![])
    };
    let relu = |g: &mut GraphBuilder, x: &str| g.node("Relu", &[x], vec![]);

    let g = &mut GraphBuilder::new("narrow");
    g.input("x", &[1, 1, 4, 4]);
    let y = conv(g, "x", 2, 1);
    let y = relu(g, &y);
    let y = reshape(g, &y, &[1, 32]);
    let y = dense(g, &y, 32, 3);
    let y = relu(g, &y);
    let y = dense(g, &y, 3, 2);
    g.output("y", &y, &[1, 2]);
    let narrow = std::mem::replace(g, GraphBuilder::new("wide"));

    g.input("x", &[1, 6]);
    let y = dense(g, "x", 6, 8);
    let y = relu(g, &y);
    let y = reshape(g, &y, &[1, 2, 2, 2]);
    let y = conv(g, &y, 4, 2);
    let y = reshape(g, &y, &[1, 2, 2, 1, 2, 2]);
    let order = Attribute::Ints("perm", &[0, 3, 4, 1, 5, 2]);
    let y = g.node("Transpose", &[&y], vec![order]);
    let y = reshape(g, &y, &[1, 1, 4, 4]);
    let y = relu(g, &y);
    let y = conv(g, &y, 1, 1);
    g.output("y", &y, &[1, 1, 4, 4]);
    let wide = std::mem::replace(g, GraphBuilder::new(""));
    let mut seeds = onnx_seeds();
    seeds.extend([narrow, wide].map(|graph| graph.finish(&[])));
    seeds
}

/// A convolution with a residual sum, and a product: all the quantised operators in a few hundred bytes.
fn int8_seeds() -> Vec<Vec<u8>> {
    use roadhound_trainer::export::onnx::{MICROSOFT, NodeProto};
    let mut seeds = Vec::new();
    for product in [false, true] {
        let g = &mut GraphBuilder::new("seed");
        g.input("template", &[1, 3, 32, 32]);
        let (scale, zero) = (g.floats(&[], &[0.02]), g.bytes(&[], &[114]));
        let x = g.node("QuantizeLinear", &["template", &scale, &zero], vec![]);
        let (out_scale, out_zero) = (g.floats(&[], &[0.05]), g.bytes(&[], &[0]));
        let (y, shape) = if product {
            let rows = g.ints(&[3, 1024]);
            let a = g.node("Reshape", &[&x, &rows], vec![]);
            let b = g.node("Transpose", &[&a], vec![Attribute::Ints("perm", &[1, 0])]);
            let inputs = [&a, &scale, &zero, &b, &scale, &zero, &out_scale, &out_zero];
            let inputs = inputs.map(String::as_str);
            (g.node("QLinearMatMul", &inputs, vec![]), vec![3, 3])
        } else {
            let weight = g.signed_bytes(&[2, 3, 1, 1], &[1, -2, 3, -127, 5, 6]);
            let (weight_scale, bias) = (g.floats(&[2], &[0.01, 0.03]), g.int32s(&[2], &[7, -9]));
            let weight_zero = g.signed_bytes(&[], &[0]);
            let inputs = [
                &x,
                &scale,
                &zero,
                &weight,
                &weight_scale,
                &weight_zero,
                &out_scale,
                &out_zero,
                &bias,
            ];
            let steps = vec![
                Attribute::Ints("pads", &[0; 4]),
                Attribute::Ints("strides", &[16, 16]),
            ];
            let y = g.node("QLinearConv", &inputs.map(String::as_str), steps);
            let sum = [
                &y, &out_scale, &out_zero, &y, &out_scale, &out_zero, &scale, &out_zero,
            ];
            g.push(NodeProto {
                input: sum.map(String::clone).to_vec(),
                output: vec!["sum".into()],
                name: "sum".into(),
                op_type: "QLinearAdd".into(),
                domain: MICROSOFT.into(),
                ..NodeProto::default()
            });
            ("sum".to_owned(), vec![1, 2, 2, 2])
        };
        let y = g.node("DequantizeLinear", &[&y, &scale, &out_zero], vec![]);
        g.output("features", &y, &shape);
        seeds.push(std::mem::replace(g, GraphBuilder::new("")).finish(&[]));
    }
    seeds
}

// ---- settings and checkpoints

/// What is accepted can be written, and read again.
fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    system::<AdaptRun>(text);
    system::<AutoencoderRun>(text);
    system::<DannRun>(text);
    system::<DisentangleRun>(text);
    system::<FamiliarityRun>(text);
    system::<GanRun>(text);
    system::<MetricRun>(text);
    system::<ProposeRun>(text);
    system::<SiameseRun>(text);
    if let Ok(run) = TrackerRun::parse(text) {
        let _ = run.data.validate();
        let _ = run.sampler.validate();
        let _ = run.augment.validate();
        if let Ok(written) = run.to_toml() {
            let again = TrackerRun::parse(&written);
            assert!(
                again.is_ok(),
                "{}",
                again.err().map_or(String::new(), |e| e.to_string())
            );
        }
    }
}

fn system<C: SystemConfig>(text: &str) {
    match C::parse(text) {
        Ok(run) => {
            let again = run.to_toml().map(|text| C::parse(&text).map(|_| ()));
            assert!(matches!(again, Ok(Ok(()))), "{again:?}");
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "two lines: {error}"),
    }
}

/// Those that models were trained by among them: each system has one.
fn configuration_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        TrackerRun::parse("")
            .ok()
            .and_then(|run| run.to_toml().ok())
            .unwrap_or_default()
            .into_bytes(),
    ];
    seeds.push(b"seed = 3\n[train]\nbatch = 8\n[[data.packs]]\nname = \"a\"\nkind = \"voc\"\nweight = 1.0\nread = { list = \"train.txt\" }\n".to_vec());
    for name in [
        "adapt-bdd100k-idd",
        "dann-mnist-usps",
        "disentangle-factors",
        "familiarity",
        "gan-ring",
        "metric-wine",
        "propose",
        "robust-vae-mnist",
        "siamese-mnist",
    ] {
        let path = crate::workspace().join(format!("configs/{name}.toml"));
        seeds.push(std::fs::read(path).unwrap_or_default());
    }
    let metric = MetricRun::default().to_toml();
    seeds.push(metric.unwrap_or_default().into_bytes());
    seeds
}

// ---- the board's program

/// Refusals are one line, and what is accepted can be written, and read again as the same.
fn board_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match RunConfig::parse(text) {
        Err(e) => assert!(!e.to_string().contains('\n'), "two lines: {e}"),
        Ok(config) => {
            let written = toml::to_string(&config).expect("what was read can be written");
            assert_eq!(RunConfig::parse(&written).as_ref(), Ok(&config));
        }
    }
}

fn board_config_seeds() -> Vec<Vec<u8>> {
    let sample = include_str!("../../packaging/roadhound.toml");
    let one_camera = sample.replace("[camera.rendered]", "").replace("#:", "");
    vec![
        sample.as_bytes().to_vec(),
        one_camera.into_bytes(),
        b"[camera.rendered]\nfps = 30.0\n[sinks.mqtt]\nhost = \"a\"\n".to_vec(),
    ]
}

/// As of the board's configuration.
fn watch_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match WatchFile::parse(text) {
        Err(e) => assert!(!e.to_string().contains('\n'), "two lines: {e}"),
        Ok(file) => {
            let written = toml::to_string(&file).expect("what was read can be written");
            assert_eq!(WatchFile::parse(&written).as_ref(), Ok(&file));
        }
    }
}

fn watch_config_seeds() -> Vec<Vec<u8>> {
    let sample = include_str!("../../packaging/watch.toml");
    vec![
        sample.as_bytes().to_vec(),
        sample.replace("#:", "").into_bytes(),
    ]
}

/// Numbers grow and times do not fall, also behind the last line.
fn dump_times(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(times) = Times::parse(text) {
        let lines = text.lines().count() as u64;
        let all: Vec<_> = (0..lines + 3).map(|n| times.of(n)).collect();
        assert!(all.windows(2).all(|p| p[0].0 < p[1].0 && p[0].1 <= p[1].1));
    }
}

fn dump_times_seeds() -> Vec<Vec<u8>> {
    vec![b"0 0\n1 33333\n4 133332\n".to_vec()]
}

fn checkpoint(data: &[u8]) {
    with_files(&[("last.safetensors", data)], |folder| {
        if let Ok(checkpoint) = Checkpoint::load(&folder.join("last.safetensors")) {
            let _ = TrackerRun::parse(&checkpoint.config_toml);
        }
    });
}

fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let header = r#"{"__metadata__":{"config":"seed = 3","step":"7","updates":"7"},"weights/a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&[0; 8]);
    vec![file]
}

// ---- sources of frames

/// Opens a file as `track` would and reads it to its end, or to the 40th frame.
fn source(name: &str, data: &[u8], options: &Options) {
    with_files(&[(name, data)], |folder| {
        // A lone picture is a folder of one.
        let path = if name.ends_with(".jpg") || name.ends_with(".png") {
            folder.to_owned()
        } else {
            folder.join(name)
        };
        let Ok(mut source) = open(&path, options) else {
            return;
        };
        for _ in 0..40 {
            match source.next_frame() {
                Ok(Some(frame)) => assert!(frame.pixels.view().is_ok(), "a frame that is none"),
                Ok(None) | Err(_) => break,
            }
        }
    });
}

/// The layout's text, a zero byte, the dump.
fn raw_dump(data: &[u8]) {
    let (layout, dump) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &data[..0]),
    };
    let Ok(raw) = String::from_utf8_lossy(layout).parse::<RawLayout>() else {
        return;
    };
    // Memory for one frame is asked for at once, as it has to be: 8K is what the program allows.
    if u64::from(raw.width_px) * u64::from(raw.height_px) > 1 << 20 {
        return;
    }
    let options = Options {
        raw: Some(raw),
        ..Options::default()
    };
    source("dump.yuyv", dump, &options);
}

fn raw_seeds() -> Vec<Vec<u8>> {
    ["4x2@10", "4x2:nv12", "3x3:rgb@29.97", "5x1:grey"]
        .iter()
        .map(|layout| [layout.as_bytes(), &[0], &[9; 40]].concat())
        .collect()
}

fn avi(data: &[u8]) {
    source("a.avi", data, &Options::default());
}

fn mp4(data: &[u8]) {
    source("a.mp4", data, &Options::default());
}

fn jpeg(data: &[u8]) {
    source("a.jpg", data, &Options::default());
}

fn png(data: &[u8]) {
    source("a.png", data, &Options::default());
}

fn clip(name: &str) -> Vec<u8> {
    std::fs::read(crate::workspace().join("edge/tests/data").join(name)).unwrap_or_default()
}

fn avi_seeds() -> Vec<Vec<u8>> {
    vec![clip("walk_mjpeg.avi")]
}

fn mp4_seeds() -> Vec<Vec<u8>> {
    vec![
        clip("walk_bframes.mp4"),
        clip("interlaced.mp4"),
        clip("mpeg4.mp4"),
    ]
}

fn jpeg_seeds() -> Vec<Vec<u8>> {
    let mut seeds = image_seeds();
    seeds.push(clip("one.jpg"));
    seeds
}

/// Every kind of pixel: colour, grey, palette, alpha, sixteen bits; and an animation, whose first picture counts.
fn png_seeds() -> Vec<Vec<u8>> {
    use image::{DynamicImage, ImageFormat};
    let picture = DynamicImage::ImageRgb8(image::RgbImage::from_fn(9, 7, |x, y| {
        image::Rgb([(x * 9) as u8, (y * 7) as u8, 90])
    }));
    let kinds = [
        DynamicImage::ImageLuma8(picture.to_luma8()),
        DynamicImage::ImageLumaA8(picture.to_luma_alpha8()),
        DynamicImage::ImageRgba8(picture.to_rgba8()),
        DynamicImage::ImageRgb16(picture.to_rgb16()),
        picture,
    ];
    let written = kinds.iter().map(|kind| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        // Memory does not refuse.
        let _ = kind.write_to(&mut bytes, ImageFormat::Png);
        bytes.into_inner()
    });
    let mut seeds: Vec<_> = written.collect();
    seeds.push(clip("palette.png"));
    seeds.push(clip("animated.png"));
    seeds
}

fn encoded(width_px: u32, height_px: u32, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(width_px, height_px, |x, y| {
        image::Rgb([(x * 9) as u8, (y * 7) as u8, 90])
    });
    // Memory does not refuse.
    let _ = picture.write_to(&mut bytes, format);
    bytes.into_inner()
}

/// As the trainer reads images: the header first, the pixels when somebody asks.
fn stored_image(data: &[u8]) {
    with_files(&[("a.jpg", data)], |folder| {
        let mut store = ImageStore::new(1 << 20, 64);
        if let Ok(id) = store.register(&folder.join("a.jpg")) {
            let (width_px, height_px) = store.loaded_size_px(id);
            assert!(width_px.max(height_px) <= 64 && width_px.min(height_px) > 0);
            let _ = store.get(id);
        }
    });
}

fn image_seeds() -> Vec<Vec<u8>> {
    vec![
        encoded(24, 16, image::ImageFormat::Jpeg),
        encoded(17, 90, image::ImageFormat::Png),
    ]
}

// ---- samples with labels

/// What was accepted can be read to its last row, and what was refused names the folder it lies in.
fn samples(folder: &Path, read: Result<Samples, LabelledError>) {
    match read {
        Ok(samples) => {
            let last = samples.row(samples.len() - 1);
            assert_eq!(last.len(), samples.shape().len());
            assert!(last.iter().all(|value| value.is_finite()));
            let classes = samples.class_count() as u32;
            assert!(samples.labels().iter().all(|label| *label < classes));
        }
        Err(error) => {
            let line = error.to_string();
            assert!(
                line.contains(&*folder.to_string_lossy()) && !line.contains('\n'),
                "{line}"
            );
        }
    }
}

/// Images and labels, apart at the first six times 0xfe: both hold zeros.
fn idx(data: &[u8]) {
    let at = data.windows(APART.len()).position(|w| w == APART);
    let (images, labels) = match at {
        Some(at) => (&data[..at], &data[at + APART.len()..]),
        None => (data, &data[..0]),
    };
    with_files(&[("images", images), ("labels", labels)], |folder| {
        let (images, labels) = (folder.join("images"), folder.join("labels"));
        samples(folder, idx_format::read(&images, &labels));
    });
}

const APART: &[u8] = &[0xfe; 6];

fn idx_seeds() -> Vec<Vec<u8>> {
    let images: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 9, 8, 7, 6];
    let labels: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 2, 5, 4];
    // The same labels as a gzip file of one stored block.
    let zipped: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 10, 0, 0xf5, 0xff, 0, 0, 8, 1, 0, 0, 0, 2, 5, 4,
        0x45, 0x9c, 0x86, 0xef, 10, 0, 0, 0,
    ];
    vec![
        [images, APART, labels].concat(),
        [images, APART, zipped].concat(),
    ]
}

fn npz(data: &[u8]) {
    with_files(&[("a.npz", data)], |folder| {
        let path = folder.join("a.npz");
        samples(folder, npz_format::read(&path, "x_train", "y_train"));
    });
    let _ = npz_format::parse(data);
}

/// Two samples of two bytes as numpy writes them, as archives and as one bare array.
fn npz_seeds() -> Vec<Vec<u8>> {
    let array = |shape: &str, values: &[u8]| {
        let head = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let length = (head.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], head.as_bytes(), values].concat()
    };
    let numpys = |name: &str| {
        let path = crate::workspace().join("trainer/tests/data").join(name);
        std::fs::read(path).unwrap_or_default()
    };
    vec![
        numpys("two_pictures_stored.npz"),
        numpys("two_pictures_deflated.npz"),
        array("2, 2", &[1, 2, 3, 4]),
    ]
}

fn samples_csv(data: &[u8]) {
    for (label, header) in [
        (table::LabelColumn::default(), false),
        (table::LabelColumn::Number(0), true),
    ] {
        let config = table::TableConfig { label, header };
        samples(
            Path::new("a.csv"),
            table::parse("a.csv".as_ref(), data, &config),
        );
    }
}

fn samples_csv_seeds() -> Vec<Vec<u8>> {
    vec![
        b"14.23,1.71,2.43,0\n13.2,1.78,2.14,1\n".to_vec(),
        b"kind,width\nrose,0.5\n\"a, b\",1e3\n".to_vec(),
    ]
}

/// The labels as text up to the first zero byte, then the picture.
fn mosaic(data: &[u8]) {
    let [labels, picture] = parts(data);
    with_files(&[("m.png", picture), ("l.bin", labels)], |folder_path| {
        let (picture, labels) = (folder_path.join("m.png"), folder_path.join("l.bin"));
        samples(folder_path, folder::read_mosaic(&picture, &labels, 4, 3));
    });
}

fn mosaic_seeds() -> Vec<Vec<u8>> {
    vec![
        [
            &[3u8, 1, 2, 3, 0][..],
            &encoded(8, 12, image::ImageFormat::Png),
        ]
        .concat(),
    ]
}

/// Every pair that comes out is one of two samples of ten.
fn metric_pairs(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match PairSets::parse("p.csv".as_ref(), text, 10) {
        Ok(sets) => {
            let all = sets.similar.iter().chain(&sets.dissimilar);
            assert!(all.into_iter().all(|(a, b)| a != b && *a.max(b) < 10));
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "two lines: {error}"),
    }
}

fn metric_pairs_seeds() -> Vec<Vec<u8>> {
    vec![b"a,b,similar\n0,1,1\n2,9,0\n".to_vec()]
}

/// The manifest of a saved model and its probe; hashes of the probe are made right, so that it is looked at.
fn model(data: &[u8]) {
    let [manifest, probe] = parts(data);
    let text = String::from_utf8_lossy(manifest).replace("HASH", &sha256_hex(probe));
    let files: &[(&str, &[u8])] = &[("model.toml", text.as_bytes()), ("probe.json", probe)];
    with_files(files, |folder| {
        let Ok(packed) = package::read(folder) else {
            return;
        };
        for (card, probe) in packed.manifest.graphs.iter().zip(&packed.probes) {
            let _ = package::replay(card, probe, |_| Ok(probe.outputs.clone()));
        }
    });
}

fn model_seeds() -> Vec<Vec<u8>> {
    joined(&[
        "system = \"metric\"\nversion = \"0.1.0\"\nconfig_sha256 = \"\"\n[files]\n\"probe.json\" = \"HASH\"\n[scores]\na = 0.5\n[[graphs]]\nfile = \"a.onnx\"\npurpose = \"p\"\n[[graphs.inputs]]\nname = \"x\"\nshape = [1, 2]\n[[graphs.outputs]]\nname = \"y\"\nshape = [1, 1]\n",
        "[{\"file\":\"a.onnx\",\"inputs\":[[1.0,2.0]],\"outputs\":[[3.0]]}]",
    ])
}

// ---- annotations

/// Reads a pack whose files are given; every box that comes out is one.
fn pack(kind: PackKind, read: &ReadConfig, layout: Option<Layout>, files: &[(&str, &[u8])]) {
    with_files(files, |folder| {
        if let Ok(sequences) = read_pack(folder, kind, read, &|class| class == "ignore") {
            for frame in sequences.iter().flat_map(|sequence| &sequence.frames) {
                assert!(frame.annotations.iter().all(|a| a.box_in_image.is_proper()));
            }
        } else if let Err(error) = read_pack(folder, kind, read, &|_| false) {
            let line = error.to_string();
            assert!(
                !line.is_empty() && line.contains(&*folder.to_string_lossy()),
                "no path: {line}"
            );
        }
        if let Some(layout) = layout {
            let _ = layout.load_runs(folder);
        }
    });
}

/// The parts of an input, apart by zero bytes; missing ones are empty.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

fn joined(parts: &[&str]) -> Vec<Vec<u8>> {
    vec![parts.join("\0").into_bytes()]
}

fn boxes_csv(data: &[u8]) {
    let plain = ReadConfig::default();
    let files: &[(&str, &[u8])] = &[
        ("boxes.csv", data),
        ("images/a.jpg", b""),
        ("images/v/1.jpg", b""),
    ];
    pack(PackKind::Stills, &plain, None, files);
    pack(PackKind::Video, &plain, None, files);
}

fn boxes_seeds() -> Vec<Vec<u8>> {
    joined(&[
        "sequence,frame,instance,class,x,y,w,h,occluded\na,0,0,car,1,2,30,40,-1\nv,1,0,car,1,2,30,40,1\n",
    ])
}

fn otb(data: &[u8]) {
    let [rectangles, gt, spans, info] = parts(data);
    with_files(
        &[
            ("otb_a/groundtruth_rect.txt", rectangles),
            ("otb_a/img/0001.jpg", b""),
            ("b/gt.txt", gt),
            ("b/sot_spans.csv", spans),
            ("b/seqinfo.ini", info),
            ("b/img/0001.jpg", b""),
        ],
        |folder| drop(Layout::Auto.load_runs(folder)),
    );
}

fn otb_seeds() -> Vec<Vec<u8>> {
    joined(&[
        "1,2,3,4\nnan,nan,nan,nan\n",
        "1,1,5,6,7,8,1,2,1.0\n",
        "id,first_frame,last_frame\n1,1,1\n",
        "[Sequence]\nframeRate=10\n",
    ])
}

fn yolo(data: &[u8]) {
    let [label, yaml, names, image] = parts(data);
    let image: &[u8] = if image.is_empty() { TINY_PNG } else { image };
    let mut files: Vec<(&str, &[u8])> = vec![("img/a.png", image), ("labels/a.txt", label)];
    if !yaml.is_empty() {
        files.push(("data.yaml", yaml));
    }
    if !names.is_empty() {
        files.push(("classes.txt", names));
    }
    pack(PackKind::Yolo, &ReadConfig::default(), None, &files);
}

/// The head of a picture of 64x48: as much as the readers look at.
const TINY_PNG: &[u8] =
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x40\x00\x00\x00\x30\x08\x02\x00\x00\x00";

fn yolo_seeds() -> Vec<Vec<u8>> {
    let label = "0 0.5 0.5 0.25 0.5\n1 0.25 0.75 0.5 0.5\n";
    vec![
        joined(&[label, "nc: 2\nnames:\n  0: car\n  1: bus\n"]).concat(),
        joined(&[label, "names: [car, 'bus']\n"]).concat(),
        joined(&[label, "", "car\nbus\n"]).concat(),
    ]
}

fn lasot(data: &[u8]) {
    let [truth, hidden, outside] = parts(data);
    let files: &[(&str, &[u8])] = &[
        ("car/car-1/groundtruth.txt", truth),
        ("car/car-1/full_occlusion.txt", hidden),
        ("car/car-1/out_of_view.txt", outside),
        ("car/car-1/img/00000001.jpg", b""),
        ("car/car-1/img/00000002.jpg", b""),
    ];
    pack(
        PackKind::Lasot,
        &ReadConfig::default(),
        Some(Layout::Lasot),
        files,
    );
}

fn lasot_seeds() -> Vec<Vec<u8>> {
    joined(&["101,51,40,30\n103,52,40,30\n", "0,0", "0,1"])
}

fn got10k(data: &[u8]) {
    let [truth, absence, cover, cut, info, list] = parts(data);
    let files: &[(&str, &[u8])] = &[
        ("a/groundtruth.txt", truth),
        ("a/absence.label", absence),
        ("a/cover.label", cover),
        ("a/cut_by_image.label", cut),
        ("a/meta_info.ini", info),
        ("list.txt", list),
        ("a/00000001.jpg", b""),
        ("a/00000002.jpg", b""),
    ];
    pack(
        PackKind::Got10k,
        &ReadConfig::default(),
        Some(Layout::Got10k),
        files,
    );
}

fn got10k_seeds() -> Vec<Vec<u8>> {
    joined(&[
        "347.0,443.0,429.0,272.0\n1,1,9,9\n",
        "0\n1\n",
        "8\n0\n",
        "0\n1\n",
        "[METAINFO]\nanno_fps: 10Hz\nobject_class: motorbike\nresolution: (1920, 1080)\n",
        "a\n",
    ])
}

fn trackingnet(data: &[u8]) {
    let files: &[(&str, &[u8])] = &[
        ("TRAIN_0/anno/a.txt", data),
        ("TRAIN_0/frames/a/0.jpg", b""),
        ("TRAIN_0/frames/a/1.jpg", b""),
    ];
    pack(
        PackKind::TrackingNet,
        &ReadConfig::default(),
        Some(Layout::Trackingnet),
        files,
    );
}

fn trackingnet_seeds() -> Vec<Vec<u8>> {
    joined(&["10.5,20,30,40\n11.5,20,30,40\n"])
}

fn mot(data: &[u8]) {
    let [gt, info] = parts(data);
    let files: &[(&str, &[u8])] = &[
        ("a/gt/gt.txt", gt),
        ("a/seqinfo.ini", info),
        ("a/img1/000001.jpg", b""),
        ("a/img1/000002.jpg", b""),
    ];
    pack(
        PackKind::Mot,
        &ReadConfig::default(),
        Some(Layout::Mot),
        files,
    );
}

fn mot_seeds() -> Vec<Vec<u8>> {
    joined(&[
        "1,1,912,484,97,109,0,7,1\n2,2,1342,417,168,380,1,1,0.5\n",
        "[Sequence]\nimDir=img1\nframeRate=25\nimWidth=1920\nimHeight=1080\n",
    ])
}

fn kitti(data: &[u8]) {
    let files: &[(&str, &[u8])] = &[
        ("label_02/0000.txt", data),
        ("image_02/0000/000000.png", b""),
        ("image_02/0000/000001.png", b""),
    ];
    pack(
        PackKind::Kitti,
        &ReadConfig::default(),
        Some(Layout::Kitti),
        files,
    );
}

fn kitti_seeds() -> Vec<Vec<u8>> {
    joined(&[
        "0 -1 DontCare -1 -1 -10 219.3 188.4 245.5 218.5 -1000 -1000 -1000 -10 -1 -1 -1\n1 2 Car 0 1 -1.7 296.7 161.7 455.2 292.3 2 1.8 4.4 -4.5 1.8 13.4 -2.1\n",
    ])
}

fn bdd100k(data: &[u8]) {
    let files: &[(&str, &[u8])] = &[("labels/v.json", data), ("images/v/v-1.jpg", b"")];
    pack(
        PackKind::Bdd100k,
        &ReadConfig::default(),
        Some(Layout::Bdd100k),
        files,
    );
}

fn bdd100k_seeds() -> Vec<Vec<u8>> {
    let frame = r#"{"name":"v-1.jpg","videoName":"v","frameIndex":0,"labels":[{"id":"1","category":"car","attributes":{"occluded":true,"crowd":false},"box2d":{"x1":10,"y1":20,"x2":49.5,"y2":59}}]}"#;
    vec![
        format!("[{frame}]").into_bytes(),
        format!(r#"{{"config":{{}},"frames":[{frame},{{"name":"b.jpg","labels":null}}]}}"#)
            .into_bytes(),
    ]
}

fn voc(data: &[u8]) {
    let files: &[(&str, &[u8])] = &[("Annotations/d/1.xml", data), ("JPEGImages/d/1.jpg", b"")];
    pack(PackKind::Voc, &ReadConfig::default(), None, files);
}

fn voc_seeds() -> Vec<Vec<u8>> {
    joined(&[
        "<?xml version=\"1.0\"?>\n<annotation><size><width>486</width><height>500</height></size><object><name>person</name><difficult>0</difficult><part><bndbox/></part><bndbox><xmin>174</xmin><ymin>101</ymin><xmax>349</xmax><ymax>351</ymax></bndbox></object></annotation>",
    ])
}

fn coco(data: &[u8]) {
    let files: &[(&str, &[u8])] = &[("annotations.json", data), ("images/a.jpg", b"")];
    pack(
        PackKind::Coco,
        &ReadConfig::default(),
        Some(Layout::Coco),
        files,
    );
}

fn coco_seeds() -> Vec<Vec<u8>> {
    joined(&[
        r#"{"videos":[{"id":5,"name":"v","fps":10}],"images":[{"id":1,"file_name":"a.jpg","width":64,"height":48,"video_id":5,"frame_id":0},{"id":2,"file_name":"b.jpg"}],"annotations":[{"id":1,"image_id":1,"category_id":3,"bbox":[1,2,30,40],"instance_id":7,"occluded":false},{"id":2,"image_id":2,"category_id":3,"bbox":[1,2,3,4],"iscrowd":1,"segmentation":{"counts":[1],"size":[2,2]}}],"categories":[{"id":3,"name":"car"}]}"#,
    ])
}

/// Truth, results, and how long the sequence is, in every layout that results can have: figures, or the file at fault.
fn results(data: &[u8]) {
    let [truth, found, info] = parts(data);
    let files: &[(&str, &[u8])] = &[
        ("mot/a/gt/gt.txt", truth),
        ("mot/a/seqinfo.ini", info),
        ("clips/a/gt.txt", truth),
        ("kitti/label_02/a.txt", truth),
        ("results/a.txt", found),
    ];
    let cases = [
        (
            "mot",
            &[ManyRules::Mot15, ManyRules::Mot17, ManyRules::Mot20][..],
        ),
        ("clips", &[ManyRules::RoadUsers]),
        ("kitti", &[ManyRules::KittiCar, ManyRules::KittiPedestrian]),
    ];
    with_files(files, |folder| {
        for (layout, rules) in cases {
            let truth = folder.join(layout);
            let _ = ManyRules::of(&truth);
            for &rules in rules {
                match many::evaluate(&folder.join("results"), &truth, rules) {
                    Ok(scores) => assert_eq!(scores.len(), 2),
                    Err(error) => {
                        let line = error.to_string();
                        assert!(
                            line.contains(&*folder.to_string_lossy()) && !line.contains('\n'),
                            "{line}"
                        );
                    }
                }
            }
        }
    });
}

fn results_seeds() -> Vec<Vec<u8>> {
    let mot = joined(&[
        "1,1,10,20,30,40,1,1,1\n2,1,12,20,30,40,1,1,0.5\n2,900,50,20,9,9,1,7,1\n",
        "1,4,11,20,30,40,0.9,-1,-1,-1\n2,4,12,21,30,40,0.8,-1,-1,-1\n",
        "[Sequence]\nframeRate=25\nseqLength=3\n",
    ]);
    let kitti = joined(&[
        "0 2 Car 0 1 -1.7 296.7 161.7 455.2 292.3 2 1.8 4.4 -4.5 1.8 13.4 -2.1\n1 -1 DontCare -1 -1 -10 219 188 245 218 -1000 -1000 -1000 -10 -1 -1 -1\n",
        "0 7 Car 0 0 -1.7 297.7 161.7 455.2 292.3 2 1.8 4.4 -4.5 1.8 13.4 -2.1 0.9\n",
    ]);
    [mot, kitti].concat()
}

// ---- the core

/// Reads numbers off an input; zeros behind its end.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// Any bits, so any float: also those that are none.
    fn float(&mut self) -> f32 {
        f32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// Mostly a usual value of this range, now and then anything.
    fn usual(&mut self, most: f32) -> f32 {
        match self.byte() {
            255 => self.float(),
            share => most * f32::from(share) / 254.0,
        }
    }
}

/// Whatever the network says: a reported box is finite, and there is none while the target is lost.
fn tracker(data: &[u8]) {
    let Some(contract) = contract() else { return };
    let Ok(mut tracker) = Tracker::new(TrackerConfig::default(), &contract) else {
        return;
    };
    let mut numbers = Numbers(data);
    let initial = BoxXywh::new(
        numbers.usual(600.0),
        numbers.usual(300.0),
        numbers.usual(200.0),
        numbers.usual(200.0),
    );
    if tracker.start(initial, 640, 360, Timestamp(0)).is_err() {
        return;
    }
    let embedding: Vec<f32> = (0..3).map(|_| numbers.usual(1.0)).collect();
    tracker.accept_template(&embedding);
    let mut micros = 0_u64;
    let mut outputs = SearchOutputs::for_contract(&contract);
    while !numbers.0.is_empty() {
        micros = micros.wrapping_add(u64::from(numbers.byte()) * 4000);
        if let Some(window) = tracker.next_crop(Timestamp(micros)) {
            assert!(
                window.w_px.is_finite() && window.w_px > 0.0 && window.cx_px.is_finite(),
                "{window:?}"
            );
        }
        outputs.presence = numbers.usual(1.0);
        outputs
            .score
            .iter_mut()
            .for_each(|v| *v = numbers.usual(1.0));
        outputs
            .box_ltrb_px
            .iter_mut()
            .for_each(|v| *v = numbers.usual(64.0));
        outputs
            .embedding
            .iter_mut()
            .for_each(|v| *v = numbers.usual(1.0));
        let mut report = tracker.accept(&outputs, Timestamp(micros));
        while tracker.next_look(Timestamp(micros)).is_some() {
            report = tracker.accept(&outputs, Timestamp(micros));
        }
        if let Some(found) = report.box_in_image {
            let (cx, cy) = found.center();
            assert!(found.is_proper(), "{found:?}");
            assert!(
                (0.0..=640.0).contains(&cx) && (0.0..=360.0).contains(&cy),
                "{found:?}"
            );
        }
        if tracker.template_wanted().is_some() {
            tracker.accept_template(&embedding);
        }
    }
}

/// Any window of any frame: a crop of finite numbers, or an error.
fn crop(data: &[u8]) {
    let mut numbers = Numbers(data);
    let format = match numbers.byte() % 5 {
        0 => PixelFormat::Rgb8,
        1 => PixelFormat::Bgr8,
        2 => PixelFormat::Grey8,
        3 => PixelFormat::Yuyv,
        _ => PixelFormat::Nv12,
    };
    let (width_px, height_px) = (u32::from(numbers.byte()), u32::from(numbers.byte() % 64));
    let (stride, side) = (
        usize::from(numbers.byte()) * 4,
        u32::from(numbers.byte() % 48),
    );
    let border = match numbers.byte() % 3 {
        0 => Border::Mean,
        1 => Border::Replicate,
        _ => Border::Constant([1, 2, 3]),
    };
    let window = CropWindow {
        cx_px: numbers.usual(300.0),
        cy_px: numbers.usual(300.0),
        w_px: numbers.usual(300.0),
        h_px: numbers.usual(300.0),
    };
    let pixels = numbers.0.repeat(1 + (1 << 16) / numbers.0.len().max(1));
    let half = pixels.len() / 2;
    let frame = match format {
        PixelFormat::Nv12 => FrameView::nv12(
            width_px,
            height_px,
            &pixels[..half],
            stride,
            &pixels[half..],
            stride,
        ),
        packed => FrameView::packed(packed, width_px, height_px, stride, &pixels),
    };
    let Ok(frame) = frame else { return };
    let mut scratch = CropScratch::default();
    let len = 3 * (side * side) as usize;
    let mut tensor = vec![f32::NAN; len];
    let unchanged = Normalisation {
        mean: [0.0; 3],
        scale: [1.0; 3],
    };
    if crop_tensor(
        &frame,
        &window,
        side,
        border,
        &unchanged,
        &mut scratch,
        &mut tensor,
    )
    .is_ok()
    {
        assert!(
            tensor.iter().all(|v| (-0.6..=255.6).contains(v)),
            "a pixel out of range"
        );
    }
    let mut bytes = vec![0; len];
    let _ = crop_rgb8(&frame, &window, side, border, &mut scratch, &mut bytes);
}

fn number_seeds() -> Vec<Vec<u8>> {
    let rising: Vec<u8> = (0..=255).collect();
    let scattered: Vec<u8> = (0..2048_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    vec![rising, scattered]
}

// ---- what the trainer's commands read besides

fn truth(data: &[u8]) {
    if let Ok(hidden) = truth_table::parse(Path::new("truth.csv"), data, 0.5) {
        let mut rows = hidden.values().flatten();
        assert!(rows.all(|row| row.box_in_image.is_proper()));
    }
}

fn truth_seeds() -> Vec<Vec<u8>> {
    joined(&[
        "sequence,frame,instance,full_x,full_y,full_w,full_h,visible_share\ndrive,7,3,10,20,30,40,0.02\ndrive,8,3,11,20,30,40,0.9\n",
    ])
}

/// What is accepted can be written, and read again.
fn world(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(config) = toml::from_str::<WorldConfig>(text)
        && config.validate().is_ok()
    {
        let again = toml::to_string(&config).map(|text| toml::from_str::<WorldConfig>(&text));
        assert!(matches!(again, Ok(Ok(_))), "accepted but not writable");
    }
}

fn world_seeds() -> Vec<Vec<u8>> {
    let written = |region| toml::to_string(&WorldConfig::of(region)).unwrap_or_default();
    [Region::Us, Region::India]
        .map(|region| written(region).into_bytes())
        .to_vec()
}

/// Every point of an accepted space is a set of constants that the tracker takes.
fn search_space(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let base = TrackerConfig::default();
    if let Ok(space) = Space::parse(text, &base) {
        for share in [0.0, 0.5, 1.0] {
            let values: Vec<f64> = space.searched().iter().map(|c| c.range.at(share)).collect();
            assert!(values.iter().all(|value| value.is_finite()), "{values:?}");
            if let Ok(config) = space.constants(&base, &values) {
                assert!(config.validate().is_ok());
            }
        }
    }
}

fn search_space_seeds() -> Vec<Vec<u8>> {
    let whole = Space::default_for(&TrackerConfig::default())
        .map(|space| space.to_toml())
        .unwrap_or_default();
    vec![whole.into_bytes()]
}

/// Losses, validation, calibration, facts and settings of a run: a page or one line, and no tag that they brought along.
fn report(data: &[u8]) {
    let [losses, validation, calibration, facts, config, panels] = parts(data);
    let mut files: Vec<(&str, &[u8])> = vec![
        ("losses.csv", losses),
        ("validation.csv", validation),
        ("calibration.csv", calibration),
        ("facts.json", facts),
        ("config.toml", config),
    ];
    if !panels.is_empty() {
        files.push(("panels.json", panels));
    }
    with_files(&files, |folder| match page_of(&[folder.to_owned()]) {
        Ok(page) => assert!(!page.contains("<script"), "a page with a script"),
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    });
}

fn report_seeds() -> Vec<Vec<u8>> {
    let panels = r#"[{"kind":"figures","title":"a","figures":[{"name":"b","value":0.5},{"name":"c","value":null}]},
{"kind":"lines","title":"a","x_label":"x","lines":[{"name":"b","points":[[0,1],[1,0.5]]}],"note":""},
{"kind":"scatter","title":"a","clouds":[{"name":"b","points":[[0,1],[1e308,-1e308]]}],"note":"n"},
{"kind":"table","title":"a","columns":["b"],"rows":[["c"]],"note":""},{"kind":"picture","title":"a","file":"a.png","note":""}]"#;
    let metric = joined(&[
        "step,samples,objective\n1,60,0.5\n2,120,0.25\n",
        "",
        "",
        r#"{"system":"metric","version":"0.1.0","seed":3}"#,
        "seed = 3\n[learner]\nkind = \"nca\"\n",
        panels,
    ]);
    let mut seeds = joined(&[
        "step,pairs,rate,total,score\n10,80,0.001,2.5,1.5\n20,160,0.001,nan,1.25\n",
        "step,pairs,auc,presence_auc\n20,160,0.5,0.75\n",
        "lower,upper,count,mean_predicted,share_present\n0,0.1,3,0.05,0\n0.9,1,5,0.95,1\n",
        r#"{"version":"0.1.0","commit":null,"seed":3,"config_sha256":"ab","started_from":null,"device":"cpu","parameters":5,"macs_per_frame":7,"data":[]}"#,
        "seed = 3\n[train]\nbatch = 8\n",
    ]);
    seeds.extend(metric);
    seeds
}

/// Writes files into a folder that is gone afterwards.
fn with_files(files: &[(&str, &[u8])], then: impl FnOnce(&Path)) {
    let Ok(folder) = tempfile::tempdir() else {
        return;
    };
    for (name, bytes) in files {
        let path = folder.path().join(name);
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&path, bytes));
        if written.is_err() {
            return;
        }
    }
    then(folder.path());
}
