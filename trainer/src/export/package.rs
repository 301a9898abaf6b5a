//! A saved model of a learning system: a folder with `model.toml`, ONNX graphs, and the answers they must give.
//!
//! In: a [`Package`]. Out: the folder. Before it is written every graph is run by the [`interpreter`](super::interpret) on
//! the probe's inputs and compared with what the trainer computed; whoever reads it checks hashes and can replay the
//! probe on another runtime.
//!
//! | file | what |
//! |---|---|
//! | `model.toml` ([`Manifest`]) | system, hash of the configuration, graphs with their tensors, SHA-256 of every file, scores |
//! | `*.onnx` | the graphs, opset 17, batch 1 |
//! | `probe.json` | inputs, and outputs to 1e-4 |
//! | others | what a system leaves beside them, such as `metric.safetensors` |

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use roadhound_shared::contract::{TensorSpec, sha256_hex};
use serde::{Deserialize, Serialize};

use super::array::Array;
use super::interpret::Graph;
use super::onnx::GraphBuilder;
use crate::model::stack::Stack;
use crate::outputs;
use crate::systems::System;

/// The folder's own file.
pub const MANIFEST_FILE: &str = "model.toml";
/// The probe's.
pub const PROBE_FILE: &str = "probe.json";
/// How far an output may be off, as a share of the largest value where that is above one.
pub const TOLERANCE: f32 = 1e-4;

/// A tensor by name and sizes.
pub fn tensor(name: &str, shape: &[usize]) -> TensorSpec {
    TensorSpec {
        name: name.to_owned(),
        shape: shape.to_vec(),
    }
}

/// A graph of the folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphCard {
    /// Its file.
    pub file: String,
    /// What it is for.
    pub purpose: String,
    /// What it takes.
    pub inputs: Vec<TensorSpec>,
    /// What it gives.
    pub outputs: Vec<TensorSpec>,
}

/// One run of a graph: values of every input and output, in the card's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRun {
    /// Which graph.
    pub file: String,
    /// Values of the inputs.
    pub inputs: Vec<Vec<f32>>,
    /// What the trainer computed.
    pub outputs: Vec<Vec<f32>>,
}

/// The graph `NAME.onnx` from a code to a sample, with the samples that it must give for these codes; a value becomes a
/// probability where `to_probabilities` is set.
///
/// # Errors
/// If a weight cannot be read.
pub fn decoder_graph(
    name: &str,
    purpose: &str,
    decoder: &Stack,
    to_probabilities: bool,
    code_and_sample: &[(&[f32], &[f32])],
    metadata: &[(&str, &str)],
) -> Result<PackedGraph> {
    let file = format!("{name}.onnx");
    let code = decoder.inputs();
    let mut g = GraphBuilder::new(name);
    g.input("code", &[1, code]);
    let mut y = decoder.write(&mut g, "code")?;
    if to_probabilities {
        y = g.node("Sigmoid", &[&y], vec![]);
    }
    g.output("x", &y, &decoder.onnx_output());
    let probes = code_and_sample.iter().map(|(code, x)| ProbeRun {
        file: file.clone(),
        inputs: vec![code.to_vec()],
        outputs: vec![decoder.onnx_results(x)],
    });
    Ok(PackedGraph {
        probes: probes.collect(),
        card: GraphCard {
            purpose: purpose.into(),
            inputs: vec![tensor("code", &[1, code])],
            outputs: vec![tensor("x", &decoder.onnx_output())],
            file,
        },
        bytes: g.finish(metadata),
    })
}

/// `model.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What was trained.
    pub system: System,
    /// Version of the program.
    pub version: String,
    /// SHA-256 of the resolved configuration.
    pub config_sha256: String,
    /// SHA-256 of every file.
    pub files: BTreeMap<String, String>,
    /// Figures on held-out data.
    pub scores: BTreeMap<String, f64>,
    /// The graphs.
    pub graphs: Vec<GraphCard>,
}

