//! A trained pair as graphs: `encoder.onnx` and `decoder.onnx`.
//!
//! In: the network, samples to check it on. Out: the graph from a sample to its code, `s` and then the mean of `z`, and the one from
//! such a code to a sample. A sample in the manner of another is decoded from the `s` of the one and the `z` of the other.

use anyhow::Result;
use candle_core::Tensor;

use crate::export::onnx::GraphBuilder;
use crate::export::package::{GraphCard, PackedGraph, ProbeRun, decoder_graph, tensor};
use crate::labelled::Samples;
use crate::task::disentangle::DisentangleNet;

/// Samples that the graphs are checked on.
const PROBES: usize = 16;

/// The two graphs with their probes.
///
/// # Errors
/// If a weight cannot be read.
pub fn graphs(
    net: &DisentangleNet,
    samples: &Samples,
    metadata: &[(&str, &str)],
) -> Result<Vec<PackedGraph>> {
    let step = samples.len().div_ceil(PROBES).max(1);
    let chosen = samples.chosen(&(0..samples.len()).step_by(step).collect::<Vec<_>>());
    let (encoder, decoder) = (net.encoder(), net.decoder());
    let length = net.code_length();
    let codes = net.codes(&chosen)?;

    let mut g = GraphBuilder::new("encoder");
    g.input("x", &encoder.onnx_input());
    let row = encoder.write(&mut g, "x")?;
    let (from, to, axis) = (g.ints(&[0]), g.ints(&[length as i64]), g.ints(&[1]));
    let code = g.node("Slice", &[&row, &from, &to, &axis], vec![]);
    g.output("code", &code, &[1, length]);
    let probes = codes.iter().enumerate().map(|(i, code)| ProbeRun {
        file: "encoder.onnx".into(),
        inputs: vec![encoder.onnx_values(&chosen.row(i))],
        outputs: vec![code.clone()],
    });
    let encoded = PackedGraph {
        card: GraphCard {
            file: "encoder.onnx".into(),
            purpose: format!(
                "a sample, values from 0 to 1, to its code: {} values of s, which say the class, then the mean of z, which says the rest",
                net.class_code()
            ),
            inputs: vec![tensor("x", &encoder.onnx_input())],
            outputs: vec![tensor("code", &[1, length])],
        },
        probes: probes.collect(),
        bytes: g.finish(metadata),
    };

    // Each with itself, and the class of each with the rest of the next.
    let mut mixed = codes.clone();
    for (i, code) in codes.iter().enumerate() {
        let mut code = code.clone();
        let next = &codes[(i + 1) % codes.len()];
        code[net.class_code()..].copy_from_slice(&next[net.class_code()..]);
        mixed.push(code);
    }
    let rows = Tensor::from_vec(mixed.concat(), (mixed.len(), length), net.device())?;
    let decoded = net.decode(&rows)?.to_vec2::<f32>()?;
    let pairs = mixed.iter().zip(&decoded);
    let pairs: Vec<_> = pairs.map(|(c, x)| (c.as_slice(), x.as_slice())).collect();
    let decoded = decoder_graph(
        "decoder",
        "a code, s and then z, to a sample",
        decoder,
        net.makes_pictures(),
        &pairs,
        metadata,
    )?;
    Ok(vec![encoded, decoded])
}
