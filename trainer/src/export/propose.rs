//! `propose.onnx`: from a trained [`ProposeNet`] to a graph beside the follow graphs of a bundle.
//!
//! The graph holds the bundle's own backbone, weight for weight, and the head. Batch normalisation is folded; sigmoid,
//! exponential and unit norm are part of it, so that whoever runs it gets probabilities and pixels. Layout is NCHW, batch
//! 1; each cell answers for four sub-cells, see [`roadhound_shared::propose`].

use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use roadhound_shared::contract::{BundleManifest, FileEntry, Training};
use roadhound_shared::propose::probe::ProposeTolerance;
use roadhound_shared::propose::{
    ProposalConfig, ProposeContract, ProposeDecoder, ProposeNetwork, ProposeOutputs, ProposeProbe,
};

use super::bundle::{self, PROBE_SEED, ProposeGraph};
use super::follow::{backbone_blocks, conv, unit_norm};
use super::interpret::{Graph, GraphError, copy_output, input};
use super::onnx::{Attribute, GraphBuilder};
use crate::model::Pass;
use crate::model::net::sigmoid;
use crate::model::propose::{
    FoldedPropose, PROPOSAL_LOG_RANGE, PROPOSAL_UNIT_PX, ProposeMaps, ProposeNet,
};

/// Bytes of `propose.onnx`, with the names and shapes of `contract`.
pub fn propose_graph(
    net: &FoldedPropose,
    contract: &ProposeContract,
    metadata: &[(&str, &str)],
) -> Vec<u8> {
    let tensors = &contract.tensors;
    let mut builder = GraphBuilder::new("propose");
    let g = &mut builder;
    g.input(&tensors.frame.name, &tensors.frame.shape);
    let (before, after) = net.backbone.split_at(net.fine_blocks);
    let tap = backbone_blocks(g, before, &tensors.frame.name);
    let coarse = backbone_blocks(g, after, &tap);
    let mut fine = tap;
    for layer in net.fine.iter().chain([&net.down]) {
        fine = conv(g, &fine, layer);
    }
    let along_channels = vec![Attribute::Int("axis", 1)];
    let joined = g.node("Concat", &[&fine, &coarse], along_channels);
    let mut x = conv(g, &joined, &net.mix);
    for layer in &net.trunk {
        x = conv(g, &x, layer);
    }
    let score = conv(g, &x, &net.score);
    let score = g.node("Sigmoid", &[&score], vec![]);
    g.output(&tensors.score.name, &score, &tensors.score.shape);

    let logs = conv(g, &x, &net.boxes);
    let low = g.floats(&[], &[PROPOSAL_LOG_RANGE.0 as f32]);
    let high = g.floats(&[], &[PROPOSAL_LOG_RANGE.1 as f32]);
    let logs = g.node("Clip", &[&logs, &low, &high], vec![]);
    let distances = g.node("Exp", &[&logs], vec![]);
    let unit = g.floats(&[], &[PROPOSAL_UNIT_PX as f32]);
    let distances = g.node("Mul", &[&distances, &unit], vec![]);
    g.output(
        &tensors.box_ltrb_px.name,
        &distances,
        &tensors.box_ltrb_px.shape,
    );

    // The values of a sub-cell are every fourth channel: apart they have an axis of their own.
    let shape: Vec<i64> = tensors.embedding.shape.iter().map(|d| *d as i64).collect();
    let values = contract.embedding_size as i64;
    let apart = g.ints(&[1, values, shape[1] / values, shape[2] * shape[3]]);
    let embedding = conv(g, &x, &net.embed);
    let embedding = g.node("Reshape", &[&embedding, &apart], vec![]);
    let embedding = unit_norm(g, &embedding);
    let together = g.ints(&shape);
    let embedding = g.node("Reshape", &[&embedding, &together], vec![]);
    g.output(
        &tensors.embedding.name,
        &embedding,
        &tensors.embedding.shape,
    );
    builder.finish(metadata)
}

/// The trained network, as the board sees it.
pub struct CandleProposer<'a> {
    net: &'a ProposeNet,
    decoder: ProposeDecoder,
    device: Device,
}

