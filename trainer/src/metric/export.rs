//! A learned metric as files: `metric.onnx`, `metric.safetensors`, `L.csv`, `M.csv`.
//!
//! In: a [`Fitted`]. Out: the graph from a sample `x [1, dimension]` to its point `embedding [1, components]`, in which
//! Euclid's distance is the learned one; every matrix in double precision (`mean`, `scale`, `L`, `M`, with a kernel also
//! `anchors` and `projection`); L and M as text. L and M are those of standardised columns, or of the kernel's coordinates.

use std::collections::HashMap;

use anyhow::Result;
use nalgebra::DMatrix;
use safetensors::tensor::{Dtype, TensorView};

use super::kernel::{Kernel, KernelMap};
use super::study::{Fitted, matrix};
use crate::export::onnx::{Attribute, GraphBuilder};
use crate::export::package::{GraphCard, PackedGraph, ProbeRun, tensor};
use crate::labelled::Samples;

/// Samples that the graph is checked on.
const PROBES: usize = 16;

/// The graph, and what it must give for some of the samples.
pub fn graph(fitted: &Fitted, samples: &Samples, metadata: &[(&str, &str)]) -> PackedGraph {
    let dimension = fitted.standard.mean.len();
    let components = fitted.metric.l().ncols();
    let g = &mut GraphBuilder::new("metric");
    g.input("x", &[1, dimension]);
    let mean = g.floats(&[1, dimension], &single(fitted.standard.mean.as_slice()));
    let scale = g.floats(&[1, dimension], &single(fitted.standard.scale.as_slice()));
    let x = g.node("Sub", &["x", &mean], vec![]);
    let mut x = g.node("Mul", &[&x, &scale], vec![]);
    let map = match &fitted.kernel {
        Some(kernel) => {
            x = kernel_values(g, &x, kernel);
            // One product instead of two: coordinates and metric are both linear in the kernel's values.
            &kernel.projection * fitted.metric.l()
        }
        None => fitted.metric.l().clone(),
    };
    let weights = g.floats(&[map.nrows(), map.ncols()], &row_major(&map));
    let point = g.node("MatMul", &[&x, &weights], vec![]);
    g.output("embedding", &point, &[1, components]);

    let rows = matrix(samples);
    let step = samples.len().div_ceil(PROBES).max(1);
    let probes = (0..samples.len()).step_by(step).map(|i| ProbeRun {
        file: "metric.onnx".into(),
        inputs: vec![samples.row(i)],
        outputs: vec![row_major(&fitted.embed(&rows.rows(i, 1).into_owned()))],
    });
    PackedGraph {
        card: GraphCard {
            file: "metric.onnx".into(),
            purpose: "a sample to the point in which Euclid's distance is the learned one".into(),
            inputs: vec![tensor("x", &[1, dimension])],
            outputs: vec![tensor("embedding", &[1, components])],
        },
        probes: probes.collect(),
        bytes: std::mem::replace(g, GraphBuilder::new("")).finish(metadata),
    }
}

/// Kernel values of a standardised sample with every anchor, `[1, anchors]`.
fn kernel_values(g: &mut GraphBuilder, x: &str, map: &KernelMap) -> String {
    let anchors = &map.anchors;
    let count = anchors.nrows();
    let columns = g.floats(&[anchors.ncols(), count], &row_major(&anchors.transpose()));
    let products = g.node("MatMul", &[x, &columns], vec![]);
    match &map.kernel {
        Kernel::None | Kernel::Linear => products,
        Kernel::Rbf { gamma } => {
            // |x - a|^2 = x x + a a - 2 x a
            let squares = g.node("Mul", &[x, x], vec![]);
            let axes = g.ints(&[1]);
            let keep = vec![Attribute::Int("keepdims", 1)];
            let own = g.node("ReduceSum", &[&squares, &axes], keep);
            let theirs: Vec<f64> = anchors.row_iter().map(|row| row.norm_squared()).collect();
            let theirs = g.floats(&[1, count], &single(&theirs));
            let minus_two = g.floats(&[1, 1], &[-2.0]);
            let crossed = g.node("Mul", &[&products, &minus_two], vec![]);
            let sum = g.node("Add", &[&crossed, &theirs], vec![]);
            let sum = g.node("Add", &[&sum, &own], vec![]);
            let reach = g.floats(&[1, 1], &[-*gamma as f32]);
            let power = g.node("Mul", &[&sum, &reach], vec![]);
            g.node("Exp", &[&power], vec![])
        }
        Kernel::Polynomial {
            gamma,
            offset,
            degree,
        } => {
            let factor = g.floats(&[1, 1], &[*gamma as f32]);
            let scaled = g.node("Mul", &[&products, &factor], vec![]);
            let added = g.floats(&[1, 1], &[*offset as f32]);
            let base = g.node("Add", &[&scaled, &added], vec![]);
            (1..*degree).fold(base.clone(), |power, _| {
                g.node("Mul", &[&power, &base], vec![])
            })
        }
    }
}

