//! What the edge's tests share: a bundle small enough to build in a test, and the program itself.
//!
//! The network sees brightness only. Presence is high where the search crop is bright and low where it is dark;
//! score and box are constant, so the window of the tracker keeps the box in place.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod panics;
pub mod program;
pub mod stuck;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use roadhound_edge::familiarity::Familiarity;
use roadhound_edge::infer::{Int8, TractNetwork, TractProposer};
use roadhound_shared::contract::{
    BUNDLE_FORMAT, BundleManifest, FileEntry, FollowContract, FollowSizes, Probe, ProbeTolerance,
    Quantisation, TensorSpec, Training,
};
use roadhound_shared::familiarity::{AlarmConfig, FamiliarityContract};
use roadhound_shared::preprocess::CropSize;
use roadhound_shared::propose::probe::ProposeTolerance;
use roadhound_shared::propose::{ProposeContract, ProposeProbe, ProposeSizes};
use roadhound_shared::tracker::TrackerConfig;

// ---- ONNX, written by hand: a protobuf is tags, lengths and bytes -------------------------------------------

#[derive(Default)]
pub struct Proto(Vec<u8>);

impl Proto {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    pub fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    pub fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn message(self, field: u64, value: Proto) -> Self {
        self.bytes(field, &value.0)
    }
}

pub fn value_info(name: &str, shape: &[usize]) -> Proto {
    let dims = shape.iter().fold(Proto::default(), |p, &d| {
        p.message(1, Proto::default().int(1, d as i64))
    });
    let tensor = Proto::default().int(1, 1).message(2, dims);
    Proto::default()
        .text(1, name)
        .message(2, Proto::default().message(1, tensor))
}

fn constant(name: &str, shape: &[usize], values: &[f32]) -> Proto {
    assert_eq!(shape.iter().product::<usize>(), values.len());
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    constant_of(name, shape, 1, &data)
}

/// A constant of any type: 1 is f32, 2 u8, 3 i8, 6 i32.
pub fn constant_of(name: &str, shape: &[usize], data_type: i64, data: &[u8]) -> Proto {
    shape
        .iter()
        .fold(Proto::default(), |p, &d| p.int(1, d as i64))
        .int(2, data_type)
        .text(8, name)
        .bytes(9, data)
}

pub fn ints(name: &str, values: &[i64]) -> Proto {
    values
        .iter()
        .fold(Proto::default().text(1, name), |p, &v| p.int(8, v))
        .int(20, 7)
}

pub fn node(op: &str, inputs: &[&str], output: &str, attributes: Vec<Proto>) -> Proto {
    let p = inputs.iter().fold(Proto::default(), |p, i| p.text(1, i));
    let p = p.text(2, output).text(3, output).text(4, op);
    attributes.into_iter().fold(p, |p, a| p.message(5, a))
}

pub fn model(
    nodes: Vec<Proto>,
    constants: Vec<Proto>,
    inputs: Vec<Proto>,
    outputs: Vec<Proto>,
) -> Vec<u8> {
    let graph = nodes
        .into_iter()
        .fold(Proto::default(), |p, n| p.message(1, n))
        .text(2, "tiny");
    let graph = constants.into_iter().fold(graph, |p, c| p.message(5, c));
    let graph = inputs.into_iter().fold(graph, |p, i| p.message(11, i));
    let graph = outputs.into_iter().fold(graph, |p, o| p.message(12, o));
    Proto::default()
        .int(1, 8)
        .message(7, graph)
        .message(8, Proto::default().text(1, "").int(2, 17))
        .0
}

fn patches(weight: &str, bias: &str, from: &str, to: &str, stride: i64) -> Proto {
    node(
        "Conv",
        &[from, weight, bias],
        to,
        vec![
            ints("strides", &[stride, stride]),
            ints("kernel_shape", &[stride, stride]),
        ],
    )
}

pub fn contract() -> FollowContract {
    FollowContract::new(FollowSizes {
        feature_channels: 4,
        embedding_size: 4,
        ..FollowSizes::default()
    })
    .unwrap()
}