impl<'a> CandleProposer<'a> {
    /// A network in evaluation mode; batch 1.
    pub fn new(net: &'a ProposeNet, contract: &ProposeContract, device: &Device) -> Self {
        Self {
            net,
            decoder: ProposeDecoder::new(contract),
            device: device.clone(),
        }
    }
}

impl ProposeNetwork for CandleProposer<'_> {
    type Error = candle_core::Error;

    fn propose(&mut self, frame_chw: &[f32], out: &mut ProposeOutputs) -> candle_core::Result<()> {
        let size = self.net.input();
        let (height, width) = (size.height_px as usize, size.width_px as usize);
        let frame = Tensor::from_slice(frame_chw, (1, 3, height, width), &self.device)?;
        let frame = frame.permute((0, 2, 3, 1))?.contiguous()?;
        let maps = self.net.forward(&frame, Pass::Eval)?;
        to_planar(&maps, 0, &self.decoder, out)
    }
}

/// Copies what the maps say of one frame to where the graph would put it.
///
/// # Errors
/// Those of the device; maps or buffers of other sizes than the decoder's.
pub fn to_planar(
    maps: &ProposeMaps,
    frame: usize,
    decoder: &ProposeDecoder,
    out: &mut ProposeOutputs,
) -> candle_core::Result<()> {
    let scatter = |map: &Tensor, out: &mut [f32]| -> candle_core::Result<()> {
        let cells = map.narrow(0, frame, 1)?.squeeze(0)?.to_vec2::<f32>()?;
        let values = cells.first().map_or(0, Vec::len);
        if cells.len() != decoder.cells() || out.len() != cells.len() * values {
            candle_core::bail!(
                "{} sub-cells of {values} values, expected {} in a buffer of {}",
                cells.len(),
                decoder.cells(),
                out.len()
            );
        }
        for (cell, values) in cells.iter().enumerate() {
            for (k, value) in values.iter().enumerate() {
                out[decoder.index(k, cell)] = *value;
            }
        }
        Ok(())
    };
    scatter(&sigmoid(&maps.score_logits)?, &mut out.score)?;
    scatter(&maps.box_ltrb_px, &mut out.box_ltrb_px)?;
    scatter(&maps.embedding, &mut out.embedding)
}

/// A graph that runs in the interpreter, to the bit as on the board.
pub struct OnnxProposer {
    graph: Graph,
    contract: ProposeContract,
}

impl OnnxProposer {
    /// Parses the graph for `contract`.
    ///
    /// # Errors
    /// As [`Graph::parse`].
    pub fn new(bytes: &[u8], contract: &ProposeContract) -> Result<Self, GraphError> {
        Ok(Self {
            graph: Graph::parse(bytes)?,
            contract: contract.clone(),
        })
    }
}

impl ProposeNetwork for OnnxProposer {
    type Error = GraphError;

    fn propose(&mut self, frame_chw: &[f32], out: &mut ProposeOutputs) -> Result<(), GraphError> {
        let t = &self.contract.tensors;
        let values = self.graph.run(&[input(&t.frame, frame_chw)?])?;
        copy_output(&values, &t.score, &mut out.score)?;
        copy_output(&values, &t.box_ltrb_px, &mut out.box_ltrb_px)?;
        copy_output(&values, &t.embedding, &mut out.embedding)
    }
}

/// The graph of `net` with its contract and probe, the graph checked against the network.
///
/// # Errors
/// A graph that says something else than the network.
pub fn graph_of(
    net: &ProposeNet,
    decode: ProposalConfig,
    training: Training,
    licence: &str,
) -> Result<(ProposeContract, ProposeGraph)> {
    let contract = ProposeContract {
        decode,
        training,
        ..ProposeContract::new(net.sizes())?
    };
    let metadata = [
        ("licence", licence),
        ("config_sha256", contract.training.config_sha256.as_str()),
    ];
    let bytes = propose_graph(&net.folded()?, &contract, &metadata);
    let mut network = CandleProposer::new(net, &contract, &Device::Cpu);
    let tolerance = ProposeTolerance::default();
    let probe = ProposeProbe::capture(&mut network, &contract, PROBE_SEED, tolerance)?;
    // What was written must say what the network says: the graph is run before it is shipped.
    probe
        .replay(&mut OnnxProposer::new(&bytes, &contract)?, &contract)
        .context("the exported graph differs from the network")?;
    let probe_json = serde_json::to_vec_pretty(&probe)?;
    Ok((
        contract,
        ProposeGraph {
            bytes,
            probe,
            probe_json,
        },
    ))
}

