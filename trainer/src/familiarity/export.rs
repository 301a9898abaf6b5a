//! The trained network as `familiarity.onnx`, and a bundle with it.
//!
//! In: the network and its [`Statistics`]. Out: a graph from a frame to its error and distance, in operators that the
//! interpreter, tract and ONNX Runtime know; and the bundle of a tracker with the graph beside its own.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use roadhound_shared::contract::{BundleManifest, FileEntry, Training};
use roadhound_shared::familiarity::{
    AlarmConfig, FamiliarityContract, FamiliarityNetwork, FamiliarityProbe, Look,
};
use roadhound_shared::preprocess::CropSize;

use super::measure::{
    BORDER_PX, CELL_COLUMNS, CELL_ROWS, CELLS, PARTS, SMALLEST_DETAIL, SMALLEST_ERROR, Statistics,
    Usual,
};
use crate::export::array::Array;
use crate::export::bundle::{self, FamiliarityGraph};
use crate::export::follow::conv;
use crate::export::interpret::Graph;
use crate::export::onnx::{Attribute, GraphBuilder};
use crate::export::package::{GraphCard, PackedGraph, ProbeRun, tensor};
use crate::labelled::Samples;
use crate::model::layers::{ConvShape, FoldedConv};
use crate::task::autoencoder::AutoencoderNet;

use super::scores::look;

/// Samples that the graph is checked on.
const PROBES: usize = 12;
const PROBE_SEED: u64 = 77;

/// The graph's bytes.
///
/// # Errors
/// If a weight cannot be read.
pub fn graph(
    net: &AutoencoderNet,
    statistics: &Statistics,
    size: CropSize,
    metadata: &[(&str, &str)],
) -> Result<Vec<u8>> {
    let (height, width) = (size.height_px as usize, size.width_px as usize);
    let mut g = GraphBuilder::new("familiarity");
    g.input("frame", &[1, 3, height, width]);
    // Means come first; what else an encoder says of a code is for training.
    let code = net.encoder().write_first(&mut g, "frame", net.latent())?;
    let decoded = net.decoder().write(&mut g, &code)?;
    let residual = g.node("Sub", &["frame", &decoded], vec![]);
    let error = mean_square(&mut g, &residual);

    let grey = fixed_conv(&mut g, &residual, 3, 1, 1.0 / 3.0);
    let squares = g.node("Mul", &[&grey, &grey], vec![]);
    let cells = means_of_cells(&mut g, &squares, size);
    let least = g.floats(&[1, CELLS], &[SMALLEST_ERROR; CELLS]);
    let cells = g.node("Add", &[&cells, &least], vec![]);
    let sizes = g.node("Log", &[&cells], vec![]);

    let powers = eighth_powers_of_detail(&mut g, size);
    let detail = means_of_cells(&mut g, &powers, size);
    let least = g.floats(&[1, CELLS], &[SMALLEST_DETAIL; CELLS]);
    let of_cells = g.node("Add", &[&detail, &least], vec![]);
    let of_cells = g.node("Log", &[&of_cells], vec![]);
    let all = mean_of_cells(&mut g, &detail);
    let least = g.floats(&[1, 1], &[SMALLEST_DETAIL]);
    let sharpest = g.node("Add", &[&all, &least], vec![]);
    let sharpest = g.node("Log", &[&sharpest], vec![]);
    let everywhere = mean_of_cells(&mut g, &of_cells);

    let [code_reach, error_reach, everywhere_reach, sharpest_reach] = statistics.reach;
    let [usual_everywhere, usual_sharpest] = statistics.detail;
    let parts = [
        mahalanobis(&mut g, &code, &statistics.codes, code_reach),
        mahalanobis(&mut g, &sizes, &statistics.errors, error_reach),
        lack(&mut g, &everywhere, usual_everywhere, everywhere_reach),
        lack(&mut g, &sharpest, usual_sharpest, sharpest_reach),
    ];
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let parts = g.node("Concat", &parts, vec![Attribute::Int("axis", 1)]);
    let map = g.ints(&[1, 1, 1, PARTS as i64]);
    let map = g.node("Reshape", &[&parts, &map], vec![]);
    let largest = g.node("ReduceMax", &[&map], over_map());
    let one = g.ints(&[1, 1]);
    let distance = g.node("Reshape", &[&largest, &one], vec![]);
    g.output("error", &error, &[1, 1]);
    g.output("distance", &distance, &[1, 1]);
    Ok(g.finish(metadata))
}

