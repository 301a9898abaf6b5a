//! A trained network as a graph: `classifier.onnx`, from a sample to its features and the scores of its classes.
//!
//! The head of the domains stays behind: it has done its work.

use anyhow::Result;

use crate::export::onnx::GraphBuilder;
use crate::export::package::{GraphCard, PackedGraph, ProbeRun, tensor};
use crate::labelled::Samples;
use crate::task::dann::{CENTRED, DannNet};

/// Samples that the graph is checked on.
const PROBES: usize = 16;

/// The graph with its probes; `whose` says which domain's samples it is for: the network holds the moments of one.
///
/// # Errors
/// If a weight cannot be read.
pub fn graphs(
    net: &DannNet,
    samples: &Samples,
    whose: &str,
    metadata: &[(&str, &str)],
) -> Result<Vec<PackedGraph>> {
    let step = samples.len().div_ceil(PROBES).max(1);
    let chosen: Vec<usize> = (0..samples.len()).step_by(step).collect();
    let seen = net.look_at(&samples.chosen(&chosen), usize::MAX)?;
    let (features, classes) = net.stacks();
    let mut g = GraphBuilder::new("classifier");
    g.input("x", &features.onnx_input());
    let (factor, summand) = (
        g.floats(&[1], &[CENTRED.0 as f32]),
        g.floats(&[1], &[CENTRED.1 as f32]),
    );
    let x = g.node("Mul", &["x", &factor], vec![]);
    let x = g.node("Add", &[&x, &summand], vec![]);
    let row = features.write(&mut g, &x)?;
    let row = g.node("Relu", &[&row], vec![]);
    let scores = classes.write(&mut g, &row)?;
    let sizes =
        [&seen.features, &seen.scores].map(|rows| vec![1, rows.first().map_or(0, Vec::len)]);
    g.output("features", &row, &sizes[0]);
    g.output("scores", &scores, &sizes[1]);
    let answers = seen.features.iter().zip(&seen.scores);
    let probes = chosen
        .iter()
        .zip(answers)
        .map(|(i, (row, scores))| ProbeRun {
            file: "classifier.onnx".into(),
            inputs: vec![features.onnx_values(&samples.row(*i))],
            outputs: vec![row.clone(), scores.clone()],
        });
    Ok(vec![PackedGraph {
        card: GraphCard {
            file: "classifier.onnx".into(),
            purpose: format!(
                "a sample of {whose}, values from 0 to 1, to its features and a score a class, before any softmax"
            ),
            inputs: vec![tensor("x", &features.onnx_input())],
            outputs: vec![tensor("features", &sizes[0]), tensor("scores", &sizes[1])],
        },
        probes: probes.collect(),
        bytes: g.finish(metadata),
    }])
}