pub fn template_onnx(c: &FollowContract) -> Vec<u8> {
    let t = &c.tensors;
    let (f, e, s) = (c.feature_channels, c.embedding_size, c.stride_px as usize);
    let weight = |out: usize| {
        (0..out * 3 * s * s)
            .map(|i| ((i % 7) as f32 - 3.0) * 1e-3)
            .collect::<Vec<_>>()
    };
    model(
        vec![
            patches("wf", "bf", &t.template.name, &t.features.name, s as i64),
            patches("we", "be", &t.template.name, "places", s as i64),
            node("GlobalAveragePool", &["places"], "pooled", vec![]),
            node("Flatten", &["pooled"], &t.template_embedding.name, vec![]),
        ],
        vec![
            constant("wf", &[f, 3, s, s], &weight(f)),
            constant("bf", &[f], &vec![0.1; f]),
            constant("we", &[e, 3, s, s], &vec![0.0; e * 3 * s * s]),
            constant("be", &[e], &vec![(e as f32).sqrt().recip(); e]),
        ],
        vec![value_info(&t.template.name, &t.template.shape)],
        vec![
            value_info(&t.features.name, &t.features.shape),
            value_info(&t.template_embedding.name, &t.template_embedding.shape),
        ],
    )
}

pub fn search_onnx(c: &FollowContract) -> Vec<u8> {
    let t = &c.tensors;
    let (f, e, s) = (c.feature_channels, c.embedding_size, c.stride_px as usize);
    let patch = 3 * s * s;
    let bright = 3.0 / patch as f32;
    model(
        vec![
            patches("ws", "bs", &t.search.name, "light", s as i64),
            node(
                "Add",
                &[&t.template_first.name, &t.template_latest.name],
                "both",
                vec![],
            ),
            node("GlobalAveragePool", &["both"], "pooled", vec![]),
            patches("wt", "bt", "pooled", "hint", 1),
            node("Add", &["light", "hint"], "logit", vec![]),
            node("Sigmoid", &["logit"], &t.score.name, vec![]),
            patches("wb", "bb", &t.search.name, &t.box_ltrb_px.name, s as i64),
            node("GlobalAveragePool", &["logit"], "mean", vec![]),
            node("Flatten", &["mean"], "flat", vec![]),
            node("Sigmoid", &["flat"], &t.presence.name, vec![]),
            patches("we", "be", &t.search.name, &t.embedding.name, s as i64),
        ],
        vec![
            constant("ws", &[1, 3, s, s], &vec![bright; patch]),
            constant("bs", &[1], &[1.0]),
            constant("wt", &[1, f, 1, 1], &vec![1e-3; f]),
            constant("bt", &[1], &[0.0]),
            constant("wb", &[4, 3, s, s], &vec![0.0; 4 * patch]),
            constant("bb", &[4], &[32.0; 4]),
            constant("we", &[e, 3, s, s], &vec![0.0; e * patch]),
            constant("be", &[e], &vec![(e as f32).sqrt().recip(); e]),
        ],
        vec![
            value_info(&t.search.name, &t.search.shape),
            value_info(&t.template_first.name, &t.template_first.shape),
            value_info(&t.template_latest.name, &t.template_latest.shape),
        ],
        vec![
            value_info(&t.score.name, &t.score.shape),
            value_info(&t.box_ltrb_px.name, &t.box_ltrb_px.shape),
            value_info(&t.presence.name, &t.presence.shape),
            value_info(&t.embedding.name, &t.embedding.shape),
        ],
    )
}

/// A graph that takes every bright patch of 16 pixels for a car of 200 pixels, of which one a place is left.
pub fn propose_contract() -> ProposeContract {
    ProposeContract::new(ProposeSizes {
        embedding_size: 4,
        ..ProposeSizes::default()
    })
    .unwrap()
}