/// What two means of three by three pixels differ by, in the eighth power, `[1, 1, height, width]`.
fn eighth_powers_of_detail(g: &mut GraphBuilder, size: CropSize) -> String {
    let picture = fixed_conv(g, "frame", 3, 1, 1.0 / 3.0);
    let smooth = fixed_conv(g, &picture, 1, 3, 1.0 / 9.0);
    let smoother = fixed_conv(g, &smooth, 1, 3, 1.0 / 9.0);
    let detail = g.node("Sub", &[&smooth, &smoother], vec![]);
    // Nothing is known of what lies beyond the border.
    let within = |length: usize| -> Vec<f32> {
        let inner = BORDER_PX..length - BORDER_PX;
        (0..length)
            .map(|i| f32::from(u8::from(inner.contains(&i))))
            .collect()
    };
    let (height, width) = (size.height_px as usize, size.width_px as usize);
    let rows = g.floats(&[1, 1, height, 1], &within(height));
    let columns = g.floats(&[1, 1, 1, width], &within(width));
    let detail = g.node("Mul", &[&detail, &rows], vec![]);
    let mut power = g.node("Mul", &[&detail, &columns], vec![]);
    for _ in 0..3 {
        power = g.node("Mul", &[&power, &power], vec![]);
    }
    power
}

/// How far values lie from the usual ones, as a share of `reach`, `[1, 1]`.
fn mahalanobis(g: &mut GraphBuilder, values: &str, usual: &Usual, reach: f32) -> String {
    let length = usual.mean.len();
    let mean = g.floats(&[1, length], &usual.mean);
    let whitening = g.floats(&[length, length], &usual.whitening);
    let off = g.node("Sub", &[values, &mean], vec![]);
    let white = g.node("MatMul", &[&off, &whitening], vec![]);
    let squares = g.node("Mul", &[&white, &white], vec![]);
    let share = 1.0 / (length as f32 * reach * reach);
    let share = g.floats(&[length, 1], &vec![share; length]);
    let square = g.node("MatMul", &[&squares, &share], vec![]);
    g.node("Sqrt", &[&square], vec![])
}

/// How much less detail there is than usual, of the logarithm of an eighth power, as a share of `reach`, `[1, 1]`.
fn lack(g: &mut GraphBuilder, logarithm: &str, usual: f32, reach: f32) -> String {
    let usual = g.floats(&[1, 1], &[4.0 * usual]);
    let scale = g.floats(&[1, 1], &[0.25 / reach]);
    let off = g.node("Sub", &[&usual, logarithm], vec![]);
    g.node("Mul", &[&off, &scale], vec![])
}

/// Mean of the squares of a picture of three channels, `[1, 1]`.
fn mean_square(g: &mut GraphBuilder, x: &str) -> String {
    let squares = g.node("Mul", &[x, x], vec![]);
    let of_channels = g.node("ReduceMean", &[&squares], over_map());
    let sizes = g.ints(&[1, 3]);
    let row = g.node("Reshape", &[&of_channels, &sizes], vec![]);
    let thirds = g.floats(&[3, 1], &[1.0 / 3.0; 3]);
    g.node("MatMul", &[&row, &thirds], vec![])
}

fn over_map() -> Vec<Attribute<'static>> {
    vec![Attribute::Ints("axes", &[2, 3])]
}

/// A convolution to one channel with one weight everywhere.
fn fixed_conv(g: &mut GraphBuilder, x: &str, input: usize, kernel: usize, weight: f32) -> String {
    let layer = FoldedConv {
        shape: ConvShape::new(input, 1, kernel),
        weight_oihw: vec![weight; input * kernel * kernel],
        bias: vec![0.0],
        relu: false,
    };
    conv(g, x, &layer)
}