/// Scores of int8 proposals begin so.
pub const INT8_SCORES: &str = "int8_propose_";

/// Writes the bundle of `from` to `folder` with the proposals of `net` beside the follow graphs, which stay to the byte.
///
/// # Errors
/// A bundle of another backbone than the one that `net` was trained on; files that cannot be read or written.
pub fn add_to_bundle(
    net: &ProposeNet,
    backbone_sha256: &str,
    decode: ProposalConfig,
    training: Training,
    scores: &[(String, f64)],
    from: &Path,
    folder: &Path,
) -> Result<BundleManifest> {
    let mut files = bundle::read(from)?;
    let manifest = &files.manifest;
    let search = manifest.f32_files().search;
    let found = manifest.files.get(search).map_or("", |f| f.sha256.as_str());
    ensure!(
        found == backbone_sha256,
        "{}: the search graph's SHA-256 is {found}, the proposals were trained on {backbone_sha256}",
        from.display()
    );
    let (contract, graph) = graph_of(net, decode, training, &files.manifest.licence)?;
    // What was quantised was another head.
    bundle::remove_propose_int8(&mut files.manifest);
    let scored = &mut files.manifest.scores;
    scored.retain(|name, _| !name.starts_with(INT8_SCORES));
    files.propose_int8 = None;
    files.manifest.scores.extend(scores.iter().cloned());
    for (name, bytes) in [
        (&contract.file, &graph.bytes),
        (&contract.probe_file, &graph.probe_json),
    ] {
        let entry = FileEntry::of(bytes);
        files.manifest.files.insert(name.clone(), entry);
    }
    files.manifest.propose = Some(contract);
    files.propose = Some(graph);
    bundle::write_files(&files, &[], folder)?;
    Ok(files.manifest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use roadhound_shared::propose::Proposals;
    use roadhound_shared::propose::probe::probe_frame;

    use super::*;
    use crate::export::unfold::{backbone_sha256, network_from_bundle};
    use crate::model::propose::ProposeModelConfig;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/models/roadhound-s")
    }

    /// An untrained head on the shipped backbone.
    fn net() -> ProposeNet {
        let config = ProposeModelConfig::default();
        let backbone = network_from_bundle(&shipped(), &config.backbone, 1, &Device::Cpu).unwrap();
        let input = roadhound_shared::propose::ProposeSizes::default().input;
        ProposeNet::new(&config, input, backbone, 3, &Device::Cpu).unwrap()
    }

    #[test]
    fn the_graph_says_at_every_sub_cell_what_the_network_says() {
        let net = net();
        let contract = ProposeContract::new(net.sizes()).unwrap();
        let bytes = propose_graph(&net.folded().unwrap(), &contract, &[]);
        let frame = probe_frame(4, &contract);
        let said = |network: &mut dyn FnMut(&mut ProposeOutputs)| {
            let mut out = ProposeOutputs::for_contract(&contract);
            network(&mut out);
            out
        };
        let mut candle = CandleProposer::new(&net, &contract, &Device::Cpu);
        let mut onnx = OnnxProposer::new(&bytes, &contract).unwrap();
        let a = said(&mut |out| candle.propose(&frame, out).unwrap());
        let b = said(&mut |out| onnx.propose(&frame, out).unwrap());
        for (name, a, b, tolerance) in [
            ("score", &a.score, &b.score, 1e-4),
            ("box", &a.box_ltrb_px, &b.box_ltrb_px, 1e-2),
            ("embedding", &a.embedding, &b.embedding, 1e-4),
        ] {
            let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            let furthest = off.fold(0.0, f32::max);
            assert!(furthest < tolerance, "{name} is off by {furthest}");
        }
        let spread = |values: &[f32]| {
            let most = values.iter().copied().fold(f32::MIN, f32::max);
            most - values.iter().copied().fold(f32::MAX, f32::min)
        };
        assert!(spread(&b.score) > 1e-3 && spread(&b.embedding) > 0.1);
        let decoder = ProposeDecoder::new(&contract);
        let mut embedding = [0.0; 32];
        assert!(decoder.embedding_at(&b, 700, &mut embedding));
        let length: f32 = embedding.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-3, "{length}");
        let config = ProposalConfig {
            min_score: 0.001,
            ..ProposalConfig::default()
        };
        let mut found = [Proposals::new(), Proposals::new()];
        decoder.decode(&a, &config, &mut found[0]);
        decoder.decode(&b, &config, &mut found[1]);
        assert!(!found[0].is_empty());
        assert_eq!(found[0].len(), found[1].len());
    }

    #[test]
    fn a_bundle_gains_the_graph_and_keeps_its_own_to_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("both");
        let digest = backbone_sha256(&shipped()).unwrap();
        let training = Training {
            commit: "0123abc".into(),
            config_sha256: "ab".into(),
            data: vec!["p".into()],
            pairs_seen: 8,
        };
        let add = |digest: &str, from: &Path| {
            let scores = [("propose_ap50".to_owned(), 0.25)];
            let config = ProposalConfig::default();
            add_to_bundle(
                &net(),
                digest,
                config,
                training.clone(),
                &scores,
                from,
                &out,
            )
        };
        let said = add("feed", &shipped()).unwrap_err().to_string();
        assert!(
            said.contains("the proposals were trained on feed"),
            "{said}"
        );
        assert!(!out.exists());
        let manifest = add(&digest, &shipped()).unwrap();
        assert_eq!(manifest.scores["propose_ap50"], 0.25);
        // Of int8 graphs only those scores stay whose graphs do.
        let of_int8 = |scores: &BTreeMap<String, f64>, prefix: &str| {
            scores
                .keys()
                .filter(|name| name.starts_with(prefix))
                .count()
        };
        let before = bundle::read(&shipped()).unwrap().manifest.scores;
        assert!(of_int8(&before, INT8_SCORES) > 0);
        assert_eq!(of_int8(&manifest.scores, INT8_SCORES), 0);
        let follow = of_int8(&before, "int8_") - of_int8(&before, INT8_SCORES);
        assert_eq!(of_int8(&manifest.scores, "int8_"), follow);
        for name in [
            "template.onnx",
            "search.onnx",
            "probe.json",
            "search.int8.onnx",
        ] {
            let bytes = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
            assert_eq!(bytes(&out), bytes(&shipped()), "{name}");
        }
        let read = bundle::read(&out).unwrap();
        assert_eq!(read.manifest, manifest);
        let (graph, contract) = (read.propose.unwrap(), manifest.propose.as_ref().unwrap());
        let mut network = OnnxProposer::new(&graph.bytes, contract).unwrap();
        graph.probe.replay(&mut network, contract).unwrap();
        // Whoever only follows reads it as before.
        bundle::load(&out, bundle::GraphPrecision::F32).unwrap();

        // A second graph for road users stands beside the first, until a new head makes it wrong.
        let mut files = bundle::read(&out).unwrap();
        let bytes = files.propose.as_ref().unwrap().bytes.clone();
        bundle::set_propose_int8(&mut files, bytes).unwrap();
        bundle::write_quantised(files, &[], &out).unwrap();
        let both = bundle::read(&out).unwrap();
        assert_eq!(
            both.propose_int8.unwrap().bytes,
            both.propose.unwrap().bytes
        );
        assert!(both.manifest.files.contains_key("probe.propose.int8.json"));
        let replaced = add(&digest, &out.clone()).unwrap();
        assert_eq!(replaced.files, manifest.files);
        assert_eq!(replaced.propose.unwrap().int8, None);
    }
}