/// A graph with its bytes.
pub struct PackedGraph {
    /// What it is.
    pub card: GraphCard,
    /// ONNX.
    pub bytes: Vec<u8>,
    /// Runs of it.
    pub probes: Vec<ProbeRun>,
}

/// What is written.
pub struct Package {
    /// What was trained.
    pub system: System,
    /// SHA-256 of the resolved configuration.
    pub config_sha256: String,
    /// Figures on held-out data.
    pub scores: BTreeMap<String, f64>,
    /// The graphs.
    pub graphs: Vec<PackedGraph>,
    /// Other files by name.
    pub others: Vec<(String, Vec<u8>)>,
}

impl Package {
    /// Checks every graph against its probes and writes the folder; `model.toml` comes last, so that a folder that has it
    /// is whole.
    ///
    /// # Errors
    /// A graph that says something else than the trainer; the file system's.
    pub fn write(self, folder: &Path) -> Result<Manifest> {
        let mut probes = Vec::new();
        let mut contents = self.others;
        let mut cards = Vec::new();
        for graph in self.graphs {
            let parsed = Graph::parse(&graph.bytes).with_context(|| graph.card.file.clone())?;
            for probe in &graph.probes {
                replay(&graph.card, probe, |inputs| {
                    let values = parsed.run(inputs)?;
                    let found = |tensor: &TensorSpec| {
                        let value = values.get(&tensor.name).and_then(|v| v.floats());
                        let value = value.with_context(|| format!("no output {}", tensor.name))?;
                        Ok(value.values().to_vec())
                    };
                    graph.card.outputs.iter().map(found).collect()
                })?;
            }
            contents.push((graph.card.file.clone(), graph.bytes));
            probes.extend(graph.probes);
            cards.push(graph.card);
        }
        contents.push((PROBE_FILE.to_owned(), serde_json::to_vec(&probes)?));
        let manifest = Manifest {
            system: self.system,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_sha256: self.config_sha256,
            files: contents
                .iter()
                .map(|(name, bytes)| (name.clone(), sha256_hex(bytes)))
                .collect(),
            scores: self.scores,
            graphs: cards,
        };
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        for (name, bytes) in &contents {
            outputs::file(&folder.join(name), bytes)?;
        }
        outputs::file(&folder.join(MANIFEST_FILE), toml::to_string(&manifest)?)?;
        Ok(manifest)
    }
}

/// A folder as it was read.
#[derive(Debug)]
pub struct Packed {
    /// `model.toml`.
    pub manifest: Manifest,
    /// Every file, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// `probe.json`.
    pub probes: Vec<ProbeRun>,
}

/// Reads a folder and checks every hash.
///
/// # Errors
/// A file that is missing, damaged, or not what the manifest says.
pub fn read(folder: &Path) -> Result<Packed> {
    let shown = |name: &str| format!("{}", folder.join(name).display());
    let text = std::fs::read_to_string(folder.join(MANIFEST_FILE))
        .with_context(|| shown(MANIFEST_FILE))?;
    let manifest: Manifest = toml::from_str(&text)
        .map_err(|e| anyhow::anyhow!(crate::config::one_line(&text, &e)))
        .with_context(|| shown(MANIFEST_FILE))?;
    let mut files = BTreeMap::new();
    for (name, expected) in &manifest.files {
        if Path::new(name).components().count() != 1 || name.contains("..") {
            bail!(
                "{}: {name:?} is not a file of the folder",
                shown(MANIFEST_FILE)
            );
        }
        let bytes = std::fs::read(folder.join(name)).with_context(|| shown(name))?;
        if sha256_hex(&bytes) != *expected {
            bail!(
                "{}: not the file that {MANIFEST_FILE} speaks of",
                shown(name)
            );
        }
        files.insert(name.clone(), bytes);
    }
    let probes = files
        .get(PROBE_FILE)
        .with_context(|| format!("{}: no {PROBE_FILE}", shown(MANIFEST_FILE)))?;
    let probes = serde_json::from_slice(probes).with_context(|| shown(PROBE_FILE))?;
    Ok(Packed {
        manifest,
        files,
        probes,
    })
}