/// Mean of a map in each cell of the grid, `[1, CELLS]`.
fn means_of_cells(g: &mut GraphBuilder, map: &str, size: CropSize) -> String {
    let (rows, columns) = (CELL_ROWS as i64, CELL_COLUMNS as i64);
    let (high, wide) = (
        i64::from(size.height_px) / rows,
        i64::from(size.width_px) / columns,
    );
    let apart = g.ints(&[1, rows, high, columns, wide]);
    let apart = g.node("Reshape", &[map, &apart], vec![]);
    let order = Attribute::Ints("perm", &[0, 1, 3, 2, 4]);
    let apart = g.node("Transpose", &[&apart], vec![order]);
    let maps = g.ints(&[1, rows * columns, high, wide]);
    let maps = g.node("Reshape", &[&apart, &maps], vec![]);
    let means = g.node("ReduceMean", &[&maps], over_map());
    let row = g.ints(&[1, rows * columns]);
    g.node("Reshape", &[&means, &row], vec![])
}

/// Mean over the cells, `[1, 1]`.
fn mean_of_cells(g: &mut GraphBuilder, row: &str) -> String {
    let share = g.floats(&[CELLS, 1], &[1.0 / CELLS as f32; CELLS]);
    g.node("MatMul", &[row, &share], vec![])
}

/// The graph with probes of real frames, for a saved model.
///
/// # Errors
/// If a weight cannot be read.
pub fn packed(
    net: &AutoencoderNet,
    statistics: &Statistics,
    samples: &Samples,
    metadata: &[(&str, &str)],
) -> Result<PackedGraph> {
    let shape = samples.shape();
    let size = CropSize {
        width_px: shape.width as u32,
        height_px: shape.height as u32,
    };
    let step = samples.len().div_ceil(PROBES).max(1);
    let chosen: Vec<usize> = (0..samples.len()).step_by(step).collect();
    let (codes, errors) = look(net, &samples.chosen(&chosen))?;
    let probes = chosen.iter().zip(codes.iter().zip(&errors));
    let probes = probes.map(|(i, (code, errors))| ProbeRun {
        file: "familiarity.onnx".into(),
        inputs: vec![net.encoder().onnx_values(&samples.row(*i))],
        outputs: vec![vec![errors.mean], vec![statistics.distance(code, errors)]],
    });
    Ok(PackedGraph {
        card: GraphCard {
            file: "familiarity.onnx".into(),
            purpose: "a frame, values from 0 to 1, to the error of what comes back from its code and to its distance from what was learned".into(),
            inputs: vec![tensor("frame", &[1, 3, shape.height, shape.width])],
            outputs: vec![tensor("error", &[1, 1]), tensor("distance", &[1, 1])],
        },
        probes: probes.collect(),
        bytes: graph(net, statistics, size, metadata)?,
    })
}

/// Runs the graph in the interpreter.
pub struct OnnxFamiliarity {
    graph: Graph,
    shape: Vec<usize>,
}

impl OnnxFamiliarity {
    /// Parses a graph.
    ///
    /// # Errors
    /// As [`Graph::parse`].
    pub fn new(bytes: &[u8], contract: &FamiliarityContract) -> Result<Self> {
        Ok(Self {
            graph: Graph::parse(bytes)?,
            shape: contract.tensors.frame.shape.clone(),
        })
    }
}

/// What the interpreter says, as text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(String);

impl FamiliarityNetwork for OnnxFamiliarity {
    type Error = Failed;

    fn look(&mut self, frame_chw: &[f32]) -> Result<Look, Failed> {
        let failed = |what: String| Failed(what);
        let input = Array::new(self.shape.clone(), frame_chw.to_vec())
            .ok_or_else(|| failed(format!("a frame of {} values", frame_chw.len())))?;
        let found = self
            .graph
            .run(&[("frame", input)])
            .map_err(|e| failed(e.to_string()))?;
        let of = |name: &str| {
            let value = found.get(name).and_then(|v| v.floats());
            let value = value.and_then(|v| v.values().first().copied());
            value.ok_or_else(|| failed(format!("no output {name}")))
        };
        Ok(Look {
            error: of("error")?,
            distance: of("distance")?,
        })
    }
}

