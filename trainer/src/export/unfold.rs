//! The way back: from a bundle's graphs to a network that can be trained further.
//!
//! In: a bundle folder and the geometry of the network that is to take it over. Out: a [`TrackerNet`] whose evaluation
//! mode computes what the bundle computes, checked against the bundle's own probe.
//!
//! A bundle holds convolutions with batch normalisation folded in, which cannot be trained as they are: without
//! normalisation the rates of the recipe diverge. [`TrackerNet::adopt`] takes the folded layers apart again, with any
//! statistics for a start; [`TrackTask::settle`](crate::task::track::TrackTask::settle) then measures the real ones on
//! training crops, layer by layer, and moves scale and shift with them, so that training mode starts at the same
//! function too.
//!
//! ```no_run
//! use candle_core::Device;
//! use roadhound_trainer::export::unfold::network_from_bundle;
//! use roadhound_trainer::model::ModelConfig;
//! let folder = std::path::Path::new("edge/models/roadhound-s");
//! let net = network_from_bundle(folder, &ModelConfig::default(), 1, &Device::Cpu)?;
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use prost::Message;
use roadhound_shared::contract::FollowSizes;

use super::bundle::{self, BundleFiles, contract_of};
use super::onnx::{GraphProto, ModelProto, NodeProto, TensorProto};
use crate::model::net::FoldedNet;
use crate::model::{ModelConfig, TrackerNet};
use crate::network::CandleNetwork;

/// The trainable network of a bundle; `seed` fills nothing that the bundle does not overwrite.
///
/// # Errors
/// One line that names the folder: a damaged bundle, one of another geometry than `config`, or one
/// whose probe the restored network does not answer.
pub fn network_from_bundle(
    folder: &Path,
    config: &ModelConfig,
    seed: u64,
    device: &Device,
) -> Result<TrackerNet> {
    let shown = || format!("{}", folder.display());
    let BundleFiles { manifest, f32, .. } = bundle::read(folder)?;
    let net = TrackerNet::new(config, seed, device)?;
    let expected = contract_of(&net)?.sizes();
    let found = manifest.follow.sizes();
    ensure!(
        found == expected,
        "{}: a bundle of another architecture: {found:?}, the configuration's model has {expected:?}",
        folder.display()
    );
    let folded = folded_from_graph(&f32.search, net.folded()?).with_context(shown)?;
    net.adopt(&folded).with_context(shown)?;
    let mut network = CandleNetwork::new(net, device);
    f32.probe
        .replay(&mut network, &manifest.follow)
        .with_context(shown)
        .context("the restored network differs from the bundle")?;
    Ok(network.into_net())
}

/// The geometry of the network that a bundle's graphs were written from: what [`network_from_bundle`] wants to be told.
///
/// # Errors
/// One line that names the folder: a damaged bundle, or graphs that no network of ours gives.
pub fn geometry_of_bundle(folder: &Path) -> Result<ModelConfig> {
    let shown = || format!("{}", folder.display());
    let BundleFiles { manifest, f32, .. } = bundle::read(folder)?;
    geometry_of_graph(&f32.search, &manifest.follow.sizes()).with_context(shown)
}

fn search_graph(onnx: &[u8]) -> Result<GraphProto> {
    let model = ModelProto::decode(onnx).context("the search graph is not ONNX")?;
    model.graph.context("the search graph is empty")
}

fn constants_of(graph: &GraphProto) -> HashMap<&str, &TensorProto> {
    let named = graph.initializer.iter().map(|t| (t.name.as_str(), t));
    named.collect()
}