pub fn propose_onnx(c: &ProposeContract) -> Vec<u8> {
    let t = &c.tensors;
    let s = c.stride_px as usize;
    let patch = 3 * s * s;
    let channels = |spec: &TensorSpec| spec.shape[1];
    // The first of a cell's four sub-cells says "car", and nothing else says anything.
    let mut score = vec![0.0; channels(&t.score) * patch];
    score[..patch].fill(6.0 / patch as f32);
    let mut nothing = vec![-20.0; channels(&t.score)];
    nothing[0] = -6.0;
    let zeros = |spec: &TensorSpec| vec![0.0; channels(spec) * patch];
    let weight = |name: &str, spec: &TensorSpec, values: &[f32]| {
        constant(name, &[channels(spec), 3, s, s], values)
    };
    let bias = |name: &str, spec: &TensorSpec, value: f32| {
        constant(name, &[channels(spec)], &vec![value; channels(spec)])
    };
    model(
        vec![
            patches("ws", "bs", &t.frame.name, "logit", s as i64),
            node("Sigmoid", &["logit"], &t.score.name, vec![]),
            patches("wb", "bb", &t.frame.name, &t.box_ltrb_px.name, s as i64),
            patches("we", "be", &t.frame.name, &t.embedding.name, s as i64),
        ],
        vec![
            weight("ws", &t.score, &score),
            constant("bs", &[channels(&t.score)], &nothing),
            weight("wb", &t.box_ltrb_px, &zeros(&t.box_ltrb_px)),
            bias("bb", &t.box_ltrb_px, 100.0),
            weight("we", &t.embedding, &zeros(&t.embedding)),
            bias("be", &t.embedding, 0.5),
        ],
        vec![value_info(&t.frame.name, &t.frame.shape)],
        vec![
            value_info(&t.score.name, &t.score.shape),
            value_info(&t.box_ltrb_px.name, &t.box_ltrb_px.shape),
            value_info(&t.embedding.name, &t.embedding.shape),
        ],
    )
}

/// A graph that takes dark frames for unlike anything learned; looks ten times a second, and is sure after three tenths.
pub fn familiarity_contract() -> FamiliarityContract {
    let size = CropSize {
        width_px: 32,
        height_px: 16,
    };
    let alarm = AlarmConfig {
        every_millis: 100,
        after_millis: 300,
        clear_after_millis: 300,
        ..AlarmConfig::default()
    };
    FamiliarityContract::new(size, alarm).unwrap()
}

/// The error is the brightness, the distance what it lacks of one half, times ten.
pub fn familiarity_onnx(c: &FamiliarityContract) -> Vec<u8> {
    let t = &c.tensors;
    model(
        vec![
            node("GlobalAveragePool", &[&t.frame.name], "mean", vec![]),
            patches("wm", "bm", "mean", "light", 1),
            node("Flatten", &["light"], &t.error.name, vec![]),
            patches("wd", "bd", "mean", "lack", 1),
            node("Relu", &["lack"], "dark", vec![]),
            node("Flatten", &["dark"], &t.distance.name, vec![]),
        ],
        vec![
            constant("wm", &[1, 3, 1, 1], &[1.0 / 3.0; 3]),
            constant("bm", &[1], &[0.0]),
            constant("wd", &[1, 3, 1, 1], &[-10.0 / 3.0; 3]),
            constant("bd", &[1], &[5.0]),
        ],
        vec![value_info(&t.frame.name, &t.frame.shape)],
        vec![
            value_info(&t.error.name, &t.error.shape),
            value_info(&t.distance.name, &t.distance.shape),
        ],
    )
}

/// Writes a bundle folder around two graphs.
pub fn write_bundle(folder: &Path, files: &[(&str, Vec<u8>)]) {
    write_bundle_with(folder, files, None, None);
}

