//! A trained Siamese network as graphs: `embedding.onnx` and `distance.onnx`.
//!
//! In: the network, samples to check it on. Out: the graph from a sample to its point, and the one from two points to their
//! distance. Two samples are compared by running the first twice: the weights are there once, as they were learned.

use anyhow::Result;

use crate::export::follow::unit_norm;
use crate::export::onnx::{Attribute, GraphBuilder};
use crate::export::package::{GraphCard, PackedGraph, ProbeRun, tensor};
use crate::labelled::Samples;
use crate::loss::embedding::LENGTH_EPSILON;
use crate::loss::embedding::pairs::Measure;
use crate::task::siamese::SiameseNet;

/// Samples that the graphs are checked on.
const PROBES: usize = 16;

/// The two graphs with their probes.
///
/// # Errors
/// If a weight cannot be read.
pub fn graphs(
    net: &SiameseNet,
    measure: Measure,
    samples: &Samples,
    metadata: &[(&str, &str)],
) -> Result<Vec<PackedGraph>> {
    let step = samples.len().div_ceil(PROBES).max(1);
    let chosen: Vec<usize> = (0..samples.len()).step_by(step).collect();
    let points = net.embed(&samples.chosen(&chosen))?;
    let length = points.first().map_or(0, Vec::len);
    let stack = net.stack();

    let mut g = GraphBuilder::new("embedding");
    g.input("x", &stack.onnx_input());
    let mut point = stack.write(&mut g, "x")?;
    if net.has_unit_norm() {
        point = unit_norm(&mut g, &point);
    }
    g.output("embedding", &point, &[1, length]);
    let embedding = PackedGraph {
        card: GraphCard {
            file: "embedding.onnx".into(),
            purpose: "a sample, values from 0 to 1, to the point that it is compared by".into(),
            inputs: vec![tensor("x", &stack.onnx_input())],
            outputs: vec![tensor("embedding", &[1, length])],
        },
        bytes: g.finish(metadata),
        probes: chosen
            .iter()
            .zip(&points)
            .map(|(i, point)| ProbeRun {
                file: "embedding.onnx".into(),
                inputs: vec![stack.onnx_values(&samples.row(*i))],
                outputs: vec![point.clone()],
            })
            .collect(),
    };

    let mut g = GraphBuilder::new("distance");
    g.input("a", &[1, length]);
    g.input("b", &[1, length]);
    let between = distance(&mut g, measure);
    g.output("distance", &between, &[1, 1]);
    // Each with the next, both ways round, and one with itself.
    let pairs = points
        .windows(2)
        .flat_map(|w| [(&w[0], &w[1]), (&w[1], &w[0])]);
    let pairs = pairs.chain(points.first().map(|p| (p, p)));
    let distance = PackedGraph {
        card: GraphCard {
            file: "distance.onnx".into(),
            purpose: "two points to their distance".into(),
            inputs: vec![tensor("a", &[1, length]), tensor("b", &[1, length])],
            outputs: vec![tensor("distance", &[1, 1])],
        },
        bytes: g.finish(metadata),
        probes: pairs
            .map(|(a, b)| ProbeRun {
                file: "distance.onnx".into(),
                inputs: vec![a.clone(), b.clone()],
                outputs: vec![vec![measure.between(a, b)]],
            })
            .collect(),
    };
    Ok(vec![embedding, distance])
}

fn distance(g: &mut GraphBuilder, measure: Measure) -> String {
    let difference = g.node("Sub", &["a", "b"], vec![]);
    let axes = g.ints(&[1]);
    let keep = || vec![Attribute::Int("keepdims", 1)];
    match measure {
        Measure::Euclid => {
            let squares = g.node("Mul", &[&difference, &difference], vec![]);
            let sum = g.node("ReduceSum", &[&squares, &axes], keep());
            let epsilon = g.floats(&[1, 1], &[LENGTH_EPSILON as f32]);
            let sum = g.node("Add", &[&sum, &epsilon], vec![]);
            g.node("Sqrt", &[&sum], vec![])
        }
        Measure::CityBlock => {
            let turned = g.node("Sub", &["b", "a"], vec![]);
            let (above, below) = (
                g.node("Relu", &[&difference], vec![]),
                g.node("Relu", &[&turned], vec![]),
            );
            let sizes = g.node("Add", &[&above, &below], vec![]);
            g.node("ReduceSum", &[&sizes, &axes], keep())
        }
    }
}
