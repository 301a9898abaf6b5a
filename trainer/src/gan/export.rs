//! A trained pair as graphs: `generator.onnx` and `discriminator.onnx`.
//!
//! In: the networks, codes and samples to check them on. Out: the graph from a code to a sample, and the one from a sample to
//! the logarithm of the odds that it is a real one and, where codes can be read, the code: a logarithm a category, up to a
//! constant, then the continuous values.

use anyhow::Result;
use candle_core::Tensor;

use crate::export::onnx::{Attribute, GraphBuilder};
use crate::export::package::{GraphCard, PackedGraph, ProbeRun, decoder_graph, tensor};
use crate::labelled::Samples;
use crate::model::Pass;
use crate::task::gan::GanNet;

/// Codes and samples that the graphs are checked on.
const PROBES: usize = 16;

/// The two graphs with their probes.
///
/// # Errors
/// If a weight cannot be read.
pub fn graphs(
    net: &GanNet,
    samples: &Samples,
    seed: u64,
    metadata: &[(&str, &str)],
) -> Result<Vec<PackedGraph>> {
    let code = net.code().len();
    let codes = net.draw(PROBES, seed, PROBES as u64);
    let made = net.made(&net.tensor(codes.rows.clone(), PROBES)?, Pass::Eval)?;
    let made = made.to_vec2::<f32>()?;

    let pairs = codes.rows.chunks(code).zip(&made);
    let pairs: Vec<_> = pairs.map(|(c, x)| (c, x.as_slice())).collect();
    let maker = decoder_graph(
        "generator",
        "a code, the category as a 1 among zeros, then values from -1 to 1, then normal noise, to a sample",
        net.generator(),
        net.makes_pictures(),
        &pairs,
        metadata,
    )?;

    let discriminator = net.discriminator();
    let step = samples.len().div_ceil(PROBES).max(1);
    let mut shown: Vec<Vec<f32>> = (0..samples.len())
        .step_by(step)
        .map(|i| samples.row(i))
        .collect();
    shown.extend(made.into_iter().take(PROBES / 2));
    let x = Tensor::from_vec(
        shown.concat(),
        (shown.len(), samples.shape().len()),
        net.device(),
    )?;
    let seen = net.judged(&x, Pass::Eval)?;
    let logits = seen.logits.to_vec2::<f32>()?;
    let read = match net.read(&x, &seen.features, Pass::Eval)? {
        Some(read) => Some(read.to_vec2::<f32>()?),
        None => None,
    };
    let mut g = GraphBuilder::new("discriminator");
    g.input("x", &discriminator.onnx_input());
    let (logit, features) = discriminator.write_with_features(&mut g, "x")?;
    g.output("logit", &logit, &[1, 1]);
    let mut outputs = vec![tensor("logit", &[1, 1])];
    let mut parts = Vec::new();
    if let Some(clusters) = net.clusters()? {
        parts.push(clusters.write(&mut g, "x")?);
    }
    if let Some(reader) = net.reader() {
        parts.push(reader.write(&mut g, &features)?);
    }
    if let Some(code) = joined(&mut g, parts) {
        let readable = net.code().readable();
        g.output("code", &code, &[1, readable]);
        outputs.push(tensor("code", &[1, readable]));
    }
    let probes = shown.iter().enumerate().map(|(i, x)| ProbeRun {
        file: "discriminator.onnx".into(),
        inputs: vec![discriminator.onnx_values(x)],
        outputs: std::iter::once(logits[i].clone())
            .chain(read.as_ref().map(|read| read[i].clone()))
            .collect(),
    });
    let judge = PackedGraph {
        card: GraphCard {
            file: "discriminator.onnx".into(),
            purpose: "a sample to the logarithm of the odds that it is a real one, and to what is read off it of a code".into(),
            inputs: vec![tensor("x", &discriminator.onnx_input())],
            outputs,
        },
        probes: probes.collect(),
        bytes: g.finish(metadata),
    };
    Ok(vec![maker, judge])
}

/// One row of what was read in parts.
fn joined(g: &mut GraphBuilder, mut parts: Vec<String>) -> Option<String> {
    match parts.len() {
        0 | 1 => parts.pop(),
        _ => {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            Some(g.node("Concat", &parts, vec![Attribute::Int("axis", 1)]))
        }
    }
}