/// Writes the bundle of `from` to `folder` with the graph beside its own.
///
/// # Errors
/// A graph that does not run, a bundle that cannot be read, a folder that cannot be written.
pub fn add_to_bundle(
    bytes: Vec<u8>,
    size: CropSize,
    alarm: AlarmConfig,
    training: Training,
    scores: &[(String, f64)],
    from: &Path,
    folder: &Path,
) -> Result<BundleManifest> {
    let mut files = bundle::read(from)?;
    let mut contract = FamiliarityContract::new(size, alarm)?;
    contract.training = training;
    let mut network = OnnxFamiliarity::new(&bytes, &contract)?;
    let probe = FamiliarityProbe::capture(&mut network, &contract, PROBE_SEED)
        .map_err(|e| anyhow!("familiarity.onnx: {e}"))?;
    let probe_json = serde_json::to_vec_pretty(&probe).context("the probe is no JSON")?;
    for (name, bytes) in [
        (&contract.file, &bytes),
        (&contract.probe_file, &probe_json),
    ] {
        files
            .manifest
            .files
            .insert(name.clone(), FileEntry::of(bytes));
    }
    files.manifest.scores.extend(scores.iter().cloned());
    files.manifest.familiarity = Some(contract);
    files.familiarity = Some(FamiliarityGraph { bytes, probe_json });
    bundle::write_files(&files, &[], folder)?;
    Ok(files.manifest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::SystemConfig;
    use crate::familiarity::FamiliarityRun;
    use crate::labelled::Values;
    use candle_core::Device;

    fn frames(run: &FamiliarityRun, count: usize) -> Samples {
        let length = run.shape().len();
        let value = |i: usize| {
            let (frame, at) = (i / length, i % length);
            ((at * (7 + frame) / 5) % 256) as u8 ^ (frame * 13) as u8
        };
        let bytes = (0..count * length).map(value).collect();
        Samples::new(run.shape(), Values::Bytes(bytes), vec![0; count], vec![]).unwrap()
    }

    #[test]
    fn the_graph_says_what_the_trainer_says_and_goes_into_a_bundle_and_out_of_it_again() {
        let text = "width_px = 32\nheight_px = 16\nlatent = 5\n[network]\nchannels = [4, 6]\n";
        let run = FamiliarityRun::parse(text).unwrap();
        let net = AutoencoderNet::new(&run.autoencoder(), run.shape(), &Device::Cpu).unwrap();
        let samples = frames(&run, 60);
        let (codes, errors) = look(&net, &samples).unwrap();
        let statistics = Statistics::fit(&codes, &errors, samples.labels(), 0.99);
        let packed = packed(&net, &statistics, &samples, &[("a", "b")]).unwrap();
        let contract = FamiliarityContract::new(run.size(), AlarmConfig::default()).unwrap();
        let mut network = OnnxFamiliarity::new(&packed.bytes, &contract).unwrap();
        for probe in &packed.probes {
            let found = network.look(&probe.inputs[0]).unwrap();
            for (a, b) in [
                (found.error, probe.outputs[0][0]),
                (found.distance, probe.outputs[1][0]),
            ] {
                assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} {b}");
            }
        }
        assert!(
            network
                .look(&[0.0; 3])
                .unwrap_err()
                .to_string()
                .contains("3 values")
        );

        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/models/roadhound-s");
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("bundle");
        let scores = [("familiarity_auc_covered".to_owned(), 0.99)];
        let alarm = AlarmConfig::default();
        let bytes = packed.bytes.clone();
        let training = Training::default();
        add_to_bundle(bytes, run.size(), alarm, training, &scores, &shipped, &out).unwrap();
        let read = bundle::read(&out).unwrap();
        assert_eq!(read.familiarity.unwrap().bytes, packed.bytes);
        assert_eq!(read.manifest.scores["familiarity_auc_covered"], 0.99);
        // It takes the place of another one, and what followed before follows as before.
        let before = bundle::read(&shipped).unwrap();
        assert_ne!(before.familiarity.unwrap().bytes, packed.bytes);
        assert_eq!(read.f32.search, before.f32.search);
        assert_eq!(read.manifest.follow, before.manifest.follow);
    }
}
