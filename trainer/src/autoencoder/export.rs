//! A trained autoencoder as graphs: `encoder.onnx` and `decoder.onnx`.
//!
//! In: the network, samples to check it on. Out: the graph from a sample to its code (of a VAE the mean of it, and the
//! encoder's whole row), and the one from a code to a sample.

use anyhow::Result;
use candle_core::Tensor;

use crate::export::onnx::GraphBuilder;
use crate::export::package::{GraphCard, PackedGraph, ProbeRun, decoder_graph, tensor};
use crate::labelled::Samples;
use crate::model::Pass;
use crate::task::autoencoder::{AutoencoderNet, CodeShape};

/// Samples that the graphs are checked on.
const PROBES: usize = 16;

/// The two graphs with their probes.
///
/// # Errors
/// If a weight cannot be read.
pub fn graphs(
    net: &AutoencoderNet,
    samples: &Samples,
    metadata: &[(&str, &str)],
) -> Result<Vec<PackedGraph>> {
    let step = samples.len().div_ceil(PROBES).max(1);
    let chosen = samples.chosen(&(0..samples.len()).step_by(step).collect::<Vec<_>>());
    let (encoder, decoder) = (net.encoder(), net.decoder());
    let latent = net.latent();
    let all = chosen.rows(0..chosen.len());
    let x = Tensor::from_vec(all, (chosen.len(), samples.shape().len()), net.device())?;
    let rows = encoder.forward(&x, Pass::Eval)?;
    let codes = net.code_of(&rows)?;
    let width = rows.dim(1)?;

    let mut g = GraphBuilder::new("encoder");
    g.input("x", &encoder.onnx_input());
    let row = encoder.write(&mut g, "x")?;
    let code = match net.code_shape() {
        CodeShape::Linear => row.clone(),
        CodeShape::Relu => g.node("Relu", &[&row], vec![]),
        CodeShape::Sigmoid => g.node("Sigmoid", &[&row], vec![]),
        CodeShape::MeanFirst => {
            let (from, to, axis) = (g.ints(&[0]), g.ints(&[latent as i64]), g.ints(&[1]));
            g.node("Slice", &[&row, &from, &to, &axis], vec![])
        }
    };
    g.output("code", &code, &[1, latent]);
    let variational = net.code_shape() == CodeShape::MeanFirst;
    let mut outputs = vec![tensor("code", &[1, latent])];
    if variational {
        g.output("posterior", &row, &[1, width]);
        outputs.push(tensor("posterior", &[1, width]));
    }
    let (codes_out, rows_out) = (codes.to_vec2::<f32>()?, rows.to_vec2::<f32>()?);
    let probes = (0..chosen.len()).map(|i| ProbeRun {
        file: "encoder.onnx".into(),
        inputs: vec![encoder.onnx_values(&chosen.row(i))],
        outputs: match variational {
            true => vec![codes_out[i].clone(), rows_out[i].clone()],
            false => vec![codes_out[i].clone()],
        },
    });
    let purpose = match variational {
        true => {
            "a sample, values from 0 to 1, to the mean of its code; posterior is mean, log deviations and what follows"
        }
        false => "a sample, values from 0 to 1, to its code",
    };
    let encoder = PackedGraph {
        card: GraphCard {
            file: "encoder.onnx".into(),
            purpose: purpose.into(),
            inputs: vec![tensor("x", &encoder.onnx_input())],
            outputs,
        },
        probes: probes.collect(),
        bytes: g.finish(metadata),
    };

    let decoded = net.decode(&codes)?.to_vec2::<f32>()?;
    let pairs = codes_out.iter().zip(&decoded);
    let pairs: Vec<_> = pairs.map(|(c, x)| (c.as_slice(), x.as_slice())).collect();
    let decoder = decoder_graph(
        "decoder",
        "a code to a sample",
        decoder,
        net.decodes_odds(),
        &pairs,
        metadata,
    )?;
    Ok(vec![encoder, decoder])
}