/// The geometry behind a search graph of these sizes: stages begin at its strided convolutions, a sum of two maps ends a
/// residual pair, the first 1x1 kernel is the neck and the second the head's first layer.
///
/// # Errors
/// A graph that has no such layers.
pub fn geometry_of_graph(search_onnx: &[u8], sizes: &FollowSizes) -> Result<ModelConfig> {
    let graph = search_graph(search_onnx)?;
    let constants = constants_of(&graph);
    let mut config = ModelConfig {
        stage_channels: Vec::new(),
        plain_convs: Vec::new(),
        residual_pairs: Vec::new(),
        feature_channels: sizes.feature_channels,
        head_channels: 0,
        embedding: sizes.embedding_size,
        template_px: sizes.template_px as usize,
        search_px: sizes.search_px as usize,
    };
    let mut is_behind_neck = false;
    for node in &graph.node {
        match node.op_type.as_str() {
            "Conv" => {
                let weight = node.input.get(1).and_then(|n| constants.get(n.as_str()));
                let dims = &weight.context("a convolution without weights")?.dims;
                let [output, _, kernel, _] = dims[..] else {
                    bail!(
                        "a convolution's weights have {} axes, expected 4",
                        dims.len()
                    )
                };
                let strides = node.attribute.iter().find(|a| a.name == "strides");
                let is_strided = strides.is_some_and(|a| a.ints.iter().any(|s| *s > 1));
                match (is_behind_neck, kernel) {
                    (true, _) => {
                        config.head_channels = output as usize;
                        break;
                    }
                    (false, 1) => is_behind_neck = true,
                    (false, _) if is_strided => {
                        config.stage_channels.push(output as usize);
                        config.plain_convs.push(0);
                        config.residual_pairs.push(0);
                    }
                    (false, _) => {
                        let convs = config.plain_convs.last_mut();
                        *convs.context("the first convolution has no stride")? += 1;
                    }
                }
            }
            "Add" if !is_behind_neck => {
                let stage = config
                    .plain_convs
                    .last_mut()
                    .zip(config.residual_pairs.last_mut());
                let (convs, pairs) = stage.context("a sum before the first convolution")?;
                *convs = convs
                    .checked_sub(2)
                    .context("a sum of no two convolutions")?;
                *pairs += 1;
            }
            _ => {}
        }
    }
    config.validate()?;
    ensure!(
        config.stride() == sizes.stride_px as usize,
        "the search graph has a stride of {}, the contract says {}",
        config.stride(),
        sizes.stride_px
    );
    Ok(config)
}

/// SHA-256 of a bundle's search graph: which backbone something was built on.
///
/// # Errors
/// One line that names the folder: a damaged bundle.
pub fn backbone_sha256(folder: &Path) -> Result<String> {
    let shown = || format!("{}", folder.display());
    let BundleFiles { manifest, .. } = bundle::read(folder)?;
    let entry = manifest.files.get(manifest.f32_files().search);
    Ok(entry.with_context(shown)?.sha256.clone())
}