/// The same, with the tables of a graph that finds and of one that knows what a camera shows.
fn write_bundle_with(
    folder: &Path,
    files: &[(&str, Vec<u8>)],
    propose: Option<ProposeContract>,
    familiarity: Option<FamiliarityContract>,
) {
    std::fs::create_dir_all(folder).unwrap();
    let contract = contract();
    let mut network = TractNetwork::load(
        &contract,
        &template_onnx(&contract),
        &search_onnx(&contract),
        1,
    )
    .unwrap();
    let probe = Probe::capture(&mut network, &contract, 5, ProbeTolerance::default()).unwrap();
    let mut files: Vec<(String, Vec<u8>)> = files
        .iter()
        .map(|(n, b)| ((*n).to_owned(), b.clone()))
        .collect();
    files.push(("probe.json".into(), serde_json::to_vec(&probe).unwrap()));
    let entries: BTreeMap<String, FileEntry> = files
        .iter()
        .map(|(n, b)| (n.clone(), FileEntry::of(b)))
        .collect();
    let manifest = BundleManifest {
        format: BUNDLE_FORMAT,
        name: "tiny".into(),
        version: "0".into(),
        licence: "none".into(),
        files: entries,
        follow: contract,
        tracker: TrackerConfig::default(),
        quantisation: Quantisation::default(),
        training: Training::default(),
        scores: BTreeMap::new(),
        calibration: None,
        propose,
        familiarity,
        adapt: None,
    };
    std::fs::write(folder.join("bundle.toml"), manifest.to_toml().unwrap()).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// A bundle that works.
pub fn good_bundle(folder: &Path) -> PathBuf {
    let path = folder.join("bundle");
    let c = contract();
    write_bundle(
        &path,
        &[
            ("template.onnx", template_onnx(&c)),
            ("search.onnx", search_onnx(&c)),
        ],
    );
    path
}

/// A bundle that works, and finds cars by itself.
pub fn bundle_that_finds(folder: &Path) -> PathBuf {
    let path = folder.join("finds");
    let (c, p) = (contract(), propose_contract());
    let onnx = propose_onnx(&p);
    let mut network = TractProposer::load(&p, &onnx, 1, Int8::Stock).unwrap();
    let tolerance = ProposeTolerance::default();
    let probe = ProposeProbe::capture(&mut network, &p, 5, tolerance).unwrap();
    let files = [
        ("template.onnx", template_onnx(&c)),
        ("search.onnx", search_onnx(&c)),
        ("propose.onnx", onnx),
        ("probe.propose.json", serde_json::to_vec(&probe).unwrap()),
    ];
    write_bundle_with(&path, &files, Some(p), None);
    path
}

/// A bundle that works, and knows that a camera does not show darkness; `off` is what its probe is wrong by.
pub fn bundle_that_knows(folder: &Path, off: f32) -> PathBuf {
    let path = folder.join("knows");
    let (c, known) = (contract(), familiarity_contract());
    let onnx = familiarity_onnx(&known);
    let mut familiarity = Familiarity::load(&onnx, &known).unwrap();
    let mut probe = familiarity.probe(5).unwrap();
    probe.frames[1].error += off;
    let files = [
        ("template.onnx", template_onnx(&c)),
        ("search.onnx", search_onnx(&c)),
        ("familiarity.onnx", onnx),
        (
            "probe.familiarity.json",
            serde_json::to_vec(&probe).unwrap(),
        ),
    ];
    write_bundle_with(&path, &files, None, Some(known));
    path
}

/// Writes dark grey frames of 416x256 with bright squares of 32 pixels on them, about the given places.
pub fn write_squares(folder: &Path, frames: &[Vec<(u32, u32)>]) -> PathBuf {
    let path = folder.join("img");
    std::fs::create_dir_all(&path).unwrap();
    for (i, squares) in frames.iter().enumerate() {
        let file = std::fs::File::create(path.join(format!("{i:04}.png"))).unwrap();
        let mut encoder = png::Encoder::new(file, 416, 256);
        encoder.set_color(png::ColorType::Grayscale);
        let lit = |x: u32, y: u32| {
            let near = |a: u32, b: u32| (a + 16).wrapping_sub(b) < 32;
            squares.iter().any(|(cx, cy)| near(x, *cx) && near(y, *cy))
        };
        let pixel = |at: u32| if lit(at % 416, at / 416) { 255 } else { 20 };
        let data: Vec<u8> = (0..416 * 256).map(pixel).collect();
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&data)
            .unwrap();
    }
    path
}

// ---- the program --------------------------------------------------------------------------------------------

pub fn roadhound(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roadhound"))
        .args(args)
        .output()
        .unwrap()
}

/// Asserts status 2 and one line on standard error that holds all of `words`.
pub fn check_refused(args: &[&str], words: &[&str]) {
    check_refused_with(2, args, words);
}

pub fn check_refused_with(status: i32, args: &[&str], words: &[&str]) {
    let output = roadhound(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no '{word}' in: {stderr}");
    }
}

/// Writes `frames` grey images of one brightness each.
pub fn write_images(folder: &Path, side_px: u32, frames: &[u8]) -> PathBuf {
    let path = folder.join("img");
    std::fs::create_dir_all(&path).unwrap();
    for (i, &level) in frames.iter().enumerate() {
        let file = std::fs::File::create(path.join(format!("{i:04}.png"))).unwrap();
        let mut encoder = png::Encoder::new(file, side_px, side_px);
        encoder.set_color(png::ColorType::Grayscale);
        let data = vec![level; (side_px * side_px) as usize];
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&data)
            .unwrap();
    }
    path
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}