/// The other files.
///
/// # Errors
/// None in practice: names and sizes are our own.
pub fn matrices(fitted: &Fitted) -> Result<Vec<(String, Vec<u8>)>> {
    let (l, m) = (fitted.metric.l().clone(), fitted.metric.m());
    let column = |v: &nalgebra::DVector<f64>| DMatrix::from_column_slice(v.len(), 1, v.as_slice());
    let mut named = vec![
        ("mean", column(&fitted.standard.mean)),
        ("scale", column(&fitted.standard.scale)),
        ("L", l.clone()),
        ("M", m.clone()),
    ];
    if let Some(kernel) = &fitted.kernel {
        named.push(("anchors", kernel.anchors.clone()));
        named.push(("projection", kernel.projection.clone()));
    }
    let bytes: Vec<(&str, Vec<usize>, Vec<u8>)> = named
        .iter()
        .map(|(name, m)| {
            let rows = m.transpose();
            let values = rows.as_slice().iter().flat_map(|v| v.to_le_bytes());
            (*name, vec![m.nrows(), m.ncols()], values.collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F64, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let settings = fitted
        .kernel
        .as_ref()
        .map(|map| toml::to_string(&map.kernel));
    let settings = settings.transpose()?.unwrap_or_default();
    let metadata = HashMap::from([("kernel".to_owned(), settings)]);
    Ok(vec![
        (
            "metric.safetensors".into(),
            safetensors::serialize(views, Some(metadata))?,
        ),
        ("L.csv".into(), csv(&l)),
        ("M.csv".into(), csv(&m)),
    ])
}

fn csv(m: &DMatrix<f64>) -> Vec<u8> {
    let lines = m.row_iter().map(|row| {
        let fields: Vec<String> = row.iter().map(|v| format!("{v:e}")).collect();
        fields.join(",") + "\n"
    });
    lines.collect::<String>().into_bytes()
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

fn row_major(m: &DMatrix<f64>) -> Vec<f32> {
    single(m.transpose().as_slice())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Learner, MetricRun};
    use super::*;
    use crate::export::package::{self, Package};
    use crate::labelled::{Shape, Values};
    use crate::systems::System;

    #[test]
    fn the_graph_of_every_kernel_says_what_the_trainer_says_and_the_matrices_are_read_back() {
        let (x, labels) = super::super::tests::three_classes(45, 4);
        let values = x.transpose().iter().map(|v| *v as f32).collect();
        let shape = Shape {
            height: 1,
            width: 1,
            channels: 4,
        };
        let samples = Samples::new(shape, Values::Numbers(values), labels, vec![]).unwrap();
        let polynomial = Kernel::Polynomial {
            gamma: 0.0,
            offset: 1.0,
            degree: 2,
        };
        for kernel in [
            Kernel::None,
            Kernel::Linear,
            Kernel::Rbf { gamma: 0.0 },
            polynomial,
        ] {
            let run = MetricRun {
                kernel,
                kernel_components: 10,
                ..MetricRun::default()
            };
            let x = matrix(&samples);
            let learner = Learner::Nca(Default::default());
            let fitted =
                Fitted::fit(&run, &learner, &x, samples.labels(), None, &mut |_, _| true).unwrap();
            let folder = tempfile::tempdir().unwrap();
            Package {
                system: System::Metric,
                config_sha256: String::new(),
                scores: Default::default(),
                graphs: vec![graph(&fitted, &samples, &[])],
                others: matrices(&fitted).unwrap(),
            }
            .write(folder.path())
            .unwrap();
            let packed = package::read(folder.path()).unwrap();
            let file = &packed.files["metric.safetensors"];
            let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
            let l = tensors.tensor("L").unwrap();
            let first = f64::from_le_bytes(l.data()[..8].try_into().unwrap());
            assert_eq!(first, fitted.metric.l()[(0, 0)]);
            let text = String::from_utf8(packed.files["M.csv"].clone()).unwrap();
            let corner: f64 = text.split(',').next().unwrap().parse().unwrap();
            assert_eq!(corner, fitted.metric.m()[(0, 0)]);
        }
    }
}