/// Fills `net`, which gives the expected geometry, with the numbers of a search graph: it holds every layer.
///
/// # Errors
/// The first layer that is missing, left over, or of another shape.
pub fn folded_from_graph(search_onnx: &[u8], mut net: FoldedNet) -> Result<FoldedNet> {
    let graph = search_graph(search_onnx)?;
    let constants = constants_of(&graph);
    let constant = |node: &NodeProto, k: usize| {
        node.input
            .get(k)
            .and_then(|name| constants.get(name.as_str()))
            .copied()
    };

    let convolutions: Vec<&NodeProto> = graph.node.iter().filter(|n| n.op_type == "Conv").collect();
    let mut layers = net.convolutions_mut();
    ensure!(
        convolutions.len() == layers.len(),
        "a bundle of another architecture: {} float convolutions in the search graph, expected {}",
        convolutions.len(),
        layers.len()
    );
    for (number, (node, layer)) in convolutions.iter().zip(&mut layers).enumerate() {
        let named = || {
            format!(
                "a bundle of another architecture: convolution {}",
                number + 1
            )
        };
        let s = layer.shape;
        let weight = constant(node, 1).with_context(named)?;
        let bias = constant(node, 2).with_context(named)?;
        layer.weight_oihw =
            floats(weight, &[s.output, s.input, s.kernel, s.kernel]).with_context(named)?;
        layer.bias = floats(bias, &[s.output]).with_context(named)?;
        for (attribute, expected) in [("strides", s.stride), ("pads", s.kernel / 2)] {
            let found = node.attribute.iter().find(|a| a.name == attribute);
            let found = found.map_or(&[][..], |a| &a.ints);
            ensure!(
                !found.is_empty() && found.iter().all(|v| *v == expected as i64),
                "{}: {attribute} are {found:?}, expected {expected}",
                named()
            );
        }
    }

    // Two products and one sum have a map of constants, one a channel: the weight of the latest template, then the
    // correlation's scale and shift.
    let per_channel = |op: &str| -> Vec<&TensorProto> {
        let nodes = graph.node.iter().filter(|n| n.op_type == op);
        nodes
            .filter_map(|n| constant(n, 1))
            .filter(|tensor| tensor.dims.len() == 4)
            .collect()
    };
    let (products, sums) = (per_channel("Mul"), per_channel("Add"));
    let ([latest, scale], [shift]) = (products.as_slice(), sums.as_slice()) else {
        bail!(
            "a bundle of another architecture: {} products and {} sums with one constant a channel, expected 2 and 1",
            products.len(),
            sums.len()
        )
    };
    let (channels, cells) = (net.latest_weight.len(), net.correlation_affine.0.len());
    net.latest_weight = floats(latest, &[1, channels, 1, 1]).context("the template mix")?;
    net.correlation_affine = (
        floats(scale, &[1, cells, 1, 1]).context("the correlation's scale")?,
        floats(shift, &[1, cells, 1, 1]).context("the correlation's shift")?,
    );
    Ok(net)
}