/// Runs a probe by `run`, which is given named inputs and returns the outputs in the card's order; returns how far the
/// furthest value is off.
///
/// # Errors
/// A probe that does not fit its card; an output that is off by more than [`TOLERANCE`].
pub fn replay(
    card: &GraphCard,
    probe: &ProbeRun,
    run: impl FnOnce(&[(&str, Array)]) -> Result<Vec<Vec<f32>>>,
) -> Result<f32> {
    let misfit = || format!("{}: the probe does not fit the graph's tensors", card.file);
    if probe.inputs.len() != card.inputs.len() || probe.outputs.len() != card.outputs.len() {
        bail!(misfit());
    }
    let inputs = card
        .inputs
        .iter()
        .zip(&probe.inputs)
        .map(|(tensor, values)| {
            let array = Array::new(tensor.shape.clone(), values.clone()).with_context(misfit)?;
            Ok((tensor.name.as_str(), array))
        })
        .collect::<Result<Vec<_>>>()?;
    let found = run(&inputs)?;
    let mut furthest = 0f32;
    for ((tensor, found), expected) in card.outputs.iter().zip(&found).zip(&probe.outputs) {
        if found.len() != expected.len() {
            bail!(
                "{}: output {} has {} values, expected {}",
                card.file,
                tensor.name,
                found.len(),
                expected.len()
            );
        }
        let largest = expected.iter().fold(1f32, |most, v| most.max(v.abs()));
        let off = found
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs() / largest)
            .fold(0.0, |most: f32, off| {
                if off > most || off.is_nan() {
                    off
                } else {
                    most
                }
            });
        if off.is_nan() || off > TOLERANCE {
            bail!(
                "{}: output {} is off by {off:e} of {largest}, allowed {TOLERANCE:e}",
                card.file,
                tensor.name
            );
        }
        furthest = furthest.max(off);
    }
    Ok(furthest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::onnx::GraphBuilder;
    use super::*;

    fn doubled(expected: f32) -> Package {
        let mut g = GraphBuilder::new("double");
        g.input("x", &[1, 2]);
        let y = g.node("Add", &["x", "x"], vec![]);
        g.output("y", &y, &[1, 2]);
        let card = GraphCard {
            file: "double.onnx".into(),
            purpose: "doubles".into(),
            inputs: vec![tensor("x", &[1, 2])],
            outputs: vec![tensor("y", &[1, 2])],
        };
        let probe = ProbeRun {
            file: "double.onnx".into(),
            inputs: vec![vec![1.0, -2.0]],
            outputs: vec![vec![expected, -4.0]],
        };
        Package {
            system: System::Metric,
            config_sha256: "feed".into(),
            scores: BTreeMap::from([("accuracy".into(), 0.5)]),
            graphs: vec![PackedGraph {
                card,
                bytes: g.finish(&[]),
                probes: vec![probe],
            }],
            others: vec![("L.csv".into(), b"1,0\n".to_vec())],
        }
    }

    #[test]
    fn a_package_is_read_back_and_a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let written = doubled(2.0).write(folder.path()).unwrap();
        let packed = read(folder.path()).unwrap();
        assert_eq!(packed.manifest, written);
        assert_eq!(packed.probes[0].outputs, [[2.0, -4.0]]);
        std::fs::write(folder.path().join("L.csv"), "2,0\n").unwrap();
        let said = read(folder.path()).unwrap_err().to_string();
        assert!(
            said.contains("L.csv: not the file that model.toml speaks of"),
            "{said}"
        );
    }

    #[test]
    fn a_graph_that_says_something_else_than_the_trainer_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let said = doubled(2.001).write(folder.path()).unwrap_err().to_string();
        assert!(said.contains("output y is off by"), "{said}");
        assert!(!folder.path().join(MANIFEST_FILE).exists());
        assert!(doubled(f32::NAN).write(folder.path()).is_err());
    }
}