fn floats(tensor: &TensorProto, shape: &[usize]) -> Result<Vec<f32>> {
    let expected: Vec<i64> = shape.iter().map(|d| *d as i64).collect();
    let len: usize = shape.iter().product();
    ensure!(
        tensor.dims == expected && tensor.data_type == 1 && tensor.raw_data.len() == 4 * len,
        "{} has shape {:?}, type {} and {} bytes, expected {expected:?} of f32",
        tensor.name,
        tensor.dims,
        tensor.data_type,
        tensor.raw_data.len()
    );
    let values = tensor.raw_data.chunks_exact(4);
    Ok(values
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;
    use std::sync::Arc;

    use candle_core::Tensor;

    use super::*;
    use crate::batch::Batch;
    use crate::config::TrackerRun;
    use crate::data::{DataConfig, Dataset};
    use crate::evaluate;
    use crate::export::bundle::GraphPrecision;
    use crate::export::follow::{search_graph, template_graph};
    use crate::export::interpret::OnnxNetwork;
    use crate::model::Pass;
    use crate::ops::Precision;
    use crate::optim::{AdamW, OptimConfig};
    use crate::params::lock;
    use crate::sampler::{Sampler, SamplerScratch, Split};
    use crate::task::Task;
    use crate::task::track::{LossConfig, TrackTask};
    use roadhound_shared::network::{FollowNetwork, SearchOutputs, TemplateOutputs};

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/models/roadhound-s")
    }

    fn task(net: TrackerNet, validation: Vec<Batch>) -> TrackTask {
        let average = TrackerNet::new(net.config(), 1, &Device::Cpu).unwrap();
        let (loss, precision) = (LossConfig::default(), Precision::F32);
        TrackTask::new(net, average, loss, precision, 1, &Device::Cpu, validation)
    }

    /// A network whose normalisations say something, as after training.
    fn seasoned(config: &ModelConfig, seed: u64) -> TrackerNet {
        let net = TrackerNet::new(config, seed, &Device::Cpu).unwrap();
        for (k, (name, var)) in net.params().vars.iter().enumerate() {
            if name.ends_with(".gamma") || name.ends_with(".beta") || name == "template_mix" {
                let n = var.elem_count();
                let start = if name.ends_with(".gamma") { 0.6 } else { -0.4 };
                let values = (0..n).map(|i| start + 0.13 * ((i * 7 + k) % 6) as f32);
                let values = Tensor::from_iter(values, &Device::Cpu).unwrap();
                var.set(&values).unwrap();
            }
        }
        for (k, stats) in net.params().stats.values().enumerate() {
            let mut stats = lock(stats);
            for (i, v) in stats.variance.iter_mut().enumerate() {
                *v = 0.3 + 0.2 * ((i + k) % 5) as f32;
            }
            for (i, m) in stats.mean.iter_mut().enumerate() {
                *m = 0.1 * ((i + k) % 4) as f32;
            }
        }
        net
    }

    fn presence_logits(net: &TrackerNet, batch: &Batch, pass: Pass) -> Vec<f32> {
        let images = |rgb: &[u8], px: usize| {
            let values = rgb.iter().map(|v| (f32::from(*v) - 114.0) / 58.0);
            let shape = (batch.len, px, px, 3);
            Tensor::from_iter(values, &Device::Cpu)
                .unwrap()
                .reshape(shape)
                .unwrap()
        };
        let template = images(&batch.template_rgb, batch.template_px);
        let search = images(&batch.search_rgb, batch.search_px);
        let template = net.features(&template, pass).unwrap();
        let search = net.features(&search, pass).unwrap();
        let maps = net.heads(&template, &search, pass).unwrap();
        maps.presence_logits.to_vec1().unwrap()
    }

    /// Everything a network says about one noise pair, as the board sees it.
    fn answers<N: FollowNetwork>(network: &mut N, config: &ModelConfig) -> Vec<Vec<f32>>
    where
        N::Error: std::fmt::Debug,
    {
        let net = TrackerNet::new(config, 1, &Device::Cpu).unwrap();
        let contract = contract_of(&net).unwrap();
        let batch = Batch::noise(9, 1, config.template_px, config.search_px);
        let planar = |rgb: &[u8]| evaluate::planar(rgb, &contract.normalisation);
        let mut template = TemplateOutputs::for_contract(&contract);
        let crop = planar(&batch.template_rgb);
        network.template(&crop, &mut template).unwrap();
        let first = template.features.clone();
        let mut out = SearchOutputs::for_contract(&contract);
        let latest: Vec<f32> = first.iter().rev().copied().collect();
        let crop = planar(&batch.search_rgb);
        network.search(&crop, &first, &latest, &mut out).unwrap();
        vec![
            first,
            template.embedding,
            out.score,
            out.box_ltrb_px,
            vec![out.presence],
            out.embedding,
        ]
    }

    fn assert_close(found: &[Vec<f32>], expected: &[Vec<f32>], relative: f32) {
        for (map, (found, expected)) in found.iter().zip(expected).enumerate() {
            for (at, (a, b)) in found.iter().zip(expected).enumerate() {
                let close = (a - b).abs() <= relative * (1.0 + b.abs());
                assert!(close, "map {map}[{at}] is {a}, expected {b}");
            }
        }
    }

    #[test]
    fn a_folded_network_is_read_back_from_its_graph_and_evaluates_as_before() {
        let net = seasoned(&ModelConfig::tiny(), 3);
        let graph = search_graph(&net.folded().unwrap(), &[]);
        let other = TrackerNet::new(&ModelConfig::tiny(), 4, &Device::Cpu).unwrap();
        let folded = folded_from_graph(&graph, other.folded().unwrap()).unwrap();
        other.adopt(&folded).unwrap();
        let mut before = CandleNetwork::new(net, &Device::Cpu);
        let mut after = CandleNetwork::new(other, &Device::Cpu);
        let expected = answers(&mut before, &ModelConfig::tiny());
        assert_close(&answers(&mut after, &ModelConfig::tiny()), &expected, 1e-4);
    }

    #[test]
    fn the_geometry_of_a_network_is_read_off_its_graph() {
        let odd = ModelConfig {
            stage_channels: vec![4, 6, 8],
            plain_convs: vec![1, 0, 2],
            residual_pairs: vec![0, 2, 1],
            head_channels: 5,
            ..ModelConfig::tiny()
        };
        for config in [ModelConfig::tiny(), odd] {
            let net = TrackerNet::new(&config, 3, &Device::Cpu).unwrap();
            let sizes = contract_of(&net).unwrap().sizes();
            let graph = search_graph(&net.folded().unwrap(), &[]);
            assert_eq!(geometry_of_graph(&graph, &sizes).unwrap(), config);
            let wrong = FollowSizes {
                stride_px: 64,
                ..sizes
            };
            let error = geometry_of_graph(&graph, &wrong).unwrap_err().to_string();
            assert!(error.contains("the contract says 64"), "{error}");
        }
        assert_eq!(
            geometry_of_bundle(&shipped()).unwrap(),
            ModelConfig::default()
        );
    }

    #[test]
    fn settling_brings_training_mode_to_the_evaluated_function() {
        // Template and search crops alike: what is left is the difference between the two variances of a sample.
        let config = ModelConfig {
            template_px: 32,
            ..ModelConfig::tiny()
        };
        let other = TrackerNet::new(&config, 4, &Device::Cpu).unwrap();
        let folded = seasoned(&config, 3).folded().unwrap();
        other.adopt(&folded).unwrap();
        let restored = task(other, vec![]);
        let mut batch = Batch::noise(5, 12, 32, 32);
        batch.search_rgb = batch.template_rgb.clone();
        batch.has_distinct_latest.fill(false);
        let train = Pass::Train {
            momentum: 0.0,
            precision: Precision::F32,
        };
        let distance = |restored: &TrackTask| {
            let evaluated = presence_logits(restored.net(), &batch, Pass::Eval);
            let trained = presence_logits(restored.net(), &batch, train);
            let pairs = evaluated.iter().zip(&trained);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        let unsettled = distance(&restored);
        restored.settle(std::slice::from_ref(&batch)).unwrap();
        let settled = distance(&restored);
        assert!(unsettled > 0.5, "{unsettled} before settling");
        assert!(settled < 0.01, "{settled} after settling");
    }

    #[test]
    fn settling_keeps_the_evaluated_function() {
        let net = seasoned(&ModelConfig::tiny(), 3);
        let other = TrackerNet::new(&ModelConfig::tiny(), 4, &Device::Cpu).unwrap();
        other.adopt(&net.folded().unwrap()).unwrap();
        let restored = task(other, vec![]);
        let batches = [Batch::noise(6, 8, 16, 32), Batch::noise(7, 8, 16, 32)];
        restored.settle(&batches).unwrap();
        let mut before = CandleNetwork::new(net, &Device::Cpu);
        let mut after = CandleNetwork::new(restored.into_net(), &Device::Cpu);
        let expected = answers(&mut before, &ModelConfig::tiny());
        assert_close(&answers(&mut after, &ModelConfig::tiny()), &expected, 1e-4);
    }

    #[test]
    fn the_weights_of_a_restored_layer_have_the_variance_of_fresh_ones() {
        let net = seasoned(&ModelConfig::tiny(), 3);
        let other = TrackerNet::new(&ModelConfig::tiny(), 4, &Device::Cpu).unwrap();
        other.adopt(&net.folded().unwrap()).unwrap();
        let weight = &other.params().vars["head.trunk0.weight"];
        let values = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        let expected = 2.0 / (9.0 * 7.0);
        assert!(
            (variance / expected - 1.0).abs() < 1e-3,
            "{variance}, expected {expected}"
        );
    }

    #[test]
    fn the_shipped_bundle_is_restored_settled_and_still_gives_its_maps() {
        let config = ModelConfig::default();
        let files = bundle::read(&shipped()).unwrap();
        let (template, search) = (&files.f32.template, &files.f32.search);
        let contract = &files.manifest.follow;
        let mut original = OnnxNetwork::new(template, search, contract).unwrap();
        let net = network_from_bundle(&shipped(), &config, 1, &Device::Cpu).unwrap();
        let restored = task(net, vec![]);
        restored.settle(&[Batch::noise(1, 4, 128, 256)]).unwrap();
        let mut restored = CandleNetwork::new(restored.into_net(), &Device::Cpu);
        let expected = answers(&mut original, &config);
        assert_close(&answers(&mut restored, &config), &expected, 1e-4);
        // And the way there again: what a fine-tuned network is exported as.
        let folded = restored.net().folded().unwrap();
        let (template, search) = (template_graph(&folded, &[]), search_graph(&folded, &[]));
        let mut again = OnnxNetwork::new(&template, &search, contract).unwrap();
        assert_close(&answers(&mut again, &config), &expected, 1e-4);
    }

    #[test]
    fn a_bundle_of_another_architecture_is_refused_in_one_line() {
        let wider = ModelConfig {
            feature_channels: 128,
            ..ModelConfig::default()
        };
        let Err(error) = network_from_bundle(&shipped(), &wider, 1, &Device::Cpu) else {
            panic!("a wider network took the bundle over")
        };
        let line = format!("{error:#}");
        assert!(
            line.contains("another architecture") && line.contains("128"),
            "{line}"
        );
        assert!(!line.contains('\n'), "{line}");
        // The same sizes outside, other layers inside.
        for (plain_convs, residual_pairs, part) in [
            (
                vec![0, 1, 1, 0],
                vec![0, 0, 1, 1],
                "convolutions in the search graph",
            ),
            (vec![0, 0, 1, 0], vec![0, 0, 1, 1], "convolution 3: "),
        ] {
            let deeper = ModelConfig {
                plain_convs,
                residual_pairs,
                ..ModelConfig::default()
            };
            let Err(error) = network_from_bundle(&shipped(), &deeper, 1, &Device::Cpu) else {
                panic!("another network took the bundle over")
            };
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
    }

    #[test]
    fn the_shipped_bundle_goes_on_learning_from_where_it_was() {
        let Some(shared) = crate::data::shared_folder() else {
            return;
        };
        let run = TrackerRun::default();
        let data = DataConfig {
            root: shared.join("data/train"),
            ..run.data
        };
        let dataset = Arc::new(Dataset::open(&data).unwrap());
        let batches = |split, seed, count: u64| {
            let (sampler, augment) = (run.sampler.clone(), run.augment.clone());
            let sampler = Sampler::new(dataset.clone(), sampler, augment, split, seed).unwrap();
            let mut scratch = SamplerScratch::default();
            (0..count)
                .map(|step| Batch::draw(&sampler, step, 16, &mut scratch).unwrap())
                .collect::<Vec<_>>()
        };
        let held_out = batches(Split::Validation, 3, 5);
        let train = batches(Split::Train, 3, 8);

        let (mut original, manifest) = bundle::load(&shipped(), GraphPrecision::F32).unwrap();
        let pairs = held_out
            .iter()
            .flat_map(|b| (0..b.len).map(|i| Ok(b.pair(i))));
        let shipped_auc = evaluate::pairs(&mut original, &manifest.follow, pairs)
            .unwrap()
            .auc;

        let net =
            network_from_bundle(&shipped(), &ModelConfig::default(), 1, &Device::Cpu).unwrap();
        let mut restored = task(net, held_out);
        restored.settle(&train[..3]).unwrap();
        let auc = |restored: &mut TrackTask| {
            let weights = restored.params().snapshot().unwrap();
            restored.validate(&weights).unwrap()[0].1
        };
        let before = auc(&mut restored);
        assert!(
            (before - shipped_auc).abs() < 0.01,
            "{before}, the bundle has {shipped_auc}"
        );
        let (mut adam, optim) = (AdamW::default(), OptimConfig::default());
        for (step, batch) in train[3..].iter().enumerate() {
            let loss = restored.loss(batch, step as u64).unwrap();
            let gradients = loss.total.backward().unwrap();
            adam.step(restored.params(), &gradients, 1e-4, &optim)
                .unwrap();
        }
        let after = auc(&mut restored);
        // A fresh network has .1; five steps of a network that starts elsewhere than it evaluates ruin it.
        assert!(
            after > before - 0.05,
            "{after} after five steps, {before} before"
        );
    }
}
